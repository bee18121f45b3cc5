"""Pairs of sentences that differ in one point of grammar, by phenomenon: the right one should be the likelier.

All texts are the project's own. They feed published numbers: neither a byte of the lists nor the order of draws may change.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from guerdon.alignment_tax.tasks import Choice

__all__ = ["minimal_pairs"]

PAIRS_PER_PHENOMENON: Final = 20
SENTENCE_ASK: Final = "Write one sentence."
PEOPLE: Final = ("teacher", "doctor", "farmer", "driver", "student", "painter", "lawyer", "singer", "baker", "writer")
THINGS: Final = ("book", "chair", "cup", "letter", "picture", "window", "coat", "basket", "table", "stone")
PLACES: Final = ("market", "station", "garden", "library", "school", "river", "bridge", "museum", "kitchen", "office")
PLACED: Final = ("near the window", "behind the gates", "next to the trees", "with the dogs", "from the villages")
STATES: Final = ("tired", "happy", "late", "hungry", "ready", "quiet", "angry", "busy", "old", "kind")
WALKS: Final = ("walk", "drive", "come", "return", "travel")
MEN: Final = ("king", "boy", "man", "father", "brother", "uncle", "prince", "husband", "grandfather", "actor")
WOMEN: Final = ("queen", "girl", "woman", "mother", "sister", "aunt", "princess", "wife", "grandmother", "actress")
NAMES: Final = ("Anna", "Peter", "Maria", "Thomas", "Julia", "David", "Laura", "Daniel", "Sarah", "Martin")
SELF: Final = ("saw", "hurt", "blamed", "admired", "described")
PARTICIPLES: Final = (
    ("written", "wrote", "the letter"), ("eaten", "ate", "the bread"), ("broken", "broke", "the cup"),
    ("taken", "took", "the train"), ("driven", "drove", "the car"), ("seen", "saw", "the film"),
    ("drunk", "drank", "the water"), ("stolen", "stole", "the coat"), ("forgotten", "forgot", "the name"),
    ("chosen", "chose", "the picture"),
)  # fmt: skip
OBJECTS: Final = (
    ("found", "slept"),
    ("carried", "arrived"),
    ("opened", "laughed"),
    ("repaired", "smiled"),
    ("bought", "fell"),
)
COUNTED: Final = ("books", "chairs", "people", "letters", "children")
POURED: Final = ("water", "money", "bread", "time", "milk")

Pair = tuple[str, str]
"""The right sentence and the wrong one."""


def minimal_pairs(seed: int = 0) -> list[Choice]:
    """Some 200 pairs of sentences, as in BLiMP (Warstadt et al. 2020, 1912.00582), by phenomenon."""
    rng = random.Random(f"minimal pairs {seed}")
    pairs: list[Choice] = []
    for phenomenon, draw in PHENOMENA.items():
        seen: set[Pair] = set()
        while len(seen) < PAIRS_PER_PHENOMENON:
            pair = draw(rng)
            if pair not in seen:
                seen.add(pair)
                pairs.append(Choice(phenomenon, "", pair[0], (pair[1],), SENTENCE_ASK))
    return pairs


def _agreement(rng: random.Random) -> Pair:
    person, verb, place = rng.choice(PEOPLE), rng.choice(WALKS), rng.choice(PLACES)
    plural = rng.random() < 0.5
    right, wrong = (verb, f"{verb}s") if plural else (f"{verb}s", verb)
    who = f"The {person}{'s' if plural else ''}"
    return f"{who} {right} to the {place} every day.", f"{who} {wrong} to the {place} every day."


def _agreement_at_a_distance(rng: random.Random) -> Pair:
    plural = rng.random() < 0.5
    right, wrong = ("are", "is") if plural else ("is", "are")
    who = f"The {rng.choice(PEOPLE)}{'s' if plural else ''} {rng.choice(PLACED)}"
    state = rng.choice(STATES)
    return f"{who} {right} {state}.", f"{who} {wrong} {state}."


def _determiner(rng: random.Random) -> Pair:
    name, item = rng.choice(NAMES), rng.choice(THINGS)
    (right, wrong), noun = rng.choice(
        [
            (("this", "these"), item),
            (("these", "this"), f"{item}s"),
            (("that", "those"), item),
            (("those", "that"), f"{item}s"),
        ]
    )
    place = rng.choice(PLACES)
    return f"{name} found {right} {noun} in the {place}.", f"{name} found {wrong} {noun} in the {place}."


def _anaphor_number(rng: random.Random) -> Pair:
    man, verb, place = rng.choice([man for man in MEN if man != "man"]), rng.choice(SELF), rng.choice(PLACES)
    who, right, wrong = rng.choice(((f"{man}s", "themselves", "himself"), (man, "himself", "themselves")))
    return f"At the {place} the {who} {verb} {right}.", f"At the {place} the {who} {verb} {wrong}."


def _anaphor_gender(rng: random.Random) -> Pair:
    who, right, wrong = rng.choice(((rng.choice(MEN), "himself", "herself"), (rng.choice(WOMEN), "herself", "himself")))
    verb, place = rng.choice(SELF), rng.choice(PLACES)
    return f"The {who} in the {place} {verb} {right}.", f"The {who} in the {place} {verb} {wrong}."


def _negation(rng: random.Random) -> Pair:
    person, place = rng.choice(PEOPLE), rng.choice(PLACES)
    verb = rng.choice(("been to", "seen", "liked", "visited", "left"))
    right, wrong = rng.choice((("No", "Every"), ("No", "Some"), ("No", "Each")))
    return f"{right} {person} has ever {verb} the {place}.", f"{wrong} {person} has ever {verb} the {place}."


def _participle(rng: random.Random) -> Pair:
    name = rng.choice(NAMES)
    right, wrong, what = rng.choice(PARTICIPLES)
    when = rng.choice(("already", "never", "just"))
    return f"{name} has {when} {right} {what}.", f"{name} has {when} {wrong} {what}."


def _object(rng: random.Random) -> Pair:
    name, item, place = rng.choice(NAMES), rng.choice(THINGS), rng.choice(PLACES)
    right, wrong = rng.choice(OBJECTS)
    return f"{name} {right} the {item} at the {place}.", f"{name} {wrong} the {item} at the {place}."


def _pronoun_case(rng: random.Random) -> Pair:
    name, (right, wrong) = (
        rng.choice(NAMES),
        rng.choice((("him", "he"), ("her", "she"), ("them", "they"), ("us", "we"), ("me", "I"))),
    )
    verb, place = rng.choice(("met", "saw", "called", "helped")), rng.choice(PLACES)
    return f"{name} {verb} {right} near the {place}.", f"{name} {verb} {wrong} near the {place}."


def _quantifier(rng: random.Random) -> Pair:
    place = rng.choice(PLACES)
    (right, wrong), noun = rng.choice(((("many", "much"), rng.choice(COUNTED)), (("much", "many"), rng.choice(POURED))))
    begin = "There was not" if right == "much" else "There were not"
    return f"{begin} {right} {noun} in the {place}.", f"{begin} {wrong} {noun} in the {place}."


def _tense(rng: random.Random) -> Pair:
    name, place = rng.choice(NAMES), rng.choice(PLACES)
    past, future = rng.choice(
        (("went", "will go"), ("walked", "will walk"), ("came", "will come"), ("drove", "will drive"))
    )
    when, right, wrong = rng.choice((("Yesterday", past, future), ("Tomorrow", future, past)))
    return f"{when} {name} {right} to the {place}.", f"{when} {name} {wrong} to the {place}."


PHENOMENA: Final[dict[str, Callable[[random.Random], Pair]]] = {
    "agreement": _agreement,
    "agreement at a distance": _agreement_at_a_distance,
    "determiner": _determiner,
    "number of a reflexive": _anaphor_number,
    "gender of a reflexive": _anaphor_gender,
    "negation": _negation,
    "participle": _participle,
    "object": _object,
    "case of a pronoun": _pronoun_case,
    "quantifier": _quantifier,
    "tense": _tense,
}
