"""Data as a whole: rows that cannot be used, no comparisons at all, a single prompt, prompts that repeat."""

from __future__ import annotations

from collections.abc import Iterator

from guerdon.contracts import Finding
from guerdon.data.checks.contract import Check, Row
from guerdon.errors import counted

__all__ = ["Prompts", "Unusable"]


class Unusable(Check):
    """Rows that no importer could read, and data without a comparison."""

    def add(self, row: Row) -> None:
        """Nothing: the rows are counted by who reads them."""

    def findings(self) -> Iterator[Finding]:
        """Errors."""
        rejects, rows = self.data.rejects, self.data.rows
        if rejects.count:
            evidence = f"{rejects.count:,} of {rows + rejects.count:,} rows; the first is {rejects.first_reason}"
            yield Finding(
                "error", "Rows that cannot be used", evidence, "`guerdon import` writes each with its reason."
            )
        if not rows:
            yield Finding("error", "No comparisons", "there is nothing to check", "Check how the file was made.")


class Prompts(Check):
    """How many prompts there are, and how many comparisons share one."""

    def add(self, row: Row) -> None:
        """Nothing: the data count prompts."""

    def findings(self) -> Iterator[Finding]:
        """A single prompt is a warning; prompts that repeat are worth a note."""
        (prompts, counts), total = self.data.prompts, f"{self.data.rows:,}"
        if len(prompts) == 1 and self.data.rows > 1:
            evidence = f"all {total} comparisons have the same prompt"
            yield Finding("warning", "One prompt", evidence, "A model learns nothing about other prompts from these.")
        repeated = int(counts[counts > 1].sum())
        if repeated and len(prompts) > 1:
            evidence = (
                f"{repeated:,} of {total} comparisons share a prompt with another ({counted(len(prompts), 'prompt')})"
            )
            remedy = "Split by group, as split does; intervals count groups."
            yield Finding("note", "Prompts that repeat", evidence, remedy)
