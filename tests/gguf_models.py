"""Tiny random reward models with a byte-level tokenizer, of which llama.cpp knows how it splits a text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from families import FAMILIES, OTHERS, SIZES

from guerdon.config import ModelOptions
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.card import Calibration
from guerdon.models.directory.gguf_vocabulary import RULES
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.directory.saving import save
from guerdon.models.engine.pretrained import quiet
from guerdon.models.reward_model import ScalarRewardModel
from tiny import CHAT_TEMPLATE

CORPUS = [
    "The film was great, and we'd see it again in 2024!",
    "Was the film bad? It wasn't; the end was the best.",
    "a good film",
] * 3
HARD = (
    "The film was great, and we'd see it again in 2024!",
    "12345 films,   3.14\n\n\nand\ttabs   \n",
    "IT'S what they'Ll say: it's \u00e9t\u00e9, e\u0301t\u00e9, \u4e16\u754c, \U0001f680!!!...",
    "<|im_end|>\nspecial <|im_start|>user <think>words</think>",
    "   leading, trailing   ",
    "\u0e01\u0e33 \u0915\u094d\u0937 \u00bd \u2163 \u00e9",
    "x",
)  # fmt: skip
SPECIAL = ["<|im_start|>", "<|im_end|>", "<pad>"]
PAIRS = [("Write a review.", "The film was great."), ("Was it good?", "No, 3 of 10.")]


def byte_tokenizer(rule: str, normalizer: str | None = None) -> Any:
    """A tokenizer of about 300 tokens that splits texts by one of llama.cpp's rules."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(ignore_merges=RULES[rule][1]))
    spec = json.loads(tokenizer.to_str())
    steps, _ = RULES[rule]
    spec["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [step | ({"trim_offsets": True} if step["type"] == "ByteLevel" else {}) for step in steps],
    }
    spec["normalizer"] = normalizer and {"type": normalizer}
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens([AddedToken("<think>", special=False)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=SPECIAL[0], eos_token=SPECIAL[1], pad_token=SPECIAL[2]
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def byte_model(
    path: Path, family: str = "llama", rule: str = "gpt-2", max_length: int = 120, **more: Any
) -> CalibratedModel:
    """Write a calibrated reward model of two layers and width 32 into path, and return it."""
    import transformers

    tokenizer = byte_tokenizer(rule, normalizer="NFC" if rule == "qwen2" else None)
    kind, model, differs = {**FAMILIES, **OTHERS}[family]
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = getattr(transformers, kind)(
        **{**SIZES, "initializer_range": 0.5, "vocab_size": len(tokenizer) + 5, **ids, **differs, **more}
    )
    base = path.with_name(f"{path.name}-base")
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)
        network = getattr(transformers, model)(config)
        for name, value in network.named_parameters():
            if "norm" in name or name.endswith("bias"):  # all ones or zeros: a mistake in them would not show
                torch.nn.init.normal_(value.data, 1.0, 0.3)
        network.save_pretrained(base)
        tokenizer.save_pretrained(base)
    created = create_reward_model(ModelOptions(base=str(base), system="Be fair.", max_length=max_length))
    scores = created.score([prompt for prompt, _ in PAIRS], [response for _, response in PAIRS]).value
    tested = tuple((*pair, float(score)) for pair, score in zip(PAIRS, scores, strict=True))
    calibrated = CalibratedModel(created.with_card(self_test=tested), Calibration(temperature=0.7, reference_mean=0.3))
    save(calibrated, path)
    return calibrated


def raw_model(model: CalibratedModel) -> ScalarRewardModel:
    """The model under the calibration."""
    assert isinstance(model.model, ScalarRewardModel)
    return model.model
