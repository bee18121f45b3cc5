"""Whether a reward model's uncertainty predicts its errors and detects out-of-distribution texts, and what it costs.

    python benchmarks/uncertainty.py --model runs/hh/model --train train.jsonl --held-out calibrate.jsonl \
        --audit audit.jsonl --shifted debates=ukp_pairs.jsonl.gz --shifted reviews=reviews.jsonl.gz

Uncertainty is fitted to the comparisons that the model was trained on and to held-out ones. Then, on comparisons that were used
for nothing else: AUROC of each signal for the model's errors, mean error by coverage, the margin from which few answers are
wrong; and for out-of-distribution sets (yours, and four made from the comparisons) how well their replies are told from the
comparisons'. Comparisons are {prompt, chosen, rejected} rows or any form that `guerdon import` reads; a set may also have rows of
`text`. Finally the same replies are scored with and without uncertainty, in turn.

Writes benchmarks/results/uncertainty.json by the name of the model. Stored uncertainty of the model is not used.
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
TEXT_PROMPT = "Write a short text."  # the prompt of a row that has a text only
Replies = tuple[list[Any], list[Any]]


def main() -> None:
    """Measure one model, save the numbers and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="directory of a saved reward model")
    parser.add_argument("--name", help="name of the case in the results; the directory's by default")
    parser.add_argument("--train", type=Path, help="comparisons that the model was trained on")
    parser.add_argument("--held-out", type=Path, help="held-out comparisons of the same distribution")
    parser.add_argument("--audit", type=Path, help="comparisons used for nothing else")
    parser.add_argument(
        "--shifted", action="append", default=[], metavar="NAME=FILE", help="an out-of-distribution set"
    )
    parser.add_argument("--rows", type=int, default=300, help="maximum replies of a set, and of the timing")
    parser.add_argument("--most", type=int, default=20_000, help="maximum training comparisons read")
    parser.add_argument("--draws", type=int, default=2000, help="bootstrap draws of each interval")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of the timing")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "uncertainty.json")
    parser.add_argument(
        "--smoke", action="store_true", help="a fresh head on --model and random rows, to see that the script runs"
    )
    a = parser.parse_args()
    if not a.smoke and not (a.train and a.held_out and a.audit):
        parser.error("give --train, --held-out and --audit")
    import torch

    torch.set_num_threads(a.threads)
    with tempfile.TemporaryDirectory() as scratch:
        if a.smoke:
            a.rows, a.repeats, a.draws = 20, 1, 100
            a.name, folder, parts = "smoke", Path(scratch) / "model", random_parts()
            save(create_reward_model(ModelOptions(base=a.model, device="cpu")), folder)
        else:
            folder = Path(a.model)
            parts = {name: data.read(path) for name, path in
                     (("train", a.train), ("held_out", a.held_out), ("audit", a.audit))}  # fmt: skip
        shifted = {name: read_replies(Path(path), a.rows) for name, _, path in (s.partition("=") for s in a.shifted)}
        case = measure_case(a, folder, parts, shifted)
    name = a.name or Path(a.model).resolve().parent.name
    measure.keep(a.out, "uncertainty of one model: does it predict errors, does it detect other texts", {name: case})
    show(name, case)


def measure_case(
    a: argparse.Namespace, folder: Path, parts: dict[str, list[Comparison]], shifted: dict[str, Replies]
) -> dict[str, Any]:
    """All numbers of one model."""
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
        "time_of_doubt_over_none": time_ratio(bare, model, parts["audit"], a),
    }


def time_ratio(bare: Any, model: Any, comparisons: Sequence[Comparison], a: argparse.Namespace) -> dict[str, float]:
    """Time of scoring the same replies with uncertainty over without, interleaved."""
    replies = [(c.prompt, r) for c in comparisons for r in c.responses][: a.rows]
    prompts, responses = [p for p, _ in replies], [r for _, r in replies]
    bare.score(prompts[:2], responses[:2])
    times: dict[str, list[float]] = {"without": [], "with": []}
    for _ in range(a.repeats):
        for name, contestant in (("without", bare), ("with", model)):
            started = time.monotonic()
            contestant.score(prompts, responses)
            times[name].append(time.monotonic() - started)
    return measure.ratio(measure.spread(times["with"]), measure.spread(times["without"]))


def read_replies(path: Path, most: int) -> Replies:
    """At most `most` prompts and replies of a file of comparisons or of texts, evenly spaced."""
    pairs: list[tuple[Any, Any]] = []
    for _, row in readers.read_rows(path):
        if isinstance(row, dict) and isinstance(row.get("text"), str) and "prompt" not in row:
            pairs.append((as_prompt(TEXT_PROMPT), as_response(row["text"])))
        else:
            break
    pairs = pairs or [(c.prompt, r) for c in data.read(path) for r in c.responses]
    sample = pairs[:: max(1, len(pairs) // most)][:most]
    return [p for p, _ in sample], [r for _, r in sample]


def random_parts() -> dict[str, list[Comparison]]:
    """Comparisons of random words, in three disjoint parts."""
    comparisons = [rows.comparison(row) for row in rows.random_rows(120)]
    return {"train": comparisons[:60], "held_out": comparisons[60:85], "audit": comparisons[85:]}


def number(value: float) -> float | None:
    """None for NaN, which JSON does not have."""
    return value if value == value else None


def show(name: str, case: dict[str, Any]) -> None:
    """Print the tables of one case."""
    estimates = case["estimates"]

    def cell(key: str) -> str:
        if key not in estimates:
            return "-"
        value, low, high = (estimates[key][part] for part in ("value", "low", "high"))
        return f"{value:.3f}" if low is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"

    print(f"\n{name}")
    signals = [key.removeprefix("error_auroc_") for key in estimates if key.startswith("error_auroc_")]
    lines = [[signal, cell(f"error_auroc_{signal}"), cell(f"aurc_{signal}")] for signal in [*signals, "random"]]
    measure.print_table(["signal", "AUROC of error", "mean error over coverage"], lines)
    sets = [key.removeprefix("shift_auroc_") for key in estimates if key.startswith("shift_auroc_")]
    lines = [["these comparisons", "", cell("false_alarms")]]
    lines += [[name, cell(f"shift_auroc_{name}"), cell(f"detected_{name}")] for name in sets]
    measure.print_table(["kind of text", "AUROC of shift", "p <= 0.05"], lines)
    answered = [cell(f"abstain_{part}") for part in ("threshold", "coverage", "error")]
    measure.print_table(["abstain below, nats", "answered", "wrong"], [answered])
    print(f"time of scoring, with uncertainty over without: {measure.shown(case['time_of_doubt_over_none'])}")


if __name__ == "__main__":
    main()
