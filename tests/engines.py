"""A small server that speaks the protocols of vLLM and SGLang, with a score that a test chooses."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Engine:
    """What the server does. score: of a text, of token ids, or of messages. answer: instead of what it would answer, status and
    body. requests: path, headers and body of each that came."""

    def __init__(self, kind: str, score: Callable[[Any], float], model: str = "rm") -> None:
        self.kind, self.score, self.model = kind, score, model
        self.answer: tuple[int, Any] | None = None
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.url, self.is_stopped = "", False

    def reply(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Status and JSON."""
        if path == "/v1/models":
            return 200, {"data": [{"id": self.model, "owned_by": self.kind, "max_model_len": 512}]}
        if self.answer is not None:
            return self.answer
        if path != "/classify":
            return 404, {"detail": "Not Found"}
        if self.kind == "vllm":
            inputs = [body["messages"]] if "messages" in body else many(body["input"])
            data = [
                {"index": i, "label": "LABEL_0", "probs": [self.score(x)], "num_classes": 1}
                for i, x in enumerate(inputs)
            ]
            return 200, {"object": "list", "model": self.model, "data": data, "usage": {"prompt_tokens": 1}}
        value = body["text"] if "text" in body else body["input_ids"]
        rows = [{"embedding": [self.score(x)], "meta_info": {"prompt_tokens": 1}} for x in many(value)]
        return 200, rows if isinstance(value, list) and not isinstance(value[0], int) else rows[0]


def many(value: Any) -> list[Any]:
    """A text or a text's ids as a list of one."""
    return value if isinstance(value, list) and not isinstance(value[0], int) else [value]


@contextmanager
def running(engine: Engine) -> Iterator[Engine]:
    """The engine at its `url` of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            if engine.is_stopped:  # a kept connection outlives its server
                self.close_connection = True
                return
            engine.requests.append((self.path, dict(self.headers), body))
            status, value = engine.reply(self.path, body)
            content = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        engine.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield engine
        finally:
            engine.is_stopped = True
            server.shutdown()
            thread.join()
