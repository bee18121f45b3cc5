"""What managers change: roles, the state of a project, and items with a known answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from guerdon.annotation.accounts import Account, list_accounts, set_state
from guerdon.annotation.adjudicating import case
from guerdon.annotation.errors import NotYours, RequestError
from guerdon.annotation.project import Project, add_items
from guerdon.contracts import Preference
from guerdon.store import annotation_tables, tables
from guerdon.store.database import Database
from guerdon.store.items import Item, contents_of

__all__ = ["GIVEN_ROLES", "change_person", "known_answers", "set_known_answer"]

GIVEN_ROLES: Final = ("manager", "adjudicator", "annotator", "viewer")  # by a manager; owners alone make owners


def change_person(
    database: Database, by: Account, account_id: str, state: str | None = None, role: str | None = None
) -> None:
    """Pause or resume an account, or give it another role. Nobody changes oneself, and only owners change owners."""
    account = next((each for each in list_accounts(database) if each.id == account_id), None)
    if account is None:
        raise NotYours("there is no such account. Reload the page.")
    if account.id == by.id:
        raise RequestError("your own account must be changed by somebody else. Ask another manager.")
    if account.role == "owner" and by.role != "owner":
        raise RequestError("an owner must be changed by an owner. Ask one.")
    if state is not None:
        if state not in ("active", "paused"):
            raise RequestError("state must be active or paused. Choose one of these.")
        set_state(database, account.id, state)
    if role is not None:
        allowed = (*GIVEN_ROLES, "owner") if by.role == "owner" else GIVEN_ROLES
        if role not in allowed:
            raise RequestError(f"role must be one of {', '.join(allowed)}. Choose one of these.")
        accounts = annotation_tables.accounts
        with database.writing() as connection:
            connection.execute(sa.update(accounts).where(accounts.c.id == account.id).values(role=role))


def set_known_answer(
    project: Project, item_id: str, preference: Preference, by: str, now: float, purpose: str = "gold"
) -> str:
    """Let an item check people: a copy of a task, with the right answer, that comes in between. Returns the copy's id.

    item_id: a task of the project. preference: numbers responses as the item does. purpose: gold, training or attention. Setting it
    again replaces the answer.
    """
    if purpose not in ("gold", "training", "attention"):
        raise RequestError("purpose must be gold, training or attention. Choose one of these.")
    original = case(project, item_id).shown
    copy = Item(original.prompt, original.responses, facts={"purpose": purpose, "project": project.name})
    copy_id = copy.id(contents_of(copy.prompt, copy.responses))
    add_items(project, [replace(copy, facts={"purpose": purpose})])
    groups = [list(group) for group in preference.groups or ()]
    row = {"item_id": copy_id, "groups": groups, "strength": preference.strength, "set_by": by, "at": now}
    table = annotation_tables.gold_answers
    with project.database.writing() as connection:
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        insert = dialect.insert(table).values(row)
        changes = {name: insert.excluded[name] for name in row if name != "item_id"}
        connection.execute(insert.on_conflict_do_update(index_elements=["item_id"], set_=changes))
    return copy_id


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
