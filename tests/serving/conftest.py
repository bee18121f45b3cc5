"""Saved models for the servers of this room."""

from __future__ import annotations

from pathlib import Path

import pytest

from guerdon.config import ModelOptions
from guerdon.models.card import Calibration
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.directory.saving import save


@pytest.fixture(scope="session")
def saved(tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model with a calibration."""
    model = create_reward_model(ModelOptions(base=str(tiny_dir)))
    folder = tmp_path_factory.mktemp("served") / "model"
    save(model.with_card(calibration=Calibration(temperature=0.5, reference_mean=0.25)), folder)
    return folder


@pytest.fixture(scope="session")
def saved_heads(tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three heads on one backbone."""
    folder = tmp_path_factory.mktemp("served") / "heads"
    save(create_reward_model(ModelOptions(base=str(tiny_dir), heads=3), seed=5), folder)
    return folder
