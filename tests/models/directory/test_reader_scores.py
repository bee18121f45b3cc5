"""Five conversations through every reader: equal scores pass, others are named, and a reader that fails has no score."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from engines import Engine, running
from families import save_family
from shell import guerdon

from guerdon import GuerdonError
from guerdon.api import saved_models
from guerdon.config import ModelOptions
from guerdon.models.card import Calibration
from guerdon.models.directory.loading import create_reward_model, load
from guerdon.models.directory.reader_scores import CONVERSATIONS, compare_readers
from guerdon.models.directory.saving import save


@pytest.fixture(scope="module")
def saved(tiny_dir, tmp_path_factory):
    """A saved directory with a calibration; read it, do not write into it."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    model = create_reward_model(ModelOptions(base=str(tiny_dir)), seed=3)
    save(model.with_card(calibration=Calibration(temperature=0.5, reference_mean=0.25)), folder)
    return folder


@pytest.fixture(scope="module")
def raw(saved):
    """Guerdon's raw score of a conversation, by its last text."""
    model = load(saved, ModelOptions(device="cpu")).model
    return {texts[-1]: float(model.score([turns(texts)[:-1]], [texts[-1]]).value[0]) for texts in CONVERSATIONS}


def turns(texts):
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def program(folder: Path, body: str) -> Path:
    """A stand-in for another environment's Python."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{body}\n", "utf-8")
    path.chmod(0o755)
    return path


def test_transformers_alone_batched_and_as_a_pipeline_gives_our_scores(saved):
    report = compare_readers(saved)
    assert len(report.estimates) == 3
    assert all(name.startswith("transformers 5") for name in report.estimates)
    assert max(estimate.value for estimate in report.estimates.values()) < 1e-5
    assert report.findings == ()
    assert report.summary == "3 of 3 readers give Guerdon's scores of 5 conversations"


def test_an_encoder_is_read_with_its_special_tokens(tmp_path):
    base = save_family(tmp_path / "base", "bert")
    save(create_reward_model(ModelOptions(base=str(base), template="plain")), tmp_path / "model")
    report = compare_readers(tmp_path / "model")
    assert report.findings == ()
    assert len(report.estimates) == 3


def test_a_pipeline_that_squashes_scores_is_an_error(saved, tmp_path):
    folder = Path(shutil.copytree(saved, tmp_path / "copy"))
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "problem_type": None}), "utf-8")
    (finding,) = compare_readers(folder).findings
    assert finding.severity == "error"
    assert "pipeline gives other scores" in finding.title


def test_another_environment_adds_the_readers_that_this_one_has_not(saved, tmp_path):
    line = '{"reader": "TRL 9", "scores": [0, 0, 0, 0, 0]}'
    report = compare_readers(
        saved, pythons=[program(tmp_path, f"cp \"$2\" '{tmp_path}/sent'\necho '{line}' >> \"$3\"")]
    )
    assert report.findings[-1].title == "TRL 9 gives other scores"
    sent = json.loads((tmp_path / "sent").read_text("utf-8"))
    assert sent["conversations"] == [turns(texts) for texts in CONVERSATIONS]
    assert len(sent["known"]) == 3


def test_an_environment_that_crashes_keeps_the_results_before(saved, tmp_path):
    line = '{"reader": "A 1", "error": "ImportError: no such module"}'
    report = compare_readers(
        saved, pythons=[program(tmp_path, f"echo '{line}' >> \"$3\"\necho out of memory >&2\nexit 7")]
    )
    path = str(tmp_path / "python")
    assert report.about == {"A 1": "ImportError: no such module", path: "exit status 7: out of memory"}
    assert [finding.title for finding in report.findings] == ["A 1 cannot score it", f"{path} cannot score it"]
    assert set(report.estimates).isdisjoint({"A 1", path})


def test_a_python_that_does_not_exist_is_refused_before_anything_is_read():
    with pytest.raises(GuerdonError, match="--python must be the Python of an environment"):
        saved_models.doctor("nowhere", pythons=["/nowhere/python"])
    with pytest.raises(GuerdonError, match="url must start with http:// or https://"):
        saved_models.doctor("nowhere", urls=["ftp://host"])


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_a_server_is_asked_in_its_own_protocol(saved, raw, kind):
    def score(value):
        if isinstance(value, list):
            return raw[value[-1]["content"]]
        return next(number for text, number in raw.items() if value.endswith(f"{text}<|im_end|>\n"))

    with running(Engine(kind, score)) as engine:
        report = compare_readers(saved, [engine.url])
    (name,) = (name for name in report.estimates if engine.url in name)
    assert name.startswith({"vllm": "vLLM", "sglang": "SGLang"}[kind])
    assert report.estimates[name].value < 1e-9
    assert report.findings == ()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((500, {"error": "no"}), "status must be 200, got 500"),
        ((200, b"not JSON"), "the answer must be JSON"),
        ((200, {"data": []}), "unexpected answer"),
        ((200, {"data": [{"probs": [0.5, 0.5]}]}), "unexpected answer"),
    ],
)
def test_a_server_that_fails_has_an_error_and_no_score(saved, answer, error):
    with running(Engine("vllm", len)) as engine:
        engine.answer = answer
        report = compare_readers(saved, [engine.url])
    ((name, line),) = report.about.items()
    assert engine.url in name
    assert error in line
    assert name not in report.estimates


def test_another_kind_of_server_is_named(saved):
    with running(Engine("somebody", len)) as engine:
        report = compare_readers(saved, [engine.url])
    assert "must be one of vLLM, SGLang, guerdon serve, got 'somebody'" in report.about[engine.url]


def test_the_command_prints_one_table(saved):
    ran = guerdon("doctor", saved)
    assert ran.code == 0
    assert "3 of 3 readers give Guerdon's scores of 5 conversations." in ran.out
    assert "largest" in ran.out
    assert "Scores by reader" not in guerdon("doctor", saved, "--files-only").out
    assert "--files-only" in guerdon("doctor", saved, "--files-only", "--url", "http://127.0.0.1:1").err
