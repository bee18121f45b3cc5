"""The cost of five heads on one backbone relative to one head: training and scoring, same pairs, same backbone.

    python benchmarks/ensemble.py --data hh_pairs.jsonl.gz

Runs are fresh processes that alternate between one head and several; the table gives medians with the lowest and highest value.
Training is a run of rm_training.py with the same loss for each head. Scoring is a run of scoring.py (16 candidates of one prompt)
with the saved model and with the saved ensemble, whose backbone is loaded once. Results go to benchmarks/results/ensemble.json
by case.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import measure
import rm_training
import rows
import scoring
from measure import Answer, Job, interleave, ratio, shown, spread


def main() -> None:
    """Run one head and several, save the numbers and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", default=[], help="rows with prompt, chosen and rejected")
    parser.add_argument("--heads", type=int, default=5, help="number of heads compared with one")
    parser.add_argument("--n", type=int, default=32, help="pairs per training run")
    parser.add_argument("--batch", type=int, default=8, help="pairs per optimizer step")
    parser.add_argument("--max-length", type=int, default=512, help="longer pairs are left out")
    parser.add_argument("--precisions", default="fp32,autocast", help="of fp32, autocast and bf16, one case each")
    measure.add_options(parser, "ensemble.json")
    a = parser.parse_args()
    if a.job:
        return measure.answer(a.job, handle)
    if a.smoke:
        a.n, a.batch, a.precisions, a.repeats, a.max_length = 4, 2, "fp32", 1, 128
    a.candidates, a.prompts = (3, 1) if a.smoke else (16, 3)
    runner = measure.Runner(handle, Path(__file__).resolve(), a.threads, a.malloc, a.memory, a.smoke)
    with tempfile.TemporaryDirectory() as folder:
        starts = {count: rows.start(a.model, Path(folder) / f"{count}", heads=count) for count in (1, a.heads)}
        source = rows.source_rows(a, 40)
        pairs = rows.pairs(source, rows.text_of(starts[1]), a.n, a.max_length, rm_training.SEED)
        sets = scoring.candidate_sets(a, starts[1], source, *((40, 12) if a.smoke else (130, 65)))
        for precision in measure.names(a.precisions):
            case = measure_case(a, runner, starts, pairs, sets, precision)
            measure.keep(a.out, "several heads on one backbone beside one", {precision: case})
            show(precision, case)


def measure_case(
    a: argparse.Namespace,
    runner: measure.Runner,
    starts: dict[int, Path],
    pairs: list[rows.Pair],
    sets: list[dict[str, Any]],
    precision: str,
) -> dict[str, Any]:
    """Training and scoring with one head and with several, interleaved."""
    contestants = {}
    for count, start in starts.items():
        train_job: Job = {"kind": "train", "start": a.model, "pairs": pairs, "max_length": a.max_length, "lora": None}
        train_job |= {"warm": rm_training.medium_pairs(pairs, a.batch), "set": a.set}
        train_job |= {
            "model": rm_training.OURS[precision] | {"heads": count},
            "train": rm_training.train_options(a.batch),
        }
        contestants[f"train {count}"] = lambda job=train_job: runner.ours(job)
        score_job: Job = {"kind": "ours", "start": str(start), "sets": sets, "precision": precision, "set": a.set}
        contestants[f"score {count}"] = lambda job=score_job: runner.ours(job)
    answers = interleave(contestants, a.repeats)
    if failed := [f"{name}: {runs[0]['error']}" for name, runs in answers.items() if "error" in runs[0]]:
        raise SystemExit("; ".join(failed))
    seconds = {
        name: spread([s for run in runs for s in run.get("set_seconds") or [run["seconds"]]])
        for name, runs in answers.items()
    }
    times = {kind: ratio(seconds[f"{kind} {a.heads}"], seconds[f"{kind} 1"]) for kind in ("train", "score")}
    settings = {"heads": a.heads, "n": a.n, "batch": a.batch, "candidates": a.candidates, "precision": precision}
    settings |= {"model": Path(a.model).name, "malloc": a.malloc, "set": a.set}
    return {
        "settings": settings,
        "machine": measure.machine(a.threads),
        "seconds": seconds,
        "time_of_several_over_one": times,
        "peak_bytes": {name: spread([run["peak_bytes"] for run in runs]) for name, runs in answers.items()},
    }


def handle(job: Job) -> Answer:
    """Run one job."""
    from guerdon.models.directory.formats import is_ensemble

    return score(job) if is_ensemble(job["start"]) else (rm_training if job["kind"] == "train" else scoring).handle(job)


def score(job: Job) -> Answer:
    """Seconds and scores of each set of candidates with a saved ensemble, as scoring.py has them for one model."""
    import torch

    from guerdon.config import build
    from guerdon.models.directory.loading import load
    from guerdon.progress import set_quiet

    set_quiet()
    torch.set_num_threads(job["threads"])
    config = build({"model": {**scoring.PRECISIONS[job["precision"]], "device": "cpu"}}, overrides=job["set"])
    model = load(job["start"], config.model, batch_tokens=config.score.batch_tokens)
    (all_heads,) = model.model.models
    measure.touch(all_heads.model.network)

    def score_set(candidates: dict[str, Any]) -> list[float]:
        replies = candidates["replies"]
        return model.score([candidates["prompt"]] * len(replies), replies).value.tolist()

    return scoring.time_sets(job, score_set)


def show(title: str, case: dict[str, Any]) -> None:
    """Print the table of one case."""
    heads = case["settings"]["heads"]
    print(f"\n{title}")
    names = {"train": "training run, s", "score": "one prompt's candidates, s"}
    lines = [
        [
            names[kind],
            shown(case["seconds"][f"{kind} 1"], 3),
            shown(case["seconds"][f"{kind} {heads}"], 3),
            shown(times, 3),
        ]
        for kind, times in case["time_of_several_over_one"].items()
    ]
    measure.print_table(["", "1 head", f"{heads} heads", "several / one"], lines)


if __name__ == "__main__":
    main()
