"""The results: summary.md, and two plots of gold and proxy against the distance from the untouched policy."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gold
import numpy as np

from guerdon.contracts import Curve, Estimate, Report, Rollouts
from guerdon.formulas.clustered import clustered_share
from guerdon.io import readers, writers
from guerdon.io.reports import from_json
from guerdon.optimization import read_pool

COLORS = ("#9a3412", "#b7791f", "#0f766e", "#1d4ed8", "#6d28d9", "#475569")
TURNED, FELL, ROSE, FLAT = "rose, then fell", "only fell", "rose, no fall shown", "neither shown"


def runs(args: argparse.Namespace) -> dict[str, tuple[str, float]]:
    """The folder of each PPO run, with the proxy that it optimizes and its KL coefficient."""
    middle = {f"ppo-{coef:g}": (str(args.middle), coef) for coef in args.kl_coef}
    first = args.kl_coef[0]
    return middle | {f"ppo-{proxy}-{first:g}": (proxy, first) for proxy in args.pushed}


def write(
    out: Path, pools: Sequence[str], runs: Mapping[str, tuple[str, float]], args: argparse.Namespace, settings: Any
) -> None:
    """Write summary.md, best-of-n.svg and ppo.svg from the reports and pools in the folder."""
    best = {name: read_report(out / f"best-of-n-{name}" / "report.json") for name in pools}
    scored_pools = {name: read_pool(out / f"pool-{name}.jsonl").rollouts for name in pools}
    ran = {name: read_report(out / name / "forecast" / "report.json") for name in runs}
    units = {name: spread(pool.reward_by_prompt) for name, pool in scored_pools.items()}
    plot_curves(out / "best-of-n.svg", best, units, "best of n", {name: label(name, args) for name in pools})
    names = {name: f"{label(proxy, args)}, β = {coef:g}" for name, (proxy, coef) in runs.items()}
    plot_curves(out / "ppo.svg", ran, {name: units[proxy] for name, (proxy, _) in runs.items()}, "PPO", names)
    sections = [
        "# What optimization did to the reward",
        conditions(args, settings),
        "Gold: the untouched policy's mean is 0 and the standard deviation of its replies is 1. Intervals are 95 %, by prompt; "
        "that of a drop allows for the choice of the best point.",
        "## Best of n",
        "![Gold and proxy against √KL, best of n](best-of-n.svg)",
        best_table(best, scored_pools, args),
        *(summary_line(f"Best of n, {label(name, args)}", report) for name, report in best.items()),
        best_n_by_size([str(size) for size in args.sizes], best, args.n),
        "## What the proxies chose",
        chosen_table(scored_pools, settings, args),
        "## PPO",
        "![Gold and proxy against √KL, PPO](ppo.svg)",
        run_table(ran, names),
        *(summary_line(f"PPO, {names[name]}", report) for name, report in ran.items()),
        "## Did gold rise and then fall?",
        turned_lines(best, ran),
    ]
    writers.write_text(out / "summary.md", "\n\n".join(section for section in sections if section) + "\n")


def read_report(place: Path) -> Report:
    return from_json(readers.read_json(place))


def spread(proxy: np.ndarray) -> float:
    """Mean over prompts of the standard deviation of a reward [p, N] among the replies to one prompt."""
    return float(proxy.std(axis=1).mean()) or 1.0


def label(name: str, args: argparse.Namespace) -> str:
    ensembles = {"mean": "mean of {}", "cautious": "cautious ensemble of {}"}
    return ensembles[name].format(args.members) + f" × {args.middle}" if name in ensembles else f"{name} comparisons"


# ---- Sentences ---------------------------------------------------------------------------------------------------


def outcome(report: Report) -> str:
    """Whether gold rose and then fell. The rise is that of the best point; the interval of the fall allows for its choice."""
    curve = report.curves["gold_by_kl"]
    top = peak(curve)
    rose = top > 0 and curve.y[top].low > 0
    fell = report.estimates["gold_drop"].low > 0
    return TURNED if rose and fell else FELL if fell else ROSE if rose else FLAT


def peak(curve: Curve) -> int:
    return int(np.argmax([estimate.value for estimate in curve.y]))


def summary_line(title: str, report: Report) -> str:
    return f"* {title}: **{outcome(report)}**. {report.summary}"


def conditions(args: argparse.Namespace, settings: Mapping[str, Any]) -> str:
    judge = f"the reward model {settings['kind']}"
    if settings["kind"] == "rule":
        beyond = settings["longer than enough"]
        judge = f"a rule ({settings['enough']} words are enough; {beyond:.0%} of the policy's replies have more)"
    return (
        f"Policy {args.policy}, replies of up to {args.tokens} tokens; gold is {judge}; {args.noise:.0%} of the preferences that "
        f"the proxies learned from are reversed; best of n on {args.pool_prompts} prompts × {args.n} replies; "
        f"PPO of {args.updates} updates × {args.batch} replies at learning rate {args.lr:g}; seed {args.seed}."
    )


def best_n_by_size(sizes: Sequence[str], best: Mapping[str, Report], most: int) -> str:
    tops = ", ".join(f"{min(2 ** peak(best[size].curves['gold_by_kl']), most)} for {size}" for size in sizes)
    return f"n at which gold was highest, by comparisons: {tops}. One pool, one seed: an order, not a test of it."


def turned_lines(best: Mapping[str, Report], ran: Mapping[str, Report]) -> str:
    methods = {"best of n": best, "PPO": ran}
    lines = []
    for method, reports in methods.items():
        turned = [name for name, report in reports.items() if outcome(report) == TURNED]
        count = f"{len(turned)} of {len(reports)}"
        which = f" ({', '.join(turned)})" if turned else ""
        lines.append(f"* {method}: {'yes' if turned else 'no'}, in {count}{which}.")
    if not any(outcome(report) == TURNED for reports in methods.values() for report in reports.values()):
        lines.append(
            "\nGold fell nowhere. Three reasons show above: a proxy that agrees with gold on half the pairs has learned nothing, so "
            "nothing rises; one that agrees on most pairs has learned where gold falls; and if gold still rises at the last "
            "point, a larger n or more updates are needed."
        )
    return "\n".join(lines)


# ---- Tables ------------------------------------------------------------------------------------------------------


def best_table(best: Mapping[str, Report], pools: Mapping[str, Rollouts], args: argparse.Namespace) -> str:
    rows = []
    for name, report in best.items():
        curve = report.curves["gold_by_kl"]
        top = peak(curve)
        n = min(2**top, args.n)
        cells = [label(name, args), short(agreement(pools[name], args)), str(n), f"{curve.x[top] ** 2:.2f}"]
        rows.append([*cells, *(short(e) for e in (curve.y[top], curve.y[-1], report.estimates["gold_drop"]))])
    head = [
        "proxy",
        "agrees with gold",
        "best n",
        "KL there",
        "gold there",
        f"gold at n = {args.n}",
        "drop at the end",
    ]
    return table(head, rows)


def run_table(ran: Mapping[str, Report], names: Mapping[str, str]) -> str:
    rows = []
    for name, report in ran.items():
        curve = report.curves["gold_by_kl"]
        top = peak(curve)
        cells = [
            names[name],
            f"{curve.x[top] ** 2:.2f}",
            short(curve.y[top]),
            f"{curve.x[-1] ** 2:.2f}",
        ]
        error = report.estimates.get("forecast_error")
        rows.append([*cells, short(curve.y[-1]), short(report.estimates["gold_drop"]), short(error) if error else "-"])
    head = [
        "proxy and KL coefficient",
        "KL at the best",
        "gold there",
        "KL at the end",
        "gold there",
        "drop at the end",
        "gold less the forecast",
    ]
    return table(head, rows)


def chosen_table(pools: Mapping[str, Rollouts], settings: Mapping[str, Any], args: argparse.Namespace) -> str:
    """What the rule measures in the chosen replies: it shows where a loss of gold comes from."""
    if settings["kind"] != "rule":
        return ""
    any_pool = next(iter(pools.values()))
    rows = []
    for name in ("any reply", *pools):
        pool = pools.get(name, any_pool)
        best = np.arange(0, len(pool), pool.samples) + pool.reward_by_prompt.argmax(axis=1)
        chosen = pool.select(best) if name in pools else pool
        measured = [gold.parts(*pair) for pair in zip(chosen.prompts, chosen.responses, strict=True)]
        words = np.array([part.words for part in measured])
        cells = [f"{words.mean():.1f}", f"{np.mean(words > settings['enough']):.0%}"]
        cells += [
            f"{np.mean([part.on_topic for part in measured]):.0%}",
            f"{np.mean([part.repeated for part in measured]):.0%}",
        ]
        rows.append([f"best of {args.n}, {label(name, args)}" if name in pools else name, *cells])
    return table(["replies", "words", "too long", "about the topic", "repeated words"], rows)


def agreement(pool: Rollouts, args: argparse.Namespace) -> Estimate:
    """How often proxy and gold prefer the same of two replies to one prompt, where gold prefers one; a tie is half."""
    gold_table = pool.by_prompt(pool.gold)
    assert gold_table is not None
    shares = []
    for proxy, judged in zip(pool.reward_by_prompt, gold_table, strict=True):
        gold_sign = np.sign(judged[:, None] - judged)
        proxy_sign = np.sign(proxy[:, None] - proxy)
        shares.append(((proxy_sign * gold_sign)[gold_sign != 0].mean() + 1) / 2 if (gold_sign != 0).any() else np.nan)
    finite = np.array([share for share in shares if np.isfinite(share)])
    return Estimate(*clustered_share(finite, range(len(finite))))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def short(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


# ---- Plots -------------------------------------------------------------------------------------------------------


def plot_curves(
    place: Path, reports: Mapping[str, Report], units: Mapping[str, float], title: str, names: Mapping[str, str]
) -> None:
    """Plot gold left and the proxy, in its own standard deviations, right: a line per report, intervals as bands."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: Any = {"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 9, "text.parse_math": False}
    with mpl.rc_context(style):
        figure = Figure(figsize=(8.4, 3.4), layout="constrained", facecolor="white")
        FigureCanvasSVG(figure)
        for axes, kind in zip(figure.subplots(1, 2), ("gold", "proxy"), strict=True):
            for i, (name, report) in enumerate(reports.items()):
                unit, color = units[name] if kind == "proxy" else 1.0, COLORS[i % len(COLORS)]
                curve = report.curves[f"{kind}_by_kl"]
                low, middle, high = (
                    [getattr(estimate, at) / unit for estimate in curve.y] for at in ("low", "value", "high")
                )
                axes.fill_between(curve.x, low, high, color=color, alpha=0.13, linewidth=0)
                axes.plot(curve.x, middle, color=color, linewidth=1.5, marker="o", markersize=3, label=names[name])
            axes.axhline(0, color="#888888", linewidth=0.7)
            axes.set_xlabel("√KL, nats per reply")
            axes.set_title(f"{title}: {kind}, gain in standard deviations", fontsize=9)
            axes.spines[["top", "right"]].set_visible(False)
        figure.axes[0].legend(fontsize=7, frameon=False)
        place.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(place, format="svg", metadata={"Date": None, "Creator": None})
