"""Requests to a server recover from passing failures; lasting ones are one line that loses no reply and shows no key."""

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

import pytest
from completions_server import KEY, choice, choices, first, last, texts, well

from guerdon import GuerdonError
from guerdon.api import optimization
from guerdon.models import completions_api
from guerdon.models.remote_policy import RemotePolicy, ServerError

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
def test_a_passing_failure_is_retried_and_a_lasting_one_is_an_error(serve, name, caplog):
    timeout = 0.15 if name in ("silence", "a drip") else 5
    started = time.monotonic()
    server = serve(first(2, TROUBLE[name]))
    drawn = RemotePolicy(server.url, "m", timeout=timeout, retries=2).sample(["hi"], 2, 5)
    assert len(set(texts(drawn))) == 2
    assert [body["seed"] for body in server.bodies] == [server.bodies[0]["seed"]] * 3, "a try again is the same request"
    assert caplog.text.count("; waiting for it, with 2 more tries") == 1
    server = serve(TROUBLE[name])
    with pytest.raises(ServerError, match=r"/v1: prompt 0: .* \(tries: 2\)\. [A-Z]") as raised:
        RemotePolicy(server.url, "m", timeout=timeout, retries=1).sample(["hi"], 2, 5)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600
    assert len(server.seen) == 2
    assert ("no answer within 0.15 s" in str(raised.value)) == (timeout < 1)
    assert time.monotonic() - started < 5, "an answer that comes byte by byte is not waited for either"


def test_retry_after_is_respected_in_seconds_and_as_a_date(serve):
    server = serve(first(1, lambda handler, body, number: (429, b"slow down", [("Retry-After", "0.3")])))
    started = time.monotonic()
    RemotePolicy(server.url, "m").sample(["hi"], 1, 5)
    assert 0.3 <= time.monotonic() - started < 5
    assert completions_api.retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert completions_api.retry_after({"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"}) > 1e8
    assert [completions_api.retry_after({"retry-after": said}) for said in ("", "soon", "-5", "nan", "1e9")] == [
        0.0
    ] * 5


def test_a_retry_after_beyond_the_timeout_is_an_error(serve):
    server = serve(lambda handler, body, number: (429, b"quota", [("Retry-After", "3600")]))
    with pytest.raises(ServerError, match=r"HTTP 429: quota; the server asks to wait 3600 s\. Run the command again"):
        RemotePolicy(server.url, "m", timeout=5).sample(["hi"], 1, 5)
    assert len(server.seen) == 1


# ---- Trouble that stays --------------------------------------------------------------------------------------------------


def test_a_dead_server_loses_no_reply_that_arrived_before(serve):
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
def test_an_error_names_its_prompt_and_carries_the_log_probabilities(serve, log_probs):
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


def test_can_answer_tries_once(serve):
    server = serve(TROUBLE["500"])
    assert not RemotePolicy(server.url, "m", retries=8).can_answer("a")
    assert len(server.seen) == 1


def test_replies_of_an_incomplete_prompt_are_kept(serve):
    server = serve(first(1, lambda handler, body, number: (200, choices(body, 2)), then=TROUBLE["500"]))
    arrived = []
    with pytest.raises(ServerError) as raised:
        RemotePolicy(server.url, "m", retries=0).sample(["a"], 5, 5, on_replies=lambda *came: arrived.append(came))
    assert [len(responses) for responses in raised.value.partial.values()] == [2]
    assert arrived == []


def test_a_refused_connection_names_the_url_and_what_to_do(serve):
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
def test_a_refusal_is_an_error_without_a_retry_in_one_line_with_the_servers_message(serve, status, body, said):
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


def test_an_error_in_the_callers_function_is_raised(serve):
    def received(i, responses):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        RemotePolicy(serve().url, "m").sample(["a", "b"], 1, 5, on_replies=received)


def test_ctrl_c_stops_at_once_after_handing_over_complete_prompts(serve):
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
def test_check_reports_what_is_missing(serve, models, said):
    with pytest.raises(ServerError) as raised:
        RemotePolicy(serve(models=models).url, "tiny-caht").check()
    assert said in str(raised.value)


# ---- Whom it talks to ----------------------------------------------------------------------------------------------------


def test_a_redirect_is_not_followed_so_the_key_is_not_sent_on(serve):
    thief = serve()
    server = serve(lambda handler, body, number: (307, b"", [("Location", f"{thief.url}/v1/chat/completions")]))
    with pytest.raises(ServerError, match=rf"HTTP 307 to {thief.url}/v1/chat/completions, which is not followed"):
        RemotePolicy(server.url, "m", api_key=KEY).sample(["hi"], 1, 5)
    assert thief.seen == []


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_an_untrusted_certificate_is_refused_without_a_retry(serve, tmp_path):
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


def test_the_key_comes_from_the_environment_only_on_request(serve, monkeypatch):
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
def test_a_key_that_fits_no_header_is_refused_without_showing_it(key):
    with pytest.raises(GuerdonError, match="api_key must be printable ASCII") as raised:
        RemotePolicy("http://h", "m", api_key=key)
    assert KEY not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["localhost:8000", "", "ftp://h", "http://", "http://h:port", "file:///etc", "http://[::1"]
)
def test_an_invalid_url_is_refused(url):
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


def test_the_fingerprint_depends_on_server_and_model():
    one, same, other = (RemotePolicy("http://127.0.0.1:1", name) for name in ("a", "a", "b"))
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_options_reach_the_server(serve, monkeypatch):
    """By their names in PolicyOptions; options for servers are refused without one."""
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
