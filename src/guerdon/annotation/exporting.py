"""The items of a project as comparisons, with pseudonyms for people unless their names are wanted."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Final

from guerdon.annotation.counting import OPEN_TO_ALL
from guerdon.annotation.project import Project
from guerdon.annotation.sides import token
from guerdon.contracts import Comparison
from guerdon.store.items import Item, Judgment, comparisons_of
from guerdon.store.reader import items_in

__all__ = ["exported", "pseudonym"]

PSEUDONYM_CHARACTERS: Final = 12


def exported(
    project: Project,
    *,
    each: bool = False,
    all_revisions: bool = False,
    names: bool = False,
    by_people: bool = False,
    purposes: Collection[str] = OPEN_TO_ALL,
) -> Iterator[Comparison]:
    """One comparison per item that was judged: its label, or else its votes together. In constant memory.

    each: one per judgment instead, in the order shown, with who gave it. all_revisions: those that were replaced too, each with an
    id ITEM/PERSON/REVISION. names: people's names in place of pseudonyms, which are the same in all exports of a project.
    by_people: leave out what AI judges said of the items. purposes: of the items; gold, attention, training and repeated items are
    left out unless named.
    """
    with project.database.reading() as connection:
        for item_id, item in items_in(connection, project.name):
            if item.facts.get("purpose", "task") not in purposes:
                continue
            if by_people:
                item = replace(item, judgments=tuple(own for own in item.judgments if own.annotator.kind == "human"))
            item = item if names else _without_names(project, item)
            if all_revisions:
                yield from _revisions(item_id, item)
            else:
                yield from comparisons_of(item, each)


def pseudonym(project: Project, annotator_id: str) -> str:
    """What a person is called outside: it cannot be turned back without the project's secret."""
    return token(project.secret, "pseudonym", annotator_id, length=PSEUDONYM_CHARACTERS)


def _without_names(project: Project, item: Item) -> Item:
    def hidden(judgment: Judgment) -> Judgment:
        who = judgment.annotator
        if who.kind != "human":
            return judgment
        other = replace(who, name=pseudonym(project, who.id))
        return replace(judgment, annotator=other, earlier=tuple(map(hidden, judgment.earlier)))

    return replace(item, judgments=tuple(map(hidden, item.judgments)))


def _revisions(item_id: str, item: Item) -> Iterator[Comparison]:
    for judgment in item.judgments:
        for number, revision in enumerate((*judgment.earlier, judgment), start=1):
            alone = replace(item, judgments=(replace(revision, earlier=()),), labels=())
            key = f"{item_id}/{judgment.annotator.name or 'unnamed'}/{number}"
            for comparison in comparisons_of(alone, each=True):
                yield replace(comparison, id=key)
