"""What is wrong with a rubric before anyone is asked: duplicates, criteria that cannot be checked, and weights that do nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import combinations

from guerdon.contracts import Finding
from guerdon.models.judges.rubric.rubrics import Criterion, Rubric

__all__ = ["lint_rubric", "say_the_same"]

NEAR = 0.85  # similarity of two criteria that say the same
MOST_WORDS = 60  # of a criterion that a judge keeps in mind
MOST_LINTED = 200  # prompts with criteria of their own whose texts are compared

VAGUE = re.compile(
    r"\b(good|great|nice|high[- ]quality|excellent|best|better|appropriate(ly)?|adequate(ly)?|proper(ly)?|suitable|effective(ly)?"
    r"|reasonabl[ey]|as needed|where possible|etc)\b",
    re.IGNORECASE,
)
COMPARES = re.compile(
    r"\b(better|worse|more \w+|less \w+|longer|shorter) than\b|\b(other|first|second) response\b", re.IGNORECASE
)
COMPOUND = re.compile(r"\b(and|as well as)\b|;", re.IGNORECASE)
ALTERNATIVE = re.compile(r"\b(and/or|either)\b", re.IGNORECASE)
LENGTH = re.compile(r"\b(longer|shorter|longest|shortest|lengthy|detailed)\b", re.IGNORECASE)
NEGATED = re.compile(r"\b(does not|doesn't|do not|is not|isn't|never|avoids?|without|no)\b", re.IGNORECASE)
UNSEEN = re.compile(
    r"\b(users? (will|would) (like|be|feel)|satisf(y|ies|ied) the user|intend(s|ed)?|sincere(ly)?|thinks?|believes?)\b",
    re.IGNORECASE,
)


def lint_rubric(rubric: Rubric) -> list[Finding]:
    """The findings, errors first."""
    criteria = [criterion for _, criterion in rubric.all_criteria()]
    findings = [*_lint_weights(rubric), *_lint_duplicates(rubric)]
    for where, criterion in rubric.all_criteria():
        findings += _lint_text(criterion, criterion.id if where.startswith("criteria") else f"{where} ({criterion.id})")
    if not rubric.license:
        findings.append(
            Finding(
                "note",
                "The rubric has no license",
                f"{len(criteria)} criteria.",
                "Name one, such as CC0-1.0, or do not share it.",
            )
        )
    order = {"error": 0, "warning": 1, "note": 2}
    return sorted(findings, key=lambda finding: order[finding.severity])


def _lint_weights(rubric: Rubric) -> Iterator[Finding]:
    groups = [("The rubric", rubric.criteria)] if rubric.criteria else []
    groups += [(f"prompts[{j}]", [*rubric.criteria, *each.criteria]) for j, each in enumerate(rubric.prompts)]
    for name, criteria in groups:
        if all(criterion.weight <= 0 for criterion in criteria):
            yield Finding(
                "error",
                f"{name} has faults only",
                "No weight is above 0: the best response is one that says nothing.",
                "Add what a good response does.",
            )
        weights = {criterion.weight for criterion in criteria}
        if len(criteria) > 2 and weights == {1.0}:
            yield Finding(
                "note",
                f"All criteria of {name[:1].lower()}{name[1:]} weigh the same",
                f"{len(criteria)} weights of 1.",
                "Give weights, or let `guerdon rubric draft` fit them.",
            )
        total = sum(abs(criterion.weight) for criterion in criteria)
        for criterion in criteria:
            if len(criteria) > 1 and abs(criterion.weight) > 0.5 * total:
                yield Finding(
                    "note",
                    f"{criterion.id} outweighs all others of {name[:1].lower()}{name[1:]}",
                    f"{abs(criterion.weight):g} of {total:g}.",
                    "A policy that games it games the rubric.",
                )
    for where, criterion in rubric.all_criteria():
        if criterion.weight == 0 and not criterion.required:
            yield Finding(
                "warning", f"{criterion.id} has no effect", f"{where}: weight 0, and not required.", "Give it a weight."
            )


def _lint_duplicates(rubric: Rubric) -> Iterator[Finding]:
    groups: list[Sequence[Criterion]] = [rubric.criteria]
    groups += [[*each.criteria] for each in rubric.prompts[:MOST_LINTED]]
    for criteria in groups:
        for one, other in combinations(criteria, 2):
            if likeness := say_the_same(one.text, other.text):
                yield Finding(
                    "warning",
                    f"{one.id} and {other.id} say the same",
                    f"Their texts are {likeness:.0%} alike.",
                    "Join them, or say how they differ: what they say counts twice.",
                )


def say_the_same(one: str, other: str) -> float:
    """How alike two texts are where they say the same; 0 where they do not."""
    a, b = (" ".join(re.findall(r"\w+", text.lower())) for text in (one, other))
    if a == b:
        return 1.0
    if _is_negated(one) != _is_negated(other):
        return 0.0  # "cites a source" and "does not cite a source" differ by little and say the opposite
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    if matcher.quick_ratio() < NEAR or (ratio := matcher.ratio()) < NEAR:
        return 0.0
    return ratio


def _is_negated(text: str) -> bool:
    return NEGATED.search(text) is not None


def _lint_text(criterion: Criterion, name: str) -> Iterator[Finding]:
    text, shown = criterion.text, f"{criterion.text!r:.200}"
    if COMPARES.search(text):
        yield Finding(
            "error",
            f"{name} compares responses",
            shown,
            "A judge sees one response at a time: say what that one must do.",
        )
    if (match := UNSEEN.search(text)) is not None:
        yield Finding(
            "warning",
            f"{name} asks for what a response does not show",
            f"{match[0]!r} in {shown}",
            "Say what is in the text.",
        )
    if (match := VAGUE.search(text)) is not None and not COMPARES.search(text):
        yield Finding(
            "warning",
            f"{name} cannot be checked as it is",
            f"{match[0]!r} in {shown}",
            "Say what to look for, so that two readers would agree.",
        )
    if COMPOUND.search(text) or ALTERNATIVE.search(text):
        yield Finding(
            "note",
            f"{name} asks for several things",
            shown,
            "Make each a criterion of its own, so that each is judged.",
        )
    if LENGTH.search(text) and not COMPARES.search(text):
        yield Finding(
            "note",
            f"{name} speaks of length",
            shown,
            "Length is the commonest spurious cue; leave it out unless you want it.",
        )
    if len(text.split()) > MOST_WORDS:
        yield Finding(
            "note", f"{name} is long", f"{len(text.split())} words.", "Split it, or cut it to what is checked."
        )
    if criterion.weight < 0 and NEGATED.search(text):
        yield Finding(
            "warning",
            f"{name} is a fault with a negation",
            f"weight {criterion.weight:g}, {shown}",
            "Check the sign: a response that meets it gets less.",
        )
