"""Every request gets its replies exactly once, from the server with the fewest outstanding, whatever servers do."""

from __future__ import annotations

import pytest
from rollout_servers import SAMPLING, STOP, RolloutServer, made_up, running, tokens_of

from guerdon import GuerdonError
from guerdon.models import rollout_servers
from guerdon.models.completions_api import BadAnswer
from guerdon.models.rollout_servers import Adapter, NoServerLeft, RolloutServers
from guerdon.models.token_completions import OtherSampling, TokenRequest, parse_token_replies

REQUESTS = [TokenRequest([5, 6, 7 + i], 1 + i % 3, 1000 * i + 17) for i in range(24)]


@pytest.fixture
def adapter(tmp_path):
    return Adapter("guerdon-1-a", str(tmp_path), "guerdon-1-", 4)


@pytest.fixture
def soon(monkeypatch):
    """Servers that failed are asked again at once."""
    monkeypatch.setattr(rollout_servers, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(rollout_servers, "LONGEST_PAUSE", 0.1)
    monkeypatch.setattr(rollout_servers, "POLL", 0.01)


def clients(*servers, **options):
    return RolloutServers([server.url for server in servers], SAMPLING, **{"timeout": 5.0, **options})


def assert_all_once(replies, *servers):
    """Each request has the replies of its own seed, and one server alone gave them."""
    assert [[reply.ids.tolist() for reply in group] for group in replies] == [
        [tokens_of(request.seed, i) for i in range(request.count)] for request in REQUESTS
    ]
    given = sum((server.answered for server in servers), start=type(servers[0].answered)())
    assert given == {request.seed: 1 for request in REQUESTS}


# ---- Balance -------------------------------------------------------------------------------------------------------


def test_the_server_with_the_fewest_replies_outstanding_gets_the_next_request(adapter):
    """All requests are out at once: 48 replies in groups of 1 to 3, divided evenly by replies and not by requests."""
    servers = [RolloutServer(delay=0.3) for _ in range(3)]
    with running(*servers):
        replies = clients(*servers).sample(adapter, REQUESTS)
    assert_all_once(replies, *servers)
    per_server = [sum(body["n"] for body in server.bodies) for server in servers]
    assert sum(per_server) == 48
    assert max(per_server) - min(per_server) <= 3


def test_a_slow_server_gets_fewer_requests(adapter):
    slow, fast = RolloutServer(delay=0.2), RolloutServer(delay=0.01)
    with running(slow, fast):
        replies = clients(slow, fast, workers=2).sample(adapter, REQUESTS)
    assert_all_once(replies, slow, fast)
    assert len(fast.bodies) > 3 * len(slow.bodies) > 0
    assert slow.most_at_once <= 2


# ---- Servers that fail ---------------------------------------------------------------------------------------------


def test_a_server_killed_in_the_middle_loses_and_doubles_no_reply(adapter, soon):
    killed, other = RolloutServer(delay=0.02, dies_after=3), RolloutServer(delay=0.02)
    with running(killed, other):
        replies = clients(killed, other, workers=3).sample(adapter, REQUESTS)
    assert_all_once(replies, killed, other)
    assert 0 < sum(killed.answered.values()) <= 3


def test_a_server_that_fails_is_set_aside_and_asked_again_later(adapter, soon):
    broken, other = RolloutServer(), RolloutServer(delay=0.05)
    broken.status = 500
    with running(broken, other):
        servers = clients(broken, other, workers=1)
        assert_all_once(servers.sample(adapter, REQUESTS), broken, other)
        assert 0 < len(broken.bodies) < 20
        broken.status, num = 200, len(broken.bodies)
        other.answered.clear()
        assert_all_once(servers.sample(adapter, REQUESTS), broken, other)
    assert sum(broken.answered.values()) > 5
    assert len(broken.bodies) > num


def test_a_server_that_restarts_without_its_adapters_loads_them_again(adapter, soon):
    server = RolloutServer()
    with running(server):
        servers = clients(server)
        servers.load(adapter)
        server.adapters.clear()
        assert_all_once(servers.sample(adapter, REQUESTS), server)


def test_older_adapters_of_the_run_are_unloaded_and_nobody_elses(adapter):
    server = RolloutServer()
    with running(server):
        server.adapters |= {"guerdon-1-old": "", "guerdon-2-a": "", "mine": ""}
        servers = clients(server)
        servers.sample(adapter, REQUESTS)
        assert set(server.adapters) == {"guerdon-1-a", "guerdon-2-a", "mine"}
        servers.unload(adapter)
    assert set(server.adapters) == {"guerdon-2-a", "mine"}


def test_no_server_left_is_one_line_that_says_what_each_said_last(adapter, soon):
    gone, broken = RolloutServer(dies_after=2), RolloutServer()
    broken.status = 503
    with running(gone, broken), pytest.raises(NoServerLeft) as error:
        clients(gone, broken, timeout=0.4).sample(adapter, REQUESTS)
    line = str(error.value)
    assert "\n" not in line
    assert "within 0.4 s, got none of 2" in line
    assert "HTTP 503: out of order" in line
    assert "resumes from its last checkpoint" in line


def test_a_request_that_fails_where_others_are_answered_ends_the_call(adapter, soon):
    def poisoned(server, body):
        return made_up(server, body)[:1] if body["seed"] == REQUESTS[4].seed else made_up(server, body)

    server = RolloutServer(poisoned, delay=0.01)
    many = [*REQUESTS, *(TokenRequest([9], 1, 10**6 + i) for i in range(100))]
    with running(server), pytest.raises(GuerdonError, match=r"1 replies instead of 2\. It answers other requests"):
        clients(server).sample(adapter, many)


@pytest.mark.parametrize("status", [400, 401, 422])
def test_a_refusal_is_not_asked_of_others(adapter, status):
    servers = [RolloutServer(), RolloutServer()]
    for server in servers:
        server.status = status
    with running(*servers), pytest.raises(GuerdonError, match=rf"HTTP {status}: out of order"):
        clients(*servers, workers=1).sample(adapter, REQUESTS)


# ---- Before the first request ----------------------------------------------------------------------------------------


def test_a_server_must_answer_and_take_adapters_at_the_start(adapter):
    good, without = RolloutServer(), RolloutServer(takes_adapters=False)
    with running(good, without):
        with pytest.raises(
            GuerdonError, match=r"404: Not Found. .*VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 .*--max-lora-rank 8"
        ):
            clients(good, without).load(adapter)
        elsewhere = Adapter(adapter.name, "/nowhere", adapter.prefix, 4)
        good.adapters.clear()
        with pytest.raises(GuerdonError, match=r"No adapter found for /nowhere. .*optimize.rollout_folder"):
            clients(good).load(elsewhere)
        with pytest.raises(GuerdonError, match="name each server once"):
            clients(good, good)
    with pytest.raises(GuerdonError, match=rf"{good.url}/v1: .*refused\. Start vLLM there"):
        clients(good).load(adapter)
    with pytest.raises(GuerdonError, match=r"^optimize.rollouts: url must start with http"):
        RolloutServers(["host:8000"], SAMPLING)


# ---- What answers say ------------------------------------------------------------------------------------------------

GOOD = {"token_ids": [5, 6, STOP], "finish_reason": "stop", "prompt_token_ids": [3, 4]}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"token_ids": None}, OtherSampling, "must give token_ids"),
        ({"token_ids": []}, BadAnswer, "not a list of integers"),
        ({"token_ids": [5, "6"]}, BadAnswer, "not a list of integers"),
        ({"prompt_token_ids": [3, 5]}, OtherSampling, "prompt's token ids"),
        ({"token_ids": [1000, STOP]}, OtherSampling, "below 1000, got 1000"),
        ({"token_ids": [-1, STOP]}, OtherSampling, "below 1000"),
        ({"token_ids": [5] * 5}, OtherSampling, "at most 4 tokens, got 5"),
        ({"token_ids": [5, STOP, 6, 7]}, OtherSampling, "end at its first end token"),
        ({"token_ids": [5, 6]}, OtherSampling, "got one that ends at 6"),
        ({"token_ids": [5, 6], "finish_reason": "abort"}, BadAnswer, "that was cut: abort"),
    ],
)
def test_an_answer_that_is_no_plain_sample_is_never_a_reply(change, error, words):
    import json

    content = json.dumps({"choices": [{**GOOD, **change}]}).encode()
    with pytest.raises(error, match=words):
        parse_token_replies(content, TokenRequest([3, 4], 1, 0), SAMPLING)


def test_log_probabilities_are_those_of_every_token_or_none():
    import json

    def log_prob(values):
        content = json.dumps({"choices": [{**GOOD, "logprobs": {"token_logprobs": values}}]}).encode()
        (reply,) = parse_token_replies(content, TokenRequest([3, 4], 1, 0), SAMPLING)
        return reply.log_prob

    assert log_prob([-1, -2.0, 0.0]).tolist() == [-1, -2, 0]
    for values in (None, "none", [-1, -2], [-1, None, 0]):
        assert log_prob(values) is None
    for value in (float("nan"), float("-inf"), -(10**400)):
        with pytest.raises(OtherSampling, match="must have a finite log-probability"):
            log_prob([-1, value, 0])


def test_requests_leave_nothing_to_the_servers_defaults():
    """vLLM takes what is left out from the model's generation_config.json: top-k, penalties, a temperature."""
    assert SAMPLING.fields() == {
        "max_tokens": 4, "temperature": 1.0, "stop_token_ids": [STOP], "top_p": 1.0, "top_k": 0, "min_p": 0.0,
        "min_tokens": 0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
        "ignore_eos": False, "logprobs": 0, "return_token_ids": True, "skip_special_tokens": False,
    }  # fmt: skip
