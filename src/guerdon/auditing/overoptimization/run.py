"""Whether a reward still holds in a run that optimized it, from the run's checks on held-out prompts.

Axes: m checks in order, the first of the initial policy; p prompts. The proxy is the reward that was optimized, gold one that
only judges. Gains are over the initial policy, prompt by prompt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from guerdon.auditing.overoptimization.forecast import QUANTITIES, compare_with_forecast
from guerdon.auditing.overoptimization.path import Bootstrap, Trajectory, path_of_run
from guerdon.auditing.overoptimization.pool import measure_pool
from guerdon.auditing.overoptimization.report import path_report
from guerdon.contracts import Example, Finding, Prompt, Report, Response, Rollouts
from guerdon.formulas import drift

__all__ = ["measure_run"]

EXAMPLES = 3


def measure_run(
    run: Trajectory,
    pool: Rollouts | None = None,
    *,
    alerts: Sequence[Finding] = (),
    about: Mapping[str, str] | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Report:
    """Whether the reward still holds in a run; with a pool of the run's initial policy, compared with its forecast.

    Keys: proxy_gain, length_gain, length_share and length_correlation; with gold also gold_gain, gold_drop,
    gold_per_proxy, gold_per_proxy_late, falling_prompts, law_alpha, law_beta and, if a peak was observed, peak_kl and
    peak_gold; with a pool also forecast_gold and forecast_error. Curves: proxy_by_kl, gold_by_kl, length_by_kl,
    gold_by_proxy, gold_by_proxy_forecast, gold_by_proxy_best_of_n. The pool's own report is a section.
    `alerts` are findings from during the run; they come after the finding about gold.
    """
    path, bootstrap = path_of_run(run), Bootstrap(draws, seed)
    report = path_report("Over-optimization: the run", path, bootstrap, alerts)
    facts = {"checks": str(len(run.updates)), "updates": f"{run.updates[0]} to {run.updates[-1]}", **_left_out(run)}
    report = replace(report, about={**report.about, **(about or {}), **facts}, examples=_examples(run))
    if pool is None:
        return report
    if pool.gold is None or path.gold is None:
        which = "run" if path.gold is None else "pool"
        evidence = f"the {which} has no gold, and a forecast is of gold"
        findings = [Finding("note", "No forecast for this run", evidence, f"Give the {which} a gold judge.")]
        report = replace(report, findings=(*report.findings, *findings))
    else:
        estimates, findings, curves = compare_with_forecast(path, pool, bootstrap)
        report = replace(
            report,
            estimates={**report.estimates, **estimates},
            findings=(*report.findings, *findings),
            curves={**report.curves, **curves},
            quantities={**report.quantities, **QUANTITIES},
        )
    return replace(report, sections=(measure_pool(pool, draws=draws, seed=seed),))


def _left_out(run: Trajectory) -> dict[str, str]:
    """How many checks and prompts are left out because they lack numbers, if any are."""
    tables = [table for table in (run.proxy, run.kl, run.length, run.gold) if table is not None]
    rows = drift.complete_rows(*tables)
    facts = {}
    if missing := len(run.updates) - len(rows):
        facts["checks left out"] = f"{missing} of {len(run.updates)}: too many prompts lack a number there"
    num_complete = int(np.all([np.isfinite(table[rows]).all(axis=0) for table in tables], axis=0).sum())
    if missing := len(run.names) - num_complete:
        facts["prompts left out"] = f"{missing} of {len(run.names)}: a number is missing at some check"
    return facts


def _examples(run: Trajectory) -> tuple[Example, ...]:
    """A few prompts' replies at the first, the best and the last check: where gold fell most, or the proxy rose most."""
    if run.texts is None:
        return ()
    last = len(run.updates) - 1
    shown: tuple[int, ...] = (0, last)
    change, title = run.proxy[-1] - run.proxy[0], "Where the proxy rose most"
    if run.gold is not None:
        rows = drift.complete_rows(run.gold)
        usable = np.isfinite(run.gold[rows]).all(axis=0)
        best = int(rows[np.argmax(run.gold[rows][:, usable].mean(axis=1))])
        shown = tuple(sorted({0, best, last}))
        if best < last:
            change, title = run.gold[best] - run.gold[-1], "Where gold fell most"
    names = {0: "first", last: "last"}
    order = [int(i) for i in np.argsort(-np.nan_to_num(change, nan=-math.inf), kind="stable")][:EXAMPLES]

    def label(check: int, i: int) -> str:
        gold = "" if run.gold is None else f", gold {run.gold[check, i]:+.2f}"
        return f"{names.get(check, 'best by gold')} check, update {run.updates[check]}{gold}, proxy"

    return tuple(
        Example(
            title=title,
            prompt=run.prompts[i] if run.prompts is not None else Prompt(),
            responses=tuple(Response(run.texts[check][i]) for check in shown),
            labels=tuple(label(check, i) for check in shown),
            rewards=tuple(float(run.proxy[check, i]) for check in shown),
        )
        for i in order
    )
