"""A few rows in the shape of each public data set, written for the tests: name of the format -> rows."""

from __future__ import annotations

import json
from typing import Any


def _talk(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def _aspects(*ratings: str) -> dict[str, dict[str, Any]]:
    names = ("instruction_following", "honesty", "truthfulness", "helpfulness")
    aspects: dict[str, dict[str, Any]] = {
        name: {"Rating": rating, "Rationale": "Because."} for name, rating in zip(names, ratings, strict=True)
    }
    for name in names[2:]:
        aspects[name] |= {"Type": ["1", "2"], "Rationale For Rating": "It is partly so."}
    return aspects


def _completion(model: str, response: str, ratings: tuple[str, ...], overall: float, critique: str) -> dict[str, Any]:
    return {
        "model": model,
        "principle": "helpfulness",
        "custom_system_prompt": "Be helpful.",
        "response": response,
        "annotations": _aspects(*ratings),
        "overall_score": overall,
        "fine-grained_score": 4.0,
        "critique": critique,
    }


def _attributes(prompt: str, response: str, *values: int) -> dict[str, Any]:
    names = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
    return {"prompt": prompt, "response": response, **dict(zip(names, values, strict=True))}


def _shp(post: str, a: str, b: str, label: int, scores: tuple[int, int]) -> dict[str, Any]:
    return {
        "post_id": post,
        "domain": "askbaking_train",
        "upvote_ratio": 0.98,
        "history": f"How do I keep bread fresh? ({post})",
        "c_root_id_A": "a1",
        "c_root_id_B": "b1",
        "created_at_utc_A": 1636822112,
        "created_at_utc_B": 1636822110,
        "score_A": scores[0],
        "score_B": scores[1],
        "human_ref_A": a,
        "human_ref_B": b,
        "labels": label,
        "seconds_difference": 2.0,
        "score_ratio": max(scores) / min(scores),
    }


def _opinion(score: int, reasoning: str) -> dict[str, Any]:
    return {"score": score, "reasoning": reasoning, "feedback1": "Good.", "feedback2": "Fair."}


def _multi_turn() -> str:
    return "Name a metal.\n<extra_id_1>Assistant\nIron.\n<extra_id_1>User\nAnother?"


def _arena(
    winner: str, judge: str | None, a: list[dict[str, Any]], b: list[dict[str, Any]], **more: Any
) -> dict[str, Any]:
    row = {"model_a": "alpha", "model_b": "beta", "winner": winner, "conversation_a": a, "conversation_b": b}
    return row | ({} if judge is None else {"judge": judge}) | more


def _lists(question: list[str], a: list[str | None], b: list[str], winner: str) -> dict[str, Any]:
    marks = {f"winner_{name}": int(name == winner) for name in ("model_a", "model_b", "tie")}
    texts = {"prompt": json.dumps(question), "response_a": json.dumps(a), "response_b": json.dumps(b)}
    return {"id": 65089, "model_a": "alpha", "model_b": "beta", **texts, **marks}


def _parts(*texts: str) -> list[dict[str, Any]]:
    return [
        {**turn, "content": [{"type": "text", "text": turn["content"], "image": None, "mimeType": None}]}
        for turn in _talk(*texts)
    ]


def _summary(choice: int, confidence: int | None, **info: str) -> dict[str, Any]:
    return {
        "info": {"id": "t3_1", **(info or {"post": "My car broke.", "title": "Car", "subreddit": "legaladvice"})},
        "summaries": [
            {"text": " car broke", "policy": "sup4", "note": "What broke?"},
            {"text": " my car broke down", "policy": "ref", "note": None},
        ],
        "choice": choice,
        "worker": "w1",
        "batch": "batch9",
        "split": "train",
        "extra": {"confidence": confidence},
    }


def _step(*rated: tuple[str, int | None], chosen: int | None = 0, human: str | None = None) -> dict[str, Any]:
    completions = [{"text": text, "rating": rating, "flagged": None} for text, rating in rated]
    return {"completions": completions, "human_completion": human, "chosen_completion": chosen}


def _prm800k(problem: str, reason: str, *steps: dict[str, Any]) -> dict[str, Any]:
    return {
        "labeler": "340d89bc",
        "timestamp": "2023-01-22T04:34:27.052924",
        "generation": 9,
        "is_quality_control_question": False,
        "is_initial_screening_question": False,
        "question": {"problem": problem, "ground_truth_answer": "4", "pre_generated_steps": None},
        "label": {"steps": list(steps), "total_time": 278270, "finish_reason": reason},
    }


PUBLIC_ROWS: dict[str, list[dict[str, Any]]] = {
    "stepwise": [
        {"prompt": "2 + 3?", "completions": ["We add.", "It is 6."], "labels": [True, False]},
        {"prompt": "1 + 1?", "completions": ["We add.", "It is 2."], "labels": [True, True]},
    ],
    "math_shepherd": [
        {
            "input": "Ann has 2 hens, each lays 3 eggs. How many? Step 1: 2 * 3 = 6. ки\nStep 2: 6 + 1 = 7. The answer is: 7 ки",
            "label": "Ann has 2 hens, each lays 3 eggs. How many? Step 1: 2 * 3 = 6. +\nStep 2: 6 + 1 = 7. The answer is: 7 -",
            "task": "GSM8K",
        },
    ],
    "first_error": [
        {"id": "a-0", "problem": "2 + 3?", "steps": ["We add.", "It is 6.", "So 6."], "label": 1},
        {"id": "a-1", "problem": "1 + 1?", "steps": ["We add.", "It is 2."], "label": -1},
    ],
    "prm800k": [
        _prm800k(
            "What is 2 + 2?",
            "found_error",
            _step(("We add.", 1)),
            _step(("2 + 2 = 5.", -1), ("Let us see.", 0), ("2 + 2 = 4.", 1), ("Two!", 0), ("Hm.", None), chosen=None),
        ),
        _prm800k(
            "What is 1 + 1?",
            "solution",
            _step(("It is 3.", -1), ("It is 11.", -1), chosen=None, human="It is 2."),
            _step(("So 2.", 1), ("So 3.", -1)),
        ),
        _prm800k("What is 0?", "bad_problem", _step(("It is 0.", 1), ("It is 1.", -1))),
        _prm800k("What is 3?", "solution", _step(("It is 3.", 1), ("It is three.", 1))),
    ],
    "ultrafeedback": [
        {
            "source": "evol_instruct",
            "instruction": "Name a metal.",
            "models": ["alpha", "beta", "gamma", "delta"],
            "completions": [
                _completion("alpha", "Iron.", ("5", "5", "5", "4"), 8.5, "Short and right."),
                _completion("beta", "Wood.", ("2", "1", "1", "1"), 10.0, "Wrong."),
                _completion("gamma", "Tin.", ("5", "N/A", "5", "N/A"), 8.0, "Fine."),
                _completion("delta", "Zinc, or maybe copper.", ("4", "5", "5", "5"), 7.0, ""),
            ],
            "correct_answers": ["None"],
            "incorrect_answers": ["None"],
        },
        {
            "source": "sharegpt",
            "instruction": "Say hi.",
            "models": ["alpha", "beta"],
            "completions": [
                _completion("alpha", "Hi!", ("5", "5", "5", "5"), 9.0, "Good."),
                _completion("beta", "", ("1", "1", "1", "1"), 1.0, "Empty."),
            ],
        },
        {
            "source": "flan",
            "instruction": "Add 2 and 2.",
            "models": ["alpha", "beta"],
            "completions": [
                _completion("alpha", "5", ("1", "1", "1", "1"), 2.0, "Wrong."),
                _completion("beta", "4", ("5", "5", "5", "5"), 9.0, "Right."),
            ],
        },
    ],
    "ultrafeedback_binarized": [
        {
            "prompt": "Name a metal.",
            "prompt_id": "ab12",
            "chosen": _talk("Name a metal.", good),
            "rejected": _talk("Name a metal.", bad),
            "messages": _talk("Name a metal.", good),
            "score_chosen": scores[0],
            "score_rejected": scores[1],
        }
        for good, bad, scores in (
            ("Iron.", "Wood.", (8.5, 3.0)),
            ("Tin.", "Zinc.", (7.0, 7.0)),
            ("Lead.", " ", (7.0, 1.0)),
        )
    ],
    "ultrafeedback_cleaned": [
        {
            "source": "evol_instruct",
            "prompt": "Name a metal.",
            "chosen": _talk("Name a metal.", good),
            "chosen-rating": 5.0,
            "chosen-model": "alpha",
            "rejected": _talk("Name a metal.", "Wood."),
            "rejected-rating": 3.75,
            "rejected-model": "beta",
        }
        for good in ("Iron.", "Tin.", "Zinc.")
    ],
    "shp": [
        _shp("qt3", "Freeze it.", "Eat it.", 1, (340, 166)),
        _shp("qt3", "Wrap it.", "Leave it.", 0, (2, 20)),
        _shp("qt3", "Toast it.", "Burn it.", 1, (12, 10)),
        _shp("zz9", "Freeze it.", "Wrap it.", 1, (30, 10)),
    ],
    "helpsteer2": [
        _attributes("c#", "C# is a language.", 3, 4, 4, 2, 1),
        _attributes("c#", "It is a note.", 2, 1, 4, 1, 1),
        _attributes(_multi_turn(), "Tin.", 4, 4, 4, 1, 0),
        _attributes(_multi_turn(), "Zinc.", 4, 4, 4, 1, 0),
        _attributes("Alone", "One answer.", 4, 4, 4, 1, 0),
    ],
    "helpsteer2_preference": [
        {
            "split": "train",
            "prompt": _multi_turn(),
            "response_1": "Tin.",
            "response_2": "Wood.",
            "preference_strength": strength,
            "preference_statement": "@Response 1 is better.",
            "preference_elaboration": "Wood is no metal.",
            "three_most_similar_preferences": [
                {"statement": "@Response 1 is better.", "elaboration": "Wood is no metal.", "strength": strength}
            ],
            "all_preferences_unprocessed": [{"strength": s, "justification": f"I say {s}."} for s in individual],
        }
        for strength, individual in ((-2, (-2, -3, 1)), (0, (0, -100)), (3, ()))
    ],
    "helpsteer3": [
        {
            "domain": "general",
            "language": "english",
            "context": _talk("Name a metal.", "Iron.", "Another?"),
            "response1": "Tin.",
            "response2": "Wood.",
            "overall_preference": overall,
            "individual_preference": [_opinion(score, f"I say {score}.") for score in individual],
        }
        for overall, individual in ((-2, (-1, -3, -2)), (1, (2, 0, -1)), (3, ()))
    ],
    "nectar": [
        {
            "prompt": "\n\nHuman: Name a metal.\n\nAssistant: ",
            "answers": [
                {"answer": text, "model": f"model-{rank}", "rank": float(rank)}
                for rank, text in enumerate(texts, start=1)
            ],
            "turns": 1,
            "num_responses": 7,
            "source": ["sharegpt"],
            "good_natured": True,
        }
        for texts in (
            ("Iron.", "Tin.", "Zinc.", "Lead.", "Gold.", "Glass.", "Wood."),
            ("Iron.", "Tin.\n\nHuman: Thanks!\n\nAssistant: Welcome.", "", "Lead.", "Gold.", "Glass.", "Wood."),
            ("Iron.", "", "", "", "", "", "Tin.\nHuman: Thanks!"),
        )
    ],
    "nemo_rl": [
        {
            "context": _talk("Name a metal."),
            "completions": [
                {"rank": rank, "completion": _talk("", text)[1:]} for rank, text in zip(ranks, texts, strict=True)
            ],
            "task_name": "metals",
        }
        for ranks, texts in (
            ((0, 1), ("Iron.", "Wood.")),
            ((1, 0, 1), ("Glass.", "Tin.", "Wood.")),
            ((0, 0), ("Tin.", "Lead.")),
        )
    ],
    "arena": [
        _arena(
            "model_a",
            "arena_user_973",
            _talk("Hi", "Hello!"),
            _talk("Hi", "No."),
            turn=1,
            anony=True,
            language="English",
        ),
        _arena("tie (bothbad)", "arena_user_7", _talk("Hi", "A", "Go on", "B"), _talk("Hi", "A", "Go on", "C"), turn=2),
        _arena("model_b", "author_2", _talk("Hi", "X", "More", "Y"), _talk("Hi", "Z", "More", "W"), turn=1),
        _arena(
            "both_bad", None, _parts("Hi", "Hello!"), _parts("Hi", "No."), id="c4b9", evaluation_order=1, is_code=False
        ),
        _arena("tie", None, _talk("Hi", "X", "More", "Y"), _talk("Hi", "Z", "More", "W"), turn=2),
    ],
    "arena_lists": [
        _lists(["Hi"], ["Hello!"], ["No."], "model_a"),
        _lists(["Hi", "More"], ["Hello!", "A"], ["Hello!", "B \ud83d"], "tie"),
        _lists(["Hi", "More"], ["Hello!", "A"], ["No.", "B"], "model_b"),
        _lists(["Hi"], [None], ["No."], "model_b"),
    ],
    "summaries": [
        _summary(1, 8),
        _summary(0, 2),
        _summary(1, None),
        _summary(0, 4, article="Newcastle lost.", title="Loss", site="dailymail"),
    ],
}
"""Rows of the data sets that Importer.own_names marks; what they become is in tests/data/test_public_formats.py."""
