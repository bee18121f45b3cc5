"""Python scripts in processes of their own that need not import torch: forks of one server that has imported it.

The server is multiprocessing's, a clean process beside the tests: nothing that a test did is in its forks.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import tempfile
import textwrap
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent
PRELOADED = ["guerdon.api.training", "guerdon.training.loop", "guerdon.models.directory.loading", "guerdon.cli.app"]


@dataclass(frozen=True)
class Ended:
    """How a script ended: its exit code, negative for a signal, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def run_script(script: Path, *words: object, env: Mapping[str, str] | None = None, timeout: float = 300) -> Ended:
    """`python SCRIPT WORDS`, with what `env` adds to the environment; one that takes more than `timeout` seconds is killed."""
    if sys.platform == "win32":
        context = multiprocessing.get_context("spawn")
    else:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory() as folder:
        out, err = (str(Path(folder) / name) for name in ("out", "err"))
        process = context.Process(target=_run, args=(str(script), [str(w) for w in words], dict(env or {}), out, err))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
        code = process.exitcode
        process.close()
        assert code is not None
        return Ended(code, *(Path(name).read_text("utf-8") if Path(name).exists() else "" for name in (out, err)))


def run_code(code: str) -> Ended:
    """`python -c CODE`."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "code.py"
        script.write_text(textwrap.dedent(code), "utf-8")
        return run_script(script)


def _run(script: str, words: list[str], env: dict[str, str], out: str, err: str) -> None:
    for name, stream in ((out, sys.stdout), (err, sys.stderr)):
        stream.flush()
        with Path(name).open("wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    os.environ.update(env)
    sys.argv = [script, *words]
    sys.path = [str(Path(script).parent), *(path for path in sys.path if Path(path) != TESTS)]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit:
        raise  # multiprocessing turns it into the exit code
    except BaseException:
        traceback.print_exc()
        sys.exit(1)
