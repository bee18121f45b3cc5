"""A rubric from labeled comparisons: criteria are proposed on some prompts, kept and weighted on others, and checked on a third part.

Axes: n pairs, c criteria. A criterion is kept where its accuracy on held-out pairs differs from one half, corrected for the
number of criteria that were tried; one that people decide against becomes a fault.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np

from guerdon.config.feedback import DraftOptions
from guerdon.config.judging import JudgeOptions
from guerdon.contracts import Comparison, Estimate, Finding, GuerdonError, Quantity, Report, digest
from guerdon.feedback.rubric.proposals import batches, distinct, propose
from guerdon.feedback.rubric.table import CriteriaTable, judge_comparisons
from guerdon.formulas.agreement import pair_accuracy
from guerdon.formulas.clustered import clustered_share, sign_flip_p_value
from guerdon.formulas.estimation import holm
from guerdon.models.judges.driver import Respondent, in_order
from guerdon.models.judges.rubric.model import RubricModel
from guerdon.models.judges.rubric.rubrics import Criterion, Rubric

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.progress import Progress

__all__ = ["Candidate", "Draft", "draft_rubric"]

Part = Literal["propose", "select", "check"]
SHARES: Final[Mapping[Part, float]] = {"propose": 0.4, "select": 0.4, "check": 0.2}
MIN_WEIGHT = 0.01  # nats: a smaller weight changes no decision worth having


class Candidate(NamedTuple):
    """A criterion that was tried. accuracy: on the select part. p_value: corrected. weight: nats; 0 where it was not kept."""

    criterion: Criterion
    accuracy: Estimate
    p_value: float
    weight: float
    reason: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A rubric, None where no criterion was kept, and how it came about."""

    rubric: Rubric | None
    candidates: tuple[Candidate, ...]
    accuracy: Estimate | None
    parts: Mapping[Part, int]
    failures: Mapping[str, int] = field(default_factory=dict)

    def report(self, about: Mapping[str, str]) -> Report:
        """The report of the draft."""
        return _report(self, about)


def draft_rubric(
    comparisons: Sequence[Comparison],
    respondent: Respondent,
    judge: JudgeOptions,
    options: DraftOptions,
    *,
    name: str = "draft",
    progress: Progress | None = None,
) -> Draft:
    """Propose, try, keep and weigh criteria. Ties of people are left out."""
    parts = split_by_group([c for c in comparisons if len(set(c.ranks)) > 1], options.seed)
    if missing := [part for part in parts if not parts[part]]:
        raise GuerdonError(
            f"data must have labeled comparisons on enough prompts for three parts, got none for {missing[0]}. Give more."
        )
    failures: Counter[str] = Counter()
    texts = _proposed(parts["propose"], respondent, options, failures)
    counts = {part: len(rows) for part, rows in parts.items()}
    if not texts:
        return Draft(None, (), None, counts, failures)
    criteria = [Criterion(id=f"c{i}", text=text) for i, text in enumerate(texts, 1)]
    model = RubricModel(respondent, _rubric(name, criteria), judge)
    table = judge_comparisons(model, parts["select"], progress)
    failures.update(model.tally.failures_by_code)
    candidates = _weighted(_selected(criteria, table, options), table)
    kept = [c.criterion.model_copy(update={"weight": c.weight}) for c in candidates if c.weight]
    if not kept:
        return Draft(None, tuple(candidates), None, counts, failures)
    rubric = _rubric(name, kept)
    final = RubricModel(respondent, rubric, judge)
    checked = judge_comparisons(final, parts["check"])
    failures.update(final.tally.failures_by_code)
    return Draft(rubric, tuple(candidates), _accuracy(checked.value, checked), counts, failures)


def split_by_group(comparisons: Sequence[Comparison], seed: int) -> dict[Part, list[Comparison]]:
    """The comparisons in three parts; all comparisons of a group are in one. Rows come in the order of a hash."""
    parts: dict[Part, list[Comparison]] = {part: [] for part in SHARES}
    order = {group: int(digest([seed, group]), 16) / 16**16 for group in {c.group for c in comparisons}}
    for comparison in sorted(comparisons, key=lambda c: (order[c.group], c.id)):
        position = order[comparison.group]
        part: Part = "propose" if position < 0.4 else "select" if position < 0.8 else "check"
        parts[part].append(comparison)
    return parts


def _rubric(name: str, criteria: Sequence[Criterion]) -> Rubric:
    return Rubric(
        id=name, version="1", title="Drafted from labeled comparisons", combine="weighted_sum", criteria=list(criteria)
    )


def _proposed(
    comparisons: Sequence[Comparison], respondent: Respondent, options: DraftOptions, failures: Counter[str]
) -> list[str]:
    conversations = [propose(batch, options, number) for number, batch in enumerate(batches(comparisons, options))]
    texts: list[str] = []
    for reading in in_order(respondent.converse(conversations)):
        if reading.failure is None:
            texts.extend(reading.value)
        else:
            failures[reading.failure.code] += 1
    return distinct(texts, options.candidates)


# ---- What is kept, and how much it weighs --------------------------------------------------------------------------------


def _selected(criteria: Sequence[Criterion], table: CriteriaTable, options: DraftOptions) -> list[Candidate]:
    """Each criterion with its accuracy and corrected p-value; those that are not kept say why, and the rest have weight +-1."""
    accuracies, p_values = [], []
    for i in range(len(criteria)):
        margin = table.first[:, i] - table.second[:, i]
        known = np.isfinite(margin)
        accuracies.append(_accuracy(margin, table))
        difference = pair_accuracy(margin[known], table.q[known]) - 0.5
        p_values.append(sign_flip_p_value(difference, table.group[known], table.weight[known]) if known.any() else 1.0)
    corrected = holm(np.array(p_values))
    candidates = []
    for i, criterion in enumerate(criteria):
        reason = _reason(accuracies[i], float(corrected[i]), table, i, options)
        sign = 1.0 if accuracies[i].value >= 0.5 else -1.0
        candidates.append(Candidate(criterion, accuracies[i], float(corrected[i]), 0.0 if reason else sign, reason))
    ranked = sorted((c for c in candidates if c.weight), key=lambda c: -abs(c.accuracy.value - 0.5))
    surplus = {c.criterion.id for c in ranked[options.most :]}
    return [
        c._replace(weight=0.0, reason=f"{options.most} others are more accurate") if c.criterion.id in surplus else c
        for c in candidates
    ]


def _reason(accuracy: Estimate, p_value: float, table: CriteriaTable, i: int, options: DraftOptions) -> str:
    known = np.isfinite(table.first[:, i]) & np.isfinite(table.second[:, i])
    if known.mean() < 0.5:
        return "most of its questions failed"
    answers = table.responses[:, i][np.isfinite(table.responses[:, i])]
    if len(answers) and np.ptp(answers) < 1e-9:
        return f"always answered {'yes' if answers[0] >= 0.5 else 'no'}"
    if p_value >= options.alpha or not (accuracy.low > 0.5 or accuracy.high < 0.5):
        return "accuracy not different from chance"
    return ""


def _weighted(candidates: Sequence[Candidate], table: CriteriaTable) -> list[Candidate]:
    """The candidates with the weights of a logistic regression. One whose weight has the other sign than its accuracy only
    corrects others: it is dropped, and the rest are fitted again."""
    result = list(candidates)
    while rows := [i for i, candidate in enumerate(result) if candidate.weight]:
        weights = _fit(table, rows)
        wrong = [i for i, weight in zip(rows, weights, strict=True) if weight * result[i].weight < MIN_WEIGHT]
        if not wrong:
            for i, weight in zip(rows, weights, strict=True):
                result[i] = result[i]._replace(weight=round(float(weight), 3))
            break
        worst = min(wrong, key=lambda i: abs(result[i].accuracy.value - 0.5))
        result[worst] = result[worst]._replace(weight=0.0, reason="says nothing beyond the others")
    return result


def _fit(table: CriteriaTable, rows: Sequence[int]) -> Float[np.ndarray, " c"]:
    """Nats per criterion: a logistic regression of people's preference on the differences of P(met), without an intercept.

    Every pair counts in both orders, with q as its weight, so that the order shown changes nothing. The strength of the ridge
    penalty is chosen by cross-validation over groups, as long as there are enough of them.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, GroupKFold

    margin = (table.first - table.second)[:, list(rows)]
    known = np.isfinite(margin).all(axis=1)
    x, q, weight, group = margin[known], table.q[known], table.weight[known], table.group[known]
    both, label = np.concatenate([x, x]), np.concatenate([np.ones(len(x)), np.zeros(len(x))])
    shares = np.concatenate([weight * q, weight * (1.0 - q)])
    both, label = np.concatenate([both, -both]), np.concatenate([label, 1.0 - label])
    shares, groups = np.tile(shares, 2) / 2, np.tile(group, 4)
    used = shares > 0
    folds = min(5, len(np.unique(group)))
    regression = LogisticRegression(fit_intercept=False, max_iter=1000)
    if folds < 2:
        fitted = regression.fit(both[used], label[used], sample_weight=shares[used])
    else:
        search = GridSearchCV(regression, {"C": [0.01, 0.1, 1.0, 10.0]}, scoring="neg_log_loss", cv=GroupKFold(folds))
        search.fit(both[used], label[used], groups=groups[used], sample_weight=shares[used])
        fitted = search.best_estimator_
    weights: np.ndarray = fitted.coef_[0]
    return weights


def _accuracy(margin: Float[np.ndarray, " n"], table: CriteriaTable) -> Estimate:
    known = np.isfinite(margin)
    if not known.any():
        return Estimate(np.nan, np.nan, np.nan, 0)
    values = pair_accuracy(margin[known], table.q[known])
    return Estimate(*clustered_share(values, table.group[known], table.weight[known]))


# ---- Report ------------------------------------------------------------------------------------------------------------


def _report(draft: Draft, about: Mapping[str, str]) -> Report:
    estimates, quantities = {}, {}
    if draft.accuracy is not None:
        estimates["agreement"] = draft.accuracy
        quantities["agreement"] = Quantity(
            "agreement with people", "share", "The rubric", "on comparisons that nothing was chosen or fitted by"
        )
    for candidate in draft.candidates:
        key, section = f"accuracy/{candidate.criterion.id}", "Kept" if candidate.weight else "Not kept"
        estimates[key] = candidate.accuracy
        reason = f"weight {candidate.weight:g}" if candidate.weight else candidate.reason
        quantities[key] = Quantity(candidate.criterion.text[:120], "share", section, reason)
    kept = sum(bool(candidate.weight) for candidate in draft.candidates)
    facts = {f"comparisons to {part}": f"{count:,}" for part, count in draft.parts.items()}
    summary = f"{kept} of {len(draft.candidates)} proposed criteria predict held-out labels."
    return Report(
        "Draft of a rubric",
        about={**about, **facts, "criteria tried": str(len(draft.candidates)), "kept": str(kept)},
        estimates=estimates,
        findings=tuple(_findings(draft, kept)),
        quantities=quantities,
        summary=summary,
    )


def _findings(draft: Draft, kept: int) -> list[Finding]:
    findings = []
    if not kept:
        findings.append(
            Finding(
                "error",
                "No criterion predicts people's labels",
                f"Tried: {len(draft.candidates)}, on comparisons: {draft.parts['select']:,}.",
                "Give more comparisons, raise draft.rounds, or use a stronger judge. No rubric was written.",
            )
        )
    if draft.failures:
        counts = ", ".join(f"{code} {count:,}" for code, count in Counter(draft.failures).most_common())
        findings.append(
            Finding(
                "warning", "Calls failed", f"{counts}.", "Run the command again: only what failed is asked for again."
            )
        )
    if draft.accuracy is not None and not draft.accuracy.low > 0.5:
        findings.append(
            Finding(
                "warning",
                "The rubric is not better than chance on new comparisons",
                f"It agrees with people on {draft.accuracy} of {draft.parts['check']:,} comparisons.",
                "Give more comparisons before you use it.",
            )
        )
    return findings
