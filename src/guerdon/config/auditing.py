"""Options of measuring a model: audit, benchmark, score, tax."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from guerdon.config.base import Options, Seed
from guerdon.errors import field_error


class AuditOptions(Options):
    """What to measure about a reward model, and how."""

    only: list[str] = Field(default_factory=list, description="Parts to measure; all that apply to the model if empty.")
    skip: list[str] = Field(default_factory=list, description="Parts to leave out, such as the slow ones.")
    bins: int = Field(
        15,
        ge=2,
        description="Most equal-mass bins of confidence; fewer pairs fill fewer, the cube root of their number.",
    )
    draws: int = Field(
        2000, ge=100, description="Bootstrap draws, by prompt group, for intervals of anything but means and shares."
    )
    null_draws: int = Field(
        1000, ge=100, description="Data sets simulated under perfect calibration, for the calibration error's null."
    )
    hygiene_rows: int = Field(32, ge=2, description="Responses scored again in other batches for the hygiene gate.")
    worst: int = Field(8, ge=0, description="Confident mistakes shown in full.")
    cue_rows: int = Field(
        100, ge=1, description="Prompts whose answers are edited to see which cues and which errors move the reward."
    )
    abstain_error: float = Field(
        0.2,
        gt=0,
        lt=0.5,
        description="Error rate to allow on the answers that remain after the model abstains where it is unsure.",
    )
    shift_rows: int = Field(
        100,
        ge=0,
        description="Replies corrupted in each of four ways, to see whether the model notices; 0 corrupts none.",
    )
    seed: Seed = Field(0, description="Seeds the bootstrap and the null.")


class BenchmarkOptions(Options):
    """Measure a reward model, or existing scores, on a public benchmark."""

    draws: int = Field(
        2000, ge=100, description="Bootstrap draws, by prompt, for intervals of anything but means and shares."
    )
    hygiene_rows: int = Field(32, ge=4, description="Responses scored again in other batches for the hygiene gate.")
    hub_split: str | None = Field(
        None, description="Split to read of a data set on the hub; the published one of a known benchmark unless given."
    )
    step_threshold: float | None = Field(
        None,
        description="In benchmarks of steps, a step counts as right above this score; 0 for a reward model (even odds) and 0.5 for "
        "a file of scores (probabilities) unless given.",
    )
    seed: Seed = Field(0, description="Seeds the bootstrap.")


class ScoreOptions(Options):
    """Score responses."""

    batch_tokens: int = Field(
        4096,
        ge=16,
        description="Maximum computed tokens per forward pass; changes memory, and scores by rounding only.",
    )
    calibrated: bool = Field(True, description="Apply the temperature stored with the model.")
    per_token: bool = Field(
        False, description="Also give the reward after every token of a reply, where the model is not calibrated."
    )
    steps: Literal["min", "product", "last"] | None = Field(
        None,
        description="Score a response up to each of its steps, which blank lines part, and give the lowest score, the log-probability that "
        "all are right, or the last; none scores the response as a whole.",
    )
    workers: int = Field(
        1,
        ge=1,
        description="Processes that score a file, each with its own copy of the model; they share the cores or the accelerators.",
    )

    def refuse_conflicts(self) -> None:
        """Raise GuerdonError for rewards of tokens together with rewards of steps."""
        if self.per_token and self.steps:
            raise field_error("score.steps", "left out with score.per_token=true", self.steps, "Leave one of them out.")


class TaxOptions(Options):
    """Measure what an optimized policy does worse than before."""

    tasks: list[str] = Field(
        default_factory=list,
        description="Tasks of the offline battery, such as text or minimal_pairs; empty is all. docs/tax.md lists them.",
    )
    form: Literal["both", "plain", "chat"] = Field(
        "both",
        description="Read given texts as plain text, as replies in the chat template, or both; the same for both policies.",
    )
    max_tokens: int = Field(64, ge=1, description="Maximum tokens in a sampled reply.")
    temperature: float = Field(1.0, gt=0, description="Sampling temperature.")
    micro_tokens: int = Field(
        4096, ge=16, description="Maximum tokens per forward pass; changes memory, and results by rounding only."
    )
    lm_eval: list[str] = Field(
        default_factory=list, description="Tasks of lm-evaluation-harness to add, by name; needs the extra lm-eval."
    )
    lm_eval_include: str | None = Field(
        None, description="Folder with your own task files, as lm-eval's --include_path."
    )
    lm_eval_limit: int | None = Field(None, ge=1, description="Documents per lm-eval task; all unless given.")
    seed: Seed = Field(0, description="Seeds the items made from templates and the sampled replies.")
