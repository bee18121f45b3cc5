"""A file of a run that was damaged is one line that names it, or is written again; it is never believed."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comparison_files import one_line
from faults.commands import TRAIN, make_folder
from faults.harness import KILLED, kill_at, run
from pydantic import TypeAdapter

from guerdon import GuerdonError
from guerdon.api.pipeline import quickstart_steps
from guerdon.io.run_folder import RunFolder
from guerdon.optimization.best_of_n.files import _read_waiting
from guerdon.optimization.run_state import STATE as OPTIMIZATION_STATE
from guerdon.runtime import checkpoint
from guerdon.training.run import STATE as TRAINING_STATE

DAMAGED = (b"", b"[]", b"5", b"null", b'{"a', b"\xff\xfe", b"[" * 100_000, b'{"step": NaN}', b"9" * 5000)
WRONG: tuple[Any, ...] = (None, -1, "x", [1], {"a": 1}, 1e400, 2**70, True)


def changed(values: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """The object with one key left out, or with one value of each wrong kind."""
    for key in values:
        yield f"{key} left out", json.dumps({k: v for k, v in values.items() if k != key}).encode()
        for value in WRONG:
            if type(value) is not type(values[key]):
                yield f"{key}={value}", json.dumps({**values, key: value}).encode()


TRAINING: dict[str, Any] = {
    "step": 2, "identity": {"data": "x"}, "rng": [0, 1], "best": float("inf"), "bad": 0, "stopped": False,
    "metrics_bytes": 5,
}  # fmt: skip
OPTIMIZATION: dict[str, Any] = {
    "update": 1, "identity": {"data": "x"}, "steps": 1, "beta": 0.1, "running": [1, 0.0, 0.0], "best": 1,
    "stopped": "why", "barren": 0, "seconds": 1.0, "bytes": {"metrics.jsonl": 4},
}  # fmt: skip
OPTIONAL = {"running": None, "best": None, "stopped": None}
ALSO_NUMBERS = ("best=-1", "beta=-1", "seconds=-1", "best=1180591620717411303424", "beta=1180591620717411303424",
                "seconds=1180591620717411303424", "best=inf", "beta=inf", "seconds=inf")  # fmt: skip


@pytest.mark.parametrize(
    ("values", "kind"), [(TRAINING, TRAINING_STATE), (OPTIMIZATION, OPTIMIZATION_STATE)], ids=["train", "optimize"]
)
def test_a_damaged_state_of_a_checkpoint_is_one_line(tmp_path, values: dict[str, Any], kind: TypeAdapter[Any]):
    file = tmp_path / "state.json"
    file.write_text(json.dumps(values))
    assert dict(checkpoint.read_state(tmp_path, kind)) == {
        key: tuple(value) if key == "running" else value for key, value in values.items()
    }
    for name, content in [("damaged", content) for content in DAMAGED] + list(changed(values)):
        file.write_bytes(content)
        if name in ALSO_NUMBERS or (name.endswith("=None") and name[:-5] in OPTIONAL and "stopped" in values):
            continue
        line = one_line(lambda: checkpoint.read_state(tmp_path, kind))
        assert "state.json" in line, name
        assert line.endswith(f"Delete {tmp_path} to start over."), name


def test_a_damaged_state_of_a_quickstart_is_one_line(tmp_path):
    values = {
        "identity": {"data": "x"},
        "done": {"comparisons": {"train": 1, "calibrate": 1, "audit": 1, "seconds": 1.0}, "model": {"seconds": 2.0}},
        "peak": 1.5,
    }
    deep = [{**values, "done": {**values["done"], "model": each}} for each in ({}, {"seconds": "x"}, [], 5)]
    contents = [*DAMAGED, *(content for _, content in changed(values)), *(json.dumps(each).encode() for each in deep)]
    for content in contents:
        (tmp_path / "state.json").write_bytes(content)
        if content in (json.dumps({**values, "peak": number}).encode() for number in (-1, 2**70)):
            continue
        assert one_line(lambda: quickstart_steps(tmp_path, print)).startswith(f"{tmp_path}/state.json")


def test_metrics_that_are_no_numbers_are_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": null}\n{"step": 2, "loss": "x"}\n')
    with pytest.raises(GuerdonError, match=r"metrics\.jsonl:2: loss must be a number or null, got 'x'\. Restore"):
        RunFolder(tmp_path).read_metrics()


def test_damaged_replies_that_wait_for_their_row_are_named(tmp_path):
    identity = {"policy": "p"}
    for replies in ([], 5, {"x": {}}, {"0": {"responses": 5, "log_prob": None}}, {"0": {"responses": [{"text": 5}]}}):
        (tmp_path / "replies.json").write_text(json.dumps({"made of": identity, "replies": replies}))
        with pytest.raises(GuerdonError):
            _read_waiting(tmp_path / "replies.json", identity)


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_a_run_with_a_damaged_file_ends_in_one_line_or_as_if_nothing_was(tiny_dir, tmp_path):
    make_folder(tmp_path / "original", tiny_dir)
    words = f"train --data d.jsonl --out new {TRAIN}"
    shutil.copytree(tmp_path / "original", tmp_path / "killed")
    operations = run(words, shutil.copytree(tmp_path / "original", tmp_path / "whole")).operations
    assert run(words, tmp_path / "killed", kill_at(operations * 2 // 3)).code == KILLED
    files = [path.relative_to(tmp_path / "killed") for path in (tmp_path / "killed/new").rglob("*") if path.is_file()]
    assert Path("new/checkpoint/state.json") in files
    for file in files:
        for content in (b"", b"[]", b'{"a": 5}'):
            folder = shutil.copytree(tmp_path / "killed", tmp_path / "damaged")
            (folder / file).write_bytes(content)
            ended = run(words, folder)
            assert ended.code in (0, 2), (file, content, ended.err)
            assert "Traceback" not in ended.err
            assert ended.code == 0 or ended.err.splitlines()[-1].startswith("error: "), ended.err
            shutil.rmtree(folder)
