"""Options of the commands in which a judge may stand in for a model, and how these commands end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guerdon.cli.output import UNRESOLVED, note

if TYPE_CHECKING:
    from guerdon.api.judges import MeteredJudge
    from guerdon.config import Config, JudgeOptions

CallStore = Annotated[
    str | None,
    typer.Option(
        "--store", help="Store that keeps the calls of judges: the same command again asks nothing.", show_default=False
    ),
]


@dataclass(frozen=True, kw_only=True)
class JudgeInstead:
    """Options of commands that take a judge instead of a model."""

    judge: Annotated[
        Path | None,
        typer.Option(
            "--judge", help="judge.yaml instead of MODEL: who judges, and how; see docs/judges.md.", show_default=False
        ),
    ] = None
    store: CallStore = None
    card: Annotated[
        Path | None,
        typer.Option(
            "--card",
            help="card.json of the judge, to show in the report; by default, the one that --store holds.",
            show_default=False,
        ),
    ] = None

    @contextmanager
    def opened(self, settings: Config, overrides: Sequence[str] | None) -> Iterator[MeteredJudge | None]:
        """The judge, whose calls are kept while the block runs; None without --judge."""
        from guerdon.api.judges import MeteredJudge, call_log
        from guerdon.contracts import GuerdonError

        if self.judge is None:
            for name, value in (("--store", self.store), ("--card", self.card)):
                if value is not None:
                    raise GuerdonError(f"{name} must come with --judge, got it without. Leave it out.")
            yield None
            return
        options = read_judge_options(self.judge, settings, overrides)
        with call_log(self.store) as log:
            yield MeteredJudge(options, log, card=self.card)


def read_judge_options(path: Path, settings: Config, overrides: Sequence[str] | None) -> JudgeOptions:
    """The judge of a file, with the options judge.* of the command over it."""
    from guerdon.io.judge_file import read_judge

    return read_judge(path, **judge_changes(settings, overrides))


def judge_changes(settings: Config, overrides: Sequence[str] | None) -> dict[str, Any]:
    """The options judge.* of the command. Of a file of --config, which may list all defaults, only what differs from these."""
    from guerdon.config import JudgeOptions

    given = {override.partition("=")[0].removeprefix("judge.") for override in overrides or []}
    defaults = JudgeOptions()
    changes = settings.judge.model_dump(exclude_unset=True)
    return {name: value for name, value in changes.items() if name in given or value != getattr(defaults, name)}


def exit_on_failed_judges(judges: Sequence[MeteredJudge | None]) -> None:
    """Exit 3 where a judge has no verdict on more pairs than judge.unresolved_max allows."""
    for judge in judges:
        if judge is not None and judge.has_failed:
            tally = judge.judge.tally
            note(f"failed: {judge.name} has no verdict on {tally.unresolved} of {tally.pairs} pairs")
            raise typer.Exit(UNRESOLVED)
