"""Averaged weights: the mean of every weight, close to the ensemble, and refused for models that do not match."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import save_family
from reward_models import PROMPTS, RESPONSES
from toys import liked

from guerdon import GuerdonError
from guerdon.config import ModelOptions, TrainOptions
from guerdon.models.averaging import average_weights
from guerdon.models.card import Calibration
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.ensemble import Ensemble
from guerdon.training import fit


@pytest.fixture(scope="module")
def tuned(tiny_dir):
    """Two trainings from one start."""
    made = []
    for seed in (0, 1):
        model = create_reward_model(ModelOptions(base=str(tiny_dir)), seed=3)
        made.append(fit(model, liked(32), TrainOptions(lr=1e-3, save_every=0, seed=seed, batch_size=16)).model)
    return made


def test_every_weight_is_averaged(tuned):
    one, other = (dict(model.network.named_parameters()) for model in tuned)
    found = dict(average_weights(tuned, [0.25, 0.75]).network.named_parameters())
    for name, value in found.items():
        torch.testing.assert_close(value, 0.25 * one[name] + 0.75 * other[name])
    assert any((one[name] != other[name]).any() for name in one)


def test_the_average_of_a_model_with_itself_is_the_model(tuned):
    same = average_weights([tuned[0]] * 3)
    np.testing.assert_array_equal(same.score(PROMPTS, RESPONSES).value, tuned[0].score(PROMPTS, RESPONSES).value)
    assert same.card.calibration == Calibration()


def test_averaged_weights_predict_as_the_ensemble_to_first_order(tiny_dir):
    """Weights a step of size e apart: the two differ by order e squared, while the members differ by order e."""
    gaps = []
    for size in (1e-2, 1e-3):
        models = []
        for seed in (0, 1):
            moved = create_reward_model(ModelOptions(base=str(tiny_dir)), seed=3)
            generator = torch.Generator().manual_seed(seed)
            with torch.no_grad():
                for value in moved.network.double().parameters():
                    value += size * torch.randn(value.shape, generator=generator)
            models.append(moved)
        average = average_weights(models).score(PROMPTS, RESPONSES).value
        gaps.append(np.abs(average - Ensemble(models).score(PROMPTS, RESPONSES).value).max())
        apart = np.ptp(Ensemble(models).score(PROMPTS, RESPONSES).members, axis=0).max()
        assert gaps[-1] < apart
    assert gaps[1] < gaps[0] / 30


def test_models_that_do_not_match_are_refused_by_what_differs(tuned, tiny_dir, tmp_path):
    other = create_reward_model(ModelOptions(base=str(save_family(tmp_path / "gpt2", "gpt2")), template="plain"))
    with pytest.raises(GuerdonError, match="member 2 must be a llama like the first, got gpt2"):
        average_weights([tuned[0], other])
    wide = create_reward_model(ModelOptions(base=str(save_family(tmp_path / "llama", "llama")), template="plain"))
    with pytest.raises(
        GuerdonError,
        match=r"member 2: weight model.embed_tokens.weight must have shape \(\d+, 64\) like the first, got \(\d+, 32\)",
    ):
        average_weights([tuned[0], wide])
    several = create_reward_model(ModelOptions(base=str(tiny_dir), heads=2))
    with pytest.raises(
        GuerdonError, match=r"member 3: weight score.weight must have shape \(1, 64\) like the first, got \(2, 64\)"
    ):
        average_weights([*tuned, several])
    plain = create_reward_model(ModelOptions(base=str(tiny_dir), system="be kind"))
    with pytest.raises(GuerdonError, match=r"member 2 must have template_hash .* like the first, got"):
        average_weights([tuned[0], plain])
    with pytest.raises(GuerdonError, match="two or more models, and shares that sum to 1, got 1"):
        average_weights(tuned[:1])
    with pytest.raises(GuerdonError, match=r"shares that sum to 1, got 2 and \[0\.5, 0\.6\]"):
        average_weights(tuned, [0.5, 0.6])
