"""One loop for PPO, RLOO and GRPO, readable top to bottom: rollouts, advantages, clipped steps, a look at held-out prompts.

A step's losses are means over the tokens of its minibatch on all processes, whatever the micro-batches. Every draw and
every order is a function of the seed and the update, so a checkpoint needs no generator, and a killed run goes on unchanged.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from guerdon.config import OptimizeOptions
from guerdon.contracts import (
    GuerdonError,
    Prompt,
    digest,
    prompt_digest,
)
from guerdon.formulas import kl
from guerdon.formulas.advantage import RunningScale
from guerdon.formulas.overoptimization import MIN_PROMPTS
from guerdon.formulas.policy import (
    clip_fraction,
    clipped_policy_loss,
    clipped_value_loss,
    explained_variance,
)
from guerdon.io.run_folder import METRICS, RunFolder
from guerdon.io.writers import write_json
from guerdon.models.engine.backbone import Texts
from guerdon.models.engine.pretrained import quiet
from guerdon.models.policy import LanguagePolicy
from guerdon.optimization import monitor
from guerdon.optimization.monitor import Check
from guerdon.optimization.rewards import Reward
from guerdon.optimization.rollouts import (
    Batch,
    Scale,
    Turns,
    ValueHead,
    ValueNetwork,
    everyone,
    passes,
    prepare,
    read_all,
    seed_of,
    take_turns,
)
from guerdon.progress import ProgressBar
from guerdon.runtime import checkpoint, distributed
from guerdon.runtime.optimizer import AdamWSettings, TrainableWeights

log = logging.getLogger("guerdon")

# Of a minibatch, over its tokens
MEANS = ("loss", "policy_loss", "value_loss", "clipped", "value_clipped", "kl_step", "ratio", "ratio_square")
CHECKS = "checks.jsonl"
BARREN = 3  # updates in a row without a usable reward, from which on the reward is broken and not unlucky
HUGE = 1e4  # of a score, from where on it, and not the learning rate, is to blame for a gradient that is no number


@dataclass(frozen=True, slots=True)
class Optimized:
    """The policy as it ended (or was at its best), the updates made, why it stopped early if it did, what was seen on the
    way, which update the weights are of, and prompts left out with their reasons."""

    policy: LanguagePolicy
    updates: int
    stopped: str | None
    checks: tuple[Check, ...]
    kept: int
    excluded: dict[str, int] = field(default_factory=dict)


def optimize(
    policy: LanguagePolicy,
    reward: Reward,
    prompts: Sequence[Prompt],
    options: OptimizeOptions,
    *,
    gold: Reward | None = None,
    held_out: Sequence[Prompt] = (),
    value: ValueNetwork | None = None,
    reference_scale: tuple[float, float] | None = None,
    folder: Path | None = None,
    begin: Callable[[], None] = lambda: None,
) -> Optimized:
    """Move the policy toward more reward, charged for its distance from where it started.

    With adapters, the reference is the policy without them; otherwise a frozen copy. `gold` judges replies to held-out
    prompts beside the reward; nothing learns from it. `value` is what a value model of its own starts as; it learns.
    `reference_scale` is the mean and spread of the reward over the reference policy's replies. With a folder, metrics.jsonl,
    checks.jsonl and checkpoints are kept there, and the same call goes on from a killed run.
    """
    _refuse_unusable(options, gold, value, reference_scale, held_out)

    # 1. Prompts that can be answered; the reference; the value model
    accelerator = distributed.make_accelerator(policy.device)
    if not prompts:
        raise GuerdonError("optimize: there is no prompt to learn from; remedy: prompts that are not all held out")
    asked, ids, excluded = answerable(policy, prompts, options.max_tokens)
    check_asked, check_ids, unasked = _to_check(policy, held_out, options, gold)
    excluded |= {f"held out, {why}": num for why, num in unasked.items()}
    reference = policy if hasattr(policy.model, "peft_config") else frozen_copy(policy)
    values = _value_model(policy, options, value)
    weights = _weights(policy, values, options)
    policy.model.train()
    if options.gradient_checkpointing:
        _recompute_activations(policy)

    # 2. Go on from the newest checkpoint
    identity = _identity(policy, asked, check_asked, options, reward, gold)
    run = _Run(folder, identity, accelerator, options, reference_scale)
    update = run.resume(weights)
    begin()
    if folder and accelerator.is_main_process:
        write_json(folder / "excluded.json", excluded)
    bar = ProgressBar(options.updates, "optimize", "updates", initial=update)

    # 3. Updates
    while True:
        ended = update == options.updates or run.stopped
        due = options.check_every and (update % options.check_every == 0 or ended)
        if check_ids and due and (not run.checks or run.checks[-1].update < update):
            # One process asks and tells the others: another answer of a judge must not send them different ways
            seen: list[Any] = [None]
            if accelerator.is_main_process:
                seen = [look(policy, reference, check_asked, check_ids, reward, gold, options, update, run.beta)]
            run.saw(broadcast_object_list(seen)[0], weights)
        if update == options.updates or run.stopped:
            break
        chosen = choose(len(ids), options.prompts, options.seed, update)
        turns = take_turns(policy, [asked[i] for i in chosen], [ids[i] for i in chosen], options, update, accelerator)
        batch, run.scale = prepare(
            policy, reference, values, turns, reward, run.scale, run.beta.beta, options, accelerator
        )
        learned = learn(policy, values, batch, weights, options, update, accelerator)
        told = summary(batch, options, accelerator) | {"kl_coef": run.beta.beta}
        update += 1
        run.learned(update, learned, told)
        at_end = update == options.updates or run.stopped
        if at_end or (options.save_every and update % options.save_every == 0):
            run.save(update, weights)
        bar.advance(1, score=told["score"], kl=told["kl"], length=told["length"])
    bar.close()

    # 4. The policy to keep
    kept = run.restore_best(weights) if options.keep == "best_gold" else update
    policy.model.eval()
    return Optimized(policy, update, run.stopped, tuple(run.checks), kept, excluded)


def learn(
    policy: LanguagePolicy,
    values: Any,
    batch: Batch,
    weights: TrainableWeights,
    options: OptimizeOptions,
    update: int,
    accelerator: Accelerator,
) -> dict[str, float]:
    """All optimizer steps on one batch; returns their means, nothing where no reply could be learned from.

    Raises before a NaN reaches a weight.
    """
    warming = update < options.value_warmup
    factor = 1.0 - (update / options.updates)
    seen: list[dict[str, float]] = []
    moved = 0.0
    for epoch in range(options.epochs):
        for part in minibatches(batch.turns, options, update, epoch, accelerator):
            row = accumulate(policy, values, batch, part, options, accelerator, warming=warming)
            if row is None:
                continue
            norm = _step(weights, factor, accelerator) if math.isfinite(row["loss"]) else math.nan
            if not math.isfinite(norm):
                most = float(batch.score.abs().max())
                raise GuerdonError(
                    f"optimize: the gradient of update {update + 1} is {norm}, its loss {row['loss']}; remedy: "
                    + (
                        f"optimize.reward_clip or a reward of another scale: scores reach {most:.3g}"
                        if most > HUGE
                        else f"a smaller optimize.lr (now {options.lr}), or policy.dtype=float32"
                    )
                )
            seen.append(row | {"grad_norm": norm})
            moved = row["kl_step"]
        if options.max_kl_step and moved > options.max_kl_step:
            break
    if not seen:
        return {}
    first = {"ratio_first": seen[0]["ratio"], "ratio_far": seen[0]["ratio_far"]}
    means = {name: float(np.mean([row[name] for row in seen])) for name in seen[0] if name != "ratio_far"}
    return means | first | {"steps": float(len(seen)), "lr": options.lr * factor}


def accumulate(
    policy: LanguagePolicy,
    values: Any,
    batch: Batch,
    rows: list[int],
    options: OptimizeOptions,
    accelerator: Accelerator,
    *,
    warming: bool = False,
) -> dict[str, float] | None:
    """Forward and backward over one minibatch in micro-batches; gradients are of means over all processes' tokens.

    None, and no gradient, where no process has a reply with a usable reward in it.
    """
    sizes = torch.tensor(batch.turns.lengths)
    count = _total(float(batch.mask[rows].sum()), accelerator)
    if not count:
        return None
    sums = dict.fromkeys(MEANS, 0.0)
    far = 0.0
    for some in passes(policy, batch.turns, rows, options.micro_tokens):
        prompts, replies = [batch.turns.prompts[i] for i in some], [batch.turns.replies[i] for i in some]

        def flat(x: Tensor, some: list[int] = some) -> Tensor:
            return torch.cat([x[i, : sizes[i]] for i in some]).to(policy.device)

        keep = flat(batch.mask)
        reading = policy.forward(prompts, replies, options.temperature)
        old, adv = flat(batch.log_prob), flat(batch.advantage)
        per_token = clipped_policy_loss(reading.log_prob, old, adv, options.clip)
        policy_loss = torch.where(keep, per_token, 0.0).sum() / count
        loss = torch.zeros_like(policy_loss) if warming else policy_loss
        value_loss = value_clipped = torch.zeros_like(policy_loss)
        if values is not None:
            found = values.of(prompts, replies, reading, detached=warming)
            squares = clipped_value_loss(found, flat(batch.value), flat(batch.returns), options.value_clip)
            value_loss = torch.where(keep, squares, 0.0).sum() / count
            value_clipped = (keep & (squares > (found - flat(batch.returns)).square() / 2.0)).sum() / count
            loss = loss + (value_loss if warming else options.value_coef * value_loss)
        loss.backward()
        with torch.no_grad():
            log_ratio = torch.where(keep, reading.log_prob - old, 0.0)
            ratio = torch.where(keep, log_ratio.clamp(-20, 20).exp(), 0.0)
            part = {
                "loss": loss, "policy_loss": policy_loss, "value_loss": value_loss, "value_clipped": value_clipped,
                "clipped": (clip_fraction(reading.log_prob, old, adv, options.clip) * keep).sum() / count,
                "kl_step": torch.where(keep, kl.k3(-log_ratio), 0.0).sum() / count,
                "ratio": ratio.sum() / count, "ratio_square": ratio.square().sum() / count,
            }  # fmt: skip
            for name, x in part.items():
                sums[name] += float(x)
            far = max(far, float(torch.where(keep, (ratio - 1).abs(), 0.0).max()))
    total = dict(zip(sums, _totals(list(sums.values()), accelerator), strict=True))
    variance = total.pop("ratio_square") - total["ratio"] ** 2
    return total | {"ratio_var": max(0.0, variance), "ratio_far": max(everyone([far]))}


def minibatches(
    turns: Turns, options: OptimizeOptions, update: int, epoch: int, accelerator: Accelerator
) -> list[list[int]]:
    """This process's rows of each minibatch: the same division of all replies, however many processes hold them."""
    num = options.prompts * options.samples
    order = np.random.default_rng([options.seed, update, epoch]).permutation(num)
    here = {int(place): row for row, place in enumerate(turns.place)}
    return [[here[int(i)] for i in part if int(i) in here] for part in np.array_split(order, options.minibatches)]


def choose(num: int, wanted: int, seed: int, update: int) -> list[int]:
    """Prompts of an update: all are used once before any is used again, in an order of their own each time."""
    picked: list[int] = []
    at = update * wanted
    while len(picked) < wanted:
        order = np.random.default_rng([seed, at // num]).permutation(num)
        take = order[at % num : at % num + wanted - len(picked)].tolist()
        picked += take
        at += len(take)
    return picked


def answerable(
    policy: LanguagePolicy, prompts: Sequence[Prompt], max_tokens: int, what: str = "prompts"
) -> tuple[list[Prompt], list[Any], dict[str, int]]:
    """Prompts that fit, their token ids, and how many were left out for which reason. All left out is an error."""
    kept: list[Prompt] = []
    ids: list[Any] = []
    excluded: dict[str, int] = {}
    refused = ""
    for prompt in prompts:
        reason: str | None = None
        if not any(message.content.strip() for message in prompt):
            reason = "empty"
        else:
            try:
                row = policy.encode(prompt)
                reason = (
                    "too long for policy.max_prompt or the context" if policy.prompt_problem(row, max_tokens) else None
                )
            except GuerdonError as error:
                reason, refused = "refused by the chat template", f"; {error}"
        if reason:
            excluded[reason] = excluded.get(reason, 0) + 1
            continue
        kept.append(prompt)
        ids.append(row)
    if excluded:
        log.warning("%s left out: %s", what, ", ".join(f"{n} {why}" for why, n in excluded.items()))
    if prompts and not kept:
        raise GuerdonError(
            f"none of {len(prompts)} {what} can be answered ({'; '.join(excluded)}){refused or '; remedy: other prompts'}"
        )
    return kept, ids, excluded


def _to_check(
    policy: LanguagePolicy, held_out: Sequence[Prompt], options: OptimizeOptions, gold: Reward | None
) -> tuple[list[Prompt], list[Any], dict[str, int]]:
    """The first check_prompts of the held-out prompts that fit; a warning where they are too few for a verdict."""
    asked, ids, excluded = answerable(policy, held_out, options.max_tokens, "held-out prompts")
    asked, ids = asked[: options.check_prompts], ids[: options.check_prompts]
    if gold is not None and (num := len(set(asked))) < MIN_PROMPTS:
        log.warning("gold judges %d different prompts; a verdict needs %d or more", num, MIN_PROMPTS)
    return asked, ids, excluded


def frozen_copy(policy: LanguagePolicy) -> LanguagePolicy:
    """The policy as it is now, with weights of its own that never learn."""
    frozen = copy.deepcopy(policy)
    frozen.model.eval().requires_grad_(False)
    return frozen


def look(
    policy: LanguagePolicy,
    reference: LanguagePolicy,
    asked: Sequence[Prompt],
    ids: Texts,
    reward: Reward,
    gold: Reward | None,
    options: OptimizeOptions,
    update: int,
    beta: kl.AdaptiveKL,
) -> Check:
    """One reply to each held-out prompt, with the same chances every time: reward, gold, KL, length and the texts."""
    seeds = [seed_of(options.seed, i) for i in range(len(ids))]
    drawn = policy.generate(ids, 1, options.max_tokens, options.temperature, seeds)
    responses = tuple(policy.response(r, f) for r, f in zip(drawn.replies, drawn.finish, strict=True))
    turns = Turns(tuple(asked), responses, list(ids), drawn.replies, np.arange(len(ids)))
    mine, _, _ = read_all(policy, None, turns, options)
    with reference.as_reference():
        theirs, _, _ = read_all(reference, None, turns, options)
    # At first a judge without a number is broken; later it is unlucky, and no reason to lose a run
    found = reward.score(turns.asked, responses, strict=update == 0)
    second = gold.score(turns.asked, responses, strict=update == 0) if gold is not None else None
    return Check(
        update=update,
        kl_coef=beta.beta,
        prompts=tuple(prompt_digest(prompt) for prompt in asked),
        proxy=np.asarray(found.value, dtype=np.float64),
        gold=None if second is None else np.asarray(second.value, dtype=np.float64),
        kl=(mine - theirs).double().sum(1).numpy(),
        length=np.array(turns.lengths, dtype=np.float64),
        finished=turns.finished,
        std=found.std,
        shift_p=found.shift_p,
        texts=tuple(response.text for response in responses),
        partly_read=found.truncated | (second.truncated if second is not None else False),
    )


def summary(batch: Batch, options: OptimizeOptions, accelerator: Accelerator) -> dict[str, float]:
    """What a batch of rollouts was like, over all processes."""
    turns, mask = batch.turns, batch.mask
    rows, finished = mask.any(1), torch.from_numpy(turns.finished)
    log_ratio = batch.log_ratio
    sums = {
        "rows": rows.sum(), "tokens": mask.sum(), "unusable": (~rows).sum(),
        "proxy": torch.from_numpy(np.where(rows.numpy(), np.nan_to_num(batch.rewarded.value), 0.0)).sum(),
        "score": (batch.score * rows).sum(), "kl": (batch.kl * rows).sum(),
        "k3": kl.k3(log_ratio)[mask].sum(), "entropy": batch.entropy[mask].sum(),
        "length": torch.tensor(turns.lengths, dtype=torch.float64).sum(),
        "finished": finished.sum(), "replies": torch.tensor(len(turns.replies)),
        "partly_read": torch.from_numpy(np.asarray(batch.rewarded.truncated, dtype=bool)).sum(),
    }  # fmt: skip
    total = dict(zip(sums, _totals([float(x) for x in sums.values()], accelerator), strict=True))
    replies, tokens, kept = total["replies"], max(1.0, total["tokens"]), max(1.0, total["rows"])
    row = {name: total[name] / kept for name in ("proxy", "score", "kl")}
    row |= {"kl_per_token": total["kl"] / tokens, "kl_k3": total["k3"] / kept, "entropy": total["entropy"] / tokens}
    row |= {name: total[name] / replies for name in ("length", "finished", "partly_read")}
    row |= {"truncated": 1 - row["finished"], "unusable": total["unusable"]}
    row["unique"] = len(set(everyone([response.text for response in turns.responses]))) / replies
    if options.baseline == "value":
        value, returns = (torch.tensor(everyone(x[mask].tolist())) for x in (batch.value, batch.returns))
        row["explained_variance"] = float(explained_variance(value, returns, torch.ones(len(value), dtype=torch.bool)))
        row["value"] = float(value.mean())
    return row


def stop_reason(row: dict[str, float], options: OptimizeOptions) -> str | None:
    """Why the run has to end here; None where nothing has left its band."""
    bounds = (("kl", options.max_kl, 1), ("entropy", options.min_entropy, -1),
              ("length", options.max_length, 1), ("length", options.min_length, -1))  # fmt: skip
    for name, bound, sign in bounds:
        if bound is not None and sign * row[name] > sign * bound:
            return f"{name} {row[name]:.3g} passed {bound:g}"
    return None


class _Run:
    """What a run remembers and leaves on disk: the KL coefficient, the reward's scale, checks, checkpoints, metrics."""

    def __init__(
        self,
        folder: Path | None,
        identity: dict[str, str],
        accelerator: Accelerator,
        options: OptimizeOptions,
        reference_scale: tuple[float, float] | None,
    ) -> None:
        self.files = RunFolder(folder, identity, is_main=accelerator.is_main_process)
        self.folder, self.identity, self.accelerator, self.options = folder, identity, accelerator, options
        self.beta = kl.AdaptiveKL(options.kl_coef, options.kl_target, options.kl_horizon)
        mean, spread = reference_scale if options.reward_scale == "reference" and reference_scale else (0.0, 1.0)
        self.scale = Scale(mean, spread, RunningScale() if options.reward_scale == "running" else None)
        self.checks: list[Check] = []
        self.best: tuple[int, dict[str, Tensor] | None] | None = None
        self.stopped: str | None = None
        self.barren = 0  # updates in a row that found nothing to learn from
        self.began = time.monotonic()
        self.files.claim(accelerator.wait_for_everyone)

    def resume(self, weights: TrainableWeights) -> int:
        """Load the newest checkpoint; returns the updates already made."""
        place = checkpoint.find(self.folder)
        if place is None:
            self.files.truncate({METRICS: 0, CHECKS: 0})
            return 0
        state = checkpoint.read_state(place)
        self.files.refuse_other(state.get("identity"), place.parent)
        weights.load(place, moments=True)
        weights.set_step(state["steps"])
        self.beta = kl.AdaptiveKL(state["beta"], self.options.kl_target, self.options.kl_horizon)
        if state["running"] is not None:
            self.scale = Scale(self.scale.mean, self.scale.spread, RunningScale(*state["running"]))
        self.stopped = state["stopped"]
        self.barren = state["barren"]
        self.began -= state["seconds"]
        self.files.truncate(state["bytes"])
        self.accelerator.wait_for_everyone()  # who reads the checks must not read those that are being cut
        self.checks = monitor.read_checks(self.folder / CHECKS) if self.folder else []
        self.best = (state["best"], None) if state["best"] is not None else None
        log.info("going on from update %d in %s", state["update"], place)
        return int(state["update"])

    def save(self, update: int, weights: TrainableWeights) -> None:
        """Write a checkpoint."""
        if self.folder is None:
            return
        running = self.scale.running
        state = {
            "update": update,
            "identity": self.identity,
            "steps": weights.steps,
            "beta": self.beta.beta,
            "running": None if running is None else [running.count, running.mean, running.m2],
            "best": self.best[0] if self.best else None,
            "stopped": self.stopped,
            "barren": self.barren,
            "seconds": self._seconds(),
            "bytes": {name: self.files.size(name) for name in (METRICS, CHECKS)},
        }
        weights.save(self.folder, state, is_main=self.accelerator.is_main_process, moments=True)

    def saw(self, check: Check, weights: TrainableWeights) -> None:
        """Keep a check; remember the weights where gold was best; stop where it has fallen beyond doubt."""
        self.checks.append(check)
        self.files.append(CHECKS, monitor.to_row(check))
        if check.gold is not None and self.options.keep == "best_gold" and monitor.best(self.checks) == check.update:
            self._remember(check.update, weights)
        if self.options.stop_when == "over_optimized" and (why := monitor.should_stop(self.checks)):
            self.stopped = why

    def restore_best(self, weights: TrainableWeights) -> int:
        """Put the weights with the best gold back; returns their update."""
        assert self.best is not None, "a check with gold came first"
        self.accelerator.wait_for_everyone()  # the main process may still be writing it
        update, held = self.best
        if held is None:
            assert self.folder is not None
            place = checkpoint.find(self.folder, "best")
            assert place is not None, f"{self.folder}/best is written with every best check"
            weights.load(place, moments=False)
            update = int(checkpoint.read_state(place)["update"])  # a judge that answers anew may have moved it since
        else:
            weights.restore(held)
        return update

    def learned(self, update: int, row: dict[str, float], told: dict[str, float]) -> None:
        """Log an update; let it move the price of KL, or end the run. One without a usable reward does neither."""
        self.barren = 0 if row else self.barren + 1
        if not row:
            samples, ago = self.options.samples, f"{self.barren} updates in a row" if self.barren > 1 else "this update"
            line = f"optimize: at update {update}, no prompt has a finite reward for each of its {samples} replies"
            if self.barren >= min(BARREN, self.options.updates):
                raise GuerdonError(f"{line}, for {ago}; remedy: a reward that is finite for more of them")
            log.warning("%s: nothing is learned", line)
            self.log({"update": update, "unusable": told["unusable"]})
            return
        self.beta = self.beta.update(told["kl"], self.options.prompts * self.options.samples)
        self.stopped = stop_reason(told, self.options)
        self.log({"update": update, **row, **told})

    def log(self, row: dict[str, float]) -> None:
        """Append a line to metrics.jsonl."""
        self.files.log_metrics(row, self._seconds())

    def _seconds(self) -> float:
        """Since the run began, without the time between a kill and going on."""
        return round(time.monotonic() - self.began, 3)

    def _remember(self, update: int, weights: TrainableWeights) -> None:
        if self.folder is None:
            self.best = (update, weights.snapshot())
            return
        weights.save(
            self.folder, {"update": update}, is_main=self.accelerator.is_main_process, moments=False, name="best"
        )
        self.best = (update, None)


def _step(weights: TrainableWeights, factor: float, accelerator: Accelerator) -> float:
    """Sum gradients over processes and step; a weight that nothing reached has a gradient of 0."""
    for p in weights.live.values():
        if p.grad is None:
            p.grad = torch.zeros_like(p)
        if accelerator.num_processes > 1:
            p.grad = distributed.sum_over_processes(p.grad, accelerator)
    return weights.step(factor)


def _recompute_activations(policy: LanguagePolicy) -> None:
    with quiet():
        try:
            policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        except ValueError as error:
            raise GuerdonError(f"{error}; remedy: optimize.gradient_checkpointing=false") from None


def _weights(policy: LanguagePolicy, values: Any, options: OptimizeOptions) -> TrainableWeights:
    trained = nn.ModuleDict({"policy": policy.model} | ({"value": values} if values is not None else {}))
    settings = AdamWSettings(
        lr=options.lr,
        head_lr=options.value_lr or options.lr,
        betas=options.betas,
        eps=options.eps,
        weight_decay=options.weight_decay,
        max_grad_norm=options.grad_clip,
    )
    return TrainableWeights(trained, settings, head=list(values.parameters()) if values is not None else [])


def _value_model(
    policy: LanguagePolicy, options: OptimizeOptions, given: ValueNetwork | None
) -> ValueHead | ValueNetwork | None:
    if options.baseline != "value":
        return None
    if options.value == "head":
        return ValueHead(policy.model.config.get_text_config().hidden_size).to(policy.device)
    assert given is not None, "refused before"
    return given.to(policy.device).requires_grad_(True)


def _refuse_unusable(
    options: OptimizeOptions,
    gold: Reward | None,
    value: ValueNetwork | None,
    scale: tuple[float, float] | None,
    held_out: Sequence[Prompt],
) -> None:
    """Raise GuerdonError for an option that these rewards and prompts cannot follow; conflicts between options are in config."""
    if gold is not None and not (held_out and options.check_every):
        raise GuerdonError(
            "optimize: a gold judge needs held-out prompts and optimize.check_every above 0, or it is never asked. "
            "Give --held-out, or more prompts, of which a tenth is held out."
        )
    if options.baseline == "value" and options.value == "reward" and value is None:
        raise GuerdonError("optimize.value=reward: the reward must be one of our models. Use optimize.value=head.")
    if options.reward_scale == "reference" and scale is None:
        raise GuerdonError(
            "optimize.reward_scale=reference: the model must store a reference mean and spread. "
            "Calibrate it with --reference, or use optimize.reward_scale=running."
        )
    needs_gold = [n for n, on in (("stop_when", options.stop_when != "never"), ("keep", options.keep != "last")) if on]
    if needs_gold and (gold is None or not held_out or not options.check_every):
        raise GuerdonError(
            f"optimize.{needs_gold[0]}: needs a gold judge, held-out prompts and optimize.check_every above 0. Give --gold."
        )


def _identity(
    policy: LanguagePolicy,
    asked: Sequence[Prompt],
    held_out: Sequence[Prompt],
    options: OptimizeOptions,
    reward: Reward,
    gold: Reward | None,
) -> dict[str, str]:
    """What must agree for a checkpoint to be gone on from."""
    silent = {"save_every", "micro_tokens", "gradient_checkpointing"}
    adapters = [
        (a.r, a.lora_alpha, sorted(a.target_modules)) for a in getattr(policy.model, "peft_config", {}).values()
    ]
    return {
        "optimize options": digest({k: v for k, v in options.model_dump().items() if k not in silent}),
        "prompts": digest([prompt_digest(p) for p in asked]),
        "held-out prompts": digest([prompt_digest(p) for p in held_out]),
        "policy": digest([policy.fingerprint, str(next(policy.model.parameters()).dtype), adapters]),
        "reward": reward.fingerprint,
        "gold": gold.fingerprint if gold else "",
    }


def _total(value: float, accelerator: Accelerator) -> float:
    return _totals([value], accelerator)[0]


def _totals(values: list[float], accelerator: Accelerator) -> list[float]:
    if accelerator.num_processes == 1:
        return values
    mine = torch.tensor(values, dtype=torch.float64, device=accelerator.device)
    found: list[float] = distributed.sum_over_processes(mine, accelerator).tolist()
    return found
