"""The steps of a run folder: each writes its results whole or not at all, and is skipped when the same command runs again."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from guerdon.config import build
from guerdon.contracts import digest
from guerdon.errors import OutputError
from guerdon.io import writers
from guerdon.io.fields import as_number
from guerdon.io.json_files import parse_object, read_object
from guerdon.io.run_folder import RunFolder, refuse_other_run

__all__ = ["Log", "RunSteps", "file_identity"]

Log = Callable[[str], None]


class _StepState(TypedDict):
    """What state.json holds: what the run was started with, what each finished step returned, and the peak of memory in GB."""

    identity: dict[str, Any]
    done: dict[str, dict[str, Any]]
    peak: float


STEP_STATE = TypeAdapter(_StepState)
MOST_NAMED = 4  # options in an error


class RunSteps:
    """Which steps of a run folder are done. state.json is rewritten after each one.

    command: what writes the folder. files: what it writes there besides state.json. fixed_by: the step that fixes the options
    of the run, which may be corrected until then; None if the first step does. counts: by step, what its result must count.
    """

    def __init__(
        self,
        out: Path,
        log: Log,
        *,
        command: str,
        files: Sequence[str] = (),
        fixed_by: str | None = None,
        counts: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.out, self.log, self.command, self.files, self.fixed_by = out, log, command, files, fixed_by
        self.path = out / "state.json"
        self.state: dict[str, Any] = {"done": {}, "peak": 0.0}
        if self.path.exists():
            advice = f"Delete {out} to start over."
            stored: _StepState = parse_object(read_object(self.path, advice), STEP_STATE, str(self.path), advice)
            self.state = dict(stored)
            for name, result in stored["done"].items():
                for key in ("seconds", *(counts or {}).get(name, ())):
                    as_number(result.get(key), f"{self.path}: done.{name}.{key}", "a number >= 0", low=0.0)

    def claim(self, identity: dict[str, Any]) -> None:
        """Refuse the folder of another run, unless the options of that run may still be corrected."""
        if not self.path.exists():
            self._refuse_taken()
        known = self.state.get("identity", {})
        is_fixed = self.fixed_by in self.state["done"] if self.fixed_by else bool(self.state["done"])
        if is_fixed or RunFolder(self.out).has_checkpoint():
            mine, earlier = _with_all_options(identity), _with_all_options(known)
            options = _differing_options(mine.get("config"), earlier.get("config"))
            refuse_other_run(self.out, _by_name(mine, options), _by_name(earlier, options))
        elif known != identity:
            self.state["done"] = {}
        self.state["identity"] = identity
        self._write()

    def _refuse_taken(self) -> None:
        """Raise GuerdonError for a folder that holds files which this run would write, and did not."""
        for name in self.files:
            if (self.out / name).exists():
                line = f"{self.out}: holds {name}, which no {self.command} wrote. Pass another path."
                raise OutputError(line, self.out)

    def run(self, name: str, description: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The step's result, from the folder if it is already done."""
        done: dict[str, Any] = self.state["done"]
        if name in done:
            self.log(f"{name}: already done")
            return dict(done[name])
        self.log(f"{name}: {description}")
        start = time.monotonic()
        result = work()
        _release_memory()
        done[name] = {**result, "seconds": round(time.monotonic() - start, 2)}
        self.state["peak"] = max(self.state["peak"], _peak_gb())
        self._write()
        return dict(done[name])

    def seconds(self) -> float:
        """Seconds that all steps took, over all runs of the command."""
        return float(sum(step["seconds"] for step in self.state["done"].values()))

    def peak_memory(self) -> float:
        """The most memory that any run of the command held, in GB (10^9 bytes)."""
        return float(self.state["peak"])

    def _write(self) -> None:
        writers.write_json(self.path, self.state)


def file_identity(path: str | Path | None) -> str:
    """A value that changes when the user's file does."""
    if path is None or not Path(path).is_file():
        return str(path)
    stat = Path(path).stat()
    return digest([str(stat.st_size), stat.st_mtime_ns])


def _with_all_options(identity: dict[str, Any]) -> dict[str, Any]:
    """The identity with the defaults of options that it lacks: those that are newer than the version that wrote it."""
    config = identity.get("config")
    if not isinstance(config, dict):
        return identity
    defaults = build({}).model_dump(mode="json")
    filled = {
        stage: {**defaults.get(stage, {}), **values} if isinstance(values, dict) else values
        for stage, values in {**defaults, **config}.items()
    }
    return {**identity, "config": filled}


def _differing_options(mine: Any, earlier: Any) -> str:
    """The word options, with the first few of those that differ."""
    if not (isinstance(mine, Mapping) and isinstance(earlier, Mapping)):
        return "options"
    names = [
        f"{stage}.{name}"
        for stage, values in mine.items()
        if isinstance(values, Mapping) and isinstance(earlier.get(stage), Mapping)
        for name in values
        if values[name] != earlier[stage].get(name)
    ]
    shown = ", ".join(names[:MOST_NAMED]) + ", ..." * (len(names) > MOST_NAMED)
    return f"options ({shown})" if names else "options"


def _by_name(identity: Mapping[str, Any], options: str) -> dict[str, Any]:
    """The identity under the names that an error shows. options: the name of those."""
    return {"data": [identity.get("data"), identity.get("data_hash")], options: identity.get("config")}


def _release_memory() -> None:
    """Return freed memory to the system, so that it does not add to the next step's."""
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # not every libc has this function
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def _peak_gb() -> float:
    """The most resident memory of this process so far, in GB (10^9 bytes)."""
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 1e9
    import resource

    scale = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * scale / 1e9
