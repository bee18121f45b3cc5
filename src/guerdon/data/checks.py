"""What is wrong with these comparisons, in one pass that keeps hashes only. Severity error means: do not train on this.

Lengths are characters. Shares and AUCs take the prompt group as their independent unit.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from guerdon.config import CheckOptions
from guerdon.contracts import Comparison, Estimate, Finding, Prompt, Quantity, Report, Severity
from guerdon.formulas.estimation import wilson

__all__ = ["LEAK_LENGTH", "Tokens", "check"]

Tokens = Callable[[Prompt, str], Sequence[int]]

LEAK_LENGTH = 40  # characters from which a text that two splits share is no coincidence; "Yes." and "I don't know." are
MARKS = re.compile(r"\n\n(?:Human|Assistant):|<\|[a-z_]+\|>|\[/?INST\]|<(?:start|end)_of_turn>|</s>")

QUANTITIES: Mapping[str, Quantity] = {
    "preferred_is_longer": Quantity(
        "preferred is longer", "share", "Comparisons", "of pairs with a winner and two lengths"
    ),
    "length_auc": Quantity("length AUC", "share", "Comparisons", "how often length alone names the preferred response"),
    "first_is_preferred": Quantity("first is preferred", "share", "Comparisons", "of pairs with a winner"),
    "ties": Quantity("ties", "share", "Comparisons", "of comparisons"),
    "duplicates": Quantity("duplicates", "share", "Comparisons", "of comparisons"),
    "contradicted_pairs": Quantity("contradicted pairs", "share", "Comparisons", "of pairs that were judged"),
}


def check(
    comparisons: Iterable[Comparison],
    options: CheckOptions,
    *,
    against: Mapping[str, Iterable[Comparison]] | None = None,
    tokens: Tokens | None = None,
) -> Report:
    """Comparisons in, a Report of findings and of shares with their intervals out.

    against: other splits by name; groups, prompts and responses that they share with these comparisons are leaks.
    tokens: (prompt, response text) -> token ids as the model would see them, cut and all; without it nobody can say
        which comparisons the cut makes identical, and the report says so.
    """
    seen = _Seen()
    for comparison in comparisons:
        _look(comparison, seen, options, tokens)
    others = {name: _fingerprints(split) for name, split in (against or {}).items()}
    findings = [*_row_findings(seen), *_whole_findings(seen, options)]
    for name, other in others.items():
        findings += _leaks(seen, name, other)
    if tokens is None and seen.count:
        findings.append(
            Finding("note", "Not checked: identical after truncation", "no tokenizer was given", "Check with a model.")
        )
    return Report(
        "Data hygiene", about=_about(seen), estimates=_estimates(seen), findings=tuple(findings), quantities=QUANTITIES
    )


# ---- One pass ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Prints:
    """Hashes of a split's groups, prompts and responses (the long ones), beside what to call them."""

    groups: set[int] = field(default_factory=set)
    prompts: set[int] = field(default_factory=set)
    responses: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Seen:
    """Everything that the pass remembers."""

    count: int = 0
    prints: _Prints = field(default_factory=_Prints)
    rows: set[int] = field(default_factory=set)  # whole comparisons
    pairs: dict[int, int] = field(default_factory=dict)  # unordered pair -> 1 one way, 2 the other way, 3 both
    prompts: Counter[int] = field(default_factory=Counter)
    faults: dict[str, list[str]] = field(default_factory=dict)  # kind -> ids, the first few
    fault_counts: Counter[str] = field(default_factory=Counter)
    ties: int = 0
    first: float = 0.0  # decided pairs whose first response won
    pairs_decided: int = 0
    length_won: float = (
        0.0  # sum over comparisons of the share of pairs that "longer wins" gets right, equal counts half
    )
    length_rows: int = 0  # comparisons with a decided pair
    longer: float = 0.0  # as length_won, equal lengths left out
    longer_rows: int = 0


def _look(comparison: Comparison, seen: _Seen, options: CheckOptions, tokens: Tokens | None) -> None:
    seen.count += 1
    for kind in _faults(comparison, seen, tokens):
        seen.fault_counts[kind] += 1
        named = seen.faults.setdefault(kind, [])
        if len(named) < options.max_examples:
            named.append(comparison.id)
    seen.prompts[_fingerprint(comparison, seen.prints)] += 1
    _measure(comparison, seen)


def _faults(comparison: Comparison, seen: _Seen, tokens: Tokens | None) -> Iterator[str]:
    """Kinds of what is wrong with this comparison, given those before it."""
    texts = [response.text for response in comparison.responses]
    if any(not text.strip() for text in texts):
        yield "empty"
    if _judged_apart(texts, comparison.ranks):
        yield "identical"
    elif tokens and _judged_apart([tuple(tokens(comparison.prompt, text)) for text in texts], comparison.ranks):
        yield "truncated"
    if any(MARKS.search(text) for text in texts):
        yield "marks"
    row = _row_print(comparison)
    if row in seen.rows:
        yield "duplicate"
    seen.rows.add(row)
    if len(texts) == 2 and comparison.q != 0.5:
        before, now = _judge_pair(seen.pairs, comparison)
        if now == 3 and before != 3:
            yield "contradiction"


def _judged_apart(texts: Sequence[object], ranks: Sequence[int]) -> bool:
    """Whether nothing tells the responses apart, or two that are the same have different ranks."""
    rank_of: dict[object, int] = {}
    for text, rank in zip(texts, ranks, strict=True):
        if rank_of.setdefault(text, rank) != rank:
            return True
    return len(rank_of) == 1


def _judge_pair(pairs: dict[int, int], comparison: Comparison) -> tuple[int, int]:
    """How this unordered pair had been judged before, and with this verdict (bits 1 and 2)."""
    first, second = (response.text for response in comparison.responses)
    key = _hash(_prompt_print(comparison.prompt, exact=True), *sorted((first, second)))
    before = pairs.get(key, 0)
    first_won = (comparison.q or 0.0) > 0.5
    pairs[key] = before | (1 if first_won == (first < second) else 2)
    return before, pairs[key]


def _measure(comparison: Comparison, seen: _Seen) -> None:
    """Add this comparison to the counts behind the estimates."""
    pairs = list(_decided(comparison))
    seen.ties += not pairs
    if not pairs:
        return
    lengths = [len(response.text) for response in comparison.responses]
    won = [(lengths[b] > lengths[w]) + (lengths[b] == lengths[w]) / 2 for b, w in pairs]
    unequal = [x for x in won if x != 0.5]
    seen.length_rows += 1
    seen.length_won += sum(won) / len(won)
    seen.longer_rows += bool(unequal)
    seen.longer += sum(unequal) / len(unequal) if unequal else 0.0
    if len(lengths) == 2:
        seen.pairs_decided += 1
        seen.first += pairs[0][0] == 0


def _decided(comparison: Comparison) -> Iterator[tuple[int, int]]:
    """(better, worse) numbers of each pair of responses that is not a tie."""
    k = len(comparison.responses)
    place = [rank if rank >= 0 else k for rank in comparison.ranks]  # unranked stand below all
    yield from ((i, j) for i in range(k) for j in range(k) if place[i] < place[j])


# ---- Hashes ------------------------------------------------------------------------------------------------------


def _fingerprints(comparisons: Iterable[Comparison]) -> _Prints:
    prints = _Prints()
    for comparison in comparisons:
        _fingerprint(comparison, prints)
    return prints


def _fingerprint(comparison: Comparison, prints: _Prints) -> int:
    """Add the comparison to the prints; returns the prompt's."""
    prompt = _prompt_print(comparison.prompt)
    prints.groups.add(_hash(comparison.group))
    prints.prompts.add(prompt)
    for response in comparison.responses:
        body = _normal(response.text)
        if len(body) >= LEAK_LENGTH:
            prints.responses.add(_hash(body))
    return prompt


def _prompt_print(prompt: Prompt, exact: bool = False) -> int:
    return _hash(*(part if exact else _normal(part) for m in prompt for part in (m.role, m.content)))


def _row_print(comparison: Comparison) -> int:
    """The same for a comparison with its responses in another order, other for another verdict or annotator."""
    v = comparison.preference
    judged = sorted((r.text, rank) for r, rank in zip(comparison.responses, comparison.ranks, strict=True))
    strength = None if v.q is None else abs(v.q - 0.5)
    prompt = _prompt_print(comparison.prompt, exact=True)
    return _hash(prompt, *(part for pair in judged for part in pair), strength, comparison.annotator)


def _normal(text: str) -> str:
    """One text for all that differ in case, width or spacing only."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _hash(*parts: object) -> int:
    """8 bytes: among ten million texts two collide with a chance of 3 in a million."""
    body = "\0".join(str(part).replace("\0", "\0\0") for part in parts)
    return int.from_bytes(hashlib.blake2b(body.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


# ---- What is said ------------------------------------------------------------------------------------------------

FAULTS: Mapping[str, tuple[Severity, str, str, str]] = {
    "identical": (
        "error",
        "Identical responses",
        "hold responses that are the same text and yet are judged apart, or nothing else",
        "Drop them: there is nothing to learn.",
    ),
    "truncated": (
        "error",
        "Identical after truncation",
        "hold responses that the model cannot tell apart once they are cut",
        "Raise max_length, or drop them: they train on noise.",
    ),
    "empty": ("error", "Empty responses", "hold a response without text", "Drop them, or find what lost the text."),
    "duplicate": (
        "warning",
        "Exact duplicates",
        "repeat an earlier one (prompt, responses, verdict, annotator)",
        "Drop the repetitions; where they are votes, name the annotators.",
    ),
    "contradiction": (
        "note",
        "Contradictions",
        "are pairs that had been judged the other way round",
        "Merge each to one soft label q: people disagree.",
    ),
    "marks": (
        "warning",
        "Role marks inside responses",
        "hold chat marks such as a Human turn or a special token in the text of a response",
        "See whether responses were cut in the wrong place.",
    ),
}


def _row_findings(seen: _Seen) -> Iterator[Finding]:
    for kind, (severity, title, words, remedy) in FAULTS.items():
        count = seen.fault_counts[kind]
        if count:
            ids = ", ".join(seen.faults[kind])
            evidence = f"{count:,} of {seen.count:,} comparisons {words}{': ' + ids if ids else ''}"
            yield Finding(severity, title, evidence, remedy)


def _whole_findings(seen: _Seen, options: CheckOptions) -> Iterator[Finding]:
    """What only the data as a whole show."""
    if not seen.count:
        yield Finding("error", "No comparisons", "there is nothing to check", "Check how the file was made.")
        return
    if seen.ties == seen.count:
        yield Finding("error", "All ties", f"none of {seen.count:,} comparisons prefers a response", "Ask again.")
    if len(seen.prompts) == 1 and seen.count > 1:
        evidence = f"all {seen.count:,} comparisons have the same prompt"
        yield Finding("warning", "One prompt", evidence, "A model learns nothing about other prompts from these.")
    repeated = sum(count for count in seen.prompts.values() if count > 1)
    if repeated and len(seen.prompts) > 1:
        evidence = (
            f"{repeated:,} of {seen.count:,} comparisons share a prompt with another ({len(seen.prompts):,} prompts)"
        )
        yield Finding("note", "Prompts that repeat", evidence, "Split by group, as split does; intervals count groups.")
    yield from _length_findings(seen, options)


def _length_findings(seen: _Seen, options: CheckOptions) -> Iterator[Finding]:
    auc = _share(seen.length_won, seen.length_rows, seen)
    if not seen.length_rows or max(auc.value, 1 - auc.value) <= options.length_auc_warn:
        return
    word = "longer" if auc.value > 0.5 else "shorter"
    if word == "shorter":
        auc = Estimate(1 - auc.value, 1 - auc.high, 1 - auc.low, auc.n)
    evidence = f"length alone predicts the verdict with AUC {auc}; 0.5 is balanced, {options.length_auc_warn:g} warns"
    remedy = "Audit for length bias, and balance lengths in what is collected next."
    yield Finding("warning", f"The {word} response is preferred", evidence, remedy)


def _leaks(seen: _Seen, name: str, other: _Prints) -> Iterator[Finding]:
    ours = seen.prints
    remedy = f"Split again by group, or drop them from {name}: what was trained on cannot be audited on."
    shared = len(ours.groups & other.groups)
    if shared:
        yield Finding(
            "error", f"Groups leak into {name}", f"{shared:,} of {len(ours.groups):,} groups are in both", remedy
        )
    shared = len(ours.prompts & other.prompts)
    if shared:
        # With several groups to a prompt the prompt is an instruction that all share by design (rate this text).
        by_design = len(ours.groups) > 2 * len(ours.prompts)
        evidence = f"{shared:,} of {len(ours.prompts):,} prompts are in both, apart from case and spacing"
        yield Finding("warning" if by_design else "error", f"Prompts leak into {name}", evidence, remedy)
    shared = len(ours.responses & other.responses)
    if shared:
        evidence = (
            f"{shared:,} of {len(ours.responses):,} responses of {LEAK_LENGTH} characters or more are in both, "
            "apart from case and spacing"
        )
        yield Finding("error", f"Responses leak into {name}", evidence, remedy)


def _about(seen: _Seen) -> dict[str, str]:
    return {
        "comparisons": f"{seen.count:,}",
        "groups": f"{len(seen.prints.groups):,}",
        "prompts": f"{len(seen.prompts):,}",
    }


def _estimates(seen: _Seen) -> dict[str, Estimate]:
    """Shares, each among what its name says; an estimate without a single case is left out."""
    judged = Counter(bits == 3 for bits in seen.pairs.values())
    shares = {
        "preferred_is_longer": (seen.longer, seen.longer_rows),
        "length_auc": (seen.length_won, seen.length_rows),
        "first_is_preferred": (seen.first, seen.pairs_decided),
        "ties": (seen.ties, seen.count),
        "duplicates": (seen.fault_counts["duplicate"], seen.count),
        "contradicted_pairs": (judged[True], judged.total()),
    }
    return {name: _share(cases, n, seen) for name, (cases, n) in shares.items() if n}


def _share(cases: float, n: int, seen: _Seen) -> Estimate:
    """cases / n, with the interval of as many trials as there are groups: rows of a group are not independent."""
    if not n:
        return Estimate(float("nan"), 0.0, 1.0, 0)
    units = min(n, len(seen.prints.groups))
    return Estimate(*wilson(cases / n * units, units))
