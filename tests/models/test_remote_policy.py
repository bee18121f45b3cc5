"""A policy behind HTTP keeps its contract, survives a server that misbehaves, and says in a line what it cannot survive."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from families import save_family

from guerdon import GuerdonError, Message, Prompt, ToolCall
from guerdon.api import optimization
from guerdon.config import PolicyOptions
from guerdon.contracts import Policy
from guerdon.models import completions_api, completions_client
from guerdon.models.directory.policies import load_policy
from guerdon.models.remote_policy import PromptRefused, RemotePolicy, ServerError
from guerdon.optimization.best_of_n.sampling import SeededPolicy
from guerdon.testing import check_policy

KEY = "sk-very-secret-0123456789"


class Handler(BaseHTTPRequestHandler):
    """Asks the test what to do with each request; what it does not do itself is an ordinary answer."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms between its headers and its body

    def do_GET(self):
        models = {"data": [{"id": "tiny-chat"}, {"id": "other"}]}
        self.server.gets.append(dict(self.headers))
        self.send(*(self.server.models or (200, models)))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.seen.append((self.path, body, dict(self.headers)))
            number = len(self.server.seen)
        answer = self.server.answer(self, body, number)
        if answer is not None:
            self.send(*answer)

    def send(self, status, body, headers=()):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, answer, models=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.models = answer, models
        self.seen, self.gets, self.lock, self.over = [], [], threading.Lock(), threading.Event()

    def handle_error(self, request, client_address):
        """A client that hung up is part of the tests."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def bodies(self):
        return [body for _, body, _ in self.seen]


def last(body):
    return body["messages"][-1]["content"] if "messages" in body else " ".join(map(str, body["prompt"]))


def choice(body, text, finish="stop", index=0, **more):
    said = {"message": {"role": "assistant", "content": text}} if "messages" in body else {"text": text}
    return {"index": index, "finish_reason": finish, **said, **more}


def choices(body, num=None, finish="stop"):
    texts = [f"{last(body)}/{body['seed']}/{j}" for j in range(body["n"] if num is None else num)]
    return {"choices": [choice(body, text, finish, j) for j, text in enumerate(texts)]}


def well(handler, body, number):
    return 200, choices(body)


def first(num, bad, then=well):
    """Misbehave toward the first `num` requests."""
    return lambda handler, body, number: (bad if number <= num else then)(handler, body, number)


@pytest.fixture
def serve():
    """Start a server that answers as told; all of them end with the test."""
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


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    monkeypatch.setattr(completions_client, "BACKOFF", 0.01)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def texts(rollouts):
    return [response.text for response in rollouts.responses]


# ---- The contract ----------------------------------------------------------------------------------------------------


def test_a_remote_policy_keeps_the_contract_in_both_dialects(serve, tiny_dir):
    url = serve().url
    check_policy(RemotePolicy(url, "tiny-chat"))
    check_policy(RemotePolicy(url, "tiny-chat", tokenizer=load_policy(PolicyOptions(base=str(tiny_dir))).tokenizer))
    assert isinstance(RemotePolicy(url, "tiny-chat"), Policy)


@pytest.mark.parametrize("behind", ["", "/", "/v1", "/v1/", "//"])
def test_the_url_may_end_with_v1_or_a_slash(serve, behind):
    server = serve()
    RemotePolicy(server.url + behind, "tiny-chat").sample(["hi"], 1, 5)
    assert server.seen[0][0] == "/v1/chat/completions"


def test_only_plain_standard_fields_are_sent(serve):
    server = serve()
    RemotePolicy(server.url, "tiny-chat", system="be kind").sample([[Message("user", "hi")]], 3, 7, 0.5, seed=1)
    (body,) = server.bodies
    seed = body.pop("seed")
    assert 0 <= seed < 2**31
    assert body == {
        "model": "tiny-chat",
        "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}],
        "temperature": 0.5,
        "top_p": 1.0,
        "max_tokens": 7,
        "n": 3,
    }


def test_every_prompt_and_seed_has_draws_of_its_own_and_the_same_call_asks_the_same(serve):
    server = serve()
    policy = RemotePolicy(server.url, "tiny-chat", per_request=2)
    one, same, other = (texts(policy.sample(["hi", "hi"], 5, 5, seed=seed)) for seed in (1, np.int64(1), 2))
    assert one == same
    assert len({*one, *other}) == 20


def test_tools_and_tool_calls_are_sent_in_openai_form(serve):
    server = serve()
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    call = ToolCall("add", '{"a": 1, "b": 2}', id="c1")
    turns = [
        Message("user", "1 + 2?"),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "3", tool_call_id="c1"),
    ]
    RemotePolicy(server.url, "m").sample([Prompt(turns, [json.dumps(tool)])], 1, 5)
    (body,) = server.bodies
    assert body["tools"] == [tool]
    assert body["messages"] == [
        {"role": "user", "content": "1 + 2?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
            ],
        },
        {"role": "tool", "content": "3", "tool_call_id": "c1"},
    ]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_with_a_tokenizer_the_server_gets_the_ids_that_a_local_policy_reads(serve, tmp_path, family):
    local = load_policy(PolicyOptions(base=str(save_family(tmp_path, family)), system="be kind"))
    server = serve()
    RemotePolicy(server.url, "m", tokenizer=local.tokenizer, system="be kind").sample(["write a tweet"], 2, 5)
    path, body, _ = server.seen[0]
    assert path == "/v1/completions"
    assert "messages" not in body
    assert body["prompt"] == local.encode((Message("user", "write a tweet"),)).tolist()


def test_a_plain_template_can_be_asked_for_and_one_that_raises_is_the_prompts_fault(serve, tiny_dir):
    tokenizer = load_policy(PolicyOptions(base=str(tiny_dir))).tokenizer
    server = serve()
    RemotePolicy(server.url, "m", tokenizer=tokenizer, template="plain").sample(["write"], 1, 5)
    assert server.bodies[0]["prompt"] == tokenizer("User: write\n\nAssistant:", add_special_tokens=False)["input_ids"]
    tokenizer.chat_template = "{{ messages[0]['content'] }}{{ raise_exception('no') if messages|length > 1 }}"
    two = [Message("user", "a"), Message("user", "b")]
    with pytest.raises(
        GuerdonError,
        match=r"prompt 1: the chat template must accept the conversation, but refuses its roles user,user: no. Reorder",
    ):
        RemotePolicy(server.url, "m", tokenizer=tokenizer).sample(["write", two], 1, 5)
    with pytest.raises(GuerdonError, match="template must be model without a tokenizer"):
        RemotePolicy(server.url, "m", template="plain")
    with pytest.raises(GuerdonError, match=r"template must be model or plain, got '\{\{ messages"):
        RemotePolicy(server.url, "m", tokenizer=tokenizer, template="{{ messages }}")


def test_at_temperature_0_one_reply_is_asked_for_and_repeated(serve):
    server = serve()
    drawn = RemotePolicy(server.url, "tiny-chat").sample(["a", "b"], 3, 5, temperature=0)
    assert [body["n"] for body in server.bodies] == [1, 1]
    assert len(drawn.responses) == len(drawn.prompts) == 6
    assert len(set(texts(drawn))) == 2


def test_nothing_is_asked_for_no_prompts_and_nonsense_is_refused_before_a_request():
    policy = RemotePolicy("http://127.0.0.1:9", "m", log_probs=True)
    assert policy.sample([], 3, 5).responses == ()
    for n, max_tokens, temperature in ((0, 5, 1.0), (1, 0, 1.0), (1, 5, -1.0), (1, 5, float("nan"))):
        with pytest.raises(GuerdonError, match=rf"n and max_tokens must be .* got {n}, {max_tokens} and {temperature}"):
            policy.sample(["hi"], n, max_tokens, temperature)
    with pytest.raises(GuerdonError, match=r"temperature must be 1 with log_probs, got 0.5"):
        policy.sample(["hi"], 1, 5, 0.5)
    with pytest.raises(GuerdonError, match="prompt 0: must have at least one message"):
        policy.sample([[]], 1, 5)


# ---- How replies end, and what they hold -------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["chat", "ids"])
def test_only_a_reply_that_stopped_looks_finished(serve, tiny_dir, dialect, caplog):
    reasons = ["stop", "length", "tool_calls", "content_filter", "abort", None, 7]

    def answer(handler, body, number):
        return 200, {"choices": [choice(body, f"reply {i}", reason, i) for i, reason in enumerate(reasons)]}

    tokenizer = load_policy(PolicyOptions(base=str(tiny_dir))).tokenizer if dialect == "ids" else None
    drawn = RemotePolicy(serve(answer).url, "m", tokenizer=tokenizer).sample(["hi"], len(reasons), 5)
    assert [r.finish for r in drawn.responses] == ["stop", *["length"] * 6]
    assert "'abort' 1" in caplog.text


def test_a_tool_call_without_text_is_an_empty_reply_that_was_cut(serve):
    def answer(handler, body, number):
        return 200, {"choices": [choice(body, None, "tool_calls")]}

    (response,) = RemotePolicy(serve(answer).url, "m").sample(["hi"], 1, 5).responses
    assert (response.text, response.finish, response.author) == ("", "length", "m")


def test_any_unicode_goes_there_and_comes_back_and_half_a_character_is_replaced(serve):
    def answer(handler, body, number):
        content = json.dumps({"choices": [choice(body, last(body), "stop")]})
        return 200, content.replace("HALF", "\\ud83d").encode()

    drawn = RemotePolicy(serve(answer).url, "m").sample(["Grüße 👋 日本 \x00 <b>", "\udc00 HALF"], 1, 5)
    assert texts(drawn) == ["Grüße 👋 日本 \x00 <b>", "\ufffd \ufffd"]


def test_choices_are_ordered_by_their_index(serve):
    def answer(handler, body, number):
        return 200, {"choices": choices(body)["choices"][::-1]}

    drawn = texts(RemotePolicy(serve(answer).url, "m").sample(["hi"], 4, 5))
    assert [text[-1] for text in drawn] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("dialect", ["chat", "ids"])
def test_log_probabilities_are_summed_over_a_replys_tokens(serve, tiny_dir, dialect):
    def answer(handler, body, number):
        assert body["logprobs"]
        chat = {"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.25}]}
        found = chat if "messages" in body else {"token_logprobs": [-0.5, -1.25]}
        return 200, {"choices": [choice(body, "a b", "stop", logprobs=found)]}

    tokenizer = load_policy(PolicyOptions(base=str(tiny_dir))).tokenizer if dialect == "ids" else None
    drawn = RemotePolicy(serve(answer).url, "m", tokenizer=tokenizer, log_probs=True).sample(["hi", "you"], 1, 5)
    assert drawn.log_prob.tolist() == [-1.75, -1.75]
    assert RemotePolicy(serve().url, "m").sample(["hi"], 1, 5).log_prob is None


@pytest.mark.parametrize("found", [None, {"content": None}, {"content": [{"logprob": float("nan")}]}, [], {}])
def test_log_probabilities_that_do_not_come_are_an_error_at_once(serve, found):
    server = serve(lambda handler, body, number: (200, {"choices": [choice(body, "a", logprobs=found)]}))
    with pytest.raises(ServerError, match=r"without finite log-probabilities\. Pass log_probs=False"):
        RemotePolicy(server.url, "m", log_probs=True).sample(["hi"], 1, 5)
    assert len(server.seen) == 1


# ---- How many at once ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 422, 500])
def test_a_server_that_refuses_many_choices_is_asked_for_fewer(serve, status):
    def answer(handler, body, number):
        if body["n"] > 3:
            return status, {"error": {"message": "'n' must be at most 3"}}
        return well(handler, body, number)

    server = serve(answer)
    policy = RemotePolicy(server.url, "m", retries=0, workers=1)
    one = policy.sample(["a", "b"], 10, 5)
    learned = len(server.seen)
    assert texts(policy.sample(["a", "b"], 10, 5)) == texts(one), "what was learned of a server changes no draw"
    assert len(server.seen) - learned == 10, "and is not learned twice"
    assert len(set(texts(one))) == 20


@pytest.mark.parametrize("most", [1, 3])
def test_a_server_that_gives_fewer_choices_is_asked_for_the_rest(serve, most):
    server = serve(lambda handler, body, number: (200, choices(body, min(body["n"], most))))
    policy = RemotePolicy(server.url, "m")
    drawn = texts(policy.sample(["a", "b"], 7, 5))
    assert [text[0] for text in drawn] == ["a"] * 7 + ["b"] * 7
    assert len(set(drawn)) == 14
    assert texts(policy.sample(["a", "b"], 7, 5)) == drawn


def test_choices_beyond_those_asked_for_are_left(serve):
    server = serve(lambda handler, body, number: (200, choices(body, body["n"] + 2)))
    assert len(RemotePolicy(server.url, "m").sample(["a", "b"], 3, 5).responses) == 6


def test_prompts_with_a_seed_each_ask_what_each_would_alone_and_wait_for_nobody(serve):
    """So a pool is drawn by many requests at a time, and is the same however many prompts go together."""
    together, server = threading.Barrier(3, timeout=20), serve()
    crowd = serve(lambda handler, body, number: (together.wait(), well(handler, body, number))[1])
    policy = RemotePolicy(crowd.url, "m")
    found = policy.sample_with_seeds(["a", "b", "a"], 2, 5, 1.0, [7, 8, 9])
    alone = RemotePolicy(server.url, "m")
    expected = [texts(alone.sample([p], 2, 5, 1.0, seed)) for p, seed in (("a", 7), ("b", 8), ("a", 9))]
    assert texts(found) == [text for some in expected for text in some]
    assert isinstance(policy, SeededPolicy)


@pytest.mark.parametrize(("status", "own"), [(400, True), (413, True), (422, True), (401, False), (404, False)])
def test_a_prompt_that_is_refused_is_told_from_a_server_that_refuses_everybody(serve, status, own):
    server = serve(lambda handler, body, number: (status, b"no") if last(body) == "b" else well(handler, body, number))
    with pytest.raises(ServerError, match="prompt 1: HTTP") as raised:
        RemotePolicy(server.url, "m", workers=1).sample(["a", "b"], 2, 5)
    assert isinstance(raised.value, PromptRefused) == own
    assert len(raised.value.partial[0]) == 2


def test_a_large_n_is_divided_among_requests(serve):
    server = serve()
    RemotePolicy(server.url, "m", per_request=16).sample(["a"], 40, 5)
    assert sorted(body["n"] for body in server.bodies) == [8, 16, 16]


def test_draws_that_are_all_the_same_are_pointed_out(serve, caplog):
    long = "the same reply, whatever the seed is"
    server = serve(lambda handler, body, number: (200, {"choices": [choice(body, long)] * body["n"]}))
    RemotePolicy(server.url, "m").sample(["a", "b"], 4, 5)
    assert "all replies to a prompt are the same. Use per_request=1" in caplog.text


# ---- Order, and many at a time -------------------------------------------------------------------------------------------


def test_prompts_keep_their_order_whatever_arrives_first(serve):
    def answer(handler, body, number):
        time.sleep(0.02 * (7 - int(last(body))))
        return well(handler, body, number)

    arrived = {}
    policy = RemotePolicy(serve(answer).url, "m", workers=8)
    drawn = policy.sample(
        [str(i) for i in range(8)], 2, 5, on_replies=lambda i, responses: arrived.update({i: responses})
    )
    assert [text[0] for text in texts(drawn)] == [str(i) for i in range(8) for _ in range(2)]
    assert list(arrived) != sorted(arrived), "the first prompt came last"
    assert tuple(r for i in range(8) for r in arrived[i]) == drawn.responses


def test_requests_wait_for_each_other_only_beyond_the_workers(serve):
    together, most = [0], [0]
    lock = threading.Lock()

    def answer(handler, body, number):
        with lock:
            together[0] += 1
            most[0] = max(most[0], together[0])
        time.sleep(0.05)
        with lock:
            together[0] -= 1
        return well(handler, body, number)

    RemotePolicy(serve(answer).url, "m", workers=4).sample(["a"] * 12, 1, 5)
    assert most == [4]


# ---- Trouble that passes -------------------------------------------------------------------------------------------------


def drop(handler, body, number):
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def truncated(handler, body, number):
    content = json.dumps(choices(body)).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])
    handler.close_connection = True


def sleepy(handler, body, number):
    handler.server.over.wait(20)


def drip(handler, body, number):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        if handler.server.over.wait(0.05):
            return


TROUBLE = {
    "500": lambda handler, body, number: (500, b"oops"),
    "503": lambda handler, body, number: (503, {"error": "loading model"}),
    "408": lambda handler, body, number: (408, b""),
    "a dropped connection": drop,
    "a truncated body": truncated,
    "truncated JSON": lambda handler, body, number: (200, json.dumps(choices(body))[:-9].encode()),
    "deep JSON": lambda handler, body, number: (200, b"[" * 100_000),
    "no choices": lambda handler, body, number: (200, {"error": {"message": "upstream failed"}}),
    "an empty list": lambda handler, body, number: (200, {"choices": []}),
    "not an object": lambda handler, body, number: (200, [1]),
    "choices that are none": lambda handler, body, number: (200, {"choices": ["a"]}),
    "a choice without text": lambda handler, body, number: (200, {"choices": [{"message": {"content": 3}}]}),
    "bytes that are no text": lambda handler, body, number: (200, b"\xff\xfe\xff"),
    "bad gzip": lambda handler, body, number: (200, b"no gzip", [("Content-Encoding", "gzip")]),
    "silence": sleepy,
    "a drip": drip,
}


@pytest.mark.parametrize("name", TROUBLE)
def test_trouble_that_passes_costs_a_try_and_then_an_error(serve, name, caplog):
    timeout = 0.15 if name in ("silence", "a drip") else 5
    started = time.monotonic()
    server = serve(first(2, TROUBLE[name]))
    drawn = RemotePolicy(server.url, "m", timeout=timeout, retries=2).sample(["hi"], 2, 5)
    assert len(set(texts(drawn))) == 2
    assert [body["seed"] for body in server.bodies] == [server.bodies[0]["seed"]] * 3, "a try again is the same request"
    assert caplog.text.count("trying again") == 1
    server = serve(TROUBLE[name])
    with pytest.raises(ServerError, match=r"/v1: prompt 0: .* \(tries: 2\)\. [A-Z]") as raised:
        RemotePolicy(server.url, "m", timeout=timeout, retries=1).sample(["hi"], 2, 5)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600
    assert len(server.seen) == 2
    assert ("no answer within 0.15 s" in str(raised.value)) == (timeout < 1)
    assert time.monotonic() - started < 5, "an answer that comes byte by byte is not waited for either"


def test_retry_after_is_kept_in_seconds_and_as_a_date(serve):
    server = serve(first(1, lambda handler, body, number: (429, b"slow down", [("Retry-After", "0.3")])))
    started = time.monotonic()
    RemotePolicy(server.url, "m").sample(["hi"], 1, 5)
    assert 0.3 <= time.monotonic() - started < 5
    assert completions_api.retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert completions_api.retry_after({"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"}) > 1e8
    assert [completions_api.retry_after({"retry-after": said}) for said in ("", "soon", "-5", "nan", "1e9")] == [
        0.0
    ] * 5


def test_a_server_that_wants_to_be_left_alone_for_longer_than_the_timeout_is_left_alone(serve):
    server = serve(lambda handler, body, number: (429, b"quota", [("Retry-After", "3600")]))
    with pytest.raises(ServerError, match=r"HTTP 429: quota; the server asks to wait 3600 s\. Run the command again"):
        RemotePolicy(server.url, "m", timeout=5).sample(["hi"], 1, 5)
    assert len(server.seen) == 1


# ---- Trouble that stays --------------------------------------------------------------------------------------------------


def test_a_dead_server_loses_no_reply_that_came_before(serve):
    def answer(handler, body, number):
        return well(handler, body, number) if last(body) in "ab" else (500, b"dead")

    arrived = {}
    policy = RemotePolicy(serve(answer).url, "m", workers=1, retries=1)
    with pytest.raises(ServerError, match="prompt 2: HTTP 500: dead") as raised:
        policy.sample(["a", "b", "c", "d"], 2, 5, on_replies=lambda i, responses: arrived.update({i: responses}))
    assert list(arrived) == [0, 1]
    assert raised.value.partial == arrived
    assert [response.text[0] for response in arrived[1]] == ["b", "b"]


@pytest.mark.parametrize("log_probs", [False, True])
def test_an_error_says_whose_it_is_and_brings_the_log_probabilities_too(serve, log_probs):
    nats = {"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -0.25}]}

    def answer(handler, body, number):
        if last(body) == "c":
            return 500, b"dead"
        return 200, {"choices": [choice(body, "a", index=i, logprobs=nats) for i in range(body["n"])]}

    policy = RemotePolicy(serve(answer).url, "m", workers=1, retries=0, log_probs=log_probs)
    with pytest.raises(ServerError) as raised:
        policy.sample(["a", "b", "c"], 2, 5)
    assert raised.value.prompt == 2
    assert raised.value.log_prob == ({0: [-0.75] * 2, 1: [-0.75] * 2} if log_probs else {})
    assert policy.can_answer("a")
    assert not policy.can_answer("c")
    assert policy.client.retries == 0


def test_whether_a_server_answers_is_asked_once(serve):
    server = serve(TROUBLE["500"])
    assert not RemotePolicy(server.url, "m", retries=8).can_answer("a")
    assert len(server.seen) == 1


def test_a_prompt_that_came_in_part_is_kept_in_part(serve):
    server = serve(first(1, lambda handler, body, number: (200, choices(body, 2)), then=TROUBLE["500"]))
    arrived = []
    with pytest.raises(ServerError) as raised:
        RemotePolicy(server.url, "m", retries=0).sample(["a"], 5, 5, on_replies=lambda *came: arrived.append(came))
    assert [len(responses) for responses in raised.value.partial.values()] == [2]
    assert arrived == []


def test_a_refused_connection_names_the_url_and_the_remedy(serve):
    server = serve()
    policy = RemotePolicy(server.url, "m", retries=1)
    server.shutdown()
    server.server_close()
    for attempt in (policy.check, lambda: policy.sample(["hi"], 1, 5)):
        with pytest.raises(ServerError, match=rf"{server.url}/v1.*: .*refused.*\. Check that the server runs"):
            attempt()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, {"error": {"message": f"Incorrect API key provided: {KEY}."}}, "key provided: ***."),
        (403, {"detail": "not yours"}, "not yours"),
        (404, {"object": "error", "message": "The model `m` does not exist."}, "does not exist"),
        (400, {"error": "prompt is too long:\n 9000 tokens \x1b[31m"}, "prompt is too long: 9000 tokens [31m. Change"),
        (422, {"detail": [{"loc": ["body"], "msg": "Field required"}]}, "Field required"),
        (413, b"<html>" + b"x" * 5000, "x..."),
        (400, b"", "no message"),
    ],
)
def test_a_refusal_is_an_error_at_once_with_the_servers_words_in_one_line(serve, status, body, said):
    server = serve(lambda handler, asked, number: (status, body))
    with pytest.raises(ServerError) as raised:
        RemotePolicy(server.url, "m", api_key=KEY).sample(["hi"], 4, 5)
    line = str(raised.value)
    assert line.startswith(f"{server.url}/v1: prompt 0: HTTP {status}: ")
    assert said in line
    assert KEY not in line
    assert line.isprintable()
    assert len(line) < 600
    assert len(server.seen) == 1


def test_an_error_of_the_callers_own_goes_through(serve):
    def received(i, responses):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        RemotePolicy(serve().url, "m").sample(["a", "b"], 1, 5, on_replies=received)


def test_ctrl_c_stops_at_once_and_what_came_was_handed_over(serve):
    def answer(handler, body, number):
        return well(handler, body, number) if last(body) == "a" else sleepy(handler, body, number)

    arrived = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    started = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            RemotePolicy(serve(answer).url, "m", timeout=60).sample(
                ["a", "b", "c"], 1, 5, on_replies=lambda i, _: arrived.append(i)
            )
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - started < 5
    assert arrived == [0]
    waiting = [thread for thread in threading.enumerate() if "(_work)" in thread.name]
    assert waiting
    assert all(thread.daemon for thread in waiting), "nor does the interpreter's end wait for them"
    timer.join()


# ---- Is it there? --------------------------------------------------------------------------------------------------------


def test_check_passes_where_the_model_is_served_and_sends_the_key(serve):
    server = serve()
    RemotePolicy(server.url, "tiny-chat", api_key=KEY).check()
    assert server.gets[0]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("models", "said"),
    [
        (None, "model must be one that the server has, got 'tiny-caht'. Use 'tiny-chat'"),
        ((200, {"data": [{"id": "zzz"}]}), "got 'tiny-caht'. Use one of 'zzz'"),
        ((200, {"data": []}), "it serves none"),
        ((200, {"models": 1}), "/v1/models: the answer lists no models"),
        ((200, b"<html>"), "/v1/models: the answer lists no models"),
        ((401, {"error": {"message": "who?"}}), "HTTP 401: who? Give the server's api_key"),
        ((404, b"Not Found"), "HTTP 404: Not Found. Check url and model"),
    ],
)
def test_check_says_early_what_is_missing(serve, models, said):
    with pytest.raises(ServerError) as raised:
        RemotePolicy(serve(models=models).url, "tiny-caht").check()
    assert said in str(raised.value)


# ---- Whom it talks to ----------------------------------------------------------------------------------------------------


def test_a_redirect_is_not_followed_and_the_key_stays_here(serve):
    thief = serve()
    server = serve(lambda handler, body, number: (307, b"", [("Location", f"{thief.url}/v1/chat/completions")]))
    with pytest.raises(ServerError, match=rf"HTTP 307 to {thief.url}/v1/chat/completions, which is not followed"):
        RemotePolicy(server.url, "m", api_key=KEY).sample(["hi"], 1, 5)
    assert thief.seen == []


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(serve, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-keyout", key, "-out", certificate, "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, *names, "-days", "2"], check=True, capture_output=True)
    server = serve()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    policy = RemotePolicy(server.url.replace("http:", "https:"), "m", api_key=KEY)
    with pytest.raises(ServerError, match=r"CERTIFICATE_VERIFY_FAILED.* Use a server whose certificate"):
        policy.sample(["hi"], 1, 5)
    with pytest.raises(ServerError, match="CERTIFICATE_VERIFY_FAILED"):
        policy.check()
    assert server.seen == []


def test_the_key_comes_from_the_environment_only_if_told_to(serve, monkeypatch):
    with pytest.raises(GuerdonError, match="OPENAI_API_KEY must be set for key_from_env"):
        RemotePolicy("http://h", "m", key_from_env=True)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = serve()
    for more in ({}, {"key_from_env": True}, {"api_key": "other"}):
        RemotePolicy(server.url, "m", **more).sample(["hi"], 1, 5)
    assert [headers.get("Authorization") for *_, headers in server.seen] == [None, f"Bearer {KEY}", "Bearer other"]
    with pytest.raises(GuerdonError, match=r"got both\. Give one of them"):
        RemotePolicy(server.url, "m", api_key=KEY, key_from_env=True)


@pytest.mark.parametrize("key", ["", " ", "a b", f"{KEY}\n", "schlüssel"])
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(key):
    with pytest.raises(GuerdonError, match="api_key must be printable ASCII") as raised:
        RemotePolicy("http://h", "m", api_key=key)
    assert KEY not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["localhost:8000", "", "ftp://h", "http://", "http://h:port", "file:///etc", "http://[::1"]
)
def test_a_url_that_leads_nowhere_is_refused(url):
    with pytest.raises(GuerdonError, match=r"^url must .*\. Give one such as http://"):
        RemotePolicy(url, "m")


def test_secrets_in_the_url_are_refused_without_showing_them():
    for url in (f"http://me:{KEY}@h", f"http://h/?key={KEY}"):
        with pytest.raises(GuerdonError, match="Give a key as api_key") as raised:
            RemotePolicy(url, "m")
        assert KEY not in str(raised.value)


def test_options_out_of_range_are_refused():
    for more in ({"timeout": 0}, {"retries": -1}, {"workers": 0}, {"per_request": 0}):
        with pytest.raises(GuerdonError, match="timeout must be above 0"):
            RemotePolicy("http://h", "m", **more)


def test_a_policy_is_known_by_its_server_and_model():
    one, same, other = (RemotePolicy("http://127.0.0.1:1", name) for name in ("a", "a", "b"))
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_options_reach_the_server(serve, monkeypatch):
    """As PolicyOptions name them; what only a server reads is refused without one."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    server = serve()
    policy = optimization.load_policy(
        "tiny-chat", server=server.url, server_timeout=7.5, server_retries=2, server_workers=3,
        server_key_from_env=True, server_log_probs=True,
    )  # fmt: skip
    assert (policy.client.timeout, policy.client.retries, policy.workers, policy.log_probs) == (7.5, 2, 3, True)
    policy.check()
    assert server.gets[0]["Authorization"] == "Bearer sk-test"
    with pytest.raises(
        GuerdonError, match=r"policy\.server_timeout must be left out without policy\.server, got 7\.5\. Give"
    ):
        optimization.load_policy("tiny", server_timeout=7.5)
