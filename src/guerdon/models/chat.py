"""Conversations to token ids: chat template, truncation, special tokens.

Everything that shows text to a reward model goes through `ChatTokenizer.encode`, so training, scoring and audits see the
same ids for the same conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from guerdon.config.base import TemplateName, Truncation
from guerdon.contracts import (
    GuerdonError,
    Prompt,
    PromptLike,
    Response,
    ResponseLike,
    as_prompt,
    as_response,
    digest,
)
from guerdon.errors import counted, verb
from guerdon.models.chat_template import ChatTemplate, replace_surrogates
from guerdon.models.rendering import apply_template
from guerdon.models.template_source import PLAIN_TEMPLATE, own_template, template_source, with_saved_system

if TYPE_CHECKING:
    from jaxtyping import Int

PAD_NAMES = ("<|finetune_right_pad_id|>", "<|pad|>", "<pad>", "[PAD]", "<|fim_pad|>", "<unk>", "<empty_output>")


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of one conversation [t] (int32), and whether its beginning was truncated."""

    ids: Int[np.ndarray, " t"]
    truncated: bool


@dataclass(frozen=True, slots=True)
class ChatTokenizer:
    """A tokenizer with the options that decide what the model sees.

    template: "model" or "plain". truncation: refuse, drop or left; for a score, drop truncates as left does and sets
    `truncated`. system: put before prompts that have no system message. encoder: add the tokenizer's own special tokens.
    vocabulary: how many token ids the model has an embedding for; None if that is unknown.
    """

    tokenizer: Any
    max_length: int = 1024
    truncation: Truncation = "refuse"
    template: TemplateName = "model"
    system: str | None = None
    encoder: bool = False
    vocabulary: int | None = None

    @property
    def chat_template(self) -> str:
        """The Jinja source in use."""
        if self.template == "plain":
            return PLAIN_TEMPLATE if self.encoder else template_source(self.tokenizer, "plain")
        source = own_template(self.tokenizer)
        if source is None:
            name = self.tokenizer.name_or_path or "this model"
            raise GuerdonError(
                f"{name}: the tokenizer must have a chat template, got none. "
                "Set model.template=plain, or choose a chat model as model.base."
            )
        return source

    @property
    def saved_template(self) -> str:
        """The source with the system message in it: gives every reader of a saved model the text that we read."""
        return with_saved_system(self.chat_template, self.system)

    @property
    def template_hash(self) -> str:
        """Changes whenever the same conversation would be rendered differently."""
        return digest([self.chat_template, self.system])

    def render(self, prompt: Prompt, response: Response) -> str:
        """The conversation as the model reads it; see ChatTemplate for what is refused."""
        return self.renderer().conversation(prompt, response)

    def renderer(self) -> ChatTemplate:
        """The chat template, which remembers what it has rendered: one serves one batch."""
        return ChatTemplate(self.tokenizer, self.chat_template, self.system)

    def encode(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> list[Encoded]:
        """Token ids of each conversation, in order; long ones lose their beginning and have `truncated` set.

        Raises GuerdonError for the first that the template refuses and, under truncation "refuse", for the first that is too
        long, with the count and the longest.
        """
        if len(prompts) != len(responses):
            raise GuerdonError(
                f"score: each response must have its prompt, got {len(prompts)} prompts but {len(responses)} responses. "
                "Give one prompt per response."
            )
        template = self.renderer()
        pairs = [(as_prompt(p), as_response(r)) for p, r in zip(prompts, responses, strict=True)]
        texts = [replace_surrogates(template.conversation(prompt, response)) for prompt, response in pairs]
        if not texts:
            return []
        return self.checked(self.token_ids(texts), [prompt for prompt, _ in pairs])

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of rendered texts, of any length."""
        rows: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=self.encoder, verbose=False)["input_ids"]
        return rows

    def checked(self, rows: Sequence[Sequence[int]], prompts: Sequence[Prompt]) -> list[Encoded]:
        """Rows of token ids as the model takes them; raises as `encode` does. prompts: those whose place an error names."""
        self._refuse_unknown(rows, prompts)
        if self.truncation == "refuse":
            self._refuse_long(rows, prompts)
        return [self.truncate(np.asarray(row, dtype=np.int32)) for row in rows]

    def _refuse_unknown(self, rows: Sequence[Sequence[int]], prompts: Sequence[Prompt]) -> None:
        """Raise for a token that the tokenizer has and the model has not: a row made up for it would be a made-up score."""
        highest = [max(row, default=0) for row in rows]
        last = max(highest)
        if self.vocabulary is not None and last >= self.vocabulary:
            token, prompt = self.tokenizer.convert_ids_to_tokens(last), prompts[highest.index(last)]
            with prompt.named_in_errors():
                raise GuerdonError(
                    f"{self.tokenizer.name_or_path or 'tokenizer'}: its token {token!r} has id {last}, but the model's embedding "
                    f"has {self.vocabulary} rows. Copy the tokenizer that the weights were saved with, or save the embedding that "
                    "was trained."
                )

    def _refuse_long(self, rows: Sequence[Sequence[int]], prompts: Sequence[Prompt]) -> None:
        """Raise about the first text longer than max_length, with the count and the longest."""
        long = [i for i, row in enumerate(rows) if len(row) > self.max_length]
        if not long:
            return
        longest, prompt = max(map(len, rows)), prompts[long[0]]
        with prompt.named_in_errors():
            raise GuerdonError(
                f"model.max_length={self.max_length}: {len(long)} of {counted(len(rows), 'text')} "
                f"{verb(len(long), 'are')} longer (longest {longest} tokens). "
                f"Set model.max_length={longest} if the model's context allows it, or model.truncation=left, which cuts their "
                "beginning and marks them."
            )

    def truncate(self, ids: Int[np.ndarray, " t"]) -> Encoded:
        """The last max_length ids, after the beginning-of-text token where there is one."""
        if len(ids) == 0:
            raise GuerdonError(
                "a conversation must render to at least one token, got none. Give it a prompt or a response."
            )
        if len(ids) <= self.max_length:
            return Encoded(ids, truncated=False)
        first = ids[:1] if ids[0] == self.tokenizer.bos_token_id or self.encoder else ids[:0]
        return Encoded(np.concatenate([first, ids[len(ids) - self.max_length + len(first) :]]), truncated=True)


def ensure_pad_token(tokenizer: Any) -> int:
    """Give the tokenizer a pad token that never ends a text; returns how many tokens were added to the vocabulary (0 or 1).

    Readers that look for the last token that is not padding would otherwise skip a real end token.
    """
    ends = {tokenizer.eos_token_id, tokenizer.bos_token_id, _last_template_token(tokenizer)}
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id not in ends:
        return 0
    vocabulary = tokenizer.get_vocab()
    for name in PAD_NAMES:
        if name in vocabulary and vocabulary[name] not in ends:
            tokenizer.pad_token = name
            return 0
    return int(tokenizer.add_special_tokens({"pad_token": "<|pad|>"}))


def _last_template_token(tokenizer: Any) -> int | None:
    if not tokenizer.chat_template:
        return None
    try:
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        ids = tokenizer(apply_template(tokenizer, turns), add_special_tokens=False)["input_ids"]
    except GuerdonError:
        raise
    except Exception:  # the template may still accept its own conversations; render() reports it if not
        return None
    return int(ids[-1]) if ids else None
