"""Faults of preference data, found in one pass that keeps hashes only. An error means: do not train on this.

Lengths are characters. Shares and AUCs take the prompt group as their independent unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from guerdon.config import CheckOptions
from guerdon.contracts import Comparison, Prompt, Report
from guerdon.data.checks.balance import Length, Position, Ties
from guerdon.data.checks.contaminated import Contaminated
from guerdon.data.checks.contract import Check, Data, Row, Tokenize
from guerdon.data.checks.cycles import Cycles
from guerdon.data.checks.languages import Languages
from guerdon.data.checks.leakage import Leakage
from guerdon.data.checks.leaks import LEAK_LENGTH, Leaks
from guerdon.data.checks.licenses import Licenses
from guerdon.data.checks.model_names import ModelNames
from guerdon.data.checks.near_prompts import NearPrompts
from guerdon.data.checks.overall import Prompts, Unusable
from guerdon.data.checks.privacy import Privacy
from guerdon.data.checks.ratings import DefaultRatings, Reasons
from guerdon.data.checks.repeats import Repeats
from guerdon.data.checks.shortcuts import Shortcuts
from guerdon.data.checks.structure import Structure
from guerdon.data.checks.texts import Texts
from guerdon.data.checks.truncation import Truncation
from guerdon.data.files import Rejects

__all__ = ["CHECKS", "LEAK_LENGTH", "Tokenize", "check", "examine"]

CHECKS: tuple[type[Check], ...] = (  # in the order of the report
    Unusable,
    Structure,
    Texts,
    Languages,
    Privacy,
    Leakage,
    Truncation,
    Repeats,
    Cycles,
    Reasons,
    DefaultRatings,
    Ties,
    Prompts,
    Length,
    Position,
    Shortcuts,
    ModelNames,
    Licenses,
    Leaks,
    NearPrompts,
    Contaminated,
)


def check(
    comparisons: Iterable[Comparison],
    options: CheckOptions,
    *,
    against: Mapping[str, Iterable[Comparison]] | None = None,
    evaluations: Mapping[str, Sequence[Prompt]] | None = None,
    tokens: Tokenize | None = None,
    rejects: Rejects | None = None,
) -> Report:
    """A report of findings about the comparisons, and of shares with their intervals.

    against: other splits by name; groups, prompts and responses that they share with these comparisons are leaks.
    evaluations: prompts of evaluation sets by name; comparisons that have one, or most of its words, are contaminated.
    tokens: (prompt, response) -> token ids as the model sees them, and whether they were truncated; a response of several
        messages comes as a Response, any other as its text. Without it, comparisons that are too long, and those that
        truncation makes identical, cannot be found, and the report says so.
    rejects: the rows that could not be read; it is complete once the comparisons have been read.
    """
    data = Data(options, tokens, rejects, tuple(against or ()), evaluations)
    return examine(comparisons, data, [make(data) for make in CHECKS], against=against)


def examine(
    comparisons: Iterable[Comparison],
    data: Data,
    checks: Sequence[Check],
    *,
    against: Mapping[str, Iterable[Comparison]] | None = None,
) -> Report:
    """The report of these checks, which must be about `data`; see `check`."""
    for comparison in comparisons:
        row = data.read(comparison)
        for each in checks:
            each.add(row)
    for name, part in (against or {}).items():
        for number, comparison in enumerate(part):
            row = Row(number, comparison)
            for each in checks:
                each.add_other(name, row)
    return Report(
        "Data hygiene",
        about={
            "comparisons": f"{data.rows:,}",
            "groups": f"{len(data.groups):,}",
            "prompts": f"{len(data.prompts[0]):,}",
        },
        estimates={name: estimate for each in checks for name, estimate in each.estimates().items()},
        findings=tuple(finding for each in checks for finding in each.findings()),
        curves={name: curve for each in checks for name, curve in each.curves().items()},
        quantities={name: quantity for each in checks for name, quantity in each.quantities.items()},
    )
