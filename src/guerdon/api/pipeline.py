"""The whole pipeline: comparisons in; a trained, calibrated and audited reward model and its report page out.

Every step writes its result into the run folder, whole or not at all, and is skipped if the result is there, so a run that was
killed at any point resumes.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from guerdon.api import (
    ai_quickstart,
    auditing,
    calibration,
    saved_models,
    training,
)
from guerdon.api.data import PARTS, check, split
from guerdon.api.judge_cards import CARD_TITLE
from guerdon.api.run_steps import Log, RunSteps, file_identity
from guerdon.config import Config, PolicyOptions
from guerdon.contracts import (
    Comparison,
    Example,
    GuerdonError,
    Report,
    Rollouts,
    response_digest,
)
from guerdon.errors import claim_and_advice, counted, field_error, verb
from guerdon.io import readers, writers
from guerdon.io.json_files import read_object
from guerdon.io.reports import from_json, to_json
from guerdon.io.run_folder import RunFolder
from guerdon.reporting import to_html, to_markdown

MIN_GROUPS = 20  # with fewer prompt groups, a split in three parts leaves nothing to audit
STEP_FILES = (
    "train.jsonl", "calibrate.jsonl", "audit.jsonl", "rejected.jsonl", "samples.jsonl",
    "check.json", "audit.json", "calibrate.json", "best.json", *ai_quickstart.AI_FILES,
)  # fmt: skip
TABLE = (
    "accuracy",
    "longer_wins",
    "accuracy_majority",
    "best_accuracy",
    "ece_before",
    "ece",
    "ece_null",
    "nll_before",
    "nll",
    "temperature",
)  # estimates on the first screen
FACTS = ("seconds", "peak memory")


def quickstart(
    out: str | Path = "runs/quickstart", data: str | Path | None = None, config: Config | None = None, log: Log = print
) -> Report:
    """Run the steps that are missing in the folder, and return the whole report.

    data: comparisons in any known format; None takes the human ratings of the starter kit. log: called with one line per
    step.
    """
    out, config = Path(out), config or default_config()
    training.refuse_conflicts(config)
    config.quickstart.refuse_conflicts()
    if data is not None and config.quickstart.feedback == "ai":
        advice = "Leave one out, or label your pairs with guerdon judge first."
        raise field_error("quickstart.feedback", "people with data of your own", "ai", advice)
    if data is not None:
        writers.refuse_to_replace([data], [out / name for name in STEP_FILES])
    with RunFolder(out).lock():
        return _run_steps(out, data, config, log)


def _run_steps(out: Path, data: str | Path | None, config: Config, log: Log) -> Report:
    steps = quickstart_steps(out, log)
    steps.claim(
        {"data": str(data or "starter kit"), "data_hash": file_identity(data), "config": config.model_dump(mode="json")}
    )
    writers.write_config(out / "config.yaml", config)

    if config.quickstart.feedback == "ai":
        _judge(steps, out, config)
    parts = steps.run("comparisons", "read, check and split the comparisons", lambda: _prepare(out, data, config, log))
    steps.run("model", f"train on {parts['train']} comparisons", lambda: _train(out, config))
    if config.quickstart.sample_prompts:
        samples = f"sample {config.quickstart.samples} replies to each of {config.quickstart.sample_prompts} prompts"
        steps.run("samples", f"{samples} from the model before training", lambda: _sample(out, config))
    steps.run("calibrate", f"fit on {parts['calibrate']} held-out comparisons", lambda: _calibrate(out, config))
    steps.run("audit", f"measure on {parts['audit']} comparisons that no step has used", lambda: _audit(out, config))
    if config.quickstart.sample_prompts:
        steps.run("best", f"keep the best of {config.quickstart.samples}", lambda: _keep_best(out, config))
    report = _assemble(out, parts, steps.seconds(), steps.peak_memory())
    writers.write_json(out / "report.json", to_json(report))
    writers.write_text(out / "report.md", to_markdown(report))
    auditing.write_card(report, out / "model")
    writers.write_text(out / "report.html", to_html(report))
    return report


def quickstart_steps(out: Path, log: Log) -> RunSteps:
    """The steps of a quickstart's folder. Until the model is trained, the options may be corrected."""
    files = (*STEP_FILES, "metrics.jsonl", "model")
    return RunSteps(out, log, command="quickstart", files=files, fixed_by="model", counts={"comparisons": PARTS})


def _judge(steps: RunSteps, out: Path, config: Config) -> None:
    """The steps before the comparisons where an AI judges: replies, labels, and the judge's card."""
    options = config.quickstart
    replies = f"draw {options.ai_replies} replies to each of {options.ai_prompts} prompts"
    steps.run("drafts", replies, lambda: ai_quickstart.draw_drafts(out, config))
    steps.run("labels", "judge all pairs of replies to a prompt", lambda: ai_quickstart.judge_drafts(out, config))
    card = f"compare the judge with people on {options.card_pairs} pairs"
    steps.run("card", card, lambda: ai_quickstart.write_card(out, config))


def default_config() -> Config:
    """The recipe of the quickstart."""
    from guerdon.config import build
    from guerdon.recipes import quickstart

    return build(quickstart())


def _prepare(out: Path, data: str | Path | None, config: Config, log: Log) -> dict[str, Any]:
    if config.quickstart.feedback == "ai":
        comparisons, rejected = ai_quickstart.judged_comparisons(out), 0
    elif data is None:
        comparisons, rejected = ai_quickstart.people_comparisons(config), 0
    else:
        comparisons, rejected = _import(out, data, config, log)
    hygiene = check(comparisons, **config.check.model_dump())
    writers.write_json(out / "check.json", to_json(hygiene))
    usable = [c for c in comparisons if len({response_digest(r) for r in c.responses}) > 1]
    if not usable:
        raise GuerdonError(
            f"{data}: responses must differ, got identical ones in all {len(comparisons)} comparisons. "
            "Give comparisons of different responses."
        )
    parts = split(usable, **config.split.model_dump())
    groups = len({c.group for c in usable})
    if empty := [name for name, part in parts.items() if not part and groups >= MIN_GROUPS]:
        raise GuerdonError(
            f"{data}: the {empty[0]} part must have comparisons, got none of {len(usable)} in {groups} prompt groups: parts are drawn "
            f"by a hash of the group. Give more prompts, or a larger split.{empty[0]}."
        )
    if groups < MIN_GROUPS:
        raise GuerdonError(
            f"{data}: at least {MIN_GROUPS} prompt groups are needed to leave some for the audit, "
            f"got {groups} in {len(usable)} comparisons. Give more prompts."
        )
    if config.quickstart.feedback == "ai":
        parts["audit"] = ai_quickstart.audit_comparisons(config)
    for name, part in parts.items():
        writers.write_comparisons(out / f"{name}.jsonl", part)
    counts = {name: len(part) for name, part in parts.items()}
    identical = len(comparisons) - len(usable)
    if rejected or identical:
        log(f"  left out: {rejected} rows (reasons in {out / 'rejected.jsonl'}), {identical} with identical responses")
    return counts | {"rejected": rejected, "identical": identical}


def _import(out: Path, data: str | Path, config: Config, log: Log) -> tuple[list[Comparison], int]:
    from guerdon.data.files import import_files

    def say(line: str) -> None:
        if "format: native" not in line:  # as in every command
            log(f"  {line}")

    kept: list[Comparison] = []
    rejected: list[Any] = []
    for row in import_files([data], config.imports, say):
        (kept if isinstance(row, Comparison) else rejected).append(row)  # type: ignore[arg-type]
    writers.write_rejected(out / "rejected.jsonl", rejected)
    if not kept:
        raise GuerdonError(
            f"{data}: at least one row must be a comparison, got {counted(len(rejected), 'row')} that {verb(len(rejected), 'are')} not. "
            f"See the reasons in {out / 'rejected.jsonl'}."
        )
    return kept, len(rejected)


def _train(out: Path, config: Config) -> dict[str, Any]:
    from guerdon.models.directory.loading import create_reward_model
    from guerdon.models.directory.saving import save
    from guerdon.training import fit

    comparisons = list(readers.read_comparisons(out / "train.jsonl"))
    held_out = list(readers.read_comparisons(out / "calibrate.jsonl"))
    RunFolder(out).refuse_foreign("model")
    model = create_reward_model(config.model, seed=config.train.seed)
    result = fit(model, comparisons, config.train, held_out=held_out, folder=out)
    save(training.with_self_test(result.model, comparisons), out / "model")
    return {"steps": result.steps, "dropped": result.num_dropped, "train_seconds": result.seconds}


def _calibrate(out: Path, config: Config) -> dict[str, Any]:
    model = saved_models.load(out / "model")
    samples = out / "samples.jsonl"
    reference = readers.read_rollouts(samples) if samples.exists() else None
    held_out = list(readers.read_comparisons(out / "calibrate.jsonl"))
    calibrated, report = calibration.calibrate(model, held_out, reference=reference, **config.calibrate.model_dump())
    writers.write_json(out / "calibrate.json", to_json(report))
    calibration.store_calibration(calibrated, out / "model")
    return {}


def _audit(out: Path, config: Config) -> dict[str, Any]:
    model = saved_models.load(out / "model")
    report = auditing.audit(
        model, list(readers.read_comparisons(out / "audit.jsonl")), out=out, **config.audit.model_dump()
    )
    writers.write_json(out / "audit.json", to_json(report))
    return {}


def _sample(out: Path, config: Config) -> dict[str, Any]:
    """Replies of the language model before training: best-of-n chooses from them, and their mean reward becomes 0."""
    from guerdon.models.directory.policies import load_policy

    options = config.quickstart
    distinct = dict.fromkeys(c.prompt for c in readers.read_comparisons(out / "audit.jsonl"))
    short = [prompt for prompt in distinct if sum(len(m.content) for m in prompt) < 2 * config.model.max_length]
    prompts = (short or list(distinct))[: options.sample_prompts]
    shared = {
        name: getattr(config.model, name)
        for name in ("base", "revision", "trust_remote_code", "dtype", "device", "system")
    }
    policy = load_policy(PolicyOptions(**shared))
    rollouts = policy.sample(prompts, options.samples, options.sample_tokens, seed=config.train.seed)
    writers.write_rollouts(out / "samples.jsonl", rollouts)
    return {}


def _keep_best(out: Path, config: Config) -> dict[str, Any]:
    """Examples of the first sample next to the best of n, with the rewards of the calibrated model."""
    rollouts, n = readers.read_rollouts(out / "samples.jsonl"), config.quickstart.samples
    model = saved_models.load(out / "model", truncation="left")
    reward = model.score(rollouts.prompts, rollouts.responses).value
    scored = dataclasses.replace(rollouts, reward=reward)
    writers.write_rollouts(out / "samples.jsonl", scored)
    examples = tuple(_best_of(scored, start, n) for start in range(0, len(rollouts.responses), n))
    writers.write_json(out / "best.json", to_json(Report(f"Best of {n}", examples=examples)))
    return {}


def _best_of(rollouts: Rollouts, start: int, n: int) -> Example:
    """The first of n replies from `start`, and the best of them."""
    assert rollouts.reward is not None
    best = start + int(np.argmax(rollouts.reward[start : start + n]))
    prompt = rollouts.prompts[start]
    return Example(
        title=prompt[-1].content[:80],
        prompt=prompt,
        responses=(rollouts.responses[start], rollouts.responses[best]),
        labels=("first sample", f"best of {n}"),
        rewards=(float(rollouts.reward[start]), float(rollouts.reward[best])),
    )


def _assemble(out: Path, counts: dict[str, Any], seconds: float, peak_memory: float) -> Report:
    """The audit with the calibration, the data's hygiene and the best of n as sections."""
    audit = _read_report(out / "audit.json")
    calibration = _read_report(out / "calibrate.json")
    sections = [*audit.sections, calibration]
    sections.append(dataclasses.replace(_read_report(out / "check.json"), title="Data hygiene"))
    if (out / ai_quickstart.CARD).exists():
        card = _read_report(out / ai_quickstart.CARD)
        sections.insert(0, dataclasses.replace(card, title=CARD_TITLE))
    if (out / "best.json").exists():
        sections.insert(0, _read_report(out / "best.json"))
    shown = ("temperature", "ece_before", "nll_before")
    estimates = dict(audit.estimates) | {k: calibration.estimates[k] for k in shown if k in calibration.estimates}
    about = {
        **{f"{name} comparisons": f"{counts[name]:,}" for name in PARTS},
        "seconds": f"{seconds:.0f}",
        "peak memory": f"{peak_memory:.2f} GB",
        **{key: value for key, value in audit.about.items() if key != "comparisons"},
    }
    return dataclasses.replace(
        audit,
        title=f"Reward model {out.resolve().name}, audited on {counts['audit']:,} comparisons",
        about=about,
        estimates=estimates,
        sections=tuple(sections),
        quantities={**calibration.quantities, **audit.quantities},
    )


def _read_report(path: Path) -> Report:
    advice = f"Delete {path.parent} to start over."
    try:
        return from_json(read_object(path, advice))
    except GuerdonError as error:
        line = str(error) if str(path) in str(error) else f"{path}: {claim_and_advice(str(error))[0]}. {advice}"
        raise GuerdonError(line) from None
