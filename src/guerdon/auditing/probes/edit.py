"""What an edit is: a named operator on an answer, the draft that it sees, and what other prompts' answers offer it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Literal, TypeVar

from guerdon.auditing.probes import prose
from guerdon.auditing.probes.lexicon import NAMES
from guerdon.contracts import digest

__all__ = ["Corpus", "Draft", "Edit", "Kind", "Operator", "is_name"]

SAME_LENGTH = 0.02  # share of the text
SHORT_WORD = 4  # characters: " not", in a text of which 2 % is less than a word

Kind = Literal[
    "length", "format", "certainty", "manner", "gaming", "instead", "person", "substance", "wreck", "placebo"
]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Corpus:
    """What other prompts' answers contain.

    answers, sentences: (length, group, text), shortest first. names: by kind. words: every word that occurs in lower case.
    """

    answers: tuple[tuple[int, str, str], ...] = ()
    sentences: tuple[tuple[int, str, str], ...] = ()
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    words: frozenset[str] = frozenset()

    @staticmethod
    def of(answers: Iterable[tuple[str, str]]) -> Corpus:
        """From (group, text) pairs."""
        answers = sorted(set(answers))
        names: dict[str, set[str]] = {}
        sentences = set()
        words = frozenset(word for _, text in answers for word in prose.WORD.findall(text) if word.islower())
        for group, text in answers:
            sentences |= {(stop - start, group, text[start:stop]) for start, stop in prose.full_sentences(text)}
            for start, stop, kind in prose.names(text):
                if is_name(text[start:stop], kind, words):
                    names.setdefault(kind, set()).add(text[start:stop])
        return Corpus(
            tuple(sorted((len(text), group, text) for group, text in answers)),
            tuple(sorted(sentences)),
            {kind: tuple(sorted(some)) for kind, some in sorted(names.items())},
            words,
        )


def is_name(name: str, kind: str, words: frozenset[str]) -> bool:
    """Whether a capitalized word is a name: of a known kind, or never in lower case among these words."""
    return (
        kind in NAMES
        or (name.isalpha() and name.lower() not in words)
        or (" " in name and name.replace(" ", "").isalpha())
    )


@dataclass(frozen=True, slots=True)
class Draft:
    """What an edit sees: the answer, the last turn of its prompt, other prompts' answers, a dose, and its random numbers."""

    text: str
    prompt: str
    group: str
    corpus: Corpus
    dose: int
    random: Random

    def shuffled(self, items: Iterable[Item]) -> list[Item]:
        """The items in an order that the seed chooses."""
        mixed = list(items)
        self.random.shuffle(mixed)
        return mixed


Edit = Callable[[Draft], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Operator:
    """An edit of an answer: a pure function of the text and a seed, None where it does not apply.

    label: what it does to an answer, as a noun phrase for the report.
    edit: yields candidates, best first; the first that differs from the text and may have its length is taken.
    kind: the family; "instead" replaces the answer, "wreck" is an error so gross, or so unequal in length, that it says
        little about whether errors are seen.
    lowers: whether the edit does make an answer worse, so that only a gain is a fault.
    keeps_length: within 2 % or one short word, so that a model that counts characters gains nothing by it.
    before: gives the text that the edited one is compared with, where that is not the answer itself (the same opening with
        another group of people, say).
    """

    name: str
    label: str
    edit: Edit
    kind: Kind
    lowers: bool = False
    keeps_length: bool = False
    before: Edit | None = None

    def __call__(
        self,
        text: str,
        prompt: str = "",
        corpus: Corpus | None = None,
        *,
        group: str = "",
        seed: int = 0,
        dose: int = 1,
    ) -> str | None:
        """The edited text; None where the edit does not apply. dose: the number of copies, where copies make sense."""
        draft = Draft(text, prompt, group, corpus or Corpus(), dose, self._random(text, seed))
        return self._first(self.edit, draft)

    def baseline(self, text: str, *, seed: int = 0) -> str | None:
        """What the edited text is compared with: the text itself, or what `before` makes of it."""
        if self.before is None:
            return text
        return self._first(self.before, Draft(text, "", "", Corpus(), 1, self._random(text, seed)))

    def _random(self, text: str, seed: int) -> Random:
        return Random(int(digest([seed, self.name, text]), 16))

    def _first(self, edit: Edit, draft: Draft) -> str | None:
        size = len(draft.text)
        most = max(SHORT_WORD, SAME_LENGTH * size) if self.keeps_length else float("inf")
        for candidate in edit(draft):
            if candidate != draft.text and abs(len(candidate) - size) <= most:
                return candidate
        return None
