"""Items whose answer is known: gold and training items that an administrator sets, and attention items that are made.

An item counts for what it was added as, so a known answer to a task makes a gold item of the same content, and the task is
retired: nobody meets the pair twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa

from guerdon.annotation.counting import OPEN_TO_ALL, count_in
from guerdon.annotation.project import Project, add_items
from guerdon.annotation.sides import hashed
from guerdon.contracts import GuerdonError, Response
from guerdon.errors import field_error
from guerdon.io.schema import prompt_from_row, response_from_row
from guerdon.store import annotation_tables, tables
from guerdon.store.items import Item, contents_of, unjudged_item

__all__ = ["add_attention_items", "known_answers", "set_gold"]

POOL: Final = 20  # items from which the reply to another prompt is drawn, for each attention item


def set_gold(
    project: Project,
    item_id: str,
    groups: Sequence[Sequence[int]],
    strength: float | None,
    by: str,
    now: float = 0.0,
    purpose: str = "gold",
) -> str:
    """Set the known answer to an item, replacing one that is there; returns the id of the item that people get to see.

    groups: positions in the item, in the order of its responses' ids (not as shown to anybody), best first.
    purpose: gold, training or attention, for an item that is a task so far.
    """
    row, item = _item(project, item_id)
    if sorted(i for group in groups for i in group) != list(range(len(item.responses))):
        raise field_error("groups", f"the positions 0 to {len(item.responses) - 1}, each once", groups, "Correct it.")
    if row["purpose"] in OPEN_TO_ALL:
        item_id = _add(project, replace(item, facts={"purpose": purpose}))
    answer = {"groups": [list(group) for group in groups], "strength": strength, "set_by": by, "at": now}
    gold = annotation_tables.gold_answers
    with project.database.writing() as connection:
        connection.execute(sa.delete(gold).where(gold.c.item_id == item_id))
        connection.execute(sa.insert(gold), {"item_id": item_id, **answer})
        if row["purpose"] in OPEN_TO_ALL and row["status"] == "open":
            items = tables.items
            connection.execute(sa.update(items).where(items.c.id == row["id"]).values(status="retired"))
            changes = {f"items:{row['purpose']}:open": -1, f"items:{row['purpose']}:retired": 1}
            count_in(connection, project.name, {**changes, "needed": -_missing(connection, row)})
    return item_id


def add_attention_items(project: Project, number: int, now: float = 0.0) -> int:
    """Add items in which one response is a reply to another prompt; returns how many. Whoever reads both picks the other one.

    They are drawn from the pairs of the project, by its secret: the same number again adds nothing.
    """
    items, links, prompts = tables.items.c, tables.item_responses.c, tables.prompts.c
    query = (
        sa.select(items.id, prompts.content.label("prompt"), tables.responses.c.content.label("response"))
        .join_from(tables.items, tables.prompts, prompts.id == items.prompt_id)
        .join(tables.item_responses, sa.and_(links.item_id == items.id, links.position == 0))
        .join(tables.responses, tables.responses.c.id == links.response_id)
        .where(items.project == project.name, items.purpose == "task")
        .order_by(items.id)
        .limit(number * POOL)
    )
    with project.database.reading() as connection:
        rows = sorted(
            connection.execute(query).mappings(), key=lambda row: hashed(project.secret, "attention", row["id"])
        )
    if len(rows) < 2:
        raise GuerdonError("attention items must be drawn from two pairs at least, got fewer. Add items first.")
    added = 0
    for row, other in zip(rows[:number], (*rows[1:], rows[0]), strict=False):
        prompt = prompt_from_row(row["prompt"]["prompt"], row["prompt"].get("tools"))
        right, wrong = (response_from_row(each["response"], "response") for each in (row, other))
        if right.text == wrong.text or row["prompt"] == other["prompt"]:
            continue
        pair = (right, Response(wrong.text, wrong.finish))
        item, shown = unjudged_item(prompt, pair)
        item_id = _add(project, replace(item, facts={"purpose": "attention"}))
        set_gold(project, item_id, [[shown[0]], [shown[1]]], None, "guerdon", now)
        added += 1
    return added


def known_answers(project: Project, limit: int = 100) -> Sequence[sa.RowMapping]:
    """Items with a known answer, the newest first: item_id, purpose, groups, strength, set_by, at and the prompt's content."""
    gold, items = annotation_tables.gold_answers.c, tables.items.c
    query = (
        sa.select(
            gold.item_id, items.purpose, gold.groups, gold.strength, gold.set_by, gold.at, tables.prompts.c.content
        )
        .join_from(annotation_tables.gold_answers, tables.items, items.id == gold.item_id)
        .join(tables.prompts, tables.prompts.c.id == items.prompt_id)
        .order_by(gold.at.desc())
    )
    with project.database.reading() as connection:  # few: a condition on the project would scan its items
        rows = connection.execute(query.add_columns(items.project)).mappings().all()
    return [row for row in rows if row["project"] == project.name][:limit]


def _add(project: Project, item: Item) -> str:
    """Add an item; returns its id."""
    add_items(project, [item])
    facts = {**item.facts, "project": project.name}
    return replace(item, facts=facts).id(contents_of(item.prompt, item.responses))


def _missing(connection: sa.Connection, row: Any) -> int:
    """How many judgments an item still needs."""
    presentations = tables.presentations.c
    is_submitted = (presentations.item_id == row["id"], presentations.state == "submitted")
    number = int(connection.scalar(sa.select(sa.func.count()).where(*is_submitted)) or 0)
    return max(0, int(row["need"]) - number)


def _item(project: Project, item_id: str) -> tuple[Any, Item]:
    """The row of an item of the project, and the item without judgments."""
    items, links = tables.items, tables.item_responses.c
    with project.database.reading() as connection:
        query = sa.select(items).where(items.c.id == item_id, items.c.project == project.name)
        row = connection.execute(query).mappings().first()
        if row is None:
            raise field_error("item", f"one of project {project.name!r}", item_id, "Correct the id.")
        content = sa.select(tables.prompts.c.content).where(tables.prompts.c.id == row["prompt_id"])
        prompt: Any = connection.scalar(content)
        responses = connection.scalars(
            sa.select(tables.responses.c.content)
            .join(tables.item_responses, links.response_id == tables.responses.c.id)
            .where(links.item_id == item_id)
            .order_by(links.position)
        )
        item = Item(
            prompt_from_row(prompt["prompt"], prompt.get("tools")),
            tuple(response_from_row(content, "response") for content in responses),
        )
    return row, item
