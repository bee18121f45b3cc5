"""Tiny reward models, in memory and on disk, and policies behind a server."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from completions_server import Server, well
from families import save_family
from reward_models import HELD_OUT, TRAIN
from toys import liked

from guerdon.api import training, uncertainty
from guerdon.config import ModelOptions
from guerdon.models import completions_client
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.card import Calibration
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.directory.saving import save
from guerdon.models.ensemble import Ensemble, scale_by_comparisons
from guerdon.models.ensemble_rules import ensemble_rule
from guerdon.models.reward_model import ScalarRewardModel


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    """Name -> directory of a tiny model of that family, created on first use."""
    folders: dict[str, Path] = {}

    def family(name: str) -> Path:
        if name not in folders:
            folders[name] = save_family(tmp_path_factory.mktemp(name), name)
        return folders[name]

    return family


@pytest.fixture(scope="module")
def model(tiny_dir) -> ScalarRewardModel:
    """A tiny model with a random head; shared, so do not change it."""
    return create_reward_model(ModelOptions(base=str(tiny_dir)))


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory) -> Path:
    """Its directory. Read it; do not write into it."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    save(model, folder)
    return folder


@pytest.fixture(scope="module")
def heads(tiny_dir) -> ScalarRewardModel:
    """A model with three heads on its backbone."""
    return create_reward_model(ModelOptions(base=str(tiny_dir), heads=3), seed=5)


@pytest.fixture(scope="module")
def saved_heads(heads, tmp_path_factory) -> Path:
    """The same on disk, calibrated, with self-test scores. Read it; do not write into it."""
    folder = tmp_path_factory.mktemp("heads") / "model"
    tested = training.with_self_test(heads, liked(4))
    ensemble = scale_by_comparisons(Ensemble([tested], ensemble_rule("uncertainty", 0.25)), liked(20))
    save(CalibratedModel(ensemble, Calibration(temperature=2.0)), folder)
    return folder


@pytest.fixture(scope="module")
def uncertain(model) -> CalibratedModel:
    """The model with a measured uncertainty and a temperature of 2; shared, so do not change it."""
    return uncertainty.measure_uncertainty(CalibratedModel(model, Calibration(2.0, 0.5)), TRAIN, held_out=HELD_OUT)


@pytest.fixture
def serve(fast_retries):
    """Start a server that answers as given; all of them end with the test."""
    started = []

    def start(answer=well, **more):
        server = Server(answer, **more)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        started.append((server, thread))
        return server

    yield start
    for server, thread in started:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def fast_retries(monkeypatch):
    """Retries without long waits, and no proxy or key from the environment."""
    monkeypatch.setattr(completions_client, "BACKOFF", 0.01)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
