"""A reward model or a judge and comparisons in, a report out: how often it is right, how it fails, how far to trust it.

Every part is a function that returns a Report with a title. The model is asked for each text once, whatever the number of
parts that want its score; what is remembered, a part's report or a score, is not measured again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from guerdon.auditing.gate import decide
from guerdon.auditing.measures.accuracy import measure_accuracy
from guerdon.auditing.measures.agreement import measure_agreement
from guerdon.auditing.measures.calibration import measure_calibration
from guerdon.auditing.measures.cues import measure_cues
from guerdon.auditing.measures.domains import measure_domains
from guerdon.auditing.measures.ensemble import measure_ensemble
from guerdon.auditing.measures.length import measure_length
from guerdon.auditing.measures.mistakes import worst_mistakes
from guerdon.auditing.measures.position_bias import measure_position_bias
from guerdon.auditing.measures.relevance import measure_relevance
from guerdon.auditing.measures.style import measure_style
from guerdon.auditing.measures.uncertainty import measure_uncertainty
from guerdon.auditing.score_cache import (
    Recorded,
    RecordedJudge,
    Remembered,
    RememberedJudge,
    Score,
)
from guerdon.contracts import (
    Finding,
    GuerdonError,
    Report,
    RewardModel,
    digest_all,
)
from guerdon.io.fields import did_you_mean
from guerdon.models.hygiene import hygiene_gate
from guerdon.models.scored_pairs import ScoredPairs, score_comparisons

if TYPE_CHECKING:
    from guerdon.config import AuditOptions
    from guerdon.contracts import (
        Comparison,
        Hygiene,
        Judge,
        Prompt,
        Response,
    )

__all__ = ["PARTS", "Memory", "Part", "Recorded", "RecordedJudge", "Subject", "audit", "hygiene_gate", "hygiene_rows"]

Watch = Callable[[str, int, int | None], None]


@dataclass(frozen=True, slots=True)
class Subject:
    """What the parts look at. model: as it was given. asked: the same, asked for each text once."""

    model: RewardModel | Judge
    asked: RewardModel | Judge
    comparisons: Sequence[Comparison]
    pairs: ScoredPairs

    @property
    def rewards(self) -> RewardModel:
        """The model, for a part that is asked of reward models only."""
        assert isinstance(self.asked, RewardModel)
        return self.asked

    @property
    def judge(self) -> Judge:
        """The model, for a part that is asked of judges only."""
        assert not isinstance(self.asked, RewardModel)
        return self.asked


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the audit.

    of: "rewards", "judges", or both. new: it has texts scored that are not in the data, which a file of scores cannot.
    core: its numbers stand in the report itself, not in a section.
    """

    title: str
    measure: Callable[[Subject, AuditOptions], Report]
    of: tuple[str, ...] = ("rewards", "judges")
    new: bool = False
    core: bool = False


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known before, and gets what is found: scores by a hash of the text, reports of finished parts by name."""

    scores: MutableMapping[str, Score] = field(default_factory=dict)
    parts: MutableMapping[str, Report] = field(default_factory=dict)


PARTS: Mapping[str, Part] = {
    "accuracy": Part("Accuracy", lambda s, o: _accuracy(s, o), core=True),
    "people": Part("People", lambda s, o: measure_agreement(s.pairs, o), core=True),
    "odds": Part("Odds", lambda s, o: measure_calibration(s.pairs, o), core=True),
    "order": Part(
        "Order", lambda s, o: measure_position_bias(s.judge, s.comparisons, s.pairs, o), ("judges",), True, core=True
    ),
    "mistakes": Part("Mistakes", lambda s, o: _mistakes(s, o), core=True),
    "length": Part("Length", lambda s, o: measure_length(s.pairs, o)),
    "cues": Part("Cues and substance", lambda s, o: measure_cues(s.rewards, s.comparisons, o), ("rewards",), new=True),
    "grid": Part(
        "Style and substance", lambda s, o: measure_style(s.rewards, s.comparisons, o), ("rewards",), new=True
    ),
    "relevance": Part("Relevance", lambda s, o: measure_relevance(s.rewards, s.comparisons, o), ("rewards",), new=True),
    "uncertainty": Part("Uncertainty", lambda s, o: measure_uncertainty(s.asked, s.comparisons, s.pairs, o)),
    "domains": Part("Domains", lambda s, o: measure_domains(s.pairs, o)),
    "ensemble": Part("Ensemble", lambda s, o: measure_ensemble(s.asked, s.comparisons, s.pairs, o), ("rewards",)),
}


def audit(
    model: RewardModel | Judge,
    comparisons: Sequence[Comparison],
    options: AuditOptions,
    *,
    hygiene: tuple[Finding, ...] | None = None,
    about: Mapping[str, str] | None = None,
    beside: Sequence[Report] = (),
    memory: Memory | None = None,
    watch: Watch = lambda part, done, total: None,
) -> Report:
    """What is known of the model after these comparisons, which nothing else has seen, and the gate's decision.

    `hygiene` holds the findings of a gate already passed; None runs `hygiene_gate` here, on a few responses of the
    comparisons. A finding of severity "error" stops the audit: the report then holds the gate's findings and no number.
    `beside` are reports made elsewhere (of an optimization, say) that become sections and count for the decision.
    `watch(part, done, total)` hears of comparisons scored at first ("scores"), then of new texts that a part had scored.
    """
    if not comparisons:
        raise GuerdonError("audit: no comparisons; remedy: give at least one")
    parts = dict(_chosen(model, options))
    from_file = isinstance(model, Recorded | RecordedJudge)
    checked = isinstance(model, RewardModel) and not from_file
    if hygiene is None:
        hygiene = (_NOT_CHECKED,) if from_file else ()
        if checked:
            hygiene = hygiene_gate(model, *hygiene_rows(comparisons, options.hygiene_rows), options)  # type: ignore[arg-type]
    facts = {**(about or {}), "comparisons": str(len(comparisons))}
    if any(finding.severity == "error" for finding in hygiene):
        return _with_gate(Report("Audit", facts, findings=hygiene), "refused")

    found, missing = _measure(model, comparisons, options, parts, memory or Memory(), watch)
    core = [found[name] for name, part in parts.items() if part.core and name in found]
    facts |= {
        **{key: value for part in core for key, value in part.about.items()},
        "comparisons hash": digest_all(comparison.id for comparison in comparisons),
        "intervals": f"95 %, {options.draws} bootstrap draws by group, seed {options.seed}",
    }
    others = [found[name] for name, part in parts.items() if not part.core and name in found and _says(found[name])]
    return _with_gate(
        Report(
            "Audit",
            facts,
            {name: estimate for part in core for name, estimate in part.estimates.items()},
            (*hygiene, *(finding for part in core for finding in part.findings), *missing),
            {name: curve for part in core for name, curve in part.curves.items()},
            tuple(example for part in core for example in part.examples),
            (*others, *beside),
            quantities={key: quantity for part in core for key, quantity in part.quantities.items()},
        ),
        "passed" if checked else "not checked",
    )


def hygiene_rows(comparisons: Sequence[Comparison], num_rows: int) -> tuple[list[Prompt], list[Response]]:
    """Prompts and responses for the gate: first, second, first, ... of comparisons spread evenly over the data."""
    step = max(1, len(comparisons) // num_rows)
    chosen = comparisons[::step][:num_rows]
    if len(chosen) < num_rows:
        every = [(c.prompt, response) for c in chosen for response in c.responses][:num_rows]
    else:
        every = [(c.prompt, c.responses[i % 2]) for i, c in enumerate(chosen)]
    return [prompt for prompt, _ in every], [response for _, response in every]


_NOT_CHECKED = Finding(
    "note",
    "Whether scores depend on the rest of the batch is not known",
    "they come from a file, and only the model itself can be asked again",
    "Audit the model itself once; then its score files can be trusted.",
)


def _chosen(model: RewardModel | Judge, options: AuditOptions) -> Iterator[tuple[str, Part]]:
    """The parts that the options ask for and the model can be asked for, in order."""
    for name in (*options.only, *options.skip):
        if name not in PARTS:
            raise GuerdonError(f"audit: no part is called {name!r}. {did_you_mean(name, PARTS)}")
    kind = "rewards" if isinstance(model, RewardModel) else "judges"
    for name, part in PARTS.items():
        if kind in part.of and name not in options.skip and (not options.only or name in options.only):
            yield name, part


def _measure(
    model: RewardModel | Judge,
    comparisons: Sequence[Comparison],
    options: AuditOptions,
    parts: Mapping[str, Part],
    memory: Memory,
    watch: Watch,
) -> tuple[dict[str, Report], list[Finding]]:
    """The report of each part, and a note for each that lacked its data; those are tried again next time."""
    found = {name: memory.parts[name] for name in parts if name in memory.parts}
    missing: list[Finding] = []
    if len(found) == len(parts):
        return found, missing
    counted = _Counted(watch)
    asked: RewardModel | Judge
    if isinstance(model, RewardModel):
        asked = Remembered(model, memory.scores, counted)
    else:
        asked = RememberedJudge(model, memory.scores, counted)
    pairs = score_comparisons(asked, comparisons, progress=lambda done, total: watch("scores", done, total))
    if len(pairs) == 0:
        raise GuerdonError("audit: no comparable pair; remedy: give preferences that rank at least two responses")
    subject = Subject(model, asked, comparisons, pairs)
    for name, part in parts.items():
        if name in found:
            continue
        if part.new and isinstance(model, Recorded | RecordedJudge):
            missing.append(_not_measured(part.title, "needs scores of new texts; remedy: give the model itself"))
            continue
        counted.begin(name)
        try:
            report = part.measure(subject, options)
        except GuerdonError as error:
            missing.append(_not_measured(part.title, str(error)))
        else:
            found[name] = memory.parts[name] = report
    return found, missing


class _Counted:
    """Tells the watcher how many new texts the part at hand had scored."""

    def __init__(self, watch: Watch) -> None:
        self.watch, self.part, self.num = watch, "", 0

    def begin(self, part: str) -> None:
        """Another part has its turn."""
        self.part, self.num = part, 0
        self.watch(part, 0, None)

    def __call__(self, num: int) -> None:
        self.num += num
        if self.part:  # before the first part, the comparisons themselves are counted
            self.watch(self.part, self.num, None)


def _not_measured(title: str, why: str) -> Finding:
    reason, _, remedy = why.partition("; remedy: ")
    return Finding("note", f"{title}: not measured", reason, f"{remedy[:1].upper()}{remedy[1:]}." if remedy else "")


def _says(report: Report) -> bool:
    """Whether there is anything in it: a part that does not apply to a model has nothing to say."""
    return any((report.estimates, report.findings, report.curves, report.examples, report.sections))


def _with_gate(report: Report, hygiene: Hygiene) -> Report:
    return replace(report, gate=decide(report, hygiene))


def _accuracy(subject: Subject, options: AuditOptions) -> Report:
    """With how many pairs there are; whether a text was cut is known only of a reward model that reads it here."""
    report, pairs = measure_accuracy(subject.pairs, options), subject.pairs
    estimates = dict(report.estimates)
    if isinstance(subject.model, Recorded) or not isinstance(subject.model, RewardModel):
        del estimates["truncated"]
    return replace(report, about={"pairs": str(len(pairs)), "groups": str(pairs.num_groups)}, estimates=estimates)


def _mistakes(subject: Subject, options: AuditOptions) -> Report:
    return Report("Mistakes", examples=worst_mistakes(subject.comparisons, subject.pairs, options.worst))
