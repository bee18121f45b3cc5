"""What is served: a saved reward model or ensemble exactly as `guerdon score` runs it, or a judge. Both read items and give outcomes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Protocol, final

import numpy as np

from guerdon.contracts import Prompt, Response, Scores, digest
from guerdon.errors import field_error
from guerdon.models.calibrated import CalibratedModel, components
from guerdon.models.chat import Encoded
from guerdon.models.ensemble import Ensemble
from guerdon.models.fingerprint import fingerprint_of
from guerdon.models.judges.rewards import JudgeReward
from guerdon.models.reward_model import ScalarRewardModel
from guerdon.serving.errors import ServingError
from guerdon.serving.reading import Item, ItemReader, Reading

if TYPE_CHECKING:
    from guerdon.contracts import RewardModel

WARM_UP_TOKENS: Final = 64
CHARACTERS_PER_TOKEN: Final = 4  # of a text that no tokenizer of ours reads


@dataclass(frozen=True, slots=True)
class Outcome:
    """The reward of an item in nats, or why it has none; see Scores for the rest."""

    score: float | None
    std: float | None = None
    members: tuple[float, ...] | None = None
    shift_p: float | None = None
    attributes: Mapping[str, float] = field(default_factory=dict)
    truncated: bool = False
    tokens: int = 0
    error: str | None = None


class ServedModel(Protocol):
    """What a queue needs of a model. can_merge: whether a reward is independent of what else is scored with it.

    path: what it was loaded from. needs_turn: whether it computes on this machine. max_length: tokens of a text; None for a judge.
    passes_at_once: by how much more than one pass it takes at a time. gives_std, gives_shift_p: what it measures of a score.
    """

    name: str
    path: str
    can_merge: bool
    needs_turn: bool
    max_length: int | None
    passes_at_once: int

    @property
    def gives_std(self) -> bool:
        """Whether scores have a standard deviation."""
        ...

    @property
    def gives_shift_p(self) -> bool:
        """Whether scores have a probability of being out of distribution."""
        ...

    def read(self, items: Sequence[Item]) -> list[Reading]:
        """The items as the model reads them; GuerdonError about the first that cannot be. Of one thread."""
        ...

    def score(self, readings: Sequence[Reading]) -> list[Outcome]:
        """Their rewards. Of one thread, which may be another."""
        ...

    def facts(self) -> dict[str, Any]:
        """What the rewards depend on, for /info."""
        ...

    def close(self) -> None:
        """Free what was prepared."""
        ...


# ---- Reward models -------------------------------------------------------------------------------------------------


@final
class ServedRewardModel:
    """A reward model or ensemble on this machine, as `models.directory.loading.load` gives it, calibrated or not.

    prefix_bytes: memory for keys and values that are kept from request to request; see PrefixCache.
    """

    can_merge = needs_turn = True
    passes_at_once = 1

    def __init__(self, name: str, path: str, model: CalibratedModel | RewardModel, prefix_bytes: int = 0) -> None:
        self.name, self.path, self.model = name, path, model
        self.members: list[ScalarRewardModel] = components(model)  # in the order in which score_encoded needs them
        self._reader = ItemReader([member.text for member in self.members])
        self.max_length: int | None = self._reader.max_length
        self._prepared = ExitStack()
        self._prepare(prefix_bytes // len(self.members))

    def read(self, items: Sequence[Item]) -> list[Reading]:
        """Token ids of each item, for each tokenizer of the model."""
        return self._reader.read(items)

    def score(self, readings: Sequence[Reading]) -> list[Outcome]:
        """The same numbers as `guerdon score`."""
        scores = score_encoded(self.model, iter(self._reader.columns(readings)))
        return outcomes_of(scores, [len(reading.ids) for reading in readings])

    def facts(self) -> dict[str, Any]:
        """Hashes of model, template and calibration, and what it reads and gives."""
        first = self.members[0]
        calibration = self.model.calibration.as_dict() if isinstance(self.model, CalibratedModel) else None
        return {
            "name": self.name,
            "kind": "ensemble" if self.num_members > 1 else "reward model",
            "fingerprint": self.fingerprint,
            "template_hash": digest([member.text.template_hash for member in self.members]),
            "calibration_hash": None if calibration is None else digest(calibration),
            "calibration": calibration,
            "members": self.num_members,
            "attributes": list(first.card.attributes),
            "gives_std": self.gives_std,
            "gives_shift_p": self.gives_shift_p,
            "max_length": self.max_length,
            "truncation": first.text.truncation,
            "device": str(first.device),
            "prefix_cache": self.prefix_counts is not None,
        }

    @cached_property
    def fingerprint(self) -> str:
        """Changes with whatever changes a score."""
        return fingerprint_of(self.model)

    @property
    def num_members(self) -> int:
        """Of an ensemble, heads on one backbone counted one by one."""
        return sum(member.heads for member in self.members)

    @property
    def gives_std(self) -> bool:
        """Whether scores have a standard deviation."""
        return self.num_members > 1 or self.members[0].uncertainty is not None

    @property
    def gives_shift_p(self) -> bool:
        """Whether scores have a p-value of being in distribution."""
        return any(member.uncertainty is not None for member in self.members)

    @property
    def prefix_counts(self) -> dict[str, int] | None:
        """What the prefix cache did, over all members; None where there is none."""
        caches = [cache for member in self.members if (cache := member.network.backbone.prefix_cache) is not None]
        if not caches:
            return None
        names = ("texts", "hits", "tokens", "reused_tokens")
        counts = {name: sum(getattr(cache.counts, name) for cache in caches) for name in names}
        return {**counts, "bytes": sum(cache.num_bytes for cache in caches)}

    def close(self) -> None:
        """Free the packed weights."""
        self._prepared.close()

    def _prepare(self, prefix_bytes: int) -> None:
        """Choose the engine's mode, pack the weights, and run once, so that the first request does not wait for it."""
        from guerdon.models.engine.prepacked import prepacked_weights

        for member in self.members:
            if not member.network.encoder:
                member.network.eval()
                member.network.backbone.keep_prefixes(prefix_bytes)
            self._prepared.enter_context(prepacked_weights(member.network))
        ids = (0,) * min(WARM_UP_TOKENS, self.max_length or WARM_UP_TOKENS)
        self.score(self.read([Item("the warm-up", ids=ids)]))


def score_encoded(
    model: Any,
    columns: Iterator[Sequence[Encoded]],
    score: Callable[[Any, Sequence[Encoded]], Scores] = lambda scalar, encoded: scalar.score_encoded(encoded),
) -> Scores:
    """What model.score gives, from the token ids for each of its scalar models. score: of one of these."""
    if isinstance(model, CalibratedModel):
        return model.in_nats(score_encoded(model.model, columns, score))
    if isinstance(model, Ensemble):
        return model.combine([score_encoded(member, columns, score) for member in model.models])
    return score(model, next(columns))


def abstains(outcome: Outcome, below: float, above: float | None) -> bool:
    """Whether a limit advises not to use a score: shift_p below the one, or std above the other; or there is none."""
    is_shifted = outcome.shift_p is not None and outcome.shift_p < below
    is_unsure = above is not None and outcome.std is not None and outcome.std > above
    return outcome.score is None or is_shifted or is_unsure


def outcomes_of(scores: Scores, lengths: Sequence[int]) -> list[Outcome]:
    """One outcome for each text. lengths: their tokens."""

    def at(column: Any, i: int) -> float | None:
        return None if column is None else float(column[i])

    return [
        Outcome(
            score=float(scores.value[i]),
            std=at(scores.std, i),
            members=None if scores.members is None else tuple(scores.members[:, i].tolist()),
            shift_p=at(scores.shift_p, i),
            attributes={name: float(column[i]) for name, column in scores.attributes.items()},
            truncated=bool(scores.truncated[i]),
            tokens=length,
        )
        for i, length in enumerate(lengths)
    ]


# ---- Judges --------------------------------------------------------------------------------------------------------


@final
class ServedJudge:
    """A judge or a rubric as a reward model. A response without a verdict has an error and never a number."""

    needs_turn = gives_std = gives_shift_p = False
    passes_at_once = 1
    max_length: int | None = None

    def __init__(self, name: str, path: str, model: RewardModel) -> None:
        self.name, self.path, self.model = name, path, model
        self.can_merge = not (isinstance(model, JudgeReward) and model.method != "score")

    def read(self, items: Sequence[Item]) -> list[Reading]:
        """The conversations; a judge reads neither rendered texts nor token ids."""
        empty = np.empty(0, np.int32)
        readings = []
        for item in items:
            if item.prompt is None or item.response is None:
                line = f"{item.place} must be a conversation for {self.name}, which is a judge, got a rendered text. Send messages."
                raise ServingError(line)
            size = sum(len(turn.content) for turn in (*item.prompt, *item.response.turns()))
            readings.append(Reading(item, (), 1 + size // CHARACTERS_PER_TOKEN, empty, b""))
        return readings

    def score(self, readings: Sequence[Reading]) -> list[Outcome]:
        """Its rewards; NaN becomes an error."""
        prompts = [reading.item.prompt or Prompt(()) for reading in readings]
        scores = self.model.score(prompts, [reading.item.response or Response("") for reading in readings])
        return [
            outcome
            if outcome.score is not None and math.isfinite(outcome.score)
            else Outcome(
                None, error=f"{reading.item.place}: {self.name} gave no verdict. Look at its server, or ask again."
            )
            for reading, outcome in zip(readings, outcomes_of(scores, [0] * len(readings)), strict=True)
        ]

    def facts(self) -> dict[str, Any]:
        """Who judges, and a hash of what changes the rewards."""
        kind = "judge" if isinstance(self.model, JudgeReward) else "rubric"
        return {
            "name": self.name,
            "kind": kind,
            "fingerprint": fingerprint_of(self.model),
            "needs_group": not self.can_merge,
        }

    def close(self) -> None:
        """Nothing is prepared."""


def require_abstention(model: ServedModel, below: float, std: float | None) -> None:
    """Raise GuerdonError for a limit on what the model does not measure."""
    advice = f"Measure it with `guerdon uncertainty`, or leave the option out; {model.name} has none."
    if below > 0 and not model.gives_shift_p:
        raise field_error("serving.abstain_below", "0 for a model that measures no shift_p", below, advice)
    if std is not None and not model.gives_std:
        raise field_error("serving.abstain_std", "left out for a model that measures no std", std, advice)
