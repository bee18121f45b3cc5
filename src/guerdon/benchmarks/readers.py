"""Rows of public benchmarks, as their authors publish them, in; items out. Scores that others made in; a table out.

Axes: n items, k responses of an item in its own order, g games (1, or 2 where a judge saw a pair both ways round).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from guerdon.contracts import (
    Finding,
    GuerdonError,
    Message,
    Prompt,
    Response,
    as_prompt,
    prompt_digest,
)
from guerdon.errors import did_you_mean, field_error, show_value
from guerdon.formulas.benchmarks import WEIGHTS
from guerdon.io.fields import as_number, as_text
from guerdon.io.schema import Rejected

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

__all__ = [
    "DOMAINS",
    "HUB_SPLITS",
    "LLMBAR",
    "READERS",
    "REWARDBENCH2",
    "Item",
    "ScoreTable",
    "detect",
    "match_scores",
    "named",
    "read_items",
    "unpack",
]

NAMED = 5  # ids or parts named in one line
HUB_SPLITS = {
    "allenai/reward-bench": "filtered",
    "allenai/reward-bench-2": "test",
    "ScalerLab/JudgeBench": "gpt",
    "HuggingFaceH4/hhh_alignment": "test",
}
"""Name of a data set on the hub -> the split that its published numbers are about."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """A prompt with its responses in the order published, and the places of those that are right.

    `subset` is the benchmark's own name for a part of it. `group` is what intervals resample: the prompt, or the
    question that several items were made of.
    """

    id: str
    prompt: Prompt
    responses: tuple[Response, ...]
    correct: tuple[int, ...]
    subset: str
    group: str

    @property
    def wrong(self) -> tuple[int, ...]:
        """Places of the responses that are not right."""
        return tuple(i for i in range(len(self.responses)) if i not in self.correct)


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """Scores of each item's responses, in their order, [g, k] an item, and whether the model missed some text of it [n].

    A judge's scores are its log-odds: (odds, 0) for a pair. `notes` says how the scores came to their items.
    """

    scores: tuple[Float[np.ndarray, "g k"], ...]
    truncated: Bool[np.ndarray, " n"]
    notes: tuple[Finding, ...] = ()


# ---- Rows to items -----------------------------------------------------------------------------------------------


def read_items(rows: Iterable[tuple[str, Any]], name: str = "auto") -> tuple[str, list[Item]]:
    """(place, row) pairs in; the benchmark's name, seen from the first row and its place where not given, and items out.

    A bad row is an GuerdonError with its place: a benchmark with rows left out is another benchmark.
    """
    if name not in ("auto", *READERS):
        raise GuerdonError(f"name {name}: no such benchmark. {did_you_mean(name, READERS)}")
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
        raise GuerdonError("benchmark: no rows; remedy: give at least one")
    return name, _with_own_ids(items)


def unpack(value: object, place: str) -> Iterator[tuple[str, Any]]:
    """What a whole JSON file holds in, (place, row) pairs out.

    A list; an object with `examples` (BIG-bench); lists by name (EvalBiasBench); columns of equal length (RewardBench's
    scores); anything else is one row.
    """
    lists = {key: each for key, each in value.items() if isinstance(each, list)} if isinstance(value, Mapping) else {}
    if isinstance(value, list):
        yield from ((f"{place}: item {i}", row) for i, row in enumerate(value, 1))
    elif isinstance(value, Mapping) and isinstance(value.get("examples"), list):
        yield from ((f"{place}: item {i}", row) for i, row in enumerate(value["examples"], 1))
    elif lists and all(isinstance(row, Mapping) for each in lists.values() for row in each):
        yield from ((f"{place}: {key} {i}", row) for key, each in lists.items() for i, row in enumerate(each, 1))
    elif {"scores_chosen", "scores", "results"} & set(lists):
        size = Counter(len(each) for each in lists.values()).most_common(1)[0][0]
        columns = {key: each for key, each in lists.items() if len(each) == size}
        yield from ((f"{place}: item {i + 1}", {key: columns[key][i] for key in columns}) for i in range(size))
    else:
        yield place, value


def detect(row: Row, place: str = "") -> str:
    """The benchmark that a row belongs to, by its fields, its source, and the name of its file."""
    has = {key for key, value in row.items() if value is not None}
    if {"chosen", "rejected"} <= has:
        several = isinstance(row["chosen"], list | tuple) and all(isinstance(text, str) for text in row["chosen"])
        if several:
            return "rmbench" if "domain" in has else "rewardbench2"
        if row.get("subset") in WEIGHTS:
            return "rewardbench"
        return _PAIR_SOURCES.get(str(row.get("source")), "pairs") if "source" in has else _by_file(place)
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
    raise GuerdonError(f"fields {names} fit no known benchmark; remedy: name it, one of {', '.join(READERS)}")


_PAIR_SOURCES = {"llmbar": "llmbar", "evalbiasbench": "evalbiasbench", "hhh_alignment": "hhh", "xstest": "xstest"}


def _by_file(place: str) -> str:
    return next((name for word, name in _PAIR_SOURCES.items() if word in _file(place)), "pairs")


def _file(place: str) -> str:
    """The end of a row's place that may name a part of a benchmark: its file and the folder that holds it."""
    return "/".join(place.lower().split("/")[-2:])


def _with_own_ids(items: list[Item]) -> list[Item]:
    """Ids that several subsets share get the subset's name in front."""
    counts = Counter(item.id for item in items)
    items = [replace(i, id=f"{i.subset}/{i.id}") if counts[i.id] > 1 else i for i in items]
    twice = [name for name, count in Counter(item.id for item in items).items() if count > 1]
    if twice:
        raise GuerdonError(
            f"id {twice[0]} stands {counts[twice[0]] or 2} times; remedy: give each row an id of its own"
        )
    return items


def _item(
    row: Row,
    number: int,
    prompt: Prompt,
    responses: Sequence[str],
    correct: Sequence[int],
    subset: str,
    *,
    id: object = None,
    group: str = "",
) -> Item:
    own = row.get("id") if id is None else id
    name = f"{subset}/{number}" if own is None else str(own)
    group = group or prompt_digest(prompt)
    return Item(name, prompt, tuple(Response(each) for each in responses), tuple(correct), subset, group)


def _field(row: Row, key: str) -> Any:
    if row.get(key) is None:
        raise GuerdonError(f"field {key} is missing; remedy: add it, or name the benchmark that this row belongs to")
    return row[key]


def _text(row: Row, key: str) -> str:
    return as_text(_field(row, key), key)


def _texts(row: Row, key: str) -> list[str]:
    value = _field(row, key)
    if not isinstance(value, list | tuple) or not value:
        raise field_error(key, "a list of texts", value)
    return [as_text(each, f"{key}[{i}]") for i, each in enumerate(value)]


def _prompt(row: Row, key: str) -> Prompt:
    """A prompt of text, or of messages whose other fields (language, ...) are left aside."""
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


def _read_pair(row: Row, place: str, number: int) -> Item:
    """{prompt, chosen, rejected, id?, source?, subset?, meta?: {subset | bias | prompt_is_unsafe}}.

    chosen and rejected are texts, or whole conversations that end with the answer.
    """
    chosen, rejected = _field(row, "chosen"), _field(row, "rejected")
    if isinstance(chosen, str):
        prompt, better, worse = _prompt(row, "prompt"), chosen, _text(row, "rejected")
    else:
        *before, last = _prompt(row, "chosen")
        if not before or not isinstance(rejected, list | tuple):
            raise field_error("chosen", "text, or messages that end with the answer, like rejected", chosen)
        prompt, better, worse = Prompt(before), last.content, _prompt(row, "rejected")[-1].content
    return _item(row, number, prompt, (better, worse), (0,), _pair_subset(row))


def _pair_subset(row: Row) -> str:
    meta = row.get("meta") if isinstance(row.get("meta"), Mapping) else {}
    assert isinstance(meta, Mapping)
    if isinstance(meta.get("prompt_is_unsafe"), bool):
        return "should-refuse" if meta["prompt_is_unsafe"] else "should-respond"
    named = (row.get("subset"), meta.get("subset"), meta.get("bias"), row.get("source"))
    return next((each for each in named if isinstance(each, str) and each), "all")


def _read_rewardbench(row: Row, place: str, number: int) -> Item:
    """{prompt, chosen, rejected, subset, id, chosen_model, rejected_model}; allenai/reward-bench, split filtered."""
    _text(row, "subset")
    return _read_pair(row, place, number)


REWARDBENCH2 = {"Factuality": 475, "Precise IF": 160, "Math": 183, "Safety": 450, "Focus": 495, "Ties": 102}


def _read_rewardbench2(row: Row, place: str, number: int) -> Item:
    """{id, prompt, chosen: [text], rejected: [text], num_correct, total_completions, subset}; allenai/reward-bench-2."""
    right, wrong_ones = _texts(row, "chosen"), _texts(row, "rejected")
    for key, size in (("num_correct", len(right)), ("total_completions", len(right) + len(wrong_ones))):
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
    return _item(row, number, prompt, (*right, *wrong_ones), range(len(right)), subset, group=group)


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
    source, original = _text(row, "source"), row.get("original_id")
    group = "" if original is None else f"{source}:{original}"
    responses = (_text(row, "response_A"), _text(row, "response_B"))
    return _item(
        row, number, _prompt(row, "question"), responses, (correct,), source, id=row.get("pair_id"), group=group
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
    pairwise = path[0] == "Pairwise_set"
    best = _field(row, "chosen" if pairwise else "bon_best")
    losers = [_field(row, "reject")] if pairwise else _field(row, "loser_list")
    if not isinstance(losers, list | tuple) or not losers:
        raise field_error("loser_list", "a list of answers", losers)
    answers = [as_text(each.get("answer") if isinstance(each, Mapping) else None, "answer") for each in (best, *losers)]
    uid = row.get("pair_uid" if pairwise else "bon_uid")
    name = None if uid is None else f"{'pair' if pairwise else 'bon'}:{uid}"
    prompt = _prompt(row, "conversation_input")
    return _item(row, number, prompt, answers, (0,), "/".join(path[:3]), id=name)


LLMBAR = {"Natural": 100, "Adversarial/Neighbor": 134, "Adversarial/GPTInst": 92, "Adversarial/GPTOut": 47,
           "Adversarial/Manual": 46}  # fmt: skip


def _read_llmbar(row: Row, place: str, number: int) -> Item:
    """{input, output_1, output_2, label: 1 or 2}, the subset from the file's folder or split; princeton-nlp/LLMBar."""
    if "chosen" in row:
        return _read_pair(row, place, number)
    correct = _one_of(row, "label", {1: 0, 2: 1})
    subset = next((name for name in LLMBAR if name.split("/")[-1].lower() in _file(place)), "all")
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
    subset = next((name for name in ("helpful", "honest", "harmless", "other") if name in _file(place)), "all")
    return _item(row, number, _turns(_text(row, "input")), choices, (labels.index(1),), subset)


def _turns(transcript: str) -> Prompt:
    """A transcript as messages; text before the first mark is the user's, and a mark with nothing after it is left out."""
    before, *parts = _TURN.split(transcript)
    turns = [("Human", before), *zip(parts[::2], parts[1::2], strict=True)]
    messages = Prompt(
        Message("user" if mark == "Human" else "assistant", content.strip())
        for mark, content in turns
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
"""Name of a benchmark -> (row, its place, its number) to an item."""


# ---- Scores that others made -----------------------------------------------------------------------------------------


def match_scores(rows: Iterable[tuple[str, Any]], items: Sequence[Item]) -> ScoreTable:
    """(place, row) pairs of a score file in, the scores of these items out, matched by id.

    Rows, whatever else they hold: {id, scores: [one a response]}, in the item's order (RewardBench 2's outputs are
    such; `guerdon score` calls them rewards); {id, scores_chosen, scores_rejected} (RewardBench), score_chosen and
    score_rejected (RM-Bench), chosen_reward and reject_reward (RMB), a number or a list each; {pair_id, judgments}
    (JudgeBench); {id, results: 1 or 0} for pairs. Where no row has an id, rows and items are taken in order, and a note
    says so.
    """
    known = {item.id: item for item in items}
    found: dict[str, np.ndarray] = {}
    extra: list[str] = []
    listed = list(rows)
    for place, row in listed:
        if isinstance(row, Rejected) or not isinstance(row, Mapping):
            raise GuerdonError(
                f"{place}: {getattr(row, 'reason', 'is no object with named fields; remedy: give JSONL')}"
            )
    ordered = all(_score_id(row, known) is None for _, row in listed)
    if ordered and len(listed) != len(items):
        raise GuerdonError(f"scores: {len(listed)} rows without ids for {len(items)} items; remedy: give ids")
    for (place, row), item in zip(listed, items if ordered else [None] * len(listed), strict=True):
        name = item.id if item else _score_id(row, known)
        if name in found:
            raise GuerdonError(f"{place}: id {name} stands twice; remedy: keep one of the two")
        if name not in known:
            extra.append(str(name))
            continue
        try:
            found[str(name)] = _score_row(row, known[str(name)])
        except GuerdonError as error:
            raise GuerdonError(f"{place}: item {name}: {error}") from None
    if missing := [name for name in known if name not in found]:
        raise GuerdonError(
            f"scores: none for {len(missing)} of {len(items)} items: {named(missing)}; remedy: score them"
        )
    if extra:
        raise GuerdonError(
            f"scores: {len(extra)} ids are of no item: {named(extra)}; remedy: give the data they are of"
        )
    notes: tuple[Finding, ...] = ()
    if ordered:
        evidence = f"{len(items)} rows without ids, taken as the items in their order"
        notes = (Finding("note", "Scores were matched by order", evidence, "Write ids beside the scores."),)
    return ScoreTable(tuple(found[item.id] for item in items), np.zeros(len(items), dtype=bool), notes)


def _score_id(row: Row, known: Mapping[str, Item]) -> str | None:
    """The id that a score row names, in the form that items have it."""
    for key, form in (("pair_uid", "pair:{}"), ("bon_uid", "bon:{}"), ("id", "{}"), ("pair_id", "{}")):
        if row.get(key) is not None:
            name = form.format(row[key])
            return name if name in known or "subset" not in row else f"{row['subset']}/{name}"
    return None


_SIDES = (
    ("scores_chosen", "scores_rejected"), ("score_chosen", "score_rejected"), ("chosen_reward", "reject_reward"),
    ("chosen", "rejected"),
)  # fmt: skip


def _score_row(row: Row, item: Item) -> np.ndarray:
    """The scores [g, k] of a row, in the order of the item's responses."""
    k = len(item.responses)
    if isinstance(row.get("judgments"), list | tuple) and row["judgments"]:
        return _judgment_games(row["judgments"], k)
    for key in ("scores", "rewards"):
        if row.get(key) is None:
            continue
        found = _numbers(row[key], key)
        if len(found) != k:
            raise field_error(key, f"{k} numbers, one per response", found)
        return np.array([found])
    for sides in _SIDES:
        if all(row.get(key) is not None and not _is_text(row[key]) for key in sides):
            return _placed(item, *(_numbers(row[key], key) for key in sides))
    if row.get("results") is not None and k == 2:
        result = as_number(row["results"], "results", "1, 0 or 0.5", low=0, high=1)
        return _placed(item, [2 * result - 1], [0.0])
    raise GuerdonError(
        "holds no scores; remedy: give scores, a list in the order of the responses, or scores_chosen and scores_rejected"
    )


def _placed(item: Item, right: Sequence[float], others: Sequence[float]) -> np.ndarray:
    if (len(right), len(others)) != (len(item.correct), len(item.wrong)):
        wanted = f"{len(item.correct)} right and {len(item.wrong)} wrong"
        raise GuerdonError(
            f"has {len(right)} right and {len(others)} wrong scores for {wanted} responses; remedy: check it"
        )
    scores = np.empty((1, len(item.responses)))
    scores[0, list(item.correct)], scores[0, list(item.wrong)] = right, others
    return scores


_DECISIONS = {"A>B": (1.0, 0.0), "B>A": (0.0, 1.0)}


def _judgment_games(judgments: Sequence[Any], k: int) -> np.ndarray:
    """JudgeBench's outputs: one judgment, or two of which the second saw the responses swapped. No decision is a tie."""
    if k != 2 or len(judgments) > 2:
        raise field_error("judgments", "a list of one or two, about a pair", len(judgments))
    games = []
    for at, each in enumerate(judgments):
        said = each if isinstance(each, Mapping) else {}
        inner = said.get("judgment") if isinstance(said.get("judgment"), Mapping) else {}
        assert isinstance(inner, Mapping)
        scores = inner.get("scores")
        pair = _DECISIONS.get(str(said.get("decision")), (0.0, 0.0)) if scores is None else _numbers(scores, "scores")
        if len(pair) != 2:
            raise field_error("scores", "2 numbers, one per response", pair)
        games.append(list(pair)[:: -1 if at else 1])
    return np.array(games, dtype=np.float64)


def _numbers(value: object, where: str) -> list[float]:
    """A number, or a list of numbers, each perhaps alone in a list of its own."""
    values = value if isinstance(value, list | tuple) else [value]
    flat = [each[0] if isinstance(each, list | tuple) and len(each) == 1 else each for each in values]
    return [as_number(each, where) for each in flat]


def _is_text(value: object) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list | tuple) and any(isinstance(each, str | Mapping) for each in value)
    )


def named(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(str(name) for name in names[:NAMED]) + more
