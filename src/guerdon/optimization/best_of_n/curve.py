"""What a pool shows about best-of-n as n grows: reward, KL and win rate, estimated over all choices of n out of N.

Axes: p prompts, N responses per prompt, m values of n <= N. The proxy is the reward that chooses, gold one that only judges.
KL is nats per response, from best-of-n to the policy that drew the rollouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from guerdon.contracts import Estimate, GuerdonError, Rollouts, prompt_digest, response_identity
from guerdon.formulas import best_of_n as formulas
from guerdon.formulas.clustered import clustered_mean
from guerdon.formulas.drift import count_copies

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["CurvePoint", "PoolCurve", "curve"]


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Best-of-n at one n, means over prompts.

    proxy, gold: reward of the response that the proxy chooses. The gains are over the mean response to the same prompt; only
        they can be compared between prompts.
    kl_bound: log n - (n - 1) / n. kl: Beirami's estimate, which exceeds the bound by noise only.
    win_rate: how often the proxy prefers the chosen response to another one of the policy, a tie counting half; at most
        n / (n + 1), and exactly that without ties. None at n = N, which leaves no other response.
    """

    n: int
    kl_bound: float
    kl: Estimate
    proxy: Estimate
    proxy_gain: Estimate
    gold: Estimate | None
    gold_gain: Estimate | None
    win_rate: Estimate | None


@dataclass(frozen=True, slots=True)
class PoolCurve:
    """Best-of-n point by point, and the same prompt by prompt, to fit a law to or to compare.

    proxy, gold: [p, m], the gains. kl: [p, m]. groups: [p], equal for equal prompts. size: N. duplicates: the share of
    responses that repeat an earlier one to their prompt. kl_source: where the probabilities behind kl come from.
    """

    points: tuple[CurvePoint, ...]
    proxy: Float[np.ndarray, "p m"]
    gold: Float[np.ndarray, "p m"] | None
    kl: Float[np.ndarray, "p m"]
    groups: tuple[str, ...]
    size: int
    duplicates: Estimate
    kl_source: str


def curve(rollouts: Rollouts, ns: Sequence[int] | None = None, *, most: int | None = None) -> PoolCurve:
    """Reward, KL and win rate of best-of-n on a scored pool, at `ns` or at 1, 2, 4, ... up to `most` (N / 4 unless given).

    Rewards are the unbiased estimates of Nakano et al. 2021 (2112.09332, appendix I), ties of the proxy averaged. KL is
    estimated as in Beirami et al. 2024 (2401.01879) from the responses' log-probabilities if the pool has them, else from
    how often a response is repeated, p = count / N. Intervals are by prompt; equal prompts count once.
    """
    proxy, gold = rollouts.reward_by_prompt, rollouts.by_prompt(rollouts.gold)
    ns = (
        _checked(ns, rollouts.samples)
        if ns is not None
        else formulas.default_ns(rollouts.samples, _most(most, rollouts.samples))
    )
    groups = tuple(prompt_digest(prompt) for prompt in rollouts.prompts_once)
    # A response that was cut does not repeat one that ended
    texts = [[(response_identity(r), r.finish == "length") for r in group] for group in rollouts.responses_by_prompt]
    repeats = np.stack([count_copies(group) for group in texts])
    log_prob = rollouts.by_prompt(rollouts.log_prob)
    chance = repeats / rollouts.samples if log_prob is None else np.exp(np.minimum(log_prob, 0.0))
    chance = formulas.chance_of_outcome(proxy, chance, repeats)

    def mean(values: Float[np.ndarray, " p"]) -> Estimate:
        return Estimate(*clustered_mean(values, groups))

    by_n = formulas.curve(proxy, proxy, ns)
    gain = by_n - formulas.curve(proxy, proxy, [1])
    gold_by_n = None if gold is None else formulas.curve(proxy, gold, ns)
    gold_gain = None if gold is None or gold_by_n is None else gold_by_n - formulas.curve(proxy, gold, [1])
    kl = np.stack([formulas.kl_of_choice(proxy, chance, n) for n in ns], axis=1)
    points = tuple(
        CurvePoint(
            n=n,
            kl_bound=float(formulas.kl_bound(n)),
            kl=mean(kl[:, i]),
            proxy=mean(by_n[:, i]),
            proxy_gain=mean(gain[:, i]),
            gold=None if gold_by_n is None else mean(gold_by_n[:, i]),
            gold_gain=None if gold_gain is None else mean(gold_gain[:, i]),
            win_rate=None if n == rollouts.samples else mean(formulas.win_rate(proxy, n)),
        )
        for i, n in enumerate(ns)
    )
    duplicates = mean(1.0 - (1.0 / repeats).mean(axis=1))  # each text counts 1 / its copies, so the sum counts texts
    source = "log-probabilities of the replies" if log_prob is not None else "counts of equal replies"
    return PoolCurve(points, gain, gold_gain, kl, groups, rollouts.samples, duplicates, source)


def _checked(ns: Sequence[int], size: int) -> list[int]:
    if not ns or sorted(set(ns)) != list(ns) or ns[0] < 1:
        raise GuerdonError(
            f"curve: ns must be rising numbers from 1, got {list(ns)}. Leave them out for 1, 2, 4, and so on."
        )
    if ns[-1] > size:
        raise GuerdonError(f"curve: ns must be at most the {size} replies per prompt, got {ns[-1]}. Draw more replies.")
    return list(ns)


def _most(most: int | None, size: int) -> int | None:
    if most is not None and not 1 <= most <= size:
        raise GuerdonError(
            f"best_of_n.most_n must be from 1 to {size}, the replies per prompt, got {most}. Lower it, or draw more."
        )
    return most
