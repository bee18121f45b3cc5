"""A completions server that answers as a test says, and its ordinary answers."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-very-secret-0123456789"


class Handler(BaseHTTPRequestHandler):
    """Answers each request as the test says; by default with ordinary completions."""

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
    """Fail the first `num` requests."""
    return lambda handler, body, number: (bad if number <= num else then)(handler, body, number)


def texts(rollouts):
    return [response.text for response in rollouts.responses]
