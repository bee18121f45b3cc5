"""Do the signals of uncertainty predict the model's errors? Axis: n pairs with a winner.

A signal is higher where an error should be more likely.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from guerdon.contracts import Curve, Estimate, Finding, Quantity
from guerdon.formulas.agreement import pair_accuracy
from guerdon.formulas.resampling import bootstrap
from guerdon.formulas.uncertainty import aurc, auroc
from guerdon.models.estimates import estimate_share, percent

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, Shaped

    from guerdon.config import AuditOptions
    from guerdon.models.scored_pairs import ScoredPairs

__all__ = ["QUANTITIES", "SECTION", "SIGNALS", "SignalTable", "measure_signals", "risk_curve", "signal_findings"]


@dataclass(frozen=True, slots=True)
class Signal:
    """label: what the signal is. meaning: what counts as uncertain."""

    label: str
    meaning: str


SIGNALS: Mapping[str, Signal] = {
    "margin": Signal("margin", "a small margin"),
    "laplace": Signal("spread", "a wide spread of the margin (Laplace on the head)"),
    "ratio": Signal("margin over spread", "a margin that is small compared with its spread"),
    "shift": Signal("distance from the data", "a text unlike the training data"),
    "members": Signal("disagreement", "members that disagree"),
}
SECTION = "Whether it knows where it errs"
QUANTITIES: Mapping[str, Quantity] = {
    **{
        f"error_auroc_{name}": Quantity(
            f"errors by {signal.label}",
            "share",
            SECTION,
            f"a wrong pair is more uncertain than a right one, by {signal.meaning}; chance gives 50 %",
        )
        for name, signal in SIGNALS.items()
    },
    **{
        f"aurc_{name}": Quantity(
            f"mean error by {signal.label}",
            "share",
            SECTION,
            f"over all shares of pairs answered, those with {signal.meaning} last",
        )
        for name, signal in SIGNALS.items()
    },
    "aurc_random": Quantity("mean error in random order", "share", SECTION, "what an uninformative signal gives"),
}


@dataclass(frozen=True, slots=True)
class SignalTable:
    """Pairs with a winner: how wrong (0, 1/2 or 1), |margin| in nats, and each known signal."""

    wrong: Float[np.ndarray, " n"]
    certainty: Float[np.ndarray, " n"]
    group: Shaped[np.ndarray, " n"]
    weight: Float[np.ndarray, " n"]
    signals: Mapping[str, Float[np.ndarray, " n"]]

    @staticmethod
    def of(pairs: ScoredPairs, rows: Int[np.ndarray, " n"]) -> SignalTable:
        """Of these rows of the pairs."""
        margin = np.abs(pairs.margin)
        signals = {"margin": -margin}
        if pairs.margin_std is not None:
            signals |= {"laplace": pairs.margin_std, "ratio": -margin / np.maximum(pairs.margin_std, 1e-300)}
        if pairs.first_shift_p is not None and pairs.second_shift_p is not None:
            signals["shift"] = -np.minimum(pairs.first_shift_p, pairs.second_shift_p)
        if pairs.members is not None:
            signals["members"] = pairs.members.std(axis=0)
        return SignalTable(
            (1.0 - pair_accuracy(pairs.margin, pairs.q))[rows],
            margin[rows],
            pairs.group[rows],
            pairs.weight[rows],
            {name: np.asarray(signal)[rows] for name, signal in signals.items()},
        )

    def error_rate(self, rows: Bool[np.ndarray, " n"] | Int[np.ndarray, " m"]) -> Estimate:
        """The share of these pairs that the model gets wrong."""
        return estimate_share(self.wrong[rows], self.group[rows], self.weight[rows])


def measure_signals(table: SignalTable, options: AuditOptions) -> dict[str, Estimate]:
    """error_auroc and aurc of each signal, and aurc_random."""

    def estimate(statistic: Callable[..., float], values: Float[np.ndarray, " n"]) -> Estimate:
        def on_rows(rows: Int[np.ndarray, " m"]) -> float:
            return statistic(values[rows], table.wrong[rows], table.weight[rows])

        return Estimate(*bootstrap(on_rows, table.group, options.draws, options.seed))

    return {
        **{f"error_auroc_{name}": estimate(auroc, signal) for name, signal in table.signals.items()},
        **{f"aurc_{name}": estimate(aurc, -signal) for name, signal in table.signals.items()},
        "aurc_random": estimate_share(table.wrong, table.group, table.weight),
    }


def risk_curve(table: SignalTable) -> Curve:
    """The error among the pairs of largest margin, by how many are answered."""
    order = np.argsort(-table.certainty, kind="stable")
    sizes = np.unique(np.ceil(np.linspace(0.05, 1.0, 20) * len(order)).astype(np.int64))
    return Curve(
        tuple(float(size / len(order)) for size in sizes),
        tuple(table.error_rate(order[:size]) for size in sizes),
        "share of pairs answered, the largest margins first",
        "share of answers that are wrong",
        title="Errors left, by the share of pairs answered",
        caption="Flat if margins do not predict errors.",
    )


def signal_findings(estimates: Mapping[str, Estimate], table: SignalTable) -> list[Finding]:
    """Whether any signal predicts errors."""
    if not table.wrong.any():
        return [Finding("note", "The model makes no error here", f"it is right on all {len(table.wrong)} pairs")]
    aurocs = {name: estimates[f"error_auroc_{name}"] for name in table.signals}
    if any(auroc.low > 0.5 for auroc in aurocs.values()):
        return []
    by_signal = "; ".join(f"{SIGNALS[name].meaning} {percent(auroc)}" for name, auroc in aurocs.items())
    evidence = f"how often a wrong pair is more uncertain than a right one, where chance gives 50: {by_signal}"
    remedy = "Do not abstain, filter or route pairs to people by these numbers; audit on more prompts to be sure."
    return [Finding("warning", "Uncertainty does not predict the model's errors", evidence, remedy)]
