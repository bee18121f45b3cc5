"""What a policy is optimized for: one reward model or function, several with weights, or an ensemble with a cautious rule.

Axes: n responses, k sources or ensemble members. Rewards are nats if the sources give nats; higher is better.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, final, runtime_checkable

import numpy as np

from guerdon.contracts import GuerdonError, Prompt, Response, RewardModel, as_prompt, as_response, digest
from guerdon.formulas.ensemble import RULES, most_suspect, spread
from guerdon.models.calibrated import components
from guerdon.models.ensemble_rules import Rule, ensemble_rule, where_finite
from guerdon.optimization.reward_functions import RewardFunction, returned_numbers

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from guerdon.contracts import PromptLike, ResponseLike, Rollouts

__all__ = ["RULES", "Reward", "RewardScores", "combined", "ensemble_rule", "source_fingerprint"]

Source = RewardModel | RewardFunction


@dataclass(frozen=True, slots=True)
class RewardScores:
    """The reward of n responses.

    value: [n] float64, NaN where usable is False.
    parts: the value of each source [n], before its weight, by name.
    usable: [n], False where a source gave NaN or infinity.
    truncated: [n], True where a source did not see the whole text.
    std: [n], disagreement of sources or members, or a model's own uncertainty; None if unknown. Errors that all sources share
        do not show in it: it is a lower bound of the error.
    shift_p: [n] p-value of being in distribution; of several sources the smallest times their number. None if unknown.
    attributes: what the sources say of each named attribute [n], such as the criteria of a rubric; with several sources, a
        name is "source.attribute".
    """

    value: Float[np.ndarray, " n"]
    parts: Mapping[str, Float[np.ndarray, " n"]]
    usable: Bool[np.ndarray, " n"]
    truncated: Bool[np.ndarray, " n"]
    std: Float[np.ndarray, " n"] | None = None
    shift_p: Float[np.ndarray, " n"] | None = None
    attributes: Mapping[str, Float[np.ndarray, " n"]] = field(default_factory=dict)

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
    else those of the functions and classes. Each source is multiplied by its weight, then `rule` combines them: "sum", or
    an ensemble's "mean", "min", "uncertainty" or "soft_min" (see `ensemble_rule`). With "sum", a weight of 0 only keeps
    the source's number among the parts. `members` applies such a rule to the members of each source that is an ensemble,
    in place of its own value. `clip` is the largest absolute value of the result.
    """
    named = _name_sources(sources)
    weight = _match_weights(weights, named)
    if rule != "sum" and (low := [name for name, value in weight.items() if value <= 0]):
        raise GuerdonError(
            f"reward {low[0]}: weight must be above 0 for an ensemble's rule, got {weight[low[0]]}. Use rule sum."
        )
    if clip is not None and not (math.isfinite(clip) and clip > 0):
        raise GuerdonError(f"reward: clip must be a finite number above 0, got {clip}. Leave it out to clip nothing.")
    of_sources = None if rule == "sum" else _as_rule(rule)
    return Reward(named, weight, of_sources, None if members is None else _as_rule(members), clip)


@runtime_checkable
class PassesStepOn(Protocol):
    """A source that sends the number of the update along with its texts."""

    step: int | None


@final
class Reward:
    """Sources with a weight each, the rule that combines them (None adds), and the rule for their members. See `combined`."""

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
        """Changes with the sources as far as they can be distinguished: a model by its weights, a function by its source code.

        Their names change nothing.
        """
        sources = [[source_fingerprint(source), self.weights[name]] for name, source in self.sources.items()]
        rules = [getattr(rule, "__qualname__", rule and repr(rule)) for rule in (self.rule, self.members)]
        return digest([sources, rules, self.clip])

    @property
    def models(self) -> tuple[Any, ...]:
        """All models and functions in it: a model without its calibration, an ensemble as its members."""
        return tuple(part for source in self.sources.values() for part in components(source))

    @property
    def weighted_names(self) -> list[str]:
        """The sources that count: those whose weight is not 0."""
        return [name for name in self.sources if self.weights[name] != 0]

    def in_common(self, other: Reward) -> str | None:
        """The name of a source here that has a component with weight in both rewards; None if there is none."""
        theirs = [part for name in other.weighted_names for part in components(other.sources[name])]
        fingerprints = {getattr(part, "fingerprint", None) for part in theirs} - {None}
        for name in self.weighted_names:
            for part in components(self.sources[name]):
                if getattr(part, "fingerprint", None) in fingerprints or any(part == one for one in theirs):
                    return name
        return None

    def set_step(self, step: int | None) -> None:
        """Tell the sources that pass it on which update the next texts are from; None for texts of no update."""
        for part in self.models:
            if isinstance(part, PassesStepOn):
                part.step = step

    def score(
        self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike], *, strict: bool = True
    ) -> RewardScores:
        """The reward of response i to prompt i.

        Raises GuerdonError if a function raises or does not return n numbers, and, if strict, if no response gets a finite
        reward.
        """
        if len(prompts) != len(responses):
            raise GuerdonError(
                f"reward: there must be one prompt per response, got {len(prompts)} prompts and {len(responses)} "
                "responses. Repeat the prompt for each response."
            )
        if not len(prompts):
            empty = np.zeros(0)
            return RewardScores(empty, dict.fromkeys(self.sources, empty), empty.astype(bool), empty.astype(bool))
        inputs, answers = [as_prompt(p) for p in prompts], [as_response(r) for r in responses]
        parts = {name: self._score_source(name, inputs, answers) for name in self.sources}
        if self.members is not None and not any(part.is_ensemble for part in parts.values()):
            raise GuerdonError("reward: members needs a source that is an ensemble, got none. Leave members out.")

        value = self.combine({name: part.value for name, part in parts.items()})
        usable = np.isfinite(value)
        if strict and not usable.any():
            raise GuerdonError(
                f"reward {', '.join(self.weighted_names)}: some of {len(inputs)} responses must get a finite number, got "
                f"{parts[self.weighted_names[0]].value[0]} for the first. Check what it computes for {answers[0].text!r:.60}."
            )
        shift_ps = [part.shift_p for part in parts.values() if part.shift_p is not None]
        return RewardScores(
            value=value,
            parts={name: part.value for name, part in parts.items()},
            usable=usable,
            truncated=np.any([part.truncated for part in parts.values()], axis=0),
            std=self._std(parts),
            shift_p=most_suspect(np.stack(shift_ps)) if shift_ps else None,
            attributes={
                f"{name}.{attribute}" if len(parts) > 1 else attribute: values
                for name, part in parts.items()
                for attribute, values in part.attributes.items()
            },
        )

    def combine(self, values: Mapping[str, Float[np.ndarray, " n"]]) -> Float[np.ndarray, " n"]:
        """The reward from the value of each source that counts, by name; NaN where that is not finite."""
        combined = where_finite(self.rule or _sum, self._weighted(values))
        combined = np.where(np.isfinite(combined), combined, math.nan)
        return combined if self.clip is None else np.clip(combined, -self.clip, self.clip)

    def score_rollouts(self, rollouts: Rollouts, *, strict: bool = True) -> Rollouts:
        """The rollouts with reward (NaN where there is none), std, shift_p, truncated and attributes. `strict` as for `score`."""
        scores = self.score(rollouts.prompts, rollouts.responses, strict=strict)
        return replace(
            rollouts,
            reward=scores.value,
            std=scores.std,
            shift_p=scores.shift_p,
            truncated=scores.truncated,
            attributes=scores.attributes,
        )

    def _score_source(self, name: str, prompts: list[Prompt], responses: list[Response]) -> _Part:
        source, n = self.sources[name], len(prompts)
        if isinstance(source, RewardModel):
            return self._score_model(name, source, prompts, responses)
        try:
            returned = source(tuple(prompts), tuple(responses))  # tuples: a function cannot change what others get
            returned = list(returned) if isinstance(returned, Iterator) else returned
        except GuerdonError:
            raise
        except Exception as error:  # a user's program: whatever it raises is shown, and chained
            line = " ".join(str(error).split())[:200]
            raise GuerdonError(
                f"reward {name}: raised {type(error).__name__} ({line}) for {n} responses. Fix the function."
            ) from error
        return _Part(returned_numbers(name, returned, n), np.zeros(n, dtype=bool))

    def _score_model(self, name: str, model: RewardModel, prompts: list[Prompt], responses: list[Response]) -> _Part:
        scores, n = model.score(prompts, responses), len(prompts)
        value, std, members = np.asarray(scores.value, dtype=np.float64), scores.std, scores.members
        if value.shape != (n,):
            raise GuerdonError(
                f"reward {name}: must score each of {n} responses, got scores of shape {list(value.shape)}. "
                "Return one score per response."
            )
        if members is not None:
            std = where_finite(spread, members) if std is None else std
            value = value if self.members is None else where_finite(self.members, members)
        return _Part(value, scores.truncated, std, scores.shift_p, members is not None, scores.attributes)

    def _weighted(self, values: Mapping[str, Float[np.ndarray, " n"]]) -> Float[np.ndarray, "k n"]:
        return np.stack([self.weights[name] * values[name] for name in self.weighted_names])

    def _std(self, parts: Mapping[str, _Part]) -> Float[np.ndarray, " n"] | None:
        """An ensemble's disagreement; else that of the sources that have one, as if their errors were independent."""
        if self.rule is not None and len(self.weighted_names) > 1:
            return where_finite(spread, self._weighted({name: part.value for name, part in parts.items()}))
        known = [self.weights[name] * part.std for name, part in parts.items() if part.std is not None]
        return np.sqrt(np.sum(np.square(known), axis=0)) if known else None


def source_fingerprint(source: Source) -> str:
    """What identifies a source: its own fingerprint, else its source code, else its name."""
    own = getattr(source, "fingerprint", None)
    if own is not None:
        return str(own)
    try:
        return digest([inspect.getsource(source if callable(source) else type(source))])
    except (OSError, TypeError):
        return f"{getattr(source, '__module__', '')}.{getattr(source, '__qualname__', type(source).__name__)}"


@dataclass(frozen=True, slots=True)
class _Part:
    """The scores of one source."""

    value: Float[np.ndarray, " n"]
    truncated: Bool[np.ndarray, " n"]
    std: Float[np.ndarray, " n"] | None = None
    shift_p: Float[np.ndarray, " n"] | None = None
    is_ensemble: bool = False
    attributes: Mapping[str, Float[np.ndarray, " n"]] = field(default_factory=dict)


def _as_rule(rule: str | Rule) -> Rule:
    return ensemble_rule(rule) if isinstance(rule, str) else rule


def _sum(rows: Float[np.ndarray, "k n"]) -> Float[np.ndarray, " n"]:
    total: np.ndarray = rows.sum(axis=0)
    return total


# ---- Arguments ---------------------------------------------------------------------------------------------------


def _name_sources(sources: Source | Sequence[Source] | Mapping[str, Source]) -> dict[str, Source]:
    pairs: list[tuple[str, Any]]
    if isinstance(sources, Mapping):
        pairs = [(str(name), source) for name, source in sources.items()]
    else:
        listed = list(sources) if isinstance(sources, list | tuple) else [sources]
        pairs = [(str(getattr(source, "__name__", type(source).__name__)), source) for source in listed]
    if not pairs:
        raise GuerdonError("reward: must have at least one source, got none. Give a reward model or a function.")
    named: dict[str, Source] = {}
    for name, source in pairs:
        if not isinstance(source, RewardModel) and not callable(source):
            raise GuerdonError(
                f"reward {name}: must be a reward model, or a function of (prompts, responses), got "
                f"{type(source).__name__}. Give one that returns a number for each response."
            )
        unique = next(n for n in (name, *(f"{name} {i}" for i in range(2, len(pairs) + 2))) if n not in named)
        named[unique] = source
    return named


def _match_weights(
    weights: Sequence[float] | Mapping[str, float] | None, named: Mapping[str, Source]
) -> dict[str, float]:
    if weights is None:
        return dict.fromkeys(named, 1.0)
    if isinstance(weights, Mapping):
        if set(weights) != set(named):
            raise GuerdonError(
                f"reward: weights must name the sources {', '.join(named)}, got {', '.join(weights)}. Name each once."
            )
        matched = {name: weights[name] for name in named}
    else:
        if len(weights) != len(named):
            raise GuerdonError(
                f"reward: weights must be one for each of {len(named)} sources, got {len(weights)}. Give one each."
            )
        matched = dict(zip(named, weights, strict=True))
    for name, value in matched.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise GuerdonError(f"reward {name}: weight must be a finite number, got {value!r}. Give a number.")
    if not any(matched.values()):
        raise GuerdonError("reward: some weight must not be 0, got 0 for every source. Give one above 0.")
    return matched
