"""A file of scores stands in for its model: it gives the same audit, and says what it cannot tell."""

from __future__ import annotations

import json

import pytest
from toys import Good, comparisons

from guerdon.api import auditing, calibration, data, scoring
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
                "chosen log_odds": plain | {"log_odds": values[best] - values[1 - best]},
            }[form]
        )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


@pytest.mark.parametrize("form", ["rewards", "margin", "chosen", "chosen log_odds"])
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
        assert set(ours.estimates) - set(theirs.estimates) == {"truncated"}
        assert set(theirs.estimates) - set(ours.estimates) == {"temperature"}
        assert all(theirs.estimates[k] == v for k, v in ours.estimates.items() if k != "truncated")
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


DATA = [
    {"id": 1, "prompt": "Name a metal.", "chosen": "Iron.", "rejected": "Wood."},
    {"id": 2, "prompt": "Name a river.", "chosen": "The Nile.", "rejected": "A stone."},
    {"id": 3, "prompt": "Name a bird.", "chosen": "A wren.", "rejected": "A cow."},
]
REWARDS = ((0.9, 0.1), (0.2, 0.8), (0.7, 0.1))


def write(path, rows):
    if path.suffix == ".csv":
        lines = [",".join(rows[0]), *(",".join(str(cell) for cell in row.values()) for row in rows)]
    else:
        lines = [json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def rewards_of(read):
    """The reward of the chosen response and of the rejected one, by row."""
    rows, model = read
    order = [(row.responses if row.q > 0.5 else row.responses[::-1]) for row in rows]
    return [tuple(model.score([row.prompt] * 2, pair).value.tolist()) for row, pair in zip(rows, order, strict=True)]


@pytest.mark.parametrize(
    ("name", "rows", "columns"),
    [
        ("s.jsonl", [{"id": i, "rewards": list(r)} for i, r in enumerate(REWARDS, 1)], {}),
        ("s.jsonl", [{"id": float(i), "rewards": [str(x) for x in r]} for i, r in enumerate(REWARDS, 1)], {}),
        (
            "s.csv",
            [{"id": f" {i}", "scores_chosen": a, "scores_rejected": b} for i, (a, b) in enumerate(REWARDS, 1)],
            {},
        ),
        (
            "s.csv",
            [{"pair": i, "good": a, "bad": b, "model": "m"} for i, (a, b) in enumerate(REWARDS, 1)],
            {"id": "pair", "scores_chosen": "good", "scores_rejected": "bad"},
        ),
        ("s.csv", [{"scores_chosen": a, "scores_rejected": b} for a, b in REWARDS], {}),
    ],
)
def test_scores_alone_find_the_texts_of_their_ids(tmp_path, name, rows, columns):
    has_ids = {"id", "pair"} & set(rows[0])
    order = reversed(rows) if has_ids else rows
    data_rows = DATA if has_ids else [{key: row[key] for key in row if key != "id"} for row in DATA]
    scores = write(tmp_path / name, list(order))
    assert rewards_of(auditing.read_scores(scores, write(tmp_path / "d.jsonl", data_rows), columns=columns)) == list(
        REWARDS
    )


def test_scores_of_labeled_rows_are_in_the_order_shown(tmp_path):
    rows = [{"id": "a", "prompt": "p", "first": "yes", "second": "no", "label": "second"}]
    scores = write(tmp_path / "s.csv", [{"id": "a", "scores_first": 1, "scores_second": 2}])
    assert rewards_of(auditing.read_scores(scores, write(tmp_path / "d.jsonl", rows))) == [(2.0, 1.0)]


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([{"id": 1, "rewards": [1, 0]}], "every comparison must have scores, got none for 2, 3. Score these too"),
        ([{"id": i, "rewards": [1, 0]} for i in range(1, 5)], "got no comparison of 4. Give the data that was scored"),
        (
            [{"id": 1, "rewards": [1, 0]}] * 2,
            "s.jsonl:2: id must be unique, got 1 here and at .*s.jsonl:1. Keep one row",
        ),
        (
            [{"id": 1, "rewards": [1, 0]}, {"rewards": [1, 0]}],
            "s.jsonl:2: id is missing, and other rows have one. Add it",
        ),
        (
            [{"rewards": [1, 0]}] * 3,
            "both files must have ids, got none in the scores. Name the field with --column id=",
        ),
        (
            [{"id": i, "score": 1} for i in (1, 2, 3)],
            "s.jsonl:1: row must hold scores, got fields id, score. Add rewards",
        ),
        (["x"], "s.jsonl:1: row must be an object with named fields"),
    ],
)
def test_scores_that_do_not_fit_the_data_are_refused(tmp_path, scores, said):
    data_file = write(tmp_path / "d.jsonl", DATA)
    with pytest.raises(GuerdonError, match=said):
        auditing.read_scores(write(tmp_path / "s.jsonl", scores), data_file)


def test_a_row_with_an_empty_response_is_set_aside_with_a_note(tmp_path, capsys):
    rows = [row | {"scores_chosen": a, "scores_rejected": b} for row, (a, b) in zip(DATA, REWARDS, strict=True)]
    rows[1]["rejected"] = ""
    read, model = auditing.read_scores(write(tmp_path / "s.jsonl", rows))
    assert rewards_of((read, model)) == [REWARDS[0], REWARDS[2]]
    assert "rows set aside: 1 of 3; the first is" in capsys.readouterr().err
    report = auditing.audit(model, read, draws=100, null_draws=100, only=["accuracy"])
    note = next(f for f in report.findings if f.title == "Rows of the score file were set aside")
    assert "s.jsonl:2: rejected must be a response that is not empty" in note.evidence


def test_an_annotators_margin_is_no_odds_of_the_model(tmp_path):
    rows = [row | {"margin": margin} for row, margin in zip(DATA, (1, 2, 3), strict=True)]
    file = write(tmp_path / "s.jsonl", rows)
    with pytest.raises(GuerdonError, match="must be an annotator's strength next to chosen and rejected"):
        auditing.read_scores(file)
    read, model = auditing.read_scores(file, columns={"log_odds": "margin"})
    assert isinstance(model, RecordedJudge)
    both = [row | {"scores_chosen": 0, "scores_rejected": 1} for row in rows]
    read, model = auditing.read_scores(write(file, both))
    assert isinstance(model, RecordedRewardModel)
    assert [row.preference.strength for row in read] == [1, 2, 3]


def test_the_temperature_of_a_score_file_is_reported_and_is_the_one_that_calibration_fits(tmp_path):
    rows = comparisons(120)
    read, model = auditing.read_scores(scored_file(tmp_path / "s.jsonl", rows))
    report = auditing.audit(model, read, draws=100, null_draws=100, only=["odds"])
    _, calibrated = calibration.calibrate(model, read)
    assert (
        calibrated.estimates["temperature"].value == 1.0
    )  # Good's odds are right already: what is fitted is not stored
    assert report.estimates["temperature"].value == calibrated.estimates["temperature_fitted"].value


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
        ([{"prompt": "p", "margin": 1.0}], "s.jsonl:1: columns must fit a known format, got prompt"),
        (
            [ROW | {"responses": ["a", "b", "c"], "preference": {"groups": [[0], [1], [2]]}, "margin": 1}],
            "the number of responses of margin must be 2, got 3. Give rewards",
        ),
    ],
)
def test_a_bad_row_is_named(tmp_path, rows, said):
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    with pytest.raises(GuerdonError, match=said):
        auditing.read_scores(tmp_path / "s.jsonl")


PREFERRED = {"prompt": "p", "chosen": "good", "rejected": "bad"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            PREFERRED | {"rewards": [2, 1], "scores_chosen": 1.0, "scores_rejected": 2.0},
            "scores_chosen and scores_rejected must be the rewards that rewards holds for the same responses, got 1.0 and 2.0",
        ),
        (
            ROW | {"rewards": [2, 1], "scores_first": 2.0, "scores_second": 1.5},
            "scores_first and scores_second must be the rewards that rewards holds for the same responses, got 2.0 and 1.5. "
            "Keep the fields of one model",
        ),
        (
            ROW | {"scores_chosen": 2, "scores_rejected": 1, "scores_first": 1, "scores_second": 2},
            "scores_first and scores_second must be the rewards that scores_chosen holds for the same responses, got 1 and 2",
        ),
    ],
)
def test_fields_of_a_row_that_hold_different_rewards_are_an_error(tmp_path, row, said):
    (tmp_path / "s.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    with pytest.raises(GuerdonError, match=f"s.jsonl:1: {said}"):
        auditing.read_scores(tmp_path / "s.jsonl")


@pytest.mark.parametrize(
    "row",
    [
        PREFERRED | {"rewards": [2, 1 / 3], "scores_chosen": [2.0], "scores_rejected": [0.333333]},
        ROW | {"preference": {"q": 0.0}, "rewards": [2, 1], "scores_chosen": 1, "scores_rejected": 2},
        ROW | {"rewards": [2, 1], "scores_chosen": None, "scores_rejected": 7},
    ],
)
def test_fields_of_a_row_may_hold_the_same_rewards_twice(tmp_path, row):
    (tmp_path / "s.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    ((comparison,), model) = auditing.read_scores(tmp_path / "s.jsonl")
    scores = model.score([comparison.prompt] * 2, list(comparison.responses)).value
    assert sorted(scores.tolist()) == pytest.approx(sorted(row["rewards"]))


def test_a_text_without_a_score_is_named():
    with pytest.raises(
        GuerdonError,
        match=r"every text must have a score, got none for 'why', 'because'\. Score this text too",
    ):
        RecordedRewardModel({}).score(["why"], ["because"])
    with pytest.raises(GuerdonError, match="every text must have a score, got none for 'why', 'because'"):
        RecordedJudge({}).log_odds(["why"], ["because"], ["so"])


def test_the_commands_take_scores_and_texts_in_two_files(tmp_path):
    from typer.testing import CliRunner

    from guerdon.cli.app import app

    texts = [
        {"id": i, "prompt": f"q {i}", "chosen": f"good {i}", "rejected": f"no {i}", "source": "s"} for i in range(40)
    ]
    scores = [{"pair": i, "good": i % 3, "bad": 1} for i in range(40)]
    given = ["--from", str(write(tmp_path / "s.csv", scores)), "--data", str(write(tmp_path / "d.jsonl", texts))]
    columns = ["--column", "id=pair", "--column", "scores_chosen=good", "--column", "scores_rejected=bad", "--json"]
    audited = CliRunner().invoke(app, ["audit", "audit.draws=100", "audit.null_draws=100", *given, *columns])
    assert audited.exit_code == 0, audited.output
    assert json.loads(audited.stdout)["estimates"]["accuracy"]["value"] == pytest.approx((13 + 13 / 2) / 40)
    calibrated = CliRunner().invoke(app, ["calibrate", *given, *columns])
    assert calibrated.exit_code == 0, calibrated.output
    assert "temperature" in json.loads(calibrated.stdout)["estimates"]
    alone = CliRunner().invoke(app, ["audit", *given[:2], *columns])
    assert "rows must hold texts, got fields scores_chosen, scores_rejected" in str(alone.exception).replace(
        "pair, ", ""
    )
