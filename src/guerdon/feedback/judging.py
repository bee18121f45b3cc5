"""Pairs in, judged comparisons out: a judge labels a stream of pairs, and a report says how.

What has no verdict is no label: it is counted by its code, and comes out with its failures. Memory holds what is in flight, and
six numbers of each pair for the intervals of the report.
"""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, Protocol

import numpy as np

from guerdon.contracts import (
    Comparison,
    Estimate,
    Finding,
    Preference,
    Prompt,
    Quantity,
    Report,
    Response,
    digest,
    prompt_digest,
)
from guerdon.errors import counted, verb
from guerdon.formulas.clustered import clustered_mean, clustered_share
from guerdon.models.judges.driver import in_order
from guerdon.models.judges.failures import MEANINGS
from guerdon.models.judges.missing import missingness_findings
from guerdon.models.judges.prompted import Group, Pair, PromptedJudge
from guerdon.models.judges.verdicts import PairVerdict, RankingVerdict

QUANTITIES = {
    "unresolved": Quantity("pairs without a verdict", "share", "Verdicts", "They have no label."),
    "flip_rate": Quantity(
        "pairs whose two orders disagree", "share", "Position", "They are kept with their q, never called ties."
    ),
    "first_pick_rate": Quantity("verdicts for what is shown first", "share", "Position", "1/2 without position bias; a tie counts half."),
    "position_bias": Quantity("what being shown first adds", "nats", "Position"),
    "decided": Quantity("pairs with q below 0.25 or above 0.75", "share", "Verdicts"),
    "verdict_mass": Quantity(
        "probability of the verdicts", "share", "Verdicts", "The least of a pair's calls, where answers come with log-probabilities."
    ),
}  # fmt: skip


UNRESOLVED = PairVerdict(None, float("nan"))  # of a pair; what is measured of pairs says nothing of rankings


class ComparesPairs(Protocol):
    """What is needed of a judge."""

    @property
    def name(self) -> str:
        """The name under which its judgments are kept."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of what changes its verdicts."""
        ...

    def compare(self, pairs: Iterable[Pair]) -> Iterator[tuple[int, PairVerdict]]:
        """Judge pairs; yields the position and the verdict of each, in any order."""
        ...


@dataclass(frozen=True, slots=True)
class Unjudged:
    """Responses to compare; whatever somebody said of them before is not shown to a judge.

    id, group, source, weight: as in Comparison. facts: of the item in a store.
    """

    prompt: Prompt
    responses: tuple[Response, ...]
    id: str = ""
    group: str = ""
    source: str | None = None
    weight: float = 1.0
    facts: Mapping[str, Any] = field(default_factory=dict)

    def units(self, ranks: bool) -> Iterator[Unjudged]:
        """What a judge is shown at a time: each two of the responses, or, for a judge that ranks, all of them."""
        if len(self.responses) == 2 or ranks:
            yield self
            return
        for i, j in combinations(range(len(self.responses)), 2):
            responses = (self.responses[i], self.responses[j])
            yield replace(self, responses=responses, id=f"{self.id}:{i}-{j}" if self.id else "")

    @property
    def unit(self) -> str:
        """What intervals resample."""
        return self.group or prompt_digest(self.prompt)


@dataclass(frozen=True, slots=True)
class Judged:
    """A pair and its verdict; or, of a judge that ranks, more than two responses and their rankings."""

    pair: Unjudged
    verdict: PairVerdict | RankingVerdict
    judge: str

    def comparison(self, hard: bool = False) -> Comparison | None:
        """The labeled comparison. None without a verdict; and where hard, for a tie and for two orders that disagree, for which
        no response is preferred. hard: the preferred response instead of the probability."""
        preference = self._preference(hard)
        if preference is None:
            return None
        pair = self.pair
        return Comparison(
            pair.prompt,
            pair.responses,
            preference,
            annotator=self.judge,
            source=pair.source,
            weight=pair.weight,
            group=pair.group,
            id=pair.id,
            rationale=getattr(self.verdict, "rationale", "") or None,
        )

    def _preference(self, hard: bool) -> Preference | None:
        verdict = self.verdict
        if not verdict.is_resolved or (hard and verdict.is_consistent is False):
            return None
        if isinstance(verdict, RankingVerdict):  # rankings that contradict each other altogether are no tie
            return Preference(groups=verdict.groups) if len(verdict.groups) > 1 else None
        q = verdict.q
        assert q is not None
        if not hard:
            return Preference(q=q)
        return None if q == 0.5 else Preference(groups=((0,), (1,)) if q > 0.5 else ((1,), (0,)))

    def details(self, fingerprint: str) -> dict[str, Any]:
        """What a comparison has no field for: what each call said, in the order shown, and how sure the verdict is."""
        verdict = self.verdict
        common = {"id": self._id(), "judge": {"name": self.judge, "fingerprint": fingerprint}}
        if isinstance(verdict, RankingVerdict):
            rankings = zip(verdict.shown, verdict.rankings, verdict.keys, strict=False)
            calls: list[dict[str, Any]]
            calls = [{"shown": list(shown), "ranking": list(best), "call": key} for shown, best, key in rankings]
            groups = [list(group) for group in verdict.groups]
            return {**common, "groups": groups or None, "is_consistent": verdict.is_consistent, "calls": calls}
        calls = [
            {"shown": list(order.shown), "q": order.q, "sample": order.sample, "call": order.key, "mass": order.mass}
            for order in verdict.orders
        ]
        return {
            **common,
            "q": verdict.q,
            "log_odds": verdict.log_odds if verdict.is_resolved else None,
            "is_consistent": verdict.is_consistent,
            "position_bias": verdict.bias,
            "mass": verdict.mass,
            "calls": calls,
            "rationale": verdict.rationale or None,
        }

    def failure(self) -> dict[str, Any]:
        """Why there is no verdict: the code of each call that failed, and what was said."""
        failures = [{"code": failure.code, "reason": failure.reason} for failure in self.verdict.failures]
        return {"id": self._id(), "failures": failures}

    def _id(self) -> str:
        k = len(self.pair.responses)
        nothing = Preference(q=0.5) if k == 2 else Preference(groups=(tuple(range(k)),))
        whole = Comparison(
            self.pair.prompt, self.pair.responses, self._preference(False) or nothing,
            annotator=self.judge, group=self.pair.group, id=self.pair.id,
        )  # fmt: skip
        return whole.id


def judge_pairs(judge: ComparesPairs, rows: Iterable[Unjudged], tally: JudgingTally) -> Iterator[Judged]:
    """Each pair with its verdict, in the order of the rows; more than two responses are compared two by two, or ranked by a
    judge that ranks."""
    waiting: deque[Unjudged] = deque()
    ranker = judge if isinstance(judge, PromptedJudge) and judge.interview.mode == "ranking" else None
    if ranker is not None:
        tally.noun = "group"

    def pairs() -> Iterator[Pair]:
        for row in rows:
            for pair in row.units(ranks=False):
                waiting.append(pair)
                first, second = pair.responses
                yield Pair(pair.prompt, first, second, pair.id)

    def groups() -> Iterator[Group]:
        for row in rows:
            waiting.append(row)
            yield Group(row.prompt, row.responses, row.id)

    verdicts: Iterable[tuple[int, PairVerdict | RankingVerdict]]
    verdicts = judge.compare(pairs()) if ranker is None else ranker.rank(groups())
    for verdict in in_order(verdicts):
        judged = Judged(waiting.popleft(), verdict, judge.name)
        tally.add(judged)
        yield judged


@dataclass(slots=True)
class JudgingTally:
    """What a judge said so far. The columns have one entry per pair, NaN where there is nothing to say.

    authors: who wrote the two responses, as a number for each distinct pair of names. length: characters of all responses.
    noun: what was judged.
    """

    names: dict[str, int] = field(default_factory=dict)
    authors: array[int] = field(default_factory=lambda: array("q"))
    failures: Counter[str] = field(default_factory=Counter)
    groups: array[int] = field(default_factory=lambda: array("q"))
    noun: str = "pair"
    columns: Mapping[str, array[float]] = field(
        default_factory=lambda: {
            name: array("d") for name in ("unresolved", "flip", "first_pick", "bias", "decided", "mass", "length")
        }
    )

    def add(self, judged: Judged) -> None:
        """Count a pair."""
        verdict = judged.verdict
        self.failures.update(failure.code for failure in verdict.failures)
        self.groups.append(int(digest(judged.pair.unit, 15), 16))
        pair = verdict if isinstance(verdict, PairVerdict) else UNRESOLVED
        picks = [0.5 if order.q == 0.5 else float(order.q > 0.5) for order in pair.orders]
        q = pair.q
        row = {
            "unresolved": float(not verdict.is_resolved),
            "flip": None
            if not verdict.is_resolved or verdict.is_consistent is None
            else float(not verdict.is_consistent),
            "first_pick": sum(picks) / len(picks) if picks and q is not None else None,
            "bias": None if pair.bias is None else round(pair.bias, 9) + 0.0,
            "decided": None if q is None else float(abs(q - 0.5) > 0.25),
            "mass": pair.mass,
            "length": float(sum(len(response.text) for response in judged.pair.responses)),
        }
        writers = " and ".join(sorted(response.author or "" for response in judged.pair.responses))
        self.authors.append(self.names.setdefault(writers, len(self.names)))
        for name, value in row.items():
            self.columns[name].append(float("nan") if value is None else value)

    @property
    def pairs(self) -> int:
        """How many pairs were judged."""
        return len(self.groups)

    @property
    def unresolved(self) -> int:
        """How many of them have no verdict."""
        return int(sum(self.columns["unresolved"]))

    @property
    def unresolved_share(self) -> float:
        """Share of pairs without a verdict."""
        return self.unresolved / self.pairs if self.pairs else 0.0

    def estimates(self) -> dict[str, Estimate]:
        """Shares and means with intervals over prompts; what was not measured is left out."""
        groups = np.array(self.groups, dtype=np.int64)
        names = {
            "unresolved": "unresolved", "flip_rate": "flip", "first_pick_rate": "first_pick", "position_bias": "bias",
            "decided": "decided", "verdict_mass": "mass",
        }  # fmt: skip
        estimates = {}
        for name, column in names.items():
            values = np.array(self.columns[column])
            known = ~np.isnan(values)
            if known.any():
                mean = clustered_mean if column == "bias" else clustered_share
                estimates[name] = Estimate(*mean(values[known], groups[known]))
        return estimates


def judging_report(tally: JudgingTally, about: Mapping[str, str], unresolved_max: float = 1.0) -> Report:
    """What a judge did: failures by code first, then how it judged."""
    counts = {f"failed: {code}": f"{count:,}" for code, count in tally.failures.most_common()}
    return Report(
        "Judging",
        about={f"{tally.noun}s": f"{tally.pairs:,}", "without a verdict": f"{tally.unresolved:,}", **counts, **about},
        estimates=tally.estimates(),
        findings=tuple(_findings(tally, unresolved_max)),
        quantities=QUANTITIES,
        summary=f"{tally.pairs - tally.unresolved:,} of {counted(tally.pairs, tally.noun)} {verb(tally.pairs, 'have')} a verdict",
    )


def _findings(tally: JudgingTally, unresolved_max: float) -> Iterator[Finding]:
    if tally.failures:
        listed = ", ".join(f"{code} {count:,} ({MEANINGS[code]})" for code, count in tally.failures.most_common())  # type: ignore[index]
        yield Finding(
            "warning" if tally.unresolved_share > unresolved_max else "note",
            f"{tally.unresolved:,} of {counted(tally.pairs, tally.noun)} {verb(tally.pairs, 'have')} no verdict",
            f"Calls that failed: {listed}.",
            "Run the command again: what was answered is kept, and only the rest is asked.",
        )
    failed, authors = np.array(tally.columns["unresolved"]) > 0, np.array(list(tally.names), dtype=np.str_)
    if failed.any():
        lengths, prompts = np.array(tally.columns["length"]), np.array(tally.groups)
        yield from missingness_findings(failed, authors[np.array(tally.authors)], lengths, prompts)
    flips = np.array(tally.columns["flip"])
    flips = flips[~np.isnan(flips)]
    if len(flips) and flips.mean() > 0.25:
        yield Finding(
            "warning",
            "The judge changes its mind with the order",
            f"In {flips.mean():.0%} of {tally.noun}s the orders give different preferences.",
            "Leave such pairs out of hard labels (--hard), use a stronger judge, or ask for reasons (mode: pair_reasons).",
        )
