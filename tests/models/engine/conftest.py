"""Networks of tiny random families, and arithmetic that stays in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from families import keep_float64, save_family

from guerdon.config import ModelOptions
from guerdon.models.directory.loading import create_reward_model


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Family -> directory of a tiny model, written on first use."""
    paths: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in paths:
            more = {"sliding_window": 9} if name == "mistral" else {}
            paths[name] = save_family(tmp_path_factory.mktemp(name), name, **more)
        return paths[name]

    return folder


@pytest.fixture
def build_network(folders: Callable[[str], Path]) -> Callable[..., Any]:
    """Builds a network whose backbone has not chosen a mode yet."""

    def build(name: str = "llama", dtype: torch.dtype = torch.float64, **options: Any) -> Any:
        model_options = ModelOptions(base=str(folders(name)), dtype="float32", device="cpu", **options)
        network = create_reward_model(model_options).network.to(dtype)
        if name in ("gpt_oss", "phimoe"):
            network.classifier.set_experts_implementation("eager")  # grouped products have no float64
        return network

    return build


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """No float32 inside transformers' norms and softmax."""
    keep_float64(monkeypatch)
