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
    names = ["round-1-seed-0", "round-2-seed-0", "ensemble"]
    overoptimize.main([*words, "--only", *names])
    out = here / "runs/over"
    summary = (out / "summary.md").read_text("utf-8")
    titles = ("first round, seed 0", "second round, seed 0", "mean of 2 proxies")
    assert all(f"| {title} |" in summary for title in titles)
    for name in ("rounds.svg", "others.svg"):
        assert (out / name).stat().st_size < 100_000
        assert "<svg" in (out / name).read_text("utf-8")
    second = json.loads((out / "proxy-round-2-seed-0/proxy.json").read_text("utf-8"))["comparisons"]
    assert second == 12 + len(guerdon.read(out / "round-2-seed-0.jsonl"))
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix in (".jsonl", ".html")}
    overoptimize.main([*words, "--only", *names])
    steps = [line for line in capsys.readouterr().out.split("# What")[0].splitlines() if line]
    assert len(steps) == 11
    assert all(line.endswith("done before") for line in steps)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    with pytest.raises(guerdon.GuerdonError, match="belongs to a run that differs in noise"):
        overoptimize.main([*words, "--noise", "0.1"])


def test_gold_likes_nice_replies_and_neither_repetition_nor_gibberish(overoptimize, tiny_dir):
    import numpy as np

    gold = sys.modules["gold"]
    scales = {"sentiment mean": 0.0, "sentiment std": 0.5, "nats mean": 3.0, "nats std": 0.5}
    assert gold.sentiment(["It is.", "VADER is smart, handsome, and funny!"], scales) == pytest.approx([0, 2 * 0.8439])
    texts = ["My friend and my friend.", "Great friend, great friend, great.", "The cat sat on the mat, the cat sat."]
    assert [gold.repeated(text) for text in texts] == pytest.approx([0.5, 0.6, 0.0])  # short words may repeat
    assert gold.repetition(texts) == pytest.approx([2.0, 2.5, 0.0])
    assert gold.length(["word " * count for count in (0, 30, 40, 45)]) == pytest.approx([4.0, 1.0, 0.0, 0.5])
    assert gold.oddness(np.array([2.0, 3.5, 4.0]), scales) == pytest.approx([0.0, 0.0, 1.0])
    policy = overoptimize.one_sentence_policy(str(tiny_dir))
    asked, replies = [guerdon.contracts.as_prompt("Write.")] * 3, [guerdon.Response(text) for text in texts]
    nats = gold.nats_per_token(policy, asked, replies)
    value = gold.judge(policy, scales)(asked, replies)
    expected = gold.sentiment(texts, scales) - gold.length(texts) - gold.repetition(texts) - gold.oddness(nats, scales)
    assert value == pytest.approx(expected)


def test_comparisons_follow_gold_but_for_the_noise(overoptimize):
    import random

    prompts = tuple(guerdon.contracts.as_prompt(f"Write about {i}.") for i in range(250) for _ in range(4))
    replies = guerdon.Rollouts(prompts, tuple(guerdon.Response(str(i)) for i in range(1000)))
    value = [random.Random(i).randrange(4) for i in range(1000)]
    pairs = list(overoptimize.pairs(replies, value))
    assert len(pairs) == sum(a != b for a, b in zip(value[::2], value[1::2], strict=True))
    for pair in pairs:
        better, worse = (value[int(pair.responses[pair.ranks.index(rank)].text)] for rank in (0, 1))
        assert better > worse
    noisy = overoptimize.with_noise(pairs, 0.25, random.Random(0))
    assert 0.2 < sum(a.ranks != b.ranks for a, b in zip(pairs, noisy, strict=True)) / len(pairs) < 0.3


def test_the_drop_of_gold_is_not_the_luck_of_the_best_check(overoptimize):
    """Gold that never falls shows no drop, though its best check is above its last; gold that falls by 1 shows that."""
    import numpy as np

    page, rng = sys.modules["page"], np.random.default_rng(0)
    flat = np.concatenate([np.zeros((1, 48)), np.ones((14, 48))])
    falls = flat - np.linspace(0, 1, 15)[:, None] ** 8
    naive, drops, covered = [], {"flat": [], "falls": []}, 0
    for _ in range(200):
        noise = rng.normal(size=(15, 48))
        naive.append((flat + noise).mean(axis=1).max() - (flat + noise)[-1].mean())
        for name, table in (("flat", flat), ("falls", falls)):
            peak, last = page.peak_and_last(table + noise)
            drops[name].append(page.mean_over_prompts([peak - last]))
        covered += drops["flat"][-1].low <= 0
    assert np.mean(naive) > 0.2
    assert abs(np.mean([drop.value for drop in drops["flat"]])) < 0.05
    assert np.mean([drop.value for drop in drops["falls"]]) == pytest.approx(1.0, abs=0.1)
    assert covered >= 0.95 * 200
