"""A judge on this machine gives what a plain forward pass gives, whatever is judged beside, and cuts nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import save_family

from guerdon.config import PolicyOptions
from guerdon.config.judging import JudgeOptions
from guerdon.contracts import Message, Prompt, Response, as_prompt
from guerdon.models.directory.policies import load_policy
from guerdon.models.judges.build import build_judge
from guerdon.models.judges.calls import Answer, MemoryCallLog, Question
from guerdon.models.judges.failures import Failure
from guerdon.models.judges.local import LocalModel, local_respondent
from guerdon.models.judges.prompted import Pair, PromptedJudge
from guerdon.models.judges.readers import OptionReader, TextReader
from guerdon.models.policy import LanguagePolicy

OPTIONS = ("1", "2")


def policy_in(folder: Path) -> LanguagePolicy:
    return load_policy(PolicyOptions(base=str(folder), device="cpu"))


@pytest.fixture(scope="module")
def policy(tiny_dir: Path) -> LanguagePolicy:
    return policy_in(tiny_dir)


def question(text: str, **fields: Any) -> Question:
    messages = (Message("system", "you are a good person"), Message("user", text))
    return Question(messages, **{"reader": OptionReader(OPTIONS, 0.0), "options": OPTIONS, **fields})


def written(text: str, **fields: Any) -> Question:
    return question(text, **{"reader": TextReader(), "options": (), "max_tokens": 12, "temperature": 1.0, **fields})


def plain_log_probs(folder: Path, policy: LanguagePolicy, asked: Question) -> np.ndarray:
    """Log-probabilities of the next token by transformers alone, on a single row."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.tensor([policy.encode(Prompt(asked.messages)).tolist()])
    with torch.no_grad():
        return torch.log_softmax(model(ids).logits[0, -1].double(), -1).numpy()


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "olmoe"])
def test_log_probabilities_are_those_of_a_plain_forward_pass(family: str, tmp_path: Path) -> None:
    policy = policy_in(save_family(tmp_path, family))
    asked = [question("is it 1 or 2 ? " + "good film " * n) for n in (1, 5, 2, 1)]
    answers = LocalModel(policy).answer(asked)
    tokenizer = policy.tokenizer
    for one, answer in zip(asked, answers, strict=True):
        assert isinstance(answer, Answer)
        plain = plain_log_probs(tmp_path, policy, one)
        for option in OPTIONS:
            token = tokenizer.convert_tokens_to_ids(option)
            assert answer.alternatives[option] == pytest.approx(plain[token], abs=1e-4)
        best = sorted(plain)[::-1][: min(20, len(plain))]
        assert sorted(answer.alternatives.values())[::-1][:5] == pytest.approx(best[:5], abs=1e-4)


def test_answers_do_not_depend_on_the_wave(policy: LanguagePolicy) -> None:
    asked = [question("which is better ? " + word) for word in ("good", "bad", "kind")]
    asked += [written("write a tweet", seed=7), written("write a review", seed=7), written("write", temperature=0.0)]
    together = LocalModel(policy).answer(asked)
    alone = [LocalModel(policy, micro_tokens=16).answer([one])[0] for one in reversed(asked)][::-1]
    for one, other in zip(together, alone, strict=True):
        assert isinstance(one, Answer)
        assert isinstance(other, Answer)
        assert one.text == other.text
        assert set(one.alternatives) == set(other.alternatives)
        for text, log_prob in one.alternatives.items():
            assert log_prob == pytest.approx(other.alternatives[text], abs=1e-5)


def test_samples_of_one_question_differ_and_are_repeatable(policy: LanguagePolicy) -> None:
    asked = [written("write a tweet", sample=sample) for sample in range(4)]
    texts = [answer.text for answer in LocalModel(policy).answer(asked) if isinstance(answer, Answer)]
    again = [answer.text for answer in LocalModel(policy).answer(asked[::-1]) if isinstance(answer, Answer)]
    assert len(set(texts)) > 1
    assert texts == again[::-1]


def test_a_question_that_does_not_fit_is_a_failure_and_never_cut(policy: LanguagePolicy) -> None:
    long = question("good " * 600)
    short, failure, cut = LocalModel(policy).answer([question("good"), long, written("good " * 500)])
    assert isinstance(short, Answer)
    assert isinstance(failure, Failure)
    assert isinstance(cut, Failure)
    assert failure.code == cut.code == "context_too_long"
    assert "at most 512" in failure.reason
    assert "at most 500" in cut.reason  # room for the 12 tokens of the answer
    limited = LocalModel(policy, max_length=16).answer([question("good " * 20)])[0]
    assert isinstance(limited, Failure)


def test_all_spellings_of_an_option_are_read(
    tiny_dir: Path, policy: LanguagePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LocalModel(policy)
    texts = [f" {text}" if text == "yes" else text for text in model._token_texts()]
    texts[texts.index("wrong")] = "Yes"  # a second spelling of one option
    monkeypatch.setattr(model, "_texts_by_token", texts)
    asked = question("is it right ?", options=("yes", "no"), reader=OptionReader(("yes", "no"), 0.0))
    (answer,) = model.answer([asked])
    assert isinstance(answer, Answer)
    plain = plain_log_probs(tiny_dir, policy, asked)
    ids = policy.tokenizer.convert_tokens_to_ids(["yes", "wrong", "no"])
    verdict = asked.reader.read(answer)
    expected = np.logaddexp(plain[ids[0]], plain[ids[1]]) - plain[ids[2]]
    assert verdict.log_odds == pytest.approx(expected, abs=1e-4)


def test_swapping_responses_negates_the_log_odds(policy: LanguagePolicy) -> None:
    options = JudgeOptions(kind="local", model="tiny", mode="pair", min_mass=0.0, criterion="good")
    judge = PromptedJudge(local_respondent(policy, MemoryCallLog()), options)
    prompts = ["write a tweet"] * 2
    forward = judge.log_odds(prompts, ["good film", "bad"], ["awful", "nice people"])
    backward = judge.log_odds(prompts, ["awful", "nice people"], ["good film", "bad"])
    assert np.allclose(forward, -backward, atol=1e-4)
    assert np.isfinite(forward).all()


def test_what_the_log_holds_is_not_computed_again(policy: LanguagePolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    options = JudgeOptions(kind="local", model="tiny", mode="score", min_mass=0.0)
    log = MemoryCallLog()
    pair = Pair(as_prompt("write"), Response("good"), Response("bad"))
    ((_, first),) = PromptedJudge(local_respondent(policy, log), options).compare([pair])

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(policy, "next_token_log_probs", refuse)
    ((_, second),) = PromptedJudge(local_respondent(policy, log), options).compare([pair])
    assert first == second
    assert math.isfinite(first.log_odds)


def test_a_local_judge_from_options(tiny_dir: Path) -> None:
    judge = build_judge(JudgeOptions(kind="local", model=str(tiny_dir), device="cpu", min_mass=0.0))
    assert np.isfinite(judge.log_odds(["write"], ["good"], ["bad"])).all()
    assert judge.tally.pairs == 1
