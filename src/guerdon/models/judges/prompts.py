"""What a judge reads: a template file with the conversation and the responses between tags that they cannot forge.

A template is a text file of sections, `== system ==`, `== user ==` and so on, with placeholders in braces. Nothing in it is
code. What is judged is hostile: it stands between tags with a number that depends on the conversation, and that number is
broken wherever a text holds it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from guerdon.contracts import GuerdonError, Message, Prompt, Response, digest
from guerdon.conversation import tool_name
from guerdon.errors import field_error

SECTIONS: Final = ("system", "user", "verdict", "reminder")
PLACEHOLDERS: Final = ("criterion", "conversation", "responses", "low", "high", "count", "example")
REWORDED: Final = ("pair", "pair_with_ties", "pair_with_reasons", "criterion")  # also in other words, as NAME_reworded
SHIPPED: Final = (
    "pair", "pair_with_ties", "pair_with_reasons", "score", "criterion", "ranking", *(f"{name}_reworded" for name in REWORDED),
)  # fmt: skip

_HEADING = re.compile(r"^== *([a-z]+) *==[ \t]*$", re.MULTILINE)
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True, slots=True)
class JudgePrompt:
    """A template: its name, its sections by name, and a hash of its text."""

    name: str
    sections: Mapping[str, str]
    fingerprint: str

    def fill(self, section: str, values: Mapping[str, str]) -> str:
        """The section with its placeholders filled in. What is filled in is never looked at for placeholders."""
        return _PLACEHOLDER.sub(lambda match: values[match[1]], self.sections[section])


@cache
def shipped_prompt(name: str) -> JudgePrompt:
    """One of the templates that come with the package."""
    return parse_prompt(name, files("guerdon.models.judges.templates").joinpath(f"{name}.txt").read_text("utf-8"))


def load_prompt(name_or_path: str) -> JudgePrompt:
    """A shipped template by name, or a template file by path."""
    if name_or_path in SHIPPED:
        return shipped_prompt(name_or_path)
    path = Path(name_or_path)
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        shipped = ", ".join(SHIPPED)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise field_error(
            "template", f"one of {shipped}, or a text file in UTF-8 ({reason})", name_or_path, "Correct the path."
        ) from None
    return parse_prompt(path.name, text, str(path))


def parse_prompt(
    name: str,
    text: str,
    place: str = "",
    *,
    known: Sequence[str] = SECTIONS,
    required: str = "user",
    placeholders: Sequence[str] = PLACEHOLDERS,
) -> JudgePrompt:
    """A template from its text: its sections are `known`, and `required` holds the material.

    Raises GuerdonError where a section or a placeholder is unknown or missing.
    """
    prefix = f"{place}: " if place else f"template {name}: "
    before, *parts = _HEADING.split(text)
    if before.strip() or not parts:
        raise GuerdonError(
            f"{prefix}a template must start with a section such as == system ==, got {before.strip()[:40]!r}. "
            "Copy a shipped one and edit it."
        )
    sections = {heading: body.strip() for heading, body in zip(parts[::2], parts[1::2], strict=True)}
    for heading in parts[::2]:
        if heading not in known:
            raise GuerdonError(
                f"{prefix}a section must be one of {', '.join(known)}, got {heading!r}. Rename or remove it."
            )
    if required not in sections or len(sections) < len(parts) // 2:
        raise GuerdonError(
            f"{prefix}a template must have each section once, and a {required} section. Add or join them."
        )
    for body in sections.values():
        for placeholder in _PLACEHOLDER.findall(body):
            if placeholder not in placeholders:
                raise GuerdonError(
                    f"{prefix}a placeholder must be one of {', '.join(placeholders)}, got {placeholder!r}. Correct it."
                )
    for needed in ("conversation", "responses"):
        if f"{{{needed}}}" not in sections[required]:
            raise GuerdonError(f"{prefix}the {required} section must have the placeholder {{{needed}}}. Add it.")
    return JudgePrompt(name, sections, digest(sections))


# ---- The material between its tags ---------------------------------------------------------------------------------


def material(prompt: Prompt, responses: Sequence[Response], seed: int = 0) -> tuple[str, str]:
    """The conversation and the responses, numbered from 1 in the order given, each between tags.

    The tags depend on the conversation alone, so that every question about one prompt starts with the same text: a prefix
    cache reads it once.
    """
    number = digest([seed, [(m.role, m.content) for m in prompt], list(prompt.tools)], 8)
    parts = [_tagged(turn.role, _turn_text(turn), number) for turn in prompt]
    if prompt.tools:
        names = ", ".join(tool_name(tool) for tool in prompt.tools)
        parts.insert(0, _tagged("tools", names, number))
    numbered = (
        f"<response-{position}-{number}>\n{_response_text(response, number)}\n</response-{position}-{number}>"
        for position, response in enumerate(responses, 1)
    )
    return _enclosed("conversation", "\n".join(parts), number), "\n\n".join(numbered)


def _response_text(response: Response, number: str) -> str:
    if not response.messages:
        return _broken(response.text, number)
    return "\n".join(_tagged(turn.role, _turn_text(turn), number) for turn in response.turns())


def _turn_text(turn: Message) -> str:
    calls = [f"calls {call.name}({call.arguments})" for call in turn.tool_calls]
    return "\n".join([*([turn.content] if turn.content else []), *calls])


def _tagged(tag: str, text: str, number: str) -> str:
    name = re.sub(r"[^a-z]", "", tag.lower()) or "turn"
    return _enclosed(name, _broken(text, number), number)


def _enclosed(tag: str, text: str, number: str) -> str:
    return f"<{tag}-{number}>\n{text}\n</{tag}-{number}>"


def _broken(text: str, number: str) -> str:
    """The text without the number of its tags: what looks like a tag in it is none."""
    return re.sub(re.escape(number), f"{number[:4]} {number[4:]}", text, flags=re.IGNORECASE)
