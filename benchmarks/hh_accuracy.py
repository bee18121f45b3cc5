"""Held-out accuracy on human preferences (HH), compared with TRL's RewardTrainer: same start, token ids, data and settings.

    python benchmarks/hh_accuracy.py --data hh_pairs.jsonl.gz --base DIR --peer-python PEER/bin/python

Both sides start from the same weights with the same head, see the same token ids once, and choose their learning rate from the
same list by the loss on pairs cut from the training split. Trained models are scored by the same code. The test split is used
once per side. Each run, score and table is cached under --work by its settings: a rerun does only what is missing, and
`--side ours`, `--side trl` and `--side report` may run one after another or in two terminals.

Writes benchmarks/results/hh_accuracy.json and prints a table. On two CPU cores it takes about an hour.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measure import HEAP, processor

from guerdon.config import ModelOptions, TrainOptions
from guerdon.contracts import (
    Comparison,
    Estimate,
    Preference,
    Response,
    as_prompt,
    digest,
    digest_all,
)

HERE = Path(__file__).resolve().parent
MAX_LENGTH = 512
BATCH, WARMUP, CLIP, CENTERING, SEED = 8, 0.05, 1.0, 0.01, 0
MICRO_PAIRS, MICRO_TOKENS = (
    2,
    1024,
)  # small forward passes are fastest on a CPU for both sides, and no result depends on them
BINS, DRAWS = 15, 2000


def main() -> None:
    """Train and score what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="HH pairs: rows with prompt, chosen, rejected, split")
    parser.add_argument("--base", default="starter", help="directory of the starter model")
    parser.add_argument("--peer-python", type=Path, help="python of the peer's environment (peers/README.md)")
    parser.add_argument("--side", choices=["all", "ours", "trl", "report"], default="all")
    parser.add_argument("--train", type=int, default=480, help="training pairs")
    parser.add_argument("--tune", type=int, default=160, help="the learning rate is chosen on the first TUNE of them")
    parser.add_argument("--judge", type=int, default=160, help="pairs cut from train whose loss chooses it")
    parser.add_argument(
        "--calibrate", type=int, default=200, help="pairs cut from train that the temperature is fitted to"
    )
    parser.add_argument("--test", type=int, default=0, help="test pairs; 0 is all that fit")
    parser.add_argument("--lrs", default="1e-5,3e-5,1e-4", help="tried in order until one is worse")
    parser.add_argument("--precision", choices=["autocast", "float32"], default="autocast", help="of training")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "guerdon_hh_accuracy")
    parser.add_argument("--out", type=Path, default=HERE / "results/hh_accuracy.json")
    a = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in HEAP.items()):  # malloc reads them before Python starts
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | HEAP)
    import torch

    torch.set_num_threads(a.threads)
    bench = Bench(a)
    for side in ("ours", "trl") if a.side == "all" else () if a.side == "report" else (a.side,):
        lr = bench.best_lr(side)
        for part in ("calibrate", "test"):
            bench.margins(side, lr, bench.parts["train"], part)
    if a.side in ("all", "report"):
        bench.report()


class Bench:
    """The data in parts, the model to start from, and the cache of runs."""

    def __init__(self, a: argparse.Namespace) -> None:
        self.a = a
        self.model_options = ModelOptions(
            base=a.base,
            device="cpu",
            max_length=MAX_LENGTH,
            autocast="bfloat16" if a.precision == "autocast" else "no",
        )
        self.lrs = [float(lr) for lr in a.lrs.split(",")]
        self.parts, self.counts = cut(a, self.model_options)
        self.work: Path = a.work
        self.start = self.work / "start"
        if not (self.start / "config.json").is_file():
            from guerdon.models.directory.loading import create_reward_model
            from guerdon.models.directory.saving import save

            save(create_reward_model(self.model_options, seed=SEED), self.start)

    def best_lr(self, side: str) -> float:
        """The learning rate with the lowest held-out loss on pairs that neither calibrate nor test."""
        losses = self.loss_by_lr(side)
        return min(losses, key=lambda lr: losses[lr])

    def loss_by_lr(self, side: str) -> dict[float, float]:
        """Held-out loss of each learning rate, nats per pair, in order until one is worse than the one before."""
        small, losses = self.parts["train"][: self.a.tune], list[float]()
        for lr in self.lrs:
            losses.append(float(np.logaddexp(0, -self.margins(side, lr, small, "judge")).mean()))
            if len(losses) > 1 and losses[-1] > losses[-2]:
                break
        return dict(zip(self.lrs, losses, strict=False))

    def margins(self, side: str, lr: float, train: Sequence[Comparison], part: str) -> np.ndarray:
        """Margin of each pair of a part, in nats, by the model that this side trained; from the cache if it is there."""
        folder = self.run(side, lr, train)
        pairs = self.parts[part]
        path = folder / f"margins_{part}_{digest_all(c.id for c in pairs)}.npz"
        if not path.is_file():
            margin = score(folder / "model", self.model_options, pairs)
            np.savez(path, margin=margin)
        return np.asarray(np.load(path)["margin"])

    def run(self, side: str, lr: float, train: Sequence[Comparison]) -> Path:
        """The folder of a finished training run, with model/ and run.json."""
        settings = [side, lr, self.a.base, self.a.precision, BATCH, WARMUP, CLIP, CENTERING, SEED, MAX_LENGTH]
        folder = self.work / f"{side}_{lr:g}_{len(train)}_{digest([*settings, digest_all(c.id for c in train)], 8)}"
        if not (folder / "run.json").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            print(f"{side}: {len(train)} pairs at {lr:g}", flush=True)
            (self.run_ours if side == "ours" else self.run_trl)(folder, lr, train)
        return folder

    def run_ours(self, folder: Path, lr: float, train: Sequence[Comparison]) -> None:
        """Train with Guerdon."""
        from guerdon.models.directory.loading import load_reward_model
        from guerdon.models.directory.saving import save
        from guerdon.training import fit

        model = load_reward_model(self.start, self.model_options)
        wall, cpu = time.perf_counter(), time.process_time()
        result = fit(model, train, train_options(lr))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        save(result.model, folder / "model")
        facts = {
            "pairs": len(train),
            "steps": result.steps,
            "seconds": wall,
            "cpu_seconds": cpu,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "versions": versions(),
        }
        (folder / "run.json").write_text(json.dumps(facts, indent=1) + "\n")

    def run_trl(self, folder: Path, lr: float, train: Sequence[Comparison]) -> None:
        """Train with TRL, in its own environment, on the ids that Guerdon would train on."""
        from guerdon.models.directory.loading import create_reward_model
        from guerdon.training.dataset import tokenize_comparisons

        if not self.a.peer_python:
            raise SystemExit("--peer-python must be given to run TRL, got nothing. See benchmarks/peers/README.md.")
        text = create_reward_model(self.model_options.model_copy(update={"base": str(self.start)})).text
        table = tokenize_comparisons(text, train, train_options(lr))
        rows = [[table.tokens(2 * c).tolist(), table.tokens(2 * c + 1).tolist()] for c in range(len(table))]
        ids = folder / "ids.json"
        ids.write_text(json.dumps({"train": [{"chosen_ids": c, "rejected_ids": r} for c, r in rows]}))
        settings = {
            "lr": lr,
            "batch": BATCH,
            "micro": MICRO_PAIRS,
            "warmup": WARMUP,
            "clip": CLIP,
            "centering": CENTERING,
        }
        settings |= {"seed": SEED, "threads": self.a.threads, "precision": self.a.precision}
        flags = [f"--{name}={value}" for name, value in settings.items()]
        peer = [str(self.a.peer_python), str(HERE / "peers/trl_hh.py")]
        trained = folder / "model"
        subprocess.run([*peer, f"--ids={ids}", f"--start={self.start}", f"--out={trained}", *flags], check=True)
        (trained / "run.json").replace(folder / "run.json")

    def report(self) -> None:
        """Evaluate the cached margins; write JSON and print a table."""
        sides = {side: self.measure(side) for side in ("ours", "trl")}
        results = {
            "what": "accuracy on HH test pairs; identical training data, start, token ids, epochs and batch size",
            "sides": {side: measured["report"] for side, measured in sides.items()},
            "paired": paired(sides["ours"]["margin"], sides["trl"]["margin"], self.groups("test")),
            "anchor_longer_wins": self.longer_wins(),
            "data": self.counts
            | {name: len(part) for name, part in self.parts.items()}
            | {"tune": self.a.tune, "test_hash": digest_all(c.id for c in self.parts["test"])},
            "settings": {
                "base": Path(self.a.base).name,
                "lrs": self.lrs,
                "lr_chosen_by": "loss on the judge part after one pass over the tune part",
                "epochs": 1,
                "batch": BATCH,
                "micro": {"ours": f"{MICRO_TOKENS} padded tokens", "trl": f"{MICRO_PAIRS} pairs, length-grouped"},
                "schedule": "cosine to 0",
                "warmup": WARMUP,
                "clip": CLIP,
                "weight_decay": 0.0,
                "centering": CENTERING,
                "precision": f"{self.a.precision} (bfloat16 products over float32 weights)"
                if self.a.precision == "autocast"
                else "float32",
                "scored_in": self.model_options.autocast,
                "threads": self.a.threads,
                "seed": SEED,
                "intervals": f"95 %, {DRAWS} bootstrap draws by prompt group",
            },
            "machine": {"processor": processor(), "cores": os.cpu_count()},
        }
        self.a.out.parent.mkdir(parents=True, exist_ok=True)
        self.a.out.write_text(json.dumps(results, indent=1) + "\n")
        show(results)

    def measure(self, side: str) -> dict[str, Any]:
        """One side's test margins and their numbers, before and after a temperature fitted to the calibrate part."""
        from guerdon.formulas.calibration import fit_temperature

        lr, train = self.best_lr(side), self.parts["train"]
        held, margin = self.margins(side, lr, train, "calibrate"), self.margins(side, lr, train, "test")
        temperature = fit_temperature(held, np.ones_like(held))
        run = json.loads((self.run(side, lr, train) / "run.json").read_text())
        report = {
            "lr": lr,
            "held_out_loss_by_lr": {f"{lr:g}": loss for lr, loss in self.loss_by_lr(side).items()},
            "accuracy": numbers(accuracy(margin, self.groups("test"))),
            "accuracy_by_source": self.by_source(margin),
            "accuracy_on_calibrate": numbers(accuracy(held, self.groups("calibrate"))),
            "temperature": temperature,
            "before": self.odds(margin),
            "after": self.odds(margin / temperature),
            "run": {k: run[k] for k in ("pairs", "steps", "seconds", "cpu_seconds", "peak_bytes", "versions")},
        }
        return {"margin": margin, "report": report}

    def odds(self, margin: np.ndarray) -> dict[str, Any]:
        """NLL, Brier, calibration error and its mean under perfect calibration, on the test part."""
        from guerdon.formulas.calibration import ece_null, ece_p_value
        from guerdon.models.calibration_error import measure_odds

        ones, groups = np.ones_like(margin), np.array(self.groups("test"))
        estimates = measure_odds(margin, ones, ones, groups, bins=BINS, draws=DRAWS, seed=SEED)
        null = ece_null(margin, bins=BINS, seed=SEED)
        return {name: numbers(e) for name, e in estimates.items()} | {
            "ece_if_calibrated": float(null.mean()),
            "ece_p_value": ece_p_value(estimates["ece"].value, null),
        }

    def by_source(self, margin: np.ndarray) -> dict[str, Any]:
        """Accuracy on each of the data's sources."""
        sources = np.array([c.source for c in self.parts["test"]])
        groups = np.array(self.groups("test"))
        return {
            str(s): numbers(accuracy(margin[sources == s], groups[sources == s].tolist())) for s in np.unique(sources)
        }

    def longer_wins(self) -> dict[str, Any]:
        """Accuracy of preferring the response with more characters."""
        lengths = [[len(r.text) for r in c.responses] for c in self.parts["test"]]
        return numbers(accuracy(np.array([a - b for a, b in lengths], dtype=float), self.groups("test")))

    def groups(self, part: str) -> list[str]:
        """Prompt group of each pair."""
        return [c.group for c in self.parts[part]]


def cut(a: argparse.Namespace, options: ModelOptions) -> tuple[dict[str, list[Comparison]], dict[str, int]]:
    """The parts, disjoint by prompt group, and the numbers of rows left out by reason. The first response is the chosen one."""
    from transformers import AutoTokenizer

    from guerdon.models.chat import ChatTokenizer
    from guerdon.models.directory.loading import resolve

    with gzip.open(a.data, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    text = ChatTokenizer(AutoTokenizer.from_pretrained(resolve(options.base)), max_length=10**9)
    pairs: dict[str, list[Comparison]] = {"train": [], "test": []}
    counts = {f"{split}_{reason}": 0 for split in pairs for reason in ("rows", "identical", "too_long")}
    for row in rows:
        split, replies = row["split"], (row["chosen"], row["rejected"])
        counts[f"{split}_rows"] += 1
        if replies[0] == replies[1]:
            counts[f"{split}_identical"] += 1
            continue
        prompt = as_prompt(row["prompt"])
        if max(len(e.ids) for e in text.encode([prompt, prompt], list(replies))) > MAX_LENGTH:
            counts[f"{split}_too_long"] += 1
            continue
        responses = (Response(replies[0]), Response(replies[1]))
        best_first = Preference(groups=((0,), (1,)))
        pairs[split].append(Comparison(prompt, responses, best_first, source=row["source"], id=row["id"]))
    kept, used = [], {c.group for c in pairs["test"]}
    for i in np.random.default_rng(SEED).permutation(len(pairs["train"])):
        pair = pairs["train"][i]
        if pair.group not in used:  # one pair per prompt, so that no parts share one
            used.add(pair.group)
            kept.append(pair)
    counts["train_left"], counts["test_left"] = len(kept), len(pairs["test"])
    middle, end = a.calibrate + a.judge, a.calibrate + a.judge + a.train
    assert end <= len(kept), f"{end} training pairs needed, {len(kept)} available"
    parts = {"calibrate": kept[: a.calibrate], "judge": kept[a.calibrate : middle], "train": kept[middle:end]}
    order = np.random.default_rng(SEED).permutation(len(pairs["test"]))
    return parts | {"test": [pairs["test"][i] for i in order][: a.test or None]}, counts


def train_options(lr: float) -> TrainOptions:
    """Guerdon's settings; peers/trl_hh.py has the same by TRL's names."""
    return TrainOptions(
        lr=lr,
        epochs=1,
        batch_size=BATCH,
        micro_tokens=MICRO_TOKENS,
        schedule="cosine",
        warmup=WARMUP,
        clip=CLIP,
        centering=CENTERING,
        seed=SEED,
        save_every=0,
    )


def score(folder: Path, options: ModelOptions, pairs: Sequence[Comparison]) -> np.ndarray:
    """Margin of each pair by a saved model, whichever side trained it: one loader, one readout, right-padded by length."""
    from guerdon.models.directory.loading import load_reward_model
    from guerdon.models.scored_pairs import score_comparisons

    model = load_reward_model(folder, options)
    model.batch_tokens = 2048
    return score_comparisons(model, pairs).margin


def accuracy(margin: np.ndarray, groups: Sequence[str]) -> Estimate:
    """Share of pairs ordered correctly, equal scores counting half, with an interval by prompt group."""
    from guerdon.formulas.clustered import clustered_share

    return Estimate(*clustered_share(right(margin), groups))


def paired(ours: np.ndarray, theirs: np.ndarray, groups: Sequence[str]) -> dict[str, Any]:
    """Guerdon minus TRL on the same pairs, with a test that flips the signs of whole groups."""
    from guerdon.formulas.clustered import clustered_difference, clustered_mean, sign_flip_p_value

    only_ours, only_theirs = int(((ours > 0) & (theirs <= 0)).sum()), int(((ours <= 0) & (theirs > 0)).sum())
    difference = Estimate(*clustered_difference(right(ours), right(theirs), groups))
    our_loss, their_loss = np.logaddexp(0, -ours), np.logaddexp(0, -theirs)
    return {
        "accuracy_difference": numbers(difference),
        "only_ours_right": only_ours,
        "only_trl_right": only_theirs,
        "equal_accuracy_p": sign_flip_p_value(right(ours) - right(theirs), groups),
        "nll_difference": numbers(Estimate(*clustered_mean(our_loss - their_loss, groups))),
        "margin_correlation": float(np.corrcoef(ours, theirs)[0, 1]),
    }


def right(margin: np.ndarray) -> np.ndarray:
    """1 where the chosen response scores higher, 0.5 where neither does."""
    return np.asarray((margin > 0) + 0.5 * (margin == 0), dtype=np.float64)


def numbers(estimate: Estimate) -> dict[str, float]:
    """An estimate as JSON."""
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def versions() -> dict[str, str]:
    """Installed versions."""
    import torch
    import transformers

    return {"transformers": transformers.__version__, "torch": torch.__version__, "python": platform.python_version()}


def show(results: dict[str, Any]) -> None:
    """Print the table."""

    def cell(e: dict[str, float]) -> str:
        return f"{e['value']:.3f} [{e['low']:.3f}, {e['high']:.3f}]"

    print(f"{'':28}{'Guerdon':>26}{'TRL':>26}")
    rows: dict[str, Callable[[dict[str, Any]], str]] = {
        "learning rate": lambda s: f"{s['lr']:g}",
        "test accuracy": lambda s: cell(s["accuracy"]),
        "NLL before": lambda s: cell(s["before"]["nll"]),
        "NLL after": lambda s: cell(s["after"]["nll"]),
        "ECE before": lambda s: cell(s["before"]["ece"]),
        "ECE after": lambda s: cell(s["after"]["ece"]),
        "ECE if calibrated": lambda s: f"{s['after']['ece_if_calibrated']:.3f}",
        "temperature": lambda s: f"{s['temperature']:.2f}",
        "CPU seconds of training": lambda s: f"{s['run']['cpu_seconds']:.0f}",
        "peak memory, GiB": lambda s: f"{s['run']['peak_bytes'] / 2**30:.1f}",
    }
    for name, value in rows.items():
        print(f"{name:28}{value(results['sides']['ours']):>26}{value(results['sides']['trl']):>26}")
    difference = results["paired"]
    print(f"accuracy, ours - TRL: {cell(difference['accuracy_difference'])}, p {difference['equal_accuracy_p']:.2f}")
    print(f"longer wins: {cell(results['anchor_longer_wins'])}; {results['data']['test']} test pairs")


if __name__ == "__main__":
    main()
