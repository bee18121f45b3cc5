"""The best of several responses to each prompt, and how sure the model is of it.

    python examples/rank_candidates.py runs/mine/model responses.jsonl

Each row of the file has a prompt (text or messages) and responses (texts). Where the best is not clearly better than the
second, the line says so: there the choice is close to chance, and a person's judgment is worth the most.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import guerdon
from guerdon.contracts import PromptLike


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="directory of a saved, calibrated reward model")
    parser.add_argument("responses", type=Path)
    parser.add_argument("--sure", type=float, default=0.75, help="probability below which a choice is marked as unsure")
    args = parser.parse_args(arguments)

    model = guerdon.load(args.model)
    for line in args.responses.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        order, probability = rank(model, row["prompt"], row["responses"])
        mark = "" if probability >= args.sure else "  (unsure: ask a person)"
        print(f"{probability:.0%}  {row['responses'][order[0]][:80]}{mark}")


def rank(model: guerdon.RewardModel, prompt: PromptLike, responses: Sequence[str]) -> tuple[list[int], float]:
    """Indices of the responses, best first, and P(the best is better than the second)."""
    value = model.score([prompt] * len(responses), responses).value
    order = sorted(range(len(responses)), key=lambda i: -value[i])
    if len(order) == 1:
        return order, 1.0
    return order, 1 / (1 + math.exp(value[order[1]] - value[order[0]]))


if __name__ == "__main__":
    main()
