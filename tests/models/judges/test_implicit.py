"""The implicit reward is beta times the log-ratio of the response's tokens, its end token included, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from guerdon.config import PolicyOptions
from guerdon.config.judging import JudgeOptions
from guerdon.contracts import GuerdonError, Response
from guerdon.models.directory.policies import load_policy
from guerdon.models.judges.build import build_judge
from guerdon.models.judges.implicit import ImplicitReward
from guerdon.models.policy import LanguagePolicy
from guerdon.testing import check_reward_model
from tiny import save_tiny


def policy_in(folder: Path, **options: Any) -> LanguagePolicy:
    return load_policy(PolicyOptions(base=str(folder), device="cpu", **options))


@pytest.fixture(scope="module")
def reference_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("reference"), seed=9)


@pytest.fixture(scope="module")
def model(tiny_dir: Path, reference_dir: Path) -> ImplicitReward:
    return ImplicitReward(policy_in(tiny_dir), policy_in(reference_dir), beta=0.3)


def by_hand(folder: Path, prompt: str, reply: str, *, ended: bool) -> float:
    """log p(reply | prompt) with transformers alone: the chat template's text, token by token."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    turns = [{"role": "user", "content": prompt}]
    before = tokenizer(
        tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True), add_special_tokens=False
    )["input_ids"]
    after = tokenizer(reply, add_special_tokens=False)["input_ids"]
    after = [*after, tokenizer.convert_tokens_to_ids("<|im_end|>")] if ended else after
    with torch.no_grad():
        log_probs = torch.log_softmax(model(torch.tensor([before + after])).logits[0].double(), -1)
    positions = range(len(before) - 1, len(before) + len(after) - 1)
    return float(sum(log_probs[at, token] for at, token in zip(positions, after, strict=True)))


@pytest.mark.parametrize("finish", [None, "stop", "length"])
def test_it_is_beta_times_the_log_ratio_of_the_response(
    model: ImplicitReward, tiny_dir: Path, reference_dir: Path, finish: Any
) -> None:
    prompt, reply = "is it a good film ?", "yes , a great film"
    ended = finish != "length"
    expected = 0.3 * (
        by_hand(tiny_dir, prompt, reply, ended=ended) - by_hand(reference_dir, prompt, reply, ended=ended)
    )
    scores = model.score([prompt], [Response(reply, finish=finish)])
    assert scores.value == pytest.approx([expected], abs=1e-4)


def test_the_end_token_counts_where_the_response_ended(model: ImplicitReward) -> None:
    ended, cut = model.score(["write"] * 2, [Response("good film"), Response("good film", finish="length")]).value
    assert abs(ended - cut) > 1e-3


def test_it_fulfills_the_contract_of_a_reward_model(model: ImplicitReward) -> None:
    check_reward_model(model)
    odds = model.log_odds(["write"], ["good"], ["bad"])
    assert odds == pytest.approx(-model.log_odds(["write"], ["bad"], ["good"]))


def test_the_reference_of_adapters_is_the_model_without_them(tiny_dir: Path) -> None:
    policy = policy_in(tiny_dir)
    adapted = load_policy(PolicyOptions(base=str(tiny_dir), device="cpu", lora_rank=4), adapters=True)
    with torch.no_grad():
        for name, weight in adapted.model.named_parameters():
            if "lora_B" in name:
                weight.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    prompts, replies = ["write a tweet"] * 2, ["good film", "bad people"]
    own = ImplicitReward(adapted, beta=0.1).score(prompts, replies).value
    apart = ImplicitReward(adapted, policy, beta=0.1).score(prompts, replies).value
    assert np.abs(own).max() > 1e-3
    assert own == pytest.approx(apart, abs=1e-4)


def test_two_ways_of_reading_text_are_refused(tiny_dir: Path, reference_dir: Path, tmp_path: Path) -> None:
    policy = policy_in(tiny_dir)
    with pytest.raises(GuerdonError, match="chat template and system message"):
        ImplicitReward(policy, policy_in(reference_dir, template="plain"))
    with pytest.raises(GuerdonError, match="chat template and system message"):
        ImplicitReward(policy, policy_in(reference_dir, system="be kind"))
    with pytest.raises(GuerdonError, match="same weights"):
        ImplicitReward(policy, policy_in(tiny_dir))
    with pytest.raises(GuerdonError, match="without adapters"):
        ImplicitReward(policy)
    other = policy_in(reference_dir)
    other.tokenizer.add_tokens(["zebra"])
    with pytest.raises(GuerdonError, match="tokenizer of the policy"):
        ImplicitReward(policy, other)


def test_a_text_beyond_the_context_is_refused_not_cut(model: ImplicitReward) -> None:
    with pytest.raises(GuerdonError, match="response 1: must have at most 512 tokens"):
        model.score(["write"] * 2, ["good", "good " * 600])


def test_an_implicit_judge_from_options(tiny_dir: Path, reference_dir: Path, model: ImplicitReward) -> None:
    options = JudgeOptions(kind="implicit", model=str(tiny_dir), reference=str(reference_dir), beta=0.3, device="cpu")
    judge = build_judge(options)
    assert judge.log_odds(["write"], ["good"], ["bad"]) == pytest.approx(model.log_odds(["write"], ["good"], ["bad"]))
    with pytest.raises(GuerdonError, match=r"judge\.reference must be given"):
        build_judge(JudgeOptions(kind="implicit", model=str(tiny_dir)))


def test_adapters_and_their_base_are_one_model_in_memory(
    tiny_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    adapted = load_policy(PolicyOptions(base=str(tiny_dir), device="cpu", lora_rank=4), adapters=True)
    with torch.no_grad():
        for name, weight in adapted.model.named_parameters():
            if "lora_B" in name:
                weight.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    adapted.model.peft_config["default"].base_model_name_or_path = str(tiny_dir)
    adapted.model.save_pretrained(tmp_path / "adapters")
    loaded = []
    load = AutoModelForCausalLM.from_pretrained

    def counted(source: Any, *args: Any, **options: Any) -> Any:
        loaded.append(source)
        return load(source, *args, **options)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", counted)
    expected = ImplicitReward(adapted, beta=0.2).log_odds(["write"], ["good"], ["bad"])
    assert abs(expected[0]) > 1e-4
    for reference in ({}, {"reference": str(tiny_dir)}):
        options = {"kind": "implicit", "model": str(tmp_path / "adapters"), "beta": 0.2, "device": "cpu", **reference}
        judge = build_judge(JudgeOptions.model_validate(options))
        assert judge.log_odds(["write"], ["good"], ["bad"]) == pytest.approx(expected, abs=1e-5)
    assert loaded == [str(tiny_dir)] * 2
