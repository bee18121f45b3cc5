"""Published votes, given again by their annotators through the HTTP API, all at once: does the server lose or bend anything?

    python benchmarks/annotation_votes.py --data FOLDER

FOLDER holds ukp_convarg_votes.jsonl.gz, ukp_convarg_workers.jsonl.gz and pandalm_votes.jsonl.gz, a line for each pair:
{"prompt", "response_a", "response_b", "votes": [{"annotator", "label": "a", "b" or "tie"}]}, and for each worker
{"worker", "mace_competence"}.

Each annotator is a thread with a token. It claims, finds its published vote by the texts, turns it to the order shown, and submits;
a pair on which it never voted is skipped. `ukp`: arguments of Habernal & Gurevych (2016), the workers with the most votes and the
pairs on which most of them voted; abilities, as the server computes them, are compared with the published competence (MACE, fitted
on all votes) by rank, and with the same model on the same votes of the file. `few votes`: the file alone, the whole of it and its
first 450 pairs, to see how many votes per worker the comparison takes. `pandalm`: three annotators, kappas beside the published
ones. Writes benchmarks/results/annotation_votes.json.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from measure import add_options, keep, machine, print_table
from scipy.stats import spearmanr

from guerdon import Response
from guerdon.annotation.accounts import create_account
from guerdon.annotation.project import Project, add_items, create_project
from guerdon.annotation.summaries import summarize
from guerdon.annotation.tokens import create_token
from guerdon.config import AnnotationOptions
from guerdon.contracts import as_prompt
from guerdon.data.simulated import SimulatedAnnotator, simulate_judgments, simulate_pairs
from guerdon.formulas.annotators import VoteTable, fit_abilities
from guerdon.store.database import open_database
from guerdon.store.items import unjudged_item
from guerdon.store.location import locate
from guerdon.store.reader import read_items
from guerdon.store.schema import migrate

Row = dict[str, Any]

LABELS = ("a", "tie", "b")
WORKERS, PAIRS, FEW = 20, 2000, 450
PUBLISHED_KAPPAS = {
    ("annotator1", "annotator2"): 0.85,
    ("annotator1", "annotator3"): 0.88,
    ("annotator2", "annotator3"): 0.86,
}
SKIP = {"reason": "cannot judge"}
PLAIN = {
    "overlap": 0.0,
    "adaptive_max": 1,
    "training": 0,
    "gold": 0.0,
    "attention": 0.0,
    "repeat": 0.0,
    "rationale": "off",
}


# ---- Votes ---------------------------------------------------------------------------------------------------------


def read_rows(folder: Path, name: str) -> list[Row]:
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def key_of(prompt: str, responses: Iterable[str]) -> tuple[str, frozenset[str]]:
    return prompt, frozenset(responses)


def usable(rows: Iterable[Row]) -> list[Row]:
    """The rows by their texts: each pair once, and no text against itself."""
    by_key = {key_of(row["prompt"][-1]["content"], (row["response_a"], row["response_b"])): row for row in rows}
    return [row for (_, texts), row in by_key.items() if len(texts) == 2]


def densest(rows: Sequence[Row], workers: int, pairs: int) -> list[Row]:
    """The pairs on which most of the workers with the most votes voted, with the votes of these alone."""
    counts = Counter(vote["annotator"] for row in rows for vote in row["votes"])
    chosen = {name for name, _ in counts.most_common(workers)}
    few = [{**row, "votes": [vote for vote in row["votes"] if vote["annotator"] in chosen]} for row in rows]
    return sorted(few, key=lambda row: (-len(row["votes"]), row["id"]))[:pairs]


def simulated(pairs: int) -> list[Row]:
    """Rows like the published ones, with votes of simulated annotators."""
    crowd = [SimulatedAnnotator(f"w{i}", ability) for i, ability in enumerate((0.2, 1.0, 2.0, 4.0))]
    truth, rows = simulate_pairs(pairs, seed=1), {}
    for row in truth:
        first, second = (response.text for response in row.responses)
        body = {"id": row.id, "response_a": first, "response_b": second, "votes": []}
        rows[row.prompt[-1].content] = {**body, "prompt": [{"role": "user", "content": row.prompt[-1].content}]}
    for given in simulate_judgments(truth, crowd, 3, seed=1):
        row = rows[given.prompt[-1].content]
        best = given.responses[0 if given.ranks[0] == 0 else 1].text
        row["votes"].append({"annotator": given.annotator, "label": "a" if best == row["response_a"] else "b"})
    return list(rows.values())


def abilities_of_file(rows: Sequence[Row]) -> tuple[dict[str, float], dict[str, int]]:
    """Each annotator's ability and number of votes, by the same model on the rows."""
    number: dict[str, int] = {}
    flat = [
        (i, number.setdefault(vote["annotator"], len(number)), LABELS.index(vote["label"]))
        for i, row in enumerate(rows)
        for vote in row["votes"]
    ]
    pair, annotator, vote = map(np.array, zip(*flat, strict=True))
    table = VoteTable(pair, annotator, vote, np.zeros(len(pair), bool), np.ones(len(pair)), len(rows), len(number))
    ability, votes = fit_abilities(table).ability, np.bincount(annotator)
    return (
        {name: float(ability[i]) for name, i in number.items()},
        {name: int(votes[i]) for name, i in number.items()},
    )


def rank_correlation(abilities: Mapping[str, float], published: Mapping[str, float]) -> float:
    names = sorted(abilities)
    return float(spearmanr([abilities[name] for name in names], [published[name] for name in names]).statistic)


# ---- The server and its annotators ---------------------------------------------------------------------------------


@contextmanager
def serving(store: Path) -> Any:
    """`guerdon annotation serve` as a process of its own; gives its host and port."""
    command = [sys.executable, "-m", "guerdon", "annotation", "serve", str(store), "--port", "0", "--no-browser"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ}
    )
    try:
        assert process.stdout is not None
        match = re.search(r"https?://\S+", process.stdout.readline())
        assert match is not None, "the server did not start"
        yield urlsplit(match[0]).netloc
    finally:
        process.terminate()
        process.wait()


def judge_all(host: str, token: str, name: str, by_key: Mapping[Any, Row], counts: Counter[str]) -> None:
    """One annotator, until nothing is left. counts: requests by kind, of this thread alone."""
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as browsers do: headers and body go at once
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def post(path: str, body: object = None) -> Row:
        connection.request("POST", f"/api/v1/projects/votes/{path}", json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, text
        return dict(json.loads(text))

    claimed = post("claim")
    while "assignment" in claimed:
        shown = claimed["assignment"]
        texts = [response["turns"][0]["raw"] for response in shown["responses"]]
        row = by_key[key_of(shown["prompt"][-1]["raw"], texts)]
        label = next((vote["label"] for vote in row["votes"] if vote["annotator"] == name), None)
        path = f"presentations/{shown['presentation']}"
        if label is None:
            counts["skips"] += 1
            claimed = post(f"{path}/skip?next=1", SKIP)["next"]
            continue
        better = {"tie": None, "a": row["response_a"], "b": row["response_b"]}[label]
        verdict = 0 if better is None else -1 if texts[0] == better else 1
        counts["answers"] += 1
        claimed = post(f"{path}/judgment?next=1", {"verdict": verdict})["next"]


def give_again(rows: Sequence[Row], folder: Path) -> Row:
    """Serve the pairs, let all annotators vote at once, and compare the store with the file."""
    names = sorted({vote["annotator"] for row in rows for vote in row["votes"]})
    by_key = {key_of(row["prompt"][-1]["content"], (row["response_a"], row["response_b"])): row for row in rows}
    store = folder / "votes.db"
    with open_database(locate(store), create=True) as database:
        migrate(database)
        options = AnnotationOptions(**{**PLAIN, "verdict": "binary_tie", "need": len(names), "max_skips": 10**6})
        project = create_project(database, "votes", options, now=time.time(), secret="votes")
        add_items(project, (_item(row) for row in rows))
        tokens = []
        for name in names:
            account = create_account(database, name, role="annotator", now=time.time())
            tokens.append(create_token(database, account.id, "votes", ["judge"], time.time()))
        counts: list[Counter[str]] = [Counter() for _ in names]
        with serving(store) as host:
            threads = [
                threading.Thread(target=judge_all, args=(host, *each))
                for each in zip(tokens, names, [by_key] * len(names), counts, strict=True)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        requests = sum(counts, Counter())
        content = summarize(project, time.time())
        differ = differences(project, by_key)
    return {
        "pairs": len(rows), "annotators": len(names), "votes": sum(len(row["votes"]) for row in rows), **requests,
        **differ, "content": content,
    }  # fmt: skip


def _item(row: Row) -> Any:
    return unjudged_item(as_prompt(row["prompt"]), (Response(row["response_a"]), Response(row["response_b"])))[0]


def differences(project: Project, by_key: Mapping[Any, Row]) -> dict[str, int]:
    """Votes of the file that the store lacks, and votes of the store that the file lacks."""
    stored: Counter[tuple[Any, str, str]] = Counter()
    for _, item in read_items(project.database):
        texts = [response.text for response in item.responses]
        key = key_of(item.prompt[-1].content, texts)
        for judgment in item.judgments:
            groups = judgment.preference.groups or ()
            best = texts[judgment.shown[groups[0][0]]]
            label = "tie" if len(groups) == 1 else "a" if best == by_key[key]["response_a"] else "b"
            stored[key, judgment.annotator.name or "", label] += 1
    published = Counter((key, vote["annotator"], vote["label"]) for key, row in by_key.items() for vote in row["votes"])
    return {"votes_lost": (published - stored).total(), "votes_too_many": (stored - published).total()}


# ---- Cases ---------------------------------------------------------------------------------------------------------


def workers_case(rows: Sequence[Row], competence: Mapping[str, float], folder: Path) -> Row:
    """The abilities by the server, by the file, and the published competence."""
    case = give_again(rows, folder)
    abilities = {each["name"]: each["ability"]["value"] for each in case.pop("content")["abilities"]}
    of_file, votes = abilities_of_file(rows)
    return {
        **case,
        "median_votes_per_annotator": float(np.median([*votes.values()])),
        "rank_correlation_with_published": rank_correlation(abilities, competence),
        "rank_correlation_with_published_by_file": rank_correlation(of_file, competence),
        "rank_correlation_with_file": rank_correlation(abilities, of_file),
    }


def few_votes_case(rows: Sequence[Row], competence: Mapping[str, float]) -> Row:
    """The rank correlation by the file alone, for those with so many votes at least."""
    case: Row = {}
    for name, part in (("all", rows), (f"first {FEW}", rows[:FEW])):
        abilities, votes = abilities_of_file(part)
        for least in (1, 10, 40):
            some = {worker: ability for worker, ability in abilities.items() if votes[worker] >= least}
            case[f"{name} pairs, {least} votes or more"] = {
                "workers": len(some), "rank_correlation": rank_correlation(some, competence),
            }  # fmt: skip
        case[f"{name} pairs, median votes"] = float(np.median([*votes.values()]))
    return case


def kappas_case(rows: Sequence[Row], folder: Path) -> Row:
    case = give_again(rows, folder)
    kappas = {
        tuple(sorted((each["a"], each["b"]))): each["kappa"] for each in case.pop("content")["agreement"]["kappas"]
    }
    return {
        **case,
        "kappas": {
            " and ".join(pair): {**kappas[pair], "published": value} for pair, value in PUBLISHED_KAPPAS.items()
        },
    }


def main() -> None:
    """Run the cases, save their numbers and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, "annotation_votes.json")
    parser.add_argument("--data", type=Path, help="folder of the published votes; simulated ones with --smoke")
    parser.add_argument("--workers", type=int, default=WORKERS, help="annotators of `ukp`")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="pairs of `ukp`")
    given = parser.parse_args()
    if given.data is None and not given.smoke:
        parser.error("--data must name the folder of the published votes")
    cases: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / name for name in ("first", "second")]
        for folder in folders:
            folder.mkdir()
        if given.smoke:
            truth = {f"w{i}": float(i) for i in range(4)}
            cases["simulated"] = workers_case(simulated(40), truth, folders[0])
        else:
            rows = usable(read_rows(given.data, "ukp_convarg_votes"))
            competence = {row["worker"]: row["mace_competence"] for row in read_rows(given.data, "ukp_convarg_workers")}
            cases["few votes"] = few_votes_case(rows, competence)
            cases["ukp"] = workers_case(densest(rows, given.workers, given.pairs), competence, folders[0])
            cases["pandalm"] = kappas_case(usable(read_rows(given.data, "pandalm_votes")), folders[1])
    for case in cases.values():
        case["machine"] = machine(given.threads)
    keep(given.out, "published votes, given again through the HTTP API", cases)
    print_table(["case", "figure", "value"], [list(row) for row in figures(cases)])


def figures(cases: Mapping[str, Row]) -> Iterator[tuple[str, str, str]]:
    """What is printed: a line for each number."""
    for name, case in cases.items():
        for key, value in case.items():
            if isinstance(value, dict) and key != "machine":
                yield from ((name, f"{key}: {part}", json.dumps(number)) for part, number in value.items())
            elif key != "machine":
                yield name, key, json.dumps(value)


if __name__ == "__main__":
    main()
