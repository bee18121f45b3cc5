"""What a person answers, and what of it a project takes.

Positions and handles are of the order shown. A verdict from -3 to 3 is negative where the first response is better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from guerdon.annotation.errors import AnswerError
from guerdon.config.annotation import CAN_BE_BAD, MOST_RANKED, PAIR_VERDICTS, AnnotationOptions
from guerdon.config.base import first_problem
from guerdon.contracts import Preference, digest
from guerdon.errors import show_value

__all__ = ["Answer", "answer_from", "answer_of", "check_responses", "payload_hash", "read_answer"]

Steps = Annotated[int, Field(ge=-3, le=3)]
Milliseconds = Annotated[float, Field(ge=0, le=1e12)]
_MOST_CHARACTERS = 100_000  # of a rationale


class Answer(BaseModel):
    """What a browser sends. Which fields must be set depends on the project's verdict."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    verdict: Steps | None = None
    both_bad: bool = False
    ranking: list[list[str]] | None = None
    acceptable_upto: Annotated[int, Field(ge=0)] | None = None
    best: str | None = None
    worst: str | None = None
    ratings: dict[str, dict[str, int]] | None = None
    axes: dict[str, Steps] = Field(default_factory=dict)
    reasons: list[str] = Field(default_factory=list)
    flags: list[str] = Field(default_factory=list)
    rationale: Annotated[str, Field(max_length=_MOST_CHARACTERS)] | None = None
    active_ms: Milliseconds | None = None
    wall_ms: Milliseconds | None = None


def answer_from(value: object) -> Answer:
    """The answer that a JSON object is; AnswerError names the field that is wrong."""
    try:
        return Answer.model_validate(value)
    except ValidationError as error:
        raise AnswerError(f"answer: {first_problem(error, lambda path: Answer)}") from None


def check_responses(options: AnnotationOptions, k: int) -> None:
    """Raise AnswerError for a number of responses that the project's verdict cannot be about."""
    if options.verdict in PAIR_VERDICTS and k != 2:
        raise AnswerError(f"an item must have 2 responses with verdict={options.verdict}, got {k}. Set verdict=rank.")
    if options.verdict == "rank" and k > MOST_RANKED:
        raise AnswerError(
            f"an item must have at most {MOST_RANKED} responses with verdict=rank, got {k}. Set verdict=best_worst."
        )


def payload_hash(answer: Answer) -> str:
    """The hash of what an answer says; how long it took may differ when a browser sends it again."""
    return digest(answer.model_dump(mode="json", exclude={"active_ms", "wall_ms"}), 32)


def read_answer(
    answer: Answer, options: AnnotationOptions, handles: Sequence[str]
) -> tuple[Preference, dict[str, Any]]:
    """The preference, with responses numbered as shown, and the details of the judgment.

    Details are columns: all_bad, acceptable_upto, axes, flags, reasons, active_ms, wall_ms, and the rationale. AnswerError
    where the project does not ask for what is given, or misses something.
    """
    check_responses(options, len(handles))
    _refuse_other_fields(answer, options)
    preference, verdict_details = _READERS[options.verdict](answer, options, handles)
    details: dict[str, Any] = {
        "axes": dict(sorted(answer.axes.items())) or None,
        "flags": _chosen("flags", answer.flags, options.flags),
        "reasons": _chosen("reasons", answer.reasons, options.reasons),
        "rationale": _rationale(answer, options),
        "active_ms": answer.active_ms,
        "wall_ms": answer.wall_ms,
        **verdict_details,
    }
    if unknown := [name for name in answer.axes if name not in options.axes or options.verdict == "rating"]:
        raise _wrong("axes", "names of the project's axes", unknown[0])
    return preference, {name: value for name, value in details.items() if value is not None}


def answer_of(row: Mapping[str, Any], options: AnnotationOptions, handles: Sequence[str]) -> dict[str, Any]:
    """A stored judgment as the answer that it came from, for a person who looks at it again. row: its columns."""
    groups: list[list[int]] = [list(group) for group in row["groups"] or ()]
    answer: dict[str, Any] = {
        "both_bad": bool(row["all_bad"]) and options.verdict in PAIR_VERDICTS,
        "reasons": row["reasons"] or [],
        "flags": row["flags"] or [],
        "rationale": row["rationale"],
        "axes": {},
    }
    if options.verdict == "rating":
        names = [*(row["axes"] or {})]
        answer["ratings"] = {handle: {name: row["axes"][name][i] for name in names} for i, handle in enumerate(handles)}
        return answer
    answer["axes"] = row["axes"] or {}
    if options.verdict == "rank":
        answer["ranking"] = [[handles[i] for i in group] for group in groups]
        answer["acceptable_upto"] = row["acceptable_upto"]
    elif options.verdict == "best_worst":
        answer["best"], answer["worst"] = handles[groups[0][0]], handles[groups[-1][0]]
    elif not answer["both_bad"]:
        steps = int(row["strength"] or 0) if options.verdict == "strength7" else 1
        answer["verdict"] = 0 if len(groups) == 1 else -steps if groups[0] == [0] else steps
    return answer


# ---- Verdicts ------------------------------------------------------------------------------------------------------

_OF_VERDICT = {
    **{verdict: {"verdict", "both_bad"} if verdict in CAN_BE_BAD else {"verdict"} for verdict in PAIR_VERDICTS},
    "rank": {"ranking", "acceptable_upto"},
    "best_worst": {"best", "worst"},
    "rating": {"ratings"},
}


def _refuse_other_fields(answer: Answer, options: AnnotationOptions) -> None:
    every = {"verdict", "both_bad", "ranking", "acceptable_upto", "best", "worst", "ratings"}
    for name in sorted(every - _OF_VERDICT[options.verdict]):
        if getattr(answer, name) not in (None, False):
            raise _wrong(name, f"left out with verdict={options.verdict}", getattr(answer, name))


def _pair(answer: Answer, options: AnnotationOptions, handles: Sequence[str]) -> tuple[Preference, dict[str, Any]]:
    if answer.both_bad:
        if answer.verdict is not None:
            raise _wrong("verdict", "left out where both are bad", answer.verdict)
        return _tie(options), {"all_bad": True}
    allowed = {"strength7": range(-3, 4), "binary": (-1, 1)}.get(options.verdict, (-1, 0, 1))
    verdict = answer.verdict
    if verdict is None or verdict not in allowed:
        raise _wrong("verdict", f"one of {', '.join(map(str, allowed))}", verdict)
    if verdict == 0:
        return _tie(options), {}
    strength = float(abs(verdict)) if options.verdict == "strength7" else None
    return Preference(groups=((0,), (1,)) if verdict < 0 else ((1,), (0,)), strength=strength), {}


def _tie(options: AnnotationOptions) -> Preference:
    return Preference(groups=((0, 1),), strength=0.0 if options.verdict == "strength7" else None)


def _rank(answer: Answer, options: AnnotationOptions, handles: Sequence[str]) -> tuple[Preference, dict[str, Any]]:
    ranking = answer.ranking or []
    flat = [handle for group in ranking for handle in group]
    if sorted(flat) != sorted(handles) or not all(ranking):
        raise _wrong("ranking", "every response once, in groups", answer.ranking)
    upto = answer.acceptable_upto
    if upto is not None and upto > len(ranking):
        raise _wrong("acceptable_upto", f"a number of groups, at most {len(ranking)}", upto)
    groups = tuple(tuple(sorted(handles.index(handle) for handle in group)) for group in ranking)
    return Preference(groups=groups), {"acceptable_upto": upto, "all_bad": True if upto == 0 else None}


def _best_worst(
    answer: Answer, options: AnnotationOptions, handles: Sequence[str]
) -> tuple[Preference, dict[str, Any]]:
    for name in ("best", "worst"):
        if getattr(answer, name) not in handles:
            raise _wrong(name, "one of the responses", getattr(answer, name))
    best, worst = handles.index(str(answer.best)), handles.index(str(answer.worst))
    if best == worst:
        raise _wrong("worst", "another response than the best", answer.worst)
    middle = tuple(i for i in range(len(handles)) if i not in (best, worst))
    return Preference(groups=tuple(group for group in ((best,), middle, (worst,)) if group)), {}


def _rating(answer: Answer, options: AnnotationOptions, handles: Sequence[str]) -> tuple[Preference, dict[str, Any]]:
    """The order of the mean ratings; the ratings themselves are in `axes`, a list in the order shown for each."""
    axes = options.axes or ["overall"]
    ratings = answer.ratings or {}
    if sorted(ratings) != sorted(handles) or any(sorted(given) != sorted(axes) for given in ratings.values()):
        raise _wrong("ratings", f"a rating of every response on {', '.join(axes)}", answer.ratings)
    low, high = options.rating_low, options.rating_high
    for given in ratings.values():
        for value in given.values():
            if not low <= value <= high:
                raise _wrong("ratings", f"integers from {low} to {high}", value)
    totals = [sum(ratings[handle].values()) for handle in handles]
    groups = tuple(
        tuple(i for i, other in enumerate(totals) if other == total) for total in sorted(set(totals), reverse=True)
    )
    return Preference(groups=groups), {"axes": {name: [ratings[h][name] for h in handles] for name in sorted(axes)}}


_READERS = {**dict.fromkeys(PAIR_VERDICTS, _pair), "rank": _rank, "best_worst": _best_worst, "rating": _rating}


# ---- Details -------------------------------------------------------------------------------------------------------


def _chosen(name: str, given: Sequence[str], known: Sequence[str]) -> list[str] | None:
    if unknown := [word for word in given if word not in known]:
        raise _wrong(name, f"among {', '.join(known) or 'none'}", unknown[0])
    return [word for word in known if word in given] or None


def _rationale(answer: Answer, options: AnnotationOptions) -> str | None:
    text = answer.rationale or None
    if text is None:
        if options.rationale == "required":
            raise _wrong("rationale", "given", text)
        return None
    if options.rationale == "off":
        raise _wrong("rationale", "left out: this project asks for none", text)
    if len(text.strip()) < options.rationale_min:
        raise _wrong("rationale", f"at least {options.rationale_min} characters long", text)
    return text


def _wrong(field: str, claim: str, value: object) -> AnswerError:
    return AnswerError(f"{field} must be {claim}, got {show_value(value)}. Answer again.")
