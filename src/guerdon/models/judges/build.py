"""Options in, a judge out: every kind of judge, with the calls that it logs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from guerdon.config.build import make
from guerdon.config.judging import JudgeOptions
from guerdon.errors import field_error
from guerdon.io.judge_file import jury_members
from guerdon.io.price_table import priced
from guerdon.models.judges.calls import CallLog, MemoryCallLog
from guerdon.models.judges.comparing import VerdictJudge
from guerdon.models.judges.driver import Respondent

if TYPE_CHECKING:
    from guerdon.models.judges.endpoint.budget import Budget
    from guerdon.models.judges.endpoint.respondent import EndpointRespondent


def build_judge(options: JudgeOptions, log: CallLog | None = None, budget: Budget | None = None) -> VerdictJudge:
    """The judge that the options describe. Its calls go to the log, in memory by default; what it holds is not asked again.

    budget: limits that it shares with others, instead of those of its options.
    """
    options.refuse_conflicts()
    options.require()
    options = priced(options)
    log = MemoryCallLog() if log is None else log
    if options.kind in ("endpoint", "local"):
        return _prompted(options, log, budget)
    if options.kind == "jury":
        return _jury(options, log, budget)
    if options.kind == "python":
        from guerdon.models.judges.python_judge import python_judge

        return python_judge(options)
    from guerdon.models.judges.python_judge import RewardModelJudge

    model = _implicit(options) if options.kind == "implicit" else _reward_model(options)
    return RewardModelJudge(model, name=options.name or str(options.model))


def build_respondent(options: JudgeOptions, log: CallLog, budget: Budget | None = None) -> Respondent:
    """The model that a judge of kind endpoint or local asks. budget: limits that it shares with others."""
    if options.kind == "endpoint":
        from guerdon.models.judges.endpoint.respondent import EndpointRespondent

        options = priced(options)
        live = EndpointRespondent(options, log, budget=budget)
        return live if options.executor == "api" else _through_files(options, log, live)
    if options.kind != "local":
        raise field_error(
            "judge.kind", "endpoint or local, which answer questions", options.kind, "Use another judge.yaml."
        )
    from guerdon.models.judges.local import local_respondent

    return local_respondent(_policy(str(options.model), options), log, max_length=options.max_length)


def _through_files(options: JudgeOptions, log: CallLog, live: EndpointRespondent) -> Respondent:
    """Asks by files of requests, in the budget of `live`, which shows whether the model gives log-probabilities."""
    from guerdon.io.call_shards import SHARD_SIZE
    from guerdon.models.judges.batch.provider import ProviderBatches
    from guerdon.models.judges.batch.respondent import RunShards, shard_respondent
    from guerdon.models.judges.batch.workers import WORKER_SHARD_SIZE, run_with_ray

    run: RunShards
    if options.executor == "batch":
        run, size = ProviderBatches(options, poll_seconds=options.poll_seconds).run, SHARD_SIZE
    else:
        run, size = run_with_ray(options, options.workers), WORKER_SHARD_SIZE
    return shard_respondent(
        options, log, Path(str(options.folder)), run,
        log_probs=live.gives_log_probs, budget=live.budget, shard_size=size, shards_at_once=max(10, 2 * options.workers),
    )  # fmt: skip


def _prompted(options: JudgeOptions, log: CallLog, budget: Budget | None) -> VerdictJudge:
    """A judge that asks a model: about pairs, or about each criterion of a rubric."""
    if options.rubric is None:
        from guerdon.models.judges.prompted import PromptedJudge

        return PromptedJudge(build_respondent(options, log, budget), options)
    from guerdon.models.judges.rubric.judge import RubricJudge
    from guerdon.models.judges.rubric.model import RubricModel
    from guerdon.models.judges.rubric.rubrics import load_rubric

    rubric = load_rubric(options.rubric)
    return RubricJudge(RubricModel(build_respondent(options, log, budget), rubric, options))


def _policy(base: str, options: JudgeOptions, *, keep_adapters: bool = False) -> Any:
    """A language model to read with: without the limits that options of a policy put on prompts."""
    from guerdon.config import PolicyOptions
    from guerdon.models.directory.policies import load_policy

    chosen = make(PolicyOptions, {"base": base, "device": options.device, "dtype": options.dtype})
    policy = load_policy(chosen, keep_adapters=keep_adapters)
    policy.max_prompt = None
    return policy


def _implicit(options: JudgeOptions) -> Any:
    from guerdon.models.directory.policies import base_of_adapters, holds_only_adapters
    from guerdon.models.judges.implicit import ImplicitReward

    model, reference = str(options.model), options.reference
    is_adapted = holds_only_adapters(model)
    if reference is None and not is_adapted:
        claim = "given for a policy that is not a directory of adapters"
        raise field_error("judge.reference", claim, reference, "Give the model that DPO started from.")
    if is_adapted and reference in (None, base_of_adapters(model)):  # one model, with its adapters and without them
        return ImplicitReward(_policy(model, options, keep_adapters=True), beta=options.beta)
    assert reference is not None
    return ImplicitReward(_policy(model, options), _policy(reference, options), options.beta)


def _reward_model(options: JudgeOptions) -> Any:
    from guerdon.config import ModelOptions
    from guerdon.models.directory.loading import load

    return load(Path(str(options.model)), ModelOptions(device=options.device), with_uncertainty=False)


def _jury(options: JudgeOptions, log: CallLog, budget: Budget | None) -> VerdictJudge:
    """A jury with limits shares them among its members, whose own are refused then."""
    from guerdon.models.judges.endpoint.budget import Budget
    from guerdon.models.judges.jury import Jury

    members = jury_members(options)
    own = Budget.of(options)
    if budget is None and own.is_limited:
        budget = own
    for i, member in enumerate(members if budget is not None else ()):
        for name in ("max_calls", "max_cost", "max_total_tokens"):
            if getattr(member, name) is not None:
                claim = "left out in a jury with limits of its own, which its judges share"
                raise field_error(f"judge.judges[{i}].{name}", claim, getattr(member, name), "Keep one of them.")
    judges = [build_judge(member, log, budget) for member in members]
    weights = options.weights or None
    return Jury(judges, quorum=options.quorum, weights=weights, name=options.name or "jury")
