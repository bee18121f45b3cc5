"""Comparisons in; what they are, what is wrong with them, and which of them to read out. They are read twice and not kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from guerdon.config import CheckOptions, InspectOptions
from guerdon.contracts import Comparison, Report
from guerdon.data.checks import CHECKS, Tokenize, examine
from guerdon.data.checks.contract import Data
from guerdon.data.inspection.distributions import Distributions
from guerdon.data.inspection.examples import Repetitions, example_of
from guerdon.data.inspection.sample import RowSample, findings_of, rows_by_number
from guerdon.data.private import mask_comparison
from guerdon.errors import counted

if TYPE_CHECKING:
    from guerdon.data.files import Rejects

__all__ = ["Inspection", "inspect"]

CITED: Final = 8  # rows that a finding names, so that they can be read
MAX_FORMATS: Final = 5  # files whose format is shown


@dataclass(frozen=True, slots=True)
class Inspection:
    """A report with findings, figures and texts to read, and a sample of comparisons with the findings that name each."""

    report: Report
    sample: Sequence[tuple[Comparison, Sequence[str]]]


def inspect(
    comparisons: Iterable[Comparison],
    options: InspectOptions,
    checks: CheckOptions,
    *,
    formats: Sequence[str] = (),
    tokens: Tokenize | None = None,
    rejects: Rejects | None = None,
) -> Inspection:
    """Look at the comparisons once, and a second time for the rows that findings name.

    comparisons: can be iterated twice, such as a list. formats: what each file was taken for, complete once they have been
    read. tokens and rejects: as in `check`.
    """
    data = Data(checks.model_copy(update={"max_examples": max(CITED, checks.max_examples)}), tokens, rejects)
    distributions, repetitions = Distributions(data), Repetitions(data)
    sample = RowSample(options.sample, options.seed)

    def sampled() -> Iterable[Comparison]:
        for number, comparison in enumerate(comparisons):
            sample.add(number, comparison)
            yield comparison

    report = examine(sampled(), data, [*(make(data) for make in CHECKS), distributions, repetitions])
    cited = {
        finding.title: data.cited[finding.evidence] for finding in report.findings if finding.evidence in data.cited
    }
    others = repetitions.of(number for numbers in cited.values() for number in numbers)
    numbers = [*others, *(number for same in others.values() for number in same)]
    rows = {number: mask_comparison(row) for number, row in rows_by_number(comparisons, numbers).items()}
    findings = tuple(
        replace(
            finding,
            examples=tuple(
                example_of(number, others[number], rows) for number in cited.get(finding.title, ()) if number in rows
            ),
        )
        for finding in report.findings
    )
    titles = findings_of(cited)
    browsable = {
        **{number: rows[number] for number in titles if number in rows},
        **{number: rows.get(number) or mask_comparison(row) for number, row in sample.rows.items()},
    }
    return Inspection(
        replace(
            report,
            title="Preference data",
            summary=_summary(data, distributions),
            about=_facts(data, distributions, sample, formats),
            findings=findings,
        ),
        tuple((comparison, titles.get(number, ())) for number, comparison in browsable.items()),
    )


def _summary(data: Data, distributions: Distributions) -> str:
    prompts = len(data.prompts[0])
    judges = len(distributions.annotators)
    by = f" by {counted(judges, 'annotator')}" if judges else ""
    return f"{counted(data.rows, 'comparison')} of responses to {counted(prompts, 'prompt')}{by}"


def _facts(data: Data, distributions: Distributions, sample: RowSample, formats: Sequence[str]) -> dict[str, str]:
    counts = {
        "comparisons": data.rows,
        "rows set aside": data.rejects.count,
        "prompts": len(data.prompts[0]),
        "groups": len(data.groups),
        "different responses": distributions.num_different_responses,
        "sources": len(distributions.sources),
        "annotators": len(distributions.annotators),
        "models": len(distributions.models),
    }
    drawn = f"{len(sample.rows):,} of {data.rows:,} comparisons, seed {sample.seed}"
    read = {"format": "; ".join(line.replace("format: ", "") for line in formats[:MAX_FORMATS])} if formats else {}
    return {**{name: f"{count:,}" for name, count in counts.items() if count}, **read, "sample": drawn}
