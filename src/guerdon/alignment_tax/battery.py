"""Texts, sentences, sums and lists that a policy reads: what a language model could do before it was optimized, without a download.

All texts are the project's own. Lists made from templates depend on the seed only, so that all policies get the same. They feed
published numbers: neither a byte nor the order of draws may change.
"""

from __future__ import annotations

import random
from typing import Final

from guerdon.alignment_tax.tasks import Choice, Recall

__all__ = ["TEXTS", "TEXT_ASK", "arithmetic", "cloze", "copies"]

SUMS: Final = 80
COPIES: Final = 40
COPIED_WORDS: Final = 8

# ---- Whole texts -----------------------------------------------------------------------------------------------------

TEXT_ASK: Final = "Write a short text."
TEXTS: Final = (
    "The river rises in the hills behind the village and runs south for about forty miles before it meets the sea. In spring "
    "it floods the low meadows, and the farmers move their cattle to higher ground until the water has gone down again.",
    "To make a simple soup, cut two onions and a carrot into small pieces and cook them slowly in butter. Add a litre of water, "
    "a few potatoes and some salt. After half an hour everything is soft, and the soup can be eaten as it is or made smooth.",
    "She had not been back to the house for eleven years. The gate was still blue, and somebody had cut the hedge, but the key "
    "that she carried in her pocket no longer fitted the door. A dog barked once from inside and then was quiet.",
    "Light travels faster than sound, which is why we see a flash of lightning before we hear the thunder. By counting the "
    "seconds between the two, and dividing by three, one can say roughly how many kilometres away the storm is.",
    "The museum opens at ten in the morning and closes at six. Visitors may take photographs, but not with a flash, because "
    "strong light fades the colours of old paintings. Bags have to be left in the lockers next to the entrance.",
    "In the second half the home team played much better. They won the ball early, passed it quickly, and scored twice within "
    "five minutes. The visitors had one good chance near the end, but the goalkeeper pushed the shot over the bar.",
    "A library lends more than books. In many towns people can borrow tools, musical instruments, seeds and board games, and "
    "some libraries have rooms where children do their homework while their parents learn to use a computer.",
    "Prices rose by two per cent last year, a little less than economists had expected. Food became cheaper in the autumn, but "
    "rents went up in almost every large city. The central bank said that it would leave interest rates where they are.",
    "When a program reads a file, it should close it again, even if something goes wrong in between. Most languages offer a way "
    "to say this once, at the place where the file is opened, so that nobody can forget it later.",
    "The old man mended clocks in a narrow shop by the station. He knew each customer by the sound of their watch, he said, and "
    "it was true that he often reached for the right drawer before they had told him their name.",
    "Bees do not sleep through the winter. They form a tight ball around their queen and shiver to keep warm, taking turns on "
    "the cold outside. The honey that they stored during the summer is the fuel for this work.",
    "Thank you for your letter of the third of March. We are sorry that the chair arrived with a broken leg. A new one has been "
    "sent to your address today, and you do not need to return the first. Please write to us if there is anything else.",
    "The first bridge at this place was made of wood and burned down within ten years. The second, of stone, stood for four "
    "centuries and carried carts, armies and pilgrims. The present one is made of steel and carries mostly trams.",
    "Plants take in carbon dioxide through small openings in their leaves and give off oxygen. They need light for this, so it "
    "happens during the day. At night they breathe as we do, and use some of the sugar that they made.",
    "My sister wanted to learn the violin, and for a year the whole family suffered. Then, one evening, she played a slow tune "
    "from beginning to end without a mistake, and nobody in the kitchen said a word until it was over.",
    "If you miss the last bus, walk down to the harbour and ask for the night ferry. It is slower and it smells of fish, but it "
    "stops at every village along the coast, and the captain usually knows where people want to get off.",
    "The meeting began with a report on the budget. Two members asked why the new roof had cost more than planned, and the "
    "treasurer explained that the old beams had turned out to be rotten. The report was accepted without a vote.",
    "Snow fell all night, and in the morning the streets were silent. Children pulled sledges to the park, a few cars crept "
    "along the main road, and the woman at the bakery sold twice as many rolls as on any other Tuesday.",
    "A good map leaves things out. It shows the roads that a driver needs and forgets the footpaths; another, for walkers, does "
    "the opposite. Whoever draws a map has to decide first what it is for, and only then what to put on it.",
    "The patient was told to rest for a week, to drink plenty of water and to take one tablet after each meal. He felt better on "
    "the second day, went back to work on the third, and was in bed with a fever again on the fourth.",
    "Copper conducts electricity well and bends easily, which makes it useful for wires. Silver conducts even better, but it is "
    "too expensive for most purposes. Aluminium is lighter than both and is used for long lines between towns.",
    "Nobody knew who had painted the wall. In the evening it had been grey, and the next morning it showed a forest, with a deer "
    "between the trees and a small red bird that seemed to look at everyone who walked past.",
    "The train to the north leaves from platform four. It stops at the airport, where many people get on with large suitcases, "
    "and after that it does not stop for two hours. The restaurant car is at the front, behind the engine.",
    "Long before there were printed books, stories were learned by heart. A teller would sit near the fire and begin where the "
    "last evening had ended, and if a word was changed, the children noticed it and complained.",
)

# ---- Choices: the last word, sums --------------------------------------------------------------------------------------

_CLOZE: Final = {
    "capital": (
        ("The capital of France is", "Paris"), ("The capital of Italy is", "Rome"), ("The capital of Japan is", "Tokyo"),
        ("The capital of Germany is", "Berlin"), ("The capital of Egypt is", "Cairo"), ("The capital of Spain is", "Madrid"),
    ),
    "animal": (
        ("The animal that barks is the", "dog"), ("The animal that says meow is the", "cat"), ("Milk comes from the", "cow"),
        ("Wool comes from the", "sheep"), ("People ride on the back of a", "horse"), ("Eggs are laid by the", "hen"),
    ),
    "colour": (
        ("On a clear day the sky is", "blue"), ("In summer the grass is", "green"), ("Fresh snow is", "white"),
        ("Blood is", "red"), ("At night the sky is", "black"), ("A ripe banana is", "yellow"),
    ),
    "opposite": (
        ("The opposite of hot is", "cold"), ("The opposite of big is", "small"), ("The opposite of old is", "young"),
        ("The opposite of up is", "down"), ("The opposite of fast is", "slow"), ("The opposite of rich is", "poor"),
    ),
    "number": (
        ("A week has", "seven"), ("A hand has fingers, in number", "five"), ("One, two,", "three"),
        ("A cat has legs, in number", "four"), ("A year has months, in number", "twelve"), ("Nine comes before", "ten"),
    ),
    "tool": (
        ("He cut the bread with a", "knife"), ("She drove the nail in with a", "hammer"), ("They opened the lock with a", "key"),
        ("She swept the floor with a", "broom"), ("He ate the soup with a", "spoon"), ("She wrote her name with a", "pen"),
    ),
    "place": (
        ("Books are borrowed from the", "library"), ("Sick people are cared for in a", "hospital"), ("Planes land at the", "airport"),
        ("Children learn to read at", "school"), ("Money is kept in a", "bank"), ("Trains stop at the", "station"),
    ),
    "nature": (
        ("When water freezes it turns to", "ice"), ("The sun gives us", "light"), ("Bees make", "honey"),
        ("Trees are made of", "wood"), ("The sea is full of", "salt"), ("Where there is smoke there is", "fire"),
    ),
}  # fmt: skip


def cloze(seed: int = 0) -> list[Choice]:
    """Sentences whose last word everyone knows, against three words of the same kind."""
    rng = random.Random(f"cloze {seed}")
    choices = []
    for kind, items in _CLOZE.items():
        for context, word in items:
            others = rng.sample([other for _, other in items if other != word], 3)
            ask = f"Complete the sentence with one word: {context} ..."
            choices.append(Choice(kind, context, f" {word}", tuple(f" {other}" for other in others), ask))
    return choices


def arithmetic(seed: int = 0) -> list[Choice]:
    """Sums and differences of numbers up to 99 with results of one or two digits, against three near misses."""
    rng = random.Random(f"arithmetic {seed}")
    shown = "3 + 4 = 7\n20 + 15 = 35\n48 - 6 = 42\n"
    choices: list[Choice] = []
    seen: set[str] = set()
    while len(choices) < SUMS:
        a, b = rng.randint(1, 99), rng.randint(1, 99)
        sign = rng.choice("+-")
        result = a + b if sign == "+" else a - b
        if not 0 < result < 100 or f"{a} {sign} {b}" in seen:
            continue
        seen.add(f"{a} {sign} {b}")
        low, high = (1, 9) if result < 10 else (10, 99)  # the same number of digits: counting tokens gains nothing
        near = [
            n for n in dict.fromkeys(result + d for d in (1, -1, 10, -10, 2, -2, 11, -9, 3, -3)) if low <= n <= high
        ]
        wrong = tuple(f" {n}" for n in rng.sample(near, 3))
        ask = f"What is {a} {sign} {b}? Answer with the number only."
        kind = "sum" if sign == "+" else "difference"
        choices.append(Choice(kind, f"{shown}{a} {sign} {b} =", f" {result}", wrong, ask))
    return choices


# ---- Copying -----------------------------------------------------------------------------------------------------------

_COPIED: Final = (
    "apple river stone window music paper summer doctor garden silver winter bottle market bridge yellow engine island "
    "forest mirror button candle ticket planet rabbit tunnel pencil carpet harbour butter ladder basket cousin"
).split()


def copies(seed: int = 0) -> list[Recall]:
    """Lists of words in random order, and the same lists again: only the first tells the second."""
    rng = random.Random(f"copies {seed}")
    recalls = []
    for _ in range(COPIES):
        listed = ", ".join(rng.sample(_COPIED, COPIED_WORDS))
        recalls.append(Recall(f"List: {listed}.\nThe same list:", f" {listed}.", f"Repeat this list: {listed}."))
    return recalls
