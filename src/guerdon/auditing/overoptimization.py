"""Is the reward still true where it was optimized? From the checks of a run, or a pool of candidates, or both.

Axes: m checks of a run in order, the first of the untouched policy; p prompts; N candidates a prompt; c values of n. The
proxy is the reward that was optimized (or chooses among the candidates), gold one that only judges. d = √KL to the policy
that the run began from (or that drew the candidates), in root nats a sequence. Gains are over that policy, prompt by prompt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from guerdon.contracts import Curve, Estimate, Example, Finding, GuerdonError, Prompt, Quantity, Report, Response
from guerdon.formulas import best_of_n, drift, overoptimization
from guerdon.formulas.resampling import bootstrap_mean, draw_counts
from guerdon.models.estimates import OPTIMIZATION, SHARED_QUANTITIES

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from guerdon.formulas.overoptimization import FitWithIntervals, GoldTrend, Law

__all__ = ["Candidates", "Trajectory", "overoptimize_pool", "overoptimize_run"]

EXAMPLES = 3
LEAST_POINTS = 3  # at different distances, for a law of two coefficients to be more than an interpolation
MANY_COPIES = 0.05  # share of repeated candidates from which on the bound of the KL is too loose to stand alone
STRENGTHS = 40  # of tilting, from where next to nothing moves to where few samples are left
OF_SEQUENCE = "√KL, KL in nats/sequence"
LAWS: Mapping[str, str] = {"bon": "d (α - β d)", "rl": "d (α - β log d)"}
NO_GOLD = Finding(
    "warning",
    "Without a gold judge nothing can be concluded",
    "only the proxy was measured, and a proxy rises while it is being cheated",
    "Judge the same replies by something that was not optimized: a reward model trained on other comparisons, a rule, people.",
)

QUANTITIES: Mapping[str, Quantity] = {
    "gold_drop": Quantity(
        "gold, lost since its best", "number", OPTIMIZATION, "the best gold less the last, allowing for the choice"
    ),
    "length_gain": Quantity("length, gain", "number", OPTIMIZATION, "a reply; tokens, or words in a best-of-n file"),
    "length_share": Quantity(
        "gain that is length", "share", OPTIMIZATION, "share of the proxy's gain that goes with longer replies"
    ),
    "length_correlation": Quantity(
        "gain with length",
        "number",
        OPTIMIZATION,
        "correlation over prompts of the gain in proxy with the gain in length",
    ),
    "gold_per_proxy": Quantity(
        "gold per proxy", "number", OPTIMIZATION, "gold gained for a nat of proxy, from start to end"
    ),
    "gold_per_proxy_late": Quantity(
        "gold per proxy, late", "number", OPTIMIZATION, "the same over the last part; below 0 the reward misleads"
    ),
    "falling_prompts": Quantity(
        "prompts that fall", "share", OPTIMIZATION, "prompts whose gold falls over the last part"
    ),
    "law_alpha": Quantity("law, α", "number", OPTIMIZATION, "first gain per √KL; Gao et al. 2022"),
    "law_beta": Quantity("law, β", "number", OPTIMIZATION, "how soon the gain bends; Gao et al. 2022"),
    "peak_kl": Quantity("KL at the peak", "nats", OPTIMIZATION, "where gold is highest by the law, nats/sequence"),
    "peak_gold": Quantity("gold at the peak", "number", OPTIMIZATION, "its gain there, by the law"),
    "forecast_gold": Quantity(
        "forecast of gold", "number", OPTIMIZATION, "what tilting the pool says at the proxy that was reached"
    ),
    "forecast_error": Quantity("measured less forecast", "number", OPTIMIZATION, "of gold, at the same proxy"),
    "repetition": Quantity(
        "repetition", "share", OPTIMIZATION, "runs of four words in a chosen reply that stood in it before"
    ),
    "repetition_gain": Quantity("repetition, gain", "share", OPTIMIZATION, "the same, less that of any reply"),
    "distinct_1": Quantity(
        "different words", "share", OPTIMIZATION, "among all words in the chosen replies' beginnings"
    ),
    "distinct_2": Quantity(
        "different pairs of words", "share", OPTIMIZATION, "among all in the chosen replies' beginnings"
    ),
    "partly_read": Quantity(
        "seen in part", "share", OPTIMIZATION, "chosen replies of which the reward did not see the beginning"
    ),
    "partly_read_gain": Quantity("seen in part, gain", "share", OPTIMIZATION, "the same, less that of any reply"),
    "spread": Quantity("members' spread", "nats", OPTIMIZATION, "standard deviation between an ensemble's members"),
    "spread_gain": Quantity("members' spread, gain", "nats", OPTIMIZATION, "of a chosen reply, less that of any reply"),
    "shifted": Quantity(
        "outside the training data", "share", OPTIMIZATION, "chosen replies with a conformal p-value of at most 0.05"
    ),
    "shifted_gain": Quantity("outside, gain", "share", OPTIMIZATION, "the same, less that of any reply"),
    **SHARED_QUANTITIES,
}


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """A run's checks on the same prompts. Tables are [m, p]; NaN where a number is not known.

    updates: [m], of each check, rising. prompts: the texts, or None where only their names are known. names: what tells
    prompts apart; those of one name become one. length: tokens. texts: [m][p], the replies, for a person to read.
    """

    updates: tuple[int, ...]
    names: tuple[str, ...]
    proxy: Float[np.ndarray, "m p"]
    kl: Float[np.ndarray, "m p"]
    length: Float[np.ndarray, "m p"]
    gold: Float[np.ndarray, "m p"] | None = None
    texts: Sequence[Sequence[str]] | None = None
    prompts: Sequence[Prompt] | None = None

    def __post_init__(self) -> None:
        shape = (len(self.updates), len(self.names))
        for name in ("proxy", "kl", "length", "gold"):
            table = getattr(self, name)
            if table is not None and table.shape != shape:
                raise GuerdonError(
                    f"trajectory: {name} has shape {table.shape} for {shape[0]} checks of {shape[1]} prompts"
                )


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """N candidates for each of p prompts, drawn from one policy. Tables are [p, N].

    texts: [p][N]. log_prob: nats of each candidate under the policy that drew it. length: tokens; words are counted where
    it is not given. std: spread of the proxy's members. shift_p: conformal p-value of being in the reward model's training
    distribution. partly_read: whether the proxy saw only a part of a text that was too long for it.
    """

    prompts: Sequence[Prompt]
    texts: Sequence[Sequence[str]]
    proxy: Float[np.ndarray, "p N"]
    gold: Float[np.ndarray, "p N"] | None = None
    log_prob: Float[np.ndarray, "p N"] | None = None
    length: Float[np.ndarray, "p N"] | None = None
    std: Float[np.ndarray, "p N"] | None = None
    shift_p: Float[np.ndarray, "p N"] | None = None
    partly_read: Bool[np.ndarray, "p N"] | None = None

    def __post_init__(self) -> None:
        shape = self.proxy.shape
        if len(shape) != 2 or 0 in shape or len(self.prompts) != shape[0]:
            raise GuerdonError(
                f"pool: proxy has shape {shape} for {len(self.prompts)} prompts; remedy: give [prompts, N]"
            )
        for name in ("gold", "log_prob", "length", "std", "shift_p", "partly_read"):
            table = getattr(self, name)
            if table is not None and table.shape != shape:
                raise GuerdonError(f"pool: {name} has shape {table.shape} where proxy has {shape}")
        for name in ("proxy", "gold", "length", "std", "shift_p"):
            table = getattr(self, name)
            if table is not None and not np.isfinite(table).all():
                raise GuerdonError(f"pool: {name} has a number that is not finite; remedy: leave its prompt out")

    @property
    def names(self) -> tuple[Prompt, ...]:
        """What tells prompts apart: their texts."""
        return tuple(self.prompts)

    def each(self, of: Callable[[str], float]) -> Float[np.ndarray, "p N"]:
        """A number of each candidate's text."""
        return np.array([[of(text) for text in texts] for texts in self.texts], dtype=np.float64)


def overoptimize_run(
    run: Trajectory,
    pool: Candidates | None = None,
    *,
    alerts: Sequence[Finding] = (),
    about: Mapping[str, str] | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Report:
    """What is known of a reward that a run optimized; with a pool of the policy it began from, the forecast beside it.

    Keys: kl, proxy_gain, length_gain, length_share and length_correlation; with gold also gold_gain, gold_drop,
    gold_per_proxy, gold_per_proxy_late, falling_prompts, law_alpha, law_beta and, where a peak was observed, peak_kl and
    peak_gold; with a pool too forecast_gold and forecast_error. Curves: proxy_by_kl, gold_by_kl, length_by_kl,
    gold_by_proxy, gold_by_proxy_forecast, gold_by_proxy_best_of_n. The pool's own report is a section.
    `alerts` are findings made while the run went on; they are put after the finding about gold.
    """
    path = _run_path(run)
    asked = _Asked(draws, seed)
    report = _report("Was the reward still true? The run", path, asked, alerts)
    facts = {"checks": str(len(run.updates)), "updates": f"{run.updates[0]} to {run.updates[-1]}", **_left_out(run)}
    estimates, findings, curves = dict(report.estimates), list(report.findings), dict(report.curves)
    sections: tuple[Report, ...] = ()
    if pool is not None:
        sections = (overoptimize_pool(pool, draws=draws, seed=seed),)
        if pool.gold is not None and path.gold is not None:
            found, said, drawn = _beside_forecast(path, pool, asked)
            estimates |= found
            findings += said
            curves |= drawn
        else:
            which = "run" if path.gold is None else "pool"
            evidence = f"the {which} has no gold, and a forecast is of gold"
            findings.append(Finding("note", "No forecast beside the run", evidence, f"Give the {which} a gold judge."))
    return replace(
        report,
        about={**report.about, **(about or {}), **facts},
        estimates=estimates,
        quantities=QUANTITIES,
        findings=tuple(findings),
        curves=curves,
        examples=_run_examples(run),
        sections=sections,
    )


def overoptimize_pool(
    pool: Candidates,
    *,
    about: Mapping[str, str] | None = None,
    most_n: int | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Report:
    """What is known of a reward from best-of-n on a pool, at n = 1, 2, 4, ... up to `most_n` (N / 4 unless given).

    Keys and curves as for a run, at the largest n, and how often the chosen repeat themselves (repetition,
    repetition_gain), how various they are together (distinct_1, distinct_2), how far an ensemble's members disagree
    on them (spread, spread_gain) and what share of them is outside the reward model's training distribution (shifted,
    shifted_gain); with gold the forecast of KL-regularized RL too (gold_by_proxy_forecast, and forecast_turn where
    gold turns within reach). KL is estimated from log-probabilities where the pool has them, from how often
    candidates repeat where more than 5 % do, and bounded otherwise.
    """
    if most_n is not None and not 1 <= most_n <= pool.proxy.shape[1]:
        raise GuerdonError(f"most_n={most_n}: the pool has {pool.proxy.shape[1]} candidates a prompt; remedy: fewer")
    ns = best_of_n.default_ns(pool.proxy.shape[1], most_n)
    if len(ns) < 2:
        raise GuerdonError(
            f"pool: {pool.proxy.shape[1]} candidates a prompt are too few for a curve; remedy: draw 8 or more"
        )
    path, kl_from = _pool_path(pool, ns)
    asked = _Asked(draws, seed)
    report = _report("Was the reward still true? Best of n", path, asked, ())
    estimates, said, drawn = _drifts(pool, ns, path, asked)
    findings, curves = [*report.findings, *said], {**report.curves, **drawn}
    if pool.gold is not None:
        frontier = _frontier(pool)
        findings += _forecast_findings(pool, frontier)
        curves |= _forecast_curve(frontier, asked)
    facts = {
        "prompts": f"{len(pool.prompts):,}",
        "candidates a prompt": str(pool.proxy.shape[1]),
        "largest n": str(ns[-1]),
        "KL from": kl_from,
    }
    return replace(
        report,
        about={**report.about, **(about or {}), **facts},
        estimates={**report.estimates, **estimates},
        quantities=QUANTITIES,
        findings=tuple(findings),
        curves=curves,
        examples=_pool_examples(pool),
    )


# ---- What a run and a pool have in common ------------------------------------------------------------------------


class _Asked(NamedTuple):
    draws: int
    seed: int

    def mean(self, values: np.ndarray) -> Estimate:
        """Of one number a prompt."""
        return Estimate(*bootstrap_mean(values, range(len(values)), draws=self.draws, seed=self.seed))


@dataclass(frozen=True, slots=True, eq=False)
class _Path:
    """Points in order of distance, the first the reference; every table [points, u] by different prompt."""

    d: np.ndarray
    proxy: np.ndarray
    gold: np.ndarray | None
    length: np.ndarray | None
    law: Law
    points: tuple[str, ...]
    unit: str = "tokens"


def _run_path(run: Trajectory) -> _Path:
    if len(run.updates) < 2:
        raise GuerdonError(f"a run of {len(run.updates)} checks has no course; remedy: check it at least twice")
    tables = [run.proxy, run.kl, run.length, *([] if run.gold is None else [run.gold])]
    rows = drift.complete_rows(*tables)
    proxy, kl, length, *rest = drift.complete_prompts(run.names, *(table[rows] for table in tables))
    if proxy.shape[1] == 0:
        raise GuerdonError(
            "no prompt has every number at the first check and a later one; remedy: see why rewards are not finite"
        )
    d = np.sqrt(np.maximum(kl.mean(axis=1), 0.0))
    if run.updates[0] != 0 or d[0] >= overoptimization.MIN_DISTANCE:
        raise GuerdonError(
            f"the first check is of update {run.updates[0]} at KL = {d[0] ** 2:.3g}; remedy: check the untouched policy first"
        )
    d[0] = 0.0  # the policy and itself, whatever rounding says
    order = np.argsort(d, kind="stable")
    points = tuple(f"update {run.updates[rows[i]]}" for i in order)
    gold = rest[0][order] if rest else None
    return _Path(d[order], proxy[order], gold, length[order], "rl", points)


def _left_out(run: Trajectory) -> dict[str, str]:
    """Checks and prompts that lack numbers, where there are any."""
    tables = [table for table in (run.proxy, run.kl, run.length, run.gold) if table is not None]
    rows = drift.complete_rows(*tables)
    found = {}
    if missing := len(run.updates) - len(rows):
        found["checks left out"] = f"{missing} of {len(run.updates)}: too many prompts lack a number there"
    kept = int(np.all([np.isfinite(table[rows]).all(axis=0) for table in tables], axis=0).sum())
    if missing := len(run.names) - kept:
        found["prompts left out"] = f"{missing} of {len(run.names)}: a number is missing at some check"
    return found


def _pool_path(pool: Candidates, ns: Sequence[int]) -> tuple[_Path, str]:
    chance = np.stack([drift.count_copies(texts) for texts in pool.texts]) / pool.proxy.shape[1]
    repeated = 1.0 - np.mean(1.0 / (chance * pool.proxy.shape[1]))
    if pool.log_prob is not None:
        chance, kl_from = np.exp(np.minimum(pool.log_prob, 0.0)), "log-probabilities of the candidates"
    elif repeated > MANY_COPIES:
        kl_from = f"counts of equal candidates ({100 * repeated:.0f} % are repeats)"
    else:
        chance, kl_from = np.zeros_like(chance), "the bound log n - (n - 1)/n"

    chance = best_of_n.chance_of_outcome(
        pool.proxy, chance, np.stack([drift.count_copies(texts) for texts in pool.texts])
    )

    def kl(n: int) -> float:
        each = best_of_n.kl_estimate(chance.reshape(-1), n).reshape(chance.shape)
        return float(best_of_n.curve(pool.proxy, each, [n]).mean())

    def by_n(carried: np.ndarray | None) -> np.ndarray | None:
        if carried is None:
            return None
        (table,) = drift.complete_prompts(pool.names, best_of_n.curve(pool.proxy, carried, ns).T)
        return table

    d = np.maximum.accumulate(np.sqrt(np.maximum([kl(n) for n in ns], 0.0)))
    d[0] = 0.0
    proxy = by_n(pool.proxy)
    assert proxy is not None
    points = tuple(f"n = {n}" for n in ns)
    length = pool.each(lambda text: len(drift.words(text))) if pool.length is None else pool.length
    unit = "words" if pool.length is None else "tokens"
    return _Path(d, proxy, by_n(pool.gold), by_n(length), "bon", points, unit), kl_from


def _report(title: str, path: _Path, asked: _Asked, alerts: Sequence[Finding]) -> Report:
    """GoldTrend, estimates and curves of a path."""
    proxy = path.proxy - path.proxy[0]
    kl = float(path.d[-1] ** 2)
    estimates = {"proxy_gain": asked.mean(proxy[-1])}
    title_of_proxy = "The optimized reward, the further the policy goes"
    curves = {"proxy_by_kl": _curve(path, proxy, "proxy, gain in nats", asked, title_of_proxy)}
    about = {
        "KL at the end": f"{kl:.4g} nats/sequence ({path.points[-1]})",
        "different prompts": f"{path.proxy.shape[1]:,}",
        "intervals": f"95 %, {asked.draws} bootstrap draws by prompt, seed {asked.seed}",
    }
    if path.gold is None:
        findings = [NO_GOLD, *alerts]
        summary = NO_GOLD.title + "."
    else:
        gold = path.gold - path.gold[0]
        judged = overoptimization.gold_trend(path.d, gold.T, asked.seed, asked.draws)
        law = _law(path, gold, asked)
        summary = drift.describe_trend(judged, kl)
        estimates |= _gold_estimates(path, gold, proxy, judged, law, asked)
        caption = _law_words(path, gold, law)
        by_kl = _curve(path, gold, "gold, gain", asked, "The second judge, the further the policy goes")
        curves["gold_by_kl"] = replace(by_kl, caption=caption)
        by_proxy = _gold_by_proxy(proxy, gold, asked, "as measured", "Gold, for the proxy that was gained")
        curves["gold_by_proxy"] = by_proxy
        findings = [_trend_finding(judged, path), *alerts, *_peak_finding(law, judged, path)]
        findings += _per_proxy_finding(estimates)
    if path.length is not None:
        found, said = _length(path, estimates["proxy_gain"], asked)
        estimates |= found
        findings += said
        curves["length_by_kl"] = _curve(
            path, path.length, f"length of a reply, {path.unit}", asked, "Length of replies"
        )
    return Report(title, about, estimates, tuple(findings), curves, summary=summary, quantities=QUANTITIES)


def _curve(path: _Path, values: np.ndarray, label: str, asked: _Asked, title: str = "") -> Curve:
    return Curve(tuple(path.d.tolist()), tuple(asked.mean(row) for row in values), OF_SEQUENCE, label, title=title)


def _gold_by_proxy(proxy: np.ndarray, gold: np.ndarray, asked: _Asked, caption: str, title: str) -> Curve:
    x, y = tuple(proxy.mean(axis=1).tolist()), tuple(asked.mean(row) for row in gold)
    return Curve(x, y, "proxy, gain in nats", "gold, gain", caption=caption, title=title)


# ---- Gold --------------------------------------------------------------------------------------------------------


def _trend_finding(judged: GoldTrend, path: _Path) -> Finding:
    sentence = drift.describe_trend(judged, float(path.d[-1] ** 2))
    evidence = f"gold from start to end: {_said(judged.gain)}; from its best to the end: lost {_said(judged.drop)}"
    best = path.points[int(np.argmax(path.gold.mean(axis=1)))] if path.gold is not None else ""
    title = sentence.removesuffix(".")
    if judged.kind == "insufficient":
        return Finding("warning", title, evidence, "Measure on more prompts (64, say), at more than one distance.")
    if judged.kind == "over-optimized":
        remedy = (
            f"Go back to the best by gold ({best}), or stop there; then label what the policy says now, and train anew."
        )
        return Finding("warning", title, evidence, remedy)
    if judged.kind == "flattening":
        return Finding("warning", title, evidence, "Further optimization buys little gold: stop, or check more often.")
    return Finding("note", title, evidence, "It says nothing of what lies beyond this KL: measure on as you go on.")


def _law(path: _Path, gold: np.ndarray, asked: _Asked) -> FitWithIntervals | None:
    """The law of Gao et al. for this kind of optimization, or None with too few distances for one."""
    if len(np.unique(path.d[path.d >= overoptimization.MIN_DISTANCE])) < LEAST_POINTS:
        return None
    return overoptimization.fit_with_intervals(path.d, gold.T, path.law, asked.seed, asked.draws)


def _law_words(path: _Path, gold: np.ndarray, law: FitWithIntervals | None) -> str:
    if law is None:
        return f"Too few distances for a law: {LEAST_POINTS} are needed."
    other: Law = "rl" if path.law == "bon" else "bon"
    ours, theirs = (overoptimization.aicc(path.d, gold.mean(axis=1), name) for name in (path.law, other))
    better = (
        ""
        if not theirs < ours - 2
        else f" {LAWS[other]} fits these points better (AICc {theirs:.1f} against {ours:.1f})."
    )
    alpha, beta = _said(law.alpha), _said(law.beta)
    peak = _peak_words(law)
    return f"Law of Gao et al. 2022: gold = {LAWS[path.law]}, α {alpha}, β {beta}, off by {law.fit.rmse:.2g}.{better} {peak}"


def _peak_words(law: FitWithIntervals) -> str:
    if not law.peak_observed:
        return f"No peak observed up to KL = {law.largest_d**2:.3g} nats/sequence."
    return f"Its peak is at KL = {_said(law.peak_kl)} nats/sequence, at gold {_said(law.height)}."


def _peak_finding(law: FitWithIntervals | None, judged: GoldTrend, path: _Path) -> list[Finding]:
    if law is None:
        return []
    if law.peak_observed:
        evidence = _peak_words(law)
        return [Finding("note", "The fitted law has its peak within what was measured", evidence.removesuffix("."))]
    evidence = f"β {_said(law.beta)}; from the point nearest the law's peak to the end gold lost {_said(law.drop)}"
    if judged.kind == "over-optimized":
        evidence += "; gold did fall, but not where a law of this form can place the turn"
    return [
        Finding("note", _peak_words(law).removesuffix("."), evidence, "A law is not extrapolated: measure further.")
    ]


def _gold_estimates(
    path: _Path, gold: np.ndarray, proxy: np.ndarray, judged: GoldTrend, law: FitWithIntervals | None, asked: _Asked
) -> dict[str, Estimate]:
    found = {"gold_gain": Estimate(*judged.gain), "gold_drop": Estimate(*judged.drop)}
    late = int(np.searchsorted(path.d, path.d[-1] * 2 / 3))
    for name, since in (("gold_per_proxy", 0), ("gold_per_proxy_late", min(late, len(path.d) - 2))):
        slope = _slope(proxy[-1] - proxy[since], gold[-1] - gold[since], asked)
        if slope is not None:
            found[name] = slope
    half = len(path.d) // 2
    found["falling_prompts"] = asked.mean((gold[-1] < gold[half]).astype(np.float64))
    if law is not None:
        found |= {"law_alpha": Estimate(*law.alpha), "law_beta": Estimate(*law.beta)}
        if law.peak_observed:
            found |= {"peak_kl": Estimate(*law.peak_kl), "peak_gold": Estimate(*law.height)}
    return found


def _slope(proxy: np.ndarray, gold: np.ndarray, asked: _Asked) -> Estimate | None:
    """Mean gold gained a nat of mean proxy gained, [p] each; None where the proxy is not shown to have risen."""
    if not asked.mean(proxy).low > 0:
        return None
    count = _counts(len(proxy), asked)
    ratio = (count @ gold) / (count @ proxy)
    return _estimate(float(gold.mean() / proxy.mean()), ratio, len(proxy))


def _per_proxy_finding(found: Mapping[str, Estimate]) -> list[Finding]:
    late = found.get("gold_per_proxy_late")
    if late is None or not late.high < 0:
        return []
    evidence = f"gold gained a nat of proxy, over the last third of the way: {_said(late)}"
    remedy = "Do not choose checkpoints, or n, by the proxy beyond the turn."
    return [Finding("warning", "At the end the proxy rises by what gold loses", evidence, remedy)]


# ---- Length ------------------------------------------------------------------------------------------------------


def _length(path: _Path, gain: Estimate, asked: _Asked) -> tuple[dict[str, Estimate], list[Finding]]:
    assert path.length is not None
    found = {"length_gain": asked.mean(path.length[-1] - path.length[0])}
    part = drift.length_effect(path.proxy, path.length, asked.draws, asked.seed)
    if not math.isnan(part.correlation.value):
        found["length_correlation"] = Estimate(*part.correlation)
    if math.isnan(part.share.value) or not gain.low > 0:
        return found, []
    found["length_share"] = share = Estimate(*part.share)
    if not share.low > 0.5:
        return found, []
    evidence = f"share of the proxy's gain that goes with length: {_said(share)}; replies grew by {_said(found['length_gain'])} {path.unit}"
    remedy = "Train the reward model on pairs of equal length, or charge for length; compare at equal length."
    return found, [Finding("warning", "Most of the gain is length", evidence, remedy)]


# ---- What else changes about the chosen --------------------------------------------------------------------------

DRIFTS: Mapping[str, str] = {
    "repetition": "share of repeated 4-grams in a reply",
    "spread": "disagreement of the reward's members",
    "shifted": "share outside the reward model's training distribution",
    "partly_read": "share that the reward did not see whole",
    "distinct_1": "share of different words, over all replies",
    "distinct_2": "share of different pairs of words, over all replies",
}


def _drifts(
    pool: Candidates, ns: Sequence[int], path: _Path, asked: _Asked
) -> tuple[dict[str, Estimate], list[Finding], dict[str, Curve]]:
    """Of the reply that the proxy chooses from n, by n: unbiased, as the rewards are. Variety is of a set of replies, one a
    prompt: of those chosen from the first n."""
    outside = None if pool.shift_p is None else (pool.shift_p <= drift.SHIFT_ALPHA).astype(np.float64)
    partly = None if pool.partly_read is None else pool.partly_read.astype(np.float64)
    tables = {
        "repetition": pool.each(drift.repetition), "spread": pool.std, "shifted": outside, "partly_read": partly,
    }  # fmt: skip
    found: dict[str, Estimate] = {}
    curves: dict[str, Curve] = {}
    for name, table in tables.items():
        if table is None:
            continue
        (by_n,) = drift.complete_prompts(pool.names, best_of_n.curve(pool.proxy, table, ns).T)
        found |= {name: asked.mean(by_n[-1]), f"{name}_gain": asked.mean(by_n[-1] - by_n[0])}
        curves[f"{name}_by_kl"] = _curve(path, by_n, DRIFTS[name], asked)
    chosen = [[texts[at] for texts, at in zip(pool.texts, pool.proxy[:, :n].argmax(axis=1), strict=True)] for n in ns]
    for k in (1, 2):
        y = tuple(Estimate(*drift.distinct(texts, k)) for texts in chosen)
        found[f"distinct_{k}"] = y[-1]
        curves[f"distinct_{k}_by_kl"] = Curve(tuple(path.d.tolist()), y, OF_SEQUENCE, DRIFTS[f"distinct_{k}"])
    gain = asked.mean(path.proxy[-1] - path.proxy[0])
    return found, _drift_findings(found, gain), curves


def _drift_findings(found: Mapping[str, Estimate], gain: Estimate) -> list[Finding]:
    made = []
    now, more = found["repetition"], found["repetition_gain"]
    if more.low > 0 and now.value > max(drift.REPETITION_ALARM * (now.value - more.value), drift.MIN_REPETITION):
        evidence = f"share of repeated runs of four words: {_said(now)}, {_said(more)} more than without a choice"
        made.append(
            Finding("warning", "The chosen replies repeat themselves", evidence, "Read them before you use them.")
        )
    if "partly_read" in found and found["partly_read"].value > 0:
        evidence = f"share of the chosen replies that were longer, with their prompt, than the reward reads: {_said(found['partly_read'])}"
        remedy = "Shorter replies (best_of_n.max_tokens) or prompts, or a reward model with a larger max_length."
        made.append(Finding("warning", "The reward saw only a part of some texts", evidence, remedy))
    if "spread" in found and found["spread_gain"].low > 0 and found["spread_gain"].value > gain.value:
        evidence = f"spread of the members has grown by {_said(found['spread_gain'])}, their mean by {_said(gain)}"
        remedy = "Choose by a cautious rule (min, or mean less a multiple of the variance)."
        made.append(Finding("warning", "The members disagree by more than was gained", evidence, remedy))
    shifted = found.get("shifted")
    if (
        shifted is not None
        and shifted.value > drift.SHIFT_ALARM * drift.SHIFT_ALPHA
        and shifted.low > drift.SHIFT_ALPHA
    ):
        evidence = f"share with a p-value of at most {drift.SHIFT_ALPHA}: {_said(shifted)}; without a shift it is {drift.SHIFT_ALPHA}"
        remedy = "Have such replies compared by people, and train the reward model on them."
        title = "The chosen replies have left what the reward model was trained on"
        made.append(Finding("warning", title, evidence, remedy))
    return made


# ---- The forecast ------------------------------------------------------------------------------------------------


def _frontier(pool: Candidates) -> overoptimization.TiltFrontier:
    """The tilt frontier up to where the samples end, its strengths in the proxy's own units."""
    assert pool.gold is not None
    spread = float(pool.proxy.std(axis=1).mean())
    reach = 2.0 * math.sqrt(2.0 * math.log(pool.proxy.shape[1])) / spread if spread > 0 else 1.0
    strengths = np.linspace(0.0, reach, STRENGTHS)
    return overoptimization.tilt_frontier(pool.proxy, pool.gold, strengths)


def _forecast_gains(frontier: overoptimization.TiltFrontier) -> tuple[np.ndarray, np.ndarray]:
    """Proxy and gold [l, p], gains over the policy that drew the pool."""
    proxy, gold = frontier.by_prompt.proxy, frontier.by_prompt.gold
    return (proxy - proxy[:, :1]).T, (gold - gold[:, :1]).T


def _forecast_curve(frontier: overoptimization.TiltFrontier, asked: _Asked) -> dict[str, Curve]:
    if len(frontier.strengths) < 2:
        return {}
    proxy, gold = _forecast_gains(frontier)
    shown = np.unique(np.linspace(0, len(proxy) - 1, 12).round().astype(int))
    caption = (
        "What RL with a KL penalty would reach, forecast by tilting the pool: one point a strength of optimization, up to "
        f"KL = {frontier.kl[-1]:.3g} nats/sequence, beyond which too few candidates would speak for the policy."
    )
    return {
        "gold_by_proxy_forecast": _gold_by_proxy(proxy[shown], gold[shown], asked, caption, "Forecast from the pool")
    }


def _forecast_findings(pool: Candidates, frontier: overoptimization.TiltFrontier) -> list[Finding]:
    assert pool.gold is not None
    if len(frontier.strengths) < 2:
        evidence = f"{pool.proxy.shape[1]} candidates a prompt cannot speak for a tilted policy"
        return [Finding("note", "No forecast of RL", evidence, "Draw at least 64 candidates a prompt.")]
    at = overoptimization.turning_point(pool.proxy, pool.gold, frontier.strengths)
    reach = f"KL = {frontier.kl[-1]:.3g} nats/sequence"
    if at is None:
        evidence = f"the pool reaches to {reach}, at a KL penalty of {1 / frontier.strengths[-1]:.3g}"
        return [Finding("note", "The forecast of RL does not turn within reach of the pool", evidence)]
    kl = float(np.interp(at, frontier.strengths, frontier.kl))
    evidence = (
        f"gold is highest at a KL penalty β = {1 / at:.3g}, at KL = {kl:.3g} nats/sequence; the pool reaches to {reach}"
    )
    remedy = "Keep the penalty above that β; the value is of this pool, without an interval."
    return [Finding("warning", "RL with too small a KL penalty is forecast to lose gold", evidence, remedy)]


def _beside_forecast(
    path: _Path, pool: Candidates, asked: _Asked
) -> tuple[dict[str, Estimate], list[Finding], dict[str, Curve]]:
    """What the pool forecast at the proxy that the run reached, beside the gold that it got there.

    Gold against proxy is where forecast, best-of-n and RL are comparable: at equal KL they are not, for RL spends KL on
    what no reward asked for.
    """
    assert pool.gold is not None
    assert path.gold is not None
    ns = best_of_n.default_ns(pool.proxy.shape[1])
    curves = {}
    if len(ns) > 1:
        chosen, _ = _pool_path(pool, ns)
        assert chosen.gold is not None
        curves["gold_by_proxy_best_of_n"] = _gold_by_proxy(
            chosen.proxy - chosen.proxy[0],
            chosen.gold - chosen.gold[0],
            asked,
            "Best of n on the pool, one point an n.",
            "Best of n, for the proxy that was gained",
        )
    frontier = _frontier(pool)
    curves |= _forecast_curve(frontier, asked)
    if len(frontier.strengths) < 2:
        return {}, [], curves
    ahead, forecast = _forecast_gains(frontier)
    ahead, forecast = drift.complete_prompts(pool.names, ahead, forecast)
    proxy, gold = path.proxy - path.proxy[0], path.gold - path.gold[0]
    within = np.flatnonzero(proxy.mean(axis=1) <= ahead.mean(axis=1).max())
    last = int(within[np.argmax(proxy.mean(axis=1)[within])])
    if last == 0:
        return {}, [], curves

    ours, theirs = _counts(proxy.shape[1], asked), _counts(ahead.shape[1], asked._replace(seed=asked.seed + 1))
    reached, got = ours @ proxy[last] / proxy.shape[1], ours @ gold[last] / proxy.shape[1]
    means = zip(reached, theirs @ ahead.T / ahead.shape[1], theirs @ forecast.T / ahead.shape[1], strict=True)
    told = np.array([np.interp(x, xs, ys) for x, xs, ys in means])
    value = float(np.interp(proxy[last].mean(), ahead.mean(axis=1), forecast.mean(axis=1)))
    n = min(proxy.shape[1], ahead.shape[1])
    estimates = {
        "forecast_gold": _estimate(value, told, n),
        "forecast_error": _estimate(float(gold[last].mean()) - value, got - told, n),
    }
    evidence = (
        f"at {path.points[last]}, where the proxy had gained {proxy[last].mean():.3g}: forecast {_said(estimates['forecast_gold'])}, "
        f"measured less forecast {_said(estimates['forecast_error'])}"
    )
    error = estimates["forecast_error"]
    title = "The run got the gold that the pool forecast"
    if error.high < 0:
        title = (
            "The run got less gold than the pool forecast: it found faults of the reward that the pool does not hold"
        )
    elif error.low > 0:
        title = "The run got more gold than the pool forecast"
    return estimates, [Finding("warning" if error.high < 0 else "note", title, evidence)], curves


def _estimate(value: float, replicates: np.ndarray, n: int) -> Estimate:
    low, high = np.quantile(replicates, [0.025, 0.975])
    return Estimate(value, float(low), float(high), n)


def _said(found: Sequence[float] | Estimate) -> str:
    """A value and its interval (the first three numbers) in a sentence."""
    value, low, high = (found.value, found.low, found.high) if isinstance(found, Estimate) else found[:3]
    return f"{value:.3g} [{low:.3g}, {high:.3g}]"


def _counts(p: int, asked: _Asked) -> np.ndarray:
    """How often each of p prompts stands in each bootstrap draw, [draws, p]."""
    return np.concatenate(list(draw_counts(p, asked.draws, asked.seed, "multinomial"))).astype(np.float64)


# ---- To read -----------------------------------------------------------------------------------------------------


def _run_examples(run: Trajectory) -> tuple[Example, ...]:
    """A few prompts' replies at the first, the best and the last check: where gold fell most, or the proxy rose most."""
    if run.texts is None:
        return ()
    last = len(run.updates) - 1
    stops: tuple[int, ...] = (0, last)
    moved, title = run.proxy[-1] - run.proxy[0], "Where the proxy rose most"
    if run.gold is not None:
        rows = drift.complete_rows(run.gold)
        usable = np.isfinite(run.gold[rows]).all(axis=0)
        best = int(rows[np.argmax(run.gold[rows][:, usable].mean(axis=1))])
        stops = tuple(sorted({0, best, last}))
        if best < last:
            moved, title = run.gold[best] - run.gold[-1], "Where gold fell most"
    names = {0: "first", last: "last"}
    order = [int(i) for i in np.argsort(-np.nan_to_num(moved, nan=-math.inf), kind="stable")][:EXAMPLES]

    def label(check: int, i: int) -> str:
        judged = "" if run.gold is None else f", gold {run.gold[check, i]:+.2f}"
        return f"{names.get(check, 'best by gold')} check, update {run.updates[check]}{judged}, proxy"

    return tuple(
        Example(
            title=title,
            prompt=run.prompts[i] if run.prompts is not None else Prompt(),
            responses=tuple(Response(run.texts[check][i]) for check in stops),
            labels=tuple(label(check, i) for check in stops),
            rewards=tuple(float(run.proxy[check, i]) for check in stops),
        )
        for i in order
    )


def _pool_examples(pool: Candidates) -> tuple[Example, ...]:
    """A few prompts' candidates that the proxy and gold would choose: where gold loses most by the proxy's choice."""
    if pool.gold is None:
        return ()
    rows = np.arange(len(pool.prompts))
    ours, theirs = pool.proxy.argmax(axis=1), pool.gold.argmax(axis=1)
    lost = pool.gold[rows, theirs] - pool.gold[rows, ours]
    return tuple(
        Example(
            title="What the proxy chooses and what gold would",
            prompt=pool.prompts[i],
            responses=(Response(pool.texts[i][ours[i]]), Response(pool.texts[i][theirs[i]])),
            labels=(
                f"the proxy's choice, gold {pool.gold[i, ours[i]]:+.2f}, proxy",
                f"gold's choice, gold {pool.gold[i, theirs[i]]:+.2f}, proxy",
            ),
            rewards=(float(pool.proxy[i, ours[i]]), float(pool.proxy[i, theirs[i]])),
        )
        for i in np.argsort(-lost, kind="stable")[:EXAMPLES]
        if lost[i] > 0
    )
