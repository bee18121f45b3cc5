"""A tokenizer as llama.cpp holds one: tokens, their kinds, merges, and the name of the rule that splits a text before it merges.

llama.cpp knows these rules by name only, and a wrong name gives other tokens without a word. So the rule is read from the tokenizer
that is in use, not from the model's name, and a tokenizer with any other rule is refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from guerdon.contracts import GuerdonError

BYTE_LEVEL: Final = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
BYTES_ONLY: Final = BYTE_LEVEL | {"use_regex": False}
_WORDS: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _split(digits: str) -> dict[str, Any]:
    """Words, marks and runs of digits apart."""
    pattern = {"Regex": _WORDS.replace("DIGITS", digits)}
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


# llama.cpp's name -> the steps of the tokenizer that it stands for, and whether a word of the vocabulary skips the merges.
RULES: Final[dict[str, tuple[list[dict[str, Any]], bool]]] = {
    "gpt-2": ([BYTE_LEVEL], False),
    "smollm": ([{"type": "Digits", "individual_digits": True}, BYTE_LEVEL], False),
    "llama-bpe": ([_split(r"\p{N}{1,3}"), BYTES_ONLY], True),
    "qwen2": ([_split(r"\p{N}"), BYTES_ONLY], False),
}
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # gguf.TokenType


@dataclass(frozen=True, slots=True)
class GgufVocabulary:
    """rule: llama.cpp's name of how texts are split. tokens, kinds: one per row of the embedding. merges: "left right".
    special: bos, eos and pad where there are any. is_nfc: whether texts must be in the Unicode form NFC before llama.cpp gets them."""

    rule: str
    tokens: list[str]
    kinds: list[int]
    merges: list[str]
    special: dict[str, int]
    is_nfc: bool


def gguf_vocabulary(tokenizer: Any, rows: int, source: str) -> GgufVocabulary:
    """The vocabulary of a fast tokenizer. rows: of the model's embedding; source: the model, for errors.

    Raises GuerdonError for a tokenizer whose tokens llama.cpp would not reproduce.
    """
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    model = spec["model"]
    if (last := max(tokenizer.get_vocab().values())) >= rows:
        token = tokenizer.convert_ids_to_tokens(last)
        raise GuerdonError(
            f"{source}: its token {token!r} has id {last}, but the model's embedding has {rows} rows. "
            "Copy the tokenizer that the weights were saved with."
        )
    tokens, kinds = [f"[PAD{i}]" for i in range(rows)], [UNUSED] * rows
    rule = _rule(spec, source)
    for token, number in model["vocab"].items():
        tokens[number], kinds[number] = token, NORMAL
    for added in spec["added_tokens"]:
        if added["lstrip"] or added["rstrip"] or added["single_word"]:
            raise _refusal(source, f"a token that takes its surroundings with it ({added['content']!r})")
        tokens[added["id"]], kinds[added["id"]] = added["content"], CONTROL if added["special"] else USER_DEFINED
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    ids = {name: getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    special = {name: int(number) for name, number in ids.items() if number is not None}
    return GgufVocabulary(rule, tokens, kinds, merges, special, is_nfc=spec["normalizer"] is not None)


def _rule(spec: dict[str, Any], source: str) -> str:
    """llama.cpp's name for how the tokenizer splits a text."""
    model, normalizer = spec["model"], spec["normalizer"]
    if model["type"] != "BPE" or model.get("byte_fallback"):
        raise _refusal(source, "SentencePiece" if model.get("byte_fallback") else model["type"])
    if normalizer is not None and normalizer != {"type": "NFC"}:
        raise _refusal(source, f"the normalizer {normalizer['type']}")
    first = spec["pre_tokenizer"] or {"type": "no steps"}
    steps = first["pretokenizers"] if first["type"] == "Sequence" else [first]
    plain = [{key: value for key, value in step.items() if key != "trim_offsets"} for step in steps]
    for name, rule in RULES.items():
        if rule == (plain, bool(model.get("ignore_merges"))):
            return name
    raise _refusal(source, f"another rule ({', '.join(step['type'] for step in steps)})")


def _refusal(source: str, actual: str) -> GuerdonError:
    return GuerdonError(
        f"{source}: the tokenizer must split texts by a rule that llama.cpp has under a name that we know ({', '.join(RULES)}), "
        f"got {actual}. Serve the model with `guerdon serve`."
    )
