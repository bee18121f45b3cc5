"""One run of TRL's PPOTrainer for ../ppo.py, which writes the job. Run with the peer's Python (README.md here).

    cd benchmarks && PEER/bin/python -m peers.trl_ppo --job job.json

The job holds the folder of an unpacked trl 1.12.0 (it goes before the installed one), directories of policy and reward
model, token ids of prompts, the options by Guerdon's names, the precision (fp32, autocast, bf16) and the setting: `full`
trains every weight of the value model, `adapters` gives it LoRA like the policy's, each with "/m" for m replies per pass.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import measure

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TRL_EXPERIMENTAL_SILENCE="1")


def main() -> None:
    """Run the job of --job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=Path, required=True, help="written by ppo.py")
    measure.answer(parser.parse_args().job, run)


def run(job: measure.Job) -> measure.Answer:
    """Load, optimize, save the policy at each mark; the clock starts after the warm-up updates."""
    sys.path.insert(0, job["trl112"])
    import datasets  # noqa: F401  # imported by training: part of the baseline's memory
    import peft  # noqa: F401
    import torch
    import transformers
    import trl
    from trl.experimental.ppo import ppo_trainer

    torch.set_num_threads(job["threads"])
    if job["precision"] == "autocast":  # bf16=True alone does not reach this trainer's Accelerator
        os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16"
    transformers.utils.logging.set_verbosity_error()
    models = load(job)
    for model in models.values():
        if model is not None:
            measure.touch(model)
    memory = measure.Memory()
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(job, models, folder)
        clock = UpdateClock(trainer, job, ppo_trainer)
        trainer.add_callback(clock.callback())
        trainer.train()
    warm = job["warmup"]
    logs = [entry for entry in trainer.state.log_history if "objective/scores" in entry]
    versions = {"trl": trl.__version__, "transformers": transformers.__version__, "torch": torch.__version__}
    return {
        "seconds": clock.ended[-1] - clock.ended[warm],
        "update_seconds": [b - a for a, b in pairwise(clock.ended)][warm:],
        "parts": clock.parts,
        "score": [entry["objective/scores"] for entry in logs],
        "kl": [entry["objective/kl"] for entry in logs],
        "length": clock.lengths,
        "versions": versions,
        "mixed_precision": trainer.accelerator.mixed_precision,
        **memory.report(),
    }


def load(job: measure.Job) -> dict[str, Any]:
    """Policy, its reference (none with adapters: it is its own), reward model, and value model, which starts as a copy of it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    kind = {"dtype": torch.bfloat16 if job["precision"] == "bf16" else torch.float32}
    return {
        "model": AutoModelForCausalLM.from_pretrained(job["policy"], **kind),
        "ref_model": None if job["lora"] else AutoModelForCausalLM.from_pretrained(job["policy"], **kind),
        "reward_model": AutoModelForSequenceClassification.from_pretrained(job["reward"], **kind),
        "value_model": AutoModelForSequenceClassification.from_pretrained(job["reward"], **kind),
    }


def make_trainer(job: measure.Job, models: dict[str, Any], folder: str) -> Any:
    """TRL's trainer on pretokenized prompts, with the job's options."""
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    options = job["options"]
    assert options["grad_clip"] == 0, "this trainer does not clip gradients"
    setting, _, micro = job["setting"].partition("/")
    passes = min(int(micro or options["prompts"]), options["prompts"])
    config = PPOConfig(
        output_dir=folder,
        per_device_train_batch_size=passes,
        gradient_accumulation_steps=options["prompts"] // passes,
        num_mini_batches=options["minibatches"],
        num_ppo_epochs=options["epochs"],
        total_episodes=options["updates"] * options["prompts"],
        local_rollout_forward_batch_size=options["prompts"],
        response_length=options["max_tokens"],
        temperature=options["temperature"],
        stop_token="eos",
        missing_eos_penalty=options["unfinished"],
        kl_coef=options["kl_coef"],
        kl_estimator="k1",
        cliprange=options["clip"],
        cliprange_value=options["value_clip"],
        vf_coef=options["value_coef"],
        gamma=options["gamma"],
        lam=options["lam"],
        learning_rate=options["lr"],
        lr_scheduler_type="linear",
        optim="adamw_torch_fused",
        adam_epsilon=options["eps"],
        weight_decay=0.0,
        seed=options["seed"],
        num_sample_generations=0,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        bf16=job["precision"] == "autocast",
        gradient_checkpointing=False,
        dataloader_pin_memory=False,
    )
    torch.manual_seed(options["seed"])  # for the adapters
    if setting == "adapters":
        from peft import inject_adapter_in_model

        inject_adapter_in_model(adapters(job, models["value_model"]), models["value_model"])
        models["value_model"].score.requires_grad_(True)
    return PPOTrainer(
        args=config,
        processing_class=AutoTokenizer.from_pretrained(job["policy"], padding_side="left"),
        train_dataset=Dataset.from_list([{"input_ids": ids} for ids in job["ids"]]),
        peft_config=adapters(job, models["model"], task_type="CAUSAL_LM"),
        **models,
    )


def adapters(job: measure.Job, model: Any, **options: Any) -> Any:
    """LoRA on every linear layer of the backbone."""
    if not job["lora"]:
        return None
    import torch
    from peft import LoraConfig

    linear = {n.rsplit(".", 1)[-1] for n, m in model.base_model.named_modules() if isinstance(m, torch.nn.Linear)}
    return LoraConfig(r=job["lora"]["rank"], lora_alpha=job["lora"]["alpha"], target_modules=sorted(linear), **options)


class UpdateClock:
    """Times updates and their parts, records mean reply lengths, and saves the policy at the marks.

    An update samples (`batch_generation`), scores until it whitens its advantages (`masked_whiten`), then learns.
    """

    def __init__(self, trainer: Any, job: measure.Job, module: Any) -> None:
        self.trainer, self.job = trainer, job
        self.ended: list[float] = []
        self.lengths: list[float] = []
        self.parts: dict[str, list[float]] = {"draw": [], "judge": [], "learn": []}
        self.last = 0.0
        generate, whiten = module.batch_generation, module.masked_whiten

        def timed_generation(model: Any, queries: Any, *rest: Any) -> Any:
            self.last = time.perf_counter()
            output = generate(model, queries, *rest)
            self.lap("draw")
            replies = output[0][:, queries.shape[1] :]
            ends = (replies == trainer.stop_token_id).int()
            self.lengths.append(float((ends.cumsum(1) - ends == 0).sum(1).float().mean()))
            return output

        def timed_whitening(*args: Any, **options: Any) -> Any:
            advantages = whiten(*args, **options)
            self.lap("judge")
            return advantages

        module.batch_generation, module.masked_whiten = timed_generation, timed_whitening

    def lap(self, part: str) -> None:
        """Assign the time since the last call to this part."""
        now = time.perf_counter()
        self.parts[part].append(now - self.last)
        self.last = now

    def callback(self) -> Any:
        """A transformers callback that times updates and saves policies."""
        from transformers import TrainerCallback

        def begin(*_: Any, **__: Any) -> None:
            self.ended.append(time.perf_counter())

        def end(_: Any, args: Any, state: Any, *__: Any, **___: Any) -> None:
            self.lap("learn")
            self.ended.append(time.perf_counter())
            if state.global_step in self.job["marks"]:
                folder = Path(self.job["out"]) / str(state.global_step)
                self.trainer.policy_model.save_pretrained(folder)
                self.trainer.processing_class.save_pretrained(folder)

        return type("UpdateTimes", (TrainerCallback,), {"on_train_begin": begin, "on_step_end": end})()


if __name__ == "__main__":
    main()
