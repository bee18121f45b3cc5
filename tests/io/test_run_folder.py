"""One refusal for every run that finds another's files; who holds a folder; what is kept of its metrics."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from guerdon import GuerdonError
from guerdon.api.pipeline import quickstart_steps
from guerdon.io.run_folder import (
    RunFolder,
    differences,
    open_resumable,
    read_receipt,
    refuse_other_run,
    write_receipt,
)

OURS = {"data": "a", "model": "b", "shape": (1, 2)}


def start_file(path: Path, identity: dict) -> Path:
    """A file that is killed after one chunk, as by `score` and `optimize best-of-n`."""
    with contextlib.suppress(KeyboardInterrupt), open_resumable(path / "out.jsonl", identity) as file:
        file.add(b"{}\n", 1, 1)
        raise KeyboardInterrupt
    return path / "out.jsonl.partial"


def finish_file(path: Path, identity: dict) -> Path:
    """A pool that was drawn to its end."""
    (path / "pool.jsonl").write_text("{}\n")
    write_receipt(path / "pool.jsonl", identity, {"prompts": 1})
    return path / "pool.jsonl"


def start_folder(path: Path, identity: dict) -> Path:
    """A run of `optimize` with one update."""
    run = RunFolder(path, identity)
    run.claim()
    run.log_metrics({"update": 1}, 0.0)
    return path


def save_checkpoint(path: Path, identity: dict) -> Path:
    """A run of `train` with a checkpoint."""
    (path / "checkpoint").mkdir()
    (path / "checkpoint" / "state.json").write_text(json.dumps({"identity": identity}))
    return path / "checkpoint"


def resume_checkpoint(path: Path, identity: dict) -> None:
    state = json.loads((path / "checkpoint" / "state.json").read_text())
    RunFolder(path, identity).refuse_other(state["identity"], path / "checkpoint")


def resume_file(path: Path, identity: dict) -> None:
    with open_resumable(path / "out.jsonl", identity) as file:
        assert file.rows == 1


RUNS = {
    "file": (start_file, resume_file),
    "finished file": (finish_file, lambda path, identity: read_receipt(path / "pool.jsonl", identity, {})),
    "folder": (start_folder, lambda path, identity: RunFolder(path, identity).claim()),
    "checkpoint": (save_checkpoint, resume_checkpoint),
}


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"model": "c"}, "model"),
        ({"shape": (2, 1)}, "shape"),
        ({"data": "c", "model": None}, "data and model"),
        ({"shape": [1, 2]}, None),
        ({}, None),
    ],
)
def test_every_run_refuses_the_files_of_another_in_one_sentence(tmp_path, kind, change, names):
    start, resume = RUNS[kind]
    place = start(tmp_path, OURS)
    if names is None:
        resume(tmp_path, OURS | change)
        return
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(GuerdonError) as error:
        resume(tmp_path, OURS | change)
    assert str(error.value) == (
        f"{place}: belongs to a run that differs in {names}. Delete it to start over, or pass another path."
    )
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_quickstart_refuses_in_the_same_sentence_once_something_is_trained(tmp_path):
    ours = {"data": "a", "data_hash": "1", "config": {"seed": 0}}
    steps = quickstart_steps(tmp_path, lambda line: None)
    steps.claim(ours)
    steps.claim(ours | {"config": {"seed": 1}})  # nothing is trained yet
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "state.json").write_text("{}")
    with pytest.raises(GuerdonError, match=rf"{tmp_path.name}: belongs to a run that differs in options\. Delete it"):
        quickstart_steps(tmp_path, lambda line: None).claim(ours)


def test_what_is_not_an_identity_differs_in_everything():
    assert differences(OURS, [1]) == list(OURS)
    assert differences(OURS, OURS | {"shape": [1, 2], "more": 3}) == []
    with pytest.raises(GuerdonError, match="differs in data and model and shape"):
        refuse_other_run(Path("run"), OURS, None)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(GuerdonError, match=r"holds a model or another kind of run\. Pass another path\."):
        RunFolder(tmp_path, OURS).claim()
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_run_without_progress_is_replaced(tmp_path):
    RunFolder(tmp_path, OURS).claim()
    RunFolder(tmp_path, OURS | {"model": "c"}).claim()
    assert json.loads((tmp_path / "run.json").read_text())["model"] == "c"


def test_no_process_writes_before_all_have_looked(tmp_path):
    seen = []
    RunFolder(tmp_path, OURS).claim(lambda: seen.append((tmp_path / "run.json").exists()))
    assert seen == [False, True]
    RunFolder(tmp_path / "other", OURS, is_main=False).claim()
    assert not (tmp_path / "other" / "run.json").exists()


def test_a_receipt_holds_for_the_very_file_and_all_it_was_made_of(tmp_path):
    path = finish_file(tmp_path, OURS | {"and": "1"})
    assert read_receipt(path, OURS, {"and": "1"}) == {"prompts": 1}
    assert read_receipt(path, OURS, {"and": "2"}) is None
    assert read_receipt(path, OURS, None) is None
    assert read_receipt(tmp_path / "absent", OURS, {}) is None
    path.write_text("changed\n")
    with pytest.raises(GuerdonError, match=r"was not written by this command\. Delete it, or pass another path\."):
        read_receipt(path, OURS, {"and": "1"})


@pytest.mark.skipif(sys.platform == "win32", reason="files are not locked there")
def test_a_locked_folder_is_refused_and_an_empty_new_one_is_removed(tmp_path):
    run = RunFolder(tmp_path / "run")
    with run.lock():
        script = "import sys; from pathlib import Path; from guerdon.io.run_folder import RunFolder\n"
        script += "with RunFolder(Path(sys.argv[1])).lock(): pass"
        other = subprocess.run([sys.executable, "-c", script, run.path], capture_output=True, text=True, check=False)
        assert "another process is writing it. Wait for it, or pass another path." in other.stderr
    assert not run.path.exists()
    with RunFolder(tmp_path).lock():
        pass
    assert tmp_path.exists()


def test_metrics_are_cut_back_to_the_checkpoint_and_read_back_without_a_half_line(tmp_path):
    run = RunFolder(tmp_path)
    assert run.read_metrics() == []
    run.log_metrics({"step": 1, "loss": 0.5}, 1.23456)
    size = run.size("metrics.jsonl")
    run.log_metrics({"step": 2, "loss": float("nan")}, 2.0)
    assert run.read_metrics()[1] == {"step": 2, "loss": None, "seconds": 2.0}
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3')
    assert [row["step"] for row in run.read_metrics()] == [1, 2]
    RunFolder(tmp_path, is_main=False).truncate({"metrics.jsonl": 0})
    run.truncate({"metrics.jsonl": size, "absent.jsonl": 0})
    assert run.read_metrics() == [{"step": 1, "loss": 0.5, "seconds": 1.235}]


@pytest.mark.parametrize(
    ("content", "is_ours"),
    [
        ('{"update": 1, "seconds": 0.1}\n', False),
        ("my notes\n", False),
        ("[1]\n", False),
        ('{"step": 1, "seconds": 0.1}\n{"ste', True),
        ('{"ste', True),
        ("", True),
    ],
)
def test_metrics_of_another_kind_of_run_are_not_overwritten(tmp_path, content, is_ours):
    (tmp_path / "metrics.jsonl").write_text(content)
    with contextlib.nullcontext() if is_ours else pytest.raises(GuerdonError, match=r"metrics\.jsonl: is not that of"):
        RunFolder(tmp_path).refuse_other_metrics("step")


def test_without_a_path_nothing_is_kept():
    run = RunFolder(None, OURS)
    with run.lock():
        run.claim()
        run.log_metrics({"step": 1}, 0.0)
        run.truncate({"metrics.jsonl": 0})
    assert (run.size("metrics.jsonl"), run.read_metrics(), run.has_checkpoint()) == (0, [], False)
