"""A log of every request for rewards: who asked when, what was answered, by which model. No text unless it is asked for."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from guerdon.conversation import message_dict
from guerdon.errors import field_error
from guerdon.serving.errors import AuditFailed
from guerdon.serving.models import abstains

if TYPE_CHECKING:
    from guerdon.config.serving import ServingOptions
    from guerdon.serving.models import Outcome
    from guerdon.serving.reading import Item, Reading


MOST_LINE: Final = 2**27  # characters of a line; more than a request may hold


class AuditLog:
    """Lines of JSON that are appended to a file, each in one write, before the request is answered.

    A text is known by the SHA-256 of what the model read: the token ids as 4 bytes each, most significant first.
    """

    def __init__(self, path: str, options: ServingOptions, fingerprints: Mapping[str, str]) -> None:
        self._options, self._fingerprints = options, fingerprints
        _refuse_other_file(path)
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            claim = f"a file that can be written ({error.strerror})"
            raise field_error("serving.audit_log", claim, path, "Choose another file.") from None

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def write(self, entry: AuditEntry) -> None:
        """Append a request. Raises AuditFailed where that is not possible: what is not in the log gets no reward."""
        row = {
            "time": entry.time,
            "seconds": round(time.monotonic() - entry.start, 6),
            "client": entry.client,
            "path": entry.path,
            "model": entry.model,
            "fingerprint": self._fingerprints[entry.model],
            "step": entry.step,
            "status": entry.status,
            "texts": [self._text(*one) for one in entry.texts()],
        }
        line = (json.dumps(row) + "\n").encode()
        size = os.fstat(self._file).st_size
        try:
            if os.write(self._file, line) != len(line):
                os.ftruncate(self._file, size)  # half a line would spoil the next one too
                raise OSError(0, "the disk is full")
        except OSError as error:
            raise AuditFailed(error.strerror or str(error)) from None

    def _text(self, item: Item, reading: Reading | None, outcome: Outcome | None) -> dict[str, Any]:
        row: dict[str, Any] = {}
        if reading is not None and reading.key:
            row |= {"sha256": hashlib.sha256(reading.key).hexdigest(), "tokens": len(reading.ids)}
        if outcome is not None:
            row |= {
                "score": outcome.score,
                "std": outcome.std,
                "members": outcome.members,
                "shift_p": outcome.shift_p,
                "truncated": outcome.truncated,
                "abstain": abstains(outcome, self._options.abstain_below, self._options.abstain_std),
            }
        return row | (_given(item) if self._options.audit_texts else {})


def _refuse_other_file(path: str) -> None:
    """Raise GuerdonError for a file that holds something else than an audit log, to which nothing may be appended."""
    if not os.path.isfile(path) or not os.path.getsize(path):
        return
    try:
        with open(path, encoding="utf-8") as file:
            row = json.loads(file.readline(MOST_LINE))
        is_log = isinstance(row, dict) and row.keys() >= {"time", "fingerprint", "texts"}
    except OSError:
        return  # the error of opening it for writing says more
    except (ValueError, RecursionError):
        is_log = False
    if not is_log:
        raise field_error("serving.audit_log", "a new file or an audit log", path, "Choose another file.")


class AuditEntry:
    """A request while it is answered. status: of the answer so far, 500 until it is known."""

    def __init__(self, path: str, client: str | None, model: str, items: Sequence[Item], step: int | None) -> None:
        self.path, self.client, self.model, self.items, self.step = path, client, model, items, step
        self.time = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.start, self.status = time.monotonic(), 500
        self.readings: Sequence[Reading] = ()
        self.outcomes: Sequence[Outcome] = ()

    def texts(self) -> list[tuple[Item, Reading | None, Outcome | None]]:
        """The items with what is known of each."""
        return [
            (item, self.readings[i] if self.readings else None, self.outcomes[i] if self.outcomes else None)
            for i, item in enumerate(self.items)
        ]


def _given(item: Item) -> dict[str, Any]:
    """The text as the request gave it."""
    if item.text is not None:
        return {"text": item.text}
    if item.prompt is None or item.response is None:
        return {"input_ids": list(item.ids or ())}
    return {"messages": [message_dict(turn) for turn in (*item.prompt, *item.response.turns())]}
