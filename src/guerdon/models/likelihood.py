"""How likely texts are to a policy: whole texts, and continuations of a context, as plain text or as a reply in a chat.

Axes: n texts, t tokens. Everything runs through `LanguagePolicy.forward`, so shared prefixes are computed once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from guerdon.contracts import GuerdonError, Prompt
from guerdon.models.chat_template import replace_surrogates
from guerdon.models.engine.pretrained import context_length

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from guerdon.models.policy import LanguagePolicy

MAX_WINDOW = 2048  # tokens, for models with a longer context: a pass must fit in memory


@dataclass(frozen=True, slots=True, eq=False)
class Likelihood:
    """How likely each of n texts is to a policy.

    log_prob: nats per text [n]. num_tokens: tokens per text [n]. is_greedy: whether greedy decoding would have given the
    text [n]; None unless requested.
    """

    log_prob: Float[np.ndarray, " n"]
    num_tokens: Int[np.ndarray, " n"]
    is_greedy: Bool[np.ndarray, " n"] | None = None

    @property
    def per_token(self) -> Float[np.ndarray, " n"]:
        """Nats per token [n]; 0.0 for a text without tokens."""
        mean: np.ndarray = self.log_prob / np.maximum(self.num_tokens, 1)
        return mean


def continuation_likelihood(
    policy: LanguagePolicy,
    contexts: Sequence[str | Prompt],
    continuations: Sequence[str],
    *,
    micro_tokens: int = 4096,
    greedy: bool = False,
) -> Likelihood:
    """Log-probability of each continuation after its context, without an end token.

    A context that is a string is plain text, and the continuation starts with a space if it needs one. A context that is a
    prompt is rendered by the chat template, and the continuation is the reply. Texts longer than the model's context lose
    their beginning.
    """
    return pair_likelihood(policy, split_token_ids(policy, contexts, continuations), micro_tokens, greedy=greedy)


def text_likelihood(policy: LanguagePolicy, texts: Sequence[str], *, micro_tokens: int = 4096) -> Likelihood:
    """Log-probability of each plain text.

    A text longer than the model's context is read in windows: every token is predicted once, and the last window has as
    much context as fits (as in lm-evaluation-harness).
    """
    opening = np.asarray(opening_ids(policy.tokenizer, needed=True), dtype=np.int32)
    pairs, text_of = [], []
    for i, ids in enumerate(_ids(policy, texts)):
        for pair in _windows(opening, ids, _window_size(policy)):
            pairs.append(pair)
            text_of.append(i)
    parts = pair_likelihood(policy, pairs, micro_tokens)
    nats = np.bincount(text_of, weights=parts.log_prob, minlength=len(texts))
    tokens = np.bincount(text_of, weights=parts.num_tokens, minlength=len(texts))
    return Likelihood(nats, tokens.astype(np.int64))


def pair_likelihood(
    policy: LanguagePolicy, pairs: Sequence[tuple[Any, Any]], micro_tokens: int = 4096, *, greedy: bool = False
) -> Likelihood:
    """`continuation_likelihood` of (context, continuation) pairs of token ids. A context has at least one token."""
    total = np.zeros(len(pairs))
    is_greedy, may_be_greedy = np.ones(len(pairs), dtype=bool), np.ones(len(pairs), dtype=bool)
    nonempty = [i for i, (_, continuation) in enumerate(pairs) if len(continuation)]
    texts = [np.concatenate(pairs[i]) for i in nonempty]
    with torch.inference_mode(), policy.eval_mode():
        for batch in policy.batches(texts, micro_tokens) if nonempty else []:
            rows = [nonempty[i] for i in batch]
            output = policy.forward([pairs[i][0] for i in rows], [pairs[i][1] for i in rows])
            sizes = [len(pairs[i][1]) for i in rows]
            for i, log_prob, entropy in zip(
                rows, output.log_prob.split(sizes), output.entropy.split(sizes), strict=True
            ):
                total[i] = float(log_prob.double().sum())
                is_greedy[i] = bool((log_prob > -0.69).all())  # each has a probability above 1/2: none is more likely
                # the most likely token has a probability of at least exp(-entropy); the slack is for float32
                may_be_greedy[i] = bool((log_prob >= -entropy - 1e-3).all())
        if greedy:
            _decide_by_decoding(policy, pairs, is_greedy, np.flatnonzero(may_be_greedy & ~is_greedy))
    lengths = np.array([len(continuation) for _, continuation in pairs], dtype=np.int64)
    return Likelihood(total, lengths, is_greedy if greedy else None)


def split_token_ids(
    policy: LanguagePolicy, contexts: Sequence[str | Prompt], continuations: Sequence[str]
) -> list[tuple[Any, Any]]:
    """Token ids of each context and its continuation, together at most as many as the model reads.

    Plain text is tokenized as a whole and split where the context ends. Spaces at the end of the context go to the
    continuation: they are part of its first token.
    """
    both = list(zip(contexts, continuations, strict=True))
    whole_ids = _ids(policy, [c + text if isinstance(c, str) else text for c, text in both])
    distinct = list(dict.fromkeys(contexts))
    plain = [c.rstrip() for c in distinct if isinstance(c, str)]
    context_ids: dict[str | Prompt, Any] = dict(zip(plain, _ids(policy, plain), strict=True))
    context_ids |= {c: policy.encode(c) for c in distinct if not isinstance(c, str)}
    begin, needed = opening_ids(policy.tokenizer, needed=False), opening_ids(policy.tokenizer, needed=True)
    window, pairs = _window_size(policy), []
    for (context, text), ids in zip(both, whole_ids, strict=True):
        if isinstance(context, str):
            size = min(len(context_ids[context.rstrip()]), len(ids) - bool(text))
            before, after = _with_opening(ids[:size], begin if size else needed), ids[size:][-window:]
        else:
            before, after = context_ids[context], ids[-window:]
        pairs.append((before[max(0, len(before) - (window + 1 - len(after))) :], after))
    return pairs


def plain_ids(policy: LanguagePolicy, texts: Sequence[str]) -> list[Any]:
    """Token ids of plain texts, each after the tokens that its tokenizer opens texts with; at least one token."""
    begin, needed = opening_ids(policy.tokenizer, needed=False), opening_ids(policy.tokenizer, needed=True)
    return [_with_opening(ids, begin if len(ids) else needed) for ids in _ids(policy, texts)]


def opening_ids(tokenizer: Any, *, needed: bool) -> list[int]:
    """Tokens that the tokenizer puts before a text. If one is needed and it puts none: its bos or its end token."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    with_special = tokenizer("a")["input_ids"]
    size = next((i for i in range(len(with_special)) if with_special[i : i + len(plain)] == plain), 0)
    if size or not needed:
        return list(with_special[:size])
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return [int(token)]
    raise GuerdonError("the tokenizer must have a bos_token or an eos_token to open a text with, got neither. Set one.")


def _with_opening(ids: Any, first: list[int]) -> Any:
    if first and ids[: len(first)].tolist() == first:
        return ids  # a rendered chat has its opening already
    return np.asarray([*first, *ids], dtype=np.int32)


def _decide_by_decoding(
    policy: LanguagePolicy, pairs: Sequence[tuple[Any, Any]], is_greedy: np.ndarray, undecided: np.ndarray
) -> None:
    """Fill in is_greedy by greedy decoding, where probabilities do not show whether every token is the most likely one."""
    sizes = np.array([len(pairs[i][1]) for i in undecided], dtype=np.int64)
    for size in np.unique(sizes):
        rows = undecided[sizes == size]
        decoded = policy.generate([pairs[i][0] for i in rows], 1, int(size), temperature=0.0)
        for i, reply in zip(rows, decoded.replies, strict=True):
            is_greedy[i] = np.array_equal(reply, pairs[i][1])


def _windows(opening: Any, ids: Any, size: int) -> Iterator[tuple[Any, Any]]:
    """(context, continuation) pairs of at most size + 1 tokens, whose continuations are the text."""
    if len(ids):
        yield opening, ids[:size]
    for start in range(size, len(ids), size):
        end = min(start + size, len(ids))
        yield ids[end - size - 1 : start], ids[start:end]


def _ids(policy: LanguagePolicy, texts: Sequence[str]) -> list[Any]:
    if not texts:
        return []
    rows = policy.tokenizer([replace_surrogates(text) for text in texts], add_special_tokens=False, verbose=False)[
        "input_ids"
    ]
    return [np.asarray(row, dtype=np.int32) for row in rows]


def _window_size(policy: LanguagePolicy) -> int:
    return min(context_length(policy.model.config) or MAX_WINDOW, MAX_WINDOW)
