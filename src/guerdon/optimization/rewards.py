"""What a policy is optimized against: one reward model or rule, or several with weights, or an ensemble made cautious.

Axes: n responses, k sources or ensemble members. Rewards are nats where the sources give nats; higher is better.
"""

from __future__ import annotations

import difflib
import hashlib
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsFloat, final

import numpy as np

from guerdon.contracts import (
    GuerdonError,
    Prompt,
    Response,
    RewardModel,
    as_prompt,
    as_response,
    digest,
)
from guerdon.formulas.ensemble import RULES, most_suspect, spread
from guerdon.models.calibrated import strip_calibration
from guerdon.models.ensemble_rules import Rule, ensemble_rule, where_finite

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from guerdon.contracts import PromptLike, ResponseLike

__all__ = ["RULES", "Reward", "Rewarded", "combined", "ensemble_rule"]

RewardFunction = Callable[[Sequence[Prompt], Sequence[Response]], Iterable[float]]
Source = RewardModel | RewardFunction


@dataclass(frozen=True, slots=True)
class Rewarded:
    """What a reward says of n responses.

    value: [n] float64, NaN where usable is False.
    parts: what each source said [n], before its weight, by name.
    usable: [n], False where a source said NaN or infinity.
    truncated: [n], True where a source did not see the whole text.
    std: [n], how far sources or members disagree, or a model's own uncertainty; None where nobody knows. Errors that all
        share do not show in it: a lower bound of the error.
    shift_p: [n] p-value of being in distribution; the smallest of several sources' times their number. None if not known.
    """

    value: Float[np.ndarray, " n"]
    parts: Mapping[str, Float[np.ndarray, " n"]]
    usable: Bool[np.ndarray, " n"]
    truncated: Bool[np.ndarray, " n"]
    std: Float[np.ndarray, " n"] | None = None
    shift_p: Float[np.ndarray, " n"] | None = None

    @property
    def num_unusable(self) -> int:
        """How many responses have no reward."""
        return int(np.count_nonzero(~self.usable))


def combined(
    sources: Source | Sequence[Source] | Mapping[str, Source],
    weights: Sequence[float] | Mapping[str, float] | None = None,
    rule: str | Rule = "sum",
    *,
    members: str | Rule | None = None,
    clip: float | None = None,
) -> Reward:
    """One reward from reward models and functions f(prompts, responses) -> a number for each response.

    A function gets prompts as tuples of messages and Response objects (`.text`, `.finish`). Names are a mapping's keys,
    else those of the functions and classes. Each source is multiplied by its weight, then `rule` makes one of them:
    "sum", or an ensemble's "mean", "min", "uncertainty" or "soft_min" (see `ensemble_rule`). With "sum" a weight of 0
    only keeps the source's number among the parts. `members` applies such a rule to the members of each source that is
    an ensemble, in place of its own value. `clip` is the largest absolute value of the result.
    """
    named = _named(sources)
    weight = _weights(weights, named)
    if rule != "sum" and (low := [name for name, value in weight.items() if value <= 0]):
        raise GuerdonError(
            f"reward {low[0]}: the rules of an ensemble take weights above 0, got {weight[low[0]]}; remedy: rule sum"
        )
    if clip is not None and not (math.isfinite(clip) and clip > 0):
        raise GuerdonError(f"reward: clip is a finite number above 0, got {clip}; remedy: leave it out to clip nothing")
    of_sources = None if rule == "sum" else _as_rule(rule)
    return Reward(named, weight, of_sources, None if members is None else _as_rule(members), clip)


@final
class FromFile:
    """A function of a Python file, known by the file's content."""

    def __init__(self, function: RewardFunction, content: bytes, name: str) -> None:
        self.function = function
        self.fingerprint = hashlib.sha256(b"\0".join([content, name.encode()])).hexdigest()[:16]
        self.__name__ = getattr(function, "__name__", "function")

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[Response]) -> Iterable[float]:
        """What the function says."""
        return self.function(prompts, responses)


def from_file(path: str, function: str) -> FromFile:
    """FUNCTION of FILE.py. GuerdonError where there is none, or the file does not run."""
    import runpy

    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise GuerdonError(f"{path}: cannot be read ({error}); remedy: FILE.py:FUNCTION") from None
    try:
        names = runpy.run_path(path)
    except (Exception, SystemExit) as error:  # somebody's program: whatever it raises is the user's to see, and chained
        what = " ".join(str(error).split())[:200]
        raise GuerdonError(f"{path}: raised {type(error).__name__} ({what}); remedy: mend the file") from error
    if not callable(names.get(function)):
        near = difflib.get_close_matches(function, [name for name, value in names.items() if callable(value)], 1)
        nearest = f"; the nearest is {near[0]}" if near else ""
        raise GuerdonError(f"{path}: has no function {function}{nearest}; remedy: FILE.py:FUNCTION")
    return FromFile(names[function], content, function)


@final
class Reward:
    """Sources, a weight for each, the rule that makes one number of them (None adds), and of their members. See `combined`."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        weights: Mapping[str, float],
        rule: Rule | None = None,
        members: Rule | None = None,
        clip: float | None = None,
    ) -> None:
        self.sources, self.weights, self.rule, self.members, self.clip = sources, weights, rule, members, clip

    @property
    def fingerprint(self) -> str:
        """Changes with the sources, as far as they can be told apart: a model by its weights, a function by its source.

        What they are called changes nothing.
        """
        told = [[_told(source), self.weights[name]] for name, source in self.sources.items()]
        rules = [getattr(rule, "__qualname__", rule and repr(rule)) for rule in (self.rule, self.members)]
        return digest([told, rules, self.clip])

    @property
    def models(self) -> tuple[Any, ...]:
        """What it is made of, a model without its calibration and an ensemble by its members; functions too."""
        return tuple(each for source in self.sources.values() for each in _within(source))

    def in_common(self, other: Reward) -> str | None:
        """The name here of a source, or of the ensemble of a member, that has a weight there too; None where there is none."""
        theirs = [each for name, source in other.sources.items() if other.weights[name] for each in _within(source)]
        told = {getattr(each, "fingerprint", None) for each in theirs} - {None}
        for name, source in self.sources.items():
            for each in _within(source) if self.weights[name] else ():
                if getattr(each, "fingerprint", None) in told or any(each == one for one in theirs):
                    return name
        return None

    def score(
        self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike], *, strict: bool = True
    ) -> Rewarded:
        """The reward of response i to prompt i.

        Raises GuerdonError where a function raises or returns no n numbers, and, if strict, where no response gets a finite
        reward.
        """
        if len(prompts) != len(responses):
            raise GuerdonError(
                f"reward: {len(prompts)} prompts but {len(responses)} responses; remedy: give a prompt each"
            )
        if not len(prompts):
            none = np.zeros(0)
            return Rewarded(none, dict.fromkeys(self.sources, none), none.astype(bool), none.astype(bool))
        asked, said = [as_prompt(p) for p in prompts], [as_response(r) for r in responses]
        found = {name: self._ask(name, asked, said) for name in self.sources}
        if self.members is not None and not any(part.is_ensemble for part in found.values()):
            raise GuerdonError("reward: members has a rule, but no source is an ensemble; remedy: leave it out")

        heard = [name for name in found if self.weights[name] != 0]
        weighted = np.stack([self.weights[name] * found[name].value for name in heard])
        value = where_finite(self.rule or _sum, weighted)
        usable = np.isfinite(value)
        if strict and not usable.any():
            raise GuerdonError(
                f"reward {', '.join(heard)}: none of {len(asked)} responses gets a finite number, "
                f"the first got {found[heard[0]].value[0]}; remedy: look at what it computes for {said[0].text!r:.60}"
            )
        if self.clip is not None:
            value = np.clip(value, -self.clip, self.clip)
        suspicions = [part.shift_p for part in found.values() if part.shift_p is not None]
        return Rewarded(
            value=np.where(usable, value, math.nan),
            parts={name: part.value for name, part in found.items()},
            usable=usable,
            truncated=np.any([part.truncated for part in found.values()], axis=0),
            std=self._doubt(weighted, found),
            shift_p=most_suspect(np.stack(suspicions)) if suspicions else None,
        )

    def _ask(self, name: str, prompts: list[Prompt], responses: list[Response]) -> _Part:
        source, n = self.sources[name], len(prompts)
        if isinstance(source, RewardModel):
            scores = source.score(prompts, responses)
            value, std, members = np.asarray(scores.value, dtype=np.float64), scores.std, scores.members
            if value.shape != (n,):
                shape = list(value.shape)
                raise GuerdonError(
                    f"reward {name}: gave scores of shape {shape} for {n} responses; remedy: one a response"
                )
            if members is not None:
                std = where_finite(spread, members) if std is None else std
                value = value if self.members is None else where_finite(self.members, members)
            return _Part(value, scores.truncated, std, scores.shift_p, members is not None)
        try:
            given = source(tuple(prompts), tuple(responses))  # of its own: what one function does to it no other sees
            given = list(given) if isinstance(given, Iterator) else given
        except GuerdonError:
            raise
        except Exception as error:  # it is somebody's program: whatever it raises is the user's to see, and chained
            what = " ".join(str(error).split())[:200]
            raise GuerdonError(
                f"reward {name}: raised {type(error).__name__} ({what}) for {n} responses; remedy: mend the function"
            ) from error
        return _Part(_numbers(name, given, n), np.zeros(n, dtype=bool))

    def _doubt(self, weighted: Float[np.ndarray, "k n"], found: Mapping[str, _Part]) -> Float[np.ndarray, " n"] | None:
        """An ensemble's disagreement; else that of the sources that know theirs, as if their errors were independent."""
        if self.rule is not None and len(weighted) > 1:
            return where_finite(spread, weighted)
        known = [self.weights[name] * part.std for name, part in found.items() if part.std is not None]
        return np.sqrt(np.sum(np.square(known), axis=0)) if known else None


@dataclass(frozen=True, slots=True)
class _Part:
    value: Float[np.ndarray, " n"]
    truncated: Bool[np.ndarray, " n"]
    std: Float[np.ndarray, " n"] | None = None
    shift_p: Float[np.ndarray, " n"] | None = None
    is_ensemble: bool = field(default=False)


def _as_rule(rule: str | Rule) -> Rule:
    return ensemble_rule(rule) if isinstance(rule, str) else rule


def _sum(rows: Float[np.ndarray, "k n"]) -> Float[np.ndarray, " n"]:
    found: np.ndarray = rows.sum(axis=0)
    return found


# ---- What was given ----------------------------------------------------------------------------------------------


def _named(sources: Source | Sequence[Source] | Mapping[str, Source]) -> dict[str, Source]:
    given: list[tuple[str, Any]]
    if isinstance(sources, Mapping):
        given = [(str(name), source) for name, source in sources.items()]
    else:
        several = list(sources) if isinstance(sources, list | tuple) else [sources]
        given = [(_name(source), source) for source in several]
    if not given:
        raise GuerdonError("reward: no sources; remedy: give a reward model or a function")
    named: dict[str, Source] = {}
    for name, source in given:
        if not isinstance(source, RewardModel) and not callable(source):
            raise GuerdonError(
                f"reward {name}: is {type(source).__name__}; remedy: give a reward model, or a function of "
                "(prompts, responses) that returns a number for each response"
            )
        unique = next(n for n in (name, *(f"{name} {i}" for i in range(2, len(given) + 2))) if n not in named)
        named[unique] = source
    return named


def _name(source: object) -> str:
    return str(getattr(source, "__name__", type(source).__name__))


def _weights(weights: Sequence[float] | Mapping[str, float] | None, named: Mapping[str, Source]) -> dict[str, float]:
    if weights is None:
        return dict.fromkeys(named, 1.0)
    if isinstance(weights, Mapping):
        if set(weights) != set(named):
            raise GuerdonError(
                f"reward: weights name {', '.join(weights)} but the sources are {', '.join(named)}; remedy: name each once"
            )
        found = {name: weights[name] for name in named}
    else:
        if len(weights) != len(named):
            raise GuerdonError(f"reward: {len(weights)} weights for {len(named)} sources; remedy: give one each")
        found = dict(zip(named, weights, strict=True))
    for name, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise GuerdonError(f"reward {name}: a weight is a finite number, got {value!r}")
    if not any(found.values()):
        raise GuerdonError("reward: every weight is 0; remedy: give one that is not")
    return found


def _numbers(name: str, given: Any, n: int) -> Float[np.ndarray, " n"]:
    """What a function returned, as [n] float64."""
    remedy = "remedy: return a list of one number a response"
    try:
        values: list[Any] | None = None if isinstance(given, str | bytes | Mapping) else list(given)
    except TypeError:
        values = None
    if values is None:
        raise GuerdonError(f"reward {name}: returned {type(given).__name__} ({given!r:.40}); {remedy}")
    if len(values) != n:
        raise GuerdonError(f"reward {name}: returned {len(values)} numbers for {n} responses; {remedy}")
    for at, value in enumerate(values):
        if not isinstance(value, SupportsFloat) or getattr(value, "shape", ()) != ():
            raise GuerdonError(
                f"reward {name}: returned {type(value).__name__} ({value!r:.40}) for response {at}; {remedy}"
            )
    return np.array([_as_float(value) for value in values], dtype=np.float64)


def _as_float(value: SupportsFloat) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond all floats
        return math.inf


def _within(source: Any) -> list[Any]:
    """What a source is made of, down to models without members: a model without its calibration, an ensemble's members."""
    inner = strip_calibration(source)
    members = getattr(inner, "models", ())
    return [part for member in members for part in _within(member)] or [inner]


def _told(source: Source) -> str:
    """What tells a source from others."""
    own = getattr(source, "fingerprint", None)
    if own is not None:
        return str(own)
    try:
        return digest([inspect.getsource(source if callable(source) else type(source))])
    except (OSError, TypeError):
        return f"{getattr(source, '__module__', '')}.{getattr(source, '__qualname__', type(source).__name__)}"
