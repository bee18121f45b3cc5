"""Rows of every format that import reads, as the tools write them: three to five each, written for the tests.

Where a tool has several shapes, each has its own name; the part before the slash is the format. Those of public data sets are in
public_rows.py.
"""

from __future__ import annotations

import json
from typing import Any

from public_rows import PUBLIC_ROWS

Row = dict[str, Any]
USER, SYSTEM = "user", "system"


def turn(role: str, content: str) -> Row:
    return {"role": role, "content": content}


def said(role: str, value: str) -> Row:
    return {"from": role, "value": value}


# ---- Trainers ----------------------------------------------------------------------------------------------------------

WEATHER = json.dumps(
    [{"name": "weather", "description": "of a city", "parameters": {"type": "object", "properties": {}}}]
)

LLAMA_FACTORY_ALPACA = [
    {"instruction": "Name a metal.", "input": "", "chosen": "Iron.", "rejected": "Wood."},
    {
        "instruction": "Translate to French:", "input": "Good evening", "chosen": "Bonsoir", "rejected": "Bonjour",
        "system": "You translate.", "history": [["Translate to French: hello", "Bonjour"]],
    },
    {"instruction": "Say “hi”.", "input": "", "chosen": "Hi!", "rejected": "“Hello”", "system": "", "history": []},
]  # fmt: skip
LLAMA_FACTORY_LISTS = [
    {"instruction": "Name a metal.", "input": "", "output": ["Iron.", "Wood."]},
    {
        "instruction": "Translate to French:", "input": "Good evening", "output": ["Bonsoir", "Bonjour"],
        "system": "You translate.", "history": [["Translate to French: hello", "Bonjour"]],
    },
    {"instruction": "Say “hi”.", "input": "", "output": ["Hi!", "“Hello”"], "system": "", "history": []},
]  # fmt: skip
LLAMA_FACTORY_SHAREGPT = [
    {
        "conversations": [said("human", "Name a bird.")],
        "chosen": said("gpt", "A wren."),
        "rejected": said("gpt", "A cow."),
    },
    {
        "conversations": [said("human", "Hi"), said("gpt", "Hello!"), said("human", "Weather in Rome?"),
                          said("function_call", '{"name": "weather", "arguments": {"city": "Rome"}}'),
                          said("observation", '{"sky": "clear"}')],
        "chosen": said("gpt", "It is clear in Rome."), "rejected": said("gpt", "I cannot tell."),
        "system": "Be brief.", "tools": WEATHER,
    },
    {
        "conversations": [said("human", "2 + 2?"), said("gpt", "4"), said("human", "And 3 + 3?")],
        "chosen": said("gpt", "6"), "rejected": said("gpt", "7"), "system": "", "tools": "",
    },
]  # fmt: skip
LLAMA_FACTORY_PARTS = [
    {
        "chosen_messages": [
            {"role": "system", "content": [{"type": "text", "value": "Translate."}], "loss_weight": 0.0},
            {"role": "user", "content": [{"type": "text", "value": "Guten Abend"}], "loss_weight": 0.0},
            {"role": "assistant", "content": [{"type": "text", "value": good}], "loss_weight": 1.0},
        ],
        "rejected_messages": [
            {"role": "system", "content": [{"type": "text", "value": "Translate."}], "loss_weight": 0.0},
            {"role": "user", "content": [{"type": "text", "value": "Guten Abend"}], "loss_weight": 0.0},
            {"role": "assistant", "content": [{"type": "text", "value": bad}], "loss_weight": 1.0},
        ],
    }
    for good, bad in (("Good evening", " Good night"), ("Good evening!", "Hello"), ("Evening", "Gut"))
]
LLAMA_FACTORY_KTO = [
    {"instruction": "Name a metal.", "input": "", "output": "Iron.", "kto_tag": True},
    {"instruction": "Name a metal.", "input": "", "output": "Wood.", "kto_tag": False},
    {"instruction": "Name a color.", "input": "Briefly.", "output": "Red.", "kto_tag": True},
    {"instruction": "Name a color.", "input": "Briefly.", "output": "Tuesday, I think.", "kto_tag": False},
]
LLAMA_FACTORY_KTO_SHAREGPT = [
    {"conversations": [said("human", "Name a bird."), said("gpt", answer)], "kto_tag": is_good}
    for answer, is_good in (("A wren.", True), ("A cow.", False), ("A crow.", True))
]
SWIFT = [
    {
        "messages": [turn(SYSTEM, "You help."), turn(USER, "Tell me the weather"), turn("assistant", "It is sunny.")],
        "rejected_response": "I don't know",
    },
    {
        "messages": [turn(USER, "1 + 1?"), turn("assistant", "2"), turn(USER, "And 1 more?"), turn("assistant", "3")],
        "rejected_response": [turn("assistant", "4")],
        "margin": 1.5,
    },
    {
        "messages": [turn(USER, "Name a metal."), turn("assistant", "Iron.")],
        "rejected_messages": [turn(USER, "Name a metal."), turn("assistant", "Wood.")],
    },
    {
        "tools": WEATHER,
        "messages": [
            turn(USER, "Weather in Rome and Oslo?"),
            turn("tool_call", '{"name": "weather", "arguments": {"city": "Rome"}}'),
            turn("tool_call", '{"name": "weather", "arguments": {"city": "Oslo"}}'),
            turn("tool_response", '{"sky": "clear"}'), turn("tool_response", '{"sky": "grey"}'),
            turn("assistant", "Clear in Rome, grey in Oslo."),
        ],
        "rejected_response": [turn("assistant", "I don't know.")],
    },
    {"query": "Name a bird.", "response": "A wren.", "rejected_response": "A cow.", "history": [["Hi", "Hello!"]]},
]  # fmt: skip
SWIFT_KTO = [
    {"messages": [turn(SYSTEM, "You help."), turn(USER, "1 + 1?"), turn("assistant", answer)], "label": is_good}
    for answer, is_good in (("2", True), ("3", False), ("It is 2.", True), ("11", False))
]
TRL_KTO = [
    {"prompt": "The sky is", "completion": " blue.", "label": True},
    {"prompt": "The sky is", "completion": " green.", "label": False},
    {"prompt": "Grass is", "completion": " green.", "label": True},
    {"prompt": "The sky is", "completion": " above.", "label": True},
    {"prompt": "Grass is", "completion": " blue.", "label": False},
]
TRL_KTO_MESSAGES = [
    {"prompt": [turn(USER, "Color of the sky?")], "completion": [turn("assistant", answer)], "label": is_good}
    for answer, is_good in (("It is blue.", True), ("It is green.", False), ("Blue.", True))
]
TRL = [
    {"prompt": "Name a metal.", "chosen": "Iron.", "rejected": "Wood."},
    {"prompt": "Name a bird.", "chosen": "A wren.", "rejected": "A cow.", "margin": 2.0},
    {"prompt": "Name a color.", "chosen": "Red.\n", "rejected": " Tuesday", "margin": None},
]
OPENRLHF_CHAT = [
    {"prompt": [turn(USER, question)], "chosen": [turn("assistant", good)], "rejected": [turn("assistant", bad)]}
    for question, good, bad in (("2 + 2?", "4", "5"), ("Name a bird.", "A wren.", "A cow."), ("Hi", "Hello!", "No."))
]

# ---- Annotation tools --------------------------------------------------------------------------------------------------

ANN, BOB = "7f0a1a1e-0000-4000-8000-000000000001", "7f0a1a1e-0000-4000-8000-000000000002"


def argilla(number: int, fields: Row, responses: Row, **more: Any) -> Row:
    """A record as Argilla 2's `to_json` writes it."""
    record = {
        "id": f"r{number}",
        "fields": fields,
        "metadata": {"topic": "misc"},
        "suggestions": {},
        "responses": responses,
    }
    return {**record, "vectors": {}, "status": "completed", "_server_id": f"{number:032x}", **more}


def by(user: str, value: Any) -> Row:
    return {"value": value, "user_id": user}


TEXTS = (
    {"instruction": "Name a metal.", "response1": "Iron.", "response2": "Wood."},
    {"instruction": "Name a bird.", "response1": "A cow.", "response2": "A wren."},
    {"instruction": "Name a color.", "response1": "Red.", "response2": "Blue."},
)
ARGILLA_RANKING = [
    argilla(1, TEXTS[0], {"ranking": [by(ANN, ["response1", "response2"]), by(BOB, ["response1", "response2"])]}),
    argilla(2, TEXTS[1], {"ranking": [by(ANN, ["response2", "response1"])], "reason": [by(ANN, "A cow is no bird.")]}),
    argilla(
        3, TEXTS[2], {"ranking": [by(ANN, ["response1", "response2"]), by(BOB, ["response2", "response1"])]},
        suggestions={"ranking": {"value": ["response1", "response2"], "score": 0.7, "agent": "judge-1"}},
    ),
]  # fmt: skip
ARGILLA_LABEL = [
    argilla(1, TEXTS[0], {"preference": [by(ANN, "response1"), by(BOB, "response1")]}),
    argilla(
        2, TEXTS[1], {"preference": [by(ANN, "response2"), by(BOB, "tie")], "comment": [by(BOB, "Both are animals.")]}
    ),
    argilla(3, TEXTS[2], {"preference": [by(ANN, "skip"), by(BOB, "response2")]}),
]
ARGILLA_RATING = [
    argilla(
        i, {"instruction": f"Name thing {i}.", "generations-0": "Iron.", "generations-1": "Wood."},
        {
            "generations-0-rating": [by(ANN, first), by(BOB, first)], "generations-0-rationale": [by(ANN, "fine")],
            "generations-1-rating": [by(ANN, second), by(BOB, 3)],
        },
    )
    for i, (first, second) in enumerate(((5, 1), (2, 4), (3, 3)), start=1)
]  # fmt: skip
ARGILLA_FLAT = [
    {
        "id": f"r{i}", "status": "completed", "_server_id": f"{i:032x}", **TEXTS[i], "topic": "misc",
        "ranking.responses": values, "ranking.responses.users": [ANN, BOB][: len(values)],
        "ranking.responses.status": states,
        "ranking.suggestion": ["response1", "response2"], "ranking.suggestion.score": None, "ranking.suggestion.agent": "judge-1",
    }
    for i, (values, states) in enumerate((
        ([["response1", "response2"], ["response1", "response2"]], ["submitted", "submitted"]),
        ([["response1", "response2"], ["response2", "response1"]], ["discarded", "submitted"]),
        ([["response2", "response1"]], ["submitted"]),
    ))
]  # fmt: skip


def result(kind: str, value: Row, name: str, target: str | None = None) -> Row:
    return {
        "id": f"{name}-1",
        "type": kind,
        "value": value,
        "origin": "manual",
        "to_name": target or name,
        "from_name": name,
    }


def annotation(number: int, *results: Row, by_whom: Any = 1, **more: Any) -> Row:
    return {
        "id": number, "completed_by": by_whom, "result": list(results), "was_cancelled": False, "ground_truth": False,
        "created_at": "2024-05-07T12:00:00Z", "updated_at": "2024-05-07T12:00:09Z", "draft_created_at": None,
        "lead_time": 9.25, "prediction": {}, "result_count": len(results), "task": number, "parent_prediction": None, **more,
    }  # fmt: skip


def task(number: int, data: Row, *annotations: Row) -> Row:
    return {
        "id": number, "annotations": list(annotations), "file_upload": "tasks.json", "drafts": [], "predictions": [], "data": data,
        "meta": {}, "created_at": "2024-05-07T11:00:00Z", "updated_at": "2024-05-07T12:00:09Z", "inner_id": number,
        "total_annotations": len(annotations), "cancelled_annotations": 0, "total_predictions": 0, "project": 2, "updated_by": 1,
        "comment_authors": [],
    }  # fmt: skip


def picked(side: str) -> Row:
    return result("pairwise", {"selected": side}, "pw")


PAIRS = (
    {"prompt": "Name a metal.", "text1": "Iron.", "text2": "Wood."},
    {"prompt": "Name a bird.", "text1": "A cow.", "text2": "A wren."},
    {"prompt": "Name a color.", "text1": "Red.", "text2": "Tuesday."},
)
WHY = result("textarea", {"text": ["A cow is no bird."]}, "reason", "text1")
LABEL_STUDIO_PAIRWISE = [
    task(
        1,
        PAIRS[0],
        annotation(11, picked("left")),
        annotation(12, picked("left"), by_whom={"id": 2, "email": "bob@example.com"}),
    ),
    task(2, PAIRS[1], annotation(13, picked("right"), WHY)),
    task(3, PAIRS[2], annotation(14, was_cancelled=True), annotation(15, picked("left"), by_whom=2)),
]
ITEMS = [
    {"id": "llm_1", "title": "LLM 1", "body": "Iron."},
    {"id": "llm_2", "title": "LLM 2", "body": "Wood."},
    {"id": "llm_3", "title": "LLM 3", "body": "Steel."},
]
LABEL_STUDIO_RANKER = [
    task(
        i, {"prompt": f"Name metal {i}.", "items": ITEMS},
        annotation(20 + i, result("ranker", {"ranker": {"rank": order}}, "rank", "results")),
    )
    for i, order in enumerate((["llm_1", "llm_3", "llm_2"], ["llm_3", "llm_1", "llm_2"], ["llm_3", "llm_1"]), start=1)
]  # fmt: skip
LABEL_STUDIO_CHOICES = [
    task(i, {"question": PAIRS[i]["prompt"], "answer1": PAIRS[i]["text1"], "answer2": PAIRS[i]["text2"]},
         annotation(30 + i, result("choices", {"choices": [word]}, "preference", "answer1")))
    for i, word in enumerate(("answer1", "answer2", "tie"))
]  # fmt: skip
LABEL_STUDIO_MIN = [
    {
        **PAIRS[i], "id": i, "pw": [{"selected": side}], "annotator": 1 + i, "annotation_id": 40 + i, "created_at": "2024-05-07T12:00:00Z",
        "updated_at": "2024-05-07T12:00:09Z", "lead_time": 3.5,
    }
    for i, side in enumerate(("left", "right", "left"))
]  # fmt: skip
LABEL_STUDIO_CSV = [{**row, "pw": json.dumps(row["pw"]), "annotator": "ann@example.com"} for row in LABEL_STUDIO_MIN]

POTATO = [
    {
        "instance_id": f"{i}", "user_id": user, "labels": {"preference": {"selection": letter}}, "spans": {}, "links": {},
        "prompt": PAIRS[i]["prompt"], "responses": [PAIRS[i]["text1"], PAIRS[i]["text2"]],
    }
    for i, user, letter in ((0, "ann", "A"), (0, "bob", "A"), (1, "ann", "B"), (2, "bob", "tie"))
]  # fmt: skip
POTATO_FLAT = [
    {
        "instance_id": f"{i}", "user_id": "ann", "preference.selection": letter,
        "preference.justification": json.dumps({"reasons": ["true"], "rationale": "It is one."}),
        "prompt": PAIRS[i]["prompt"], "response_a": PAIRS[i]["text1"], "response_b": PAIRS[i]["text2"],
    }
    for i, letter in enumerate("ABA")
]  # fmt: skip
POTATO_SCALE = [
    {
        "instance_id": f"{i}", "user_id": "ann", "labels": {"strength": {"scale_value": value}}, "spans": {}, "links": {},
        "prompt": PAIRS[i]["prompt"], "text": [PAIRS[i]["text1"], PAIRS[i]["text2"]],
    }
    for i, value in enumerate(("-2", "3", "0"))
]  # fmt: skip
POTATO_PAIRS = [
    {
        "instance_id": f"{i}", "prompt": PAIRS[i]["prompt"], "chosen": letter, "annotator": "ann",
        "responses": [PAIRS[i]["text1"], PAIRS[i]["text2"]],
    }
    for i, letter in enumerate("ABA")
]  # fmt: skip
PRODIGY = [
    {
        "text": PAIRS[i]["prompt"], "options": [{"id": "a", "text": PAIRS[i]["text1"]}, {"id": "b", "text": PAIRS[i]["text2"]}],
        "accept": accept, "answer": answer, "_input_hash": i, "_task_hash": -i - 1, "_view_id": "choice",
        "_session_id": "prefs-ann", "_annotator_id": "prefs-ann", "_timestamp": 1715083209, "config": {"choice_style": "single"},
    }
    for i, accept, answer in ((0, ["a"], "accept"), (1, ["b"], "accept"), (2, ["a"], "accept"), (2, [], "ignore"))
]  # fmt: skip
PRODIGY_COMPARE = [
    {
        "id": i, "input": {"text": PAIRS[i]["prompt"]}, "accept": {"text": PAIRS[i]["text1"]}, "reject": {"text": PAIRS[i]["text2"]},
        "mapping": {"B": "accept", "A": "reject"}, "answer": answer, "_input_hash": i, "_task_hash": -i - 1, "_view_id": "compare",
        "_session_id": "prefs-ann", "_annotator_id": "prefs-ann",
    }
    for i, answer in enumerate(("accept", "reject", "ignore"))
]  # fmt: skip
FEEDLOOP = [
    {"prompt": PAIRS[i]["prompt"], "chosen": PAIRS[i]["text1"], "rejected": PAIRS[i]["text2"]} for i in range(3)
]

# ---- Ours and plain ones -----------------------------------------------------------------------------------------------

NATIVE = [
    {"prompt": [turn(USER, "Name a color.")], "responses": [{"text": "Red."}, {"text": "Tuesday."}], "preference": {"q": 0.9}},
    {
        "prompt": [turn(SYSTEM, "Be brief."), turn(USER, "Name a metal.")],
        "responses": [{"text": "Iron.", "author": "ada"}, {"text": "Wood.", "ratings": {"truth": 1.0}}, {"text": "Tin."}],
        "preference": {"groups": [[0, 2], [1]], "strength": 0.5},
        "annotator": "ann", "source": "made up", "weight": 0.5, "rationale": "Wood is no metal.", "id": "n2", "group": "g",
    },
    {"prompt": "Hi", "responses": ["Hello!", "No."], "preference": {"q": 0.75, "votes": [3, 0, 1]}},
]  # fmt: skip
HH = [
    {
        "chosen": f"\n\nHuman: {question}\n\nAssistant: {good}",
        "rejected": f"\n\nHuman: {question}\n\nAssistant: {bad}",
    }
    for question, good, bad in (("Name a metal.", "Iron.", "Wood."), ("Hi", "Hello!", "No."), ("2 + 2?", "4", "5"))
]
SCORES = [
    {"prompt": "Name a metal.", "responses": ["Iron.", "Wood.", "Tin."], "scores": [7, 1, 7]},
    {"prompt": "Name a bird.", "responses": ["A wren.", "A cow."], "scores": [0.5, -1.5]},
    {"prompt": "Hi", "responses": ["Hello!", "No."], "scores": [3, 3]},
]
VOTES = [
    {"prompt": pair["prompt"], "response_a": pair["text1"], "response_b": pair["text2"],
     "votes": [{"annotator": "ann", "label": "a"}, {"annotator": "bob", "label": label, "rationale": "So."}]}
    for pair, label in zip(PAIRS, ("a", "tie", "b"), strict=True)
]  # fmt: skip
LABELED = [
    {"prompt": pair["prompt"], "first": pair["text1"], "second": pair["text2"], "label": label}
    for pair, label in zip(PAIRS, ("a", "b", "tie"), strict=True)
]

FORMAT_ROWS: dict[str, list[Row]] = {
    "native": NATIVE,
    "hh": HH,
    "scores": SCORES,
    "votes": VOTES,
    "labeled": LABELED,
    **PUBLIC_ROWS,
    "trl": TRL,
    "trl/openrlhf_chat": OPENRLHF_CHAT,
    "trl/feedloop": FEEDLOOP,
    "trl/llama_factory_alpaca": LLAMA_FACTORY_ALPACA,
    "trl/llama_factory_sharegpt": LLAMA_FACTORY_SHAREGPT,
    "llama_factory": LLAMA_FACTORY_PARTS,
    "llama_factory_list": LLAMA_FACTORY_LISTS,
    "swift": SWIFT,
    "unpaired": TRL_KTO,
    "unpaired/messages": TRL_KTO_MESSAGES,
    "unpaired/llama_factory": LLAMA_FACTORY_KTO,
    "unpaired/llama_factory_sharegpt": LLAMA_FACTORY_KTO_SHAREGPT,
    "unpaired/swift": SWIFT_KTO,
    "argilla/ranking": ARGILLA_RANKING,
    "argilla/label": ARGILLA_LABEL,
    "argilla/rating": ARGILLA_RATING,
    "argilla/flat": ARGILLA_FLAT,
    "label_studio/pairwise": LABEL_STUDIO_PAIRWISE,
    "label_studio/ranker": LABEL_STUDIO_RANKER,
    "label_studio/choices": LABEL_STUDIO_CHOICES,
    "label_studio/min": LABEL_STUDIO_MIN,
    "label_studio/csv": LABEL_STUDIO_CSV,
    "potato": POTATO,
    "potato/flat": POTATO_FLAT,
    "potato/scale": POTATO_SCALE,
    "potato/pairs": POTATO_PAIRS,
    "prodigy": PRODIGY,
    "prodigy_compare": PRODIGY_COMPARE,
}
