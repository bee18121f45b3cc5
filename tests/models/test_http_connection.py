"""Whatever a server sends, a request ends within its time and its bytes, and the key is shown nowhere."""

from __future__ import annotations

import gzip
import json
import logging
import time

import pytest
from completions_server import KEY, choice, choices

from guerdon.models import completions_client
from guerdon.models.completions_client import CompletionsClient
from guerdon.models.http_connection import MAX_ERROR_BYTES
from guerdon.models.remote_policy import RemotePolicy, ServerError

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def sends(start: bytes, again: bytes, pause: float = 0.05):
    """A server's answer: the start, then the same bytes again and again until the client hangs up."""

    def answer(handler, body, number):
        handler.close_connection = True
        handler.wfile.write(start)
        for _ in range(200):
            handler.wfile.write(again)
            handler.wfile.flush()
            if handler.server.over.wait(pause):
                return

    return answer


SLOW = {
    "header bytes": sends(HEAD + b"X-Slow: ", b"a"),
    "header lines": sends(HEAD, b"X-Slow: a\r\n"),
    "interim answers": sends(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "body bytes": sends(HEAD + b"Content-Length: 100000\r\n\r\n", b" "),
    "chunks": sends(CHUNKED, b"1\r\n \r\n"),
    "chunk extensions": sends(CHUNKED + b"1;", b"a"),
    "trailers": sends(CHUNKED + b"0\r\n", b"X-Slow: a\r\n"),
    "a silent connection": sends(b"", b""),
}


@pytest.mark.parametrize("kind", SLOW)
def test_a_slow_answer_ends_with_the_timeout(serve, kind):
    start = time.monotonic()
    with pytest.raises(ServerError, match=r"no answer within 0\.5 s"):
        RemotePolicy(serve(SLOW[kind]).url, "m", timeout=0.5, retries=0).sample(["hi"], 1, 5)
    assert time.monotonic() - start < 3


def test_a_connection_serves_again_after_an_answer_that_came_too_slowly(serve):
    def answer(handler, body, number):
        return SLOW["body bytes"](handler, body, number) if number == 1 else (200, choices(body))

    server = serve(answer)
    assert RemotePolicy(server.url, "m", timeout=0.5, retries=1, workers=1).sample(["hi"], 2, 5).responses
    assert len(server.seen) == 2


@pytest.mark.parametrize("start", [HEAD + b"Content-Length: 9000000000\r\n\r\n", CHUNKED])
def test_an_answer_larger_than_the_request_can_have_asked_for_is_cut_off(serve, start):
    block = b"100000\r\n" + b" " * 0x100000 + b"\r\n" if start == CHUNKED else b" " * 0x100000
    server = serve(sends(start, block, 0))
    with pytest.raises(ServerError, match=r"an answer of more than 1,05\d,\d{3} bytes"):
        RemotePolicy(server.url, "m", timeout=20, retries=0).sample(["hi"], 1, 5)


def test_the_bound_grows_with_the_tokens_requested(serve):
    text = "x" * 2_000_000
    server = serve(lambda handler, body, number: (200, {"choices": [choice(body, text)]}))
    with pytest.raises(ServerError, match="an answer of more than"):
        RemotePolicy(server.url, "m", retries=0).sample(["hi"], 1, 5)
    assert RemotePolicy(server.url, "m", retries=0).sample(["hi"], 1, 2000).responses[0].text == text


def test_of_an_error_only_the_beginning_is_read(serve):
    server = serve(sends(b"HTTP/1.1 500 No\r\nContent-Length: 9000000000\r\n\r\nbroken", b" " * MAX_ERROR_BYTES, 0))
    with pytest.raises(ServerError, match=r"HTTP 500: broken \(tries: 1\)"):
        RemotePolicy(server.url, "m", timeout=20, retries=0).sample(["hi"], 1, 5)


def test_a_compressed_answer_is_refused_before_it_is_unpacked(serve):
    server = serve(lambda handler, body, number: (200, gzip.compress(b"[]"), [("Content-Encoding", "gzip")]))
    with pytest.raises(ServerError, match=r"the answer is compressed \(gzip\), which was not accepted"):
        RemotePolicy(server.url, "m", retries=0).sample(["hi"], 1, 5)
    assert server.seen[0][2]["Accept-Encoding"] == "identity"


# ---- The key -------------------------------------------------------------------------------------------------------------

SPLIT = "\0".join(KEY)


@pytest.mark.parametrize("echo", [KEY, f"x{KEY}y", SPLIT, KEY.replace("-", "-\u200b "), "\n".join(KEY)])
@pytest.mark.parametrize(
    "answer",
    [
        lambda echo, body: (400, {"error": {"message": f"bad key {echo}"}}),
        lambda echo, body: (500, f"bad key {echo}".encode()),
        lambda echo, body: (200, {"error": f"bad key {echo}"}),
        lambda echo, body: (200, {"choices": [choice(body, f"reply {echo}", f"reason {echo}")]}),
        lambda echo, body: (302, b"", [("Location", f"http://h/{echo}".replace("\n", " ").replace("\u200b", ""))]),
    ],
)
def test_a_key_that_the_server_echoes_is_shown_nowhere(serve, caplog, answer, echo):
    server = serve(lambda handler, body, number: answer(echo, body))
    shown = ""
    try:
        shown = RemotePolicy(server.url, "m", api_key=KEY, retries=0).sample(["hi"], 1, 5).responses[0].text
    except ServerError as error:
        shown = str(error)
    shown = "".join(c for c in shown + caplog.text if "!" <= c <= "~")
    assert "***" in shown
    assert not any(KEY[i : i + 8] in shown for i in range(len(KEY) - 8))


def test_a_short_key_that_may_be_a_word_leaves_replies_alone(serve):
    server = serve(lambda handler, body, number: (200, {"choices": [choice(body, "an EMPTY box")]}))
    assert RemotePolicy(server.url, "m", api_key="EMPTY").sample(["hi"], 1, 5).responses[0].text == "an EMPTY box"


@pytest.mark.parametrize(
    ("url", "is_warned"),
    [
        ("http://example.com", True),
        ("http://10.0.0.3:8000", True),
        ("http://localhost.example.com", True),
        ("https://example.com", False),
        ("http://localhost:8000", False),
        ("http://127.1.2.3", False),
        ("http://[::1]:8000", False),
    ],
)
def test_a_key_over_plain_http_to_another_machine_is_warned_of(url, is_warned, caplog):
    for key in (KEY, None):
        CompletionsClient(url, api_key=key, key_from_env=False, timeout=1, retries=0, log_probs=False)
    messages = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(messages) == is_warned
    assert all("the key is sent over plain http to another machine. Use https." in message for message in messages)
    assert KEY not in caplog.text


def test_the_bound_holds_an_answer_with_log_probabilities_in_full():
    """A token of four bytes, escaped, with its log-probability, its bytes, and five alternatives of one letter."""
    entry = {"token": "\U0001f600", "logprob": -12.345678901234567, "bytes": [240, 159, 152, 128]}
    entry["top_logprobs"] = [{"token": "a", "logprob": -12.345678901234567, "bytes": [97]} for _ in range(5)]
    assert len(json.dumps(entry)) < completions_client.BYTES_PER_TOKEN


def test_after_a_few_seconds_of_silence_a_line_says_what_is_waited_for(serve, caplog, monkeypatch):
    monkeypatch.setattr(completions_client, "QUIET_SECONDS", 0.1)

    def answer(handler, body, number):
        handler.server.over.wait(0.5)
        return 200, choices(body)

    server = serve(answer)
    RemotePolicy(server.url, "m", timeout=60).sample(["hi"], 1, 5)
    assert caplog.text.count(f"{server.url}/v1: no answer yet; waiting up to 60 s for each") == 1
