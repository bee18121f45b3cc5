"""Any damage to a file of a model is one line that names the file, or changes no score; never a traceback."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pytest
from corruption import corruptions
from peft import LoraConfig, get_peft_model
from toys import liked

from guerdon import GuerdonError
from guerdon.api import training
from guerdon.config import ModelOptions, PolicyOptions
from guerdon.models.directory.doctor import examine
from guerdon.models.directory.loading import create_reward_model, load, load_text
from guerdon.models.directory.policies import load_policy
from guerdon.models.directory.saving import save
from guerdon.models.engine.pretrained import quiet
from tiny import save_tiny, tiny_tokenizer

PROMPTS, RESPONSES = ["is it a sad film ?", "write a good film review"], ["no", "yes , it is great"]
ANOTHER_MODEL = {  # values that are right, only not those that were saved: nothing in the file can tell
    "rms_norm_eps: a fraction",
    "system: text",
    "max_length: a number",
    "max_position_embeddings: a number",
    "pre_tokenizer: nothing",
}


def scores_of(folder: Path) -> np.ndarray:
    """Calibrated scores of the texts, as every command reads them."""
    return load(folder).score(PROMPTS, RESPONSES).value


def faults(folder: Path, name: str, read: Callable[[Path], object], valid: Collection[str] = ()) -> list[str]:
    """What damage to a file did that it must not do: another result than the undamaged file's, or an unclear error."""
    file = folder / name
    expected, content, wrong = read(folder), file.read_bytes(), []
    for damage, body in corruptions(content):
        file.write_bytes(body)
        try:
            value = read(folder)
        except GuerdonError as error:
            is_clear = "\n" not in str(error) and file.name in str(error)
            wrong += [] if is_clear or damage in valid else [f"{damage}: {error}"]
        except Exception as error:
            wrong.append(f"{damage}: {type(error).__name__}: {error}")
        else:
            if isinstance(expected, np.ndarray) and damage not in valid and not np.allclose(value, expected, atol=1e-6):
                wrong.append(f"{damage}: scores {value}")
    file.write_bytes(content)
    return wrong


@pytest.fixture
def model(tiny_dir, tmp_path) -> Path:
    """A saved model of the test's own."""
    save(training.with_self_test(create_reward_model(ModelOptions(base=str(tiny_dir))), liked(2)), tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("name", ["config.json", "reward.json", "tokenizer_config.json", "tokenizer.json"])
def test_damage_to_a_models_file(model, name):
    assert faults(model, name, scores_of, ANOTHER_MODEL) == []


@pytest.mark.parametrize("name", ["config.json", "reward.json"])
def test_the_doctor_examines_or_refuses_every_damage(model, name):
    (model / "model.safetensors").write_bytes(b"")  # which it reports, and need not score
    assert faults(model, name, examine) == []


def test_damage_that_a_check_of_data_meets(model):
    def tokens(folder: Path) -> None:
        load_text(ModelOptions(base=str(folder))).encode(["a"], ["b"])

    assert faults(model, "config.json", tokens, {*ANOTHER_MODEL, "vocab_size: a number"}) == []


@pytest.mark.parametrize("name", ["ensemble.json", "member-1/model.safetensors.index.json"])
def test_damage_to_an_ensembles_file(tiny_dir, tmp_path, name):
    save(create_reward_model(ModelOptions(base=str(tiny_dir), heads=2)), tmp_path / "model")
    assert faults(tmp_path / "model", name, scores_of) == []


def test_damage_to_a_policys_generation_config(tmp_path):
    folder = save_tiny(tmp_path / "policy")
    assert faults(folder, "generation_config.json", lambda path: load_policy(PolicyOptions(base=str(path)))) == []


def test_damage_to_an_adapters_config(tiny_dir, tmp_path):
    policy = load_policy(PolicyOptions(base=str(tiny_dir)))
    with quiet():
        get_peft_model(policy.model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "adapter")
    tiny_tokenizer().save_pretrained(tmp_path / "adapter")

    def refused(folder: Path) -> None:
        with pytest.raises(GuerdonError) as refusal:
            load(folder)
        assert "LoRA adapter" in str(refusal.value) or "adapter_config.json" in str(refusal.value)

    assert faults(tmp_path / "adapter", "adapter_config.json", refused) == []


@pytest.mark.parametrize("keep", [0, 5, 200, -100])
def test_cut_weights_are_named(model, keep):
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    for read in (load, lambda folder: create_reward_model(ModelOptions(base=str(folder)))):
        with pytest.raises(
            GuerdonError, match=r"model\.safetensors: not readable .*\. Copy the file again\."
        ) as refusal:
            read(model)
        assert "\n" not in str(refusal.value)


def test_a_damaged_config_is_one_line_on_the_command_line(model, tmp_path):
    from shell import guerdon

    (model / "config.json").write_text("[]")
    data = tmp_path / "data.jsonl"
    data.write_text('{"prompt": "a", "responses": ["b", "c"], "preference": [[0], [1]]}\n')
    for words in (
        ("doctor", model),
        ("check", data, "--model", model),
        ("score", model, "--prompt", "a", "--response", "b"),
    ):
        ran = guerdon(*words)
        assert (ran.code, ran.out) == (2, ""), words
        assert ran.err.strip().endswith("config.json: must hold an object, got []. Restore it from where it was saved.")
