"""What a killed audit had finished is not measured again, unless the model, the data or the options are others."""

from __future__ import annotations

import pytest
from toys import Counting, Good, comparisons

from guerdon.api import auditing
from guerdon.io.reports import to_json

PARTS = ["accuracy", "people", "odds", "order", "mistakes", "uncertainty"]
QUICK = {"draws": 100, "null_draws": 100, "bins": 10, "hygiene_rows": 4, "only": PARTS}


def test_a_killed_audit_resumes(tmp_path):
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


def test_a_finished_part_is_not_measured_again(tmp_path):
    rows, first, second = comparisons(60), Counting(), Counting()
    auditing.audit(first, rows, out=tmp_path, **{**QUICK, "only": ["accuracy"]})
    written = (tmp_path / ".guerdon-parts/accuracy.json").stat().st_mtime_ns
    auditing.audit(second, rows, out=tmp_path, **QUICK)
    assert (tmp_path / ".guerdon-parts/accuracy.json").stat().st_mtime_ns == written
    assert second.asked == 0
    assert {path.stem for path in (tmp_path / ".guerdon-parts").glob("*.json")} >= {
        "accuracy",
        "odds",
        "hygiene",
        "mistakes",
    }


@pytest.mark.parametrize("change", ["options", "data", "model"])
def test_with_other_options_data_or_model_nothing_stale_is_used(tmp_path, change):
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
    assert (model.asked < len(rows)) == (
        change == "options"
    )  # options change no score: only the hygiene gate scores again
    assert (to_json(after) == to_json(before)) == (change == "model")


def test_a_line_that_a_kill_cut_short_is_skipped(tmp_path):
    rows = comparisons(60)
    whole = auditing.audit(Counting(), rows, out=tmp_path, **QUICK)
    for path in (tmp_path / ".guerdon-parts").glob("*.json"):
        path.write_text(path.read_text("utf-8")[:40], "utf-8")
    scores = tmp_path / ".guerdon-parts/scores.jsonl"
    scores.write_bytes(scores.read_bytes()[:-50])
    model = Counting()
    assert to_json(auditing.audit(model, rows, out=tmp_path, **QUICK)) == to_json(whole)
    assert model.asked > 0


def test_a_model_without_a_fingerprint_saves_nothing(tmp_path):
    auditing.audit(Good(), comparisons(30), out=tmp_path, **QUICK)
    assert not list(tmp_path.rglob("*"))
