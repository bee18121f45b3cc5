"""A judge behind a server: what is sent, what comes back, retries, limits, budgets, stops, and what no failure may become."""

from __future__ import annotations

import gc
import math
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
from judge_server import KEY, JudgeServer, Reply, completion, error, misbehaving, share

from guerdon.config.judging import JudgeOptions
from guerdon.contracts import Message, Response, as_prompt
from guerdon.errors import GuerdonError
from guerdon.models.judges.calls import MemoryCallLog, Question
from guerdon.models.judges.driver import Conversation, Reading, ask
from guerdon.models.judges.endpoint.pacing import Backoff
from guerdon.models.judges.endpoint.respondent import EndpointRespondent
from guerdon.models.judges.failures import JudgeStopped
from guerdon.models.judges.prompted import Pair, PromptedJudge
from guerdon.models.judges.readers import OptionReader, VerdictLineReader

FAST = Backoff(0.001, 0.01)


def respondent(urls: str | Sequence[str], log: MemoryCallLog | None = None, **options: object) -> EndpointRespondent:
    """A respondent that waits milliseconds where it would wait seconds."""
    budget = options.pop("budget", None)
    chosen = JudgeOptions.model_validate({"model": "tiny", "url": urls, "timeout": 5.0, **options})
    return EndpointRespondent(chosen, MemoryCallLog() if log is None else log, budget=budget, backoff=FAST)  # type: ignore[arg-type]


def question(text: str, **settings: object) -> Question:
    return Question((Message("user", text),), VerdictLineReader(), **{"max_tokens": 64, "item": text, **settings})  # type: ignore[arg-type]


def conversation(text: str, reasks: int = 0) -> Conversation[Reading]:
    [reading] = yield from ask([question(text)], reasks)
    return reading


def conversations(count: int, reasks: int = 0) -> Iterator[Conversation[Reading]]:
    return (conversation(f"item {i}", reasks) for i in range(count))


def verdict(body: dict, tried: int) -> dict:
    return completion(f"Reasons.\nVerdict: {1 + (share(body, 'verdict') < 0.5)}", usage=(40, 6))


def alive() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("judge-")}


# ---- Nothing lost, nothing twice -------------------------------------------------------------------------------------------


def test_ten_thousand_calls_to_a_misbehaving_server_are_all_resolved_or_typed_and_none_is_paid_twice() -> None:
    log = MemoryCallLog()
    with JudgeServer(misbehaving(verdict, 0.5)) as server:
        asked = respondent(server.url, log, timeout=0.5, max_concurrency=32)
        results = dict(asked.converse(conversations(10_000)))
    assert sorted(results) == list(range(10_000))
    assert len(log.records) == 10_000
    for reading in results.values():
        record = log.records[reading.key]
        assert (reading.failure is None) == (reading.value in (0.0, 1.0))
        assert record.failure == reading.failure
        assert (record.raw is None) == (record.failure is not None and record.attempts[-1].get("error") is not None)
    codes = Counter(reading.failure.code for reading in results.values() if reading.failure)
    assert set(codes) >= {"refusal", "content_filter", "truncated", "empty", "unparsable", "context_too_long"}
    assert 0.08 < codes.total() / 10_000 < 0.12
    assert set(codes) - {"refusal", "content_filter", "truncated", "empty", "unparsable", "context_too_long"} <= {
        "rate_429", "http_5xx", "timeout", "network",
    }  # fmt: skip
    resolved = sum(reading.failure is None for reading in results.values())
    assert sum(server.tries.values()) > 10_000 * 1.2
    assert max(server.answered.values()) <= 6
    assert resolved > 8_800


# ---- Results do not depend on timing ---------------------------------------------------------------------------------------


def test_results_do_not_depend_on_timing_or_on_the_number_of_servers() -> None:
    def run(delay: float, concurrency: int, servers: int) -> tuple[dict[int, Reading], set[str]]:
        def slow(body: dict, tried: int) -> Reply:
            return Reply(verdict(body, tried), delay=delay * share(body, "delay"))

        log = MemoryCallLog()
        script = misbehaving(slow, 5.0)

        def without_late(body: dict, tried: int) -> object:
            return slow(body, tried) if share(body, ("try", tried)) < 0.005 else script(body, tried)

        with JudgeServer(without_late) as first, JudgeServer(without_late) as second:  # type: ignore[arg-type]
            urls = [first.url, second.url][:servers]
            results = dict(respondent(urls, log, max_concurrency=concurrency).converse(conversations(200, reasks=2)))
            assert servers == 1 or min(sum(first.tries.values()), sum(second.tries.values())) > 20
        return results, set(log.records)

    base = run(0.0, 1, 1)
    assert run(0.01, 16, 1) == base
    assert run(0.005, 4, 2) == base


def test_what_the_log_holds_is_not_asked_again_and_equal_questions_are_asked_once() -> None:
    log = MemoryCallLog()
    with JudgeServer(verdict) as server:
        first = dict(respondent(server.url, log).converse(conversation(f"item {i % 10}") for i in range(40)))
        assert sum(server.tries.values()) == 10
        again = dict(respondent(server.url, log).converse(conversations(10)))
        assert sum(server.tries.values()) == 10
    assert [again[i] for i in range(10)] == [first[i] for i in range(10)]
    assert dict(respondent(server.url, log).converse(conversations(10))) == again  # the server is gone
    assert not alive()


def test_an_answer_without_a_verdict_is_kept_and_asked_for_again_in_the_next_run() -> None:
    log, answers = MemoryCallLog(), iter([completion("No idea."), completion("Verdict: 2")])
    with JudgeServer(lambda body, tried: next(answers)) as server:
        [(_, unread)] = respondent(server.url, log).converse(conversations(1))
        assert unread.failure.code == "unparsable"
        assert "No idea." in log.records[unread.key].raw
        [(_, reading)] = respondent(server.url, log).converse(conversations(1))
    assert reading.value == 0.0
    assert log.records[reading.key].failure is None


def test_open_conversations_are_bounded() -> None:
    started = finished = most = 0

    def counted() -> Iterator[Conversation[Reading]]:
        nonlocal started, most
        for i in range(5_000):
            started += 1
            most = max(most, started - finished)
            yield conversation(f"item {i}")

    log = MemoryCallLog()
    with JudgeServer(verdict) as server:
        results = respondent(server.url, log).converse(counted())
        for _ in range(5):
            next(results)
            finished += 1
        results.close()  # type: ignore[attr-defined]
    assert most <= 1_100
    assert not alive()


# ---- How a run stops -------------------------------------------------------------------------------------------------------


def test_closing_the_iterator_keeps_what_arrived_and_leaves_no_thread() -> None:
    log = MemoryCallLog()
    with JudgeServer(verdict) as server:
        results = respondent(server.url, log).converse(conversations(500))
        firsts = [next(results) for _ in range(20)]
        results.close()  # type: ignore[attr-defined]
        assert not alive()
        answered = sum(server.answered.values())
        assert 20 <= len(log.records) <= answered
        assert all(log.records[reading.key].raw for _, reading in firsts)
        rest = dict(respondent(server.url, log).converse(conversations(500)))
    assert len(rest) == len(log.records) == 500
    assert sum(server.answered.values()) <= 500 + answered - 20


def test_ctrl_c_in_the_loop_that_reads_the_results_leaves_no_thread() -> None:
    def interrupted() -> None:
        for _ in respondent(server.url).converse(conversations(500)):
            raise KeyboardInterrupt

    with JudgeServer(verdict) as server, pytest.raises(KeyboardInterrupt):
        interrupted()
    gc.collect()
    assert not alive()


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (error("bad key", 401), "auth: HTTP 401: bad key"),
        (error("no such model", 404), "config_4xx: HTTP 404"),
        (error("unknown field", 400), "config_4xx: HTTP 400"),
        (error("pay", 402), "config_4xx: HTTP 402"),
        (Reply(status=307, headers={"Location": "http://127.0.0.1:1/steal"}), "not followed"),
        (error("You exceeded your current quota", 429, "insufficient_quota"), "quota"),
        (error("tomorrow", 429, retry_after="86400"), "asks to wait 86400 s"),
    ],
)
def test_what_would_fail_for_every_call_stops_the_run_at_once(reply: Reply, words: str) -> None:
    with JudgeServer(lambda body, tried: reply) as server:
        with pytest.raises(JudgeStopped, match=words) as stop:
            list(respondent(server.url).converse(conversations(500)))
        assert sum(server.tries.values()) <= 16
    assert stop.value.exit_code == 3
    assert not alive()


def test_a_run_stops_when_more_than_half_of_the_last_hundred_calls_fail() -> None:
    with JudgeServer(lambda body, tried: completion("Who can say?")) as server:
        with pytest.raises(JudgeStopped, match=r"of the last 100 calls failed \(unparsable"):
            list(respondent(server.url).converse(conversations(2_000)))
        assert 100 <= sum(server.tries.values()) <= 300


def test_an_error_of_the_log_reaches_the_caller() -> None:
    class Full(MemoryCallLog):
        def add(self, records: object) -> None:
            raise OSError(28, "No space left on device")

    with JudgeServer(verdict) as server, pytest.raises(OSError, match="No space"):
        list(respondent(server.url, Full()).converse(conversations(10)))
    assert not alive()


# ---- Retries and failures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (error("no", 500), "http_5xx"),
        (error("slow down", 429), "rate_429"),
        (Reply(completion("Verdict: 1"), cut=20), "network"),
        (Reply(resets=True), "network"),
        (Reply(completion("Verdict: 1"), delay=2.0), "timeout"),
        (Reply(completion("Verdict: 1"), drip=0.05), "timeout"),
        (Reply(b"{"), "http_5xx"),
        (Reply(completion("Verdict: 1" * 200_000)), "network"),
        (Reply(b"x", headers={"Content-Encoding": "gzip"}), "network"),
    ],
)
def test_a_call_is_tried_as_often_as_allowed_and_then_typed(reply: Reply, code: str) -> None:
    log = MemoryCallLog()
    with JudgeServer(lambda body, tried: reply) as server:
        [(_, reading)] = respondent(server.url, log, tries=3, timeout=0.6).converse(conversations(1))
        assert sum(server.tries.values()) == 3
    assert reading.value is None
    assert reading.failure.code == code
    record = log.records[reading.key]
    assert [attempt["error"] for attempt in record.attempts] == [code] * 3
    assert record.raw is None


def test_the_finish_reason_is_read_before_the_text() -> None:
    answers = {
        "content_filter": completion("Verdict: 1", "content_filter"),
        "truncated": completion("Verdict: 1 would be", "length"),
        "refusal": completion("Verdict: 1", refusal="No."),
    }
    for code, body in answers.items():
        with JudgeServer(lambda _, tried, body=body: body) as server:
            [(_, reading)] = respondent(server.url).converse(conversations(1))
        assert reading.failure.code == code


def test_retry_after_is_waited_for_by_every_call_to_the_server() -> None:
    def limited(body: dict, tried: int) -> object:
        arrivals.append(time.monotonic())
        return error("slow", 429, retry_after="0.4") if len(arrivals) == 1 else verdict(body, tried)

    arrivals: list[float] = []
    with JudgeServer(limited) as server:  # type: ignore[arg-type]
        asked = respondent(server.url, concurrency=1, max_concurrency=1)
        assert len(list(asked.converse(conversations(3)))) == 3
    assert arrivals[1] - arrivals[0] >= 0.4


def test_a_server_that_is_down_leaves_its_calls_to_the_others() -> None:
    with JudgeServer(verdict) as down:
        pass
    with JudgeServer(verdict) as server:
        results = dict(respondent([down.url, server.url], tries=6).converse(conversations(200)))
    failed = [reading for reading in results.values() if reading.failure]
    assert len(failed) < 20
    assert {reading.failure.code for reading in failed} <= {"network"}


def test_calls_in_flight_grow_with_clean_answers_and_stay_within_the_cap() -> None:
    with JudgeServer(lambda body, tried: Reply(verdict(body, tried), delay=0.05)) as server:
        asked = respondent(server.url, concurrency=2, max_concurrency=6)
        assert len(list(asked.converse(conversations(150)))) == 150
        assert server.most_in_flight == 6


# ---- Budgets -------------------------------------------------------------------------------------------------------------------


def test_a_budget_of_calls_holds_under_concurrency_and_types_the_rest() -> None:
    log = MemoryCallLog()
    with JudgeServer(misbehaving(verdict, 5.0)) as server:
        asked = respondent(server.url, log, max_calls=130, concurrency=32)
        results = dict(asked.converse(conversations(400)))
        assert sum(server.tries.values()) <= 130
    stopped = [reading for reading in results.values() if reading.failure and reading.failure.code == "budget_stop"]
    assert len(results) == 400
    assert len(stopped) == 400 - len(log.records)
    assert asked.budget.calls == 130
    assert asked.budget.is_used_up


@pytest.mark.parametrize("limits", [{"max_cost": 0.01}, {"max_total_tokens": 20_000}])
def test_a_budget_of_cost_or_tokens_is_never_exceeded(limits: dict) -> None:
    log = MemoryCallLog()

    def costly(body: dict, tried: int) -> dict:
        return completion("Verdict: 1", usage=(100, int(64 * share(body, "length"))))

    with JudgeServer(costly) as server:
        asked = respondent(server.url, log, price_in=1.0, price_out=2.0, concurrency=32, **limits)
        results = dict(asked.converse(conversations(1_000)))
    cost = math.fsum(record.cost for record in log.records.values() if record.cost is not None)
    tokens = sum(record.usage.tokens_in + record.usage.tokens_out for record in log.records.values())  # type: ignore[operator]
    assert asked.budget.cost == pytest.approx(cost)
    assert asked.budget.tokens == tokens
    one_call = {"max_cost": 0.0008, "max_total_tokens": 700}
    ((name, limit),) = limits.items()
    assert limit - one_call[name] < {"max_cost": cost, "max_total_tokens": tokens}[name] <= limit
    assert len(results) == 1_000


def test_an_unknown_price_is_unknown() -> None:
    log = MemoryCallLog()
    with JudgeServer(verdict) as server:
        asked = respondent(server.url, log)
        list(asked.converse(conversations(3)))
    assert {record.cost for record in log.records.values()} == {None}
    assert asked.budget.known_cost is None
    with pytest.raises(GuerdonError, match="max_cost must be left out where prices are unknown"):
        respondent("http://localhost", max_cost=1.0)


# ---- Keys ------------------------------------------------------------------------------------------------------------------------


def test_the_key_is_sent_and_appears_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    log = MemoryCallLog()

    def echo(body: dict, tried: int) -> object:
        if "item 1" in body["messages"][0]["content"]:
            return error(f"no luck with {KEY}", 500)
        return completion(f"Your key is {KEY}. {KEY[:9]}\n{KEY[9:]}")

    with JudgeServer(echo) as server:  # type: ignore[arg-type]
        asked = respondent(server.url, log, key_env="JUDGE_KEY", tries=2)
        results = list(asked.converse(conversations(2)))
        assert server.headers["authorization"] == f"bearer {KEY}"
    with JudgeServer(lambda body, tried: error(f"{KEY} is not valid", 401)) as server:
        with pytest.raises(JudgeStopped) as stop:
            list(respondent(server.url, key_env="JUDGE_KEY").converse(conversations(2)))
    output = capsys.readouterr()
    texts = [repr(results), repr(log.records), str(stop.value), caplog.text, output.out, output.err, repr(asked.terms)]
    assert "*** is not valid" in texts[2]
    assert not any(KEY in text or KEY[9:] in text for text in texts)


def test_a_missing_key_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(
        GuerdonError, match=r"judge\.key_env must be an environment variable that is set, got 'JUDGE_KEY'"
    ):
        respondent("http://localhost", key_env="JUDGE_KEY")


# ---- Log-probabilities ---------------------------------------------------------------------------------------------------------


def by_digit(body: dict, tried: int) -> dict:
    first = 0.9 if "digit 1" in body["messages"][-1]["content"] else 0.2
    return completion("1", "length", {"1": first, "2": 1 - first})


LISTLESS = completion("1", "length")
SAME = completion("1", "length", {"1": 0.5, "2": 0.5})
ABOVE_ONE = completion("1", "length", {"1": 1.0, "2": 1.0})


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (by_digit, True),
        (lambda body, tried: LISTLESS, False),
        (lambda body, tried: SAME, False),
        (lambda body, tried: ABOVE_ONE, False),
        (lambda body, tried: error("logprobs are not supported by this model", 400), False),
    ],
)
def test_a_server_gives_log_probabilities_only_if_it_proves_so(script: object, expected: bool) -> None:
    log = MemoryCallLog()
    with JudgeServer(script) as server:  # type: ignore[arg-type]
        assert respondent(server.url, log).gives_log_probs() is expected
        assert {record.purpose for record in log.records.values()} == {"probe"}
        assert server.bodies[0]["logprobs"] is True
        assert server.bodies[0]["top_logprobs"] == 20


def test_a_server_without_an_answer_to_the_probe_stops_the_run() -> None:
    with JudgeServer(lambda body, tried: error("who are you?", 401)) as server:
        with pytest.raises(JudgeStopped, match="HTTP 401"):
            respondent(server.url).gives_log_probs()


def test_a_judge_behind_a_server_compares_pairs_and_a_replay_costs_no_call() -> None:
    def judge_by_length(body: dict, tried: int) -> dict:
        text = body["messages"][-1]["content"]
        first = 0.5 + 0.3 * (text.find("zebra zebra") < text.find("okapi"))
        return (
            by_digit(body, tried)
            if "Reply with the digit" in text
            else completion("1", "length", {"1": first, "2": 1 - first})
        )

    log = MemoryCallLog()
    pairs = [Pair(as_prompt(f"Prompt {i}"), Response("zebra zebra"), Response("okapi")) for i in range(20)]
    with JudgeServer(judge_by_length) as server:
        options = JudgeOptions.model_validate({"model": "tiny", "url": server.url})
        judge = PromptedJudge(EndpointRespondent(options, log, backoff=FAST), options)
        verdicts = dict(judge.compare(pairs))
        calls = sum(server.tries.values())
        again = PromptedJudge(EndpointRespondent(options, log, backoff=FAST), options)
        assert dict(again.compare(pairs)) == verdicts
        assert sum(server.tries.values()) == calls == 42
    assert judge.interview.mode == "pair"
    assert all(verdict.q == pytest.approx((0.8 + 0.5) / 2) for verdict in verdicts.values())


def test_an_option_reader_gets_the_alternatives_of_the_first_token() -> None:
    pick = Question((Message("user", "pick"),), OptionReader(("1", "2")), options=("1", "2"))

    def alone() -> Conversation[Reading]:
        [reading] = yield [pick]
        return reading

    with JudgeServer(
        lambda body, tried: completion("1", "length", {"1": 0.6, " 1": 0.2, "2": 0.1, "Well": 0.1})
    ) as server:
        [(_, reading)] = respondent(server.url).converse([alone()])
    assert reading.value.log_odds == pytest.approx(math.log(8))
    assert reading.value.mass == pytest.approx(0.9)
