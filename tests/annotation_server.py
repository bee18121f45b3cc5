"""`guerdon annotation serve` as a process of its own, killed and started again while people judge."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

API = "/api/v1/projects/replies"
SOURCE = Path(__file__).parent.parent / "src"


class Server:
    """A command that serves pages; `link` is what it printed."""

    def __init__(self, folder: Path, words: Sequence[object]) -> None:
        environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "guerdon", *map(str, words)],
            cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        match = re.search(r"https?://\S+", line)
        if match is None:
            self.stop(signal.SIGKILL)
            raise AssertionError(f"no link: {line!r} {self.errors}")
        self.link = match[0]

    @property
    def address(self) -> str:
        """The link without its path."""
        return "/".join(self.link.split("/", 3)[:3])

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; returns the exit code."""
        self.process.send_signal(number)
        self.errors = self.process.communicate(timeout=30)[1]
        return self.process.returncode

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop(signal.SIGKILL)


@dataclass
class Judging:
    """People who claim and submit until nothing is left, whatever happens to the server meanwhile.

    acknowledged: presentations whose answers the server confirmed; unexpected: answers that should not have come.
    """

    address: str
    tokens: Sequence[str]
    acknowledged: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    give_up: threading.Event = field(default_factory=threading.Event)

    def start(self) -> list[threading.Thread]:
        """A thread for each person."""
        threads = [threading.Thread(target=self._work, args=(token,), daemon=True) for token in self.tokens]
        for thread in threads:
            thread.start()
        return threads

    def _work(self, token: str) -> None:
        with httpx2.Client(base_url=self.address, headers={"Authorization": f"Bearer {token}"}, timeout=20) as client:
            claimed = self._ask(client, "claim")
            while "assignment" in claimed and not self.give_up.is_set():
                presentation = claimed["assignment"]["presentation"]
                path = f"presentations/{presentation}/judgment?next=1"
                answer = self._ask(client, path, {"verdict": -1}, {"Idempotency-Key": f"key {presentation}"})
                if "judgment" in answer:
                    self.acknowledged.append(presentation)
                claimed = answer.get("next", {})

    def _ask(
        self, client: Any, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """The answer, asked for again until it comes."""
        while not self.give_up.is_set():
            try:
                response = client.post(f"{API}/{path}", json=body, headers=headers or {})
            except httpx2.TransportError:
                time.sleep(0.05)
                continue
            if response.status_code != 200:
                self.unexpected.append(response.text)
                break
            return dict(response.json())
        return {}
