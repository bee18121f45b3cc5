"""A judge that asks a model: log-odds of pairs, with every failure counted and none of them a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from guerdon.config.judging import JudgeOptions
from guerdon.contracts import Prompt, Response, digest
from guerdon.errors import field_error
from guerdon.models.judges.comparing import ComparesByVerdict, Pair, Tally
from guerdon.models.judges.driver import Conversation, Respondent
from guerdon.models.judges.verdicts import Interview, PairVerdict, RankingVerdict

__all__ = ["Group", "Pair", "PromptedJudge", "Tally"]


@dataclass(frozen=True, slots=True)
class Group:
    """Responses to rank. item: a name to keep with the calls."""

    prompt: Prompt
    responses: tuple[Response, ...]
    item: str = ""


class PromptedJudge(ComparesByVerdict):
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
                raise field_error(
                    "judge.mode", claim, mode, "Use pair_samples, pair_reasons, or score with score_by: text."
                )
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

    def rank(self, groups: Iterable[Group]) -> Iterator[tuple[int, PairVerdict | RankingVerdict]]:
        """Rank the responses to each prompt; yields the position and the verdict of each group as it is reached.

        Two responses get the verdict that `compare` gives.
        """
        interview = self.interview

        def conversation(group: Group) -> Conversation[PairVerdict | RankingVerdict]:
            if len(group.responses) == 2:
                return (yield from interview.pair(group.prompt, *group.responses, group.item))
            return (yield from interview.ranking(group.prompt, group.responses, group.item))

        for position, verdict in self.respondent.converse(map(conversation, groups)):
            self.tally.add(verdict)
            yield position, verdict

    def compare(self, pairs: Iterable[Pair]) -> Iterator[tuple[int, PairVerdict]]:
        """Judge pairs; yields the position and the verdict of each as it is reached. Memory does not grow with their number."""
        interview = self.interview
        conversations = (interview.pair(pair.prompt, pair.first, pair.second, pair.item) for pair in pairs)
        for position, verdict in self.respondent.converse(conversations):
            self.tally.add(verdict)
            yield position, verdict
