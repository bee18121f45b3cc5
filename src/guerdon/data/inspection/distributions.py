"""What preference data look like: who judged what, how long texts are, which labels there are, as figures of shares."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain, pairwise
from typing import Final

import numpy as np

from guerdon.contracts import Curve
from guerdon.data.checks.contract import Check, Data, Row
from guerdon.data.hashes import as_column
from guerdon.data.inspection.histograms import (
    EDGES,
    LOW_EDGES,
    PROMPT_EDGES,
    SIGNED_EDGES,
    NameCounter,
    bars,
    name_bars,
    range_bars,
    range_of,
)
from guerdon.models.estimates import points_by_name

__all__ = ["Distributions", "label_of"]

WORD: Final = re.compile(r"\w+")
RATIOS: Final = (  # how much longer the longer one is, and the limit
    ("less than 10 %", 1.1),
    ("10 to 25 %", 1.25),
    ("25 to 50 %", 1.5),
    ("50 to 100 %", 2.0),
    ("2 to 4 times", 4.0),
    ("more", float("inf")),
)
LABELS: Final = (
    "first is better", "probably the first", "tie", "probably the second", "second is better", "ranking", "ranking with ties",
)  # fmt: skip
RESPONSES, COMPARISONS, PAIRS = "share of responses", "share of comparisons", "share of pairs"
MAX_SOURCES: Final = 12


def label_of(row: Row) -> str:
    """The kind of label that a comparison has, in words: one of LABELS."""
    q = row.comparison.q
    if q is None:
        ranks = row.comparison.ranks
        return "ranking" if len(set(ranks)) == len(ranks) else "ranking with ties"
    if q == 0.5:
        return "tie"
    side = "first" if q > 0.5 else "second"
    return f"{side} is better" if q in (0.0, 1.0) else f"probably the {side}"


class Distributions(Check):
    """Counts of everything that has a distribution. It finds no fault; its memory grows by 24 bytes a response."""

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self.sources, self.annotators, self.models = NameCounter(), NameCounter(), NameCounter()
        self.characters: Counter[int] = Counter()
        self.words: Counter[int] = Counter()
        self.difference: Counter[int] = Counter()
        self.longer: Counter[tuple[int, bool]] = Counter()
        self.turns: Counter[int] = Counter()
        self.responses: Counter[int] = Counter()
        self.labels: Counter[str] = Counter()
        self.soft: Counter[int] = Counter()
        self.strengths: Counter[float] = Counter()
        self.votes: Counter[int] = Counter()
        self.first_wins: dict[str, list[int]] = {}
        self._prompt, self._response = array("Q"), array("Q")

    def add(self, row: Row) -> None:
        """Count one comparison."""
        comparison = row.comparison
        self.sources.add(comparison.source or "not named")
        if comparison.annotator is not None:
            self.annotators.add(comparison.annotator)
        self.turns[range_of(len(comparison.prompt), LOW_EDGES)] += 1
        self.responses[range_of(len(comparison.responses), LOW_EDGES)] += 1
        self.labels[label_of(row)] += 1
        self._add_responses(row)
        self._add_preference(row)
        self._add_lengths(row)

    def _add_responses(self, row: Row) -> None:
        for response, hashed, length in zip(row.comparison.responses, row.responses, row.lengths, strict=True):
            self.characters[range_of(length, EDGES)] += 1
            self.words[range_of(len(WORD.findall(response.text)), EDGES)] += 1
            if response.author:
                self.models.add(response.author)
            self._prompt.append(row.exact_prompt)
            self._response.append(hashed)

    def _add_preference(self, row: Row) -> None:
        preference = row.comparison.preference
        if preference.votes is not None:
            self.votes[range_of(sum(preference.votes), LOW_EDGES)] += 1
        if preference.q not in (None, 0.0, 0.5, 1.0):
            self.soft[min(9, int(10 * (preference.q or 0.0)))] += 1
        if preference.strength is not None and (len(self.strengths) < 1000 or preference.strength in self.strengths):
            self.strengths[preference.strength] += 1
        if len(row.lengths) == 2 and row.pairs:
            source = row.comparison.source or "not named"
            if source in self.first_wins or len(self.first_wins) < 1000:
                wins = self.first_wins.setdefault(source, [0, 0])
                wins[0] += row.pairs[0][0] == 0
                wins[1] += 1

    def _add_lengths(self, row: Row) -> None:
        """Of two responses, or of the best and the worst."""
        if not row.pairs:
            return
        better, worse = row.pairs[0] if len(row.lengths) == 2 else (row.pairs[0][0], row.pairs[-1][1])
        a, b = row.lengths[better], row.lengths[worse]
        self.difference[range_of(a - b, SIGNED_EDGES)] += 1
        if a != b:
            ratio = max(a, b) / max(1, min(a, b))
            self.longer[
                next(i for i, (_, limit) in enumerate(RATIOS) if ratio < limit or i == len(RATIOS) - 1), a > b
            ] += 1

    # ---- Figures ---------------------------------------------------------------------------------------------------

    def curves(self) -> Mapping[str, Curve]:
        """Those that have more than one bar."""
        drawn = chain(self._length_curves(), self._label_curves(), self._origin_curves(), self._prompt_curves())
        return {name: curve for name, curve in drawn if len(curve.x) > 1}

    def _length_curves(self) -> Iterator[tuple[str, Curve]]:
        share = self.data.share
        yield (
            "characters",
            range_bars(self.characters, EDGES, share, "characters", RESPONSES, "Characters per response"),
        )
        yield "words", range_bars(self.words, EDGES, share, "words", RESPONSES, "Words per response")
        title = "Preferred minus other, in characters"
        yield "difference", range_bars(self.difference, SIGNED_EDGES, share, "characters", PAIRS, title)
        known = [i for i in range(len(RATIOS)) if self.longer[i, True] + self.longer[i, False]]
        wins = [share(self.longer[i, True], self.longer[i, True] + self.longer[i, False]) for i in known]
        yield (
            "longer_wins",
            points_by_name(
                [RATIOS[i][0] for i in known],
                wins,
                "longer by",
                "share in which the longer one is preferred",
                title="How often the longer one is preferred",
                caption="50 % at every difference if length does not matter.",
            ),
        )

    def _label_curves(self) -> Iterator[tuple[str, Curve]]:
        share = self.data.share
        labels = [(label, self.labels[label]) for label in LABELS if self.labels[label]]
        yield "labels", bars(labels, share, "label", COMPARISONS, "Labels")
        soft = [(f"{i / 10:.1f} to {(i + 1) / 10:.1f}", self.soft[i]) for i in range(10)] if self.soft else []
        yield "soft_labels", bars(soft, share, "P(first is better)", "share of soft labels", "Soft labels")
        yield "strengths", self._strength_curve()
        yield "votes", range_bars(self.votes, LOW_EDGES, share, "votes", COMPARISONS, "Votes per comparison")
        counts = sorted(self.first_wins.items(), key=lambda item: (-item[1][1], item[0]))[:MAX_SOURCES]
        yield (
            "position",
            points_by_name(
                [source for source, _ in counts],
                [share(*wins) for _, wins in counts],
                "source",
                "share in which the first is preferred",
                title="Position, by source",
                caption="50 % if the order of the responses means nothing.",
            ),
        )

    def _strength_curve(self) -> Curve:
        """By value, or by range where there are many values."""
        values = sorted(self.strengths)
        if len(values) > MAX_SOURCES:
            edges = [float(edge) for edge in np.quantile(values, np.linspace(0, 1, 9))]
            ends = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)]
            place = [min(7, max(0, int(np.searchsorted(edges, value, "right")) - 1)) for value in values]
            counts = Counter[int]()
            for i, value in zip(place, values, strict=True):
                counts[i] += self.strengths[value]
            rows = [(name, counts[i]) for i, name in enumerate(ends)]
        else:
            rows = [(f"{value:g}", self.strengths[value]) for value in values]
        return bars(rows, self.data.share, "strength", COMPARISONS, "Strength of the preference")

    def _origin_curves(self) -> Iterator[tuple[str, Curve]]:
        share = self.data.share
        yield "sources", name_bars(self.sources, share, "source", COMPARISONS, "Sources")
        yield "annotators", name_bars(self.annotators, share, "annotator", COMPARISONS, "Annotators")
        yield "models", name_bars(self.models, share, "model", RESPONSES, "Models that wrote the responses")

    def _prompt_curves(self) -> Iterator[tuple[str, Curve]]:
        share, prompts = self.data.share, "share of prompts"
        yield "turns", range_bars(self.turns, LOW_EDGES, share, "turns", COMPARISONS, "Turns of the prompt")
        title = "Responses in a comparison"
        yield "responses", range_bars(self.responses, LOW_EDGES, share, "responses", COMPARISONS, title)
        per_prompt = Counter(range_of(int(count), PROMPT_EDGES) for count in self.data.prompts[1])
        yield (
            "comparisons_per_prompt",
            range_bars(per_prompt, PROMPT_EDGES, share, "comparisons", prompts, "Comparisons per prompt"),
        )
        per_prompt = Counter(range_of(int(count), PROMPT_EDGES) for count in self._responses_per_prompt())
        title = "Different responses per prompt"
        yield "responses_per_prompt", range_bars(per_prompt, PROMPT_EDGES, share, "responses", prompts, title)

    def _responses_per_prompt(self) -> np.ndarray:
        """The number of different responses to each prompt."""
        prompt, response = as_column(self._prompt), as_column(self._response)
        order = np.lexsort((response, prompt))
        prompt, response = prompt[order], response[order]
        is_new = np.ones(len(prompt), dtype=bool)
        is_new[1:] = (prompt[1:] != prompt[:-1]) | (response[1:] != response[:-1])
        return np.unique(prompt[is_new], return_counts=True)[1]

    @property
    def num_different_responses(self) -> int:
        """Responses that differ, or answer different prompts."""
        return int(self._responses_per_prompt().sum())
