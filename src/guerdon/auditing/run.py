"""The audit: parts that each measure one thing, put together in one report with the gate's decision.

A part is a function that returns a Report. The model scores each text once, however many parts need its score, and neither a
cached score nor a cached part is measured again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from guerdon.auditing.gate import decide
from guerdon.auditing.measures import (
    accuracy,
    agreement,
    calibration,
    cues,
    domains,
    ensemble,
    injection,
    length,
    mistakes,
    position_bias,
    relevance,
    style,
    uncertainty,
    unresolved,
)
from guerdon.auditing.recorded_scores import RecordedJudge, RecordedRewardModel
from guerdon.auditing.score_cache import CachedJudge, CachedRewardModel, Score
from guerdon.contracts import Finding, GuerdonError, Report, RewardModel, digest_all
from guerdon.errors import claim_and_advice, did_you_mean
from guerdon.models.estimates import describe_intervals
from guerdon.models.hygiene import hygiene_gate
from guerdon.models.scored_pairs import ScoredPairs, score_comparisons

if TYPE_CHECKING:
    from guerdon.config import AuditOptions
    from guerdon.contracts import Comparison, Hygiene, Judge, Prompt, Response

__all__ = ["PARTS", "AuditCache", "AuditInput", "AuditPart", "audit", "hygiene_rows"]

PartProgress = Callable[[str, int, int | None], None]
"""Called with the part's name, how many are done, and of how many; None where the total is unknown."""


@dataclass(frozen=True, slots=True)
class AuditInput:
    """What a part measures: the model, which scores each text once; the comparisons; and their pairs, already scored.

    all_pairs: those without a verdict too. is_recorded: the scores come from a file, so nothing else can be scored.
    """

    model: RewardModel | Judge
    comparisons: Sequence[Comparison]
    pairs: ScoredPairs
    all_pairs: ScoredPairs
    is_recorded: bool = False

    @property
    def reward_model(self) -> RewardModel:
        """The model, in a part for reward models only."""
        assert isinstance(self.model, RewardModel)
        return self.model

    @property
    def judge(self) -> CachedJudge:
        """The model, in a part for judges only."""
        assert isinstance(self.model, CachedJudge)
        return self.model


@dataclass(frozen=True, slots=True)
class AuditPart:
    """One part of the audit.

    kinds: the kinds of model that it is for. scores_new_texts: it needs scores of texts that are not in the data, which a
    file of scores does not have. is_core: its results go into the report itself, not into a section.
    """

    title: str
    measure: Callable[[AuditInput, AuditOptions], Report]
    kinds: tuple[str, ...] = ("reward model", "judge")
    scores_new_texts: bool = False
    is_core: bool = False


@dataclass(frozen=True, slots=True)
class AuditCache:
    """Scores by a hash of the text and reports of finished parts by name: read before anything is measured, then extended."""

    scores: MutableMapping[str, Score] = field(default_factory=dict)
    parts: MutableMapping[str, Report] = field(default_factory=dict)


_REWARD_MODEL, _JUDGE = ("reward model",), ("judge",)

PARTS: Mapping[str, AuditPart] = {
    "accuracy": AuditPart(accuracy.TITLE, lambda i, o: _accuracy(i, o), is_core=True),
    "people": AuditPart(agreement.TITLE, lambda i, o: agreement.measure_agreement(i.pairs, o), is_core=True),
    "odds": AuditPart(calibration.TITLE, lambda i, o: _odds(i, o), is_core=True),
    "unresolved": AuditPart(
        unresolved.TITLE,
        lambda i, o: unresolved.measure_unresolved(i.all_pairs, i.comparisons, o.seed),
        _JUDGE,
        is_core=True,
    ),
    "order": AuditPart(
        position_bias.TITLE,
        lambda i, o: position_bias.measure_position_bias(i.judge, i.comparisons, i.pairs),
        _JUDGE,
        True,
        is_core=True,
    ),
    "mistakes": AuditPart("Mistakes", lambda i, o: _mistakes(i, o), is_core=True),
    "length": AuditPart(length.TITLE, lambda i, o: length.measure_length(i.pairs, o)),
    "cues": AuditPart(cues.TITLE, lambda i, o: cues.measure_cues(i.model, i.comparisons, o), scores_new_texts=True),
    "grid": AuditPart(
        style.TITLE, lambda i, o: style.measure_style(i.reward_model, i.comparisons, o), _REWARD_MODEL, True
    ),
    "relevance": AuditPart(
        relevance.TITLE, lambda i, o: relevance.measure_relevance(i.reward_model, i.comparisons, o), _REWARD_MODEL, True
    ),
    "injections": AuditPart(
        injection.TITLE, lambda i, o: injection.measure_injections(i.judge, i.comparisons, o), _JUDGE, True
    ),
    "uncertainty": AuditPart(
        uncertainty.TITLE, lambda i, o: uncertainty.measure_uncertainty(i.model, i.comparisons, i.pairs, o)
    ),
    "domains": AuditPart(domains.TITLE, lambda i, o: domains.measure_domains(i.pairs, o)),
    "ensemble": AuditPart(
        ensemble.TITLE, lambda i, o: ensemble.measure_ensemble(i.model, i.comparisons, i.pairs, o), _REWARD_MODEL
    ),
}
"""By the name that `audit.only` and `audit.skip` take, in the order of the report.

A part's name is a user's option and stays; its file may have another: people is agreement.py, odds calibration.py, order
position_bias.py, grid style.py.
"""


def audit(
    model: RewardModel | Judge,
    comparisons: Sequence[Comparison],
    options: AuditOptions,
    *,
    hygiene: tuple[Finding, ...] | None = None,
    about: Mapping[str, str] | None = None,
    sections: Sequence[Report] = (),
    cache: AuditCache | None = None,
    progress: PartProgress = lambda part, done, total: None,
) -> Report:
    """How far the model can be trusted, measured on held-out comparisons, and the gate's decision.

    `hygiene` holds the findings of a hygiene gate that already ran; None runs it here, on a few responses of the
    comparisons. A finding of severity "error" stops the audit: the report then holds these findings and no numbers.
    `sections` are reports from elsewhere (of an optimization, say), which become sections and count for the decision.
    `progress` counts the comparisons scored first, as "scores", then the new texts that each part has scored.
    """
    if not comparisons:
        raise GuerdonError("audit: comparisons must be at least one, got none. Give held-out comparisons.")
    parts = chosen_parts(model, options)
    is_recorded = isinstance(model, RecordedRewardModel | RecordedJudge)
    is_checked = isinstance(model, RewardModel) and not is_recorded
    if hygiene is None:
        hygiene = (_NOT_CHECKED, *model.notes) if isinstance(model, RecordedRewardModel | RecordedJudge) else ()
        if is_checked:
            hygiene = hygiene_gate(model, *hygiene_rows(comparisons, options.hygiene_rows), options)  # type: ignore[arg-type]
    facts = {**(about or {}), "comparisons": str(len(comparisons))}
    if any(finding.severity == "error" for finding in hygiene):
        return _with_gate(Report("Audit", facts, findings=hygiene), "refused")

    measured, missing = _measure(model, comparisons, options, parts, cache or AuditCache(), progress)
    core = [measured[name] for name, part in parts.items() if part.is_core and name in measured]
    own_sections = [measured[name] for name, part in parts.items() if not part.is_core and name in measured]
    facts |= {
        "kind": _kind(model, own_sections),
        **{key: fact for report in core for key, fact in report.about.items()},
        **_left_out(comparisons),
        "comparisons hash": digest_all(comparison.id for comparison in comparisons),
        "intervals": describe_intervals(options.draws, options.seed),
    }
    report = Report(
        "Audit",
        facts,
        {key: estimate for report in core for key, estimate in report.estimates.items()},
        (*hygiene, *(finding for report in core for finding in report.findings), *missing),
        {key: curve for report in core for key, curve in report.curves.items()},
        tuple(example for report in core for example in report.examples),
        (*filter(_has_content, own_sections), *sections),
        quantities={key: quantity for report in core for key, quantity in report.quantities.items()},
    )
    return _with_gate(report, "passed" if is_checked else "not checked")


def _kind(model: RewardModel | Judge, sections: Sequence[Report]) -> str:
    """What was audited: a judge, an ensemble or a reward model."""
    if not isinstance(model, RewardModel):
        return "judge"
    return "ensemble" if any("members" in section.about for section in sections) else "reward model"


def _left_out(comparisons: Sequence[Comparison]) -> dict[str, str]:
    """How many comparisons the probes that edit texts cannot use; absent if none."""
    num = sum(any(response.messages for response in comparison.responses) for comparison in comparisons)
    return {"responses not edited": f"those in several messages, of {num} comparisons"} if num else {}


def hygiene_rows(comparisons: Sequence[Comparison], num_rows: int) -> tuple[list[Prompt], list[Response]]:
    """Prompts and responses for the hygiene gate: first, second, first, ... of comparisons spread evenly over the data."""
    step = max(1, len(comparisons) // num_rows)
    chosen = comparisons[::step][:num_rows]
    if len(chosen) < num_rows:
        rows = [(c.prompt, response) for c in chosen for response in c.responses][:num_rows]
    else:
        rows = [(c.prompt, c.responses[i % 2]) for i, c in enumerate(chosen)]
    return [prompt for prompt, _ in rows], [response for _, response in rows]


_NOT_CHECKED = Finding(
    "note",
    "Whether scores depend on the rest of the batch is not known",
    "they come from a file, and only the model itself can score again",
    "Audit the model itself once; then its score files can be trusted.",
)


def chosen_parts(model: RewardModel | Judge, options: AuditOptions) -> dict[str, AuditPart]:
    """The parts that the options choose and that are for this kind of model, in order. GuerdonError for unknown names."""
    for option, names in (("only", options.only), ("skip", options.skip)):
        for name in names:
            if name not in PARTS:
                raise GuerdonError(
                    f"audit.{option} must name parts of the audit, got {name!r}. {did_you_mean(name, PARTS)}"
                )
    kind = "reward model" if isinstance(model, RewardModel) else "judge"
    return {
        name: part
        for name, part in PARTS.items()
        if kind in part.kinds and name not in options.skip and (not options.only or name in options.only)
    }


def _measure(
    model: RewardModel | Judge,
    comparisons: Sequence[Comparison],
    options: AuditOptions,
    parts: Mapping[str, AuditPart],
    cache: AuditCache,
    progress: PartProgress,
) -> tuple[dict[str, Report], list[Finding]]:
    """The report of each part, and a note for each that lacked its data. The latter are not cached, so they are tried again."""
    reports = {name: cache.parts[name] for name in parts if name in cache.parts}
    if len(reports) == len(parts):
        return reports, []
    counter = _PartCounter(progress)
    cached: RewardModel | Judge
    if isinstance(model, RewardModel):
        cached = CachedRewardModel(model, cache.scores, counter)
    else:
        cached = CachedJudge(model, cache.scores, counter)
    all_pairs = score_comparisons(
        cached, comparisons, keep_unresolved=True, progress=lambda done, total: progress("scores", done, total)
    )
    pairs = all_pairs.select(all_pairs.is_resolved)
    if len(all_pairs) and not len(pairs):
        raise GuerdonError(
            f"audit: the judge must have a verdict on some pair, got none on {len(all_pairs)}. Read its failures by code."
        )
    if len(pairs) == 0:
        raise GuerdonError(
            f"audit: comparisons must rank at least two responses, got none that does among {len(comparisons)}. "
            "Add comparisons with a preference."
        )
    audit_input = AuditInput(
        cached, comparisons, pairs, all_pairs, isinstance(model, RecordedRewardModel | RecordedJudge)
    )
    missing: list[Finding] = []
    for name, part in parts.items():
        if name in reports:
            continue
        if part.scores_new_texts and audit_input.is_recorded:
            missing.append(_not_measured(part.title, "needs scores of new texts", "Give the model itself."))
            continue
        counter.begin(name)
        try:
            report = part.measure(audit_input, options)
        except GuerdonError as error:
            missing.append(_not_measured(part.title, *claim_and_advice(str(error))))
        else:
            reports[name] = cache.parts[name] = report
    return reports, missing


class _PartCounter:
    """Reports how many new texts the current part has scored."""

    def __init__(self, progress: PartProgress) -> None:
        self.progress, self.part, self.num = progress, "", 0

    def begin(self, part: str) -> None:
        """Start the count of the next part."""
        self.part, self.num = part, 0
        self.progress(part, 0, None)

    def __call__(self, num: int) -> None:
        self.num += num
        if self.part:  # before the first part, comparisons are counted instead
            self.progress(self.part, self.num, None)


def _not_measured(title: str, reason: str, remedy: str) -> Finding:
    return Finding("note", f"{title}: not measured", reason, remedy)


def _has_content(report: Report) -> bool:
    """Whether the report says anything; a part that does not apply to a model says nothing."""
    return any((report.estimates, report.findings, report.curves, report.examples, report.sections))


def _with_gate(report: Report, hygiene: Hygiene) -> Report:
    return replace(report, gate=decide(report, hygiene))


def _accuracy(audit_input: AuditInput, options: AuditOptions) -> Report:
    """With the number of pairs; truncation is left out where the model does not read texts here, so that it is unknown."""
    report, pairs = accuracy.measure_accuracy(audit_input.pairs), audit_input.pairs
    estimates = dict(report.estimates)
    if audit_input.is_recorded or not isinstance(audit_input.model, RewardModel):
        del estimates["truncated"]
    findings = (*report.findings, *accuracy.shared_prompts_finding(audit_input.comparisons))
    about = {"pairs": str(len(pairs)), "groups": str(pairs.num_groups)}
    return replace(report, about=about, estimates=estimates, findings=findings)


def _odds(audit_input: AuditInput, options: AuditOptions) -> Report:
    """Of scores from a file with the temperature that would be fitted to them, which no model could store."""
    report = calibration.measure_calibration(audit_input.pairs, options)
    if not audit_input.is_recorded:
        return report
    return replace(
        report,
        estimates={**report.estimates, **calibration.measure_temperature(audit_input.pairs, options)},
        quantities={**report.quantities, **calibration.TEMPERATURE},
    )


def _mistakes(audit_input: AuditInput, options: AuditOptions) -> Report:
    examples = mistakes.worst_mistakes(audit_input.comparisons, audit_input.pairs, options.worst)
    return Report(PARTS["mistakes"].title, examples=examples)
