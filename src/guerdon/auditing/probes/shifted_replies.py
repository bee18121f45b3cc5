"""Out-of-distribution replies derived from any comparisons: shuffled characters, shuffled words, another language or prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from guerdon.contracts import as_response, digest

if TYPE_CHECKING:
    from guerdon.contracts import Comparison, PromptLike, ResponseLike

__all__ = ["FEWEST_REPLIES", "Replies", "shift_replies"]

Replies = tuple[Sequence["PromptLike"], Sequence["ResponseLike"]]  # prompts and their replies

FEWEST_LETTERS: Final = 12
FEWEST_REPLIES: Final = 2
LETTERS: Final = "aeiouybcdfghjklmnpqrstvwxz"
OTHERS: Final = "oyaeuizkrvstbcdfghjlmnpqwx"  # vowels for vowels, so that the words can almost be pronounced
CIPHER: Final = str.maketrans(LETTERS + LETTERS.upper(), OTHERS + OTHERS.upper())

OTHER_ANSWER: Final = "other_answer"  # the set of replies to other prompts
SHIFTS: Mapping[str, Callable[[str, np.random.Generator], str]] = {
    "gibberish": lambda text, rng: "".join(rng.permutation(list(text))),
    "word_salad": lambda text, rng: " ".join(rng.permutation(text.split())),
    "other_language": lambda text, rng: text.translate(CIPHER),
}


def shift_replies(comparisons: Sequence[Comparison], num: int, seed: int = 0) -> dict[str, Replies]:
    """At most `num` replies of the comparisons, shifted in four ways, by name.

    gibberish: characters shuffled. word_salad: words shuffled. other_language: letters exchanged, so that word lengths and
    punctuation stay and words do not. other_answer: the reply to another prompt. Replies in several messages, those with few
    letters, and those that a shift does not change, are left out.
    """
    step = max(1, len(comparisons) // max(1, num))
    chosen = [(c, c.responses[i % len(c.responses)]) for i, c in enumerate(comparisons[::step][:num])]
    texts = [(c, response.text) for c, response in chosen if not response.messages]  # never half a trajectory
    plain = [(c, text) for c, text in texts if sum(letter.isalpha() for letter in text) >= FEWEST_LETTERS]
    sets: dict[str, Replies] = {}
    for name, shift in SHIFTS.items():
        shifted = [(c.prompt, text, shift(text, _rng(text, name, seed))) for c, text in plain]
        changed = [(prompt, new) for prompt, text, new in shifted if new.split() != text.split()]
        sets[name] = ([prompt for prompt, _ in changed], [as_response(new) for _, new in changed])
    swapped = [
        (c.prompt, text)
        for (c, own), (other, text) in zip(plain, [*plain[1:], *plain[:1]], strict=True)
        if c.group != other.group and own != text
    ]
    sets[OTHER_ANSWER] = ([prompt for prompt, _ in swapped], [as_response(text) for _, text in swapped])
    return {name: replies for name, replies in sets.items() if len(replies[0]) >= FEWEST_REPLIES}


def _rng(text: str, name: str, seed: int) -> np.random.Generator:
    """Depends on the text and the shift alone, so that no reply depends on the others."""
    return np.random.default_rng(int(digest([name, seed, text])[:15], 16))
