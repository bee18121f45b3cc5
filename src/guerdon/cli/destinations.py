"""Where a command writes: no destination may be an input, a foreign folder is refused before any work, and folders are locked.

An option that names a destination has a Destination in its annotation; every other option that names something on disk
is an input.
"""

from __future__ import annotations

import functools
import glob
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from guerdon.cli import stopping

if TYPE_CHECKING:
    from guerdon.config import Config


@dataclass(frozen=True)
class Destination:
    """What an option such as --out names.

    kind: a file; a folder into which files are written; or a directory that is replaced whole. names: what is written
    into the folder, or in place of NAME in a file's folder, such as NAME.rejected.jsonl; a directory ends with a slash.
    instead: the option that is changed in place where this one is absent or names the same. resumes: whether the same
    command resumes one that was stopped.
    """

    kind: Literal["file", "folder", "directory"]
    names: tuple[str, ...] = ()
    instead: str | None = None
    resumes: bool = False

    def paths(self, path: Path) -> list[Path]:
        """Everything that is written or replaced."""
        if self.kind == "folder":
            return [path / name for name in self.names]
        stem = path.name.removesuffix(".jsonl")
        return [path, *(path.with_name(name.replace("NAME", stem)) for name in self.names)]


FILE: Final = Destination("file")
RESUMABLE_FILE: Final = Destination("file", resumes=True)
POOL_FILE: Final = Destination("file", ("NAME.jsonl.made.json", "NAME.jsonl.replies.json"), resumes=True)
CANDIDATES_FILE: Final = Destination("file", (*POOL_FILE.names, "NAME.calls.db"), resumes=True)
REPORT_FILES: Final = ("report.html", "report.md", "report.json")
REPORT_FOLDER: Final = Destination("folder", REPORT_FILES)
RUN_FOLDER: Final = Destination(
    "folder",
    (
        "config.yaml", "metrics.jsonl", "checks.jsonl", "held_out.jsonl", "excluded.json", "run.json", "state.json",
        "model/", "policy/", "checkpoint/", "best/", *REPORT_FILES,
    ),
    resumes=True,
)  # fmt: skip

OPTIONS_THAT_NAME_PATHS: Final = (
    ("model", "base"), ("policy", "base"), ("tax", "lm_eval"), ("tax", "lm_eval_include"), ("imports", "items"),
    ("loop", "prompts"), ("loop", "held_out"), ("loop", "judge"), ("loop", "store"),
)  # fmt: skip

Refusal = Callable[[Mapping[str, list[Path]]], None]
_refusal: ContextVar[Refusal] = ContextVar("refusal", default=lambda inputs: None)  # of the command that runs


def protect_inputs(command: Callable[..., None]) -> Callable[..., None]:
    """The command, which first looks where it would write, and holds what it writes until it ends."""
    command.__annotations__ = inspect.get_annotations(command, eval_str=True)  # once; typer would do it twice more
    destinations = destinations_of(command)

    @functools.wraps(command)
    def protected(**values: Any) -> None:
        given = {name: (kind, Path(values[name])) for name, kind in destinations.items() if values[name] is not None}
        stopping.set_resumable(any(destination.resumes for destination, _ in given.values()))
        inputs = {name: list(_existing_paths(value)) for name, value in values.items() if name not in given}
        in_place = _paths_in_place(destinations, values)
        _refuse_nameless_files(given)
        with _naming_options(command, given), ExitStack() as stack:
            _refuse_inputs(given, inputs, in_place)
            stack.callback(_refusal.reset, _refusal.set(functools.partial(_refuse_inputs, given, in_place=in_place)))
            for folder in [path for kind, path in given.values() if kind.kind != "file"] + in_place:
                stack.enter_context(_locked(folder))
            for file in [path for kind, path in given.values() if kind.kind == "file"]:
                _lock_run_of(file, stack)
            command(**values)

    return protected


def destinations_of(command: Callable[..., None]) -> dict[str, Destination]:
    """The parameters that name a destination."""
    parameters = inspect.signature(command, eval_str=True).parameters.values()
    marks = {parameter.name: get_args(parameter.annotation)[1:] for parameter in parameters}
    return {name: mark for name, given in marks.items() for mark in given if isinstance(mark, Destination)}


@contextmanager
def _naming_options(command: Callable[..., None], given: Mapping[str, tuple[Destination, Path]]) -> Iterator[None]:
    """Let an error about an output say which option gave it: --fix or --out in place of "path"."""
    from guerdon.errors import OutputError

    try:
        yield
    except OutputError as error:
        closeness = {name: _closeness(error.path, *where) for name, where in given.items()}
        name = max(closeness, key=lambda name: closeness[name], default="")
        if not name or not closeness[name]:
            raise
        raise error.naming(_spelling(command, name)) from None


def _closeness(path: str, destination: Destination, given: Path) -> int:
    """How surely a path is that of the destination: 3 where it is given, 2 written for it, 1 the folder of it; else 0."""
    target, whole = Path(os.path.realpath(path)), Path(os.path.realpath(given))
    written = [Path(os.path.realpath(each)) for each in destination.paths(given)]
    is_partial = target.parent == whole.parent and target.name.startswith(f"{whole.name}.")
    if target == whole:
        return 3
    if target in written or is_partial or (destination.kind != "file" and whole in target.parents):
        return 2
    return int(target == whole.parent)


def _spelling(command: Callable[..., None], name: str) -> str:
    """How the option or argument of this name is written, such as --out or OUT."""
    from typer.models import ArgumentInfo, OptionInfo

    for mark in get_args(inspect.signature(command, eval_str=True).parameters[name].annotation)[1:]:
        if isinstance(mark, OptionInfo):
            return str(mark.default)  # the first word of typer.Option("--out"), until typer reads the signature
        if isinstance(mark, ArgumentInfo):
            return str(mark.metavar)
    raise AssertionError(f"{name} is neither an option nor an argument")


def refuse_empty_paths(command: Callable[..., None], spellings: Mapping[str, list[str]], words: list[str]) -> None:
    """Raise GuerdonError for a destination that is the empty string, which a Path would take for the current folder.

    spellings: how each parameter is written, such as --out. words: the command line after the command's name.
    """
    from guerdon.errors import GuerdonError

    options = {option for name in destinations_of(command) for option in spellings[name]}
    for word, value in zip(words, [*words, None][1:], strict=True):
        option, is_joined, joined = word.partition("=")
        if option in options and (joined if is_joined else value) == "":
            raise GuerdonError(f"{option} must be a path, got ''. Give a path; an unset shell variable is empty.")


def refuse_options_that_are_outputs(config: Config) -> None:
    """Raise GuerdonError if the running command would replace what an option names, wherever the option was set."""
    inputs = {}
    for stage, name in OPTIONS_THAT_NAME_PATHS:
        options = getattr(config, stage)
        if name in options.model_fields_set:  # a folder may happen to have the name of a default
            inputs[f"{stage}.{name}"] = list(_existing_paths(getattr(options, name)))
    _refusal.get()(inputs)


def _existing_paths(value: Any) -> Iterator[Path]:
    """The files and folders that an option's value names: PATH, NAME=PATH, FILE.py:FUNCTION, store:PATH, or a pattern."""
    for word in value if isinstance(value, list) else [value]:
        if not isinstance(word, str | Path):
            continue
        text = str(word)
        file, _, function = text.rpartition(":")
        store = text.removeprefix("store:").partition("?")[0] if text.startswith("store:") else ""
        words = (text, text.partition("=")[2], file if function and file.endswith(".py") else "", store)
        yield from (Path(path) for path in words if path and os.path.lexists(path))
        if glob.has_magic(text) and not os.path.lexists(text):
            yield from (path for path in map(Path, glob.glob(text, recursive=True)) if not _is_beside_output(path))


def _is_beside_output(path: Path) -> bool:
    """Whether a pattern leaves the file out, as one that stands beside comparisons."""
    from guerdon.io.sources import BESIDE_OUTPUTS

    return path.name.endswith(BESIDE_OUTPUTS)


def _paths_in_place(destinations: Mapping[str, Destination], values: Mapping[str, Any]) -> list[Path]:
    """The saved models that the command changes where they are."""
    models = [
        Path(values[destination.instead])
        for name, destination in destinations.items()
        if destination.instead
        and values[destination.instead] is not None
        and (values[name] is None or _same(values[name], values[destination.instead]))
    ]
    return [model for model in models if model.is_dir()]


def _refuse_nameless_files(given: Mapping[str, tuple[Destination, Path]]) -> None:
    """Raise GuerdonError for a file that is the current folder, which is what an empty word is, or the root."""
    from guerdon.errors import GuerdonError

    for destination, path in given.values():
        if destination.kind == "file" and not path.name:
            raise GuerdonError(
                f"{path}: must be a file, got a folder. Give the path of a file; an unset shell variable is the current folder."
            )


def _refuse_inputs(
    given: Mapping[str, tuple[Destination, Path]], inputs: Mapping[str, list[Path]], in_place: list[Path]
) -> None:
    """Raise GuerdonError for a destination that is an input, or a directory of somebody else."""
    from guerdon.io import directories, writers

    outputs = [path for destination, path in given.values() if not _among(path, in_place)]
    written = [
        each for destination, path in given.values() if not _among(path, in_place) for each in destination.paths(path)
    ]
    read = [
        path
        for name, paths in inputs.items()
        for path in paths
        if not (name == "config" and writers.is_own_config(path))
    ]
    writers.refuse_to_replace(read, written)
    for destination, path in given.values():
        if destination.kind == "directory" and path in outputs:
            directories.refuse_parts_of([path for path in read if path.is_dir()], path)
            directories.refuse_foreign_folder(path)


def _locked(folder: Path) -> Any:
    from guerdon.io.run_folder import RunFolder

    return RunFolder(folder).lock()


def _lock_run_of(file: Path, stack: ExitStack) -> None:
    """Keep a file out of a run that another process writes, and such a run out of the file's folder until the stack ends.

    Files share a folder. An empty one may be that of a run which has just begun.
    """
    from guerdon.io.run_folder import RunFolder

    folder = RunFolder(Path(os.path.realpath(file)).parent if os.path.islink(file) else file.parent)
    if folder.is_run():
        stack.enter_context(folder.lock(shared=True))
    elif folder.is_empty():
        with folder.lock(shared=True):
            pass


def _same(a: str | Path, b: str | Path) -> bool:
    return os.path.realpath(a) == os.path.realpath(b)


def _among(path: Path, others: list[Path]) -> bool:
    return any(_same(path, other) for other in others)
