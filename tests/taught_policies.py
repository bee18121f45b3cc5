"""Small policies that learned the sentences of the battery, to be damaged on purpose: what they lost is known."""

from __future__ import annotations

import re

import numpy as np
import torch

from guerdon.alignment_tax.minimal_pairs import minimal_pairs
from guerdon.config import PolicyOptions, TaxOptions
from guerdon.models.directory.policies import load_policy
from guerdon.models.policy import LanguagePolicy
from tiny import CHAT_TEMPLATE, SPECIAL, tiny_config

SENTENCES = [item.right for item in minimal_pairs()]
HELD = SENTENCES[::6]
READ = TaxOptions(tasks=["text", "minimal_pairs"], form="plain")
GENERATED = TaxOptions(tasks=["unrepeated", "distinct", "vocabulary", "answered"], max_tokens=16)


def untaught():
    """A policy with a token for each word of the minimal pairs, with random weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    words = sorted({word for text in SENTENCES for word in re.findall(r"\w+|[^\w\s]+", text)})
    names = [*SPECIAL, *words]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(names)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<pad>",
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    config = tiny_config(tokenizer, hidden_size=48, intermediate_size=96, max_position_embeddings=256)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LanguagePolicy(LlamaForCausalLM(config), tokenizer, name="taught")


def teach(policy, rows, steps, lr=1e-2, size=64):
    """Next-token prediction on rows of ids, drawn by length so that little is padded."""
    rng, pad = np.random.default_rng(0), policy.tokenizer.pad_token_id
    rows = sorted(rows, key=len)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
    for _ in range(steps):
        at = int(rng.integers(max(1, len(rows) - size + 1)))
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(r) for r in rows[at : at + size]], True, pad)
        mask = ids != pad
        loss = policy.model(input_ids=ids, attention_mask=mask.long(), labels=ids.masked_fill(~mask, -100)).loss
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return policy


def ids_of(policy, texts):
    bos, eos = policy.tokenizer.bos_token_id, policy.tokenizer.eos_token_id
    return [[bos, *ids, eos] for ids in policy.tokenizer(list(texts), add_special_tokens=False)["input_ids"]]


def load_local(folder, **options):
    return load_policy(PolicyOptions(base=str(folder), **options))


def noisy(policy, scale):
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for weight in policy.model.parameters():
            weight += scale * weight.std() * torch.randn(weight.shape, generator=generator)
    return policy
