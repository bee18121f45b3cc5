"""Whether a reward still holds while it is optimized."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from guerdon.config import BestOfNOptions, build, make
from guerdon.contracts import Finding, GuerdonError, Report, prompt_digest
from guerdon.io import readers
from guerdon.io.run_folder import RunFolder

if TYPE_CHECKING:
    from guerdon.auditing.overoptimization import Trajectory
    from guerdon.optimization.checks import Check


def measure_overoptimization(place: str | Path, *, pool: str | Path | None = None, **options: Any) -> Report:
    """Whether the reward still holds while it is optimized: in a run folder of `optimize`, or a file of `best_of_n`.

    With a pool of the run's initial policy, its forecast is compared with what the run did. Keywords are BestOfNOptions:
    most_n, draws, seed.
    """
    from guerdon.auditing.overoptimization import measure_pool, measure_run
    from guerdon.optimization import read_pool
    from guerdon.optimization.alerts import alerts
    from guerdon.optimization.update_alerts import update_alerts

    chosen, folder = make(BestOfNOptions, options), Path(place)
    intervals = {"draws": chosen.draws, "seed": chosen.seed}
    if not folder.is_dir():
        if pool is not None:
            raise GuerdonError(f"{place}: must be a run folder where a pool is given, got a file. Leave --pool out.")
        report = measure_pool(read_pool(place).rollouts, about={"file": str(place)}, most_n=chosen.most_n, **intervals)
        return dataclasses.replace(report, title=f"Best of n in {folder.name}: does the reward still hold?")
    checks = read_run_checks(folder)
    if len(checks) < 2:
        raise GuerdonError(
            f"{place}: must have at least two checks, got {len(checks)}. "
            "Set optimize.check_every, and hold out prompts, in another run."
        )
    report = measure_run(
        trajectory_of_run(folder, checks),
        None if pool is None else read_pool(pool).rollouts,
        alerts=(*alerts(checks), *update_alerts(RunFolder(folder).read_metrics())),
        about={"run": str(place), **_excluded(folder)},
        **intervals,
    )
    sections = (*report.sections, _curves_of_run(folder, checks))
    return dataclasses.replace(report, title=_run_title(folder), sections=sections)


def run_report(folder: str | Path) -> Report:
    """The report that `optimize` ends with: `measure_overoptimization`, or the run's curves alone if its checks do not suffice."""
    from guerdon.optimization.update_alerts import update_alerts

    try:
        return measure_overoptimization(folder)
    except GuerdonError as error:
        curves = _curves_of_run(Path(folder), read_run_checks(Path(folder)))
        unknown = Finding("note", "Whether the reward still holds is not known", str(error))
        findings = (unknown, *update_alerts(RunFolder(Path(folder)).read_metrics()))
        return dataclasses.replace(curves, title=_run_title(Path(folder)), findings=findings, summary=unknown.title)


def read_run_checks(folder: Path) -> list[Check]:
    """The checks of a run folder; none if it has none."""
    from guerdon.optimization.checks import read_checks

    return read_checks(folder / "checks.jsonl")


def trajectory_of_run(folder: Path, checks: Sequence[Check]) -> Trajectory:
    """A run's checks as the audit takes them, with the prompts in full if the folder has them."""
    from guerdon.auditing.overoptimization import Trajectory

    held_out = folder / "held_out.jsonl"
    prompts = {prompt_digest(prompt): prompt for prompt in readers.read_prompts(held_out)} if held_out.exists() else {}
    names = checks[0].prompts
    golds = [check.gold for check in checks if check.gold is not None]
    return Trajectory(
        updates=tuple(check.update for check in checks),
        names=names,
        proxy=np.stack([check.proxy for check in checks]),
        kl=np.stack([check.kl for check in checks]),
        length=np.stack([check.length for check in checks]),
        gold=np.stack(golds) if len(golds) == len(checks) else None,
        texts=[check.texts for check in checks],
        prompts=[prompts[name] for name in names] if set(names) <= set(prompts) else None,
    )


def _curves_of_run(folder: Path, checks: Sequence[Check]) -> Report:
    """A run's metrics, and its checks if it has any, as curves."""
    from guerdon.optimization.curves import run_curves

    curves = run_curves(RunFolder(folder).read_metrics(), checks)
    return dataclasses.replace(curves, about={**curves.about, **_excluded(folder)})


def _run_title(folder: Path) -> str:
    """The run and, if its config.yaml is there, the policy that it optimized."""
    path = folder / "config.yaml"
    policy = f", policy {build(readers.read_config(path)).policy.base}" if path.is_file() else ""
    return f"Run {folder.resolve().name}{policy}: does the reward still hold?"


def _excluded(folder: Path) -> dict[str, str]:
    """How many prompts a run could not use, by reason."""
    path = folder / "excluded.json"
    excluded = readers.read_json(path) if path.exists() else {}
    if not isinstance(excluded, dict):
        return {}
    return {f"prompts left out ({reason})": str(num) for reason, num in excluded.items()}
