"""Draw from a policy, keep the best of n, and optimize the policy."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guerdon.config import (
    BestOfNOptions,
    Config,
    OptimizeOptions,
    PolicyOptions,
    SplitOptions,
    build,
    make,
)
from guerdon.contracts import (
    GuerdonError,
    Policy,
    Prompt,
    PromptLike,
    Report,
    Rollouts,
    as_prompt,
    digest,
    prompt_digest,
)
from guerdon.io import (
    run_folder,
    schema,
    writers,
)
from guerdon.models.calibrated import CalibratedModel, strip_calibration
from guerdon.models.reward_model import ScalarRewardModel

if TYPE_CHECKING:
    from guerdon.models.policy import LanguagePolicy
    from guerdon.optimization import PoolCurve, Reward
    from guerdon.optimization.loop import OptimizationResult
    from guerdon.optimization.value_models import ValueNetwork

from guerdon.api.auditing import uncertainty_source, write_report
from guerdon.api.overoptimization import run_report

log = logging.getLogger("guerdon")


def load_policy(base: str = "starter", *, adapters: bool = False, seed: int = 0, **options: Any) -> Policy:
    """A language model that speaks, here or on a server. Keywords are PolicyOptions; `adapters` adds those that are trained."""
    from guerdon.models.directory.policies import load_policy
    from guerdon.models.remote_policy import RemotePolicy

    chosen = make(PolicyOptions, {"base": base, **options})
    if chosen.server:
        return RemotePolicy(
            chosen.server,
            chosen.base,
            system=chosen.system,
            timeout=chosen.server_timeout,
            retries=chosen.server_retries,
            workers=chosen.server_workers,
            key_from_env=chosen.server_key_from_env,
            log_probs=chosen.server_log_probs,
        )
    return load_policy(chosen, adapters=adapters, seed=seed)


def best_of_n(
    policy: Policy,
    reward: Any,
    prompts: Sequence[PromptLike],
    out: str | Path,
    *,
    gold: Any = None,
    **options: Any,
) -> Report:
    """Draw N replies to each prompt into the file `out`, the best marked, and report what the reward was worth as n grew.

    `reward` and `gold` are reward models, functions f(prompts, responses) -> numbers, or `guerdon.optimization.combined`
    ones. The same call goes on from a killed run. Keywords are BestOfNOptions.
    """
    from guerdon.optimization import read_pool, to_report, write_pool

    chosen = make(BestOfNOptions, options)
    asked = [as_prompt(prompt) for prompt in prompts]
    target, judge = _judges(reward, gold)
    _refuse_other_templates(policy, target, judge)
    if chosen.most_n is not None and chosen.most_n > chosen.n:
        raise GuerdonError(
            f"best_of_n.most_n must be at most best_of_n.n={chosen.n}, the replies drawn, got {chosen.most_n}. Set a smaller one."
        )
    identity = {
        "policy": getattr(policy, "fingerprint", repr(policy)),
        "reward": target.fingerprint,
        "gold": judge.fingerprint if judge else "",
        "prompts": digest([prompt_digest(prompt) for prompt in asked]),
    }
    made_of = _all_of_it(policy, [target, *([judge] if judge else [])])
    write_pool(out, policy, target, asked, chosen, gold=judge, identity=identity, made_of=made_of)
    pool = read_pool(out)
    return to_report(pool, pool_curve(pool.rollouts, **options))


def pool_curve(rollouts: Rollouts, **options: Any) -> PoolCurve:
    """Reward, gold and KL of the best of n, for n = 1, 2, 4, ... Keywords are BestOfNOptions."""
    from guerdon.optimization import curve

    chosen = make(BestOfNOptions, options)
    return curve(rollouts, most=chosen.most_n, seed=chosen.seed, draws=chosen.draws)


def optimize(
    policy: LanguagePolicy,
    reward: Any,
    prompts: Sequence[PromptLike],
    /,
    *,
    gold: Any = None,
    held_out: Sequence[PromptLike] = (),
    out: str | Path | None = None,
    config: Config | None = None,
    **options: Any,
) -> OptimizationResult:
    """Move a policy toward more reward: PPO, or RLOO and GRPO with baseline="leave_one_out" or "group".

    `reward` and `gold` are as for best_of_n. Held-out prompts are answered now and then to see whether the reward is still
    true; without any, a tenth of the prompts is held out by hash. With `out`, a run folder: config.yaml, metrics.jsonl,
    checks.jsonl, the newest checkpoint, the policy and the report; the same call goes on from a killed run. Keywords are
    OptimizeOptions.
    """
    from accelerate import PartialState

    from guerdon.models.directory.policies import save_policy
    from guerdon.models.policy import LanguagePolicy
    from guerdon.optimization.loop import optimize

    if not isinstance(policy, LanguagePolicy):
        raise GuerdonError(
            f"optimize: the policy must be a model on this machine, got {type(policy).__name__}. Set policy.server=null."
        )
    settings = build((config or Config()).model_dump(exclude_unset=True), {"optimize": options})
    chosen, folder = settings.optimize, Path(out) if out else None
    asked = [as_prompt(prompt) for prompt in prompts]
    kept = [as_prompt(prompt) for prompt in held_out]
    if not kept and chosen.check_every:
        asked, kept = _tenth(asked)
    target, judge = _judges(reward, gold)
    if both := set(asked) & set(kept):
        log.warning("%d held-out prompts are also learned from; they are left out of learning", len(both))
        asked = [prompt for prompt in asked if prompt not in both]
    ours = _only_scaled(target)
    _refuse_other_templates(policy, target, judge)

    def on_start() -> None:
        if folder and PartialState().is_main_process:
            writers.write_config(folder / "config.yaml", settings)
            rows = [schema.prompt_to_row(prompt) for prompt in kept]
            writers.write_jsonl(folder / "held_out.jsonl", rows)

    with run_folder.RunFolder(folder).lock():
        done = optimize(
            policy,
            target,
            asked,
            chosen,
            gold=judge,
            held_out=kept,
            value=_value_network(policy, ours, chosen, sum(target.weights.values())),
            reference_scale=_reference_scale(ours, sum(target.weights.values())),
            folder=folder,
            on_start=on_start,
        )
        if folder and PartialState().is_main_process:
            save_policy(done.policy, folder / "policy")
            write_report(run_report(folder), folder)
    return done


def refuse_other_template(policy: LanguagePolicy, model: ScalarRewardModel) -> None:
    """A policy and a reward model with one tokenizer that render a conversation differently: one of them is set up wrongly."""
    text = model.text
    if policy.tokenizer.get_vocab() != text.tokenizer.get_vocab() or policy.template_hash == text.template_hash:
        return
    if policy.chat_template != text.chat_template:
        where = "chat template"
        advice = f"Set policy.template={text.template}, or score with the template it was trained on."
    else:
        own = "null" if text.system is None else repr(text.system)
        where = f"system message ({policy.system!r} and {text.system!r})"
        quoted = f'"policy.system={own}", with these quotes in a shell'
        advice = "Set policy.system=null." if text.system is None else f"Set {quoted}."
    raise GuerdonError(f"the policy and the reward model have one tokenizer but not one {where}. {advice}")


def _refuse_other_templates(policy: Any, reward: Reward, gold: Reward | None) -> None:
    """As refuse_other_template, of every reward model of ours that judges; a policy behind a server renders by itself."""
    from guerdon.models.policy import LanguagePolicy

    for judge in (reward, gold):
        for model in judge.models if judge is not None and isinstance(policy, LanguagePolicy) else ():
            if isinstance(model, ScalarRewardModel):
                refuse_other_template(policy, model)


def _reward(given: Any) -> Reward:
    from guerdon.optimization.rewards import Reward, combined

    return given if isinstance(given, Reward) else combined(given)


def _judges(reward: Any, gold: Any) -> tuple[Reward, Reward | None]:
    """The reward and a gold that has nothing of it."""
    target, judge = _reward(reward), None if gold is None else _reward(gold)
    if judge is not None and (name := judge.in_common(target)):
        raise GuerdonError(
            f"gold {name} is in the reward itself, and would agree with it. Give a judge that nothing learns from."
        )
    return target, judge


def _only_scaled(reward: Reward) -> CalibratedModel | None:
    """The one calibrated model that the reward is; None where it is more, or something else."""
    (only, *more) = reward.sources.values()
    return only if isinstance(only, CalibratedModel) and not more and reward.members is None else None


def _reference_scale(model: CalibratedModel | None, weight: float) -> tuple[float, float] | None:
    """Mean and spread, in weighted nats, of the rewards of the reference policy's replies, where the model stores them."""
    if model is None or not model.calibration.provenance:
        return None
    return 0.0, abs(weight) * model.calibration.reference_spread / model.calibration.temperature


def _value_network(
    policy: LanguagePolicy, model: CalibratedModel | None, options: OptimizeOptions, weight: float
) -> ValueNetwork | None:
    """A copy of the reward model that starts as a value model, in units of the optimized score."""
    from guerdon.optimization.value_models import ValueNetwork

    if options.baseline != "value" or options.value != "reward" or model is None:
        return None
    inner, calibration = model.model, model.calibration
    if not isinstance(inner, ScalarRewardModel) or inner.heads > 1:
        raise GuerdonError(
            "optimize.value=reward: the reward is an ensemble, and a value model starts as one model. "
            "Use optimize.value=head."
        )
    if inner.network.encoder or policy.tokenizer.get_vocab() != inner.text.tokenizer.get_vocab():
        raise GuerdonError(
            "optimize.value=reward: the policy and the reward model must have the same tokenizer. Use optimize.value=head."
        )
    unit = calibration.reference_spread if options.reward_scale == "reference" else calibration.temperature
    weight = weight / abs(weight) if options.reward_scale == "reference" else weight
    return ValueNetwork(copy.deepcopy(inner.network), calibration.reference_mean, weight / unit)


def _all_of_it(policy: Any, judges: Sequence[Reward]) -> dict[str, Any] | None:
    """What a pool depends on besides its identity; None where that cannot be known, of a function, say."""
    from guerdon import __version__
    from guerdon.models.policy import LanguagePolicy

    sources = [source for judge in judges for source in judge.sources.values()]
    inner = [strip_calibration(source) for source in sources]
    models = [model for model in inner if isinstance(model, ScalarRewardModel)]
    if len(models) < len(inner) or not hasattr(policy, "fingerprint"):
        return None
    doubt = [uncertainty_source(model) for model in models]
    dtype = str(next(policy.model.parameters()).dtype) if isinstance(policy, LanguagePolicy) else None
    types = [str(next(model.network.parameters()).dtype) for model in models]
    told = [doubt, types, dtype, bool(getattr(policy, "log_probs", False)), __version__]
    return {"and": digest(told)}


def _tenth(prompts: list[Prompt]) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts to learn from, and those held out: the part that `split` would audit."""
    from guerdon.data.split import part_of

    parts = [part_of(prompt_digest(prompt), SplitOptions()) for prompt in prompts]
    held = [prompt for prompt, part in zip(prompts, parts, strict=True) if part == "audit"]
    rest = [prompt for prompt, part in zip(prompts, parts, strict=True) if part != "audit"]
    return (rest, held) if rest else (prompts, [])
