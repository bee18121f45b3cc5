"""How fast a judge behind a server asks and replays, against a bare loop of the same HTTP library.

    python benchmarks/judge_client.py [--items 3000] [--replayed 10000,100000,1000000]

`throughput`: calls per second to a stub server in a process of its own, which answers after 20 ms, with 32 calls in flight. `bare`
is httpx2.AsyncClient with as many workers, which post prepared bodies and parse the JSON; `guerdon` is the whole client with two
calls to a conversation, its records in a file of SQLite, each committed before its result is handed on. Runs are interleaved, each
in a fresh process; the ratio is that of the medians. CPU time per call is that of the whole process. `replay`: conversations whose
calls are all in the log and that no server answers: seconds, peak memory, and how both grow with their number.
Writes benchmarks/results/judge_client.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measure import (
    Answer,
    Job,
    Memory,
    Runner,
    add_options,
    answer,
    interleave,
    keep,
    machine,
    print_table,
    ratio,
    shown,
    spread,
)

IN_FLIGHT, DELAY = 32, 0.02  # calls at once; seconds that the stub takes for an answer
BATCH = 5_000  # records that fill the log of a replay in one transaction
CONTENT = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Short.\nVerdict: 1"}}
        ],
        "usage": {"prompt_tokens": 400, "completion_tokens": 6, "total_tokens": 406},
    }
)


# ---- The stub --------------------------------------------------------------------------------------------------------------


class Stub(asyncio.Protocol):
    """Reads a request and answers after a while, always the same."""

    REPLY = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(CONTENT)}\r\n\r\n{CONTENT}".encode()
    )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self.transport, self.buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        """Answer a request that is whole."""
        self.buffer += data
        head, blank, rest = self.buffer.partition(b"\r\n\r\n")
        if blank and len(rest) >= int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]):
            self.buffer = b""
            asyncio.get_running_loop().call_later(DELAY, self.transport.write, self.REPLY)  # type: ignore[attr-defined]


def serve(ready: Any) -> None:
    """The stub's process."""

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", 0, backlog=256)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


# ---- The contestants -------------------------------------------------------------------------------------------------------


def text_of(item: int) -> str:
    """A question of the length of a short comparison."""
    return f"Item {item}. " + "Which of the two replies is better, and why? " * 30


def bare(job: Job) -> Answer:
    """Workers of one AsyncClient that post prepared bodies."""
    import httpx2

    bodies = [
        json.dumps(
            {"model": "m", "messages": [{"role": "user", "content": text_of(i)}], "max_tokens": 64, "seed": i % 2}
        )
        for i in range(2 * job["items"])
    ]
    queue = iter([body.encode() for body in bodies])

    async def work(client: httpx2.AsyncClient) -> None:
        for body in queue:
            reply = await client.post(job["url"] + "/v1/chat/completions", content=body)
            assert reply.json()["choices"][0]["message"]["content"]

    async def run() -> float:
        start = time.perf_counter()
        limits = httpx2.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
        async with httpx2.AsyncClient(headers={"Content-Type": "application/json"}, limits=limits) as client:
            await asyncio.gather(*(work(client) for _ in range(IN_FLIGHT)))
        return time.perf_counter() - start

    cpu = time.process_time()
    seconds = asyncio.run(run())
    return {"calls_per_s": len(bodies) / seconds, "cpu_ms": 1e3 * (time.process_time() - cpu) / len(bodies)}


def conversations(count: int) -> Iterator[Any]:
    """Conversations of two questions each."""
    from guerdon.contracts import Message
    from guerdon.models.judges.calls import Question
    from guerdon.models.judges.readers import VerdictLineReader

    def conversation(item: int) -> Any:
        message = (Message("user", text_of(item)),)
        readings = yield [
            Question(message, VerdictLineReader(), max_tokens=64, seed=seed, item=str(item)) for seed in (0, 1)
        ]
        return [reading.value for reading in readings]

    return (conversation(item) for item in range(count))


def respondent(url: str, log: Any) -> Any:
    """The client, with as many calls in flight as the bare loop."""
    from guerdon.config.judging import JudgeOptions
    from guerdon.models.judges.endpoint import EndpointRespondent

    options = {"model": "m", "url": url, "concurrency": IN_FLIGHT, "max_concurrency": IN_FLIGHT}
    return EndpointRespondent(JudgeOptions.model_validate(options), log)


def guerdon(job: Job) -> Answer:
    """The whole client, with its log."""
    from guerdon.store.calls import open_call_log

    with tempfile.TemporaryDirectory() as folder, open_call_log(Path(folder) / "calls.db") as log:
        client, source = respondent(job["url"], log), conversations(job["items"])
        start, cpu = time.perf_counter(), time.process_time()
        results = sum(1 for _ in client.converse(source))
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    assert results == job["items"]
    return {"calls_per_s": 2 * results / seconds, "cpu_ms": 1e3 * cpu / (2 * results)}


def replay(job: Job) -> Answer:
    """Conversations whose calls are all in the log."""
    from guerdon.models.judges.calls import Answer as Reply
    from guerdon.models.judges.driver import Reading, record_of
    from guerdon.store.calls import open_call_log

    with tempfile.TemporaryDirectory() as folder, open_call_log(Path(folder) / "calls.db") as log:
        client = respondent("http://127.0.0.1:9", log)
        records = []
        for conversation in conversations(job["items"]):
            for question in next(conversation):
                key = question.key(client.fingerprint)
                records.append(record_of(question, key, "m", Reading(key), Reply("Verdict: 1"), CONTENT))
            if len(records) >= BATCH:
                log.add(records)
                records.clear()
        log.add(records)
        memory = Memory()
        start = time.perf_counter()
        results = sum(1 for _ in client.converse(conversations(job["items"])))
        seconds = time.perf_counter() - start
        assert results == job["items"]
        return {"seconds": seconds, "items_per_s": results / seconds, **memory.report()}


HANDLERS = {"bare": bare, "guerdon": guerdon, "replay": replay}


def main() -> None:
    """Run the contestants, save the numbers and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, "judge_client.json")
    parser.add_argument("--items", type=int, default=3000, help="conversations of two calls")
    parser.add_argument("--replayed", default="10000,100000", help="conversations replayed from the log")
    given = parser.parse_args()
    if given.job:
        answer(given.job, lambda job: HANDLERS[job["kind"]](job))
        return
    items, sizes = (
        (20, [20, 40]) if given.smoke else (given.items, [int(size) for size in given.replayed.split(",") if size])
    )
    runner = Runner(
        lambda job: HANDLERS[job["kind"]](job), Path(__file__), given.threads, given.malloc, given.memory, given.smoke
    )
    receiver, sender = multiprocessing.Pipe(duplex=False)
    stub = multiprocessing.get_context("spawn").Process(target=serve, args=(sender,), daemon=True)
    stub.start()
    cases: dict[str, Any] = {}
    try:
        job = {"url": f"http://127.0.0.1:{receiver.recv()}", "items": items}
        kinds = ("bare", "guerdon")
        answers = interleave(
            {kind: lambda kind=kind: runner.ours({**job, "kind": kind}) for kind in kinds}, given.repeats
        )
    finally:
        stub.terminate()
        stub.join()
    rates = {kind: spread([row["calls_per_s"] for row in answers[kind]]) for kind in kinds}
    used = {kind: spread([row["cpu_ms"] for row in answers[kind]]) for kind in kinds}
    cases["throughput"] = {
        "calls": 2 * items, "in_flight": IN_FLIGHT, "delay": DELAY, "calls_per_s": rates, "cpu_ms_per_call": used,
        "cpu_ratio": ratio(used["guerdon"], used["bare"]),
        "ratio": ratio(rates["guerdon"], rates["bare"]), "machine": machine(given.threads),
    }  # fmt: skip
    what = "calls to judges: a bare HTTP loop and the client with its log; replay from the log"
    keep(given.out, what, cases)
    for size in sizes:
        cases[f"replay {size}"] = {**runner.ours({"kind": "replay", "items": size}), "machine": machine(given.threads)}
        keep(given.out, what, cases)
    print_table(
        ["case", "bare", "guerdon", "ratio"],
        [
            ["calls/s", shown(rates["bare"], 0), shown(rates["guerdon"], 0), shown(cases["throughput"]["ratio"])],
            ["CPU ms", shown(used["bare"]), shown(used["guerdon"]), shown(cases["throughput"]["cpu_ratio"])],
        ],
    )
    rows = [(size, cases[f"replay {size}"]) for size in sizes]
    print_table(
        ["replayed", "seconds", "items/s", "memory added (MiB)"],
        [
            [
                f"{size:,}",
                f"{row['seconds']:.1f}",
                f"{row['items_per_s']:.0f}",
                f"{row['over_baseline_bytes'] / 2**20:.0f}",
            ]
            for size, row in rows
            if "error" not in row
        ],
    )


if __name__ == "__main__":
    main()
