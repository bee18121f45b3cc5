"""Data at scale: rows per second and peak memory of each step from a file of judgments to a store, from 10 thousand rows to a million.

Rows are TRL's, with the lengths of UltraFeedback (a prompt of about 80 words, responses of about 180, both log-normal), four rows per
prompt, some near-duplicate prompts, and texts recombined from the sentences of --data, or of random words. Each step is the
command that a user would run, in a process of its own; the peers are `datasets` (load, map, write; needs --peer-python) and a plain
loop that parses and writes JSON. Seconds of the clock and of the processor are both kept: on a busy machine only the latter compare.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import measure
import rows

HERE = Path(__file__).resolve().parent
GUERDON = ("-m", "guerdon", "--quiet")
PROMPTS_PER_ROW = 0.25
NEAR_DUPLICATES = 0.02  # share of prompts that are another prompt with a word more

JSON_LOOP = """
import json, sys
with open(sys.argv[1], encoding="utf-8") as source, open(sys.argv[2], "w", encoding="utf-8") as out:
    for line in source:
        out.write(json.dumps(json.loads(line), ensure_ascii=False) + "\\n")
"""
DATASETS = """
import sys, datasets
def explicit(row):
    return {"prompt": row["chosen"][:-1], "chosen": row["chosen"][-1:], "rejected": row["rejected"][-1:]}
data = datasets.load_dataset("json", data_files=sys.argv[1], split="train", cache_dir=sys.argv[3])
data.map(explicit).to_json(sys.argv[2], force_ascii=False)
"""


def main() -> None:
    """Measure the sizes that were asked for, print a table of each, and keep the numbers."""
    a = parse_arguments()
    sizes = [200] if a.smoke else [int(size) for size in measure.names(a.sizes)]
    with tempfile.TemporaryDirectory(dir=a.scratch) as folder:
        cases = {str(size): run_size(size, Path(folder), a) for size in sizes}
    measure.keep(a.out, __doc__.splitlines()[0], cases)
    for size, case in cases.items():
        print(f"\n{int(size):,} comparisons, {case['bytes'] / 1e6:,.0f} MB")
        measure.print_table(
            ("step", "rows/s", "rows/s of the processor", "s", "s of the processor", "peak MiB"),
            [row_of(name, int(size), run) for name, run in case["steps"].items()],
        )


def parse_arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000", help="numbers of comparisons, such as 10000,100000,1000000")
    parser.add_argument("--only", default="", help="steps to run, by name; those they need run too")
    parser.add_argument("--data", type=Path, action="append", default=[], help="JSONL whose sentences are recombined")
    parser.add_argument("--peer-python", type=Path, help="a Python that has `datasets`")
    parser.add_argument("--scratch", type=Path, help="folder for the files, about 20 GB for a million rows")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "data.json", help="JSON; other sizes are kept")
    parser.add_argument("--smoke", action="store_true", help="200 rows, to see that the script runs")
    return parser.parse_args()


# ---- The rows ------------------------------------------------------------------------------------------------------


def write_rows(path: Path, count: int, sentences: Sequence[str], seed: int = 0) -> None:
    """Write `count` rows of chosen and rejected messages, the prompt in front of both."""
    rng = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for row in generated_rows(count, sentences, rng):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def generated_rows(count: int, sentences: Sequence[str], rng: random.Random) -> Iterator[dict[str, Any]]:
    """Rows, about four per prompt; a prompt in fifty is a near-duplicate of an earlier one."""
    prompt = text(80, 1.0, sentences, rng)
    for _ in range(count):
        if rng.random() < PROMPTS_PER_ROW:
            prompt = f"{prompt} Please." if rng.random() < NEAR_DUPLICATES else text(80, 1.0, sentences, rng)
        turns = [{"role": "user", "content": prompt}]
        chosen, rejected = (
            [*turns, {"role": "assistant", "content": text(180, 0.7, sentences, rng)}] for _ in range(2)
        )
        yield {"chosen": chosen, "rejected": rejected, "margin": rng.choice((0.0, 1.0, 2.0, 3.0)), "source": "made"}


def write_votes(path: Path, count: int, sentences: Sequence[str], seed: int = 1) -> None:
    """Write `count` judgments: three of each pair, by three of fifty annotators who are right in three of four cases."""
    rng = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(count // 3):
            pair = {key: text(80, 1.0, sentences, rng) for key in ("prompt", "first", "second")}
            for annotator in rng.sample(range(50), 3):
                row = {**pair, "label": "a" if rng.random() < 0.75 else "b", "annotator": f"w{annotator}"}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def text(words: int, sigma: float, sentences: Sequence[str], rng: random.Random) -> str:
    """Sentences, a log-normal number of words in all with this median, at most 2,000; a number makes each text its own."""
    wanted, parts, length = min(2000.0, words * rng.lognormvariate(0, sigma)), [f"{rng.randrange(10**9)}:"], 1
    while length < wanted:
        parts.append(rng.choice(sentences))
        length += parts[-1].count(" ") + 1
    return " ".join(parts)


def sentences_of(paths: Sequence[Path], seed: int = 0) -> list[str]:
    """The sentences of texts in JSONL files; ten thousand sentences of random words without any."""
    rng = random.Random(seed)
    if not paths:
        words = [f"{word}{ending}" for word in rows.WORDS for ending in ("", "s", "ing", "ed", "ly", "er", "est", "al")]
        return [" ".join(rng.choices(words, k=rng.randint(4, 24))).capitalize() + "." for _ in range(10_000)]
    texts = [reply for row in rows.read_rows(paths) for reply in row["replies"] if isinstance(reply, str)]
    return [part for each in texts for part in each.replace("\n", " ").split(". ") if part.strip()]


# ---- The steps -----------------------------------------------------------------------------------------------------


def commands(folder: Path, peer: Path | None) -> dict[str, list[str]]:
    """Name -> command of each step, in order; later ones read what `import` writes."""
    raw, imported = folder / "raw.jsonl", folder / "all.jsonl"
    ours = [sys.executable, *GUERDON]
    steps = {
        "parse and write JSON": [sys.executable, "-c", JSON_LOOP, str(raw), str(folder / "plain.jsonl")],
        "import": [*ours, "import", str(raw), "--out", str(imported)],
        "import to Parquet": [*ours, "import", str(raw), "--out", str(folder / "all.parquet")],
        "convert": [*ours, "convert", str(imported), str(folder / "trl.jsonl"), "--to", "trl"],
        "convert to Parquet": [*ours, "convert", str(imported), str(folder / "trl.parquet"), "--to", "trl"],
        "check": [*ours, "check", str(imported)],
        "split": [*ours, "split", str(imported), "--out", str(folder / "parts"), "split.near_duplicates=false"],
        "split near-duplicates together": [*ours, "split", str(imported), "--out", str(folder / "grouped")],
    }
    store = folder / "preferences.db"
    steps |= {
        "empty store": [*ours, "store", "init", str(store)],
        "store": [*ours, "store", "import", str(store), str(imported)],
        "store to file": [*ours, "store", "export", str(store), "--out", str(folder / "prefs.jsonl")],
        "aggregate": [*ours, "aggregate", str(folder / "votes.jsonl"), "--out", str(folder / "labels.jsonl")],
    }
    if peer:
        script = ["-c", DATASETS, str(raw), str(folder / "peer.jsonl"), str(folder / "cache")]
        steps["datasets"] = [str(peer.absolute()), *script]
    return steps


def run_size(size: int, folder: Path, a: argparse.Namespace) -> dict[str, Any]:
    """Make the rows, run each step once, and remove what it wrote but for the import."""
    raw, sentences, wanted = folder / "raw.jsonl", sentences_of(a.data), set(measure.names(a.only))
    write_rows(raw, size, sentences)
    if not wanted or "aggregate" in wanted:
        write_votes(folder / "votes.jsonl", size, sentences)
    case: dict[str, Any] = {"bytes": raw.stat().st_size, "machine": measure.machine(os.cpu_count() or 1), "steps": {}}
    for name, command in commands(folder, a.peer_python).items():
        if wanted and name not in {*wanted, "import", "empty store"}:
            continue
        case["steps"][name] = run = measured(command)
        print(f"{size:,} {name}: {json.dumps(run)}", file=sys.stderr, flush=True)
        for path in folder.iterdir():
            if path.stem not in ("raw", "all", "votes", "preferences") or path.suffix == ".parquet":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in folder.iterdir():
        path.unlink()
    return case


def measured(command: Sequence[str]) -> dict[str, Any]:
    """Seconds of the clock and of the processor, and the peak resident bytes of a command; its last line where it fails."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    start = time.monotonic()
    with tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out, stderr=err, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - start
        err.seek(0)
        lines = err.read().decode(errors="replace").strip().splitlines()
    code = process.returncode
    result = {
        "seconds": seconds,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
    }
    return result | ({"error": f"exit code {code}: {(lines or ['no output'])[-1][:300]}"} if code not in (0, 1) else {})


def row_of(name: str, size: int, run: dict[str, Any]) -> tuple[str, ...]:
    """A step as a row of the table."""
    if "error" in run:
        return (name, run["error"][:60], "", "", "", "")
    seconds, busy = run["seconds"], run["processor_seconds"]
    return (
        name, f"{size / seconds:,.0f}", f"{size / busy:,.0f}", f"{seconds:.1f}", f"{busy:.1f}", f"{run['peak_bytes'] / 2**20:,.0f}",
    )  # fmt: skip


if __name__ == "__main__":
    main()
