"""Damaged inputs of every importer and file kind: none may end in a traceback, lose a row, or change a text.

    python benchmarks/fuzz_importers.py
    python benchmarks/fuzz_importers.py --inputs 1000000 --start 100000

The inputs are those of tests/fuzzing.py: rows of each format with values, names and texts changed, and files with bytes changed, as
JSON lines, JSON, CSV and Parquet. Each is drawn from its number, so a number that fails is a test case. Prints counts and each kind of
failure with the numbers that show it; exits with 1 if there is one. Writes benchmarks/results/fuzz_importers.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fuzzing import check_input


def main() -> int:
    """Run the inputs and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "fuzz_importers.json")
    given = parser.parse_args()
    outcomes: Counter[str] = Counter()
    failures: dict[str, list[int]] = defaultdict(list)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(given.start, given.start + given.inputs):
            try:
                outcome = check_input(seed, Path(folder))
            except Exception as error:  # every failure is a finding, and the next input is tried
                place = traceback.extract_tb(error.__traceback__)[-1]
                failures[
                    f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {str(error)[:90]}"
                ].append(seed)
                outcome = "failure"
            outcomes[outcome if outcome in ("error", "failure", "0") else "comparisons"] += 1
    seconds = time.perf_counter() - start
    summary = {
        "inputs": given.inputs,
        "first": given.start,
        "with comparisons": outcomes["comparisons"],
        "all rows rejected": outcomes["0"],
        "refused in one line": outcomes["error"],
        "failures": outcomes["failure"],
        "seconds": round(seconds, 1),
    }
    print(json.dumps(summary, indent=1))
    for name, seeds in sorted(failures.items(), key=lambda item: -len(item[1])):
        print(f"{len(seeds):6} {name} (inputs {', '.join(map(str, seeds[:3]))})")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
