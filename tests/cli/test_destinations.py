"""No command destroys an input or a folder of somebody else, and two never write into one folder at a time."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from shell import guerdon
from toys import liked

from guerdon.api import data, saved_models
from guerdon.cli.app import app
from guerdon.cli.destinations import destinations_of
from guerdon.config import ModelOptions
from guerdon.models.directory.loading import create_reward_model


@pytest.fixture(scope="module")
def originals(tiny_dir, tmp_path_factory) -> Path:
    """Two models, comparisons, and prompts."""
    folder = tmp_path_factory.mktemp("originals")
    for seed, name in enumerate("ab"):
        saved_models.save(create_reward_model(ModelOptions(base=str(tiny_dir)), seed=seed), folder / name)
    data.write(folder / "d.jsonl", liked(40))
    for name in ("train.jsonl", "rejected.jsonl", "report.json", "x.rejected.jsonl"):
        shutil.copy(folder / "d.jsonl", folder / name)
    (folder / "config.yaml").write_text("train: {lr: 1e-4}  # mine\n")
    return folder


@pytest.fixture
def here(originals, tmp_path, monkeypatch) -> Path:
    shutil.copytree(originals, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


ON_INPUTS = {
    "import over its source": ("import", "d.jsonl", "--out", "d.jsonl"),
    "import, spelled otherwise": ("import", "d.jsonl", "--out", "../here/d.jsonl"),
    "import whose rejects are its source": ("import", "x.rejected.jsonl", "--out", "x.jsonl"),
    "split into its source": ("split", "train.jsonl", "--out", "."),
    "score over its source": ("score", "a", "--data", "d.jsonl", "--out", "d.jsonl"),
    "ensemble over a member": ("ensemble", "a", "b", "--out", "a"),
    "average over a member": ("ensemble", "a", "b", "--average", "--data", "d.jsonl", "--out", "b"),
    "repair in place": ("doctor", "a", "--repair", "a"),
    "quickstart over its data": ("quickstart", "--data", "train.jsonl", "--out", "."),
    "audit over a score file": ("audit", "--from", "report.json", "--out", "."),
    "audit over its data": ("audit", "a", "--data", "report.json", "--out", "."),
    "train over a config by hand": ("train", "--data", "d.jsonl", "--base", "a", "--config", "config.yaml", "--out", "."),
    "best-of-n over its prompts": ("optimize best-of-n", "--reward", "a", "--prompts", "d.jsonl", "--out", "d.jsonl"),
    "two outputs in one file": (
        "optimize best-of-n", "--reward", "a", "--prompts", "d.jsonl", "--out", "p.jsonl", "--sft", "p.jsonl",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ON_INPUTS)
def test_a_destination_that_is_an_input_is_refused_before_anything_is_written(here, name):
    before = contents(here)
    command, *words = ON_INPUTS[name]
    ran = guerdon(*command.split(), *words)
    assert ran.code == 2
    assert ran.err.startswith("error: ")
    assert len(ran.err.splitlines()) == 1
    assert contents(here) == before


@pytest.mark.parametrize(
    "words",
    [
        ("calibrate", "a", "--data", "d.jsonl", "--out", "mine"),
        ("ensemble", "a", "b", "--out", "mine"),
        ("doctor", "a", "--repair", "mine"),
    ],
)
def test_a_folder_of_somebody_else_is_refused_by_name(here, words):
    for file in ("config.json", "thesis.txt", "sub/notes.md"):
        (here / "mine" / file).parent.mkdir(exist_ok=True, parents=True)
        (here / "mine" / file).write_text("{}")
    before = contents(here)
    ran = guerdon(*words)
    assert ran.code == 2
    assert "mine: holds " in ran.err
    assert "so it is not replaced" in ran.err
    assert contents(here) == before


def test_a_member_of_an_ensemble_that_is_read_is_not_replaced(here):
    assert guerdon("ensemble", "a", "b", "--out", "both").code == 0
    before = contents(here)
    ran = guerdon("calibrate", "both", "--data", "d.jsonl", "--out", "both/member-1")
    assert "both/member-1: is a part of both, which is read" in ran.err
    assert contents(here) == before


def test_a_model_is_calibrated_in_place_however_it_is_spelled(here):
    weights = (here / "a" / "model.safetensors").stat().st_ino
    for words in ((), ("--out", "a"), ("--out", "../here/a/")):
        assert guerdon("calibrate", "a", "--data", "d.jsonl", *words).code == 0
    assert (here / "a" / "model.safetensors").stat().st_ino == weights


def test_a_quickstart_leaves_an_older_split_alone(here):
    (here / "run").mkdir()
    shutil.copy(here / "d.jsonl", here / "run" / "train.jsonl")
    before = contents(here)
    ran = guerdon("quickstart", "--data", "d.jsonl", "--out", "run", "--config", "/dev/null")
    assert "run: holds train.jsonl, which no quickstart wrote" in ran.err
    assert contents(here) == before


def test_a_name_of_a_part_that_is_mistyped_deletes_nothing(here):
    (here / "run" / "parts").mkdir(parents=True)
    (here / "run" / "parts" / "train.jsonl").write_text("years of work")
    before = contents(here)
    ran = guerdon("audit", "a", "--data", "d.jsonl", "--out", "run", "audit.only=[acuracy]")
    assert "audit.only must name parts of the audit, got 'acuracy'. Did you mean accuracy?" in ran.err
    assert contents(here) == before


LONG = "x" * 300


@pytest.mark.parametrize("bad", ["loop", "loop/x.jsonl", LONG, f"{LONG}.jsonl", "/".join(["y" * 200] * 30)])
@pytest.mark.parametrize(
    "words",
    ["check BAD", "split d.jsonl --out BAD", "score BAD --prompt a --response b", "score a --data BAD --out o.jsonl",
     "doctor BAD", "doctor a --repair BAD", "audit a --data d.jsonl --out BAD", "ensemble a BAD --out new",
     "train --data d.jsonl --base BAD --out new", "check d.jsonl --config BAD", "quickstart --data d.jsonl --out BAD"],
)  # fmt: skip
def test_a_path_that_no_file_can_have_is_one_line(here, bad, words):
    (here / "loop").symlink_to("loop")
    ran = guerdon(*words.replace("BAD", bad).split())
    assert ran.code == 2
    (line,) = ran.err.splitlines()[-1:]
    assert line.startswith("error: ")
    assert len(line) < 600


HOLD = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX); print(1, flush=True); input()"
WRITERS = {
    "quickstart": ("quickstart", "--data", "d.jsonl", "--out", "run"),
    "split": ("split", "d.jsonl", "--out", "run"),
    "train": ("train", "--data", "d.jsonl", "--base", "a", "--out", "run"),
    "audit": ("audit", "a", "--data", "d.jsonl", "--out", "run"),
    "calibrate": ("calibrate", "a", "--data", "d.jsonl", "--out", "run"),
    "ensemble": ("ensemble", "a", "b", "--out", "run"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_another_process_writes_is_refused(here, name):
    (here / "run").mkdir()
    with subprocess.Popen([sys.executable, "-c", HOLD, "run"], stdin=-1, stdout=-1) as other:
        assert other.stdout.readline() == b"1\n"
        ran = guerdon(*WRITERS[name])
        other.communicate(b"\n")
    assert ran.code == 2
    assert "run: another process is writing it. Wait for it, or pass another --out." in ran.err
    assert contents(here / "run") == {}


def test_every_option_that_names_an_output_is_known_as_one():
    for command in app.registered_commands:
        options = {"out", "report", "sft", "comparisons", "repair"} & set(command.callback.__annotations__)
        assert options == set(destinations_of(command.callback)), command.name
