"""How likely a policy finds given texts: whole ones, and continuations of a context, plain or as a reply to a chat.

Axes: n texts, t tokens. Everything is read through `LanguagePolicy.read`, so what texts begin with alike is computed once.
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

LONGEST = 2048  # tokens of a window, where the model's context is longer: a pass must fit in memory


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
    """Nats of each continuation behind its context, without an end token.

    A context that is a string is plain text, and a continuation brings its own space; one that is a prompt is rendered by
    the chat template, and the continuation is the reply. What does not fit the model's context loses its beginning.
    """
    return pair_likelihood(policy, split_token_ids(policy, contexts, continuations), micro_tokens, greedy=greedy)


def text_likelihood(policy: LanguagePolicy, texts: Sequence[str], *, micro_tokens: int = 4096) -> Likelihood:
    """Nats of each text, plain and whole.

    A text longer than the model's context is read in windows: every token is predicted once, the last window looks back
    as far as it can (as lm-evaluation-harness does).
    """
    first = np.asarray(opening_ids(policy.tokenizer, needed=True), dtype=np.int32)
    pairs, owner = [], []
    for i, ids in enumerate(_ids(policy, texts)):
        for pair in _windows(first, ids, _longest(policy)):
            pairs.append(pair)
            owner.append(i)
    parts = pair_likelihood(policy, pairs, micro_tokens)
    nats = np.bincount(owner, weights=parts.log_prob, minlength=len(texts))
    tokens = np.bincount(owner, weights=parts.num_tokens, minlength=len(texts))
    return Likelihood(nats, tokens.astype(np.int64))


def pair_likelihood(
    policy: LanguagePolicy, pairs: Sequence[tuple[Any, Any]], micro_tokens: int = 4096, *, greedy: bool = False
) -> Likelihood:
    """The same in token ids: (context, continuation) each, a context of at least one token."""
    nats = np.zeros(len(pairs))
    sure, possible = np.ones(len(pairs), dtype=bool), np.ones(len(pairs), dtype=bool)
    said = [i for i, (_, continuation) in enumerate(pairs) if len(continuation)]
    texts = [np.concatenate(pairs[i]) for i in said]
    with torch.inference_mode(), policy._at_rest():
        for rows in policy.batches(texts, micro_tokens) if said else []:
            these = [said[row] for row in rows]
            found = policy.forward([pairs[i][0] for i in these], [pairs[i][1] for i in these])
            sizes = [len(pairs[i][1]) for i in these]
            for i, log_prob, entropy in zip(
                these, found.log_prob.split(sizes), found.entropy.split(sizes), strict=True
            ):
                nats[i] = float(log_prob.double().sum())
                sure[i] = bool((log_prob > -0.69).all())  # more than half of the chance: none is likelier
                # The likeliest token has at least exp(-entropy); the slack is single precision's
                possible[i] = bool((log_prob >= -entropy - 1e-3).all())
        if greedy:
            _settle(policy, pairs, sure, np.flatnonzero(possible & ~sure))
    lengths = np.array([len(continuation) for _, continuation in pairs], dtype=np.int64)
    return Likelihood(nats, lengths, sure if greedy else None)


def split_token_ids(
    policy: LanguagePolicy, contexts: Sequence[str | Prompt], continuations: Sequence[str]
) -> list[tuple[Any, Any]]:
    """Token ids of each context and of its continuation, at most as many together as the model reads.

    Plain text is tokenized whole and divided where the context ends; spaces at its end go to the continuation, whose
    first token they are part of.
    """
    both = list(zip(contexts, continuations, strict=True))
    whole_ids = _ids(policy, [c + text if isinstance(c, str) else text for c, text in both])
    different = list(dict.fromkeys(contexts))
    plain = [c.rstrip() for c in different if isinstance(c, str)]
    known: dict[str | Prompt, Any] = dict(zip(plain, _ids(policy, plain), strict=True))
    known |= {c: policy.encode(c) for c in different if not isinstance(c, str)}
    begin, needed = opening_ids(policy.tokenizer, needed=False), opening_ids(policy.tokenizer, needed=True)
    most, pairs = _longest(policy), []
    for (context, text), ids in zip(both, whole_ids, strict=True):
        if isinstance(context, str):
            size = min(len(known[context.rstrip()]), len(ids) - bool(text))
            before, after = _begun(ids[:size], begin if size else needed), ids[size:][-most:]
        else:
            before, after = known[context], ids[-most:]
        pairs.append((before[max(0, len(before) - (most + 1 - len(after))) :], after))
    return pairs


def plain_ids(policy: LanguagePolicy, texts: Sequence[str]) -> list[Any]:
    """Token ids of plain texts, each behind what its tokenizer begins texts with; never none."""
    begin, needed = opening_ids(policy.tokenizer, needed=False), opening_ids(policy.tokenizer, needed=True)
    return [_begun(ids, begin if len(ids) else needed) for ids in _ids(policy, texts)]


def opening_ids(tokenizer: Any, *, needed: bool) -> list[int]:
    """Tokens that the tokenizer itself puts before a text; where a token is needed and it puts none, its bos or its end."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    dressed = tokenizer("a")["input_ids"]
    at = next((i for i in range(len(dressed)) if dressed[i : i + len(plain)] == plain), 0)
    if at or not needed:
        return list(dressed[:at])
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return [int(token)]
    raise GuerdonError("the tokenizer has no token to begin a text with; remedy: give it a bos_token or an eos_token")


def _begun(ids: Any, first: list[int]) -> Any:
    if first and ids[: len(first)].tolist() == first:
        return ids  # a rendered chat has begun already
    return np.asarray([*first, *ids], dtype=np.int32)


def _settle(policy: LanguagePolicy, pairs: Sequence[tuple[Any, Any]], sure: np.ndarray, open_: np.ndarray) -> None:
    """Where the odds leave open whether every token was the likeliest, let the policy speak."""
    sizes = np.array([len(pairs[i][1]) for i in open_], dtype=np.int64)
    for size in np.unique(sizes):
        rows = open_[sizes == size]
        drawn = policy.generate([pairs[i][0] for i in rows], 1, int(size), temperature=0.0)
        for i, reply in zip(rows, drawn.replies, strict=True):
            sure[i] = np.array_equal(reply, pairs[i][1])


def _windows(first: Any, ids: Any, most: int) -> Iterator[tuple[Any, Any]]:
    if len(ids):
        yield first, ids[:most]
    for at in range(most, len(ids), most):
        end = min(at + most, len(ids))
        yield ids[end - most - 1 : at], ids[at:end]


def _ids(policy: LanguagePolicy, texts: Sequence[str]) -> list[Any]:
    if not texts:
        return []
    rows = policy.tokenizer([replace_surrogates(text) for text in texts], add_special_tokens=False, verbose=False)[
        "input_ids"
    ]
    return [np.asarray(row, dtype=np.int32) for row in rows]


def _longest(policy: LanguagePolicy) -> int:
    return min(context_length(policy.model.config) or LONGEST, LONGEST)
