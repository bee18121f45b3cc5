"""A provider's batches (OpenAI's /files and /batches): shards are sent as files, and their answers fetched when they are ready.

A shard is never paid twice: its requests are on disk before it is sent, the batch carries its name, and a run that does not know
whether it was sent asks the provider for a batch of that name. A failed try to send one asks first as well.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import httpx2

from guerdon.config.judging import JudgeOptions
from guerdon.io.call_shards import Shard, error_row
from guerdon.io.server_url import normalize_url
from guerdon.io.writers import atomic_write
from guerdon.models.completions_api import error_message
from guerdon.models.http_connection import AnswerTooLarge, Connection
from guerdon.models.judges.endpoint.pacing import Backoff
from guerdon.models.judges.endpoint.troubles import trouble_of
from guerdon.models.judges.failures import JudgeStopped
from guerdon.models.server_key import ServerKey
from guerdon.progress import note

log = logging.getLogger("guerdon")

ENDED: Final = frozenset({"completed", "expired", "failed", "cancelled"})  # codespell:ignore
NAME: Final = "guerdon_shard"  # of the metadata that holds a shard's name
MAX_FILE_BYTES: Final = 1 << 30
MAX_PAGES: Final = 100  # of the list of batches


class ProviderBatches:
    """Runs shards as batches, at most `window` at once.

    tries, backoff: of each request to the provider. poll_seconds: between looks at the batches.
    """

    def __init__(
        self, options: JudgeOptions, *, window: int = 4, poll_seconds: float = 30.0, backoff: Backoff | None = None
    ) -> None:
        url = options.url if isinstance(options.url, str) else (options.url or [""])[0]
        self.url, self.window, self.poll_seconds = normalize_url(url), window, poll_seconds
        self._key = ServerKey.from_env(options.key_env, "judge.key_env")
        self._timeout, self._tries, self._backoff = options.timeout, options.tries, backoff or Backoff()

    def run(self, shards: Sequence[Shard]) -> None:
        """Make every shard done. Raises JudgeStopped where the provider refuses; the batches go on there, and are adopted later."""
        waiting = [shard for shard in shards if not shard.is_done]
        running: dict[str, Shard] = {}
        while waiting or running:
            while waiting and len(running) < self.window:
                shard = waiting.pop(0)
                running[self._batch_of(shard)] = shard
                note(f"{self.url}: batches under way {len(running)}, to be sent {len(waiting)}")
            for batch_id in list(running):
                batch = self._get(f"batches/{batch_id}")
                if batch.get("status") in ENDED:
                    self._finish(running.pop(batch_id), batch)
            if running:
                time.sleep(self.poll_seconds)

    # ---- Sending -------------------------------------------------------------------------------------------------------------

    def _batch_of(self, shard: Shard) -> str:
        """The provider's id of the shard's batch, which is sent if there is none."""
        if shard.submission_path.is_file():
            return str(json.loads(shard.submission_path.read_text("utf-8"))["id"])
        batch_id = self._adopted(shard) or self._send(shard)
        with atomic_write(shard.submission_path) as file:
            file.write(json.dumps({"id": batch_id}) + "\n")
        return batch_id

    def _adopted(self, shard: Shard) -> str | None:
        """A batch of the shard's name that a stopped run has sent; not one that ended without any answer."""
        for batch in self._batches():
            metadata, counts = batch.get("metadata"), batch.get("request_counts")
            has_answers = isinstance(counts, Mapping) and bool(counts.get("completed"))
            if isinstance(metadata, Mapping) and metadata.get(NAME) == shard.name:
                if batch.get("status") not in ENDED or has_answers:
                    return str(batch.get("id"))
        return None

    def _send(self, shard: Shard) -> str:
        boundary = secrets.token_hex(16)
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n',
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{shard.name}.jsonl"\r\n',
            "Content-Type: application/jsonl\r\n\r\n",
        ]
        content = "".join(parts).encode() + shard.requests_path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        uploaded = self._request("POST", "files", content, f"multipart/form-data; boundary={boundary}")
        body = {
            "input_file_id": json.loads(uploaded)["id"],
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {NAME: shard.name},
        }
        for tried in range(self._tries):
            try:
                return str(json.loads(self._request("POST", "batches", json.dumps(body).encode(), tries=1))["id"])
            except _NoAnswer:  # it may have been sent
                time.sleep(self._backoff.seconds(tried))
                if batch_id := self._adopted(shard):
                    return batch_id
        raise JudgeStopped(f"{self.url}: batches must be accepted, got no answer. Run the same command again later.")

    def _batches(self) -> Iterator[dict[str, Any]]:
        after = ""
        for _ in range(MAX_PAGES):
            page = self._get(f"batches?limit=100{after}")
            rows = [row for row in page.get("data") or [] if isinstance(row, dict)]
            yield from rows
            if not page.get("has_more") or not rows:
                return
            after = f"&after={rows[-1].get('id')}"

    # ---- Receiving -----------------------------------------------------------------------------------------------------------

    def _finish(self, shard: Shard, batch: Mapping[str, Any]) -> None:
        """Write the answers of a batch that has ended; a call that it did not get to is a failure of its own."""
        status = str(batch.get("status"))
        if status == "failed":
            shard.submission_path.unlink(missing_ok=True)
            reason = self._key.clean(json.dumps(batch.get("errors")))
            raise JudgeStopped(
                f"{self.url}: the provider refuses the batch of {shard.name}: {reason}. Correct the cause."
            )
        rows: dict[str, Mapping[str, Any]] = {}
        for name in ("output_file_id", "error_file_id"):
            if isinstance(batch.get(name), str):
                text = self._key.redact(self._request("GET", f"files/{batch[name]}/content").decode("utf-8", "replace"))
                for row in _rows(text):
                    rows.setdefault(str(row.get("custom_id")), row)
        shard.write_answers(rows.get(key) or error_row(key, f"batch_{status}") for key in shard.keys)

    # ---- Requests ------------------------------------------------------------------------------------------------------------

    def _get(self, path: str) -> dict[str, Any]:
        body = json.loads(self._request("GET", path))
        if not isinstance(body, dict):
            raise JudgeStopped(f"{self.url}/{path}: must be a JSON object, got something else. Check url.")
        return body

    def _request(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        kind: str = "application/json",
        tries: int | None = None,
    ) -> bytes:
        """The body of an answer with status 200. Raises JudgeStopped, or _NoAnswer after all tries."""
        tries = tries or self._tries
        reason = ""
        for tried in range(tries):
            wait = self._backoff.seconds(tried)
            try:
                with Connection({"Content-Type": kind, **self._key.headers}, self._timeout) as connection:
                    status, headers, body = connection.fetch(
                        method, f"{self.url}/{path}", content, self._timeout, MAX_FILE_BYTES
                    )
            except (httpx2.RequestError, AnswerTooLarge) as error:
                reason = self._key.clean(str(error)) or type(error).__name__
            else:
                if status == 200:
                    return body
                trouble = trouble_of(
                    status, headers, body.decode("utf-8", "replace"), self._key.clean(error_message(body))
                )
                reason, wait = str(trouble.failure), max(wait, trouble.wait)
                if not trouble.is_worth_another_try:
                    raise JudgeStopped(
                        f"{self.url}/{path}: {reason}. Correct the cause, and run the same command again."
                    )
            if tried + 1 < tries:
                time.sleep(wait)
        raise _NoAnswer(f"{self.url}/{path}: {reason}. Run the same command again later.")


class _NoAnswer(JudgeStopped):
    """No answer to a request to the provider, after all tries."""


def _rows(text: str) -> Iterator[dict[str, Any]]:
    """The rows of a file of answers; lines that are none are left out, so that their calls count as failed."""
    for line in text.split("\n"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            yield row
