"""What only a GPU can show: the variable-length kernel is used and is as accurate as padded rows, every stage runs there, and in
float32 its numbers equal the CPU's. Skipped without a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from families import rewards_and_gradients, save_family
from toys import KIND, liked

import guerdon
from guerdon.api import auditing, calibration, training
from guerdon.config import (
    ModelOptions,
    OptimizeOptions,
    PolicyOptions,
    TrainOptions,
)
from guerdon.contracts import as_prompt
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.directory.policies import load_policy
from guerdon.models.engine import tree_attention
from guerdon.optimization.loop import optimize
from guerdon.optimization.rewards import combined
from guerdon.training.loop import fit

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    # libraries warn about GPUs differently in each release
    pytest.mark.filterwarnings("default"),
]
FAMILIES = ("llama", "qwen3", "gemma3", "mistral", "phi3", "gpt_neox", "gpt2")


def texts(seed: int = 0) -> list[np.ndarray]:
    """A prompt longer than a small sliding window with twenty replies, a prompt with two, and a text of its own."""
    rng = np.random.default_rng(seed)

    def random(size: int) -> np.ndarray:
        return rng.integers(5, 100, size)

    many, few = random(60), random(17)
    replies = [(many, n) for n in range(3, 23)] + [(few, 1), (few, 9)]
    return [*(np.concatenate([prompt, random(n)]) for prompt, n in replies), random(30)]


def relative_errors(results, exact) -> tuple[float, float]:
    """Errors of rewards and gradients, relative to the exact ones."""
    gradients = sum(float((results[1][n].double() - g.double()).square().sum()) for n, g in exact[1].items())
    size = sum(float(g.double().square().sum()) for g in exact[1].values())
    spread = (exact[0] - exact[0].mean()).norm()
    return float((results[0] - exact[0]).norm() / spread), (gradients / size) ** 0.5


def metrics(folder: Path) -> list[dict]:
    """The rows of a run's metrics."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def calls(monkeypatch):
    """Grows by one for each call of the kernel."""
    calls, attend = [], tree_attention.attend_varlen
    monkeypatch.setattr(tree_attention, "attend_varlen", lambda *args: calls.append(1) or attend(*args))
    return calls


@pytest.mark.parametrize("name", FAMILIES)
def test_the_kernel_is_as_accurate_as_padded_rows(tmp_path, name, calls):
    if tree_attention.varlen_kernel() is None:
        pytest.skip("this torch has no variable-length attention")
    folder = save_family(tmp_path, name, hidden_size=128, **({"head_dim": 32} if name in ("qwen3", "gemma3") else {}))
    reference, network = (
        create_reward_model(ModelOptions(base=str(folder), device="cuda", dtype=dtype)).network
        for dtype in ("float32", "bfloat16")
    )
    exact = rewards_and_gradients(reference, texts(), "padded")
    assert network.backbone.choose_mode() == "prefix_tree"
    assert network.backbone.allow_varlen
    assert calls
    padded, tree = (
        relative_errors(rewards_and_gradients(network, texts(), mode), exact) for mode in ("padded", "prefix_tree")
    )
    print(f"{name}: relative errors of rewards and gradients are {tree} with the kernel, {padded} in padded rows")
    for ours, plain in zip(tree, padded, strict=True):
        assert 0 < ours < 1.5 * plain


@pytest.mark.parametrize("name", FAMILIES)
def test_in_float32_rewards_equal_the_cpus(tmp_path, name):
    folder = save_family(tmp_path, name)
    networks = [
        create_reward_model(ModelOptions(base=str(folder), device=device, dtype="float32")).network
        for device in ("cpu", "cuda")
    ]
    assert networks[1].backbone.choose_mode() == "prefix_tree"
    on_cpu, on_gpu = (rewards_and_gradients(network, texts(), "prefix_tree") for network in networks)
    on_gpu = (on_gpu[0].cpu(), {name: grad.cpu() for name, grad in on_gpu[1].items()})
    assert max(relative_errors(on_gpu, on_cpu)) < 1e-4


@pytest.mark.parametrize("more", [{}, {"micro_tokens": 64}, {"gradient_checkpointing": True}])
def test_training_takes_the_cpus_steps(tiny_dir, tmp_path, more):
    options = TrainOptions(lr=1e-3, batch_size=8, max_steps=6, epochs=4, warmup=0.0, save_every=0, **more)
    losses = []
    for device in ("cpu", "cuda"):
        model = create_reward_model(ModelOptions(base=str(tiny_dir), device=device, dtype="float32"))
        result = fit(model, liked(40), options, folder=tmp_path / device)
        assert result.model.device.type == device
        losses.append([row["loss"] for row in metrics(tmp_path / device)])
    np.testing.assert_allclose(losses[1], losses[0], atol=2e-4)


@pytest.mark.parametrize("lora_rank", [0, 4])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_training_in_bfloat16_and_with_adapters_learns(tiny_dir, tmp_path, dtype, lora_rank, calls):
    data = liked(200)
    options = TrainOptions(lr=5e-3, batch_size=16, epochs=3, save_every=10)
    model = create_reward_model(ModelOptions(base=str(tiny_dir), dtype=dtype, lora_rank=lora_rank))
    assert model.device.type == "cuda"
    result = fit(model, data, options, held_out=liked(60, 1), folder=tmp_path)
    assert result.model.device.type == "cuda"
    assert result.held_out.accuracy.value > 0.8
    assert bool(calls) == (dtype == "bfloat16" and tree_attention.varlen_kernel() is not None)


def test_greedy_tokens_equal_those_of_transformers_generate(tmp_path):
    policy = load_policy(PolicyOptions(base=str(save_family(tmp_path, "llama")), dtype="float32"))
    assert policy.device.type == "cuda"
    rng = np.random.default_rng(0)
    prompts = [rng.integers(5, 60, size).astype(np.int32) for size in (3, 17, 40)]
    ours = policy.generate(prompts, 1, 12, temperature=0)
    for prompt, reply in zip(prompts, ours.replies, strict=True):
        ids = torch.from_numpy(prompt.astype(np.int64))[None].cuda()
        plain = load_policy(PolicyOptions(base=str(tmp_path), dtype="float32"))
        theirs = plain.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12,
            eos_token_id=sorted(plain.stop_ids), pad_token_id=plain.tokenizer.pad_token_id,
        )[0, len(prompt) :]  # fmt: skip
        assert reply.tolist() == theirs.tolist()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("lora_rank", [0, 2])
def test_ppo_runs_and_the_reward_rises(tiny_dir, tmp_path, dtype, lora_rank):
    def kindness(prompts, responses):
        return [float(sum(word in KIND for word in response.text.split())) for response in responses]

    policy = load_policy(PolicyOptions(base=str(tiny_dir), lora_rank=lora_rank, dtype=dtype), adapters=lora_rank > 0)
    prompts = [as_prompt(f"write a {word} review of film {i}") for i, word in enumerate(("good", "bad", "new", "nice"))]
    options = OptimizeOptions(
        updates=8, prompts=4, samples=8, max_tokens=6, epochs=2, minibatches=2, lr=1e-2, check_every=0, save_every=0
    )
    optimize(policy, combined(kindness), prompts, options, folder=tmp_path)
    rewards = [row["score"] for row in metrics(tmp_path)]
    assert rewards[-1] > rewards[0]


def test_train_calibrate_audit_and_score_on_the_device(tiny_dir, tmp_path):
    model = training.train(liked(200), base=str(tiny_dir), lr=3e-3, batch_size=16, epochs=2, out=tmp_path / "run")
    assert model.device.type == "cuda"
    loaded = guerdon.load(tmp_path / "run/model")
    better, worse = loaded.score(["write a review of film 1"] * 2, ["good great nice", "bad awful worst"]).value
    assert better > worse
    calibrated, _ = calibration.calibrate(loaded, liked(120, 2))
    report = auditing.audit(calibrated, liked(120, 3), draws=100, null_draws=100)
    assert report.estimates["accuracy"].value > 0.8
