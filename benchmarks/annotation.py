"""How fast people's items are handed out and their answers stored: in the store alone, and over HTTP beside other servers.

    python benchmarks/annotation.py [--pairs 20000] [--seconds 30] [--postgres postgresql://HOST/postgres]
        [--label-studio-python PYTHON] [--potato-python PYTHON] [--only sqlite,http]

`sqlite`: claim and submit in one process without a pause, pairs per second of wall time and of CPU time. `sqlite as the page`: the
same where the receipt of an answer brings the next pair, in one transaction, as the page asks. `thinking`: 30 annotators
in threads of one process, each with 0.2 s between the pair and the answer, over the same number of items; percentiles are of the
time that the two requests take together. `postgresql`: 16 processes without
a pause in a database that the script creates and drops; overlap is checked to be exact. Items have two short responses, and
10 % of them are judged by three. `http`: one annotator without a pause, who claims and submits on Guerdon's server and on those
of peers (peers/README.md says how to install them), in turn, round after round. `http thinking`: 30 annotators over HTTP, as the
page asks: the receipt of an answer brings the next pair. Writes benchmarks/results/annotation.json.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from measure import add_options, interleave, keep, machine, names, print_table, ratio, shown, spread
from peers.annotation_sites import Guerdon, GuerdonPage, Judge, LabelStudio, Potato, Site

from guerdon import Comparison, Preference, Response
from guerdon.annotation.answers import Answer
from guerdon.annotation.assignments import Assignment
from guerdon.annotation.claiming import claim
from guerdon.annotation.project import Project, add_annotator, add_items, create_project, load_project
from guerdon.annotation.submitting import submit, submit_and_claim
from guerdon.api.store import create_store
from guerdon.config import AnnotationOptions
from guerdon.store.database import open_database
from guerdon.store.location import locate

THINKING, ANNOTATORS, PROCESSES = 0.2, 30, 16
HTTP_PAIRS, HTTP_SECONDS, WARM_UP = 5_000, 10.0, 1.0
CASES = ("sqlite", "sqlite as the page", "thinking", "postgresql", "http", "http thinking")
OPTIONS = AnnotationOptions(adaptive_max=1, repeat=0.0)


def pairs(number: int) -> Iterator[Comparison]:
    for i in range(number):
        responses = Response(f"The first answer to question {i}."), Response(f"Another answer to question {i}.")
        yield Comparison(f"Question {i}: which of these is right?", responses, Preference(q=1.0))


def fill(store: str, number: int) -> float:
    """Create a project with so many pairs; returns pairs per second."""
    create_store(store)
    with open_database(locate(store)) as database:
        project = create_project(database, "p", OPTIONS, now=0.0, secret="benchmark")
        start = time.perf_counter()
        add_items(project, pairs(number))
        return number / (time.perf_counter() - start)


def judge(project: Project, who: str, number: int, thinking: float = 0.0) -> float | None:
    """Claim and submit one pair; returns the seconds of both requests, None where nothing is left."""
    start = time.perf_counter()
    assignment = claim(project, who, time.time())
    if not isinstance(assignment, Assignment):
        return None
    middle = time.perf_counter()
    if thinking:
        time.sleep(thinking)
    again = time.perf_counter()
    answer = Answer(verdict=-2 if number % 2 else 2, active_ms=1000.0 * thinking)
    submit(project, who, assignment.presentation_id, answer, f"{who}{number}", time.time())
    return middle - start + time.perf_counter() - again


class NextWithAnswer:
    """Judges as the page does: the receipt of an answer brings the next pair."""

    def __init__(self) -> None:
        self.held: dict[str, Any] = {}

    def __call__(self, project: Project, who: str, number: int) -> float | None:
        """The seconds of the request, None where nothing is left."""
        start = time.perf_counter()
        assignment = self.held.get(who) or claim(project, who, time.time())
        if not isinstance(assignment, Assignment):
            return None
        answer = Answer(verdict=-2 if number % 2 else 2, active_ms=0.0)
        call = project, who, assignment.presentation_id, answer, f"{who}{number}", time.time()
        _, self.held[who] = submit_and_claim(*call)
        return time.perf_counter() - start


def without_pause(
    store: str, seconds: float, one: Callable[[Project, str, int], float | None] = judge
) -> dict[str, Any]:
    """One process, four annotators in turn."""
    with open_database(locate(store)) as database:
        project = load_project(database, "p")
        people = [add_annotator(database, f"w{i}") for i in range(4)]
        taken: list[float] = []
        start, cpu = time.perf_counter(), time.process_time()
        while time.perf_counter() - start < seconds:
            needed = one(project, people[len(taken) % 4], len(taken))
            if needed is None:
                break
            taken.append(needed)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {"pairs_per_s": len(taken) / wall, "pairs_per_cpu_s": len(taken) / cpu, **percentiles(taken)}


def with_thinking(store: str, seconds: float) -> dict[str, Any]:
    """Thirty annotators who think."""
    with open_database(locate(store)) as database:
        project = load_project(database, "p")
        people = [add_annotator(database, f"t{i}") for i in range(ANNOTATORS)]

        def judging(i: int) -> Judge:
            numbers = iter(range(10**9))
            return lambda: judge(project, people[i], next(numbers), THINKING)

        return all_at_once([judging(i) for i in range(ANNOTATORS)], seconds)


def all_at_once(judges: Sequence[Judge], seconds: float, thinking: float = 0.0) -> dict[str, Any]:
    """Each annotator in a thread; a pause of `thinking` seconds between pairs."""
    taken: list[list[float]] = [[] for _ in judges]
    end = time.perf_counter() + seconds

    def work(i: int) -> None:
        time.sleep(thinking * i / len(judges))  # people do not click at the same moment
        while time.perf_counter() < end and (needed := judges[i]()) is not None:
            taken[i].append(needed)
            time.sleep(thinking)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(judges))]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = [needed for mine in taken for needed in mine]
    wall = time.perf_counter() - start
    return {"annotators": len(judges), "pairs_per_s": len(every) / wall, **percentiles(every)}


def percentiles(taken: list[float]) -> dict[str, float]:
    ordered = sorted(taken)
    return {
        "pairs": len(ordered),
        "p50_ms": 1000 * statistics.median(ordered),
        "p99_ms": 1000 * ordered[int(0.99 * (len(ordered) - 1))],
    }


def one_of_many(store: str, number: int, seconds: float, sender: Any, barrier: Any) -> None:
    with open_database(locate(store)) as database:
        project = load_project(database, "p")
        who = add_annotator(database, f"process {number}")
        barrier.wait()
        taken: list[float] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end and (needed := judge(project, who, len(taken))) is not None:
            taken.append(needed)
    sender.put(taken)


def in_processes(store: str, processes: int, seconds: float) -> dict[str, Any]:
    """Several processes at once, and whether every item has as many judgments as it may have."""
    context = multiprocessing.get_context("spawn")
    results, barrier = context.Queue(), context.Barrier(processes + 1)
    workers = [
        context.Process(target=one_of_many, args=(store, i, seconds, results, barrier), daemon=True)
        for i in range(processes)
    ]
    for worker in workers:
        worker.start()
    barrier.wait()
    start = time.perf_counter()
    taken = [results.get(timeout=600) for _ in workers]
    wall = time.perf_counter() - start
    for worker in workers:
        worker.join()
    every = [needed for mine in taken for needed in mine]
    return {"processes": processes, "pairs_per_s": len(every) / wall, **percentiles(every), **overlap(store)}


def overlap(store: str) -> dict[str, int]:
    """Items with more judgments than they need, and counters that are wrong: none, or overlap is not exact."""
    with open_database(locate(store)) as database, database.reading() as connection:
        counted = "(SELECT count(*) FROM judgments WHERE judgments.item_id = items.id)"
        return {
            "over_need": int(connection.exec_driver_sql("SELECT count(*) FROM items WHERE taken > need").scalar() or 0),
            "wrong_counters": int(
                connection.exec_driver_sql(f"SELECT count(*) FROM items WHERE taken < {counted}").scalar() or 0
            ),
        }


def on_postgres(url: str, number: int, processes: int, seconds: float) -> dict[str, Any]:
    import psycopg

    name = f"guerdon_benchmark_{os.getpid()}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        head, _, query = url.partition("?")
        store = f"{head.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")
        fill(store, number)
        return in_processes(store, processes, seconds)
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


# ---- Over HTTP -----------------------------------------------------------------------------------------------------


def beside_peers(sites: dict[str, Site], seconds: float, rounds: int) -> dict[str, Any]:
    """One annotator on each server in turn, and how many times the rate of each peer Guerdon's is."""

    def run(site: Site) -> dict[str, Any]:
        judge = site.judge(0)  # on a new connection: servers close one that waits for the others' rounds
        all_at_once([judge], WARM_UP)
        return all_at_once([judge], seconds)

    with ExitStack() as stack:
        contestants: dict[str, Callable[[], dict[str, Any]]] = {}
        for name, site in sites.items():
            stack.enter_context(site.running())
            contestants[name] = lambda site=site: run(site)
        runs = interleave(contestants, rounds)
    rates = {name: spread([run["pairs_per_s"] for run in of_one]) for name, of_one in runs.items()}
    ours = {name: rate for name, rate in rates.items() if name.startswith("guerdon")}
    others = {name: rate for name, rate in rates.items() if name not in ours}
    return {
        "runs": runs,
        "pairs_per_s": rates,
        "times": {f"{mine} / {peer}": ratio(ours[mine], others[peer]) for mine in ours for peer in others},
    }


def thinking_over_http(folder: Path, number: int, seconds: float) -> dict[str, Any]:
    """Thirty annotators on Guerdon's server, who think before they answer."""
    site = GuerdonPage(folder, number, Path(sys.executable))
    with site.running():
        judges = [site.judge(i) for i in range(ANNOTATORS)]
        for judge in judges:
            judge()  # signs in, and holds the pair after the first
        measured = all_at_once(judges, seconds, THINKING)
    return {"items": number, **measured, **overlap(str(folder / "annotations.db"))}


# ---- The script ----------------------------------------------------------------------------------------------------


def main() -> None:
    """Run the cases, save their numbers and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, "annotation.json")
    parser.add_argument("--pairs", type=int, default=20_000, help="items of a project")
    parser.add_argument("--seconds", type=float, default=30.0, help="time that a case works")
    parser.add_argument("--postgres", help="URL of a server on which a database may be created")
    parser.add_argument("--label-studio-python", type=Path, help="the Python that Label Studio is installed for")
    parser.add_argument("--potato-python", type=Path, help="the Python that Potato is installed for")
    parser.add_argument("--only", type=names, default=[*CASES], help=f"cases: {', '.join(CASES)}")
    given = parser.parse_args()
    cases = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in given.only:
            if (case := run_case(name, given, Path(folder))) is not None:
                cases[name] = {**case, "load": os.getloadavg()[0], "machine": machine(given.threads)}
                keep(given.out, "claim and submit of pairs, in the store and over HTTP", {name: cases[name]})
    columns = ("pairs", "pairs_per_s", "p50_ms", "p99_ms", "over_need", "wrong_counters")
    rows = [
        [name, *(f"{case[column]:,.1f}".removesuffix(".0") for column in columns)]
        for name, case in cases.items()
        if name != "http"
    ]
    print_table(["case", *columns], rows)
    if "http" in cases:
        print_table(
            ["one annotator over HTTP", "pairs/s"], [[k, shown(v, 1)] for k, v in cases["http"]["pairs_per_s"].items()]
        )
        print_table(["ratio", "times"], [[k, shown(v, 1)] for k, v in cases["http"]["times"].items()])


def run_case(name: str, given: argparse.Namespace, folder: Path) -> dict[str, Any] | None:
    """The numbers of a case; None where it cannot run with these options."""
    number, seconds = (200, 1.0) if given.smoke else (given.pairs, given.seconds)
    in_the_store = {
        "sqlite": without_pause,
        "sqlite as the page": partial(without_pause, one=NextWithAnswer()),
        "thinking": with_thinking,
    }
    if (run := in_the_store.get(name)) is not None:
        store = str(folder / f"{name}.db")
        filled = fill(store, number)
        return {"items": number, "items_added_per_s": filled, **run(store, seconds), **overlap(store)}
    if name == "postgresql" and given.postgres:
        return on_postgres(given.postgres, number, 2 if given.smoke else PROCESSES, seconds)
    if name == "http":
        python = Path(sys.executable)
        over_http, seconds = (HTTP_PAIRS, 0.5) if given.smoke else (4 * HTTP_PAIRS, HTTP_SECONDS)
        sites: dict[str, Site] = {
            "guerdon": Guerdon(folder / "guerdon", over_http, python),
            "guerdon, as its page": GuerdonPage(folder / "guerdon-page", over_http, python),
        }
        if given.label_studio_python:
            sites["label-studio"] = LabelStudio(folder / "label-studio", HTTP_PAIRS, given.label_studio_python)
        if given.potato_python:
            sites["potato"] = Potato(folder / "potato", HTTP_PAIRS, given.potato_python)
        return beside_peers(sites, seconds, given.repeats)
    if name == "http thinking" and not given.smoke:
        return thinking_over_http(folder / "thinking", number, seconds)
    return None


if __name__ == "__main__":
    main()
