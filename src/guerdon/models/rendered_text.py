"""Conversations that come as text or as token ids, rendered by a trainer that has the model's chat template.

Trainers drop tokens at both ends: some the beginning-of-text token, which their engine adds again, some what the template writes
after the token that ends a turn, because a policy never writes it. Both are put back, so that a text is read as the conversation
itself is. A text that stops before its end token is one that was cut, and is left open. Token ids are read as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import final

from guerdon.contracts import GuerdonError, Prompt, as_prompt, as_response
from guerdon.errors import field_error
from guerdon.models.chat import ChatTokenizer, Encoded
from guerdon.models.chat_template import ChatTemplate, replace_surrogates


@final
class RenderedText:
    """Reads texts and token ids as a model's ChatTokenizer reads conversations.

    start: the token that every text begins with. ending: those that end one, from its end token on. Empty where there are none.
    """

    def __init__(self, text: ChatTokenizer) -> None:
        self.text = text
        self.start, self.ending = ([], []) if text.encoder else (_start(text), _ending(text))

    def encode(self, texts: Sequence[str], places: Sequence[str], max_length: int | None = None) -> list[Encoded]:
        """Token ids of texts. places: where each is, for errors. max_length: to which a longer one loses its beginning."""
        if not texts:
            return []
        rows = self.text.token_ids([replace_surrogates(text) for text in texts])
        return self._checked([self._completed(row) for row in rows], places, max_length)

    def encode_ids(
        self, rows: Sequence[Sequence[int]], places: Sequence[str], max_length: int | None = None
    ) -> list[Encoded]:
        """Token ids as they are, checked."""
        vocabulary = self.text.vocabulary
        for row, place in zip(rows, places, strict=True):
            outside = next((i for i in row if i < 0 or (vocabulary is not None and i >= vocabulary)), None)
            if outside is not None:
                raise field_error(
                    f"{place}: token ids", f"at least 0 and below {vocabulary}", outside, "Use the model's tokenizer."
                )
        return self._checked(rows, places, max_length)

    def _checked(self, rows: Sequence[Sequence[int]], places: Sequence[str], max_length: int | None) -> list[Encoded]:
        prompts = [Prompt(()).at(place) for place in places]
        for row, prompt in zip(rows, prompts, strict=True):
            if not len(row):
                with prompt.named_in_errors():
                    raise GuerdonError("the text must have at least one token, got none. Send the conversation.")
        return cut_to(self.text, max_length).checked(rows, prompts)

    def _completed(self, row: list[int]) -> list[int]:
        if self.start and row and row[:1] != self.start:
            row = [*self.start, *row]
        for size in range(len(self.ending), 0, -1):
            if row[-size:] == self.ending[:size]:
                return [*row, *self.ending[size:]]
        return row


def cut_to(text: ChatTokenizer, max_length: int | None) -> ChatTokenizer:
    """The same, which cuts the beginning of texts above max_length; unchanged for None."""
    if max_length is None:
        return text
    return replace(text, truncation="left", max_length=min(max_length, text.max_length))


def _start(text: ChatTokenizer) -> list[int]:
    first = text.token_ids([text.render(as_prompt("a"), as_response("b"))])[0][:1]
    return first if first == [text.tokenizer.bos_token_id] else []


def _ending(text: ChatTokenizer) -> list[int]:
    """Empty unless it begins with a special token: white space that ends a text may be the reply's own."""
    try:
        ending = ChatTemplate(text.tokenizer, text.chat_template, text.system).ending()
    except GuerdonError:
        return []
    ids = text.token_ids([ending])[0] if ending else []
    return ids if ids and ids[0] in text.tokenizer.all_special_ids else []
