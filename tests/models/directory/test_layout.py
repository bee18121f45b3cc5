"""The files of a saved model serve old and new readers, are replaced atomically, and never replace anything else."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from forked import run_code
from reward_models import scores

from guerdon import (
    GuerdonError,
)
from guerdon.config import ModelOptions
from guerdon.models.directory.loading import create_reward_model, load_reward_model
from guerdon.models.directory.saving import save


def test_the_directory_serves_old_and_new_readers(saved):
    config = json.loads((saved / "config.json").read_text("utf-8"))
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert config["id2label"] == {"0": "LABEL_0"}
    assert config["label2id"] == {"LABEL_0": 0}
    assert config["problem_type"] == "regression"
    assert config["pad_token_id"] == 3
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]
    assert config["torch_dtype"] == config["dtype"] == "float32"
    assert config["value_head_prefix"] == "score"
    tokenizer = json.loads((saved / "tokenizer_config.json").read_text("utf-8"))
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert tokenizer["chat_template"] == (saved / "chat_template.jinja").read_text("utf-8")
    assert not (saved / "generation_config.json").exists()
    assert saved.stat().st_mode & 0o777 == 0o755


def test_two_rope_bases_are_both_written_for_old_readers(families, tmp_path):
    save(create_reward_model(ModelOptions(base=str(families("gemma3")), template="plain")), tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text("utf-8"))
    assert config["rope_theta"] == 1_000_000.0
    assert config["rope_local_base_freq"] == 10_000.0


def test_a_killed_save_leaves_a_model(saved, tmp_path):
    """Killed while weights are written, and between the two renames: the old model loads, with its scores."""
    for at in ("weights", "renames"):
        folder = tmp_path / at
        shutil.copytree(saved, folder)
        done = run_code(f"""
            import os, pathlib, signal
            from guerdon.models.directory import layout, loading, saving
            from guerdon.models.engine.classifier import reward_head
            model = loading.load_reward_model({str(folder)!r})
            reward_head(model.network.classifier).weight.data.zero_()
            die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
            if {at!r} == "weights":
                layout.write_tokenizer = die
            else:
                rename = pathlib.Path.rename
                pathlib.Path.rename = lambda old, new: die() if new == pathlib.Path({str(folder)!r}) else rename(old, new)
            saving.save(model, {str(folder)!r})
        """)
        assert done.returncode == -9, done.stderr
        np.testing.assert_allclose(scores(load_reward_model(folder)), scores(load_reward_model(saved)), atol=1e-6)
        save(load_reward_model(folder), folder)
        np.testing.assert_allclose(scores(load_reward_model(folder)), scores(load_reward_model(saved)), atol=1e-6)
        assert not list(tmp_path.glob(".*"))


def test_saving_replaces_a_model_and_nothing_else(model, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to_ada.txt").write_text("dear Ada")
    (tmp_path / "file").write_text("mine")
    for name, reason in (("letters", "holds to_ada.txt, which Guerdon did not write"), ("file", "is a file")):
        with pytest.raises(GuerdonError, match=rf"{name}: {reason}, so it is not replaced.*\. Write elsewhere"):
            save(model, tmp_path / name)
    assert (tmp_path / "letters" / "to_ada.txt").read_text() == "dear Ada"
    (tmp_path / "empty").mkdir()
    for _ in range(2):
        save(model, tmp_path / "empty")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file", "letters"]


@pytest.mark.parametrize("name", ["/proc/nobody/model", "file/model"])
def test_a_folder_that_cannot_be_written_is_named(model, tmp_path, name):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(GuerdonError, match=r"cannot write .*\. Free space, or write elsewhere"):
        save(model, tmp_path / name)
