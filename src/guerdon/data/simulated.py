"""Annotators that are simulated: judgments whose truth is known, for tests and for studies of methods.

A simulated annotator prefers the left response with probability sigmoid(ability * gap + left_bias + length_bias * log2(length ratio)),
where the gap is the utility of the left response less that of the right one (Bradley & Terry 1952), and may also err,
answer without reading, or tire. Every draw is a hash of the seed, the pair and the annotator: the same judgments on any machine,
in any order, and adding an annotator changes none of the others' judgments.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from guerdon.contracts import Comparison, GuerdonError, Preference, Prompt, Response
from guerdon.conversation import Message, digest, response_digest

__all__ = ["UTILITY", "SimulatedAnnotator", "simulate_judgments", "simulate_pairs"]

UTILITY = "utility"  # the rating of a response that holds its utility, in nats
WORDS = "time work day story people place light river answer garden winter music paper stone morning window".split()


@dataclass(frozen=True, slots=True)
class SimulatedAnnotator:
    """How one annotator judges.

    ability: multiplies the difference in utility; 0 is a guess, below 0 an adversary. left_bias: nats for the response shown
    first. length_bias: nats per doubling of length. tie_threshold: nats, as in `fit_abilities`; 0 never ties. flips: share of
    judgments that are turned around, a slip of the hand. habit: what is answered without reading, in a share `laziness` of
    judgments. drift: added to the ability, linearly, from the first pair to the last.
    """

    name: str
    ability: float = 1.0
    left_bias: float = 0.0
    length_bias: float = 0.0
    tie_threshold: float = 0.0
    flips: float = 0.0
    habit: Literal["first", "tie", "random"] = "random"
    laziness: float = 0.0
    drift: float = 0.0


def simulate_pairs(num: int, seed: int, *, spread: float | None = None) -> list[Comparison]:
    """`num` pairs of short texts, each with its utility as a rating, labeled by which is higher; the order shown is random.

    spread: standard deviation of the utilities, nats. Without one, they differ by exactly 1 in every pair: all are equally hard.
    """
    pairs = []
    for i in range(num):
        order, *gaussian = _uniforms(seed, "pair", str(i))
        first, second = (1.0, 0.0) if order < 0.5 else (0.0, 1.0)
        if spread is not None:  # Box & Muller 1958
            radius, angle = spread * math.sqrt(-2 * math.log(1 - gaussian[0])), 2 * math.pi * gaussian[1]
            first, second = radius * math.cos(angle), radius * math.sin(angle)
        texts = [_text(seed, i, side) for side in "ab"]
        responses = tuple(
            Response(text, ratings={UTILITY: utility}) for text, utility in zip(texts, (first, second), strict=True)
        )
        groups = ((0,), (1,)) if first > second else ((1,), (0,))
        pairs.append(Comparison(Prompt([Message("user", f"Question {i}?")]), responses, Preference(groups=groups)))
    return pairs


def simulate_judgments(
    pairs: Sequence[Comparison],
    annotators: Sequence[SimulatedAnnotator],
    votes: int,
    seed: int,
    *,
    rating: str = UTILITY,
) -> Iterator[Comparison]:
    """`votes` judgments of each pair, by annotators that a hash chooses, each with the responses in the order that one saw.

    Responses must have the rating: their utility. A GuerdonError if one has none, or if there are fewer annotators than votes.
    """
    if not 1 <= votes <= len(annotators):
        raise GuerdonError(
            f"votes must be from 1 to the number of annotators, {len(annotators)}, got {votes}. Add annotators."
        )
    for number, pair in enumerate(pairs):
        key = digest([pair.group, sorted(map(response_digest, pair.responses))])
        chosen = sorted(annotators, key=lambda annotator: _uniforms(seed, "turn", key, annotator.name))[:votes]
        progress = number / max(1, len(pairs) - 1)
        for annotator in chosen:
            yield _judge(pair, key, annotator, progress, seed, rating)


def _judge(
    pair: Comparison, key: str, annotator: SimulatedAnnotator, progress: float, seed: int, rating: str
) -> Comparison:
    """One judgment. progress: how far the annotator's work is, 0 to 1."""
    order, opinion, habit, slip = _uniforms(seed, "judgment", key, annotator.name)
    # of the pair whichever way round it is given, so that its order changes no judgment
    first, second = sorted(pair.responses, key=response_digest)
    left, right = (first, second) if order < 0.5 else (second, first)
    if habit < annotator.laziness:
        vote = {"first": 0, "tie": 1, "random": 0 if opinion < 0.5 else 2}[annotator.habit]
    else:
        vote = _opinion(annotator, left, right, progress, opinion, rating)
        vote = 2 - vote if slip < annotator.flips else vote
    groups: tuple[tuple[int, ...], ...] = (((0,), (1,)), ((0, 1),), ((1,), (0,)))[vote]
    return Comparison(
        pair.prompt,
        (left, right),
        Preference(groups=groups),
        annotator=annotator.name,
        source="simulated",
        group=pair.group,
    )


def _opinion(
    annotator: SimulatedAnnotator, left: Response, right: Response, progress: float, opinion: float, rating: str
) -> int:
    """0 for the left response, 1 for a tie, 2 for the right one."""
    gap = _utility(left, rating) - _utility(right, rating)
    longer = math.log2((len(left.text) + 1) / (len(right.text) + 1))
    ability = annotator.ability + annotator.drift * progress
    lead = ability * gap + annotator.left_bias + annotator.length_bias * longer
    if opinion < _sigmoid(lead - annotator.tie_threshold):
        return 0
    return 2 if opinion >= 1.0 - _sigmoid(-lead - annotator.tie_threshold) else 1


def _utility(response: Response, rating: str) -> float:
    if rating not in response.ratings:
        raise GuerdonError(
            f"ratings must hold {rating}, the utility to judge by, got {sorted(response.ratings)}. Add it."
        )
    return response.ratings[rating]


def _sigmoid(x: float) -> float:
    return (1.0 + math.tanh(x / 2.0)) / 2.0


def _uniforms(seed: int, *names: str) -> list[float]:
    """Four numbers in [0, 1) from a hash."""
    body = "\0".join((str(seed), *names)).encode("utf-8", "surrogatepass")
    hashed = hashlib.sha256(body).digest()
    return [(int.from_bytes(hashed[start : start + 8], "big") >> 11) / 2**53 for start in range(0, 32, 8)]


def _text(seed: int, number: int, side: str) -> str:
    """A few words, different for every response."""
    length, *choices = _uniforms(seed, "text", str(number), side)
    words = [WORDS[int(choice * len(WORDS))] for choice in choices] * (1 + int(length * 3))
    return f"{' '.join(words)} {number}{side}"
