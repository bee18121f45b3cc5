"""Projects of many items: how long until the first page is there, how much memory an import takes, and how fast managers' pages are.

    python benchmarks/annotation_scale.py [--start 10000] [--items 100000,1000000]

`start`: `guerdon annotate FILE` in a process of its own, from the start of the process until the first page has been read: in a new
store, and in the same store again. CPU seconds of the server until then are counted too, for a machine that does other things.
`N items`: `guerdon annotation add` of a generated file, its time and peak memory; then a server of that store, and the time of each
of the manager's pages, the first request left out. Writes benchmarks/results/annotation_scale.json.
"""

from __future__ import annotations

import argparse
import http.cookiejar
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measure import add_options, keep, machine, print_table, shown, spread
from peers.annotation_sites import SOURCE

PAGES = ("", "people", "agreement", "disagreements", "gold", "settings")
REQUESTS = 9  # of each page
GUERDON = [sys.executable, "-m", "guerdon"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}


def write_pairs(path: Path, number: int) -> Path:
    """A file of pairs without labels, 270 bytes each."""
    sentence = "a sentence about rivers, numbers and the weather, which no two of them share"
    with path.open("w", encoding="utf-8") as file:
        for i in range(number):
            responses = [f"The first answer to {i}: {sentence}.", f"Another one to {i}: {sentence}."]
            file.write(json.dumps({"prompt": f"Question {i}: which is {sentence}?", "responses": responses}) + "\n")
    return path


class Browser:
    """Reads pages, with cookies."""

    def __init__(self) -> None:
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), jar)

    def read(self, url: str) -> float:
        """The seconds that the page took."""
        start = time.perf_counter()
        with self._opener.open(url) as response:
            response.read()
        return time.perf_counter() - start


@contextmanager
def server(words: Sequence[str]) -> Iterator[tuple[str, int]]:
    """A server; its link for signing in, and its process."""
    command = [*GUERDON, *words, "--no-browser", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=ENVIRONMENT)
    assert process.stdout is not None
    try:
        yield re.findall(r"http\S+", process.stdout.readline())[0], process.pid
    finally:
        process.terminate()
        process.wait(timeout=120)


def cpu_seconds(process: int) -> float:
    """CPU seconds of a process so far, its system calls included; NaN where the system does not say."""
    path = Path(f"/proc/{process}/stat")
    if not path.is_file():
        return float("nan")
    fields = path.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---- Start ---------------------------------------------------------------------------------------------------------


def measure_start(folder: Path, number: int, repeats: int) -> dict[str, Any]:
    """Seconds until the first page of so many items: wall time and CPU time."""
    pairs = write_pairs(folder / "pairs.jsonl", number)
    runs: dict[str, list[tuple[float, float]]] = {"new": [], "again": []}
    for i in range(repeats):
        words = ["annotate", str(pairs), "--store", str(folder / f"start{i}.db")]
        for name in runs:
            start = time.perf_counter()
            with server(words) as (link, process):
                Browser().read(link)
                runs[name].append((time.perf_counter() - start, cpu_seconds(process)))
    return {
        "items": number,
        **{name: spread([wall for wall, _ in of_one]) for name, of_one in runs.items()},
        **{f"{name}, CPU": spread([cpu for _, cpu in of_one]) for name, of_one in runs.items()},
    }


# ---- Size ----------------------------------------------------------------------------------------------------------


def measure_size(folder: Path, number: int) -> dict[str, Any]:
    """The import of so many items, and the manager's pages over them."""
    pairs, store = write_pairs(folder / f"{number}.jsonl", number), str(folder / f"{number}.db")
    subprocess.run(
        [*GUERDON, "annotation", "init", store, "--project", "p"], env=ENVIRONMENT, check=True, capture_output=True
    )
    start = time.perf_counter()
    command = [*GUERDON, "annotation", "add", store, str(pairs), "--project", "p"]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, "the import failed"
    seconds, cpu = time.perf_counter() - start, usage.ru_utime + usage.ru_stime
    kib = usage.ru_maxrss / 1024 if sys.platform == "darwin" else usage.ru_maxrss
    with server(["annotation", "serve", store]) as (link, _):
        browser = Browser()
        browser.read(link)
        base = f"{link.partition('/sign-in')[0]}/p/p/manage"
        times = {
            page or "overview": [browser.read(f"{base}/{page}".rstrip("/")) for _ in range(REQUESTS)] for page in PAGES
        }
    return {
        "items": number,
        "items_per_s": number / seconds,
        "items_per_cpu_s": number / cpu,
        "peak_mib": kib / 1024,
        "store_mib": Path(store).stat().st_size / 2**20,
        "pages_ms": {page: spread([1000 * each for each in taken[1:]]) for page, taken in times.items()},
        "first_request_ms": {page: 1000 * taken[0] for page, taken in times.items()},
    }


def main() -> None:
    """Run the cases, save their numbers and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, "annotation_scale.json")
    parser.add_argument("--start", type=int, default=10_000, help="items of the file with which a server starts")
    parser.add_argument(
        "--items", default="100000,1000000", help="sizes of projects, with commas between; empty for none"
    )
    given = parser.parse_args()
    start, sizes, repeats = given.start, [int(size) for size in given.items.split(",") if size], given.repeats
    if given.smoke:
        start, sizes, repeats = 300, [300], 1
    with tempfile.TemporaryDirectory() as folder:
        cases = {"start": measure_start(Path(folder), start, repeats)} if start else {}
        cases |= {f"{size} items": measure_size(Path(folder), size) for size in sizes}
    cases = {name: {**case, "machine": machine(given.threads)} for name, case in cases.items()}
    keep(given.out, "annotation projects of many items", cases)
    show(cases)


def show(cases: dict[str, Any]) -> None:
    """Print the numbers as tables."""
    for name, case in cases.items():
        if name == "start":
            rows = [[which, shown(case[which]), shown(case[f"{which}, CPU"])] for which in ("new", "again")]
            print_table([f"{case['items']:,} items: seconds to the first page", "wall", "CPU"], rows)
            continue
        rows = [[page, shown(taken, 0)] for page, taken in case["pages_ms"].items()]
        print_table([f"{case['items']:,} items: manager's page", "ms"], rows)
        print(f"import: {case['items_per_cpu_s']:,.0f} items per CPU second, at most {case['peak_mib']:,.0f} MiB")


if __name__ == "__main__":
    main()
