"""Many annotators on one annotation server at once, for a bounded time, who behave as people do: is anything lost, doubled or slow?

    python benchmarks/annotation_load.py [--annotators 100] [--seconds 60] [--pairs 20000]

Each annotator is a coroutine with a token and a connection of its own. It claims, thinks (exponential, half a second on average, as
fast as nobody is), and answers as the page does: the receipt brings the next pair. One answer in 20 is sent twice at once, as by a
double click; one in 20 is sent again later, as after a reload; one pair in 20 is skipped; one in 50 is left lying, and claimed
again; one in 10 looks at its own progress. A manager looks at the overview each second. Afterwards the store is compared with the
receipts: each receipt has its judgment, and each judgment its receipt. Writes benchmarks/results/annotation_load.json.
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
from measure import add_options, keep, machine, print_table
from peers.annotation_sites import Guerdon

from guerdon.annotation.accounts import insert_account
from guerdon.annotation.tokens import create_token
from guerdon.store.database import open_database
from guerdon.store.location import locate

THINKING = 0.5
TWICE, AGAIN, SKIPPED, LEFT, PROGRESS = 0.05, 0.05, 0.05, 0.02, 0.1  # shares of pairs


class LoadedSite(Guerdon):
    """Guerdon's server with so many annotators and a manager, whose token comes last."""

    def __init__(self, folder: Path, pairs: int, annotators: int) -> None:
        super().__init__(folder, pairs, Path(sys.executable))
        self.annotators = annotators

    def command(self) -> list[str]:
        """The same, and a token for the manager."""
        words = super().command()
        with open_database(locate(self.store)) as database:
            with database.writing() as connection:
                manager = insert_account(connection, "manager", role="manager", now=1.0)
            self.tokens.append(create_token(database, manager.id, "benchmark", ["read"], time.time()))
        return words

    @property
    def store(self) -> str:
        """The file of the server."""
        return str(self.folder / "annotations.db")


@dataclass
class Log:
    """What clients saw. seconds: of each kind of request. receipts: of judgments. statuses: of responses."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    receipts: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)

    async def send(self, client: httpx2.AsyncClient, kind: str, method: str, path: str, **more: Any) -> Any:
        """The JSON of a response, whose time is noted."""
        start = time.perf_counter()
        response = await client.request(method, path, **more)
        self.seconds.setdefault(kind, []).append(time.perf_counter() - start)
        self.statuses[response.status_code] += 1
        assert response.status_code < 500, f"{method} {path}: {response.status_code} {response.text[:300]}"
        return response.json()


async def annotate(client: httpx2.AsyncClient, log: Log, end: float, seed: int) -> None:
    """One annotator, until the end."""
    draw, following = random.Random(seed), None
    await asyncio.sleep(draw.random() * THINKING)
    while time.monotonic() < end:
        claimed = following or await log.send(client, "claim", "POST", "claim")
        following = None
        if "assignment" not in claimed:
            return
        await asyncio.sleep(draw.expovariate(1 / THINKING))
        base = f"presentations/{claimed['assignment']['presentation']}"
        if draw.random() < LEFT:
            continue
        if draw.random() < SKIPPED:
            skipped = await log.send(client, "skip", "POST", f"{base}/skip?next=1", json={"reason": "unclear"})
            following = skipped["next"]
            continue
        following = await judge(client, log, base, draw)
        if draw.random() < PROGRESS:
            await log.send(client, "progress", "GET", "me/progress")


async def judge(client: httpx2.AsyncClient, log: Log, base: str, draw: random.Random) -> Any:
    """Answer as the page does, perhaps twice; returns what the receipt gives next."""
    words: dict[str, Any] = {
        "json": {"verdict": draw.choice([-3, -2, -1, 0, 1, 2, 3]), "active_ms": 1000.0 * THINKING},
        "headers": {"Idempotency-Key": f"{draw.getrandbits(64):x}"},
    }
    number = 2 if draw.random() < TWICE else 1
    path = f"{base}/judgment?next=1"
    receipts = await asyncio.gather(*(log.send(client, "answer", "POST", path, **words) for _ in range(number)))
    if draw.random() < AGAIN:
        receipts.append(await log.send(client, "answer again", "POST", f"{base}/judgment", **words))
    log.receipts.update(receipt["judgment"]["id"] for receipt in receipts)
    return receipts[0]["next"]


async def manage(client: httpx2.AsyncClient, log: Log, end: float) -> None:
    """A manager who looks at the numbers each second."""
    while time.monotonic() < end:
        await log.send(client, "status", "GET", "status")
        await asyncio.sleep(1.0)


async def everybody(site: LoadedSite, seconds: float) -> tuple[Log, float]:
    """All at once; what they saw, and how long it took."""
    log, start = Log(), time.monotonic()
    base = f"http://127.0.0.1:{site.port}/api/v1/projects/p/"
    clients = [
        httpx2.AsyncClient(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=60, trust_env=False)
        for token in site.tokens
    ]
    try:
        work = [annotate(client, log, start + seconds, i) for i, client in enumerate(clients[:-1])]
        await asyncio.gather(*work, manage(clients[-1], log, start + seconds))
        return log, time.monotonic() - start
    finally:
        for client in clients:
            await client.aclose()


def compared(store: str, log: Log) -> dict[str, int]:
    """Judgments of the store against the receipts, items with too many, and counters that are wrong."""
    from guerdon.annotation.project import load_project
    from guerdon.annotation.repair import repair

    with open_database(locate(store)) as database:
        with database.reading() as connection:
            stored = [row[0] for row in connection.exec_driver_sql("SELECT id FROM judgments")]
            twice = "SELECT count(*) - count(DISTINCT presentation_id) FROM judgments WHERE revision = 1"
            doubled = int(connection.exec_driver_sql(twice).scalar() or 0)
            too_many = "SELECT count(*) FROM items WHERE taken > need"
            over_need = int(connection.exec_driver_sql(too_many).scalar() or 0)
        wrong = repair(load_project(database, "p"))
    return {
        "judgments": len(stored),
        "lost": len(log.receipts - set(stored)),
        "without_receipt": len(set(stored) - log.receipts),
        "doubled": doubled,
        "over_need": over_need,
        "wrong_counters": wrong,
    }


def percentiles(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    at = {share: 1000 * ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.95, 0.99)}
    return {"number": len(ordered), "p50_ms": at[0.5], "p95_ms": at[0.95], "p99_ms": at[0.99]}


def main() -> None:
    """Run the load, save its numbers and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, "annotation_load.json")
    parser.add_argument("--annotators", type=int, default=100, help="how many judge at once")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long they judge")
    parser.add_argument("--pairs", type=int, default=20_000, help="items of the project")
    given = parser.parse_args()
    annotators, seconds, pairs = (8, 3.0, 300) if given.smoke else (given.annotators, given.seconds, given.pairs)
    with tempfile.TemporaryDirectory() as folder:
        site = LoadedSite(Path(folder) / "site", pairs, annotators)
        with site.running():
            log, taken = asyncio.run(everybody(site, seconds))
        case = {
            "annotators": annotators,
            "pairs": pairs,
            "seconds": taken,
            "answers_per_s": len(log.receipts) / taken,
            **compared(site.store, log),
            "statuses": {str(status): number for status, number in sorted(log.statuses.items())},
            "requests": {kind: percentiles(seconds) for kind, seconds in sorted(log.seconds.items())},
            "machine": machine(given.threads),
        }
    keep(given.out, "many annotators at once over HTTP", {f"{annotators} annotators": case})
    rows = [[kind, *(f"{value:,.1f}" for value in each.values())] for kind, each in case["requests"].items()]
    print_table(["request", "number", "p50 ms", "p95 ms", "p99 ms"], rows)
    checks = ("judgments", "lost", "without_receipt", "doubled", "over_need", "wrong_counters")
    print_table(["check", "number"], [[name, f"{case[name]:,}"] for name in checks])


if __name__ == "__main__":
    main()
