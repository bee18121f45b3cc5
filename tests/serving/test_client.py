"""The client of one file, beside a server that misbehaves on command."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from guerdon.serving import client as module
from guerdon.serving.client import RewardClient, RewardError


class Stub(ThreadingHTTPServer):
    """Rewards a text by its length, after the answers in `first`: a status, or None for a connection that is closed."""

    def __init__(self):
        self.first, self.requests, self.headers, self.content, self.results = [], [], [], [], None
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, body))
        self.server.headers.append(dict(self.headers))
        status = self.server.first.pop(0) if self.server.first else 200
        if status is None:
            self.connection.close()
            return
        rewards = [float(len(item.get("text") or item["response"]["text"])) for item in body["items"]]
        results = self.server.results or [{"index": i, "score": score} for i, score in enumerate(rewards)]
        answer = {"results": results} if status == 200 else {"error": "the server is busy. Ask again."}
        data = self.server.content.pop(0) if self.server.content else json.dumps(answer).encode()
        self.send_response(status)
        if status == 503:
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def stub():
    server = Stub()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.01)


def test_rewards_come_in_order_over_several_requests_with_what_was_cut(stub):
    client = RewardClient(stub.url, "mine", batch=2)
    prompts = ["a", [{"role": "user", "content": "b"}], "c"]
    rewards = client.score(prompts, ["1", [{"role": "assistant", "content": "22"}], "333"], [False, True, False])
    assert rewards == [1.0, 2.0, 3.0]
    (path, first), (_, second) = stub.requests
    assert path == "/v1/reward"
    assert first == {
        "items": [
            {"prompt": "a", "response": {"text": "1", "finish": "stop"}},
            {"prompt": [{"role": "user", "content": "b"}], "response": {"text": "22", "finish": "length"}},
        ],
        "model": "mine",
    }
    assert len(second["items"]) == 1
    assert asyncio.run(client.score_async(["a"], ["four"])) == [4.0]
    assert client.score_texts(["<|im_start|>"]) == [12.0]
    assert RewardClient(stub.url).results([]) == []


def test_a_server_that_is_busy_fails_or_goes_away_is_asked_again(stub):
    stub.first = [503, 500, None, 429]
    assert RewardClient(stub.url).score(["p"], ["ok"]) == [2.0]
    assert len(stub.requests) == 5


def test_a_refusal_is_an_error_at_once_and_patience_ends(stub):
    stub.first = [422]
    with pytest.raises(RewardError, match=r"/v1/reward: 422: the server is busy\. Ask again\."):
        RewardClient(stub.url).score(["p"], ["r"])
    assert len(stub.requests) == 1
    stub.first = [503] * 1000
    with pytest.raises(RewardError, match="no answer for 0 seconds, last 503"):
        RewardClient(stub.url, patience=0.0).score(["p"], ["r"])
    with pytest.raises(RewardError, match="no answer for"):
        RewardClient("http://127.0.0.1:9", patience=0.0, timeout=1.0).score(["p"], ["r"])


def test_what_is_no_reward_is_an_error_and_never_a_number(stub):
    for results, line in (
        ([{"score": None, "error": "the text is too long"}], "text 0 has no reward: the text is too long"),
        ([{"score": "3"}], "text 0 has no reward: its score is '3'"),
        ([{"score": float("nan")}], "text 0 has no reward: its score is nan"),
        ([{"score": float("-inf")}], "text 0 has no reward: its score is -inf"),
        ([{"score": 10**400}], "text 0 has no reward: its score is 1000"),
        ([{"score": True}], "text 0 has no reward: its score is True"),
        ([3.0], "result 0 must be that of text 0"),
        ([{"index": 1, "score": 1.0}], "result 0 must be that of text 0"),
        ([{"score": 1.0}, {"score": 2.0}], "the answer must have 1 results"),
    ):
        stub.results = results
        with pytest.raises(RewardError, match=line):
            RewardClient(stub.url).score(["p"], ["r"])
    with pytest.raises(ValueError, match="as many, got 2 and 1"):
        RewardClient(stub.url).score(["p", "q"], ["r"])


@pytest.mark.parametrize("content", [b"<html>", b'{"results": "\xff"}', b"[" * 100_000, b""])
def test_an_answer_that_is_not_json_is_asked_for_again(stub, content):
    stub.content = [content]
    assert RewardClient(stub.url).score(["p"], ["ok"]) == [2.0]
    stub.content = [content] * 1000
    with pytest.raises(RewardError, match="no answer for 0 seconds, last an answer that is not JSON"):
        RewardClient(stub.url, patience=0.0).score(["p"], ["r"])


@pytest.mark.parametrize(
    "url",
    ["localhost:8050", "", "http://", "http://[::1", "http://a:b", "http://a b", "http://me:pw@a", "http://a?b=c"],
)
def test_an_address_that_cannot_be_asked_is_an_error_before_any_wait(url):
    with pytest.raises(RewardError, match="must be http://HOST:PORT") as error:
        RewardClient(url)
    assert "pw" not in str(error.value)


@pytest.mark.parametrize("token", ["a\nb", "\u043a\u043b\u044e\u0447"])
def test_a_token_that_no_header_holds_is_an_error_which_does_not_show_it(token, monkeypatch):
    monkeypatch.setenv("GUERDON_REWARD_TOKEN", token)
    with pytest.raises(RewardError, match="the token must be printable ASCII") as error:
        RewardClient("http://127.0.0.1:9")
    assert token not in str(error.value)


def test_a_wrong_token_says_where_it_is_read(stub):
    stub.first = [401]
    with pytest.raises(RewardError, match=r"401: .*The token is read from GUERDON_REWARD_TOKEN\."):
        RewardClient(stub.url).score(["p"], ["r"])


def test_the_token_is_of_the_environment_and_is_sent(stub, monkeypatch):
    monkeypatch.setenv("GUERDON_REWARD_TOKEN", "secret")
    RewardClient(stub.url).score(["p"], ["r"])
    assert stub.headers[-1]["Authorization"] == "Bearer secret"
    RewardClient(stub.url, token="").score(["p"], ["r"])
    assert "Authorization" not in stub.headers[-1]


def test_the_file_needs_nothing_but_the_standard_library(tmp_path):
    copy = tmp_path / "guerdon_rewards.py"
    copy.write_bytes(Path(module.__file__).read_bytes())
    words = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import guerdon_rewards",
    ]
    subprocess.run(words, check=True)
