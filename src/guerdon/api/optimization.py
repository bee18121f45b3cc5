"""Draw from a policy, keep the best of n, and optimize the policy."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guerdon.api.auditing import uncertainty_source, write_report
from guerdon.api.overoptimization import run_report
from guerdon.config import BestOfNOptions, Config, OptimizeOptions, PolicyOptions, SplitOptions, build, make
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
from guerdon.io import run_folder, schema, writers
from guerdon.models.calibrated import CalibratedModel, strip_calibration
from guerdon.models.reward_model import ScalarRewardModel

if TYPE_CHECKING:
    from guerdon.models.policy import LanguagePolicy
    from guerdon.optimization import PoolCurve, Reward
    from guerdon.optimization.loop import OptimizationResult
    from guerdon.optimization.value_models import ValueNetwork

log = logging.getLogger("guerdon")


def load_policy(base: str = "starter", *, adapters: bool = False, seed: int = 0, **options: Any) -> Policy:
    """A policy: a language model on this machine, or behind a server. Keywords are PolicyOptions.

    adapters: add adapters, which are then what training changes.
    """
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
    """Sample N replies to each prompt into the file `out`, mark the best, and report reward and gold as n grows.

    `reward` and `gold` are reward models, functions f(prompts, responses) -> numbers, or `guerdon.optimization.combined`
    ones. The same call resumes a killed run. Keywords are BestOfNOptions.
    """
    from guerdon.optimization import read_pool, to_report, write_pool

    chosen = make(BestOfNOptions, options)
    questions = [as_prompt(prompt) for prompt in prompts]
    target, judge = _reward_and_gold(reward, gold)
    _refuse_other_templates(policy, target)
    if chosen.most_n is not None and chosen.most_n > chosen.n:
        raise GuerdonError(
            f"best_of_n.most_n must be at most best_of_n.n={chosen.n}, the replies sampled to each prompt, "
            f"got {chosen.most_n}. Lower most_n or raise n."
        )
    identity = {
        "policy": getattr(policy, "fingerprint", repr(policy)),
        "reward": target.fingerprint,
        "gold": judge.fingerprint if judge else "",
        "prompts": digest([prompt_digest(prompt) for prompt in questions]),
    }
    details = _settings_digest(policy, [target, *([judge] if judge else [])])
    write_pool(out, policy, target, questions, chosen, gold=judge, identity=identity, details=details)
    pool = read_pool(out)
    return to_report(pool, pool_curve(pool.rollouts, **options))


def sample(policy: Policy, prompts: Sequence[PromptLike], out: str | Path, **options: Any) -> dict[str, int]:
    """Sample N replies to each prompt into the file `out`, which `score` reads; returns counts.

    A prompt's replies depend on the seed and the prompt's position only, and equal those that best_of_n draws. The same
    call resumes a killed run. Keywords are BestOfNOptions. Raises GuerdonError if no prompt can be answered.
    """
    from guerdon.optimization import write_pool

    questions = [as_prompt(prompt) for prompt in prompts]
    identity = {
        "policy": getattr(policy, "fingerprint", repr(policy)),
        "reward": "",  # so that a pool of best_of_n, which has one, is another run's
        "gold": "",
        "prompts": digest([prompt_digest(prompt) for prompt in questions]),
    }
    details = _settings_digest(policy, [])
    return write_pool(out, policy, None, questions, make(BestOfNOptions, options), identity=identity, details=details)


def pool_curve(rollouts: Rollouts, **options: Any) -> PoolCurve:
    """Reward, gold and KL of the best of n, for n = 1, 2, 4, ... Keywords are BestOfNOptions."""
    from guerdon.optimization import curve

    chosen = make(BestOfNOptions, options)
    return curve(rollouts, most=chosen.most_n)


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

    `reward` and `gold` are as for best_of_n. Every `check_every` updates the policy answers the held-out prompts, to see
    whether gold still rises with the reward; without any, a tenth of the prompts is held out by hash. `out` becomes a run
    folder: config.yaml, metrics.jsonl, checks.jsonl, the newest checkpoint, the policy and the report; the same call resumes
    a killed run. Keywords are OptimizeOptions.
    """
    from accelerate import PartialState

    from guerdon.models.directory.policies import save_policy
    from guerdon.models.policy import LanguagePolicy
    from guerdon.optimization.loop import optimize

    if not isinstance(policy, LanguagePolicy):
        raise GuerdonError(
            f"A policy to optimize must be a model on this machine, got {type(policy).__name__}. "
            "Set policy.server=null, and optimize.rollouts=URL for servers to sample from it."
        )
    settings = build((config or Config()).model_dump(exclude_unset=True), {"optimize": options}, runs=["optimize"])
    chosen, folder = settings.optimize, Path(out) if out else None
    run_folder.RunFolder(folder).refuse_foreign("policy")
    train_prompts = [as_prompt(prompt) for prompt in prompts]
    held_out_prompts = [as_prompt(prompt) for prompt in held_out]
    if not held_out_prompts and chosen.check_every:
        train_prompts, held_out_prompts = hold_out(train_prompts)
    target, judge = _reward_and_gold(reward, gold)
    if both := set(train_prompts) & set(held_out_prompts):
        log.warning("held-out prompts among the training prompts, left out of training: %d", len(both))
        train_prompts = [prompt for prompt in train_prompts if prompt not in both]
    calibrated = _single_calibrated_model(target)
    _refuse_other_templates(policy, target)

    def on_start() -> None:
        if folder and PartialState().is_main_process:
            writers.write_config(folder / "config.yaml", settings)
            rows = [schema.prompt_to_row(prompt) for prompt in held_out_prompts]
            writers.write_jsonl(folder / "held_out.jsonl", rows)

    with run_folder.RunFolder(folder).lock():
        done = optimize(
            policy,
            target,
            train_prompts,
            chosen,
            gold=judge,
            held_out=held_out_prompts,
            value=_value_network(policy, calibrated, chosen, sum(target.weights.values())),
            reference_scale=_reference_scale(calibrated, sum(target.weights.values())),
            folder=folder,
            on_start=on_start,
        )
        if folder and PartialState().is_main_process:
            save_policy(done.policy, folder / "policy")
            write_report(run_report(folder), folder)
    return done


def refuse_other_template(policy: LanguagePolicy, model: ScalarRewardModel) -> None:
    """Refuse a policy and a reward model that share a tokenizer but render a conversation differently: a wrong setting."""
    text = model.text
    if policy.tokenizer.get_vocab() != text.tokenizer.get_vocab() or policy.template_hash == text.template_hash:
        return
    shared = "The policy and the reward model, which share a tokenizer, must share"
    if policy.chat_template != text.chat_template:
        raise GuerdonError(
            f"{shared} a chat template, got two. "
            f"Set policy.template={text.template}, or score with the template the reward model was trained on."
        )
    own = (
        "policy.system=null"
        if text.system is None
        else f'"policy.system={text.system!r}", with these quotes in a shell'
    )
    raise GuerdonError(f"{shared} a system message, got {policy.system!r} and {text.system!r}. Set {own}.")


def _refuse_other_templates(policy: Any, reward: Reward) -> None:
    """Apply refuse_other_template to every Guerdon model in the reward. Skip remote policies: their server renders prompts.

    A gold judge may read conversations in its own way: nothing is trained against it.
    """
    from guerdon.models.policy import LanguagePolicy

    for model in reward.models if isinstance(policy, LanguagePolicy) else ():
        if isinstance(model, ScalarRewardModel):
            refuse_other_template(policy, model)


def _reward(given: Any) -> Reward:
    from guerdon.optimization.rewards import Reward, combined

    return given if isinstance(given, Reward) else combined(given)


def _reward_and_gold(reward: Any, gold: Any) -> tuple[Reward, Reward | None]:
    """The reward, and a gold judge that shares no component with it."""
    target, judge = _reward(reward), None if gold is None else _reward(gold)
    if judge is not None and (name := judge.in_common(target)):
        raise GuerdonError(
            f"gold must share nothing with the reward, got {name} in both. Choose a judge that the policy does not learn from."
        )
    return target, judge


def _single_calibrated_model(reward: Reward) -> CalibratedModel | None:
    """The calibrated model, if the reward is one calibrated model and nothing else."""
    (only, *more) = reward.sources.values()
    return only if isinstance(only, CalibratedModel) and not more and reward.members is None else None


def _reference_scale(model: CalibratedModel | None, weight: float) -> tuple[float, float] | None:
    """Mean and spread, in weighted nats, of the rewards of the reference policy's replies, if the model stores them."""
    if model is None or not model.calibration.provenance:
        return None
    return 0.0, abs(weight) * model.calibration.reference_spread / model.calibration.temperature


def _value_network(
    policy: LanguagePolicy, model: CalibratedModel | None, options: OptimizeOptions, weight: float
) -> ValueNetwork | None:
    """A value model that starts as a copy of the reward model, in units of the optimized score."""
    from guerdon.optimization.value_models import ValueNetwork

    if options.baseline != "value" or options.value != "reward" or model is None:
        return None
    inner, calibration = model.model, model.calibration
    if not isinstance(inner, ScalarRewardModel) or inner.heads > 1:
        raise GuerdonError(
            "For optimize.value=reward the reward must be one model, got an ensemble. Set optimize.value=head."
        )
    if inner.network.encoder or policy.tokenizer.get_vocab() != inner.text.tokenizer.get_vocab():
        raise GuerdonError(
            "For optimize.value=reward the policy and a decoder as reward model must share a tokenizer, "
            f"got {'an encoder' if inner.network.encoder else 'two tokenizers'}. Set optimize.value=head."
        )
    unit = calibration.reference_spread if options.reward_scale == "reference" else calibration.temperature
    weight = weight / abs(weight) if options.reward_scale == "reference" else weight
    return ValueNetwork(copy.deepcopy(inner.network), calibration.reference_mean, weight / unit)


def _settings_digest(policy: Any, judges: Sequence[Reward]) -> dict[str, Any] | None:
    """A digest of what a pool depends on besides its identity; None if that cannot be known (of a function, for example)."""
    from guerdon import __version__
    from guerdon.models.policy import LanguagePolicy

    sources = [source for judge in judges for source in judge.sources.values()]
    inner = [strip_calibration(source) for source in sources]
    models = [model for model in inner if isinstance(model, ScalarRewardModel)]
    if len(models) < len(inner) or not hasattr(policy, "fingerprint"):
        return None
    uncertainties = [uncertainty_source(model) for model in models]
    dtype = str(next(policy.model.parameters()).dtype) if isinstance(policy, LanguagePolicy) else None
    types = [str(next(model.network.parameters()).dtype) for model in models]
    settings = [uncertainties, types, dtype, bool(getattr(policy, "log_probs", False)), __version__]
    return {"and": digest(settings)}


def hold_out(prompts: list[Prompt]) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts to train on and prompts held out: those that `split` would put into its audit part, a tenth."""
    from guerdon.data.split import part_of

    parts = [part_of(prompt_digest(prompt), SplitOptions()) for prompt in prompts]
    held = [prompt for prompt, part in zip(prompts, parts, strict=True) if part == "audit"]
    rest = [prompt for prompt, part in zip(prompts, parts, strict=True) if part != "audit"]
    return (rest, held) if rest else (prompts, [])
