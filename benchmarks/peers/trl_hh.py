"""TRL's RewardTrainer on token ids that Guerdon wrote: one run, whose model is saved. Run with the peer's Python (README.md here).

In: --ids a JSON file {"train": [{"chosen_ids": [...], "rejected_ids": [...]}, ...]}, --start a directory with a
sequence-classification model and its tokenizer. Out: --out, a directory with the trained model and run.json
(seconds, CPU seconds, pairs, tokens, steps, peak memory in bytes, step losses, versions).

Settings are TRL's fastest on a CPU, not its defaults: no gradient checkpointing, length-grouped batches.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")


def main() -> None:
    """Train once; write the model and the run's numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", type=Path, required=True)
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--lr", type=float, required=True)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=8, help="pairs per optimizer step")
    parser.add_argument("--micro", type=int, default=2, help="pairs per forward pass; divides --batch")
    parser.add_argument("--warmup", type=float, default=0.05, help="share of steps")
    parser.add_argument("--schedule", default="cosine", choices=["constant", "linear", "cosine"])
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--centering", type=float, default=0.01)
    parser.add_argument("--precision", default="autocast", choices=["float32", "autocast", "bfloat16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=int, default=0, help="train on the first LIMIT pairs only; 0 is all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-save", action="store_true", help="write run.json only")
    a = parser.parse_args()

    import torch
    import transformers
    import trl
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.set_num_threads(a.threads)
    rows = json.loads(a.ids.read_text())["train"][: a.limit or None]
    dtype = torch.bfloat16 if a.precision == "bfloat16" else torch.float32
    model = AutoModelForSequenceClassification.from_pretrained(a.start, dtype=dtype)
    data = Dataset.from_list(rows)
    # length grouping needs a length column, which must not be removed
    data = data.add_column("length", [max(len(r["chosen_ids"]), len(r["rejected_ids"])) for r in rows])
    steps = -(-len(rows) // a.batch) * a.epochs
    config = trl.RewardConfig(
        output_dir=str(a.out / "trainer"),
        per_device_train_batch_size=a.micro,
        gradient_accumulation_steps=a.batch // a.micro,
        num_train_epochs=a.epochs,
        learning_rate=a.lr,
        lr_scheduler_type=a.schedule,
        warmup_steps=round(a.warmup * steps),
        max_grad_norm=a.clip,
        weight_decay=0.0,
        optim="adamw_torch_fused",
        adam_beta2=0.999,
        seed=a.seed,
        center_rewards_coefficient=a.centering or None,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        bf16=a.precision == "autocast",
        gradient_checkpointing=False,
        max_length=None,  # the benchmark has left longer pairs out
        train_sampling_strategy="group_by_length",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    tokenizer = AutoTokenizer.from_pretrained(a.start)
    trainer = trl.RewardTrainer(model=model, args=config, train_dataset=data, processing_class=tokenizer)
    wall, cpu = time.perf_counter(), time.process_time()
    trainer.train()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    a.out.mkdir(parents=True, exist_ok=True)
    if not a.no_save:
        trainer.save_model(str(a.out))
    facts = {
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in vars(a).items()},
        "versions": {"trl": trl.__version__, "transformers": transformers.__version__, "torch": torch.__version__},
        "pairs": len(rows),
        "tokens": sum(len(r["chosen_ids"]) + len(r["rejected_ids"]) for r in rows),
        "steps": trainer.state.global_step,
        "seconds": wall,
        "cpu_seconds": cpu,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "losses": [h["loss"] for h in trainer.state.log_history if "loss" in h],
    }
    (a.out / "run.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps({k: v for k, v in facts.items() if k not in ("settings", "losses")}))


if __name__ == "__main__":
    main()
