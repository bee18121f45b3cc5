"""Calls in files: a shard of requests in, a shard of answers out, in the form that providers of batches read and write.

A shard is named by its requests. It is done when its answers have their name, which they get in one step once they are whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from guerdon.contracts import digest
from guerdon.io.writers import atomic_write

SHARD_SIZE: Final = 5_000  # requests of a file


@dataclass(frozen=True, slots=True)
class Shard:
    """A file of requests and, once it is done, one of answers. Its requests have the ids `keys`."""

    folder: Path
    name: str
    keys: tuple[str, ...]

    @property
    def requests_path(self) -> Path:
        """One {custom_id, method, url, body} per line."""
        return self.folder / f"{self.name}.requests.jsonl"

    @property
    def answers_path(self) -> Path:
        """One {custom_id, response: {status_code, body}, error} per line, in any order."""
        return self.folder / f"{self.name}.answers.jsonl"

    @property
    def submission_path(self) -> Path:
        """Where the provider's name of the shard is kept."""
        return self.folder / f"{self.name}.batch.json"

    @property
    def is_done(self) -> bool:
        """Whether its answers are whole."""
        return self.answers_path.is_file()

    def requests(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Id and body of each request."""
        with self.requests_path.open(encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                yield row["custom_id"], row["body"]

    def write_answers(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write the answers; the shard is done then."""
        with atomic_write(self.answers_path) as file:
            for row in rows:
                file.write(json.dumps(row) + "\n")

    def answers(self) -> Iterator[dict[str, Any]]:
        """The rows of its answers that have one of its ids, each id once."""
        wanted = set(self.keys)
        with self.answers_path.open(encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                if row["custom_id"] in wanted:
                    wanted.discard(row["custom_id"])
                    yield row

    def remove(self) -> None:
        """Remove its files, the requests last: without them nobody looks for the others."""
        for path in (self.answers_path, self.submission_path, self.requests_path):
            path.unlink(missing_ok=True)


def write_shards(folder: Path, bodies: Mapping[str, str], size: int = SHARD_SIZE) -> list[Shard]:
    """Shards of requests, given as JSON texts by their ids. The same requests give the same files."""
    shards, entries = [], iter(bodies.items())
    while part := list(islice(entries, size)):
        shard = shard_of(folder, [key for key, _ in part])
        if not shard.requests_path.is_file():
            with atomic_write(shard.requests_path) as file:
                for key, body in part:
                    head = json.dumps({"custom_id": key, "method": "POST", "url": "/v1/chat/completions"})
                    file.write(f'{head[:-1]}, "body": {body}}}\n')
        shards.append(shard)
    return shards


def shards_in(folder: Path) -> list[Shard]:
    """The shards whose requests are in the folder: of a run that goes on, or that was stopped."""
    shards = []
    for path in sorted(folder.glob("*.requests.jsonl")):
        with path.open(encoding="utf-8") as file:
            keys = tuple(json.loads(line)["custom_id"] for line in file)
        shards.append(Shard(folder, path.name.removesuffix(".requests.jsonl"), keys))
    return shards


def shard_of(folder: Path, keys: Sequence[str]) -> Shard:
    """The shard with these ids."""
    return Shard(folder, digest(list(keys), 32), tuple(keys))


def response_row(key: str, body: Any) -> dict[str, Any]:
    """A row of answers: a response with status 200."""
    return {"custom_id": key, "response": {"status_code": 200, "body": body}, "error": None}


def error_row(key: str, code: str, message: str = "") -> dict[str, Any]:
    """A row of answers: an error without a response."""
    return {"custom_id": key, "response": None, "error": {"code": code, "message": message}}
