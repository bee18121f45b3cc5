"""A saved model that is loaded where it is used, also as an actor of Ray Data."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from snippets import blocks

from guerdon import GuerdonError
from guerdon.api import scoring
from guerdon.scoring.bulk_scorer import BulkScorer

TESTS = Path(__file__).parent.parent


def test_a_scorer_pickles_without_its_model(model):
    scorer = BulkScorer(model, calibrated=False)
    values = scorer.score(["write"], ["good"]).value
    body = pickle.dumps(scorer)
    assert len(body) < 10_000
    np.testing.assert_allclose(pickle.loads(body).score(["write"], ["good"]).value, values, atol=1e-6)


def test_a_batch_of_columns_gets_its_rewards(model):
    scorer = BulkScorer(model)
    both = np.empty(2, dtype=object)
    both[:] = [np.array(["good", "bad"], dtype=object), None]
    batch = {
        "prompt": np.array(["write", "write"]),
        "response": np.array([None, "good"], dtype=object),
        "responses": both,
    }
    found = scorer(batch)
    good, bad = scorer.score(["write"] * 2, ["good", "bad"]).value
    assert list(found["reward"]) == [None, pytest.approx(good, abs=1e-5)]
    assert list(found["rewards"]) == [pytest.approx([good, bad], abs=1e-5), None]
    assert found["truncated"].tolist() == [False, False]
    turns = np.array([{"role": "user", "content": "write"}, {"role": "assistant", "content": "good"}], dtype=object)
    column = np.empty(1, dtype=object)
    column[0] = turns
    assert scorer({"messages": column})["reward"].tolist() == pytest.approx([good], abs=1e-5)
    with pytest.raises(GuerdonError, match="row 1 of the batch: row must be an object with prompt and response"):
        scorer({"prompt": ["a", "b"], "response": ["c", None]})


@pytest.mark.filterwarnings("default")  # Ray's own
def test_the_documented_ray_data_set_has_the_scores_of_one_process(here):
    ray = pytest.importorskip("ray", reason="needs pip install 'guerdon[ray]'")
    (snippet,) = [block.text for block in blocks(TESTS.parent / "docs" / "score.md") if block.language == "py"]
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)  # two actors, and room to read
    try:
        namespace: dict = {}
        exec(snippet, namespace)
    finally:
        ray.shutdown()
    scoring.score_file(BulkScorer("my-model"), "replies.jsonl", "scored.jsonl")
    expected = {row["prompt"]: row["rewards"] for row in map(json.loads, Path("scored.jsonl").read_text().splitlines())}
    found = {row["prompt"]: list(row["rewards"]) for row in namespace["rows"]}
    assert found.keys() == expected.keys()
    for prompt, rewards in expected.items():
        np.testing.assert_allclose(found[prompt], rewards, atol=1e-5)
