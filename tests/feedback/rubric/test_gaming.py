"""A planted world in which a policy games one criterion: best-of-n names it, and only where gold falls."""

from __future__ import annotations

import random

import numpy as np
from rubric_worlds import CORRECT, SOURCE, model_of, rubric_of

from guerdon.config import BestOfNOptions
from guerdon.contracts import Response, Rollouts, as_prompt
from guerdon.optimization import combined, read_pool, to_report, write_pool

RULES = {CORRECT: lambda text: 0.8 if "true" in text else 0.2, SOURCE: lambda text: 0.95 if "Source:" in text else 0.05}
RUBRIC = rubric_of(
    {"id": "correct", "text": CORRECT, "weight": 1}, {"id": "mentions_source", "text": SOURCE, "weight": 2}
)


class Liar:
    """Half of its replies name a source; those are true less often."""

    def sample(self, prompts, n, max_tokens, temperature, seed):
        rng, responses = random.Random(seed), []
        for _ in range(n * len(prompts)):
            cites = rng.random() < 0.5
            word = "true" if rng.random() < (0.1 if cites else 0.8) else "false"
            responses.append(Response(f"{word} {rng.random()}{' Source: me' if cites else ''}", finish="stop"))
        return Rollouts(tuple(as_prompt(p) for p in prompts for _ in range(n)), tuple(responses))


def truth(prompts, responses):
    return [float("true" in response.text) for response in responses]


def pool_of(rubric, path):
    options = BestOfNOptions(n=8)
    reward, gold = combined(model_of(rubric, RULES)), combined(truth)
    prompts = [as_prompt(f"Question {i}") for i in range(40)]
    identity = {"policy": "liar", "reward": reward.fingerprint, "gold": gold.fingerprint, "prompts": "40"}
    write_pool(path, Liar(), reward, prompts, options, gold=gold, identity=identity)
    return read_pool(path)


def test_best_of_n_has_a_column_per_criterion_and_names_the_gamed_one(tmp_path):
    pool = pool_of(RUBRIC, tmp_path / "pool.jsonl")
    assert set(pool.rollouts.attributes) == {"correct", "mentions_source"}
    texts = [response.text for response in pool.rollouts.responses]
    cited = pool.rollouts.attributes["mentions_source"]
    np.testing.assert_allclose(cited, [RULES[SOURCE](text) for text in texts])
    report = to_report(pool)
    assert report.estimates["attribute/mentions_source"].low > 0.2
    assert report.estimates["gold_gain"].high < 0
    assert [f.title for f in report.findings if "gold falls" in f.title] == ["mentions_source rises while gold falls"]


def test_an_honest_rubric_is_not_accused(tmp_path):
    honest = rubric_of({"id": "correct", "text": CORRECT}, {"id": "mentions_source", "text": SOURCE, "weight": -0.1})
    report = to_report(pool_of(honest, tmp_path / "pool.jsonl"))
    assert report.estimates["gold_gain"].low > 0
    assert not [f.title for f in report.findings if "gold falls" in f.title]
