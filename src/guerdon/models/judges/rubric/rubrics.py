"""A rubric: weighted criteria, for every prompt or for one, read from YAML or JSONL and checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from pydantic import Field, ValidationError

from guerdon.config.base import Options, first_problem
from guerdon.config.yaml_text import parse_yaml
from guerdon.contracts import GuerdonError, Prompt, as_prompt, digest, prompt_digest
from guerdon.errors import did_you_mean, short_path, show_value
from guerdon.formulas.rubrics import Rule

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

DEFAULT_SCALE: Final[Mapping[Rule, float]] = {"weighted_mean": 4.0, "weighted_sum": 1.0, "log_odds": 1.0}
OWN = "prompt_criteria"  # the column of what only one prompt has

# What other tools call the same fields, in the order in which they are looked for
ALIASES: Final = {
    "text": ("criterion", "requirement", "description"),
    "weight": ("points",),
    "id": ("name", "title"),
}
LISTS: Final = ("criteria", "rubric", "rubrics")


class Criterion(Options):
    """One criterion. A negative weight makes it a fault: a response that meets it gets less."""

    id: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,80}$", description="Name of the criterion; its column carries it.")
    text: str = Field(min_length=1, max_length=4000, description="What a response must do to meet it, in a sentence.")
    weight: float = Field(1.0, ge=-1e6, le=1e6, description="How much it counts; below 0 for a fault.")
    kind: Literal["yes_no", "score"] = Field("yes_no", description="Met or not, or a score from low to high.")
    low: int = Field(1, ge=-1000, le=1000, description="Worst score; counts as not met at all.")
    high: int = Field(5, ge=-1000, le=1000, description="Best score; counts as fully met.")
    required: bool = Field(False, description="A response that fails it gets the lowest reward, whatever else it does.")


class PromptCriteria(Options):
    """The criteria of one prompt."""

    prompt: str | list[dict[str, Any]] = Field(description="What the user wrote, or messages.")
    criteria: list[Criterion] = Field(min_length=1, max_length=200, description="Criteria for this prompt alone.")


class Rubric(Options):
    """Criteria with a title, a version and a license, and the rule that makes one reward of them."""

    id: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,80}$", description="Name of the rubric.")
    version: str = Field("1", description="Version of the text.")
    title: str = Field("", description="Title to show.")
    license: str = Field("", description="License of the text.")
    combine: Rule = Field(
        "weighted_mean",
        description="weighted_mean: sum of weight times P(met) over the sum of the weights' sizes. weighted_sum: without the "
        "division. log_odds: the weighted mean of log-odds instead of probabilities.",
    )
    scale: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="Nats of reward that a point of the combined number is worth; 4 for weighted_mean, 1 otherwise. "
        "`guerdon rubric audit` fits it to people.",
    )
    criteria: list[Criterion] = Field(default_factory=list, max_length=200, description="Criteria for every prompt.")
    prompts: list[PromptCriteria] = Field(
        default_factory=list, max_length=1_000_000, description="Criteria for single prompts, added to the shared ones."
    )

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that changes a verdict, kept with every record."""
        own = {name: [each.model_dump() for each in criteria] for name, criteria in sorted(self.by_prompt.items())}
        shared = [criterion.model_dump() for criterion in self.criteria]
        return digest([self.id, self.version, self.combine, self.nats, shared, own])

    @property
    def nats(self) -> float:
        """Nats of reward per point of the combined number."""
        return DEFAULT_SCALE[self.combine] if self.scale is None else self.scale

    @cached_property
    def by_prompt(self) -> Mapping[str, Sequence[Criterion]]:
        """The criteria of single prompts, by the digest of the prompt."""
        return {prompt_digest(as_prompt(each.prompt)): each.criteria for each in self.prompts}

    def own(self, prompt: Prompt) -> Sequence[Criterion]:
        """The criteria that only this prompt has."""
        return self.by_prompt.get(prompt_digest(prompt), ()) if self.prompts else ()

    def of(self, prompt: Prompt) -> list[Criterion]:
        """The criteria of a prompt: the shared ones, then its own."""
        return [*self.criteria, *self.own(prompt)]

    @property
    def columns(self) -> list[str]:
        """Names of the columns that scores have: the shared criteria, and one for all that single prompts have."""
        return [*(criterion.id for criterion in self.criteria), *([OWN] if self.prompts else [])]

    def all_criteria(self) -> Iterator[tuple[str, Criterion]]:
        """Every criterion with the place where it stands."""
        for i, criterion in enumerate(self.criteria):
            yield f"criteria[{i}]", criterion
        for j, each in enumerate(self.prompts):
            for i, criterion in enumerate(each.criteria):
                yield f"prompts[{j}].criteria[{i}]", criterion


def weights_of(criteria: Sequence[Criterion]) -> tuple[Float[np.ndarray, " c"], Bool[np.ndarray, " c"]]:
    """The weight of each criterion, and whether it is required."""
    weight = np.array([criterion.weight for criterion in criteria], dtype=np.float64)
    return weight, np.array([criterion.required for criterion in criteria], dtype=bool)


# ---- Reading -----------------------------------------------------------------------------------------------------------


def load_rubric(path: str | Path) -> Rubric:
    """A rubric from a YAML file, or from rows of a prompt and its criteria (JSONL)."""
    path = Path(path)
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return _from_rows(path)
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise GuerdonError(
            f"rubric must be a YAML or JSONL file that can be read ({reason}), got {short_path(path)!r}. Correct the path."
        ) from None
    return parse_rubric(text, str(path), _name_of(path))


def parse_rubric(text: str, place: str, name: str = "rubric") -> Rubric:
    """A rubric from YAML: a mapping, or just a list of criteria. name: its id where it gives none.

    Raises GuerdonError with the place, the field and the value.
    """
    try:
        values = parse_yaml(text)
    except ValueError as error:
        raise GuerdonError(f"{place}: a rubric must be YAML ({error}). Correct the line.") from None
    return as_rubric(values, place, name)


def as_rubric(values: Any, place: str, name: str = "rubric") -> Rubric:
    """A rubric from plain values."""
    if isinstance(values, list):
        values = {"criteria": values}
    if not isinstance(values, Mapping):
        raise GuerdonError(
            f"{place}: a rubric must be a mapping with criteria, got {show_value(values)}. Write criteria: [...]."
        )
    values = {"id": name, **_renamed_list(values)}
    prompts = values.get("prompts")
    if isinstance(prompts, list):
        values["prompts"] = [_renamed_list(each, "p") if isinstance(each, Mapping) else each for each in prompts]
    try:
        rubric = Rubric.model_validate(values)
    except ValidationError as error:
        raise GuerdonError(f"{place}: {first_problem(error, _owner)}") from None
    _refuse_unusable(rubric, place)
    return rubric


def _from_rows(path: Path) -> Rubric:
    from guerdon.io.readers import read_rows
    from guerdon.io.schema import Rejected

    prompts: list[dict[str, Any]] = []
    for location, row in read_rows(path):
        if isinstance(row, Rejected):
            raise GuerdonError(f"{location}: {row.reason}")
        if not isinstance(row, Mapping):
            raise GuerdonError(
                f"{location}: a row must have a prompt and criteria, got {show_value(row)}. Correct or drop it."
            )
        criteria = next((row[key] for key in LISTS if key in row), None)
        if criteria is None:
            raise GuerdonError(f"{location}: criteria must be a list, got nothing. Add it.")
        if unknown := [key for key in row if key not in ("prompt", *LISTS)]:
            raise GuerdonError(
                f"{location}: {unknown[0]} is not a known field. {did_you_mean(unknown[0], ('prompt', *LISTS))}"
            )
        prompts.append({"prompt": row.get("prompt"), "criteria": criteria})
    return as_rubric({"prompts": prompts}, str(path), _name_of(path))


def _renamed_list(values: Mapping[str, Any], letter: str = "c") -> dict[str, Any]:
    """The mapping with its criteria under the one name that they have here, each with the names of our fields.

    letter: criteria without a name are called by it and their number.
    """
    renamed = dict(values)
    for key in LISTS[1:]:
        if key in renamed and "criteria" not in renamed:
            renamed["criteria"] = renamed.pop(key)
    criteria = renamed.get("criteria")
    if isinstance(criteria, list):
        renamed["criteria"] = [_renamed_criterion(each, f"{letter}{i}") for i, each in enumerate(criteria, 1)]
    return renamed


def _renamed_criterion(value: Any, number: str) -> Any:
    """A criterion with our names for its fields; a bare text is a criterion of weight 1, and one without a name is numbered."""
    if isinstance(value, str):
        return {"id": number, "text": value}
    if not isinstance(value, Mapping):
        return value
    renamed = dict(value)
    for name, others in ALIASES.items():
        for other in others:
            if other in renamed and name not in renamed:
                renamed[name] = renamed.pop(other)
    if "id" not in renamed:
        renamed["id"] = number
    elif "id" not in value and isinstance(renamed["id"], str):  # a title, which may hold anything
        renamed["id"] = re.sub(r"[^A-Za-z0-9_.-]+", "_", renamed["id"]).strip("_")[:80] or number
    return renamed


def _refuse_unusable(rubric: Rubric, place: str) -> None:
    if not rubric.criteria and not rubric.prompts:
        raise GuerdonError(f"{place}: criteria must be a list of at least one criterion, got nothing. Add one.")
    for where, criterion in rubric.all_criteria():
        if criterion.id == OWN:
            raise GuerdonError(f"{place}: {where}.id must not be {OWN!r}, the name of a column. Rename it.")
        if criterion.low >= criterion.high:
            raise GuerdonError(
                f"{place}: {where}.high must be above low={criterion.low}, got {criterion.high}. Correct the scale."
            )
        if not criterion.text.strip():
            raise GuerdonError(f"{place}: {where}.text must say something, got {criterion.text!r:.40}. Write it.")
    shared = [criterion.id for criterion in rubric.criteria]
    _refuse_same_names(shared, place)
    seen: set[str] = set()
    for j, each in enumerate(rubric.prompts):
        try:
            name = prompt_digest(as_prompt(each.prompt))
        except GuerdonError as error:
            raise GuerdonError(f"{place}: prompts[{j}].prompt: {error}") from None
        if name in seen:
            raise GuerdonError(
                f"{place}: prompts[{j}].prompt must differ from the others, got it twice. Join their criteria."
            )
        seen.add(name)
        _refuse_same_names([*shared, *(criterion.id for criterion in each.criteria)], f"{place}: prompts[{j}]")
        _refuse_no_weight([*rubric.criteria, *each.criteria], f"{place}: prompts[{j}]")
    if rubric.criteria:
        _refuse_no_weight(rubric.criteria, place)


def _refuse_same_names(names: Sequence[str], place: str) -> None:
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise GuerdonError(f"{place}: the ids of criteria must differ, got {twice!r} twice. Rename one.")


def _refuse_no_weight(criteria: Sequence[Criterion], place: str) -> None:
    if not any(criterion.weight for criterion in criteria):
        raise GuerdonError(f"{place}: some criterion must have a weight other than 0, got 0 for all. Give weights.")


def _name_of(path: Path) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", path.stem)[:80] or "rubric"


def _owner(path: Sequence[str | int]) -> type[Options]:
    """The model whose field is at the path."""
    return Criterion if "criteria" in path else PromptCriteria if "prompts" in path else Rubric
