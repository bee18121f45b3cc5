"""The main job, end to end: comparisons in; a calibrated, audited, saved reward model and a page to look at out.

Every step writes its result into the run folder, whole or not at all, and is skipped when the result is there: killed at any
point and started again, it goes on from where it was.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from guerdon.api import (
    auditing,
    calibration,
    saved_models,
    training,
)
from guerdon.api.data import PARTS, check, split
from guerdon.config import Config, PolicyOptions
from guerdon.contracts import (
    Comparison,
    Example,
    GuerdonError,
    Prompt,
    Report,
    Response,
    Rollouts,
    digest,
)
from guerdon.io import readers, writers
from guerdon.io.reports import from_json, to_json
from guerdon.io.run_folder import RunFolder, refuse_other_run
from guerdon.reporting import to_html, to_markdown

FEWEST_GROUPS = 20  # prompt groups below which a three-way split leaves nothing to audit
Say = Callable[[str], None]
TABLE = (
    "accuracy",
    "longer_wins",
    "ceiling_majority",
    "ece_before",
    "ece",
    "ece_null",
    "nll_before",
    "nll",
    "temperature",
)  # first screen
FACTS = ("seconds", "peak memory")


def quickstart(
    out: str | Path = "runs/quickstart", data: str | Path | None = None, config: Config | None = None, say: Say = print
) -> Report:
    """Run what is missing in the folder and return the whole report; `say` is told what happens, a line a step.

    data: the user's own comparisons in any known format; None takes the starter kit's human ratings.
    """
    out, config = Path(out), config or default_config()
    steps = _Steps(out, say)
    steps.claim(
        {"data": str(data or "starter kit"), "data_hash": _file_hash(data), "config": config.model_dump(mode="json")}
    )
    writers.write_config(out / "config.yaml", config)

    parts = steps.do("comparisons", "read, check and split the comparisons", lambda: _prepare(out, data, config, say))
    steps.do("model", f"train on {parts['train']} comparisons", lambda: _train(out, config))
    if config.quickstart.sample_prompts:
        drawn = f"draw {config.quickstart.samples} replies to each of {config.quickstart.sample_prompts} prompts"
        steps.do("samples", f"{drawn} from the model before training", lambda: _sample(out, config))
    steps.do("calibrate", f"fit on {parts['calibrate']} held-out comparisons", lambda: _calibrate(out, config))
    steps.do("audit", f"measure on {parts['audit']} comparisons nobody has seen", lambda: _audit(out, config))
    if config.quickstart.sample_prompts:
        steps.do("best", f"keep the best of {config.quickstart.samples}", lambda: _keep_best(out, config))
    report = _assemble(out, parts, steps.seconds(), steps.peak())
    writers.write_json(out / "report.json", to_json(report))
    writers.write_text(out / "report.md", to_markdown(report))
    auditing.write_card(report, out / "model")
    writers.write_text(out / "report.html", to_html(report))
    return report


def default_config() -> Config:
    """The starter recipe, with no system message: short texts should not pay for a long one."""
    from guerdon.config import build
    from guerdon.recipes import quickstart

    return build(quickstart())


def _prepare(out: Path, data: str | Path | None, config: Config, say: Say) -> dict[str, Any]:
    if data is None:
        from guerdon.data.ratings import rating_comparisons
        from guerdon.models.directory.starter import starter_ratings

        comparisons = rating_comparisons(starter_ratings(), config.quickstart.comparisons, config.train.seed)
        rejected = 0
    else:
        comparisons, rejected = _import(out, data, config)
    checked = check(comparisons, **config.check.model_dump())
    writers.write_json(out / "check.json", to_json(checked))
    usable = [c for c in comparisons if len({r.text for r in c.responses}) > 1]
    if not usable:
        raise GuerdonError(
            f"{data}: all {len(comparisons)} comparisons have identical responses; remedy: give some that differ"
        )
    parts = split(usable, **config.split.model_dump())
    groups = len({c.group for c in usable})
    if groups < FEWEST_GROUPS or not all(parts.values()):
        raise GuerdonError(
            f"{data}: {groups} prompt groups in {len(usable)} comparisons leave nothing to audit; remedy: give {FEWEST_GROUPS} or more"
        )
    for name, part in parts.items():
        writers.write_comparisons(out / f"{name}.jsonl", part)
    counts = {name: len(part) for name, part in parts.items()}
    identical = len(comparisons) - len(usable)
    if rejected or identical:
        say(f"  left out: {rejected} rows (reasons in {out / 'rejected.jsonl'}), {identical} with identical responses")
    return counts | {"rejected": rejected, "identical": identical}


def _import(out: Path, data: str | Path, config: Config) -> tuple[list[Comparison], int]:
    from guerdon.data.importers import import_rows

    kept: list[Comparison] = []
    rejected: list[Any] = []
    for row in import_rows(readers.read_rows(data, config.imports), config.imports):
        (kept if isinstance(row, Comparison) else rejected).append(row)  # type: ignore[arg-type]
    writers.write_rejected(out / "rejected.jsonl", rejected)
    if not kept:
        raise GuerdonError(
            f"{data}: no row could be read as a comparison ({len(rejected)} rejected); remedy: see {out / 'rejected.jsonl'}"
        )
    return kept, len(rejected)


def _train(out: Path, config: Config) -> dict[str, Any]:
    from guerdon.models.reward_model import create, save
    from guerdon.training import fit

    comparisons = list(readers.read_comparisons(out / "train.jsonl"))
    held_out = list(readers.read_comparisons(out / "calibrate.jsonl"))
    model = create(config.model, seed=config.train.seed)
    result = fit(model, comparisons, config.train, held_out=held_out, folder=out)
    save(training.with_self_test(result.model, comparisons), out / "model")
    return {"steps": result.steps, "dropped": result.num_dropped, "train_seconds": result.seconds}


def _calibrate(out: Path, config: Config) -> dict[str, Any]:
    model = saved_models.load(out / "model")
    samples = out / "samples.jsonl"
    reference = readers.read_rollouts(samples) if samples.exists() else None
    held_out = list(readers.read_comparisons(out / "calibrate.jsonl"))
    scaled, report = calibration.calibrate(model, held_out, reference=reference, **config.calibrate.model_dump())
    writers.write_json(out / "calibrate.json", to_json(report))
    calibration.store_calibration(scaled, out / "model")
    return {}


def _audit(out: Path, config: Config) -> dict[str, Any]:
    model = saved_models.load(out / "model")
    report = auditing.audit(
        model, list(readers.read_comparisons(out / "audit.jsonl")), out=out, **config.audit.model_dump()
    )
    writers.write_json(out / "audit.json", to_json(report))
    return {}


def _sample(out: Path, config: Config) -> dict[str, Any]:
    """Replies of the model as it was before training: what best-of-n chooses from, and where the reward's zero is."""
    from guerdon.models.policy import load_policy

    options = config.quickstart
    asked = dict.fromkeys(c.prompt for c in readers.read_comparisons(out / "audit.jsonl"))
    short = [p for p in asked if sum(len(m.content) for m in p) < 2 * config.model.max_length]
    prompts = (short or list(asked))[: options.sample_prompts]
    shared = {
        name: getattr(config.model, name)
        for name in ("base", "revision", "trust_remote_code", "dtype", "device", "system")
    }
    policy = load_policy(PolicyOptions(**shared))
    drawn = policy.sample(prompts, options.samples, options.sample_tokens, seed=config.train.seed)
    writers.write_rollouts(out / "samples.jsonl", drawn)
    return {}


def _keep_best(out: Path, config: Config) -> dict[str, Any]:
    """First sample beside best of n, with the rewards that the calibrated model gives."""
    drawn, n = readers.read_rollouts(out / "samples.jsonl"), config.quickstart.samples
    model = saved_models.load(out / "model", truncation="left")
    scored = dataclasses.replace(drawn, reward=model.score(drawn.prompts, drawn.responses).value)
    writers.write_rollouts(out / "samples.jsonl", scored)
    examples = tuple(_best_of(scored, at, n) for at in range(0, len(drawn.responses), n))
    writers.write_json(out / "best.json", to_json(Report(f"Best of {n}", examples=examples)))
    return {}


def _best_of(rollouts: Rollouts, at: int, n: int) -> Example:
    assert rollouts.reward is not None
    rewards = rollouts.reward[at : at + n]
    best = at + int(np.argmax(rewards))
    prompt: Prompt = rollouts.prompts[at]
    shown: Sequence[Response] = (rollouts.responses[at], rollouts.responses[best])
    return Example(
        f"{prompt[-1].content[:80]}",
        prompt,
        tuple(shown),
        ("first sample", f"best of {n}"),
        (float(rewards[0]), float(rollouts.reward[best])),
    )


def _assemble(out: Path, parts: dict[str, Any], seconds: float, peak: float) -> Report:
    audit = _read_report(out / "audit.json")
    calibration = _read_report(out / "calibrate.json")
    sections = [*audit.sections, calibration]
    sections.append(dataclasses.replace(_read_report(out / "check.json"), title="Data hygiene"))
    if (out / "best.json").exists():
        sections.insert(0, _read_report(out / "best.json"))
    kept = ("temperature", "ece_before", "nll_before")
    estimates = dict(audit.estimates) | {k: calibration.estimates[k] for k in kept if k in calibration.estimates}
    about = {
        **{f"{name} comparisons": f"{parts[name]:,}" for name in PARTS},
        "seconds": f"{seconds:.0f}",
        "peak memory": f"{peak:.2f} GB",
        **{key: value for key, value in audit.about.items() if key != "comparisons"},
    }
    return dataclasses.replace(
        audit,
        title="A reward model and how far to trust it",
        about=about,
        estimates=estimates,
        sections=tuple(sections),
        quantities={**calibration.quantities, **audit.quantities},
    )


def _read_report(path: Path) -> Report:
    return from_json(readers.read_json(path))


def _file_hash(data: str | Path | None) -> str:
    """Changes when the user's file does."""
    if data is None or not Path(data).is_file():
        return str(data)
    return digest([str(Path(data).stat().st_size), Path(data).stat().st_mtime_ns])


class _Steps:
    """Which steps of a run folder are done: state.json, rewritten whole after each one."""

    def __init__(self, out: Path, say: Say) -> None:
        self.out, self.say = out, say
        self.path = out / "state.json"
        self.state: dict[str, Any] = readers.read_json(self.path) if self.path.exists() else {"done": {}, "peak": 0.0}

    def claim(self, identity: dict[str, Any]) -> None:
        """Refuse a folder that belongs to another run, unless that one had trained nothing yet: its options may be mended."""
        known = self.state.get("identity", {})
        if "model" in self.state["done"] or RunFolder(self.out).has_checkpoint():
            refuse_other_run(self.out, _by_name(identity), _by_name(known))
        elif known != identity:
            self.state["done"] = {}
        self.state["identity"] = identity
        self._write()

    def do(self, name: str, words: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The step's result, from the folder if it was done before."""
        done: dict[str, Any] = self.state["done"]
        if name in done:
            self.say(f"{name}: done before")
            return dict(done[name])
        self.say(f"{name}: {words}")
        began = time.monotonic()
        result = work()
        _release_memory()
        done[name] = {**result, "seconds": round(time.monotonic() - began, 2)}
        self.state["peak"] = max(self.state["peak"], _peak_gb())
        self._write()
        return dict(done[name])

    def seconds(self) -> float:
        """Seconds of all steps, over every start."""
        return float(sum(step["seconds"] for step in self.state["done"].values()))

    def peak(self) -> float:
        """Most resident memory of any start, GB."""
        return float(self.state["peak"])

    def _write(self) -> None:
        writers.write_json(self.path, self.state)


def _by_name(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The identity by the names that an error gives it."""
    return {"data": [identity.get("data"), identity.get("data_hash")], "options": identity.get("config")}


def _release_memory() -> None:
    """Give freed memory back to the system, so that one step's does not add to the next one's."""
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # not every libc has it
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def _peak_gb() -> float:
    """Most resident memory of this process so far, in GB (10^9 bytes)."""
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 1e9
    import resource

    scale = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * scale / 1e9
