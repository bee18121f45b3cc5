"""A server of rewards in this process: the tiny model, a client, and one conversation in every form in which it can come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from guerdon.config import ModelOptions, ServingOptions
from guerdon.contracts import Prompt, Response, as_prompt, as_response
from guerdon.models.directory.loading import load
from guerdon.serving.app import Access, create_app
from guerdon.serving.models import Outcome, ServedModel, ServedRewardModel
from guerdon.serving.reading import Item, Reading
from guerdon.serving.service import Service

PROMPT, RESPONSE = "write a good film review", "yes , it is great and we love it very much ."
ADDRESS = "http://127.0.0.1"


def served(folder: Path, prefix_bytes: int = 0, name: str = "tiny", **options: Any) -> ServedRewardModel:
    """A saved model as the server loads it."""
    return ServedRewardModel(
        name, str(folder), load(folder, ModelOptions(truncation="refuse", **options)), prefix_bytes
    )


@contextmanager
def serving(*models: ServedModel, token: str | None = None, **options: Any) -> Iterator[TestClient]:
    """A client of a server with these models."""
    chosen = ServingOptions(**options)
    service = Service(models, chosen, chosen.batch_tokens)
    service.start()
    try:
        with TestClient(create_app(service, Access(token)), ADDRESS, raise_server_exceptions=False) as client:
            yield client
    finally:
        service.close(10)


def messages(prompt: str, response: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]


def rendered(prompt: str, response: str) -> str:
    """The conversation in the tiny model's chat template."""
    return f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n{response}<|im_end|>\n"


def outcomes(rng, n, score=0.0, shifted=0.05, slope=0.0, std=0.5):
    """Texts with this mean reward, share out of distribution, nats per standard deviation of length, and spread of members."""
    lengths = rng.normal(100, 20, n)
    p = np.where(rng.random(n) < shifted, 0.01, 0.5)
    scores = score + slope * (lengths - 100) / 20 + rng.normal(0, 1, n)
    return [Outcome(float(scores[i]), std=std, shift_p=float(p[i]), tokens=max(1, int(lengths[i]))) for i in range(n)]


class Counted:
    """A served model whose reward is the number of words. It keeps what each pass held, and waits for `go` before it computes."""

    max_length: int | None = 1000

    def __init__(self, *, can_merge: bool = True, go: Any = None, name: str = "counted") -> None:
        self.name = self.path = name
        self.can_merge, self.needs_turn, self.go = can_merge, True, go
        self.passes_at_once, self.gives_std, self.gives_shift_p = 1, False, False
        self.passes: list[list[str]] = []

    def read(self, items: Sequence[Item]) -> list[Reading]:
        return [self.reading(item) for item in items]

    def reading(self, item: Item) -> Reading:
        text = item.text or f"{_text(item.prompt)} {_text(item.response)}"
        ids = np.array([ord(letter) for letter in text], dtype=np.int32)
        return Reading(item, (), len(ids), ids, ids.astype(">u4").tobytes())

    def score(self, readings: Sequence[Reading]) -> list[Outcome]:
        texts = ["".join(map(chr, reading.ids)) for reading in readings]
        self.passes.append(texts)
        if self.go is not None:
            assert self.go.wait(20)
        for text in texts:
            if "bug" in text:
                raise ZeroDivisionError(text)
            if "poison" in text:
                from guerdon.errors import GuerdonError

                raise GuerdonError("score: the reward must be finite, got nan. Check the weights.")
        return [
            Outcome(None, error="there is no verdict. Ask again.")
            if "mute" in text
            else Outcome(float(len(text.split())))
            for text in texts
        ]

    def facts(self) -> dict[str, Any]:
        return {"name": self.name}

    def close(self) -> None:
        pass


def _text(value: Prompt | Response | None) -> str:
    if isinstance(value, Response):
        return as_response(value).text
    return "" if value is None else as_prompt(value)[-1].content
