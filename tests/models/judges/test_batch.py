"""A judge through a provider's batches: shards, failed rows, expired batches, and a crash at any moment that pays nothing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_provider import BatchProvider
from judge_server import JudgeServer, Reply, completion, error, misbehaving, share

from guerdon.config.judging import JudgeOptions
from guerdon.contracts import Message
from guerdon.models.judges.batch.provider import ProviderBatches
from guerdon.models.judges.batch.respondent import shard_respondent
from guerdon.models.judges.batch.workers import run_here, run_with_ray
from guerdon.models.judges.calls import MemoryCallLog, Question
from guerdon.models.judges.driver import Conversation, Reading, WaveRespondent, ask
from guerdon.models.judges.endpoint import EndpointRespondent
from guerdon.models.judges.endpoint.pacing import Backoff
from guerdon.models.judges.failures import JudgeStopped
from guerdon.models.judges.readers import VerdictLineReader

FAST = Backoff(0.001, 0.01)


def conversation(text: str) -> Conversation[Reading]:
    question = Question((Message("user", text),), VerdictLineReader(), max_tokens=64, item=text)
    [reading] = yield from ask([question], 0)
    return reading


def conversations(count: int) -> Iterator[Conversation[Reading]]:
    return (conversation(f"item {i}") for i in range(count))


def verdict(body: dict) -> tuple[int, dict]:
    return 200, completion(f"Verdict: {1 + (share(body, 'verdict') < 0.5)}", usage=(40, 6))


def options_of(url: str | list[str], **options: object) -> JudgeOptions:
    return JudgeOptions.model_validate({"model": "tiny", "url": url, "price_in": 1.0, "price_out": 2.0, **options})


def by_batches(
    provider: BatchProvider, log: MemoryCallLog, folder: Path, shard_size: int = 5, **options: object
) -> WaveRespondent:
    chosen = options_of(provider.url, **options)
    batches = ProviderBatches(chosen, poll_seconds=0.01, window=2, backoff=FAST)
    return shard_respondent(chosen, log, folder, batches.run, log_probs=False, shard_size=shard_size)


def test_batches_give_what_a_server_gives_and_share_its_answers(tmp_path: Path) -> None:
    log, other = MemoryCallLog(), MemoryCallLog()
    with BatchProvider(verdict) as provider:
        results = dict(by_batches(provider, log, tmp_path).converse(conversations(12)))
        assert len(provider.batches) == 3
    with JudgeServer(lambda body, tried: verdict(body)[1]) as server:
        assert dict(EndpointRespondent(options_of(server.url), other).converse(conversations(12))) == results
        assert dict(EndpointRespondent(options_of(server.url), log).converse(conversations(12))) == results
        assert sum(server.tries.values()) == 12
    assert {record.cost for record in log.records.values()} == {(40 + 2 * 6) / 1e6}


@pytest.mark.parametrize("status", ["completed", "expired"])
def test_failed_rows_and_expired_batches_are_typed_and_only_they_are_sent_again(tmp_path: Path, status: str) -> None:
    def partly(body: dict) -> tuple[int, dict] | None:
        draw = share(body, "part")
        if draw < 0.3:
            return None
        return (500, {"error": {"message": "died"}}) if draw < 0.5 else verdict(body)

    log = MemoryCallLog()
    with BatchProvider(partly, status) as provider:
        results = dict(by_batches(provider, log, tmp_path).converse(conversations(40)))
        codes = Counter(reading.failure.code if reading.failure else "ok" for reading in results.values())
        assert set(codes) == ({"ok", "http_5xx", "timeout"} if status == "expired" else {"ok", "http_5xx"})
        assert {record.raw is None for record in log.records.values() if record.failure} == {True}
        sent = provider.asked
        provider.script, provider.status = verdict, "completed"
        again = dict(by_batches(provider, log, tmp_path).converse(conversations(40)))
        assert provider.asked - sent == 40 - codes["ok"]
    assert all(reading.failure is None for reading in again.values())


def test_a_batch_that_was_accepted_without_a_word_is_adopted(tmp_path: Path) -> None:
    with BatchProvider(verdict, drops=2) as provider:
        results = dict(by_batches(provider, MemoryCallLog(), tmp_path).converse(conversations(10)))
        assert len(provider.batches) == 2
    assert all(reading.failure is None for reading in results.values())


@pytest.mark.parametrize("moment", ["before the answers", "before the id is kept", "before the calls are kept"])
def test_a_stopped_run_pays_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    class Stops(MemoryCallLog):
        def add(self, records: object) -> None:
            raise KeyboardInterrupt

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    log = MemoryCallLog()
    with BatchProvider(verdict) as provider:
        stopped = by_batches(provider, Stops(), tmp_path).converse(conversations(10))
        with monkeypatch.context() as patch:
            if moment != "before the calls are kept":
                patch.setattr("time.sleep", interrupt)
            with pytest.raises(KeyboardInterrupt):
                list(stopped)
        if moment == "before the id is kept":
            for path in tmp_path.glob("*.batch.json"):
                path.unlink()
        # Another number of items to a shard: its name does not matter, what was sent does
        results = dict(by_batches(provider, log, tmp_path, shard_size=3).converse(conversations(12)))
        assert provider.asked == 12
    assert len(log.records) == len(results) == 12


def test_a_budget_holds_for_batches(tmp_path: Path) -> None:
    log = MemoryCallLog()
    with BatchProvider(verdict) as provider:
        results = dict(by_batches(provider, log, tmp_path, max_calls=7).converse(conversations(12)))
        assert provider.asked == 7
    assert (
        sum(reading.failure is not None and reading.failure.code == "budget_stop" for reading in results.values()) == 5
    )
    assert len(log.records) == 7


def test_a_batch_that_the_provider_refuses_stops_the_run(tmp_path: Path) -> None:
    with BatchProvider(verdict, "failed") as provider, pytest.raises(JudgeStopped, match="refuses the batch"):
        list(by_batches(provider, MemoryCallLog(), tmp_path).converse(conversations(5)))


# ---- Workers ---------------------------------------------------------------------------------------------------------------


def test_a_worker_answers_a_shard_as_a_server_would_and_keeps_the_codes_of_failures(tmp_path: Path) -> None:
    def script(body: dict, tried: int) -> Reply | dict:
        if share(body, "long") < 0.2:
            return error("maximum context length", 400)
        return misbehaving(lambda body, tried: verdict(body)[1], 2.0)(body, tried)

    log, other = MemoryCallLog(), MemoryCallLog()
    with JudgeServer(script) as server:
        chosen = options_of(server.url, timeout=2.0)
        run = run_here(chosen, FAST)
        by_shards = shard_respondent(chosen, log, tmp_path, run, log_probs=False, shard_size=20)
        results = dict(by_shards.converse(conversations(50)))
        assert dict(EndpointRespondent(chosen, other, backoff=FAST).converse(conversations(50))) == results
    codes = {reading.failure.code for reading in results.values() if reading.failure}
    assert "context_too_long" in codes
    assert {key: record.failure for key, record in log.records.items()} == {
        key: record.failure for key, record in other.records.items()
    }


def test_a_worker_whose_server_refuses_stops_the_run(tmp_path: Path) -> None:
    with JudgeServer(lambda body, tried: error("bad key", 401)) as server:
        chosen = options_of(server.url)
        by_shards = shard_respondent(chosen, MemoryCallLog(), tmp_path, run_here(chosen, FAST), log_probs=False)
        with pytest.raises(JudgeStopped, match="bad key"):
            list(by_shards.converse(conversations(5)))


@pytest.mark.filterwarnings("default")  # Ray's own
def test_workers_of_a_local_ray_cluster_answer_the_shards(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="needs pip install 'guerdon[ray]'")
    with (
        JudgeServer(lambda body, tried: verdict(body)[1]) as server,
        JudgeServer(lambda body, tried: verdict(body)[1]) as more,
    ):
        chosen = options_of([server.url, more.url])
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        try:
            by_ray = shard_respondent(
                chosen, MemoryCallLog(), tmp_path, run_with_ray(chosen, workers=2), log_probs=False, shard_size=10
            )
            results = dict(by_ray.converse(conversations(30)))
        finally:
            ray.shutdown()
        assert dict(EndpointRespondent(chosen, MemoryCallLog()).converse(conversations(30))) == results
        assert sum(server.tries.values()) + sum(more.tries.values()) == 60
