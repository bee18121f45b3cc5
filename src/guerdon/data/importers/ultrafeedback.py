"""UltraFeedback: raw, with four rated completions a prompt, and binarized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from guerdon.contracts import Comparison, Preference, Response
from guerdon.data.importers.columns import Row, required, required_list, to_comparison, to_prompt
from guerdon.data.importers.pairs import prompt_and_responses, to_pair
from guerdon.data.importers.rankings import kept, ranked
from guerdon.data.importers.reading import Reading
from guerdon.errors import LabelError, field_error
from guerdon.io.fields import as_name, as_text, is_absent, to_number

UNRATED = "completions left out because no aspect of them is rated"
OVERALL = "completions ranked by overall_score, which is 10 for many bad ones in files from before December 29, 2023"
TIED = "pairs with equal scores, read as ties"


def from_ultrafeedback(row: Row, reading: Reading) -> Comparison:
    """{instruction, completions: [{response, model, annotations: {aspect: {Rating, Rationale}}, overall_score, critique}]}.

    A completion's score is the mean of its rated aspects, or overall_score with imports.ultrafeedback_score=overall. A rating
    is a number, as text or not, or N/A. All are kept as ratings; the critiques are the rationale.
    """
    prompt = to_prompt(as_text(required(row, "instruction"), "instruction"))
    values = required_list(row, "completions")
    given = [_completion(value, f"completions[{i}]", reading) for i, value in enumerate(values)]
    usable = kept([pair for pair in given if pair is not None], reading)
    if len(usable) < 2:
        raise field_error(
            "completions",
            "a list of two or more that are rated and not empty",
            f"{len(usable)} of {len(values)}",
            "Drop the row.",
        )
    critiques = [_critique(value, i) for i, value in enumerate(values, start=1) if _is_text(value.get("critique"))]
    names = {"annotator": "gpt-4", "rationale": "\n\n".join(critiques) or None}
    responses, scores = zip(*usable, strict=True)
    return ranked({**names, **row}, prompt, responses, scores)


def _critique(completion: Mapping[str, object], number: int) -> str:
    return f"{completion.get('model') or f'Response {number}'}: {completion['critique']}"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def have_responses(row: Row) -> bool:
    """Whether the completions of a row are objects with a response."""
    completions = row.get("completions")
    values = completions if isinstance(completions, list | tuple) else ()
    return bool(values) and all(isinstance(value, Mapping) and "response" in value for value in values)


def _completion(value: object, field: str, reading: Reading) -> tuple[Response, float] | None:
    """The response and its score; None where it has no rating."""
    if not isinstance(value, Mapping):
        raise field_error(field, "an object with response and annotations", value)
    annotations = value.get("annotations") or {}
    if not isinstance(annotations, Mapping):
        raise field_error(f"{field}.annotations", "an object of aspects", annotations)
    aspects = {str(name): _rating(aspect, f"{field}.annotations.{name}") for name, aspect in annotations.items()}
    ratings = {name: rating for name, rating in aspects.items() if rating is not None}
    score = fmean(ratings.values()) if ratings else None
    if not is_absent(value.get("overall_score")):
        ratings["overall_score"] = to_number(value["overall_score"], f"{field}.overall_score", "a finite number")
    if reading.options.ultrafeedback_score == "overall":
        score = ratings.get("overall_score")
        reading.note(OVERALL)
    if score is None:
        reading.note(UNRATED)
        return None
    author = None if is_absent(value.get("model")) else as_name(value["model"], f"{field}.model")
    text = as_text(value.get("response"), f"{field}.response")
    return Response(text, author=author, ratings=ratings), score


def _rating(aspect: object, field: str) -> float | None:
    rating = aspect.get("Rating") if isinstance(aspect, Mapping) else aspect
    return None if is_absent(rating) else to_number(rating, f"{field}.Rating", "a number or N/A")


# ---- Binarized -------------------------------------------------------------------------------------------------------

SCORES = (("score_chosen", "score_rejected"), ("chosen-rating", "rejected-rating"))
MODELS = ("chosen-model", "rejected-model")


def are_dialogs(row: Row) -> bool:
    """Whether chosen and rejected are lists of messages."""
    return all(isinstance(row.get(key), Sequence) and not isinstance(row[key], str) for key in ("chosen", "rejected"))


def from_binarized(row: Row, reading: Reading) -> Comparison:
    """{prompt, chosen: [messages], rejected, score_chosen, score_rejected}, or with chosen-rating, rejected-rating and models.

    chosen and rejected hold the whole dialog. The difference of the scores is the strength; equal scores tie, for the one
    that is called chosen was then drawn.
    """
    prompt, *responses = prompt_and_responses(row, "chosen", "rejected", reading.note)
    names = max(SCORES, key=lambda names: sum(name in row for name in names))
    scores = [to_number(required(row, name), name, "a finite number") for name in names]
    if scores[0] < scores[1]:
        advice = "Swap chosen and rejected in such rows: if only they were left out, what is left would always agree."
        raise LabelError(str(field_error(names[0], f"at least {names[1]}, {scores[1]:g}", scores[0], advice)))
    chosen, rejected = (
        replace(r, ratings={"score": s}, author=None if is_absent(row.get(m)) else as_name(row[m], m))
        for r, s, m in zip(responses, scores, MODELS, strict=True)
    )
    pair = to_pair({**row, "margin": scores[0] - scores[1]}, prompt, chosen, rejected)
    if scores[0] > scores[1]:
        return pair
    reading.note(TIED)
    return to_comparison(row, prompt, pair.responses, Preference(groups=((0, 1),)))
