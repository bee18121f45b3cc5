"""Throughput over processes on one machine: training under torchrun, and `guerdon score --workers`.

    python benchmarks/processes.py --data hh_pairs.jsonl.gz

Each run is a user's command line on the same pairs: one process with one thread, one with all threads, and one process per core
with one thread each. Training is timed from its first to its last optimizer step by its own metrics; scoring from start to end,
less the time of a run over a few rows. All runs take the same steps, so their losses must agree. Results go to
benchmarks/results/processes.json.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import measure
import rows
from measure import Answer, interleave, ratio, shown, spread

from guerdon.io.writers import write_comparisons

FEW = 8  # pairs of the run that is subtracted


def main() -> None:
    """Run every setup in turn, save the numbers and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", default=[], help="rows with prompt, chosen and rejected")
    parser.add_argument("--n", type=int, default=64, help="pairs to train on")
    parser.add_argument("--scored", type=int, default=256, help="pairs to score; a worker gets 256 replies at a time")
    parser.add_argument("--batch", type=int, default=16, help="pairs per optimizer step")
    parser.add_argument("--max-length", type=int, default=384, help="longer pairs are left out")
    measure.add_options(parser, "processes.json")
    a = parser.parse_args()
    if a.smoke:
        a.n, a.scored, a.batch, a.repeats, a.max_length, a.threads = 8, 8, 4, 1, 128, 2
    source = rows.source_rows(a, 40)
    setups = {"1 process, 1 thread": (1, 1), f"1 process, {a.threads} threads": (1, a.threads)}
    setups[f"{a.threads} processes, 1 thread each"] = (a.threads, 1)
    if a.smoke:
        del setups[f"1 process, {a.threads} threads"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        start = rows.start(a.model, folder / "start", 0)
        pairs = rows.pairs(source, rows.text_of(start), a.n, a.max_length, 0)
        many = rows.pairs(source, rows.text_of(start), a.scored, a.max_length, 1)
        for name, some in (("pairs.jsonl", pairs), ("many.jsonl", many), ("few.jsonl", many[: few(a)])):
            write_comparisons(folder / name, [rows.comparison(pair) for pair in some])
        for kind, run in (("train", run_training), ("score", run_scoring)):
            answers = interleave(
                {n: (lambda s=s, r=run: r(a, folder, start, *s)) for n, s in setups.items()}, a.repeats
            )
            if failed := [f"{n}: {runs[0]['error']}" for n, runs in answers.items() if "error" in runs[0]]:
                raise SystemExit("; ".join(failed))
            rates = {n: spread([run["pairs_a_second"] for run in runs]) for n, runs in answers.items()}
            base = rates["1 process, 1 thread"]
            case: dict[str, Any] = {"pairs_a_second": rates, "machine": measure.machine(a.threads)}
            case |= {"over_one_thread": {n: ratio(rate, base) for n, rate in rates.items()}}
            case |= {"last_loss": {n: runs[0].get("loss") for n, runs in answers.items()}}
            measure.keep(a.out, "throughput over processes", {kind: case})
            print(f"\n{kind}")
            lines = [[n, shown(rates[n]), shown(case["over_one_thread"][n]), str(case["last_loss"][n])] for n in rates]
            measure.print_table(["", "pairs/s", "over 1 process, 1 thread", "last loss"], lines)


def run_training(a: argparse.Namespace, folder: Path, start: Path, processes: int, threads: int) -> Answer:
    """One run of `guerdon train` under torchrun."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [*launcher, "-m", "guerdon", "train", "--data", str(folder / "pairs.jsonl"), "--out", out]
        options = [f"model.max_length={a.max_length}", f"train.batch_size={a.batch}", "train.save_every=0"]
        process = run_python([*command, "--base", str(start), *options, *a.set], threads)
        if process.returncode:
            return {"error": (process.stderr.strip().splitlines() or ["?"])[-1][:300]}
        steps = [json.loads(line) for line in (Path(out) / "metrics.jsonl").read_text().splitlines()]
    seconds = steps[-1]["seconds"] - steps[0]["seconds"]
    return {"pairs_a_second": a.batch * (len(steps) - 1) / seconds, "loss": round(steps[-1]["loss"], 6)}


def run_scoring(a: argparse.Namespace, folder: Path, start: Path, processes: int, threads: int) -> Answer:
    """One run of `guerdon score` over both replies of every pair."""
    seconds = []
    for data in ("few.jsonl", "many.jsonl"):
        with tempfile.TemporaryDirectory(dir=folder) as out:
            command = [
                "-m",
                "guerdon",
                "score",
                str(start),
                "--data",
                str(folder / data),
                "--out",
                f"{out}/scores.jsonl",
            ]
            start_time = time.perf_counter()
            command += ["--workers", str(processes), f"model.max_length={a.max_length}"]
            process = run_here(command) if a.smoke else run_python(command, threads * processes)
            seconds.append(time.perf_counter() - start_time)
            if process.returncode:
                return {"error": (process.stderr.strip().splitlines() or ["?"])[-1][:300]}
    return {"pairs_a_second": (a.scored - few(a)) / max(1e-9, seconds[1] - seconds[0])}


def few(a: argparse.Namespace) -> int:
    """Pairs of the run that is subtracted."""
    return int(min(FEW, a.scored // 2))


def run_python(command: list[str], threads: int) -> subprocess.CompletedProcess[str]:
    """Run a Python command with that many threads."""
    env = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"}
    return subprocess.run([sys.executable, *command], env=env, capture_output=True, text=True, check=False)


def run_here(command: list[str]) -> subprocess.CompletedProcess[str]:
    """`-m guerdon WORDS` in this process."""
    code, err = 0, io.StringIO()
    with patch.object(sys, "argv", command[1:]), contextlib.redirect_stderr(err):
        try:
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            code = int(ended.code or 0)
    return subprocess.CompletedProcess(command, code, "", err.getvalue())


if __name__ == "__main__":
    main()
