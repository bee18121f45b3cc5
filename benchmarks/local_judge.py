"""Judging a prompt's N candidates by a local model: Guerdon's engine and a padded transformers loop, in one run.

    python benchmarks/local_judge.py --candidates 8 --prompts 2

Both sides read the same questions, score each candidate and compare all pairs in both orders, with the same weights, and give
the log-probabilities of the options. The loop pads each batch of --batch questions to its longest, which is what a judge built
on `model(**tokenizer(texts, padding=True))` does, with only the last position unembedded. Candidates are words drawn with a
fixed seed. Answers must agree; results go to --out.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

WORDS = "the sea was calm and people walked along a quiet road while rain fell on seven small houses".split()


def main() -> None:
    """Time both sides, interleaved, and save the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--words", type=int, default=60, help="words per candidate")
    parser.add_argument("--turns", type=int, default=200, help="words of the conversation")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--modes", default="score,pair", help="score each candidate, compare all pairs, or both")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "local_judge.json")
    a = parser.parse_args()
    results: dict[str, Any] = {"settings": {key: str(value) for key, value in vars(a).items() if key != "out"}}
    policy, plain = load(a), load(a)
    for mode in a.modes.split(","):
        questions = questions_of(mode, a)
        seconds: dict[str, list[float]] = {"ours": [], "padded": []}
        answers: dict[str, np.ndarray] = {}
        for _ in range(a.repeats + 1):  # the first warms up
            for side, answer, model in (("ours", by_engine, policy), ("padded", by_padding, plain)):
                start = time.perf_counter()
                answers[side] = answer(model, questions, a)
                seconds[side].append(time.perf_counter() - start)
        apart = float(np.abs(answers["ours"] - answers["padded"]).max())
        medians = {side: float(np.median(times[1:])) for side, times in seconds.items()}
        results[mode] = {
            "questions": len(questions),
            "seconds": medians,
            "times faster": round(medians["padded"] / medians["ours"], 2),
            "largest difference, nats": apart,
        }
        print(mode, json.dumps(results[mode]))
    a.out.parent.mkdir(parents=True, exist_ok=True)
    a.out.write_text(json.dumps(results, indent=2) + "\n")


def load(a: argparse.Namespace) -> Any:
    """The language model."""
    from guerdon.config import PolicyOptions
    from guerdon.models.directory.policies import load_policy

    return load_policy(PolicyOptions(base=a.model, device=a.device, dtype=a.dtype))


def questions_of(mode: str, a: argparse.Namespace) -> list[Any]:
    """What a judge of this mode asks about all candidates of all prompts."""
    from guerdon.config.judging import JudgeOptions
    from guerdon.contracts import Response, as_prompt
    from guerdon.models.judges.driver import advance
    from guerdon.models.judges.verdicts import Interview

    rng = np.random.default_rng(0)
    interview = Interview(JudgeOptions(kind="local", model="m", mode=mode), mode, has_log_probs=True)  # type: ignore[arg-type]
    questions: list[Any] = []
    for _ in range(a.prompts):
        prompt = as_prompt(" ".join(rng.choice(WORDS, a.turns)))
        texts = [Response(" ".join(rng.choice(WORDS, a.words + int(rng.integers(0, 30))))) for _ in range(a.candidates)]
        if mode == "score":
            questions += advance(interview.scores(prompt, texts), None)
        else:
            for i, j in combinations(range(a.candidates), 2):
                questions += advance(interview.pair(prompt, texts[i], texts[j]), None)
    return questions


def by_engine(policy: Any, questions: list[Any], a: argparse.Namespace) -> np.ndarray:
    """Guerdon's local judge."""
    from guerdon.models.judges.local import LocalModel

    answers = LocalModel(policy).answer(questions)
    return np.array([[answer.alternatives[option] for option in ("1", "2")] for answer in answers])  # type: ignore[union-attr]


def by_padding(policy: Any, questions: list[Any], a: argparse.Namespace) -> np.ndarray:
    """Left-padded batches, the log-probabilities of the options at the last position."""
    from guerdon.contracts import Prompt

    tokenizer, model = policy.tokenizer, policy.model
    options = tokenizer.convert_tokens_to_ids(["1", "2"])
    rows = [policy.encode(Prompt(question.messages)) for question in questions]
    answers = []
    with torch.inference_mode():
        for start in range(0, len(rows), a.batch):
            batch = rows[start : start + a.batch]
            width = max(map(len, batch))
            ids = torch.full((len(batch), width), tokenizer.pad_token_id)
            mask = torch.zeros_like(ids)
            for i, row in enumerate(batch):
                ids[i, width - len(row) :] = torch.from_numpy(row.astype(np.int64))
                mask[i, width - len(row) :] = 1
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            logits = model(
                input_ids=ids.to(model.device), attention_mask=mask.to(model.device),
                position_ids=positions.to(model.device), logits_to_keep=1, use_cache=False,
            ).logits[:, -1]  # fmt: skip
            answers.append(torch.log_softmax(logits.float(), -1)[:, options].double().cpu().numpy())
    return np.concatenate(answers)


if __name__ == "__main__":
    main()
