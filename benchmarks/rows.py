"""What the benchmarks run on: real prompts and replies from files, the same token ids for every contestant, one start.

A pair is a dictionary that a job can carry: prompt (messages), replies (the better one first), ids (of each reply with its
prompt, by our `ChatTokenizer`).
"""

from __future__ import annotations

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


def read_rows(places: Sequence[Path], subset: str = "") -> list[dict[str, Any]]:
    """Rows of JSONL files (gzip or not) as {prompt, replies}: pairs with chosen and rejected, or rows with responses."""
    rows = []
    for place in places:
        with gzip.open(place, "rt") if place.suffix == ".gz" else place.open() as file:
            for row in map(json.loads, file):
                if subset and row.get("meta", {}).get("subset") != subset:
                    continue
                replies = row["responses"] if "responses" in row else [row["chosen"], row["rejected"]]
                rows.append({"prompt": row["prompt"], "replies": replies})
    return rows


def made_up(size: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows in the same form, of random words, for smoke tests."""
    rng = np.random.default_rng(seed)

    def text(low: int, high: int) -> str:
        return " ".join(rng.choice(WORDS, size=rng.integers(low, high)))

    return [
        {"prompt": [{"role": "user", "content": text(4, 24)}], "replies": [text(2, 16), text(2, 16)]}
        for _ in range(size)
    ]


def pairs(rows: Sequence[Mapping[str, Any]], text: Any, size: int, max_length: int, seed: int) -> list[Pair]:
    """`size` pairs drawn from the rows, of which both replies fit and differ as the model sees them."""
    kept: list[Pair] = []
    for i in np.random.default_rng(seed).permutation(len(rows)):
        row = rows[int(i)]
        prompt, replies = as_prompt(row["prompt"]), row["replies"][:2]
        first, second = (e.ids.tolist() for e in text.encode([prompt, prompt], replies))
        if max(len(first), len(second)) <= max_length and first != second:
            kept.append({"prompt": row["prompt"], "replies": replies, "ids": [first, second]})
        if len(kept) == size:
            return kept
    raise SystemExit(f"{size} pairs of at most {max_length} tokens wanted, {len(kept)} there; give more --data")


def comparison(pair: Pair, attributes: Sequence[str] = ()) -> Comparison:
    """The pair as Guerdon takes it: the first reply is the better one, and rated 1 against 0 in every attribute."""
    responses = tuple(
        Response(reply, ratings=dict.fromkeys(attributes, rating))
        for reply, rating in zip(pair["replies"], (1.0, 0.0), strict=True)
    )
    return Comparison(as_prompt(pair["prompt"]), responses, Preference(groups=((0,), (1,))))


def shared(rows: Sequence[Sequence[int]]) -> int:
    """Length of the common prefix."""
    width = min(map(len, rows))
    return next((i for i in range(width) if len({row[i] for row in rows}) > 1), width)


def count_tokens(trees: Sequence[Sequence[Sequence[int]]]) -> dict[str, int]:
    """Tokens of all replies with their prompts (unshared), and with each tree's common prefix counted once (unique)."""
    unshared = sum(len(ids) for tree in trees for ids in tree)
    return {"unshared": unshared, "unique": unshared - sum((len(tree) - 1) * shared(tree) for tree in trees)}


def start(model: str, folder: Path, seed: int = 0, **options: Any) -> Path:
    """Write the reward model that every contestant starts from: the base with a head drawn by the seed."""
    from guerdon.models.directory.loading import create_reward_model
    from guerdon.models.directory.saving import save

    save(create_reward_model(ModelOptions(base=model, device="cpu", **options), seed=seed), folder)
    return folder


def text_of(folder: Path, max_length: int = 10**9, truncation: str = "refuse") -> Any:
    """How conversations become token ids for that model."""
    from transformers import AutoTokenizer

    from guerdon.models.chat import ChatTokenizer

    return ChatTokenizer(AutoTokenizer.from_pretrained(folder), max_length, truncation)
