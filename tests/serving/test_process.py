"""`guerdon serve` as a process of its own: it starts, stops, is killed and started again under clients that retry."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from annotation_server import Server
from serving_site import PROMPT
from shell import guerdon

from guerdon.scoring.bulk_scorer import BulkScorer

RESPONSES = ["yes , it is great", "no", "they love you", "a film of our time", "bad", "we will see"]


def ask(client: httpx2.Client, response: str, give_up: float = 120.0) -> float:
    """A reward, asked for again until the server gives it."""
    body = {"items": [{"prompt": PROMPT, "response": response}]}
    end = time.monotonic() + give_up
    while time.monotonic() < end:
        try:
            answer = client.post("/v1/reward", json=body)
        except httpx2.TransportError:
            time.sleep(0.3)
            continue
        if answer.status_code == 200:
            return float(answer.json()["results"][0]["score"])
        assert answer.status_code == 503, answer.text
        time.sleep(0.3)
    raise TimeoutError


def test_a_server_that_is_killed_restarted_and_stopped_answers_every_client(saved, tmp_path):
    """Clients that retry get every answer over a kill -9; a SIGTERM finishes what was accepted."""
    scores = BulkScorer(saved).score([PROMPT] * len(RESPONSES), RESPONSES).value
    words = ("serve", f"mine={saved}", "--prefix-cache", 0, "--port")
    server = Server(tmp_path, (*words, 0))
    address, answers, stop = server.address, [], threading.Event()

    def client(i: int) -> None:
        with httpx2.Client(base_url=address, timeout=20) as client:
            while not stop.is_set():
                answers.append((i, ask(client, RESPONSES[i])))

    threads = [threading.Thread(target=client, args=(i,)) for i in range(len(RESPONSES))]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(answers) > 20)
    server.stop(signal.SIGKILL)
    with Server(tmp_path, (*words, address.rsplit(":", 1)[1])) as server:
        before = len(answers)
        wait_until(lambda: len(answers) > before + 20)
        assert httpx2.get(f"{address}/v1/models").json()["data"][0]["id"] == "mine"
        stop.set()
        for thread in threads:
            thread.join(60)
        check_the_watch_command(address, tmp_path)
        large = send_until_some_wait(address)
        assert server.stop(signal.SIGTERM) == 0
        assert "Traceback" not in server.errors
        assert PROMPT not in server.errors
    assert [score for _, score in answers] == pytest.approx([scores[i] for i, _ in answers], abs=2e-5), "0 wrong"
    assert {i for i, _ in answers} == set(range(len(RESPONSES)))
    assert large() == 200


COUNT_OPENMP = """
import sys, time, psutil, torch
from guerdon.api.serving import start_service
from guerdon.config import ServingOptions
service = start_service({"mine": sys.argv[1]}, ServingOptions(), {})
time.sleep(1)  # threads that end
before = psutil.Process().num_threads()
torch.ones(1 << 22).exp()
print(psutil.Process().num_threads() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the OpenMP of Linux's torch")
def test_loading_leaves_no_threads_of_openmp_behind(saved):
    """The thread that starts the server has none of two yet, so that a product begins one."""
    words = [sys.executable, "-c", COUNT_OPENMP, str(saved)]
    counted = subprocess.run(
        words, env=os.environ | {"OMP_NUM_THREADS": "2"}, capture_output=True, text=True, timeout=120
    )
    assert counted.stdout.strip() == "1", counted.stderr


def send_until_some_wait(address: str) -> Callable[[], int]:
    """A large request of which texts wait: another is sent where one was answered before anybody looked."""
    while True:
        thread, rewards = send_large_request(address)
        while thread.is_alive():
            if waiting(address):
                return rewards
        assert rewards() == 200


def send_large_request(address: str) -> tuple[threading.Thread, Callable[[], int]]:
    """A request of 200 texts, sent by a thread; call what is returned to wait for the number of its rewards."""
    body = {"items": [{"prompt": f"{PROMPT} {i}", "response": "yes " * 400} for i in range(200)]}
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(httpx2.post(f"{address}/v1/reward", json=body, timeout=60).json()["results"])
    )
    thread.start()

    def rewards() -> int:
        thread.join()
        return sum(result["score"] is not None for result in answers[0])

    return thread, rewards


def check_the_watch_command(address: str, folder: Path) -> None:
    ran = guerdon("watch", address, "--out", folder / "watch")
    assert (ran.code, "Too few texts to compare" in ran.out) == (0, True), ran
    assert (folder / "watch/report.html").exists()
    ran = guerdon("watch", address, "--model", "other")
    assert (ran.code, ran.err) == (
        2,
        "error: --model must be one of mine, got 'other'. Choose one that the server has.\n",
    )


def waiting(address: str) -> bool:
    text = httpx2.get(f"{address}/metrics").text
    return any(line.startswith("guerdon_queue_items{") and float(line.split()[-1]) > 0 for line in text.splitlines())


def test_a_server_that_cannot_be_is_one_line(saved, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = guerdon("serve", saved, "--port", port)
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert f"port {port} must be free" in ran.err
    ran = guerdon("watch", f"http://127.0.0.1:{port}")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert "the server must answer" in ran.err
    for words, line in (
        ((saved, saved), "models must have different names"),
        ((f"={saved}",), "a model must be SOURCE or NAME=SOURCE"),
        ((tmp_path / "none",), "none"),
        ((saved, "serving.abstain_below=0.05"), "serving.abstain_below must be 0 for a model that measures no shift_p"),
        ((saved, "--deadline", "0"), "serving.deadline"),
    ):
        ran = guerdon("serve", *words, "--port", 0)
        assert ran.code == 2, (words, ran)
        assert line in ran.err
        assert len(ran.err.splitlines()) == 1, ran.err


def wait_until(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
