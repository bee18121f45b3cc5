"""What a person is given to judge, and the presentation in the store that stands for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from guerdon.annotation.project import Project
from guerdon.annotation.sides import token
from guerdon.contracts import Prompt, Response
from guerdon.io.schema import prompt_from_row, response_from_row
from guerdon.store import tables
from guerdon.store.direct import Statement, Transaction

__all__ = ["Assignment", "Shown", "assignment", "contents", "handles_of"]

PRESENTATIONS: Final = tables.presentations.c
_COLUMNS: Final = (
    "id", "item_id", "annotator_id", "shown", "origin", "state", "slot", "handles", "issued", "expires",
    "guidelines_version", "words",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Assignment:
    """An item that a person judges. responses and handles: in the order shown. answer: the one given before, if any.

    purpose, item_id and the authors of responses never leave the server.
    """

    presentation_id: str
    item_id: str
    purpose: str
    prompt: Prompt
    responses: tuple[Response, ...]
    handles: tuple[str, ...]
    issued: float
    expires: float
    answer: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """A prompt with its responses in the order of the item, and how many words people read."""

    prompt: Prompt
    responses: tuple[Response, ...]

    @property
    def words(self) -> int:
        """Words of the last turn and of all responses, by white space."""
        last = self.prompt[-1].content if self.prompt else ""
        return sum(len(text.split()) for text in (last, *(response.text for response in self.responses)))


@dataclass(frozen=True, slots=True)
class Presented:
    """The columns of a presentation that an assignment has."""

    id: str
    item_id: str
    shown: tuple[int, ...]
    handles: tuple[str, ...]
    issued: float
    expires: float


_CONTENTS: Final = Statement(
    sa.select(tables.prompts.c.content.label("prompt"), tables.responses.c.content.label("response"))
    .join_from(tables.item_responses, tables.responses, tables.responses.c.id == tables.item_responses.c.response_id)
    .join(
        tables.prompts,
        sa.and_(tables.prompts.c.id == tables.responses.c.prompt_id, tables.item_responses.c.position == 0),
        isouter=True,  # the prompt comes once, with the first response
    )
    .where(tables.item_responses.c.item_id == bindparam("item_id"))
    .order_by(tables.item_responses.c.position)
)


def _held_again(insert: Any) -> Any:
    """A new presentation, or one that was given back and is held again."""
    statement = insert(tables.presentations)
    again = {name: statement.excluded[name] for name in ("state", "issued", "expires")}
    return statement.on_conflict_do_update(index_elements=["id"], set_=again)


HOLD: Final = Statement(_held_again, _COLUMNS)


def contents(transaction: Transaction, item_id: str) -> Shown:
    """The prompt and the responses of an item."""
    rows = transaction.all(_CONTENTS, item_id=item_id)
    prompt = rows[0].prompt
    return Shown(
        prompt_from_row(prompt["prompt"], prompt.get("tools")),
        tuple(response_from_row(row.response, "response") for row in rows),
    )


def handles_of(project: Project, presentation_id: str, shown: Sequence[int]) -> tuple[str, ...]:
    """A name for each response, in the order shown, that says nothing about it and differs for each person."""
    return tuple(token(project.secret, "handle", presentation_id, i, length=12) for i in shown)


def assignment(row: Any, purpose: str, shown: Shown, answer: dict[str, Any] | None = None) -> Assignment:
    """The assignment of a presentation. row: its columns id, item_id, shown, handles, issued and expires."""
    return Assignment(
        row.id,
        row.item_id,
        purpose,
        shown.prompt,
        tuple(shown.responses[i] for i in row.shown),
        tuple(row.handles),
        row.issued,
        row.expires,
        answer,
    )
