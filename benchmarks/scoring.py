"""Speed and memory of scoring, compared with padded transformers: candidates of one prompt, and a long file.

    python benchmarks/scoring.py --data hh_pairs.jsonl.gz --data qa_feedback_kway.jsonl.gz
    python benchmarks/scoring.py --data hh_pairs.jsonl.gz --bulk 100000 --only bulk

Candidates: 16 replies of about 65 tokens to one prompt of about 500, or 130. Guerdon runs its public score() on text, with
tokenization; the peer is AutoModelForSequenceClassification on the same token ids, right-padded, sdpa, inference_mode, in
batches of 16 or of 8, whichever is faster.

Bulk: a JSONL file of real prompts, each with its replies of any length, written here; the source's rows repeat in the same
order until there are enough, so that each pass over them is the same work. Guerdon runs score_file. Peers read the same file
and score
  sorted      by length within chunks four times as large as Guerdon's, in fixed batches: a strong plain loop
  rewardbench in RewardBench's order: batches of rows in file order, the first replies together, then the second ones, each
              batch padded to its longest; a few lines modeled on its published loop, without its progress bar and device moves
Ratios come from the first --bulk-peer replies, which all contestants score in turn. Then Guerdon alone scores all --bulk replies
once: memory and seconds per thousand replies along the file show whether it streams.

Precisions: fp32; autocast is bfloat16 products over float32 weights; bf16 is bfloat16 weights. Results go to
benchmarks/results/scoring.json by case.
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

LENGTHS = ((500, 65), (130, 65))  # tokens of the prompt, of a reply
CHUNK = 1024  # replies, in whole rows, that the sorted peer holds at a time; score_file holds 256
PRECISIONS: dict[str, dict[str, str]] = {
    "fp32": {"dtype": "float32"},
    "autocast": {"dtype": "float32", "autocast": "bfloat16"},
    "bf16": {"dtype": "bfloat16"},
}
GROUPS = {"fp32": ["fp32"], "bf16": ["autocast", "bf16"]}


def main() -> None:
    """Run the requested cases, save their numbers and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, action="append", default=[], help="rows with prompt and replies; repeatable"
    )
    parser.add_argument("--only", choices=["candidates", "bulk"], help="one of the two; both by default")
    parser.add_argument("--dtypes", default="fp32,bf16", help="bf16 runs both autocast and bfloat16 weights")
    parser.add_argument("--candidates", type=int, default=16, help="replies per prompt")
    parser.add_argument("--prompts", type=int, default=5, help="prompts per run, after one to warm up")
    parser.add_argument("--batches", default="16,8", help="rows per forward pass of the peer")
    parser.add_argument("--bulk", type=int, default=0, help="replies in the file; 0 skips the long run")
    parser.add_argument("--bulk-peer", type=int, default=2000, help="replies that peers score too")
    parser.add_argument("--bulk-precision", choices=measure.PRECISIONS, default="fp32", help="of all bulk runs")
    parser.add_argument(
        "--max-length", type=int, default=1024, help="tokens; longer texts are cut on the left, on all sides"
    )
    measure.add_options(parser, "scoring.json")
    a = parser.parse_args()
    if a.job:
        return measure.answer(a.job, handle)
    if a.smoke:
        a.dtypes, a.candidates, a.prompts, a.batches, a.repeats = "fp32", 3, 1, "2", 1
        a.bulk, a.bulk_peer, a.max_length = 24, 12, 256
    runner = measure.Runner(handle, Path(__file__).resolve(), a.threads, a.malloc, a.memory, a.smoke)
    with tempfile.TemporaryDirectory() as folder:
        start = rows.start(a.model, Path(folder) / "start", max_length=a.max_length, truncation="left")
        source = rows.source_rows(a, 12)
        if a.only != "bulk":
            for (prompt, reply), dtype in itertools.product(
                ((40, 12),) if a.smoke else LENGTHS, measure.names(a.dtypes)
            ):
                case = candidates_case(a, runner, start, candidate_sets(a, start, source, prompt, reply), dtype)
                measure.keep(a.out, WHAT, {f"candidates/{prompt}/{reply}/{dtype}": case})
                show_candidates(f"{a.candidates} candidates, prompt {prompt}, reply {reply}, {dtype}", case)
        if a.only != "candidates":
            case = bulk_case(a, runner, start, source, Path(folder))
            measure.keep(a.out, WHAT, {f"bulk/{a.bulk_precision}": case})
            show_bulk(f"file of replies, {a.bulk_precision}", case)


WHAT = "scoring of replies; ours beside plain padded transformers"


# ---- Candidates of one prompt ------------------------------------------------------------------------------------


def candidate_sets(
    a: argparse.Namespace, start: Path, source: Sequence[dict[str, Any]], prompt: int, reply: int
) -> list[dict[str, Any]]:
    """Prompts with replies cut from real text to about these numbers of tokens, and their token ids."""
    text = rows.text_of(start)
    overhead = len(text.encode([""], [""])[0].ids)  # tokens of the template

    def pieces(texts: Iterator[str], length: int) -> Iterator[str]:
        """Texts joined and cut into pieces of that many tokens."""
        ids: list[int] = []
        for more in texts:
            ids += text.tokenizer(more + "\n", add_special_tokens=False)["input_ids"]
            while len(ids) >= length:
                piece, ids = ids[:length], ids[length:]
                yield text.tokenizer.decode(piece).strip()

    prompts = pieces(itertools.cycle(m["content"] for row in source for m in row["prompt"]), max(1, prompt - overhead))
    replies = pieces(itertools.cycle(r for row in source for r in row["replies"]), reply)
    sets = []
    for _ in range(a.prompts + 1):
        question, answers = next(prompts), [next(replies) for _ in range(a.candidates)]
        ids = [e.ids.tolist() for e in text.encode([question] * len(answers), answers)]
        if max(map(len, ids)) > a.max_length:  # Guerdon would truncate what the peer reads in full
            raise SystemExit(
                f"--max-length must be at least {max(map(len, ids))} for these candidates, got {a.max_length}. Raise it."
            )
        sets.append({"prompt": question, "replies": answers, "ids": ids})
    return sets


def candidates_case(
    a: argparse.Namespace, runner: measure.Runner, start: Path, sets: list[dict[str, Any]], dtype: str
) -> dict[str, Any]:
    """Guerdon and the peers in turn on the same prompts."""
    contestants = {}
    for precision in GROUPS[dtype]:
        job: Job = {"kind": "candidates", "start": str(start), "sets": sets, "precision": precision, "set": a.set}
        contestants[f"ours {precision}"] = lambda job=job: runner.ours(job)
        for batch in map(int, measure.names(a.batches)):
            peer = job | {"kind": "plain", "batch": batch}
            contestants[f"plain, {batch} rows, {precision}"] = lambda peer=peer: runner.ours(peer)
    answers = interleave(contestants, a.repeats)
    trees = [s["ids"] for s in sets[1:]]
    tokens = rows.count_tokens(trees)
    lengths = {"prompt": float(np.mean([rows.shared_prefix(tree) for tree in trees]))}
    lengths["reply"] = tokens["unshared"] / len(trees) / a.candidates - lengths["prompt"]
    settings = {
        "candidates": a.candidates,
        "prompts": a.prompts,
        "tokens": tokens,
        "mean_tokens": lengths,
        "dtype": dtype,
    }
    settings |= {"model": Path(a.model).name, "malloc": a.malloc, "set": a.set}
    return {"settings": settings, "machine": measure.machine(a.threads), **conclude(answers, a.candidates)}


def conclude(answers: dict[str, list[Answer]], candidates: int) -> dict[str, Any]:
    """Candidates per second, Guerdon's fastest against the fastest peer, and the largest difference of scores."""
    runs: dict[str, Any] = {}
    for name, repeats in answers.items():
        if failed := [answer["error"] for answer in repeats if "error" in answer]:
            runs[name] = {"error": failed[0]}
            continue
        runs[name] = {
            "candidates_per_second": spread([candidates / s for answer in repeats for s in answer["set_seconds"]]),
            "peak_bytes": spread([answer["peak_bytes"] for answer in repeats]),
            "over_baseline_bytes": spread([answer["over_baseline_bytes"] for answer in repeats]),
        }
    best = {
        side: max(
            (name for name, run in runs.items() if name.startswith(side) and "error" not in run),
            key=lambda name: runs[name]["candidates_per_second"]["median"],
            default=None,
        )
        for side in ("ours", "plain")
    }
    both = best["ours"] and best["plain"]
    speeds = {side: runs[name]["candidates_per_second"] for side, name in best.items()} if both else {}
    scores = {name: np.array(repeats[0]["scores"]) for name, repeats in answers.items() if "error" not in repeats[0]}
    differences = {
        name: float(np.abs(value - scores[ours]).max())
        for name, value in scores.items()
        if name.startswith("plain") and (ours := f"ours {name.rsplit(' ', 1)[-1]}") in scores
    }
    return {
        "runs": runs,
        "fastest": best,
        "speed": ratio(speeds["ours"], speeds["plain"]) if both else None,
        "largest_score_difference_from_ours": differences,
    }


def show_candidates(title: str, case: dict[str, Any]) -> None:
    """Print the table of one case."""
    mean = case["settings"]["mean_tokens"]
    print(f"\n{title} (measured: prompt {mean['prompt']:.0f}, reply {mean['reply']:.0f} tokens)")
    lines = [
        [name, run["error"][:40], "", ""]
        if "error" in run
        else [
            name,
            shown(run["candidates_per_second"]),
            f"{run['over_baseline_bytes']['median'] / 2**20:.0f}",
            f"{case['largest_score_difference_from_ours'].get(name, 0):.1e}",
        ]
        for name, run in case["runs"].items()
    ]
    measure.print_table(["", "candidates/s", "MiB over model", "scores differ by"], lines)
    print(f"fastest of ours / fastest plain: {shown(case['speed'])}")


# ---- A long file -------------------------------------------------------------------------------------------------


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


def bulk_case(
    a: argparse.Namespace, runner: measure.Runner, start: Path, source: list[dict[str, Any]], folder: Path
) -> dict[str, Any]:
    """All contestants in turn on the short file, then Guerdon on the long one."""
    order = np.random.default_rng(0).permutation(len(source))  # mixes the sources
    mixed = [source[int(i)] for i in order if source[int(i)]["replies"]]
    short, long = folder / "short.jsonl", folder / "long.jsonl"
    count = write_file(mixed, a.bulk_peer, short)
    job: Job = {"start": str(start), "file": str(short), "precision": a.bulk_precision, "set": a.set}
    job |= {"max_length": a.max_length}
    contestants = {"ours": lambda: runner.ours(job | {"kind": "file"})}
    for kind, batch in itertools.product(("sorted", "rewardbench"), map(int, measure.names(a.batches))):
        peer = job | {"kind": kind, "batch": batch}
        contestants[f"{kind}, {batch} rows"] = lambda peer=peer: runner.ours(peer)
    answers = interleave(contestants, a.repeats)
    runs: dict[str, Any] = {}
    for name, repeats in answers.items():
        failed = [answer["error"] for answer in repeats if "error" in answer]
        runs[name] = {"error": failed[0]} if failed else summarize_bulk(repeats, count)
    good = {name: run for name, run in runs.items() if "error" not in run}
    against = {
        name: ratio(good["ours"]["replies_per_second"], run["replies_per_second"])
        for name, run in good.items()
        if name != "ours" and "ours" in good
    }
    result = {"runs": runs, "speed_of_ours_against": against, "long": None}
    if a.bulk:
        total = write_file(mixed, a.bulk, long)
        answer = runner.ours(job | {"kind": "file", "file": str(long)})
        result["long"] = (
            answer if "error" in answer else summarize_long(answer, total, sum(len(r["replies"]) for r in mixed))
        )
    settings = {"replies": count, "chunk_of_sorted": CHUNK, "max_length": a.max_length, "precision": a.bulk_precision}
    settings |= {
        "model": Path(a.model).name,
        "malloc": a.malloc,
        "set": a.set,
        "data": [path.name for path in a.data],
    }
    return {"settings": settings, "machine": measure.machine(a.threads), **result}


def summarize_bulk(answers: list[Answer], count: int) -> dict[str, Any]:
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


def show_bulk(title: str, case: dict[str, Any]) -> None:
    """Print the tables of the bulk case."""
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
    kinds = {"candidates": score_candidates, "plain": plain_candidates, "file": score_file}
    return {**kinds, "sorted": plain_file, "rewardbench": plain_file}[job["kind"]](job)


def load_ours(job: Job) -> Any:
    """The start as `guerdon score` loads it, with every weight read once."""
    from guerdon.config import build
    from guerdon.models.directory.loading import load_reward_model

    config = build({"model": {**PRECISIONS[job["precision"]], "device": "cpu"}}, overrides=job["set"])
    model = load_reward_model(job["start"], config.model)
    model.batch_tokens = config.score.batch_tokens
    measure.touch(model.network)
    return model


def score_candidates(job: Job) -> Answer:
    """Seconds and scores of each set of candidates with the public score(); the first set warms up."""
    model = load_ours(job)

    def score_set(candidates: dict[str, Any]) -> list[float]:
        replies = candidates["replies"]
        return model.score([candidates["prompt"]] * len(replies), replies).value.tolist()

    return time_sets(job, score_set)


def plain_candidates(job: Job) -> Answer:
    """The same with a plain padded loop over the same ids."""
    scorer = PaddedScorer(job)

    def score_set(candidates: dict[str, Any]) -> list[float]:
        ids, width = candidates["ids"], job["batch"]
        return [score for at in range(0, len(ids), width) for score in scorer(ids[at : at + width])]

    return time_sets(job, score_set)


def time_sets(job: Job, score_set: Any) -> Answer:
    """Time each set but the first."""
    memory = measure.Memory()
    score_set(job["sets"][0])
    seconds, scores = [], []
    for candidates in job["sets"][1:]:
        start_time = time.perf_counter()
        scores.append(score_set(candidates))
        seconds.append(time.perf_counter() - start_time)
    return {"set_seconds": seconds, "scores": scores, **memory.report()}


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


class PaddedScorer:
    """AutoModelForSequenceClassification on right-padded rows of ids."""

    def __init__(self, job: Job) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification

        dtype = torch.bfloat16 if job["precision"] == "bf16" else torch.float32
        self.model = AutoModelForSequenceClassification.from_pretrained(
            job["start"], dtype=dtype, attn_implementation="sdpa"
        ).eval()
        self.autocast = job["precision"] == "autocast"
        measure.touch(self.model)

    def __call__(self, ids: Sequence[Sequence[int]]) -> list[float]:
        """One forward pass over these rows."""
        import torch

        width, pad = max(map(len, ids)), self.model.config.pad_token_id
        inputs = torch.tensor([[*row, *[pad] * (width - len(row))] for row in ids])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids])
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            logits = self.model(input_ids=inputs, attention_mask=mask, use_cache=False).logits
        return logits[:, 0].float().tolist()


if __name__ == "__main__":
    main()
