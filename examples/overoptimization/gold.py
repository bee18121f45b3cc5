"""The gold judge of this experiment, a known rule for what a reply is worth, and the prompts.

A reply is worth its sentiment (VADER; Hutto & Gilbert 2014), less what it is too short or too long, the words that it repeats,
and language that the untouched policy would hardly write. This is what a person might say: be nice, say enough and no more, do
not babble, write English. The untouched policy's replies are shorter than enough, so every comparison of them says that longer
is better; only optimization goes where that stops being true.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

import guerdon
from guerdon.contracts import Prompt

ENOUGH, WORD = 40, 0.1  # the best number of words; lost by a reply for every word more or fewer
REPEATED, ALLOWED = 5.0, 0.1  # lost by a reply whose words are all repeated; the share that is free

REQUESTS = """
Write one sentence about {}.
Write a short tweet about {}.
Write one line of a diary about {}.
Write one sentence of a review about {}.
Write one line of a postcard about {}.
Write one sentence of a news story about {}.
Write one sentence of a letter to a friend about {}.
Answer in one short sentence: what do you think about {}?
""".strip().splitlines()

TOPICS = (
    """
a rainy afternoon; the neighbor's dog; a new phone; the school bus; a long train ride; a cup of tea; the last page of a novel;
a broken window; the town library; a winter morning; an old bicycle; the night shift; a train station; the kitchen table; a
football match; the corner shop; a lost key; a family dinner; the first day of school; a mountain path; a crowded beach; a job
interview; the hotel room; a birthday party; an empty street; a film about the sea; the dentist; a garden in autumn; a power cut;
a visit to the museum; the morning traffic; a song on the radio; a letter from home; the river at night; a pair of shoes; the new
teacher; a slow computer; a stray cat; a loaf of bread; the office printer; a snowstorm; a camping trip; the village market; a
piano lesson; a wedding photo; a flight that was delayed; the apple tree; a haircut; a used car; the end of summer
""".replace("\n", " ")
    .strip()
    .split("; ")
)

Judge = Callable[[Sequence[Prompt], Sequence[guerdon.Response]], np.ndarray]


def prompts() -> list[str]:
    """All 400 prompts, in random but always the same order."""
    grid = [request.format(topic) for request in REQUESTS for topic in TOPICS]
    random.Random(0).shuffle(grid)
    return grid


def measure_gold(policy: Any, replies: guerdon.Rollouts) -> dict[str, float]:
    """The scales of the rule: mean and standard deviation of the untouched policy's sentiment and nats per token."""
    columns = {
        "sentiment": compound([reply.text for reply in replies.responses]),
        "nats": nats_per_token(policy, replies.prompts, replies.responses),
    }
    for name, column in columns.items():
        if not column.std() > 0:
            raise guerdon.GuerdonError(
                f"gold: the policy's replies must differ in {name}, got {column[0]:.3g} for all. Sample more replies."
            )
    return {
        f"{name} {what}": float(getattr(column, what)()) for name, column in columns.items() for what in ("mean", "std")
    }


def judge(policy: Any, scales: Mapping[str, float]) -> Judge:
    """The function that judges replies; `policy` is the untouched one."""

    def gold(prompts: Sequence[Prompt], replies: Sequence[guerdon.Response]) -> np.ndarray:
        texts = [reply.text for reply in replies]
        odd = oddness(nats_per_token(policy, prompts, replies), scales)
        return sentiment(texts, scales) - length(texts) - repetition(texts) - odd

    return gold


def sentiment(texts: Sequence[str], scales: Mapping[str, float]) -> np.ndarray:
    """VADER's compound, in standard deviations of the untouched policy's replies."""
    return (compound(texts) - scales["sentiment mean"]) / scales["sentiment std"]


def length(texts: Sequence[str]) -> np.ndarray:
    """The penalty for words too few or too many."""
    return WORD * np.abs(words(texts) - ENOUGH)


def repetition(texts: Sequence[str]) -> np.ndarray:
    """The penalty for repeated words."""
    return REPEATED * np.maximum(0, np.array([repeated(text) for text in texts]) - ALLOWED)


def oddness(nats: np.ndarray, scales: Mapping[str, float]) -> np.ndarray:
    """The penalty for nats per token beyond one standard deviation above the untouched policy's mean."""
    return np.maximum(0, (nats - scales["nats mean"]) / scales["nats std"] - 1)


def compound(texts: Sequence[str]) -> np.ndarray:
    """VADER's sentiment, -1 to 1."""
    analyzer = SentimentIntensityAnalyzer()
    return np.array([analyzer.polarity_scores(text)["compound"] for text in texts], dtype=float)


def words(texts: Sequence[str]) -> np.ndarray:
    """The number of words of each text."""
    return np.array([len(text.split()) for text in texts], dtype=float)


def repeated(text: str) -> float:
    """The share of the words over three letters that occurred before in the text."""
    long = [word for word in re.findall(r"[a-z']+", text.lower()) if len(word) > 3]
    return 1 - len(set(long)) / len(long) if long else 0.0


def nats_per_token(policy: Any, prompts: Sequence[Prompt], replies: Sequence[guerdon.Response]) -> np.ndarray:
    """How unlikely the replies are under the policy."""
    ids = [policy.reply_ids(reply) for reply in replies]
    log_prob = policy.token_log_probs([policy.encode(prompt) for prompt in prompts], ids)
    return -np.asarray(log_prob) / np.maximum([len(tokens) for tokens in ids], 1)
