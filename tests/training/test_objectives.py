"""Every loss learns from the data it is for."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from toys import KIND, UNKIND, liked
from training_runs import ANSWERS, FAST, PROMPTS, gradients, metrics, train

from guerdon import Comparison, Preference, Response
from guerdon.api import training
from guerdon.config.training import LOSSES_OF_RATINGS
from guerdon.models.directory.loading import load_reward_model
from guerdon.training.objectives import OBJECTIVES


def rankings(num: int, seed: int = 0) -> list[Comparison]:
    """Of 2 to 5 responses; every third has a tie, every fourth a tail that nobody ranked."""
    rows = []
    for i in range(num):
        (comparison,) = liked(1, 1000 * seed + i, k=2 + i % 4)
        groups = list(comparison.preference.groups)
        if i % 3 == 0 and len(groups) > 2:
            groups[-2:] = [groups[-2] + groups[-1]]
        if i % 4 == 1:
            groups = groups[:-1]
        rows.append(dataclasses.replace(comparison, preference=Preference(groups=tuple(groups)), id=""))
    return rows


def with_ties(comparisons):
    """Every third pair gets a better one's words twice over, and the verdict that they are equal."""
    rows = list(comparisons)
    for i in range(0, len(rows), 3):
        best = rows[i].responses[rows[i].preference.groups[0][0]].text
        twins = (Response(best), Response(" ".join(reversed(best.split()))))
        rows[i] = dataclasses.replace(rows[i], responses=twins, preference=Preference(q=0.5), id="")
    return rows


def rated(comparisons):
    """Kind and unkind words counted as two ratings, every third of them missing."""
    rows = []
    for i, comparison in enumerate(comparisons):
        responses = []
        for j, response in enumerate(comparison.responses):
            words = response.text.split()
            ratings = {"kind": sum(w in KIND for w in words) - 1.5, "unkind": 1.5 - sum(w in UNKIND for w in words)}
            if (i + j) % 3 == 0:
                del ratings["kind" if i % 2 else "unkind"]
            responses.append(dataclasses.replace(response, ratings=ratings))
        rows.append(dataclasses.replace(comparison, responses=tuple(responses), id=""))
    return rows


def probable(comparisons):
    """The same ratings as probabilities: 1.0 where words are kind, 0.0 where they are not."""
    rows = []
    for comparison in rated(comparisons):
        responses = [
            dataclasses.replace(r, ratings={name: float(value > 0) for name, value in r.ratings.items()})
            for r in comparison.responses
        ]
        rows.append(dataclasses.replace(comparison, responses=tuple(responses), id=""))
    return rows


DATA = {
    "bradley_terry": liked,
    "rao_kupper": lambda num, seed=0: with_ties(liked(num, seed)),
    "plackett_luce": rankings,
    "all_pairs": rankings,
    "attributes": lambda num, seed=0: rated(liked(num, seed)),
    "cross_entropy": lambda num, seed=0: probable(liked(num, seed)),
}


@pytest.mark.parametrize("loss", OBJECTIVES)
def test_every_loss_learns_from_its_data(tiny_dir, tmp_path, loss):
    attributes = ["kind", "unkind"] if loss in LOSSES_OF_RATINGS else []
    folder = tmp_path / "run"
    model = training.train(
        DATA[loss](200), held_out=DATA[loss](60, 7), out=folder, base=str(tiny_dir), loss=loss, attributes=attributes,
        **FAST | {"epochs": 2.0},
    )  # fmt: skip
    rows = metrics(folder)
    assert rows[-1]["held_out_accuracy"] > 0.9
    assert rows[-2]["loss"] < 0.6 * rows[0]["loss"]
    card = json.loads((folder / "model/reward.json").read_text("utf-8"))
    assert (card["tie_threshold"] is not None) == (loss == "rao_kupper")
    assert card["attributes"] == attributes
    found = load_reward_model(folder / "model").score(PROMPTS, ANSWERS)
    np.testing.assert_allclose(found.value, model.score(PROMPTS, ANSWERS).value, atol=1e-6)
    assert found.value[0] > found.value[1]
    assert list(found.attributes) == attributes


def test_the_tie_threshold_grows_with_the_share_of_ties(tiny_dir):
    few, many = (
        train(tiny_dir, data, loss="rao_kupper", epochs=2.0, head_lr=0.05).model.card.tie_threshold
        for data in (liked(60), with_ties(with_ties(liked(60))[1:]))
    )
    assert 0 < few < many


def test_a_strength_adds_a_margin_to_the_loss(tiny_dir):
    strong = [dataclasses.replace(c, preference=dataclasses.replace(c.preference, strength=3.0)) for c in liked(8)]
    plain, _ = gradients(tiny_dir, strong, centering=0.0)
    asked, _ = gradients(tiny_dir, strong, centering=0.0, margin_scale=1.0)
    unjudged, _ = gradients(tiny_dir, liked(8), centering=0.0, margin_scale=1.0)
    assert asked > plain == unjudged
