"""What `guerdon export` writes for each trainer, and the templates of these files in this package; nothing here is slow to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Template
from typing import Final

CLIENT_FILE: Final = "guerdon_rewards.py"
TRAINER_FILES: Final = (CLIENT_FILE, "reward.py", "README.md")  # what every trainer gets
MODEL_FORMATS: Final = ("gguf", "adapter")  # that hold the model itself and need no server of ours


@dataclass(frozen=True, slots=True)
class Handover:
    """What a trainer gets. module: the file of this package that becomes reward.py. options: files of its options, each with its
    text, or with "" where a file of this package has it. use: the lines of the README. $url and $directory stand for the server and
    the model, $folder and $reward_file for the folder and its reward.py, quoted for a shell, $yaml_reward_file for the latter in
    YAML."""

    title: str
    module: str
    use: str
    options: Mapping[str, str] = field(default_factory=dict)

    def option_texts(self) -> dict[str, Template]:
        """The files of options by name."""
        return {name: Template(text) if text else template_of(name) for name, text in self.options.items()}


def template_of(name: str) -> Template:
    """A file of this package, in which $NAME stands for a value."""
    from importlib.resources import files

    return Template((files("guerdon.serving") / "handover" / f"{name}.txt").read_text("utf-8"))


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
        {"verl.yaml": ""},
    ),
    "nemo-rl": Handover(
        "NeMo-RL",
        "nemo_rl",
        "PYTHONPATH=$folder python examples/run_grpo.py --config nemo_rl.yaml",
        {"nemo_rl.yaml": ""},
    ),
    "skyrl": Handover(
        "SkyRL",
        "skyrl",
        "PYTHONPATH=$folder python -c 'import reward' && python -m skyrl.train.entrypoints.main_base --config skyrl.yaml",
        {"skyrl.yaml": "environment: {env_class: guerdon}\n"},
    ),
    "nemo-gym": Handover(
        "NeMo Gym",
        "nemo_gym",
        "# This folder must be resources_servers/guerdon of NeMo Gym\n"
        "gym env start --config resources_servers/guerdon/nemo_gym.yaml --model-type openai_model",
        {"nemo_gym.yaml": "", "requirements.txt": "-e nemo-gym[dev] @ ../../\n"},
    ),
}


ALL_FILES: Final = (*TRAINER_FILES, *(name for handover in HANDOVERS.values() for name in handover.options))
