"""Small runs of optimization: policies, rewards, prompts and options that take a second, and what they leave behind."""

from __future__ import annotations

import json

from toys import KIND

from guerdon.config import OptimizeOptions, PolicyOptions, make
from guerdon.contracts import as_prompt
from guerdon.models.directory.policies import load_policy
from guerdon.optimization import loop
from guerdon.optimization.loop import optimize
from guerdon.optimization.rewards import combined

PROMPTS = [
    as_prompt(f"write a {word} review of film {i}") for i, word in enumerate(("good", "bad", "new", "nice", "sad"))
]


HELD_OUT = [as_prompt(f"write a tweet for {word}") for word in ("you", "him", "her", "people")]


SMALL = {
    "updates": 3, "prompts": 4, "samples": 2, "max_tokens": 6, "epochs": 2, "minibatches": 2,
    "lr": 3e-3, "check_every": 0, "save_every": 0,
}  # fmt: skip


STEADY = {"lr": 0.02, "eps": 1.0}  # steps linear in the gradient: a rounding error stays one


BASELINES = ("value", "leave_one_out", "group")


def kindness(prompts, responses):
    """The number of kind words in a reply."""
    return [float(sum(word in KIND for word in response.text.split())) for response in responses]


def brevity(prompts, responses):
    return [-float(len(response.text.split())) for response in responses]


def small_policy(base, lora_rank=2, **options):
    return load_policy(PolicyOptions(base=str(base), lora_rank=lora_rank, **options), adapters=lora_rank > 0)


def small_run(
    base,
    reward=kindness,
    train_prompts=PROMPTS,
    *,
    policy=None,
    lora_rank=2,
    gold=None,
    network=None,
    folder=None,
    **options,
):
    """A small run; keywords that `optimize` does not know are options."""
    known = {name: options.pop(name) for name in ("held_out", "reference_scale") if name in options}
    return optimize(
        policy or small_policy(base, lora_rank),
        combined(reward),
        train_prompts,
        make(OptimizeOptions, {**SMALL, **options}),
        gold=None if gold is None else combined(gold),
        value=network,
        folder=folder,
        **known,
    )


def weights_of(policy):
    return {name: p.detach().clone() for name, p in policy.model.named_parameters()}


def max_difference(one, other):
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


def read_metrics(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def record_batches(monkeypatch):
    """The batches that updates learn from, in order."""
    batches = []
    train_on_batch = loop.train_on_batch

    def recorded(learner, batch, *rest):
        batches.append(batch)
        return train_on_batch(learner, batch, *rest)

    monkeypatch.setattr(loop, "train_on_batch", recorded)
    return batches


def of_the_prompt(prompts, responses):
    """A reward that is known before the reply starts."""
    return [2.0 * ("good" in p[-1].content or "nice" in p[-1].content) for p in prompts]


def raises(prompts, responses):
    raise RuntimeError("the judge is out")


KILLED = {
    **SMALL, "updates": 6, "save_every": 2, "check_every": 1, "reward_scale": "running", "kl_target": 0.05,
    "kl_horizon": 16, "keep": "best_gold", "lr": 0.01,
}  # fmt: skip


def killable_run(base, folder, reward=kindness, **options):
    return small_run(base, reward, held_out=HELD_OUT, gold=brevity, folder=folder, **{**KILLED, **options})
