"""Solutions with labeled steps: the same solution from each layout, what is refused, and a model that learns which steps are wrong."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from imports import one, reason
from shell import guerdon as command

from guerdon.api import benchmarks, training
from guerdon.contracts import Comparison, GuerdonError, Response
from guerdon.models.directory.loading import load_reward_model
from guerdon.models.step_reward import StepReward

MARK = "ки"
SHEPHERD = {
    "input": f"How many? Step 1: We add. {MARK}\nStep 2: It is 6. {MARK}\nStep 3: So 6. {MARK}",
    "label": "How many? Step 1: We add. +\nStep 2: It is 6. -\nStep 3: So 6. -",
}
FIRST_ERROR = {"problem": "2 + 3?", "steps": ["We add.", "It is 6.", "So 6."], "label": 1}


def rated(comparison: Comparison) -> list[tuple[str, float]]:
    return [(response.text, response.ratings["right"]) for response in comparison.responses]


def test_a_solution_becomes_its_beginnings_each_rated_by_its_last_step():
    row = {"prompt": "2 + 3?", "completions": ["We add.", "It is 6.", "So 6."], "labels": [True, False, True]}
    comparison = one(row)
    assert rated(comparison) == [("We add.", 1.0), ("We add.\n\nIt is 6.", 0.0), ("We add.\n\nIt is 6.\n\nSo 6.", 1.0)]
    assert comparison.ranks == (0, 1, 0)
    assert one({**row, "labels": [0, 0, 0]}).ranks == (0, 0, 0), "all wrong: nothing to rank, and all to learn"
    chat = one({**row, "prompt": [{"role": "user", "content": "2 + 3?"}]})
    assert (chat.prompt[-1].content, rated(chat)) == ("2 + 3?", rated(comparison))


def test_the_signs_of_math_shepherd_are_read_from_where_the_marks_are():
    comparison = one(SHEPHERD)
    assert comparison.prompt[-1].content == "How many?"
    assert comparison.responses[-1].text == "Step 1: We add.\n\nStep 2: It is 6.\n\nStep 3: So 6."
    assert [value for _, value in rated(comparison)] == [1.0, 0.0, 0.0]
    minus = {
        "input": f"5 - 3? Step 1: 5 - 3 + {MARK}\nStep 2: 2 {MARK}",
        "label": "5 - 3? Step 1: 5 - 3 + -\nStep 2: 2 +",
    }
    assert [value for _, value in rated(one(minus))] == [0.0, 1.0], "signs within a step are its text"


def test_steps_after_the_first_wrong_one_have_no_label():
    assert rated(one(FIRST_ERROR)) == [("We add.", 1.0), ("We add.\n\nIt is 6.", 0.0)]
    assert [value for _, value in rated(one({**FIRST_ERROR, "label": -1}))] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({**FIRST_ERROR, "label": 3}, "label must be the index of one of 3 steps, or -1"),
        ({**FIRST_ERROR, "label": 0}, "a solution must have at least 2 labeled steps, got 1"),
        ({**FIRST_ERROR, "steps": ["We add.", " "], "label": -1}, "steps[1] must be a step that is not empty"),
        ({"prompt": "q", "completions": ["a", "b"], "labels": [True]}, "labels must be a list of 2"),
        ({"prompt": "q", "completions": ["a", "b"], "labels": [True, 0.5]}, "labels[1] must be true or false"),
        ({"prompt": "q", "completions": ["a", "b"], "labels": [True, None]}, "labels[1] must be true or false"),
        ({**SHEPHERD, "label": SHEPHERD["input"]}, f"label must be the input with + or - in place of each {MARK}, got"),
        (
            {**SHEPHERD, "label": SHEPHERD["label"] + "\nStep 4: 6. +"},
            f"label must be the input with + or - in place of each {MARK}, and",
        ),
        ({**SHEPHERD, "input": SHEPHERD["input"] + " So?"}, f"input must be a text that ends with {MARK}"),
        ({"input": f"{MARK}", "label": "+"}, 'input must be a question, then "Step 1:"'),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(row, words):
    assert words in reason(row)


# ---- From files to verdicts ------------------------------------------------------------------------------------------


def solutions(num: int, seed: int) -> list[dict[str, object]]:
    """Three steps each. A good step is right, a bad one is wrong; half of the solutions have one bad step, in any place."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(num):
        at = int(rng.integers(3)) if i % 2 else -1
        words = [rng.choice(("film", "story", "music")) for _ in range(3)]
        steps = [f"a {'bad' if k == at else 'good'} {word}" for k, word in enumerate(words)]
        rows.append({"id": f"gsm8k-{i}", "problem": f"write a review {i}", "steps": steps, "label": at})
    return rows


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tiny_dir, tmp_path_factory):
    """A model of right steps, trained by the command line."""
    path = tmp_path_factory.mktemp("steps")
    rows = [row for row in solutions(200, 0) if row["label"]]  # a first step alone is no comparison
    data = write(path / "steps.jsonl", [{k: row[k] for k in ("problem", "steps", "label")} for row in rows])
    sets = (
        "model.attributes=[right]",
        "train.loss=cross_entropy",
        "train.lr=3e-3",
        "train.epochs=2",
        f"model.base={tiny_dir}",
    )
    ran = command("train", "--data", data, "--out", path / "run", *sets)
    assert ran.code == 0, ran.err
    return path / "run/model"


def test_a_model_of_right_steps_names_the_wrong_ones_of_a_benchmark(folder, tmp_path):
    data = write(
        tmp_path / "gsm8k.jsonl", [{**row, "final_answer_correct": row["label"] == -1} for row in solutions(60, 1)]
    )
    report = benchmarks.benchmark(load_reward_model(folder), data, "processbench")
    score, all_right = (report.estimates[key].value for key in ("score_gsm8k", "score_gsm8k_all_right"))
    assert score > 0.6 > all_right


def test_a_file_is_scored_by_its_steps_and_another_rule_is_another_run(folder, tmp_path):
    texts = ["a good film\n\na bad story\n\na good film", "a good film\n\na good story"]
    data = write(tmp_path / "replies.jsonl", [{"prompt": "write a review", "responses": texts}])
    out = tmp_path / "scored.jsonl"
    ran = command("score", folder, "--data", data, "--out", out, "--steps", "min")
    assert ran.code == 0, ran.err
    rewards = json.loads(out.read_text("utf-8"))["rewards"]
    wanted = StepReward(load_reward_model(folder), "min").score(["write a review"] * 2, texts)
    np.testing.assert_allclose(rewards, wanted.value, atol=1e-5)
    assert rewards[0] < rewards[1]
    other = command("score", folder, "--data", data, "--out", out, "--steps", "last")
    assert other.code == 0, other.err
    whole = load_reward_model(folder).score(["write a review"] * 2, texts)
    np.testing.assert_allclose(json.loads(out.read_text("utf-8"))["rewards"], whole.value, atol=1e-5)
    both = command("score", folder, "--data", data, "--out", tmp_path / "both.jsonl", "--steps", "min", "--per-token")
    assert both.code == 2
    assert "score.steps must be left out with score.per_token=true" in both.err


def test_attributes_that_are_not_rated_are_refused_with_those_that_are(tiny_dir, tmp_path):
    with pytest.raises(GuerdonError, match=r"one of model.attributes=\['wrong'\], got ratings for \['right'\]\. Name"):
        training.train(
            [one(FIRST_ERROR)], out=tmp_path / "run", base=str(tiny_dir), loss="cross_entropy", attributes=["wrong"]
        )


def test_ratings_beyond_probabilities_are_refused(tiny_dir, tmp_path):
    (comparison,) = [one(FIRST_ERROR)]
    far = tuple(Response(r.text, ratings={"right": 2.0}) for r in comparison.responses)
    with pytest.raises(GuerdonError, match=r"train.loss=cross_entropy must have ratings in \[0, 1\], got 2\. Use"):
        training.train(
            [dataclasses.replace(comparison, responses=far)], out=tmp_path / "run", base=str(tiny_dir),
            loss="cross_entropy", attributes=["right"],
        )  # fmt: skip
