"""A checkpoint is written completely or not at all, and what does not fit is refused by name."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
import torch
from leftovers import of_dead_process
from pydantic import TypeAdapter

from guerdon.contracts import GuerdonError
from guerdon.io import temporary
from guerdon.runtime import checkpoint

ANY = TypeAdapter(dict[str, Any])


def test_tensors_and_state_come_back(tmp_path):
    tensors = {"weight.a": torch.arange(6.0).view(2, 3), "m.a": torch.ones(2, 3).T}  # one is not contiguous
    checkpoint.save(tmp_path, tensors, {"step": 3})
    path = checkpoint.find(tmp_path)
    assert path == tmp_path / "checkpoint"
    assert checkpoint.read_state(path, ANY) == {"step": 3}
    targets = {name: torch.empty_like(value) for name, value in tensors.items()}
    checkpoint.read_tensors(path, targets)
    assert all(torch.equal(targets[name], value) for name, value in tensors.items())


def test_a_new_checkpoint_replaces_the_old_one_and_leaves_nothing_else(tmp_path):
    of_dead_process(tmp_path / "checkpoint").mkdir()
    temporary._swept.discard(tmp_path)
    for step in range(3):
        checkpoint.save(tmp_path, {"a": torch.zeros(1)}, {"step": step})
    assert os.listdir(tmp_path) == ["checkpoint"]
    assert checkpoint.read_state(tmp_path / "checkpoint", ANY) == {"step": 2}


def test_checkpoints_of_two_names_do_not_meet(tmp_path):
    checkpoint.save(tmp_path, {"a": torch.zeros(1)}, {"step": 1})
    checkpoint.save(tmp_path, {"a": torch.ones(1)}, {"step": 2}, "best")
    assert checkpoint.find(tmp_path, "best") == tmp_path / "best"
    assert checkpoint.read_state(tmp_path / "checkpoint", ANY) == {"step": 1}


def test_a_kill_between_the_renames_leaves_the_old_checkpoint(tmp_path):
    checkpoint.save(tmp_path, {"a": torch.zeros(1)}, {"step": 1})
    (tmp_path / "checkpoint").rename(of_dead_process(tmp_path / "checkpoint", "old"))
    assert checkpoint.find(tmp_path) == tmp_path / "checkpoint"


def test_the_old_checkpoint_of_an_older_version_is_read(tmp_path):
    checkpoint.save(tmp_path, {"a": torch.zeros(1)}, {"step": 1})
    (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.old")
    assert checkpoint.find(tmp_path) == tmp_path / "checkpoint.old"


@pytest.mark.parametrize("folder", [None, "empty"])
def test_no_checkpoint_is_none(tmp_path, folder):
    assert checkpoint.find(folder and tmp_path / folder) is None


def test_a_failed_write_keeps_the_old_checkpoint_and_names_the_folder(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, {"a": torch.zeros(1)}, {"step": 1})

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(
        GuerdonError,
        match=rf"^cannot write {re.escape(str(tmp_path))}/checkpoint: No space left .* save_every=0\.$",
    ):
        checkpoint.save(tmp_path, {"a": torch.zeros(1)}, {"step": 2})
    assert os.listdir(tmp_path) == ["checkpoint"]
    assert checkpoint.read_state(tmp_path / "checkpoint", ANY) == {"step": 1}


def test_another_models_checkpoint_is_refused_with_a_tensor_that_differs(tmp_path):
    checkpoint.save(tmp_path, {"a": torch.zeros(1), "b": torch.zeros(1)}, {})
    with pytest.raises(
        GuerdonError, match=r"must have this model's tensors, got a difference in b\. Delete .*checkpoint"
    ):
        checkpoint.read_tensors(tmp_path / "checkpoint", {"a": torch.zeros(1)})
