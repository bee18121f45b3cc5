"""What requests hold, and how models read it: conversations, rendered texts and token ids, for each tokenizer of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from guerdon.contracts import Prompt, Response
from guerdon.models.chat import ChatTokenizer, Encoded
from guerdon.models.chat_template import ChatTemplate, replace_surrogates
from guerdon.models.fingerprint import tokenizer_fingerprint
from guerdon.models.rendered_text import RenderedText, cut_to

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Int


@dataclass(frozen=True, slots=True)
class Item:
    """A text to score: a conversation, or one that a trainer rendered, as text or as token ids.

    place: where in the request it is, for errors. template: a chat template for this conversation instead of the model's.
    max_length: tokens to which a longer text is cut at its beginning; None refuses it unless the model was loaded to cut.
    """

    place: str
    prompt: Prompt | None = None
    response: Response | None = None
    text: str | None = None
    ids: tuple[int, ...] | None = None
    template: str | None = None
    max_length: int | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Reading:
    """An item as a model reads it: the token ids of each of its texts, one per tokenizer in it; none for a judge.

    ids, key: of the first, as it is compared with others. num_tokens: what it adds to a pass at most, over all members.
    """

    item: Item
    texts: tuple[Encoded, ...]
    num_tokens: int
    ids: Int[np.ndarray, " t"]
    key: bytes


@final
class ItemReader:
    """Reads items for models with these texts, one for each scalar model; those that read alike are read once."""

    def __init__(self, texts: Sequence[ChatTokenizer]) -> None:
        self._texts, self._text_of = _distinct_texts(texts)
        self._rendered = [RenderedText(text) for text in self._texts]
        self.max_length = min(text.max_length for text in self._texts)

    def read(self, items: Sequence[Item]) -> list[Reading]:
        """Token ids of each item, for each tokenizer of the model."""
        columns = [_encoded(rendered, items) for rendered in self._rendered]
        readings = []
        for item, *texts in zip(items, *columns, strict=True):
            ids = texts[0].ids
            num_tokens = sum(len(texts[at].ids) for at in self._text_of)
            readings.append(Reading(item, tuple(texts), num_tokens, ids, ids.astype(">u4").tobytes()))
        return readings

    def columns(self, readings: Sequence[Reading]) -> list[list[Encoded]]:
        """What each scalar model reads, in their order."""
        return [[reading.texts[at] for reading in readings] for at in self._text_of]


def _encoded(rendered: RenderedText, items: Sequence[Item]) -> list[Encoded]:
    """In the order of the items. Those of one form are read together, as a tokenizer is fastest."""
    forms: dict[tuple[str, int | None, str | None], list[int]] = {}
    for i, item in enumerate(items):
        form = "text" if item.text is not None else "ids" if item.ids is not None else "conversation"
        forms.setdefault((form, item.max_length, item.template), []).append(i)
    encoded: dict[int, Encoded] = {}
    for (form, max_length, template), rows in forms.items():
        some = [items[i] for i in rows]
        places = [item.place for item in some]
        if form == "text":
            read = rendered.encode([item.text or "" for item in some], places, max_length)
        elif form == "ids":
            read = rendered.encode_ids([item.ids or () for item in some], places, max_length)
        else:
            read = _conversations(cut_to(rendered.text, max_length), some, template)
        encoded |= zip(rows, read, strict=True)
    return [encoded[i] for i in range(len(items))]


def _conversations(text: ChatTokenizer, items: Sequence[Item], template: str | None) -> list[Encoded]:
    prompts = [(item.prompt or Prompt(())).at(item.place) for item in items]
    responses = [item.response or Response("") for item in items]
    if template is None:
        return text.encode(prompts, responses)
    renderer = ChatTemplate(text.tokenizer, template, text.system)
    texts = [renderer.conversation(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]
    return text.checked(text.token_ids([replace_surrogates(rendered) for rendered in texts]), prompts)


def _distinct_texts(texts: Sequence[ChatTokenizer]) -> tuple[list[ChatTokenizer], list[int]]:
    """Those that read differently, and for each of the texts the one that reads as it does."""
    keys: dict[object, int] = {}
    distinct: list[ChatTokenizer] = []
    index: list[int] = []
    for text in texts:
        key = (
            tokenizer_fingerprint(text.tokenizer),
            text.template_hash,
            text.max_length,
            text.truncation,
            text.encoder,
        )
        if key not in keys:
            keys[key] = len(distinct)
            distinct.append(text)
        index.append(keys[key])
    return distinct, index
