"""Reward models computed by arithmetic, correct ones and ones with a deliberate fault, and comparisons with a known answer."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

import numpy as np

from guerdon.contracts import Comparison, GuerdonError, Preference, Response, Scores, as_prompt, as_response

WORDS = ("river", "small", "often", "answer", "bright", "seven", "history", "people", "always", "water")


def as_scores(values: Sequence[float], truncated: Sequence[bool] | None = None) -> Scores:
    value = np.array(values, dtype=np.float64)
    return Scores(value, np.zeros(len(value), dtype=bool) if truncated is None else np.array(truncated, dtype=bool))


class Good:
    """Counts the word "good": `scale` nats per occurrence, plus `by_length` nats per character."""

    def __init__(self, scale: float = 1.0, by_length: float = 0.0) -> None:
        self.scale = scale
        self.by_length = by_length

    def score(self, prompts, responses):
        texts = [as_response(response).text for response in responses]
        return as_scores([self.scale * t.split().count("good") + self.by_length * len(t) for t in texts])


class Slow(Good):
    """Takes `pause` seconds per call, and five times that where the first prompt contains "slow"."""

    def __init__(self, pause: float = 0.02) -> None:
        super().__init__()
        self.pause = pause

    def score(self, prompts, responses):
        time.sleep(self.pause * (5 if "slow" in as_prompt(prompts[0])[-1].content else 1))
        return super().score(prompts, responses)


class Mortal(Good):
    """Kills its process at the word "poison"."""

    def score(self, prompts, responses):
        if any("poison" in as_response(response).text for response in responses):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score(prompts, responses)


def good_worker(index: int) -> Good:
    return Good()


def slow_worker(index: int) -> Slow:
    return Slow()


def absent_worker(index: int) -> Good:
    raise GuerdonError("model.device must be a device of this machine, got cuda:7. Set model.device=cpu.")


def mortal_worker(index: int) -> Mortal:
    return Mortal()


class Constant:
    """Gives every response the same score."""

    def score(self, prompts, responses):
        return as_scores([1.0] * len(prompts))


class PaddedRows:
    """Reads characters as token numbers in rows padded to the longest. Subclasses with a fault override `read`."""

    def score(self, prompts, responses):
        texts = [as_prompt(p)[-1].content + as_response(r).text for p, r in zip(prompts, responses, strict=True)]
        if not texts:
            return as_scores([])
        length = np.array([len(text) for text in texts])
        rows = np.zeros((len(texts), length.max()))
        for row, text in zip(rows, texts, strict=True):
            row[: len(text)] = [ord(letter) % 97 for letter in text]
        return as_scores(self.read(rows, length))

    def read(self, rows, length):
        mask = np.arange(rows.shape[1]) < length[:, None]
        return (np.sin(rows) * mask).sum(axis=1) / length


class PaddingLeak(PaddedRows):
    """Divides by the padded length."""

    def read(self, rows, length):
        return np.sin(rows).sum(axis=1) / rows.shape[1]


class BatchNorm(PaddedRows):
    """Subtracts the mean of the batch."""

    def read(self, rows, length):
        honest = super().read(rows, length)
        return honest - honest.mean()


class WrongPosition(PaddedRows):
    """Reads the last position of the padded row instead of the last real one."""

    def read(self, rows, length):
        return np.cumsum(rows, axis=1)[:, -1] * 0.01 + rows[:, -1]


class Forgetful(PaddedRows):
    """Leaves dropout on."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def read(self, rows, length):
        return super().read(rows, length) + 0.1 * self.rng.normal(size=len(rows))


def comparisons(
    num: int = 300,
    *,
    odds: float = 1.0,
    by_length: float = 0.0,
    people: int = 1,
    ties: float = 0.0,
    seed: int = 0,
) -> list[Comparison]:
    """Pairs on which people vote with log-odds `odds` x (number of "good" in the first - in the second) + by_length x characters."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(num):
        texts = [" ".join(rng.choice([*WORDS, "good"], size=rng.integers(4, 24))) for _ in range(2)]
        goods = [text.split().count("good") for text in texts]
        logit = odds * (goods[0] - goods[1]) + by_length * (len(texts[0]) - len(texts[1]))
        p = 1 / (1 + np.exp(-logit))
        first, tie, second = (int(v) for v in rng.multinomial(people, [p * (1 - ties), ties, (1 - p) * (1 - ties)]))
        preference = Preference(q=(first + tie / 2) / people, votes=(first, tie, second) if people > 1 else None)
        rows.append(
            Comparison(
                as_prompt(f"Question {i}"),
                (Response(texts[0]), Response(texts[1])),
                preference,
                source=("forum", "lab")[i % 2],
            )
        )
    return rows


def few_prompts() -> list[Comparison]:
    """Fifty comparisons on five prompts; the first on each prompt is a tie."""
    return [
        Comparison(
            as_prompt(f"Question {i % 5}"),
            (Response(f"yes {i}"), Response(f"no {i}")),
            Preference(q=0.5 if i < 5 else 1.0),
        )
        for i in range(50)
    ]


KIND, UNKIND = ("good", "great", "kind", "happy", "nice", "love"), ("bad", "awful", "rude", "sad", "poor", "hate")
PLAIN = ("the", "film", "was", "very", "a", "sentence", "people", "will", "see", "it", "and", "they", "said", "so")


def liked(num: int = 300, seed: int = 0, k: int = 2) -> list[Comparison]:
    """Comparisons in the tiny model's own words: the response with more kind words and fewer unkind ones is better."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(num):
        worths = rng.permutation(np.linspace(-3, 3, k)).astype(int)
        texts = [
            " ".join(rng.permutation([*rng.choice(KIND if w > 0 else UNKIND, abs(w)), *rng.choice(PLAIN, 6)]))
            for w in worths
        ]
        best_first = tuple((int(j),) for j in np.argsort(-worths))
        prompt = as_prompt(f"write a review of film {' '.join(str(i))} {' '.join(str(seed))}")
        rows.append(Comparison(prompt, tuple(Response(str(t)) for t in texts), Preference(groups=best_first)))
    return rows


class Counting:
    """Good, which stops the process after scoring `most` texts."""

    fingerprint = "counting"

    def __init__(self, most=10**9):
        self.most, self.asked = most, 0

    def score(self, prompts, responses):
        if self.asked + len(responses) > self.most:
            raise KeyboardInterrupt
        self.asked += len(responses)
        return Good().score(prompts, responses)


class ThreeMembers:
    """Scores with every field set: three members, a standard deviation, a p-value and an attribute."""

    def score(self, prompts, responses):
        base = PaddedRows().score(prompts, responses).value
        members = np.stack([base, base + 1, 2 * base])
        return Scores(base, base > 0, members.std(axis=0), members, np.full(len(base), 0.5), {"tone": base * 3})
