"""Scoring of a long file, compared with padded transformers and RewardBench's order: memory and time along it.

    python benchmarks/scoring_file.py --data hh_pairs.jsonl.gz --data qa_feedback_kway.jsonl.gz --replies 100000

The file: JSONL of real prompts, each with its replies of any length, written here; the source's rows repeat in the same
order until there are enough, so that each pass over them is the same work. Guerdon runs score_file. Peers read the same file
and score
  sorted      by length within chunks four times as large as Guerdon's, in fixed batches: a strong plain loop
  rewardbench in RewardBench's order: batches of rows in file order, the first replies together, then the second ones, each
              batch padded to its longest; a few lines modeled on its published loop, without its progress bar and device moves
Ratios come from the first --peer-replies, which all contestants score in turn. Then Guerdon alone scores all --replies
once: memory and seconds per thousand replies along the file show whether it streams.

Results go to benchmarks/results/scoring_file.json by precision.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import measure
import numpy as np
import rows
from measure import Answer, Job, interleave, ratio, shown, spread
from scoring import PaddedScorer, load_ours

WHAT = "scoring of a file of replies; ours beside plain padded transformers"
CHUNK = 1024  # replies, in whole rows, that the sorted peer holds at a time; score_file holds 256


def main() -> None:
    """Run all contestants, save their numbers and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, action="append", default=[], help="rows with prompt and replies; repeatable"
    )
    parser.add_argument("--replies", type=int, default=0, help="in the long file; 0 skips it")
    parser.add_argument("--peer-replies", type=int, default=2000, help="that peers score too")
    parser.add_argument("--precision", choices=measure.PRECISIONS, default="fp32", help="of all runs")
    parser.add_argument("--batches", default="16,8", help="rows per forward pass of the peers")
    parser.add_argument(
        "--max-length", type=int, default=1024, help="tokens; longer texts are cut on the left, on all sides"
    )
    measure.add_options(parser, "scoring_file.json")
    a = parser.parse_args()
    if a.job:
        return measure.answer(a.job, handle)
    if a.smoke:
        a.replies, a.peer_replies, a.batches, a.repeats, a.max_length = 24, 12, "2", 1, 256
    runner = measure.Runner(handle, Path(__file__).resolve(), a.threads, a.malloc, a.memory, a.smoke)
    with tempfile.TemporaryDirectory() as folder:
        start = rows.start(a.model, Path(folder) / "start", max_length=a.max_length, truncation="left")
        case = file_case(a, runner, start, rows.source_rows(a, 12), Path(folder))
    measure.keep(a.out, WHAT, {a.precision: case})
    show(f"file of replies, {a.precision}", case)


# ---- The case ----------------------------------------------------------------------------------------------------


def write_file(source: Sequence[dict[str, Any]], replies: int, path: Path) -> int:
    """Write rows of prompt and responses until there are at least that many replies; returns their number."""
    written = 0
    with path.open("w", encoding="utf-8") as file:
        for row in itertools.cycle(source):
            if written >= replies:
                return written
            file.write(json.dumps({"prompt": row["prompt"], "responses": row["replies"]}) + "\n")
            written += len(row["replies"])
    return written


def file_case(
    a: argparse.Namespace, runner: measure.Runner, start: Path, source: list[dict[str, Any]], folder: Path
) -> dict[str, Any]:
    """All contestants in turn on the short file, then Guerdon on the long one."""
    order = np.random.default_rng(0).permutation(len(source))  # mixes the sources
    mixed = [source[int(i)] for i in order if source[int(i)]["replies"]]
    short, long = folder / "short.jsonl", folder / "long.jsonl"
    count = write_file(mixed, a.peer_replies, short)
    job: Job = {"start": str(start), "file": str(short), "precision": a.precision, "set": a.set}
    job |= {"max_length": a.max_length}
    contestants = {"ours": lambda: runner.ours(job | {"kind": "file"})}
    for kind, batch in itertools.product(("sorted", "rewardbench"), map(int, measure.names(a.batches))):
        peer = job | {"kind": kind, "batch": batch}
        contestants[f"{kind}, {batch} rows"] = lambda peer=peer: runner.ours(peer)
    answers = interleave(contestants, a.repeats)
    runs: dict[str, Any] = {}
    for name, repeats in answers.items():
        failed = [answer["error"] for answer in repeats if "error" in answer]
        runs[name] = {"error": failed[0]} if failed else summarize_short(repeats, count)
    good = {name: run for name, run in runs.items() if "error" not in run}
    against = {
        name: ratio(good["ours"]["replies_per_second"], run["replies_per_second"])
        for name, run in good.items()
        if name != "ours" and "ours" in good
    }
    result = {"runs": runs, "speed_of_ours_against": against, "long": None}
    if a.replies:
        total = write_file(mixed, a.replies, long)
        answer = runner.ours(job | {"kind": "file", "file": str(long)})
        result["long"] = (
            answer if "error" in answer else summarize_long(answer, total, sum(len(r["replies"]) for r in mixed))
        )
    settings = {"replies": count, "chunk_of_sorted": CHUNK, "max_length": a.max_length, "precision": a.precision}
    settings |= {
        "model": Path(a.model).name,
        "malloc": a.malloc,
        "set": a.set,
        "data": [path.name for path in a.data],
    }
    return {"settings": settings, "machine": measure.machine(a.threads), **result}


def summarize_short(answers: list[Answer], count: int) -> dict[str, Any]:
    """The numbers of one contestant on the short file over its repeats."""
    return {
        "replies_per_second": spread([count / answer["seconds"] for answer in answers]),
        "seconds": [answer["seconds"] for answer in answers],
        "peak_bytes": spread([answer["peak_bytes"] for answer in answers]),
        "over_baseline_bytes": spread([answer["over_baseline_bytes"] for answer in answers]),
        "score_sum": answers[0]["score_sum"],
    }


def summarize_long(answer: Answer, total: int, cycle: int) -> dict[str, Any]:
    """The long run in about ten parts: seconds per thousand replies and memory in each. Passes over the source are equal work."""
    marks = answer["marks"]
    step = max(1, len(marks) // 10)
    ends = [marks[i] for i in range(step - 1, len(marks), step)]
    ends = ends if ends[-1] == marks[-1] else [*ends, marks[-1]]
    parts, done, last_seconds = [], 0, 0.0
    for at, end in enumerate(ends):
        peak = max(mark[2] for mark in marks[at * step : (at + 1) * step])
        parts.append(
            {
                "replies": end[0],
                "seconds_per_1000": 1000 * (end[1] - last_seconds) / (end[0] - done),
                "resident_bytes": peak,
            }
        )
        done, last_seconds = end[0], end[1]
    return {
        "replies": total,
        "replies_of_one_pass_over_the_source": cycle,
        "seconds": answer["seconds"],
        "parts": parts,
        "marks": marks,
        "last_part_over_first": {
            "seconds_per_1000": parts[-1]["seconds_per_1000"] / parts[0]["seconds_per_1000"],
            "resident_bytes": parts[-1]["resident_bytes"] / parts[0]["resident_bytes"],
        },
        **{name: answer[name] for name in ("peak_bytes", "baseline_bytes", "over_baseline_bytes")},
    }


def show(title: str, case: dict[str, Any]) -> None:
    """Print the tables."""
    print(f"\n{title}: {case['settings']['replies']} replies")
    lines = []
    for name, run in case["runs"].items():
        if "error" in run:
            lines.append([name, run["error"][:40], "", ""])
            continue
        over = f"{run['over_baseline_bytes']['median'] / 2**20:.0f}"
        lines.append([name, shown(run["replies_per_second"]), over, shown(case["speed_of_ours_against"].get(name))])
    measure.print_table(["", "replies/s", "MiB over model", "ours / this"], lines)
    if case["long"] and "error" in case["long"]:
        print(f"long file: {case['long']['error']}")
    elif case["long"]:
        print(f"ours on {case['long']['replies']} replies, {case['long']['seconds']:.0f} s:")
        parts = [
            [str(p["replies"]), f"{p['seconds_per_1000']:.1f}", f"{p['resident_bytes'] / 2**20:.0f}"]
            for p in case["long"]["parts"]
        ]
        measure.print_table(["replies done", "s/1000", "MiB"], parts)


# ---- A run ---------------------------------------------------------------------------------------------


def handle(job: Job) -> Answer:
    """Run one job, Guerdon's or a peer's."""
    import torch

    from guerdon.progress import set_quiet

    set_quiet()
    torch.set_num_threads(job["threads"])
    return score_file(job) if job["kind"] == "file" else plain_file(job)


def score_file(job: Job) -> Answer:
    """Score a file with the library's score_file; progress is logged after each of its calls of the model."""
    from guerdon.api.scoring import score_file as library_score_file

    model = load_ours(job)
    model.score(["Hello"] * 2, ["Hi", "Hello there"])  # warm up
    memory, progress = measure.Memory(), measure.ProgressLog()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "scored.jsonl"
        library_score_file(LoggedModel(model, progress), job["file"], out)
        seconds = time.perf_counter() - progress.start
        with out.open() as file:
            total = sum(sum(json.loads(line)["rewards"]) for line in file)
    return {"seconds": seconds, "marks": progress.stop(), "score_sum": total, **memory.report()}


class LoggedModel:
    """A reward model that logs how many responses it has scored."""

    def __init__(self, model: Any, progress: measure.ProgressLog) -> None:
        self.model, self.progress = model, progress

    def score(self, prompts: Sequence[Any], responses: Sequence[Any]) -> Any:
        """The model's own scores."""
        scores = self.model.score(prompts, responses)
        self.progress.mark(len(responses))
        return scores


def plain_file(job: Job) -> Answer:
    """Score the file with a plain padded loop: in chunks sorted by length, or in RewardBench's order."""
    from guerdon.contracts import as_prompt

    text, scorer = rows.text_of(Path(job["start"]), job["max_length"], "left"), PaddedScorer(job)
    scorer([[1, 2], [1]])  # warm up
    by_length, width = job["kind"] == "sorted", job["batch"]
    memory, progress, total = measure.Memory(), measure.ProgressLog(), 0.0
    with Path(job["file"]).open() as file, tempfile.TemporaryFile("w") as out:
        file_rows = map(json.loads, file)
        while chunk := take(file_rows, replies=CHUNK) if by_length else list(itertools.islice(file_rows, width)):
            rewards = [[0.0] * len(row["responses"]) for row in chunk]
            for group in [list(itertools.chain(*columns(chunk)))] if by_length else columns(chunk):
                prompts = [as_prompt(chunk[row]["prompt"]) for row, _ in group]
                encoded = text.encode(prompts, [chunk[row]["responses"][reply] for row, reply in group])
                ids = [e.ids.tolist() for e in encoded]
                lengths = [len(row) for row in ids]
                order = sorted(range(len(ids)), key=lengths.__getitem__, reverse=True) if by_length else range(len(ids))
                for batch in (order[at : at + width] for at in range(0, len(order), width)):
                    for i, score in zip(batch, scorer([ids[i] for i in batch]), strict=True):
                        row, reply = group[i]
                        rewards[row][reply] = score
            for row, values in zip(chunk, rewards, strict=True):
                out.write(json.dumps({**row, "rewards": values}) + "\n")
            total += sum(map(sum, rewards))
            progress.mark(sum(map(len, rewards)))
    seconds = time.perf_counter() - progress.start
    return {"seconds": seconds, "marks": progress.stop(), "score_sum": total, **memory.report()}


def take(source: Iterator[dict[str, Any]], replies: int) -> list[dict[str, Any]]:
    """The next rows, until they hold that many replies."""
    chunk: list[dict[str, Any]] = []
    while replies > 0 and (row := next(source, None)):
        chunk.append(row)
        replies -= len(row["responses"])
    return chunk


def columns(chunk: Sequence[dict[str, Any]]) -> list[list[tuple[int, int]]]:
    """(row, reply) of all first replies, then of all second ones, and so on."""
    most = max(len(row["responses"]) for row in chunk)
    return [[(i, k) for i, row in enumerate(chunk) if k < len(row["responses"])] for k in range(most)]


if __name__ == "__main__":
    main()
