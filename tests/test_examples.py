"""The examples run as they stand, on a tiny model."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import assay
from assay import Response

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tested_here():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {
        "train_on_your_pairs", "rank_candidates", "rewards_for_trl",
    }  # fmt: skip


def test_training_on_your_pairs_leaves_a_calibrated_model_and_a_page(here, tiny_dir, capsys):
    load("train_on_your_pairs").main(["pairs.jsonl", "--out", "runs/new", "--base", str(tiny_dir), "--lr", "3e-3"])
    assert "accuracy" in capsys.readouterr().out
    assert assay.load("runs/new/model").calibration.temperature != 1.0
    assert (here / "runs/new/report.html").read_text("utf-8").startswith("<!")


def test_ranking_names_the_best_and_says_when_it_is_unsure(here, capsys):
    rank = load("rank_candidates")
    rank.main(["my-model", "replies.jsonl", "--sure", "1.0"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all("unsure" in line for line in lines)
    model = assay.load("my-model")
    row = json.loads((here / "replies.jsonl").read_text("utf-8").splitlines()[0])
    order, chance = rank.ranked(model, row["prompt"], row["responses"])
    values = model.score([row["prompt"]] * 3, row["responses"]).value
    assert values[order[0]] == values.max()
    assert chance >= 0.5
    assert rank.ranked(model, "One?", ["reply"]) == ([0], 1.0)


def test_trl_gets_the_models_own_rewards_for_texts_and_for_messages(here):
    reward = load("rewards_for_trl").reward_function("my-model")
    model = assay.load("my-model")
    prompts, texts = ["Write a tweet.", "Write a review."], ["We love it.", "We hate it."]
    expected = model.score(prompts, texts).value.tolist()
    assert reward(prompts=prompts, completions=texts, trainer_state=None) == expected
    turns = [[{"role": "user", "content": prompt}] for prompt in prompts]
    replies = [[{"role": "assistant", "content": text}] for text in texts]
    assert reward(prompts=turns, completions=replies, completion_ids=[[1], [2]]) == expected


def test_trls_cut_completions_are_shown_as_cut(here):
    reward = load("rewards_for_trl").reward_function("my-model", max_completion_length=3)
    cut = assay.load("my-model").score(["Write a tweet."], [Response("We love it", finish="length")]).value.tolist()
    assert reward(["Write a tweet."], ["We love it"], completion_ids=[[5, 6, 7]]) == cut
    assert reward(["Write a tweet."], ["We love it"], completion_ids=[[5, 6]]) != cut
