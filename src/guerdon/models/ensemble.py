"""Several reward models as one: their rewards on a common scale, a rule that combines them, and how far they disagree.

Axes: n responses, k members.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

import numpy as np

from guerdon.contracts import GuerdonError, Scores, as_prompt, digest, digest_all, prompt_digest
from guerdon.formulas.ensemble import common_scale, most_suspect, spread
from guerdon.models.ensemble_rules import EnsembleRule, where_finite
from guerdon.models.fingerprint import fingerprint_of
from guerdon.models.prompt_normalized import per_prompt_baseline
from guerdon.models.scored_pairs import ComparesByReward

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from guerdon.contracts import Comparison, PromptLike, ResponseLike, RewardModel

__all__ = ["MEAN", "CommonScale", "Ensemble", "scale_by_comparisons", "scale_by_samples"]

MEAN = EnsembleRule("mean")


@final
@dataclass(frozen=True, slots=True)
class CommonScale:
    """Puts members on one scale: (reward - center) / spread x unit, the unit being the geometric mean of the spreads.

    center, spread: one per member, in its own units; `provenance` says which rewards they come from. A constant shift per
    member is all that can be known without reference samples of the very prompt: `Ensemble.centered` takes those.
    """

    center: tuple[float, ...]
    spread: tuple[float, ...]
    provenance: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse values that are not a scale."""
        numbers = (*self.center, *self.spread)
        if len(self.center) != len(self.spread) or not np.isfinite(numbers).all() or min(self.spread, default=1.0) <= 0:
            raise GuerdonError(
                "ensemble: a scale must have a finite center and a spread above 0 per member, "
                f"got {self.center} and {self.spread}. Measure it again."
            )

    def __call__(self, members: Float[np.ndarray, "k n"]) -> Float[np.ndarray, "k n"]:
        """Members' rewards on the common scale."""
        if len(members) != len(self.spread):
            raise GuerdonError(
                f"ensemble: the scale must have one spread per member, got {len(self.spread)} for {len(members)} members. "
                "Measure it again."
            )
        spreads = np.array(self.spread)
        unit = np.exp(np.log(spreads).mean())
        scaled: np.ndarray = (members - np.array(self.center)[:, None]) / spreads[:, None] * unit
        return scaled


@final
class Ensemble(ComparesByReward):
    """Reward models, the rule that combines their rewards, and the scale they are put on (None: each member's own).

    Fulfills RewardModel. A model that has members of its own, such as heads on one backbone, contributes each of them. `Scores`
    holds the members on the common scale, the rule's value, and the members' standard deviation as std: a lower bound of the
    error, which cannot show what all members get wrong together.
    """

    def __init__(
        self, models: Sequence[RewardModel], rule: EnsembleRule = MEAN, scale: CommonScale | None = None
    ) -> None:
        self.models, self.rule, self.scale = tuple(models), rule, scale
        if not self.models:
            raise GuerdonError("ensemble: there must be at least one member, got none. Pass reward models.")

    @property
    def fingerprint(self) -> str:
        """Changes with whatever changes a score."""
        models = [fingerprint_of(model) for model in self.models]
        scale = None if self.scale is None else [self.scale.center, self.scale.spread]
        return digest([models, dataclasses.asdict(self.rule), scale])

    def score(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Scores:
        """The rule's reward of response i as an answer to prompt i, and every member's."""
        return self.combine([model.score(prompts, responses) for model in self.models])

    def combine(self, scores: Sequence[Scores]) -> Scores:
        """The rule's reward from the scores of the models, in their order."""
        members = np.concatenate([own.value[None] if own.members is None else own.members for own in scores])
        members = members if self.scale is None else self.scale(members)
        p_values = [own.shift_p for own in scores if own.shift_p is not None]
        return Scores(
            value=where_finite(self.rule, members),
            truncated=np.any([own.truncated for own in scores], axis=0),
            std=where_finite(spread, members),
            members=members,
            shift_p=most_suspect(np.stack(p_values)) if p_values else None,
        )

    def score_pairs(
        self,
        prompts: Sequence[PromptLike],
        responses: Sequence[ResponseLike],
        first: Int[np.ndarray, " p"],
        second: Int[np.ndarray, " p"],
    ) -> tuple[Scores, Float[np.ndarray, " p"] | None]:
        """Rewards, and the standard deviation between the members' margins of responses first[i] and second[i]."""
        scores = self.score(prompts, responses)
        assert scores.members is not None
        return scores, where_finite(spread, scores.members[:, first] - scores.members[:, second])

    def centered(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Ensemble:
        """The members relative to their own means over reference samples of the same prompt, two or more per prompt.

        What a member adds to all replies to a prompt means nothing, yet it decides which member is the lowest and looks like
        disagreement; this removes it. Prompts without reference samples are then refused.
        """
        models = [per_prompt_baseline(model, prompts, responses) for model in self.models]
        scale = self.scale and dataclasses.replace(self.scale, center=(0.0,) * len(self.scale.center))
        return Ensemble(models, self.rule, scale)


def scale_by_samples(
    ensemble: Ensemble, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike], name: str = "samples"
) -> Ensemble:
    """The ensemble on the scale of reference samples, several per prompt: each member's mean, and its spread within a prompt."""
    groups = [prompt_digest(as_prompt(prompt)) for prompt in prompts]
    provenance = {"from": name, "responses": len(responses), "prompts": len(set(groups)), "hash": digest_all(groups)}
    return _with_scale(ensemble, prompts, responses, groups, provenance)


def scale_by_comparisons(ensemble: Ensemble, comparisons: Sequence[Comparison], name: str = "comparisons") -> Ensemble:
    """The ensemble on the scale of its margins over comparisons. Preferences are not used, so any held-out ones will do."""
    prompts = [comparison.prompt for comparison in comparisons for _ in comparison.responses]
    responses = [response for comparison in comparisons for response in comparison.responses]
    groups = [i for i, comparison in enumerate(comparisons) for _ in comparison.responses]
    hashed = digest_all(comparison.id for comparison in comparisons)
    provenance = {"from": name, "responses": len(responses), "comparisons": len(comparisons), "hash": hashed}
    return _with_scale(ensemble, prompts, responses, groups, provenance)


def _with_scale(
    ensemble: Ensemble,
    prompts: Sequence[PromptLike],
    responses: Sequence[ResponseLike],
    groups: Sequence[Hashable],
    provenance: Mapping[str, object],
) -> Ensemble:
    if len(set(groups)) == len(groups):
        raise GuerdonError(
            "ensemble: a scale needs prompts with two responses or more, got one response for each. Pass more per prompt."
        )
    raw = Ensemble(ensemble.models, ensemble.rule).score(prompts, responses).members
    assert raw is not None
    center, spreads = common_scale(raw, groups)
    for member in np.flatnonzero(~(spreads > 0)):
        raise GuerdonError(
            f"ensemble: the rewards of member {member + 1} must differ within a prompt, got spread {spreads[member]}. Leave it out."
        )
    scale = CommonScale(tuple(map(float, center)), tuple(map(float, spreads)), provenance)
    return Ensemble(ensemble.models, ensemble.rule, scale)
