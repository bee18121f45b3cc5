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


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ([{"std": "wide"}, {}], "0.std must be as `guerdon serve` of this version gives it, got 'wide'"),
        ([{}, {"attributes": [1.0]}], r"1.attributes must be as .* got \[1.0\]"),
        ([{"members": "ab"}] * 2, "0.members must be as .* got 'ab'"),
        ([{"members": [1.0, 2.0]}, {"members": [1.0]}], r"members of all results must be as .* got \[2, 1\]"),
    ],
)
def test_an_answer_of_another_form_is_one_line(model_dir, changes, line):
    with reward_server(served(model_dir)) as url:
        reward = served_rewards.ServedReward(url)
        reward.client.results = lambda rows, step: [
            {"index": i, "score": 1.0, **change} for i, change in enumerate(changes)
        ]
        with pytest.raises(GuerdonError, match=line):
            reward.score(PROMPTS[:2], ["a", "b"])


def test_what_the_server_has_not_measured_is_no_number(model_dir):
    with reward_server(served(model_dir)) as url:
        reward = served_rewards.ServedReward(url)
    rows = [{"index": 0, "score": 1.0, "std": float("nan"), "attributes": {"tone": 2.0}}]
    rows += [{"index": 1, "score": 3.0, "std": 0.5, "shift_p": 0.2, "attributes": {"tone": None}}]
    reward.client.results = lambda _, step: rows
    scores = reward.score(PROMPTS[:2], ["a", "b"])
    assert scores.value.tolist() == [1.0, 3.0]
    assert (scores.std, scores.shift_p) == (None, None)
    np.testing.assert_array_equal(scores.attributes["tone"], [2.0, np.nan])


@pytest.mark.parametrize("address", ["http://[::1", "http://a:b", "http://me:secret@host"])
def test_an_address_that_cannot_be_asked_is_one_line_at_once(address):
    with pytest.raises(GuerdonError, match="--reward: the server's address must be http://HOST:PORT") as error:
        combined_reward([address])
    assert "secret" not in str(error.value)


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
