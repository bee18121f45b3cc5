"""Train with TRL's GRPO and RLOO on the rewards of a running server, through what `guerdon export trl` wrote.

python tests/compat/train_with_trl.py POLICY FOLDER, in an environment with trl 1.16 and datasets; FOLDER is the export. Each trainer
makes two steps, once with the synchronous and once with the asynchronous function, and the rewards that TRL logs are those that the
server gives for the same texts.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from typing import Any

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

PROMPTS = ["write a film review", "is it good ?", "we will see", "do they love you ?"]


def main(policy: str, folder: str) -> None:
    """Train four times."""
    sys.path.insert(0, folder)
    import reward
    from reward import guerdon_reward, guerdon_reward_async

    dataset = Dataset.from_list([{"prompt": [{"role": "user", "content": prompt}]} for prompt in PROMPTS])
    for trainer, config in ((GRPOTrainer, GRPOConfig), (RLOOTrainer, RLOOConfig)):
        for function in (guerdon_reward, guerdon_reward_async):
            given: list[float] = []
            logged = _train(trainer, config, policy, dataset, _remembering(function, given, reward.client))
            assert len(given) == 16, given
            assert abs(sum(logged) / len(logged) - sum(given) / len(given)) < 1e-3, (logged, given)
            print(f"{trainer.__name__} with {function.__name__}: rewards {logged} in two steps")


def _train(trainer: Any, config: Any, policy: str, dataset: Dataset, function: Callable[..., Any]) -> list[float]:
    """The mean reward that TRL logs at each of two steps."""
    with tempfile.TemporaryDirectory() as out:
        settings = config(
            output_dir=out, max_steps=2, per_device_train_batch_size=8, num_generations=4, max_completion_length=8, logging_steps=1,
            report_to=[], use_cpu=True, bf16=False, save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        run = trainer(model=policy, reward_funcs=function, train_dataset=dataset, args=settings)
        run.train()
        return [entry["reward"] for entry in run.state.log_history if "reward" in entry]


def _remembering(function: Callable[..., Any], given: list[float], client: Any) -> Callable[..., Any]:
    """The function, checked against what the server gives for each text alone."""
    import inspect

    def check(prompts: Any, completions: Any, rewards: list[float]) -> list[float]:
        alone = [client.score([p], [c])[0] for p, c in zip(prompts, completions, strict=True)]
        assert max(abs(a - b) for a, b in zip(alone, rewards, strict=True)) < 1e-4, (alone, rewards)
        given.extend(rewards)
        return rewards

    if inspect.iscoroutinefunction(function):

        async def remembered_async(prompts: Any, completions: Any, **columns: Any) -> list[float]:
            return check(prompts, completions, await function(prompts, completions, **columns))

        return remembered_async

    def remembered(prompts: Any, completions: Any, **columns: Any) -> list[float]:
        return check(prompts, completions, function(prompts, completions, **columns))

    return remembered


if __name__ == "__main__":
    main(*sys.argv[1:3])
