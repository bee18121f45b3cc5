"""The runs of this experiment, and their results: summary.md, and plots of gold and proxy against the KL to the untouched policy."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gold
import numpy as np

from guerdon.contracts import Estimate
from guerdon.formulas.clustered import clustered_mean
from guerdon.formulas.overoptimization import gold_trend
from guerdon.io import readers, writers
from guerdon.optimization.checks import Check, read_checks

COLORS = ("#b91c1c", "#1d4ed8", "#0f766e", "#b7791f", "#6d28d9", "#475569")
LINES = ("-", "--", ":")
HEAD = ("run", "comparisons", "right on", "updates", "best KL", "gold there", "last KL", "gold there", "drop")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A reward model. size: comparisons of the first round that it learns from."""

    name: str
    size: int
    seed: int


@dataclass(frozen=True, slots=True)
class Run:
    """A PPO run against a proxy, or against the mean of several. after: the run whose policy's replies were compared too."""

    name: str
    title: str
    proxies: tuple[Proxy, ...]
    seed: int
    kl_coef: float = 0.0
    after: str = ""


def runs(args: argparse.Namespace) -> list[Run]:
    """All runs, the most important first."""
    first = args.seeds[0]
    proxies = {seed: Proxy(f"proxy-seed-{seed}", args.size, seed) for seed in args.seeds}
    round_1 = [Run(f"round-1-seed-{s}", f"first round, seed {s}", (proxies[s],), s) for s in args.seeds]
    round_2 = []
    for run in round_1:
        proxy = Proxy(f"proxy-round-2-seed-{run.seed}", args.size, run.seed)
        title = f"second round, seed {run.seed}"
        round_2.append(Run(f"round-2-seed-{run.seed}", title, (proxy,), run.seed, after=run.name))
    price = Run("price", f"β = {args.price:g}", (proxies[first],), first, kl_coef=args.price)
    mean = Run("ensemble", f"mean of {len(proxies)} proxies", tuple(proxies.values()), first)
    sizes = [Run(f"size-{n}", f"{n} comparisons", (Proxy(f"proxy-{n}", n, first),), first) for n in args.sizes]
    return [*round_1, *round_2, price, mean, *sizes]


def write(out: Path, args: argparse.Namespace) -> None:
    """Write summary.md, rounds.svg and others.svg from the runs that are complete in the folder."""
    complete = [run for run in runs(args) if (out / run.name / "report.html").exists()]
    checks = {run: read_checks(out / run.name / "checks.jsonl") for run in complete}
    rounds = {
        name: {run: checks[run] for run in complete if run.name.startswith(name)} for name in ("round-1", "round-2")
    }
    others = {run: of_run for run, of_run in checks.items() if not run.after and run.seed == args.seeds[0]}
    colors = {run: COLORS[1 if run.after else 0] for run in checks}
    plot(out / "rounds.svg", {run: checks[run] for of_round in rounds.values() for run in of_round}, colors)
    sections = [
        "# What optimization did to the reward",
        conditions(args),
        "![Gold and proxy against KL, both rounds](rounds.svg)",
        table(HEAD, [row(out, run, checks[run]) for run in complete]),
        "Right on: of unseen pairs without noise. Intervals are 95 %, over held-out prompts. The drop is from the best check to "
        "the last, and its interval allows for the choice of the best. Gold is in standard deviations of the untouched "
        "policy's sentiment.",
        *combined_lines(rounds),
        "## Where gold is lost",
        parts_table(checks, readers.read_json(out / "gold.json")),
    ]
    if len(others) > 1:
        plot(out / "others.svg", others, dict(zip(others, COLORS, strict=False)))
        sections += ["## Other ways to hold it", "![Gold and proxy against KL, other runs of a seed](others.svg)"]
    sections += ["## Replies", examples(checks)]
    writers.write_text(out / "summary.md", "\n\n".join(section for section in sections if section) + "\n")


def conditions(args: argparse.Namespace) -> str:
    return (
        f"Policy {args.policy}, one-sentence replies of up to {args.label_tokens} tokens for the first comparisons and "
        f"{args.tokens} under optimization; {args.noise:.0%} of the preferences are reversed; PPO of {args.updates} updates × "
        f"{args.batch} replies at learning rate {args.lr:g}, without a price of KL "
        f"where none is named; checks on {args.check_prompts} other prompts."
    )


# ---- Estimates ---------------------------------------------------------------------------------------------------


def gold_table(checks: Sequence[Check]) -> np.ndarray:
    """Gold [checks, prompts]."""
    return np.array([check.gold for check in checks], dtype=float)


def peak_and_last(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each prompt's gold at the best check and at the last [p], from gold [checks, prompts].

    A check that is chosen because its mean is high is lower than it looks. So the prompts are split in half, and the best
    check for one half is the one that is highest on the other.
    """
    peak, half = np.empty(table.shape[1]), np.arange(table.shape[1]) % 2
    for which in (0, 1):
        best = int(np.argmax(table[:, half != which].mean(axis=1)))
        peak[half == which] = table[best, half == which]
    return peak, table[-1]


def mean_over_prompts(values: Sequence[np.ndarray]) -> Estimate:
    """The mean of numbers per prompt [p], averaged over runs first: their prompts are the same."""
    mean = np.mean(values, axis=0)
    return Estimate(*clustered_mean(mean, range(len(mean))))


def combined_lines(rounds: Mapping[str, Mapping[Run, Sequence[Check]]]) -> list[str]:
    """What all seeds together say, about drops and about the second round less the first."""
    ends = {
        name: {run.seed: peak_and_last(gold_table(of)) for run, of in found.items()} for name, found in rounds.items()
    }
    lines = []
    for name, title in (("round-1", "first"), ("round-2", "second")):
        if ends[name]:
            fall = mean_over_prompts([peak - last for peak, last in ends[name].values()])
            lines.append(
                f"* Drop of gold in the {title} round, {len(ends[name])} seed(s) together: **{short(fall)}**. The best check for "
                "half of the prompts is chosen on the other half."
            )
    if both := sorted(set(ends["round-1"]) & set(ends["round-2"])):
        pairs = [(ends["round-1"][seed], ends["round-2"][seed]) for seed in both]
        for i, what in enumerate(("at the best check", "at the end")):
            gain = mean_over_prompts([second[i] - first[i] for first, second in pairs])
            lines.append(f"* Gold {what}, second round less first, {len(both)} seed(s) together: **{short(gain)}**.")
    return ["\n".join(lines)]


# ---- Tables ------------------------------------------------------------------------------------------------------


def best_check(checks: Sequence[Check]) -> int:
    return int(np.argmax(gold_table(checks).mean(axis=1)))


def row(out: Path, run: Run, checks: Sequence[Check]) -> list[str]:
    best, last = checks[best_check(checks)], checks[-1]
    proxies = [readers.read_json(out / proxy.name / "proxy.json") for proxy in run.proxies]
    drop = gold_trend(np.arange(len(checks), dtype=float), gold_table(checks).T).drop
    return [
        run.title,
        " + ".join(str(proxy["comparisons"]) for proxy in proxies),
        ", ".join(f"{proxy['accuracy'][0]:.0%}" for proxy in proxies),
        str(last.update),
        *(
            cell
            for check in (best, last)
            for cell in (f"{abs(check.kl.mean()):.0f}", short(mean_over_prompts([check.gold])))
        ),
        short(Estimate(*drop)),
    ]


def parts_table(checks: Mapping[Run, Sequence[Check]], scales: Mapping[str, float]) -> str:
    """What gold consists of at the first, the best and the last check: it shows where a loss comes from."""
    rows = []
    for run, of_run in checks.items():
        for name, check in (("start", of_run[0]), ("best", of_run[best_check(of_run)]), ("end", of_run[-1])):
            sentiment, length = gold.sentiment(check.texts, scales), gold.length(check.texts)
            repeated = gold.repetition(check.texts)
            odd = sentiment - length - repeated - check.gold
            columns = (sentiment, -length, -repeated, -odd, check.gold, gold.words(check.texts))
            cells = [f"{column.mean():.2f}" for column in columns]
            rows.append([f"{run.title}, {name}", *cells])
    return table(("check", "sentiment", "length", "repeated words", "odd language", "gold", "words"), rows)


def examples(checks: Mapping[Run, Sequence[Check]], prompts: int = 2) -> str:
    """The first prompts' replies at the first, the best and the last check of the first run."""
    lines = []
    for run, of_run in checks.items():
        if run.name.startswith("round-"):
            lines.append(f"{run.title}:")
            for name, check in (("start", of_run[0]), ("best", of_run[best_check(of_run)]), ("end", of_run[-1])):
                lines += [
                    f"* {name}, gold {check.gold[i]:.2f}: `{' '.join(check.texts[i].replace('`', ' ').split())}`"
                    for i in range(prompts)
                ]
            lines.append("")
    return "\n".join(lines)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def short(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


# ---- Plots -------------------------------------------------------------------------------------------------------


def plot(place: Path, checks: Mapping[Run, Sequence[Check]], colors: Mapping[Run, str]) -> None:
    """Plot gold left and the proxy right, in its standard deviations at the start: a line per run, dashed by seed, with standard errors."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: Any = {"svg.fonttype": "none", "svg.hashsalt": place.name, "font.size": 9, "text.parse_math": False}
    with mpl.rc_context(style):
        figure = Figure(figsize=(8.4, 3.2), layout="constrained", facecolor="white")
        FigureCanvasSVG(figure)
        for axes, kind in zip(figure.subplots(1, 2), ("gold", "proxy"), strict=True):
            for run, of_run in checks.items():
                values = np.array([getattr(check, kind) for check in of_run])
                unit = 1.0 if kind == "gold" else values[0].std() or 1.0
                mean, error = values.mean(axis=1) / unit, values.std(axis=1) / unit / np.sqrt(values.shape[1])
                kl = [check.kl.mean() for check in of_run]
                axes.fill_between(kl, mean - error, mean + error, color=colors[run], alpha=0.13, linewidth=0)
                line = LINES[run.seed % len(LINES)]
                axes.plot(kl, mean, line, color=colors[run], linewidth=1.4, marker="o", markersize=2.5, label=run.title)
            axes.set_xlabel("KL to the untouched policy, nats a reply")
            axes.set_title(
                {"gold": "gold: what people would say", "proxy": "proxy: what is optimized"}[kind], fontsize=9
            )
            axes.spines[["top", "right"]].set_visible(False)
        figure.axes[0].legend(fontsize=7, frameon=False)
        figure.savefig(place, format="svg", metadata={"Date": None, "Creator": None})
