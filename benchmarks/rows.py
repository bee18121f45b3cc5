"""What the benchmarks run on: real prompts and replies from files, with the same token ids and the same start for all contestants.

A pair is a dictionary that fits into a job: prompt (messages), replies (the better one first), ids (of each reply with its
prompt, by Guerdon's `ChatTokenizer`).
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from guerdon.config import ModelOptions
from guerdon.contracts import (
    Comparison,
    Preference,
    Response,
    as_prompt,
)

Pair = dict[str, Any]
WORDS = "the people see this good film and they like it but one was not so great when we have time with you".split()


def source_rows(a: argparse.Namespace, size: int, subset: str = "") -> list[dict[str, Any]]:
    """The rows of --data; `size` random ones for a smoke test without it."""
    return random_rows(size) if a.smoke and not a.data else read_rows(a.data, subset)


def read_rows(paths: Sequence[Path], subset: str = "") -> list[dict[str, Any]]:
    """Rows of JSONL files (gzip or not) as {prompt, replies}: pairs with chosen and rejected, rows with responses, or prompts alone."""
    rows = []
    for path in paths:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            for row in map(json.loads, file):
                if subset and row.get("meta", {}).get("subset") != subset:
                    continue
                replies = row.get("responses") or [row[name] for name in ("chosen", "rejected") if name in row]
                rows.append({"prompt": row["prompt"], "replies": replies})
    return rows


def random_rows(size: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of random words in the same form, for smoke tests."""
    rng = np.random.default_rng(seed)

    def text(low: int, high: int) -> str:
        return " ".join(rng.choice(WORDS, size=rng.integers(low, high)))

    return [
        {"prompt": [{"role": "user", "content": text(4, 24)}], "replies": [text(2, 16), text(2, 16)]}
        for _ in range(size)
    ]


def pairs(rows: Sequence[Mapping[str, Any]], text: Any, size: int, max_length: int, seed: int) -> list[Pair]:
    """`size` pairs sampled from the rows, of which both replies fit and differ in their token ids."""
    kept: list[Pair] = []
    for i in np.random.default_rng(seed).permutation(len(rows)):
        row = rows[int(i)]
        if len(row["replies"]) < 2:
            continue
        prompt, replies = as_prompt(row["prompt"]), row["replies"][:2]
        first, second = (e.ids.tolist() for e in text.encode([prompt, prompt], replies))
        if max(len(first), len(second)) <= max_length and first != second:
            kept.append({"prompt": row["prompt"], "replies": replies, "ids": [first, second]})
        if len(kept) == size:
            return kept
    raise SystemExit(f"--data must hold {size} pairs of at most {max_length} tokens, got {len(kept)}. Add data.")


def comparison(pair: Pair, attributes: Sequence[str] = ()) -> Comparison:
    """The pair as a comparison: the first reply is better, and rated 1 against 0 in every attribute."""
    responses = tuple(
        Response(reply, ratings=dict.fromkeys(attributes, rating))
        for reply, rating in zip(pair["replies"], (1.0, 0.0), strict=True)
    )
    return Comparison(as_prompt(pair["prompt"]), responses, Preference(groups=((0,), (1,))))


def shared_prefix(rows: Sequence[Sequence[int]]) -> int:
    """Length of the shared prefix."""
    width = min(map(len, rows))
    return next((i for i in range(width) if len({row[i] for row in rows}) > 1), width)


def count_tokens(trees: Sequence[Sequence[Sequence[int]]]) -> dict[str, int]:
    """Tokens of all replies with their prompts (unshared), and with each tree's shared prefix counted once (unique)."""
    unshared = sum(len(ids) for tree in trees for ids in tree)
    return {"unshared": unshared, "unique": unshared - sum((len(tree) - 1) * shared_prefix(tree) for tree in trees)}


def start(model: str, folder: Path, seed: int = 0, **options: Any) -> Path:
    """Write the reward model that every contestant starts from: the base with a head initialized by the seed."""
    from guerdon.models.directory.loading import create_reward_model
    from guerdon.models.directory.saving import save

    save(create_reward_model(ModelOptions(base=model, device="cpu", **options), seed=seed), folder)
    return folder


def text_of(folder: Path, max_length: int = 10**9, truncation: str = "refuse") -> Any:
    """What renders and tokenizes conversations for that model."""
    from transformers import AutoTokenizer

    from guerdon.models.chat import ChatTokenizer

    return ChatTokenizer(AutoTokenizer.from_pretrained(folder), max_length, truncation)
