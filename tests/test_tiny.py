"""Every stage in seconds, on a tiny random Llama: through the Python functions, then through the command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from shell import guerdon as command
from stopped_steps import run_stopped_before_every_step
from toys import liked

import guerdon
from guerdon.api import auditing, data
from guerdon.config import build
from guerdon.io import readers
from guerdon.recipes import quickstart as recipe
from tiny import REMOVES_BOS, faults

FAST = {"lr": 3e-3, "batch_size": 16, "micro_tokens": 1024}
TRAIN_OPTIONS = [f"train.{name}={value}" for name, value in FAST.items()]
AUDIT = {"draws": 200, "null_draws": 100}
AUDIT_OPTIONS = [f"audit.{name}={value}" for name, value in AUDIT.items()]
QUICK = {"sample_prompts": 1, "samples": 3, "sample_tokens": 4}


@pytest.fixture(scope="module")
def trl_file(tmp_path_factory):
    """A file in TRL's format: 400 rows of prompt, chosen and rejected, and one bad row."""
    path = tmp_path_factory.mktemp("trl") / "pairs.jsonl"
    rows = []
    for c in liked(400):
        best, worst = (c.responses[group[0]].text for group in c.preference.groups)
        rows.append({"prompt": c.prompt[0].content, "chosen": best, "rejected": worst})
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": "a", "chosen": "b"}]))
    return path


def assert_page(path: Path) -> None:
    """One file that opens without a network: it loads nothing from elsewhere."""
    page = path.read_text("utf-8")
    assert len(page) > 5000
    assert not re.findall(r"""(?:src|href|xlink:href)\s*=\s*["']?(?!#|data:)[^\s>]*(?://|\.js|\.css)""", page)
    assert not re.findall(r"@import|url\((?!['\"]?(?:#|data:))", page)
    assert "<script" not in page.lower() or "://" not in page.lower().split("<script", 1)[1].split("</script", 1)[0]


def assert_good(report_json: dict, at_least: float = 0.8) -> None:
    """Accuracy above 0.8 with an interval, and no number without one."""
    accuracy = report_json["estimates"]["accuracy"]
    assert at_least < accuracy["value"] <= 1.0
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert accuracy["low"] > 0.6
    assert accuracy["n"] >= 20
    for name, estimate in report_json["estimates"].items():
        assert set(estimate) >= {"value", "low", "high", "n"}, name


def test_every_stage_through_python(tiny_dir, trl_file, tmp_path):
    with pytest.raises(guerdon.GuerdonError, match=r"pairs\.jsonl:401"):
        guerdon.read(trl_file)
    rows = trl_file.read_text("utf-8").splitlines(keepends=True)[:-1]
    (tmp_path / "pairs.jsonl").write_text("".join(rows))
    comparisons = guerdon.read(tmp_path / "pairs.jsonl")
    assert len(comparisons) == 400
    assert guerdon.write(tmp_path / "all.parquet", comparisons) == 400
    assert guerdon.read(tmp_path / "all.parquet") == comparisons

    parts = guerdon.split(comparisons, train=0.6, calibrate=0.2, audit=0.2)
    others = {name: parts[name] for name in ("calibrate", "audit")}
    hygiene = guerdon.check(parts["train"], against=others)
    assert not [finding for finding in hygiene.findings if finding.severity == "error"]

    model = guerdon.train(parts["train"], held_out=parts["calibrate"], out=tmp_path / "run", base=str(tiny_dir), **FAST)
    before = guerdon.load(tmp_path / "run/model")
    assert (before.calibration.temperature, before.calibration.reference_mean) == (1.0, 0.0)
    calibrated, calibration = guerdon.calibrate(model, parts["calibrate"])
    assert calibration.estimates["nll_after"].value <= calibration.estimates["nll_before"].value + 0.05
    guerdon.save(calibrated, tmp_path / "model")

    loaded = guerdon.load(tmp_path / "model")
    prompts, responses = ["write a review"] * 2, ["a good and great film", "a bad and awful film"]
    values = guerdon.score(loaded, prompts, responses).value
    assert np.array_equal(values, calibrated.score(prompts, responses).value)
    assert values[0] > values[1]
    np.testing.assert_allclose(before.score(prompts, responses).value, values * loaded.calibration.temperature)

    report = guerdon.audit(loaded, parts["audit"], **AUDIT)
    auditing.write_report(report, tmp_path / "report")
    assert_good(json.loads((tmp_path / "report/report.json").read_text("utf-8")))
    assert_page(tmp_path / "report/report.html")
    assert "[" in guerdon.to_markdown(report)

    assert faults(guerdon.doctor(tmp_path / "model")) == []
    guerdon.check_reward_model(loaded)


def test_every_stage_through_the_command_line(tiny_dir, trl_file, tmp_path):
    def run(*words, code=0):
        ran = command(*words, "--json")
        assert ran.code == code, ran
        assert "Traceback" not in ran.err
        return json.loads(ran.out)

    printed = run("import", trl_file, "--out", tmp_path / "all.jsonl")
    assert (printed["comparisons"], printed["rejected"]) == (400, 1)
    printed = run("check", tmp_path / "all.jsonl", "--model", tiny_dir)
    assert printed["findings"] == [] or all(f["severity"] != "error" for f in printed["findings"])
    shares = ("split.train=0.6", "split.calibrate=0.2", "split.audit=0.2")
    printed = run("split", tmp_path / "all.jsonl", "--out", tmp_path / "parts", *shares)
    assert printed["train"] + printed["calibrate"] + printed["audit"] == 400
    part = {name: tmp_path / "parts" / f"{name}.jsonl" for name in ("train", "calibrate", "audit")}
    run("check", part["train"], "--against", part["calibrate"], "--against", part["audit"])

    run_folder = tmp_path / "run"
    training = ("train", "--data", part["train"], "--held-out", part["calibrate"], "--out", run_folder)
    printed = run(*training, "--base", tiny_dir, *TRAIN_OPTIONS)
    assert printed["held_out_accuracy"] > 0.8
    assert Path(printed["model"]) == run_folder / "model"
    metrics = (run_folder / "metrics.jsonl").read_bytes()
    again = run(*training, "--config", run_folder / "config.yaml")
    assert again == printed
    assert (run_folder / "metrics.jsonl").read_bytes() == metrics

    model = run_folder / "model"
    weights = (model / "model.safetensors").read_bytes()
    raw = run("score", model, "--prompt", "write", "--response", "a good film", "--response", "a bad film")["rewards"]
    printed = run("calibrate", model, "--data", part["calibrate"])
    temperature = printed["estimates"]["temperature"]["value"]
    assert (model / "model.safetensors").read_bytes() == weights
    assert json.loads((model / "reward.json").read_text("utf-8"))["calibration"]["temperature"] == temperature
    both = ("--prompt", "write", "--response", "a good film", "--response", "a bad film")
    scaled = run("score", model, *both)["rewards"]
    np.testing.assert_allclose(np.array(raw) / temperature, scaled)
    assert scaled[0] > scaled[1]
    np.testing.assert_allclose(run("score", model, *both, "score.calibrated=false")["rewards"], raw)

    printed = run("audit", model, "--data", part["audit"], "--out", run_folder, *AUDIT_OPTIONS)
    assert_good(printed)
    assert json.loads((run_folder / "report.json").read_text("utf-8")) == printed
    assert_page(run_folder / "report.html")
    assert printed["title"] == "run on audit.jsonl: how far to trust it"

    printed = run("score", model, "--data", part["audit"], "--out", tmp_path / "scored.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "scored.jsonl").read_text("utf-8").splitlines()]
    assert printed["rows"] == len(rows)
    assert printed["responses"] == 2 * len(rows)
    originals = list(readers.read_comparisons(part["audit"]))
    right = [r["rewards"][c.preference.groups[0][0]] == max(r["rewards"]) for r, c in zip(rows, originals, strict=True)]
    assert np.mean(right) > 0.8
    assert [finding["title"] for finding in run("doctor", model)["findings"]] == [REMOVES_BOS]


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_tables_are_printed_for_people_and_json_for_programs(tiny_dir, tmp_path, words):
    data.write(tmp_path / "all.jsonl", liked(30))
    ran = command("check", tmp_path / "all.jsonl", *words)
    assert ran.code == 0
    if words:
        assert json.loads(ran.out)["title"]
    else:
        assert "{" not in ran.out
        assert "30" in ran.out


# ---- The quickstart ------------------------------------------------------------------------------------------------


def quick_options(tiny_dir: Path) -> list[str]:
    given = {"model.base": tiny_dir, "model.lora_rank": 0, **{f"quickstart.{k}": v for k, v in QUICK.items()}}
    return [*TRAIN_OPTIONS, *AUDIT_OPTIONS, *(f"{key}={value}" for key, value in given.items())]


@pytest.fixture(scope="module")
def quick(tiny_dir, trl_file, tmp_path_factory):
    """A quickstart that has run once: its folder, its arguments, and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "quick"
    words = ["quickstart", "--data", trl_file, "--out", out, *quick_options(tiny_dir)]
    return out, words, command(*words, "--json")


def test_the_quickstart_writes_a_model_and_a_page(quick):
    out, _, ran = quick
    assert ran.code == 0, ran.err
    report = json.loads(ran.out)
    assert_good(report)
    assert_page(out / "report.html")
    assert report["title"].startswith("Reward model quick, audited on ")
    assert json.loads((out / "report.json").read_text("utf-8")) == report
    assert "accuracy" in (out / "report.md").read_text("utf-8").lower()
    loaded = guerdon.load(out / "model")
    assert loaded.calibration.temperature == 1.0
    assert "beyond its lower bound" in loaded.calibration.note  # the toy's pairs are perfectly separable
    values = loaded.score(["write a review"] * 2, ["a good and great film", "a bad and awful film"]).value
    assert values[0] > values[1]
    assert (out / "model/README.md").read_text("utf-8").startswith("---\nlibrary_name: transformers\n")
    assert faults(guerdon.doctor(out / "model")) == []
    assert len((out / "rejected.jsonl").read_text("utf-8").splitlines()) == 1


def test_the_quickstart_with_ai_feedback_audits_on_people_and_shows_the_judges_card(tiny_dir, tmp_path, monkeypatch):
    from guerdon.api import ai_quickstart

    people = [
        guerdon.Comparison(
            guerdon.Prompt([guerdon.Message("user", "Write a tweet.")]),
            (guerdon.Response(f"good {i}"), guerdon.Response(f"bad {i}")),
            guerdon.Preference(q=0.9),
            group=str(i),
        )
        for i in range(80)
    ]
    monkeypatch.setattr(ai_quickstart, "people_comparisons", lambda config: people)
    out, given = (
        tmp_path / "ai",
        {"ai_prompts": 30, "ai_replies": 2, "card_pairs": 20, "audit_pairs": 60, "comparisons": 80},
    )
    words = [*quick_options(tiny_dir), *(f"quickstart.{key}={value}" for key, value in given.items())]
    ran = command("quickstart", "--feedback", "ai", "--out", out, *words, "--json")
    assert ran.code == 0, ran.err
    assert "The AI judge, measured against people" in [section["title"] for section in json.loads(ran.out)["sections"]]
    audited = list(guerdon.read(out / "audit.jsonl"))
    assert [pair.responses for pair in audited] == [pair.responses for pair in people[20:]]
    assert {pair.annotator for pair in guerdon.read(out / "train.jsonl")} == {
        pair.annotator for pair in guerdon.read(out / "labels.jsonl")
    }
    refused = command("quickstart", "--feedback", "ai", "--data", out / "labels.jsonl", "--out", tmp_path / "b", *words)
    assert refused.code == 2
    assert "quickstart.feedback must be people with data of your own, got 'ai'." in refused.err


def test_a_second_quickstart_repeats_no_step(quick):
    out, words, first = quick
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.suffix in (".safetensors", ".jsonl")}
    again = command(*words, "--json")
    assert again.code == 0
    assert json.loads(again.out) == json.loads(first.out)
    steps = [line for line in again.err.splitlines() if line.strip()]
    assert steps
    assert all(line.endswith("already done") for line in steps)
    assert before == {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.suffix in (".safetensors", ".jsonl")}


def test_a_quickstart_refuses_a_folder_of_other_options_or_data(quick, tmp_path):
    out, words, _ = quick
    for change, named in (
        (["train.seed=5"], "options (train.seed)"),
        (["--data", tmp_path / "other.jsonl"], "data"),
    ):
        data.write(tmp_path / "other.jsonl", liked(30))
        before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
        ran = command(*words, *change)
        assert ran.code == 2
        assert (
            f"quick: belongs to a run that differs in {named}. Delete it to start over, or pass another --out."
            in ran.err
        )
        assert before == {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}


def test_a_quickstart_that_trained_nothing_accepts_corrected_options(trl_file, tiny_dir, tmp_path):
    words = ("quickstart", "--data", trl_file, "--out", tmp_path / "run")
    assert command(*words, f"model.base={tmp_path / 'typo'}").code == 2
    ran = command(*words, f"model.base={tiny_dir}", "model.max_length=8", "model.truncation=refuse")
    assert "model.max_length=8" in ran.err.splitlines()[-1]
    assert "other options" not in ran.err


def test_a_quickstart_resumes_from_every_step(quick, tiny_dir, trl_file, tmp_path, monkeypatch):
    """Stopped before each step in turn, it ends with the report of a run that was never stopped."""
    quickstart = sys.modules["guerdon.api.pipeline"]
    config = build(recipe(), overrides=quick_options(tiny_dir))
    given = {"data": trl_file, "config": config, "log": lambda line: None}
    report, stopped = run_stopped_before_every_step(
        lambda: quickstart.quickstart(tmp_path / "run", **given), monkeypatch
    )
    assert len(stopped) >= 4
    expected = json.loads(quick[2].out)["estimates"]
    assert json.loads((tmp_path / "run/report.json").read_text("utf-8"))["estimates"] == expected
    assert report.estimates["accuracy"].value == expected["accuracy"]["value"]


# ---- Before anything runs ------------------------------------------------------------------------------------------


def test_importing_loads_no_torch():
    script = "import sys, guerdon, guerdon.config, guerdon.recipes; assert guerdon.Comparison and guerdon.Config; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "scipy", "matplotlib", "pyarrow", "accelerate", "peft"} & set(loaded)


def processor_seconds_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def test_help_is_fast_and_imports_no_heavy_module():
    words = [sys.executable, "-X", "importtime", "-m", "guerdon", "--help"]
    seconds, ran = [], None
    for _ in range(3):
        before = processor_seconds_of_children()
        ran = subprocess.run([sys.executable, "-m", "guerdon", "--help"], capture_output=True, text=True, check=True)
        seconds.append(processor_seconds_of_children() - before)
    assert "quickstart" in ran.stdout
    assert "Usage: " in ran.stdout
    traced = subprocess.run(words, capture_output=True, text=True, check=True).stderr
    assert not re.search(r"\| +(torch|transformers|numpy|pydantic|rich)\b", traced)
    # Processor time, which tests that run beside this one do not change; half a second of the clock leaves 0.1 for the disk
    assert min(seconds) < 0.4, seconds


def test_every_public_name_exists():
    for name in guerdon.__all__:
        assert getattr(guerdon, name) is not None
    assert set(guerdon.__all__) <= set(dir(guerdon))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        guerdon.nonsense  # noqa: B018
    assert command("--version").out.strip() == guerdon.__version__
