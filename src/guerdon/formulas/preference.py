"""Losses on human preferences: two responses, ties, rankings of many, attribute ratings.

Axes: n comparisons, k responses to one prompt, a attributes. Rewards are nats of preference log-odds: one nat between
two responses means odds of e : 1. Every loss is in nats, one value per comparison, lower is better, in float32 or float64.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from guerdon.formulas.masks import at_least_float32, masked_mean

__all__ = [
    "MAX_TIE",
    "all_pairs",
    "attribute_cross_entropy",
    "attribute_regression",
    "bradley_terry",
    "centering",
    "plackett_luce",
    "rao_kupper",
    "tie_probabilities",
]

MAX_TIE = 8
"""Most responses that may share a rank in `plackett_luce`, which enumerates the 2^g - 1 subsets of a tie of g."""


def bradley_terry(
    first: Float[Tensor, " n"],
    second: Float[Tensor, " n"],
    *,
    q: Float[Tensor, " n"] | None = None,
    margin: Float[Tensor, " n"] | None = None,
    smoothing: float = 0.0,
) -> Float[Tensor, " n"]:
    """Rewards of the two responses [n] in, negative log likelihood [n] in nats out.

    Bradley & Terry 1952; Christiano et al. 2017 (arXiv 1706.03741, eq. 1). Swapping the responses, with q to 1 - q and
    margin to -margin, changes nothing.

    Args:
        first: reward of the response shown first.
        second: reward of the response shown second.
        q: probability in [0, 1] that the first is better, 1 if absent (Lee et al. 2023, arXiv 2309.00267).
        margin: nats by which the first should lead, negative where the second should (Touvron et al. 2023,
            arXiv 2307.09288, eq. 2, there unsigned because the better response always came first).
        smoothing: probability in [0, 0.5] that a label is flipped; a label q counts as q(1 - s) + (1 - q)s.
    """
    if not 0.0 <= smoothing <= 0.5:
        raise ValueError(f"smoothing must be the probability of a flipped label, in [0, 0.5], got {smoothing}")
    lead = at_least_float32(first) - at_least_float32(second)
    if margin is not None:
        lead = lead - margin
    p = torch.ones_like(lead) if q is None else at_least_float32(q)
    p = p * (1.0 - smoothing) + (1.0 - p) * smoothing
    return -p * F.logsigmoid(lead) - (1.0 - p) * F.logsigmoid(-lead)


def centering(rewards: Float[Tensor, "n k"], mask: Bool[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """Rewards of each prompt's responses in, (2 x their mean)^2 [n] in nats squared out; 0.0 where there is none.

    Fixes the constant that comparisons do not determine. For two responses it is (r_a + r_b)^2 of Eisenstein et al. 2023
    (arXiv 2312.09244, eq. 2); with the mean it does not grow with k. Masked rewards are ignored.
    """
    twice_the_mean: Tensor = 2.0 * masked_mean(rewards, mask, dim=1)
    return twice_the_mean.square()


def rao_kupper(
    first: Float[Tensor, " n"],
    second: Float[Tensor, " n"],
    outcome: Float[Tensor, "n 3"],
    tau: Float[Tensor, ""],
) -> Float[Tensor, " n"]:
    """Rewards [n] and probabilities of (first better, tie, second better) [n, 3] in, negative log likelihood [n] in nats out.

    Rao & Kupper 1967, with theta = e^tau. At tau = 0 and no mass on the tie it is `bradley_terry`, gradients included.
    There a tie is impossible and costs infinity in theory; here 1 - e^(-2 tau) is at least the dtype's epsilon, so that the
    loss is large (17 nats in float32) but finite, and still raises tau.

    Args:
        first: reward of the response shown first.
        second: reward of the response shown second.
        outcome: probabilities, each row sums to 1.
        tau: half-width of the band of ties in nats, at least 0 (which the caller ensures, by softplus for example).
    """
    lead = at_least_float32(first) - at_least_float32(second)
    tau = at_least_float32(tau)
    floor = torch.finfo(lead.dtype).eps
    log_first = F.logsigmoid(lead - tau)
    log_second = F.logsigmoid(-lead - tau)
    log_tie = 2.0 * tau + torch.log((-torch.expm1(-2.0 * tau)).clamp(min=floor)) + log_first + log_second
    return -(at_least_float32(outcome) * torch.stack([log_first, log_tie, log_second], dim=1)).sum(dim=1)


def tie_probabilities(delta: Float[Tensor, " n"], tau: Float[Tensor, ""]) -> Float[Tensor, "n 3"]:
    """Margins of the first response [n] and tau >= 0, both in nats, in; P(first better, tie, second better) [n, 3] out.

    Rao & Kupper 1967: P(first) = s(delta - tau), P(second) = s(-delta - tau), and the tie is the rest. That rest is
    (e^(2 tau) - 1) P(first) P(second), which unlike 1 - P(first) - P(second) does not cancel when it is small.
    """
    delta, tau = at_least_float32(delta), at_least_float32(tau)
    log_first = F.logsigmoid(delta - tau)
    log_second = F.logsigmoid(-delta - tau)
    tie = -torch.expm1(-2.0 * tau) * torch.exp(2.0 * tau + log_first + log_second)
    return torch.stack([log_first.exp(), tie, log_second.exp()], dim=1)


def plackett_luce(
    rewards: Float[Tensor, "n k"], ranks: Int[Tensor, "n k"], mask: Bool[Tensor, "n k"]
) -> Float[Tensor, " n"]:
    """Rewards and ranks of each prompt's responses in, negative log likelihood of the ranking [n] in nats out.

    Plackett 1975; Luce 1959: the best is chosen among all, the next among the rest, and so on. Two responses in
    strict order are `bradley_terry`. 0.0 where a row ranks nothing.

    Responses that share a rank are tied: the loss is then the mean over all strict orders the ranking allows, so a tie
    of two responses is `bradley_terry` with q = 0.5.

    Args:
        rewards: rewards; masked ones are ignored.
        ranks: 0 for the best, larger for worse (gaps are allowed), equal for a tie, and -1 for a response that is only known
            to be below every ranked one (a top-m ranking).
        mask: False where there is no such response.

    Raises:
        ValueError: more than MAX_TIE responses share a rank.
    """
    rewards = at_least_float32(rewards).masked_fill(~mask, 0.0)
    ranked = mask & (ranks >= 0)
    tied = _pairs(ranked) & (ranks.unsqueeze(2) == ranks.unsqueeze(1))
    tie_size = tied.sum(dim=2)
    # left[n, i, j]: response j is still available when i is chosen. It always holds i itself.
    is_worse = (ranks.unsqueeze(1) > ranks.unsqueeze(2)) | (ranks.unsqueeze(1) < 0)
    itself = torch.eye(rewards.shape[1], dtype=torch.bool, device=rewards.device)
    left = (is_worse & mask.unsqueeze(1)) | itself
    gaps = rewards.unsqueeze(1) - rewards.unsqueeze(2)
    nll = gaps.masked_fill(~left, -math.inf).logsumexp(dim=2)
    loss = torch.where(ranked & (tie_size == 1), nll, 0.0).sum(dim=1)
    if not bool((tie_size > 1).any()):
        return loss
    return loss + _tied_loss(rewards, ranks, tied & ~itself, left & ~itself)


def all_pairs(
    rewards: Float[Tensor, "n k"],
    ranks: Int[Tensor, "n k"],
    mask: Bool[Tensor, "n k"],
    *,
    smoothing: float = 0.0,
) -> Float[Tensor, " n"]:
    """Rewards and ranks of each prompt's responses in, mean `bradley_terry` over its comparable pairs [n] in nats out.

    Ouyang et al. 2022 (arXiv 2203.02155, eq. 1), which has neither ties nor partial rankings. Ranks as in
    `plackett_luce`: a tie is q = 0.5, a ranked response beats an unranked one, and two unranked ones are not compared.
    0.0 where a row has no comparable pair.
    """
    rewards = at_least_float32(rewards).masked_fill(~mask, 0.0)
    i, j = torch.triu_indices(rewards.shape[1], rewards.shape[1], offset=1, device=rewards.device)
    unranked = torch.iinfo(ranks.dtype).max
    level = ranks.masked_fill(ranks < 0, unranked)
    comparable = mask[:, i] & mask[:, j] & ((ranks[:, i] >= 0) | (ranks[:, j] >= 0))
    q = torch.where(level[:, i] == level[:, j], 0.5, (level[:, i] < level[:, j]).to(rewards.dtype))
    loss = bradley_terry(rewards[:, i].flatten(), rewards[:, j].flatten(), q=q.flatten(), smoothing=smoothing)
    return masked_mean(loss.view(q.shape), comparable, dim=1)


def attribute_regression(predicted: Float[Tensor, "n a"], target: Float[Tensor, "n a"]) -> Float[Tensor, " n"]:
    """Predicted and target ratings in, mean squared error over the rated attributes [n] out, in units squared.

    A target of NaN is a missing rating: it is ignored, and its prediction gets no gradient. 0.0 where a row has no
    rating. Wang et al. 2024 (HelpSteer2, arXiv 2406.08673).
    """
    rated = ~target.isnan()
    error = at_least_float32(predicted) - at_least_float32(target.nan_to_num(0.0))
    return masked_mean(error.square(), rated, dim=1)


def attribute_cross_entropy(predicted: Float[Tensor, "n a"], target: Float[Tensor, "n a"]) -> Float[Tensor, " n"]:
    """Log-odds and target probabilities in, mean cross-entropy over the rated attributes [n] out, in nats.

    A target of NaN is a missing rating: it is ignored, and its prediction gets no gradient. 0.0 where a row has no
    rating. With one attribute, right or wrong, this trains a process reward model (Lightman et al. 2023, arXiv 2305.20050).
    """
    rated = ~target.isnan()
    odds, share = at_least_float32(predicted), at_least_float32(target.nan_to_num(0.5))
    return masked_mean(F.binary_cross_entropy_with_logits(odds, share, reduction="none"), rated, dim=1)


def _pairs(present: Bool[Tensor, "n k"]) -> Bool[Tensor, "n k k"]:
    """Presence [n, k] in, whether both of a pair are present out."""
    return present.unsqueeze(2) & present.unsqueeze(1)


def _tied_loss(
    rewards: Float[Tensor, "n k"], ranks: Int[Tensor, "n k"], ties: Bool[Tensor, "n k k"], worse: Bool[Tensor, "n k k"]
) -> Float[Tensor, " n"]:
    """What the ties of each row add to its loss [n]; 0.0 in a row without any.

    Within a tie of g, the responses still available at each step are a uniformly random subset of each size, plus all
    that are worse. So the mean over the g! orders is a sum over the 2^g - 1 subsets.
    """
    losses: list[Tensor] = []
    rows: list[int] = []
    for row, rank in sorted({(row, int(ranks[row, i])) for row, i in ties.any(dim=2).nonzero().tolist()}):
        group = (ties[row].any(dim=1) & (ranks[row] == rank)).nonzero().flatten()
        if len(group) > MAX_TIE:
            raise ValueError(
                f"comparison {row}: a tie must have at most {MAX_TIE} responses in Plackett-Luce, got {len(group)} of rank {rank}. "
                "Use the all-pairs loss, which takes ties of any size."
            )
        below = worse[row, group[0]].nonzero().flatten()
        losses.append(_one_tie(rewards[row, group], rewards[row, below]))
        rows.append(row)
    total = torch.zeros_like(rewards[:, 0])
    return total.index_add(0, torch.tensor(rows, device=rewards.device), torch.stack(losses))


def _one_tie(group: Float[Tensor, " g"], below: Float[Tensor, " w"]) -> Float[Tensor, ""]:
    """Rewards of a tie and of all worse responses in, mean loss over the orders of the tie in nats out."""
    g = len(group)
    numbers = torch.arange(1, 2**g, device=group.device)
    subsets = (numbers.unsqueeze(1) >> torch.arange(g, device=group.device)) % 2 == 1
    weight = group.new_tensor([1.0 / math.comb(g, size) for size in subsets.sum(dim=1).tolist()])
    left = torch.cat([subsets, subsets.new_ones(len(subsets), len(below))], dim=1)
    gaps = torch.cat([group, below]) - group.mean()
    return (weight * gaps.expand(left.shape).masked_fill(~left, -math.inf).logsumexp(dim=1)).sum()
