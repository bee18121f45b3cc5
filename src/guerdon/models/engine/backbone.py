"""Three ways to run a language model's backbone over texts, and which of them is right for this model.

`forest` computes unique tokens only; `cache` computes a shared beginning once and pads what follows; `padded` pads every row.
All give the hidden state at each text's last token. The fastest that agrees with padding on two small pairs is taken, on
the model's first use.

Axes: n texts, t tokens, h hidden size.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface

from guerdon.contracts import GuerdonError
from guerdon.models.directory import layout
from guerdon.models.engine import prefix_tree

log = logging.getLogger("guerdon")

Texts = Sequence[Int[np.ndarray, " t"]]
EXACT_LAYERS = {"full_attention", "sliding_attention"}  # what the forest's masks know
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}
# modules of a decoder layer, in the families' several names, that stand behind its attention and look at one token at a time
PER_TOKEN = ("mlp", "feed_forward", "self_attn.o_proj", "attention.dense", "attn.c_proj")


class Backbone:
    """The body of a language model, run over texts the fastest way that is exact for it."""

    def __init__(self, model: Any, *, is_encoder: bool = False) -> None:
        self.model = model
        self.mode = "padded" if is_encoder else ""
        self.native_attention = layout.attention_of(model)
        self.last_layer: _LastLayer | None = None
        self.allow_varlen = True  # False where torch's kernel was found to disagree
        self.seen_windows: set[int | None] = set()
        self.longrope_threshold = _rotary_turn(self.base_model.config)

    def choose_mode(self) -> str:
        """Name of the way in use; found out on first use."""
        if not self.mode:
            self.mode = self._fastest_exact()
        return self.mode

    def hidden_states(self, texts: Texts, since: Sequence[int] | None = None) -> Float[Tensor, "r h"]:
        """Hidden state at the last token of each text; or at its tokens from since[i] on, text after text."""
        short = [self.longrope_threshold is None or len(text) <= self.longrope_threshold for text in texts]
        if all(short) or not any(short):
            return self._run(texts, since)
        sizes = [1] * len(texts) if since is None else [len(t) - at for t, at in zip(texts, since, strict=True)]
        found: dict[int, Tensor] = {}
        for kind in (True, False):
            rows = [i for i, each in enumerate(short) if each == kind]
            states = self._run([texts[i] for i in rows], since and [since[i] for i in rows])
            found |= zip(rows, states.split([sizes[i] for i in rows]), strict=True)
        return torch.cat([found[i] for i in range(len(texts))])

    def _run(self, texts: Texts, since: Sequence[int] | None) -> Float[Tensor, "r h"]:
        way = self.choose_mode()
        turns = (
            self.longrope_threshold is not None and max(map(len, texts)) > self.longrope_threshold
        )  # after the keys of the beginning were made
        if way == "cache" and (turns or getattr(self.base_model, "gradient_checkpointing", False)):
            way = "padded"  # a layer that is computed again would find its cache already filled
        return {"prefix_tree": self.run_prefix_tree, "cache": self.run_cached, "padded": self.run_padded}[way](
            texts, since
        )

    def split_into_batches(self, texts: Texts, tokens: int) -> list[list[int]]:
        """Divide texts into passes of at most `tokens` computed tokens, but at least one text each."""
        if self.choose_mode() == "prefix_tree":
            return prefix_tree.batch_by_unique_tokens(texts, tokens)
        return (
            batch_by_prompt(texts, tokens) if self.mode == "cache" else batch_by_length(list(map(len, texts)), tokens)
        )

    def count_tokens(self, texts: Texts) -> int:
        """Tokens that one pass over these texts computes."""
        if self.choose_mode() == "prefix_tree":
            return prefix_tree.count_unique_tokens(texts)
        return cached_tokens(texts) if self.mode == "cache" else len(texts) * max(map(len, texts))

    def use_padding(self) -> None:
        """Pad rows from now on, with the model's own attention."""
        self.mode = "padded"
        if self.last_layer:
            self.last_layer.remove()
            self.last_layer = None
        self.set_attention(self.native_attention)

    def compile(self) -> None:
        """Let torch.compile fuse what lies between a layer's products, where the forest is the way in use.

        The last layer stays as it is: what it computes depends on what is read.
        """
        if self.choose_mode() != "prefix_tree":
            log.warning("train.compile: only models whose prompts are shared are compiled; this one runs %s", self.mode)
            return
        if self.device.type == "cpu":
            _refuse_without_compiler()
        AttentionInterface.register(prefix_tree.NAME, torch.compiler.disable(prefix_tree.attend))
        for layer in list(decoder_layers(self.base_model))[:-1]:
            layer.compile(dynamic=True)

    @property
    def base_model(self) -> Any:
        """The transformers model under the head."""
        return layout.unwrapped(self.model).base_model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device  # type: ignore[no-any-return]

    def run_prefix_tree(self, texts: Texts, since: Sequence[int] | None = None) -> Float[Tensor, "r h"]:
        """Unique tokens only, all in one row."""
        planted = prefix_tree.build_forest(
            texts, self.device, last=self.last_layer, since=since, varlen=self.allow_varlen
        )
        hidden = self.base_model(
            input_ids=planted.input_ids, position_ids=planted.position_ids, use_cache=False, forest=planted
        ).last_hidden_state[0]
        self.seen_windows = {key[0] for key in planted.plans}
        return hidden[planted.which if self.last_layer else planted.read]  # type: ignore[no-any-return]

    def run_cached(self, texts: Texts, since: Sequence[int] | None = None) -> Float[Tensor, "r h"]:
        """The beginning that all texts share once, then the rest as padded rows over its keys and values."""
        from transformers import DynamicCache

        shared = shared_by_all(texts, since)
        if not shared:
            return self.run_padded(texts, since)
        cache = DynamicCache(config=self.base_model.config)
        begin = torch.from_numpy(texts[0][None, :shared].astype(np.int64)).to(self.device)
        self.base_model(input_ids=begin, past_key_values=cache, use_cache=True)
        cache.batch_repeat_interleave(len(texts))
        ids, mask = pad([text[shared:] for text in texts], 0)
        ids, mask = ids.to(self.device), mask.to(self.device)
        hidden = self.base_model(
            input_ids=ids,
            attention_mask=torch.cat([mask.new_ones((len(ids), shared)), mask], 1),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return hidden[padded_positions([len(text) - shared for text in texts], since and [at - shared for at in since])]  # type: ignore[no-any-return]

    def run_padded(self, texts: Texts, since: Sequence[int] | None = None) -> Float[Tensor, "r h"]:
        """One right-padded row a text."""
        ids, mask = pad(texts, self.model.config.pad_token_id or 0)
        ids, mask = ids.to(self.device), mask.to(self.device)
        hidden = self.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        return hidden[padded_positions([len(text) for text in texts], since)]  # type: ignore[no-any-return]

    def _fastest_exact(self) -> str:
        if not _attends_only(self.base_model):
            log.debug("%s: layers with a state; rows are padded", type(self.base_model).__name__)
            return "padded"
        texts = _probe(self.base_model.config)
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            expected = self.run_padded(texts)
            if getattr(self.base_model, "_supports_attention_backend", False):
                self.set_attention(prefix_tree.NAME)
                if self._forest_agrees(texts, expected):
                    return "prefix_tree"
                self.allow_varlen = False
                if self._forest_agrees(texts, expected):
                    log.info(
                        "%s: attention runs without torch's variable-length kernel", type(self.base_model).__name__
                    )
                    return "prefix_tree"
                self.set_attention(self.native_attention)
            way = "padded"
            if self._agrees(self.run_cached, texts[:2], expected[:2]) and self._agrees(
                self.run_cached, texts[2:], expected[2:]
            ):
                way = "cache"
        log.warning(
            "%s cannot share the tokens of a prompt exactly; it runs %s, which is slower",
            type(self.base_model).__name__,
            "prompts through a cache" if way == "cache" else "padded",
        )
        return way

    def _forest_agrees(self, texts: Texts, expected: Tensor) -> bool:
        """Whether the forest is exact; its last layer computes what is read, or all where the body wants every token back."""
        self.last_layer = _LastLayer.of(self.base_model)
        if self.last_layer and self._agrees(self.run_prefix_tree, texts, expected):
            return True
        if self.last_layer:
            self.last_layer.remove()
            self.last_layer = None
        return self._agrees(self.run_prefix_tree, texts, expected)

    def _agrees(self, way: Callable[[Texts], Tensor], texts: Texts, expected: Tensor) -> bool:
        try:
            found = way(texts)
            if way == self.run_prefix_tree and _window(self.base_model.config) not in {None, *self.seen_windows}:
                raise NotImplementedError("the sliding window is not passed to the attention")
        except (
            TypeError,
            ValueError,
            RuntimeError,
            AttributeError,
            KeyError,
            IndexError,
            NotImplementedError,
        ) as error:
            log.debug("%s: %s", type(self.base_model).__name__, error)
            return False
        sound, near = expected.cpu().double(), TOLERANCE[expected.dtype]
        far = (found.cpu().double() - sound).norm(dim=1)
        apart = (sound - sound.mean(0)).norm(dim=1)  # what all texts have in common, often large, would hide a fault
        return bool((far <= near * apart).all())

    def set_attention(self, name: str) -> None:
        """Use the attention that transformers knows by this name."""
        layout.unwrapped(self.model).set_attn_implementation(name)


class _LastLayer:
    """Lets the last decoder layer compute, behind its keys and values, only the tokens that are read.

    `planted` is the forest that is being computed. The attention sets it again, so that a layer recomputed in the backward
    pass finds its own.
    """

    def __init__(self, body: nn.Module, layer: nn.Module, index: int) -> None:
        self.index = index
        self.planted: prefix_tree.Forest | None = None
        self.handles = [
            body.register_forward_pre_hook(self._enter, with_kwargs=True),
            layer.register_forward_hook(self._leave),
        ]
        for name in PER_TOKEN:
            try:
                module = layer.get_submodule(name)
            except AttributeError:
                continue
            self.handles += [
                module.register_forward_pre_hook(self._gather),
                module.register_forward_hook(self._scatter),
            ]

    @classmethod
    def of(cls, body: Any) -> _LastLayer | None:
        """For the last of the body's decoder layers, where they are a list of the expected length."""
        layers = decoder_layers(body)
        return cls(body, layers[-1], len(layers) - 1) if len(layers) else None

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self.handles:
            handle.remove()

    def _enter(self, body: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = kwargs.get("prefix_tree")
        self.planted = given if isinstance(given, prefix_tree.Forest) else None

    def _leave(self, layer: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if self.planted is None:
            return output
        if isinstance(output, tuple):
            return (output[0].index_select(1, self.planted.ends), *output[1:])
        return output.index_select(1, self.planted.ends)

    def _gather(self, module: nn.Module, args: tuple[Any, ...]) -> Any:
        if self.planted is None:
            return args
        return (args[0].index_select(1, self.planted.ends), *args[1:])

    def _scatter(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if self.planted is None:
            return output
        full = output.new_zeros((1, self.planted.tokens, output.shape[-1]))
        return full.index_copy(1, self.planted.ends, output)


def decoder_layers(body: Any) -> nn.ModuleList:
    """The body's one list of decoder layers; empty where it is built otherwise."""
    depth = getattr(body.config, "num_hidden_layers", 0)
    stacks = [m for m in body.children() if isinstance(m, nn.ModuleList) and len(m) == depth > 0]
    return stacks[0] if len(stacks) == 1 else nn.ModuleList()


def batch_by_length(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Divide row indices into batches of similar length whose padded size stays within `tokens`; longest first.

    Longest first, so that a batch that does not fit in memory fails at once.
    """
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= tokens:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def batch_by_prompt(texts: Texts, tokens: int) -> list[list[int]]:
    """Divide texts into batches that begin alike, where that computes fewer tokens, of at most `tokens` computed ones."""
    batches: list[list[int]] = []
    for i in prefix_tree.prefix_order(texts):
        joined = [texts[j] for j in batches[-1]] if batches else []
        cost = cached_tokens([*joined, texts[i]])
        if joined and cost <= min(tokens, cached_tokens(joined) + len(texts[i])):
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def cached_tokens(texts: Texts) -> int:
    """Tokens computed when what all texts share is computed once and the rest is padded."""
    shared = shared_by_all(texts)
    return shared + len(texts) * (max(map(len, texts)) - shared)


def shared_by_all(texts: Texts, since: Sequence[int] | None = None) -> int:
    """Tokens that all texts begin with and none is read at; 0 where they are few."""
    firsts = [len(text) - 1 for text in texts] if since is None else since
    shared = min(*firsts, *(prefix_tree.common_prefix_length(texts[0], text) for text in texts))
    return shared if shared >= prefix_tree.MIN_SHARED else 0


def padded_positions(
    lengths: Sequence[int], since: Sequence[int] | None = None
) -> tuple[Int[Tensor, " r"], Int[Tensor, " r"]]:
    """Row and column of each reading in rows padded on the right."""
    firsts = [size - 1 for size in lengths] if since is None else since
    rows = np.repeat(np.arange(len(lengths)), np.subtract(lengths, firsts))
    columns = np.concatenate([np.arange(first, size) for first, size in zip(firsts, lengths, strict=True)])
    return torch.from_numpy(rows), torch.from_numpy(columns)


def pad(rows: Texts, pad_id: int) -> tuple[Int[Tensor, "n t"], Int[Tensor, "n t"]]:
    """Right-padded ids and the mask of real tokens."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.from_numpy(row.astype(np.int64))
        mask[i, : len(row)] = 1
    return ids, mask


def _rotary_turn(config: Any) -> int | None:
    """Tokens beyond which the longest text of a pass changes the rotary embedding of all (longrope); None where none does.

    `dynamic` does so beyond max_position_embeddings only, which no text passes.
    """
    given = getattr(config, "rope_parameters", None) or {}
    each = given.values() if all(isinstance(value, dict) for value in given.values()) else [given]
    turns = [r.get("original_max_position_embeddings") for r in each if r.get("rope_type") == "longrope"]
    return min((int(turn) for turn in turns if turn), default=None)


def _attends_only(body: Any) -> bool:
    """Whether every layer is plain attention: a recurrent state cannot be shared between branches by masks."""
    kinds = set(getattr(body.config, "layer_types", None) or EXACT_LAYERS)
    return kinds <= EXACT_LAYERS and not getattr(body, "_is_stateful", False)


def _window(config: Any) -> int | None:
    """The sliding window that some layer must have been told of."""
    slides = "sliding_attention" in (getattr(config, "layer_types", None) or ["sliding_attention"])
    return getattr(config, "sliding_window", None) if slides else None


def _probe(config: Any) -> Texts:
    """Two pairs whose replies share a prompt, one of them longer than a sliding window of a small model."""
    draw = np.random.default_rng(0)
    first, second = (draw.integers(0, config.vocab_size, size) for size in (24, 11))
    replies = [draw.integers(0, config.vocab_size, size) for size in (7, 12, 5, 3)]
    return [np.concatenate([p, r]) for p, r in zip((first, first, second, second), replies, strict=True)]


def _refuse_without_compiler() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except Exception as error:  # torch has its own exception for this in each release
        raise GuerdonError(
            f"train.compile: no C++ compiler ({str(error).splitlines()[0]}); remedy: install g++, or train.compile=false"
        ) from None
