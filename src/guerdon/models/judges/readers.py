"""How answers are read: a verdict by log-probabilities, a verdict on the last line, a score, a ranking, or text.

Each reader is a pure function of the answer. What cannot be read is a failure with a code, never a default.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from guerdon.formulas.verdicts import expected_score
from guerdon.models.judges.calls import Answer, Unreadable
from guerdon.models.judges.failures import FailureCode

REFUSAL: Final = re.compile(
    r"^\W*(I('|’)?m sorry|I am sorry|sorry,|I apologi[sz]e|I (can('|’)?t|cannot|won('|’)?t|will not|am unable|'m unable)"
    r"|as an AI\b|I must decline|I('|’)d rather not)",
    re.IGNORECASE,
)

Verdict = float
"""P(the response shown first is better): 0, 1/2 or 1 for a verdict in words."""


@dataclass(frozen=True, slots=True)
class TokenVerdict:
    """What the probabilities of the options say. log_odds: of the first option against the second, nats. mass: of both."""

    log_odds: float
    mass: float


@dataclass(frozen=True, slots=True)
class OptionReader:
    """The log-odds of two options by the log-probabilities of the answer's first token.

    Spellings of an option ("1", " 1", "Yes" for "yes") count together. An option that the server does not list has at most
    the probability of the least likely listed token. min_mass: what both must have together.
    """

    options: tuple[str, str]
    min_mass: float = 0.5

    def read(self, answer: Answer) -> TokenVerdict:
        """Raises Unreadable: unparsable without log-probabilities, verdict_mass_low below min_mass."""
        refuse_filtered(answer)
        if not answer.alternatives:
            raise Unreadable("unparsable", "the answer has no log-probabilities")
        first, second = (option_log_prob(answer.alternatives, option) for option in self.options)
        known = [log_prob for log_prob in (first, second) if log_prob is not None]
        mass = min(1.0, math.fsum(math.exp(log_prob) for log_prob in known))
        if mass < self.min_mass:
            likely = max(answer.alternatives, key=lambda text: answer.alternatives[text])
            reason = (
                f"{' and '.join(self.options)} have {mass:.2g} of the probability; the most likely is {likely!r:.40}"
            )
            raise Unreadable("verdict_mass_low", reason)
        floor = min(answer.alternatives.values())
        log_odds = (floor if first is None else first) - (floor if second is None else second)
        return TokenVerdict(log_odds, mass)


@dataclass(frozen=True, slots=True)
class VerdictLineReader:
    """The verdict on the last line that has one: P(the first is better) of 1, 0, or 1/2 for a tie."""

    label: str = "Verdict"

    def read(self, answer: Answer) -> Verdict:
        """Raises Unreadable: refusal, truncated, empty, unparsable."""
        text = finished_text(answer)
        lines = re.findall(rf"{self.label}\W*?\s*:\W*?(1|2|tie)\b", text, re.IGNORECASE)
        if not lines:
            bare = re.fullmatch(r"\W*(?:response )?(1|2|tie)\W*", text, re.IGNORECASE)
            if bare is None:
                raise Unreadable(*without_verdict(answer, f'no line "{self.label}: 1", "2" or "tie"'))
            lines = [bare[1]]
        return {"1": 1.0, "2": 0.0, "tie": 0.5}[lines[-1].lower()]


@dataclass(frozen=True, slots=True)
class WordReader:
    """One of two words, by itself or first: 1.0 for the first, 0.0 for the second."""

    words: tuple[str, str] = ("yes", "no")

    def read(self, answer: Answer) -> float:
        """Raises Unreadable: refusal, truncated, empty, unparsable."""
        text = finished_text(answer, may_be_cut=True)
        match = re.match(rf"\W*({'|'.join(map(re.escape, self.words))})\b", text, re.IGNORECASE)
        if match is None:
            raise Unreadable(*without_verdict(answer, f"it must start with {' or '.join(self.words)}"))
        return float(match[1].lower() == self.words[0].lower())


@dataclass(frozen=True, slots=True)
class ScoreReader:
    """A score on a scale: the expected score where there are log-probabilities, else the number that the answer gives.

    by_log_probs needs a scale of single digits: "10" starts with the token of "1".
    """

    low: int
    high: int
    by_log_probs: bool = True
    min_mass: float = 0.5

    def read(self, answer: Answer) -> float:
        """Raises Unreadable: verdict_mass_low, refusal, truncated, empty, unparsable, schema_invalid off the scale."""
        if self.by_log_probs:
            return self._expected(answer)
        text = finished_text(answer, may_be_cut=True)
        match = re.fullmatch(r"\W*(?:\w+\W+){0,3}?(-?\d+(?:\.\d+)?)(?:\s*(?:/|out of)\s*\d+)?\W*", text)
        if match is None:
            raise Unreadable(*without_verdict(answer, "it is not one number"))
        score = float(match[1])
        if not self.low <= score <= self.high:
            raise Unreadable("schema_invalid", f"{match[1]} is not on the scale from {self.low} to {self.high}")
        return score

    def _expected(self, answer: Answer) -> float:
        refuse_filtered(answer)
        if not answer.alternatives:
            raise Unreadable("unparsable", "the answer has no log-probabilities")
        scores = range(self.low, self.high + 1)
        log_probs = [option_log_prob(answer.alternatives, str(score)) for score in scores]
        listed = [(float(s), lp) for s, lp in zip(scores, log_probs, strict=True) if lp is not None]
        if not listed:
            raise Unreadable("verdict_mass_low", f"no score from {self.low} to {self.high} among the likely answers")
        mean, mass = expected_score(np.array([s for s, _ in listed]), np.array([lp for _, lp in listed]))
        if mass < self.min_mass:
            raise Unreadable("verdict_mass_low", f"the scores have {mass:.2g} of the probability")
        return mean


@dataclass(frozen=True, slots=True)
class RankingReader:
    """A ranking of k responses: their positions as shown, counted from 0, best first."""

    k: int

    def read(self, answer: Answer) -> tuple[int, ...]:
        """Raises Unreadable: schema_invalid for what is no permutation; refusal, truncated, empty, unparsable."""
        text = finished_text(answer)
        lines = re.findall(r"Ranking\W*?\s*:\s*([\d\s>,;*`]+)", text, re.IGNORECASE)
        if not lines:
            raise Unreadable(*without_verdict(answer, 'no line that starts with "Ranking:"'))
        ranking = tuple(int(number) - 1 for number in re.findall(r"\d+", lines[-1]))
        if sorted(ranking) != list(range(self.k)):
            shown = ", ".join(str(position + 1) for position in ranking)[:80]
            raise Unreadable("schema_invalid", f"the ranking must name each of {self.k} responses once, got {shown}")
        return ranking


@dataclass(frozen=True, slots=True)
class TextReader:
    """The text itself, if it is complete. refusals_too: a refusal is an answer as well."""

    refusals_too: bool = False

    def read(self, answer: Answer) -> str:
        """Raises Unreadable: content_filter, refusal, truncated, empty."""
        text = finished_text(answer)
        if not self.refusals_too and (answer.refusal or REFUSAL.match(text)):
            raise Unreadable("refusal", text[:200])
        return text


# ---- What all readers check --------------------------------------------------------------------------------------------


def refuse_filtered(answer: Answer) -> None:
    """Raise Unreadable for an answer that the provider filtered or the model refused in the API's own way."""
    if answer.finish in ("content_filter", "safety", "blocked"):
        raise Unreadable("content_filter", answer.text[:200])
    if answer.refusal:
        raise Unreadable("refusal", answer.refusal[:200])


def finished_text(answer: Answer, *, may_be_cut: bool = False) -> str:
    """The answer's text without a reasoning model's thoughts. Raises Unreadable for one that is filtered, cut or empty."""
    refuse_filtered(answer)
    text = re.sub(r"^\s*<think>.*?</think>", "", answer.text, flags=re.DOTALL).strip()
    if (answer.finish == "length" and not may_be_cut) or text.startswith("<think>"):
        raise Unreadable("truncated", text[-80:])
    if not text:
        raise Unreadable("empty")
    return text


def without_verdict(answer: Answer, reason: str) -> tuple[FailureCode, str]:
    """The code for an answer that holds no verdict: a refusal says so, anything else is unparsable."""
    code: FailureCode = "refusal" if REFUSAL.match(answer.text) else "unparsable"
    return code, f"{reason}: {answer.text[-120:]!r}"


def option_log_prob(alternatives: Mapping[str, float], option: str) -> float | None:
    """The log-probability of all spellings of an option together; None where none is listed."""
    spellings: Sequence[float] = [
        log_prob
        for text, log_prob in alternatives.items()
        if text.strip().strip("▁Ġ").lower() == option.lower() and log_prob > -math.inf
    ]
    if not spellings:
        return None
    top = max(spellings)
    return top + math.log(math.fsum(math.exp(log_prob - top) for log_prob in spellings))
