"""The same five conversations through every reader of a saved model, against Guerdon's scores of them.

Readers of this environment run here, those of other environments under their own Python, and servers over HTTP. A reader that fails
has an error in place of scores.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from guerdon.config import ModelOptions
from guerdon.contracts import Curve, Estimate, Finding, GuerdonError, Quantity, Report
from guerdon.errors import field_error
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.directory import reader_program
from guerdon.models.directory.loading import load_reward_model
from guerdon.models.directory.served_readers import served_scores
from guerdon.models.engine.pretrained import quiet
from guerdon.progress import ProgressBar

if TYPE_CHECKING:
    from guerdon.models.reward_model import ScalarRewardModel

Turns = list[dict[str, str]]

CONVERSATIONS: Final[tuple[tuple[str, ...], ...]] = (
    ("How do I boil an egg?", "Lower it into boiling water, wait eight minutes, then cool it."),
    ("Is 91 a prime number?", "No: 91 = 7 × 13."),
    ("Write a line about rain.", "Rain again.\nThe garden approves. 🌧"),
    ("Hello!", "Hello. What can I do for you?", "Name two colors.", "Red and blue."),
    (
        "Explain why the sky is blue to a child of six.",
        "Sunlight looks white, but it is made of all the colors of the rainbow. When it comes through the air it bumps into tiny "
        "bits that are far too small to see. Blue light bounces off them more than red light does, so blue comes to your eyes "
        "from all over the sky. That is why the whole sky looks blue on a clear day.",
    ),
)
OURS: Final = "Guerdon"
ROUNDING: Final = 1e-3  # nats by which float32 differs between engines at most
HALF: Final = 0.05  # nats by which float16 differs; see docs/saved-model.md
SECONDS: Final = 1800.0  # for one Python and all its readers
SECTION: Final = "Scores by reader"


@dataclass(frozen=True, slots=True)
class ReaderScores:
    """What a reader makes of the conversations: a score each, or why there is none. is_calibrated: in nats, not raw."""

    reader: str
    scores: tuple[float, ...] | None = None
    error: str = ""
    is_calibrated: bool = False


def compare_readers(folder: str | Path, urls: Sequence[str] = (), pythons: Sequence[str | Path] = ()) -> Report:
    """A section with a curve of scores and the largest difference for each reader, and findings on those that differ.

    urls: of servers of the model (vLLM, SGLang, `guerdon serve`). pythons: of environments with other readers. Raises GuerdonError
    for a model that Guerdon cannot score itself.
    """
    model = load_reward_model(folder, ModelOptions(device="cpu", dtype="float32"), with_uncertainty=False)
    if model.card.attributes:
        return Report(
            SECTION,
            summary="It has a label for each attribute, and every reader gives them in its own way: not compared",
        )
    conversations, raw = _scored(model)
    if not conversations:
        return Report(SECTION, summary="The chat template refuses every conversation: not compared")
    ours = ReaderScores(OURS, raw)
    in_nats = CalibratedModel(model, model.card.calibration).values_in_nats(np.array(raw)).tolist()
    rows = _others(Path(folder), model, conversations, urls, pythons)
    differences = {
        row.reader: difference(row, in_nats if row.is_calibrated else raw) for row in rows if row.scores is not None
    }
    return Report(
        SECTION,
        {row.reader: row.error for row in rows if row.error},
        {name: Estimate(value, math.nan, math.nan, len(raw)) for name, value in differences.items()},
        tuple(finding for row in rows for finding in _findings(row, differences.get(row.reader))),
        curves={row.reader: _curve(row) for row in (ours, *rows) if row.scores is not None},
        quantities={name: Quantity(name, "nats", SECTION, "largest difference from Guerdon") for name in differences},
        summary=_summary(differences, len(raw)),
    )


def difference(row: ReaderScores, wanted: Sequence[float]) -> float:
    """The largest distance from the scores wanted; infinity where a score is not a number."""
    distances = [abs(score - other) for score, other in zip(row.scores or (), wanted, strict=True)]
    return max(distances) if all(map(math.isfinite, distances)) else math.inf


def refuse_missing(pythons: Sequence[str | Path]) -> None:
    """Raise GuerdonError for a path that is no program."""
    for path in pythons:
        if not os.access(path, os.X_OK) or Path(path).is_dir():
            raise field_error(
                "--python", "the Python of an environment", str(path), "Give a path such as venv/bin/python."
            )


def _scored(model: ScalarRewardModel) -> tuple[list[Turns], tuple[float, ...]]:
    """The conversations that the model reads whole, and its raw scores."""
    conversations, scores = [], []
    for texts in CONVERSATIONS:
        turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
        try:
            score = model.score([turns[:-1]], [texts[-1]])
        except GuerdonError:  # too long, or of a form that the template has not
            continue
        if not score.truncated[0]:
            conversations.append(turns)
            scores.append(float(score.value[0]))
    return conversations, tuple(scores)


def _others(
    folder: Path,
    model: ScalarRewardModel,
    conversations: Sequence[Turns],
    urls: Sequence[str],
    pythons: Sequence[str | Path],
) -> list[ReaderScores]:
    request = {
        "folder": str(folder),
        "conversations": conversations,
        "is_encoder": model.text.encoder,
        "texts": [model.text.tokenizer.apply_chat_template(turns, tokenize=False) for turns in conversations],
    }
    with ProgressBar(1 + len(pythons) + len(urls), "readers") as bar:
        with quiet():
            results = list(reader_program.results({**request, "known": []}))
        for path in pythons:
            bar.advance()
            known = [result["reader"] for result in results]  # the same version again would say nothing new
            results += _run(Path(path), {**request, "known": known})
        for url in urls:
            bar.advance()
            results.append(served_scores(url, request))
    return [_row(result) for result in results]


def _row(result: Mapping[str, Any]) -> ReaderScores:
    scores = result.get("scores")
    return ReaderScores(
        result["reader"],
        None if scores is None else tuple(map(float, scores)),
        " ".join(str(result.get("error", "")).split())[:300],
        bool(result.get("is_calibrated")),
    )


def _run(python: Path, request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the readers of another environment give."""
    with tempfile.TemporaryDirectory() as scratch:
        sent, received, log = (Path(scratch) / name for name in ("request.json", "results.jsonl", "log"))
        sent.write_text(json.dumps(request), "utf-8")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        command = [str(python), reader_program.__file__, str(sent), str(received)]
        with log.open("wb") as output:
            try:
                ended = subprocess.run(
                    command, stdout=output, stderr=output, env=environment, timeout=SECONDS, check=False
                )
                status = "" if ended.returncode == 0 else f"exit status {ended.returncode}"
            except subprocess.TimeoutExpired:
                status = f"no end after {SECONDS:g} seconds"
        results = [json.loads(line) for line in received.read_text("utf-8").splitlines()] if received.is_file() else []
        if status:
            last = "".join(log.read_text("utf-8", "replace").splitlines()[-1:])
            results.append({"reader": str(python), "error": f"{status}: {last}"})
        return results


def _findings(row: ReaderScores, distance: float | None) -> Iterator[Finding]:
    if distance is None:
        yield Finding("warning", f"{row.reader} cannot score it", row.error, "fix what the evidence names")
    elif distance > HALF:
        evidence = f"its scores differ by up to {distance:.3g} nats"
        yield Finding(
            "error", f"{row.reader} gives other scores", evidence, "read the findings above; they say what differs"
        )
    elif distance > ROUNDING:
        yield Finding(
            "warning",
            f"{row.reader} rounds scores",
            f"its scores differ by up to {distance:.3g} nats",
            "let it compute in float32, or accept the difference",
        )


def _curve(row: ReaderScores) -> Curve:
    scores = tuple(Estimate(score, math.nan, math.nan, 1) for score in row.scores or ())
    return Curve(
        tuple(map(float, range(1, len(scores) + 1))),
        scores,
        "conversation",
        "score, nats" if row.is_calibrated else "raw score",
        kind="points",
    )


def _summary(differences: dict[str, float], num: int) -> str:
    if not differences:
        return "No other reader could score the model"
    agreeing = sum(value <= ROUNDING for value in differences.values())
    return f"{agreeing} of {len(differences)} readers give Guerdon's scores of {num} conversations"
