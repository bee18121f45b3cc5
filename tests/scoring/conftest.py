"""A saved model to score with, and no progress on stderr."""

from __future__ import annotations

import pytest

from guerdon import progress
from guerdon.config import ModelOptions
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.directory.saving import save


@pytest.fixture(scope="module")
def model(tiny_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bulk") / "model"
    save(create_reward_model(ModelOptions(base=str(tiny_dir))), folder)
    return folder


@pytest.fixture(autouse=True)
def quiet():
    was_quiet = progress.set_quiet()
    yield
    progress.set_quiet(was_quiet)
