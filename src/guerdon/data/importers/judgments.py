"""Several judgments of one pair, as rows with individual votes hold them: read together or each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from guerdon.contracts import Comparison, Preference, Prompt, Response, digest, prompt_identity, response_identity
from guerdon.data.importers.columns import Row, to_comparison
from guerdon.data.importers.reading import Reading
from guerdon.io.fields import as_name, is_absent

__all__ = ["Judgment", "judged"]

OUTCOMES = (((0,), (1,)), ((0, 1),), ((1,), (0,)))  # first better, tie, second better
REPEATED = "judgments by an annotator who judged the pair before, which together count as one person's"
REASONS_LOST = "judgments whose reason is not kept, because they were read together; --judgments each keeps it"


@dataclass(frozen=True, slots=True)
class Judgment:
    """One annotator's judgment of two responses: groups, best first, with an optional strength; and why."""

    preference: Preference
    annotator: str | None = None
    rationale: str | None = None


def judged(
    row: Row,
    prompt: Prompt,
    responses: tuple[Response, ...],
    judgments: Sequence[Judgment],
    reading: Reading,
    strength: float | None = None,
) -> Comparison | tuple[Comparison, ...]:
    """At least one judgment of the responses in; one Comparison out, or one per judgment with --judgments each.

    Together, q is the share of those for the first, a tie counted half, with `strength` and the counts as votes; a single
    judgment keeps its annotator and its rationale. What a named annotator says again is no other vote: several are the one
    that most of them are for, or a tie. Each keeps its annotator, strength and rationale, and has the row's id
    with its number behind it. Rankings of more than two responses have no share, so they are never read together.
    """
    if reading.options.judgments == "each" or len(responses) > 2:
        return _one_by_one(row, prompt, responses, judgments)
    people = _one_per_annotator(judgments, reading)
    counts = Counter(judgment.preference.groups for judgment in people)
    first, tie, second = (counts[groups] for groups in OUTCOMES)
    preference = Preference(q=(first + tie / 2) / len(people), votes=(first, tie, second), strength=strength)
    if len(people) == 1:
        return to_comparison(_with_names(row, people[0]), prompt, responses, preference)
    for judgment in people:
        if judgment.rationale:
            reading.note(REASONS_LOST)
    return to_comparison(row, prompt, responses, preference)


def _one_per_annotator(judgments: Sequence[Judgment], reading: Reading) -> list[Judgment]:
    """The judgments, those of each named annotator as one, in the place of the first of them."""
    people: dict[object, list[Judgment]] = {}
    for number, judgment in enumerate(judgments):
        people.setdefault(number if judgment.annotator is None else judgment.annotator, []).append(judgment)
    return [given[0] if len(given) == 1 else _joined(given, reading) for given in people.values()]


def _joined(given: Sequence[Judgment], reading: Reading) -> Judgment:
    """What one annotator says of one pair several times: what most of it says, or a tie; with a reason if it is always the same."""
    lead = sum(1 - OUTCOMES.index(judgment.preference.groups) for judgment in given)
    groups = OUTCOMES[1 - (lead > 0) + (lead < 0)]
    reasons = {judgment.rationale for judgment in given}
    for judgment in given[1:]:
        reading.note(REPEATED)
        if judgment.rationale and len(reasons) > 1:
            reading.note(REASONS_LOST)
    return Judgment(Preference(groups=groups), given[0].annotator, reasons.pop() if len(reasons) == 1 else None)


def _one_by_one(
    row: Row, prompt: Prompt, responses: tuple[Response, ...], judgments: Sequence[Judgment]
) -> tuple[Comparison, ...]:
    """A comparison per judgment, with ids that tell equal judgments of one row apart, and those of another row of the pair."""
    named = [_with_names(row, judgment) for judgment in judgments]
    if len(judgments) > 1:
        texts = [response_identity(response) for response in responses]
        given = [(j.preference.groups, j.preference.strength, j.annotator, j.rationale) for j in judgments]
        name = row["id"] if not is_absent(row.get("id")) else digest([prompt_identity(prompt), texts, given])
        named = [{**each, "id": f"{as_name(name, 'id')}/{i}"} for i, each in enumerate(named, start=1)]
    pairs = zip(named, judgments, strict=True)
    return tuple(to_comparison(each, prompt, responses, judgment.preference) for each, judgment in pairs)


def _with_names(row: Row, judgment: Judgment) -> Row:
    """The row with the annotator and the rationale of the judgment, where it has them and the row has none."""
    given = {"annotator": judgment.annotator, "rationale": judgment.rationale}
    return {**row, **{key: value for key, value in given.items() if value is not None and is_absent(row.get(key))}}
