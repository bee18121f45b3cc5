"""How a pair, a response or a group of responses is judged in each mode: questions out, a verdict back.

A pair is judged in both orders. Half of that is no verdict: it is unresolved unless both orders are in. Log-odds are nats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from guerdon.config.judging import JudgeOptions
from guerdon.contracts import Message, Prompt, Response
from guerdon.formulas.verdicts import Combination, log_odds_from_q, position_bias, q_from_orders, smoothed_share
from guerdon.models.judges.calls import Question, Reader
from guerdon.models.judges.driver import Conversation, Reading, ask
from guerdon.models.judges.failures import Failure
from guerdon.models.judges.prompts import JudgePrompt, load_prompt, material
from guerdon.models.judges.readers import OptionReader, RankingReader, ScoreReader, TextReader, VerdictLineReader

ORDERS = ((0, 1), (1, 0))


@dataclass(frozen=True, slots=True)
class OrderVerdict:
    """What one call said about a pair in the order shown. q: P(the response shown first is better). key: of the call."""

    shown: tuple[int, ...]
    q: float
    key: str
    sample: int = 0
    mass: float | None = None


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """A judge's verdict on two responses, or why there is none.

    q: P(the first is better), None where the pair is unresolved. log_odds: of the same, NaN where unresolved.
    bias: nats that being shown first adds; None without both orders. is_consistent: whether both orders prefer the same
    response. mass: the lowest mass that the verdicts had. orders: what each call said. rationale: the judge's reasons.
    """

    q: float | None
    log_odds: float
    orders: tuple[OrderVerdict, ...] = ()
    bias: float | None = None
    is_consistent: bool | None = None
    mass: float | None = None
    rationale: str = ""
    failures: tuple[Failure, ...] = ()

    @property
    def is_resolved(self) -> bool:
        """Whether there is a verdict."""
        return self.q is not None


@dataclass(frozen=True, slots=True)
class ScoreVerdict:
    """A judge's score of one response: NaN with the failure where there is none. key: of the call."""

    score: float
    key: str = ""
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class RankingVerdict:
    """A judge's rankings of the responses to one prompt, as positions best first; empty where any call failed.

    keys: of the calls. shown: the order in which each call showed the responses.
    """

    rankings: tuple[tuple[int, ...], ...]
    keys: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    shown: tuple[tuple[int, ...], ...] = ()

    @property
    def is_resolved(self) -> bool:
        """Whether there is a verdict."""
        return bool(self.rankings)

    @property
    def is_consistent(self) -> bool | None:
        """Whether all rankings are the same; None with fewer than two."""
        return len(set(self.rankings)) == 1 if len(self.rankings) > 1 else None

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The responses by their mean rank, best first; those of equal mean rank share a group."""
        if not self.rankings:
            return ()
        total = np.argsort(np.array(self.rankings), axis=1).sum(axis=0)
        return tuple(tuple(np.flatnonzero(total == rank).tolist()) for rank in np.unique(total))


class Interview:
    """The questions of one judge: its options, its template, and whether answers come with log-probabilities."""

    def __init__(
        self, options: JudgeOptions, mode: str, has_log_probs: bool, template: JudgePrompt | None = None
    ) -> None:
        self.options, self.mode, self.has_log_probs = options, mode, has_log_probs
        by_tokens = mode in ("pair", "pair_reasons") and has_log_probs
        shipped = {"pair": "pair", "pair_samples": "pair_with_ties", "score": "score", "ranking": "ranking"}
        shipped["pair_reasons"] = "pair_with_reasons" if by_tokens else "pair_with_ties"
        self.template = template or load_prompt(options.template or shipped[mode])

    # ---- Pairs -----------------------------------------------------------------------------------------------------------

    def pair(self, prompt: Prompt, first: Response, second: Response, item: str = "") -> Conversation[PairVerdict]:
        """Compare two responses in the judge's mode."""
        orders = ORDERS if self.options.both_orders else ORDERS[self._random_order(prompt, first, second) :][:1]
        views = [(order, self._messages(prompt, [(first, second)[i] for i in order])) for order in orders]
        if self.mode == "pair":
            return self._pair_by_tokens(views, item)
        if self.mode == "pair_reasons" and self.has_log_probs:
            return self._pair_by_reasons(views, item)
        if self.mode == "score":
            return self._pair_by_scores(prompt, first, second, item)
        if self.mode == "ranking":
            return self._pair_by_ranking(prompt, first, second, item)
        return self._pair_by_lines(views, item)

    def _pair_by_tokens(
        self, views: Sequence[tuple[tuple[int, ...], tuple[Message, ...]]], item: str
    ) -> Conversation[PairVerdict]:
        reader = OptionReader(("1", "2"), self.options.min_mass)
        questions = [
            self._question(messages, reader, options=("1", "2"), item=item, shown=order) for order, messages in views
        ]
        readings = yield from ask(questions, self.options.reasks, self._reminder())
        return self._combined(questions, readings)

    def _pair_by_lines(
        self, views: Sequence[tuple[tuple[int, ...], tuple[Message, ...]]], item: str
    ) -> Conversation[PairVerdict]:
        questions = [
            self._question(messages, VerdictLineReader(), item=item, shown=order, sample=sample, **self._drawn(sample))
            for order, messages in views
            for sample in range(self.options.samples)
        ]
        readings = yield from ask(questions, self.options.reasks, self._reminder())
        return self._combined(questions, readings)

    def _pair_by_reasons(
        self, views: Sequence[tuple[tuple[int, ...], tuple[Message, ...]]], item: str
    ) -> Conversation[PairVerdict]:
        questions = [
            self._question(messages, TextReader(), item=item, shown=order, sample=sample, **self._drawn(sample))
            for order, messages in views
            for sample in range(self.options.samples)
        ]
        reasons = yield from ask(questions, self.options.reasks)
        verdict = Message("user", self.template.fill("verdict", self._values()))
        reader = OptionReader(("1", "2"), self.options.min_mass)
        followed, rows = [], []
        for row, (question, reason) in enumerate(zip(questions, reasons, strict=True)):
            if reason.failure is None:
                messages = (*question.messages, Message("assistant", reason.value), verdict)
                followed.append(
                    self._question(
                        messages, reader, options=("1", "2"), item=item, shown=question.shown, sample=question.sample
                    )
                )
                rows.append(row)
        answered = yield from ask(followed, self.options.reasks, self._reminder())
        readings = list(reasons)
        for row, reading in zip(rows, answered, strict=True):
            readings[row] = reading
        rationale = next((reason.value for reason in reasons if reason.failure is None), "")
        return self._combined(questions, readings, rationale)

    def _pair_by_scores(
        self, prompt: Prompt, first: Response, second: Response, item: str
    ) -> Conversation[PairVerdict]:
        scores = yield from self.scores(prompt, [first, second], item)
        failures = tuple(score.failure for score in scores if score.failure)
        if failures:
            return PairVerdict(None, math.nan, failures=failures)
        log_odds = self.options.nats_per_point * (scores[0].score - scores[1].score)
        return PairVerdict(float(expit(log_odds)), log_odds)

    def _pair_by_ranking(
        self, prompt: Prompt, first: Response, second: Response, item: str
    ) -> Conversation[PairVerdict]:
        verdict = yield from self.ranking(prompt, [first, second], item)
        if not verdict.rankings:
            return PairVerdict(None, math.nan, failures=verdict.failures)
        wins = sum(ranking[0] == 0 for ranking in verdict.rankings)
        q = smoothed_share(wins, 0, len(verdict.rankings))
        calls = zip(verdict.shown, verdict.rankings, verdict.keys, strict=True)
        orders = tuple(
            OrderVerdict(shown, float(ranking[0] == shown[0]), key, sample)
            for sample, (shown, ranking, key) in enumerate(calls)
        )
        return PairVerdict(q, _log_odds(q), orders, is_consistent=verdict.is_consistent)

    def _combined(self, questions: Sequence[Question], readings: Sequence[Reading], rationale: str = "") -> PairVerdict:
        """One verdict from the readings of all orders and samples. Any order that has none leaves the pair unresolved."""
        failures = tuple(reading.failure for reading in readings if reading.failure)
        orders = tuple(
            self._order_verdict(question, reading)
            for question, reading in zip(questions, readings, strict=True)
            if reading.failure is None
        )
        shown = [order for order in ORDERS if any(question.shown == order for question in questions)]
        by_order = {order: [verdict for verdict in orders if verdict.shown == order] for order in shown}
        if not all(by_order.values()) or len(failures) * 2 > len(readings):
            return PairVerdict(None, math.nan, orders, failures=failures, rationale=rationale)
        mean: dict[tuple[int, ...], float] = {order: self._mean(verdicts) for order, verdicts in by_order.items()}
        masses = [verdict.mass for verdict in orders if verdict.mass is not None]
        mass = min(masses) if masses else None
        return pair_verdict(mean, self.options.combine, orders, mass=mass, rationale=rationale, failures=failures)

    def _order_verdict(self, question: Question, reading: Reading) -> OrderVerdict:
        value, mass = reading.value, None
        if not isinstance(value, float):
            mass, value = value.mass, float(expit(value.log_odds))
        if self.options.clamp and self.mode == "pair_reasons":
            value = min(max(value, self.options.clamp[0]), self.options.clamp[1])
        return OrderVerdict(question.shown, value, reading.key, question.sample, mass)

    def _mean(self, verdicts: Sequence[OrderVerdict]) -> float:
        """P(first shown is better) from the samples of one order: a smoothed share of words, a mean of probabilities."""
        if all(verdict.mass is None for verdict in verdicts) and self.mode != "score":
            ties = sum(verdict.q == 0.5 for verdict in verdicts)
            wins = sum(verdict.q > 0.5 for verdict in verdicts)
            return smoothed_share(wins, ties, len(verdicts))
        return float(np.mean([verdict.q for verdict in verdicts]))

    # ---- Single responses and groups -----------------------------------------------------------------------------------------

    def scores(self, prompt: Prompt, responses: Sequence[Response], item: str = "") -> Conversation[list[ScoreVerdict]]:
        """Score each response by itself."""
        options = self.options
        by_log_probs = options.score_by == "log_probs" or (options.score_by == "auto" and self.has_log_probs)
        reader = ScoreReader(options.low, options.high, by_log_probs, options.min_mass)
        words = tuple(str(score) for score in range(options.low, options.high + 1)) if by_log_probs else ()
        settings = {} if by_log_probs else {"max_tokens": 16}
        questions = [
            self._question(
                self._messages(prompt, [response]),
                reader,
                options=words,
                item=item,
                shown=(i,),
                purpose="score",
                **settings,
            )
            for i, response in enumerate(responses)
        ]
        readings = yield from ask(questions, options.reasks, self._reminder())
        return [ScoreVerdict(math.nan if r.failure else float(r.value), r.key, r.failure) for r in readings]

    def ranking(self, prompt: Prompt, responses: Sequence[Response], item: str = "") -> Conversation[RankingVerdict]:
        """Rank all responses, in several orders. Unresolved if any order has no ranking."""
        rng = np.random.default_rng([self.options.seed, len(responses)])
        base = tuple(int(i) for i in rng.permutation(len(responses)))
        orders = [base, base[::-1]][: self.options.permutations]
        orders += [
            tuple(int(i) for i in rng.permutation(len(responses)))
            for _ in range(self.options.permutations - len(orders))
        ]
        questions = [
            self._question(
                self._messages(prompt, [responses[i] for i in order]),
                RankingReader(len(responses)),
                item=item,
                shown=order,
                sample=sample,
                **self._drawn(sample),
            )
            for sample, order in enumerate(orders)
        ]
        readings = yield from ask(questions, self.options.reasks, self._reminder(len(responses)))
        failures = tuple(reading.failure for reading in readings if reading.failure)
        keys = tuple(reading.key for reading in readings)
        if failures:
            return RankingVerdict((), keys, failures, tuple(orders))
        rankings = tuple(
            tuple(order[i] for i in reading.value) for order, reading in zip(orders, readings, strict=True)
        )
        return RankingVerdict(rankings, keys, shown=tuple(orders))

    # ---- What is asked -------------------------------------------------------------------------------------------------------

    def _messages(self, prompt: Prompt, responses: Sequence[Response]) -> tuple[Message, ...]:
        conversation, numbered = material(prompt, responses, self.options.seed)
        values = {**self._values(len(responses)), "conversation": conversation, "responses": numbered}
        sections = [("system", "system"), ("user", "user")]
        return tuple(
            Message(role, self.template.fill(section, values))
            for role, section in sections
            if section in self.template.sections
        )

    def _values(self, count: int = 2) -> dict[str, str]:
        options = self.options
        example = " > ".join(str(i) for i in range(count, 0, -1))
        return {
            "criterion": options.criterion, "low": str(options.low), "high": str(options.high),
            "count": str(count), "example": example,
        }  # fmt: skip

    def _reminder(self, count: int = 2) -> str:
        return self.template.fill("reminder", self._values(count)) if "reminder" in self.template.sections else ""

    def _question(self, messages: tuple[Message, ...], reader: Reader, **settings: object) -> Question:
        return Question(messages, reader, **{"seed": self.options.seed, **settings})  # type: ignore[arg-type]

    def _drawn(self, sample: int) -> dict[str, object]:
        return {
            "temperature": self.options.temperature,
            "max_tokens": self.options.max_tokens,
            "seed": (self.options.seed + 7919 * sample) % 2**31,
        }

    def _random_order(self, prompt: Prompt, first: Response, second: Response) -> int:
        from guerdon.contracts import digest, prompt_identity, response_identity

        pair = sorted([str(response_identity(first)), str(response_identity(second))])
        return int(digest([self.options.seed, str(prompt_identity(prompt)), pair]), 16) % 2


def pair_verdict(
    mean: Mapping[tuple[int, ...], float],
    combine: Combination,
    orders: tuple[OrderVerdict, ...],
    *,
    mass: float | None = None,
    rationale: str = "",
    failures: tuple[Failure, ...] = (),
) -> PairVerdict:
    """The verdict on a pair from P(the response shown first is better) in one order or in both."""
    if len(mean) == 1:
        ((order, q),) = mean.items()
        q = q if order == (0, 1) else 1.0 - q
        return PairVerdict(q, _log_odds(q), orders, mass=mass, rationale=rationale, failures=failures)
    forward, backward = (np.array([logit(min(max(mean[order], 1e-12), 1 - 1e-12))]) for order in ORDERS)
    q = float(q_from_orders(forward, backward, combine)[0])
    is_consistent = (mean[0, 1] - 0.5) * (mean[1, 0] - 0.5) < 0 or mean[0, 1] == mean[1, 0] == 0.5
    bias = float(position_bias(forward, backward)[0])
    return PairVerdict(q, _log_odds(q), orders, bias, is_consistent, mass, rationale, failures)


def _log_odds(q: float) -> float:
    return float(log_odds_from_q(np.array([q]))[0])
