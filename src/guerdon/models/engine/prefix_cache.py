"""Keys and values of texts that were computed before: a later text with the same beginning computes only what follows it.

The texts form a tree. A node holds the tokens that all texts below it go on with, and by layer their keys and values; it is
split where two texts part. When memory is short, the end of the text that was used the longest ago goes first.

Axes: t tokens of a node, g key heads, d head size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from guerdon.models.engine.prefix_tree import MIN_SHARED_TOKENS, Forest, Run, common_prefix_length

if TYPE_CHECKING:
    from guerdon.models.engine.backbone import Texts

KeysAndValues = Mapping[int, tuple[Float[Tensor, "t g d"], Float[Tensor, "t g d"]]]  # by layer


@dataclass(eq=False, slots=True)
class _Node:
    """Tokens in the tree. last_used: the pass that needed them last."""

    tokens: Int[np.ndarray, " t"]
    kv_by_layer: KeysAndValues
    parent: _Node | None
    last_used: int
    children: dict[int, _Node] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        return sum(x.nbytes for pair in self.kv_by_layer.values() for x in pair)


@dataclass(frozen=True, slots=True)
class Reused:
    """What is known of the texts of a pass: the earlier keys and values one after another, and per text the runs in them."""

    kv_by_layer: KeysAndValues | None
    runs: list[tuple[Run, ...]]


@dataclass(slots=True)
class CacheCounts:
    """Since the start: texts, those of which a beginning was known, their tokens, and those that were not computed again."""

    texts: int = 0
    hits: int = 0
    tokens: int = 0
    reused_tokens: int = 0


class PrefixCache:
    """Keys and values of at most max_bytes, for one model whose weights do not change. Of one thread."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self.counts = CacheCounts()
        self._root = _Node(np.empty(0, np.int32), {}, None, 0)
        self._pass = 0

    # ---- Before a pass ---------------------------------------------------------------------------------------------

    def find(self, texts: Texts) -> Reused:
        """The known beginnings of these texts, without the last token of each, whose state is to be read."""
        self._pass += 1
        offsets: dict[_Node, int] = {}
        size = 0
        runs: list[tuple[Run, ...]] = []
        for text in texts:
            path = list(self._walk(text, len(text) - 1))
            known = sum(shared for _, shared in path)
            if known < MIN_SHARED_TOKENS:
                path, known = [], 0
            for node, _ in path:
                if node not in offsets:
                    offsets[node], size = size, size + len(node.tokens)
            runs.append(tuple((offsets[node], offsets[node] + shared) for node, shared in path))
            self.counts.texts += 1
            self.counts.hits += known > 0
            self.counts.tokens += len(text)
            self.counts.reused_tokens += known
        if not offsets:
            return Reused(None, runs)
        layers = next(iter(offsets)).kv_by_layer
        return Reused({layer: self._joined(layer, offsets) for layer in layers}, runs)

    def _walk(self, text: Int[np.ndarray, " t"], most: int) -> Iterator[tuple[_Node, int]]:
        """The nodes along a text, and how many tokens of each are in it: all but in the last one. At most so many tokens."""
        node, at = self._root, 0
        while at < most and (child := node.children.get(int(text[at]))) is not None:
            shared = common_prefix_length(child.tokens, text[at:most])
            child.last_used = self._pass
            yield child, shared
            if shared < len(child.tokens):
                return
            node, at = child, at + shared

    def _joined(self, layer: int, nodes: Mapping[_Node, int]) -> tuple[Tensor, Tensor]:
        keys, values = zip(*(node.kv_by_layer[layer] for node in nodes), strict=True)
        return torch.cat(keys), torch.cat(values)

    # ---- After a pass ----------------------------------------------------------------------------------------------

    def add(self, texts: Texts, forest: Forest, kv_by_layer: KeysAndValues) -> None:
        """Keep what a pass computed: its keys and values by layer, of the forest's row."""
        for text, path in zip(texts, forest.paths, strict=True):
            row = np.concatenate([np.arange(*run) for run in path if run[0] < forest.num_tokens])
            self._insert(text, row, kv_by_layer)
        while self.num_bytes > self.max_bytes:
            self._drop_leaves()

    def _insert(self, text: Int[np.ndarray, " t"], row: Int[np.ndarray, " n"], kv_by_layer: KeysAndValues) -> None:
        """Add a text of whose last n tokens the positions in the row are given; the tokens before them are known."""
        node, known = self._root, 0
        for child, shared in list(self._walk(text, len(text))):
            known += shared
            node = child if shared == len(child.tokens) else self._split(child, shared)
        if known == len(text):
            return
        index = torch.from_numpy(row[known - len(text) :]).to(next(iter(kv_by_layer.values()))[0].device)
        kept = {layer: (k.index_select(0, index), v.index_select(0, index)) for layer, (k, v) in kv_by_layer.items()}
        leaf = _Node(text[known:].copy(), kept, node, self._pass)
        node.children[int(text[known])] = leaf
        self.num_bytes += leaf.num_bytes

    def _split(self, node: _Node, at: int) -> _Node:
        """Divide a node before its token `at`; returns the upper part. Each part has memory of its own."""
        parent = node.parent
        assert parent is not None
        upper = _Node(node.tokens[:at].copy(), _part(node.kv_by_layer, 0, at), parent, node.last_used)
        parent.children[int(node.tokens[0])] = upper
        upper.children[int(node.tokens[at])] = node
        node.kv_by_layer = _part(node.kv_by_layer, at, len(node.tokens))
        node.tokens, node.parent = node.tokens[at:].copy(), upper
        return upper

    def _drop_leaves(self) -> None:
        """Drop ends of texts, the longest unused first, until the rest fits or only nodes with children are left."""
        leaves = [node for node in self._nodes() if not node.children]
        for leaf in sorted(leaves, key=lambda node: node.last_used):
            if self.num_bytes <= self.max_bytes:
                return
            assert leaf.parent is not None
            del leaf.parent.children[int(leaf.tokens[0])]
            self.num_bytes -= leaf.num_bytes

    def _nodes(self) -> Iterator[_Node]:
        pending: list[_Node] = list(self._root.children.values())
        while pending:
            node = pending.pop()
            yield node
            pending += node.children.values()


def _part(kv_by_layer: KeysAndValues, start: int, stop: int) -> KeysAndValues:
    return {layer: (k[start:stop].clone(), v[start:stop].clone()) for layer, (k, v) in kv_by_layer.items()}
