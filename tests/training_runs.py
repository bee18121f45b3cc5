"""Small training runs, and how to compare them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from guerdon import Comparison, Preference, Response
from guerdon.config import ModelOptions, TrainOptions, make
from guerdon.contracts import as_prompt
from guerdon.models.directory.loading import create_reward_model
from guerdon.training import fit
from guerdon.training.dataset import tokenize_comparisons
from guerdon.training.steps import TrainingNetwork, accumulate_gradients

FAST = {"lr": 3e-3, "batch_size": 16, "micro_tokens": 1024, "save_every": 0}
SMOOTH = {"lr": 0.02, "eps": 1.0, "clip": 0.0, "schedule": "constant", "warmup": 0.0}  # steps linear in the gradient
PROMPTS, ANSWERS = ["write a review"] * 3, ["a good and great film", "a sad film", "the film was so so"]


def train(base: Path, comparisons, *, model=None, held_out=(), folder=None, **options):
    created = create_reward_model(ModelOptions(base=str(base), **(model or {})))
    return fit(created, comparisons, make(TrainOptions, {**FAST, **options}), held_out=held_out, folder=folder)


def weights(result) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in result.model.network.state_dict().items()}


def farthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


def metrics(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def turned(comparisons):
    """The same with the opposite preference: the more a model learns, the worse it is on these."""
    return [dataclasses.replace(c, preference=Preference(groups=c.preference.groups[::-1]), id="") for c in comparisons]


def gradients(base: Path, comparisons, model=None, **options) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of one step over all the comparisons."""
    model = create_reward_model(ModelOptions(base=str(base), **(model or {})))
    chosen = TrainOptions(**{**FAST, **options})
    table = tokenize_comparisons(model.text, comparisons, chosen, model.card.attributes)
    model.network.train()
    rows = np.arange(len(table))
    training = TrainingNetwork(model.network, model.network, Accelerator(cpu=True), chosen, model.autocast)
    value = accumulate_gradients(training, table, rows)
    return value, {n: p.grad for n, p in model.network.named_parameters() if p.grad is not None}


def pair(first: str, second: str, prompt: str = "write", **preference) -> Comparison:
    return Comparison(as_prompt(prompt), (Response(first), Response(second)), Preference(**preference or {"q": 1.0}))
