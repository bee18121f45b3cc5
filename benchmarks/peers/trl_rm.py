"""One timed run of TRL's RewardTrainer for ../rm_training.py, which writes the job. Run with the peer's Python (README.md here).

    cd benchmarks && PEER/bin/python -m peers.trl_rm --job job.json

The job holds the start directory, pairs with their token ids in the order to visit, the pairs to warm up on, the batch, the
precision (fp32, autocast, bf16) and the setting: random, grouped or defaults, each with "/m" for m pairs per forward pass.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import measure

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")


def main() -> None:
    """Run the job of --job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=Path, required=True, help="written by rm_training.py")
    measure.answer(parser.parse_args().job, run)


def run(job: measure.Job) -> measure.Answer:
    """Load, warm up, load again, train on all pairs; seconds are those of the optimizer steps."""
    import datasets  # noqa: F401  # imported by training: part of the baseline's memory
    import peft  # noqa: F401
    import torch
    import transformers
    import trl

    assert trl.RewardTrainer, "a lazy module, imported by its name"
    torch.set_num_threads(job["threads"])
    transformers.utils.logging.set_verbosity_error()
    model = load(job)
    measure.touch(model)
    memory = measure.Memory()
    with tempfile.TemporaryDirectory() as folder:
        if job["warm"]:
            make_trainer(job, model, job["warm"], folder).train()
            del model
            gc.collect()
            model = load(job)
        trainer = make_trainer(job, model, job["pairs"], folder)
        clock, padded = Clock(), TokenCounter(trainer.data_collator)
        trainer.add_callback(clock.callback())
        trainer.data_collator = padded
        wall, cpu = time.perf_counter(), time.process_time()
        trainer.train()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "seconds": clock.times[-1] - clock.times[0],
        "call_seconds": wall,
        "cpu_seconds": cpu,
        "step_seconds": [b - a for a, b in zip(clock.times, clock.times[1:], strict=False)],
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "padded_tokens": padded.tokens,
        "versions": {"trl": trl.__version__, "transformers": transformers.__version__, "torch": torch.__version__},
        **memory.report(),
    }


def load(job: measure.Job) -> Any:
    """The start, with weights in the job's precision."""
    import torch
    from transformers import AutoModelForSequenceClassification

    dtype = torch.bfloat16 if job["precision"] == "bf16" else torch.float32
    return AutoModelForSequenceClassification.from_pretrained(job["start"], dtype=dtype)


def make_trainer(job: measure.Job, model: Any, pairs: list[dict[str, Any]], folder: str) -> Any:
    """TRL's trainer on pretokenized pairs, in the job's setting."""
    import torch
    import trl
    from datasets import Dataset
    from transformers import AutoTokenizer

    setting, _, micro = job["setting"].partition("/")
    passes = int(micro or job["batch"])
    grouped, defaults = setting == "grouped", setting == "defaults"
    config = trl.RewardConfig(
        output_dir=folder,
        per_device_train_batch_size=passes,
        gradient_accumulation_steps=job["batch"] // passes,
        num_train_epochs=1,
        learning_rate=job["lr"],
        lr_scheduler_type="constant",
        max_grad_norm=job["clip"],
        weight_decay=0.0,
        optim="adamw_torch_fused",
        adam_beta2=0.999,
        seed=job["seed"],
        center_rewards_coefficient=job["centering"],
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=job.get("cpu", True),
        bf16=job["precision"] == "autocast",
        gradient_checkpointing=defaults,
        max_length=None,  # the benchmark has left longer pairs out
        # "sequential" keeps the order of the pairs, which is the random order that Guerdon visits too
        train_sampling_strategy="group_by_length" if grouped else "sequential",
        remove_unused_columns=not grouped,  # the length column must survive
        dataloader_pin_memory=False,
    )
    rows = [{"chosen_ids": pair["ids"][0], "rejected_ids": pair["ids"][1]} for pair in pairs]
    data = Dataset.from_list(rows)
    if grouped:
        data = data.add_column("length", [max(map(len, pair["ids"])) for pair in pairs])
    torch.manual_seed(job["seed"])  # for the adapters: the same initial values as Guerdon's
    return trl.RewardTrainer(
        model=model,
        args=config,
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(job["start"]),
        peft_config=adapters(job, model),
    )


def adapters(job: measure.Job, model: Any) -> Any:
    """LoRA on every linear layer of the backbone; the head trains in full."""
    if not job["lora"]:
        return None
    import torch
    from peft import LoraConfig

    linear = {n.rsplit(".", 1)[-1] for n, m in model.base_model.named_modules() if isinstance(m, torch.nn.Linear)}
    return LoraConfig(
        r=job["lora"]["rank"],
        lora_alpha=job["lora"]["alpha"],
        target_modules=sorted(linear),
        task_type="SEQ_CLS",
        modules_to_save=["score"],
    )


class Clock:
    """Times at which training began and each optimizer step ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def callback(self) -> Any:
        """A transformers callback that ticks this clock."""
        from transformers import TrainerCallback

        def tick(*_: Any, **__: Any) -> None:
            self.times.append(time.perf_counter())

        return type("Ticks", (TrainerCallback,), {"on_train_begin": tick, "on_step_end": tick})()


class TokenCounter:
    """A collator that counts the tokens of its batches, padding included."""

    def __init__(self, collate: Any) -> None:
        self.collate, self.tokens = collate, 0

    def __call__(self, examples: list[dict[str, Any]]) -> Any:
        """A batch."""
        batch = self.collate(examples)
        self.tokens += batch["input_ids"].numel()
        return batch


if __name__ == "__main__":
    main()
