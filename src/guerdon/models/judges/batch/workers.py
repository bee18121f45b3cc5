"""Workers that answer shards: each asks the servers for itself, in this process or on a cluster of Ray.

Workers on several machines need a folder that all of them share. A shard whose worker dies is answered again as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from guerdon.config.judging import JudgeOptions
from guerdon.contracts import GuerdonError
from guerdon.io.call_shards import Shard, error_row, response_row
from guerdon.models.judges.batch.respondent import RunShards
from guerdon.models.judges.calls import Answer, MemoryCallLog, Question
from guerdon.models.judges.endpoint.budget import Amount, Budget
from guerdon.models.judges.endpoint.calls import Call
from guerdon.models.judges.endpoint.pacing import Backoff
from guerdon.models.judges.endpoint.respondent import EndpointRespondent
from guerdon.models.judges.endpoint.session import Session
from guerdon.models.judges.failures import JudgeStopped

WORKER_SHARD_SIZE: Final = 200  # requests; as many are asked again when a worker dies


def run_here(options: JudgeOptions, backoff: Backoff | None = None) -> RunShards:
    """Answers shards one after another in this process."""

    def run(shards: Sequence[Shard]) -> None:
        for shard in shards:
            if not shard.is_done:
                answer_shard(options, shard, backoff)

    return run


def run_with_ray(options: JudgeOptions, workers: int = 2) -> RunShards:
    """Answers shards with so many workers of Ray Data, on the cluster that runs or one that Ray starts on this machine.

    Each worker asks all servers of the options, and reads the key from its own environment.
    """

    def run(shards: Sequence[Shard]) -> None:
        try:
            import ray.data
        except ImportError:
            raise GuerdonError("executor ray must have Ray installed. Run pip install 'guerdon[ray]'.") from None
        waiting = [shard for shard in shards if not shard.is_done]
        if not waiting:
            return
        rows = [
            {"folder": str(shard.folder.resolve()), "name": shard.name, "keys": list(shard.keys)} for shard in waiting
        ]
        settings = options.model_dump(mode="json")
        answered = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _answer_row, fn_kwargs={"settings": settings}, compute=ray.data.TaskPoolStrategy(size=workers)
        )
        for row in answered.take_all():
            if row["stopped"]:
                raise JudgeStopped(row["stopped"])

    return run


def _answer_row(row: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """What a worker does: one shard. Errors travel as text, for Ray would wrap them."""
    shard = Shard(Path(str(row["folder"])), str(row["name"]), tuple(map(str, row["keys"])))
    try:
        answer_shard(JudgeOptions.model_validate(settings), shard)
    except GuerdonError as error:
        return {"name": shard.name, "stopped": str(error)}
    return {"name": shard.name, "stopped": ""}


def answer_shard(options: JudgeOptions, shard: Shard, backoff: Backoff | None = None) -> None:
    """Ask for every request of a shard, and write its answers. Raises JudgeStopped, and the shard is not done then.

    Its budget is with whoever wrote the shard.
    """
    log = MemoryCallLog()
    respondent = EndpointRespondent(options, log, budget=Budget(), backoff=backoff)
    session = Session(respondent.terms, respondent.servers, log)
    try:
        session.submit([_call(key, body) for key, body in shard.requests()])
        missing = len(shard.keys)
        while missing:
            missing -= len(session.take())
    finally:
        session.close()
    shard.write_answers(_rows(log, shard))


def _call(key: str, body: dict[str, Any]) -> Call:
    question = Question(
        (), _NoReader(), max_tokens=int(body["max_tokens"]), options=("1",) * bool(body.get("logprobs"))
    )
    return Call(key, question, "{}", json.dumps(body).encode(), Amount())


class _NoReader:
    """Answers of a shard are read by whoever wrote it."""

    def read(self, answer: Answer) -> None:
        """Nothing."""


def _rows(log: MemoryCallLog, shard: Shard) -> Iterator[dict[str, Any]]:
    for key in shard.keys:
        record = log.records[key]
        if record.raw is not None:
            yield response_row(key, json.loads(record.raw))
        else:
            assert record.failure is not None
            yield error_row(key, record.failure.code, record.failure.reason)
