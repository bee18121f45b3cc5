"""Which tokenizers llama.cpp can reproduce, and under which name it knows how they split a text."""

from __future__ import annotations

import json

import pytest
from gguf_models import HARD, byte_tokenizer

from guerdon import GuerdonError
from guerdon.models.directory.gguf_vocabulary import CONTROL, NORMAL, RULES, UNUSED, USER_DEFINED, gguf_vocabulary
from tiny import tiny_tokenizer


@pytest.mark.parametrize("rule", list(RULES))
def test_the_rule_is_read_from_the_tokenizer_and_every_row_has_its_token(rule):
    tokenizer = byte_tokenizer(rule)
    rows = len(tokenizer) + 2
    vocabulary = gguf_vocabulary(tokenizer, rows, "m")
    assert (vocabulary.rule, vocabulary.is_nfc) == (rule, False)
    assert vocabulary.tokens[:-2] == tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert vocabulary.tokens[-1] == f"[PAD{rows - 1}]"
    kinds = dict(zip(vocabulary.tokens, vocabulary.kinds, strict=True))
    assert [kinds[token] for token in ("<|im_end|>", "<think>", "e")] == [CONTROL, USER_DEFINED, NORMAL]
    assert vocabulary.kinds[-2:] == [UNUSED] * 2
    assert all(len(merge.split(" ")) == 2 and "".join(merge.split(" ")) in kinds for merge in vocabulary.merges)
    assert vocabulary.special == {"bos": 0, "eos": 1, "pad": 2}


def test_rules_differ_in_what_they_do():
    pieces = {
        rule: str([byte_tokenizer(rule).backend_tokenizer.pre_tokenizer.pre_tokenize_str(t) for t in HARD])
        for rule in RULES
    }
    assert len(set(pieces.values())) == len(RULES)


def changed(rule: str, **changes):
    """A tokenizer with another value in its file."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    spec = json.loads(byte_tokenizer(rule).backend_tokenizer.to_str())
    for path, value in changes.items():
        *outer, last = path.split("__")
        inner = spec
        for key in outer:
            inner = inner[int(key) if key.isdigit() else key]
        inner[last] = value
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(spec)))


@pytest.mark.parametrize(
    ("tokenizer", "found"),
    [
        (lambda: tiny_tokenizer(), "got WordLevel"),
        (lambda: changed("gpt-2", model__byte_fallback=True), "got SentencePiece"),
        (lambda: changed("gpt-2", normalizer={"type": "NFKC"}), "got the normalizer NFKC"),
        (lambda: changed("gpt-2", pre_tokenizer={"type": "Whitespace"}), r"got another rule \(Whitespace\)"),
        (lambda: changed("llama-bpe", model__ignore_merges=False), "got another rule"),
        (lambda: changed("gpt-2", added_tokens__3__lstrip=True), r"takes its surroundings with it \('<think>'\)"),
    ],
)
def test_another_tokenizer_is_refused_in_one_line(tokenizer, found):
    with pytest.raises(GuerdonError, match=found) as caught:
        gguf_vocabulary(tokenizer(), 400, "m")
    assert "\n" not in str(caught.value)
    assert "gpt-2, smollm, llama-bpe, qwen2" in str(caught.value)


def test_a_token_without_a_row_is_refused():
    tokenizer = byte_tokenizer("gpt-2")
    with pytest.raises(GuerdonError, match=r"has id \d+, but the model's embedding has 100 rows"):
        gguf_vocabulary(tokenizer, 100, "m")
