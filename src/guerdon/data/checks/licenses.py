"""Licenses of the sources that rows name, as far as they are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from guerdon.contracts import Finding
from guerdon.data.checks.contract import Check, Data, Row
from guerdon.errors import counted, show_value, verb

__all__ = ["LICENSES", "Licenses"]

# As stated in the repository or on the data card of each source. The text of a source need not be licensed as its labels are.
LICENSES: Final[Mapping[str, str]] = {
    "hh-rlhf": "MIT",
    "ultrafeedback": "MIT",
    "helpsteer": "CC-BY-4.0",
    "llmbar": "MIT",
    "pandalm": "Apache-2.0",
    "oasst": "Apache-2.0",
    "gsm8k": "MIT",
    "grade-school-math": "MIT",
    "xstest": "CC-BY-4.0",
    "truthfulqa": "Apache-2.0",
    "alpaca_eval": "CC-BY-NC-4.0",
    "alpacaeval": "CC-BY-NC-4.0",
    "alpaca": "CC-BY-NC-4.0",
    "pku-saferlhf": "CC-BY-NC-4.0",
    "beavertails": "CC-BY-NC-4.0",
    "dolly": "CC-BY-SA-3.0",
    "stackexchange": "CC-BY-SA-4.0",
    "stack-exchange": "CC-BY-SA-4.0",
}
MOST_SOURCES: Final = 1000  # a column of distinct values is no source


class Licenses(Check):
    """Sources with licenses that forbid commercial use, or that bind what is made from them, mixed with others."""

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self._sources: Counter[str] = Counter()

    def add(self, row: Row) -> None:
        """Count the row's source."""
        source = row.comparison.source or ""
        if source in self._sources or len(self._sources) < MOST_SOURCES:
            self._sources[source] += 1

    def findings(self) -> Iterator[Finding]:
        """A warning for terms that differ from the rest; a note for sources of unknown license."""
        licenses = {source: _license(source) for source in self._sources if source}
        restricted = {
            source: terms for source, terms in licenses.items() if terms and ("-NC" in terms or "-SA" in terms)
        }
        if restricted and len(set(licenses.values())) > 1:
            names = ", ".join(f"{show_value(source, 60)} ({terms})" for source, terms in list(restricted.items())[:5])
            count = sum(self._sources[source] for source in restricted)
            evidence = (
                f"{count:,} of {counted(self.data.rows, 'comparison')} {verb(count, 'are')} from "
                f"{names}; others have other terms, or none known"
            )
            remedy = "Train on them only if their terms fit what the model is for."
            yield Finding("warning", "Licenses that differ", evidence, remedy)
        unknown = [source for source, terms in licenses.items() if terms is None]
        if unknown:
            names = ", ".join(show_value(source, 60) for source in unknown[:5])
            evidence = f"no license is known for {len(unknown):,} of {len(licenses):,} sources: {names}"
            yield Finding("note", "Not checked: licenses", evidence, "Look them up before you publish a model.")


def _license(source: str) -> str | None:
    """The license of a source whose name holds a known one; NC_ in front of it means non-commercial."""
    name = source.lower().replace(" ", "-")
    if name.startswith("nc_"):
        return "CC-BY-NC-4.0"
    return next((terms for known, terms in LICENSES.items() if known in name), None)
