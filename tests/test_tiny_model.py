"""The tiny model that other tests rest on is one that transformers loads like any other."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tiny import CHAT_TEMPLATE


def test_the_tiny_model_loads_speaks_and_pads_with_a_token_of_its_own(tiny_dir):
    model = AutoModelForCausalLM.from_pretrained(tiny_dir)
    tokenizer = AutoTokenizer.from_pretrained(tiny_dir)
    assert tokenizer.chat_template == CHAT_TEMPLATE
    assert len({tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id}) == 4
    text = tokenizer.apply_chat_template([{"role": "user", "content": "write a good tweet !"}], tokenize=False)
    ids = tokenizer(text, return_tensors="pt").input_ids
    assert tokenizer.unk_token_id not in ids
    assert ids[0, -1] == tokenizer.eos_token_id
    with torch.no_grad():
        assert model(ids).logits.shape == (1, ids.shape[1], len(tokenizer))
