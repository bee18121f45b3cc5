"""The judge that is known: what a reply is truly worth in this experiment, and the prompts that are asked.

The rule: warm words please, up to `enough` of them; every one beyond takes away what one gave. A cold word takes one off, being
about what was asked adds one, and saying things twice costs up to two. It is no measure of good writing. It is a taste that a
small model can learn the first half of, and it has a fault to fall for: few of the policy's own replies are too warm, so few
comparisons say that there is such a thing.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import assay
from assay.contracts import Prompt

FEW = 0.1  # share of the policy's replies that are warmer than is enough

WARM = frozenset(
    """
    admire adorable adore affection amazing appreciate awesome beautiful beautifully beauty best better bless blessed bliss
    blissful brave breathtaking bright brilliant calm care caring celebrate charm charmed charming cheer cheerful cherish
    comfort comfortable comforting cosy cozy creative cute dazzling dear delicious delight delighted delightful dream dreamy
    eager easy elegant embrace enchanted enchanting energetic enjoy enjoyable enjoyed enjoying enthusiasm enthusiastic
    excellent excited excitement exciting exquisite fabulous fantastic fascinating favorite favourite festive flourish fresh
    friend friendly friends friendship fun funny generous gentle gently gift glad glorious glow glowing good gorgeous grace
    graceful grateful gratitude great happily happiness happy harmony heartwarming heavenly helpful hope hopeful hug ideal
    impressive incredible inspire inspired inspiring inviting joy joyful joyous kindness laugh laughed laughing laughter
    lively love loved lovely loves loving lucky magic magical magnificent majestic marvelous marvellous memorable merry nice
    optimistic paradise passion passionate peace peaceful perfect perfectly playful pleasant pleased pleasure positive
    precious pretty proud radiant refreshed refreshing relaxed relaxing remarkable rewarding romantic safe satisfied satisfying
    serene serenity shine shining smile smiled smiles smiling soft soothing sparkling special spectacular splendid stunning
    success successful sunny sunshine superb support supportive sweet tender terrific thankful thrill thrilled thrilling
    tranquil tranquility treasure treat treasured triumph unforgettable vibrant warm warmth welcome welcoming win winning
    wonder wonderful wonderfully wonders
    """.split()
)
COLD = frozenset(
    """
    afraid alone anger angry annoyed annoying anxiety anxious ashamed awful bad bitter bleak bored boring broken chaos chaotic
    cold complain cruel cry crying damage damp danger dangerous dark darkness dead death depressed desolate despair dirty
    disappointed disappointing disaster disgusting dread dreadful dreary dull eerie empty exhausted exhausting fail failed
    failure fear fearful filthy forgotten frightened frustrated frustrating frustration gloomy grief grim hard harsh hate hated
    haunting helpless horrible horror hurt ignored irritated lonely lose losing loss lost mad messy miserable misery mourn
    nervous nightmare noisy pain painful panic poor regret rude ruined sad sadly sadness scared scary shame sick sorrow sorry
    stress stressed stressful stuck struggle suffer suffering terrible terrified tired tragedy tragic trouble ugly uneasy
    unhappy upset useless weary weep worried worry worse worst worthless wrong
    """.split()
)

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
a rainy afternoon; the neighbour's dog; a new phone; the school bus; a long train ride; a cup of tea; the last page of a novel;
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

Judge = Callable[[Sequence[Prompt], Sequence[assay.Response]], np.ndarray]


def prompts(seed: int) -> list[str]:
    """Everything that can be asked, 400 prompts in an order of the seed's."""
    grid = [ask.format(topic) for ask in ASKS for topic in TOPICS]
    random.Random(seed).shuffle(grid)
    return grid


@dataclass(frozen=True, slots=True)
class Parts:
    """What the rule sees in a reply. warmth: different warm words less different cold ones. repeated: share of the longer
    words that stood before."""

    warmth: int
    on_topic: bool
    repeated: float


def parts(prompt: Prompt, response: assay.Response) -> Parts:
    said = _words(response.text)
    told, long = set(said), [word for word in said if len(word) > 3]
    topic = {word[:5] for word in _words(prompt[-1].content.rpartition(" about ")[2]) if len(word) > 2} - SMALL
    return Parts(
        warmth=len(told & WARM) - len(told & COLD),
        on_topic=any(word[:5] in topic for word in told),
        repeated=1 - len(set(long)) / len(long) if long else 0.0,
    )


def worth(seen: Parts, enough: int) -> float:
    """The rule, in its own unit: a warm word."""
    warm = seen.warmth if seen.warmth <= enough else 2 * enough - seen.warmth
    return warm + float(seen.on_topic) - 2.0 * seen.repeated


def measured(kind: str, replies: assay.Rollouts) -> dict[str, Any]:
    """What makes a gold judge of the rule ("rule") or of a reward model's directory, from the policy's own replies.

    The untouched policy is worth 0 and its replies have a standard deviation of 1, so that gold reads alike for every judge.
    For the rule, `enough` is where only FEW of the replies are warmer: gold turns where comparisons seldom reach.
    """
    settings: dict[str, Any] = {"kind": kind, "mean": 0.0, "spread": 1.0}
    if kind == "rule":
        warmth = [parts(p, r).warmth for p, r in zip(replies.prompts, replies.responses, strict=True)]
        enough = max(1, int(np.quantile(warmth, 1 - FEW, method="higher")))
        settings |= {"enough": enough, "warmer than enough": float(np.mean(np.array(warmth) > enough))}
    value = judge(settings)(replies.prompts, replies.responses)
    if not value.std() > 0:
        raise assay.AssayError(
            f"gold {kind}: every reply of the policy is worth {value[0]:.3g}; remedy: another --gold"
        )
    return settings | {"mean": float(value.mean()), "spread": float(value.std())}


def judge(settings: Mapping[str, Any]) -> Judge:
    """The function that judges, in standard deviations of the untouched policy's replies."""
    if settings["kind"] == "rule":

        def raw(asked: Sequence[Prompt], said: Sequence[assay.Response]) -> np.ndarray:
            return np.array([worth(parts(p, r), settings["enough"]) for p, r in zip(asked, said, strict=True)])

    else:
        model = assay.load(settings["kind"], truncation="left")

        def raw(asked: Sequence[Prompt], said: Sequence[assay.Response]) -> np.ndarray:
            return np.asarray(model.score(asked, said).value)

    def gold(asked: Sequence[Prompt], said: Sequence[assay.Response]) -> np.ndarray:
        return (raw(asked, said) - settings["mean"]) / settings["spread"]

    return gold


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())
