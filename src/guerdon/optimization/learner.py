"""What an update works with: the policy that learns, its reference, its value model, and the processes that share the work."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from accelerate import Accelerator
from torch import nn

from guerdon.config import OptimizeOptions
from guerdon.models.engine.pretrained import checkpoint_activations
from guerdon.models.policy import LanguagePolicy
from guerdon.optimization.remote_rollouts import RolloutEngine
from guerdon.optimization.value_models import ValueHead, ValueNetwork
from guerdon.runtime.optimizer import AdamWSettings, TrainableWeights

__all__ = ["Learner", "frozen_copy", "make_learner"]


@dataclass(frozen=True, slots=True)
class Learner:
    """The policy that learns, the policy that KL is measured to, and PPO's value model (None for RLOO and GRPO).

    engine: the servers that sample; None where the policy itself does.
    """

    policy: LanguagePolicy
    reference: LanguagePolicy
    value_model: ValueHead | ValueNetwork | None
    options: OptimizeOptions
    accelerator: Accelerator
    engine: RolloutEngine | None = None

    def trainable_weights(self) -> TrainableWeights:
        """The weights of the policy and the value model, under AdamW."""
        options, modules = self.options, {"policy": self.policy.model}
        if self.value_model is not None:
            modules["value"] = self.value_model
        settings = AdamWSettings(
            lr=options.lr,
            head_lr=options.value_lr or options.lr,
            betas=options.betas,
            eps=options.eps,
            weight_decay=options.weight_decay,
            max_grad_norm=options.grad_clip,
        )
        head = list(self.value_model.parameters()) if self.value_model is not None else []
        return TrainableWeights(nn.ModuleDict(modules), settings, head=head)


def make_learner(
    policy: LanguagePolicy,
    value: ValueNetwork | None,
    options: OptimizeOptions,
    accelerator: Accelerator,
    engine: RolloutEngine | None = None,
) -> Learner:
    """A learner with its policy in training mode. `value` is the network that a value model of its own starts as.

    With adapters the reference is the policy without them; otherwise a frozen copy.
    """
    reference = policy if hasattr(policy.model, "peft_config") else frozen_copy(policy)
    learner = Learner(policy, reference, _value_model(policy, value, options), options, accelerator, engine)
    policy.model.train()
    if options.gradient_checkpointing:
        checkpoint_activations(policy.model, "optimize.gradient_checkpointing")
    return learner


def frozen_copy(policy: LanguagePolicy) -> LanguagePolicy:
    """The policy as it is now, with weights of its own that never learn."""
    frozen = copy.deepcopy(policy)
    frozen.model.eval().requires_grad_(False)
    return frozen


def _value_model(
    policy: LanguagePolicy, given: ValueNetwork | None, options: OptimizeOptions
) -> ValueHead | ValueNetwork | None:
    if options.baseline != "value":
        return None
    if options.value == "head":
        return ValueHead(policy.model.config.get_text_config().hidden_size).to(policy.device)
    assert given is not None, "checked before"
    return given.to(policy.device).requires_grad_(True)
