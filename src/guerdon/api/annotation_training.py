"""A small reward model on what people said so far, again and again while people judge: is more of this kind worth having?

A training runs in a process of its own, one at a time. What comes of it, or why it failed, is added to the project's summary
"learning". Prompts are held out by their hash, so that each training is measured on others of the same ones.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final

from guerdon.contracts import Comparison, GuerdonError

if TYPE_CHECKING:
    from guerdon.annotation.project import Project
    from guerdon.store.database import Database

__all__ = ["Trainer", "main", "train_once", "trainings"]

HELD_OUT: Final = 5  # of so many prompts, one is held out
FEWEST_TRAINED, FEWEST_HELD_OUT = 8, 4
MOST_POINTS: Final = 200
STOP_SECONDS: Final = 5.0
STEP_SECONDS: Final = 2.0
NICENESS: Final = 15  # people come first
_MAIN: Final = "from guerdon.api.annotation_training import main; main()"

_log = logging.getLogger("guerdon.annotation")


@dataclass(frozen=True, slots=True)
class Training:
    """A process that trains on so many judgments of a project, and the files that it prints into."""

    process: subprocess.Popen[bytes]
    project: str
    judgments: int
    output: IO[bytes]
    errors: IO[bytes]

    def close(self) -> None:
        """Forget what it printed."""
        self.output.close()
        self.errors.close()


Start = Callable[[str, str, str, IO[bytes], IO[bytes]], "subprocess.Popen[bytes]"]


@contextmanager
def trainings(database: Database, every: int | None, model: str) -> Iterator[None]:
    """Train after each so many judgments for as long as the block runs; None: never."""
    if every is None:
        yield
        return
    trainer, stopped = Trainer(database, every, model), threading.Event()

    def run() -> None:
        while not stopped.wait(STEP_SECONDS):
            try:
                trainer.step()
            except Exception:  # whatever it is, people go on judging
                _log.exception("a training could not be started or stored")

    thread = threading.Thread(target=run, name="annotation trainings", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(timeout=30)
        trainer.stop()


class Trainer:
    """Trains after each so many new judgments of a project. Call `step` from time to time, and `stop` at the end."""

    def __init__(self, database: Database, every: int, model: str, start: Start | None = None) -> None:
        if every < 1:
            raise GuerdonError(f"--train-every must be at least 1, got {every}. Raise it, or leave it out.")
        self._database, self._every, self._model = database, every, model
        self._start = start or _start_process
        self._lock = threading.Lock()
        self._running: Training | None = None
        self._last: dict[str, int] = {}

    def step(self) -> None:
        """Store what a training that has ended came to, and start the next one where it is due."""
        with self._lock:
            if self._running is not None:
                if self._running.process.poll() is None:
                    return
                ended, self._running = self._running, None
                self._finish(ended)
            for name, judgments in self._due():
                self._last[name] = judgments
                self._begin(name, judgments)
                return

    def stop(self) -> None:
        """End the training that runs, if any. It begins again with the next server."""
        with self._lock:
            if self._running is None:
                return
            running, self._running = self._running, None
            _end(running.process)
            running.close()
            self._write(running.project, "training", {})

    def _begin(self, name: str, judgments: int) -> None:
        output, errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        process = self._start(_source(self._database), name, self._model, output, errors)
        self._running = Training(process, name, judgments, output, errors)
        self._write(name, "training", {"judgments": judgments})

    def _due(self) -> list[tuple[str, int]]:
        from guerdon.annotation.counting import project_counts
        from guerdon.annotation.results import project_names

        due = []
        for name in project_names(self._database):
            judgments = project_counts(self._database, name).get("judgments", 0)
            if name not in self._last:  # the first look of this server, at what an earlier one left
                self._last[name] = self._judgments_of_last(name)
                self._write(name, "training", {})
            if judgments - self._last[name] >= self._every:
                due.append((name, judgments))
        return due

    def _judgments_of_last(self, name: str) -> int:
        points = self._points(name)
        return int(points[-1]["judgments"]) if points else 0

    def _points(self, name: str) -> list[dict[str, Any]]:
        from guerdon.annotation.summaries import read_summaries

        return list(read_summaries(self._database, name).get("learning", {"content": []})["content"])

    def _finish(self, ended: Training) -> None:
        point = {"judgments": ended.judgments, "at": time.time(), **_result(ended)}
        ended.close()
        self._write(ended.project, "learning", [*self._points(ended.project), point][-MOST_POINTS:])
        self._write(ended.project, "training", {})

    def _write(self, name: str, summary: str, content: Any) -> None:
        from guerdon.annotation.project import load_project
        from guerdon.annotation.summaries import write_summary

        write_summary(load_project(self._database, name), summary, content, time.time())


def _source(database: Database) -> str:
    location = database.location
    return str(location.url if location.url is not None else location.path)


def _start_process(
    store: str, project: str, model: str, output: IO[bytes], errors: IO[bytes]
) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "GUERDON_ANNOTATION_STORE": store}  # a URL may hold a password
    return subprocess.Popen(
        [sys.executable, "-c", _MAIN, project, model],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        env=environment,
        start_new_session=True,  # Ctrl-C is for the server, which ends the training and all that it started
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process with its group, kindly first; what the process has left running too."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)


def _result(ended: Training) -> dict[str, Any]:
    """What a training printed, or the reason why it failed."""
    ended.output.seek(0)
    ended.errors.seek(0)
    error = ""
    if ended.process.returncode == 0:
        try:
            return dict(json.loads(ended.output.read().splitlines()[-1]))
        except (ValueError, IndexError):
            error = "the training printed no result"
    lines = [line for line in ended.errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
    error = error or (lines[-1].strip().removeprefix("error: ") if lines else f"exit code {ended.process.returncode}")
    return {"error": error[:500]}


# ---- In the process of a training ----------------------------------------------------------------------------------


def main() -> None:
    """Train once, and print the result as a line of JSON. The process ends with the one that started it."""
    _end_with_parent()
    os.nice(NICENESS)
    project, model = sys.argv[1:3]
    try:
        result = train_once(os.environ["GUERDON_ANNOTATION_STORE"], project, model)
    except GuerdonError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(json.dumps(result), flush=True)


def train_once(store: str, project: str, model: str = "starter") -> dict[str, Any]:
    """Train on four fifths of a project's prompts, and return {"trained", "held_out", "accuracy": estimate} of the others.

    One comparison per item: its label, or its votes together. Ties are left out.
    """
    from guerdon.annotation.exporting import exported
    from guerdon.annotation.project import load_project
    from guerdon.api.training import train
    from guerdon.config import build
    from guerdon.recipes import quickstart
    from guerdon.store.database import open_database
    from guerdon.store.location import locate

    with open_database(locate(store)) as database:
        work: Project = load_project(database, project)
        rows = [each for each in exported(work) if len(each.responses) == 2 and each.q not in (None, 0.5)]
    held_out = [each for each in rows if _is_held_out(each)]
    rest = [each for each in rows if not _is_held_out(each)]
    if len(rest) < FEWEST_TRAINED or len(held_out) < FEWEST_HELD_OUT:
        raise GuerdonError(
            f"labels must be at least {FEWEST_TRAINED} to train on and {FEWEST_HELD_OUT} held out, got {len(rest)} and "
            f"{len(held_out)}. Judge more."
        )
    recipe: Mapping[str, Mapping[str, Any]] = quickstart()
    stages = {"model": {**recipe["model"], "base": model}, "train": dict(recipe["train"])}
    trained = train(rest, config=build(stages, {}))
    return {"trained": len(rest), "held_out": len(held_out), "accuracy": _accuracy(trained, held_out)}


def _is_held_out(comparison: Comparison) -> bool:
    from guerdon.contracts import digest

    return int(digest([comparison.group], 8), 16) % HELD_OUT == 0


def _accuracy(model: Any, held_out: Sequence[Comparison]) -> dict[str, Any]:
    """How often the model prefers what people do, with its interval over prompts."""
    import numpy as np

    from guerdon.annotation.summaries import estimate_json
    from guerdon.formulas.agreement import pair_accuracy
    from guerdon.formulas.clustered import clustered_share

    prompts = [each.prompt for each in held_out]
    first, second = (np.asarray(model.score(prompts, [each.responses[i] for each in held_out]).value) for i in (0, 1))
    q = np.array([each.q for each in held_out], dtype=np.float64)
    return estimate_json(clustered_share(pair_accuracy(first - second, q), [each.group for each in held_out]))


def _end_with_parent() -> None:
    """End this process when the one that started it has gone, however it went."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
