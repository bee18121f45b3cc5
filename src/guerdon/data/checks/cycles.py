"""Votes about one prompt that form a circle: a is better than b, b than c, and c than a."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import pairwise
from typing import ClassVar

import numpy as np

from guerdon.contracts import Estimate, Finding, Quantity
from guerdon.data.checks.contract import SECTION, Check, Data, Row
from guerdon.data.hashes import as_column, mixed
from guerdon.errors import counted, verb
from guerdon.models.estimates import percent

__all__ = ["Cycles"]


class Cycles(Check):
    """Strongly connected components of the majority graph of each prompt (Condorcet cycles). 36 bytes for each pair.

    A ranking of several responses counts by its neighbors: each response beats the next one below it.
    """

    quantities: ClassVar[Mapping[str, Quantity]] = {
        "cyclic_prompts": Quantity(
            "prompts with cyclic preferences", "share", SECTION, "of prompts whose votes could form a cycle"
        ),
    }

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self._prompts, self._better, self._worse, self._votes = array("Q"), array("Q"), array("Q"), array("f")
        self._rows = array("Q")

    def add(self, row: Row) -> None:
        """Remember who beat whom, and by how much."""
        if not row.pairs:
            return
        comparison, hashes = row.comparison, row.responses
        margin = 1.0 if comparison.q is None else abs(2 * comparison.q - 1)
        ranked = [i for group in comparison.preference.groups or () for i in group]
        neighbors = row.pairs if len(hashes) == 2 else pairwise(ranked)
        for i, j in neighbors:
            if row.ranks[i] != row.ranks[j]:
                self._prompts.append(row.exact_prompt)
                self._better.append(hashes[i])
                self._worse.append(hashes[j])
                self._votes.append(margin)
                self._rows.append(row.number)

    def findings(self) -> Iterator[Finding]:
        """A note: people who judge different pairs of three need not agree."""
        cyclic, possible, numbers = self._cycles
        if cyclic:
            share = percent(self.data.share(cyclic, possible))
            claim = f"{cyclic:,} of {counted(possible, 'prompt')} whose votes could form a cycle {verb(cyclic, 'have')} one ({share})"
            remedy = "No score can satisfy them: collect more votes there."
            yield Finding("note", "Cyclic preferences", self.data.cite(claim, numbers), remedy)

    def estimates(self) -> Mapping[str, Estimate]:
        """Of prompts where as many pairs were judged as there are responses, or more."""
        cyclic, possible, _ = self._cycles
        return {"cyclic_prompts": self.data.share(cyclic, possible)} if possible else {}

    @cached_property
    def _cycles(self) -> tuple[int, int, list[int]]:
        """Prompts with a cycle, prompts where one is possible, and the rows of cycles, those of a prompt together."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        of_pair = as_column(self._prompts)
        better, worse = (mixed(of_pair + mixed(as_column(column))) for column in (self._better, self._worse))
        nodes, ends = np.unique(np.concatenate([better, worse]), return_inverse=True)
        if not len(nodes):
            return 0, 0, []
        first, second = ends[: len(better)], ends[len(better) :]
        low, high = np.minimum(first, second), np.maximum(first, second)
        margins = np.where(first < second, 1.0, -1.0) * as_column(self._votes)
        pairs, row, inverse = np.unique(np.stack([low, high], axis=1), axis=0, return_index=True, return_inverse=True)
        of_row = inverse.reshape(-1)  # the pair that each row judges
        majority = np.bincount(of_row, margins)
        prompts = of_pair[row]
        sources, targets = (np.where(majority > 0, pairs[:, i], pairs[:, 1 - i])[majority != 0] for i in (0, 1))
        shape = (len(nodes), len(nodes))
        graph = coo_array((np.ones(len(sources), np.int8), (sources, targets)), shape=shape)
        component = connected_components(graph, directed=True, connection="strong")[1]
        is_cyclic = component[pairs[:, 0]] == component[pairs[:, 1]]
        _, of_prompt, num_pairs = np.unique(prompts, return_inverse=True, return_counts=True)
        ends_of_prompt = np.unique(np.stack([np.tile(of_prompt, 2), pairs.T.reshape(-1)], axis=1), axis=0)
        num_responses = np.bincount(ends_of_prompt[:, 0], minlength=len(num_pairs))
        possible = (num_pairs >= num_responses) & (num_responses >= 3)
        cyclic = np.bincount(of_prompt, is_cyclic, minlength=len(num_pairs)) > 0
        is_cited = (is_cyclic & (cyclic & possible)[of_prompt])[of_row] & (margins * majority[of_row] > 0)
        order = np.lexsort((np.arange(len(of_row)), of_prompt[of_row]))
        cited = dict.fromkeys(as_column(self._rows)[order[is_cited[order]]].tolist())
        return int(np.sum(cyclic & possible)), int(possible.sum()), list(cited)
