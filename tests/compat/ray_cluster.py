"""Score, judge and label on a Ray cluster of two nodes while workers are killed, serve replicas, and compare with one process.

    python -m venv /tmp/ray && /tmp/ray/bin/pip install -c constraints.txt -e '.[ray,serve]'
    PYTHONPATH=src:tests /tmp/ray/bin/python tests/compat/ray_cluster.py

Both nodes are on this machine (ray.cluster_utils.Cluster), with 100 MB of object store each. Every row must come out once, with the
number or label of a run without Ray. Not part of the test suite: installing Ray takes minutes, and the cluster one more.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import ray
from judge_server import JudgeServer, completion, share
from ray import serve
from ray.cluster_utils import Cluster

from guerdon.api.ray_serving import ray_application
from guerdon.api.scoring import score_file
from guerdon.config import ModelOptions, ServingOptions
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.directory.saving import save
from guerdon.scoring.bulk_scorer import BulkScorer
from guerdon.serving.client import RewardClient
from tiny import save_tiny

ROWS, BATCH, PAIRS = 1200, 64, 120
OBJECT_STORE = 100 * 2**20  # bytes of each node
WORDS = "film review tweet sentence answer question people love time work story day good bad nice".split()


class MortalScorer(BulkScorer):
    """A BulkScorer of which one, of all on the cluster, is killed after it has scored its third batch and before it returns it."""

    def __init__(self, folder: str, grave: str) -> None:
        super().__init__(folder)
        self.grave, self.num_scored = grave, 0

    def __call__(self, batch: Any) -> dict[str, Any]:
        """The batch with its rewards."""
        scored = super().__call__(batch)
        self.num_scored += 1
        if self.num_scored == 3 and _is_first(self.grave):
            os.kill(os.getpid(), signal.SIGKILL)
        return scored


def _is_first(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


@contextmanager
def two_nodes() -> Iterator[Cluster]:
    """A cluster of two nodes with two CPUs each, to which this process is connected; it ends with the block."""
    node = {"num_cpus": 2, "object_store_memory": OBJECT_STORE, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    cluster.add_node(num_cpus=2, object_store_memory=OBJECT_STORE)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def score(folder: Path, model: Path) -> dict[str, Any]:
    """Rows through actors of Ray Data, one of which is killed; against `guerdon score`."""
    rows = [
        {
            "id": i,
            "prompt": f"Write a {WORDS[i % 7]}.",
            "response": " ".join(WORDS[(i + j) % 15] for j in range(i % 23)),
        }
        for i in range(ROWS)
    ]
    source, out = folder / "replies.jsonl", folder / "scored.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    score_file(BulkScorer(model), source, out)
    expected = {row["id"]: row["reward"] for row in map(json.loads, out.read_text().splitlines())}

    grave = folder / "killed"
    scored = (
        ray.data.read_json(str(source), override_num_blocks=8)
        .map_batches(
            MortalScorer,
            fn_constructor_kwargs={"folder": str(model), "grave": str(grave)},
            compute=ray.data.ActorPoolStrategy(size=2),
            batch_size=BATCH,
        )
        .take_all()
    )
    assert grave.exists(), "no actor was killed"
    counts = Counter(row["id"] for row in scored)
    assert counts == Counter(range(ROWS)), f"rows lost or doubled: {len(scored)} of {ROWS}"
    worst = max(abs(row["reward"] - expected[row["id"]]) for row in scored)
    assert worst < 2e-5, f"rewards differ by {worst} nats"
    return {"rows": len(scored), "largest difference, nats": worst}


def judge(folder: Path, address: str) -> dict[str, Any]:
    """Pairs labeled by `guerdon judge --executor ray`, of whose workers one is killed; against --executor api."""
    rows = [
        {"prompt": f"Question {i}?", "chosen": f"answer {i}", "rejected": f"reply {i}", "id": str(i)}
        for i in range(PAIRS)
    ]
    data = folder / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    killed: list[int] = []
    num_requests = 0

    def script(body: dict[str, Any], tried: int) -> dict[str, Any]:
        nonlocal num_requests
        num_requests += 1
        if num_requests == PAIRS and by == "ray":  # half of the requests
            killed.extend(_kill_a_worker())
        return completion(f"Verdict: {1 + (share(body, 'verdict') < 0.5)}")

    with JudgeServer(script) as server:
        for by in ("api", "ray"):
            judge_file = folder / f"{by}.yaml"
            of_ray = f"folder: {folder / 'shards'}\nworkers: 2\n" if by == "ray" else ""
            judge_file.write_text(
                f"model: tiny\nurl: {server.url}\nmode: pair_samples\nsamples: 1\nexecutor: {by}\n{of_ray}"
            )
            num_requests = 0
            words = ["judge", str(data), "--judge", str(judge_file), "--out", str(folder / f"{by}.jsonl"), "--yes"]
            subprocess.run(
                [sys.executable, "-m", "guerdon", "--quiet", *words],
                check=True,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "RAY_ADDRESS": address},
            )
    assert killed, "no worker was killed"
    api, by_ray = (folder / "api.jsonl").read_bytes(), (folder / "ray.jsonl").read_bytes()
    assert api == by_ray, "labels differ"
    return {"pairs": len(api.splitlines()), "requests with a killed worker": num_requests, "without": 2 * PAIRS}


def _kill_a_worker() -> list[int]:
    """Kill one process of this cluster that works at a task of Ray Data; its number."""
    for process in psutil.Process().children(recursive=True):
        with_title = process.cmdline() if process.is_running() else []
        if with_title and with_title[0].startswith("ray::Map"):
            process.kill()
            return [process.pid]
    return []


def replicas(folder: Path, model: Path) -> dict[str, Any]:
    """Two replicas behind one address, one of which is killed under load; against a model in this process."""
    prompts = [f"Write a {word}." for word in WORDS]
    responses = [f"{word} day" for word in WORDS]
    expected = BulkScorer(model).score(prompts, responses).value
    serve.start(http_options={"host": "127.0.0.1", "port": 8711})
    serve.run(ray_application([model], replicas=2, cpus=0.5, options=ServingOptions(deadline=30)), name="rewards")
    url = "http://127.0.0.1:8711"
    with urllib.request.urlopen(f"{url}/info") as answer:
        assert len(json.load(answer)["models"]) == 1
    killed: list[int] = []

    def client(number: int) -> float:
        rewards = RewardClient(url, patience=120)
        worst = 0.0
        for _ in range(10):
            scored = rewards.score(prompts, responses)
            worst = max(worst, *(abs(a - b) for a, b in zip(scored, expected, strict=True)))
        return worst

    def kill() -> None:
        time.sleep(0.3)
        for process in psutil.Process().children(recursive=True):
            if process.is_running() and "ServeReplica" in "".join(process.cmdline()[:1]):
                process.kill()
                killed.append(process.pid)
                return

    thread = threading.Thread(target=kill)
    thread.start()
    with ThreadPoolExecutor(8) as pool:
        worst = max(pool.map(client, range(8)))
    thread.join()
    assert killed, "no replica was killed"
    assert worst < 2e-5, f"rewards differ by {worst} nats"
    serve.shutdown()
    return {"requests": 80, "texts": 80 * len(prompts), "wrong or lost": 0, "largest difference, nats": worst}


def main() -> None:
    """Run all three, and print what was seen as JSON."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "model"
        save(create_reward_model(ModelOptions(base=str(save_tiny(folder / "tiny")))), model)
        with two_nodes() as cluster:
            result: dict[str, Any] = {"ray": ray.__version__, "nodes": len(ray.nodes())}
            for task, run in (("score", score), ("judge", judge), ("serve", replicas)):
                start = time.monotonic()
                result[task] = run(folder, cluster.address if task == "judge" else model)
                result[task]["seconds"] = round(time.monotonic() - start, 1)
                print(json.dumps({task: result[task]}), flush=True)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
