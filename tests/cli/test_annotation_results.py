"""guerdon annotation status, labels, export and adjudicate as a user sees them, after three people judged four pairs."""

from __future__ import annotations

import json
import time

import pytest
from annotation.worlds import PLAIN
from comparison_files import write_rows
from shell import guerdon

from guerdon.annotation.accounts import create_account
from guerdon.annotation.answers import Answer
from guerdon.annotation.claiming import claim
from guerdon.annotation.project import add_annotator, load_project
from guerdon.annotation.submitting import submit
from guerdon.api.data import stream_comparisons
from guerdon.config import ImportOptions
from guerdon.store.database import open_database
from guerdon.store.location import locate

PAIRS = {
    "spider": ("Eight.", "Six."),
    "color": ("Red.", "Tuesday."),
    "fish": ("Sand.", "Cod."),
    "tree": ("Oak.", "Nine."),
}
BEST = {  # what each person prefers; None for a tie
    "ann": {"spider": "Eight.", "color": "Red.", "fish": "Sand.", "tree": "Oak."},
    "bob": {"spider": "Eight.", "color": "Red.", "fish": "Cod.", "tree": "Oak."},
    "eve": {"spider": "Eight.", "color": "Tuesday.", "fish": None, "tree": "Oak."},
}


def options(**others):
    return [f"annotation.{name}={value}" for name, value in {**PLAIN, "need": 3, **others}.items()]


def start(folder, rows, **others):
    """An empty project with these rows."""
    write_rows(folder / "pairs.jsonl", *rows)
    for words in (
        ("init", "team.db", "--project", "replies", "--owner", "ada", *options(**others)),
        ("add", "team.db", "pairs.jsonl", "--project", "replies"),
    ):
        assert guerdon("annotation", *words).code == 0


def open_team():
    return open_database(locate("team.db"))


def judge_all(people=tuple(BEST)):
    with open_team() as database:
        project, now = load_project(database, "replies"), time.time() - 600
        for name in people:
            person = add_annotator(database, name)
            for _ in PAIRS:
                assignment = claim(project, person, now)
                better = BEST[name][assignment.prompt[-1].content.split()[-1]]
                verdict = 0 if better is None else -2 if assignment.responses[0].text == better else 2
                submit(project, person, assignment.presentation_id, Answer(verdict=verdict), None, now + 5)


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start(tmp_path, [{"prompt": f"about a {name}", "responses": list(pair)} for name, pair in PAIRS.items()])
    return tmp_path


@pytest.fixture
def here(empty):
    judge_all()
    return empty


def facts(*words):
    ran = guerdon("annotation", *words, "--json")
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def rows_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def shares():
    """P(the response named first in PAIRS is better), as training reads it from the store."""
    read = {}
    for row in stream_comparisons(["store:team.db"], ImportOptions()):
        name = row.prompt[-1].content.split()[-1]
        preference, is_first = row.preference, row.responses[0].text == PAIRS[name][0]
        q = preference.q if preference.q is not None else float(preference.groups[0] == (0,))
        read[name] = q if is_first else 1.0 - q
    return read


def test_training_reads_the_shares_of_votes_as_labels(here):
    written = facts("labels", "team.db", "--method", "majority")
    assert written == {
        "project": "replies", "method": "majority", "labels": 4, "soft": 1, "waiting": 0, "adjudicated": 0,
    }  # fmt: skip
    assert shares() == pytest.approx({"spider": 1.0, "color": 2 / 3, "fish": 0.5, "tree": 1.0})
    assert facts("labels", "team.db")["method"] == "ability"
    by_ability = shares()
    assert 0.5 < by_ability["color"] < by_ability["spider"] < 1.0


def test_a_decision_is_the_label_whatever_method_runs_later(here):
    queue = facts("adjudicate", "team.db")["items"]
    assert {(case["prompt"], case["reason"]) for case in queue} == {
        ("about a fish", "split"),
        ("about a color", "split"),
    }
    (case,) = [each for each in queue if "fish" in each["prompt"]]
    cod = case["responses"].index("Cod.") + 1
    said = {each["name"]: each.get("groups") for each in case["opinions"]}
    assert said == {"ann": [[2 - cod], [cod - 1]], "bob": [[cod - 1], [2 - cod]], "eve": [[0, 1]]}
    ran = guerdon("annotation", "adjudicate", "team.db", case["item"], "--answer", cod, "--rationale", "It swims.")
    assert ran.code == 0
    rows = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert rows[-2:] == ["by ada", f"label {cod} > {3 - cod}"]
    assert [each["prompt"] for each in facts("adjudicate", "team.db")["items"]] == ["about a color"]
    assert facts("labels", "team.db", "--method", "majority")["adjudicated"] == 1
    assert shares() == pytest.approx({"spider": 1.0, "color": 2 / 3, "fish": 0.0, "tree": 1.0})
    facts("export", "team.db", "--out", "trl.jsonl", "--to", "trl")
    assert not any("margin" in row for row in rows_of(here / "trl.jsonl")), "votes together have no strength"


def test_the_queue_is_listed_with_what_each_person_says(here):
    listed = guerdon("annotation", "adjudicate", "team.db").out
    for line in ("  prompt  about a fish", "  eve: 1 = 2", "  ann: 2 > 1"):
        assert line in listed
    assert "about a tree" not in listed


def test_an_order_of_three_is_decided_by_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start(tmp_path, [{"prompt": "Name a color.", "responses": ["Red.", "Blue.", "Six."]}], verdict="rank")
    with open_team() as database:
        with database.reading() as connection:
            item = connection.exec_driver_sql("SELECT id FROM items").scalar()
    decided = facts("adjudicate", "team.db", item, "--answer", "3 > 1=2")
    assert decided["label"] == {"groups": [[2], [0, 1]]}
    ran = guerdon("annotation", "adjudicate", "team.db", item, "--answer", "4>1")
    assert "--answer must be an order of the numbers 1 to 3, such as 2>1=3, got '4>1'" in ran.err
    assert guerdon("annotation", "adjudicate", "team.db", item, "--answer", "1>1>2").code == 2


def test_exports_have_pseudonyms_and_names_on_request(here):
    assert facts("export", "team.db", "--out", "each.jsonl", "--each")["rows"] == 12
    facts("export", "team.db", "--out", "named.jsonl", "--each", "--names")
    hidden, named = ([row["annotator"] for row in rows_of(here / f"{name}.jsonl")] for name in ("each", "named"))
    assert sorted(set(named)) == ["ann", "bob", "eve"]
    assert len(set(zip(hidden, named, strict=True))) == len(set(hidden)) == 3, "one pseudonym for each person"
    assert not set(hidden) & set(named)


def test_each_item_is_a_row_with_its_votes_in_the_formats_of_trainers(here):
    facts("export", "team.db", "--out", "native.jsonl")
    votes = {
        row["prompt"][-1]["content"].split()[-1]: (row["responses"][0]["text"], row["preference"]["votes"])
        for row in rows_of(here / "native.jsonl")
    }
    for name, expected in {"spider": [3, 0, 0], "color": [2, 0, 1], "fish": [1, 1, 1], "tree": [3, 0, 0]}.items():
        first, counts = votes[name]
        assert counts == (expected if first == PAIRS[name][0] else expected[::-1])
    ran = guerdon("annotation", "export", "team.db", "--out", "trl.jsonl", "--to", "trl")
    assert "1 tie (dropped)" in ran.err
    chosen = {
        row["prompt"][-1]["content"].split()[-1]: row["chosen"][-1]["content"] for row in rows_of(here / "trl.jsonl")
    }
    assert chosen == {"spider": "Eight.", "color": "Red.", "tree": "Oak."}


def test_replaced_answers_are_exported_on_request(here):
    with open_team() as database:
        project = load_project(database, "replies")
        with database.reading() as connection:
            query = "SELECT id, annotator_id FROM presentations WHERE state = 'submitted' ORDER BY id LIMIT 1"
            presentation, person = connection.exec_driver_sql(query).one()
        submit(project, person, presentation, Answer(verdict=3), None, time.time())
    assert facts("export", "team.db", "--out", "now.jsonl", "--each")["rows"] == 12
    assert facts("export", "team.db", "--out", "all.jsonl", "--all-revisions", "--names")["rows"] == 13
    replaced = [row["id"].rsplit("/", 1) for row in rows_of(here / "all.jsonl") if row["id"].endswith("/2")]
    (person,) = [key.rsplit("/", 1)[1] for key, _ in replaced]
    assert person in BEST


def test_status_shows_agreement_computed_by_hand(here):
    """Of the three pairs of people none agrees on the fish, one on the color, and all on the others.

    Alpha counts each vote in both orientations: of 24 votes 11 are for the first, 11 for the second and 2 ties.
    """
    ran = guerdon("annotation", "status", "team.db")
    assert "agreement and abilities have not been computed yet; pass --fresh" in ran.err
    fresh = facts("status", "team.db", "--fresh")
    people = fresh["agreement"]["content"]["people"]
    assert people["raw_agreement"]["value"] == pytest.approx((1 / 3 + 0 + 1 + 1) / 4)
    by_chance = 1 - (2 * 11 * 10 + 2) / (24 * 23)
    assert people["alpha_nominal"]["value"] == pytest.approx(1 - (1 - 7 / 12) / by_chance)
    assert (fresh["judgments"], sum(fresh["tasks"].values())) == (12, 4)
    shown = guerdon("annotation", "status", "team.db").out
    assert "two people agree" in shown
    assert "0.583 (" in shown
    assert {row["name"]: row["submitted"] for row in fresh["people"]} == {"ada": 0, "ann": 4, "bob": 4, "eve": 4}


def test_a_project_without_judgments_has_a_status_and_nothing_to_decide(empty):
    assert facts("status", "team.db", "--fresh")["judgments"] == 0
    assert facts("adjudicate", "team.db") == {"items": []}
    assert "nothing waits for a decision" in guerdon("annotation", "adjudicate", "team.db").err
    assert facts("export", "team.db", "--out", "none.jsonl")["rows"] == 0
    ran = guerdon("annotation", "labels", "team.db")
    expected = "error: project 'replies' must have judgments to label, got none. Let people judge first.\n"
    assert (ran.code, ran.err) == (2, expected)


def test_mistakes_are_one_line(here):
    item = facts("adjudicate", "team.db")["items"][0]["item"]
    with open_team() as database:
        create_account(database, "vera", role="viewer", now=1.0)
        create_account(database, "zoe", role="adjudicator", now=1.0)
    mistakes = {
        ("labels", "team.db", "--method", "abilit"): "Did you mean ability?",
        ("status", "team.db", "--project", "reply"): "there is no project 'reply'. Choose from replies.",
        ("status", "other.db"): "other.db: no such store",
        ("export", "team.db", "--out", "x.jsonl", "--include", "golden"): "Did you mean gold?",
        ("export", "team.db", "--out", "x.jsonl", "--to", "trk"): "--to must be a known format, got 'trk'",
        ("export", "team.db", "--out", "x.csv"): "the ending must be",
        ("adjudicate", "team.db", item): "must come with --answer",
        ("adjudicate", "team.db", item, "--answer", "3"): "--answer must be 1, 2, tie or bad, got '3'",
        ("adjudicate", "team.db", item[:6], "--answer", "1"): "item must be a task of this project",
        ("adjudicate", "team.db", item, "--answer", "1", "--by", "vera"): "--by must be the login of an owner",
        ("adjudicate", "team.db", item, "--answer", "1", "--by", "nobody"): "--by must be the login of an owner",
    }
    for words, expected in mistakes.items():
        ran = guerdon("annotation", *words)
        assert (ran.code, ran.err.count("\n")) == (2, 1), (words, ran.err)
        assert expected in ran.err
    assert not list(here.glob("x.*"))
    assert facts("adjudicate", "team.db", item, "--answer", "tie", "--by", "zoe")["by"] == "zoe"


def test_one_of_several_projects_must_be_named(here):
    assert guerdon("annotation", "init", "team.db", "--project", "more").code == 0
    ran = guerdon("annotation", "status", "team.db")
    assert (ran.code, "Choose from more, replies." in ran.err) == (2, True)
    assert facts("status", "team.db", "--project", "more")["judgments"] == 0
