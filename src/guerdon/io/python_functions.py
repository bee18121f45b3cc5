"""A user's function in a Python file: FILE.py:NAME in, the function with a fingerprint out."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

from guerdon.errors import GuerdonError

__all__ = ["FileFunction", "function_from_file", "split_function_name"]


@final
class FileFunction:
    """A function of a Python file. Its fingerprint is that of the file's content."""

    def __init__(self, function: Callable[..., Any], content: bytes, name: str) -> None:
        self.function = function
        self.fingerprint = hashlib.sha256(b"\0".join([content, name.encode()])).hexdigest()[:16]
        self.__name__ = getattr(function, "__name__", "function")

    def __call__(self, *values: Any) -> Any:
        """What the function returns."""
        return self.function(*values)


def function_from_file(path: str, function: str) -> FileFunction:
    """FUNCTION of FILE.py. GuerdonError if there is none, or the file does not run."""
    import runpy

    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise GuerdonError(f"{path}: must be a readable Python file, got {error}. Give FILE.py:FUNCTION.") from None
    try:
        names = runpy.run_path(path)
    except (Exception, SystemExit) as error:  # a user's program: whatever it raises is shown, and chained
        line = " ".join(str(error).split())[:200]
        raise GuerdonError(f"{path}: raised {type(error).__name__} ({line}). Fix the file.") from error
    if not callable(names.get(function)):
        near = difflib.get_close_matches(function, [name for name, value in names.items() if callable(value)], 1)
        advice = f"Did you mean {near[0]}?" if near else "Give FILE.py:FUNCTION."
        raise GuerdonError(f"{path}: must define the function {function}, got none. {advice}")
    return FileFunction(names[function], content, function)


def split_function_name(name: str) -> tuple[str, str]:
    """FILE.py and FUNCTION; for anything else, the whole and ""."""
    file, _, function = name.rpartition(":")
    return (file, function) if file.endswith(".py") else (name, "")
