"""Judges that are no language model asked in words: a Python function, and a reward model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, SupportsFloat

import numpy as np
from scipy.special import expit

from guerdon.config.judging import JudgeOptions
from guerdon.contracts import Prompt, Response, digest
from guerdon.errors import GuerdonError, field_error
from guerdon.io.python_functions import FileFunction, function_from_file, split_function_name
from guerdon.models.fingerprint import fingerprint_of
from guerdon.models.judges.comparing import ComparesByVerdict, Pair, Tally
from guerdon.models.judges.failures import Failure
from guerdon.models.judges.verdicts import ORDERS, OrderVerdict, PairVerdict, pair_verdict

if TYPE_CHECKING:
    from guerdon.contracts import RewardModel
    from guerdon.formulas.verdicts import Combination

CHUNK = 256  # pairs that a reward model scores in one call

JudgeFunction = Callable[[Prompt, Response, Response], float]
"""(prompt, first, second) -> log-odds, in nats, that the first is better."""


class PythonJudge(ComparesByVerdict):
    """A function that compares two responses. An error, and what is no number, is a failure of that pair, never a verdict.

    function: (prompt, first, second) -> log-odds; None or NaN abstains. fingerprint: of what the function depends on; by
    default that of the file it is from, or its name. both_orders: call it in both orders and average.
    """

    def __init__(
        self,
        function: JudgeFunction | FileFunction,
        *,
        name: str = "",
        fingerprint: str = "",
        both_orders: bool = True,
        combine: Combination = "prob_mean",
    ) -> None:
        self.function, self.both_orders, self.combine, self.tally = function, both_orders, combine, Tally()
        self.name = name or str(getattr(function, "__name__", type(function).__name__))
        own = fingerprint or getattr(function, "fingerprint", None) or self.name
        self.fingerprint = digest(["python", own, both_orders, combine])

    def compare(self, pairs: Iterable[Pair]) -> Iterator[tuple[int, PairVerdict]]:
        """Judge pairs one by one."""
        for position, pair in enumerate(pairs):
            verdict = self._verdict(pair)
            self.tally.add(verdict)
            yield position, verdict

    def _verdict(self, pair: Pair) -> PairVerdict:
        both = (pair.first, pair.second)
        verdicts: list[OrderVerdict] = []
        failures: list[Failure] = []
        for order in ORDERS if self.both_orders else ORDERS[:1]:
            log_odds = self._log_odds(pair.prompt, both[order[0]], both[order[1]])
            if isinstance(log_odds, Failure):
                failures.append(log_odds)
            else:
                verdicts.append(OrderVerdict(order, float(expit(log_odds)), ""))
        if failures:
            return PairVerdict(None, math.nan, tuple(verdicts), failures=tuple(failures))
        return pair_verdict({verdict.shown: verdict.q for verdict in verdicts}, self.combine, tuple(verdicts))

    def _log_odds(self, prompt: Prompt, first: Response, second: Response) -> float | Failure:
        try:
            returned: Any = self.function(prompt, first, second)
        except Exception as error:  # a user's program: whatever it raises is a failure of this pair
            return Failure("judge_error", f"{type(error).__name__}: {' '.join(str(error).split())}"[:200])
        if returned is None:
            return Failure("judge_error", "it returned None")
        if not isinstance(returned, SupportsFloat) or getattr(returned, "shape", ()) != ():
            return Failure("judge_error", f"it returned {type(returned).__name__}, no number")
        try:
            log_odds = float(returned)
        except (ValueError, OverflowError) as error:
            return Failure("judge_error", f"it returned no number: {error}"[:200])
        return Failure("judge_error", "it returned NaN") if math.isnan(log_odds) else log_odds


def python_judge(options: JudgeOptions) -> PythonJudge:
    """The judge of kind python: FILE.py:NAME."""
    file, name = split_function_name(options.function or "")
    if not name:
        raise field_error("judge.function", "FILE.py:NAME", options.function, "Name the file and the function in it.")
    function = function_from_file(file, name)
    return PythonJudge(function, name=options.name or "", both_orders=options.both_orders, combine=options.combine)


class RewardModelJudge(ComparesByVerdict):
    """A reward model as a judge with verdicts: log-odds are differences of rewards, the same in both orders.

    A reward that is not finite is a failure of its pairs, and so is a pair that the model refuses.
    """

    def __init__(self, model: RewardModel, *, name: str = "") -> None:
        self.model, self.tally = model, Tally()
        self.name = name or str(getattr(model, "name", "") or type(model).__name__)

    @property
    def fingerprint(self) -> str:
        """The model's."""
        return digest(["reward_model", fingerprint_of(self.model)])

    def compare(self, pairs: Iterable[Pair]) -> Iterator[tuple[int, PairVerdict]]:
        """Judge pairs, a few hundred at a time."""
        numbered = enumerate(pairs)
        while chunk := list(islice(numbered, CHUNK)):
            for (position, _), verdict in zip(chunk, self._verdicts([pair for _, pair in chunk]), strict=True):
                self.tally.add(verdict)
                yield position, verdict

    def _verdicts(self, pairs: Sequence[Pair]) -> list[PairVerdict]:
        prompts = [pair.prompt for pair in pairs]
        responses = [*(pair.first for pair in pairs), *(pair.second for pair in pairs)]
        try:
            value = np.asarray(self.model.score([*prompts, *prompts], responses).value, dtype=np.float64)
        except GuerdonError as error:
            if len(pairs) > 1:  # one of them is refused: each by itself
                return [verdict for pair in pairs for verdict in self._verdicts([pair])]
            return [PairVerdict(None, math.nan, failures=(Failure("judge_error", str(error)[:200]),))]
        return [_difference(a, b) for a, b in zip(value[: len(pairs)], value[len(pairs) :], strict=True)]


def _difference(first: float, second: float) -> PairVerdict:
    log_odds = float(first - second) if math.isfinite(first) and math.isfinite(second) else math.nan
    if math.isnan(log_odds):
        return PairVerdict(None, math.nan, failures=(Failure("judge_error", f"rewards {first} and {second}"),))
    return PairVerdict(float(expit(log_odds)), log_odds)
