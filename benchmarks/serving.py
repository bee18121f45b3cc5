"""Rewards over HTTP: `guerdon serve` beside a plain server of FastAPI and transformers, and beside scoring without a server.

    python benchmarks/serving.py --data hh_pairs.jsonl.gz --data qa_feedback_kway.jsonl.gz

Both servers run all the time, and are asked in turn, through OpenRLHF's /get_reward with the same rendered texts, in float32:

  pairs       pairs of replies to one prompt, a pair in a request, from 8 clients at once: texts per second
  together    candidates of one prompt (500 + 65 tokens) in one request: candidates per second
  one by one  the same candidates, each in a request, one after another: candidates per second
  idle        one short text while nothing else happens: milliseconds

Prompts are new in each round, so that no round finds the cache of another. "offline" is `load(DIR).score` on the pairs' texts and on
the short text, in a process of its own. Rewards of both servers must agree within 1e-3. Writes benchmarks/results/serving.json.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import measure
import numpy as np
import rows
from measure import Answer, Job, machine, print_table, ratio, shown, spread
from scoring import candidate_sets

WHAT = "rewards over HTTP; ours beside FastAPI with padded transformers, and beside scoring without a server"
PEER = Path(__file__).parent / "peers" / "plain_reward_server.py"
CLIENTS, IDLE = 8, 20
UNITS = {"pairs": "texts/s", "together": "candidates/s", "one by one": "candidates/s", "idle": "ms"}


def main() -> None:
    """Run all workloads, save their numbers and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", default=[], help="rows with prompt and replies")
    parser.add_argument("--pairs", type=int, default=32, help="pairs in a round")
    parser.add_argument("--candidates", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=1024)
    measure.add_options(parser, "serving.json")
    a = parser.parse_args()
    if a.job:
        return measure.answer(a.job, offline)
    a.prompts = 2 * a.repeats
    lengths = (500, 65)
    if a.smoke:
        a.pairs, a.candidates, a.repeats, a.prompts, lengths, a.max_length = 2, 2, 1, 2, (40, 12), 256
    with tempfile.TemporaryDirectory() as folder:
        start = rows.start(a.model, Path(folder) / "start", max_length=a.max_length, truncation="left")
        source = rows.source_rows(a, 12)
        text = rows.text_of(start, a.max_length, "left")
        pairs = rows.pairs(source, text, a.pairs * a.repeats, a.max_length, 0)
        sets = candidate_sets(a, start, source, *lengths)
        with ExitStack() as stack:
            servers = {
                name: stack.enter_context(Server(command(name, start, a.threads), a.threads))
                for name in ("guerdon", "plain")
            }
            require_equal_rewards(servers, [rendered(text, pairs[0]["prompt"], reply) for reply in pairs[0]["replies"]])
            values: dict[str, dict[str, list[float]]] = {name: {work: [] for work in UNITS} for name in servers}
            for i in range(a.repeats):
                work = workloads(text, pairs[i * a.pairs : (i + 1) * a.pairs], sets[2 * i], sets[2 * i + 1], i)
                for name, server in servers.items():
                    for kind, run in work.items():
                        values[name][kind].append(run(server))
                    print(
                        f"round {i + 1}/{a.repeats}: {name} { ({k: round(v[-1], 2) for k, v in values[name].items()}) }",
                        file=sys.stderr,
                    )
        runner = measure.Runner(offline, Path(__file__).resolve(), a.threads, a.malloc, a.memory, a.smoke)
        alone = [runner.ours({"model": str(start), "pairs": pairs[: a.pairs]}) for _ in range(a.repeats)]
    case = summary(values, alone, a.threads)
    measure.keep(a.out, WHAT, {"smoke" if a.smoke else "float32": case})
    show(case)


def workloads(
    text: Any, pairs: Sequence[rows.Pair], together: dict[str, Any], apart: dict[str, Any], seed: int
) -> dict[str, Callable[[Server], float]]:
    """The workloads of a round: each takes a server and returns its number."""
    requests = [[rendered(text, pair["prompt"], reply) for reply in pair["replies"]] for pair in pairs]
    candidates, others = ([rendered(text, one["prompt"], r) for r in one["replies"]] for one in (together, apart))

    def all_pairs(server: Server) -> float:
        start = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(server.rewards, requests))
        return sum(map(len, requests)) / (time.perf_counter() - start)

    def one_by_one(server: Server) -> float:
        start = time.perf_counter()
        for candidate in others:
            server.rewards([candidate])
        return len(others) / (time.perf_counter() - start)

    def at_once(server: Server) -> float:
        start = time.perf_counter()
        server.rewards(candidates)
        return len(candidates) / (time.perf_counter() - start)

    def idle(server: Server) -> float:
        times = []
        for i in range(IDLE):
            short = rendered(text, f"{seed} {i}: is it good?", "Yes, it is.")
            start = time.perf_counter()
            server.rewards([short])
            times.append(time.perf_counter() - start)
        return 1000 * float(np.median(times))

    return {"pairs": all_pairs, "together": at_once, "one by one": one_by_one, "idle": idle}


def offline(job: Job) -> Answer:
    """Scoring without a server: texts per second of the pairs, milliseconds of one short text."""
    import guerdon
    from guerdon.contracts import as_prompt

    model = guerdon.load(job["model"], truncation="left", device="cpu", dtype="float32")
    prompts = [as_prompt(pair["prompt"]) for pair in job["pairs"] for _ in pair["replies"]]
    replies = [reply for pair in job["pairs"] for reply in pair["replies"]]
    model.score(prompts[:2], replies[:2])
    start = time.perf_counter()
    model.score(prompts, replies)
    per_second = len(replies) / (time.perf_counter() - start)
    times = []
    for i in range(IDLE):
        start = time.perf_counter()
        model.score([f"offline {i}: is it good?"], ["Yes, it is."])
        times.append(time.perf_counter() - start)
    return {"pairs": per_second, "idle": 1000 * float(np.median(times))}


# ---- Servers -------------------------------------------------------------------------------------------------------


class Server:
    """A server as a process of its own, ready when entered."""

    def __init__(self, words: Sequence[str], threads: int) -> None:
        self.environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.words = [word.replace("PORT", str(self.port)) for word in words]
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=600)

    def __enter__(self) -> Server:
        self.process = subprocess.Popen(
            self.words, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + 180
        while time.monotonic() < end:
            try:
                if self.client.get("/health").status_code == 200:
                    return self
            except httpx2.TransportError:
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.2)
        raise SystemExit(f"A server did not start: {' '.join(self.words)}")

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait()

    def rewards(self, texts: Sequence[str]) -> list[float]:
        """The rewards of rendered texts."""
        response = self.client.post("/get_reward", json={"query": list(texts)})
        assert response.status_code == 200, response.text[:500]
        return list(response.json()["rewards"])


def command(name: str, folder: Path, threads: int) -> list[str]:
    """What starts a server; PORT stands for its port."""
    if name == "plain":
        return [sys.executable, str(PEER), str(folder), "PORT", str(threads)]
    return [sys.executable, "-m", "guerdon", "serve", str(folder), "--port", "PORT", "model.dtype=float32"]


def rendered(text: Any, prompt: Any, reply: str) -> str:
    """The conversation as the model's chat template renders it."""
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    turns = [*messages, {"role": "assistant", "content": reply}]
    return str(text.tokenizer.apply_chat_template(turns, tokenize=False))


def require_equal_rewards(servers: dict[str, Server], texts: Sequence[str]) -> None:
    """Stop if the servers do not score the same."""
    ours, theirs = (servers[name].rewards(texts) for name in ("guerdon", "plain"))
    if max(abs(one - other) for one, other in zip(ours, theirs, strict=True)) > 1e-3:
        raise SystemExit(f"Rewards must be the same on both sides, got {ours} and {theirs}.")


# ---- Numbers -------------------------------------------------------------------------------------------------------


def summary(values: dict[str, dict[str, list[float]]], alone: Sequence[Answer], threads: int) -> dict[str, Any]:
    """Spreads of each server, and ratios of ours to the plain server's and to scoring without one."""
    spreads: dict[str, Any] = {name: {kind: spread(v) for kind, v in of.items()} for name, of in values.items()}
    spreads["offline"] = {kind: spread([answer[kind] for answer in alone]) for kind in ("pairs", "idle")}
    return {
        "machine": machine(threads),
        **spreads,
        "to_plain": {kind: ratio(spreads["guerdon"][kind], spreads["plain"][kind]) for kind in UNITS},
        "to_offline": {kind: ratio(spreads["guerdon"][kind], spreads["offline"][kind]) for kind in ("pairs", "idle")},
    }


def show(case: dict[str, Any]) -> None:
    """Print a table."""
    print_table(
        ["", "unit", "guerdon serve", "plain server", "offline", "to plain", "to offline"],
        [
            [
                kind, unit, *(shown(case[name].get(kind)) for name in ("guerdon", "plain", "offline")),
                shown(case["to_plain"][kind]), shown(case["to_offline"].get(kind)),
            ]
            for kind, unit in UNITS.items()
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
