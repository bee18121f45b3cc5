"""Whether a reward still holds as it chooses the best of n, from a pool of scored responses.

Axes: p prompts, N responses per prompt, c values of n. The proxy is the pool's reward, gold one that only judges. Gains are over
the policy that drew the pool, prompt by prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from guerdon.auditing.overoptimization.forecast import forecast_curve, forecast_finding, tilted_frontier
from guerdon.auditing.overoptimization.path import (
    DISTANCE_LABEL,
    Bootstrap,
    OptimizationPath,
    curve_by_kl,
    path_of_pool,
    text_table,
)
from guerdon.auditing.overoptimization.report import path_report
from guerdon.contracts import Curve, Estimate, Example, Finding, GuerdonError, Quantity, Report, Rollouts
from guerdon.formulas import best_of_n, drift
from guerdon.models.estimates import OPTIMIZATION, number

__all__ = ["measure_pool"]

EXAMPLES = 3
DRIFTS: Mapping[str, str] = {
    "repetition": "share of repeated 4-grams in a reply",
    "spread": "disagreement of the reward's members",
    "shifted": "share outside the reward model's training distribution",
    "partly_read": "share that the reward did not see whole",
    "distinct_1": "share of different words, over all replies",
    "distinct_2": "share of different pairs of words, over all replies",
}
QUANTITIES: Mapping[str, Quantity] = {
    "repetition": Quantity(
        "repetition", "share", OPTIMIZATION, "runs of four words in a chosen reply that occurred in it before"
    ),
    "repetition_gain": Quantity("repetition, gain", "share", OPTIMIZATION, "the same, minus that of any reply"),
    "distinct_1": Quantity(
        "different words", "share", OPTIMIZATION, "among all words in the chosen replies' beginnings"
    ),
    "distinct_2": Quantity(
        "different pairs of words", "share", OPTIMIZATION, "among all in the chosen replies' beginnings"
    ),
    "partly_read": Quantity(
        "seen in part", "share", OPTIMIZATION, "chosen replies of which the reward did not see the beginning"
    ),
    "partly_read_gain": Quantity("seen in part, gain", "share", OPTIMIZATION, "the same, minus that of any reply"),
    "spread": Quantity("members' spread", "nats", OPTIMIZATION, "standard deviation between an ensemble's members"),
    "spread_gain": Quantity(
        "members' spread, gain", "nats", OPTIMIZATION, "of a chosen reply, minus that of any reply"
    ),
    "shifted": Quantity(
        "outside the training data", "share", OPTIMIZATION, "chosen replies with a conformal p-value of at most 0.05"
    ),
    "shifted_gain": Quantity("outside, gain", "share", OPTIMIZATION, "the same, minus that of any reply"),
}


def measure_pool(
    pool: Rollouts,
    *,
    about: Mapping[str, str] | None = None,
    most_n: int | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Report:
    """Whether the reward still holds in best-of-n on a pool, at n = 1, 2, 4, ... up to `most_n` (N / 4 unless given).

    Keys and curves as for a run, at the largest n; and of the chosen responses, how often they repeat themselves
    (repetition, repetition_gain), how diverse they are together (distinct_1, distinct_2), how far an ensemble's members
    disagree on them (spread, spread_gain) and what share of them is outside the reward model's training distribution
    (shifted, shifted_gain); with gold also the forecast of KL-regularized RL (gold_by_proxy_forecast, and a finding if
    gold turns within reach). KL is estimated from log-probabilities if the pool has them, from how often responses repeat
    if more than 5 % do, and bounded otherwise.
    """
    ns = _checked_ns(pool, most_n)
    path, kl_source = path_of_pool(pool, ns)
    bootstrap = Bootstrap(draws, seed)
    report = path_report("Over-optimization: best of n", path, bootstrap)
    estimates, findings, curves = _drifts(pool, ns, path, bootstrap)
    gold = pool.by_prompt(pool.gold)
    if gold is not None:
        frontier = tilted_frontier(pool.reward_by_prompt, gold)
        findings.append(forecast_finding(pool.reward_by_prompt, gold, frontier))
        curves |= forecast_curve(frontier, bootstrap)
    facts = {
        "prompts": f"{len(pool.prompts_once):,}",
        "replies per prompt": str(pool.samples),
        "largest n": str(ns[-1]),
        "KL from": kl_source,
    }
    return replace(
        report,
        about={**report.about, **(about or {}), **facts},
        estimates={**report.estimates, **estimates},
        findings=(*report.findings, *findings),
        curves={**report.curves, **curves},
        examples=_examples(pool),
        quantities={**report.quantities, **QUANTITIES},
    )


def _checked_ns(pool: Rollouts, most_n: int | None) -> Sequence[int]:
    if not len(pool):
        raise GuerdonError("pool: must have at least one prompt, got none. Draw a pool of several prompts.")
    for name in ("reward", "gold", "length", "std", "shift_p"):
        column = getattr(pool, name)
        if column is not None and not np.isfinite(column).all():
            bad = column[~np.isfinite(column)][0]
            raise GuerdonError(f"pool: {name} must be finite for every reply, got {bad}. Leave its prompt out.")
    if most_n is not None and not 1 <= most_n <= pool.samples:
        raise GuerdonError(
            f"pool: most_n must be from 1 to its {pool.samples} replies per prompt, got {most_n}. Lower it, or draw more."
        )
    ns = best_of_n.default_ns(pool.samples, most_n)
    if len(ns) < 2:
        raise GuerdonError(f"pool: must have 8 or more replies per prompt for a curve, got {pool.samples}. Draw more.")
    return ns


# ---- How the chosen responses drift ------------------------------------------------------------------------------


def _drifts(
    pool: Rollouts, ns: Sequence[int], path: OptimizationPath, bootstrap: Bootstrap
) -> tuple[dict[str, Estimate], list[Finding], dict[str, Curve]]:
    """Of the response that the proxy chooses from n, by n: unbiased, as the rewards are. Diversity is of a set of
    responses, one per prompt: those chosen from the first n."""
    rewards = pool.reward_by_prompt
    tables = {
        "repetition": text_table(pool, drift.repetition),
        "spread": pool.std,
        "shifted": None if pool.shift_p is None else (pool.shift_p <= drift.SHIFT_ALPHA).astype(np.float64),
        "partly_read": None if pool.truncated is None else pool.truncated.astype(np.float64),
    }
    estimates: dict[str, Estimate] = {}
    curves: dict[str, Curve] = {}
    for name, table in tables.items():
        if table is None:
            continue
        by_n = best_of_n.curve(rewards, table.reshape(rewards.shape), ns).T
        (by_n,) = drift.complete_prompts(pool.prompts_once, by_n)
        estimates |= {name: bootstrap.mean(by_n[-1]), f"{name}_gain": bootstrap.mean(by_n[-1] - by_n[0])}
        curves[f"{name}_by_kl"] = curve_by_kl(path, by_n, DRIFTS[name], bootstrap)
    first = np.arange(0, len(pool), pool.samples)
    chosen = [[pool.responses[i].text for i in first + rewards[:, :n].argmax(axis=1)] for n in ns]
    for k in (1, 2):
        y = tuple(Estimate(*drift.distinct(texts, k)) for texts in chosen)
        estimates[f"distinct_{k}"] = y[-1]
        label = DRIFTS[f"distinct_{k}"]
        curves[f"distinct_{k}_by_kl"] = Curve(tuple(path.d.tolist()), y, DISTANCE_LABEL, label)
    gain = bootstrap.mean(path.proxy[-1] - path.proxy[0])
    return estimates, _drift_findings(estimates, gain), curves


def _drift_findings(estimates: Mapping[str, Estimate], gain: Estimate) -> list[Finding]:
    findings = []
    now, more = estimates["repetition"], estimates["repetition_gain"]
    if more.low > 0 and now.value > max(drift.REPETITION_ALARM * (now.value - more.value), drift.MIN_REPETITION):
        title = "The chosen replies repeat themselves"
        evidence = f"share of repeated runs of four words: {number(now)}, {number(more)} more than without a choice"
        findings.append(Finding("warning", title, evidence, "Read them before you use them."))
    truncated = estimates.get("partly_read")
    if truncated is not None and truncated.value > 0:
        title = "The reward saw only part of some texts"
        evidence = (
            f"share of the chosen replies that, with their prompt, were too long for the reward: {number(truncated)}"
        )
        remedy = "Shorter replies (best_of_n.max_tokens) or prompts, or a reward model with a larger max_length."
        findings.append(Finding("warning", title, evidence, remedy))
    if "spread" in estimates and estimates["spread_gain"].low > 0 and estimates["spread_gain"].value > gain.value:
        title = "The members disagree by more than was gained"
        evidence = (
            f"spread of the members has grown by {number(estimates['spread_gain'])}, their mean by {number(gain)}"
        )
        remedy = "Choose by a cautious rule (min, or mean less a multiple of the variance)."
        findings.append(Finding("warning", title, evidence, remedy))
    shifted, alpha = estimates.get("shifted"), drift.SHIFT_ALPHA
    if shifted is not None and shifted.value > drift.SHIFT_ALARM * alpha and shifted.low > alpha:
        title = "The chosen replies have left what the reward model was trained on"
        evidence = f"share with a p-value of at most {alpha}: {number(shifted)}; without a shift it is {alpha}"
        remedy = "Have such replies compared by people, and train the reward model on them."
        findings.append(Finding("warning", title, evidence, remedy))
    return findings


# ---- Examples ----------------------------------------------------------------------------------------------------


def _examples(pool: Rollouts) -> tuple[Example, ...]:
    """The choices of proxy and gold for a few prompts: where gold loses most by the proxy's choice."""
    proxy, gold = pool.reward_by_prompt, pool.by_prompt(pool.gold)
    if gold is None:
        return ()
    rows = np.arange(len(proxy))
    best_by_proxy, best_by_gold = proxy.argmax(axis=1), gold.argmax(axis=1)
    lost = gold[rows, best_by_gold] - gold[rows, best_by_proxy]
    responses = pool.responses_by_prompt
    return tuple(
        Example(
            title="The proxy's choice and gold's",
            prompt=pool.prompts_once[i],
            responses=(responses[i][best_by_proxy[i]], responses[i][best_by_gold[i]]),
            labels=(
                f"the proxy's choice, gold {gold[i, best_by_proxy[i]]:+.2f}, proxy",
                f"gold's choice, gold {gold[i, best_by_gold[i]]:+.2f}, proxy",
            ),
            rewards=(float(proxy[i, best_by_proxy[i]]), float(proxy[i, best_by_gold[i]])),
        )
        for i in np.argsort(-lost, kind="stable")[:EXAMPLES]
        if lost[i] > 0
    )
