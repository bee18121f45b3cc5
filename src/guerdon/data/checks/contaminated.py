"""Prompts that public benchmarks, or evaluation files of the user, have too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from guerdon.contracts import Prompt
from guerdon.data.checks.contract import Data, Fault, Row, RowCheck
from guerdon.data.contamination import benchmarks_of
from guerdon.data.hashes import hash_parts
from guerdon.data.near_duplicates import ngram_hashes, prompt_words

__all__ = ["Contaminated"]

NGRAMS: Final = (8, 13)  # Lambert et al. 2024 (arXiv 2411.15124) use 8, Brown et al. 2020 (arXiv 2005.14165) use 13
COVERAGE: Final = 0.5  # share of an evaluation prompt's words in n-grams that the training prompt has too


class Contaminated(RowCheck):
    """The user turns of each prompt, looked up among the hashes of public benchmarks and compared with evaluation files."""

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self._evaluations = {name: _Evaluation(prompts) for name, prompts in data.evaluations.items()}

    def faults(self, row: Row) -> Iterator[Fault]:
        """One for each benchmark or file that has the prompt."""
        prompt = row.comparison.prompt
        turns = [text for message, text in zip(prompt, row.turns, strict=True) if message.role == "user"]
        for name in sorted({name for text in turns for name in benchmarks_of(text)}):
            yield _fault(name, f"have a prompt of {name}, ignoring case and spacing")
        words = prompt_words(prompt) if self._evaluations else []
        for name, evaluation in self._evaluations.items():
            if evaluation.holds(words):
                claim = f"have a prompt of {name}, or words in common with one: n-grams of 8 cover 50 % of it"
                yield _fault(name, claim)


class _Evaluation:
    """Evaluation prompts: a hash of each, and where each of their n-grams is."""

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        texts = [prompt_words(prompt) for prompt in prompts]
        self._whole = {hash_parts(" ".join(text)) for text in texts}
        self._lengths = np.array([len(text) for text in texts])
        self._tables = {n: _table([text if len(text) >= n else [] for text in texts], n) for n in NGRAMS}

    def holds(self, words: Sequence[str]) -> bool:
        """Whether a prompt equals one of them, or covers half of one with its n-grams."""
        if hash_parts(" ".join(words)) in self._whole:
            return True
        return any(len(words) >= n and self._is_covered(words, n) for n in NGRAMS)

    def _is_covered(self, words: Sequence[str], n: int) -> bool:
        grams, prompts, positions = self._tables[n]
        ours = np.unique(ngram_hashes([words], n)[0])
        first, last = np.searchsorted(grams, ours, "left"), np.searchsorted(grams, ours, "right")
        hits = np.concatenate(
            [np.arange(a, b) for a, b in zip(first, last, strict=True) if b > a] or [np.zeros(0, int)]
        )
        if not len(hits):
            return False
        covered = (positions[hits][:, None] + np.arange(n)).reshape(-1)
        words_covered = np.unique(np.stack([np.repeat(prompts[hits], n), covered], axis=1), axis=0)
        counts = np.bincount(words_covered[:, 0], minlength=len(self._lengths))
        return bool((counts >= COVERAGE * np.maximum(self._lengths, 1)).any())


def _table(texts: Sequence[Sequence[str]], n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All n-grams sorted, and for each its text and its first word."""
    kept = [(i, text) for i, text in enumerate(texts) if text]
    if not kept:
        empty = np.zeros(0, np.int64)
        return np.zeros(0, np.uint64), empty, empty
    grams, counts = ngram_hashes([text for _, text in kept], n)
    prompts = np.repeat(np.array([i for i, _ in kept]), counts)
    positions = np.concatenate([np.arange(count) for count in counts])
    order = np.argsort(grams, kind="stable")
    return grams[order], prompts[order], positions[order]


def _fault(name: str, claim: str) -> Fault:
    remedy = "Drop them (check --fix does), or do not report this benchmark: a model that saw it is not measured by it."
    return Fault("error", f"Contaminated with {name}", claim, remedy)
