"""A file of scores stands in for its model: it gives the same audit, and says what it cannot tell."""

from __future__ import annotations

import json

import pytest
from toys import Good, comparisons

from guerdon.api import auditing, data, scoring
from guerdon.auditing.recorded_scores import RecordedJudge, RecordedRewardModel
from guerdon.contracts import GuerdonError
from guerdon.io import schema

PARTS = ["accuracy", "people", "odds", "order", "mistakes", "uncertainty"]
QUICK = {"draws": 100, "null_draws": 100, "bins": 10, "hygiene_rows": 4, "only": PARTS}


def scored_file(path, rows, form="rewards"):
    """The comparisons with Good's scores, in one of the forms that are read."""
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
    assert isinstance(model, RecordedRewardModel if form in ("rewards", "chosen") else RecordedJudge)
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


def test_the_output_of_guerdon_score_is_read(tmp_path):
    rows = comparisons(40)
    data.write(tmp_path / "rows.jsonl", rows)
    scoring.score_file(Good(), tmp_path / "rows.jsonl", tmp_path / "scored.jsonl")
    read, model = auditing.read_scores(tmp_path / "scored.jsonl")
    assert read == rows
    assert model.score([rows[0].prompt], [rows[0].responses[0]]).value.tolist() == [
        Good().score([rows[0].prompt], [rows[0].responses[0]]).value[0]
    ]


def test_what_a_file_cannot_tell_is_a_note_and_not_made_up(tmp_path):
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
        ([ROW], "s.jsonl:1: row must hold scores, got fields prompt, responses, preference. Add rewards"),
        ([ROW | {"rewards": [1.0]}], "s.jsonl:1: rewards must be a list of 2 numbers, one per response"),
        ([ROW | {"rewards": [1.0, "x"]}], r"s.jsonl:1: rewards\[1\] must be a finite number, got 'x'"),
        (
            [ROW | {"rewards": [1, 2]}, ROW | {"margin": 1.0}],
            r"rewards \(at .*:1\) and margins \(at .*:2\). Use one file per kind",
        ),
        (
            [ROW | {"rewards": [1, 2]}, ROW | {"rewards": [3, 2]}],
            r"one score, got 3 here and 1 at .*s.jsonl:1. Score each text once",
        ),
        ([{"prompt": "p", "margin": 1.0}], "s.jsonl:1: columns must fit a known format, got 'prompt'"),
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
    with pytest.raises(
        GuerdonError,
        match=r"every text must have a score, got none for 'why', 'because'\. Score this text too",
    ):
        RecordedRewardModel({}).score(["why"], ["because"])
    with pytest.raises(GuerdonError, match="every text must have a score, got none for 'why', 'because'"):
        RecordedJudge({}).log_odds(["why"], ["because"], ["so"])
