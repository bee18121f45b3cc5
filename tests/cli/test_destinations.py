"""No command destroys an input or a folder of somebody else, and two never write into one folder at a time."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from shell import guerdon
from toys import liked

from guerdon.api import data, saved_models, store
from guerdon.cli.app import app
from guerdon.cli.destinations import destinations_of
from guerdon.config import Config, ModelOptions
from guerdon.io import writers
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
    (folder / "items.yaml").write_text("imports: {items: rejected.jsonl}\n")
    store.create_store(folder / "team.db")
    store.add_to_store(folder / "team.db", liked(3))
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
    "inspect over its source": ("inspect", "d.jsonl", "--html", "d.jsonl"),
    "convert over its source": ("convert", "d.jsonl", "d.jsonl"),
    "convert whose rejects are its source": ("convert", "x.rejected.jsonl", "x.jsonl"),
    "inspect over its store": ("inspect", "store:team.db", "--html", "team.db"),
    "inspect over its store with labels": ("inspect", "store:team.db?labels=mine", "--html", "team.db"),
    "import into its pattern": ("import", "*.jsonl", "--out", "train.jsonl"),
    "convert into its pattern": ("convert", "d.jsonl", "../here/t*.jsonl", "train.jsonl"),
    "import over its items": ("import", "d.jsonl", "imports.items=rejected.jsonl", "--out", "rejected.jsonl"),
    "import over the items of a config": ("import", "d.jsonl", "--config", "items.yaml", "--out", "rejected.jsonl"),
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


BASES_IN_OPTIONS = {
    "train": ("model", ("train", "--data", "d.jsonl", "--out", "run")),
    "quickstart": ("model", ("quickstart", "--data", "d.jsonl", "--out", "run")),
    "ppo": ("policy", ("optimize ppo", "--reward", "a", "--prompts", "d.jsonl", "--out", "run")),
}


@pytest.mark.parametrize("spelled", ["run/{0}", "../here/run/{0}/", "link"])
@pytest.mark.parametrize("name", BASES_IN_OPTIONS)
def test_a_model_that_a_config_file_names_is_not_replaced(here, name, spelled):
    stage, (command, *words) = BASES_IN_OPTIONS[name]
    shutil.copytree(here / "b", here / "run" / stage)
    (here / "link").symlink_to(f"run/{stage}")
    (here / "c.yaml").write_text(f"{stage}: {{base: {spelled.format(stage)}}}\n")
    before = contents(here)
    ran = guerdon(*command.split(), *words, "--config", "c.yaml")
    assert ran.code == 2
    assert (
        f"error: run/{stage}: must not be what is read, which the command would replace. Pass another --out." in ran.err
    )
    assert contents(here) == before


def test_a_model_that_a_quoted_override_names_is_not_replaced(here):
    shutil.copytree(here / "b", here / "run" / "model")
    before = contents(here)
    ran = guerdon("train", "--data", "d.jsonl", "--out", "run", "model.base='run/model'")
    assert "error: run/model: must not be what is read" in ran.err
    assert contents(here) == before


def test_a_folder_with_the_name_of_a_default_may_be_replaced(here):
    for _ in range(2):
        assert guerdon("calibrate", "a", "--data", "d.jsonl", "--out", "starter").code == 0


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


@pytest.mark.parametrize("target", ["secret.txt", "not/there.txt"])
def test_split_does_not_write_through_a_link(here, target):
    (here / "secret.txt").write_text("mine")
    (here / "parts").mkdir()
    (here / "parts" / "audit.jsonl").symlink_to(f"../{target}")
    before = contents(here)
    ran = guerdon("split", "d.jsonl", "--out", "parts")
    assert ran.code == 2
    assert "parts/audit.jsonl: must be a file of its own, got a symbolic link. Remove the link, or" in ran.err
    assert contents(here) == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model", "train --data d.jsonl --base a"),
        ("policy", "optimize ppo --reward a --prompts d.jsonl"),
    ],
)
def test_a_foreign_folder_in_a_run_is_refused_before_the_run(here, name, words):
    (here / "run" / name).mkdir(parents=True)
    (here / "run" / name / "thesis.txt").write_text("mine")
    before = contents(here)
    ran = guerdon(*words.split(), "--out", "run")
    assert ran.code == 2
    assert f"run/{name}: holds thesis.txt, which Guerdon did not write, so it is not replaced." in ran.err
    assert contents(here) == before


EMPTY = {
    "--out": [
        "train --data d.jsonl --base a", "quickstart --data d.jsonl", "import d.jsonl", "split d.jsonl",
        "audit a --data d.jsonl", "calibrate a --data d.jsonl", "ensemble a b", "score a --data d.jsonl",
        "sample --prompts d.jsonl", "optimize ppo --reward a --prompts d.jsonl",
    ],
    "--sft": ["optimize best-of-n --reward a --prompts d.jsonl --out p.jsonl"],
    "--repair": ["doctor a"],
}  # fmt: skip


@pytest.mark.parametrize(("option", "words"), [(option, words) for option in EMPTY for words in EMPTY[option]])
def test_an_empty_path_is_not_the_current_folder(here, option, words):
    before = contents(here)
    for given in ((option, ""), (f"{option}=",)):
        ran = guerdon(*words.split(), *given)
        assert ran.code == 2
        assert ran.err == f"error: {option} must be a path, got ''. Give a path; an unset shell variable is empty.\n"
    assert contents(here) == before


def test_an_input_whose_name_is_too_long_is_not_blamed_on_the_output(here):
    ran = guerdon("import", "a" * 5000, "--out", "zz.jsonl")
    (line,) = ran.err.splitlines()
    assert line == f"error: cannot read {'a' * 100}…{'a' * 100}: File name too long. Give a shorter path."
    long = guerdon("import", "d.jsonl", "--out", f"{LONG}.jsonl")
    assert "error: cannot write xxx" in long.err
    assert list(here.glob("zz*")) == []


HOLD = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[2], os.O_RDONLY), getattr(fcntl, sys.argv[1]))
print(1, flush=True)
input()
"""


@contextmanager
def holding(lock: str, folder: str):
    """Another process that holds the lock on the folder."""
    with subprocess.Popen([sys.executable, "-c", HOLD, lock, folder], stdin=-1, stdout=-1) as other:
        assert other.stdout.readline() == b"1\n"
        yield
        other.communicate(b"\n")


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
    with holding("LOCK_EX", "run"):
        ran = guerdon(*WRITERS[name])
    assert ran.code == 2
    assert "run: another process is writing it. Wait for it, or pass another --out." in ran.err
    assert contents(here / "run") == {}


FILE_WRITERS = {
    "import": ("import", "d.jsonl", "--out", "run/train.jsonl"),
    "score": ("score", "a", "--data", "d.jsonl", "--out", "run/scores.jsonl"),
    "a link": ("import", "d.jsonl", "--out", "link.jsonl"),
}


@pytest.mark.parametrize("sign", ["", "run.json", "guerdon/files.json", "own config"])
@pytest.mark.parametrize("name", FILE_WRITERS)
def test_a_file_waits_for_the_run_that_writes_its_folder(here, name, sign):
    (here / "run" / "guerdon").mkdir(parents=True) if "/" in sign else (here / "run").mkdir()
    (here / "link.jsonl").symlink_to("run/train.jsonl")
    if sign == "own config":
        writers.write_config(here / "run" / "config.yaml", Config())
    elif sign:
        (here / "run" / sign).write_text("{}")
    before = contents(here)
    with holding("LOCK_EX", "run"):
        ran = guerdon(*FILE_WRITERS[name])
    assert ran.code == 2
    assert "run: another process is writing it. Wait for it, or pass another --out." in ran.err
    assert contents(here) == before


OPTIONS_OF_OUTPUTS = {
    "check": (("check", "d.jsonl", "--fix"), "--fix"),
    "store import": (("store import", "s.db", "d.jsonl", "--rejected"), "--rejected"),
    "convert": (("convert", "d.jsonl"), "OUT"),
    "inspect": (("inspect", "d.jsonl", "--html"), "--html"),
    "aggregate": (("aggregate", "d.jsonl", "--out", "labels.jsonl", "--annotators"), "--annotators"),
    "import": (("import", "d.jsonl", "--out"), "--out"),
}


@pytest.mark.parametrize("name", OPTIONS_OF_OUTPUTS)
def test_an_error_about_an_output_names_the_option_that_gave_it(here, name):
    (command, *words), option = OPTIONS_OF_OUTPUTS[name]
    (here / "folder.jsonl").mkdir()
    assert guerdon("store", "init", "s.db").code == 0
    for output, claim in (("d.jsonl", "must not be what is read"), ("config.yaml/all.jsonl", "cannot write")):
        output = output.replace("jsonl", "csv") if option == "--annotators" and "/" in output else output
        ran = guerdon(*command.split(), *words, output)
        assert ran.code == 2
        assert claim in ran.err
        assert f"ass another {option}" in ran.err
    with holding("LOCK_EX", "folder.jsonl"):
        ran = guerdon(
            *command.split(), *words, "folder.jsonl/all.csv" if option == "--annotators" else "folder.jsonl/a.jsonl"
        )
    assert f"folder.jsonl: another process is writing it. Wait for it, or pass another {option}." in ran.err


def test_a_run_waits_for_the_files_that_are_written_into_its_folder(here):
    (here / "run").mkdir()
    (here / "run" / "run.json").write_text("{}")
    with holding("LOCK_SH", "run"):
        assert guerdon("import", "d.jsonl", "--out", "run/x.jsonl").code == 0  # two files share the folder
        assert "run: another process is writing it" in guerdon("split", "d.jsonl", "--out", "run").err


def test_a_plain_folder_takes_files_while_reports_are_written_into_it(here):
    with holding("LOCK_EX", "."):
        assert guerdon("import", "d.jsonl", "--out", "x.jsonl").code == 0


OUTPUTS = {"out", "report", "sft", "comparisons", "repair", "html", "annotators", "rejected", "fix"}


def test_every_option_that_names_an_output_is_known_as_one():
    for command in app.registered_commands:
        options = OUTPUTS & set(command.callback.__annotations__)
        assert options == set(destinations_of(command.callback)), command.name
