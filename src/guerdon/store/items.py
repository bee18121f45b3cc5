"""What the store holds, as objects: an item with its responses, every judgment of it, and its labels.

The responses of an item are in the order of their ids, which carries no meaning. A judgment says in which order they were
shown, and its preference numbers them in that order, as a Comparison does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from guerdon.contracts import Comparison, GuerdonError, Preference, Prompt, Response
from guerdon.io.schema import prompt_to_row, response_to_row
from guerdon.store.canonical import Content, content_id, content_of

__all__ = ["Annotator", "Item", "Judgment", "Label", "comparisons_of", "item_of", "labeled_item_of"]

KINDS: Final = ("human", "llm", "principle", "rule", "reward_model", "simulated", "unknown")
ANONYMOUS: Final = "unknown"
ACCEPTED: Final = "accepted"
ADJUDICATED: Final = "adjudicated"  # the method of a label that a person set, which goes before all others


@dataclass(frozen=True, slots=True)
class Annotator:
    """Who judged. kind: one of KINDS.

    name: None where the data names nobody. fingerprint: a hash of a judge's model and template; None for others.
    """

    kind: str = ANONYMOUS
    name: str | None = None
    fingerprint: str | None = None

    @property
    def id(self) -> str:
        """The hash of all three."""
        return content_id("annotator", self.kind, self.name, self.fingerprint)


@dataclass(frozen=True, slots=True)
class Judgment:
    """One judgment of an item, the last revision of it, and the revisions before it (`earlier`, oldest first).

    shown: the position in the item of each response, in the order shown. preference: numbers responses as shown.
    details: columns of the table that a Comparison has no field for, such as axes, flags or active_ms; absent where empty.
    presentation: the id of the presentation in an annotation interface; None for an imported judgment. call: the row of the
    judge call that it rests on; None for all others.
    """

    annotator: Annotator
    shown: tuple[int, ...]
    preference: Preference
    rationale: str | None = None
    source: str | None = None
    group: str | None = None
    weight: float = 1.0
    comparison_id: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    presentation: str | None = None
    call: Mapping[str, Any] | None = None
    earlier: tuple[Judgment, ...] = ()


@dataclass(frozen=True, slots=True)
class Label:
    """What a method says of an item, given its judgments. preference: numbers responses as the item does."""

    method: str
    params: Mapping[str, Any]
    preference: Preference
    n_votes: int
    n_eff: float | None = None
    entropy: float | None = None
    status: str = ACCEPTED


@dataclass(frozen=True, slots=True)
class Item:
    """A prompt with responses to compare. facts: project, purpose, need, status, priority, ord and selection, if not default.

    contents: of the prompt and then of each response, where they are known already.
    """

    prompt: Prompt
    responses: tuple[Response, ...]
    judgments: tuple[Judgment, ...] = ()
    labels: tuple[Label, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    contents: tuple[Content, ...] = field(default=(), compare=False, repr=False)

    def id(self, contents: Sequence[Content]) -> str:
        """The hash of project, purpose, prompt and responses, given their contents. The order of the responses changes nothing."""
        project, purpose = self.facts.get("project", ""), self.facts.get("purpose", "task")
        prompt, *responses = contents
        return content_id("item", project, purpose, prompt.id, sorted(response.id for response in responses))


def contents_of(prompt: Prompt, responses: Sequence[Response]) -> tuple[Content, ...]:
    """The content of the prompt, byte for byte, and of each response: its id covers the prompt, the author and the ratings."""
    first = content_of("prompt", value=prompt_to_row(prompt))
    rest = (content_of("response", first.id, value=response_to_row(response)) for response in responses)
    return (first, *rest)


# ---- Comparisons in ------------------------------------------------------------------------------------------------


def item_of(comparison: Comparison, kind: str = ANONYMOUS) -> Item:
    """The item of one judgment that the comparison is. kind: of its annotator."""
    item, shown = unjudged_item(comparison.prompt, comparison.responses)
    default = replace(comparison, group="", id="")
    has_group = comparison.group != default.group
    default_id = replace(comparison, id="").id if has_group else default.id
    judgment = Judgment(
        Annotator(kind, comparison.annotator),
        shown,
        comparison.preference,
        rationale=comparison.rationale,
        source=comparison.source,
        group=comparison.group if has_group else None,
        weight=comparison.weight,
        comparison_id=None if comparison.id == default_id else comparison.id,
    )
    return Item(item.prompt, item.responses, (judgment,), contents=item.contents)


def labeled_item_of(comparison: Comparison, method: str) -> Item:
    """The item with the comparison as its label by this method, and without judgments."""
    item, shown = unjudged_item(comparison.prompt, comparison.responses)
    preference = oriented(comparison.preference, shown)
    votes = sum(preference.votes) if preference.votes else 1
    return replace(item, labels=(Label(method, {}, preference, max(1, votes)),))


def unjudged_item(prompt: Prompt, responses: Sequence[Response]) -> tuple[Item, tuple[int, ...]]:
    """The item without judgments, and the position in it of each response as shown."""
    first, *rest = contents_of(prompt, responses)
    order = sorted(range(len(rest)), key=lambda i: rest[i].id)
    item = Item(prompt, tuple(responses[i] for i in order), contents=(first, *(rest[i] for i in order)))
    return item, tuple(order.index(i) for i in range(len(order)))


def oriented(preference: Preference, shown: Sequence[int]) -> Preference:
    """The preference with responses numbered as in the item, each group in rising order."""
    is_swapped = tuple(shown) == (1, 0)
    votes, q, groups = preference.votes, preference.q, preference.groups
    return Preference(
        groups=None if groups is None else tuple(tuple(sorted(shown[i] for i in group)) for group in groups),
        q=None if q is None else complement(q) if is_swapped else q,
        strength=preference.strength,
        votes=(votes[2], votes[1], votes[0]) if votes and is_swapped else votes,
    )


def complement(q: float) -> float:
    """1 - q, the same decimal as somebody who writes the pair the other way round: 0.1 for 0.9, not 0.09999999999999998."""
    return round(1.0 - q, 15)


# ---- Comparisons out -----------------------------------------------------------------------------------------------


def comparisons_of(item: Item, each: bool = False, method: str | None = None) -> Iterator[Comparison]:
    """The item as comparisons: its accepted label, or else its judgments together, or each of them.

    Judgments of more than two responses are always given one by one. An item that holds only labels that are not accepted
    gives nothing. method: whose labels are read; an error where it is None and several methods gave labels. What an adjudicator
    decided goes before them.
    """
    decided = [label for label in item.labels if label.method == ADJUDICATED]
    labels = decided or [label for label in item.labels if method in (None, label.method)]
    if labels and not each:
        yield from _labeled(item, labels)
    elif each or len(item.responses) > 2 or len(item.judgments) == 1:
        for judgment in item.judgments:
            yield _judged(item, judgment)
    elif item.judgments:
        yield _with_preference(item, _together(item.judgments))


def _labeled(item: Item, labels: Sequence[Label]) -> Iterator[Comparison]:
    if len(labels) > 1:
        names = ", ".join(sorted({label.method for label in labels}))
        raise GuerdonError(
            f"labels must be of one method, got {names}. Name one: store:STORE?labels={labels[0].method}."
            if len({label.method for label in labels}) > 1
            else f"labels must be of one set of parameters, got several of {names}. Remove the others."
        )
    if labels[0].status == ACCEPTED:
        yield _with_preference(item, labels[0].preference)


def _judged(item: Item, judgment: Judgment) -> Comparison:
    return Comparison(
        item.prompt,
        tuple(item.responses[i] for i in judgment.shown),
        judgment.preference,
        annotator=judgment.annotator.name,
        source=judgment.source,
        weight=judgment.weight,
        group=judgment.group or "",
        id=judgment.comparison_id or "",
        rationale=judgment.rationale,
    )


def _with_preference(item: Item, preference: Preference) -> Comparison:
    """The item with the group, source and weight that its judgments agree on."""
    groups = sorted({judgment.group or "" for judgment in item.judgments})
    sources = {judgment.source for judgment in item.judgments}
    weights = {judgment.weight for judgment in item.judgments}
    return Comparison(
        item.prompt,
        item.responses,
        preference,
        source=sources.pop() if len(sources) == 1 else None,
        weight=weights.pop() if len(weights) == 1 else 1.0,
        group=groups[0] if groups else "",
    )


def _together(judgments: Sequence[Judgment]) -> Preference:
    """The share of votes for the first response of the item, ties as halves; the counts too, if every judgment has them."""
    counts, total, weight = [0, 0, 0], 0.0, 0
    is_counted = True
    for judgment in judgments:
        preference = oriented(judgment.preference, judgment.shown)
        votes = preference.votes if preference.votes and sum(preference.votes) else _one_vote(preference)
        number = sum(votes) if votes else 1
        total += number * _q(preference)
        weight += number
        is_counted = is_counted and votes is not None
        counts = [count + vote for count, vote in zip(counts, votes or (0, 0, 0), strict=True)]
    if is_counted:
        return Preference(q=(counts[0] + counts[1] / 2) / weight, votes=(counts[0], counts[1], counts[2]))
    return Preference(q=round(total / weight, 15))


def _one_vote(preference: Preference) -> tuple[int, int, int] | None:
    """A preference without counts as one vote; None for a soft label, which is none."""
    q = _q(preference)
    if preference.q is not None and q not in (0.0, 0.5, 1.0):
        return None
    return (1, 0, 0) if q == 1.0 else (0, 0, 1) if q == 0.0 else (0, 1, 0)


def _q(preference: Preference) -> float:
    """P(first is better)."""
    if preference.q is not None:
        return preference.q
    ranks = {i: rank for rank, group in enumerate(preference.groups or ()) for i in group}
    first, second = ranks.get(0, 2), ranks.get(1, 2)
    return 0.5 if first == second else float(first < second)
