"""What happened under each principle: shares of revisions that were used and verified, gaps, agreement and position bias."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from guerdon.contracts import Curve, Estimate, Finding, Quantity, Report
from guerdon.feedback.constitution.checks import MEANINGS, StepState, is_bare_refusal
from guerdon.feedback.constitution.compare import PrincipledVerdict
from guerdon.feedback.constitution.principles import Constitution
from guerdon.feedback.constitution.revise import Chain
from guerdon.feedback.constitution.rows import RevisionPair
from guerdon.formulas.estimation import wilson

QUANTITIES = {
    "revised": Quantity("steps with a revision that is used", "share", "Revision"),
    "failed": Quantity("steps in which a call failed", "share", "Revision", "A failed step changes nothing."),
    "verified": Quantity(
        "pairs that were verified", "share", "Pairs", "By the judge, in both orders: better under its principle and not much less helpful."
    ),
    "unresolved": Quantity("pairs without a verdict", "share", "Pairs"),
    "length_ratio": Quantity("length of the revision over the text before", "number", "Pairs", "Geometric mean, in characters."),
    "refusal_gap": Quantity("refusals among revisions less those before", "share", "Pairs"),
}  # fmt: skip


@dataclass(slots=True)
class RevisionTally:
    """Counts of a run of critique and revision, added chain by chain; memory does not grow with the number of chains."""

    chains: int = 0
    states: Counter[StepState] = field(default_factory=Counter)
    by_principle: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    by_step: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    verified: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    log_ratios: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # count, sum, sum of squares
    refusals: list[int] = field(default_factory=lambda: [0, 0, 0, 0])  # pairs, before, after, squared differences

    def add_chain(self, chain: Chain) -> None:
        """Count the steps of a chain."""
        self.chains += 1
        for number, step in enumerate(chain.steps):
            self.states[step.state] += 1
            self.by_principle[step.principle][step.state] += 1
            self.by_step[number][step.state] += 1
            if step.state == "failed":
                self.failures[step.reason.partition(":")[0]] += 1

    def add_pair(self, pair: RevisionPair) -> None:
        """Count a pair, checked or not."""
        ratio = math.log(max(len(pair.after), 1) / max(len(pair.before.text), 1))
        for i, value in enumerate((1.0, ratio, ratio * ratio)):
            self.log_ratios[i] += value
        before, after = is_bare_refusal(pair.before.text), is_bare_refusal(pair.after)
        for i, number in enumerate((1, before, after, (after - before) ** 2)):
            self.refusals[i] += number
        if pair.is_verified is None:
            return
        for verdict in (pair.under_principle, pair.helpful):
            self.failures.update(failure.code for failure in (verdict.failures if verdict else ()))
        is_resolved = all(v is not None and v.is_resolved for v in (pair.under_principle, pair.helpful))
        state = "verified" if pair.is_verified else "not verified" if is_resolved else "unresolved"
        self.verified[state] += 1
        self.by_principle[pair.principle][state] += 1
        self.by_step[pair.step][state] += 1


def revision_report(tally: RevisionTally, constitution: Constitution, about: Mapping[str, str]) -> Report:
    """The report of a run of critique and revision."""
    steps, pairs = sum(tally.states.values()), sum(tally.verified.values())
    estimates = {"revised": _share(tally.states["revised"], steps), "failed": _share(tally.states["failed"], steps)}
    if pairs:
        estimates["verified"] = _share(tally.verified["verified"], pairs)
        estimates["unresolved"] = _share(tally.verified["unresolved"], pairs)
    if tally.log_ratios[0] >= 2:
        estimates["length_ratio"] = _mean_ratio(*tally.log_ratios)
        estimates["refusal_gap"] = _refusal_gap(*tally.refusals)
    quantities = dict(QUANTITIES)
    curves = {}
    for name, counts in (("principle", tally.by_principle), ("step", tally.by_step)):
        for key, by_state in counts.items():
            label = str(key) if name == "principle" else f"step {int(key) + 1}"
            total = sum(by_state[state] for state in MEANINGS)
            estimates[f"revised/{label}"] = _share(by_state["revised"], total)
            quantities[f"revised/{label}"] = Quantity(f"steps revised, {label}", "share", f"By {name}")
            checked = by_state["verified"] + by_state["not verified"] + by_state["unresolved"]
            if checked:
                estimates[f"verified/{label}"] = _share(by_state["verified"], checked)
                quantities[f"verified/{label}"] = Quantity(f"pairs verified, {label}", "share", f"By {name}")
    names = [name for name in tally.by_principle if f"verified/{name}" in estimates]
    if names:
        y = tuple(estimates[f"verified/{name}"] for name in names)
        x = tuple(float(i) for i in range(len(names)))
        curves["verified"] = Curve(x, y, "principle", "pairs verified", "bars", x_names=tuple(names))
    return Report(
        "Critique and revision",
        about={**_about(constitution), **about, "chains": f"{tally.chains:,}", **_states(tally.states)},
        estimates=estimates,
        findings=tuple(_revision_findings(tally, steps, pairs)),
        curves=curves,
        quantities=quantities,
    )


def _revision_findings(tally: RevisionTally, steps: int, pairs: int) -> list[Finding]:
    findings = []
    if tally.failures:
        counts = ", ".join(f"{code} {count:,}" for code, count in tally.failures.most_common())
        findings.append(
            Finding(
                "warning", "Calls failed", f"{counts}.", "Run the command again: only what failed is asked for again."
            )
        )
    if pairs and tally.verified["verified"] * 2 < pairs:
        evidence = f"{tally.verified['verified']:,} of {pairs:,} pairs were verified."
        findings.append(
            Finding(
                "warning",
                "Most revisions are not better",
                evidence,
                "Use a stronger critic, or principles that it can follow.",
            )
        )
    if steps and tally.states["no_change"] * 2 > steps:
        evidence = f"{tally.states['no_change']:,} of {steps:,} steps changed nothing."
        findings.append(Finding("note", "Most steps change nothing", evidence, "Fewer revisions cost less."))
    return findings


# ---- Comparisons under principles -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class PrincipleTally:
    """What the principles said: sums over pairs, so that memory does not grow with their number.

    agreement: of each principle with the mean of the others. bias: nats that being shown first adds.
    """

    pairs: int = 0
    unresolved: int = 0
    judged: Counter[str] = field(default_factory=Counter)
    agreed: Counter[str] = field(default_factory=Counter)
    opposed: Counter[str] = field(default_factory=Counter)
    flipped: Counter[str] = field(default_factory=Counter)
    bias: dict[str, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0.0, 0.0]))
    failures: Counter[str] = field(default_factory=Counter)

    def add(self, verdict: PrincipledVerdict) -> None:
        """Count a pair."""
        self.pairs += 1
        self.unresolved += verdict.q is None
        known = {name: each.q for name, each in verdict.by_principle.items() if each.q is not None}
        for name, each in verdict.by_principle.items():
            self.failures.update(failure.code for failure in each.failures)
            if each.q is None:
                continue
            self.judged[name] += 1
            self.flipped[name] += each.is_consistent is False
            if each.bias is not None:
                for i, value in enumerate((1.0, each.bias, each.bias**2)):
                    self.bias[name][i] += value
            others = [q for other, q in known.items() if other != name]
            if others and each.q != 0.5 and (mean := float(np.mean(others))) != 0.5:
                self.agreed[name] += (each.q - 0.5) * (mean - 0.5) > 0
                self.opposed[name] += (each.q - 0.5) * (mean - 0.5) < 0


def principle_report(tally: PrincipleTally, constitution: Constitution, about: Mapping[str, str]) -> Report:
    """The report of comparisons under principles: which principles disagree with the others, and which are biased by position."""
    estimates = {"unresolved": _share(tally.unresolved, tally.pairs)}
    quantities = {"unresolved": QUANTITIES["unresolved"]}
    findings = []
    if tally.failures:
        counts = ", ".join(f"{code} {count:,}" for code, count in tally.failures.most_common())
        findings.append(Finding("warning", "Calls failed", f"{counts}.", "Run the command again."))
    for name in tally.judged:
        compared = tally.agreed[name] + tally.opposed[name]
        rows = {
            f"agreement/{name}": (_share(tally.agreed[name], compared), f"agreement with the others, {name}", "share"),
            f"flips/{name}": (
                _share(tally.flipped[name], tally.judged[name]),
                f"orders that disagree, {name}",
                "share",
            ),
            f"bias/{name}": (_mean(*tally.bias[name]), f"position bias, {name}", "nats"),
        }
        for key, (estimate, label, unit) in rows.items():
            if estimate.n:
                estimates[key] = estimate
                quantities[key] = Quantity(label, unit, "By principle")  # type: ignore[arg-type]
        if compared and estimates[f"agreement/{name}"].high < 0.5:
            findings.append(
                Finding(
                    "warning",
                    f"{name} disagrees with the other principles",
                    f"{rows[f'agreement/{name}'][0]}",
                    "Read it again.",
                )
            )
        bias = rows[f"bias/{name}"][0]
        if bias.n and min(abs(bias.low), abs(bias.high)) > 0.5 and bias.low * bias.high > 0:
            side = "first" if bias.value > 0 else "second"
            findings.append(
                Finding(
                    "warning",
                    f"Under {name}, the judge prefers what is shown {side}",
                    f"{bias} nats.",
                    "Both orders are averaged, so labels are not shifted, but they say less. Use a stronger judge.",
                )
            )
    return Report(
        "Comparisons under principles",
        about={**_about(constitution), **about, "pairs": f"{tally.pairs:,}"},
        estimates=estimates,
        findings=tuple(findings),
        quantities=quantities,
    )


# ---- Helpers -----------------------------------------------------------------------------------------------------------


def _about(constitution: Constitution) -> dict[str, str]:
    name = f"{constitution.id} {constitution.version}"
    return {"constitution": name, "principles": str(len(constitution.principles)), "hash": constitution.fingerprint}


def _states(states: Counter[StepState]) -> dict[str, str]:
    return {f"steps: {MEANINGS[state]}": f"{count:,}" for state, count in states.most_common()}


def _share(count: int, total: int) -> Estimate:
    return Estimate(*wilson(count, total)) if total else Estimate(math.nan, 0.0, 1.0, 0)


def _mean(n: float, total: float, squares: float) -> Estimate:
    """The mean of n values from their sum and sum of squares, with a t interval."""
    if not n:
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean = total / n
    if n < 2:
        return Estimate(mean, math.nan, math.nan, int(n))
    error = math.sqrt(max(squares - n * mean**2, 0.0) / (n - 1) / n)
    half = float(stats.t.ppf(0.975, n - 1)) * error
    return Estimate(mean, mean - half, mean + half, int(n))


def _mean_ratio(n: float, total: float, squares: float) -> Estimate:
    mean = _mean(n, total, squares)
    return Estimate(math.exp(mean.value), math.exp(mean.low), math.exp(mean.high), mean.n)


def _refusal_gap(n: int, before: int, after: int, squares: int) -> Estimate:
    return _mean(float(n), float(after - before), float(squares))
