"""A run that is stopped before each of its steps in turn and started again each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from guerdon.api.run_steps import RunSteps


class Stopped(Exception):
    """Stands for whatever ends a process between two steps."""


def run_stopped_before_every_step(run: Callable[[], Any], monkeypatch: Any) -> tuple[Any, list[str]]:
    """What the run gives in the end, and the steps before which it was stopped."""
    run_step, stopped = RunSteps.run, []

    def once(steps: RunSteps, name: str, *rest: Any) -> dict[str, Any]:
        if name not in stopped:
            stopped.append(name)
            raise Stopped
        return run_step(steps, name, *rest)

    monkeypatch.setattr(RunSteps, "run", once)
    for _ in range(100):
        try:
            return run(), stopped
        except Stopped:
            continue
    raise AssertionError("the run does not end")
