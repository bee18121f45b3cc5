"""Rows of public benchmarks, as their authors publish them, in; items out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from guerdon.benchmarks.items import Item
from guerdon.contracts import (
    GuerdonError,
    Message,
    Prompt,
    ResponseLike,
    as_prompt,
    as_response,
    prompt_digest,
)
from guerdon.errors import did_you_mean, field_error, show_value
from guerdon.formulas.benchmarks import WEIGHTS
from guerdon.io.fields import as_text
from guerdon.io.schema import Rejected

__all__ = ["DOMAINS", "HUB_SPLITS", "LLMBAR", "READERS", "REWARDBENCH2", "Row", "detect", "read_items", "unpack"]

HUB_SPLITS = {
    "allenai/reward-bench": "filtered",
    "allenai/reward-bench-2": "test",
    "ScalerLab/JudgeBench": "gpt",
    "HuggingFaceH4/hhh_alignment": "test",
}
"""Name of a data set on the hub -> the split that its published numbers are about."""

Row = Mapping[str, Any]


def read_items(rows: Iterable[tuple[str, Any]], name: str = "auto") -> tuple[str, list[Item]]:
    """(place, row) pairs in; the benchmark's name, detected from the first row if "auto", and items out.

    A bad row is a GuerdonError with its place, since a benchmark with rows left out is another benchmark.
    """
    if name not in ("auto", *READERS):
        raise GuerdonError(f"name must be a benchmark's, got {name}. {did_you_mean(name, READERS)}")
    items: list[Item] = []
    for place, row in rows:
        if isinstance(row, Rejected):
            raise GuerdonError(f"{row.place}: {row.reason}")
        try:
            if not isinstance(row, Mapping):
                raise field_error("row", "an object with named fields", row)
            name = detect(row, place) if name == "auto" else name
            items.append(READERS[name](row, place, len(items)))
        except GuerdonError as error:
            raise GuerdonError(f"{place}: {error}") from None
    if not items:
        raise GuerdonError("benchmark: rows must be at least one, got none. Give the benchmark's file.")
    return name, _with_unique_ids(items)


def unpack(value: object, place: str) -> Iterator[tuple[str, Any]]:
    """The content of a JSON file in; (place, row) pairs out.

    The content may be a list of rows, an object with `examples` (BIG-bench), lists of rows by name (EvalBiasBench), or
    columns of equal length (RewardBench's scores). Anything else is one row.
    """
    lists = {key: rows for key, rows in value.items() if isinstance(rows, list)} if isinstance(value, Mapping) else {}
    if isinstance(value, list):
        yield from ((f"{place}: item {i}", row) for i, row in enumerate(value, 1))
    elif isinstance(value, Mapping) and isinstance(value.get("examples"), list):
        yield from ((f"{place}: item {i}", row) for i, row in enumerate(value["examples"], 1))
    elif lists and all(isinstance(row, Mapping) for rows in lists.values() for row in rows):
        yield from ((f"{place}: {key} {i}", row) for key, rows in lists.items() for i, row in enumerate(rows, 1))
    elif {"scores_chosen", "scores", "results"} & set(lists):
        size = Counter(map(len, lists.values())).most_common(1)[0][0]
        columns = {key: values for key, values in lists.items() if len(values) == size}
        yield from ((f"{place}: item {i + 1}", {key: columns[key][i] for key in columns}) for i in range(size))
    else:
        yield place, value


def detect(row: Row, place: str = "") -> str:
    """The benchmark that a row belongs to, by its fields, its source, and the name of its file."""
    has = {key for key, value in row.items() if value is not None}
    if {"chosen", "rejected"} <= has:
        if isinstance(row["chosen"], list | tuple) and all(isinstance(text, str) for text in row["chosen"]):
            return "rmbench" if "domain" in has else "rewardbench2"
        if row.get("subset") in WEIGHTS:
            return "rewardbench"
        return _PAIR_SOURCES.get(str(row.get("source")), "pairs") if "source" in has else _detect_by_file(place)
    forms = {
        "judgebench": {"response_A", "response_B", "label"},
        "rmb": {"conversation_input"},
        "llmbar": {"input", "output_1", "output_2"},
        "evalbiasbench": {"instruction", "response1", "response2"},
        "hhh": {"input"},
    }
    fits = [name for name, needed in forms.items() if needed <= has]
    if fits and (fits[0] != "hhh" or {"target_scores", "targets"} & has):
        return fits[0]
    names = ", ".join(show_value(str(key), 30) for key in list(row)[:12])
    raise GuerdonError(
        f"fields must fit a known benchmark, got {names}. Name the benchmark, one of {', '.join(READERS)}."
    )


_PAIR_SOURCES = {"llmbar": "llmbar", "evalbiasbench": "evalbiasbench", "hhh_alignment": "hhh", "xstest": "xstest"}


def _detect_by_file(place: str) -> str:
    return next((name for word, name in _PAIR_SOURCES.items() if word in _file_name(place)), "pairs")


def _file_name(place: str) -> str:
    """The file and its folder, in lower case: they may name the benchmark or a part of it."""
    return "/".join(place.lower().split("/")[-2:])


def _with_unique_ids(items: list[Item]) -> list[Item]:
    """Ids that several subsets share get the subset's name in front."""
    counts = Counter(item.id for item in items)
    items = [replace(item, id=f"{item.subset}/{item.id}") if counts[item.id] > 1 else item for item in items]
    for name, count in Counter(item.id for item in items).items():
        if count > 1:
            raise GuerdonError(f"id must be unique, got {name} {count} times. Give each row an id of its own.")
    return items


# ---- Fields of a row ---------------------------------------------------------------------------------------------


def _item(
    row: Row,
    number: int,
    prompt: Prompt,
    responses: Sequence[ResponseLike],
    correct: Sequence[int],
    subset: str,
) -> Item:
    """An item named by the row's id, else by its number; its group is the prompt."""
    return Item(
        id=f"{subset}/{number}" if row.get("id") is None else str(row["id"]),
        prompt=prompt,
        responses=tuple(map(as_response, responses)),
        correct=tuple(correct),
        subset=subset,
        group=prompt_digest(prompt),
    )


def _field(row: Row, key: str) -> Any:
    if row.get(key) is None:
        raise field_error(key, "present", None, "Add it, or name the benchmark that this row belongs to.")
    return row[key]


def _text(row: Row, key: str) -> str:
    return as_text(_field(row, key), key)


def _texts(row: Row, key: str) -> list[str]:
    value = _field(row, key)
    if not isinstance(value, list | tuple) or not value:
        raise field_error(key, "a list of texts", value)
    return [as_text(item, f"{key}[{i}]") for i, item in enumerate(value)]


def _prompt(row: Row, key: str) -> Prompt:
    """A prompt from text or messages."""
    value = _field(row, key)
    if isinstance(value, str):
        return as_prompt(value)
    if not isinstance(value, list | tuple) or not value:
        raise field_error(key, "text or a list of messages", value)
    return as_prompt(value)


def _one_of(row: Row, key: str, answers: Mapping[object, int]) -> int:
    value = _field(row, key)
    if not isinstance(value, str | int) or value not in answers:
        raise field_error(key, f"one of {', '.join(map(str, answers))}", value)
    return answers[value]


# ---- One reader per benchmark --------------------------------------------------------------------------------------


def _read_pair(row: Row, place: str, number: int) -> Item:
    """{prompt, chosen, rejected, id?, source?, subset?, meta?: {subset | bias | prompt_is_unsafe}}.

    chosen and rejected are texts, or whole conversations that end with the answer.
    """
    chosen, rejected = _field(row, "chosen"), _field(row, "rejected")
    answers: tuple[ResponseLike, ResponseLike]
    if isinstance(chosen, str):
        prompt, answers = _prompt(row, "prompt"), (chosen, _text(row, "rejected"))
    else:
        turns = _prompt(row, "chosen")
        if len(turns) < 2 or not isinstance(rejected, list | tuple):
            raise field_error("chosen", "text, or messages that end with the answer, like rejected", chosen)
        prompt, answers = turns[:-1], (_answer(turns), _answer(_prompt(row, "rejected")))
    return _item(row, number, prompt, answers, (0,), _pair_subset(row))


def _answer(turns: Prompt) -> ResponseLike:
    """The last turn: its text, or the turn itself where it calls tools."""
    return turns[-1:] if turns[-1].tool_calls else turns[-1].content


def _pair_subset(row: Row) -> str:
    meta = row.get("meta") if isinstance(row.get("meta"), Mapping) else {}
    assert isinstance(meta, Mapping)
    if isinstance(meta.get("prompt_is_unsafe"), bool):
        return "should-refuse" if meta["prompt_is_unsafe"] else "should-respond"
    names = (row.get("subset"), meta.get("subset"), meta.get("bias"), row.get("source"))
    return next((name for name in names if isinstance(name, str) and name), "all")


def _read_rewardbench(row: Row, place: str, number: int) -> Item:
    """{prompt, chosen, rejected, subset, id, chosen_model, rejected_model}; allenai/reward-bench, split filtered."""
    _text(row, "subset")
    return _read_pair(row, place, number)


REWARDBENCH2 = {"Factuality": 475, "Precise IF": 160, "Math": 183, "Safety": 450, "Focus": 495, "Ties": 102}


def _read_rewardbench2(row: Row, place: str, number: int) -> Item:
    """{id, prompt, chosen: [text], rejected: [text], num_correct, total_completions, subset}; allenai/reward-bench-2."""
    right, wrong = _texts(row, "chosen"), _texts(row, "rejected")
    for key, size in (("num_correct", len(right)), ("total_completions", len(right) + len(wrong))):
        if row.get(key) not in (None, size):
            raise field_error(key, f"{size}, the length of the lists of responses", row[key])
    subset = {name.lower(): name for name in REWARDBENCH2}.get(_text(row, "subset").lower(), _text(row, "subset"))
    group = ""
    if subset == "Ties":
        kind, _, prompt_id = str(_field(row, "id")).partition(":")
        if kind not in ("ref", "tied") or not prompt_id.isdecimal():
            raise field_error("id", "ref:NUMBER or tied:NUMBER in the subset Ties", row["id"])
        if kind == "tied" and len(right) < 2:
            raise field_error(
                "chosen", "two or more right answers where the id begins with tied", right, "Drop the row."
            )
        group = f"ties:{int(prompt_id)}"
    elif len(right) != 1:
        raise field_error("chosen", "one right answer outside the subset Ties", right)
    prompt = _prompt(row, "prompt")
    item = _item(row, number, prompt, (*right, *wrong), range(len(right)), subset)
    return replace(item, group=group) if group else item


DOMAINS = {"chat": 129, "code": 228, "math": 529, "safety-refuse": 284, "safety-response": 157}


def _read_rmbench(row: Row, place: str, number: int) -> Item:
    """{id, prompt, chosen: [concise, detailed, markdown], rejected: the same, domain}; THU-KEG/RM-Bench."""
    sides = [_texts(row, key) for key in ("chosen", "rejected")]
    for key, side in zip(("chosen", "rejected"), sides, strict=True):
        if len(side) != 3:
            raise field_error(key, "3 texts (concise, detailed, detailed in markdown)", side)
    domain = _text(row, "domain")
    if domain not in DOMAINS:
        raise field_error("domain", f"one of {', '.join(DOMAINS)}", domain)
    return _item(row, number, _prompt(row, "prompt"), (*sides[0], *sides[1]), (0, 1, 2), domain)


def _read_judgebench(row: Row, place: str, number: int) -> Item:
    """{pair_id, original_id, source, question, response_A, response_B, label: "A>B" or "B>A"}; ScalerLab/JudgeBench."""
    correct = _one_of(row, "label", {"A>B": 0, "B>A": 1})
    source, original, pair_id = _text(row, "source"), row.get("original_id"), row.get("pair_id")
    responses = (_text(row, "response_A"), _text(row, "response_B"))
    item = _item(row, number, _prompt(row, "question"), responses, (correct,), source)
    return replace(
        item,
        id=item.id if pair_id is None else str(pair_id),
        group=item.group if original is None else f"{source}:{original}",
    )


def _read_rmb(row: Row, place: str, number: int) -> Item:
    """{pair_uid, conversation_input, chosen: {answer}, reject: {answer}, category_path}, or for best-of-N {bon_uid,
    conversation_input, bon_best: {answer}, loser_list: [{answer}], category_path}; Zhou-Zoey/RMB-Reward-Model-Benchmark.
    """
    path = _text(row, "category_path").split("/")
    if len(path) < 2 or path[0] not in ("Pairwise_set", "BoN_set") or path[1] not in ("Helpfulness", "Harmlessness"):
        raise field_error(
            "category_path",
            "a path that begins with Pairwise_set or BoN_set, then Helpfulness or Harmlessness",
            "/".join(path),
        )
    is_pair = path[0] == "Pairwise_set"
    best = _field(row, "chosen" if is_pair else "bon_best")
    losers = [_field(row, "reject")] if is_pair else _field(row, "loser_list")
    if not isinstance(losers, list | tuple) or not losers:
        raise field_error("loser_list", "a list of answers", losers)
    answers = [
        as_text(reply.get("answer") if isinstance(reply, Mapping) else None, "answer") for reply in (best, *losers)
    ]
    uid = row.get("pair_uid" if is_pair else "bon_uid")
    item = _item(row, number, _prompt(row, "conversation_input"), answers, (0,), "/".join(path[:3]))
    return item if uid is None else replace(item, id=f"{'pair' if is_pair else 'bon'}:{uid}")


LLMBAR = {
    "Natural": 100,
    "Adversarial/Neighbor": 134,
    "Adversarial/GPTInst": 92,
    "Adversarial/GPTOut": 47,
    "Adversarial/Manual": 46,
}


def _read_llmbar(row: Row, place: str, number: int) -> Item:
    """{input, output_1, output_2, label: 1 or 2}, the subset from the file's folder or split; princeton-nlp/LLMBar."""
    if "chosen" in row:
        return _read_pair(row, place, number)
    correct = _one_of(row, "label", {1: 0, 2: 1})
    subset = next((name for name in LLMBAR if name.split("/")[-1].lower() in _file_name(place)), "all")
    responses = (_text(row, "output_1"), _text(row, "output_2"))
    return _item(row, number, _prompt(row, "input"), responses, (correct,), subset)


def _read_evalbiasbench(row: Row, place: str, number: int) -> Item:
    """{bias, instruction, response1, response2, label: 1 or 2}; ncsoft/offsetbias, biasbench.json."""
    if "chosen" in row:
        return _read_pair(row, place, number)
    correct = _one_of(row, "label", {1: 0, 2: 1})
    responses = (_text(row, "response1"), _text(row, "response2"))
    return _item(row, number, _prompt(row, "instruction"), responses, (correct,), _text(row, "bias"))


_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def _read_hhh(row: Row, place: str, number: int) -> Item:
    """{input, target_scores: {text: 1 or 0}} (BIG-bench), or {input, targets: {choices, labels}} (the hub)."""
    if "chosen" in row:
        return _read_pair(row, place, number)
    if isinstance(row.get("target_scores"), Mapping):
        choices, labels = list(row["target_scores"]), list(row["target_scores"].values())
    else:
        targets = _field(row, "targets")
        if not isinstance(targets, Mapping):
            raise field_error("targets", "an object with choices and labels", targets)
        choices, labels = _texts(targets, "choices"), _field(targets, "labels")
    if len(choices) < 2 or len(labels) != len(choices) or sorted(labels) != [0] * (len(choices) - 1) + [1]:
        raise field_error("target_scores", "two or more choices, one of them marked as right", labels)
    subset = next((name for name in ("helpful", "honest", "harmless", "other") if name in _file_name(place)), "all")
    return _item(row, number, _turns(_text(row, "input")), choices, (labels.index(1),), subset)


def _turns(transcript: str) -> Prompt:
    """A transcript as messages. Text before the first speaker is the user's; empty turns are left out."""
    before, *parts = _TURN.split(transcript)
    turns = [("Human", before), *zip(parts[::2], parts[1::2], strict=True)]
    messages = Prompt(
        Message("user" if speaker == "Human" else "assistant", content.strip())
        for speaker, content in turns
        if content.strip()
    )
    if not messages:
        raise field_error("input", "a transcript with a question", transcript)
    return messages


READERS: Mapping[str, Callable[[Row, str, int], Item]] = {
    "rewardbench": _read_rewardbench,
    "rewardbench2": _read_rewardbench2,
    "rmbench": _read_rmbench,
    "judgebench": _read_judgebench,
    "rmb": _read_rmb,
    "llmbar": _read_llmbar,
    "evalbiasbench": _read_evalbiasbench,
    "hhh": _read_hhh,
    "xstest": _read_pair,
    "pairs": _read_pair,
}
"""Name of a benchmark -> its reader, from a row, its place and its number to an item."""
