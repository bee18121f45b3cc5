"""Runs a language model's backbone over texts in the fastest mode that is exact for it.

`prefix_tree` computes unique tokens only. `cache` computes the prefix that all texts share once, as a KV cache, and pads the rest.
`padded` pads every row. All return the same hidden states up to rounding, but not every family can run the first two: some
attend in ways that the tree's attention does not know. So on first use a guard runs two small groups of texts, and takes the
fastest mode that agrees with `padded`.

Axes: n texts, t tokens, h hidden size, r hidden states returned, text after text.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface

from guerdon.contracts import GuerdonError
from guerdon.models.engine import prefix_tree, tree_attention
from guerdon.models.engine.modules import attention_name, decoder_layers, unwrap_peft
from guerdon.models.engine.prefix_cache import PrefixCache

log = logging.getLogger("guerdon")

Texts = Sequence[Int[np.ndarray, " t"]]  # token ids of each text
Mode = Literal["prefix_tree", "cache", "padded"]

SUPPORTED_LAYERS = {"full_attention", "sliding_attention"}  # kinds of layer that can share a prefix
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}
# submodules of a decoder layer, by their names in several families, that follow attention and treat each token by itself
PER_TOKEN = ("mlp", "feed_forward", "self_attn.o_proj", "attention.dense", "attn.c_proj")


class Backbone:
    """A language model without its head, run over texts in the fastest mode that is exact for it.

    mode: None until the guard has chosen.
    native_attention: the attention implementation that the model was loaded with.
    last_layer: the last decoder layer where it computes its queries at the output positions only, else None.
    allow_varlen: whether torch's variable-length kernel may be used; False where it was found to disagree.
    prefix_cache: keys and values that are kept from pass to pass, for weights that do not change; None keeps none.
    longrope_threshold: tokens beyond which a text changes the rotary embedding of its whole pass; None where none does.
    """

    def __init__(self, model: Any, *, is_encoder: bool = False) -> None:
        self.model = model
        self.mode: Mode | None = "padded" if is_encoder else None
        self.native_attention = attention_name(model)
        self.last_layer: _OutputOnlyLayer | None = None
        self.allow_varlen = True
        self.seen_windows: set[int | None] = set()
        self.prefix_cache: PrefixCache | None = None
        self.longrope_threshold = _longrope_threshold(self.base_model.config)

    @property
    def base_model(self) -> Any:
        """The transformers model under the head."""
        return unwrap_peft(self.model).base_model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device  # type: ignore[no-any-return]

    # ---- Running ---------------------------------------------------------------------------------------------------

    def hidden_states(self, texts: Texts, read_from: Sequence[int] | None = None) -> Float[Tensor, "r h"]:
        """Hidden state at the last token of each text; or at its tokens from read_from[i] on.

        Texts on both sides of the longrope threshold run in two passes, so that none depends on the others' lengths.
        """
        is_short = [self.longrope_threshold is None or len(text) <= self.longrope_threshold for text in texts]
        if all(is_short) or not any(is_short):
            return self._run(texts, read_from)
        sizes = [1] * len(texts) if read_from is None else [len(t) - at for t, at in zip(texts, read_from, strict=True)]
        states_by_row: dict[int, Tensor] = {}
        for side in (True, False):
            rows = [i for i, short in enumerate(is_short) if short == side]
            states = self._run([texts[i] for i in rows], read_from and [read_from[i] for i in rows])
            states_by_row |= zip(rows, states.split([sizes[i] for i in rows]), strict=True)
        return torch.cat([states_by_row[i] for i in range(len(texts))])

    def _run(self, texts: Texts, read_from: Sequence[int] | None) -> Float[Tensor, "r h"]:
        mode = self.choose_mode()
        # the cache would hold keys of the short rotary factors, and its queries the long ones
        passes_threshold = self.longrope_threshold is not None and max(map(len, texts)) > self.longrope_threshold
        if mode == "cache" and (passes_threshold or getattr(self.base_model, "gradient_checkpointing", False)):
            mode = "padded"  # a layer recomputed in the backward pass would find its cache already filled
        run = {"prefix_tree": self.run_prefix_tree, "cache": self.run_cached, "padded": self.run_padded}[mode]
        return run(texts, read_from)

    def run_prefix_tree(
        self,
        texts: Texts,
        read_from: Sequence[int] | None = None,
        *,
        kv_by_layer: dict[int, tuple[Tensor, Tensor]] | None = None,
    ) -> Float[Tensor, "r h"]:
        """One row of unique tokens. `kv_by_layer`, where given, receives each layer's keys and values of the row."""
        cache = self.prefix_cache
        if cache is not None and read_from is None and kv_by_layer is None and not torch.is_grad_enabled():
            return self._run_with_earlier_keys(texts, cache)
        return self._run_forest(prefix_tree.build_forest(texts, self.device, read_from=read_from), kv_by_layer)

    def _run_forest(
        self,
        forest: prefix_tree.Forest,
        kv_by_layer: dict[int, tuple[Tensor, Tensor]] | None = None,
        earlier: Mapping[int, tuple[Tensor, Tensor]] | None = None,
    ) -> Float[Tensor, "r h"]:
        attention = tree_attention.ForestAttention(forest, self.last_layer, self.allow_varlen, kv_by_layer, earlier)
        hidden = self.base_model(
            input_ids=forest.input_ids, position_ids=forest.position_ids, use_cache=False, attention_layout=attention
        ).last_hidden_state[0]
        self.seen_windows = attention.windows
        return hidden[forest.output_index if self.last_layer else forest.read_positions]  # type: ignore[no-any-return]

    def _run_with_earlier_keys(self, texts: Texts, cache: PrefixCache) -> Float[Tensor, "r h"]:
        """As a prefix tree, of which the tokens that are in the cache are not computed again; the others go into it."""
        reused = cache.find(texts)
        forest = prefix_tree.build_forest(texts, self.device, known=reused.runs)
        kv_by_layer: dict[int, tuple[Tensor, Tensor]] = {}
        hidden = self._run_forest(forest, kv_by_layer, reused.kv_by_layer)
        cache.add(texts, forest, kv_by_layer)
        return hidden

    def run_cached(self, texts: Texts, read_from: Sequence[int] | None = None) -> Float[Tensor, "r h"]:
        """The prefix that all texts share once, then the rest as padded rows over its KV cache."""
        from transformers import DynamicCache

        shared = shared_prefix_length(texts, read_from)
        if not shared:
            return self.run_padded(texts, read_from)
        cache = DynamicCache(config=self.base_model.config)
        prefix = torch.from_numpy(texts[0][None, :shared].astype(np.int64)).to(self.device)
        self.base_model(input_ids=prefix, past_key_values=cache, use_cache=True)
        cache.batch_repeat_interleave(len(texts))
        ids, mask = pad([text[shared:] for text in texts], 0)
        ids, mask = ids.to(self.device), mask.to(self.device)
        hidden = self.base_model(
            input_ids=ids,
            attention_mask=torch.cat([mask.new_ones((len(ids), shared)), mask], 1),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        firsts = read_from and [at - shared for at in read_from]
        return hidden[padded_positions([len(text) - shared for text in texts], firsts)]  # type: ignore[no-any-return]

    def run_padded(self, texts: Texts, read_from: Sequence[int] | None = None) -> Float[Tensor, "r h"]:
        """One right-padded row per text."""
        ids, mask = pad(texts, self.model.config.pad_token_id or 0)
        ids, mask = ids.to(self.device), mask.to(self.device)
        hidden = self.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        return hidden[padded_positions([len(text) for text in texts], read_from)]  # type: ignore[no-any-return]

    # ---- What a pass costs -----------------------------------------------------------------------------------------

    def split_into_batches(self, texts: Texts, max_tokens: int) -> list[list[int]]:
        """Divide texts into passes that compute at most max_tokens tokens, at least one text each."""
        mode = self.choose_mode()
        if mode == "prefix_tree":
            return prefix_tree.batch_by_unique_tokens(texts, max_tokens)
        if mode == "cache":
            return batch_by_shared_prefix(texts, max_tokens)
        return batch_by_length(list(map(len, texts)), max_tokens)

    def count_tokens(self, texts: Texts) -> int:
        """Tokens that one pass over these texts computes, padding included."""
        mode = self.choose_mode()
        if mode == "prefix_tree":
            return prefix_tree.count_unique_tokens(texts)
        return count_cached_tokens(texts) if mode == "cache" else len(texts) * max(map(len, texts))

    # ---- The mode --------------------------------------------------------------------------------------------------

    def choose_mode(self) -> Mode:
        """The mode in use; the guard chooses it on first use."""
        if self.mode is None:
            self.mode = self._fastest_exact_mode()
        return self.mode

    def use_padding(self) -> None:
        """Run padded rows from now on, with the model's own attention."""
        self.mode = "padded"
        self._compute_last_layer_in_full()
        self.set_attention(self.native_attention)

    def keep_prefixes(self, max_bytes: int) -> bool:
        """Keep keys and values of up to so many bytes from pass to pass; returns whether this model can.

        The weights must not change from then on. Where the guard finds that the states differ, nothing is kept.
        """
        self.prefix_cache = None
        if self.choose_mode() != "prefix_tree" or self.longrope_threshold is not None or max_bytes <= 0:
            return False
        texts = _probe_texts(self.base_model.config)
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            expected = self.run_prefix_tree(texts)
            self.prefix_cache = PrefixCache(max_bytes)
            is_exact = all(self._agrees(self.run_prefix_tree, texts[i:], expected[i:]) for i in (1, 0))
        self.prefix_cache = PrefixCache(max_bytes) if is_exact else None
        return is_exact

    def compile(self) -> None:
        """Let torch.compile fuse the work between a layer's products, in prefix_tree mode only.

        The last layer is not compiled: what it computes depends on which positions are read.
        """
        if self.choose_mode() != "prefix_tree":
            log.warning(
                "train.compile is ignored: only prefix_tree mode is compiled, this model runs in %s mode", self.mode
            )
            return
        if self.device.type == "cpu":
            _require_compiler()
        AttentionInterface.register(
            tree_attention.ATTENTION_NAME, torch.compiler.disable(tree_attention.layout_attention)
        )
        for layer in list(decoder_layers(self.base_model))[:-1]:
            layer.compile(dynamic=True)

    def set_attention(self, name: str) -> None:
        """Use the attention implementation that transformers knows by this name."""
        unwrap_peft(self.model).set_attn_implementation(name)

    def _fastest_exact_mode(self) -> Mode:
        name = type(self.base_model).__name__
        if not _has_only_attention(self.base_model):
            log.debug("%s has recurrent layers: rows are padded", name)
            return "padded"
        texts = _probe_texts(self.base_model.config)
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            expected = self.run_padded(texts)
            if getattr(self.base_model, "_supports_attention_backend", False):
                self.set_attention(tree_attention.ATTENTION_NAME)
                if self._prefix_tree_agrees(texts, expected):
                    return "prefix_tree"
                self.allow_varlen = False
                if self._prefix_tree_agrees(texts, expected):
                    log.info("%s: torch's variable-length attention disagrees and is not used", name)
                    return "prefix_tree"
                self.set_attention(self.native_attention)
            is_cache_exact = self._agrees(self.run_cached, texts[:2], expected[:2]) and self._agrees(
                self.run_cached, texts[2:], expected[2:]
            )
        mode: Mode = "cache" if is_cache_exact else "padded"
        log.warning(
            "%s cannot share the tokens of a prompt exactly; it runs with %s, which is slower",
            name,
            "a KV cache per prompt" if mode == "cache" else "padded rows",
        )
        return mode

    def _prefix_tree_agrees(self, texts: Texts, expected: Tensor) -> bool:
        """Whether the tree is exact, with a last layer that computes output positions only or else with a full one."""
        self.last_layer = _OutputOnlyLayer.of(self.base_model)
        if self.last_layer and self._agrees(self.run_prefix_tree, texts, expected):
            return True
        self._compute_last_layer_in_full()
        return self._agrees(self.run_prefix_tree, texts, expected)

    def _agrees(self, run: Callable[[Texts], Tensor], texts: Texts, expected: Tensor) -> bool:
        try:
            states = run(texts)
            if run == self.run_prefix_tree and _window(self.base_model.config) not in {None, *self.seen_windows}:
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
        exact, tolerance = expected.cpu().double(), TOLERANCE[expected.dtype]
        error_size = (states.cpu().double() - exact).norm(dim=1)
        # relative to how far the texts differ: a large component that all texts share would hide a fault
        spread = (exact - exact.mean(0)).norm(dim=1)
        return bool((error_size <= tolerance * spread).all())

    def _compute_last_layer_in_full(self) -> None:
        if self.last_layer:
            self.last_layer.remove()
            self.last_layer = None


class _OutputOnlyLayer:
    """Makes the last decoder layer compute, after its keys and values, only the positions that are read.

    `forest` is the forest being computed. The attention sets it again, so that a layer recomputed in the backward pass uses
    its own forest and not a later one.
    """

    def __init__(self, base_model: nn.Module, layer: nn.Module, index: int) -> None:
        self.index = index
        self.forest: prefix_tree.Forest | None = None
        self.handles = [
            base_model.register_forward_pre_hook(self._before_model, with_kwargs=True),
            layer.register_forward_hook(self._after_layer),
        ]
        for name in PER_TOKEN:
            try:
                module = layer.get_submodule(name)
            except AttributeError:
                continue
            self.handles += [
                module.register_forward_pre_hook(self._select_outputs),
                module.register_forward_hook(self._scatter_outputs),
            ]

    @classmethod
    def of(cls, base_model: Any) -> _OutputOnlyLayer | None:
        """For the last of the model's decoder layers; None where they are not one list of the expected length."""
        layers = decoder_layers(base_model)
        return cls(base_model, layers[-1], len(layers) - 1) if len(layers) else None

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self.handles:
            handle.remove()

    def _before_model(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        attention = kwargs.get("attention_layout")
        self.forest = attention.forest if isinstance(attention, tree_attention.ForestAttention) else None

    def _after_layer(self, layer: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if self.forest is None:
            return output
        if isinstance(output, tuple):
            return (output[0].index_select(1, self.forest.output_positions), *output[1:])
        return output.index_select(1, self.forest.output_positions)

    def _select_outputs(self, module: nn.Module, args: tuple[Any, ...]) -> Any:
        if self.forest is None:
            return args
        return (args[0].index_select(1, self.forest.output_positions), *args[1:])

    def _scatter_outputs(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if self.forest is None:
            return output
        full = output.new_zeros((1, self.forest.num_tokens, output.shape[-1]))
        return full.index_copy(1, self.forest.output_positions, output)


# ---- What a model is built of --------------------------------------------------------------------------------------


def _has_only_attention(base_model: Any) -> bool:
    """Whether every layer is plain attention: branches cannot share a recurrent state by masking."""
    kinds = set(getattr(base_model.config, "layer_types", None) or SUPPORTED_LAYERS)
    return kinds <= SUPPORTED_LAYERS and not getattr(base_model, "_is_stateful", False)


def _longrope_threshold(config: Any) -> int | None:
    """Tokens beyond which the longest text of a pass changes the rotary factors of all its texts: longrope only, else None.

    `dynamic` changes them beyond max_position_embeddings only, which no text exceeds.
    """
    parameters = getattr(config, "rope_parameters", None) or {}
    is_by_layer = all(isinstance(value, dict) for value in parameters.values())
    ropes = parameters.values() if is_by_layer else [parameters]
    thresholds = [r.get("original_max_position_embeddings") for r in ropes if r.get("rope_type") == "longrope"]
    return min((int(threshold) for threshold in thresholds if threshold), default=None)


def _window(config: Any) -> int | None:
    """The sliding window that some layer must have passed to the attention; None where no layer has one."""
    slides = "sliding_attention" in (getattr(config, "layer_types", None) or ["sliding_attention"])
    return getattr(config, "sliding_window", None) if slides else None


def _probe_texts(config: Any) -> Texts:
    """Two pairs of texts that share a prompt, the first longer than the sliding window of a small model."""
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, config.vocab_size, size) for size in (24, 11))
    replies = [rng.integers(0, config.vocab_size, size) for size in (7, 12, 5, 3)]
    return [np.concatenate([p, r]) for p, r in zip((first, first, second, second), replies, strict=True)]


def _require_compiler() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except Exception as error:  # torch raises a different class in each release
        reason = str(error).splitlines()[0]
        raise GuerdonError(
            f"train.compile=true: a C++ compiler must be installed ({reason}). Install g++, or set train.compile=false."
        ) from None


# ---- Padded rows and shared prefixes -------------------------------------------------------------------------------


def pad(rows: Texts, pad_id: int) -> tuple[Int[Tensor, "n t"], Int[Tensor, "n t"]]:
    """Right-padded ids, and a mask that is 1 at real tokens and 0 at padding."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.from_numpy(row.astype(np.int64))
        mask[i, : len(row)] = 1
    return ids, mask


def padded_positions(
    lengths: Sequence[int], read_from: Sequence[int] | None = None
) -> tuple[Int[Tensor, " r"], Int[Tensor, " r"]]:
    """Row and column of each hidden state that is read in right-padded rows of these lengths."""
    firsts = [size - 1 for size in lengths] if read_from is None else read_from
    rows = np.repeat(np.arange(len(lengths)), np.subtract(lengths, firsts))
    columns = np.concatenate([np.arange(first, size) for first, size in zip(firsts, lengths, strict=True)])
    return torch.from_numpy(rows), torch.from_numpy(columns)


def batch_by_length(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Divide row indices into batches of similar length whose padded size is at most max_tokens; longest first.

    Longest first, so that a batch that does not fit in memory fails at once.
    """
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= max_tokens:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def batch_by_shared_prefix(texts: Texts, max_tokens: int) -> list[list[int]]:
    """Divide texts into batches that compute at most max_tokens tokens; texts are joined where sharing a prefix saves tokens."""
    batches: list[list[int]] = []
    for i in prefix_tree.prefix_order(texts):
        batch = [texts[j] for j in batches[-1]] if batches else []
        cost = count_cached_tokens([*batch, texts[i]])
        if batch and cost <= min(max_tokens, count_cached_tokens(batch) + len(texts[i])):
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def count_cached_tokens(texts: Texts) -> int:
    """Tokens computed when the prefix that all texts share is computed once and the rest is padded."""
    shared = shared_prefix_length(texts)
    return shared + len(texts) * (max(map(len, texts)) - shared)


def shared_prefix_length(texts: Texts, read_from: Sequence[int] | None = None) -> int:
    """Leading tokens that all texts share and at which none is read; 0 where they are too few to be worth sharing."""
    firsts = [len(text) - 1 for text in texts] if read_from is None else read_from
    shared = min(*firsts, *(prefix_tree.common_prefix_length(texts[0], text) for text in texts))
    return shared if shared >= prefix_tree.MIN_SHARED_TOKENS else 0
