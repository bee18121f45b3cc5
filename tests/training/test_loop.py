"""A run learns what it should, follows its schedule, and refuses what it cannot train on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from families import save_family
from toys import liked
from training_runs import ANSWERS, FAST, PROMPTS, SMOOTH, farthest, metrics, pair, train, weights

from guerdon import Comparison, GuerdonError, Preference, Response
from guerdon.api import training
from guerdon.config import ModelOptions, TrainOptions
from guerdon.contracts import as_prompt
from guerdon.models import reward_model
from guerdon.models.directory.loading import create_reward_model, load_reward_model
from guerdon.models.directory.saving import save
from guerdon.models.engine.classifier import head_name
from guerdon.models.engine.modules import unwrap_peft
from guerdon.training import fit, loop


def test_training_learns_and_measures_how_well(tiny_dir):
    result = train(tiny_dir, liked(200), held_out=liked(60, 1))
    assert result.held_out.accuracy.low > 0.8
    assert result.held_out.accuracy.n == 60
    assert result.held_out.loss.value < 0.3
    assert (result.steps, result.num_dropped, result.stopped_early) == (13, 0, False)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert"])
def test_adapters_and_the_head_train_and_the_backbone_does_not(tmp_path, monkeypatch, name):
    base = save_family(tmp_path / "base", name)
    options = ModelOptions(base=str(base), template="plain", lora_rank=4)
    before = create_reward_model(options)
    trainable = {n for n, p in before.network.named_parameters() if p.requires_grad and n != "tie_raw"}
    head = {f"{head_name(unwrap_peft(before.network.classifier))}"}
    assert all("lora_" in n or n.split(".")[-2] in head for n in trainable)
    assert any(n.split(".")[-2] in head for n in trainable)

    seen = {}
    merge = reward_model.merge_adapters

    def watched(classifier):
        seen["adapters"] = model.score(PROMPTS, ANSWERS).value
        seen["backbone"] = {n: p.clone() for n, p in classifier.named_parameters() if "lora_" not in n}
        return merge(classifier)

    monkeypatch.setattr(reward_model, "merge_adapters", watched)
    model = create_reward_model(options)
    result = fit(model, liked(32), TrainOptions(**FAST, head_lr=1e-2))
    monkeypatch.undo()
    start = dict(before.network.classifier.named_parameters())
    moved = {n for n, value in seen["backbone"].items() if not torch.equal(value, start[n])}
    assert moved
    assert all(n.split(".")[-2] in head for n in moved)

    np.testing.assert_allclose(result.model.score(PROMPTS, ANSWERS).value, seen["adapters"], atol=1e-5)
    save(result.model, tmp_path / "model")
    assert not (tmp_path / "model/adapter_config.json").exists()
    np.testing.assert_allclose(
        load_reward_model(tmp_path / "model").score(PROMPTS, ANSWERS).value,
        result.model.score(PROMPTS, ANSWERS).value,
        atol=1e-6,
    )


def test_an_adapter_for_a_missing_layer_is_refused_with_the_layers_there_are(tiny_dir):
    with pytest.raises(
        GuerdonError,
        match=r"model\.lora_targets must name linear layers, got 'c_attn'\. Choose from down_proj, gate_proj",
    ):
        create_reward_model(ModelOptions(base=str(tiny_dir), lora_rank=2, lora_targets=["q_proj", "c_attn"]))


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_a_bfloat16_backbone_learns_under_a_float32_head(tiny_dir, monkeypatch, lora_rank):
    seen = {}
    evaluate = loop.evaluate

    def watched(training, table):
        seen.update({n: p.dtype for n, p in training.core.named_parameters()})
        return evaluate(training, table)

    monkeypatch.setattr(loop, "evaluate", watched)
    model = {"dtype": "bfloat16", "lora_rank": lora_rank}
    result = train(
        tiny_dir, liked(200), held_out=liked(40, 1), model=model, lr=3e-3 if not lora_rank else 2e-2, epochs=2.0
    )
    assert result.held_out.accuracy.value > 0.9
    by_type = {dtype: {n for n in seen if seen[n] == dtype} for dtype in (torch.bfloat16, torch.float32)}
    assert all("score" in n or "lora_" in n or n == "tie_raw" for n in by_type[torch.float32])
    assert any("score.weight" in n for n in by_type[torch.float32])
    assert any("q_proj" in n for n in by_type[torch.bfloat16])


def test_steps_too_small_for_bfloat16_are_not_lost(tiny_dir):
    network = create_reward_model(ModelOptions(base=str(tiny_dir), dtype="bfloat16")).network
    norm = network.classifier.model.norm.weight  # all ones, where bfloat16's next number is 2^-7 away
    moving = loop.trainable_weights(network, TrainOptions(lr=1e-4, schedule="constant", clip=0.0))
    for _ in range(100):
        norm.grad = torch.ones_like(norm)
        moving.step(1.0)
    assert norm.dtype == torch.bfloat16
    np.testing.assert_allclose(norm.detach().float().numpy(), 0.99, atol=2**-8)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        ("cosine", [0.5, 1, *(0.5 + 0.5 * math.cos(math.pi * i / 8) for i in range(8))]),
    ],
)
def test_the_learning_rate_follows_its_schedule(schedule, expected):
    options = TrainOptions(schedule=schedule, warmup=0.2)
    np.testing.assert_allclose([loop.learning_rate(step, 10, options) for step in range(10)], expected)


def test_metrics_hold_the_learning_rate_of_each_step(tiny_dir, tmp_path):
    train(tiny_dir, liked(32), folder=tmp_path, batch_size=8, warmup=0.5, schedule="linear")
    assert [(row["step"], row["epoch"], row["lr"] / FAST["lr"]) for row in metrics(tmp_path)] == [
        (1, 0.25, 0.5),
        (2, 0.5, 1.0),
        (3, 0.75, 1.0),
        (4, 1.0, 0.5),
    ]


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_the_head_has_its_own_learning_rate_and_no_decay(tmp_path, name):
    base = save_family(tmp_path, name)
    network = create_reward_model(ModelOptions(base=str(base), template="plain")).network
    groups = loop.trainable_weights(network, TrainOptions(lr=1e-4, head_lr=1e-2, weight_decay=0.1)).adamw.param_groups
    names = {id(p): n for n, p in network.named_parameters()}
    found = {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    last = "classifier.score" if name == "llama" else "classifier.classifier"
    for n, p in network.named_parameters():
        is_head = n.startswith(last) or n == "tie_raw"
        assert found[n] == (1e-2 if is_head else 1e-4, 0.1 if not is_head and p.ndim >= 2 else 0.0), n


def test_clipping_bounds_the_step_and_metrics_hold_the_norm_before_it(tiny_dir, tmp_path):
    given = {"max_steps": 1, **SMOOTH}
    free = train(tiny_dir, liked(16), folder=tmp_path / "free", **given)
    cut = train(tiny_dir, liked(16), folder=tmp_path / "cut", **given | {"clip": 1e-3})
    start = {
        n: v.clone() for n, v in create_reward_model(ModelOptions(base=str(tiny_dir))).network.state_dict().items()
    }
    assert metrics(tmp_path / "free")[0]["grad_norm"] == metrics(tmp_path / "cut")[0]["grad_norm"] > 0.1
    assert farthest(start, weights(cut)) < 0.02 * farthest(start, weights(free))


def test_epochs_and_max_steps_bound_the_run(tiny_dir):
    assert train(tiny_dir, liked(64), epochs=0.5).steps == 2
    assert train(tiny_dir, liked(64), epochs=2.0, max_steps=3).steps == 3


TIES = [pair("good", "bad", q=0.5), pair("a film", "the film", groups=((0, 1),))]
THREE_TIED = [Comparison(as_prompt("write"), tuple(map(Response, "abc")), Preference(groups=((0, 1, 2),)))]


@pytest.mark.parametrize(
    ("comparisons", "options", "complaint"),
    [
        ([], {}, "training needs at least one comparison, got 0, of which 0 are too long. Give"),
        (TIES, {}, "comparisons must have a preferred response, got 2 that are all ties. Add"),
        (THREE_TIED, {"loss": "plackett_luce"}, "comparisons must have a preferred response, got 1 that is all ties. Add"),
        ([pair("good", "good"), *liked(3)], {}, "must differ as the model sees them, got 1 of 4 comparisons with identical responses"),
        (liked(4, k=3), {}, "train.loss=bradley_terry must have 2 responses, got 3. Use train.loss=plackett_luce"),
        (liked(4, k=3), {"loss": "rao_kupper"}, "train.loss=rao_kupper must have 2 responses, got 3"),
        ([pair("a", "b", q=0.7)], {"loss": "plackett_luce"}, "must have a ranking, got a soft label q=0.7. Use"),
        (liked(4), {"loss": "attributes"}, "must be rated for one of model.attributes=[], got no rating. Name"),
        (liked(4), {"loss": "cross_entropy"}, "must be rated for one of model.attributes=[], got no rating. Name"),
        ([pair("a", "b", q=0.7)], {"loss": "all_pairs"}, "must have a ranking, got a soft label q=0.7. Use"),
        (liked(4), {"loss": "rao_kupper", "label_smoothing": 0.1}, "must be 0 with train.loss=rao_kupper, which does not use it, got 0.1"),
        (liked(4), {"loss": "all_pairs", "margin_scale": 1.0}, "must be 0 with train.loss=all_pairs, which does not use it, got 1.0"),
        (liked(4), {"patience": 2}, "train.patience must be 0 without held-out comparisons, got 2. Give"),
        (liked(16), {"lr": 1e30, "clip": 0.0, "epochs": 5.0}, " at step 2. Use a smaller train.lr (now 1e+30)"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_on_is_refused_in_one_line(tiny_dir, tmp_path, comparisons, options, complaint):
    with pytest.raises(GuerdonError) as refusal:
        train(tiny_dir, comparisons, folder=tmp_path / "run", **options)
    assert complaint in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not list((tmp_path / "run").glob("checkpoint*"))


def test_a_run_that_is_refused_leaves_the_folder_as_it_was(tiny_dir, tmp_path):
    given = {"out": tmp_path / "run", "base": str(tiny_dir), **FAST, "save_every": 1}
    with pytest.raises(GuerdonError, match="are all ties"):
        training.train(TIES, **given)
    assert not (tmp_path / "run").exists()
    training.train(liked(16), **given)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    assert set(before) == {"config.yaml", "metrics.jsonl"}
    with pytest.raises(GuerdonError, match="belongs to a run that differs in"):
        training.train(liked(16), **given | {"lr": 1e-5})
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
