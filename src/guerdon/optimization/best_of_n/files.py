"""A pool's file: written group by group so that a killed run resumes, and read back as rollouts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Strict, TypeAdapter
from typing_extensions import TypedDict

from guerdon.contracts import GuerdonError, Policy, PromptLike, Rollouts, as_prompt
from guerdon.io import readers, run_folder, schema, writers
from guerdon.io.json_files import parse_object
from guerdon.optimization.best_of_n.rows import Row, read_row, response_row
from guerdon.optimization.best_of_n.sampling import PoolSampler
from guerdon.progress import note

if TYPE_CHECKING:
    from guerdon.config import BestOfNOptions
    from guerdon.optimization.rewards import Reward

__all__ = ["Pool", "read_pool", "write_pool"]

# ---- Reading -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pool:
    """What a pool's file holds: N scored responses to each prompt, and the prompts that have none.

    excluded: where in the file each such prompt is (file:line), and why it was excluded.
    """

    rollouts: Rollouts
    excluded: tuple[tuple[str, str], ...] = ()


def read_pool(path: str | Path) -> Pool:
    """A file of `write_pool`; rollouts have the columns that the file has.

    Strict: errors name file:line, and a pool in which prompts have different numbers of responses or different columns
    is refused.
    """
    parts: list[Rollouts] = []
    excluded: list[tuple[str, str]] = []
    first = ""
    for place, row in readers.read_rows(path):
        if isinstance(row, Mapping) and "excluded" in row:
            excluded.append((place, str(row["excluded"])))
            continue
        part = read_row(place, row)
        if parts:
            _refuse_unlike(parts[0], part, first, place)
        first = first or place
        parts.append(part)
    if not parts:
        raise GuerdonError(f"{path}: every prompt was excluded ({excluded[0][1]}). See the reasons in the file.")
    rollouts = Rollouts.join(parts)
    assert rollouts.truncated is not None
    return Pool(rollouts if rollouts.truncated.any() else replace(rollouts, truncated=None), tuple(excluded))


def _refuse_unlike(one: Rollouts, other: Rollouts, first: str, place: str) -> None:
    if one.samples != other.samples:
        raise GuerdonError(
            f"{place}: must have {one.samples} replies as {first} has, got {other.samples}. "
            "Draw all prompts with one n, or divide the file."
        )
    for name in ("gold", "log_prob", "shift_p", "std"):
        if (getattr(one, name) is None) != (getattr(other, name) is None):
            raise GuerdonError(
                f"{place}: {name} must be in all rows or in none, got it in some. Add it to the others, or leave it out."
            )


# ---- Writing -----------------------------------------------------------------------------------------------------


def write_pool(
    path: str | Path,
    policy: Policy,
    reward: Reward | None,
    prompts: Iterable[PromptLike],
    options: BestOfNOptions,
    *,
    gold: Reward | None = None,
    identity: Mapping[str, Any] | None = None,
    details: Mapping[str, Any] | None = None,
) -> dict[str, int]:
    """Write a row per prompt, as `PoolSampler.run` gives them; returns the number of prompts, responses and excluded prompts.

    The file appears when it is complete. With an identity (names and JSON values that tell the policy, the rewards and the
    prompts from others) a killed run resumes after its last complete group, and its file is that of an unbroken run. With
    `details` as well (everything else that a row depends on), a finished pool is not drawn again: PATH.made.json remembers
    it. A file that was made of something else stays, and is an error. Responses that arrived before a server failed, and
    could not be written yet, wait in PATH.replies.json.
    """
    target = Path(os.path.realpath(path))
    writers.require_jsonl_ending(path)
    waiting = target.with_name(f"{target.name}.replies.json")
    if identity is not None:
        identity = {
            **identity,
            "set of options": options.model_dump(include={"n", "max_tokens", "temperature", "seed"}),
        }
        identity = run_folder.as_json(identity)
        run_folder.reopen_unproven(target, identity)
        if counts := run_folder.read_receipt(target, identity, details):
            note(f"{path}: complete already, nothing is drawn; delete it to draw it again")
            return counts

    def count(chunks: run_folder.ResumableFile) -> dict[str, int]:
        excluded = chunks.rows - chunks.responses // options.n
        return {"prompts": chunks.rows, "responses": chunks.responses, "excluded": excluded}

    def prove(chunks: run_folder.ResumableFile) -> None:
        run_folder.write_receipt(target, {**(identity or {}), **(details or {})}, count(chunks))

    with run_folder.open_resumable(path, identity, prove) as chunks:
        if chunks.rows:
            note(f"{path}: resumes after {chunks.rows:,} prompts")

        def sink(rows: Sequence[Row]) -> None:
            lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
            # Half a character (a lone surrogate) becomes its escape, which JSON reads back as it was
            body = "".join(lines).encode("utf-8", "backslashreplace")
            chunks.add(body, len(rows), sum(len(row.get("responses", ())) for row in rows))

        PoolSampler(policy, reward, options, gold).run(
            prompts,
            sink,
            skip=chunks.rows,
            saved=_read_waiting(waiting, identity),
            save=None if identity is None else lambda saved: _write_waiting(waiting, identity, saved),
        )
    if identity is not None:
        waiting.unlink(missing_ok=True)
    return count(chunks)


def _write_waiting(path: Path, identity: Mapping[str, Any], saved: Mapping[int, Rollouts]) -> None:
    rows = {
        str(index): {
            "responses": [response_row(response) for response in rollouts.responses],
            "log_prob": None if rollouts.log_prob is None else rollouts.log_prob.tolist(),
        }
        for index, rollouts in saved.items()
    }
    writers.write_json(path, {"made of": identity, "replies": rows})


def _read_waiting(path: Path, identity: Mapping[str, Any] | None) -> dict[int, Rollouts]:
    """Responses that an earlier run of this very pool left, by the position of their prompt."""
    record = readers.read_json(path) if identity is not None and path.is_file() else None
    if not isinstance(record, Mapping) or record.get("made of") != identity:
        return {}
    replies = parse_object(record, WAITING, str(path), "Delete it: its replies are drawn again.")["replies"]
    return {index: _waiting_rollouts(row) for index, row in replies.items()}


class _Waiting(TypedDict):
    """The replies to one prompt, with the log-probability of each if they are known."""

    responses: list[dict[str, Any]]
    log_prob: list[float] | None


class _WaitingFile(TypedDict):
    replies: dict[Annotated[int, Strict(False)], _Waiting]


WAITING = TypeAdapter(_WaitingFile)


def _waiting_rollouts(row: _Waiting) -> Rollouts:
    responses = tuple(schema.response_from_row(response, "response") for response in row["responses"])
    log_prob = None if row["log_prob"] is None else np.array(row["log_prob"], dtype=np.float64)
    unknown = (as_prompt(""),) * len(responses)  # the run that resumes knows the prompts
    return Rollouts(unknown, responses, samples=len(responses), log_prob=log_prob)
