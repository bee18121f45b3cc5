"""TRL's step losses on a tiny Llama: writes tests/cases/trl_step_losses.json. Run with the peer's Python (README.md here).

    python benchmarks/peers/trl_steps.py

Weights and pairs are integers from numpy's frozen RandomState, so that they are the same bits on any machine and only this
recipe has to be stored.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import numpy as np

CASE = Path(__file__).resolve().parents[2] / "tests/cases/trl_step_losses.json"
CONFIG: dict[str, Any] = {
    "vocab_size": 130,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "tie_word_embeddings": False,
    "num_labels": 1,
}
SETTINGS: dict[str, Any] = {
    "lr": 1e-4,
    "schedule": "constant",
    "warmup": 0.0,
    "batch_size": 8,
    "order": "sequential",
    "optimizer": "AdamW, betas 0.9 and 0.999, eps 1e-8, weight decay 0",
    "clip": 0.0,
    "dtype": "float32",
}
RECIPE = {
    "model": "transformers LlamaForSequenceClassification(LlamaConfig(**config)), sequences ending at their last token",
    "weights": (
        "rs = numpy.random.RandomState(0); for each name of sorted(state_dict): all ones where the name holds 'norm', else "
        "rs.randint(-128, 128, size=shape) / d with d = 512 for score.weight and 4096 for the others; as float32"
    ),
    "pairs": (
        "rs = numpy.random.RandomState(1); 256 times: prompt = [2] + rs.randint(6, 126, size=rs.randint(8, 41)); for chosen "
        "(word 126), then for rejected (word 127): reply = rs.randint(6, 126, size=rs.randint(4, 31)); three times "
        "reply[rs.randint(len(reply))] = word; ids = prompt + reply + [3]"
    ),
    "digests": "sha256 of the float32 little-endian bytes of the weights in sorted order; of json.dumps of the pairs without spaces",
}


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Float32 weights by name."""
    rs = np.random.RandomState(0)
    tensors = {}
    for name in sorted(shapes):
        if "norm" in name:
            tensors[name] = np.ones(shapes[name], dtype=np.float32)
        else:
            integers = rs.randint(-128, 128, size=shapes[name])
            tensors[name] = (integers / (512 if name == "score.weight" else 4096)).astype(np.float32)
    return tensors


def pairs(num_pairs: int = 256) -> list[dict[str, list[int]]]:
    """Token ids of chosen and rejected; a word that occurs up to three times in each reply tells them apart."""
    rs = np.random.RandomState(1)
    rows = []
    for _ in range(num_pairs):
        prompt = [2, *rs.randint(6, 126, size=rs.randint(8, 41)).tolist()]
        row = {}
        for name, word in (("chosen_ids", 126), ("rejected_ids", 127)):
            reply = rs.randint(6, 126, size=rs.randint(4, 31)).tolist()
            for _ in range(3):
                reply[rs.randint(len(reply))] = word
            row[name] = [*prompt, *reply, 3]
        rows.append(row)
    return rows


def model() -> Any:
    """The classifier with the recipe's weights."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    classifier = LlamaForSequenceClassification(LlamaConfig(**CONFIG))
    values = weights({name: tuple(value.shape) for name, value in classifier.state_dict().items()})
    classifier.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()})
    return classifier


def losses(centering: float) -> list[float]:
    """TRL's 32 step losses."""
    import trl
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {f"w{i}": i for i in range(CONFIG["vocab_size"])}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w1")),
        pad_token="w0",
        bos_token="w2",
        eos_token="w3",
    )
    with tempfile.TemporaryDirectory() as folder:
        config = trl.RewardConfig(
            output_dir=folder,
            per_device_train_batch_size=SETTINGS["batch_size"],
            num_train_epochs=1,
            learning_rate=SETTINGS["lr"],
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            weight_decay=0.0,
            optim="adamw_torch",
            seed=0,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            max_length=None,
            train_sampling_strategy="sequential",
            dataloader_pin_memory=False,
            center_rewards_coefficient=centering or None,
        )
        trainer = trl.RewardTrainer(
            model=model(), args=config, train_dataset=Dataset.from_list(pairs()), processing_class=tokenizer
        )
        trainer.train()
    return [round(h["loss"], 7) for h in trainer.state.log_history if "loss" in h]


def main() -> None:
    """Run TRL twice and write the case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=CASE)
    out = parser.parse_args().out
    import torch
    import transformers
    import trl

    torch.set_num_threads(1)
    state = model().state_dict()
    digest = hashlib.sha256(b"".join(state[name].numpy().astype("<f4").tobytes() for name in sorted(state))).hexdigest()
    ids = hashlib.sha256(json.dumps(pairs(), separators=(",", ":")).encode()).hexdigest()
    case = {
        "case": "Step losses of TRL's RewardTrainer, which a correct Bradley-Terry loop repeats from the same weights and ids.",
        "source": "benchmarks/peers/trl_steps.py",
        "trl": trl.__version__,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "config": CONFIG,
        "settings": SETTINGS,
        "recipe": RECIPE,
        "weights_sha256": digest,
        "pairs_sha256": ids,
        "losses": losses(0.0),
        "centering": 0.01,
        "losses_centered": losses(0.01),
    }
    out.write_text(json.dumps(case, indent=1) + "\n")
    print(out, case["losses"][0], case["losses"][-1])


if __name__ == "__main__":
    main()
