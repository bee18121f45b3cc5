"""Whether a reward model's doubt predicts its errors and notices texts of another kind, and what asking for it costs.

    python benchmarks/uncertainty.py --model runs/hh/model --train train.jsonl --held-out calibrate.jsonl \
        --audit audit.jsonl --shifted debates=ukp_pairs.jsonl.gz --shifted reviews=reviews.jsonl.gz

Uncertainty is measured on the comparisons that the model was trained on and on held-out ones. Then, on comparisons that
nothing has seen: AUROC of each signal for the model's own errors, mean error by how many are answered, the margin from
which few answers are wrong; and for sets of another kind (yours, and four made of the comparisons) how well their replies
are told from the comparisons'. Comparisons are {prompt, chosen, rejected} rows or any form that `guerdon import` knows; a set
may also have rows of `text`. At last the same replies are scored with and without doubt, in turn.

Writes benchmarks/results/uncertainty.json by the name of the model. A model that has its uncertainty stored is measured anew.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import measure
import rows

from guerdon.api import data, saved_models, uncertainty
from guerdon.auditing.measures.uncertainty import measure_uncertainty
from guerdon.config import AuditOptions, ModelOptions
from guerdon.contracts import Comparison, as_prompt, as_response
from guerdon.io import readers
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.directory.saving import save
from guerdon.models.scored_pairs import score_comparisons

HERE = Path(__file__).resolve().parent
ASKED = "Write a short text."  # what a row of text alone is taken to answer
Replies = tuple[list[Any], list[Any]]


def main() -> None:
    """Measure one model, keep the numbers and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="directory of a saved reward model")
    parser.add_argument("--name", help="of the case in the results; the directory's unless given")
    parser.add_argument("--train", type=Path, help="comparisons that it was trained on")
    parser.add_argument("--held-out", type=Path, help="comparisons of the same kind that it was not")
    parser.add_argument("--audit", type=Path, help="comparisons that nothing has seen")
    parser.add_argument("--shifted", action="append", default=[], metavar="NAME=FILE", help="a set of another kind")
    parser.add_argument("--rows", type=int, default=300, help="most replies of a set, and of the timing")
    parser.add_argument("--most", type=int, default=20_000, help="most training comparisons read")
    parser.add_argument("--draws", type=int, default=2000, help="bootstrap draws of each interval")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of the timing")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "uncertainty.json")
    parser.add_argument(
        "--smoke", action="store_true", help="a fresh head on --model and made-up rows: does it run at all?"
    )
    a = parser.parse_args()
    if not a.smoke and not (a.train and a.held_out and a.audit):
        parser.error("give --train, --held-out and --audit")
    import torch

    torch.set_num_threads(a.threads)
    with tempfile.TemporaryDirectory() as scratch:
        if a.smoke:
            a.rows, a.repeats, a.draws = 20, 1, 100
            a.name, folder, parts = "smoke", Path(scratch) / "model", made_up()
            save(create_reward_model(ModelOptions(base=a.model, device="cpu")), folder)
        else:
            folder = Path(a.model)
            parts = {name: data.read(place) for name, place in
                     (("train", a.train), ("held_out", a.held_out), ("audit", a.audit))}  # fmt: skip
        shifted = {name: replies(Path(place), a.rows) for name, _, place in (s.partition("=") for s in a.shifted)}
        case = measure_case(a, folder, parts, shifted)
    name = a.name or Path(a.model).resolve().parent.name
    measure.keep(a.out, "doubt of one model: does it predict errors, does it notice other texts", {name: case})
    show(name, case)


def measure_case(
    a: argparse.Namespace, folder: Path, parts: dict[str, list[Comparison]], shifted: dict[str, Replies]
) -> dict[str, Any]:
    """Every number of one model."""
    bare = saved_models.load(folder, with_uncertainty=False, truncation="left")
    started = time.monotonic()
    model = uncertainty.measure_uncertainty(bare, parts["train"], held_out=parts["held_out"], most=a.most)
    seconds = {"measured": time.monotonic() - started}
    started = time.monotonic()
    pairs = score_comparisons(model, parts["audit"])
    seconds["scored"] = time.monotonic() - started
    started = time.monotonic()
    options = AuditOptions(draws=a.draws, shift_rows=a.rows)
    report = measure_uncertainty(model, parts["audit"], pairs, options, shifted=shifted)
    seconds["audited"] = time.monotonic() - started
    return {
        "settings": {"model": Path(a.model).name, "rows": a.rows, "draws": a.draws, "shifted": a.shifted},
        "machine": measure.machine(a.threads),
        "measured": dict(model.model.card.uncertainty),
        "comparisons": {name: len(part) for name, part in parts.items()},
        "estimates": {
            key: {"value": e.value, "low": number(e.low), "high": number(e.high), "n": e.n}
            for key, e in report.estimates.items()
        },
        "findings": [f"{f.severity}: {f.title}. {f.evidence}" for f in report.findings],
        "seconds": seconds,
        "time_of_doubt_over_none": time_of_doubt(bare, model, parts["audit"], a),
    }


def time_of_doubt(bare: Any, model: Any, comparisons: Sequence[Comparison], a: argparse.Namespace) -> dict[str, float]:
    """Scoring the same replies with doubt over without, in turn."""
    every = [(c.prompt, r) for c in comparisons for r in c.responses][: a.rows]
    prompts, responses = [p for p, _ in every], [r for _, r in every]
    bare.score(prompts[:2], responses[:2])
    times: dict[str, list[float]] = {"bare": [], "known": []}
    for _ in range(a.repeats):
        for name, each in (("bare", bare), ("known", model)):
            started = time.monotonic()
            each.score(prompts, responses)
            times[name].append(time.monotonic() - started)
    return measure.ratio(measure.spread(times["known"]), measure.spread(times["bare"]))


def replies(place: Path, most: int) -> Replies:
    """Prompts and replies of a file of comparisons, or of rows of text, spread evenly over it."""
    found: list[tuple[Any, Any]] = []
    for _, row in readers.read_rows(place):
        if isinstance(row, dict) and isinstance(row.get("text"), str) and "prompt" not in row:
            found.append((as_prompt(ASKED), as_response(row["text"])))
        else:
            break
    found = found or [(c.prompt, r) for c in data.read(place) for r in c.responses]
    chosen = found[:: max(1, len(found) // most)][:most]
    return [p for p, _ in chosen], [r for _, r in chosen]


def made_up() -> dict[str, list[Comparison]]:
    """Comparisons of random words, each part its own."""
    every = [rows.comparison(row) for row in rows.made_up(120)]
    return {"train": every[:60], "held_out": every[60:85], "audit": every[85:]}


def number(value: float) -> float | None:
    """JSON has no NaN."""
    return value if value == value else None


def show(name: str, case: dict[str, Any]) -> None:
    """The tables of one case."""
    found = case["estimates"]

    def told(key: str) -> str:
        if key not in found:
            return "-"
        value, low, high = (found[key][part] for part in ("value", "low", "high"))
        return f"{value:.3f}" if low is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"

    print(f"\n{name}")
    signals = [key.removeprefix("error_auroc_") for key in found if key.startswith("error_auroc_")]
    lines = [[signal, told(f"error_auroc_{signal}"), told(f"aurc_{signal}")] for signal in [*signals, "random"]]
    measure.print_table(["doubt", "AUROC of error", "mean error over coverage"], lines)
    sets = [key.removeprefix("shift_auroc_") for key in found if key.startswith("shift_auroc_")]
    lines = [["these comparisons", "", told("false_alarms")]]
    lines += [[each, told(f"shift_auroc_{each}"), told(f"detected_{each}")] for each in sets]
    measure.print_table(["kind of text", "AUROC of shift", "p <= 0.05"], lines)
    answered = [told(f"abstain_{part}") for part in ("threshold", "coverage", "error")]
    measure.print_table(["abstain below, nats", "answered", "wrong"], [answered])
    print(f"scoring with doubt over without: {measure.shown(case['time_of_doubt_over_none'])}")


if __name__ == "__main__":
    main()
