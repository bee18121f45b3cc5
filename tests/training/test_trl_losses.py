"""Our loop takes the steps that TRL's RewardTrainer takes from the same weights and the same token ids."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from guerdon.config import TrainOptions
from guerdon.models.card import Card
from guerdon.models.reward_model import ScalarNetwork, ScalarRewardModel
from guerdon.training import fit, loop
from guerdon.training.dataset import TokenizedComparisons

CASE = json.loads((Path(__file__).parents[1] / "cases/trl_step_losses.json").read_text("utf-8"))


def recipe_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """As CASE["recipe"]["weights"] says."""
    rs, values = np.random.RandomState(0), {}
    for name in sorted(shapes):
        if "norm" in name:
            values[name] = np.ones(shapes[name], dtype=np.float32)
        else:
            drawn = rs.randint(-128, 128, size=shapes[name])
            values[name] = (drawn / (512 if name == "score.weight" else 4096)).astype(np.float32)
    return values


def recipe_pairs() -> list[dict[str, list[int]]]:
    """As CASE["recipe"]["pairs"] says."""
    rs, rows = np.random.RandomState(1), []
    for _ in range(256):
        prompt = [2, *rs.randint(6, 126, size=rs.randint(8, 41)).tolist()]
        row = {}
        for name, word in (("chosen_ids", 126), ("rejected_ids", 127)):
            reply = rs.randint(6, 126, size=rs.randint(4, 31)).tolist()
            for _ in range(3):
                reply[rs.randint(len(reply))] = word
            row[name] = [*prompt, *reply, 3]
        rows.append(row)
    return rows


def the_model() -> ScalarRewardModel:
    network = LlamaForSequenceClassification(LlamaConfig(**{"num_labels": 1, **CASE["config"]}))
    values = recipe_weights({name: tuple(value.shape) for name, value in network.state_dict().items()})
    digest = hashlib.sha256(b"".join(values[name].astype("<f4").tobytes() for name in sorted(values))).hexdigest()
    assert digest == CASE["weights_sha256"]
    network.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()})
    text = SimpleNamespace(
        tokenizer=SimpleNamespace(pad_token_id=CASE["config"]["pad_token_id"]),
        max_length=512,
        system=None,
        render="{} {}".format,
    )
    return ScalarRewardModel(ScalarNetwork(network, encoder=False), text, Card())


def the_table() -> TokenizedComparisons:
    pairs = recipe_pairs()
    assert hashlib.sha256(json.dumps(pairs, separators=(",", ":")).encode()).hexdigest() == CASE["pairs_sha256"]
    rows = [np.array(pair[name], dtype=np.int32) for pair in pairs for name in ("chosen_ids", "rejected_ids")]
    return TokenizedComparisons(
        ids=np.concatenate(rows),
        starts=np.concatenate([[0], np.cumsum([len(row) for row in rows])]),
        first=np.arange(0, len(rows) + 1, 2),
        ranks=np.tile([0, 1], len(pairs)),
        q=np.ones(len(pairs)),
        margin=np.zeros(len(pairs)),
        outcome=np.tile([1.0, 0.0, 0.0], (len(pairs), 1)),
        weight=np.ones(len(pairs)),
        group=tuple(map(str, range(len(pairs)))),
        ratings=np.empty((len(rows), 0)),
        num_dropped=0,
    )


@pytest.mark.parametrize(("centering", "losses"), [(0.0, "losses"), (CASE["centering"], "losses_centered")])
@pytest.mark.parametrize("micro_tokens", [256, 4096])
def test_every_step_loss_is_trls_to_six_decimals(tmp_path, monkeypatch, centering, losses, micro_tokens):
    settings = CASE["settings"]
    monkeypatch.setattr(loop, "tokenize_comparisons", lambda *_: the_table())
    monkeypatch.setattr(loop, "step_rows", lambda size, batch, seed, step: np.arange(step * batch, (step + 1) * batch))
    options = TrainOptions(
        lr=settings["lr"],
        schedule=settings["schedule"],
        warmup=settings["warmup"],
        batch_size=settings["batch_size"],
        clip=settings["clip"],
        centering=centering,
        micro_tokens=micro_tokens,
        save_every=0,
    )
    fit(the_model(), [], options, folder=tmp_path)
    ours = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert len(ours) == len(CASE[losses]) == 32
    np.testing.assert_allclose(ours, CASE[losses], rtol=0, atol=1e-6)
