"""What the formats share: messages, tools, the margin, and the columns of our own that trainers leave unread."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from guerdon.config import ExportOptions
from guerdon.contracts import Comparison, GuerdonError, Message, Prompt, Response
from guerdon.conversation import message_dict
from guerdon.data.exporters.losses import Losses
from guerdon.data.exporters.pairs import Pair
from guerdon.errors import field_error

Row = dict[str, Any]


@dataclass(slots=True)
class Job:
    """One export while it runs: its options and losses.

    arguments_as_text: whether the arguments of tool calls are written as JSON text, because each column of the file has one type;
    otherwise they are objects, which is what chat templates take. has_margin: whether the rows so far have a margin.
    """

    options: ExportOptions
    losses: Losses = field(default_factory=Losses)
    arguments_as_text: bool = False
    has_margin: bool | None = None


# ---- Conversations -------------------------------------------------------------------------------------------------


def messages(turns: Iterable[Message], job: Job) -> list[Row]:
    """Messages as chat templates take them."""
    rows = []
    for turn in turns:
        row = message_dict(turn)
        if job.arguments_as_text:
            for call, written in zip(turn.tool_calls, row.get("tool_calls", ()), strict=True):
                written["function"]["arguments"] = call.arguments
        rows.append(row)
    return rows


def response_turns(response: Response) -> tuple[Message, ...]:
    """The turns of a response, a plain text as one turn of the assistant."""
    return response.messages or (Message("assistant", response.text),)


def tools_column(prompt: Prompt) -> Row:
    """The column `tools` of a prompt that has any, as JSON text: trainers parse it, and it has one type in every row."""
    return {"tools": tools_text(prompt)} if prompt.tools else {}


def tools_text(prompt: Prompt) -> str:
    """The definitions of the tools as one JSON list; "" where there are none."""
    return f"[{', '.join(prompt.tools)}]" if prompt.tools else ""


def answerable(prompt: Prompt) -> Prompt:
    """The prompt; an error where its last turn is the assistant's, after which chat templates refuse the response."""
    if prompt[-1].role == "assistant":
        advice = "Move the beginning of the answer into the responses, or write --to native."
        raise field_error("the last message of the prompt", "a user, tool or system message", "assistant", advice)
    return prompt


def plain_prompt(prompt: Prompt, job: Job, instead: str) -> str:
    """The text of a prompt that is one turn of the user; an error for any other, which names the format to take instead."""
    turn = prompt[0]
    if len(prompt) > 1 or turn.role != "user" or turn.name is not None or prompt.tools:
        got = ", ".join([message.role for message in prompt][:6]) + (" with tools" if prompt.tools else "")
        raise GuerdonError(
            f"prompt must be one user turn for {job.options.format}, got {got}. Write --to {instead}, which holds turns."
        )
    if not turn.content.strip():
        raise field_error("prompt", "text that is not empty", turn.content)
    return turn.content


def plain_response(response: Response, job: Job, instead: str) -> str:
    """The text of a response that is one; an error for one of several messages or with tool calls."""
    if response.messages:
        got = ", ".join(message.role for message in response.messages[:6])
        raise GuerdonError(
            f"responses must be plain texts for {job.options.format}, got messages ({got}). Write --to {instead}, which holds them."
        )
    return response.text


# ---- Columns beside the conversation -------------------------------------------------------------------------------


def extras(comparison: Comparison, job: Job) -> Row:
    """Our own columns of a comparison, where they are wanted: each has the name under which our importers read it."""
    if not job.options.extras:
        return {}
    votes, strength = comparison.preference.votes, comparison.preference.strength
    row = {
        "id": comparison.id,
        "group": comparison.group,
        "annotator": comparison.annotator,
        "source": comparison.source,
        "rationale": comparison.rationale,
        "weight": None if comparison.weight == 1.0 else float(comparison.weight),
        "strength": None if strength is None else float(strength),
        "n_votes": None if votes is None else sum(votes),
    }
    return {key: value for key, value in row.items() if value is not None}


def pair_extras(pair: Pair, job: Job) -> Row:
    """Our own columns of a pair, with how sure the preference is and how far apart the two ranked."""
    if not job.options.extras:
        return {}
    row = extras(pair.comparison, job) | {"id": pair.id}
    row.pop("strength", None)
    judged = {"p_chosen": pair.p_chosen, "strength": pair.strength, "rank_gap": pair.rank_gap}
    return row | {key: value for key, value in judged.items() if value is not None}


def margin_column(pair: Pair, job: Job, needs_all: bool) -> Row:
    """The column `margin`: strength times the scale. Where a trainer needs it in all rows or in none, a mixture is an error."""
    margin = _margin(pair, job.options)
    has_margin = margin is not None
    if needs_all and job.has_margin not in (None, has_margin):
        here, before = ("one", "none") if has_margin else ("none", "one")
        ties = " --ties drop" if job.options.ties == "margin0" else ""
        raise MixedMargins(
            f"{pair.prompt.location or pair.id}: a margin must be in all rows or in none for {job.options.format}, got {here} here "
            f"and {before} before. Write --margin-scale 0{ties} for none."
        )
    job.has_margin = has_margin
    return {"margin": margin} if has_margin else {}


def _margin(pair: Pair, options: ExportOptions) -> float | None:
    """The margin of a pair: 0 for a tie that is written as a preference; None where its strength is unknown.

    Of a ranking only the best and the worst response have a strength, so its pairs have margins where they are all such pairs.
    """
    if pair.is_tie and options.ties == "margin0":
        return 0.0
    is_known = pair.rank_gap is None or options.pairs == "best_vs_worst"
    if pair.strength is None or not is_known or options.margin_scale == 0:
        return None
    return pair.strength * options.margin_scale


class MixedMargins(GuerdonError):
    """An error of the whole file: leaving such rows out would change what the others mean."""


# ---- Rows as JSON --------------------------------------------------------------------------------------------------


def to_line(row: Mapping[str, Any]) -> bytes:
    """The row as one line of JSON; an error for half a character, at which the JSON reader of `datasets` gives up the whole file."""
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError as error:
        half = error.object[error.start : error.end]
        raise field_error("text", "whole characters", half, "Correct the text, or write --to native.") from None
    except ValueError:
        raise GuerdonError("numbers must be finite, got one that is not. Leave it out, or drop the row.") from None
