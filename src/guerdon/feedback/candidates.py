"""Candidates: replies of one or more policies to each prompt, drawn by calls that are kept.

A failed call is no reply: it is counted by its code, and the same run again asks for it alone. Replies that were drawn are
read from the log of calls, so no reply is drawn twice.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations
from typing import Any

from guerdon.config import BestOfNOptions
from guerdon.contracts import Prompt, Response, digest, prompt_digest
from guerdon.io.schema import prompt_to_row, response_to_row
from guerdon.models.judges.calls import Answer, Question, Unreadable
from guerdon.models.judges.driver import Conversation, Respondent, in_order
from guerdon.models.judges.failures import Failure, FailureCode
from guerdon.models.judges.readers import refuse_filtered
from guerdon.store.canonical import content_of

_THOUGHTS = re.compile(r"^\s*<think>.*?</think>\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class CandidatePolicy:
    """Who replies. name: the author of its replies. failed_max: share of failed calls above which its run counts as failed."""

    name: str
    respondent: Respondent
    failed_max: float


@dataclass(frozen=True, slots=True)
class Draw:
    """One call for a reply and what came of it: either `response` or `failure` is set. origin: the settings it was drawn with."""

    policy: str
    origin: Mapping[str, Any]
    response: Response | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Candidates:
    """A prompt and its draws, policy by policy."""

    prompt: Prompt
    draws: tuple[Draw, ...]

    @property
    def responses(self) -> tuple[Response, ...]:
        """The replies."""
        return tuple(draw.response for draw in self.draws if draw.response is not None)

    def row(self) -> dict[str, Any]:
        """The row of a file: {id, prompt, responses: [{text, finish, author}], origins: [one per response], failed?}.

        failed: {policy, sample, code, reason} of each call that gave no reply. Without any reply, `excluded` says why.
        """
        row: dict[str, Any] = {"id": prompt_digest(self.prompt), **prompt_to_row(self.prompt)}
        failed = [
            {
                "policy": draw.policy,
                "sample": draw.origin["sample"],
                "code": draw.failure.code,
                "reason": draw.failure.reason,
            }
            for draw in self.draws
            if draw.failure is not None
        ]
        if not self.responses:
            return {**row, "excluded": "no policy replied", "failed": failed}
        row["responses"] = [response_to_row(response) for response in self.responses]
        row["origins"] = [dict(draw.origin) for draw in self.draws if draw.response is not None]
        return {**row, "failed": failed} if failed else row

    def comparable(self, in_pairs: bool) -> Iterator[tuple[Response, ...]]:
        """What there is to judge: each two replies of different texts, or all replies of different texts together."""
        distinct = list({response.text: response for response in reversed(self.responses)}.values())[::-1]
        if in_pairs:
            yield from combinations(distinct, 2)
        elif len(distinct) > 1:
            yield tuple(distinct)


@dataclass(slots=True)
class CandidateTally:
    """How many prompts, replies and failed calls there are, by policy."""

    prompts: int = 0
    without_reply: int = 0
    replies: Counter[str] = field(default_factory=Counter)
    failed: dict[str, Counter[FailureCode]] = field(default_factory=dict)

    def add(self, candidates: Candidates) -> None:
        """Count a prompt."""
        self.prompts += 1
        self.without_reply += not candidates.responses
        for draw in candidates.draws:
            if draw.failure is None:
                self.replies[draw.policy] += 1
            else:
                self.failed.setdefault(draw.policy, Counter())[draw.failure.code] += 1

    @property
    def num_failed(self) -> int:
        """Calls that gave no reply."""
        return sum(codes.total() for codes in self.failed.values())

    def failed_share(self, policy: str) -> float:
        """Share of a policy's calls that gave no reply."""
        failed = self.failed.get(policy, Counter()).total()
        return failed / max(1, failed + self.replies[policy])

    def facts(self, policy: str) -> dict[str, int]:
        """The replies of a policy, and its failed calls by code."""
        failed = self.failed.get(policy, Counter()).most_common()
        return {"replies": self.replies[policy], **{f"failed: {code}": count for code, count in failed}}


@dataclass(frozen=True, slots=True)
class ReplyReader:
    """A reply as it is, without a reasoning model's thoughts. One that was cut, and one that declines, is a reply too."""

    author: str

    def read(self, answer: Answer) -> Response:
        """Raises Unreadable: content_filter, refusal in the API's own field, truncated among thoughts, empty."""
        refuse_filtered(answer)
        text = _THOUGHTS.sub("", answer.text, count=1)
        if text.lstrip().startswith("<think>"):
            raise Unreadable("truncated", "the answer ends among the model's thoughts")
        if not text.strip():
            raise Unreadable("empty")
        return Response(text, finish="stop" if answer.finish == "stop" else "length", author=self.author)


def draw_candidates(
    policies: Sequence[CandidatePolicy], prompts: Sequence[Prompt], options: BestOfNOptions
) -> Iterator[Candidates]:
    """The draws of all policies for each prompt, in order. A draw depends on the policy, its name, the prompt, the seed and its number."""
    streams = [in_order(_converse(policy, prompts, options)) for policy in policies]
    try:
        for prompt, *draws in zip(prompts, *streams, strict=True):
            yield Candidates(prompt, tuple(chain.from_iterable(draws)))
    finally:
        streams.clear()  # ends the calls in flight


def _converse(
    policy: CandidatePolicy, prompts: Sequence[Prompt], options: BestOfNOptions
) -> Iterator[tuple[int, tuple[Draw, ...]]]:
    return policy.respondent.converse(_conversation(policy, prompt, options) for prompt in prompts)


def _conversation(policy: CandidatePolicy, prompt: Prompt, options: BestOfNOptions) -> Conversation[tuple[Draw, ...]]:
    """All calls for one prompt at once; none is repeated, for a second try would choose among replies."""
    questions = [_question(policy, prompt, options, number) for number in range(options.n)]
    readings = yield questions
    fingerprint = policy.respondent.fingerprint
    return tuple(
        Draw(policy.name, _origin(question, fingerprint, reading.key), reading.value, reading.failure)
        for question, reading in zip(questions, readings, strict=True)
    )


def _question(policy: CandidatePolicy, prompt: Prompt, options: BestOfNOptions, number: int) -> Question:
    return Question(
        tuple(prompt),
        ReplyReader(policy.name),
        max_tokens=options.max_tokens,
        temperature=options.temperature,
        seed=int(digest([options.seed, policy.name, prompt_digest(prompt), number]), 16) % 2**31,
        sample=number,
        purpose="sample",
        item=content_of("prompt", value=prompt_to_row(prompt)).id,  # its id in a store
    )


def _origin(question: Question, fingerprint: str, key: str) -> dict[str, Any]:
    return {
        "model": fingerprint,
        "temperature": question.temperature,
        "max_tokens": question.max_tokens,
        "seed": question.seed,
        "sample": question.sample,
        "call": key,
    }
