"""What version 0.1 wrote is read, with the scores it had; see tests/cases/saved_0_1/README.txt."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from shell import guerdon as run_guerdon
from toys import liked

import guerdon
from guerdon import GuerdonError, Preference
from guerdon.api import calibration, uncertainty
from guerdon.config import build
from guerdon.io import readers, reports
from guerdon.io.format_version import upgrade_format
from guerdon.models.card import Calibration
from guerdon.models.directory.doctor import examine
from guerdon.models.directory.formats import read_card, read_manifest
from guerdon.models.directory.loading import load_reward_model
from guerdon.models.isotonic import IsotonicJudge
from guerdon.reporting.card import is_ours
from guerdon.scoring.bulk_scorer import BulkScorer

OLD = Path(__file__).parents[2] / "cases" / "saved_0_1"
CASES = json.loads((OLD / "scores.json").read_text("utf-8"))
PROMPTS, RESPONSES, EXPECTED = CASES["prompts"], CASES["responses"], CASES["expected"]
MODELS = ("single", "calibrated", "uncertainty", "attributes", "heads", "members")


def assert_scores(model, name: str) -> None:
    """The model gives what 0.1 gave for the saved model of that name."""
    expected, scores = EXPECTED[name], model.score(PROMPTS, RESPONSES)
    for key in ("value", "std", "shift_p", "members"):
        if key in expected:
            np.testing.assert_allclose(getattr(scores, key), expected[key], rtol=1e-6, atol=1e-6, err_msg=key)
        else:
            assert getattr(scores, key) is None, key
    assert set(scores.attributes) == set(expected.get("attributes", {}))
    for attribute, values in scores.attributes.items():
        np.testing.assert_allclose(values, expected["attributes"][attribute], rtol=1e-6, atol=1e-6)
    _, spread = model.score_pairs(PROMPTS, RESPONSES, np.array([0]), np.array([3]))
    assert (spread is None) == ("margin_std" not in expected)
    if spread is not None:
        np.testing.assert_allclose(spread, expected["margin_std"], rtol=1e-6, atol=1e-6)


def copied(name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD / name, tmp_path / name))


# ---- Reading -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_scores_as_it_did(name):
    assert_scores(guerdon.load(OLD / name, device="cpu"), name)


def test_a_reference_scale_is_read():
    normalized = guerdon.load(OLD / "calibrated").normalized(PROMPTS, RESPONSES)
    np.testing.assert_allclose(normalized, EXPECTED["calibrated"]["normalized"], rtol=1e-6, atol=1e-6)


def test_a_bulk_scorer_reads_an_ensemble():
    found = BulkScorer(OLD / "heads", device="cpu").score(PROMPTS, RESPONSES)
    np.testing.assert_allclose(found.value, EXPECTED["heads"]["value"], rtol=1e-6, atol=1e-6)


def test_a_tie_threshold_is_read():
    assert read_card(OLD / "attributes").tie_threshold == 0.25


def test_an_isotonic_curve_is_read():
    judge = IsotonicJudge.from_dict(
        load_reward_model(OLD / "single"), json.loads((OLD / "isotonic.json").read_text("utf-8"))
    )
    log_odds = judge.log_odds(PROMPTS, RESPONSES, RESPONSES[::-1])
    np.testing.assert_allclose(log_odds, EXPECTED["isotonic"]["log_odds"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_the_doctor_finds_no_fault(name):
    folder = OLD / name
    for member in sorted(folder.glob("member-*")) or [folder]:
        assert [f.title for f in examine(member).findings if f.severity == "error"] == []


def test_an_audit_report_is_read():
    report = reports.from_json(json.loads((OLD / "audit.json").read_text("utf-8")))
    assert report.estimates["accuracy"].value == 1.0
    assert report.gate is not None
    assert report.gate.decision == "not fit"
    assert reports.from_json(reports.to_json(report)) == report


def test_a_config_is_read():
    config = build(readers.read_config(OLD / "config.yaml"))
    assert (config.train.centering, config.train.lr, config.model.base) == (0.01, 0.01, "tiny")


def test_a_stopping_rule_is_read(tmp_path):
    (tmp_path / "config.yaml").write_text("optimize:\n  stop_when: over_optimised\n  kl_coef: 0.5\n")
    options = build(readers.read_config(tmp_path / "config.yaml")).optimize
    assert (options.stop_when, options.kl_coef) == ("over_optimized", 0.5)


def test_comparisons_keep_their_ids_and_preferences():
    rows = [json.loads(line) for line in (OLD / "comparisons.jsonl").read_text("utf-8").splitlines()]
    comparisons = guerdon.read(OLD / "comparisons.jsonl")
    assert [comparison.id for comparison in comparisons] == [row["id"] for row in rows]
    assert [comparison.preference for comparison in comparisons][2:] == [
        Preference(q=0.7),
        Preference(groups=((1,), (0, 2)), strength=2.0),
        Preference(groups=((0, 1),), votes=(1, 2, 1)),
    ]


def test_a_model_card_may_be_written_over():
    assert is_ours((OLD / "calibrated/README.md").read_text("utf-8"))


def test_measuring_anew_gives_no_false_warning_about_the_training_data(caplog):
    """0.1 hashed the data in a way that cannot be compared any more."""
    everything = liked(220, seed=1)
    model = guerdon.load(OLD / "single", with_uncertainty=False)
    uncertainty.measure_uncertainty(model, everything[:120], held_out=everything[120:160])
    assert "not exactly the comparisons" not in caplog.text


# ---- Writing it again --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_saving_it_again_gives_todays_format_and_the_same_scores(tmp_path, name):
    guerdon.save(guerdon.load(OLD / name), tmp_path / "model")
    files = {path.name for path in (tmp_path / "model").rglob("*")}
    assert not [file for file in files if "assay" in file]
    card = next(path for path in sorted((tmp_path / "model").rglob("reward.json")))
    assert json.loads(card.read_text("utf-8"))["version"] == 2
    if name in ("heads", "members"):
        manifest = json.loads((tmp_path / "model/ensemble.json").read_text("utf-8"))
        assert manifest["version"] == 2
        assert "center" in manifest["scale"]
        assert manifest["shared_backbone"] == (name == "heads")
    assert ("uncertainty.safetensors" in files) == (name == "uncertainty")
    assert_scores(guerdon.load(tmp_path / "model"), name)


def test_an_ensemble_is_recalibrated_in_place(tmp_path):
    folder = copied("members", tmp_path)
    whole = guerdon.load(folder)
    whole.calibration = Calibration(temperature=3.0)
    calibration.store_calibration(whole, folder)
    manifest = json.loads((folder / "ensemble.json").read_text("utf-8"))
    assert (manifest["version"], manifest["calibration"]["temperature"]) == (2, 3.0)
    assert read_manifest(folder).scale == read_manifest(OLD / "members").scale


def test_an_uncertainty_measured_again_in_place_replaces_the_old_file(tmp_path):
    folder = copied("uncertainty", tmp_path)
    model = guerdon.load(folder)
    uncertainty.store_uncertainty(model, folder)
    assert not (folder / "assay/uncertainty.safetensors").exists()
    assert (folder / "guerdon/uncertainty.safetensors").is_file()
    assert_scores(guerdon.load(folder), "uncertainty")


def test_the_command_line_reads_and_repairs_it(tmp_path):
    assert run_guerdon("score", OLD / "calibrated", "--prompt", PROMPTS[0], "--response", RESPONSES[0]).code == 0
    assert run_guerdon("doctor", OLD / "single", "--repair", tmp_path / "model").code == 0
    assert_scores(guerdon.load(tmp_path / "model"), "single")


# ---- Other versions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reward.json", "ensemble.json"])
@pytest.mark.parametrize(
    ("version", "message"),
    [
        (
            3,
            r"was written by a newer Guerdon \(format 3, this one reads up to 2\)\. Upgrade with `pip install -U guerdon`\.",
        ),
        (0, r"version must be an integer >= 1, got 0\. Restore the file"),
        (-1, r"version must be an integer >= 1, got -1\. Restore the file"),
        (True, r"version must be an integer >= 1, got True\. Restore the file"),
        ("1", r"version must be an integer >= 1, got '1'\. Restore the file"),
        (None, r"version must be an integer >= 1, got nothing\. Restore the file"),
        (1.5, r"version must be an integer >= 1, got 1\.5\. Restore the file"),
    ],
)
def test_another_version_is_refused_with_the_file_and_the_advice(tmp_path, name, version, message):
    folder = copied("members" if name == "ensemble.json" else "single", tmp_path)
    values = json.loads((folder / name).read_text("utf-8"))
    (folder / name).write_text(json.dumps(values | {"version": version}), "utf-8")
    with pytest.raises(GuerdonError, match=f"{name}.*{message}") as refusal:
        guerdon.load(folder)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("version", [99, 0, None])
def test_another_version_of_a_report_is_refused(version):
    values = json.loads((OLD / "audit.json").read_text("utf-8")) | {"format": "guerdon.report", "version": version}
    with pytest.raises(GuerdonError, match=r"report: (was written by a newer Guerdon|version must be an integer)"):
        reports.from_json(values)


def test_formats_are_upgraded_one_step_at_a_time():
    steps = {
        1: lambda values: {**values, "steps": ["1"]},
        2: lambda values: {**values, "steps": [*values["steps"], "2"]},
    }
    assert upgrade_format({"version": 1}, "file", 3, steps) == {"steps": ["1", "2"]}
    assert upgrade_format({"version": 3, "a": 1}, "file", 3, steps) == {"a": 1}
