"""A model that is asked through files: waves of questions become shards, whatever runs them, and answers come back by their ids."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from guerdon.config.judging import JudgeOptions
from guerdon.contracts import digest
from guerdon.io.call_shards import SHARD_SIZE, Shard, shards_in, write_shards
from guerdon.io.run_folder import RunFolder
from guerdon.models.judges.calls import Answer, CallLog, Question
from guerdon.models.judges.driver import WaveRespondent
from guerdon.models.judges.endpoint.budget import Amount, Budget, Prices, Room
from guerdon.models.judges.endpoint.calls import Call
from guerdon.models.judges.endpoint.completions import NoCompletion, parse, parse_completion
from guerdon.models.judges.endpoint.troubles import trouble_of
from guerdon.models.judges.failures import FAILURE_CODES, Failure

RunShards = Callable[[Sequence[Shard]], None]
"""Makes every shard done. What was done before costs nothing again."""

SHARDS_AT_ONCE: Final = 10  # of which the questions are in memory


def shard_respondent(
    options: JudgeOptions,
    log: CallLog,
    folder: Path,
    run: RunShards,
    *,
    log_probs: bool | Callable[[], bool],
    budget: Budget | None = None,
    shard_size: int = SHARD_SIZE,
    shards_at_once: int = SHARDS_AT_ONCE,
) -> WaveRespondent:
    """A respondent whose questions `run` answers, in shards in the folder.

    Its answers are kept as those of the same model behind a server are, so neither asks what the other was answered.
    """
    budget = budget or Budget.of(options)
    model, prices = str(options.model), Prices.of(options)
    fingerprint = digest(["chat completions", model])

    def answer_all(questions: Sequence[Question]) -> list[Answer | Failure]:
        calls = [Call.of(question.key(fingerprint), question, model, prices) for question in questions]
        sent = {call.key: call for call in calls if budget.reserve(call.most) is Room.YES}
        with RunFolder(folder).lock():
            answers = answer_calls(sent.values(), folder, run, shard_size) if sent else {}
        for key, call in sent.items():
            budget.settle(call.most, _use_of(answers[key], call, prices))
        return [answers.get(call.key) or Failure("budget_stop") for call in calls]

    return WaveRespondent(
        model, fingerprint, answer_all, log, log_probs=log_probs, width=shards_at_once * shard_size, parse=parse,
        cost_of=prices.cost_of,
    )  # fmt: skip


def answer_calls(
    calls: Iterable[Call], folder: Path, run: RunShards, shard_size: int = SHARD_SIZE
) -> dict[str, Answer | Failure]:
    """The outcome of each call by its key. The folder belongs to one run at a time.

    Whatever a stopped run left there is used: answers that were not handed on, and shards that were sent. Failures among those
    answers are sent again. Shards of calls that nobody waits for are done with: their answers are in the log.
    """
    bodies = {call.key: call.content.decode() for call in calls}
    answers: dict[str, Answer | Failure] = {}
    shards: list[Shard] = []
    for shard in shards_in(folder):
        if shard.is_done:
            outcomes = shard_outcomes(shard)
            known = {key: outcomes[key] for key in shard.keys if key in bodies and isinstance(outcomes[key], Answer)}
            answers |= known
            if not known:
                shard.remove()
        elif not bodies.keys().isdisjoint(shard.keys):
            shards.append(shard)
    under_way = {key for shard in shards for key in shard.keys}
    new = {key: body for key, body in bodies.items() if key not in answers and key not in under_way}
    for shard in write_shards(folder, new, shard_size):
        if shard.is_done:  # the same calls failed before, all of them
            shard.answers_path.unlink()
        shards.append(shard)
    run(shards)
    for shard in shards:
        answers |= {key: outcome for key, outcome in shard_outcomes(shard).items() if key in bodies}
    return answers


def shard_outcomes(shard: Shard) -> dict[str, Answer | Failure]:
    """What a done shard says about each of its calls."""
    outcomes = {row["custom_id"]: row_outcome(row) for row in shard.answers()}
    return {key: outcomes.get(key) or Failure("http_5xx", "the batch has no answer to it") for key in shard.keys}


def row_outcome(row: Mapping[str, Any]) -> Answer | Failure:
    """The answer in a row, or why there is none."""
    response = row.get("response")
    if not isinstance(response, Mapping):
        error = row.get("error")
        code = str(error.get("code")) if isinstance(error, Mapping) else "no response"
        if code in FAILURE_CODES:  # a worker of ours
            return Failure(code, str(error.get("message", "")) if isinstance(error, Mapping) else "")
        return Failure("timeout" if "expired" in code else "http_5xx", f"the batch says {code:.200}")
    raw, status = json.dumps(response.get("body")), response.get("status_code")
    if status != 200:
        message = response["body"].get("error") if isinstance(response.get("body"), Mapping) else None
        text = message.get("message") if isinstance(message, Mapping) else raw
        return trouble_of(status if isinstance(status, int) else 500, {}, raw, f"{text:.300}").failure
    try:
        answer = parse_completion(raw)
    except NoCompletion as error:
        return Failure("http_5xx", str(error))
    return Answer(answer.text, answer.finish, answer.alternatives, answer.refusal, answer.usage, raw)


def _use_of(outcome: Answer | Failure, call: Call, prices: Prices) -> Amount:
    if isinstance(outcome, Failure):
        return Amount(0, 0.0)
    usage = outcome.usage
    if usage.tokens_in is None or usage.tokens_out is None:
        return call.most
    return Amount(usage.tokens_in + usage.tokens_out, prices.cost_of(usage))
