"""What a chat template leaves out of a conversation: two texts that differ there alone get one score, and nothing says so.

A template is shown conversations with a unique word in each role and position, and what is missing from its text is hidden.
What it refuses is not hidden: such conversations are errors, and so are tools, calls and results that it leaves out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from guerdon.contracts import Comparison, Finding, GuerdonError, Message, Prompt, Response
from guerdon.errors import counted, verb
from guerdon.models.chat import ChatTokenizer
from guerdon.models.chat_template import END_THINK, with_system_message

WORD: Final = "guerdonword"  # in lower case, for templates that change the case
THOUGHT: Final = f"<think>\n{WORD}\n</think>\n\nYes."
REMEDY: Final = "Use a model whose chat template shows it, write it into a turn that is shown, or leave such rows out."


@dataclass(frozen=True, slots=True)
class Part:
    """A part of conversations, one that has it, and whether a conversation does.

    is_custom: whether templates leave it out by custom, which matters only to those who have it.
    """

    name: str
    prompt: tuple[Message, ...]
    reply: str
    occurs: Callable[[Sequence[Message], Response], bool]
    is_custom: bool = False


def _user(text: str = "Well?", name: str | None = None) -> Message:
    return Message("user", text, name=name)


def _assistant(text: str = "Yes.") -> Message:
    return Message("assistant", text)


def _system(text: str = "Be kind.") -> Message:
    return Message("system", text)


def _makes_no_call(turns: Sequence[Message], reply: Response) -> bool:
    return not any(turn.tool_calls for turn in (*turns, *reply.messages))


PARTS: Final = (
    Part("the reply", (_user(),), WORD, lambda turns, reply: True),
    Part("the last turn before the reply", (_user(WORD),), "Yes.", lambda turns, reply: True),
    Part("the reasoning of the reply", (_user(),), THOUGHT, lambda turns, reply: END_THINK in reply.text),
    Part("the system message", (_system(WORD), _user()), "Yes.", lambda turns, reply: turns[0].role == "system"),
    Part(
        "system messages after the first turn",
        (_system(), _user(), _assistant(), _system(WORD), _user()),
        "Yes.",
        lambda turns, reply: any(turn.role == "system" for turn in turns[1:]),
    ),
    Part(
        "earlier turns of the user",
        (_user(WORD), _assistant(), _user()),
        "Yes.",
        lambda turns, reply: any(turn.role == "user" for turn in turns[:-1]),
    ),
    Part(
        "earlier turns of the assistant",
        (_user(), _assistant(WORD), _user()),
        "Yes.",
        lambda turns, reply: any(turn.role == "assistant" for turn in turns),
    ),
    Part(
        "turns of a tool that nobody called",
        (_user(), _assistant(), Message("tool", WORD), _user()),
        "Yes.",
        lambda turns, reply: any(turn.role == "tool" for turn in turns) and _makes_no_call(turns, reply),
    ),
    Part(
        "the reasoning of earlier replies",
        (_user(), _assistant(THOUGHT), _user()),
        "Yes.",
        lambda turns, reply: any(turn.role == "assistant" and END_THINK in turn.content for turn in turns),
        is_custom=True,
    ),
    Part(
        "the names of speakers",
        (_user(name=WORD),),
        "Yes.",
        lambda turns, reply: any(turn.name and turn.role != "tool" for turn in (*turns, *reply.messages)),
        is_custom=True,
    ),
)


def hidden_parts(text: ChatTokenizer) -> list[Part]:
    """The parts of conversations that the model does not see."""
    return [part for part in PARTS if _is_hidden(text, part)]


def hidden_text_findings(text: ChatTokenizer, comparisons: Sequence[Comparison]) -> list[Finding]:
    """What the model does not see of these comparisons, with the number of comparisons that have it. Empty if it sees all."""
    hidden = hidden_parts(text)
    counts = Counter(part.name for comparison in comparisons for part in _parts_in(comparison, text.system, hidden))
    return [
        Finding(
            "note" if part.is_custom else "warning",
            f"The chat template leaves out {part.name}",
            f"{counts[part.name]} of {counted(len(comparisons), 'comparison')} "
            f"{verb(counts[part.name], 'have')} it, and the model does not see it",
            REMEDY,
        )
        for part in hidden
        if counts[part.name]
    ]


def _is_hidden(text: ChatTokenizer, part: Part) -> bool:
    try:
        return WORD not in text.render(Prompt(part.prompt), Response(part.reply)).lower()
    except GuerdonError:
        return False


def _parts_in(comparison: Comparison, system: str | None, parts: Iterable[Part]) -> Iterator[Part]:
    turns = with_system_message(comparison.prompt, system)
    for part in parts:
        if turns and any(part.occurs(turns, response) for response in comparison.responses):
            yield part
