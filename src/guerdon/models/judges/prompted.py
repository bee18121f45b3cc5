"""A judge that asks a model: log-odds of pairs, with every failure counted and none of them a verdict."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from guerdon.config.judging import JudgeOptions
from guerdon.contracts import Prompt, PromptLike, Response, ResponseLike, as_prompt, as_response, digest
from guerdon.errors import field_error
from guerdon.models.judges.driver import Respondent
from guerdon.models.judges.verdicts import Interview, PairVerdict

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True, slots=True)
class Pair:
    """Two responses to compare. item: a name to keep with the calls."""

    prompt: Prompt
    first: Response
    second: Response
    item: str = ""


@dataclass(slots=True)
class Tally:
    """What a judge did so far: pairs, those without a verdict by code, those whose two orders disagree, and first picks.

    first_picks of order_picks single orders preferred the response shown first. bias: sum of nats that being first added, over
    both_orders pairs.
    """

    pairs: int = 0
    unresolved: int = 0
    inconsistent: int = 0
    both_orders: int = 0
    first_picks: float = 0.0
    order_picks: int = 0
    bias: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)

    def add(self, verdict: PairVerdict) -> None:
        """Count a verdict."""
        self.pairs += 1
        self.failures.update(failure.code for failure in verdict.failures)
        if not verdict.is_resolved:
            self.unresolved += 1
            return
        for order in verdict.orders:
            self.first_picks += 0.5 if order.q == 0.5 else float(order.q > 0.5)
            self.order_picks += 1
        if verdict.is_consistent is not None and verdict.bias is not None:
            self.both_orders += 1
            self.inconsistent += not verdict.is_consistent
            self.bias += verdict.bias

    @property
    def unresolved_share(self) -> float:
        """Share of pairs without a verdict."""
        return self.unresolved / self.pairs if self.pairs else 0.0


class PromptedJudge:
    """A model that is asked which of two responses is better. Fulfills Judge; a pair without a verdict gets NaN.

    tally: what it did since it was created, for reports.
    """

    def __init__(self, respondent: Respondent, options: JudgeOptions) -> None:
        self.respondent, self.options, self.tally = respondent, options, Tally()
        self._interview: Interview | None = None

    @property
    def name(self) -> str:
        """The name under which its judgments are kept."""
        return self.options.name or self.respondent.name

    @property
    def interview(self) -> Interview:
        """Its questions. In mode auto, the first use finds out whether the model gives log-probabilities."""
        if self._interview is None:
            mode = self.options.mode
            needs_proof = mode in ("auto", "pair", "pair_reasons") or (
                mode == "score" and self.options.score_by != "text"
            )
            has_log_probs = self.respondent.gives_log_probs() if needs_proof else False
            if mode == "auto":
                mode = "pair" if has_log_probs else "pair_samples"
            if not has_log_probs and (mode == "pair" or (mode == "score" and self.options.score_by == "log_probs")):
                claim = "a way that needs no log-probabilities, which this model does not give"
                raise field_error("mode", claim, mode, "Use pair_samples, pair_reasons, or score with score_by: text.")
            self._interview = Interview(self.options, mode, has_log_probs)
        return self._interview

    @property
    def fingerprint(self) -> str:
        """A hash of what changes its verdicts: the model, the template, and how it is asked."""
        settings = self.options.model_dump(
            include={
                "criterion", "both_orders", "combine", "samples", "temperature", "max_tokens", "min_mass", "clamp", "low",
                "high", "score_by", "nats_per_point", "permutations", "seed",
            }
        )  # fmt: skip
        interview = self.interview
        return digest([self.respondent.fingerprint, interview.mode, interview.template.fingerprint, settings])

    def compare(self, pairs: Iterable[Pair]) -> Iterator[tuple[int, PairVerdict]]:
        """Judge pairs; yields the position and the verdict of each as it is reached. Memory does not grow with their number."""
        interview = self.interview
        conversations = (interview.pair(pair.prompt, pair.first, pair.second, pair.item) for pair in pairs)
        for position, verdict in self.respondent.converse(conversations):
            self.tally.add(verdict)
            yield position, verdict

    def log_odds(
        self, prompts: Sequence[PromptLike], first: Sequence[ResponseLike], second: Sequence[ResponseLike]
    ) -> Float[np.ndarray, " n"]:
        """Log-odds, in nats, that the first response is the better one; NaN where there is no verdict."""
        pairs = (
            Pair(as_prompt(prompt), as_response(a), as_response(b))
            for prompt, a, b in zip(prompts, first, second, strict=True)
        )
        log_odds = np.full(len(prompts), math.nan)
        for position, verdict in self.compare(pairs):
            log_odds[position] = verdict.log_odds
        return log_odds
