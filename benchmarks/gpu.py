"""Training and scoring on one GPU, compared with TRL's RewardTrainer and padded transformers, with models of common shapes.

    python benchmarks/gpu.py --data hh_pairs.jsonl.gz --model DIR --shapes 1.5b,7b

Weights are random (speed does not depend on them), in bfloat16; texts are real, rendered and tokenized by DIR's chat template and
tokenizer. Everything runs in this process, which needs TRL beside Guerdon (without it, Guerdon only).

Training: one pass over the same pairs, the same optimizer steps; full (AdamW; Guerdon keeps float32 master weights and moments,
TRL's are bfloat16 like its weights) or LoRA of rank 16 on every linear layer. TRL's batches are grouped by length, without
checkpointing, with sdpa. Each run warms up on one step.

Scoring: 16 candidates of one prompt, and single replies of mixed length, compared with right-padded batches sorted by length.

Share of the limit (and of the chip's peak, --peak) = FLOP per second on unique tokens / that of plain bfloat16 products at the
model's shapes. With P weights in linear layers and A in adapters a token costs 6 P FLOP in full training, 4 P + 6 A with LoRA and
2 P in scoring; attention, norms, the optimizer and recomputation count as time but not as FLOP.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import numpy as np
import rows
import torch
from measure import ratio, spread

from guerdon.config import ModelOptions, TrainOptions
from guerdon.models.card import Card
from guerdon.models.chat import ChatTokenizer, Encoded, ensure_pad_token
from guerdon.models.engine.backbone import batch_by_length, pad
from guerdon.models.engine.classifier import add_adapters, reward_head
from guerdon.models.engine.pretrained import read_tokenizer
from guerdon.models.engine.tree_attention import ATTENTION_NAME
from guerdon.models.reward_model import ScalarNetwork, ScalarRewardModel, init_head
from guerdon.progress import set_quiet
from guerdon.training.loop import fit

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
    "1.5b": {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12},
    "7b": {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28},
}
KEY_HEADS = {"tiny": 2, "1.5b": 2, "7b": 4}
RANK, LR, SEED = 16, 1e-5, 0


def main() -> None:
    """Run every requested case; the result of a case that runs out of memory is its error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", default=[], help="rows with prompt, chosen and rejected")
    parser.add_argument(
        "--model", type=Path, required=True, help="a directory, for its tokenizer and chat template only"
    )
    parser.add_argument("--shapes", default="1.5b,7b", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--cases", default="score,full,lora", help="what to do with each shape")
    parser.add_argument("--n", type=int, default=512, help="pairs")
    parser.add_argument("--batch", type=int, default=64, help="pairs per optimizer step")
    parser.add_argument("--max-length", type=int, default=1024, help="longer pairs are left out")
    parser.add_argument("--micro-tokens", type=int, default=8192, help="tokens per pass of Guerdon")
    parser.add_argument("--passes", default="8,16", help="pairs per pass of TRL")
    parser.add_argument("--repeats", type=int, default=2, help="interleaved runs of each contestant")
    parser.add_argument("--peak", type=float, default=989, help="the chip's peak TFLOP/s")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a training option of Guerdon")
    parser.add_argument("--profile", action="store_true", help="also print the kernels of a pass")
    parser.add_argument("--out", type=Path, default=measure.HERE / "results" / "gpu.json", help="JSON")
    parser.add_argument("--smoke", action="store_true", help="a tiny shape on the CPU, to see that the script runs")
    a = parser.parse_args()
    if a.smoke:
        a.shapes, a.n, a.batch, a.max_length, a.passes, a.repeats = "tiny", 4, 2, 128, "2", 1
    set_quiet()
    a.device = torch.device("cpu" if a.smoke else "cuda")
    tokenizer = read_tokenizer(str(a.model), ModelOptions())
    ensure_pad_token(tokenizer)
    text = ChatTokenizer(tokenizer, 10**9)
    source = rows.source_rows(a, 40)
    pairs = rows.pairs(source, text, a.n, a.max_length, SEED)
    for shape in measure.names(a.shapes):
        for case in measure.names(a.cases):
            start_time = time.perf_counter()
            try:
                result = score(a, shape, text, pairs) if case == "score" else train(a, shape, text, pairs, case)
            except torch.OutOfMemoryError as error:
                result = {"error": str(error).splitlines()[0][:300]}
            free()
            name = f"{shape}/{case}" + "".join(f"/{item}" for item in a.set)
            measure.keep(a.out, "one GPU", {name: result | {"device": device_name(a), "torch": torch.__version__}})
            print(f"{name} ({time.perf_counter() - start_time:.0f} s): {json.dumps(result, indent=1)}", flush=True)


def build_classifier(a: argparse.Namespace, shape: str, text: ChatTokenizer, *, float32_head: bool = True) -> Any:
    """A Qwen2-shaped classifier with random bfloat16 weights on the device."""
    from transformers import AutoModelForSequenceClassification, Qwen2Config

    config = Qwen2Config(
        vocab_size=max(151936 if shape != "tiny" else 0, len(text.tokenizer)),
        num_key_value_heads=KEY_HEADS[shape],
        max_position_embeddings=32768,
        num_labels=1,
        pad_token_id=text.tokenizer.pad_token_id,
        use_cache=False,
        **SHAPES[shape],
    )
    torch.manual_seed(SEED)
    with a.device:
        classifier = AutoModelForSequenceClassification.from_config(config, dtype=torch.bfloat16)
    if float32_head:
        reward_head(classifier).float()
        init_head(reward_head(classifier), SEED)
    return classifier


def guerdon_model(a: argparse.Namespace, classifier: Any, text: ChatTokenizer, case: str) -> ScalarRewardModel:
    """The classifier as Guerdon's model, with adapters for LoRA."""
    if case == "lora":
        classifier = add_adapters(classifier, ModelOptions(lora_rank=RANK, lora_alpha=2 * RANK), SEED)
    network = ScalarNetwork(classifier, encoder=False).to(a.device)
    return ScalarRewardModel(network, text, Card(max_length=10**9))


# ---- Training ----------------------------------------------------------------------------------------------------


def train(a: argparse.Namespace, shape: str, text: ChatTokenizer, pairs: list[rows.Pair], case: str) -> dict[str, Any]:
    """Guerdon, then TRL with each size of pass, each after a step to warm up."""
    tokens = rows.count_tokens([pair["ids"] for pair in pairs])
    classifier = build_classifier(a, shape, text)
    weights, adapters, _ = sizes(classifier)
    flop = 4.0 * weights + 6.0 * adapters if case == "lora" else 6.0 * weights
    top = limit(a, classifier, 8192, backward=True)
    runs: dict[str, list[dict[str, float]]] = {}
    for turn in range(a.repeats + 1):
        some = pairs[: a.batch] if turn == 0 else pairs
        classifier, result = train_ours(a, classifier, text, some, case)
        print(f"ours, {len(some)} pairs: {result}", flush=True)
        if turn:
            runs.setdefault("ours", []).append(result)
    if a.profile:
        profile(lambda: train_ours(a, classifier, text, pairs[: a.batch], case))
    del classifier
    free()
    try:
        import trl  # noqa: F401
    except ImportError:
        passes: list[str] = []
    else:
        passes = measure.names(a.passes)
    for size in passes:
        classifier = build_classifier(a, shape, text, float32_head=False)
        for turn in range(a.repeats + 1):
            some = pairs[: a.batch] if turn == 0 else pairs
            try:
                classifier, result = train_trl(a, classifier, some, case, size)
            except torch.OutOfMemoryError as error:
                result = {"error": str(error)[:200]}  # type: ignore[dict-item]
            print(f"trl grouped/{size}, {len(some)} pairs: {result}", flush=True)
            if turn or "error" in result:
                runs.setdefault(f"trl grouped/{size}", []).append(result)
            if "error" in result:
                break
        del classifier
        free()
    table = {}
    for name, some_runs in runs.items():
        if "error" in some_runs[0]:
            table[name] = some_runs[0]
            continue
        rate = spread([len(pairs) / run["seconds"] for run in some_runs])
        flops = rate["median"] * tokens["unique"] / len(pairs) * flop
        table[name] = {
            "pairs_a_second": rate,
            "unique_tokens_a_second": rate["median"] * tokens["unique"] / len(pairs),
            "share_of_limit": flops / top,
            "mfu": flops / (a.peak * 1e12),
            "peak_gib": max(run["peak"] for run in some_runs) / 2**30,
            "losses": [run["loss"] for run in some_runs],
        }  # fmt: skip
    against = {
        name: ratio(table["ours"]["pairs_a_second"], run["pairs_a_second"])
        for name, run in table.items()
        if name != "ours" and "error" not in run
    }
    settings = {"n": len(pairs), "batch": a.batch, "micro_tokens": a.micro_tokens, "tokens": tokens, "set": a.set}
    return {"settings": settings, "limit_tflops": top / 1e12, "runs": table, "ours_over": against}


def train_ours(
    a: argparse.Namespace, classifier: Any, text: ChatTokenizer, pairs: list[rows.Pair], case: str
) -> tuple[Any, dict[str, float]]:
    """One pass; returns the classifier with adapters merged."""
    model = guerdon_model(a, classifier, text, case)
    options = TrainOptions(
        lr=LR, batch_size=a.batch, schedule="constant", warmup=0.0, save_every=0, micro_tokens=a.micro_tokens
    )
    for item in a.set:
        name, value = item.split("=")
        options = options.model_copy(update={name: json.loads(value)})
    model.network.backbone.choose_mode()
    reset_peak(a)
    with tempfile.TemporaryDirectory() as folder:
        result = fit(model, [rows.comparison(pair) for pair in pairs], options, folder=Path(folder) / "run")
        steps = [json.loads(line) for line in (Path(folder) / "run/metrics.jsonl").read_text().splitlines()]
    backbone = result.model.network.backbone
    assert backbone.mode == "prefix_tree", backbone.mode
    backbone.use_padding()  # removes its hooks
    assert result.model.device.type == a.device.type
    return result.model.network.classifier, {
        "seconds": steps[-1]["seconds"],
        "peak": peak(a),
        "loss": steps[-1]["loss"],
    }


def train_trl(
    a: argparse.Namespace, classifier: Any, pairs: list[rows.Pair], case: str, size: str
) -> tuple[Any, dict[str, float]]:
    """One pass of TRL's trainer; returns the classifier."""
    from peers import trl_rm

    lora = {"rank": RANK, "alpha": 2 * RANK} if case == "lora" else None
    job = {
        "setting": f"grouped/{size}", "precision": "bf16", "batch": a.batch, "lr": LR, "clip": 1.0, "seed": SEED,
        "centering": 0.01, "lora": lora, "start": str(a.model), "cpu": a.smoke,
    }  # fmt: skip
    clock = trl_rm.Clock()
    reset_peak(a)
    with tempfile.TemporaryDirectory() as folder:
        trainer = trl_rm.make_trainer(job, classifier, pairs, folder)
        trainer.add_callback(clock.callback())
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    result = {"seconds": clock.times[-1] - clock.times[0], "peak": peak(a), "loss": losses[-1]}
    trained = trainer.model.unload() if lora else classifier
    trainer.accelerator.free_memory()
    return trained, result


# ---- Scoring -----------------------------------------------------------------------------------------------------


def score(a: argparse.Namespace, shape: str, text: ChatTokenizer, pairs: list[rows.Pair]) -> dict[str, Any]:
    """Candidates and mixed replies, Guerdon and padded rows in turn, on the same weights."""
    classifier = build_classifier(a, shape, text)
    weights = sizes(classifier)[0]
    top = limit(a, classifier, 8192, backward=False)
    model = guerdon_model(a, classifier, text, "score")
    model.batch_tokens = a.micro_tokens
    backbone = model.network.backbone
    backbone.choose_mode()
    rng, vocabulary = np.random.default_rng(SEED), len(text.tokenizer)

    def candidates(prompt: int, reply: int, prompts: int) -> list[np.ndarray]:
        texts = []
        for _ in range(prompts):
            first = rng.integers(5, vocabulary, prompt)
            texts += [np.concatenate([first, rng.integers(5, vocabulary, reply)]) for _ in range(16)]
        return texts

    few = 1 if a.smoke else 16
    cases = {
        "16 x (500 + 65)": candidates(500, 65, few),
        "16 x (130 + 65)": candidates(130, 65, few),
        "replies of pairs": [np.array(ids) for pair in pairs for ids in pair["ids"]],
        "single replies": [np.array(pair["ids"][0]) for pair in pairs],
    }
    results: dict[str, Any] = {"limit_tflops": top / 1e12}
    for name, texts in cases.items():
        encoded = [Encoded(ids.astype(np.int32), False) for ids in texts]
        unique = sum(
            backbone.count_tokens([texts[i] for i in chunk])
            for chunk in backbone.split_into_batches(texts, a.micro_tokens)
        )
        seconds: dict[str, list[float]] = {"ours": [], "padded": []}
        rewards = {}
        for turn in range(a.repeats + 1):
            for contestant, work in (
                ("ours", lambda encoded=encoded: model._rewards(encoded, None)[:, 0]),
                ("padded", lambda texts=texts: score_padded(a, model, texts)),
            ):
                duration, rewards[contestant] = timed(a, work)
                if turn:
                    seconds[contestant].append(duration)
        if a.profile:
            profile(lambda encoded=encoded: model._rewards(encoded, None))
        rates = {side: spread([len(texts) / duration for duration in times]) for side, times in seconds.items()}
        results[name] = {
            "replies_a_second": rates,
            "ours_over_padded": ratio(rates["ours"], rates["padded"]),
            "unique_tokens": unique,
            "tokens": sum(map(len, texts)),
            "mfu": {
                side: rate["median"] / len(texts) * unique * 2.0 * weights / (a.peak * 1e12)
                for side, rate in rates.items()
            },
            "share_of_limit": rates["ours"]["median"] / len(texts) * unique * 2.0 * weights / top,
            "rewards_differ_by": float(np.abs(rewards["ours"] - rewards["padded"]).max()),
            "rewards_spread": float(rewards["padded"].std()),
        }  # fmt: skip
    return results


@torch.inference_mode()
def score_padded(a: argparse.Namespace, model: ScalarRewardModel, texts: list[np.ndarray]) -> np.ndarray:
    """Plain transformers: right-padded rows of similar length, sdpa, in batches of as many tokens as Guerdon's."""
    backbone = model.network.backbone
    rewards = np.zeros(len(texts))
    backbone.set_attention(backbone.native_attention)
    for batch in batch_by_length([len(ids) for ids in texts], a.micro_tokens):
        ids, mask = pad([texts[i] for i in batch], model.text.tokenizer.pad_token_id)
        hidden = backbone.base_model(input_ids=ids.to(a.device), attention_mask=mask.to(a.device), use_cache=False)
        last = hidden.last_hidden_state[torch.arange(len(batch)), mask.sum(1) - 1]
        rewards[batch] = model.network.project(last)[:, 0].float().cpu().numpy()
    backbone.set_attention(ATTENTION_NAME)
    return rewards


# ---- The machine -------------------------------------------------------------------------------------------------


def sizes(classifier: Any) -> tuple[int, int, dict[tuple[int, int], int]]:
    """Weights in the backbone's linear layers, in adapters on all of them, and the layers by shape."""
    shapes: dict[tuple[int, int], int] = {}
    for module in classifier.base_model.modules():
        if isinstance(module, torch.nn.Linear):
            shape = (module.out_features, module.in_features)
            shapes[shape] = shapes.get(shape, 0) + 1
    weights = sum(out * into * count for (out, into), count in shapes.items())
    return weights, sum(RANK * (out + into) * count for (out, into), count in shapes.items()), shapes


def limit(a: argparse.Namespace, classifier: Any, tokens: int, *, backward: bool) -> float:
    """FLOP per second of plain bfloat16 products at the model's shapes, each timed alone."""
    flop = seconds = 0.0
    for (out, into), count in sizes(classifier)[2].items():
        shapes = ((tokens, into), (out, into), (tokens, out))
        x, w, dy = (torch.randn(*shape, device=a.device, dtype=torch.bfloat16) for shape in shapes)
        products: list[Callable[[], Any]] = [lambda x=x, w=w: x @ w.t()]
        if backward:
            products += [lambda dy=dy, w=w: dy @ w, lambda dy=dy, x=x: dy.t() @ x]
        for product in products:
            product()
            seconds += count * min(timed(a, lambda p=product: [p() for _ in range(5)])[0] for _ in range(3)) / 5
            flop += count * 2.0 * tokens * out * into
    return flop / seconds


def timed(a: argparse.Namespace, work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of some work, and its result."""
    synchronize(a)
    start_time = time.perf_counter()
    result = work()
    synchronize(a)
    return time.perf_counter() - start_time, result


def synchronize(a: argparse.Namespace) -> None:
    """Wait for the device to finish."""
    if a.device.type == "cuda":
        torch.cuda.synchronize()


def profile(work: Callable[[], Any]) -> None:
    """Print the kernels that took most of the time."""
    with torch.profiler.profile() as profiler:
        work()
    print(profiler.key_averages().table(sort_by="self_device_time_total", row_limit=16, max_name_column_width=70))


def reset_peak(a: argparse.Namespace) -> None:
    """Measure peak memory from here on."""
    free()
    if a.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak(a: argparse.Namespace) -> float:
    """Peak bytes in use."""
    return float(torch.cuda.max_memory_allocated()) if a.device.type == "cuda" else 0.0


def free() -> None:
    """Release memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def device_name(a: argparse.Namespace) -> str:
    """The device's name."""
    return torch.cuda.get_device_name() if a.device.type == "cuda" else "CPU"


if __name__ == "__main__":
    main()
