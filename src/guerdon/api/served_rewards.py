"""A reward model behind `guerdon serve` as a reward of optimization: what `--reward URL` is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np
from pydantic import TypeAdapter, ValidationError

from guerdon.contracts import Scores, as_prompt, as_response
from guerdon.errors import GuerdonError, did_you_mean, show_value
from guerdon.io import schema
from guerdon.serving.client import RewardClient, RewardError
from guerdon.serving.schema import RewardResult

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.contracts import PromptLike, ResponseLike

__all__ = ["ServedReward", "is_served_reward"]

RESULTS = TypeAdapter(list[RewardResult])
FIRST_PATIENCE = 10.0  # seconds for a server to answer at first: a wrong address should not take ten minutes to show


def is_served_reward(name: str) -> bool:
    """Whether a reward of this name is behind a server."""
    return name.startswith(("http://", "https://"))


@final
class ServedReward:
    """The rewards of a Guerdon server, the same numbers as its model would give here.

    address: http://HOST:PORT, with #NAME for one of several models. A server that is busy or away is asked again for ten
    minutes; one that still fails, or that has no reward for a text, is an error and never a number. Texts that are too long are
    cut at their beginning, as they are for a model on this machine. step: of the training, sent along for `guerdon watch`.
    """

    step: int | None = None

    def __init__(self, address: str) -> None:
        url, _, name = address.partition("#")
        try:
            self.client = RewardClient(url, name or None, truncate=True)
        except RewardError as error:
            raise GuerdonError(f"--reward: {error}") from None
        self.facts = _facts(self.client)
        self.name = self.__name__ = address

    @property
    def fingerprint(self) -> str:
        """That of the model that is served."""
        return str(self.facts["fingerprint"])

    def score(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Scores:
        """Rewards in nats, with what else the server measures. Raises GuerdonError if any text has none."""
        rows = [
            {**schema.prompt_to_row(as_prompt(prompt)), "response": schema.response_to_row(as_response(response))}
            for prompt, response in zip(prompts, responses, strict=True)
        ]
        results = self._results(rows)
        return Scores(
            value=np.array([result.score for result in results], dtype=np.float64),
            truncated=np.array([result.truncated for result in results], dtype=bool),
            std=_column([result.std for result in results]),
            members=self._members(results),
            shift_p=_column([result.shift_p for result in results]),
            attributes=_attributes(results),
        )

    def _results(self, rows: Sequence[dict[str, Any]]) -> list[RewardResult]:
        try:
            return RESULTS.validate_python(self.client.results(rows, self.step))
        except RewardError as error:
            raise GuerdonError(f"reward {_sentence(error)} Start the server again, or look at its log.") from None
        except ValidationError as error:
            first = error.errors()[0]
            raise self._misfit(".".join(map(str, first["loc"])), first["input"]) from None

    def _members(self, results: Sequence[RewardResult]) -> Float[np.ndarray, "k n"] | None:
        rows = [result.members for result in results if result.members]
        if len({len(row) for row in rows}) > 1:
            raise self._misfit("members of all results", [len(row) for row in rows])
        return np.array(rows, dtype=np.float64).T if rows and len(rows) == len(results) else None

    def _misfit(self, place: str, value: object) -> GuerdonError:
        return GuerdonError(
            f"reward {self.client.url}: {place} must be as `guerdon serve` of this version gives it, got {show_value(value)}. "
            "Update one of the two."
        )


def _facts(client: RewardClient) -> Mapping[str, Any]:
    """What the server says of the model that is asked. Raises GuerdonError where there is no such server or model."""
    try:
        models = client.info(FIRST_PATIENCE).get("models")
    except RewardError as error:
        raise GuerdonError(
            f"--reward {_sentence(error)} Start `guerdon serve DIR` there, or correct the address."
        ) from None
    listed = models if isinstance(models, list) else []
    known = {str(row["name"]): row for row in listed if isinstance(row, dict) and {"name", "fingerprint"} <= row.keys()}
    if not known:
        raise GuerdonError(
            f"--reward {client.server}: must be a guerdon server, got another. Start `guerdon serve DIR` there."
        )
    name = client.model or next(iter(known))
    if name not in known:
        raise GuerdonError(
            f"--reward: the name after # must be of a served model, got {name}. {did_you_mean(name, known)}"
        )
    return known[name]


def _sentence(error: RewardError) -> str:
    return text if (text := str(error)).endswith((".", "?")) else f"{text}."


def _column(values: Sequence[float | None]) -> Float[np.ndarray, " n"] | None:
    """One number for each response; None unless every one has it."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    return np.array(known, dtype=np.float64) if known and len(known) == len(values) else None


def _attributes(results: Sequence[RewardResult]) -> dict[str, Float[np.ndarray, " n"]]:
    """One reward for each response by attribute; NaN where the server has none, as for a criterion that does not apply."""
    names = sorted({name for result in results for name in result.attributes or {}})
    return {
        name: np.array([(result.attributes or {}).get(name) for result in results], dtype=np.float64) for name in names
    }
