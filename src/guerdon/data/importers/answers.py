"""What annotation tools export, in one shape: a row of texts by name, with Answers where a question has them.

Each tool's importer unfolds its rows into this shape, and `compare` turns them into comparisons. The names of texts and of questions
are the user's own in all of these tools, so they are recognized by how such things are usually called, or given with --column.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from guerdon.contracts import Comparison, GuerdonError, Preference, Response, response_identity
from guerdon.data.importers.columns import Row, join_sides, list_in, refuse_empty, to_prompt, to_response, whole_prompt
from guerdon.data.importers.judgments import Judgment, judged
from guerdon.data.importers.reading import Reading
from guerdon.errors import field_error, show_value
from guerdon.io.messages import messages_in

__all__ = ["Answer", "Answers", "compare", "labels_of_answers", "names_of"]

MOST_NAMES = 12  # in an error
LONGEST_LABEL = 40  # characters
NOT_JUDGED = "answers that are no judgments, because they were skipped, discarded or not submitted"
PROMPTS = (
    "prompt",
    "instruction",
    "question",
    "query",
    "conversation",
    "conversations",
    "chat",
    "messages",
    "input",
)
LISTS = (
    "responses",
    "items",
    "answers",
    "completions",
    "outputs",
    "generations",
    "options",
    "texts",
    "candidates",
    "text",
)
PAIR_ENDS = (("a", "b"), ("1", "2"), ("0", "1"), ("left", "right"), ("first", "second"), ("one", "two"))
REASONS = ("rationale", "reason", "justification", "explanation", "comment", "why", "feedback", "note")
SKIPS = frozenset(
    (
        "skip", "skipped", "ignore", "ignored", "discard", "discarded", "unsure", "notsure", "cannotdecide", "cantdecide", "cannottell",
        "canttell", "cannotsay", "cantsay", "cannotchoose", "cantchoose", "dontknow", "idontknow", "invalid", "unclear",
    )
)  # fmt: skip


Judged = Comparison | tuple[Comparison, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one annotator answered: a word, a number, a text, or the names of texts, best first, each with those that it ties with.

    is_submitted: False where the annotator skipped the item, or discarded the answer or only drafted it.
    """

    value: Any
    annotator: str | None = None
    is_submitted: bool = True


@dataclass(frozen=True, slots=True)
class Answers:
    """All answers to one question. about: the text that it rates; None for a question about several."""

    answers: tuple[Answer, ...]
    about: str | None = None


@dataclass(frozen=True, slots=True)
class _Side:
    """A response under the name that annotators' answers use for it."""

    name: str
    response: Response


def compare(row: Row, reading: Reading) -> Judged:
    """A row of texts and Answers in, the comparisons that its annotators made out.

    Read are a ranking of texts, or else a rating of each text, or else a choice between two; the question is the column `label`, or
    the only one that can be it. An answer that was skipped, discarded or not submitted is no judgment.
    """
    questions = _submitted(row, reading)
    chosen = {"label": questions["label"]} if "label" in questions else questions
    reasons = _reasons(questions)
    if (name := _ranking(chosen)) is not None:
        return _ranked(row, chosen[name], reasons, reading)
    if len(ratings := _ratings(row, chosen)) > 1:
        return _rated(row, ratings, reasons, reading)
    name = _label(row, chosen)
    sides = _pair(row)
    judgments = [
        Judgment(
            _side_of(answer.value, sides) or reading.label(answer.value, name),
            answer.annotator,
            reasons.get(answer.annotator),
        )
        for answer in chosen[name].answers
    ]
    return _judged(row, sides, judgments, reading)


def labels_of_answers(row: Row) -> list[object]:
    """The answers of a row that are labels of a pair: all labels of a file together tell what numbers mean."""
    try:
        questions = _submitted(row)
        chosen = {"label": questions["label"]} if "label" in questions else questions
        if _ranking(chosen) is not None or len(_ratings(row, chosen)) > 1:
            return []
        sides = _pair(row)
        return [a.value for a in chosen[_label(row, chosen)].answers if _side_of(a.value, sides) is None]
    except GuerdonError:  # the row is rejected with this reason when it is read
        return []


def names_of(row: Row) -> list[str]:
    """The names of the texts of a row."""
    return [str(name) for name, value in row.items() if not isinstance(value, Answers)]


# ---- Which question ------------------------------------------------------------------------------------------------


def _submitted(row: Row, reading: Reading | None = None) -> dict[str, Answers]:
    """The questions with their submitted answers; an error where no answer is left."""
    questions = {str(name): value for name, value in row.items() if isinstance(value, Answers)}
    kept = {
        name: replace(question, answers=tuple(a for a in question.answers if a.is_submitted and not _is_skip(a.value)))
        for name, question in questions.items()
    }
    for name, question in questions.items():
        for _ in range(len(question.answers) - len(kept[name].answers)):
            if reading is not None:
                reading.note(NOT_JUDGED)
    kept = {name: question for name, question in kept.items() if question.answers}
    if not kept:
        state = (
            "were skipped, discarded or not submitted" if any(q.answers for q in questions.values()) else "are missing"
        )
        raise GuerdonError(f"judgments {state}. Judge the item, or drop the row.")
    return kept


def _is_skip(value: object) -> bool:
    if value is None or (isinstance(value, str | list | tuple | dict) and not value):
        return True
    return isinstance(value, str) and (not value.strip() or _plain(value) in SKIPS)


def _reasons(questions: Mapping[str, Answers]) -> dict[str | None, str]:
    """The reason of each annotator, from the question `rationale` or the first that is called like one."""
    name = "rationale" if "rationale" in questions else next(filter(_is_reason, questions), None)
    answers = questions[name].answers if name is not None else ()
    return {answer.annotator: answer.value for answer in answers if isinstance(answer.value, str)}


def _is_reason(name: str) -> bool:
    return any(word in _plain(name) for word in REASONS)


def _ranking(questions: Mapping[str, Answers]) -> str | None:
    names = [
        name for name, q in questions.items() if all(isinstance(answer.value, list | tuple) for answer in q.answers)
    ]
    if len(names) > 1:
        raise _several(names)
    return names[0] if names else None


def _ratings(row: Row, questions: Mapping[str, Answers]) -> dict[str, Answers]:
    """The questions that rate a single text each, by that text's name: "response_1_rating" rates response_1."""
    texts = {_plain(name): name for name in names_of(row)}
    rated: dict[str, Answers] = {}
    for name, question in questions.items():
        about = question.about or re.sub(r"^(?:rating|score)|(?:rating|score)$", "", _plain(name))
        if about != _plain(name) and _plain(about) in texts and all(_is_number(a.value) for a in question.answers):
            rated[texts[_plain(about)]] = question
    return rated


def _label(row: Row, questions: Mapping[str, Answers]) -> str:
    names = [name for name in questions if name == "label" or not (name == "rationale" or _is_reason(name))]
    short = [n for n in names if all(_is_short(a.value) for a in questions[n].answers)]
    if len(short) != 1:
        raise (
            _several(short or list(questions))
            if short
            else GuerdonError("no question asks which response is better. Say which does with --column label=NAME.")
        )
    return short[0]


def _is_short(value: object) -> bool:
    """Whether an answer can be a label: it is no free text."""
    return (
        isinstance(value, Preference) or _is_number(value) or (isinstance(value, str) and len(value) <= LONGEST_LABEL)
    )


def _several(names: Iterable[str]) -> GuerdonError:
    return GuerdonError(f"one question must be the preference, got {_shown(names)}. Say which: --column label=NAME.")


# ---- From answers to judgments -----------------------------------------------------------------------------------------


def _ranked(row: Row, question: Answers, reasons: Mapping[str | None, str], reading: Reading) -> Judged:
    sides = _named(row, [name for answer in question.answers for tied in answer.value for name in _tied(tied)])
    numbers = {_plain(side.name): i for i, side in enumerate(sides)}
    judgments = []
    for answer in question.answers:
        groups = tuple(tuple(numbers[_plain(name)] for name in _tied(tied)) for tied in answer.value)
        judgments.append(Judgment(Preference(groups=groups), answer.annotator, reasons.get(answer.annotator)))
    return _judged(row, sides, judgments, reading)


def _tied(names: object) -> list[str]:
    return [str(name) for name in names] if isinstance(names, list | tuple) else [str(names)]


def _rated(row: Row, ratings: Mapping[str, Answers], reasons: Mapping[str | None, str], reading: Reading) -> Judged:
    values = {name: {a.annotator: float(a.value) for a in question.answers} for name, question in ratings.items()}
    sides = [
        replace(side, response=replace(side.response, ratings={"rating": sum(given.values()) / len(given)}))
        for side, given in ((side, values[side.name]) for side in _named(row, list(values)))
    ]
    everyone = dict.fromkeys(annotator for given in values.values() for annotator in given)
    judgments = []
    for annotator in everyone:
        given = [values[side.name].get(annotator) for side in sides]
        if None in given:
            reading.note("annotators of an item who did not rate all of its texts, and are left out")
            continue
        levels = sorted({value for value in given if value is not None}, reverse=True)
        groups = tuple(tuple(i for i, value in enumerate(given) if value == level) for level in levels)
        judgments.append(Judgment(Preference(groups=groups), annotator, reasons.get(annotator)))
    if not judgments:
        raise GuerdonError(
            f"{_shown(values)} must all be rated by one annotator, got none who rated them all. Drop the row."
        )
    return _judged(row, sides, judgments, reading)


def _side_of(value: object, sides: Sequence[_Side]) -> Preference | None:
    """The preference that an answer is, or that for the text that it names; None where it names neither."""
    if isinstance(value, Preference):
        return value
    if not isinstance(value, str):
        return None
    numbers = [i for i, side in enumerate(sides) if _plain(side.name) == _plain(value)]
    return Preference(groups=((numbers[0],), (1 - numbers[0],))) if len(numbers) == 1 else None


def _judged(row: Row, sides: Sequence[_Side], judgments: Sequence[Judgment], reading: Reading) -> Judged:
    prompt_value = messages_in(row[name], "prompt") if (name := _prompt_name(row, sides)) else None
    if prompt_value is None:
        raise GuerdonError("prompt is missing. Add it, or say which text it is: --column prompt=NAME.")
    prompt, responses = join_sides(
        whole_prompt(row, to_prompt(prompt_value)), [s.response for s in sides], prompt_value
    )
    refuse_empty({side.name: response for side, response in zip(sides, responses, strict=True)})
    if len({response_identity(response) for response in responses}) == 1:
        raise GuerdonError(
            f"{_shown((s.name for s in sides), ' and ')} must differ, got identical responses. Drop the row."
        )
    strength = judgments[0].preference.strength if len(judgments) == 1 else None
    return judged(row, prompt, tuple(responses), judgments, reading, strength)


# ---- Which texts ---------------------------------------------------------------------------------------------------


def _named(row: Row, names: Iterable[str]) -> list[_Side]:
    """The texts with these names: columns of the row, or the items of its list of objects with ids, in the order shown."""
    wanted = {_plain(name): name for name in names}
    listed = next((value for value in row.values() if _has_ids(value)), None)
    if listed is not None:
        given = {_plain(str(item["id"])): (str(item["id"]), _text_of(item)) for item in listed}
    else:
        given = {_plain(name): (name, row[name]) for name in names_of(row)}
    unknown = [name for key, name in wanted.items() if key not in given]
    if unknown:
        known = _shown(name for name, _ in given.values())
        raise GuerdonError(
            f"the ranking must name texts of the item ({known}), got {unknown[0]!r}. Correct or drop the row."
        )
    kept = given if listed is not None else {key: value for key, value in given.items() if key in wanted}
    sides = [_Side(name, to_response(messages_in(value, name), name)) for name, value in kept.values()]
    if len(sides) < 2:
        raise field_error("the ranking", "of two or more texts", [side.name for side in sides], "Drop the row.")
    return sides


def _has_ids(value: object) -> bool:
    return (
        isinstance(value, list) and len(value) > 1 and all(isinstance(item, Mapping) and "id" in item for item in value)
    )


def _text_of(item: Mapping[str, Any]) -> object:
    """The text of an item of a list: what stands below its title, if it has both."""
    return next((item[key] for key in ("text", "body", "content", "response", "html", "title") if item.get(key)), None)


def _pair(row: Row) -> list[_Side]:
    """The two texts that were compared: the columns first and second, two with paired names, or a list of two."""
    if "first" in row and "second" in row:
        values = {name: row[name] for name in ("first", "second")}
    else:
        values = _paired(row) or _listed(row)
    if not values:
        raise GuerdonError(
            f"two texts must be the responses, got {_shown(names_of(row))}. "
            "Say which they are: --column first=NAME --column second=NAME."
        )
    return [_Side(name, to_response(messages_in(value, name), name)) for name, value in values.items()]


def _paired(row: Row) -> dict[str, Any]:
    names = {_plain(name): name for name in names_of(row) if isinstance(row[name], str | list | Mapping) and row[name]}
    pairs = [
        (names[key], names[key.removesuffix(a) + b])
        for key in names
        for a, b in PAIR_ENDS
        if key.endswith(a) and len(key) > len(a) and key.removesuffix(a) + b in names
    ]
    if len(pairs) > 1:
        shown = "; ".join(_shown(pair, " and ") for pair in pairs)
        raise GuerdonError(
            f"two texts must be the responses, got {shown}. Say which: --column first=NAME --column second=NAME."
        )
    return {name: row[name] for pair in pairs for name in pair}


def _listed(row: Row) -> dict[str, Any]:
    lists = {name: list_in(row[name]) for name in LISTS if name in row}
    name = next((name for name, value in lists.items() if isinstance(value, list) and len(value) == 2), None)
    return {} if name is None else {f"{name}[{i}]": value for i, value in enumerate(lists[name])}


def _prompt_name(row: Row, sides: Sequence[_Side]) -> str | None:
    """The column of the prompt: `prompt`, or the only one that is called as prompts are."""
    used = {side.name.partition("[")[0] for side in sides}
    names = [name for name in PROMPTS if row.get(name) and name not in used]
    if "prompt" in names or not names:
        names = (
            names[:1] or [name for name in ("context", "text", "document") if row.get(name) and name not in used][:1]
        )
    if len(names) > 1:
        raise GuerdonError(f"one text must be the prompt, got {_shown(names)}. Say which: --column prompt={names[0]}.")
    return names[0] if names else None


def _shown(names: Iterable[str], between: str = ", ") -> str:
    """Names of columns in an error: on one line, whatever they hold, and not too many."""
    return between.join(show_value(name, 30).strip("'") for name in islice(names, MOST_NAMES))


def _plain(name: str) -> str:
    """The letters and digits of a name, so that response-1, response_1 and Response 1 are one."""
    return re.sub(r"[^a-z0-9]+", "", name.casefold())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
