"""How the replies of an optimized policy drift: repetition, variety, and how much of a reward gain is length.

Axes: m checks of one policy in order, p prompts (one reply each, the same prompts at every check). Rewards are nats,
higher is better; lengths are tokens. Words are runs of letters and digits and single marks, in lower case.
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
from guerdon.formulas.overoptimization import LEAST_PROMPTS, GoldTrend
from guerdon.formulas.resampling import draw_counts

__all__ = [
    "ALPHA",
    "LEAST_REPEATS",
    "OUTSIDE",
    "REPEATS",
    "LengthPart",
    "comparable",
    "copies",
    "distinct",
    "known_rows",
    "length_part",
    "repetition",
    "sentence",
    "unique_share",
    "words",
]

ALPHA = 0.05  # a reply with a conformal p-value up to this is called outside; of the model's own data, this share is
OUTSIDE = 3.0  # times ALPHA, from where on the share outside is an alarm
REPEATS, LEAST_REPEATS = 2.0, 0.02  # times the first repetition, and never below this share
GRAM = 4  # words: shorter runs recur in any honest text
LONGEST_WORD = 24  # characters; a longer run has no spaces (some scripts, a stuck key), so its letters are its words
FIRST_WORDS = 32  # of each reply; see distinct


class LengthPart(NamedTuple):
    """How much of the gain in reward goes with the gain in length.

    share: of the mean gain, 1 is all of it. slope: nats a token. correlation: of the gains, prompt by prompt. Intervals
    are NaN, and so are values, where the data do not determine them.
    """

    share: Interval
    slope: Interval
    correlation: Interval


def comparable(names: Sequence[Hashable], *values: Float[np.ndarray, "_ p"]) -> tuple[Float[np.ndarray, "_ u"], ...]:
    """Names of p prompts and tables with a column for each in; the tables with a column for each different prompt out.

    A prompt with a number that is not finite, in any table or row, is left out of all, so that rows differ by what was
    done to the policy and never by who was asked; prompts of one name become their mean. The order is that of first sight.
    """
    whole = np.all([np.isfinite(table).all(axis=0) for table in values], axis=0)
    number: dict[Hashable, int] = {}
    code = [number.setdefault(name, len(number)) for name, kept in zip(names, whole, strict=True) if kept]
    share = np.zeros((len(code), len(number)))
    share[np.arange(len(code)), code] = 1.0
    share /= np.maximum(share.sum(axis=0), 1.0)
    return tuple(table[:, whole] @ share for table in values)


def known_rows(*values: Float[np.ndarray, "m p"]) -> Int[np.ndarray, " k"]:
    """Tables in, the rows to compare out: all, unless together they leave fewer than half of the first row's prompts.

    A prompt counts where every table has a number for it in every row that is compared. While too few do, the row with
    the fewest numbers is given up: the first never, the last only where it knows less than half of what the first does.
    """
    known = np.all([np.isfinite(table) for table in values], axis=0)
    counts, rows = known.sum(axis=1), list(range(len(known)))
    enough = counts[0] / 2
    while len(rows) > 2 and known[rows].all(axis=0).sum() < enough:
        loose = [row for row in rows[1:] if row != len(known) - 1 or counts[row] < enough]
        rows.remove(min(loose, key=lambda row: int(counts[row])))
    return np.array(rows)


def copies(texts: Sequence[Hashable]) -> Float[np.ndarray, " n"]:
    """Replies in, how often each stands among them (itself counted) out."""
    counts = Counter(texts)
    return np.array([float(counts[text]) for text in texts])


def words(text: str) -> list[str]:
    """A text in, its words out."""
    runs = re.findall(r"\w+|[^\w\s]", text.lower())
    return [word for run in runs for word in (run if len(run) > LONGEST_WORD else [run])]


def repetition(text: str, n: int = GRAM) -> float:
    """A reply in, the share of its runs of n words that stood in it before out; 0.0 where it has fewer than n words."""
    grams = _grams(words(text), n)
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


def distinct(texts: Sequence[str], n: int, first: int = FIRST_WORDS) -> Interval:
    """Replies in, different runs of n words over all runs of n words out (distinct-n, Li et al. 2016, 1510.03055).

    Only the `first` words of each reply count: the ratio falls as texts grow, and a drift of length is no drift of
    variety. Interval: see `_share_of_types`. NaN where no reply has n words.
    """
    return _share_of_types([_grams(words(text)[:first], n) for text in texts])


def unique_share(texts: Sequence[str]) -> Interval:
    """Replies in, different replies over all replies out, spaces and case apart; NaN where there are none."""
    found = _share_of_types([[" ".join(text.lower().split())] for text in texts])
    if found.value == 1.0:  # nothing to leave out makes a difference, and yet p of p is no certainty
        return clopper_pearson(len(texts), len(texts))
    return found


def length_part(
    proxy: Float[np.ndarray, "m p"], length: Float[np.ndarray, "m p"], draws: int = 2000, seed: int = 0
) -> LengthPart:
    """Reward and length of every check in, how much of the gain from the first to the last check goes with length out.

    Model: reward = level of the prompt + level of the check + slope x length (two-way fixed effects, least squares).
    Taking out the prompt's level keeps hard prompts, which have long answers, from passing for an effect of length;
    taking out the check's level keeps the common trend, in which everything that a policy learns rises together, from
    being credited to length. What is left is how a prompt's reward goes with its own length beyond what all prompts
    did. share = slope x mean gain of length / mean gain of reward; with two checks the slope is that of gain on gain,
    and 1 - share is the intercept, the gain at no change of length, over the mean gain.

    A share is an association: answers that are better because they say more count as length. It is linear; a reward
    that stops growing with length is overcharged. Intervals by bootstrap over prompts. NaN where lengths do not vary,
    with fewer than two checks or three prompts.
    """
    m, p = proxy.shape
    none = Interval(math.nan, math.nan, math.nan, p)
    if m < 2 or p < 3:
        return LengthPart(none, none, none)
    count = np.concatenate(
        [np.ones((1, p)), *draw_counts(p, draws, seed, "multinomial")]
    )  # row 0: every prompt once, the estimate itself

    reward_own, length_own = proxy - proxy.mean(axis=0), length - length.mean(axis=0)
    reward_common, length_common = count @ reward_own.T / p, count @ length_own.T / p
    together = count @ (reward_own * length_own).sum(axis=0) - p * (reward_common * length_common).sum(axis=1)
    alone = count @ (length_own**2).sum(axis=0) - p * (length_common**2).sum(axis=1)
    slope = _ratio(together, alone, least=1e-9 * max(1.0, float((length_own**2).sum())))

    reward_gain, length_gain = proxy[-1] - proxy[0], length[-1] - length[0]
    share = slope * _ratio(count @ length_gain, count @ reward_gain)
    correlation = _correlation(reward_gain, length_gain, count)
    return LengthPart(*(_interval(values, p) for values in (share, slope, correlation)))


def sentence(found: GoldTrend, reached_kl: float) -> str:
    """A verdict on a curve of gold and the largest KL on it (nats a sequence) in, what it says in a sentence out."""
    n, up_to = found.gain.n, f"KL = {reached_kl:.3g} nats/sequence"
    rise = f"{found.late.value:.3g} {_limits(found.late)} per root nat"
    if found.kind == "insufficient":
        few = f"{n} prompts, and {LEAST_PROMPTS} are the fewest that are judged" if n < LEAST_PROMPTS else ""
        return f"Too little evidence for a verdict: {few or 'every point stands at the same KL'}."
    if found.kind == "over-optimized":
        since = f"since KL = {found.since_kl:.3g} nats/sequence" if found.since_d else "from the start"
        lost = f"{found.drop.value:.3g} {_limits(found.drop)}"
        return f"Over-optimized {since}: from there to {up_to} gold has fallen by {lost}."
    gained = f"gold has risen by {found.gain.value:.3g} {_limits(found.gain)}"
    if not found.gain.low > 0:
        gained = f"gold is not shown to have risen, {found.gain.value:.3g} {_limits(found.gain)}"
    if found.kind == "fine":
        return f"Fine up to {up_to}: {gained}, and over the last third it still gains {rise}."
    return f"Flattening: up to {up_to} {gained}; over the last third it gains {rise}, over the first {found.early.value:.3g}."


def _limits(interval: Interval) -> str:
    return f"[{interval.low:.3g}, {interval.high:.3g}]"


def _grams(of: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(of[i : i + n]) for i in range(len(of) - n + 1)]


def _share_of_types(rows: Sequence[Sequence[Hashable]]) -> Interval:
    """Things by row in, different things over things out, with a delete-one jackknife interval over rows.

    A bootstrap draws rows twice, and a row beside its copy has no new type: every draw would lie below the value. The
    jackknife repeats nothing, and its variance errs upwards (Efron & Stein 1981).
    """
    total = sum(len(row) for row in rows)
    if total == 0:
        return Interval(math.nan, math.nan, math.nan, len(rows))
    holders = Counter(thing for row in rows for thing in set(row))
    value = len(holders) / total
    own = np.array([sum(holders[thing] == 1 for thing in set(row)) for row in rows])
    left = total - np.array([len(row) for row in rows])
    if len(rows) < 2 or not left.all():
        return Interval(value, math.nan, math.nan, len(rows))
    without = (len(holders) - own) / left
    error = math.sqrt((len(rows) - 1) / len(rows) * float(((without - without.mean()) ** 2).sum()))
    half = float(ndtri(0.975)) * error
    return Interval(value, max(0.0, value - half), min(1.0, value + half), len(rows))


def _correlation(a: np.ndarray, b: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Pearson's correlation under each row of counts; NaN where either does not vary."""
    p = count.shape[1]
    a, b = a - a.mean(), b - b.mean()
    mean_a, mean_b = count @ a / p, count @ b / p
    squares = (count @ a**2 / p - mean_a**2) * (count @ b**2 / p - mean_b**2)
    together = count @ (a * b) / p - mean_a * mean_b
    return _ratio(together, np.sqrt(np.maximum(squares, 0.0)), least=1e-9 * max(1e-300, float(a.std() * b.std())))


def _ratio(part: np.ndarray, whole: np.ndarray, least: float = 0.0) -> np.ndarray:
    """Part over whole, NaN where the whole is no more than `least` from 0."""
    ratio: np.ndarray = np.divide(part, whole, out=np.full(len(whole), math.nan), where=np.abs(whole) > least)
    return ratio


def _interval(values: np.ndarray, p: int) -> Interval:
    """The value of row 0 and the percentiles of the other rows; NaN limits where the value is NaN."""
    value, rest = float(values[0]), values[1:][~np.isnan(values[1:])]
    if math.isnan(value) or len(rest) == 0:
        return Interval(value, math.nan, math.nan, p)
    low, high = np.quantile(rest, [0.025, 0.975])
    return Interval(value, float(low), float(high), p)
