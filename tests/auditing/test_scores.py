"""A text is scored once; a file of scores stands in for its model; what a killed audit had finished is not done again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from toys import Good, comparisons

from guerdon.api import auditing, data, scoring
from guerdon.auditing import Memory, audit
from guerdon.auditing.score_cache import (
    Recorded,
    RecordedJudge,
    Remembered,
    RememberedJudge,
)
from guerdon.config import AuditOptions
from guerdon.contracts import (
    GuerdonError,
    Response,
    Scores,
    as_response,
)
from guerdon.io import schema
from guerdon.io.reports import to_json

PARTS = ["accuracy", "people", "odds", "order", "mistakes", "uncertainty"]
QUICK = {"draws": 100, "null_draws": 100, "bins": 10, "hygiene_rows": 4, "only": PARTS}


class Counting:
    """As Good; counts the texts that it was asked for, and stops the process after so many."""

    fingerprint = "counting"

    def __init__(self, most=10**9):
        self.most, self.asked = most, 0

    def score(self, prompts, responses):
        if self.asked + len(responses) > self.most:
            raise KeyboardInterrupt
        self.asked += len(responses)
        return Good().score(prompts, responses)


class Doubting(Counting):
    """Gives everything that Scores can hold, and the spread of a margin."""

    def score(self, prompts, responses):
        value = super().score(prompts, responses).value
        zero = np.zeros(len(value), dtype=bool)
        return Scores(value, zero, value**2, np.stack([value, value + 1]), 1 / (1 + np.abs(value)))

    def score_pairs(self, prompts, responses, first, second):
        scores = self.score(prompts, responses)
        return scores, np.abs(scores.value[first] - scores.value[second]) + 1


# ---- Each text once ----------------------------------------------------------------------------------------------


def test_a_text_is_asked_for_once_and_its_score_does_not_change():
    model = Counting()
    remembered = Remembered(model, {})
    prompts, responses = ["p"] * 4, ["good", "bad", "good", "good good"]
    first, again = (remembered.score(prompts, responses) for _ in range(2))
    assert model.asked == 3
    assert first.value.tolist() == again.value.tolist() == Good().score(prompts, responses).value.tolist()
    assert first.std is first.members is first.shift_p is None


def test_a_prompt_and_a_cut_make_another_text():
    model = Counting()
    remembered = Remembered(model, {})
    remembered.score(["p", "q", "p"], ["good", "good", Response("good", finish="length")])
    assert model.asked == 3


def test_everything_that_scores_hold_is_kept():
    remembered = Remembered(Doubting(), {})
    args = (["p"] * 3, ["good", "bad", "good good"], np.array([0, 1]), np.array([1, 2]))
    for _ in range(2):
        scores, spread = remembered.score_pairs(*args)
        plain, wanted = Doubting().score_pairs(*args)
        for name in ("value", "truncated", "std", "members", "shift_p"):
            np.testing.assert_array_equal(getattr(scores, name), getattr(plain, name))
        np.testing.assert_array_equal(spread, wanted)
    assert remembered.model.asked == 3


def test_a_judge_is_asked_for_a_pair_once_in_each_order():
    class Judge:
        asked = 0

        def log_odds(self, prompts, first, second):
            self.asked += len(prompts)
            return np.array([len(as_response(a).text) - len(as_response(b).text) for a, b in zip(first, second)])  # noqa: B905

    judge = Judge()
    remembered = RememberedJudge(judge, {})
    for _ in range(2):
        assert remembered.log_odds(["p"] * 3, ["a", "bb", "a"], ["bb", "a", "bb"]).tolist() == [-1, 1, -1]
    assert judge.asked == 2


def test_the_audit_asks_for_each_response_once_whatever_the_number_of_parts():
    rows, model = comparisons(50), Counting()
    audit(model, rows, AuditOptions(**QUICK), hygiene=())
    assert model.asked == len({(r.prompt, s.text) for r in rows for s in r.responses})


# ---- Killed and started again ------------------------------------------------------------------------------------


def test_a_killed_audit_goes_on_where_it_was(tmp_path):
    rows = comparisons(700)
    texts = len({(r.prompt, s.text) for r in rows for s in r.responses})
    gate = Counting()
    auditing.audit(gate, rows[:1], out=tmp_path / "other", **QUICK)
    killed = Counting(most=1000)
    with pytest.raises(KeyboardInterrupt):
        auditing.audit(killed, rows, out=tmp_path / "run", **QUICK)
    second = Counting()
    report = auditing.audit(second, rows, out=tmp_path / "run", **QUICK)
    assert 0 < second.asked < texts  # neither the hygiene gate nor the chunks that were scored
    assert to_json(report) == to_json(auditing.audit(Counting(), rows, **QUICK))
    third = Counting()
    assert to_json(auditing.audit(third, rows, out=tmp_path / "run", **QUICK)) == to_json(report)
    assert third.asked == 0


def test_a_part_that_was_finished_is_not_measured_again(tmp_path):
    rows, first, second = comparisons(60), Counting(), Counting()
    auditing.audit(first, rows, out=tmp_path, **{**QUICK, "only": ["accuracy"]})
    kept = (tmp_path / "parts/accuracy.json").stat().st_mtime_ns
    auditing.audit(second, rows, out=tmp_path, **QUICK)
    assert (tmp_path / "parts/accuracy.json").stat().st_mtime_ns == kept
    assert second.asked == 0
    assert {path.stem for path in (tmp_path / "parts").glob("*.json")} >= {"accuracy", "odds", "hygiene", "mistakes"}


@pytest.mark.parametrize("change", ["options", "data", "model"])
def test_other_options_data_or_models_are_measured_anew(tmp_path, change):
    rows = comparisons(60)
    before = auditing.audit(Counting(), rows, out=tmp_path, **QUICK)
    model, options = Counting(), dict(QUICK)
    if change == "options":
        options["draws"] = 150
    if change == "data":
        rows = comparisons(60, seed=1)
    if change == "model":
        model.fingerprint = "another"
    after = auditing.audit(model, rows, out=tmp_path, **options)
    assert to_json(after) == to_json(auditing.audit(Counting(), rows, **options))
    assert (model.asked < len(rows)) == (change == "options")  # a score has no options: the gate of hygiene alone asks
    assert (to_json(after) == to_json(before)) == (change == "model")


def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path):
    rows = comparisons(60)
    whole = auditing.audit(Counting(), rows, out=tmp_path, **QUICK)
    for path in (tmp_path / "parts").glob("*.json"):
        path.write_text(path.read_text("utf-8")[:40], "utf-8")
    scores = tmp_path / "parts/scores.jsonl"
    scores.write_bytes(scores.read_bytes()[:-50])
    model = Counting()
    assert to_json(auditing.audit(model, rows, out=tmp_path, **QUICK)) == to_json(whole)
    assert model.asked > 0


def test_a_model_without_a_fingerprint_starts_afresh(tmp_path):
    auditing.audit(Good(), comparisons(30), out=tmp_path, **QUICK)
    assert not list(tmp_path.rglob("*"))


# ---- From a file -------------------------------------------------------------------------------------------------


def scored_file(path, rows, form="rewards"):
    """The comparisons with Good's scores, in one of the forms that are taken."""
    lines = []
    for row in rows:
        values = Good().score([row.prompt] * 2, list(row.responses)).value.tolist()
        native = schema.comparison_to_row(row)
        best = 0 if row.q > 0.5 else 1
        plain = {"prompt": row.prompt[0].content, "group": row.group, "source": row.source}
        plain |= {"chosen": row.responses[best].text, "rejected": row.responses[1 - best].text}
        lines.append(
            {
                "rewards": native | {"rewards": values},
                "margin": native | {"margin": values[0] - values[1]},
                "chosen": plain | {"scores_chosen": values[best], "scores_rejected": [values[1 - best]]},
                "chosen margin": plain | {"margin": values[best] - values[1 - best]},
            }[form]
        )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


@pytest.mark.parametrize("form", ["rewards", "margin", "chosen", "chosen margin"])
def test_a_file_of_scores_gives_what_the_model_itself_gives(tmp_path, form):
    rows = [row for row in comparisons(120) if row.responses[0].text != row.responses[1].text]
    read, model = auditing.read_scores(scored_file(tmp_path / "scores.jsonl", rows, form))
    assert isinstance(model, Recorded if form in ("rewards", "chosen") else RecordedJudge)
    ours, theirs = auditing.audit(Good(), rows, **QUICK), auditing.audit(model, read, **QUICK)
    for key in ("accuracy", "longer_wins", "nll", "brier", "error_auroc_margin", "accuracy_above_longer"):
        mine, yours = (
            next(p.estimates[key] for p in (report, *report.sections) if key in p.estimates)
            for report in (ours, theirs)
        )
        assert yours.value == pytest.approx(mine.value), key
        assert yours.n == mine.n, key
    if form == "rewards":
        assert {k: v for k, v in ours.estimates.items() if k != "truncated"} == theirs.estimates
        assert ours.examples == theirs.examples


def test_what_guerdon_score_writes_is_taken(tmp_path):
    rows = comparisons(40)
    data.write(tmp_path / "rows.jsonl", rows)
    scoring.score_file(Good(), tmp_path / "rows.jsonl", tmp_path / "scored.jsonl")
    read, model = auditing.read_scores(tmp_path / "scored.jsonl")
    assert read == rows
    assert model.score([rows[0].prompt], [rows[0].responses[0]]).value.tolist() == [
        Good().score([rows[0].prompt], [rows[0].responses[0]]).value[0]
    ]


def test_what_a_file_cannot_tell_is_said_and_not_made_up(tmp_path):
    rows = comparisons(60)
    read, model = auditing.read_scores(scored_file(tmp_path / "s.jsonl", rows))
    report = auditing.audit(model, read, draws=100, null_draws=100)
    titles = {finding.title: finding for finding in report.findings}
    assert titles["Cues and substance: not measured"].evidence == "needs scores of new texts"
    assert "Whether scores depend on the rest of the batch is not known" in titles
    assert "A score does not depend on the rest of its batch" not in titles
    assert report.gate.hygiene == "not checked"
    assert "truncated" not in report.estimates
    read, judge = auditing.read_scores(scored_file(tmp_path / "m.jsonl", rows, "margin"))
    report = auditing.audit(judge, read, draws=100, null_draws=100)
    assert "position_consistency" not in report.estimates
    assert "Order: not measured" in {finding.title for finding in report.findings}


ROW = {"prompt": "p", "responses": ["a", "b"], "preference": {"q": 1.0}}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([ROW], "s.jsonl:1: holds no scores; remedy: give rewards"),
        ([ROW | {"rewards": [1.0]}], "s.jsonl:1: rewards must be a list of 2 numbers, one per response"),
        ([ROW | {"rewards": [1.0, "x"]}], r"s.jsonl:1: rewards\[1\] must be a finite number, got 'x'"),
        (
            [ROW | {"rewards": [1, 2]}, ROW | {"margin": 1.0}],
            r"rewards \(at .*:1\) and margins \(at .*:2\); remedy: one kind",
        ),
        ([ROW | {"rewards": [1, 2]}, ROW | {"rewards": [3, 2]}], r"another score here \(3\) than at .*s.jsonl:1 \(1\)"),
        ([{"prompt": "p", "margin": 1.0}], "s.jsonl:1: columns 'prompt' fit no known format"),
        (
            [ROW | {"responses": ["a", "b", "c"], "preference": {"groups": [[0], [1], [2]]}, "margin": 1}],
            "the number of responses of a margin must be 2, got 3. Give rewards",
        ),
    ],
)
def test_a_bad_row_is_named(tmp_path, rows, said):
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    with pytest.raises(GuerdonError, match=said):
        auditing.read_scores(tmp_path / "s.jsonl")


def test_a_text_without_a_score_is_named():
    with pytest.raises(GuerdonError, match="no score of 'why', 'because'; remedy: give the model itself"):
        Recorded({}).score(["why"], ["because"])
    with pytest.raises(GuerdonError, match="no score of 'why', 'because'"):
        RecordedJudge({}).log_odds(["why"], ["because"], ["so"])


def test_what_is_remembered_may_be_handed_in():
    memory, model = Memory(), Counting()
    options = AuditOptions(**QUICK)
    first = audit(model, comparisons(30), options, hygiene=(), memory=memory)
    asked = model.asked
    assert audit(model, comparisons(30), options, hygiene=(), memory=memory) == first
    assert model.asked == asked
