"""A language model that speaks: prompts in, replies out with the reason each one ended; and how likely it finds given replies.

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
from guerdon.models.chat_template import render_prompt, replace_surrogates, template_source
from guerdon.models.engine import kv_cache
from guerdon.models.engine.backbone import TOLERANCE, Backbone, Texts, pad, padded_positions
from guerdon.models.engine.kv_cache import SampledTokens
from guerdon.models.engine.modules import unwrap_peft
from guerdon.models.engine.prepacked import prepacked_weights
from guerdon.models.engine.pretrained import context_length, is_encoder, quiet
from guerdon.models.fingerprint import weights_fingerprint
from guerdon.progress import ProgressBar

log = logging.getLogger("guerdon")

AT_ONCE = 1 << 16  # tokens of prompts and replies that are remembered at once while replies are drawn
ROWS = 512  # replies drawn at once: more are no faster, and a row of logits each is held
LOGITS = 1 << 26  # logits of one piece; more are computed again in the backward pass instead of kept


@dataclass(frozen=True, slots=True)
class PolicyOutput:
    """What a policy makes of given replies, token after token, reply after reply.

    log_prob [r] of each token, entropy [r] of the distribution it was one of (no gradient), hidden [r, x] before it.
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
        self.shares_prefixes = False if is_encoder(model.config) else None

    @property
    def fingerprint(self) -> str:
        """Changes with whatever changes what it says: weights, rendering, where replies end."""
        return digest([weights_fingerprint(self.model), self.template_hash, sorted(self.stop_ids), self.max_prompt])

    # ---- Speaking ----------------------------------------------------------------------------------------------------

    def sample(
        self, prompts: Sequence[PromptLike], n: int, max_tokens: int, temperature: float = 1.0, seed: int = 0
    ) -> Rollouts:
        """Draw n responses to each prompt, at most max_tokens each; those of one prompt stand together.

        Temperature 0 takes the likeliest token. The seed fixes every draw and leaves torch's own generator as it was.
        Raises GuerdonError for a prompt that is too long, with its place.
        """
        return self.sample_with_seeds(prompts, n, max_tokens, temperature, [seed] * len(prompts))

    def sample_with_seeds(
        self, prompts: Sequence[PromptLike], n: int, max_tokens: int, temperature: float, seeds: Sequence[int]
    ) -> Rollouts:
        """The same with a seed for each prompt."""
        messages = [as_prompt(p) for p in prompts]
        prompt_ids = [self.encode(p) for p in messages]
        for i, row in enumerate(prompt_ids):
            if reason := self.prompt_problem(row, max_tokens):
                raise GuerdonError(f"prompt {i}: {reason}")
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
        """`sample_with_seeds` of prompts that are encoded already, and known to fit."""
        drawn = self.generate(prompt_ids, n, max_tokens, temperature, seeds)
        return Rollouts(
            tuple(prompt for prompt in prompts for _ in range(n)),
            tuple(self.response(ids, finish) for ids, finish in zip(drawn.replies, drawn.finish, strict=True)),
            samples=n,
            log_prob=drawn.log_prob,
            length=np.array([len(ids) for ids in drawn.replies], dtype=np.int64),
            prompt_ids=tuple(ids for ids in prompt_ids for _ in range(n)),
            token_ids=tuple(drawn.replies),
        )

    def generate(
        self, prompts: Texts, n: int, max_tokens: int, temperature: float = 1.0, seeds: int | Sequence[int] = 0
    ) -> SampledTokens:
        """Draw n replies to each prompt, in token ids."""
        if not (temperature == 0 or 1e-6 <= temperature < np.inf) or n < 1 or max_tokens < 1:
            raise GuerdonError(
                f"sample: n and max_tokens are above 0 and temperature is 0 or from 1e-6 up, got {n}, {max_tokens}, {temperature}"
            )
        each = [seeds] * len(prompts) if isinstance(seeds, int) else list(seeds)
        chance = kv_cache.token_uniforms(prompts, n, max_tokens, each)
        parts: list[SampledTokens] = []
        bar = ProgressBar(len(prompts) * n, "sample", "replies")
        with torch.inference_mode(), self._at_rest():
            for some in _at_once([len(p) + n * max_tokens for p in prompts], max(1, ROWS // n)):
                texts, rows = [prompts[i] for i in some], slice(some[0] * n, (some[-1] + 1) * n)
                parts.append(self._draw(texts, chance[rows], temperature, [each[i] for i in some], bar))
        bar.close()
        drawn = SampledTokens.concatenate(parts)
        if len(bad := np.flatnonzero(np.isnan(drawn.log_prob))):
            raise GuerdonError(
                f"prompt {bad[0] // n}: the model gives NaN for its reply; remedy: policy.dtype=float32, or an earlier checkpoint"
            )
        return drawn

    def encode(self, prompt: Prompt) -> Int[np.ndarray, " t"]:
        """Token ids of a prompt up to where the reply begins."""
        text = render_prompt(self.tokenizer, prompt, template=self.template, system=self.system)
        ids = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return np.asarray(ids, dtype=np.int32)

    def prompt_problem(self, prompt: Int[np.ndarray, " t"], max_tokens: int) -> str | None:
        """Why a prompt cannot be answered; None where it can."""
        context = context_length(self.model.config)
        most = min(self.max_prompt or 10**9, (context or 10**9) - max_tokens)
        if len(prompt) == 0:
            return "the prompt renders to no tokens; remedy: drop it"
        if most < 1:
            return (
                f"max_tokens={max_tokens} leaves no room for a prompt in a context of {context} tokens; remedy: fewer"
            )
        if len(prompt) > most:
            return (
                f"{len(prompt)} tokens where {most} fit; remedy: drop it, or raise policy.max_prompt within the context"
            )
        return None

    def response(self, ids: Int[np.ndarray, " t"], finish: FinishReason) -> Response:
        """The reply as text: what was drawn, without its end token. Other special tokens show: a judge reads them too."""
        kept = ids[:-1] if finish == "stop" else ids
        text = self.tokenizer.decode(kept.tolist(), skip_special_tokens=False)
        return Response(text, finish=finish, author=self.name or None)

    @property
    def chat_template(self) -> str:
        """The tokenizer's own, or a plain one for a model that has none."""
        return template_source(self.tokenizer, self.template)

    @property
    def template_hash(self) -> str:
        """Equal to a reward model's where both render a conversation alike."""
        return digest([self.chat_template, self.system])

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.backbone.device

    # ---- Reading what was said ----------------------------------------------------------------------------------------

    def forward(self, prompts: Texts, replies: Texts, temperature: float = 1.0) -> PolicyOutput:
        """Log-probability of each reply's tokens after its prompt, with gradients if they are enabled.

        Prompts, and what else texts begin with alike, are computed once.
        """
        texts = [np.concatenate([p, r[:-1]]) for p, r in zip(prompts, replies, strict=True)]
        since = [len(p) - 1 for p in prompts]
        target = torch.from_numpy(np.concatenate(replies).astype(np.int64)).to(self.device)
        shared = self._shared()
        with nullcontext() if torch.is_grad_enabled() else prepacked_weights(self.model):
            if shared:
                hidden = self.backbone.hidden_states(texts, since)
                found = [
                    self._judge(hidden[at], target[at], temperature) for at in _pieces(len(target), self._vocabulary())
                ]
            else:
                hidden, logits = self._padded(texts, since)
                found = [_log_probs(logits, target, temperature)]
        return PolicyOutput(torch.cat([f[0] for f in found]), torch.cat([f[1] for f in found]), hidden)

    def log_probs(self, rollouts: Rollouts, micro_tokens: int = 4096) -> Float[np.ndarray, " n"]:
        """Nats of each response, its end token included where it ended, at temperature 1.

        The text is split into tokens anew, which may differ from how it was drawn.
        """
        prompt_ids = [self.encode(p) for p in rollouts.prompts]
        token_ids = [self._reply_ids(r) for r in rollouts.responses]
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
        with torch.inference_mode(), self._at_rest():
            for rows in self.batches(texts, micro_tokens) if texts else []:
                replies = [token_ids[i] for i in rows]
                output = self.forward([prompt_ids[i] for i in rows], replies, temperature)
                sums = output.log_prob.split([len(reply) for reply in replies])
                log_prob[rows] = [float(part.double().sum()) for part in sums]
        return log_prob

    def batches(self, texts: Texts, tokens: int) -> list[list[int]]:
        """Divide texts into passes of at most `tokens` computed tokens, but at least one text each."""
        self._shared()  # before the backbone chooses: it compares with rows that are padded
        return self.backbone.split_into_batches(texts, tokens)

    @contextmanager
    def as_reference(self) -> Iterator[None]:
        """The model without its adapters."""
        with self.model.disable_adapter() if hasattr(self.model, "disable_adapter") else nullcontext():
            yield

    # ---- How -----------------------------------------------------------------------------------------------------------

    def _shared(self) -> bool:
        """Whether this model's own logits are its unembedding of its hidden states; found out on first use.

        One pass answers both: rows that are computed differently differ by rounding, in bfloat16 by more than a fault would.
        """
        if self.shares_prefixes is None:
            draw = np.random.default_rng(0)
            texts = [draw.integers(0, self.model.config.vocab_size, size).astype(np.int32) for size in (17, 9)]
            with torch.no_grad(), torch.autocast(self.device.type, enabled=False), self._at_rest():
                hidden, logits = self._padded(texts, [0, 0])
                expected, found = logits.float(), self._logits(hidden).float()
            limit = TOLERANCE[next(self.model.parameters()).dtype] * expected.abs().max()
            self.shares_prefixes = bool((found - expected).abs().max() <= limit)
            if not self.shares_prefixes:
                self.backbone.use_padding()
                log.warning("%s: logits are not its unembedding's alone; rows are padded", type(self.model).__name__)
        return self.shares_prefixes

    def _draw(
        self,
        prompts: Texts,
        chance: Float[np.ndarray, "n t"],
        temperature: float,
        seeds: Sequence[int],
        bar: ProgressBar,
    ) -> SampledTokens:
        if self._shared() and self.backbone.choose_mode() == "prefix_tree":
            with prepacked_weights(self.model):
                return self._draw_shared(prompts, chance, temperature, bar)
        return self._generate_with_transformers(
            prompts, len(chance) // len(prompts), chance.shape[1], temperature, seeds, bar
        )

    def _draw_shared(
        self, prompts: Texts, chance: Float[np.ndarray, "n t"], temperature: float, bar: ProgressBar
    ) -> SampledTokens:
        """Over the forest. Prompts that stand otherwise to a turn of the positions do not meet in one pass."""
        n = len(chance) // len(prompts)
        sides = np.array(
            [kv_cache.longrope_side(len(p), chance.shape[1], self.backbone.longrope_threshold) for p in prompts]
        )
        parts, order = [], []
        for each in np.unique(sides):
            some = np.flatnonzero(sides == each)
            rows = (some[:, None] * n + np.arange(n)).ravel()
            drawn = kv_cache.generate(
                self.backbone,
                self._logits,
                [prompts[i] for i in some.tolist()],
                chance[rows],
                temperature=temperature,
                stops=sorted(self.stop_ids),
                advance=bar.advance,
            )
            parts.append(drawn)
            order.append(rows)
        return SampledTokens.concatenate(parts).select(np.argsort(np.concatenate(order)))

    def _generate_with_transformers(
        self, prompts: Texts, n: int, max_tokens: int, temperature: float, seeds: Sequence[int], bar: ProgressBar
    ) -> SampledTokens:
        """transformers' own loop, for families that the forest is not exact for; without what the model's makers shape draws by."""
        from transformers import GenerationConfig

        core = unwrap_peft(self.model)
        own, core.generation_config = core.generation_config, GenerationConfig()
        try:
            return self._generate_plain(prompts, n, max_tokens, temperature, seeds, bar)
        finally:
            core.generation_config = own

    def _generate_plain(
        self, prompts: Texts, n: int, max_tokens: int, temperature: float, seeds: Sequence[int], bar: ProgressBar
    ) -> SampledTokens:
        chosen = {"do_sample": False} if temperature == 0 else {"do_sample": True, "temperature": temperature}
        replies: list[np.ndarray] = []
        finish: list[FinishReason] = []
        nats: list[float] = []
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
                    **chosen,
                )[:, len(prompt) :]
                for row in rows.tolist() * (n if temperature == 0 else 1):
                    end = next((i for i, token in enumerate(row) if token in self.stop_ids), None)
                    replies.append(np.asarray(row if end is None else row[: end + 1], dtype=np.int32))
                    finish.append("length" if end is None else "stop")
                    nats.append(float(self.forward([prompt], replies[-1:], temperature or 1.0).log_prob.double().sum()))
                bar.advance(n)
        return SampledTokens(replies, finish, np.asarray(nats))

    def _logits(self, hidden: Float[Tensor, "r x"]) -> Float[Tensor, "r v"]:
        """What the unembedding says, with the scale and cap that the family's configuration names."""
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

    def _judge(self, hidden: Tensor, target: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        def judged(hidden: Tensor) -> tuple[Tensor, Tensor]:
            return _log_probs(self._logits(hidden), target, temperature)

        if torch.is_grad_enabled() and hidden.requires_grad:
            found: tuple[Tensor, Tensor] = checkpoint(judged, hidden, use_reentrant=False)
            return found
        return judged(hidden)

    def _padded(self, texts: Texts, since: Sequence[int]) -> tuple[Tensor, Tensor]:
        ids, mask = (x.to(self.device) for x in pad(texts, self.tokenizer.pad_token_id))
        found = self.model(input_ids=ids, attention_mask=mask, use_cache=False, output_hidden_states=True)
        at = padded_positions([len(text) for text in texts], since)
        return found.hidden_states[-1][at], found.logits[at]

    def _reply_ids(self, response: Response) -> Int[np.ndarray, " t"]:
        if response.messages:
            raise GuerdonError(
                "a response must be plain text to have a log-probability, got several messages. Drop it."
            )
        ids = self.tokenizer(replace_surrogates(response.text), add_special_tokens=False, verbose=False)["input_ids"]
        end = [] if response.finish == "length" else [self.end_of_turn]
        return np.asarray([*ids, *end], dtype=np.int32)

    @property
    def end_of_turn(self) -> int:
        """The token that the template closes a reply with, or the tokenizer's end."""
        closes = closing_token(self.tokenizer)
        return int(self.tokenizer.eos_token_id) if closes is None else closes

    def _vocabulary(self) -> int:
        return int(unwrap_peft(self.model).get_output_embeddings().weight.shape[0])

    @contextmanager
    def _at_rest(self) -> Iterator[None]:
        """Out of training mode, which a family may treat differently even without dropout."""
        training = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(training)


def stop_tokens(model: Any, tokenizer: Any, more: Sequence[str] = ()) -> frozenset[int]:
    """Tokens that end a reply: the model's, the tokenizer's, the template's end of turn, and those asked for by name."""
    ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    listed = ends if isinstance(ends, list) else [ends]
    found = {*listed, tokenizer.eos_token_id, closing_token(tokenizer)}
    vocabulary = tokenizer.get_vocab() if more else {}
    for name in more:
        if name not in vocabulary:
            raise GuerdonError(
                f"policy.stop: {name!r} is no token of this tokenizer; remedy: a single token such as <|im_end|>"
            )
        found.add(vocabulary[name])
    return frozenset(int(token) for token in found if token is not None)


def closing_token(tokenizer: Any) -> int | None:
    """The special token that the chat template puts behind a reply; None where it puts none."""
    if not tokenizer.chat_template:
        return None
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    try:
        ids = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False)["input_ids"]
    except Exception:  # a template that refuses this probe may still serve its own conversations
        return None
    content = tokenizer("b", add_special_tokens=False)["input_ids"]
    special = set(tokenizer.all_special_ids)
    last = max((i for i in range(len(ids)) if ids[i : i + len(content)] == content), default=None)
    behind = ids[last + len(content) :] if last is not None else []
    return next((int(token) for token in behind if token in special), None)


def _log_probs(logits: Tensor, target: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    scaled = logits.float() / temperature
    nats = torch.log_softmax(scaled, -1).gather(-1, target[:, None])[:, 0]
    with torch.no_grad():
        spread = entropy(scaled)
    return nats, spread


def _pieces(rows: int, width: int) -> list[slice]:
    most = max(1, LOGITS // width)
    return [slice(at, at + most) for at in range(0, rows, most)]


def _at_once(sizes: Sequence[int], most: int) -> Iterator[list[int]]:
    """Indices in order, at most so many together, cut where what would be remembered passes AT_ONCE tokens."""
    some: list[int] = []
    used = 0
    for i, size in enumerate(sizes):
        if some and (len(some) == most or used + size > AT_ONCE):
            yield some
            some, used = [], 0
        some.append(i)
        used += size
    if some:
        yield some
