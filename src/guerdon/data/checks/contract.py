"""What a check is: it sees each comparison once, keeps numbers and hashes, and then reports findings and estimates.

To add one: a subclass of Check in a file of its own, and its line in CHECKS of `checks/__init__.py`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from guerdon.config import CheckOptions
from guerdon.contracts import (
    Comparison,
    Curve,
    Estimate,
    Finding,
    Prompt,
    Quantity,
    ResponseLike,
    Severity,
    prompt_identity,
    response_identity,
)
from guerdon.data.files import Rejects
from guerdon.data.hashes import hash_parts, normalize, normalized_prompt, normalized_response
from guerdon.errors import counted, verb
from guerdon.formulas.estimation import wilson

if TYPE_CHECKING:
    from guerdon.models.chat import Encoded

__all__ = ["SECTION", "Check", "Data", "Fault", "Row", "RowCheck", "Tokenize"]

Tokenize = Callable[[Prompt, ResponseLike], "Encoded"]
SECTION: Final = "The data"
_SEVERITIES: Final = ("error", "warning", "note")


class Row:
    """A comparison, its number among those checked, and what several checks compute of it, computed once."""

    def __init__(self, number: int, comparison: Comparison) -> None:
        self.number = number
        self.comparison = comparison

    @cached_property
    def ranks(self) -> tuple[int, ...]:
        """Rank of each response, see Comparison."""
        return self.comparison.ranks

    @cached_property
    def identities(self) -> list[object]:
        """What identifies each response; equal for responses that are the same."""
        return [response_identity(response) for response in self.comparison.responses]

    @cached_property
    def responses(self) -> list[int]:
        """Hash of each response as it is."""
        return [hash_parts(identity) for identity in self.identities]

    @cached_property
    def turns(self) -> list[str]:
        """The content of each turn of the prompt, ignoring case, width and spacing."""
        return [normalize(message.content) for message in self.comparison.prompt]

    @cached_property
    def prompt(self) -> int:
        """Hash of the prompt, its tools included, ignoring case, width and spacing."""
        return hash_parts(*normalized_prompt(self.comparison.prompt, self.turns))

    @cached_property
    def group(self) -> int:
        """Hash of the group."""
        return hash_parts(self.comparison.group)

    @cached_property
    def exact_prompt(self) -> int:
        """Hash of the prompt as it is."""
        return hash_parts(prompt_identity(self.comparison.prompt))

    @cached_property
    def normalized(self) -> list[str]:
        """Each response, ignoring case, width and spacing."""
        return [normalized_response(response) for response in self.comparison.responses]

    @cached_property
    def lengths(self) -> list[int]:
        """Characters of each response."""
        return [len(response.text) for response in self.comparison.responses]

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """The indices (better, worse) of each pair of responses that is not a tie."""
        k = len(self.comparison.responses)
        ranks = [rank if rank >= 0 else k for rank in self.ranks]  # unranked are below all ranked ones
        if k == 2:
            return [(0, 1)] if ranks[0] < ranks[1] else [(1, 0)] if ranks[1] < ranks[0] else []
        return [(i, j) for i in range(k) for j in range(k) if ranks[i] < ranks[j]]


class Data:
    """What is being checked: the options, what the caller gave along, and facts that every check may use at the end."""

    def __init__(
        self,
        options: CheckOptions,
        tokens: Tokenize | None = None,
        rejects: Rejects | None = None,
        parts: Sequence[str] = (),
        evaluations: Mapping[str, Sequence[Prompt]] | None = None,
    ) -> None:
        self.options = options
        self.parts = tuple(parts)  # names of the other parts
        self.evaluations = dict(evaluations or {})  # prompts that must not be trained on, by name
        self.tokens = tokens
        self.rejects = rejects or Rejects()
        self.rows = 0
        self.cited: dict[str, list[int]] = {}  # evidence of a finding -> the rows that it names
        self._groups = array("Q")
        self._prompts = array("Q")
        self._locations = _Locations()

    def read(self, comparison: Comparison) -> Row:
        """The next row."""
        row = Row(self.rows, comparison)
        self.rows += 1
        self._groups.append(row.group)
        self._prompts.append(row.prompt)
        self._locations.add(comparison.prompt.location or comparison.id)
        return row

    @cached_property
    def groups(self) -> np.ndarray:
        """The distinct group hashes, sorted; once all rows are read."""
        return np.unique(np.frombuffer(self._groups, np.uint64))

    @cached_property
    def prompts(self) -> tuple[np.ndarray, np.ndarray]:
        """The distinct prompt hashes, sorted, and how many comparisons have each; once all rows are read."""
        values, counts = np.unique(np.frombuffer(self._prompts, np.uint64), return_counts=True)
        return values, counts

    def share(self, cases: float, n: int) -> Estimate:
        """cases / n, with the interval of as many trials as there are groups: comparisons of a group are not independent."""
        if not n:
            return Estimate(float("nan"), 0.0, 1.0, 0)
        units = min(n, len(self.groups))
        return Estimate(*wilson(cases / n * units, units))

    def evidence(self, count: int, claim: str, numbers: Sequence[int]) -> str:
        """Such as "2 of 4,424 comparisons have an empty response: hh.jsonl:7, hh.jsonl:9"."""
        plural, _, rest = claim.partition(" ")
        return self.cite(f"{count:,} of {counted(self.rows, 'comparison')} {verb(count, plural)} {rest}", numbers)

    def cite(self, claim: str, numbers: Sequence[int]) -> str:
        """The claim with the locations of the first of these rows, which an inspection shows."""
        shown = numbers[: self.options.max_examples]
        examples = ", ".join(map(self._locations.__getitem__, shown))
        evidence = f"{claim}: {examples}" if examples else claim
        self.cited[evidence] = list(shown)
        return evidence


class Check(ABC):
    """One fault or one family of faults. A subclass is final."""

    quantities: ClassVar[Mapping[str, Quantity]] = {}  # how to read its estimates

    def __init__(self, data: Data) -> None:
        self.data = data
        self.options = data.options

    @abstractmethod
    def add(self, row: Row) -> None:
        """See one comparison. Keep numbers, hashes or a bounded sample: the data may not fit into memory."""

    def add_other(self, part: str, row: Row) -> None:  # noqa: B027 - most checks look at one part only
        """See a comparison of another part, which must share nothing with those checked. All of them come after the rows."""

    def findings(self) -> Iterable[Finding]:
        """What is wrong; called once, after all rows."""
        return ()

    def drops(self) -> Mapping[str, Sequence[int]]:
        """The numbers of the rows that `check --fix` drops so that the errors are gone, by the title of the finding."""
        return {}

    def estimates(self) -> Mapping[str, Estimate]:
        """Shares and other numbers, by the names in `quantities`; called once, after all rows."""
        return {}

    def curves(self) -> Mapping[str, Curve]:
        """Figures; called once, after all rows."""
        return {}


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that single comparisons have: "2 of 9 comparisons {claim}", and what to do."""

    severity: Severity
    title: str
    claim: str
    remedy: str


class RowCheck(Check):
    """A check of single comparisons: each fault that any of them has is a finding. A subclass is final."""

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self._rows: dict[Fault, array[int]] = {}

    @abstractmethod
    def faults(self, row: Row) -> Iterator[Fault]:
        """The faults of a comparison, each at most once."""

    def add(self, row: Row) -> None:
        """Count the comparison under each of its faults."""
        for fault in self.faults(row):
            self._rows.setdefault(fault, array("Q")).append(row.number)

    def findings(self) -> Iterator[Finding]:
        """One finding for each fault, errors first."""
        for fault in sorted(self._rows, key=lambda fault: (_SEVERITIES.index(fault.severity), fault.title)):
            rows = self._rows[fault]
            evidence = self.data.evidence(len(rows), fault.claim, rows)
            yield Finding(fault.severity, fault.title, evidence, fault.remedy)

    def drops(self) -> Mapping[str, Sequence[int]]:
        """The comparisons with an error."""
        return {fault.title: rows for fault, rows in self._rows.items() if fault.severity == "error"}


class _Locations:
    """Locations of rows, such as pairs.jsonl:12, in a few bytes each: what comes before the number is kept once."""

    def __init__(self) -> None:
        self._prefixes: dict[str, int] = {}
        self._prefix = array("I")
        self._number = array("Q")

    def add(self, location: str) -> None:
        match = re.search(r"(?<![\w.])(?:0|[1-9][0-9]{0,17})$", location, re.ASCII)
        prefix, number = (location[: match.start()], int(match[0]) + 1) if match else (location, 0)
        self._prefix.append(self._prefixes.setdefault(prefix, len(self._prefixes)))
        self._number.append(number)

    def __getitem__(self, number: int) -> str:
        prefix = list(self._prefixes)[self._prefix[number]]
        return f"{prefix}{self._number[number] - 1}" if self._number[number] else prefix
