"""Rewards over HTTP: `guerdon serve` beside vLLM, beside FastAPI with transformers, and beside scoring without a server.

    python benchmarks/serving.py --data hh_pairs.jsonl.gz --data qa_feedback_kway.jsonl.gz --vllm-python PEER/bin/python

All servers run all the time, and are asked in turn for rewards of the same rendered texts, in float32 with the same number of
threads: ours and the plain one through OpenRLHF's /get_reward, vLLM through its /classify. An idle vLLM takes under 2 % of a core.

  pairs       pairs of replies to one prompt, a pair in a request, from 8 clients at once: texts per second
  together    candidates of one prompt (500 + 65 tokens) in one request: candidates per second
  one by one  the same candidates, each in a request, one after another: candidates per second
  idle        one short text while nothing else happens: milliseconds

Prompts are new in each round, so that no round finds the cache of another. "offline" is `load(DIR).score` on the pairs' texts and on
the short text, in a process of its own in each round; it packs the weights before the short texts, as a server does, and keeps no
prefixes. "of it in the model" is what our server spends in the model on the very requests of "idle", where the beginning that the
template writes comes from its cache; the rest is all that serving adds, client and network included. Rewards of all servers must
agree within 1e-3. Writes benchmarks/results/serving.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import measure
import numpy as np
import rows
from measure import Answer, Job, machine, print_table, ratio, shown, spread
from scoring import candidate_sets
from servers import Server, guerdon_server, plain_server, vllm_server

WHAT = (
    "rewards over HTTP; ours beside vLLM, beside FastAPI with padded transformers, and beside scoring without a server"
)
CLIENTS, IDLE = 8, 20
UNITS = {"pairs": "texts/s", "together": "candidates/s", "one by one": "candidates/s", "idle": "ms"}
IN_MODEL = "of it in the model"
Values = dict[str, dict[str, list[float]]]


def main() -> None:
    """Run all workloads, save their numbers and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", default=[], help="rows with prompt and replies")
    parser.add_argument("--pairs", type=int, default=32, help="pairs in a round")
    parser.add_argument("--candidates", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument(
        "--vllm-python", type=Path, help="python of vLLM's environment (peers/README.md); without it, no vLLM"
    )
    measure.add_options(parser, "serving.json")
    a = parser.parse_args()
    if a.job:
        return measure.answer(a.job, offline)
    a.prompts = 2 * a.repeats
    lengths = (500, 65)
    if a.smoke:
        a.pairs, a.candidates, a.repeats, a.prompts, lengths, a.max_length = 2, 2, 1, 2, (40, 12), 256
        a.threads = 1
    with tempfile.TemporaryDirectory() as folder:
        start = rows.start(a.model, Path(folder) / "start", max_length=a.max_length, truncation="left")
        source = rows.source_rows(a, 12)
        text = rows.text_of(start, a.max_length, "left")
        pairs = rows.pairs(source, text, a.pairs * a.repeats, a.max_length, 0)
        sets = candidate_sets(a, start, source, *lengths)
        with ExitStack() as stack:
            servers = {name: stack.enter_context(server) for name, server in contestants(a, start).items()}
            spare = sets[-1]  # which no round uses; the first texts are slower, and warm the servers up
            require_equal_rewards(servers, [rendered(text, spare["prompt"], reply) for reply in spare["replies"][:4]])
            runner = measure.Runner(offline, Path(__file__).resolve(), a.threads, a.malloc, a.memory, a.smoke)
            values: Values = {name: {} for name in (*servers, "offline")}
            for i in range(a.repeats):
                some = pairs[i * a.pairs : (i + 1) * a.pairs]
                work = workloads(text, some, sets[2 * i], sets[2 * i + 1])
                for name, server in servers.items():
                    add(values, name, {kind: run(server) for kind, run in work.items()} | idle(server, text, i))
                add(values, "offline", runner.ours({"model": str(start), "pairs": some}))
    case = summary(values, a.threads)
    measure.keep(a.out, WHAT, {"smoke" if a.smoke else "float32": case})
    show(case)


def contestants(a: argparse.Namespace, start: Path) -> dict[str, Server]:
    """The servers by name, not started yet."""
    ours = guerdon_server(start, a.threads, "serving.deadline=600")  # on a slow machine it must refuse nothing
    servers = {"guerdon": ours, "plain": plain_server(start, a.threads)}
    if a.vllm_python:
        servers["vllm"] = vllm_server(a.vllm_python, start, a.threads)
    return servers


def workloads(
    text: Any, pairs: Sequence[rows.Pair], together: dict[str, Any], apart: dict[str, Any]
) -> dict[str, Callable[[Server], float]]:
    """The workloads of a round that are rates: each takes a server and returns its number."""
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

    return {"pairs": all_pairs, "together": at_once, "one by one": one_by_one}


def idle(server: Server, text: Any, round_: int) -> dict[str, float]:
    """Milliseconds of a short text, and for our server those of them that it spent in the model."""
    seconds, in_model = [], []
    for i in range(IDLE):
        short = rendered(text, f"{round_} {i}: is it good?", "Yes, it is.")
        before = seconds_in_model(server)
        start = time.perf_counter()
        server.rewards([short])
        seconds.append(time.perf_counter() - start)
        in_model.append(seconds_in_model(server) - before)
    median, of_it = (1000 * float(np.median(values)) for values in (seconds, in_model))
    return {"idle": median} | ({IN_MODEL: of_it} if of_it else {})


def seconds_in_model(server: Server) -> float:
    """What our server counts in its metrics; 0 for others."""
    lines = server.client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("guerdon_compute_seconds_total"))


def offline(job: Job) -> Answer:
    """Scoring without a server: texts per second of the pairs, milliseconds of one short text."""
    import guerdon
    from guerdon.contracts import as_prompt
    from guerdon.models.calibrated import components
    from guerdon.models.engine.prepacked import prepacked_weights

    model = guerdon.load(job["model"], truncation="left", device="cpu", dtype="float32")
    prompts = [as_prompt(pair["prompt"]) for pair in job["pairs"] for _ in pair["replies"]]
    replies = [reply for pair in job["pairs"] for reply in pair["replies"]]
    model.score(prompts[:2], replies[:2])
    start = time.perf_counter()
    model.score(prompts, replies)
    per_second = len(replies) / (time.perf_counter() - start)
    (scalar,) = components(model)
    seconds = []
    with prepacked_weights(scalar.network):
        for i in range(IDLE):
            start = time.perf_counter()
            model.score([f"offline {i}: is it good?"], ["Yes, it is."])
            seconds.append(time.perf_counter() - start)
    return {"pairs": per_second, "idle": 1000 * float(np.median(seconds))}


# ---- Texts ---------------------------------------------------------------------------------------------------------


def rendered(text: Any, prompt: Any, reply: str) -> str:
    """The conversation as the model's chat template renders it."""
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    turns = [*messages, {"role": "assistant", "content": reply}]
    return str(text.tokenizer.apply_chat_template(turns, tokenize=False))


def require_equal_rewards(servers: dict[str, Server], texts: Sequence[str]) -> None:
    """Stop if a server does not score as ours does."""
    rewards = {name: server.rewards(texts) for name, server in servers.items()}
    if any(np.abs(np.subtract(theirs, rewards["guerdon"])).max() > 1e-3 for theirs in rewards.values()):
        raise SystemExit(f"Rewards must be the same on all sides, got {rewards}.")


# ---- Numbers -------------------------------------------------------------------------------------------------------


def add(values: Values, name: str, numbers: dict[str, Any]) -> None:
    """Append the numbers of one round of one contestant, and print them."""
    if "error" in numbers:
        raise SystemExit(f"{name}: {numbers['error']}")
    print(f"{name}: { ({kind: round(value, 2) for kind, value in numbers.items()}) }", file=sys.stderr)
    for kind, value in numbers.items():
        values[name].setdefault(kind, []).append(value)


def summary(values: Values, threads: int) -> dict[str, Any]:
    """Spreads of each server, and ratios of ours to the others and to scoring without one."""
    spreads = {name: {kind: spread(v) for kind, v in of.items()} for name, of in values.items()}
    ours, others = spreads["guerdon"], {name: of for name, of in spreads.items() if name != "guerdon"}
    return {
        "machine": machine(threads),
        **spreads,
        **{
            f"to_{name}": {kind: ratio(ours[kind], of[kind]) for kind in UNITS if kind in of}
            for name, of in others.items()
        },
        "idle_outside_the_model_ms": spread(
            np.subtract(values["guerdon"]["idle"], values["guerdon"][IN_MODEL]).tolist()
        ),
    }


def show(case: dict[str, Any]) -> None:
    """Print a table."""
    others = [name for name in ("vllm", "plain", "offline") if name in case]
    print_table(
        ["", "unit", "guerdon", *others, *(f"to {name}" for name in others)],
        [
            [
                kind, unit, *(shown(case[name].get(kind)) for name in ("guerdon", *others)),
                *(shown(case[f"to_{name}"].get(kind)) for name in others),
            ]
            for kind, unit in (UNITS | {IN_MODEL: "ms"}).items()
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
