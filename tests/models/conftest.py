"""Fixtures of policies behind a server."""

from __future__ import annotations

import threading

import pytest
from completions_server import Server, well

from guerdon.models import completions_client


@pytest.fixture
def serve(fast_retries):
    """Start a server that answers as given; all of them end with the test."""
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


@pytest.fixture
def fast_retries(monkeypatch):
    """Retries without long waits, and no proxy or key from the environment."""
    monkeypatch.setattr(completions_client, "BACKOFF", 0.01)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
