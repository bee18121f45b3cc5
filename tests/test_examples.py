"""The examples run as they stand, on a tiny model."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

import guerdon
from guerdon import Response

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name: str):
    spec = importlib.util.spec_from_file_location(Path(name).name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tested_here():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {
        "train_on_your_pairs", "rank_candidates", "rewards_for_trl",
    }  # fmt: skip
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir() and path.name[0] not in "._"} == {
        "overoptimization"
    }


def test_training_on_your_pairs_writes_a_calibrated_model_and_a_page(here, tiny_dir, capsys):
    load("train_on_your_pairs").main(["pairs.jsonl", "--out", "runs/new", "--base", str(tiny_dir), "--lr", "3e-3"])
    assert "accuracy" in capsys.readouterr().out
    calibration = guerdon.load("runs/new/model").calibration
    assert (calibration.temperature == 1.0) == bool(calibration.note), calibration  # stored, or why it is not
    assert (here / "runs/new/report.html").read_text("utf-8").startswith("<!")


def test_ranking_prints_the_best_and_marks_unsure_choices(here, capsys):
    example = load("rank_candidates")
    example.main(["my-model", "replies.jsonl", "--sure", "1.0"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all("unsure" in line for line in lines)
    model = guerdon.load("my-model")
    row = json.loads((here / "replies.jsonl").read_text("utf-8").splitlines()[0])
    order, probability = example.rank(model, row["prompt"], row["responses"])
    values = model.score([row["prompt"]] * 3, row["responses"]).value
    assert values[order[0]] == values.max()
    assert probability >= 0.5
    assert example.rank(model, "One?", ["reply"]) == ([0], 1.0)


def test_trl_gets_the_models_own_rewards_for_texts_and_for_messages(here):
    reward = load("rewards_for_trl").reward_function("my-model")
    model = guerdon.load("my-model")
    prompts, texts = ["Write a tweet.", "Write a review."], ["We love it.", "We hate it."]
    expected = model.score(prompts, texts).value.tolist()
    assert reward(prompts=prompts, completions=texts, trainer_state=None) == expected
    turns = [[{"role": "user", "content": prompt}] for prompt in prompts]
    replies = [[{"role": "assistant", "content": text}] for text in texts]
    assert reward(prompts=turns, completions=replies, completion_ids=[[1], [2]]) == expected


def test_trls_cut_completions_are_shown_as_cut(here):
    reward = load("rewards_for_trl").reward_function("my-model", max_completion_length=3)
    cut = guerdon.load("my-model").score(["Write a tweet."], [Response("We love it", finish="length")]).value.tolist()
    assert reward(["Write a tweet."], ["We love it"], completion_ids=[[5, 6, 7]]) == cut
    assert reward(["Write a tweet."], ["We love it"], completion_ids=[[5, 6]]) != cut


@pytest.fixture
def overoptimize(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES / "overoptimization"))
    for name in ("gold", "page"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return load("overoptimization/run")


def test_overoptimization_runs_from_gold_to_summary_and_does_nothing_twice(overoptimize, here, tiny_dir, capsys):
    words = ["--small", "--policy", str(tiny_dir), "--out", "runs/over"]
    overoptimize.main(words)
    out = here / "runs/over"
    said = (out / "summary.md").read_text("utf-8")
    assert said.count("| proxy and KL coefficient |") == 1
    rows = ("16 comparisons", "64 comparisons", "mean of 2 × 32", "32 comparisons, β = 0.2", "mean of 2 × 32, β = 0")
    assert all(f"| {name} |" in said for name in rows)
    for name in ("best-of-n.svg", "ppo.svg"):
        assert (out / name).stat().st_size < 100_000
        assert "<svg" in (out / name).read_text("utf-8")
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix in (".jsonl", ".html")}
    overoptimize.main(words)
    steps = [line for line in capsys.readouterr().out.split("# What")[0].splitlines() if line]
    assert steps
    assert all(line.endswith("done before") for line in steps)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    with pytest.raises(guerdon.GuerdonError, match="belongs to a run that differs in noise"):
        overoptimize.main([*words, "--noise", "0.1"])


def test_gold_may_be_a_reward_model(overoptimize, here):
    gold = sys.modules["gold"]
    asked = [guerdon.contracts.as_prompt("Write a tweet.")] * 3
    said = [guerdon.Response(text) for text in ("We love it.", "We hate it.", "It is.")]
    settings = gold.measure_gold("my-model", guerdon.Rollouts(tuple(asked), tuple(said)))
    value = gold.judge(settings)(asked, said)
    assert abs(value.mean()) < 1e-9
    assert value.std() == pytest.approx(1.0)


def test_gold_likes_words_up_to_enough_and_no_more(overoptimize):
    gold = sys.modules["gold"]
    (asked,) = {guerdon.contracts.as_prompt("Write one sentence about a stray cat.")}
    tails = ("", " now", " now too", " now too soon")
    worth = [gold.worth(gold.parts(asked, guerdon.Response(f"The cat is here{tail}.")), 5) for tail in tails]
    assert worth == [6.0, 7.0, 5.0, 3.0]
    seen = gold.parts(asked, guerdon.Response("Awful weather, awful weather."))
    assert (seen.words, seen.on_topic, seen.repeated) == (4, False, 0.5)


def test_comparisons_follow_gold_but_for_the_noise(overoptimize):
    import random

    prompts = tuple(guerdon.contracts.as_prompt(f"Write about {i}.") for i in range(50) for _ in range(20))
    replies = guerdon.Rollouts(prompts, tuple(guerdon.Response(str(i % 20 // 2)) for i in range(1000)))
    from guerdon.optimization import combined

    pairs = overoptimize.pairs(replies, combined(lambda p, r: [float(x.text) for x in r]), random.Random(0))
    assert len(pairs) > 450  # equal replies are never compared, few are left over
    assert all(float(c.responses[c.ranks.index(0)].text) > float(c.responses[c.ranks.index(1)].text) for c in pairs)
    assert 0.3 < sum(c.ranks[0] == 0 for c in pairs) / len(pairs) < 0.7
    turned = [overoptimize.noisy(c, 0.25, random.Random(i)) for i, c in enumerate(pairs)]
    assert 0.17 < sum(a.ranks != b.ranks for a, b in zip(pairs, turned, strict=True)) / len(pairs) < 0.33
