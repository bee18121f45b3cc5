"""Whether a reward stayed true while it was optimized."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from guerdon.config import (
    BestOfNOptions,
    build,
    make,
)
from guerdon.contracts import (
    Finding,
    GuerdonError,
    Report,
    prompt_digest,
)
from guerdon.errors import show_value
from guerdon.io import (
    readers,
)

if TYPE_CHECKING:
    from guerdon.alignment_tax.run import Gain
    from guerdon.auditing.overoptimization import Trajectory
    from guerdon.optimization.monitor import Check


def run_report(folder: str | Path) -> Report:
    """What a run of `optimize` says at its end: `measure_overoptimization`, or its course alone where the checks allow no more."""
    from guerdon.optimization import monitor

    try:
        return measure_overoptimization(folder)
    except GuerdonError as error:
        place = Path(folder)
        course = _course(place, monitor.read_checks(place / "checks.jsonl"))
        said = Finding("note", "Whether the reward stayed true is not known", str(error))
        return dataclasses.replace(course, findings=(said, *course.findings))


def measure_overoptimization(place: str | Path, *, pool: str | Path | None = None, **options: Any) -> Report:
    """Whether the reward stayed true while it was optimized: of a run folder of `optimize`, or a file of `best_of_n`.

    With a pool of the policy that the run began from, its forecast stands beside what the run did. Keywords are
    BestOfNOptions: most_n, draws, seed.
    """
    from guerdon.auditing.overoptimization import measure_pool, measure_run
    from guerdon.optimization import monitor, read_pool

    chosen, folder = make(BestOfNOptions, options), Path(place)
    doubt = {"draws": chosen.draws, "seed": chosen.seed}
    if not folder.is_dir():
        if pool is not None:
            raise GuerdonError(f"{place}: a pool beside a pool; remedy: give a run folder, or leave --pool out")
        return measure_pool(read_pool(place).rollouts, about={"file": str(place)}, most_n=chosen.most_n, **doubt)
    checks = monitor.read_checks(folder / "checks.jsonl")
    if len(checks) < 2:
        raise GuerdonError(
            f"{place}: {len(checks)} checks; remedy: a run with optimize.check_every and held-out prompts"
        )
    report = measure_run(
        _trajectory(checks, folder / "held_out.jsonl"),
        None if pool is None else read_pool(pool).rollouts,
        alerts=monitor.alerts(checks, **doubt),
        about={"run": str(place), **_left_out(folder)},
        **doubt,
    )
    return dataclasses.replace(report, sections=(*report.sections, _course(folder, checks)))


def _left_out(folder: Path) -> dict[str, str]:
    """Prompts that a run could not use, by reason."""
    place = folder / "excluded.json"
    found = readers.read_json(place) if place.exists() else {}
    return {f"prompts left out ({why})": str(num) for why, num in found.items()} if isinstance(found, dict) else {}


def _course(folder: Path, checks: Sequence[Check]) -> Report:
    """A run's metrics, and its checks if it has any, as curves."""
    from guerdon.optimization.course import course

    metrics = folder / "metrics.jsonl"
    rows = [row for _, row in readers.read_rows(metrics)] if metrics.exists() else []
    found = course([row for row in rows if isinstance(row, dict)], checks)  # a killed run leaves half a line
    return dataclasses.replace(found, about={**found.about, **_left_out(folder)})


def _trajectory(checks: Sequence[Check], prompts: Path) -> Trajectory:
    """A run's checks as the audit takes them."""
    from guerdon.auditing.overoptimization import Trajectory

    told = {prompt_digest(prompt): prompt for prompt in readers.read_prompts(prompts)} if prompts.exists() else {}
    names = checks[0].prompts
    return Trajectory(
        updates=tuple(check.update for check in checks),
        names=names,
        proxy=np.stack([check.proxy for check in checks]),
        kl=np.stack([check.kl for check in checks]),
        length=np.stack([check.length for check in checks]),
        gold=None if any(c.gold is None for c in checks) else np.stack([c.gold for c in checks if c.gold is not None]),
        texts=[check.texts for check in checks],
        prompts=[told[name] for name in names] if set(names) <= set(told) else None,
    )


def _began_from(run: Path) -> str | None:
    """The policy that a run folder began from; an error where the place is no run and nobody said."""
    if not (run / "config.yaml").is_file() or not (run / "policy").is_dir():
        raise GuerdonError(f"{run}: nothing says what this policy began from; remedy: --reference with that model")
    return str(build(readers.read_config(run / "config.yaml")).policy.base)


def _gain(run: Path, draws: int, seed: int) -> Gain | None:
    """What a run had gained at the update whose weights its policy has; None where the place is no run or was not checked."""
    from guerdon.alignment_tax.run import gain_of
    from guerdon.optimization import monitor

    checks = monitor.read_checks(run / "checks.jsonl")
    if len(checks) < 2:
        return None
    keep = build(readers.read_config(run / "config.yaml")).optimize.keep
    update = monitor.best(checks) if keep == "best_gold" else checks[-1].update
    return gain_of(_trajectory(checks, run / "held_out.jsonl"), update, draws, seed)


def _texts(place: str | Path) -> list[str]:
    """Held-out texts: the `text` of each row of a JSONL file or table, or the paragraphs of a .txt file."""
    path = Path(place)
    if path.suffix == ".txt":
        return [" ".join(part.split()) for part in path.read_text("utf-8").split("\n\n") if part.strip()]
    found = []
    for at, row in readers.read_rows(path):
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise GuerdonError(
                f'{at}: a held-out text must be a row with text, got {show_value(row)}. Write {{"text": ...}}.'
            )
        found.append(row["text"])
    return found
