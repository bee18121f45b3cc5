"""Judges from judge.yaml or options, for audits, benchmarks, best-of-n and optimization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """A judge of a command: its options, what it did, and what it cost."""

    def __init__(self, options: JudgeOptions, log: CallLog | None = None) -> None:
        from guerdon.models.judges.build import build_judge
        from guerdon.models.judges.calls import MemoryCallLog
        from guerdon.models.judges.metering import CountedLog

        self.options, self.log = options, CountedLog(MemoryCallLog() if log is None else log)
        self.judge = build_judge(options, self.log)

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
        """The report with what the judge did and cost among its facts."""
        return replace(report, about={**report.about, **self.facts()})
