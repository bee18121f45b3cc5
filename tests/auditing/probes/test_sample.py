"""The sample of pairs."""

from __future__ import annotations

from guerdon.auditing.probes.sample import sample_pairs
from guerdon.contracts import Comparison, Preference, Response, as_prompt


def test_the_sample_is_bounded_spread_over_prompts_and_prefers_decided_pairs():
    many = [
        Comparison(
            as_prompt(f"Question {i % 5}"),
            (Response(f"yes {i}"), Response(f"no {i}")),
            Preference(q=0.5 if i < 5 else 1.0),
        )
        for i in range(50)
    ]
    pairs = sample_pairs(many, 10, seed=0)
    assert len(pairs) == 10
    assert {pair.group for pair in pairs} == {c.group for c in many}
    assert len({pair.id for pair in pairs}) == 10
    assert pairs != sample_pairs(many, 10, seed=1)
