"""Several models at once: the better ones are named, equal ones are not, and chance is corrected for."""

from __future__ import annotations

import json

import pytest
from toys import Constant, Good, comparisons

from guerdon.api.auditing import compare_many
from guerdon.auditing.compare import compare
from guerdon.config import AuditOptions
from guerdon.contracts import GuerdonError

ROWS = comparisons(150)
QUICK = {"draws": 100, "bins": 10}


def test_the_better_models_are_named_with_the_numbers_that_two_of_them_get():
    names = ("good", "constant", "other constant")
    models = (Good(), Constant(), Constant())
    report = compare_many(models, ROWS, names=names, **QUICK)
    pair = compare(models[0], models[2], ROWS, AuditOptions(**QUICK))
    assert report.estimates["accuracy_difference_a_c"] == pair.estimates["accuracy_difference"]
    assert report.estimates["accuracy_c"] == pair.estimates["accuracy_b"]
    assert report.estimates["adjusted_p_a_c"].value >= pair.estimates["equal_accuracy_p"].value
    titles = [finding.title for finding in report.findings]
    assert len(titles) == 2
    assert all(title.startswith("good is better: it orders") for title in titles)
    assert report.summary.startswith("A difference in accuracy is shown in 2 of 3 pairs of models: good is better")
    assert [section.title for section in report.sections][2] == "constant compared with other constant"
    assert set(report.estimates) == set(report.quantities)


def test_one_model_on_several_scales_is_not_told_apart():
    report = compare_many([Good(), Good(2.0), Good(3.0), Good(4.0)], ROWS, names=["m"] * 4, **QUICK)
    assert {report.estimates[key].value for key in report.estimates if key.startswith("adjusted_p")} == {1.0}
    assert report.summary == "No difference in accuracy is shown in any of 6 pairs of models"
    assert [report.about[letter] for letter in "abcd"] == ["m a", "m b", "m c", "m d"]


def test_fewer_than_three_models_and_no_comparisons_are_refused():
    with pytest.raises(GuerdonError, match="models must be 3 to 26, got 2"):
        compare_many([Good(), Good()], ROWS, **QUICK)
    with pytest.raises(GuerdonError, match="comparisons must be at least one, got none"):
        compare_many([Good()] * 3, [], **QUICK)


def test_the_command_compares_score_files_of_one_data_set(tmp_path):
    from typer.testing import CliRunner

    from guerdon.cli.app import app

    rows = [{"id": i, "prompt": f"q {i}", "chosen": f"good {i}", "rejected": f"no {i}"} for i in range(60)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    for name, share in (("a", 1.0), ("b", 0.5), ("c", 0.5)):
        scores = [{"id": i, "rewards": [int(i < share * 60), 0.5]} for i in range(60)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scores), "utf-8")
    files = [str(tmp_path / f"{name}.jsonl") for name in "abc"]
    given = ["compare", *files, "audit.draws=100", "--data", str(tmp_path / "d.jsonl"), "--json"]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    estimates = json.loads(done.stdout)["estimates"]
    assert estimates["accuracy_difference_a_b"]["value"] == 0.5
    assert estimates["adjusted_p_b_c"]["value"] == 1
    alone = CliRunner().invoke(app, given[:2])
    assert "MODEL must be two or more, got 1" in str(alone.exception)
