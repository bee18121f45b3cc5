"""A causal language model as a policy: it samples replies to prompts, and computes the log-probability of given replies.

Axes: n replies, r tokens of all replies one after another, v vocabulary, x hidden size. Log-probabilities are nats.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from guerdon.contracts import (
    FinishReason,
    GuerdonError,
    Prompt,
    PromptLike,
    Response,
    Rollouts,
    as_prompt,
    digest,
)
from guerdon.formulas.policy import entropy
from guerdon.models.chat_template import render_prompt, replace_surrogates
from guerdon.models.engine import kv_cache
from guerdon.models.engine.backbone import TOLERANCE, Backbone, Texts, pad, padded_positions
from guerdon.models.engine.kv_cache import SampledTokens
from guerdon.models.engine.modules import unwrap_peft
from guerdon.models.engine.prepacked import prepacked_weights
from guerdon.models.engine.pretrained import context_length, is_encoder, quiet
from guerdon.models.fingerprint import tokenizer_fingerprint, weights_fingerprint
from guerdon.models.stop_tokens import closing_token, stop_tokens
from guerdon.models.template_source import template_source
from guerdon.progress import ProgressBar

log = logging.getLogger("guerdon")

MAX_CACHED_TOKENS = 1 << 16  # of prompts and replies in the KV cache while replies are sampled
MAX_REPLIES = 512  # sampled at once: more are no faster, and each holds a row of logits
MAX_LOGITS = 1 << 26  # computed at once: in training, they are computed again in the backward pass instead of kept


@dataclass(frozen=True, slots=True)
class PolicyOutput:
    """What a policy computes for given replies, for each of their tokens.

    log_prob [r] of each token, entropy [r] of the distribution it is from (without gradient), hidden [r, x] before it.
    """

    log_prob: Float[Tensor, " r"]
    entropy: Float[Tensor, " r"]
    hidden: Float[Tensor, "r x"]


class LanguagePolicy:
    """A causal language model with its tokenizer. Sampling is plain: temperature only, no top-k, top-p or penalties."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        system: str | None = None,
        name: str = "",
        max_prompt: int | None = None,
        stop: Sequence[str] = (),
        template: str = "model",
    ) -> None:
        self.model, self.tokenizer, self.system, self.name = model, tokenizer, system, name
        self.max_prompt, self.template = max_prompt, template
        self.backbone = Backbone(model)
        self.stop_ids = stop_tokens(model, tokenizer, stop)
        self.shares_prefixes = False if is_encoder(model.config) else None  # None until the first use decides

    @property
    def fingerprint(self) -> str:
        """A hash of whatever changes its replies: weights, rendering, where replies end."""
        text = [tokenizer_fingerprint(self.tokenizer), self.template_hash, sorted(self.stop_ids), self.max_prompt]
        return digest([weights_fingerprint(self.model), *text])

    @property
    def chat_template(self) -> str:
        """The tokenizer's chat template, or a plain one if it has none."""
        return template_source(self.tokenizer, self.template)

    @property
    def template_hash(self) -> str:
        """Equal to a reward model's if both render conversations the same way."""
        return digest([self.chat_template, self.system])

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.backbone.device

    @property
    def vocabulary_size(self) -> int:
        """Tokens that the model can give."""
        return int(unwrap_peft(self.model).get_output_embeddings().weight.shape[0])

    @property
    def end_of_turn(self) -> int:
        """The token that the template puts after a reply, or the tokenizer's end token."""
        token = closing_token(self.tokenizer)
        return int(self.tokenizer.eos_token_id) if token is None else token

    @contextmanager
    def as_reference(self) -> Iterator[None]:
        """The model without its adapters."""
        with self.model.disable_adapter() if hasattr(self.model, "disable_adapter") else nullcontext():
            yield

    @contextmanager
    def eval_mode(self) -> Iterator[None]:
        """The model in evaluation mode: some families treat training mode differently even without dropout."""
        training = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(training)

    # ---- Text and tokens -----------------------------------------------------------------------------------------------

    def encode(self, prompt: Prompt) -> Int[np.ndarray, " t"]:
        """Token ids of a prompt up to where the reply begins."""
        text = render_prompt(self.tokenizer, prompt, template=self.template, system=self.system)
        ids = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return np.asarray(ids, dtype=np.int32)

    def prompt_problem(self, prompt_ids: Int[np.ndarray, " t"], max_tokens: int) -> str | None:
        """Why a prompt cannot be answered; None if it can."""
        context = context_length(self.model.config)
        longest = min(self.max_prompt or 10**9, (context or 10**9) - max_tokens)
        if len(prompt_ids) == 0:
            return "must render to at least one token, got none. Drop it."
        if longest < 1:
            return (
                f"max_tokens must leave room for a prompt in the context of {context} tokens, got {max_tokens}. "
                "Use fewer."
            )
        if len(prompt_ids) > longest:
            return (
                f"must have at most {longest} tokens, got {len(prompt_ids)}. "
                "Drop it, or raise policy.max_prompt within the context."
            )
        return None

    def response(self, ids: Int[np.ndarray, " t"], finish: FinishReason) -> Response:
        """A sampled reply as text, without its end token. Other special tokens stay visible, for judges too."""
        kept = ids[:-1] if finish == "stop" else ids
        text = self.tokenizer.decode(kept.tolist(), skip_special_tokens=False)
        return Response(text, finish=finish, author=self.name or None)

    # ---- Sampling ------------------------------------------------------------------------------------------------------

    def sample(
        self, prompts: Sequence[PromptLike], n: int, max_tokens: int, temperature: float = 1.0, seed: int = 0
    ) -> Rollouts:
        """Draw n responses to each prompt, at most max_tokens each, grouped by prompt.

        Temperature 0 takes the most likely token. The seed determines every draw; torch's own generator is left as it is.
        Raises GuerdonError with its position for a prompt that is too long.
        """
        return self.sample_with_seeds(prompts, n, max_tokens, temperature, [seed] * len(prompts))

    def sample_with_seeds(
        self, prompts: Sequence[PromptLike], n: int, max_tokens: int, temperature: float, seeds: Sequence[int]
    ) -> Rollouts:
        """The same with one seed per prompt."""
        messages = [as_prompt(prompt) for prompt in prompts]
        prompt_ids = [self.encode(prompt) for prompt in messages]
        for i, ids in enumerate(prompt_ids):
            if problem := self.prompt_problem(ids, max_tokens):
                raise GuerdonError(f"prompt {i}: {problem}")
        return self.sample_encoded(messages, prompt_ids, n, max_tokens, temperature, seeds)

    def sample_encoded(
        self,
        prompts: Sequence[Prompt],
        prompt_ids: Texts,
        n: int,
        max_tokens: int,
        temperature: float,
        seeds: int | Sequence[int],
    ) -> Rollouts:
        """`sample_with_seeds` for prompts that are already encoded and known to fit."""
        return self.rollouts_of(prompts, prompt_ids, n, self.generate(prompt_ids, n, max_tokens, temperature, seeds))

    def rollouts_of(
        self,
        prompts: Sequence[Prompt],
        prompt_ids: Texts,
        n: int,
        sampled: SampledTokens,
        token_log_prob: tuple[Float[np.ndarray, " _"], ...] | None = None,
    ) -> Rollouts:
        """n sampled replies to each prompt, those of one prompt together, with their texts."""
        return Rollouts(
            tuple(prompt for prompt in prompts for _ in range(n)),
            tuple(self.response(ids, finish) for ids, finish in zip(sampled.replies, sampled.finish, strict=True)),
            samples=n,
            log_prob=sampled.log_prob,
            length=np.array([len(ids) for ids in sampled.replies], dtype=np.int64),
            prompt_ids=tuple(ids for ids in prompt_ids for _ in range(n)),
            token_ids=tuple(sampled.replies),
            token_log_prob=token_log_prob,
        )

    def generate(
        self, prompts: Texts, n: int, max_tokens: int, temperature: float = 1.0, seeds: int | Sequence[int] = 0
    ) -> SampledTokens:
        """Sample n replies to each prompt, all as token ids."""
        if not (temperature == 0 or 1e-6 <= temperature < np.inf) or n < 1 or max_tokens < 1:
            raise GuerdonError(
                "sample: n and max_tokens must be at least 1 and temperature 0 or at least 1e-6, "
                f"got {n}, {max_tokens} and {temperature}. Change the one that is out of range."
            )
        seed_of = [seeds] * len(prompts) if isinstance(seeds, int) else list(seeds)
        uniforms = kv_cache.token_uniforms(prompts, n, max_tokens, seed_of)
        parts: list[SampledTokens] = []
        bar = ProgressBar(len(prompts) * n, "sample", "replies")
        with torch.inference_mode(), self.eval_mode():
            for batch in _prompt_batches([len(p) + n * max_tokens for p in prompts], max(1, MAX_REPLIES // n)):
                texts, rows = [prompts[i] for i in batch], slice(batch[0] * n, (batch[-1] + 1) * n)
                parts.append(self._generate_batch(texts, uniforms[rows], temperature, [seed_of[i] for i in batch], bar))
        bar.close()
        sampled = SampledTokens.concatenate(parts)
        if len(bad := np.flatnonzero(np.isnan(sampled.log_prob))):
            raise GuerdonError(
                f"prompt {bad[0] // n}: log-probabilities of its replies must be numbers, got NaN. "
                "Use policy.dtype=float32, or an earlier checkpoint."
            )
        return sampled

    def _generate_batch(
        self,
        prompts: Texts,
        uniforms: Float[np.ndarray, "n t"],
        temperature: float,
        seeds: Sequence[int],
        bar: ProgressBar,
    ) -> SampledTokens:
        if self._can_share_prefixes() and self.backbone.choose_mode() == "prefix_tree":
            with prepacked_weights(self.model):
                return self._generate_with_cache(prompts, uniforms, temperature, bar)
        n, max_tokens = len(uniforms) // len(prompts), uniforms.shape[1]
        with self._without_generation_config():
            return self._generate_with_transformers(prompts, n, max_tokens, temperature, seeds, bar)

    def _generate_with_cache(
        self, prompts: Texts, uniforms: Float[np.ndarray, "n t"], temperature: float, bar: ProgressBar
    ) -> SampledTokens:
        """By our KV cache. Prompts on different sides of a longrope threshold never run in one pass."""
        n, max_tokens = len(uniforms) // len(prompts), uniforms.shape[1]
        threshold = self.backbone.longrope_threshold
        sides = np.array([kv_cache.longrope_side(len(prompt), max_tokens, threshold) for prompt in prompts])
        parts, order = [], []
        for side in np.unique(sides):
            batch = np.flatnonzero(sides == side)
            rows = (batch[:, None] * n + np.arange(n)).ravel()
            sampled = kv_cache.generate(
                self.backbone,
                self.unembed,
                [prompts[i] for i in batch.tolist()],
                uniforms[rows],
                temperature=temperature,
                stops=sorted(self.stop_ids),
                advance=bar.advance,
            )
            parts.append(sampled)
            order.append(rows)
        return SampledTokens.concatenate(parts).select(np.argsort(np.concatenate(order)))

    def _generate_with_transformers(
        self, prompts: Texts, n: int, max_tokens: int, temperature: float, seeds: Sequence[int], bar: ProgressBar
    ) -> SampledTokens:
        """By transformers' own loop, for families that our KV cache is not exact for."""
        sampling = {"do_sample": False} if temperature == 0 else {"do_sample": True, "temperature": temperature}
        replies: list[np.ndarray] = []
        finish: list[FinishReason] = []
        log_prob: list[float] = []
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []), quiet():
            for prompt, seed in zip(prompts, seeds, strict=True):
                torch.manual_seed(seed)
                ids = torch.from_numpy(prompt.astype(np.int64))[None].to(self.device)
                rows = self.model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    top_k=0,
                    top_p=1.0,
                    num_return_sequences=1 if temperature == 0 else n,
                    max_new_tokens=max_tokens,
                    pad_token_id=self.tokenizer.pad_token_id,
                    eos_token_id=sorted(self.stop_ids),
                    **sampling,
                )[:, len(prompt) :]
                for row in rows.tolist() * (n if temperature == 0 else 1):
                    end = next((i for i, token in enumerate(row) if token in self.stop_ids), None)
                    replies.append(np.asarray(row if end is None else row[: end + 1], dtype=np.int32))
                    finish.append("length" if end is None else "stop")
                    output = self.forward([prompt], replies[-1:], temperature or 1.0)
                    log_prob.append(float(output.log_prob.double().sum()))
                bar.advance(n)
        return SampledTokens(replies, finish, np.asarray(log_prob))

    @contextmanager
    def _without_generation_config(self) -> Iterator[None]:
        """The model without the top-k, top-p and penalties that its publisher recommends."""
        from transformers import GenerationConfig

        core = unwrap_peft(self.model)
        own, core.generation_config = core.generation_config, GenerationConfig()
        try:
            yield
        finally:
            core.generation_config = own

    # ---- Log-probabilities of given replies ----------------------------------------------------------------------------

    def forward(self, prompts: Texts, replies: Texts, temperature: float = 1.0) -> PolicyOutput:
        """Log-probability of each token of the replies, each after its prompt; with gradients if they are enabled.

        Prompts, and any other prefixes that texts share, are computed once.
        """
        texts = [np.concatenate([prompt, reply[:-1]]) for prompt, reply in zip(prompts, replies, strict=True)]
        read_from = [len(prompt) - 1 for prompt in prompts]
        target = torch.from_numpy(np.concatenate(replies).astype(np.int64)).to(self.device)
        can_share = self._can_share_prefixes()
        with nullcontext() if torch.is_grad_enabled() else prepacked_weights(self.model):
            if can_share:
                hidden = self.backbone.hidden_states(texts, read_from)
                pieces = [self._read_out(hidden[at], target[at], temperature) for at in self._slices(len(target))]
            else:
                hidden, logits = self._forward_padded(texts, read_from)
                pieces = [_log_prob_and_entropy(logits, target, temperature)]
        log_prob, token_entropy = (torch.cat(parts) for parts in zip(*pieces, strict=True))
        return PolicyOutput(log_prob, token_entropy, hidden)

    def log_probs(self, rollouts: Rollouts, micro_tokens: int = 4096) -> Float[np.ndarray, " n"]:
        """Nats per response at temperature 1, with its end token if it ended.

        The text is tokenized again, which may give other tokens than were sampled.
        """
        prompt_ids = [self.encode(prompt) for prompt in rollouts.prompts]
        token_ids = [self.reply_ids(response) for response in rollouts.responses]
        rows = [i for i, ids in enumerate(token_ids) if len(ids)]
        log_prob = np.zeros(len(token_ids))
        log_prob[rows] = self.token_log_probs(
            [prompt_ids[i] for i in rows], [token_ids[i] for i in rows], micro_tokens=micro_tokens
        )
        return log_prob

    def token_log_probs(
        self, prompt_ids: Texts, token_ids: Texts, temperature: float = 1.0, micro_tokens: int = 4096
    ) -> Float[np.ndarray, " n"]:
        """Nats of each reply's tokens after its prompt, without gradients."""
        texts = [np.concatenate(pair) for pair in zip(prompt_ids, token_ids, strict=True)]
        log_prob = np.zeros(len(texts))
        with torch.inference_mode(), self.eval_mode():
            for rows in self.batches(texts, micro_tokens) if texts else []:
                replies = [token_ids[i] for i in rows]
                output = self.forward([prompt_ids[i] for i in rows], replies, temperature)
                sums = output.log_prob.split([len(reply) for reply in replies])
                log_prob[rows] = [float(part.double().sum()) for part in sums]
        return log_prob

    def next_token_log_probs(
        self, texts: Texts, micro_tokens: int = 4096
    ) -> Iterator[tuple[list[int], Float[Tensor, "m v"]]]:
        """Log-probabilities of every token that may come next after each text, float32, without gradients.

        Yields them pass by pass, each with the positions of its texts; prefixes that texts share are computed once.
        """
        with torch.inference_mode(), self.eval_mode(), prepacked_weights(self.model):
            for rows in self.batches(texts, micro_tokens) if texts else []:
                batch = [texts[i] for i in rows]
                if not self._can_share_prefixes():
                    _, logits = self._forward_padded(batch, [len(text) - 1 for text in batch])
                    yield rows, torch.log_softmax(logits.float(), -1)
                    continue
                hidden = self.backbone.hidden_states(batch)
                for at in self._slices(len(rows)):
                    yield rows[at], torch.log_softmax(self.unembed(hidden[at]).float(), -1)

    def batches(self, texts: Texts, max_tokens: int) -> list[list[int]]:
        """Divide texts into passes of at most `max_tokens` computed tokens each, but at least one text."""
        self._can_share_prefixes()  # decides the backbone's mode, which the number of computed tokens depends on
        return self.backbone.split_into_batches(texts, max_tokens)

    def unembed(self, hidden: Float[Tensor, "r x"]) -> Float[Tensor, "r v"]:
        """Logits of hidden states, with the scale and cap in the family's configuration."""
        core = unwrap_peft(self.model)
        head, config = core.get_output_embeddings(), core.config
        logits: Tensor = head(hidden.to(head.weight.dtype))
        if scale := getattr(config, "logits_scaling", None):
            logits = logits / scale
        if scale := getattr(config, "logit_scale", None):
            logits = logits * scale
        if cap := getattr(config, "final_logit_softcapping", None):
            logits = torch.tanh(logits / cap) * cap
        return logits

    def _can_share_prefixes(self) -> bool:
        """Whether the model's logits are `unembed` of its hidden states, checked on first use; otherwise rows are padded.

        Both come from one pass: separate passes differ by rounding, in bfloat16 by more than a fault would.
        """
        if self.shares_prefixes is None:
            rng = np.random.default_rng(0)
            texts = [rng.integers(0, self.model.config.vocab_size, size).astype(np.int32) for size in (17, 9)]
            with torch.no_grad(), torch.autocast(self.device.type, enabled=False), self.eval_mode():
                hidden, logits = self._forward_padded(texts, [0, 0])
                expected, computed = logits.float(), self.unembed(hidden).float()
            limit = TOLERANCE[next(self.model.parameters()).dtype] * expected.abs().max()
            self.shares_prefixes = bool((computed - expected).abs().max() <= limit)
            if not self.shares_prefixes:
                self.backbone.use_padding()
                log.warning("%s: its logits are not only its unembedding; rows are padded", type(self.model).__name__)
        return self.shares_prefixes

    def _read_out(self, hidden: Tensor, target: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy from hidden states. In training no logits are kept for the backward pass."""

        def from_hidden(hidden: Tensor) -> tuple[Tensor, Tensor]:
            return _log_prob_and_entropy(self.unembed(hidden), target, temperature)

        if torch.is_grad_enabled() and hidden.requires_grad:
            result: tuple[Tensor, Tensor] = checkpoint(from_hidden, hidden, use_reentrant=False)
            return result
        return from_hidden(hidden)

    def _forward_padded(self, texts: Texts, read_from: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Hidden states and logits by the model itself, over padded rows."""
        ids, mask = (x.to(self.device) for x in pad(texts, self.tokenizer.pad_token_id))
        output = self.model(input_ids=ids, attention_mask=mask, use_cache=False, output_hidden_states=True)
        at = padded_positions([len(text) for text in texts], read_from)
        return output.hidden_states[-1][at], output.logits[at]

    def reply_ids(self, response: Response) -> Int[np.ndarray, " t"]:
        """Token ids of a reply, with its end token unless it was cut."""
        if response.messages:
            raise GuerdonError(
                "a response must be plain text to have a log-probability, got several messages. Drop it."
            )
        ids = self.tokenizer(replace_surrogates(response.text), add_special_tokens=False, verbose=False)["input_ids"]
        end = [] if response.finish == "length" else [self.end_of_turn]
        return np.asarray([*ids, *end], dtype=np.int32)

    def _slices(self, num_tokens: int) -> list[slice]:
        """Slices of tokens whose logits are computed at once."""
        size = max(1, MAX_LOGITS // self.vocabulary_size)
        return [slice(start, start + size) for start in range(0, num_tokens, size)]


def _log_prob_and_entropy(logits: Tensor, target: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    scaled = logits.float() / temperature
    log_prob = torch.log_softmax(scaled, -1).gather(-1, target[:, None])[:, 0]
    with torch.no_grad():
        token_entropy = entropy(scaled)
    return log_prob, token_entropy


def _prompt_batches(sizes: Sequence[int], max_prompts: int) -> Iterator[list[int]]:
    """Indices of prompts in order, in batches of at most max_prompts prompts and MAX_CACHED_TOKENS tokens."""
    batch: list[int] = []
    tokens = 0
    for i, size in enumerate(sizes):
        if batch and (len(batch) == max_prompts or tokens + size > MAX_CACHED_TOKENS):
            yield batch
            batch, tokens = [], 0
        batch.append(i)
        tokens += size
    if batch:
        yield batch
