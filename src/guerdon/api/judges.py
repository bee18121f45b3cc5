"""Judges from judge.yaml or options, for audits, benchmarks, best-of-n and optimization."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guerdon.config import JudgeOptions, make
from guerdon.contracts import Report
from guerdon.models.fingerprint import fingerprint_of

if TYPE_CHECKING:
    from guerdon.contracts import PromptLike, ResponseLike, RewardModel, Scores
    from guerdon.models.judges.calls import CallLog
    from guerdon.models.judges.comparing import VerdictJudge


def load_judge(source: str | Path | Mapping[str, Any], *, log: CallLog | None = None, **options: Any) -> VerdictJudge:
    """A judge from judge.yaml or from a mapping of its options. Keywords are JudgeOptions, and go over those of the file.

    It fulfills Judge: `judge.log_odds(prompts, first, second)` gives log-odds in nats, NaN where a pair has no verdict. `tally`
    counts what it did. log: where calls are kept; in memory by default.
    """
    from guerdon.models.judges.build import build_judge

    return build_judge(judge_options(source, **options), log)


def judge_rewards(judge: VerdictJudge, opponents: int | None = None) -> RewardModel:
    """A judge as a reward model: scores where its mode is score, else rewards fitted to verdicts among a prompt's responses.

    A response without a verdict gets NaN. opponents: responses that each is compared with; all by default.
    """
    from guerdon.models.judges.rewards import as_reward_model

    return as_reward_model(judge, opponents)


def judge_options(source: str | Path | Mapping[str, Any], **changes: Any) -> JudgeOptions:
    """The options of judge.yaml, or of a mapping, with others over them."""
    from guerdon.io.judge_file import read_judge

    return make(JudgeOptions, {**source, **changes}) if isinstance(source, Mapping) else read_judge(source, **changes)


@contextmanager
def call_log(store: str | Path | None = None) -> Iterator[CallLog]:
    """Where the calls of judges are kept: in a store, so that nothing is asked twice, or in memory without one."""
    from guerdon.models.judges.calls import MemoryCallLog
    from guerdon.store.calls import open_call_log

    if store is None:
        yield MemoryCallLog()
        return
    with open_call_log(store, create=False) as log:
        yield log


class JudgeAsReward:
    """A metered judge as a reward model: what `--reward judge.yaml` is."""

    def __init__(self, metered: MeteredJudge) -> None:
        self.metered, self.model = metered, metered.rewards
        self.name = self.__name__ = metered.name

    @property
    def fingerprint(self) -> str:
        """The rewards' own."""
        return fingerprint_of(self.model)

    def score(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Scores:
        """Rewards in nats; NaN without a verdict."""
        return self.model.score(prompts, responses)


class MeteredJudge:
    """A judge of a command: its options, what it did, and what it cost.

    log: where its calls are kept; in memory by default. card: card.json of this judge, which reports show; by default, the
    one that the log's store holds. Raises GuerdonError for the card of another judge.
    """

    def __init__(self, options: JudgeOptions, log: CallLog | None = None, *, card: str | Path | None = None) -> None:
        from guerdon.api.judge_cards import read_card_report, require_card_of
        from guerdon.io.price_table import priced
        from guerdon.models.judges.build import build_judge
        from guerdon.models.judges.calls import MemoryCallLog
        from guerdon.models.judges.metering import CountedLog

        options = priced(options)
        self.options, self.log = options, CountedLog(MemoryCallLog() if log is None else log)
        self.judge = build_judge(options, self.log)
        self._card: Report | None = None
        if card is not None:
            self._card = read_card_report(card)
            require_card_of(self.judge.fingerprint, self._card.about.get("fingerprint", ""), card)

    @property
    def name(self) -> str:
        """The judge's name."""
        return self.judge.name

    @property
    def rewards(self) -> RewardModel:
        """The judge as a reward model."""
        from guerdon.models.judges.rewards import as_reward_model

        return as_reward_model(self.judge, self.options.opponents, self.options.unresolved_max)

    @property
    def has_failed(self) -> bool:
        """Whether more pairs have no verdict than judge.unresolved_max allows."""
        return self.judge.tally.unresolved_share > self.options.unresolved_max

    def facts(self) -> dict[str, str]:
        """What it did and cost, as facts of a report."""
        from guerdon.models.judges.metering import judge_facts
        from guerdon.models.judges.prompted import PromptedJudge

        is_priced = self.options.kind in ("endpoint", "jury")
        facts = judge_facts(self.judge.tally, self.log, is_priced=is_priced, currency=self.options.currency)
        mode = f", mode {self.judge.interview.mode}" if isinstance(self.judge, PromptedJudge) else ""
        return {"judge": f"{self.name} ({self.options.kind}{mode})", **facts}

    def described(self, report: Report) -> Report:
        """The report with what the judge did and cost among its facts, and with its card, if there is one."""
        from guerdon.api.judge_cards import CARD_TITLE

        card = self.card()
        sections = (*report.sections, replace(card, title=CARD_TITLE)) if card else report.sections
        return replace(report, about={**report.about, **self.facts()}, sections=sections)

    def card(self) -> Report | None:
        """The card that was given, else the latest one of this judge in the store; None without any."""
        from guerdon.api.judge_cards import latest_card
        from guerdon.store.calls import SqlCallLog

        if self._card is None and isinstance(self.log.log, SqlCallLog):
            return latest_card(self.log.log.database, self.judge.fingerprint)
        return self._card
