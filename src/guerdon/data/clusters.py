"""Prompt groups that near-duplicate prompts connect, so that a split can keep them together."""

from __future__ import annotations

from array import array
from collections.abc import Mapping

import numpy as np

from guerdon.contracts import Comparison, prompt_identity
from guerdon.data.hashes import as_column, hash_parts
from guerdon.data.near_duplicates import NearDuplicates

__all__ = ["GroupClusters"]


class GroupClusters:
    """Collects comparisons, and says which groups belong together. 24 bytes for each comparison, and its new prompts."""

    def __init__(self) -> None:
        self._prompts = NearDuplicates()
        self._groups, self._keys, self._exact = array("Q"), array("Q"), array("Q")

    def add(self, comparison: Comparison) -> None:
        """Remember the comparison's group and prompt."""
        self._groups.append(hash_parts(comparison.group))
        self._keys.append(self._prompts.add(comparison.prompt))
        self._exact.append(hash_parts(prompt_identity(comparison.prompt)))

    def distinct_groups(self) -> tuple[np.ndarray, np.ndarray]:
        """The hash of each group, sorted, and the first row that has it."""
        groups, first = np.unique(as_column(self._groups), return_index=True)
        return groups, first

    def clusters(self) -> Mapping[int, int]:
        """Hash of a group -> the lowest hash in its cluster, for groups that near-duplicate prompts connect to others.

        An identical prompt in several groups connects none of them: whoever named the groups did so on purpose.
        """
        keys, components = self._prompts.components()
        columns = [as_column(column) for column in (self._groups, self._exact, self._keys)]
        distinct = np.unique(np.stack(columns, axis=1), axis=0) if self._groups else np.empty((0, 3), np.uint64)
        is_shared = _is_in_several_groups(distinct[:, 0], distinct[:, 1])
        linked = distinct[~is_shared]
        groups, position = np.unique(linked[:, 0], return_inverse=True)
        cluster = _connect(position, components[np.searchsorted(keys, linked[:, 2])], len(groups))
        first = np.full(len(groups), np.iinfo(np.uint64).max, np.uint64)
        np.minimum.at(first, cluster, groups)
        is_connected = np.bincount(cluster, minlength=len(groups))[cluster] > 1
        return dict(zip(groups[is_connected].tolist(), first[cluster][is_connected].tolist(), strict=True))


def _is_in_several_groups(groups: np.ndarray, prompts: np.ndarray) -> np.ndarray:
    """Which rows have a prompt that another group has too [n]."""
    pairs, inverse = np.unique(np.stack([prompts, groups], axis=1), axis=0, return_inverse=True)
    _, of_prompt, counts = np.unique(pairs[:, 0], return_inverse=True, return_counts=True)
    return np.asarray(counts[of_prompt][inverse.reshape(-1)] > 1)


def _connect(groups: np.ndarray, prompts: np.ndarray, n: int) -> np.ndarray:
    """The cluster of each of n groups, where row i says that a group has a prompt of a component."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, prompt_nodes = np.unique(prompts, return_inverse=True)
    size = n + (prompt_nodes.max() + 1 if len(prompt_nodes) else 0)
    graph = coo_array((np.ones(len(groups), np.int8), (groups, n + prompt_nodes)), shape=(size, size))
    return np.asarray(connected_components(graph, directed=False)[1][:n])
