"""The metrics of an update, one line of metrics.jsonl, and whether they are within the bounds beyond which a run stops."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from accelerate import Accelerator

from guerdon.config import OptimizeOptions
from guerdon.formulas import kl
from guerdon.formulas.policy import explained_variance
from guerdon.optimization.batch import Batch
from guerdon.optimization.learner import Learner
from guerdon.optimization.processes import gather, sums

__all__ = ["bound_passed", "summarize_batch"]


def summarize_batch(learner: Learner, batch: Batch) -> dict[str, float]:
    """Means over the replies and tokens of a batch, of all processes. KL and entropy count replies with a usable reward only."""
    rollouts, mask = batch.rollouts, batch.mask
    assert rollouts.reward is not None
    assert rollouts.length is not None
    assert rollouts.truncated is not None
    is_usable = mask.any(1)
    local = {
        "rows": is_usable.sum(), "tokens": mask.sum(), "unusable": (~is_usable).sum(),
        "proxy": torch.from_numpy(np.where(is_usable.numpy(), np.nan_to_num(rollouts.reward), 0.0)).sum(),
        "score": (batch.score * is_usable).sum(), "kl": (batch.kl * is_usable).sum(),
        "k3": kl.k3(batch.log_ratio)[mask].sum(), "entropy": batch.entropy[mask].sum(),
        "length": rollouts.length.sum(), "finished": (~rollouts.cut).sum(), "replies": len(rollouts),
        "partly_read": np.asarray(rollouts.truncated, dtype=bool).sum(),
    }  # fmt: skip
    total = dict(zip(local, sums([float(x) for x in local.values()], learner.accelerator), strict=True))
    replies, tokens, usable = total["replies"], max(1.0, total["tokens"]), max(1.0, total["rows"])
    row = {name: total[name] / usable for name in ("proxy", "score", "kl")}
    row |= {"kl_per_token": total["kl"] / tokens, "kl_k3": total["k3"] / usable, "entropy": total["entropy"] / tokens}
    row |= {name: total[name] / replies for name in ("length", "finished", "partly_read")}
    row |= {"truncated": 1 - row["finished"], "unusable": total["unusable"]}
    row |= _attribute_means(batch, learner.accelerator)
    row |= _server_difference(learner, batch)
    row["unique"] = len(set(gather([response.text for response in rollouts.responses]))) / replies
    if learner.options.baseline == "value":
        value, returns = (torch.tensor(gather(x[mask].tolist())) for x in (batch.value, batch.returns))
        row["explained_variance"] = float(explained_variance(value, returns, torch.ones(len(value), dtype=torch.bool)))
        row["value"] = float(value.mean())
    return row


def _attribute_means(batch: Batch, accelerator: Accelerator) -> dict[str, float]:
    """The mean of each attribute over the replies for which it is known, as attribute/NAME."""
    known = {name: values[np.isfinite(values)] for name, values in batch.rollouts.attributes.items()}
    names = sorted(set(gather(list(known))))  # a process without a reply does not know the names
    local = [(float(known[name].sum()), float(len(known[name]))) if name in known else (0.0, 0.0) for name in names]
    total = sums([number for pair in local for number in pair], accelerator)
    pairs = zip(names, total[::2], total[1::2], strict=True)
    return {f"attribute/{name}": value / count for name, value, count in pairs if count}


def _server_difference(learner: Learner, batch: Batch) -> dict[str, float]:
    """Mean |log-probability by the servers less that by the learner|, nats per token; nothing where the servers do not say.

    At temperature 1 only: servers differ in what their log-probabilities mean at others.
    """
    given = batch.rollouts.token_log_prob
    if learner.engine is None or learner.options.temperature != 1:
        return {}
    total = count = 0.0
    for theirs, ours in zip(given, batch.log_prob, strict=True) if given is not None else ():
        total += float((torch.from_numpy(theirs) - ours[: len(theirs)].double()).abs().sum())
        count += len(theirs)
    total, count = sums([total, count], learner.accelerator)
    return {"server_difference": total / count} if count else {}


def bound_passed(row: Mapping[str, float], options: OptimizeOptions) -> str | None:
    """Which bound of the options a batch has passed, as the reason to stop; None within all bounds."""
    bounds = (("kl", options.max_kl, 1), ("entropy", options.min_entropy, -1),
              ("length", options.max_length, 1), ("length", options.min_length, -1))  # fmt: skip
    for name, bound, sign in bounds:
        if bound is not None and sign * row[name] > sign * bound:
            return f"{name} {row[name]:.3g} passed {bound:g}"
    return None
