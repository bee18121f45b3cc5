"""JSON files that a program wrote and anyone may have damaged since: read whole and checked, with one line for any fault."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from guerdon.errors import GuerdonError, cause_of, field_error, show_value

Kind = TypeVar("Kind")

RESTORE: Final = "Restore it from where it was saved."
LARGEST: Final = 1e31  # tokenizers write 1e30 for "no limit"; anything larger is damage, and overflows somewhere
LARGEST_FILE: Final = 2**30  # bytes
DEEPEST: Final = 64  # levels of values within values; copying deeper ones exhausts Python's stack
CLAIMS: Final = {  # pydantic's kinds of errors, in words that fit after "must be"
    "dict_type": "an object",
    "dataclass_type": "an object",
    "model_type": "an object",
    "mapping_type": "an object",
    "list_type": "a list",
    "tuple_type": "a list",
    "string_type": "text",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "finite_number": "a finite number",
}


def read_object(path: Path, advice: str = RESTORE) -> dict[str, Any]:
    """The object in a JSON file. Raises GuerdonError, which names the file, for anything else and for numbers that no
    program writes there."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise field_error(f"{path}: the file", "below 1 GiB", f"{path.stat().st_size} bytes", advice)
        values = json.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise GuerdonError(f"{path}: cannot be read ({error.strerror}). {advice}") from None
    except UnicodeDecodeError as error:
        raise GuerdonError(f"{path}: not valid JSON (no UTF-8 at byte {error.start + 1}). {advice}") from None
    except json.JSONDecodeError as error:
        raise GuerdonError(f"{path}: not valid JSON ({error}). {advice}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
        raise GuerdonError(f"{path}: not readable as JSON ({cause_of(error)}). {advice}") from None
    if not isinstance(values, dict):
        raise GuerdonError(f"{path}: must hold an object, got {show_value(values)}. {advice}")
    _refuse_extremes(values, path, advice)
    return values


def parse_object(values: Mapping[str, Any], kind: TypeAdapter[Kind], file: str, advice: str = RESTORE) -> Kind:
    """The values as what the adapter describes, without any conversion of types: "5" is not a number.

    Half a character (a lone surrogate), which pydantic refuses, is read as U+FFFD.
    """
    text = json.dumps(dict(values), ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    try:
        return kind.validate_json(text, strict=True)
    except ValidationError as error:
        raise _as_one_line(error, values, file, advice) from None


def _as_one_line(error: ValidationError, values: Mapping[str, Any], file: str, advice: str) -> GuerdonError:
    """The first of pydantic's errors in our form; for a key that may hold one of several kinds, all of these."""
    errors = error.errors(include_url=False)
    first, name = errors[0], _name_in(values, errors[0]["loc"])
    if first["type"] == "missing":
        return GuerdonError(f"{file}: {'.'.join(map(str, first['loc']))} is missing. {advice}")
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return GuerdonError(f"{file}: unknown key {name!r}. Delete it, or upgrade with `pip install -U guerdon`.")
    if isinstance(cause := first.get("ctx", {}).get("error"), GuerdonError):
        return GuerdonError(f"{file}: {cause}")
    claims = [_claim(e) for e in errors if _name_in(values, e["loc"]) == name]
    return field_error(f"{file}: {name}", " or ".join(dict.fromkeys(claims)), first["input"], advice)


def _claim(error: Any) -> str:
    """What must be true, from one of pydantic's errors."""
    message: str = error["msg"].removeprefix("Input should be ").partition(", unable to ")[0]
    return CLAIMS.get(error["type"], message)


def _name_in(values: Any, path: Sequence[int | str]) -> str:
    """The dotted name of a value, without the kinds that pydantic adds where it tried several."""
    names = []
    for name in path:
        try:
            values = values[name]
        except (KeyError, IndexError, TypeError):
            continue
        names.append(str(name))
    return ".".join(names)


def _refuse_extremes(values: Mapping[str, Any], path: Path, advice: str) -> None:
    """Raise for NaN, for a number that is too large, and for values within values without end.

    Infinity is a value that some model families write in lists.
    """
    for key, value in values.items():
        for depth, item in _items(value):
            if depth > DEEPEST:
                raise GuerdonError(f"{path}: {key} must have at most {DEEPEST} levels, got more. {advice}")
            if isinstance(item, int | float) and not isinstance(item, bool):
                is_limit = depth > 0 and item in (math.inf, -math.inf)
                if not (abs(item) <= LARGEST or is_limit):
                    raise field_error(f"{path}: {key}", f"finite and at most {LARGEST:g}", item, advice)


def _items(value: Any) -> Iterator[tuple[int, Any]]:
    """Every value in a JSON value, with its depth; without recursion, which deep nesting would exhaust."""
    waiting = [(0, value)]
    while waiting:
        depth, item = waiting.pop()
        yield depth, item
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        waiting.extend((depth + 1, child) for child in inner)
