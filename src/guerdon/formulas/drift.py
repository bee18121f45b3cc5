"""How the replies of an optimized policy drift: repetition, diversity, and how much of a reward gain is length.

Axes: m evaluations of one policy in order, p prompts (one reply each, the same prompts every time). Rewards are nats,
higher is better; lengths are tokens. Words are runs of letters and digits, and single punctuation marks, in lower case.
"""

import math
import re
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtri

from guerdon.formulas.estimation import Interval, clopper_pearson
from guerdon.formulas.overoptimization import MIN_PROMPTS, GoldTrend
from guerdon.formulas.resampling import draw_counts

__all__ = [
    "MIN_REPETITION",
    "REPETITION_ALARM",
    "SHIFT_ALARM",
    "SHIFT_ALPHA",
    "LengthEffect",
    "complete_prompts",
    "complete_rows",
    "count_copies",
    "describe_trend",
    "distinct",
    "length_effect",
    "repetition",
    "unique_share",
    "words",
]

SHIFT_ALPHA = 0.05  # a reply whose conformal p-value is at most this is called shifted; without a shift, this share is
SHIFT_ALARM = 3.0  # times SHIFT_ALPHA: a larger share of shifted replies raises an alert
REPETITION_ALARM, MIN_REPETITION = 2.0, 0.02  # an alert above this multiple of the first repetition, and this share
GRAM = 4  # words: shorter runs recur in any natural text
LONGEST_WORD = 24  # characters; a longer run has no spaces (some scripts, a stuck key), so its letters count as words
FIRST_WORDS = 32  # of each reply; see distinct


class LengthEffect(NamedTuple):
    """How much of the gain in reward goes with the gain in length.

    share: of the mean gain; 1 is all of it. slope: nats per token. correlation: of the two gains over prompts. Values and
    intervals are NaN if the data do not determine them.
    """

    share: Interval
    slope: Interval
    correlation: Interval


def complete_prompts(
    names: Sequence[Hashable], *values: Float[np.ndarray, "_ p"]
) -> tuple[Float[np.ndarray, "_ u"], ...]:
    """Tables with a column for each of p prompts, reduced to one column for each distinct prompt with complete numbers.

    A prompt with a number that is not finite, in any table or row, is left out of all: otherwise rows would differ by
    their prompts, not only by the policy. Prompts of one name become their mean, in order of first appearance.
    """
    complete = np.all([np.isfinite(table).all(axis=0) for table in values], axis=0)
    number: dict[Hashable, int] = {}
    code = [number.setdefault(name, len(number)) for name, kept in zip(names, complete, strict=True) if kept]
    share = np.zeros((len(code), len(number)))
    share[np.arange(len(code)), code] = 1.0
    share /= np.maximum(share.sum(axis=0), 1.0)
    return tuple(table[:, complete] @ share for table in values)


def complete_rows(*values: Float[np.ndarray, "m p"]) -> Int[np.ndarray, " k"]:
    """The rows of the tables to compare: all, unless together they leave fewer than half of the first row's prompts.

    A prompt is left if every table has a finite number for it in every row compared. While too few are, the row with the
    fewest numbers is dropped; the first row never, the last only if it has less than half as many as the first.
    """
    known = np.all([np.isfinite(table) for table in values], axis=0)
    counts, rows = known.sum(axis=1), list(range(len(known)))
    enough = counts[0] / 2
    while len(rows) > 2 and known[rows].all(axis=0).sum() < enough:
        droppable = [row for row in rows[1:] if row != len(known) - 1 or counts[row] < enough]
        rows.remove(min(droppable, key=lambda row: int(counts[row])))
    return np.array(rows)


def count_copies(texts: Sequence[Hashable]) -> Float[np.ndarray, " n"]:
    """How often each reply occurs among all of them, itself included."""
    counts = Counter(texts)
    return np.array([float(counts[text]) for text in texts])


def words(text: str) -> list[str]:
    """The words of a text."""
    runs = re.findall(r"\w+|[^\w\s]", text.lower())
    return [word for run in runs for word in (run if len(run) > LONGEST_WORD else [run])]


def repetition(text: str, n: int = GRAM) -> float:
    """The share of a reply's runs of n words that occurred in it before; 0.0 if it has fewer than n words."""
    grams = _grams(words(text), n)
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


def distinct(texts: Sequence[str], n: int, first: int = FIRST_WORDS) -> Interval:
    """Distinct runs of n words over all runs of n words in the replies (distinct-n, Li et al. 2016, 1510.03055).

    Only the `first` words of each reply count: the ratio falls as texts grow, and longer replies must not look less
    diverse. Interval: see `_share_of_types`. NaN if no reply has n words.
    """
    return _share_of_types([_grams(words(text)[:first], n) for text in texts])


def unique_share(texts: Sequence[str]) -> Interval:
    """Distinct replies over all replies, ignoring spaces and case; NaN without replies."""
    share = _share_of_types([[" ".join(text.lower().split())] for text in texts])
    if share.value == 1.0:  # the jackknife sees no variation, yet n of n is no certainty
        return clopper_pearson(len(texts), len(texts))
    return share


def length_effect(
    proxy: Float[np.ndarray, "m p"], length: Float[np.ndarray, "m p"], draws: int = 2000, seed: int = 0
) -> LengthEffect:
    """How much of the reward's gain from the first to the last evaluation goes with length.

    Model: reward = level of the prompt + level of the evaluation + slope x length (two-way fixed effects, least squares).
    The prompt's level keeps hard prompts, which have long answers, from looking like an effect of length. The evaluation's
    level keeps the common trend, in which everything that a policy learns rises together, from being credited to length.
    The slope is what remains: how a prompt's reward moves with its own length beyond what all prompts do.
    share = slope x mean gain of length / mean gain of reward; with two evaluations the slope is that of gain on gain, and
    1 - share is the intercept, the gain at no change of length, over the mean gain.

    The share is an association: answers that are better because they say more count as length. It is linear; for a reward
    that stops growing with length it is too large. Intervals by bootstrap over prompts. NaN if lengths do not vary, with
    fewer than two evaluations, or with fewer than three prompts.
    """
    m, p = proxy.shape
    none = Interval(math.nan, math.nan, math.nan, p)
    if m < 2 or p < 3:
        return LengthEffect(none, none, none)
    # Row 0 holds every prompt once: the estimate itself
    count = np.concatenate([np.ones((1, p)), *draw_counts(p, draws, seed, "multinomial")])

    reward_own, length_own = proxy - proxy.mean(axis=0), length - length.mean(axis=0)
    reward_common, length_common = count @ reward_own.T / p, count @ length_own.T / p
    together = count @ (reward_own * length_own).sum(axis=0) - p * (reward_common * length_common).sum(axis=1)
    alone = count @ (length_own**2).sum(axis=0) - p * (length_common**2).sum(axis=1)
    slope = _ratio(together, alone, least=1e-9 * max(1.0, float((length_own**2).sum())))

    reward_gain, length_gain = proxy[-1] - proxy[0], length[-1] - length[0]
    share = slope * _ratio(count @ length_gain, count @ reward_gain)
    correlation = _correlation(reward_gain, length_gain, count)
    return LengthEffect(*(_interval(values, p) for values in (share, slope, correlation)))


def describe_trend(trend: GoldTrend, largest_kl: float) -> str:
    """A trend of gold, and the largest KL on its curve (nats per sequence), in one sentence."""
    up_to = f"KL = {largest_kl:.3g} nats/sequence"
    rise = f"{trend.late.value:.3g} {_limits(trend.late)} per root nat"
    if trend.kind == "insufficient":
        return f"Not enough evidence for a trend: {_why_insufficient(trend, largest_kl)}."
    if trend.kind == "over-optimized":
        since = f"since KL = {trend.since_kl:.3g} nats/sequence" if trend.since_d else "from the start"
        lost = f"{trend.drop.value:.3g} {_limits(trend.drop)}"
        return f"Over-optimized {since}: from there to {up_to} gold has fallen by {lost}."
    gained = f"gold has risen by {trend.gain.value:.3g} {_limits(trend.gain)}"
    if not trend.gain.low > 0:
        gained = f"gold rose, and is now {trend.gain.value:+.3g} {_limits(trend.gain)} from where it began"
    if trend.kind == "fine":
        return f"Fine up to {up_to}: {gained}, and over the last third it still gains {rise}."
    return f"Flattening: up to {up_to} {gained}; over the last third it gains {rise}, over the first third {trend.early.value:.3g}."


def _why_insufficient(trend: GoldTrend, largest_kl: float) -> str:
    if trend.gain.n < MIN_PROMPTS:
        return f"{trend.gain.n} prompts, and at least {MIN_PROMPTS} are needed"
    if largest_kl == 0:  # where the first point is
        return "all points are at the same KL"
    gain = f"{trend.gain.value:.3g} {_limits(trend.gain)}"
    return f"up to KL = {largest_kl:.3g} nats/sequence gold is not shown to have risen, {gain}"


def _limits(interval: Interval) -> str:
    return f"[{interval.low:.3g}, {interval.high:.3g}]"


def _grams(of: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(of[i : i + n]) for i in range(len(of) - n + 1)]


def _share_of_types(rows: Sequence[Sequence[Hashable]]) -> Interval:
    """Distinct items over all items, with a delete-one jackknife interval over rows.

    A bootstrap draws some rows twice, and the copy of a row has nothing distinct: every draw would be below the value. The
    jackknife repeats no row, and its variance is biased upwards (Efron & Stein 1981).
    """
    total = sum(len(row) for row in rows)
    if total == 0:
        return Interval(math.nan, math.nan, math.nan, len(rows))
    holders = Counter(item for row in rows for item in set(row))
    value = len(holders) / total
    own = np.array([sum(holders[item] == 1 for item in set(row)) for row in rows])
    left = total - np.array([len(row) for row in rows])
    if len(rows) < 2 or not left.all():
        return Interval(value, math.nan, math.nan, len(rows))
    without = (len(holders) - own) / left
    error = math.sqrt((len(rows) - 1) / len(rows) * float(((without - without.mean()) ** 2).sum()))
    half = float(ndtri(0.975)) * error
    return Interval(value, max(0.0, value - half), min(1.0, value + half), len(rows))


def _correlation(a: np.ndarray, b: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Pearson's correlation for each row of counts; NaN if either variable does not vary."""
    p = count.shape[1]
    a, b = a - a.mean(), b - b.mean()
    mean_a, mean_b = count @ a / p, count @ b / p
    squares = (count @ a**2 / p - mean_a**2) * (count @ b**2 / p - mean_b**2)
    together = count @ (a * b) / p - mean_a * mean_b
    return _ratio(together, np.sqrt(np.maximum(squares, 0.0)), least=1e-9 * max(1e-300, float(a.std() * b.std())))


def _ratio(part: np.ndarray, whole: np.ndarray, least: float = 0.0) -> np.ndarray:
    """Part over whole; NaN if the whole is within `least` of 0."""
    ratio: np.ndarray = np.divide(part, whole, out=np.full(len(whole), math.nan), where=np.abs(whole) > least)
    return ratio


def _interval(values: np.ndarray, p: int) -> Interval:
    """The value of row 0 with the percentiles of the other rows; NaN limits if the value is NaN."""
    value, rest = float(values[0]), values[1:][~np.isnan(values[1:])]
    if math.isnan(value) or len(rest) == 0:
        return Interval(value, math.nan, math.nan, p)
    low, high = np.quantile(rest, [0.025, 0.975])
    return Interval(value, float(low), float(high), p)
