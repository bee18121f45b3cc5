"""Other people's rows in, comparisons out: one function a format. A row that is none comes out with its reason.

chosen/rejected rows have lost the order in which the two responses were shown. Which one stands first here is drawn
from a hash of the texts: always "chosen first" would teach position to every judge that sees both at once, and would
make "the first is better" true of a whole file. The draw ignores the verdict: a pair judged both ways stands one way.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

from guerdon.config import ImportOptions
from guerdon.contracts import (
    Comparison,
    GuerdonError,
    Message,
    Preference,
    Prompt,
    Response,
    digest,
)
from guerdon.errors import did_you_mean, field_error, show_value
from guerdon.io.fields import as_number, as_text
from guerdon.io.schema import Rejected, comparison_from_row

__all__ = [
    "IMPORTERS",
    "Rejected",
    "detect",
    "from_csv",
    "from_hh",
    "from_scores",
    "from_trl",
    "from_votes",
    "import_rows",
]

FIRST_ROWS = 20  # how many rows say which format a file has
COLUMNS = (
    "prompt", "chosen", "rejected", "margin", "first", "second", "label", "responses", "scores", "response_a",
    "response_b", "votes", "preference", "id", "group", "annotator", "source", "weight",
)  # fmt: skip
Row = Mapping[str, Any]


def import_rows(
    rows: Iterable[tuple[str, Any]], options: ImportOptions, say: Callable[[str], None] = lambda line: None
) -> Iterator[Comparison | Rejected]:
    """(place, row) pairs in; for each row a Comparison or a Rejected out, in order. `say` is told the format.

    With options.strict the first bad row raises GuerdonError with its place.
    """
    rows = iter(rows)
    head = list(islice(rows, FIRST_ROWS))
    _refuse_wrong_columns(options.columns, head)
    name = detect(head, options.columns) if options.format == "auto" else options.format
    say(f"format: {name}" + (" (detected)" if options.format == "auto" else ""))
    for place, row in chain(head, rows):
        made = _import_row(place, row, name, options)
        if isinstance(made, Rejected) and options.strict:
            raise GuerdonError(f"{made.place}: {made.reason}")
        yield made


def _import_row(place: str, row: Any, name: str, options: ImportOptions) -> Comparison | Rejected:
    if isinstance(row, Rejected):
        return row
    try:
        if not isinstance(row, Mapping):
            raise field_error("row", "an object with named fields", row)
        return IMPORTERS[name]({**_with_source(row, options.source), **_renamed(row, options.columns)})
    except GuerdonError as error:
        return Rejected(place, str(error), row)


def detect(rows: Iterable[tuple[str, Any]], columns: Mapping[str, str] | None = None) -> str:
    """The format that most of these rows have, by the names of their columns."""
    found: Counter[str] = Counter()
    first: tuple[str, Any] | None = None
    for place, row in rows:
        if isinstance(row, Mapping):
            first = first or (place, row)
            found.update(_fits({**row, **_renamed(row, columns or {}, strict=False)})[:1])
    if found:
        return found.most_common(1)[0][0]
    if first is None:
        return "native"  # nothing could be read: each row says why
    names = ", ".join(show_value(str(name), 30) for name in islice(first[1], 12))
    remedy = "say which is which with columns, such as prompt=question chosen=good rejected=bad"
    raise GuerdonError(f"{first[0]}: columns {names} fit no known format; remedy: {remedy}")


def _fits(row: Row) -> list[str]:
    """Formats whose columns are all here, the most telling first."""
    has = {key for key, value in row.items() if value is not None}
    forms = {
        "native": {"responses", "preference"},
        "scores": {"responses", "scores"},
        "votes": {"response_a", "response_b", "votes"},
        "csv": {"first", "second", "label"},
        "trl": {"chosen", "rejected"},
    }
    fits = [name for name, needed in forms.items() if needed <= has]
    is_hh = "prompt" not in has and _is_transcript(row.get("chosen")) and _is_transcript(row.get("rejected"))
    return ["hh", *fits] if is_hh else fits


def _refuse_wrong_columns(columns: Mapping[str, str], head: list[tuple[str, Any]]) -> None:
    for ours, theirs in columns.items():
        if ours not in COLUMNS:
            raise GuerdonError(f"columns: {ours} is not one of our columns. {did_you_mean(ours, COLUMNS)}")
        names = {str(name): None for _, row in head if isinstance(row, Mapping) for name in row}
        if names and theirs not in names:
            raise GuerdonError(f"columns: {ours}={theirs}: no row has {theirs}. {did_you_mean(theirs, names)}")


def _renamed(row: Row, columns: Mapping[str, str], strict: bool = True) -> dict[str, Any]:
    missing = [theirs for theirs in columns.values() if theirs not in row]
    if missing and strict:
        raise GuerdonError(f"field {missing[0]} is missing; remedy: add it or drop the row")
    renamed = {key: value for key, value in row.items() if key not in columns.values()} if columns else dict(row)
    return renamed | {ours: row[theirs] for ours, theirs in columns.items() if theirs in row}


def _with_source(row: Row, source: str | None) -> dict[str, Any]:
    return {} if source is None or row.get("source") is not None else {"source": source}


# ---- HH-RLHF -----------------------------------------------------------------------------------------------------

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "developer": "system"}


def from_hh(row: Row) -> Comparison:
    """{chosen, rejected}: two transcripts of turns that begin with "\\n\\nHuman:" or "\\n\\nAssistant:".

    The prompt ends at the last "\\n\\nAssistant:" that both share; what follows is the response. A further assistant
    mark in a response is its text (models wrote such marks); a further human mark means that the two talks diverged.
    """
    chosen, rejected = (_transcript(row, key) for key in ("chosen", "rejected"))
    if chosen == rejected:
        raise GuerdonError("fields chosen and rejected are identical transcripts; remedy: drop the row")
    cut = _shared_start(chosen, rejected).rfind(ASSISTANT)
    if cut < 0:
        raise GuerdonError(
            "fields chosen and rejected are diverging transcripts: their first human turns differ; remedy: drop the row"
        )
    better, worse = (t[cut + len(ASSISTANT) :] for t in (chosen, rejected))
    for key, response in (("chosen", better), ("rejected", worse)):
        if HUMAN in response:
            where = f"field {key} goes on with a human turn after character {cut}, where the two differ"
            raise GuerdonError(f"{where}: diverging transcripts do not answer one prompt; remedy: drop the row")
    return _preferred(row, _turns(chosen[:cut]), better.strip(), worse.strip())


def _transcript(row: Row, key: str) -> str:
    found = as_text(_needed(row, key), key)
    found = f"\n\n{found}" if found.startswith(HUMAN.strip()) else found
    if not found.startswith(HUMAN):
        raise field_error(
            key, 'a transcript that starts with "\\n\\nHuman:"', found, "Drop the row, or give another format."
        )
    if ASSISTANT not in found:
        raise field_error(key, 'a transcript with an "\\n\\nAssistant:" turn', found)
    return found


def _turns(transcript: str) -> Prompt:
    """The messages of a transcript that starts with a mark."""
    _, *parts = re.split(r"\n\n(Human|Assistant):", transcript)
    roles = ("user" if mark == "Human" else "assistant" for mark in parts[::2])
    return Prompt(Message(role, content.strip()) for role, content in zip(roles, parts[1::2], strict=True))


def _is_transcript(value: object) -> bool:
    return isinstance(value, str) and value.lstrip("\n").startswith("Human:") and ASSISTANT in value


# ---- TRL and its kin ---------------------------------------------------------------------------------------------


def from_trl(row: Row) -> Comparison:
    """{prompt?, chosen, rejected, margin?}: text or messages, the prompt in its own column or in front of both.

    Also taken: a prompt of messages with plain text responses, responses that repeat the prompt, a prompt column named
    conversations. Without a prompt column the prompt is what both share: messages up to the last, or text up to the
    last space before they differ (responses that begin alike lose that to it). margin becomes the verdict's strength.
    """
    chosen, rejected = _needed(row, "chosen"), _needed(row, "rejected")
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise field_error("rejected", "of the same form as chosen, both text or both messages", rejected)
    prompt = row.get("prompt", row.get("conversations"))
    if not isinstance(chosen, str):
        return _preferred(row, *_from_messages(prompt, chosen, rejected))
    if prompt is not None:
        return _preferred(row, _prompt(prompt), chosen, rejected)
    if _is_transcript(chosen) and _is_transcript(rejected):
        return from_hh(row)
    return _preferred(row, *_from_shared_text(chosen, rejected))


def _from_shared_text(chosen: str, rejected: str) -> tuple[Prompt, str, str]:
    if chosen == rejected:
        raise GuerdonError("fields chosen and rejected are identical texts; remedy: drop the row")
    shared = _shared_start(chosen, rejected)
    if len(shared) < min(len(chosen), len(rejected)):
        shared = re.sub(r"\S*$", "", shared).rstrip()  # never cut inside a word
    if not shared:
        raise GuerdonError("field prompt is missing and chosen and rejected share no beginning; remedy: give a prompt")
    return Prompt([Message("user", shared)]), chosen[len(shared) :], rejected[len(shared) :]


def _shared_start(a: str, b: str) -> str:
    apart = (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return a[: next(apart, min(len(a), len(b)))]


def _from_messages(prompt: object, chosen: object, rejected: object) -> tuple[Prompt, str, str]:
    better, worse = _messages(chosen, "chosen"), _messages(rejected, "rejected")
    for key, turns in (("chosen", better), ("rejected", worse)):
        if turns[-1].role != "assistant":
            raise field_error(f"the last message of {key}", "an assistant message", turns[-1].role)
    shared = better[:-1]
    if worse[:-1] != shared:
        raise GuerdonError(
            "fields chosen and rejected are diverging: they differ before the last message; remedy: drop the row"
        )
    asked = Prompt() if prompt is None else _prompt(prompt)
    return _joined(asked, shared), better[-1].content, worse[-1].content


def _joined(asked: Prompt, shared: Prompt) -> Prompt:
    """The prompt column and the messages in front of both responses, which may repeat it or go on from it."""
    if not asked and not shared:
        raise GuerdonError("field prompt is missing and chosen holds one message only; remedy: give a prompt")
    if not shared or shared[0].role == "assistant":
        return asked + shared
    if not asked or shared[-len(asked) :] == asked or shared[: len(asked)] == asked:
        return shared
    raise field_error(
        "chosen",
        "the answer alone, or the prompt and the answer",
        shared[0].content,
        "Drop the prompt column or the extra messages.",
    )


def _preferred(row: Row, prompt: Prompt, better: str, worse: str) -> Comparison:
    """One response above the other; which stands first is drawn (see the top of this file)."""
    empty = [key for key, response in (("chosen", better), ("rejected", worse)) if not response.strip()]
    if empty:
        fields = (
            "fields chosen and rejected hold empty responses" if empty[1:] else f"field {empty[0]} is an empty response"
        )
        raise GuerdonError(f"{fields}; remedy: drop the row")
    if better.strip() == worse.strip():
        raise GuerdonError("fields chosen and rejected are identical responses; remedy: drop the row")
    drawn = digest([[m.content for m in prompt], *sorted((better, worse))])
    better_is_first = (int(drawn[-1], 16) % 2 == 0) == (better < worse)
    margin = row.get("margin")
    strength = None if margin is None else _number(margin, "margin", "a number >= 0", low=0)
    texts = (better, worse) if better_is_first else (worse, better)
    preference = Preference(groups=((0,), (1,)) if better_is_first else ((1,), (0,)), strength=strength)
    return _comparison(row, prompt, tuple(map(Response, texts)), preference)


# ---- Tables, scores, votes ---------------------------------------------------------------------------------------

FIRST, SECOND, TIE = ("a", "first", "1"), ("b", "second", "2"), ("tie", "equal", "draw")


def from_csv(row: Row) -> Comparison:
    """{prompt, first, second, label}: label is a, first or 1; b, second or 2; tie; or P(first is better), such as 0.7.

    So 0 means that the second is better. {prompt?, chosen, rejected} is taken as from_trl does.
    """
    if row.get("label") is None and row.get("chosen") is not None:
        return from_trl(row)
    responses = _two_responses(row, "first", "second")
    return _comparison(row, _prompt(_needed(row, "prompt")), responses, _label(_needed(row, "label")))


def _label(value: object) -> Preference:
    word = str(value).strip().casefold()
    if word in TIE:
        return Preference(groups=((0, 1),))
    if word in FIRST + SECOND:
        return Preference(groups=((0,), (1,)) if word in FIRST else ((1,), (0,)))
    return Preference(q=_number(value, "label", "a, b, tie, first, second, 1, 2, or a probability", low=0, high=1))


def from_scores(row: Row) -> Comparison:
    """{prompt, responses: [text], scores: [number, higher is better]}: equal scores tie; each is kept as a rating."""
    responses, scores = (_list(row, key) for key in ("responses", "scores"))
    if len(responses) != len(scores) or len(responses) < 2:
        raise field_error(
            "scores", f"a list of one number for each of 2 or more responses ({len(responses)} here)", scores
        )
    texts = [_nonempty(response, f"responses[{i}]") for i, response in enumerate(responses)]
    if len(set(texts)) == 1:
        raise GuerdonError("field responses holds identical texts only; remedy: drop the row")
    values = [_number(score, f"scores[{i}]", "a finite number") for i, score in enumerate(scores)]
    groups = (tuple(i for i, v in enumerate(values) if v == level) for level in sorted(set(values), reverse=True))
    rated = tuple(Response(t, ratings={"score": v}) for t, v in zip(texts, values, strict=True))
    return _comparison(row, _prompt(_needed(row, "prompt")), rated, Preference(groups=tuple(groups)))


def from_votes(row: Row) -> Comparison:
    """{prompt, response_a, response_b, votes: [{annotator, label: a, b, tie}]}: q is the share for a, a tie half."""
    responses = _two_responses(row, "response_a", "response_b")
    votes = _list(row, "votes")
    if not votes:
        raise field_error("votes", "a list of at least one vote", votes)
    counts = Counter(_vote(vote, f"votes[{i}]") for i, vote in enumerate(votes))
    first, tie, second = (counts[name] for name in ("a", "tie", "b"))
    preference = Preference(q=(first + tie / 2) / len(votes), votes=(first, tie, second))
    alone = votes[0].get("annotator") if len(votes) == 1 and isinstance(votes[0], Mapping) else None
    return _comparison({"annotator": alone, **row}, _prompt(_needed(row, "prompt")), responses, preference)


def _vote(value: object, where: str) -> str:
    label = value.get("label") if isinstance(value, Mapping) else value
    word = str(label).strip().casefold()
    for name, words in (("a", FIRST), ("b", SECOND), ("tie", TIE)):
        if word in words:
            return name
    raise field_error(f"{where}.label", "a, b or tie", label)


def _two_responses(row: Row, first: str, second: str) -> tuple[Response, Response]:
    a, b = _nonempty(_needed(row, first), first), _nonempty(_needed(row, second), second)
    if a.strip() == b.strip():
        raise GuerdonError(f"fields {first} and {second} are identical responses; remedy: drop the row")
    return Response(a), Response(b)


# ---- What they share ---------------------------------------------------------------------------------------------


def _comparison(row: Row, prompt: Prompt, responses: tuple[Response, ...], preference: Preference) -> Comparison:
    """With the row's own id, group, annotator, source and weight where it has them; other columns are left behind."""
    known = {key: _name(row[key], key) for key in ("id", "group", "annotator", "source") if row.get(key) is not None}
    weight = row.get("weight")
    if weight is not None:
        known["weight"] = _number(weight, "weight", "a number > 0", above=0)
    return Comparison(prompt=prompt, responses=responses, preference=preference, **known)


def _name(value: object, where: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise field_error(where, "text or an integer", value)
    return str(value)


def _needed(row: Row, key: str) -> Any:
    if row.get(key) is None:
        raise GuerdonError(f"field {key} is missing; remedy: add it, or say with columns which column holds it")
    return row[key]


def _list(row: Row, key: str) -> list[Any]:
    found = _needed(row, key)
    if not isinstance(found, list | tuple):
        raise field_error(key, "a list", found)
    return list(found)


def _nonempty(value: object, where: str) -> str:
    """A response's text, from text or {text}."""
    found = as_text(value.get("text") if isinstance(value, Mapping) else value, where)
    if not found.strip():
        raise GuerdonError(f"field {where} is an empty response; remedy: drop the row")
    return found


def _number(
    value: object, where: str, claim: str, *, low: float = -math.inf, high: float = math.inf, above: float = -math.inf
) -> float:
    """As fields.as_number; a table's cells hold numbers as text."""
    try:
        found = float(value) if isinstance(value, str) else value
    except ValueError:
        raise field_error(where, claim, value) from None
    return as_number(found, where, claim, low=low, high=high, above=above)


def _prompt(value: object) -> Prompt:
    """A prompt from text, a transcript, or messages."""
    if not isinstance(value, str):
        return _messages(value, "prompt")
    if not value.strip():
        raise field_error("prompt", "text that is not empty", value)
    if value.startswith(HUMAN) and value.rstrip().endswith(ASSISTANT):
        return _turns(value.rstrip().removesuffix(ASSISTANT))
    return Prompt([Message("user", value)])


def _messages(value: object, where: str) -> Prompt:
    """Messages from [{role, content}] or [{from, value}], or from one such message alone."""
    turns = [value] if isinstance(value, Mapping) else value
    if not isinstance(turns, list | tuple) or not turns:
        raise field_error(where, "text or a list of messages", value)
    return Prompt(_message(turn, f"{where}[{i}]") for i, turn in enumerate(turns))


def _message(turn: object, where: str) -> Message:
    if not isinstance(turn, Mapping):
        raise field_error(where, "a message with role and content", turn)
    role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    role = ROLES.get(role, role) if isinstance(role, str) else role
    if role not in ("system", "user", "assistant", "tool"):
        raise field_error(f"{where}.role", "system, user, assistant or tool", role)
    if isinstance(content, list | tuple):
        content = "".join(_text_part(part, f"{where}.content[{i}]") for i, part in enumerate(content))
    return Message(str(role), as_text(content, f"{where}.content"))


def _text_part(part: object, where: str) -> str:
    if not isinstance(part, Mapping) or part.get("type") != "text":
        raise field_error(where, "a part of type text (images cannot be scored)", part)
    return as_text(part.get("text"), f"{where}.text")


def _native(row: Row) -> Comparison:
    return comparison_from_row(row)


IMPORTERS: Mapping[str, Callable[[Row], Comparison]] = {
    "native": _native,
    "hh": from_hh,
    "trl": from_trl,
    "csv": from_csv,
    "scores": from_scores,
    "votes": from_votes,
}
