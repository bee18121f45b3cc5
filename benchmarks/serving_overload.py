"""`guerdon serve` asked for ten times what it can compute, for minutes: are its answers right, in time, and its memory flat?

    python benchmarks/serving_overload.py --data hh_pairs.jsonl.gz

The rewards of --texts conversations with different prompts are asked for in quiet, which gives the server's speed too. Then
--clients clients ask at once for --seconds. Each sends one text, and pauses after an answer and after a refusal alike, whatever
Retry-After says, so long that all together ask --times as often as the server can answer. The server keeps no prefixes, so that a
text that comes again costs what a new one costs, unless both are in one pass.

  wrong       answers that are not the quiet reward within 1e-3
  refused     answers of 503; each must bring Retry-After
  late        answers after the deadline, by the client's clock, with --grace seconds for the way
  failed      anything else: another status, a broken connection
  in vain     texts that the model scored and nobody got the reward of

Writes benchmarks/results/serving_overload.json. One machine holds the clients too, so their work is part of the load.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import measure
import numpy as np
import psutil
import rows
from measure import machine, print_table
from servers import Server, guerdon_server
from serving import rendered

WHAT = "rewards over HTTP under overload; one client process"
TOLERANCE = 1e-3
KINDS = ("answered", "refused", "wrong", "late", "failed", "in vain")
MODEL_COUNTS = ("scored_items", "passes", "compute_seconds")
TOGETHER = 16  # texts of a request in quiet


@dataclass(slots=True)
class Outcomes:
    """What clients saw. seconds: of each accepted request, until its answer."""

    counts: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)

    def fault(self, kind: str, example: str) -> None:
        """Count what must not happen, and keep the first few."""
        self.counts[kind] += 1
        if len(self.examples) < 5:
            self.examples.append(f"{kind}: {example[:200]}")


def main() -> None:
    """Measure the speed in quiet, then overload the server and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", default=[], help="rows with prompt and replies")
    parser.add_argument("--texts", type=int, default=192, help="different conversations")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--times", type=float, default=10, help="requests a second, in what the server can answer")
    parser.add_argument("--seconds", type=float, default=300, help="of overload")
    parser.add_argument("--deadline", type=float, default=20, help="seconds that the server gives a request")
    parser.add_argument("--grace", type=float, default=2, help="seconds beyond the deadline that are not late")
    measure.add_options(parser, "serving_overload.json")
    a = parser.parse_args()
    max_length = 1024
    if a.smoke:
        a.texts, a.clients, a.seconds, a.deadline, max_length, a.threads = 8, 20, 3, 2, 256, 1
    with tempfile.TemporaryDirectory() as folder:
        start = rows.start(a.model, Path(folder) / "start", max_length=max_length, truncation="left")
        text = rows.text_of(start, max_length, "left")
        pairs = rows.pairs(rows.source_rows(a, a.texts), text, a.texts, max_length // 2, 0)
        texts = list({rendered(text, pair["prompt"], pair["replies"][0]): None for pair in pairs})
        options = [f"serving.deadline={a.deadline:g}", "serving.prefix_cache=0"]
        with guerdon_server(start, a.threads, *options) as server:
            rewards, speed = quiet_rewards(server, texts)
            before = Counter(model_counts(server))
            outcomes, memory = asyncio.run(overload(a, server, dict(zip(texts, rewards, strict=True)), speed))
            model = {name: count - before[name] for name, count in model_counts(server).items()}
            outcomes.counts["in vain"] = round(model["scored_items"]) - outcomes.counts["answered"]
            again = [server.rewards([one])[0] for one in texts[:8]]
            if not np.allclose(again, rewards[:8], atol=TOLERANCE):
                outcomes.fault("wrong", f"after the load {again}, before it {rewards[:8]}")
    case = summary(a, outcomes, memory, speed, model)
    measure.keep(a.out, WHAT, {"smoke" if a.smoke else "float32": case})
    show(case)


def quiet_rewards(server: Server, texts: list[str]) -> tuple[list[float], float]:
    """The rewards of the texts, and how many the server scores in a second when some come together, few enough for its deadline."""
    server.rewards(texts[:TOGETHER])  # the first pass is slower
    start = time.perf_counter()
    rewards = [r for at in range(0, len(texts), TOGETHER) for r in server.rewards(texts[at : at + TOGETHER])]
    return rewards, len(texts) / (time.perf_counter() - start)


def model_counts(server: Server) -> dict[str, float]:
    """Texts that the server's model has scored since its start, its passes, and the seconds that they took."""
    counts = {}
    for line in server.client.get("/metrics").text.splitlines():
        for name in MODEL_COUNTS:
            if line.startswith(f"guerdon_{name}_total"):
                counts[name] = float(line.split()[-1])
    return counts


async def overload(
    a: argparse.Namespace, server: Server, rewards: dict[str, float], speed: float
) -> tuple[Outcomes, list[float]]:
    """The clients' outcomes, and the server's memory in MiB each second."""
    outcomes, memory = Outcomes(), []
    end = time.monotonic() + a.seconds
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx2.AsyncClient(base_url=str(server.client.base_url), limits=limits, timeout=120) as http:
        clients = [
            asyncio.create_task(
                client(http, rewards, a.clients / (a.times * speed), end, random.Random(i), outcomes, a)
            )
            for i in range(a.clients)
        ]
        process = psutil.Process(server.process.pid)
        while time.monotonic() < end:
            memory.append(process.memory_info().rss / 2**20)
            if len(memory) % 30 == 0:
                print(f"{len(memory)} s: {dict(outcomes.counts)}, {memory[-1]:.0f} MiB", file=sys.stderr)
            await asyncio.sleep(1)
        await asyncio.gather(*clients)
    return outcomes, memory


async def client(
    http: Any,
    rewards: dict[str, float],
    pause: float,
    end: float,
    rng: random.Random,
    outcomes: Outcomes,
    a: argparse.Namespace,
) -> None:
    """One client: ask, look at the answer, pause, until the end."""
    texts = list(rewards)
    await asyncio.sleep(rng.random() * pause)
    while time.monotonic() < end:
        text = rng.choice(texts)
        start = time.perf_counter()
        try:
            response = await http.post("/get_reward", json={"query": [text]})
        except httpx2.TransportError as error:
            outcomes.fault("failed", repr(error))
        else:
            judge(response, rewards[text], time.perf_counter() - start, a.deadline + a.grace, outcomes)
        await asyncio.sleep(2 * rng.random() * pause)


def judge(response: Any, reward: float, seconds: float, most: float, outcomes: Outcomes) -> None:
    """Count an answer."""
    if response.status_code == 503:
        outcomes.counts["refused"] += 1
        if "retry-after" not in response.headers:
            outcomes.fault("failed", f"503 without Retry-After: {response.text}")
    elif response.status_code != 200:
        outcomes.fault("failed", f"{response.status_code}: {response.text}")
    else:
        outcomes.counts["answered"] += 1
        outcomes.seconds.append(seconds)
        if abs(response.json()["rewards"][0] - reward) > TOLERANCE:
            outcomes.fault("wrong", f"{response.text}, in quiet {reward}")
        if seconds > most:
            outcomes.fault("late", f"{seconds:.2f} s")


def summary(
    a: argparse.Namespace, outcomes: Outcomes, memory: list[float], speed: float, model: dict[str, float]
) -> dict[str, Any]:
    """Counts, seconds of accepted requests, and the server's memory in thirds of the time."""
    third = max(1, len(memory) // 3)
    asked = outcomes.counts["answered"] + outcomes.counts["refused"] + outcomes.counts["failed"]
    return {
        "machine": machine(a.threads),
        "settings": {name: getattr(a, name) for name in ("clients", "times", "seconds", "deadline", "texts")},
        "quiet_texts_per_second": speed,
        "asked_per_second": asked / a.seconds,
        "answered_per_second": outcomes.counts["answered"] / a.seconds,
        "scored_per_second_of_model": model["scored_items"] / model["compute_seconds"],
        "share_of_time_in_model": model["compute_seconds"] / a.seconds,
        "passes": round(model["passes"]),
        **{name: outcomes.counts[name] for name in KINDS},
        "examples": outcomes.examples,
        "seconds": {f"p{q}": float(np.percentile(outcomes.seconds or [0.0], q)) for q in (50, 99, 100)},
        "memory_mib": {"start": memory[0], "first_third": max(memory[:third]), "last_third": max(memory[-third:])},
    }


def show(case: dict[str, Any]) -> None:
    """Print a table, and what went wrong."""
    rates = [name for name in case if "_per_second" in name or name.startswith("share")]
    lines = [[name.replace("_", " "), f"{case[name]:.2f}"] for name in rates]
    lines += [[name, f"{case[name]:,}"] for name in ("passes", *KINDS)]
    lines += [[f"{name} of accepted, s", f"{value:.2f}"] for name, value in case["seconds"].items()]
    lines += [[f"memory, MiB, {name.replace('_', ' ')}", f"{value:,.0f}"] for name, value in case["memory_mib"].items()]
    print_table(["", ""], lines)
    print("\n".join(case["examples"]))


if __name__ == "__main__":
    main()
