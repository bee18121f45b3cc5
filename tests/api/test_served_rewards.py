"""`--reward URL` gives the numbers of the model behind it, and never a number where a call failed."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import httpx2
import numpy as np
import pytest
import uvicorn
from optimization_runs import PROMPTS, SMALL, small_policy
from rollout_servers import PolicyServer, running
from serving_site import served

import guerdon
from guerdon import GuerdonError
from guerdon.api import served_rewards
from guerdon.api.rewards import combined_reward
from guerdon.config import ModelOptions, ServingOptions
from guerdon.contracts import Message, Prompt, Response
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.card import Calibration
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.directory.saving import save
from guerdon.serving.app import Access, create_app
from guerdon.serving.service import Service

TOOLS = ('{"type": "function", "function": {"name": "look", "parameters": {}}}',)


@pytest.fixture(scope="module")
def model_dir(tiny_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "reward"
    model = create_reward_model(ModelOptions(base=str(tiny_dir), max_length=64))
    save(CalibratedModel(model, Calibration(temperature=0.5, reference_mean=0.1)), folder)
    return folder


@contextmanager
def reward_server(*models):
    """The address of a Guerdon server on a free port."""
    service = Service(models, ServingOptions(), 4096)
    service.start()
    config = uvicorn.Config(
        create_app(service, Access(None)), host="127.0.0.1", port=0, log_level="error", lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        service.close(10)


def test_scores_are_those_of_the_model_here_long_texts_and_several_turns_too(model_dir):
    prompts = [*PROMPTS, Prompt([Message("system", "be good"), Message("user", "write " * 90)])]
    responses = [
        *(Response(f"a good film {i}", finish="stop", author="me") for i in range(5)),
        Response("nice", finish="length"),
    ]
    with reward_server(served(model_dir, name="one"), served(model_dir, name="two")) as url:
        for address in (url, f"{url}/#two"):
            reward = combined_reward([address])
            scores = reward.score(prompts, responses)
            local = combined_reward([str(model_dir)]).score(prompts, responses)
            assert np.allclose(scores.value, local.value, atol=1e-5)
            assert scores.truncated.tolist() == local.truncated.tolist() == [False] * 5 + [True]
            assert reward.in_common(combined_reward([f"{url}#one"])) == address
        with pytest.raises(GuerdonError, match=r"of a served model, got three\. Choose from one, two"):
            combined_reward([f"{url}#three"])


def test_a_reward_that_fails_is_an_error_and_no_number(model_dir, monkeypatch):
    monkeypatch.setattr(served_rewards, "FIRST_PATIENCE", 0.1)
    with reward_server(served(model_dir)) as url:
        reward = served_rewards.ServedReward(url)
    reward.client.patience = 0.1
    with pytest.raises(GuerdonError, match=rf"reward {url}/v1/reward: no answer for 0.1 seconds"):
        reward.score(PROMPTS[:1], ["a film"])
    with pytest.raises(GuerdonError, match=r"no answer for 0.1 seconds.*guerdon serve DIR"):
        combined_reward([url])


def test_rollouts_rewards_and_the_learner_are_three_programs(model_dir, tiny_dir, tmp_path):
    """PPO with replies of one server and rewards of another."""
    with running(PolicyServer(tiny_dir), PolicyServer(tiny_dir)) as urls, reward_server(served(model_dir)) as url:
        guerdon.optimize(
            small_policy(tiny_dir),
            combined_reward([url]),
            PROMPTS,
            held_out=PROMPTS[:2],
            out=tmp_path,
            **SMALL | {"check_every": 3, "rollouts": urls},
        )
        watched = httpx2.get(f"{url}/v1/watch").json()
    assert (tmp_path / "policy" / "model.safetensors").exists()
    assert (tmp_path / "report.json").exists()
    (model,) = watched["models"].values()
    assert model["axis"] == "step"
    assert [(window["first"], window["texts"]) for window in model["windows"]] == [(0, 8), (1, 8), (2, 8)]
