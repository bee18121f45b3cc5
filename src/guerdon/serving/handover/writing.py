"""A folder for each trainer: the client, a reward function that uses it, the trainer's options, and a README of a few lines."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

from guerdon.contracts import GuerdonError
from guerdon.errors import visible
from guerdon.io import writers

__all__ = ["CLIENT_FILE", "HANDOVERS", "handover_files", "write_handover"]

CLIENT_FILE: Final = "guerdon_rewards.py"


@dataclass(frozen=True, slots=True)
class Handover:
    """What a trainer gets. module: the file of this package that becomes reward.py. options: files of its options, each with its text.
    use: the lines of the README. $url and $directory stand for the server and the model, $folder and $reward_file for
    the folder and its reward.py, quoted for a shell, $yaml_reward_file for the latter in YAML."""

    title: str
    module: str
    use: str
    options: tuple[tuple[str, str], ...] = ()


def _text_of(name: str) -> str:
    """A file of this package."""
    return (files("guerdon.serving") / "handover" / f"{name}.txt").read_text("utf-8")


HANDOVERS: Final = {
    "trl": Handover(
        "TRL (GRPOTrainer, RLOOTrainer)",
        "trl",
        "from reward import guerdon_reward\n\n"
        "trainer = GRPOTrainer(model=..., reward_funcs=guerdon_reward, train_dataset=..., args=...)",
    ),
    "openrlhf": Handover(
        "OpenRLHF 0.11",
        "openrlhf",
        "python -m openrlhf.cli.train_ppo_ray --reward.remote_url $reward_file ...\n\n"
        "# or without this folder, straight to the server:\n"
        "python -m openrlhf.cli.train_ppo_ray --reward.remote_url $url/get_reward ...",
    ),
    "verl": Handover(
        "verl 0.9",
        "verl",
        "python -m verl.trainer.main_ppo --config-dir $folder --config-name verl \\\n"
        "  data.train_files=train.parquet data.val_files=val.parquet actor_rollout_ref.model.path=POLICY",
        (("verl.yaml", _text_of("verl.yaml")),),
    ),
    "nemo-rl": Handover(
        "NeMo-RL",
        "nemo_rl",
        "PYTHONPATH=$folder python examples/run_grpo.py --config nemo_rl.yaml",
        (("nemo_rl.yaml", _text_of("nemo_rl.yaml")),),
    ),
    "skyrl": Handover(
        "SkyRL",
        "skyrl",
        "PYTHONPATH=$folder python -c 'import reward' && python -m skyrl.train.entrypoints.main_base --config skyrl.yaml",
        (("skyrl.yaml", "environment: {env_class: guerdon}\n"),),
    ),
    "nemo-gym": Handover(
        "NeMo Gym",
        "nemo_gym",
        "# This folder must be resources_servers/guerdon of NeMo Gym\n"
        "gym env start --config resources_servers/guerdon/nemo_gym.yaml --model-type openai_model",
        (("nemo_gym.yaml", _text_of("nemo_gym.yaml")), ("requirements.txt", "-e nemo-gym[dev] @ ../../\n")),
    ),
}


def handover_files(trainer: str, url: str, folder: Path, directory: str | None, model: str | None) -> dict[str, str]:
    """The texts of the files by name. Raises GuerdonError for an unknown trainer."""
    if trainer not in HANDOVERS:
        raise GuerdonError(
            f"TRAINER must be one of {', '.join(HANDOVERS)}, got {trainer!r}. Choose one; guerdon.serving.client is for any other."
        )
    chosen = HANDOVERS[trainer]
    where, shown = folder.resolve(), visible(directory or "DIR")
    values = {
        "url": url.rstrip("/"),
        "folder": shlex.quote(str(where)),
        "reward_file": shlex.quote(str(where / "reward.py")),
        "yaml_reward_file": json.dumps(str(where / "reward.py")),  # a string of JSON is one of YAML
        "directory": shown,
        "yaml_directory": json.dumps(str(Path(directory).resolve()) if directory else "DIR"),
    }
    package = files("guerdon.serving")
    source = Template(_text_of(f"{chosen.module}.py"))
    served = f"guerdon serve {shlex.quote(shown)}"
    use = Template(chosen.use).substitute(values)
    texts = {
        CLIENT_FILE: (package / "client.py").read_text("utf-8"),
        "reward.py": source.substitute(values, model=json.dumps(model) if model is not None else "None"),
        "README.md": (
            f"# Rewards of a guerdon server for {chosen.title}\n\n"
            f"1. Start the server: `{served}`. It may need a token: set GUERDON_REWARD_TOKEN here too.\n"
            f"2. The address is {values['url']}, or GUERDON_REWARD_URL where that is set.\n"
            f"3. Train:\n\n```\n{use}\n```\n"
        ),
    }
    return texts | {name: Template(text).substitute(values) for name, text in chosen.options}


def write_handover(
    trainer: str, url: str, out: Path, directory: str | None = None, model: str | None = None
) -> list[str]:
    """Write the files into the folder; returns their names."""
    texts = handover_files(trainer, url, out, directory, model)
    for name, text in texts.items():
        writers.write_text(out / name, text)
    return list(texts)
