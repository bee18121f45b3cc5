"""What the labels of a file mean: decided by all labels of the file together, never by one of them.

A number such as 1 means "the first is better" in one data set and "the second" in another, so a rule for each row alone
would turn some files around, or keep the rows of one side only. Words mean the same everywhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from guerdon.contracts import GuerdonError, Preference
from guerdon.errors import field_error, show_value
from guerdon.io.fields import is_absent

__all__ = ["LabelReader", "LabelSurvey", "NumberScale", "label_reader"]

MOST_VALUES = 64  # distinct labels of a file that are remembered; of further ones only the range
MOST_SHOWN = 4  # of them in an error
FIRST = (
    "a", "first", "left", "model a", "assistant a", "response a", "answer a", "output a", "model 1", "response 1", "answer 1",
    "output 1",
)  # fmt: skip
SECOND = (
    "b", "second", "right", "model b", "assistant b", "response b", "answer b", "output b", "model 2", "response 2", "answer 2",
    "output 2",
)  # fmt: skip
TIE = (
    "tie", "equal", "draw", "same", "both", "neither", "tie (both bad)", "both bad", "both good", "tie (both good)", "a=b", "b=a",
    "tie (inconsistent)",
)  # fmt: skip
CLAIM = "a, b, tie, first, second, model_a, model_b, 1, 2, or a probability"
VOTE_CLAIM = "a, b, tie, first, second, model_a, model_b, 1 or 2, since each is one vote"


@dataclass(frozen=True, slots=True)
class NumberScale:
    """What the numbers among the labels of a file mean.

    meaning: one line for people. holds: whether a number is on the scale. read: a number of the scale in, its preference out.
    """

    meaning: str
    holds: Callable[[float], bool]
    read: Callable[[float], Preference]


def _side(lead: float, strength: float | None = None) -> Preference:
    """The preference for the first where `lead` is positive, for the second where it is negative, else a tie."""
    if lead == 0:
        return Preference(groups=((0, 1),))
    return Preference(groups=((0,), (1,)) if lead > 0 else ((1,), (0,)), strength=strength)


def _is_zero_or_one(value: float) -> bool:
    return value in (0, 0.5, 1)


SCALES = {
    "first": NumberScale("1 means that the first is better, 0 the second", _is_zero_or_one, lambda v: _side(v - 0.5)),
    "index": NumberScale("0 means that the first is better, 1 the second", _is_zero_or_one, lambda v: _side(0.5 - v)),
    "probability": NumberScale("P(the first is better)", lambda v: 0 <= v <= 1, lambda v: Preference(q=v)),
    "one_or_two": NumberScale(
        "1 means that the first is better, 2 the second, 1.5 a tie",
        lambda v: 1 <= v <= 2,
        lambda v: _side(1.5 - v) if v in (1, 1.5, 2) else Preference(q=2 - v),
    ),
    "positive": NumberScale(
        "a positive number means that the first is better, a negative one the second; its size is the strength",
        lambda v: True,
        lambda v: _side(v, abs(v)),
    ),
    "negative": NumberScale(
        "a negative number means that the first is better, a positive one the second; its size is the strength",
        lambda v: True,
        lambda v: _side(-v, abs(v)),
    ),
}


@dataclass(slots=True)
class LabelSurvey:
    """The labels of a file: each distinct number with the place of its first row, the range, and what is no label."""

    numbers: dict[float, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)

    def add(self, label: object, place: str) -> None:
        """Take one label into account; one that is absent does not count."""
        value = _parse(label)
        if isinstance(value, float):
            self._add_number(value, place)
        elif value is None and not is_absent(label) and len(self.unreadable) < MOST_VALUES:
            self.unreadable.setdefault(show_value(label, 30), place)

    def _add_number(self, value: float, place: str) -> None:
        if value in self.numbers or len(self.numbers) < MOST_VALUES:
            self.numbers.setdefault(value, place)
            return
        low, high = min(self.numbers), max(self.numbers)
        if not low <= value <= high:  # the new end of the range takes the place of the old one
            del self.numbers[low if value < low else high]
            self.numbers[value] = place


@dataclass(frozen=True, slots=True)
class LabelReader:
    """A label of the file in, its preference out.

    scale: what its numbers mean; None where it has none. numbers: those that the file has, of many only some with the extremes.
    claim: what a label must be.
    """

    scale: NumberScale | None = None
    numbers: frozenset[float] = frozenset()
    claim: str = CLAIM

    def __call__(self, label: object, field: str) -> Preference:
        """The preference; an error where the label is absent."""
        value = _parse(label)
        if isinstance(value, Preference):
            return value
        if value is None or self.scale is None or not self.scale.holds(value):
            if is_absent(label):
                raise GuerdonError(f"{field} is missing. Add it or drop the row.")
            raise field_error(field, self.claim, label)
        return self.scale.read(value)


def label_reader(
    labels: Iterable[tuple[str, object]],
    column: str,
    *,
    means: str | None = None,
    known: str | None = None,
    soft: bool = True,
) -> LabelReader:
    """(place, label) pairs of a whole file in, the reader of its labels out.

    means: what the user says, first, index or probability. known: the scale of a format that has one. soft: whether a label
    may be a probability. A label that fits no scale, and numbers that could mean either side, are a GuerdonError: leaving out
    the rows with such labels would leave the rows of the other side.
    """
    survey, claim = LabelSurvey(), CLAIM if soft else VOTE_CLAIM
    for place, label in labels:
        survey.add(label, place)
    if survey.unreadable:
        raise _unreadable(survey.unreadable, column, claim)
    if not survey.numbers:
        return LabelReader(claim=claim)
    scale = SCALES[_scale_name(survey.numbers, column, means, known, claim)]
    others = {f"{value:g}": place for value, place in survey.numbers.items() if not scale.holds(value)}
    if others:
        raise _unreadable(others, column, f"on one scale ({scale.meaning})")
    soft_labels = {f"{v:g}": place for v, place in survey.numbers.items() if scale.read(v).groups is None}
    if soft_labels and not soft:
        raise _unreadable(soft_labels, column, claim)
    return LabelReader(scale, frozenset(survey.numbers), claim)


def _scale_name(numbers: dict[float, str], column: str, means: str | None, known: str | None, claim: str) -> str:
    low, high = min(numbers), max(numbers)
    if means == "probability" and claim == VOTE_CLAIM:
        place = next(iter(numbers.values()))
        raise GuerdonError(
            f"{place}: --label-means must be first or index for {column}, since each is one vote, got probability. "
            "Leave it out, or say which."
        )
    if known is not None:
        if means is not None and means not in _user_names(known):
            place = next(iter(numbers.values()))
            raise GuerdonError(
                f"{place}: --label-means must agree with the column {column}, where {SCALES[known].meaning}, got {means}. "
                "Leave it out."
            )
        return known
    if means in ("first", "index"):
        signed = "positive" if means == "first" else "negative"
        return signed if low < 0 else "one_or_two" if high > 1 else means
    if means is not None:
        return means
    if low < 0 or all(_is_zero_or_one(value) for value in numbers):
        raise _ambiguous(numbers, column, claim)
    if high <= 1:
        return "probability"
    if low >= 1 and high <= 2:
        return "one_or_two"
    raise _unreadable({f"{value:g}": place for value, place in sorted(numbers.items(), reverse=True)}, column, claim)


def _user_names(scale: str) -> tuple[str, ...]:
    """The words of --label-means that agree with a scale."""
    return {"positive": ("first",), "negative": ("index",), "one_or_two": ("first", "index")}.get(scale, (scale,))


def _ambiguous(numbers: dict[float, str], column: str, claim: str) -> GuerdonError:
    shown = [f"{value:g}" for value in sorted(numbers)]
    values = ", ".join(shown[:MOST_SHOWN] + (["…"] if len(shown) > MOST_SHOWN else []))
    place = next(iter(numbers.values()))
    if min(numbers) < 0:
        choice = "first (a positive number means that the first is better) or index (a negative one does)"
    elif claim == VOTE_CLAIM:
        choice = "first (1 means that the first is better) or index (0 does)"
    else:
        choice = "first (1 means that the first is better), index (0 does) or probability (P(the first is better))"
    return GuerdonError(
        f"{place}: {column} must say which response is better, got only the numbers {values}, which can mean either. "
        f"Say --label-means {choice}."
    )


def _unreadable(values: dict[str, str], column: str, claim: str) -> GuerdonError:
    shown = ", ".join(list(values)[:MOST_SHOWN]) + (", …" if len(values) > MOST_SHOWN else "")
    return GuerdonError(
        f"{next(iter(values.values()))}: {column} must be {claim}, got {shown}. "
        "Correct these labels: if only their rows were left out, the others could favor one side."
    )


# ---- Single labels -------------------------------------------------------------------------------------------------


def _normalize(word: str) -> str:
    """The letters and comparison signs of a word, so that model_a, "Model A" and [[A]] are spelled as in the lists above."""
    return re.sub(r"[^a-z0-9<>=]+", "", word.casefold())


WORDS = {_normalize(word): _side(lead) for lead, words in ((1, FIRST), (-1, SECOND), (0, TIE)) for word in words}
WORDS |= {f"a{sign}b": _side(1, len(sign)) for sign in (">", ">>")} | {
    f"b{sign}a": _side(1, len(sign)) for sign in ("<", "<<")
}
WORDS |= {f"b{sign}a": _side(-1, len(sign)) for sign in (">", ">>")} | {
    f"a{sign}b": _side(-1, len(sign)) for sign in ("<", "<<")
}


def _parse(label: object) -> float | Preference | None:
    """A number, the preference that a word names, or None."""
    if isinstance(label, str):
        word = label.strip()
        try:
            number = float(word)
        except ValueError:
            return WORDS.get(_normalize(word))
    elif isinstance(label, int | float | Decimal):
        try:
            number = float(label)
        except OverflowError:
            return None
    else:
        return None
    return number if math.isfinite(number) else None
