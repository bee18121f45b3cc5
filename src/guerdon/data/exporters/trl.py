"""TRL's preference rows: the prompt in its own column or in front of both responses, as messages or as text."""

from __future__ import annotations

import re

from guerdon.contracts import GuerdonError, Prompt
from guerdon.data.exporters.columns import (
    Job,
    Row,
    answerable,
    messages,
    plain_prompt,
    plain_response,
    response_turns,
    tools_column,
)
from guerdon.data.exporters.pairs import Pair
from guerdon.data.importers.plain_text import ASSISTANT, HUMAN
from guerdon.io.shared_prompt import response_start

__all__ = ["explicit_messages", "explicit_text", "implicit_messages", "implicit_text"]

_MARK = re.compile(r"\n\n(Human|Assistant):")


def explicit_messages(pair: Pair, job: Job) -> Row:
    """{prompt: [message], chosen: [message], rejected: [message], tools?: JSON text}."""
    chosen, rejected = _sides(pair, job)
    return {
        "prompt": messages(answerable(pair.prompt), job),
        "chosen": chosen,
        "rejected": rejected,
        **tools_column(pair.prompt),
    }


def implicit_messages(pair: Pair, job: Job) -> Row:
    """{chosen: [message], rejected: [message], tools?: JSON text}, each the whole conversation."""
    chosen, rejected = _sides(pair, job)
    prompt = messages(answerable(pair.prompt), job)
    return {"chosen": prompt + chosen, "rejected": prompt + rejected, **tools_column(pair.prompt)}


def _sides(pair: Pair, job: Job) -> tuple[list[Row], list[Row]]:
    """The messages of both responses. Turns with which both begin are the end of the prompt to whoever reads them."""
    chosen, rejected = response_turns(pair.chosen), response_turns(pair.rejected)
    if chosen[0] == rejected[0] and response_start(Prompt(chosen), Prompt(rejected)):
        job.losses.add("where the prompt ends")
    return messages(chosen, job), messages(rejected, job)


def explicit_text(pair: Pair, job: Job) -> Row:
    """{prompt: text, chosen: text, rejected: text}. TRL joins prompt and response as they are, without a space between."""
    return {
        "prompt": plain_prompt(pair.prompt, job, "trl"),
        "chosen": plain_response(pair.chosen, job, "trl"),
        "rejected": plain_response(pair.rejected, job, "trl"),
    }


def implicit_text(pair: Pair, job: Job) -> Row:
    """{chosen: text, rejected: text}: transcripts as in HH-RLHF, with marks that say where the prompt ends."""
    prompt = answerable(pair.prompt)
    texts = [plain_response(response, job, "trl-implicit") for response in (pair.chosen, pair.rejected)]
    if prompt.tools or prompt[0].role != "user" or any(turn.role not in ("user", "assistant") for turn in prompt):
        got = ", ".join(turn.role for turn in prompt[:6]) + (" with tools" if prompt.tools else "")
        advice = "Write --to trl-implicit, which holds them."
        raise GuerdonError(f"prompt must be turns of user and assistant for {job.options.format}, got {got}. {advice}")
    contents = [turn.content for turn in prompt]
    if any(_MARK.search(f" {text}") for text in (*contents, *texts)):
        raise GuerdonError("texts must hold no mark of a turn, such as Human:, got one. Write --to trl-implicit.")
    if any(text != text.strip() for text in (*contents, *texts)):
        job.losses.add("white space at the ends of texts")
    marks = (HUMAN if turn.role == "user" else ASSISTANT for turn in prompt)
    start = "".join(f"{mark} {content}" for mark, content in zip(marks, contents, strict=True))
    chosen, rejected = (f"{start}{ASSISTANT} {text}" for text in texts)
    return {"chosen": chosen, "rejected": rejected}
