"""What runs and pools have in common: points in order of distance from the reference policy, with each prompt's numbers there.

Axes: m checks of a run or points of a curve, p prompts, u distinct prompts, N responses per prompt. d = √KL to the reference policy, in
root nats per sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from guerdon.contracts import Curve, Estimate, GuerdonError, Prompt, Rollouts
from guerdon.formulas import best_of_n, drift
from guerdon.formulas.clustered import clustered_mean
from guerdon.formulas.overoptimization import MIN_DISTANCE
from guerdon.formulas.resampling import draw_counts

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.formulas.overoptimization import Law

__all__ = [
    "DISTANCE_LABEL",
    "Bootstrap",
    "OptimizationPath",
    "Trajectory",
    "curve_by_kl",
    "path_of_pool",
    "path_of_run",
    "text_table",
]

DISTANCE_LABEL = "√KL, KL in nats/sequence"
MANY_COPIES = 0.05  # share of repeated responses from which on the bound of the KL is too loose to stand alone


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """A run's checks on the same prompts. Tables are [m, p]; NaN where a number is not known.

    updates: [m], rising. names: of the prompts; prompts of one name are averaged. length: tokens. texts: [m][p],
    the replies, for a person to read. prompts: in full, or None if only their names are known.
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
                    f"trajectory: {name} must have shape {shape} for {shape[0]} checks of {shape[1]} prompts, "
                    f"got {table.shape}. Give one number per check and prompt."
                )


class Bootstrap(NamedTuple):
    """How the intervals of a report are drawn."""

    draws: int
    seed: int

    def mean(self, values: Float[np.ndarray, " u"]) -> Estimate:
        """The mean over prompts."""
        return Estimate(*clustered_mean(values, range(len(values))))

    def counts(self, u: int) -> Float[np.ndarray, "draws u"]:
        """How often each draw holds each of u prompts."""
        return np.concatenate(list(draw_counts(u, self.draws, self.seed, "multinomial"))).astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class OptimizationPath:
    """Points in order of distance, the first the reference. Tables are [points, u]; length is counted in `unit`.

    points: their names, such as "update 20" or "n = 4".
    """

    d: np.ndarray
    proxy: np.ndarray
    gold: np.ndarray | None
    length: np.ndarray
    law: Law
    points: tuple[str, ...]
    unit: str = "tokens"


def path_of_run(run: Trajectory) -> OptimizationPath:
    """A run's checks by distance. Prompts that lack a number, and checks that lack too many, are left out."""
    if len(run.updates) < 2:
        raise GuerdonError(
            f"run: must have at least two checks, got {len(run.updates)}. Set optimize.check_every lower."
        )
    tables = [run.proxy, run.kl, run.length, *([] if run.gold is None else [run.gold])]
    rows = drift.complete_rows(*tables)
    proxy, kl, length, *rest = drift.complete_prompts(run.names, *(table[rows] for table in tables))
    if proxy.shape[1] == 0:
        raise GuerdonError(
            "run: some prompt must have every number at the first check and a later one, got none. "
            "Find out why rewards are not finite."
        )
    d = np.sqrt(np.maximum(kl.mean(axis=1), 0.0))
    if run.updates[0] != 0 or d[0] >= MIN_DISTANCE:
        raise GuerdonError(
            f"run: the first check must be of the initial policy, at update 0 and KL = 0, got update {run.updates[0]} "
            f"at KL = {d[0] ** 2:.3g}. Check the initial policy first."
        )
    d[0] = 0.0  # the KL of a policy to itself, whatever rounding says
    order = np.argsort(d, kind="stable")
    points = tuple(f"update {run.updates[rows[i]]}" for i in order)
    gold = rest[0][order] if rest else None
    return OptimizationPath(d[order], proxy[order], gold, length[order], "rl", points)


def path_of_pool(pool: Rollouts, ns: Sequence[int]) -> tuple[OptimizationPath, str]:
    """Best-of-n by distance, at each n; and where the KL comes from, in words."""
    rewards = pool.reward_by_prompt
    chance, source = _chance_of_outcome(pool)
    d = np.sqrt(np.maximum([float(best_of_n.kl_of_choice(rewards, chance, n).mean()) for n in ns], 0.0))
    d = np.maximum.accumulate(d)
    d[0] = 0.0

    def by_n(table: np.ndarray) -> np.ndarray:
        (curves,) = drift.complete_prompts(pool.prompts_once, best_of_n.curve(rewards, table, ns).T)
        return curves

    gold = pool.by_prompt(pool.gold)
    if pool.length is None:
        length, unit = text_table(pool, lambda text: len(drift.words(text))), "words"
    else:
        length, unit = pool.by_prompt(pool.length.astype(np.float64)), "tokens"
    points = tuple(f"n = {n}" for n in ns)
    return OptimizationPath(
        d, by_n(rewards), None if gold is None else by_n(gold), by_n(length), "bon", points, unit
    ), source


def _chance_of_outcome(pool: Rollouts) -> tuple[Float[np.ndarray, "p N"], str]:
    """The probability of each response's reward under the policy that drew the pool, and its source in words."""
    copies = np.stack([drift.count_copies([r.text for r in group]) for group in pool.responses_by_prompt])
    log_prob, share = pool.by_prompt(pool.log_prob), copies / pool.samples
    repeated = 1.0 - np.mean(1.0 / (share * pool.samples))
    if log_prob is not None:
        chance, source = np.exp(np.minimum(log_prob, 0.0)), "log-probabilities of the replies"
    elif repeated > MANY_COPIES:
        chance, source = share, f"counts of equal replies ({100 * repeated:.0f} % are repeats)"
    else:
        chance, source = np.zeros_like(share), "the bound log n - (n - 1)/n"
    return best_of_n.chance_of_outcome(pool.reward_by_prompt, chance, copies), source


def text_table(pool: Rollouts, measure: Callable[[str], float]) -> Float[np.ndarray, "p N"]:
    """A number measured on each response's text."""
    return pool.by_prompt(np.array([measure(response.text) for response in pool.responses], dtype=np.float64))


def curve_by_kl(
    path: OptimizationPath, values: Float[np.ndarray, "m u"], label: str, bootstrap: Bootstrap, title: str = ""
) -> Curve:
    """Means over prompts against the distance."""
    y = tuple(bootstrap.mean(row) for row in values)
    return Curve(tuple(path.d.tolist()), y, DISTANCE_LABEL, label, title=title)
