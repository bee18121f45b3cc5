"""PRM800K: solutions whose steps people rated, with several candidates for a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from guerdon.contracts import Comparison, GuerdonError, Preference, Response
from guerdon.conversation import STEP_JOINT
from guerdon.data.importers.columns import Row, required, to_comparison, to_prompt
from guerdon.errors import field_error
from guerdon.io.fields import as_list, as_name, as_text, is_absent, to_number

RATINGS = (-1, 0, 1)  # wrong, right without progress, right
BAD_PROBLEM = "bad_problem"


def from_prm800k(row: Row) -> list[Comparison]:
    """{question: {problem}, label: {steps: [{completions: [{text, rating}], chosen_completion, human_completion}], finish_reason}}.

    Each step with candidates of different ratings is a comparison of the solution up to that step, ended by each candidate;
    equal ratings tie. A candidate without a rating is left out.
    """
    question, label = (_object(required(row, key), key) for key in ("question", "label"))
    prompt = to_prompt(as_text(question.get("problem"), "question.problem"))
    if label.get("finish_reason") == BAD_PROBLEM:
        advice = "Drop the row."
        raise field_error(
            "label.finish_reason", "anything but bad_problem: the labeler found the problem broken", BAD_PROBLEM, advice
        )
    names: dict[str, Any] = {} if is_absent(row.get("labeler")) else {"annotator": as_name(row["labeler"], "labeler")}
    comparisons: list[Comparison] = []
    before: list[str] = []
    for i, value in enumerate(as_list(label.get("steps"), "label.steps", "a list of steps")):
        step = _object(value, f"label.steps[{i}]")
        candidates = _candidates(step, f"label.steps[{i}]")
        responses = tuple(
            Response(STEP_JOINT.join([*before, text]), ratings={"rating": float(rating)})
            for text, rating in candidates.items()
            if rating is not None
        )
        if preference := _preference([rating for rating in candidates.values() if rating is not None]):
            comparisons.append(to_comparison({**names, **row}, prompt, responses, preference))
        chosen = _chosen(step, f"label.steps[{i}]")
        if chosen is None:
            break
        before.append(chosen)
    if not comparisons:
        raise GuerdonError("label.steps must have a step with candidates of different ratings, got none. Drop the row.")
    return comparisons


def is_prm800k(row: Row) -> bool:
    """Whether question and label are objects, as the files have them."""
    question, label = row.get("question"), row.get("label")
    return isinstance(question, Mapping) and "problem" in question and isinstance(label, Mapping) and "steps" in label


def _candidates(step: Mapping[str, Any], field: str) -> dict[str, int | None]:
    """The texts of a step's candidates and their ratings; of equal texts the first."""
    candidates: dict[str, int | None] = {}
    for i, value in enumerate(as_list(step.get("completions") or [], f"{field}.completions", "a list of candidates")):
        place = f"{field}.completions[{i}]"
        candidate = _object(value, place)
        rating = candidate.get("rating")
        if rating is not None and to_number(rating, f"{place}.rating", "-1, 0 or 1") not in RATINGS:
            raise field_error(f"{place}.rating", "-1, 0 or 1", rating)
        candidates.setdefault(as_text(candidate.get("text"), f"{place}.text"), None if rating is None else int(rating))
    return candidates


def _chosen(step: Mapping[str, Any], field: str) -> str | None:
    """The text with which the solution went on; None where it ended."""
    chosen, human = step.get("chosen_completion"), step.get("human_completion")
    if chosen is None:
        human = human.get("text") if isinstance(human, Mapping) else human
        return None if human is None else as_text(human, f"{field}.human_completion")
    completions = step.get("completions") or []
    if to_number(chosen, f"{field}.chosen_completion", "the index of a candidate") not in range(len(completions)):
        raise field_error(f"{field}.chosen_completion", f"the index of one of {len(completions)} candidates", chosen)
    return as_text(completions[int(chosen)].get("text"), f"{field}.completions[{int(chosen)}].text")


def _preference(ratings: Sequence[int]) -> Preference | None:
    """Groups of candidates, the highest rating first; None where all are equal."""
    levels = sorted(set(ratings), reverse=True)
    if len(levels) < 2:
        return None
    groups = tuple(tuple(i for i, rating in enumerate(ratings) if rating == level) for level in levels)
    return Preference(groups=groups, strength=float(levels[0] - levels[-1]))


def _object(value: object, field: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise field_error(field, "an object with named fields", value)
    return value
