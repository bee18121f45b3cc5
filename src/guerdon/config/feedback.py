"""Options of constitutions and rubrics: critique and revision, comparisons under principles, and drafts of criteria."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from guerdon.config.base import Options, Seed
from guerdon.errors import field_error

Probability = Annotated[float, Field(ge=0, le=1)]


class ConstitutionOptions(Options):
    """Responses that are criticized and revised under principles, and comparisons that models make under them."""

    flow: Literal["revise", "compare"] = Field(
        "revise",
        description="Critique and revise a response to each prompt (revise, the supervised stage of constitutional AI), or "
        "judge pairs of responses under principles (compare, its reinforcement stage).",
    )
    revisions: int = Field(2, ge=1, le=16, description="Critiques and revisions of a response; the paper has 4.")
    max_tokens: int = Field(512, ge=1, description="Tokens of a critique or revision; doubled once where it was cut.")
    temperature: float = Field(1.0, ge=0, description="Of critiques and revisions.")
    allow_refusals: bool = Field(False, description="Keep a revision that does nothing but refuse.")
    same_text: Probability = Field(
        0.97, description="Similarity to the text before from which a revision counts as no change."
    )
    min_length_ratio: float = Field(0.3, ge=0, description="Shortest revision, as a share of the text before.")
    max_length_ratio: float = Field(3.0, gt=0, description="Longest revision, as a multiple of the text before.")
    pairs: Literal["final", "steps"] = Field(
        "final",
        description="Pairs to make: the last revision over the first response, or each step over the one before too.",
    )
    sft: Literal["final", "steps"] = Field(
        "final",
        description="Rows for supervised training: the last revision, or the revision of every step as in the paper.",
    )
    verify: bool = Field(True, description="Judge each pair under its principle and under helpfulness, in both orders.")
    min_q: Probability = Field(0.6, description="P(revision is better) under its principle that a verified pair needs.")
    min_helpful_q: Probability = Field(0.35, description="P(revision is more helpful) that a verified pair needs.")
    principles_per_pair: int = Field(
        4, ge=1, description="Principles that each pair is judged under in flow compare; 1 in the paper."
    )
    seed: Seed = Field(0, description="Seed of principles and samples.")

    def refuse_conflicts(self) -> None:
        """Refuse limits that no revision can meet."""
        if self.min_length_ratio > self.max_length_ratio:
            claim = f"at most constitution.max_length_ratio={self.max_length_ratio:g}"
            raise field_error("constitution.min_length_ratio", claim, self.min_length_ratio, "Swap them.")


class DraftOptions(Options):
    """Criteria that a model proposes from labeled comparisons, kept where they predict other labels."""

    rounds: int = Field(
        8, ge=1, le=1000, description="How often the model is asked for criteria, each time with other comparisons."
    )
    batch_size: int = Field(6, ge=1, le=50, description="Comparisons that it is shown at a time.")
    criteria_per_round: int = Field(6, ge=1, le=50, description="Criteria that it may propose at a time.")
    candidates: int = Field(
        24, ge=1, le=200, description="Different criteria that are judged, those proposed most often first."
    )
    most: int = Field(10, ge=1, le=100, description="Criteria that the rubric may have, the most accurate first.")
    alpha: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="Chance that any useless criterion is kept: accuracies are tested against one half, corrected by Holm.",
    )
    max_tokens: int = Field(512, ge=16, description="Tokens for the criteria of a round.")
    temperature: float = Field(0.7, ge=0, description="Of the proposals.")
    seed: Seed = Field(0, description="Seed of the split, the batches and the proposals.")
