"""Items as the rows of tables. The ids follow from the content, so that a second import of the same adds nothing.

Of judgments that are equal in everything, the n-th has n in its id: two people whom the data does not name may well agree. A
file that is imported twice counts them anew, so nothing is added; of two files, the one that has more of them decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from guerdon.contracts import Preference
from guerdon.io.schema import preference_to_row
from guerdon.store.canonical import content_id
from guerdon.store.items import Annotator, Item, Judgment, Label, contents_of
from guerdon.store.lines import DETAILS, FACTS

Row = dict[str, Any]

TABLES: Final = (  # in the order in which rows may be written
    "prompts", "responses", "items", "item_responses", "annotators", "presentations", "judge_calls", "judgments", "labels",
)  # fmt: skip


@dataclass(slots=True)
class Occurrences:
    """How often each judgment has been seen in one import."""

    counts: Counter[bytes] = field(default_factory=Counter)

    def number(self, identity: str) -> int:
        """1 for the first judgment of this identity, 2 for the second, and so on."""
        key = bytes.fromhex(identity)
        self.counts[key] += 1
        return self.counts[key]


@dataclass(slots=True)
class Batch:
    """Rows of all tables, by their keys: each once."""

    rows: dict[str, dict[Any, Row]] = field(default_factory=lambda: {name: {} for name in TABLES})
    items: int = 0
    characters: int = 0  # of prompts and responses

    def add(self, item: Item, occurrences: Occurrences) -> str:
        """Add the rows of an item; returns its id."""
        self.items += 1
        prompt, *responses = contents = item.contents or contents_of(item.prompt, item.responses)
        self.characters += sum(len(content.text) for content in contents)
        item_id = item.id(contents)
        self._put("prompts", prompt.id, {"content": prompt})
        facts = {name: item.facts.get(name, default) for name, default in FACTS.items()}
        self._put("items", item_id, {"prompt_id": prompt.id, **facts})
        for position, response in enumerate(responses):
            self._put("responses", response.id, {"prompt_id": prompt.id, "content": response})
            row = {"item_id": item_id, "position": position, "response_id": response.id}
            self.rows["item_responses"][item_id, position] = row
        for judgment in item.judgments:
            self._add_judgment(item_id, judgment, occurrences)
        for label in item.labels:
            self._put("labels", *label_row(item_id, label))
        return item_id

    def _add_judgment(self, item_id: str, judgment: Judgment, occurrences: Occurrences) -> None:
        annotator_id = self.add_annotator(judgment.annotator)
        shared = {"annotator_id": annotator_id, "shown": list(judgment.shown)}
        presentation_id = call_id = None
        if judgment.call is not None:
            call_id = str(judgment.call["id"])
            about = {"item_id": item_id, "shown": shared["shown"], "status": "ok"}
            self._put("judge_calls", call_id, {**NO_CALL, **judgment.call, **about})
        else:
            origin = "imported" if judgment.presentation is None else "claimed"
            presentation_id = judgment.presentation or self._imported_id(item_id, annotator_id, judgment, occurrences)
            self._put(
                "presentations", presentation_id, {"item_id": item_id, **shared, "origin": origin, "state": "submitted"}
            )
        by_call = shared if call_id else dict.fromkeys(shared)
        basis = {
            "presentation_id": presentation_id,
            "presentation_state": presentation_id and "submitted",
            "call_id": call_id,
            "call_status": call_id and "ok",
            **by_call,
        }
        for revision, each in enumerate((*judgment.earlier, judgment), start=1):
            row = judgment_row(each)
            follows = {"revision": revision, "supersedes_revision": revision - 1 or None}
            judgment_id = judgment_id_of(item_id, basis, revision, row)
            self._put("judgments", judgment_id, {"item_id": item_id, **basis, **follows, **row})

    def _imported_id(self, item_id: str, annotator_id: str, judgment: Judgment, occurrences: Occurrences) -> str:
        """The id of the presentation of an imported judgment, which follows from all that the judgment holds."""
        revisions = [judgment_row(each) for each in (*judgment.earlier, judgment)]
        content = ("presentation", item_id, annotator_id, list(judgment.shown), *revisions)
        identity = content_id(*content)
        number = occurrences.number(identity)
        return identity if number == 1 else content_id(*content, number)

    def add_annotator(self, annotator: Annotator) -> str:
        """Add the row of an annotator; returns its id."""
        key = annotator.id
        if key not in self.rows["annotators"]:
            names = {"kind": annotator.kind, "name": annotator.name, "fingerprint": annotator.fingerprint}
            self._put("annotators", key, names)
        return key

    def _put(self, table: str, key: str, row: Mapping[str, Any]) -> None:
        self.rows[table][key] = {"id": key, **row}


NO_CALL: Final = {
    "run_id": None, "model": None, "purpose": "judge", "failure_reason": None, "sample_ix": 0,
    "finish_reason": None, "attempts": None, "tokens_in": None, "tokens_cached": None,
    "tokens_out": None, "cost": None, "price_table": None, "latency_ms": None, "at": None, "failure_code": None,
}  # fmt: skip


def judgment_row(judgment: Judgment) -> Row:
    """What a judgment says, as columns; its ids and what it rests on left out."""
    return {
        **preference_columns(judgment.preference),
        **{name: judgment.details.get(name, default) for name, default in DETAILS.items()},
        "rationale": judgment.rationale,
        "source": judgment.source,
        "group_id": judgment.group,
        "weight": None if judgment.weight == 1.0 else float(judgment.weight),
        "comparison_id": judgment.comparison_id,
    }


def judgment_id_of(item_id: str, rests_on: Mapping[str, Any], revision: int, row: Mapping[str, Any]) -> str:
    """The id of a revision: the hash of its item, of what it rests on (a presentation, or a call and whose judgment of it this
    is), and of what it says."""
    basis = rests_on["presentation_id"] or [rests_on["call_id"], rests_on["annotator_id"]]
    return content_id("judgment", item_id, basis, revision, {name: row[name] for name in row if row[name] is not None})


def label_row(item_id: str, label: Label) -> tuple[str, Row]:
    """The id of a label, and its columns."""
    row = {
        "item_id": item_id,
        "method": label.method,
        "params": dict(label.params),
        **preference_columns(label.preference),
        "n_votes": label.n_votes,
        "n_eff": label.n_eff,
        "entropy": label.entropy,
        "status": label.status,
    }
    return label_id_of(row), row


def label_id_of(row: Mapping[str, Any]) -> str:
    """The id of a label: the hash of item, method and parameters. A method says one thing of an item."""
    return content_id("label", row["item_id"], row["method"], row["params"])


def preference_columns(preference: Preference) -> Row:
    """The columns of a preference."""
    return {"groups": None, "q": None, "strength": None, "votes": None, **preference_to_row(preference)}


def preference_of(row: Any) -> Preference:
    """The preference in these columns."""
    return Preference(
        groups=None if row["groups"] is None else tuple(tuple(group) for group in row["groups"]),
        q=row["q"],
        strength=row["strength"],
        votes=None if row["votes"] is None else _three(row["votes"]),
    )


def _three(votes: Sequence[int]) -> tuple[int, int, int]:
    first, tie, second = votes
    return first, tie, second
