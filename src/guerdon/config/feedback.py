"""Options of constitutions: critique and revision, and comparisons under principles."""

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
        description="revise: critique and revise a response to each prompt (the supervised stage of constitutional AI). "
        "compare: judge pairs of responses under principles (its reinforcement stage).",
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
