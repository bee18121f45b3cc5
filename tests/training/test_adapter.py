"""The adapters of a run as PEFT loads them: the same scores as the merged model, and a refusal where they are gone."""

from __future__ import annotations

import json
import shutil
import warnings

import pytest
import torch
from safetensors.torch import load_file
from shell import guerdon as command
from toys import liked
from training_runs import turned

import guerdon
from guerdon import GuerdonError
from guerdon.contracts import as_prompt, as_response
from guerdon.models.engine.pretrained import quiet
from guerdon.training.adapter import write_adapter
from tiny import save_tiny

RUN = {"lora_rank": 4, "max_steps": 4, "batch_size": 8, "lr": 2e-2, "head_scale": 1.0}
TEXTS = [("write a review", "a good and great film"), ("how was the film ?", "it was sad"), ("yes or no", "no")]


def with_peft(base, adapter, dtype=torch.float32):
    """Scores [n, 1] of plain transformers with PEFT, without Guerdon; those of the base model alone behind them."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PEFT, on Conv1D
        plain = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=dtype).float()
        model = PeftModel.from_pretrained(plain, adapter).eval()
        tokenizer = AutoTokenizer.from_pretrained(adapter)
    rows, without = [], []
    with torch.inference_mode():
        for prompt, response in TEXTS:
            turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
            text = tokenizer.apply_chat_template(turns, tokenize=False)
            batch = tokenizer(text, add_special_tokens=False, return_tensors="pt")
            rows.append(model(**batch).logits[0])
            with model.disable_adapter():
                without.append(model(**batch).logits[0])
    return torch.stack(rows), torch.stack(without)


def raw_scores(folder):
    """What Guerdon gives, raw: [n, 1]."""
    scalar = guerdon.load(folder).model
    texts = [scalar.text.encode([as_prompt(prompt)], [as_response(response)])[0].ids for prompt, response in TEXTS]
    with torch.inference_mode():
        return scalar.network(texts)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dtype": "bfloat16"},
        {"dtype": "bfloat16", "lora_targets": ["q_proj"]},
        {"lora_targets": ["q_proj", "v_proj"], "lora_alpha": 7},
        {"system": "be kind", "save_every": 3},
        {"loss": "rao_kupper"},
    ],
)
def test_peft_gives_the_scores_of_the_merged_model(options, tiny_dir, tmp_path):
    run, out = tmp_path / "run", tmp_path / "adapter"
    guerdon.train(liked(32), out=run, base=str(tiny_dir), **RUN, **options)
    ran = command("export", "adapter", run / "model", "--out", out, "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out) == {
        "adapter": str(out), "base": str(tiny_dir), "dtype": options.get("dtype", "float32"), "labels": "1",
    }  # fmt: skip
    stored = json.loads((out / "adapter_config.json").read_text("utf-8"))
    assert (stored["task_type"], stored["modules_to_save"]) == ("SEQ_CLS", ["classifier", "score"])
    assert (stored["r"], stored["lora_alpha"]) == (4, options.get("lora_alpha", 32))
    theirs, without = with_peft(tiny_dir, out, getattr(torch, options.get("dtype", "float32")))
    torch.testing.assert_close(theirs, raw_scores(run / "model"), atol=1e-5, rtol=0)
    assert (theirs - without).abs().max() > 0.1
    names = list(load_file(out / "adapter_model.safetensors"))
    assert all(
        ".lora_A.weight" in name or ".lora_B.weight" in name or name.endswith("model.score.weight") for name in names
    )


def test_the_best_weights_are_exported_where_the_model_has_them(tiny_dir, tmp_path):
    """Each step makes the model worse on held-out comparisons that prefer the opposite, so the best weights are the first."""
    run = tmp_path / "run"
    options = {"eval_every": 1, "patience": 3, "save_every": 1}
    guerdon.train(liked(32), held_out=turned(liked(16, 1)), out=run, base=str(tiny_dir), **RUN, **options)
    heads = [load_file(run / name / "tensors.safetensors") for name in ("best", "checkpoint")]
    key = "weight.classifier.base_model.model.score.weight"
    assert not torch.equal(heads[0][key], heads[1][key])
    write_adapter(run, tmp_path / "adapter")  # the run's folder will do
    theirs, _ = with_peft(tiny_dir, tmp_path / "adapter")
    torch.testing.assert_close(theirs, raw_scores(run / "model"), atol=1e-5, rtol=0)


def test_adapters_that_are_gone_are_refused(tiny_dir, tmp_path):
    run, out = tmp_path / "run", tmp_path / "adapter"
    guerdon.train(liked(16), out=run, base=str(tiny_dir), **RUN)
    guerdon.train(liked(16), out=tmp_path / "other", base=str(tiny_dir), **RUN, seed=1)
    shutil.rmtree(run / "checkpoint")
    with pytest.raises(GuerdonError, match="must hold the checkpoint that the model was saved from, got none"):
        write_adapter(run / "model", out)
    shutil.copytree(tmp_path / "other/checkpoint", run / "checkpoint")  # of another model
    with pytest.raises(GuerdonError, match="must hold the checkpoint that the model was saved from, got none"):
        write_adapter(run / "model", out)
    shutil.copytree(run / "model", tmp_path / "alone")
    with pytest.raises(
        GuerdonError, match=r"alone: must be a model in the folder of its run, which holds config\.yaml"
    ):
        write_adapter(tmp_path / "alone", out)
    guerdon.train(liked(16), out=tmp_path / "full", base=str(tiny_dir), **{**RUN, "lora_rank": 0})
    ran = command("export", "adapter", tmp_path / "full/model", "--out", out)
    assert (ran.code, "model.lora_rank must be above 0 for a model to have adapters, got 0" in ran.err) == (2, True)
    assert not out.exists()


def test_a_damaged_checkpoint_is_one_line(tmp_path):
    base, run = save_tiny(tmp_path / "base"), tmp_path / "run"
    guerdon.train(liked(16), out=run, base=str(base), **RUN)
    file = run / "checkpoint/tensors.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(GuerdonError, match=r"tensors\.safetensors: not readable") as caught:
        write_adapter(run, tmp_path / "adapter")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "line"), [("tokenizer.json", "no usable tokenizer"), ("reward.json", r"reward\.json: not valid JSON")]
)
def test_a_damaged_file_is_not_copied(tiny_dir, tmp_path, name, line):
    guerdon.train(liked(16), out=tmp_path / "run", base=str(tiny_dir), **RUN)
    (tmp_path / "run/model" / name).write_text("{")
    with pytest.raises(GuerdonError, match=line):
        write_adapter(tmp_path / "run/model", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_without_weights_is_said_to_have_none(tiny_dir, tmp_path):
    guerdon.train(liked(16), out=tmp_path / "run", base=str(tiny_dir), **RUN)
    (tmp_path / "run/model/model.safetensors").unlink()
    with pytest.raises(GuerdonError, match="must hold a linear head in safetensors, got none"):
        write_adapter(tmp_path / "run/model", tmp_path / "out")


def test_an_export_replaces_no_checkpoint_and_no_model(tiny_dir, tmp_path):
    """They are Guerdon's, so that only what they hold tells them from an older export."""
    run, other = tmp_path / "run", tmp_path / "other/model"
    guerdon.train(liked(16), out=run, base=str(tiny_dir), **RUN)
    shutil.copytree(run / "model", other)
    for to, out in (("adapter", run / "checkpoint"), ("adapter", other), ("gguf", run / "checkpoint"), ("gguf", other)):
        before = sorted(path.name for path in out.iterdir())
        ran = command("export", to, run / "model", "--out", out)
        assert (ran.code, "must be a new folder or an older export" in ran.err) == (2, True), ran.err
        assert sorted(path.name for path in out.iterdir()) == before
    for _ in range(2):
        ran = command("export", "adapter", run / "model", "--out", tmp_path / "adapter")
        assert ran.code == 0, ran.err
