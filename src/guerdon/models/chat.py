"""Conversation to token ids, once for everything: chat template, truncation policy, special tokens.

Every part of Guerdon that shows text to a reward model goes through `Text.encode`, so training, scoring and audits see the
same ids for the same conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from guerdon.contracts import (
    GuerdonError,
    Message,
    Prompt,
    PromptLike,
    Response,
    ResponseLike,
    as_prompt,
    as_response,
    digest,
)

if TYPE_CHECKING:
    from jaxtyping import Int

PLAIN_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] | capitalize }}: {{ m['content'] }}{{ '\\n\\n' if not loop.last }}{% endfor %}"
    "{{ '\\n\\nAssistant:' if add_generation_prompt }}"  # in expressions: a newline after a block is trimmed
)
PAD_NAMES = ("<|finetune_right_pad_id|>", "<|pad|>", "<pad>", "[PAD]", "<|fim_pad|>", "<unk>", "<empty_output>")


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of one conversation [t] (int32), and whether its beginning was cut away."""

    ids: Int[np.ndarray, " t"]
    truncated: bool


@dataclass(frozen=True, slots=True)
class Text:
    """A tokenizer with the choices that decide what the model sees.

    `template` is "model" or "plain"; `truncation` is refuse, drop or left (drop cuts like left when a score is asked for, and says
    so in `truncated`); `system` is put before prompts that have no system message; `encoder` models get their
    tokenizer's own special tokens.
    """

    tokenizer: Any
    max_length: int = 1024
    truncation: str = "refuse"
    template: str = "model"
    system: str | None = None
    encoder: bool = False
    kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def chat_template(self) -> str:
        """The Jinja source in use; an error that names the remedy where the tokenizer has none."""
        if self.template == "plain":
            return PLAIN_TEMPLATE
        own = self.tokenizer.chat_template
        if isinstance(own, dict):
            own = own.get("default")
        if not own:
            name = self.tokenizer.name_or_path or "this model"
            raise GuerdonError(
                f"{name}: the tokenizer has no chat template; remedy: model.template=plain, or a chat model as model.base"
            )
        return str(own)

    @property
    def template_hash(self) -> str:
        """Changes whenever the same conversation would be rendered differently."""
        return digest([self.chat_template, self.system])

    def render(self, prompt: Prompt, response: Response) -> str:
        """The conversation as the model reads it. A response that was cut ("length") is left open: no end-of-turn marker."""
        messages = [*prompt, Message("assistant", response.text)]
        if self.system is not None and prompt[:1] and prompt[0].role != "system":
            messages.insert(0, Message("system", self.system))
        turns = [{"role": m.role, "content": m.content} for m in messages]
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    turns,
                    chat_template=self.chat_template,
                    tokenize=False,
                    continue_final_message=response.finish == "length" and bool(response.text.strip()),
                )
            )
        except GuerdonError:
            raise
        except Exception as error:  # a template is somebody's program: whatever it raises is about this conversation
            roles = ",".join(m.role for m in messages)
            raise GuerdonError(
                f"the chat template refuses a conversation of roles {roles}: {error}; remedy: reorder or merge the turns"
            ) from None

    def encode(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> list[Encoded]:
        """Token ids of each conversation, in order; too long ones are cut on the left (the prompt's beginning) and say so.

        Raises GuerdonError under truncation "refuse" when any is too long, with the count, the longest, and the remedy.
        """
        if len(prompts) != len(responses):
            raise GuerdonError(
                f"score: {len(prompts)} prompts but {len(responses)} responses; remedy: give one prompt for each response"
            )
        texts = [whole(self.render(as_prompt(p), as_response(r))) for p, r in zip(prompts, responses, strict=True)]
        if not texts:
            return []
        rows = self.tokenizer(texts, add_special_tokens=self.encoder, verbose=False)["input_ids"]
        if self.truncation == "refuse":
            self.refuse_long([len(row) for row in rows])
        return [self._cut(np.asarray(row, dtype=np.int32)) for row in rows]

    def refuse_long(self, lengths: Sequence[int], unit: str = "texts") -> None:
        """Raise where any length passes max_length, with the count and the longest."""
        long = [n for n in lengths if n > self.max_length]
        if long:
            raise GuerdonError(
                f"model.max_length={self.max_length}: {len(long)} of {len(lengths)} {unit} are longer (longest {max(long)} tokens); "
                f"remedy: model.max_length={max(long)} if the model's context allows it, or model.truncation=drop or left"
            )

    def _cut(self, ids: np.ndarray) -> Encoded:
        if len(ids) == 0:
            raise GuerdonError("a conversation renders to no tokens at all; remedy: give it a prompt or a response")
        if len(ids) <= self.max_length:
            return Encoded(ids, truncated=False)
        first = ids[:1] if ids[0] == self.tokenizer.bos_token_id or self.encoder else ids[:0]
        return Encoded(np.concatenate([first, ids[len(ids) - self.max_length + len(first) :]]), truncated=True)


def whole(text: str) -> str:
    """The text with U+FFFD for each half of a character (a lone surrogate), which no tokenizer takes."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def ensure_pad_token(tokenizer: Any) -> int:
    """Give the tokenizer a pad token that never ends a text, and return how many tokens were added to the vocabulary (0 or 1).

    Readers that look for "the last token that is not padding" would otherwise skip a real end token.
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
        ids = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False)["input_ids"]
    except (
        Exception
    ):  # a template that refuses this probe may still serve its own conversations; render() reports it then
        return None
    return int(ids[-1]) if ids else None
