"""Throughput over processes on one machine: training under torchrun, and `guerdon score --workers`.

    python benchmarks/processes.py --data hh_pairs.jsonl.gz

Each run is the command line that a user gives, on the same pairs: one process with one thread, one with all threads, and as
many processes as there are cores with one thread each. Training is timed between its first and last optimizer step by
its own metrics, scoring from start to end with the time of a run over a handful of rows taken off. Every run takes
the same steps, so its losses must agree. Results go to benchmarks/results/processes.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import measure
import rows
from measure import Answer, interleave, ratio, shown, spread

from guerdon.io.writers import write_comparisons

FEW = 8


def main() -> None:
    """Run every set-up in turn, keep the numbers and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", default=[], help="pairs: prompt, chosen, rejected a row")
    parser.add_argument("--n", type=int, default=64, help="pairs to train on")
    parser.add_argument("--scored", type=int, default=256, help="pairs to score; workers get 256 replies at a time")
    parser.add_argument("--batch", type=int, default=16, help="pairs an optimizer step")
    parser.add_argument("--max-length", type=int, default=384, help="longer pairs are left out")
    measure.add_options(parser, "processes.json")
    a = parser.parse_args()
    if a.smoke:
        a.n, a.scored, a.batch, a.repeats, a.max_length, a.threads = 8, 8, 4, 1, 128, 2
    source = rows.made_up(40) if a.smoke and not a.data else rows.read_rows(a.data)
    setups = {"1 process, 1 thread": (1, 1), f"1 process, {a.threads} threads": (1, a.threads)}
    setups[f"{a.threads} processes, 1 thread each"] = (a.threads, 1)
    if a.smoke:
        del setups[f"1 process, {a.threads} threads"]
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        start = rows.start(a.model, place / "start", 0)
        pairs = rows.pairs(source, rows.text_of(start), a.n, a.max_length, 0)
        many = rows.pairs(source, rows.text_of(start), a.scored, a.max_length, 1)
        for name, some in (("pairs.jsonl", pairs), ("many.jsonl", many), ("few.jsonl", many[: few(a)])):
            write_comparisons(place / name, [rows.comparison(pair) for pair in some])
        for kind, run in (("train", trained), ("score", scored)):
            answers = interleave({n: (lambda s=s, r=run: r(a, place, start, *s)) for n, s in setups.items()}, a.repeats)
            if failed := [f"{n}: {found[0]['error']}" for n, found in answers.items() if "error" in found[0]]:
                raise SystemExit("; ".join(failed))
            rates = {n: spread([run["pairs_a_second"] for run in found]) for n, found in answers.items()}
            base = rates["1 process, 1 thread"]
            case: dict[str, Any] = {"pairs_a_second": rates, "machine": measure.machine(a.threads)}
            case |= {"over_one_thread": {n: ratio(rate, base) for n, rate in rates.items()}}
            case |= {"last_loss": {n: found[0].get("loss") for n, found in answers.items()}}
            measure.keep(a.out, "throughput over processes", {kind: case})
            print(f"\n{kind}")
            lines = [[n, shown(rates[n]), shown(case["over_one_thread"][n]), str(case["last_loss"][n])] for n in rates]
            measure.print_table(["", "pairs/s", "over 1 process, 1 thread", "last loss"], lines)


def trained(a: argparse.Namespace, place: Path, start: Path, processes: int, threads: int) -> Answer:
    """One run of `guerdon train` under torchrun."""
    with tempfile.TemporaryDirectory(dir=place) as out:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [*launcher, "-m", "guerdon", "train", "--data", str(place / "pairs.jsonl"), "--out", out]
        options = [f"model.max_length={a.max_length}", f"train.batch_size={a.batch}", "train.save_every=0"]
        done = said([*command, "--base", str(start), *options, *a.set], threads)
        if done.returncode:
            return {"error": (done.stderr.strip().splitlines() or ["?"])[-1][:300]}
        steps = [json.loads(line) for line in (Path(out) / "metrics.jsonl").read_text().splitlines()]
    seconds = steps[-1]["seconds"] - steps[0]["seconds"]
    return {"pairs_a_second": a.batch * (len(steps) - 1) / seconds, "loss": round(steps[-1]["loss"], 6)}


def scored(a: argparse.Namespace, place: Path, start: Path, processes: int, threads: int) -> Answer:
    """One run of `guerdon score` over both replies of every pair."""
    taken = []
    for data in ("few.jsonl", "many.jsonl"):
        with tempfile.TemporaryDirectory(dir=place) as out:
            command = [
                "-m",
                "guerdon",
                "score",
                str(start),
                "--data",
                str(place / data),
                "--out",
                f"{out}/scores.jsonl",
            ]
            began = time.perf_counter()
            done = said(
                [*command, "--workers", str(processes), f"model.max_length={a.max_length}"], threads * processes
            )
            taken.append(time.perf_counter() - began)
            if done.returncode:
                return {"error": (done.stderr.strip().splitlines() or ["?"])[-1][:300]}
    return {"pairs_a_second": (a.scored - few(a)) / max(1e-9, taken[1] - taken[0])}


def few(a: argparse.Namespace) -> int:
    """Pairs of the run that is taken off."""
    return int(min(FEW, a.scored // 2))


def said(command: list[str], threads: int) -> subprocess.CompletedProcess[str]:
    """Run a Python command with so many threads."""
    env = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"}
    return subprocess.run([sys.executable, *command], env=env, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    main()
