"""An OpenAI-compatible server that answers, or misbehaves, as a test says. Standard library, one event loop in a thread."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

KEY = "sk-very-secret-0123456789"


@dataclass(frozen=True)
class Reply:
    """What the server does with a request.

    delay: seconds before it answers. cut: bytes of the body after which it hangs up. drip: seconds between the bytes of the
    body. resets: it resets the connection instead of answering.
    """

    body: bytes | Mapping[str, Any] = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: int | None = None
    drip: float = 0.0
    resets: bool = False

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def completion(
    text: str | None,
    finish: str | None = "stop",
    alternatives: Mapping[str, float] | None = None,
    usage: tuple[int, int] | None = (100, 1),
    **message: Any,
) -> dict[str, Any]:
    """The body of a chat completion. alternatives: probabilities for the first token."""
    choice: dict[str, Any] = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": text, **message},
    }
    if alternatives is not None:
        listed = [{"token": token, "logprob": math.log(p), "bytes": None} for token, p in alternatives.items()]
        choice["logprobs"] = {"content": [{"token": text, "logprob": listed[0]["logprob"], "top_logprobs": listed}]}
    body: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [choice],
    }  # every id is the same
    if usage is not None:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return body


def error(message: str, status: int, code: str | None = None, **headers: str) -> Reply:
    """An error as OpenAI sends it."""
    return Reply(
        {"error": {"message": message, "type": "error", "code": code}},
        status,
        {name.replace("_", "-"): value for name, value in headers.items()},
    )


Script = Callable[[dict[str, Any], int], Reply | Mapping[str, Any]]
"""From the request's body, and how often this very body came before, to what the server does."""


class JudgeServer:
    """Serves a script on a port of this machine; use it in a `with` statement.

    tries: requests by their body. answered: complete answers of status 200, by body. in_flight, most_in_flight: requests at once.
    headers: of the last request.
    """

    def __init__(self, script: Script, port: int = 0) -> None:
        self.script, self.port = script, port
        self.transports: set[asyncio.Transport] = set()
        self.tasks: set[asyncio.Future[None]] = set()
        self.tries: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: dict[str, str] = {}
        self.in_flight = self.most_in_flight = 0
        self.url = ""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._is_ready = threading.Event()

    def __enter__(self) -> JudgeServer:
        self._thread.start()
        self._is_ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        server = await self._loop.create_server(lambda: _Exchange(self), "127.0.0.1", self.port, backlog=512)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._is_ready.set()
        await self._closing.wait()
        server.close()
        for transport in list(self.transports):
            transport.abort()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class _Exchange(asyncio.Protocol):
    """One connection: requests come in, and replies go out as the script says."""

    def __init__(self, server: JudgeServer) -> None:
        self.server, self.buffer = server, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server.transports.add(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.server.transports.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, blank, rest = self.buffer.partition(b"\r\n\r\n")
        if not blank:
            return
        lines = head.decode().split("\r\n")[1:]
        headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
        length = int(headers.get("content-length", 0))
        if len(rest) >= length:
            self.buffer = b""
            self.server.headers = headers
            self.answer(rest[:length])

    def answer(self, content: bytes) -> None:
        server = self.server
        name = hashlib.sha256(content).hexdigest()
        server.tries[name] += 1
        body = json.loads(content)
        server.bodies.append(body)
        server.in_flight += 1
        server.most_in_flight = max(server.most_in_flight, server.in_flight)
        reply = server.script(body, server.tries[name] - 1)
        reply = reply if isinstance(reply, Reply) else Reply(reply)
        if reply.delay or reply.drip:
            task = asyncio.ensure_future(self.send_slowly(reply, name))
            server.tasks.add(task)
            task.add_done_callback(server.tasks.discard)
        else:
            self.send(reply, name)

    async def send_slowly(self, reply: Reply, name: str) -> None:
        await asyncio.sleep(reply.delay)
        if reply.drip:
            head, content = self.head(reply), reply.content
            self.transport.write(head)
            for i in range(len(content)):
                if self.transport.is_closing():
                    break
                self.transport.write(content[i : i + 1])
                await asyncio.sleep(reply.drip)
            self.server.in_flight -= 1
        else:
            self.send(reply, name)

    def send(self, reply: Reply, name: str) -> None:
        self.server.in_flight -= 1
        if reply.resets:
            linger = struct.pack("ii", 1, 0)  # closing with nothing to wait for resets the connection
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.transport.abort()
            return
        self.transport.write(self.head(reply) + reply.content[: reply.cut])
        if reply.cut is not None:
            self.transport.close()
        else:
            self.server.answered[name] += reply.status == 200

    def head(self, reply: Reply) -> bytes:
        headers = {"Content-Type": "application/json", "Content-Length": str(len(reply.content)), **reply.headers}
        lines = [f"HTTP/1.1 {reply.status} Status", *(f"{key}: {value}" for key, value in headers.items()), "", ""]
        return "\r\n".join(lines).encode()


# ---- Misbehavior ---------------------------------------------------------------------------------------------------------


def share(body: Mapping[str, Any], salt: object) -> float:
    """A number in [0, 1) that depends on the request only, so that no outcome depends on timing."""
    text = json.dumps([body["messages"], body.get("seed"), body.get("max_tokens"), str(salt)], sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def misbehaving(good: Script, timeout: float) -> Script:
    """A server on which a fifth of the tries fails in some way, and a tenth of the answers is no verdict.

    timeout: of the client, in seconds; some answers come too late for it.
    """
    troubles: list[Reply] = [
        error("slow down", 429, retry_after="0.01"),
        error("the worker died", 500),
        Reply(b"<html>Bad gateway</html>", 502),
        error("overloaded", 503, retry_after="0.01"),
        Reply(completion("Verdict: 1"), cut=40),
        Reply(resets=True),
        Reply(b'{"choices": [{"mess'),
        Reply(b"[1, 2]"),
        Reply({"error": {"message": "upstream timed out", "code": 504}}),
    ]
    late = [Reply(completion("Verdict: 1"), delay=3 * timeout), Reply(completion("Verdict: 1"), drip=timeout / 20)]
    answers: list[Reply | Mapping[str, Any]] = [
        completion("I'm sorry, but I can't compare these."),
        completion(None, refusal="I will not judge this."),
        completion("", "content_filter"),
        completion("The request was blocked by our content policy.", "content_filter"),
        completion("Let me think about", "length"),
        completion(""),
        completion('{"winner": "the first"'),
        completion("Both are good.\nVerdict: 7"),
        error("This model's maximum context length is 4096 tokens.", 400, "context_length_exceeded"),
        error("The response was filtered by our content management policy.", 400, "content_filter"),
    ]

    def script(body: dict[str, Any], tried: int) -> Reply | Mapping[str, Any]:
        draw = share(body, ("try", tried))
        if draw < 0.005:
            return late[int(draw / 0.005 * len(late))]
        if draw < 0.2:
            return troubles[int((draw - 0.005) / 0.195 * len(troubles))]
        draw = share(body, "answer")
        return answers[int(draw * 10 * len(answers))] if draw < 0.1 else good(body, tried)

    return script
