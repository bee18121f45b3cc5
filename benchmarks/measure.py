"""How the benchmarks measure: one fresh process per run, interleaved runs, medians with their range, peak memory, the machine.

Standard library only, because the peers' environment imports it too. A job is a dictionary, passed to the process as a JSON
file; its answer is the last line that the process prints.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# Keeps large activations in the heap between steps; otherwise a CPU spends a quarter of its time on page faults.
HEAP = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**35)}
# float32; bfloat16 products over float32 weights; bfloat16 weights
PRECISIONS = ("fp32", "autocast", "bf16")

Job = dict[str, Any]
Answer = dict[str, Any]


# ---- In the script -------------------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser, out: str) -> None:
    """The options that every benchmark has. `out` is the default file in benchmarks/results."""
    parser.add_argument("--model", default="starter", help="model to start from: a directory, or 'starter'")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; each runs every contestant once")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads per run, the same on both sides")
    parser.add_argument(
        "--malloc",
        choices=["heap", "system"],
        default="heap",
        help="heap keeps freed memory in the process on both sides (faster on a CPU, peak memory a little higher)",
    )
    parser.add_argument(
        "--memory",
        type=float,
        default=0,
        metavar="GIB",
        help="limit of a run's memory; a run that exceeds it fails, and its failure is the result; 0 sets no limit",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="STAGE.NAME=VALUE",
        help="a Guerdon option for every run, such as train.micro_tokens=4096; may be repeated",
    )
    parser.add_argument(
        "--out", type=Path, default=HERE / "results" / out, help="JSON; cases that do not run now are kept"
    )
    parser.add_argument("--smoke", action="store_true", help="a few rows in this process, to see that the script runs")
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)


def names(text: str) -> list[str]:
    """A comma-separated option."""
    return [part.strip() for part in text.split(",") if part.strip()]


@dataclass(frozen=True)
class Runner:
    """Runs each job in a fresh process, or all in this one for a smoke test."""

    handler: Callable[[Job], Answer]
    script: Path
    threads: int
    malloc: str = "heap"
    memory: float = 0
    smoke: bool = False

    def ours(self, job: Job) -> Answer:
        """Run a job with the script's handler."""
        if self.smoke:
            return self.handler({"threads": 1, **job})
        return self.fresh([sys.executable, str(self.script)], job)

    def peer(self, python: Path, module: str, job: Job, environment: Mapping[str, str] | None = None) -> Answer:
        """Run a job with a module of this folder and another environment's Python."""
        # Not resolved: a virtual environment's python is a link, and resolving it would leave the environment
        return self.fresh([str(python.absolute()), "-m", module], job, environment)

    def fresh(self, command: Sequence[str], job: Job, environment: Mapping[str, str] | None = None) -> Answer:
        """Run one job in its own process; a failure gives an answer with `error`."""
        env = os.environ | {"OMP_NUM_THREADS": str(self.threads), "TOKENIZERS_PARALLELISM": "false"}
        env |= {"HF_HUB_OFFLINE": "1"} | (HEAP if self.malloc == "heap" else {}) | dict(environment or {})
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "job.json"
            path.write_text(json.dumps({"threads": self.threads, "memory": self.memory, **job}))
            process = subprocess.run([*command, "--job", str(path)], cwd=HERE, env=env, capture_output=True, text=True)
        lines = process.stdout.strip().splitlines()
        if process.returncode or not lines:
            reason = (process.stderr.strip().splitlines() or ["no output"])[-1]
            return {"error": f"exit code {process.returncode}: {reason[:300]}"}
        return json.loads(lines[-1])  # type: ignore[no-any-return]


def interleave(contestants: Mapping[str, Callable[[], Answer]], repeats: int) -> dict[str, list[Answer]]:
    """Run every contestant once per round, so that a slow minute of the machine affects all of them."""
    answers: dict[str, list[Answer]] = {name: [] for name in contestants}
    for i in range(repeats):
        for name, run in contestants.items():
            if any("error" in answer for answer in answers[name]):
                continue  # it would fail again, and take as long
            start = time.monotonic()
            answers[name].append(run())
            failed = answers[name][-1].get("error", "")
            print(f"round {i + 1}/{repeats}: {name}: {time.monotonic() - start:.0f} s {failed}", file=sys.stderr)
    return answers


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest value, and their number."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "n": len(values)}


def ratio(ours: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, float]:
    """Ratio of medians, with the lowest and highest ratio of any two runs."""
    return {
        "median": ours["median"] / theirs["median"],
        "low": ours["low"] / theirs["high"],
        "high": ours["high"] / theirs["low"],
    }


def shown(value: Mapping[str, float] | None, digits: int = 2) -> str:
    """A spread or a ratio as a table cell."""
    if value is None:
        return "-"
    return f"{value['median']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: the first column left-aligned, the others right-aligned."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        cells = [
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def keep(path: Path, what: str, cases: Mapping[str, Any]) -> None:
    """Add the cases to the JSON file at `path`, atomically; cases of other runs stay."""
    results = json.loads(path.read_text()) if path.is_file() else {"cases": {}}
    results = {"what": what, "cases": {**results["cases"], **cases}}
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def machine(threads: int) -> dict[str, Any]:
    """The machine, the versions and the date."""
    import importlib.metadata as installed

    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "torch": installed.version("torch"),
        "transformers": installed.version("transformers"),
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }


def processor() -> str:
    """The processor's name, where the system reports it."""
    info = Path("/proc/cpuinfo")
    lines = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.is_file() else []
    return lines[0].split(":")[1].strip() if lines else platform.processor()


# ---- In a run ----------------------------------------------------------------------------------------------


def answer(path: Path, handler: Callable[[Job], Answer]) -> None:
    """Run the job in the file at `path` and print its answer."""
    job = json.loads(path.read_text())
    if job["memory"]:
        limit = int(job["memory"] * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    print(json.dumps(handler(job)), flush=True)


class Memory:
    """Resident memory from now on. Create it when the model is loaded and nothing has run."""

    def __init__(self) -> None:
        self.reset = _reset_peak()
        self.baseline = resident()

    def report(self) -> dict[str, Any]:
        """Bytes. `peak_bytes` counts from creation, or from the start of the process where the system allows no reset."""
        peak = resident("VmHWM")
        return {
            "baseline_bytes": self.baseline,
            "peak_bytes": peak,
            "over_baseline_bytes": peak - self.baseline,
            "peak_was_reset": self.reset,
            # an upper bound only: a child's ru_maxrss includes its parent's peak
            "maxrss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }


def touch(model: Any) -> None:
    """Read every weight once: weights of a mapped file are resident only then, and must be part of the baseline."""
    for weight in model.parameters():
        weight.detach().abs().max()


def resident(name: str = "VmRSS") -> int:
    """Resident bytes of this process: now, or the peak so far ("VmHWM")."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    line = next(line for line in status.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not permitted
        return False
    return True


class ProgressLog:
    """Entries of (work done, seconds, peak resident bytes since the last entry). Memory is sampled every `interval` seconds."""

    def __init__(self, interval: float = 0.5) -> None:
        self.marks: list[tuple[int, float, int]] = []
        self.done, self.peak = 0, 0
        self.start = time.perf_counter()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._sample, args=(interval,), daemon=True)
        self.thread.start()

    def mark(self, amount: int) -> None:
        """Record that much more work."""
        self.done += amount
        self.marks.append((self.done, time.perf_counter() - self.start, max(self.peak, resident())))
        self.peak = 0

    def stop(self) -> list[tuple[int, float, int]]:
        """All entries."""
        self.stopped.set()
        self.thread.join()
        return self.marks

    def _sample(self, interval: float) -> None:
        while not self.stopped.wait(interval):
            self.peak = max(self.peak, resident())
