"""The loop: sample, label, train, calibrate, audit and optimize, round after round, each on replies of the policy before it.

A reward model is right about replies like those it learned from. Optimization moves the policy away from these, so each round
labels replies of the newest policy, trains on the labels of all rounds, and optimizes policy.base again against the new model.
A round is a folder, rounds/N; every step in it is skipped where it is done, so a loop that was killed at any point resumes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from guerdon.api import auditing, calibration, loop_labels, optimization, saved_models, training
from guerdon.api.data import PARTS, split
from guerdon.api.ensembles import train_ensemble
from guerdon.api.loop_report import OUTCOME, loop_report
from guerdon.api.overoptimization import read_run_checks
from guerdon.api.rewards import combined_reward, is_judge_file
from guerdon.api.run_steps import Log, RunSteps, file_identity
from guerdon.config import Config, build
from guerdon.contracts import Comparison, GuerdonError, Preference, Prompt, Report, Response, Rollouts, prompt_digest
from guerdon.errors import counted, field_error
from guerdon.io import readers, writers
from guerdon.io.reports import to_json
from guerdon.io.run_folder import RunFolder

__all__ = ["LoopResult", "loop", "pick_checkpoint"]

BASELINES: Final = {"ppo": "value", "rloo": "leave_one_out", "grpo": "group"}
FILES: Final = ("rounds", "report.json", "config.yaml", "metrics.jsonl", "run.json", "model", "policy")  # of any run
AUDIT: Final = "audit.jsonl"  # of a round's labels, those that no reward model learns from or is calibrated with
SALT: Final = "/loop"  # parts of comparisons must not follow the hash by which prompts are held out


@dataclass(frozen=True, slots=True)
class LoopResult:
    """What a loop gave. waiting: what must happen before the same call can go on; None once all rounds are done."""

    report: Report
    waiting: str | None = None


def loop(config: Config, out: str | Path, log: Log = print) -> LoopResult:
    """Run the rounds that are missing in the folder, and return the report over all rounds.

    config: its stages are policy, model, train, calibrate, audit, optimize, best_of_n, split and loop. log: called with one line
    per step. Where people label, the call ends while it waits for them; the same call goes on.
    """
    config = _resolved(config)
    prompts = _prompts(config)
    _refuse_unreadable(config)
    with RunFolder(Path(out)).lock():
        return _Loop(config, Path(out), log, prompts).run()


def pick_checkpoint(out: str | Path, others: Sequence[str | Path] = ()) -> Report:
    """Which reward model to optimize against: the accuracy of each on labeled replies of the newest policy.

    Compares the reward models of all rounds, and others by their directories, on comparisons of the last labeled round that no
    round trained on or calibrated with. Raises GuerdonError with fewer than two models.
    """
    folders = sorted((Path(out) / "rounds").glob("*"), key=lambda path: int(path.name))
    labeled = [folder for folder in folders if (folder / AUDIT).exists()]
    models = [folder / "reward-model" / "model" for folder in folders] + [Path(other) for other in others]
    models = [model for model in models if model.exists()]
    if not labeled or len(models) < 2:
        raise GuerdonError(
            f"{out}: must have two reward models or more and labels of a round, got {counted(len(models), 'model')}. "
            "Finish a round, or name other models."
        )
    comparisons = list(readers.read_comparisons(labeled[-1] / AUDIT))
    names = [
        f"round {model.parts[-3]}" if model.parts[-2:] == ("reward-model", "model") else str(model) for model in models
    ]
    loaded = [saved_models.load(model, truncation="left") for model in models]
    if len(loaded) == 2:
        return auditing.compare(loaded[0], loaded[1], comparisons, names=(names[0], names[1]))
    return auditing.compare_many(loaded, comparisons, names=names)


class _Loop:
    """One loop in its folder."""

    def __init__(self, config: Config, out: Path, log: Log, prompts: tuple[list[Prompt], list[Prompt]]) -> None:
        self.config, self.options, self.out = config, config.loop, out
        self.training_prompts, self.held_out = prompts
        # Both have max_tokens, temperature and seed
        self.sampling = config.best_of_n if self.options.method == "best_of_n" else config.optimize
        self.part_of = _parts_of_prompts(self.training_prompts, config)
        self.steps = RunSteps(out, log, command="loop", files=FILES)
        self.steps.claim(
            {"data": self.options.prompts, "data_hash": file_identity(self.options.prompts), "config": self._fixed()}
        )
        writers.write_config(out / "config.yaml", config)

    def run(self) -> LoopResult:
        """All rounds, or those until people must label."""
        for number in range(1, self.options.rounds + 1):
            if not self._labels(number):
                waiting = (
                    f"round {number} waits for people: label the project {self.options.project} of {self.options.store} "
                    "(guerdon annotation serve), then run the same command again"
                )
                return LoopResult(self._report(), waiting)
            self._reward_model(number)
            self._policy(number)
            report = self._report()
            if self.options.stop_when_flat and not report.estimates[f"gain_{number}"].low > 0:
                break
        return LoopResult(report)

    # ---- The steps of a round ------------------------------------------------------------------------------------------

    def _labels(self, number: int) -> bool:
        """Replies of the newest policy, in pairs, with labels. False while people must label."""
        folder = self._folder(number)
        policy = "the policy before optimization" if number == 1 else f"the policy of round {number - 1}"
        self._step(
            number, "sample", f"{policy} answers {self.options.label_prompts} prompts", lambda: self._sample(number)
        )
        is_done = f"round {number}: label" in self.steps.state["done"]
        if not is_done and self.options.store is not None:
            waiting = loop_labels.ask_people(self.options, folder)
            if waiting and self.options.judge is None:
                return False
        self._step(
            number, "label", f"labels for {folder / 'pairs.jsonl'}", lambda: loop_labels.label(self.options, folder)
        )
        if number > 1:
            words = f"the reward model of round {number - 1} on replies that it was not trained for"
            self._step(number, "fresh", words, lambda: self._measure_fresh(number))
        return True

    def _reward_model(self, number: int) -> None:
        labels = f"the labels of {counted(number, 'round')}"
        self._step(number, "train", f"train on {labels}", lambda: self._train(number))
        self._step(number, "calibrate", "fit the odds to held-out labels", lambda: self._calibrate(number))
        if self.options.audit:
            self._step(number, "audit", "measure on labels that no step has used", lambda: self._audit(number))

    def _policy(self, number: int) -> None:
        words = f"optimize {self.config.policy.base} by {self.options.method}"
        self._step(number, "optimize", words, lambda: self._optimize(number))

    def _sample(self, number: int) -> dict[str, Any]:
        """Pairs of replies of the newest policy in pairs.jsonl; the replies themselves in samples.jsonl."""
        folder, sampling = self._folder(number), self.sampling
        per_reply = self.config.best_of_n.n if self._keeps_the_best(number) else 1
        policy = optimization.load_policy(**self._policy_options(number - 1))
        seed = sampling.seed + number
        rollouts = policy.sample(
            self._prompts_of(number), self.options.replies * per_reply, sampling.max_tokens, sampling.temperature, seed
        )
        if per_reply > 1:
            rollouts = self._best_of_each(number - 1, rollouts, per_reply)
        writers.write_rollouts(folder / "samples.jsonl", rollouts)
        pairs = list(loop_labels.pairs_of(rollouts))
        if not pairs:
            raise GuerdonError(
                f"{folder}: the policy must give different replies, got equal ones to every prompt. "
                "Raise optimize.temperature or loop.replies."
            )
        writers.write_jsonl(folder / "pairs.jsonl", pairs)
        return {"pairs": len(pairs), "replies": len(rollouts)}

    def _best_of_each(self, number: int, rollouts: Rollouts, n: int) -> Rollouts:
        """Of each n consecutive replies the one that the round's reward model prefers."""
        reward = np.asarray(self._reward(number).score(rollouts.prompts, rollouts.responses).value)
        best = reward.reshape(-1, n).argmax(1) + np.arange(0, len(reward), n)
        return rollouts.select(best, samples=rollouts.samples // n)

    def _measure_fresh(self, number: int) -> dict[str, Any]:
        report = loop_labels.measure_accuracy(self._reward(number - 1), self._labeled(number))
        writers.write_json(self._folder(number) / "fresh.json", to_json(report))
        return {}

    def _train(self, number: int) -> dict[str, Any]:
        """The reward model of the round, from the labels of all rounds so far."""
        parts, folder = self._parts(number), self._folder(number)
        if empty := [name for name, part in parts.items() if not part]:
            raise GuerdonError(
                f"{folder}: the {empty[0]} part of the labels must have comparisons, got none of {sum(map(len, parts.values()))}. "
                f"Raise loop.label_prompts or split.{empty[0]}."
            )
        writers.write_comparisons(folder / AUDIT, self._in_parts(self._labeled(number))["audit"])
        learned, held_out, place = parts["train"], parts["calibrate"], folder / "reward-model"
        if self.options.members == 1:
            training.train(learned, held_out=held_out, out=place, config=self.config)
        else:
            members, rule = self.options.members, self.options.rule
            train_ensemble(learned, members=members, rule=rule, held_out=held_out, out=place, config=self.config)
        return {name: len(part) for name, part in parts.items()}

    def _calibrate(self, number: int) -> dict[str, Any]:
        """Odds fitted to the calibration part. The untouched policy's replies get mean reward 0 in every round."""
        folder = self._folder(number) / "reward-model" / "model"
        reference = readers.read_rollouts(self._folder(1) / "samples.jsonl")
        held_out = self._parts(number)["calibrate"]
        options = self.config.calibrate.model_dump()
        calibrated, report = calibration.calibrate(saved_models.load(folder), held_out, reference=reference, **options)
        calibration.store_calibration(calibrated, folder)
        writers.write_json(self._folder(number) / "calibrate.json", to_json(report))
        return {}

    def _audit(self, number: int) -> dict[str, Any]:
        folder = self._folder(number) / "audit"
        report = auditing.audit(
            self._reward(number), self._parts(number)["audit"], out=folder, **self.config.audit.model_dump()
        )
        auditing.write_report(report, folder)
        return {}

    def _optimize(self, number: int) -> dict[str, Any]:
        """The policy of the round, and in outcome.json how it does on the held-out prompts."""
        folder = self._folder(number)
        gold = None if self.options.gold is None else combined_reward([self.options.gold])
        if self.options.method == "best_of_n":
            outcome = self._best_of_n(number, gold)
        else:
            seed = self.config.optimize.seed
            done = optimization.optimize(
                optimization.load_policy(**self._policy_options(0), adapters=True, seed=seed),  # type: ignore[arg-type]
                self._reward(number),
                self.training_prompts,
                gold=gold,
                held_out=self.held_out,
                out=folder / "run",
                config=self.config,
            )
            outcome = _outcome_of_run(folder / "run", done.kept_update)
        writers.write_json(folder / OUTCOME, outcome)
        return {}

    def _best_of_n(self, number: int, gold: Any) -> dict[str, Any]:
        """The replies to held-out prompts that the round's reward model keeps, beside the first reply to each."""
        from guerdon.optimization import read_pool
        from guerdon.optimization.attribute_columns import null_for_nan

        pool_file = self._folder(number) / "pool.jsonl"
        policy = optimization.load_policy(**self._policy_options(0))
        options = self.config.best_of_n.model_dump()
        optimization.best_of_n(policy, self._reward(number), self.held_out, pool_file, gold=gold, **options)
        pool = read_pool(pool_file).rollouts
        first = np.arange(0, len(pool), pool.samples)
        best = first + pool.reward_by_prompt.argmax(1)
        n = pool.samples
        return {
            "prompts": [prompt_digest(prompt) for prompt in pool.prompts_once],
            "texts_before": [pool.responses[row].text for row in first],
            "texts": [pool.responses[row].text for row in best],
            "gold_before": None if pool.gold is None else null_for_nan(pool.gold[first]),
            "gold": None if pool.gold is None else null_for_nan(pool.gold[best]),
            "proxy": pool.reward_by_prompt.max(1).tolist(),
            "kl": [float(np.log(n) - (n - 1) / n)] * len(first),  # an upper bound
        }

    # ---- What steps share ----------------------------------------------------------------------------------------------

    def _step(self, number: int, name: str, words: str, work: Any) -> dict[str, Any]:
        return self.steps.run(f"round {number}: {name}", words, work)

    def _folder(self, number: int) -> Path:
        return self.out / "rounds" / str(number)

    def _fixed(self) -> dict[str, Any]:
        """The options that a folder belongs to: all but how many rounds there are and when they stop."""
        values = self.config.model_dump(mode="json")
        for name in ("rounds", "stop_when_flat"):
            del values["loop"][name]
        return values

    def _prompts_of(self, number: int) -> list[Prompt]:
        """The prompts whose replies a round labels: the next ones, from the start again where all were used."""
        size = min(self.options.label_prompts, len(self.training_prompts))
        start = (number - 1) * size
        return [self.training_prompts[i % len(self.training_prompts)] for i in range(start, start + size)]

    def _keeps_the_best(self, number: int) -> bool:
        return self.options.method == "best_of_n" and number > 1

    def _policy_options(self, number: int) -> dict[str, Any]:
        """Options of the policy of a round; 0 is the policy before optimization."""
        options = self.config.policy.model_dump(exclude_unset=True)
        if number == 0 or self.options.method == "best_of_n":
            return options
        return options | {"base": str(self._folder(number) / "run" / "policy")}

    def _reward(self, number: int) -> Any:
        return saved_models.load(self._folder(number) / "reward-model" / "model", truncation="left")

    def _labeled(self, number: int) -> list[Comparison]:
        return list(readers.read_comparisons(self._folder(number) / loop_labels.LABELS))

    def _parts(self, number: int) -> dict[str, list[Comparison]]:
        """The labels of all rounds so far, by part."""
        return self._in_parts([comparison for i in range(1, number + 1) for comparison in self._labeled(i)])

    def _in_parts(self, comparisons: Sequence[Comparison]) -> dict[str, list[Comparison]]:
        parts: dict[str, list[Comparison]] = {name: [] for name in PARTS}
        for comparison in comparisons:
            parts[self.part_of[prompt_digest(comparison.prompt)]].append(comparison)
        return parts

    def _report(self) -> Report:
        folders = [self._folder(number) for number in range(1, self.options.rounds + 1)]
        report = loop_report(folders, self.steps.state["done"], self.options)
        auditing.write_report(report, self.out)
        return report


def _prompts(config: Config) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts to label and optimize on, in the order of rounds, and held-out ones."""
    options = config.loop
    prompts = list(dict.fromkeys(readers.read_prompts(Path(options.prompts or ""))))
    if options.held_out is None:
        training_prompts, held_out = optimization.hold_out(prompts)
    else:
        held_out = list(dict.fromkeys(readers.read_prompts(Path(options.held_out))))
        training_prompts = [prompt for prompt in prompts if prompt not in set(held_out)]
    for prompt in (*training_prompts, *held_out):
        if prompt.tools:
            raise GuerdonError(
                f"{prompt.location}: tools must be left out in a loop, got {len(prompt.tools)}. Leave the prompt out."
            )
    if not training_prompts or not held_out:
        raise GuerdonError(
            f"{options.prompts}: must leave prompts to learn from and to hold out, got {len(training_prompts)} and "
            f"{len(held_out)}. Give more prompts, or loop.held_out."
        )
    random.Random(config.optimize.seed).shuffle(training_prompts)
    return training_prompts, held_out


def _resolved(config: Config) -> Config:
    """The config with the baseline of loop.method. Raises GuerdonError for options that no round could follow."""
    config.loop.refuse_missing()
    config.loop.refuse_conflicts()
    config.policy.refuse_conflicts()
    training.refuse_conflicts(config)
    if config.loop.method == "best_of_n":
        return config
    baseline = BASELINES[config.loop.method]
    if "baseline" in config.optimize.model_fields_set and config.optimize.baseline != baseline:
        advice = "Leave optimize.baseline out."
        raise field_error(
            "optimize.baseline", f"{baseline} with loop.method={config.loop.method}", config.optimize.baseline, advice
        )
    if not config.optimize.check_every:
        raise field_error(
            "optimize.check_every", "above 0 in a loop, which compares policies by their checks", 0, "Set it."
        )
    resolved = build(config.model_dump(exclude_unset=True), {"optimize": {"baseline": baseline}})
    resolved.optimize.refuse_conflicts()
    return resolved


def _parts_of_prompts(prompts: Sequence[Prompt], config: Config) -> dict[str, str]:
    """The part of each prompt's comparisons, by its digest: one for all rounds, so that no reward model of any round has learned
    from a prompt of the audit part."""
    responses, preference = (Response("a"), Response("b")), Preference(q=0.5)
    one_each = [Comparison(prompt, responses, preference) for prompt in prompts]
    parts = split(one_each, **config.split.model_dump() | {"salt": f"{config.split.salt}{SALT}"})
    return {prompt_digest(comparison.prompt): name for name, part in parts.items() for comparison in part}


def _refuse_unreadable(config: Config) -> None:
    """Raise GuerdonError for a store, a judge or a gold that cannot be read, before anything is sampled."""
    from guerdon.io.judge_file import read_judge
    from guerdon.io.python_functions import split_function_name
    from guerdon.scoring.bulk_scorer import BulkScorer

    judge, gold, store = config.loop.judge, config.loop.gold, config.loop.store
    if store is not None:
        loop_labels.require_project(store, config.loop.project)
    if judge is not None:
        read_judge(judge)
    if gold is not None:
        if is_judge_file(gold) or split_function_name(gold)[1]:
            combined_reward([gold])
        else:
            BulkScorer(gold).identity()  # reads the files of a model without loading it


def _outcome_of_run(folder: Path, kept_update: int) -> dict[str, Any]:
    """What the checks of a run say of the policy that it kept, and of the policy before."""
    from guerdon.optimization.attribute_columns import null_for_nan

    checks = read_run_checks(folder)
    kept = next(check for check in reversed(checks) if check.update <= kept_update)
    return {
        "prompts": list(kept.prompts),
        "texts_before": list(checks[0].texts),
        "texts": list(kept.texts),
        "gold_before": None if checks[0].gold is None else null_for_nan(checks[0].gold),
        "gold": None if kept.gold is None else null_for_nan(kept.gold),
        "proxy": null_for_nan(kept.proxy),
        "kl": null_for_nan(kept.kl),
    }
