"""The judge that is known: what a reply is truly worth in this experiment, and the prompts that are asked.

The rule: a fuller reply pleases, up to `enough` words; every word beyond takes away twice what one gave. Being about what was
asked is worth two words, and saying things twice costs up to ten. It is no measure of good writing. It is a taste that a small
model can learn the first half of, and it has a fault to fall for: few of the policy's own replies are too long, so few
comparisons say that there is such a thing.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import guerdon
from guerdon.contracts import Prompt

FEW = 0.05  # about the share of the policy's replies that have more words than are enough
BEYOND, ON_TOPIC, REPEATED = (
    2.0,
    2.0,
    10.0,
)  # words: lost by each beyond enough; won by being about the topic; lost by saying all twice

SMALL = {"the", "that", "was", "for", "from"}

ASKS = """
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


def prompts(seed: int) -> list[str]:
    """Everything that can be asked, 400 prompts in an order of the seed's."""
    grid = [ask.format(topic) for ask in ASKS for topic in TOPICS]
    random.Random(seed).shuffle(grid)
    return grid


@dataclass(frozen=True, slots=True)
class Parts:
    """What the rule sees in a reply. words: how many. repeated: share of the longer words that stood before."""

    words: int
    on_topic: bool
    repeated: float


def parts(prompt: Prompt, response: guerdon.Response) -> Parts:
    said = _words(response.text)
    long = [word for word in said if len(word) > 3]
    topic = {word[:5] for word in _words(prompt[-1].content.rpartition(" about ")[2]) if len(word) > 2} - SMALL
    return Parts(
        words=len(said),
        on_topic=any(word[:5] in topic for word in said),
        repeated=1 - len(set(long)) / len(long) if long else 0.0,
    )


def worth(seen: Parts, enough: int) -> float:
    """The rule, in its own unit: a word."""
    full = min(seen.words, enough) - BEYOND * max(0, seen.words - enough)
    return full + ON_TOPIC * seen.on_topic - REPEATED * seen.repeated


def measured(kind: str, replies: guerdon.Rollouts) -> dict[str, Any]:
    """What makes a gold judge of the rule ("rule") or of a reward model's directory, from the policy's own replies.

    The untouched policy is worth 0 and its replies have a standard deviation of 1, so that gold reads alike for every judge.
    For the rule, `enough` is where about FEW of the replies are longer: gold turns where comparisons seldom reach.
    """
    settings: dict[str, Any] = {"kind": kind, "mean": 0.0, "spread": 1.0}
    if kind == "rule":
        words = [parts(p, r).words for p, r in zip(replies.prompts, replies.responses, strict=True)]
        enough = max(1, int(np.quantile(words, 1 - FEW)))
        settings |= {"enough": enough, "longer than enough": float(np.mean(np.array(words) > enough))}
    value = judge(settings)(replies.prompts, replies.responses)
    if not value.std() > 0:
        raise guerdon.GuerdonError(
            f"gold {kind}: every reply of the policy is worth {value[0]:.3g}; remedy: another --gold"
        )
    return settings | {"mean": float(value.mean()), "spread": float(value.std())}


def judge(settings: Mapping[str, Any]) -> Judge:
    """The function that judges, in standard deviations of the untouched policy's replies."""
    if settings["kind"] == "rule":

        def raw(asked: Sequence[Prompt], said: Sequence[guerdon.Response]) -> np.ndarray:
            return np.array([worth(parts(p, r), settings["enough"]) for p, r in zip(asked, said, strict=True)])

    else:
        model = guerdon.load(settings["kind"], truncation="left")

        def raw(asked: Sequence[Prompt], said: Sequence[guerdon.Response]) -> np.ndarray:
            return np.asarray(model.score(asked, said).value)

    def gold(asked: Sequence[Prompt], said: Sequence[guerdon.Response]) -> np.ndarray:
        return (raw(asked, said) - settings["mean"]) / settings["spread"]

    return gold


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())
