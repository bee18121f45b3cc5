"""OpenAI's summarize_from_feedback: two summaries of a post or an article."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from guerdon.contracts import Comparison, Message, Preference, Prompt, Response
from guerdon.data.importers.columns import Row, required, required_list, to_comparison
from guerdon.data.importers.pairs import two_responses
from guerdon.data.importers.reading import Reading
from guerdon.errors import LabelError, field_error
from guerdon.io.fields import as_name, as_text, is_absent, to_number

NOTES = "notes on summaries, which workers wrote before they read the post, and which are left out"
UNCERTAIN = 5  # the middle of the scale of confidence, which goes from 1 to 9
NAMES = ("summaries[0].text", "summaries[1].text")


def from_summaries(row: Row, reading: Reading) -> Comparison:
    """{info: {post, title?, subreddit?} or {article, title?}, summaries: [{text, policy?, note?}] of two, choice: 0 or 1, worker?,
    extra: {confidence}?}: choice is the number of the better one. A note is
    how its worker understood a summary before reading the post, which is no reason for the choice: notes are left out and counted.

    The confidence is the strength. Where a file counts it from "certainly the first" to "certainly the second", so that each choice
    of the first has at most 5 and each of the second at least 5, its distance from 5 is.
    """
    choice, confidence = _choice(row), _confidence(row)
    strength = confidence
    if confidence is not None and _has_two_sides(reading):
        strength = abs(confidence - UNCERTAIN)
    values = required_list(row, "summaries")
    if len(values) != 2 or not all(isinstance(value, Mapping) for value in values):
        raise field_error("summaries", "a list of two objects", values)
    a, b = two_responses([_summary(value, i) for i, value in enumerate(values)], *NAMES)
    for value in values:
        if value.get("note"):
            reading.note(NOTES)
    given = {"annotator": row.get("worker")}
    preference = Preference(groups=((0,), (1,)) if choice == 0 else ((1,), (0,)), strength=strength)
    return to_comparison({**given, **row}, Prompt([Message("user", _text(row))]), (a, b), preference)


def labels_of_summaries(row: Row) -> list[object]:
    """The confidence of a row, below 0 where the first is better."""
    confidence = _confidence(row)
    return [] if confidence is None else [confidence if _choice(row) else -confidence]


def _has_two_sides(reading: Reading) -> bool:
    numbers = reading.label.numbers
    first, second = [-value for value in numbers if value < 0], [value for value in numbers if value > 0]
    return bool(first and second) and max(first) <= UNCERTAIN <= min(second)


def _choice(row: Row) -> int:
    choice = required(row, "choice")
    if choice not in (0, 1) or isinstance(choice, bool):
        advice = "Correct the row: if only it were left out, the others could favor one side."
        raise LabelError(str(field_error("choice", "0 or 1", choice, advice)))
    return int(choice)


def _confidence(row: Row) -> float | None:
    extra = row.get("extra")
    value = extra.get("confidence") if isinstance(extra, Mapping) else None
    return None if is_absent(value) else to_number(value, "extra.confidence", "a number from 1 to 9", low=1, high=9)


def _summary(value: Mapping[str, Any], i: int) -> Response:
    policy = value.get("policy")
    author = None if is_absent(policy) else as_name(policy, f"summaries[{i}].policy")
    return Response(as_text(value.get("text"), NAMES[i]), author=author)


def _text(row: Row) -> str:
    """What is summarized, in the layout in which OpenAI's models read a post."""
    info = required(row, "info")
    post = (
        next((info[name] for name in ("post", "article") if not is_absent(info.get(name))), None)
        if isinstance(info, Mapping)
        else None
    )
    if not isinstance(post, str) or not post.strip():
        raise field_error("info", "an object with the text of a post or an article", info)
    if is_absent(info.get("subreddit")):
        title = "" if is_absent(info.get("title")) else f"Title: {info['title']}\n\n"
        return f"{title}Article:\n\n{post}\n\nTL;DR:" if is_absent(info.get("post")) else f"{title}{post}\n\nTL;DR:"
    title = info.get("title") or ""
    return f"SUBREDDIT: r/{info['subreddit']}\n\nTITLE: {title}\n\nPOST: {post}\n\nTL;DR:"
