"""What a run of critique and revision gives: supervised rows, comparisons, and the record of every step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guerdon.config.feedback import ConstitutionOptions
from guerdon.contracts import Comparison, Preference, Prompt, Response, digest
from guerdon.conversation import message_dict
from guerdon.feedback.constitution.compare import PrincipledVerdict, is_verified
from guerdon.feedback.constitution.revise import Chain
from guerdon.models.judges.prompted import Pair
from guerdon.models.judges.verdicts import PairVerdict

UNVERIFIED = "unverified"


@dataclass(frozen=True, slots=True)
class RevisionPair:
    """A revision and the text before it. step: of the revision, from 0. principle: the one it was revised under last.

    under_principle, helpful: P(the revision is better) by each; None where there is no verdict. is_verified: None unless checked.
    """

    chain: Chain
    before: Response
    after: str
    principle: str
    step: int
    critique: str
    under_principle: PairVerdict | None = None
    helpful: PairVerdict | None = None
    is_verified: bool | None = None

    def checked(self, under_principle: PairVerdict, helpful: PairVerdict, options: ConstitutionOptions) -> RevisionPair:
        """The same pair with what the judge says."""
        verified = is_verified(under_principle, helpful, options)
        return RevisionPair(
            self.chain,
            self.before,
            self.after,
            self.principle,
            self.step,
            self.critique,
            under_principle,
            helpful,
            verified,
        )

    def as_pair(self) -> Pair:
        """The pair to judge, the revision first."""
        return Pair(self.chain.prompt, Response(self.after), self.before, f"{self.chain.id}/{self.step}")

    def comparison(self, critic: str, source: str) -> Comparison:
        """The pair as a comparison; which side the revision is on depends on its text alone.

        Checked pairs have the judge's probability under the principle, others the bare claim that the revision is better,
        and a source that ends in "unverified".
        """
        revision = Response(self.after, finish="stop", author=f"{critic} (revision)")
        is_first = int(digest([self.after, self.before.text]), 16) % 2 == 0
        q = self.under_principle.q if self.under_principle and self.under_principle.q is not None else 1.0
        return Comparison(
            prompt=self.chain.prompt,
            responses=(revision, self.before) if is_first else (self.before, revision),
            preference=Preference(q=q if is_first else 1.0 - q),
            annotator=f"{critic}/{self.principle}",
            source=source if self.is_verified else f"{source}, {UNVERIFIED}",
            rationale=self.critique or None,
        )


def revision_pairs(chain: Chain, options: ConstitutionOptions) -> Iterator[RevisionPair]:
    """The pairs of a chain: the last revision over the first response, and each step over the one before if wanted."""
    used = chain.used
    if not used:
        return
    number_of = {id(step): number for number, step in enumerate(chain.steps)}
    _, last = used[-1]
    yield RevisionPair(chain, chain.first, last.text, last.principle, number_of[id(last)], last.critique)
    if options.pairs == "steps" and len(used) > 1:
        for position, (before, step) in enumerate(used):
            earlier = chain.first if position == 0 else Response(before)
            yield RevisionPair(chain, earlier, step.text, step.principle, number_of[id(step)], step.critique)


def sft_rows(chain: Chain, options: ConstitutionOptions, source: str) -> Iterator[dict[str, Any]]:
    """Rows of messages for supervised training. A chain in which a call failed gives none."""
    if any(step.state == "failed" for step in chain.steps) or not chain.steps:
        return
    texts = [step.text for _, step in chain.used] if options.sft == "steps" else []
    for text in texts or [chain.last]:
        turns = [message_dict(turn) for turn in chain.prompt]
        yield {"messages": [*turns, {"role": "assistant", "content": text}], "source": source, "id": chain.id}


def chain_row(chain: Chain) -> dict[str, Any]:
    """Every step of a chain, as a row to keep."""
    return {
        "id": chain.id,
        "prompt": [message_dict(turn) for turn in chain.prompt],
        "response": chain.first.text,
        "steps": [
            {
                "principle": step.principle, "state": step.state, "critique": step.critique, "revision": step.revision,
                "text": step.text, "reason": step.reason, "calls": list(step.keys),
            }
            for step in chain.steps
        ],
    }  # fmt: skip


def pair_row(pair: RevisionPair) -> dict[str, Any]:
    """What the check of a pair found, as a row to keep."""
    return {
        "id": pair.chain.id, "step": pair.step, "principle": pair.principle, "verified": pair.is_verified,
        "under_principle": _facts(pair.under_principle), "helpful": _facts(pair.helpful),
    }  # fmt: skip


def verdict_row(pair: Pair, verdict: PrincipledVerdict) -> dict[str, Any]:
    """What the principles said of a pair, as a row to keep. spread: standard deviation of q over principles, None for fewer than two."""
    spread = None if math.isnan(verdict.spread) else verdict.spread
    by_principle = {name: _facts(each) for name, each in verdict.by_principle.items()}
    return {"id": pair.item, "q": verdict.q, "spread": spread, "by_principle": by_principle}


def _facts(verdict: PairVerdict | None) -> dict[str, Any] | None:
    if verdict is None:
        return None
    failures = [failure.code for failure in verdict.failures]
    return {"q": verdict.q, "bias": verdict.bias, "consistent": verdict.is_consistent, "failures": failures}


def principle_comparisons(
    prompt: Prompt, responses: Sequence[Response], verdict: PrincipledVerdict, judge: str, source: str
) -> Iterator[Comparison]:
    """One comparison per principle that gave a verdict: each principle is an annotator. None where the pair has no verdict."""
    if verdict.q is None:
        return
    by_principle: Mapping[str, PairVerdict] = verdict.by_principle
    for name, each in by_principle.items():
        if each.q is not None:
            yield Comparison(
                prompt=prompt,
                responses=tuple(responses),
                preference=Preference(q=each.q),
                annotator=f"{judge}/{name}",
                source=source,
                rationale=each.rationale or None,
            )


def mean_comparison(
    prompt: Prompt, responses: Sequence[Response], verdict: PrincipledVerdict, judge: str, source: str
) -> Comparison | None:
    """The comparison with the mean over principles as its label; None where the pair has no verdict."""
    if verdict.q is None:
        return None
    return Comparison(prompt, tuple(responses), Preference(q=verdict.q), annotator=judge, source=source)
