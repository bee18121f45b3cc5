"""A model trained while people judge, here on the tiny model."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from annotation.worlds import PLAIN, World, pairs

from guerdon.annotation.project import add_items, create_project
from guerdon.annotation.summaries import read_summaries
from guerdon.api.annotation_training import Trainer, train_once
from guerdon.config import AnnotationOptions
from guerdon.contracts import Comparison, GuerdonError, Preference, Response
from guerdon.store.database import open_database
from guerdon.store.location import locate
from guerdon.store.schema import migrate

LABELS = 60
RESULT = '{"trained": 8, "held_out": 4, "accuracy": {"value": 0.75, "low": 0.3, "high": 1.0, "n": 4}}'


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_database(locate(tmp_path / "a.db"), create=True) as database:
        migrate(database)
        options = AnnotationOptions(**{**PLAIN, "rationale": "off"})
        yield World(create_project(database, "p", options, secret="secret"))


def judged(world: World, number: int) -> None:
    """So many judgments, which all prefer the good answer."""
    rows = []
    for i in range(number):
        responses = Response("a good and kind answer"), Response("a bad and rude answer")
        rows.append(Comparison(f"question {i}", responses, Preference(q=1.0)))
    add_items(world.project, rows)
    for _ in range(number):
        assignment = world.claim("ann")
        world.submit("ann", assignment, verdict=-2 if "good" in assignment.responses[0].text else 2)


def summary(world: World, name: str) -> object:
    return read_summaries(world.project.database, "p").get(name, {"content": None})["content"]


def until_idle(trainer: Trainer, world: World) -> None:
    for _ in range(600):
        time.sleep(0.05)
        trainer.step()
        if not summary(world, "training"):
            return
    raise AssertionError("the training did not end")


def program(text: str, pids: list[int] | None = None):
    """A start of a program in place of a training."""

    def start(store, project, model, output, errors):
        process = subprocess.Popen([sys.executable, "-c", text], stdout=output, stderr=errors, start_new_session=True)
        if pids is not None:
            pids.append(process.pid)
        return process

    return start


def test_a_model_learns_what_people_prefer_and_is_measured_on_prompts_it_has_not_seen(world, tmp_path, tiny_dir):
    judged(world, LABELS)
    result = train_once(str(tmp_path / "a.db"), "p", str(tiny_dir))
    assert result["trained"] + result["held_out"] == LABELS
    assert result["held_out"] == result["accuracy"]["n"] >= 4
    assert result["accuracy"]["low"] <= result["accuracy"]["value"] <= result["accuracy"]["high"]
    assert result["accuracy"]["value"] > 0.9  # good and kind against bad and rude: one look at the words


def test_too_few_labels_are_told_in_one_line(world, tmp_path, tiny_dir):
    judged(world, 3)
    with pytest.raises(GuerdonError, match="Judge more"):
        train_once(str(tmp_path / "a.db"), "p", str(tiny_dir))


def test_each_so_many_judgments_give_one_point_and_a_new_server_goes_on_from_the_last(world):
    trainer = Trainer(world.project.database, 5, "starter", program(f"print('{RESULT}')"))
    judged(world, 4)
    trainer.step()
    assert not summary(world, "training")
    assert summary(world, "learning") is None
    judged_more(world, 4, 1)
    trainer.step()
    assert summary(world, "training") == {"judgments": 5}
    until_idle(trainer, world)
    trainer.step()
    again = Trainer(world.project.database, 5, "starter", program(f"print('{RESULT}')"))
    again.step()  # five judgments were trained on by the server before
    assert [point["judgments"] for point in summary(world, "learning")] == [5]
    judged_more(world, 5, 5)
    again.step()
    until_idle(again, world)
    points = summary(world, "learning")
    assert [point["judgments"] for point in points] == [5, 10]
    assert points[-1]["accuracy"]["value"] == 0.75


def judged_more(world: World, start: int, number: int) -> None:

    add_items(world.project, pairs(number, start=start))
    for _ in range(number):
        world.submit("ann", world.claim("ann"), verdict=-1)


def test_a_failure_is_shown_in_the_words_of_its_last_line_and_the_next_training_comes(world):
    failing = "import sys; print('error: disk is full', file=sys.stderr); sys.exit(2)"
    trainer = Trainer(world.project.database, 2, "starter", program(failing))
    judged_more(world, 0, 2)
    trainer.step()
    until_idle(trainer, world)
    assert summary(world, "learning")[-1]["error"] == "disk is full"
    judged_more(world, 2, 2)
    trainer.step()
    assert summary(world, "training") == {"judgments": 4}
    trainer.stop()


def test_a_wrong_model_is_a_failure_in_plain_words(world, tmp_path):
    judged(world, LABELS)
    trainer = Trainer(world.project.database, LABELS, str(tmp_path / "nowhere"))
    trainer.step()
    until_idle(trainer, world)
    [point] = summary(world, "learning")
    assert "nowhere" in point["error"]
    assert "Traceback" not in point["error"]


def test_a_training_ends_with_the_server_and_begins_again_with_the_next(world):
    pids: list[int] = []
    sleeping = "import time; time.sleep(600)"
    trainer = Trainer(world.project.database, 2, "starter", program(sleeping, pids))
    judged_more(world, 0, 2)
    trainer.step()
    trainer.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
    assert not summary(world, "training")
    assert summary(world, "learning") is None
    again = Trainer(world.project.database, 2, "starter", program(f"print('{RESULT}')"))
    again.step()
    until_idle(again, world)
    assert [point["judgments"] for point in summary(world, "learning")] == [2]
