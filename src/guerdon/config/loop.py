"""Options of the loop: rounds of labels, a new reward model, and a policy optimized against it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from guerdon.config.base import Options
from guerdon.errors import field_error


class LoopOptions(Options):
    """Rounds of sample, label, train, calibrate, audit and optimize. The other stages keep their own options."""

    rounds: int = Field(3, ge=1, description="Rounds; a finished loop goes on where this is raised.")
    prompts: str | None = Field(None, description="File of the prompts that are sampled, labeled and optimized on.")
    held_out: str | None = Field(
        None,
        description="File of the prompts on which policies are compared, never trained on; by default a tenth of the prompts, "
        "chosen by hash.",
    )
    judge: str | None = Field(None, description="The judge.yaml of the AI judge that labels.")
    store: str | None = Field(
        None, description="Store in which people label; with a judge too, people's labels replace the judge's."
    )
    project: str = Field("loop", description="Annotation project of the store to which each round's pairs are added.")
    labeled_share: float = Field(
        0.9,
        gt=0,
        le=1,
        description="Share of a round's pairs that people must have labeled, where no judge labels the rest.",
    )
    gold: str | None = Field(
        None,
        description="What policies are compared by, and nothing is trained on: a reward model's directory, FILE.py:FUNCTION or "
        "judge.yaml.",
    )
    method: Literal["ppo", "rloo", "grpo", "best_of_n"] = Field(
        "ppo",
        description="How a round optimizes: reinforcement learning from policy.base by the options of optimize, or best-of-n by those of "
        "best_of_n; replies are sampled with max_tokens, temperature and seed of the same stage.",
    )
    label_prompts: int = Field(128, ge=1, description="Prompts of a round whose replies are labeled.")
    replies: int = Field(
        4, ge=2, multiple_of=2, description="Replies to each of them by the newest policy; each is in one pair."
    )
    members: int = Field(1, ge=1, description="Reward models of an ensemble, by seed; 1 trains a single model.")
    rule: Literal["mean", "min", "uncertainty", "soft_min"] = Field(
        "mean", description="How the members' rewards become one."
    )
    audit: bool = Field(True, description="Write the full audit of each round's reward model.")
    stop_when_flat: bool = Field(
        False, description="Stop after a round whose gain in gold over the round before is not shown to be above 0."
    )

    def refuse_conflicts(self) -> None:
        """Refuse a loop that could never know when to stop."""
        if self.stop_when_flat and self.gold is None:
            raise field_error("loop.gold", "given with loop.stop_when_flat=true", None, "Give --gold.")

    def refuse_missing(self) -> None:
        """Refuse a loop without prompts, or without anybody who labels."""
        if self.prompts is None:
            raise field_error("loop.prompts", "a file of prompts", self.prompts, "Give --prompts.")
        if self.judge is None and self.store is None:
            raise field_error("loop.judge", "given where no loop.store is", None, "Give --judge, --store, or both.")
