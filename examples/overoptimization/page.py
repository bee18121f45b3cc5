"""What came of the experiment: summary.md, and two drawings of gold and proxy against the distance from the policy."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gold
import numpy as np

from guerdon.contracts import Curve, Estimate, Report, Rollouts
from guerdon.formulas.resampling import bootstrap_mean
from guerdon.io import readers, writers
from guerdon.io.reports import from_json
from guerdon.optimization import read_pool

COLORS = ("#9a3412", "#b7791f", "#0f766e", "#1d4ed8", "#6d28d9", "#475569")
TURNED, FELL, ROSE, FLAT = "rose, then fell", "only fell", "rose, no fall shown", "neither shown"


def runs(asked: argparse.Namespace) -> dict[str, tuple[str, float]]:
    """Each PPO run's folder, with the proxy that it pushes and its price of KL."""
    middle = {f"ppo-{coef:g}": (str(asked.middle), coef) for coef in asked.kl_coef}
    first = asked.kl_coef[0]
    return middle | {f"ppo-{proxy}-{first:g}": (proxy, first) for proxy in asked.pushed}


def write(
    out: Path, pools: Sequence[str], runs: Mapping[str, tuple[str, float]], asked: argparse.Namespace, settings: Any
) -> None:
    """summary.md, best-of-n.svg and ppo.svg in the folder, from the reports and pools that are there."""
    best = {name: read_report(out / f"best-of-n-{name}" / "report.json") for name in pools}
    held = {name: read_pool(out / f"pool-{name}.jsonl").rollouts for name in pools}
    ran = {name: read_report(out / name / "forecast" / "report.json") for name in runs}
    units = {name: spread(pool.reward_by_prompt) for name, pool in held.items()}
    draw_curves(out / "best-of-n.svg", best, units, "best of n", {name: label(name, asked) for name in pools})
    names = {name: f"{label(proxy, asked)}, β = {coef:g}" for name, (proxy, coef) in runs.items()}
    draw_curves(out / "ppo.svg", ran, {name: units[proxy] for name, (proxy, _) in runs.items()}, "PPO", names)
    sections = [
        "# What optimization did to the reward",
        conditions(asked, settings),
        "Gold: the untouched policy's mean is 0 and the standard deviation of its replies is 1. Intervals are 95 %, by prompt; "
        "that of a drop allows for the best point having been chosen.",
        "## Best of n",
        "![Gold and proxy against √KL, best of n](best-of-n.svg)",
        best_table(best, held, asked),
        *(said(f"Best of n, {label(name, asked)}", report) for name, report in best.items()),
        later([str(size) for size in asked.sizes], best, asked.n),
        "## What the proxies chose",
        chosen_table(held, settings, asked),
        "## PPO",
        "![Gold and proxy against √KL, PPO](ppo.svg)",
        run_table(ran, names),
        *(said(f"PPO, {names[name]}", report) for name, report in ran.items()),
        "## Did gold rise and then fall?",
        answer(best, ran),
    ]
    writers.write_text(out / "summary.md", "\n\n".join(section for section in sections if section) + "\n")


def read_report(place: Path) -> Report:
    return from_json(readers.read_json(place))


def spread(proxy: np.ndarray) -> float:
    """Standard deviation of a reward among the replies to one prompt, the mean over prompts; [p, N] in."""
    return float(proxy.std(axis=1).mean()) or 1.0


def label(name: str, asked: argparse.Namespace) -> str:
    ensembles = {"mean": "mean of {}", "cautious": "cautious ensemble of {}"}
    return ensembles[name].format(asked.members) + f" × {asked.middle}" if name in ensembles else f"{name} comparisons"


# ---- In words ----------------------------------------------------------------------------------------------------


def outcome(report: Report) -> str:
    """Whether gold turned. The rise is that of the best point, which was chosen for it; the fall's interval allows for that."""
    course = report.curves["gold_by_kl"]
    top = peak(course)
    rose = top > 0 and course.y[top].low > 0
    fell = report.estimates["gold_drop"].low > 0
    return TURNED if rose and fell else FELL if fell else ROSE if rose else FLAT


def peak(course: Curve) -> int:
    return int(np.argmax([estimate.value for estimate in course.y]))


def said(title: str, report: Report) -> str:
    return f"* {title}: **{outcome(report)}**. {report.summary}"


def conditions(asked: argparse.Namespace, settings: Mapping[str, Any]) -> str:
    judge = f"the reward model {settings['kind']}"
    if settings["kind"] == "rule":
        beyond = settings["longer than enough"]
        judge = f"a rule ({settings['enough']} words are enough; {beyond:.0%} of the policy's replies have more)"
    return (
        f"Policy {asked.policy}, replies of up to {asked.tokens} tokens; gold is {judge}; {asked.noise:.0%} of the verdicts that "
        f"the proxies learned from are turned round; best of n on {asked.pool_prompts} prompts × {asked.n} replies; "
        f"PPO of {asked.updates} updates × {asked.batch} replies at learning rate {asked.lr:g}; seed {asked.seed}."
    )


def later(sizes: Sequence[str], best: Mapping[str, Report], most: int) -> str:
    tops = ", ".join(f"{min(2 ** peak(best[size].curves['gold_by_kl']), most)} for {size}" for size in sizes)
    return f"n at which gold stood highest, by comparisons: {tops}. One pool, one seed: an order, not a test of it."


def answer(best: Mapping[str, Report], ran: Mapping[str, Report]) -> str:
    found = {"best of n": best, "PPO": ran}
    lines = []
    for way, reports in found.items():
        turned = [name for name, report in reports.items() if outcome(report) == TURNED]
        count = f"{len(turned)} of {len(reports)}"
        which = f" ({', '.join(turned)})" if turned else ""
        lines.append(f"* {way}: {'yes' if turned else 'no'}, in {count}{which}.")
    if not any(outcome(report) == TURNED for reports in found.values() for report in reports.values()):
        lines.append(
            "\nGold did not turn anywhere. Look above: a proxy that agrees with gold on half the pairs has learned nothing, so "
            "nothing rises; one that agrees on most has seen where gold turns; a last point where gold still rises asks for "
            "a larger n or more updates."
        )
    return "\n".join(lines)


# ---- Tables ------------------------------------------------------------------------------------------------------


def best_table(best: Mapping[str, Report], held: Mapping[str, Rollouts], asked: argparse.Namespace) -> str:
    rows = []
    for name, report in best.items():
        course = report.curves["gold_by_kl"]
        top = peak(course)
        n = min(2**top, asked.n)
        cells = [label(name, asked), short(agreement(held[name], asked)), str(n), f"{course.x[top] ** 2:.2f}"]
        rows.append([*cells, *(short(e) for e in (course.y[top], course.y[-1], report.estimates["gold_drop"]))])
    head = [
        "proxy",
        "agrees with gold",
        "best n",
        "KL there",
        "gold there",
        f"gold at n = {asked.n}",
        "drop at the end",
    ]
    return table(head, rows)


def run_table(ran: Mapping[str, Report], names: Mapping[str, str]) -> str:
    rows = []
    for name, report in ran.items():
        course = report.curves["gold_by_kl"]
        top = peak(course)
        cells = [
            names[name],
            f"{course.x[top] ** 2:.2f}",
            short(course.y[top]),
            f"{course.x[-1] ** 2:.2f}",
        ]
        error = report.estimates.get("forecast_error")
        rows.append([*cells, short(course.y[-1]), short(report.estimates["gold_drop"]), short(error) if error else "-"])
    head = [
        "proxy and price of KL",
        "KL at the best",
        "gold there",
        "KL at the end",
        "gold there",
        "drop at the end",
        "gold less the forecast",
    ]
    return table(head, rows)


def chosen_table(held: Mapping[str, Rollouts], settings: Mapping[str, Any], asked: argparse.Namespace) -> str:
    """What the rule sees in the chosen replies: where the loss comes from."""
    if settings["kind"] != "rule":
        return ""
    any_pool = next(iter(held.values()))
    rows = []
    for name in ("any reply", *held):
        pool = held.get(name, any_pool)
        best = np.arange(0, len(pool), pool.samples) + pool.reward_by_prompt.argmax(axis=1)
        chosen = pool.select(best) if name in held else pool
        seen = [gold.parts(*pair) for pair in zip(chosen.prompts, chosen.responses, strict=True)]
        words = np.array([part.words for part in seen])
        cells = [f"{words.mean():.1f}", f"{np.mean(words > settings['enough']):.0%}"]
        cells += [
            f"{np.mean([part.on_topic for part in seen]):.0%}",
            f"{np.mean([part.repeated for part in seen]):.0%}",
        ]
        rows.append([f"best of {asked.n}, {label(name, asked)}" if name in held else name, *cells])
    return table(["replies", "words", "too long", "about the topic", "words said twice"], rows)


def agreement(pool: Rollouts, asked: argparse.Namespace) -> Estimate:
    """How often proxy and gold prefer the same of two replies to one prompt, where gold prefers one; a tie is half."""
    gold_table = pool.by_prompt(pool.gold)
    assert gold_table is not None
    shares = []
    for proxy, judged in zip(pool.reward_by_prompt, gold_table, strict=True):
        wanted = np.sign(judged[:, None] - judged)
        given = np.sign(proxy[:, None] - proxy)
        shares.append(((given * wanted)[wanted != 0].mean() + 1) / 2 if (wanted != 0).any() else np.nan)
    finite = np.array([share for share in shares if np.isfinite(share)])
    return Estimate(*bootstrap_mean(finite, range(len(finite)), draws=asked.draws, seed=asked.seed))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def short(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


# ---- Drawings ----------------------------------------------------------------------------------------------------


def draw_curves(
    place: Path, reports: Mapping[str, Report], units: Mapping[str, float], title: str, names: Mapping[str, str]
) -> None:
    """Gold on the left, the proxy in its own standard deviations on the right, a line a report, intervals as bands."""
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
                course = report.curves[f"{kind}_by_kl"]
                low, middle, high = (
                    [getattr(estimate, at) / unit for estimate in course.y] for at in ("low", "value", "high")
                )
                axes.fill_between(course.x, low, high, color=color, alpha=0.13, linewidth=0)
                axes.plot(course.x, middle, color=color, linewidth=1.5, marker="o", markersize=3, label=names[name])
            axes.axhline(0, color="#888888", linewidth=0.7)
            axes.set_xlabel("√KL, nats a reply")
            axes.set_title(f"{title}: {kind}, gain in standard deviations", fontsize=9)
            axes.spines[["top", "right"]].set_visible(False)
        figure.axes[0].legend(fontsize=7, frameon=False)
        place.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(place, format="svg", metadata={"Date": None, "Creator": None})
