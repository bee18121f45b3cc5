"""Faults of preference data, found in one pass that keeps hashes only. An error means: do not train on this.

Lengths are characters. Shares and AUCs take the prompt group as their independent unit.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from guerdon.config import CheckOptions
from guerdon.contracts import (
    Comparison,
    Estimate,
    Finding,
    Message,
    Prompt,
    Quantity,
    Report,
    Response,
    ResponseLike,
    Severity,
    prompt_identity,
    response_identity,
)
from guerdon.data.files import Rejects
from guerdon.formulas.estimation import wilson
from guerdon.models.estimates import percent

if TYPE_CHECKING:
    from guerdon.models.chat import Encoded

__all__ = ["LEAK_LENGTH", "Tokenize", "check"]

Tokenize = Callable[[Prompt, ResponseLike], "Encoded"]

LEAK_LENGTH = 40  # characters; two splits may share a shorter text, such as "I don't know.", by chance
SECTION = "The data"
QUANTITIES: Mapping[str, Quantity] = {
    "preferred_is_longer": Quantity(
        "the preferred response is longer", "share", SECTION, "of comparisons whose lengths differ"
    ),
    "length_auc": Quantity("length predicts the better one", "share", SECTION, "AUC: 50 % is chance"),
    "first_is_preferred": Quantity("the first one is better", "share", SECTION, "of pairs with a winner"),
    "ties": Quantity("ties", "share", SECTION, "comparisons that people call equal"),
    "duplicates": Quantity("duplicates", "share", SECTION, "comparisons that equal an earlier one"),
    "contradicted_pairs": Quantity("contradicted pairs", "share", SECTION, "pairs judged once each way"),
}
MARKS = re.compile(r"\n\n(?:Human|Assistant):|<\|[a-z_]+\|>|\[/?INST\]|<(?:start|end)_of_turn>|</s>")


def check(
    comparisons: Iterable[Comparison],
    options: CheckOptions,
    *,
    against: Mapping[str, Iterable[Comparison]] | None = None,
    tokens: Tokenize | None = None,
    rejects: Rejects | None = None,
) -> Report:
    """A report of findings about the comparisons, and of shares with their intervals.

    against: other splits by name; groups, prompts and responses that they share with these comparisons are leaks.
    tokens: (prompt, response) -> token ids as the model sees them, and whether they were truncated; a response of several
        messages comes as a Response, any other as its text. Without it, comparisons that are too long, and those that
        truncation makes identical, cannot be found, and the report says so.
    rejects: the rows that could not be read; it is complete once the comparisons have been read.
    """
    counts = _Counts()
    for comparison in comparisons:
        _add(comparison, counts, options, tokens)
    others = {name: _fingerprints(split) for name, split in (against or {}).items()}
    findings = [*_reject_findings(counts, rejects), *_fault_findings(counts), *_overall_findings(counts, options)]
    for name, other in others.items():
        findings += _leak_findings(counts.fingerprints, name, other)
    if tokens is None and counts.comparisons:
        findings.append(
            Finding(
                "note", "Not checked: length, and what truncation does", "no tokenizer was given", "Check with a model."
            )
        )
    return Report(
        "Data hygiene",
        about=_facts(counts),
        estimates=_estimates(counts),
        findings=tuple(findings),
        quantities=QUANTITIES,
    )


# ---- One pass ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Fingerprints:
    """Hashes of a split's groups, prompts and long responses."""

    groups: set[int] = field(default_factory=set)
    prompts: set[int] = field(default_factory=set)
    responses: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Counts:
    """What the pass remembers.

    ids: hash of an id -> hash of the first row that has it. pairs: unordered pair -> 1 if it was judged one way, 2 the
    other way, 3 both. fault_ids: the first few locations, or else ids, per fault. first: decided pairs whose first response is preferred.
    length_score: sum over comparisons of the share of pairs in which the longer response is preferred, equal lengths counted
    half. longer: the same without equal lengths.
    """

    comparisons: int = 0
    fingerprints: _Fingerprints = field(default_factory=_Fingerprints)
    rows: set[int] = field(default_factory=set)
    ids: dict[int, int] = field(default_factory=dict)
    pairs: dict[int, int] = field(default_factory=dict)
    prompts: Counter[int] = field(default_factory=Counter)
    fault_ids: dict[str, list[str]] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    ties: int = 0
    first: float = 0.0
    decided_pairs: int = 0
    length_score: float = 0.0
    decided_comparisons: int = 0
    longer: float = 0.0
    unequal_comparisons: int = 0


def _add(comparison: Comparison, counts: _Counts, options: CheckOptions, tokens: Tokenize | None) -> None:
    counts.comparisons += 1
    for fault in _faults(comparison, counts, tokens):
        counts.faults[fault] += 1
        ids = counts.fault_ids.setdefault(fault, [])
        if len(ids) < options.max_examples:
            ids.append(comparison.prompt.location or comparison.id)
    counts.prompts[_add_fingerprints(comparison, counts.fingerprints)] += 1
    _add_lengths(comparison, counts)


def _faults(comparison: Comparison, counts: _Counts, tokens: Tokenize | None) -> Iterator[str]:
    """The faults of this comparison, given those before it."""
    responses = comparison.responses
    if any(response.is_empty for response in responses):
        yield "empty"
    if _contradict_ranks([response_identity(response) for response in responses], comparison.ranks):
        yield "identical"
    if tokens:
        yield from _faults_after_truncation(comparison, tokens)
    if any(MARKS.search(response.text) for response in responses):
        yield "marks"
    row = _row_hash(comparison)
    if row in counts.rows:
        yield "duplicate"
    elif counts.ids.setdefault(_hash(comparison.id), row) != row:
        yield "shared_id"
    counts.rows.add(row)
    if len(responses) == 2 and comparison.q != 0.5:
        before, now = _judge_pair(counts.pairs, comparison)
        if now == 3 and before != 3:
            yield "contradiction"


def _faults_after_truncation(comparison: Comparison, tokens: Tokenize) -> Iterator[str]:
    encoded = [
        tokens(comparison.prompt, response if response.messages else response.text) for response in comparison.responses
    ]
    if any(one.truncated for one in encoded):
        yield "too_long"
    identities = [response_identity(response) for response in comparison.responses]
    if not _contradict_ranks(identities, comparison.ranks):
        if _contradict_ranks([tuple(one.ids) for one in encoded], comparison.ranks):
            yield "truncated"


def _contradict_ranks(contents: Sequence[object], ranks: Sequence[int]) -> bool:
    """Whether all responses are the same, or two that are the same have different ranks."""
    rank_of: dict[object, int] = {}
    for content, rank in zip(contents, ranks, strict=True):
        if rank_of.setdefault(content, rank) != rank:
            return True
    return len(rank_of) == 1


def _judge_pair(pairs: dict[int, int], comparison: Comparison) -> tuple[int, int]:
    """The judgments of this unordered pair (bits 1 and 2) before this comparison, and with it."""
    first, second = (str(response_identity(response)) for response in comparison.responses)
    key = _hash(prompt_identity(comparison.prompt), *sorted((first, second)))
    before = pairs.get(key, 0)
    first_is_preferred = (comparison.q or 0.0) > 0.5
    pairs[key] = before | (1 if first_is_preferred == (first < second) else 2)
    return before, pairs[key]


def _add_lengths(comparison: Comparison, counts: _Counts) -> None:
    pairs = list(_decided_pairs(comparison))
    if not pairs:
        counts.ties += 1
        return
    lengths = [len(response.text) for response in comparison.responses]
    scores = [(lengths[better] > lengths[worse]) + (lengths[better] == lengths[worse]) / 2 for better, worse in pairs]
    unequal = [score for score in scores if score != 0.5]
    counts.decided_comparisons += 1
    counts.length_score += sum(scores) / len(scores)
    counts.unequal_comparisons += bool(unequal)
    counts.longer += sum(unequal) / len(unequal) if unequal else 0.0
    if len(lengths) == 2:
        counts.decided_pairs += 1
        counts.first += pairs[0][0] == 0


def _decided_pairs(comparison: Comparison) -> Iterator[tuple[int, int]]:
    """The indices (better, worse) of each pair of responses that is not a tie."""
    k = len(comparison.responses)
    ranks = [rank if rank >= 0 else k for rank in comparison.ranks]  # unranked responses are below all ranked ones
    yield from ((i, j) for i in range(k) for j in range(k) if ranks[i] < ranks[j])


# ---- Hashes ------------------------------------------------------------------------------------------------------


def _fingerprints(comparisons: Iterable[Comparison]) -> _Fingerprints:
    fingerprints = _Fingerprints()
    for comparison in comparisons:
        _add_fingerprints(comparison, fingerprints)
    return fingerprints


def _add_fingerprints(comparison: Comparison, fingerprints: _Fingerprints) -> int:
    """Add the comparison to the fingerprints; returns the prompt's."""
    tools = map(_normalize, comparison.prompt.tools)
    prompt = _hash(*(part for message in comparison.prompt for part in _parts(message)), *tools)
    fingerprints.groups.add(_hash(comparison.group))
    fingerprints.prompts.add(prompt)
    for response in comparison.responses:
        content = _normalized_content(response)
        if len(content) >= LEAK_LENGTH:
            fingerprints.responses.add(_hash(content))
    return prompt


def _normalized_content(response: Response) -> str:
    if not response.messages:
        return _normalize(response.text)
    return "\0".join(part for message in response.messages for part in _parts(message))


def _parts(message: Message) -> Iterator[str]:
    """Role and content of a message, names and arguments of its calls; ids of calls are random and left out."""
    yield _normalize(message.role)
    yield _normalize(message.content)
    for call in message.tool_calls:
        yield _normalize(call.name)
        yield _normalize(call.arguments)


def _row_hash(comparison: Comparison) -> int:
    """Equal for a comparison with its responses in another order; different for another preference or annotator."""
    identities = (str(response_identity(response)) for response in comparison.responses)
    judged = sorted(zip(identities, comparison.ranks, strict=True))
    q = comparison.preference.q
    certainty = None if q is None else abs(q - 0.5)
    return _hash(prompt_identity(comparison.prompt), judged, certainty, comparison.annotator)


def _normalize(text: str) -> str:
    """The text without differences of case, width and spacing."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _hash(*parts: object) -> int:
    """8 bytes: among ten million texts two collide with probability 3 in a million."""
    body = "\0".join(str(part).replace("\0", "\0\0") for part in parts)
    return int.from_bytes(hashlib.blake2b(body.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


# ---- Findings ----------------------------------------------------------------------------------------------------

FAULTS: Mapping[str, tuple[Severity, str, str, str]] = {
    "identical": (
        "error",
        "Identical responses",
        "have identical responses with different ranks, or no others",
        "Drop them: nothing can be learned from them.",
    ),
    "truncated": (
        "error",
        "Identical after truncation",
        "have responses that the model cannot tell apart after truncation",
        "Raise max_length, or drop them: they add noise.",
    ),
    "too_long": (
        "warning",
        "Longer than the model reads",
        "have a response that is longer, with its prompt, than the model's max_length",
        "Training and scoring refuse them: raise model.max_length, or set model.truncation=drop or left.",
    ),
    "empty": (
        "error",
        "Empty responses",
        "have a response without text",
        "Drop them, or find out where the text went.",
    ),
    "duplicate": (
        "warning",
        "Exact duplicates",
        "repeat an earlier one (prompt, responses, preference, annotator)",
        "Drop the repetitions; if they are votes, name the annotators.",
    ),
    "shared_id": (
        "warning",
        "Ids that are shared",
        "have the id of an earlier comparison that is not the same",
        "Give each comparison an id of its own, or leave ids out: scores are matched by id.",
    ),
    "contradiction": (
        "note",
        "Contradictions",
        "are pairs that were also judged the other way round",
        "Merge each pair into one soft label q: people disagree.",
    ),
    "marks": (
        "warning",
        "Role marks inside responses",
        "have chat marks, such as a Human turn or a special token, in the text of a response",
        "Check whether responses were split in the wrong place.",
    ),
}


def _reject_findings(counts: _Counts, rejects: Rejects | None) -> Iterator[Finding]:
    if rejects and rejects.count:
        evidence = (
            f"{rejects.count:,} of {counts.comparisons + rejects.count:,} rows; the first is {rejects.first_reason}"
        )
        yield Finding("error", "Rows that cannot be used", evidence, "`guerdon import` writes each with its reason.")


def _fault_findings(counts: _Counts) -> Iterator[Finding]:
    for fault, (severity, title, claim, remedy) in FAULTS.items():
        if num := counts.faults[fault]:
            ids = ", ".join(counts.fault_ids[fault])
            evidence = f"{num:,} of {counts.comparisons:,} comparisons {claim}{': ' + ids if ids else ''}"
            yield Finding(severity, title, evidence, remedy)


def _overall_findings(counts: _Counts, options: CheckOptions) -> Iterator[Finding]:
    """Findings about the data as a whole."""
    total = f"{counts.comparisons:,}"
    if not counts.comparisons:
        yield Finding("error", "No comparisons", "there is nothing to check", "Check how the file was made.")
        return
    if counts.ties == counts.comparisons:
        yield Finding("error", "All ties", f"none of {total} comparisons prefers a response", "Collect preferences.")
    if len(counts.prompts) == 1 and counts.comparisons > 1:
        evidence = f"all {total} comparisons have the same prompt"
        yield Finding("warning", "One prompt", evidence, "A model learns nothing about other prompts from these.")
    repeated = sum(num for num in counts.prompts.values() if num > 1)
    if repeated and len(counts.prompts) > 1:
        evidence = f"{repeated:,} of {total} comparisons share a prompt with another ({len(counts.prompts):,} prompts)"
        yield Finding("note", "Prompts that repeat", evidence, "Split by group, as split does; intervals count groups.")
    yield from _length_findings(counts, options)


def _length_findings(counts: _Counts, options: CheckOptions) -> Iterator[Finding]:
    auc = _share(counts.length_score, counts.decided_comparisons, counts)
    if not counts.decided_comparisons or max(auc.value, 1 - auc.value) <= options.length_auc_warn:
        return
    word = "longer" if auc.value > 0.5 else "shorter"
    if word == "shorter":
        auc = Estimate(1 - auc.value, 1 - auc.high, 1 - auc.low, auc.n)
    evidence = (
        f"length alone predicts the preference with AUC {percent(auc)}; 50 % is balanced, "
        f"{100 * options.length_auc_warn:g} % warns"
    )
    remedy = "Audit for length bias, and balance lengths in what is collected next."
    yield Finding("warning", f"The {word} response is preferred", evidence, remedy)


def _leak_findings(ours: _Fingerprints, name: str, other: _Fingerprints) -> Iterator[Finding]:
    remedy = f"Split again by group, or drop them from {name}: data to train on must not be audited on."
    shared = len(ours.groups & other.groups)
    if shared:
        evidence = f"{shared:,} of {len(ours.groups):,} groups are in both"
        yield Finding("error", f"Groups leak into {name}", evidence, remedy)
    shared = len(ours.prompts & other.prompts)
    if shared:
        # With several groups per prompt, the prompt is an instruction that all share by design ("rate this text").
        by_design = len(ours.groups) > 2 * len(ours.prompts)
        evidence = f"{shared:,} of {len(ours.prompts):,} prompts are in both, ignoring case and spacing"
        yield Finding("warning" if by_design else "error", f"Prompts leak into {name}", evidence, remedy)
    shared = len(ours.responses & other.responses)
    if shared:
        evidence = (
            f"{shared:,} of {len(ours.responses):,} responses of {LEAK_LENGTH} characters or more are in both, "
            "ignoring case and spacing"
        )
        yield Finding("error", f"Responses leak into {name}", evidence, remedy)


def _facts(counts: _Counts) -> dict[str, str]:
    return {
        "comparisons": f"{counts.comparisons:,}",
        "groups": f"{len(counts.fingerprints.groups):,}",
        "prompts": f"{len(counts.prompts):,}",
    }


def _estimates(counts: _Counts) -> dict[str, Estimate]:
    """Shares of what their names say; a share of nothing is left out."""
    judged = Counter(bits == 3 for bits in counts.pairs.values())
    shares = {
        "preferred_is_longer": (counts.longer, counts.unequal_comparisons),
        "length_auc": (counts.length_score, counts.decided_comparisons),
        "first_is_preferred": (counts.first, counts.decided_pairs),
        "ties": (counts.ties, counts.comparisons),
        "duplicates": (counts.faults["duplicate"], counts.comparisons),
        "contradicted_pairs": (judged[True], judged.total()),
    }
    return {name: _share(cases, n, counts) for name, (cases, n) in shares.items() if n}


def _share(cases: float, n: int, counts: _Counts) -> Estimate:
    """cases / n, with the interval of as many trials as there are groups: comparisons of a group are not independent."""
    if not n:
        return Estimate(float("nan"), 0.0, 1.0, 0)
    units = min(n, len(counts.fingerprints.groups))
    return Estimate(*wilson(cases / n * units, units))
