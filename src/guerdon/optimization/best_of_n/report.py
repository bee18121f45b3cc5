"""The report of a pool: estimates at the largest n, curves over n and KL, findings, and texts to read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from guerdon.contracts import Curve, Estimate, Example, Finding, Quantity, Report, Rollouts
from guerdon.errors import counted, verb
from guerdon.formulas.clustered import clustered_share
from guerdon.models.estimates import OPTIMIZATION, SHARED_QUANTITIES, percent
from guerdon.optimization.best_of_n.attributes import attribute_gains, attribute_quantities, gamed_attributes
from guerdon.optimization.best_of_n.curve import PoolCurve, curve
from guerdon.optimization.best_of_n.files import Pool

__all__ = ["to_report"]

QUANTITIES: Mapping[str, Quantity] = {
    "duplicates": Quantity("repeated replies", "share", OPTIMIZATION, "replies to a prompt that another reply equals"),
    "unfinished": Quantity("unfinished replies", "share", OPTIMIZATION, "replies that were cut at the token limit"),
    **SHARED_QUANTITIES,
}
BY_KL = {
    "proxy": "The optimized reward, the further the policy goes",
    "gold": "The second judge, the further the policy goes",
}
MANY_DUPLICATES = 0.05  # share of responses from which on the KL bound is too loose to stand alone


def to_report(pool: Pool, by_n: PoolCurve | None = None) -> Report:
    """A report of a pool, and of its curve if that is computed already.

    Keys: proxy_gain, gold_gain (with a gold), kl, duplicates, unfinished, attribute/NAME.
    """
    rollouts = pool.rollouts
    by_n = curve(rollouts) if by_n is None else by_n
    last = by_n.points[-1]
    num_prompts = len(rollouts.prompts_once)
    unfinished = rollouts.by_prompt(rollouts.cut.astype(np.float64))
    gains = attribute_gains(rollouts, last.n, by_n.groups)
    estimates = {
        "proxy_gain": last.proxy_gain,
        "gold_gain": last.gold_gain,
        "kl": last.kl,
        "duplicates": by_n.duplicates,
        "unfinished": Estimate(*clustered_share(unfinished.mean(axis=1), by_n.groups)),
        **{f"attribute/{name}": gain for name, gain in gains.items()},
    }
    about = {
        "prompts": f"{num_prompts:,}",
        "replies per prompt": str(rollouts.samples),
        "largest n": str(last.n),
        "KL bound at the largest n": f"{last.kl_bound:.3f} nats",
        "KL estimate from": by_n.kl_source,
        "prompts left out": str(len(pool.excluded)),
    }
    findings = [
        *_excluded_finding(pool.excluded, num_prompts),
        *_duplicates_finding(by_n),
        *_largest_n_finding(by_n),
        *_text_findings(rollouts, float(unfinished.mean())),
        *gamed_attributes(rollouts, last.n, by_n.groups),
    ]
    return Report(
        title=f"Best of {last.n}",
        about=about,
        estimates={name: estimate for name, estimate in estimates.items() if estimate is not None},
        findings=tuple(findings),
        curves=_curves(by_n),
        examples=_examples(rollouts),
        quantities={**QUANTITIES, **attribute_quantities(gains)},
    )


def _curves(by_n: PoolCurve) -> dict[str, Curve]:
    curves = {}
    for name, label in (("proxy", "proxy reward"), ("gold", "gold")):
        gains = [point.proxy_gain if name == "proxy" else point.gold_gain for point in by_n.points]
        y = tuple(gain for gain in gains if gain is not None)
        if not y:
            continue
        y_label = f"{label}, above the policy's mean reply"
        ns = tuple(point.n for point in by_n.points)
        curves[f"{name}_by_n"] = Curve(
            tuple(float(n) for n in ns), y, "n, replies to choose from", y_label, x_names=tuple(str(n) for n in ns)
        )
        distance = tuple(math.sqrt(max(0.0, point.kl.value)) for point in by_n.points)
        caption = f"KL is estimated from {by_n.kl_source}."
        curves[f"{name}_by_kl"] = Curve(
            distance, y, "√KL to the policy, nats per reply", y_label, caption=caption, title=BY_KL[name]
        )
    return curves


# ---- Findings ----------------------------------------------------------------------------------------------------


def _excluded_finding(excluded: Sequence[tuple[str, str]], num_prompts: int) -> Iterator[Finding]:
    if excluded:
        reasons = Counter(reason for _, reason in excluded).most_common(3)
        evidence = "; ".join(f"{count} x {reason}" for reason, count in reasons)
        title = f"{len(excluded)} of {counted(len(excluded) + num_prompts, 'prompt')} {verb(len(excluded), 'were')} left out"
        yield Finding("warning", title, evidence, "Fix or drop them; every number here is without them.")


def _duplicates_finding(by_n: PoolCurve) -> Iterator[Finding]:
    last = by_n.points[-1]
    if by_n.duplicates.value > MANY_DUPLICATES:
        both = f"at n = {last.n} the bound is {last.kl_bound:.3f} nats, the estimate {last.kl}"
        evidence = f"{percent(by_n.duplicates)} of replies repeat an earlier one; {both}"
        remedy = "Use the estimate: the bound assumes replies that never repeat. A higher temperature repeats less."
        yield Finding("note", "Many replies are equal", evidence, remedy)


def _largest_n_finding(by_n: PoolCurve) -> Iterator[Finding]:
    last = by_n.points[-1]
    if last.n < by_n.size and 4 * last.n >= by_n.size - 3:
        evidence = (
            f"n stops at {last.n} of {by_n.size} replies: close to N the same few high rewards decide every subset"
        )
        remedy = "Draw more replies, or set best_of_n.most_n higher."
        yield Finding("note", "Larger n are not shown", evidence, remedy)


def _text_findings(rollouts: Rollouts, unfinished: float) -> Iterator[Finding]:
    """What the policy did not finish, and what the reward did not read."""
    if unfinished > 0:
        evidence = (
            f"{100 * unfinished:.1f} % of replies were cut at max_tokens; a reward model reads them as unfinished"
        )
        yield Finding("note", "Some replies did not end", evidence, "Raise best_of_n.max_tokens if that matters.")
    if rollouts.truncated is not None:
        evidence = f"{100 * rollouts.truncated.mean():.1f} % of replies, with their prompts, lost their beginning"
        remedy = "Shorter replies (best_of_n.max_tokens) or prompts, or a reward model with a larger max_length."
        yield Finding("warning", "The reward saw only part of some texts", evidence, remedy)


# ---- Examples ----------------------------------------------------------------------------------------------------


def _examples(rollouts: Rollouts) -> tuple[Example, ...]:
    """Where the choice gained most, a middling one, and with a gold where it lost most; each prompt once."""
    proxy, gold = rollouts.reward_by_prompt, rollouts.by_prompt(rollouts.gold)
    rows, best = np.arange(len(proxy)), proxy.argmax(axis=1)
    changed = rows[best > 0]
    if not len(changed):
        return ()
    gain = proxy[rows, best] - proxy[:, 0]
    order = changed[np.argsort(-gain[changed], kind="stable")].tolist()
    chosen = {order[0]: "The choice gained most", order[len(order) // 2]: "A middling gain"}
    if gold is not None:
        change = gold[rows, best] - gold[:, 0]
        worst = int(changed[np.argmin(change[changed])])
        if change[worst] < 0:
            chosen = {worst: "The proxy rose and gold fell most"} | {k: v for k, v in chosen.items() if k != worst}
    return tuple(_example(rollouts, row, int(best[row]), title) for row, title in chosen.items())


def _example(rollouts: Rollouts, row: int, best: int, title: str) -> Example:
    first = row * rollouts.samples
    assert rollouts.reward is not None

    def label(name: str, at: int) -> str:
        return name if rollouts.gold is None else f"{name}, gold {rollouts.gold[at]:.3g}"

    return Example(
        title=title,
        prompt=rollouts.prompts[first],
        responses=(rollouts.responses[first], rollouts.responses[first + best]),
        labels=(label("first reply", first), label(f"best of {rollouts.samples}", first + best)),
        rewards=(float(rollouts.reward[first]), float(rollouts.reward[first + best])),
    )
