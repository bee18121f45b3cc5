"""Value-head checkpoints of other trainers are read with the scores that their own arithmetic gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from shell import guerdon
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from guerdon import GuerdonError
from guerdon.api import saved_models
from guerdon.config import ModelOptions
from guerdon.models.directory.doctor import examine
from guerdon.models.directory.foreign import load_foreign
from guerdon.models.directory.loading import load_reward_model
from guerdon.models.engine.stored_head import find_head
from tiny import REMOVES_BOS, faults

PROMPTS = ["write a good film review", "is it a sad film ?"]
RESPONSES = ["yes , it is great", "no"]
BIAS = 0.75


@pytest.fixture(scope="module")
def head():
    """Weight [1, 64] and bias [1] of a value head."""
    drawn = torch.Generator().manual_seed(5)
    return torch.randn(1, 64, generator=drawn) * 0.2, torch.tensor([BIAS])


@pytest.fixture(scope="module")
def by_hand(tiny_dir, head):
    """w . h + b at the last token of each conversation, one at a time, without padding."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_dir), AutoTokenizer.from_pretrained(tiny_dir)
    values = []
    for prompt, response in zip(PROMPTS, RESPONSES, strict=True):
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
        ids = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False), return_tensors="pt").input_ids
        with torch.no_grad():
            values.append((model.model(ids).last_hidden_state[0, -1] @ head[0][0]).item())
    return np.array(values)


def llama_factory(tiny_dir: Path, folder: Path, head) -> Path:
    """The causal model as it was, and value_head.safetensors beside it."""
    shutil.copytree(tiny_dir, folder)
    save_file({"v_head.summary.weight": head[0], "v_head.summary.bias": head[1]}, folder / "value_head.safetensors")
    return folder


def trl_value_head(tiny_dir: Path, folder: Path, head) -> Path:
    """The same head among the causal model's own tensors."""
    shutil.copytree(tiny_dir, folder)
    mine = {"v_head.summary.weight": head[0], "v_head.summary.bias": head[1]}
    save_file(load_file(folder / "model.safetensors") | mine, folder / "model.safetensors", {"format": "pt"})
    return folder


def openrlhf(tiny_dir: Path, folder: Path, head, prefix: str = "value_head") -> Path:
    """A head without bias under the name that config.json says."""
    shutil.copytree(tiny_dir, folder)
    mine = {f"{prefix}.weight": head[0]}
    save_file(load_file(folder / "model.safetensors") | mine, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config |= {"architectures": ["RewardModel"], "value_head_prefix": prefix}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder


@pytest.mark.parametrize("layout_of", [llama_factory, trl_value_head])
def test_a_head_with_a_bias_keeps_its_scores_and_the_bias_becomes_the_reference_mean(
    tiny_dir, tmp_path, head, by_hand, layout_of
):
    folder = layout_of(tiny_dir, tmp_path / "theirs", head)
    model = load_foreign(folder)
    assert model.card.calibration.reference_mean == -BIAS
    np.testing.assert_allclose(model.score(PROMPTS, RESPONSES).value, by_hand, atol=1e-5)
    saved_models.repair(folder, tmp_path / "ours")
    np.testing.assert_allclose(
        saved_models.load(tmp_path / "ours").score(PROMPTS, RESPONSES).value, by_hand + BIAS, atol=1e-5
    )
    assert faults(examine(tmp_path / "ours")) == []


@pytest.mark.parametrize("prefix", ["value_head", "reward_head", "my_head"])
def test_a_head_under_a_configured_name_keeps_its_scores(tiny_dir, tmp_path, head, by_hand, prefix):
    folder = openrlhf(tiny_dir, tmp_path / "theirs", head, prefix)
    assert find_head(folder, AutoConfig.from_pretrained(folder)) == (prefix, folder / "model.safetensors")
    model = load_foreign(folder)
    assert model.card.calibration.reference_mean == 0.0
    np.testing.assert_allclose(model.score(PROMPTS, RESPONSES).value, by_hand, atol=1e-5)
    with pytest.raises(GuerdonError, match=r"the first score\.weight: .*Run `guerdon doctor`"):
        load_reward_model(folder)  # never a random head in its place


def test_a_head_named_score_needs_no_repair(tiny_dir, tmp_path, head, by_hand):
    folder = openrlhf(tiny_dir, tmp_path / "theirs", head, "score")
    np.testing.assert_allclose(load_reward_model(folder).score(PROMPTS, RESPONSES).value, by_hand, atol=1e-5)


def test_the_doctor_finds_the_fault_and_repairs_it(tiny_dir, tmp_path, head, by_hand):
    folder = llama_factory(tiny_dir, tmp_path / "theirs", head)
    ran = guerdon("doctor", folder, "--json")
    assert ran.code == 1
    assert (
        "v_head.summary"
        in {f["title"]: f for f in json.loads(ran.out)["findings"]}["not a sequence classifier"]["evidence"]
    )
    ran = guerdon("doctor", folder, "--repair", tmp_path / "ours", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert [f["title"] for f in json.loads(ran.out)["findings"]] == [REMOVES_BOS]
    values = saved_models.load(tmp_path / "ours").score(PROMPTS, RESPONSES).value
    np.testing.assert_allclose(values, by_hand + BIAS, atol=1e-5)


def test_repairing_a_classifier_keeps_its_scores(tiny_dir, tmp_path, head, by_hand):
    saved_models.repair(llama_factory(tiny_dir, tmp_path / "theirs", head), tmp_path / "first")
    config = json.loads((tmp_path / "first/config.json").read_text("utf-8"))
    del config["rope_theta"], config["torch_dtype"], config["problem_type"]
    (tmp_path / "first/config.json").write_text(json.dumps(config), "utf-8")
    assert len(faults(examine(tmp_path / "first"))) == 3
    assert guerdon("doctor", tmp_path / "first", "--repair", tmp_path / "second").code == 0
    values = saved_models.load(tmp_path / "second").score(PROMPTS, RESPONSES).value
    np.testing.assert_allclose(values, by_hand + BIAS, atol=1e-5)
    in_place = guerdon("doctor", tmp_path / "first", "--repair", tmp_path / "first")
    assert (in_place.code, "must not be what is read" in in_place.err) == (2, True)
    (tmp_path / "first/reward.json").unlink()
    assert guerdon("doctor", tmp_path / "first", "--repair", tmp_path / "third").code == 0
    np.testing.assert_allclose(
        saved_models.load(tmp_path / "third").score(PROMPTS, RESPONSES).value, by_hand, atol=1e-5
    )


def test_a_checkpoint_that_cannot_be_read_says_why(tiny_dir, tmp_path, head):
    with pytest.raises(GuerdonError, match=r"no scalar head among its tensors .*\. Copy value_head\.safetensors"):
        load_foreign(tiny_dir)
    pickled = Path(shutil.copytree(tiny_dir, tmp_path / "pickled"))
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(GuerdonError, match=r"pickled \.bin weights, which are never loaded\. Save them"):
        load_foreign(pickled)
    wide = llama_factory(tiny_dir, tmp_path / "wide", (torch.ones(1, 32), head[1]))
    with pytest.raises(
        GuerdonError, match=r"v_head\.summary\.weight must have shape \(1, 64\) to fit the backbone, got \(1, 32\)"
    ):
        load_foreign(wide)
    bare = llama_factory(tiny_dir, tmp_path / "bare", head)
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(GuerdonError, match=r"got none\. Set model\.template=plain"):
        load_foreign(bare)
    assert load_foreign(bare, ModelOptions(template="plain")).card.template == "plain"
    broken = llama_factory(tiny_dir, tmp_path / "broken", head)
    (broken / "value_head.safetensors").write_text("half")
    with pytest.raises(GuerdonError, match=r"value_head\.safetensors: not readable .*\. Copy the file again"):
        load_foreign(broken)
