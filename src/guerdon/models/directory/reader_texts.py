"""The token ids that other readers of a saved model give it for a conversation, each by its own default path.

Read from the sources of transformers 5, TRL 1.16, vLLM 0.33, verl 0.9 and OpenRLHF 0.11; none of them is run here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from guerdon.contracts import Finding
from guerdon.models.chat import ChatTokenizer
from guerdon.models.hidden_text import PARTS, hidden_parts
from guerdon.models.rendering import apply_template

Turns = Sequence[Mapping[str, str]]

_ANSWER: Final = ({"role": "user", "content": "Is it good?"}, {"role": "assistant", "content": "Yes, it is."})
CONVERSATIONS: Final[tuple[Turns, ...]] = (
    _ANSWER,
    (*_ANSWER, {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "It has what one needs."}),
    ({"role": "system", "content": "Be brief."}, *_ANSWER),
)
CONTEXT: Final = 6  # tokens shown around the first that differs


@dataclass(frozen=True, slots=True)
class Reader:
    """Programs that read a conversation in one way, and what to do where that is not ours.

    after_template: whether it changes the text that the template gives, and is compared with that text.
    """

    name: str
    read: Callable[[Any, Turns], list[int]]
    remedy: str
    after_template: bool = True


def transformers_ids(tokenizer: Any, turns: Turns) -> list[int]:
    """apply_chat_template, tokenized without further special tokens; vLLM's /classify with messages, TRL's reward models."""
    return list(tokenizer(apply_template(tokenizer, turns), add_special_tokens=False)["input_ids"])


def verl_ids(tokenizer: Any, turns: Turns) -> list[int]:
    """The same text without its BOS as the `input` of vLLM, which adds special tokens as the tokenizer says."""
    return list(tokenizer(apply_template(tokenizer, turns).removeprefix(tokenizer.bos_token or ""))["input_ids"])


def openrlhf_ids(tokenizer: Any, turns: Turns) -> list[int]:
    """The same text without newlines at its end, ended by EOS: the reward dataset and the scores of a remote reward model."""
    text, end = apply_template(tokenizer, turns).rstrip("\n"), tokenizer.eos_token or ""
    ids = tokenizer(text if text.endswith(end) else f"{text} {end}", add_special_tokens=False)["input_ids"]
    return [*ids[:-1], tokenizer.eos_token_id] if end else list(ids)


READERS: Final = (
    Reader(
        "transformers, TRL and vLLM",
        transformers_ids,
        "run `guerdon doctor {folder} --repair OUT`, which stores the system message and the date in the chat template",
        after_template=False,
    ),
    Reader("verl", verl_ids, "score in verl with a function of your own that sends messages to vLLM's /classify"),
    Reader(
        "OpenRLHF",
        openrlhf_ids,
        'train with a chat template that ends in EOS: "OpenRLHF" in docs/saved-model.md shows how',
    ),
)


def reading_findings(text: ChatTokenizer, folder: Path) -> Iterator[Finding]:
    """A warning for each reader that reads another text than we do, and for what the chat template leaves out."""
    for reader in READERS:
        if difference := _first_difference(text, reader):
            title = f"another text than Guerdon's in {reader.name}"
            yield Finding("warning", title, difference, reader.remedy.format(folder=folder))
    if hidden := [part.name for part in hidden_parts(text) if not part.is_custom]:
        yield Finding(
            "warning",
            "the chat template leaves text out",
            f"of {len(PARTS)} parts of a conversation it does not show {', '.join(hidden)}",
            "use a model whose chat template shows what your data have",
        )


def _first_difference(text: ChatTokenizer, reader: Reader) -> str:
    """Where the reader's ids differ from ours, in words; empty if they are the same in each conversation that is accepted."""
    for turns in CONVERSATIONS:
        try:
            ours = text.encode([list(turns[:-1])], [turns[-1]["content"]])[0].ids.tolist()
            ours = transformers_ids(text.tokenizer, turns) if reader.after_template else ours
            theirs = reader.read(text.tokenizer, turns)
        except Exception:
            continue
        if ours != theirs:
            start = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), -1)
            start = min(len(ours), len(theirs)) if start < 0 else start
            shown = (text.tokenizer.decode(ids[max(0, start - 2) : start + CONTEXT]) for ids in (theirs, ours))
            return "it reads {!r} in place of {!r}".format(*shown)
    return ""
