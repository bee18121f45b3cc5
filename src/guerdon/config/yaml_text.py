"""YAML as people write options: plain values only, and any mistake is a ValueError with a short reason."""

from __future__ import annotations

from typing import Any

MAX_NESTING = 50  # options nest three deep


def parse_yaml(text: str | bytes) -> Any:
    """The value of a YAML text. Raises ValueError whose message is one short line.

    Aliases are refused: nested ones make a few hundred bytes into gigabytes. PyYAML lets through what int() and date()
    raise, so 2024-13-45, 0x_ and `!!int x` are mistakes too.
    """
    import yaml

    try:
        reason = _refusal(text)
        value = None if reason else yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        reason = f"{error.problem or error.context}{_place(error.problem_mark or error.context_mark)}"
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
    except (ValueError, OverflowError, TypeError, KeyError, IndexError, AttributeError) as error:
        reason = f"a value that cannot be read: {error}"
    if reason:
        raise ValueError(" ".join(reason.split())[:120])
    return value


def _refusal(text: str | bytes) -> str:
    """Why the text is not built at all: an alias, too many levels, or a key twice; empty if it may be."""
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            return f"an alias (*name), which is not supported{_place(event.start_mark)}"
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_NESTING:
            return f"more than {MAX_NESTING} levels{_place(event.start_mark)}"
    return _repeated_key(yaml.compose(text, Loader=yaml.SafeLoader))


def _repeated_key(node: Any) -> str:
    """The first key that stands twice in one mapping, of which YAML would keep the last; empty if there is none."""
    import yaml

    if isinstance(node, yaml.SequenceNode):
        return next(filter(None, map(_repeated_key, node.value)), "")
    if not isinstance(node, yaml.MappingNode):
        return ""
    seen: set[tuple[str, str]] = set()
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in seen:
                return f"the key {key.value} twice{_place(key.start_mark)}"
            seen.add((key.tag, key.value))
        if reason := _repeated_key(value):
            return reason
    return ""


def _place(mark: Any) -> str:
    """The line of a mistake; nothing for the first, which may be the only one."""
    return f" in line {mark.line + 1}" if mark is not None and mark.line else ""
