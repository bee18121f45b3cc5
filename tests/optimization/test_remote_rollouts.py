"""PPO, RLOO and GRPO learn from replies that servers sample; wrong adapters are noticed; a run outlives its servers."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from one_token_world import ONE_TOKEN, OneTokenWorld, divergence
from optimization_runs import (
    PROMPTS,
    SMALL,
    kindness,
    max_difference,
    read_metrics,
    record_batches,
    small_policy,
    small_run,
    weights_of,
)
from rollout_servers import PolicyServer, RolloutServer, running, sampled

from guerdon import GuerdonError
from guerdon.config import OptimizeOptions
from guerdon.models import rollout_servers
from guerdon.models.rollout_servers import NoServerLeft
from guerdon.optimization.loop import optimize
from guerdon.optimization.rewards import combined
from guerdon.optimization.update_alerts import update_alerts


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Servers that failed are asked again at once."""
    monkeypatch.setattr(rollout_servers, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(rollout_servers, "LONGEST_PAUSE", 0.1)
    monkeypatch.setattr(rollout_servers, "POLL", 0.01)


def test_replies_of_servers_have_what_replies_of_the_policy_have(tiny_dir, tmp_path, monkeypatch):
    """Texts, tokens, lengths and ends; each update's seeds differ, and so do those of a prompt that comes twice."""
    servers = [PolicyServer(tiny_dir), PolicyServer(tiny_dir)]
    batches = record_batches(monkeypatch)
    with running(*servers) as urls:
        small_run(tiny_dir, folder=tmp_path, rollouts=urls, prompts=6, samples=2)
        assert not any(server.adapters for server in servers)
    policy = small_policy(tiny_dir)
    for batch in batches:
        drawn = batch.rollouts
        assert len(drawn) == 12
        for i, ids in enumerate(drawn.token_ids):
            assert drawn.responses[i] == policy.response(ids, drawn.responses[i].finish)
            assert drawn.length[i] == len(ids) <= SMALL["max_tokens"]
            assert (ids[-1] in policy.stop_ids) == (drawn.responses[i].finish == "stop")
            assert drawn.prompt_ids[i].tolist() == policy.encode(drawn.prompts[i]).tolist()
    bodies = [body for server in servers for body in server.bodies]
    assert len({body["seed"] for body in bodies}) == len(bodies) == 18
    assert len({body["model"] for body in bodies}) == 3
    assert not list((tmp_path / "adapters").iterdir())
    for row in read_metrics(tmp_path):
        assert row["server_difference"] < 1e-4
        assert row["ratio_far"] < 1e-4


@pytest.mark.parametrize("baseline", ["value", "leave_one_out"])
def test_the_policy_converges_to_the_known_optimum_by_the_replies_of_servers(tiny_dir, baseline):
    world = OneTokenWorld(tiny_dir, 4, within_reach=True)
    groups = {"prompts": 4, "samples": 16} | ({} if baseline == "value" else {"value_lr": None})
    servers = [PolicyServer(tiny_dir, lora_rank=4), PolicyServer(tiny_dir, lora_rank=4)]
    with running(*servers) as urls:
        options = OptimizeOptions(**{**ONE_TOKEN, **groups, "baseline": baseline, "updates": 45, "rollouts": urls})
        optimize(world.policy, combined(world.reward), [world.PROMPT], options)
    initial = divergence(world.first, world.optimum)
    assert initial > 0.3
    assert divergence(world.log_probs(), world.optimum) < 0.25 * initial


def test_a_server_with_other_adapters_is_noticed(tiny_dir, tmp_path, caplog):
    """It keeps those of the first update, when they changed nothing yet."""
    options = {"updates": 8, "lr": 0.05, "prompts": 5, "kl_coef": 0.0}
    for name, is_stale in (("right", False), ("wrong", True)):
        caplog.clear()
        with running(PolicyServer(tiny_dir, is_stale=is_stale)) as url, caplog.at_level(logging.WARNING, "guerdon"):
            small_run(tiny_dir, folder=tmp_path / name, rollouts=url, **options)
        rows = read_metrics(tmp_path / name)
        differences = [row["server_difference"] for row in rows]
        titles = [finding.title for finding in update_alerts(rows)]
        assert (max(differences) > 0.1) == is_stale
        assert ("The servers sample from other weights than those that learn" in titles) == is_stale
        assert ("differ by" in caplog.text) == is_stale
        assert differences[0] < 1e-4


def test_a_server_without_log_probabilities_is_named(tiny_dir, tmp_path, caplog):
    def silent(server, body):
        return [{**choice, "logprobs": None} for choice in sampled(server, body)]

    server = PolicyServer(tiny_dir)
    server.choices = silent
    with running(server) as url, caplog.at_level(logging.WARNING, "guerdon"):
        small_run(tiny_dir, folder=tmp_path, rollouts=url)
    assert caplog.text.count("the servers give no log-probabilities") == 1


def test_a_server_killed_in_the_middle_changes_nothing_where_servers_draw_alike(tiny_dir, tmp_path):
    """Each request has its own seed, and these servers' replies depend on nothing else."""
    for name, dies_after in (("all", None), ("killed", 5)):
        with running(PolicyServer(tiny_dir, dies_after=dies_after), PolicyServer(tiny_dir)) as urls:
            small_run(tiny_dir, folder=tmp_path / name, rollouts=urls, rollout_workers=2)
    assert read_metrics(tmp_path / "all") == read_metrics(tmp_path / "killed")


def test_a_run_that_lost_its_servers_resumes_with_others_from_the_update_before(tiny_dir, tmp_path):
    updates = {"updates": 6, "lr": 0.01}
    with running(PolicyServer(tiny_dir)) as url:
        whole = small_run(tiny_dir, folder=tmp_path / "whole", rollouts=url, **updates)
    with (
        running(PolicyServer(tiny_dir, dies_after=14)) as url,
        pytest.raises(NoServerLeft, match="resumes from its last checkpoint"),
    ):
        small_run(tiny_dir, folder=tmp_path / "killed", rollouts=url, rollout_timeout=0.3, **updates)
    assert len(read_metrics(tmp_path / "killed")) == 3
    asked = PolicyServer(tiny_dir), PolicyServer(tiny_dir)
    with running(*asked) as urls:
        resumed = small_run(tiny_dir, folder=tmp_path / "killed", rollouts=urls, **updates)
    assert sum(len(server.bodies) for server in asked) == 12
    assert read_metrics(tmp_path / "whole") == read_metrics(tmp_path / "killed")
    assert max_difference(weights_of(whole.policy), weights_of(resumed.policy)) == 0
    with pytest.raises(GuerdonError, match="differs in optimize options"):
        small_run(tiny_dir, folder=tmp_path / "killed", **updates)


def test_each_version_is_whole_on_disk_and_only_the_newest_is_kept(tiny_dir, tmp_path):
    class Watching(PolicyServer):
        def load(self, name, path):
            config = json.loads((path / "adapter_config.json").read_text())
            assert config["r"] == 2
            kept.append([folder.name for folder in path.parent.iterdir()])
            super().load(name, path)

    kept = []
    with running(Watching(tiny_dir)) as url:
        small_run(tiny_dir, rollouts=url, rollout_folder=str(tmp_path))
    assert len(kept) == 3
    assert [len(names) for names in kept] == [1, 1, 1]
    assert len({names[0] for names in kept}) == 3


def test_a_group_larger_than_a_request_comes_from_several_with_their_own_seeds(tiny_dir, monkeypatch):
    batches = record_batches(monkeypatch)
    with running(PolicyServer(tiny_dir)) as url:
        small_run(tiny_dir, rollouts=url, prompts=1, samples=20, updates=1, baseline="leave_one_out")
    (batch,) = batches
    assert len(batch.rollouts) == 20
    assert len({tuple(ids.tolist()) for ids in batch.rollouts.token_ids}) > 10


def test_at_another_temperature_the_difference_is_not_measured(tiny_dir, tmp_path):
    with running(PolicyServer(tiny_dir)) as url:
        small_run(tiny_dir, folder=tmp_path, rollouts=url, temperature=0.7)
    assert all("server_difference" not in row for row in read_metrics(tmp_path))
    assert all(row["ratio_far"] < 1e-4 for row in read_metrics(tmp_path))


def test_what_cannot_work_is_refused_before_the_first_update(tiny_dir):
    with running(RolloutServer(takes_adapters=False)) as url:
        with pytest.raises(GuerdonError, match=r"404: Not Found.*--enable-lora"):
            small_run(tiny_dir, rollouts=url)
        with pytest.raises(GuerdonError, match=r"by adapters, got one without.*policy.lora_rank=16"):
            small_run(tiny_dir, rollouts=url, lora_rank=0)
    with pytest.raises(GuerdonError, match="refused"):
        small_run(tiny_dir, rollouts=url)
    with pytest.raises(GuerdonError, match=r"optimize.rollout_workers must be left out without optimize.rollouts"):
        small_run(tiny_dir, rollout_workers=2)


def test_a_server_with_another_model_is_refused(tiny_dir):
    def foreign(server, body):
        return [{"index": 0, "token_ids": [10**6], "finish_reason": "stop"}] * body["n"]

    with running(RolloutServer(foreign)) as url, pytest.raises(GuerdonError, match=r"another model.*own base model"):
        small_run(tiny_dir, rollouts=url)


def test_the_reward_may_be_a_function_of_any_of_these_replies(tiny_dir, monkeypatch):
    batches = record_batches(monkeypatch)
    with running(PolicyServer(tiny_dir)) as url:
        small_run(tiny_dir, rollouts=url, train_prompts=PROMPTS)
    for batch in batches:
        drawn = batch.rollouts
        assert np.array_equal(drawn.reward, kindness(drawn.prompts, drawn.responses))
