"""guerdon judge, judge-card and judge-prompt as a user meets them, with a server that answers."""

from __future__ import annotations

import importlib.util
import json
import re
import sqlite3
from pathlib import Path

import pytest
from batch_provider import BatchProvider
from comparison_files import write_rows
from judge_server import JudgeServer, completion, error
from shell import guerdon

from guerdon.models.judges.prompts import parse_prompt
from guerdon.progress import ProgressBar
from guerdon.store.database import open_database
from guerdon.store.items import Item
from guerdon.store.location import locate
from guerdon.store.reader import read_items

USAGE = {"prompt_tokens": 300, "completion_tokens": 8, "total_tokens": 308}
ROWS = [{"prompt": f"Q{i}?", "responses": [f"good {i}", f"bad {i}"], "id": f"row {i}"} for i in range(6)]


def judge_file(folder: Path, url: str, /, **options) -> Path:
    path = folder / "judge.yaml"
    path.write_text(
        json.dumps({"model": "tiny", "url": url, "mode": "pair_samples", "samples": 1, "tries": 1, **options})
    )
    return path


def says(body: dict, tried: int) -> dict:
    text = body["messages"][-1]["content"]
    return completion(f"Verdict: {1 if text.find('good') < text.find('bad') else 2}", usage=(50, 4))


def test_the_same_command_again_asks_nothing_and_gives_the_same_bytes(tmp_path):
    data, out = write_rows(tmp_path / "d.jsonl", *ROWS), tmp_path / "new" / "x.jsonl"
    with JudgeServer(says) as server:
        judge = judge_file(tmp_path, server.url)
        first = guerdon("judge", data, "--judge", judge, "--out", out)
        assert first.code == 0, first.err
        assert "6 pairs: at most 12 calls" in first.err
        assert "price unknown" in first.err
        asked, written = sum(server.tries.values()), out.read_bytes()
        again = guerdon("judge", data, "--judge", judge, "--out", out)
        assert (again.code, sum(server.tries.values()), out.read_bytes()) == (0, asked, written)
    offline = guerdon("judge", data, "--judge", judge, "--out", out, "--offline")
    assert (offline.code, out.read_bytes()) == (0, written)
    labels = [json.loads(line) for line in out.read_text().splitlines()]
    assert [label["id"] for label in labels] == [row["id"] for row in ROWS]
    assert all(label["preference"]["q"] > 0.5 and label["annotator"] == "tiny" for label in labels)
    verdicts = [json.loads(line) for line in (tmp_path / "new" / "x.verdicts.jsonl").read_text().splitlines()]
    assert [call["shown"] for call in verdicts[0]["calls"]] == [[0, 1], [1, 0]]
    assert (tmp_path / "new" / "x.failures.jsonl").read_text() == ""


def test_a_failed_call_is_no_label_and_too_many_are_exit_code_3(tmp_path):
    def script(body, tried):
        return error("no", 400, "context_length_exceeded") if "Q1?" in str(body) else says(body, tried)

    data, out = write_rows(tmp_path / "d.jsonl", *ROWS), tmp_path / "x.jsonl"
    with JudgeServer(script) as server:
        judge = judge_file(tmp_path, server.url)
        ran = guerdon("judge", data, "--judge", judge, "--out", out)
        assert ran.code == 3, ran.err
        assert "failed: context_too_long" in ran.out
        assert "row 1" not in out.read_text()
        (failure,) = [json.loads(line) for line in (tmp_path / "x.failures.jsonl").read_text().splitlines()]
        assert (failure["id"], {f["code"] for f in failure["failures"]}) == ("row 1", {"context_too_long"})
        tolerant = guerdon("judge", data, "--judge", judge, "--out", out, "judge.unresolved_max=0.2")
        assert tolerant.code == 0, tolerant.err


def test_a_limit_on_calls_stops_before_more_and_what_was_answered_is_kept(tmp_path):
    data, out = write_rows(tmp_path / "d.jsonl", *ROWS), tmp_path / "x.jsonl"
    with JudgeServer(says) as server:
        judge = judge_file(tmp_path, server.url)
        ran = guerdon("judge", data, "--judge", judge, "--out", out, "--max-calls", "5")
        assert ran.code == 3
        assert "budget_stop" in ran.out
        assert sum(server.answered.values()) <= 5
        assert guerdon("judge", data, "--judge", judge, "--out", out).code == 0
        assert sum(server.answered.values()) == 12


def test_a_limit_on_tokens_stops_before_more(tmp_path):
    data, out = write_rows(tmp_path / "d.jsonl", *ROWS), tmp_path / "x.jsonl"
    with JudgeServer(lambda body, tried: {**says(body, tried), "usage": USAGE}) as server:
        judge = judge_file(tmp_path, server.url, max_tokens=8)
        ran = guerdon("judge", data, "--judge", judge, "--out", out, "--max-total-tokens", "2000")
        assert ran.code == 3
        assert "budget_stop" in ran.out
        assert 0 < 308 * sum(server.answered.values()) <= 2000


def test_prices_come_from_a_table_and_a_model_without_one_has_an_unknown_cost(tmp_path):
    data, out = write_rows(tmp_path / "d.jsonl", *ROWS), tmp_path / "x.jsonl"
    table = tmp_path / "prices.toml"
    table.write_text("date = 2026-12-01\n[models.tiny]\nread = 10\nwritten = 100\n")
    with JudgeServer(says) as server:
        judge = judge_file(tmp_path, server.url, prices=str(table))
        ran = guerdon("judge", data, "--judge", judge, "--out", out, "--max-cost", "1", "--json")
        about = json.loads(ran.out)["about"]
        assert "price unknown" not in ran.err
        assert about["cost"] == f"{12 * (50 * 10 + 4 * 100) / 1e6:,.4f} USD"
        assert about["prices"].endswith("per million tokens, of 2026-12-01")
        unknown = guerdon("judge", data, "--judge", judge, "--out", out, "judge.model=other", "--json")
        assert json.loads(unknown.out)["about"]["cost"].startswith("unknown")
        refused = guerdon("judge", data, "--judge", judge, "--out", out, "judge.model=other", "--max-cost", "1")
        assert refused.code == 2
        assert "judge.max_cost must be left out where prices are unknown" in refused.err


def test_progress_knows_how_many_pairs_there_are_and_what_was_spent(tmp_path, monkeypatch):
    bars = []

    class Recorded(ProgressBar):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.shown = []
            bars.append(self)

        def advance(self, amount=1, **values):
            self.shown.append(values)
            super().advance(amount, **values)

    monkeypatch.setattr("guerdon.api.judging.ProgressBar", Recorded)
    rows = [*ROWS, {"prompt": "three", "responses": ["good", "bad a", "bad b"]}]
    data = write_rows(tmp_path / "d.jsonl", *rows)
    with JudgeServer(says) as server:
        judge = judge_file(tmp_path, server.url, price_in=10, price_out=100)
        assert guerdon("judge", data, "--judge", judge, "--out", tmp_path / "x.jsonl").code == 0
    (bar,) = bars
    assert bar.total == bar.done == 9
    assert bar.shown[-1] == {"failed": 0, "tokens": f"{18 * 54:,}", "cost": "0.02 USD"}


def test_batches_of_a_provider_give_the_labels_of_a_server_and_are_not_sent_again(tmp_path):
    data = write_rows(tmp_path / "d.jsonl", *ROWS)
    with JudgeServer(says) as server:
        judge = judge_file(tmp_path, server.url)
        assert guerdon("judge", data, "--judge", judge, "--out", tmp_path / "api.jsonl").code == 0
    with BatchProvider(lambda body: (200, says(body, 0))) as provider:
        judge = judge_file(tmp_path, provider.url, poll_seconds=0.01, folder=str(tmp_path / "shards"), executor="batch")
        words = ("judge", data, "--judge", judge, "--out", tmp_path / "batch.jsonl")
        ran = guerdon(*words)
        assert ran.code == 0, ran.err
        assert "batches under way 1, to be sent 0" in ran.err
        again = guerdon(*words)
        assert (again.code, provider.asked, len(provider.batches)) == (0, 12, 1), again.err
    offline = guerdon(*words, "--offline")
    assert offline.code == 0, offline.err
    assert (tmp_path / "batch.jsonl").read_bytes() == (tmp_path / "api.jsonl").read_bytes()


def test_a_budget_holds_for_batches(tmp_path):
    data = write_rows(tmp_path / "d.jsonl", *ROWS)
    with BatchProvider(lambda body: (200, says(body, 0))) as provider:
        judge = judge_file(tmp_path, provider.url, poll_seconds=0.01, folder=str(tmp_path / "shards"))
        words = ("judge", data, "--judge", judge, "--out", tmp_path / "x.jsonl", "--executor", "batch")
        assert guerdon(*words, "--max-calls", 5).code == 3
        assert provider.asked == 5


@pytest.mark.parametrize(
    ("options", "claim"),
    [
        ({"executor": "batch"}, "judge.folder must be given with executor batch, got nothing. Add it."),
        (
            {"folder": "x"},
            "judge.folder must be left out with executor api, got 'x'. Remove it, or set executor to batch.",
        ),
        (
            {"executor": "batch", "folder": "x", "workers": 3},
            "judge.workers must be left out with executor batch, got 3.",
        ),
        (
            {"executor": "ray", "folder": "x", "poll_seconds": 3},
            "judge.poll_seconds must be left out with executor ray",
        ),
        (
            {"executor": "batch", "folder": "x", "url": ["http://x", "http://y"]},
            "judge.url must be one address with executor batch",
        ),
    ],
)
def test_options_that_an_executor_lacks_or_would_ignore_are_refused(tmp_path, options, claim):
    judge = judge_file(tmp_path, "http://x", **options)
    ran = guerdon("judge", write_rows(tmp_path / "d.jsonl", *ROWS), "--judge", judge, "--out", tmp_path / "x.jsonl")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert f"{judge}: {claim}" in ran.err


@pytest.mark.filterwarnings("default")  # Ray's own
def test_workers_of_ray_label_or_are_missed_in_one_line(tmp_path):
    data = write_rows(tmp_path / "d.jsonl", *ROWS)
    with JudgeServer(says) as server:
        judge = judge_file(tmp_path, server.url, executor="ray", folder=str(tmp_path / "shards"))
        ran = guerdon("judge", data, "--judge", judge, "--out", tmp_path / "x.jsonl")
    if importlib.util.find_spec("ray") is None:
        assert ran.code == 2
        assert ran.err.endswith("executor ray must have Ray installed. Run pip install 'guerdon[ray]'.\n")
    else:
        assert ran.code == 0, ran.err
        assert len((tmp_path / "x.jsonl").read_text().splitlines()) == 6


def test_verdicts_go_to_a_store_and_unlabeled_items_of_a_store_are_judged(tmp_path):
    data, store = write_rows(tmp_path / "d.jsonl", *ROWS), tmp_path / "p.db"
    with JudgeServer(says) as server:
        judge = judge_file(tmp_path, server.url)
        missing = guerdon("judge", data, "--judge", judge, "--store", store)
        assert missing.code == 2
        assert "store init" in missing.err
        guerdon("store", "init", store)
        assert guerdon("judge", data, "--judge", judge, "--store", store).code == 0
        again = guerdon("judge", f"store:{store}", "--judge", judge, "--out", tmp_path / "y.jsonl", "--store", store)
        assert again.code == 0
        assert sum(server.tries.values()) == 12
    with sqlite3.connect(store) as connection:
        counts = [
            connection.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("items", "judgments", "labels")
        ]
    assert counts == [6, 12, 6]
    assert len((tmp_path / "y.jsonl").read_text().splitlines()) == 6


def test_a_card_is_written_and_its_map_applied_to_the_same_judge_only(tmp_path):
    people = [
        {
            "prompt": f"Q{i}?",
            "responses": [f"good {i}", f"bad {i}"],
            "preference": {"q": i % 4 / 4, "votes": [i % 4, 0, 4 - i % 4]},
        }
        for i in range(1, 31)
    ]
    data = write_rows(tmp_path / "h.jsonl", *people)
    with JudgeServer(says) as server:
        judge = judge_file(tmp_path, server.url)
        ran = guerdon("judge-card", "--judge", judge, "--data", data, "--out", tmp_path / "card")
        assert ran.code == 0, ran.err
        assert sorted(path.name for path in (tmp_path / "card").iterdir()) == [
            "calls.db", "card.html", "card.json", "card.md",
        ]  # fmt: skip
        card = tmp_path / "card" / "card.json"
        names = json.loads(card.read_text())["report"]["estimates"]
        assert {"accuracy", "ceiling", "kappa", "flip_rate", "brier"} <= set(names)
        words = ("judge", data, "--judge", judge, "--out", tmp_path / "x.jsonl", "--card", card)
        mapped = guerdon(*words)
        assert mapped.code == 0, mapped.err
        other = guerdon(*words, "judge.seed=5")
        assert other.code == 2
        assert "must be the card of this judge" in other.err
        card.write_text("{}")
        assert "must be a judge card" in guerdon(*words).err


@pytest.mark.parametrize("mode", ["pair", "pair_samples", "pair_reasons", "score", "ranking", "criterion"])
def test_a_template_that_is_printed_is_one_that_is_read(mode):
    printed = guerdon("judge-prompt", mode)
    assert parse_prompt(mode, printed.out).sections["user"]


def test_a_mode_that_does_not_exist_is_one_line():
    ran = guerdon("judge-prompt", "pairs")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "MODE must be one of" in ran.err


# ---- Rankings --------------------------------------------------------------------------------------------------------------


def ranks(body: dict, tried: int) -> dict:
    """Ranks by the number in the response; of "split" it prefers whatever is shown last, of "cut" it says nothing."""
    text = body["messages"][-1]["content"]
    values = [int(value) for value in re.findall(r"value (\d)", text)]
    order = sorted(range(len(values)), key=lambda i: -i if "split" in text else -values[i])
    if "cut" in text and values[0] == 1:
        return completion("no idea")
    return completion("Ranking: " + " > ".join(str(i + 1) for i in order))


RANKED = [
    {"prompt": "three?", "responses": ["value 1", "value 3", "value 2"], "id": "three"},
    {"prompt": "two?", "responses": ["value 1", "value 2"], "id": "two"},
    {"prompt": "split?", "responses": ["value 1", "value 2", "value 3"], "id": "split"},
    {"prompt": "cut?", "responses": ["value 1", "value 2", "value 3"], "id": "cut"},
]


def test_rankings_become_groups_in_the_file_and_judgments_of_all_responses_in_the_store(tmp_path):
    data, store, out = write_rows(tmp_path / "d.jsonl", *RANKED), tmp_path / "p.db", tmp_path / "x.jsonl"
    guerdon("store", "init", store)
    with JudgeServer(ranks) as server:
        judge = judge_file(tmp_path, server.url, mode="ranking", permutations=2, reasks=0, unresolved_max=0.5)
        words = ("judge", data, "--judge", judge, "--store", store)
        ran = guerdon(*words, "--out", out)
        assert ran.code == 0, ran.err
        assert "4 pairs: at most 8 calls" in ran.err
        assert sum(server.answered.values()) == 8, "one call for each order, however many responses"
    labels = {row["id"]: row["preference"] for row in map(json.loads, out.read_text().splitlines())}
    assert labels["three"]["groups"] == [[1], [2], [0]]
    assert labels["two"]["q"] < 0.5, "two responses stay a pair with its probability"
    assert set(labels) == {"three", "two"}, "rankings that contradict each other altogether are no tie"
    verdicts = {row["id"]: row for row in map(json.loads, (tmp_path / "x.verdicts.jsonl").read_text().splitlines())}
    assert verdicts["three"]["groups"] == [[1], [2], [0]]
    assert [call["ranking"] for call in verdicts["three"]["calls"]] == [[1, 2, 0], [1, 2, 0]]
    assert {tuple(call["shown"]) for call in verdicts["three"]["calls"]} == {
        tuple(call["shown"])[::-1] for call in verdicts["three"]["calls"]
    }
    assert verdicts["split"]["is_consistent"] is False
    (failure,) = [json.loads(line) for line in (tmp_path / "x.failures.jsonl").read_text().splitlines()]
    assert failure["id"] == "cut"
    items = {item.prompt[0].content: item for item in stored_items(store)}
    three = items["three?"]
    assert len(three.judgments) == 2
    for judgment in three.judgments:
        shown = [three.responses[i].text for i in judgment.shown]
        assert [shown[i] for (i,) in judgment.preference.groups] == ["value 3", "value 2", "value 1"]
    (label,) = three.labels
    assert [three.responses[i].text for (i,) in label.preference.groups] == ["value 3", "value 2", "value 1"]
    assert (len(items["two?"].judgments), len(items["two?"].labels)) == (2, 1)
    assert (len(items["split?"].judgments), len(items["split?"].labels)) == (2, 0)
    assert (len(items["cut?"].judgments), len(items["cut?"].labels)) == (0, 0)
    again = guerdon(*words, "--offline")
    assert again.code == 0, again.err
    assert [len(item.judgments) for item in stored_items(store)] == [len(i.judgments) for i in items.values()]


def stored_items(store: Path) -> list[Item]:
    with open_database(locate(store)) as database:
        return [item for _, item in read_items(database)]
