"""The doctor names each planted fault, and finds nothing in a directory that Guerdon saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from families import save_family
from safetensors.torch import load_file, save_file
from toys import liked

from guerdon import GuerdonError
from guerdon.api import training
from guerdon.config import ModelOptions
from guerdon.models.directory.doctor import examine
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.directory.saving import save
from guerdon.models.engine.pretrained import quiet
from tiny import CHAT_TEMPLATE


@pytest.fixture(scope="module")
def saved(tiny_dir, tmp_path_factory):
    """A saved directory; read it, do not write into it."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    save(training.with_self_test(create_reward_model(ModelOptions(base=str(tiny_dir))), liked(4)), folder)
    return folder


def faults(folder: Path) -> set[tuple[str, str]]:
    """Without what test_reader_texts looks at: how verl and OpenRLHF read a template that is no fault elsewhere."""
    found = {(finding.severity, finding.title) for finding in examine(folder).findings}
    return found - {("warning", f"another text than Guerdon's in {reader}") for reader in ("verl", "OpenRLHF")}


def set_keys(name: str, **values):
    """A change of one JSON file; None takes a key away."""

    def change(folder: Path) -> None:
        body = json.loads((folder / name).read_text("utf-8")) | values
        (folder / name).write_text(json.dumps({k: v for k, v in body.items() if v is not None}), "utf-8")

    return change


def set_tensors(**values):
    def change(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        save_file(tensors | {n.replace("__", "."): v for n, v in values.items()}, folder / "model.safetensors")

    return change


def set_template(text: str | None):
    def change(folder: Path) -> None:
        (folder / "chat_template.jinja").unlink()
        set_keys("tokenizer_config.json", chat_template=text)(folder)

    return change


def remove(name: str):
    return lambda folder: (folder / name).unlink()


def add_bos(folder: Path) -> None:
    body = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    begin = {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}
    body["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|im_start|>": begin},
    }
    (folder / "tokenizer.json").write_text(json.dumps(body), "utf-8")


def shift_stored_scores(folder: Path) -> None:
    card = json.loads((folder / "reward.json").read_text("utf-8"))
    card["self_test"][0][2] += 0.01
    (folder / "reward.json").write_text(json.dumps(card), "utf-8")


CONFIG, TOKENIZER = "config.json", "tokenizer_config.json"
ONE = torch.ones(1)


@pytest.mark.parametrize(
    ("plant", "severity", "title"),
    [
        (set_keys(CONFIG, architectures=["LlamaForCausalLM"]), "error", "not a sequence classifier"),
        (set_keys(CONFIG, architectures=None), "error", "not a sequence classifier"),
        (
            set_keys(CONFIG, architectures=["GraniteForSequenceClassification"]),
            "warning",
            "a class that transformers does not have",
        ),
        (set_keys(CONFIG, id2label=None), "error", "not exactly one label"),
        (set_keys(CONFIG, id2label={"0": "A", "1": "B"}), "error", "not exactly one label"),
        (set_keys(CONFIG, problem_type=None), "error", "servers apply a sigmoid to the score"),
        (set_keys(CONFIG, problem_type="single_label_classification"), "error", "servers apply a sigmoid to the score"),
        (set_keys(CONFIG, pad_token_id=None), "error", "no pad token"),
        (set_keys(CONFIG, pad_token_id=2), "error", "the pad token ends texts"),
        (set_keys(CONFIG, pad_token_id=0), "error", "two different pad tokens"),
        (add_bos, "warning", "some readers see BOS twice"),
        (set_template(None), "error", "no chat template"),
        (set_template("{{ raise_exception('no') }}"), "error", "the chat template fails"),
        (set_template("{{ 'a ' * 1000000 }}"), "error", "the chat template fails"),
        (set_template("{{ strftime_now('%Y') }}" + CHAT_TEMPLATE), "warning", "the chat template writes today's date"),
        (
            set_template("{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"),
            "error",
            "the chat template has changed",
        ),
        (remove("tokenizer.json"), "error", "no tokenizer"),
        (set_keys(CONFIG, rope_theta=None), "error", "transformers 4 computes other scores"),
        (set_keys(CONFIG, rope_theta=500.0), "error", "transformers 4 computes other scores"),
        (set_keys(CONFIG, torch_dtype=None), "warning", "transformers 4 does not know the dtype"),
        (set_keys(TOKENIZER, extra_special_tokens=["<x>"]), "error", "transformers 4 cannot read the tokenizer"),
        (set_keys(TOKENIZER, tokenizer_class="TokenizersBackend"), "error", "transformers 4 refuses the tokenizer"),
        (remove("model.safetensors"), "error", "no safetensors"),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), "warning", "the adapter is not merged"),
        (set_tensors(mean=ONE), "error", "calibration in the weights"),
        (set_tensors(model__norm__weight=torch.full((64,), torch.nan)), "error", "weights are not finite"),
        (set_tensors(score__bias=ONE), "warning", "a bias that readers ignore"),
        (lambda folder: (folder / "model.safetensors").write_text("half"), "error", "unreadable weights"),
        (shift_stored_scores, "error", "scores have changed"),
        (set_tensors(score__weight=torch.zeros(1, 64)), "error", "scores have changed"),
        (set_keys("reward.json", version=99), "error", "reward.json cannot be read"),
    ],
)
def test_each_planted_fault_is_found_with_advice(saved, tmp_path, plant, severity, title):
    folder = Path(shutil.copytree(saved, tmp_path / "copy"))
    plant(folder)
    report = examine(folder)
    assert (severity, title) in {(f.severity, f.title) for f in report.findings}
    assert all(f.evidence and f.remedy for f in report.findings)
    assert report.about[f"{severity}s"] != "0"


def test_a_directory_that_guerdon_saved_has_no_findings(saved):
    assert faults(saved) == set()
    report = examine(saved)
    assert (report.about["errors"], report.about["warnings"]) == ("0", "1"), (
        "verl's, of a template that begins with BOS"
    )


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "bfloat16"},
        {"autocast": "bfloat16"},
        {"lora_rank": 2},
        {"attributes": ["kind", "right"]},
        {"system": "be kind"},
    ],
)
def test_other_options_have_no_findings(tiny_dir, tmp_path, options):
    model = create_reward_model(ModelOptions(base=str(tiny_dir), **options))
    save(training.with_self_test(model, liked(4)), tmp_path / "model")
    assert faults(tmp_path / "model") == set()


def test_scores_that_were_stored_under_autocast_are_a_warning(tiny_dir, tmp_path):
    model = create_reward_model(ModelOptions(base=str(tiny_dir), autocast="bfloat16"))
    rows = [(str(c.prompt[0].content), c.responses[0].text) for c in liked(4)]
    scores = model.score([prompt for prompt, _ in rows], [text for _, text in rows]).value
    test = tuple((prompt, text, float(score)) for (prompt, text), score in zip(rows, scores, strict=True))
    save(model.with_card(self_test=test), tmp_path / "model")
    assert faults(tmp_path / "model") == {("warning", "the stored scores are of bfloat16 products")}


@pytest.mark.parametrize("name", ["qwen3", "gemma3", "gpt2", "bert", "modernbert"])
def test_other_families_have_no_findings(tmp_path, name):
    base = save_family(tmp_path / "base", name)
    model = create_reward_model(ModelOptions(base=str(base), template="plain"))
    save(training.with_self_test(model, liked(4)), tmp_path / "model")
    assert faults(tmp_path / "model") == set()


def test_a_family_without_a_class_in_transformers_is_reported(tmp_path):
    base = save_family(tmp_path / "base", "granite")
    save(create_reward_model(ModelOptions(base=str(base), template="plain")), tmp_path / "model")
    assert faults(tmp_path / "model") == {("warning", "a class that transformers does not have")}


def test_what_plain_transformers_saves_has_faults(saved, tmp_path):
    """The gaps that this directory layout exists to close."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with quiet():
        AutoModelForSequenceClassification.from_pretrained(saved).save_pretrained(tmp_path)
        AutoTokenizer.from_pretrained(saved).save_pretrained(tmp_path)
    assert ("error", "transformers 4 computes other scores") in faults(tmp_path)


def test_a_directory_that_is_not_a_model_is_refused(tmp_path):
    with pytest.raises(GuerdonError, match=r"no such directory\. Pass the folder"):
        examine(tmp_path / "missing")
    with pytest.raises(GuerdonError, match=r"holds no config\.json, so it is not a model\. Pass the folder"):
        examine(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(GuerdonError, match=r"config\.json: not valid JSON .*\. Restore it"):
        examine(tmp_path)
