"""Published votes, given again through claims and answers: the kappas are the published ones."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from annotation.worlds import PLAIN, World

from guerdon.annotation.assignments import Assignment
from guerdon.annotation.project import add_items, create_project
from guerdon.annotation.status import project_status
from guerdon.annotation.summaries import summarize
from guerdon.config import AnnotationOptions
from guerdon.contracts import Response, as_prompt
from guerdon.store.database import open_database
from guerdon.store.items import Item, unjudged_item
from guerdon.store.location import locate
from guerdon.store.schema import migrate

DATA = Path(__file__).parents[3] / "shared" / "data"


def rows(name: str) -> Iterator[dict]:
    path = DATA / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def item_of(row: dict) -> Item:
    prompt = as_prompt(row["prompt"][0]["content"])
    return unjudged_item(prompt, (Response(row["response_a"]), Response(row["response_b"])))[0]


def verdict_of(label: str, row: dict, responses: list[str]) -> int:
    """The published vote as it is given on what is shown."""
    if label == "tie":
        return 0
    better = row["response_a" if label == "a" else "response_b"]
    return -1 if responses[0] == better else 1


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_database(locate(tmp_path / "votes.db"), create=True) as database:
        migrate(database)
        options = AnnotationOptions(**{**PLAIN, "verdict": "binary_tie", "need": 3, "rationale": "off"})
        yield World(create_project(database, "p", options, secret="secret"))


def test_the_kappas_of_pandalms_annotators_are_the_published_ones(world):
    """PandaLM's README (WeOpenML/PandaLM, "Test data"): 0.85, 0.88 and 0.86 on all 999 pairs; these are 549 of them."""
    votes = list(rows("pandalm_votes"))
    by_texts = {(row["prompt"][0]["content"], frozenset((row["response_a"], row["response_b"]))): row for row in votes}
    add_items(world.project, [item_of(row) for row in by_texts.values()])
    for name in ("annotator1", "annotator2", "annotator3"):
        while isinstance(assignment := world.claim(name), Assignment):
            shown = [response.text for response in assignment.responses]
            row = by_texts[assignment.prompt[-1].content, frozenset(shown)]
            label = next(vote["label"] for vote in row["votes"] if vote["annotator"] == name)
            world.submit(name, assignment, verdict=verdict_of(label, row, shown))
    content = summarize(world.project, world.now)
    kappas = {(row["a"], row["b"]): row["kappa"] for row in content["agreement"]["kappas"]}
    published = {(1, 2): 0.85, (1, 3): 0.88, (2, 3): 0.86}
    assert len(kappas) == 3
    for (a, b), value in published.items():
        kappa = kappas.get((f"annotator{a}", f"annotator{b}")) or kappas[f"annotator{b}", f"annotator{a}"]
        assert kappa["value"] == pytest.approx(value, abs=0.02)
        assert kappa["low"] < value < kappa["high"]
    assert project_status(world.project, world.now)["remaining_judgments"] == 0
