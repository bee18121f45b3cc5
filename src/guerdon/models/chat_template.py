"""Conversations as the text that a language model reads: chat template, system message, tools, responses that were cut."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, final

from guerdon.contracts import (
    GuerdonError,
    Message,
    Prompt,
    Response,
    ToolCall,
    as_prompt,
)
from guerdon.conversation import message_dict, tool_name
from guerdon.models.rendering import apply_template
from guerdon.models.template_source import template_source

END: Final = "GUERDON_END_OF_TEXT "  # its space shows whether a template trims
ARGUMENT: Final = "guerdon_argument"
THINK, END_THINK = "<think>", "</think>"


@final
class ChatTemplate:
    """A chat template with its tokenizer: prompts and conversations in, text out.

    Tools and calls go to the template in transformers' convention: tools as objects, arguments as objects, or as JSON text
    for a template that would print an object as Python or that refuses one.

    Never silently wrong: a conversation is refused, in one line, if the template
    * leaves out a tool, a tool call, its arguments or its result (a conversation of the same shape, with marks in their
      place, shows it);
    * renders the prompt differently once the reply is added, such as a template that keeps the thoughts of only the
      last assistant turn. What follows the prompt's last turn may differ: a template may open a thought for the reply
      and leave it out of a finished turn.

    One object serves one batch: it remembers what it has rendered.
    """

    def __init__(self, tokenizer: Any, source: str, system: str | None = None) -> None:
        self.tokenizer, self.source, self.system = tokenizer, source, system
        self._starts: dict[Prompt, str | None] = {}
        self._argument_forms: dict[Hashable, bool] = {}

    def prompt(self, prompt: Prompt) -> str:
        """The prompt up to where the reply begins."""
        prompt = as_prompt(prompt)
        with prompt.named_in_errors():
            return self._render(with_system_message(prompt, self.system), prompt.tools, add_generation_prompt=True)

    def conversation(self, prompt: Prompt, response: Response) -> str:
        """The prompt with its reply. One that was cut ("length") is left open, without an end-of-turn marker.

        A reply that was cut inside a thought (an open <think>) follows the prompt as it was written: a template that
        parses thoughts would close the thought.
        """
        prompt = as_prompt(prompt)
        turns = (*with_system_message(prompt, self.system), *response.turns())
        with prompt.named_in_errors():
            finished = self._render(turns, prompt.tools)
            self._refuse_changed_prompt(prompt, finished)
            if response.finish != "length" or response.is_empty:
                return finished
            return self._left_open(prompt, response, turns, finished)

    def reply_start(self, prompt: Prompt, rendered: str) -> int:
        """The character of a rendered conversation at which the reply begins: where it differs from the prompt's rendering."""
        return _first_difference(self._start(prompt) or self.prompt(prompt), rendered)

    def ending(self) -> str:
        """What the template writes after the last character of a finished reply."""
        return self._closing((Message("user", "a"), Message("assistant", "b")), ())

    # ---- The prompt stays as it was --------------------------------------------------------------------------------

    def _refuse_changed_prompt(self, prompt: Prompt, finished: str) -> None:
        start = self._start(prompt)
        if start is None or finished.startswith(start):
            return
        turns = with_system_message(prompt, self.system)
        if finished.startswith(self._render(turns, prompt.tools)):
            return
        same = _first_difference(start, finished)
        if len(start) - same > len(self._closing(turns, prompt.tools, add_generation_prompt=True)):
            raise GuerdonError(
                "the chat template must render a prompt the same with and without its reply, got "
                f"{start[same : same + 30]!r} without and {finished[same : same + 30]!r} with it at character {same}. "
                "Use a template that keeps earlier turns as they are, or drop the row."
            )

    def _start(self, prompt: Prompt) -> str | None:
        """The prompt up to where the reply begins; None where the template refuses it without a reply."""
        if prompt not in self._starts:
            try:
                self._starts[prompt] = self.prompt(prompt)
            except GuerdonError:
                self._starts[prompt] = None
        return self._starts[prompt]

    def _closing(self, turns: Sequence[Message], tools: Sequence[str], add_generation_prompt: bool = False) -> str:
        """What follows the content of the last turn."""
        marked = (*turns[:-1], replace(turns[-1], content=END.strip(), tool_calls=()))
        return self._render(marked, tools, add_generation_prompt).rpartition(END.strip())[2]

    # ---- Responses that were cut -----------------------------------------------------------------------------------

    def _left_open(self, prompt: Prompt, response: Response, turns: Sequence[Message], finished: str) -> str:
        """The conversation up to the last character of the reply."""
        *earlier, last = turns
        if last.tool_calls:
            closing = self._closing(turns, prompt.tools)
            if not finished.endswith(closing):
                raise GuerdonError(
                    "a reply that was cut after a tool call must be left open, but the chat template ends it in a way of "
                    "its own. Set finish to stop, or drop the row."
                )
            return finished[: len(finished) - len(closing)]
        marked = self._render((*earlier, replace(last, content=last.content + END)), prompt.tools)
        end = marked.rfind(END.strip())
        opened = None
        if end >= 0:
            opened = (
                marked[:end] if marked.startswith(END, end) else marked[:end].rstrip()
            )  # rstrip: the template trims
        start = self._render(earlier, prompt.tools, True) if response.messages else self._start(prompt)
        if (
            start is not None
            and _is_inside_thought(start, last.content)
            and not _continues(opened, start, last.content)
            and start != self._render(earlier, prompt.tools)  # else there is no generation prompt to follow
        ):
            return _without_repeated_think(start, last.content) + last.content
        if opened is None:
            raise GuerdonError(
                "the chat template must show the text of a reply that was cut, but leaves it out. "
                "Use another template, or drop the row."
            )
        return opened

    # ---- Tools and calls -------------------------------------------------------------------------------------------

    def _render(self, turns: Sequence[Message], tools: Sequence[str], add_generation_prompt: bool = False) -> str:
        as_text = bool(tools or any(turn.tool_calls for turn in turns)) and self._takes_argument_text(turns, tools)
        return self._apply(turns, tools, as_text, add_generation_prompt)

    def _takes_argument_text(self, turns: Sequence[Message], tools: Sequence[str]) -> bool:
        """Whether the template takes arguments as JSON text, not as objects. Refuses a template that leaves anything out."""
        shape = (len(tools), tuple((t.role, len(t.tool_calls), bool(t.content), t.tool_call_id) for t in turns))
        if shape not in self._argument_forms:
            probe, probe_tools, marks = _marked(turns, tools)
            problems = []
            for as_text in (False, True):
                problem = self._problem(probe, probe_tools, marks, as_text)
                if problem is None:
                    self._argument_forms[shape] = as_text
                    break
                problems.append(problem)
            else:
                raise GuerdonError(problems[0])
        return self._argument_forms[shape]

    def _problem(
        self, turns: Sequence[Message], tools: Sequence[str], marks: Mapping[str, str], as_text: bool
    ) -> str | None:
        """What is wrong with how the template shows the marked conversation; None where nothing is."""
        try:
            text = self._apply(turns, tools, as_text)
        except GuerdonError as error:
            return str(error)
        for mark, what in marks.items():
            if mark not in text:
                return (
                    f"the chat template must show {what}, but leaves it out. "
                    "Choose a model whose chat template supports tools, or drop the row."
                )
        if f"'{ARGUMENT}'" in text or f'\\"{ARGUMENT}' in text:
            return (
                "the chat template must print the arguments of tool calls as JSON, but prints Python or JSON in a string. "
                "Choose a model whose chat template supports tools, or drop the row."
            )
        return None

    def _apply(
        self, turns: Sequence[Message], tools: Sequence[str], as_text: bool = False, add_generation_prompt: bool = False
    ) -> str:
        rows = [message_dict(turn) for turn in turns]
        if as_text:
            for turn, row in zip(turns, rows, strict=True):
                for call, call_row in zip(turn.tool_calls, row.get("tool_calls", ()), strict=True):
                    call_row["function"]["arguments"] = call.arguments
        try:
            return apply_template(
                self.tokenizer,
                rows,
                tools=[json.loads(tool) for tool in tools] or None,
                chat_template=self.source,
                add_generation_prompt=add_generation_prompt,
            )
        except GuerdonError:
            raise
        except Exception as error:  # a template is a program of its own: whatever it raises is about this conversation
            roles = ",".join(turn.role for turn in turns)
            reason = " ".join(str(error).split())
            raise GuerdonError(
                f"the chat template must accept the conversation, but refuses its roles {roles}: {reason}. "
                "Reorder or merge the turns."
            ) from None


# ---- For a tokenizer -------------------------------------------------------------------------------------------------


def render_prompt(tokenizer: Any, prompt: Prompt, *, template: str, system: str | None) -> str:
    """The prompt up to where the reply begins, by the tokenizer's chat template ("model") or a plain one ("plain").

    `system` is put before a prompt that has no system message. Raises GuerdonError if the template refuses the prompt or
    leaves out its tools.
    """
    return replace_surrogates(ChatTemplate(tokenizer, template_source(tokenizer, template), system).prompt(prompt))


def with_system_message(prompt: Prompt, system: str | None) -> Prompt:
    """The prompt with a system message in front, unless it has one or is empty."""
    if system is None or not prompt or prompt[0].role == "system":
        return prompt
    return Prompt((Message("system", system),)) + prompt


def replace_surrogates(text: str) -> str:
    """The text with U+FFFD for each half of a character (a lone surrogate), which no tokenizer takes."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# ---- Helpers ---------------------------------------------------------------------------------------------------------


def _first_difference(one: str, other: str) -> int:
    """Characters that two texts share at their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _marked(turns: Sequence[Message], tools: Sequence[str]) -> tuple[list[Message], list[str], dict[str, str]]:
    """The conversation with a mark for every tool, call, argument and result, and what each mark represents."""
    marks: dict[str, str] = {}

    def mark(what: str) -> str:
        name = f"guerdon{len(marks):04d}x"
        marks[name] = what
        return name

    def marked_call(call: ToolCall) -> ToolCall:
        arguments = {ARGUMENT: mark(f"the arguments of tool call {call.name!r}")}
        return ToolCall(mark(f"tool call {call.name!r}"), json.dumps(arguments), call.id)

    def marked_tool(tool: str) -> str:
        body = json.loads(tool)
        (body["function"] if isinstance(body.get("function"), dict) else body)["name"] = mark(
            f"tool {tool_name(tool)!r}"
        )
        return json.dumps(body)

    marked = []
    for turn in turns:
        content = mark("the result of a tool") if turn.role == "tool" else turn.content
        marked.append(replace(turn, content=content, tool_calls=tuple(map(marked_call, turn.tool_calls))))
    return marked, [marked_tool(tool) for tool in tools], marks


def _is_inside_thought(start: str, text: str) -> bool:
    """Whether a text that was cut ends in a thought, which it or the generation prompt began."""
    if THINK in text:
        return text.rfind(THINK) > text.rfind(END_THINK)
    return start.rstrip().endswith(THINK) and END_THINK not in text


def _continues(opened: str | None, start: str, text: str) -> bool:
    """Whether the template put the text right after the prompt, trimmed or not."""
    return opened is not None and opened.startswith(start) and opened[len(start) :].strip() == text.strip()


def _without_repeated_think(start: str, text: str) -> str:
    """The prompt without the <think> that it ends with, where the text begins with one."""
    if start.rstrip().endswith(THINK) and text.lstrip().startswith(THINK):
        return start.rstrip().removesuffix(THINK)
    return start
