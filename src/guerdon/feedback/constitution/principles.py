"""A constitution: principles to criticize, revise and compare responses by, read from a YAML file and checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from guerdon.config.base import Options, first_problem
from guerdon.config.yaml_text import parse_yaml
from guerdon.contracts import Finding, GuerdonError, Prompt, digest, prompt_digest
from guerdon.errors import show_value
from guerdon.feedback.similar_texts import similar_texts

SHIPPED = "guerdon"
NEAR = 0.85  # similarity of two principles that say the same
CANDIDATE = 0.6  # cosine of trigrams from which two principles are compared letter by letter


def _as_pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise PydanticCustomError(
            "pattern", "Input should be a regular expression ({error})", {"error": str(error)}
        ) from None
    return text


class Principle(Options):
    """One principle. The critique and revision requests are for revising, the question is for comparing."""

    id: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,80}$", description="Name of the principle; its judgments carry it.")
    text: str = Field("", description="What it asks for, in a sentence.")
    critique_request: str = Field("", description="What the critic is asked to look for.")
    revision_request: str = Field("", description="How the response is to be rewritten.")
    compare_question: str = Field("", description="What makes one response better than another.")
    tags: list[str] = Field(default_factory=list, description="What it is about.")
    weight: float = Field(1.0, gt=0, le=1e6, description="How often it is drawn, relative to the others.")
    applies_when: Annotated[str, AfterValidator(_as_pattern)] | None = Field(
        None, description="Regular expression; the principle applies only to prompts whose user turns it matches."
    )

    @property
    def can_revise(self) -> bool:
        """Whether it has both requests."""
        return bool(self.critique_request.strip() and self.revision_request.strip())

    @property
    def can_compare(self) -> bool:
        """Whether it has a question."""
        return bool(self.compare_question.strip())

    @property
    def fingerprint(self) -> str:
        """A hash of everything that it says."""
        return digest(self.model_dump())

    def applies(self, prompt: Prompt) -> bool:
        """Whether it is about this prompt."""
        if self.applies_when is None:
            return True
        text = "\n".join(turn.content for turn in prompt if turn.role == "user")
        return re.search(self.applies_when, text, re.IGNORECASE) is not None


class CritiqueExample(Options):
    """A worked example that the critic is shown before its own task."""

    prompt: str = Field(min_length=1, description="What the user wrote.")
    response: str = Field(min_length=1, description="The response that was criticized.")
    critique_request: str = Field(min_length=1, description="As in a principle.")
    critique: str = Field(min_length=1, description="A good critique.")
    revision_request: str = Field(min_length=1, description="As in a principle.")
    revision: str = Field(min_length=1, description="A good revision.")


class Constitution(Options):
    """Principles with a title, a version and a license."""

    id: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,80}$", description="Name of the constitution.")
    version: str = Field("1", description="Version of the text.")
    title: str = Field("", description="Title to show.")
    license: str = Field("", description="License of the text.")
    source: str = Field("", description="Where the text is from.")
    principles: list[Principle] = Field(min_length=1, max_length=10_000, description="The principles.")
    examples: list[CritiqueExample] = Field(
        default_factory=list, max_length=20, description="Worked critiques and revisions."
    )
    helpfulness: str = Field(
        "Which response does more of what the user asked for, correctly and completely?",
        min_length=1,
        description="The question by which a revision must not be much worse than what it replaces.",
    )

    @property
    def fingerprint(self) -> str:
        """A hash of the principles, kept with every record."""
        examples = [example.model_dump() for example in self.examples]
        return digest([self.id, self.version, [principle.fingerprint for principle in self.principles], examples])

    def choose(self, prompt: Prompt, count: int, seed: int, *, to_compare: bool = False) -> list[Principle]:
        """`count` principles for a prompt: weighted, without replacement, by the seed and the prompt alone.

        When all that apply are used up, they start over in the same order. Empty where none applies.
        """
        usable = [p for p in self.principles if (p.can_compare if to_compare else p.can_revise) and p.applies(prompt)]
        if not usable:
            return []
        rng = np.random.default_rng(int(digest([seed, prompt_digest(prompt), self.fingerprint]), 16))
        # Efraimidis and Spirakis 2006: the largest u^(1/w) are a weighted sample without replacement
        keys = rng.random(len(usable)) ** (1 / np.array([principle.weight for principle in usable]))
        order = np.argsort(-keys, kind="stable")
        return [usable[order[i % len(usable)]] for i in range(count)]


def load_constitution(name_or_path: str | Path) -> Constitution:
    """A constitution from a YAML file, or the one that comes with the package, "guerdon"."""
    if str(name_or_path) == SHIPPED:
        return shipped_constitution()
    path = Path(name_or_path)
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise GuerdonError(
            f"constitution must be {SHIPPED} or a YAML file that can be read ({reason}), got {str(path)!r}. Correct the path."
        ) from None
    return parse_constitution(text, str(path))


@cache
def shipped_constitution() -> Constitution:
    """The constitution that comes with the package: written for it, CC0."""
    text = files("guerdon.feedback.constitution").joinpath("guerdon.yaml").read_text("utf-8")
    return parse_constitution(text, "guerdon.yaml")


def parse_constitution(text: str, place: str) -> Constitution:
    """A constitution from YAML. Raises GuerdonError with the place, the field and the value."""
    try:
        values = parse_yaml(text)
    except ValueError as error:
        raise GuerdonError(f"{place}: a constitution must be YAML ({error}). Correct the line.") from None
    if not isinstance(values, dict):
        raise GuerdonError(
            f"{place}: a constitution must be a mapping with id and principles, got {show_value(values)}. "
            "Write id: NAME and principles: [...]."
        )
    try:
        constitution = Constitution.model_validate(values)
    except ValidationError as error:
        raise GuerdonError(f"{place}: {first_problem(error, _owner)}") from None
    ids: set[str] = set()
    for principle in constitution.principles:
        if principle.id in ids:
            raise GuerdonError(f"{place}: the ids of principles must differ, got {principle.id!r} twice. Rename one.")
        ids.add(principle.id)
    return constitution


def _owner(path: Sequence[str | int]) -> type[Options]:
    """The model whose field is at the path."""
    return Principle if "principles" in path else CritiqueExample if "examples" in path else Constitution


# ---- Lint --------------------------------------------------------------------------------------------------------------


def lint_constitution(constitution: Constitution) -> list[Finding]:
    """What is wrong with a constitution: principles that can do nothing, halves, duplicates, and what has no license."""
    return [
        *_lint_forms(constitution.principles),
        *_lint_duplicates(constitution.principles),
        *_lint_texts(constitution),
    ]


def _lint_forms(principles: Sequence[Principle]) -> Iterator[Finding]:
    for principle in principles:
        if bool(principle.critique_request.strip()) != bool(principle.revision_request.strip()):
            yield Finding(
                "error",
                f"{principle.id} has half of what revising needs",
                "One of critique_request and revision_request is missing.",
                "Write the other.",
            )
        elif not (principle.can_revise or principle.can_compare):
            yield Finding(
                "error",
                f"{principle.id} can do nothing",
                "It has neither a compare_question nor both requests.",
                "Write compare_question, or critique_request and revision_request.",
            )
    if not any(principle.can_revise for principle in principles):
        yield Finding("note", "No principle can revise", "None has both requests.", "Only the flow compare can be run.")
    if not any(principle.can_compare for principle in principles):
        yield Finding("note", "No principle can compare", "None has a question.", "Only the flow revise can be run.")


def _lint_duplicates(principles: Sequence[Principle]) -> Iterator[Finding]:
    """A finding for each principle and the first one before it that says the same."""
    for field in ("text", "critique_request", "revision_request", "compare_question"):
        texts = [(p.id, " ".join(getattr(p, field).lower().split())) for p in principles if getattr(p, field).strip()]
        copies: set[int] = set()
        for i, j in similar_texts([text for _, text in texts], CANDIDATE):
            (one, text), (other, other_text) = texts[i], texts[j]
            if i in copies or j in copies or not (ratio := _near(text, other_text)):
                continue
            copies.add(j)
            yield Finding(
                "warning",
                f"{one} and {other} say the same",
                f"Their {field} are {ratio:.0%} alike.",
                "Join them, or say how they differ: both are drawn, so what they say counts twice.",
            )


def _near(one: str, other: str) -> float:
    """How alike two texts are, letter by letter; 0 below NEAR."""
    if one == other:
        return 1.0
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    ratio = matcher.ratio() if matcher.quick_ratio() >= NEAR else 0.0
    return ratio if ratio >= NEAR else 0.0


def _lint_texts(constitution: Constitution) -> Iterator[Finding]:
    if not constitution.license:
        yield Finding(
            "warning",
            "The constitution has no license",
            "license is empty.",
            "Name one, such as CC0-1.0, or do not share it.",
        )
    for principle in constitution.principles:
        question = principle.compare_question
        if re.search(r"\b(response|answer|reply) ?\(?[AB12]\)?\b", question):
            yield Finding(
                "warning",
                f"{principle.id} names a position",
                f"compare_question: {question!r:.200}",
                "Speak of the better response; positions change between calls.",
            )
        if re.search(r"\b(longer|shorter|longest|shortest|detailed)\b", question, re.IGNORECASE):
            yield Finding(
                "note",
                f"{principle.id} speaks of length",
                f"compare_question: {question!r:.200}",
                "Length is the commonest spurious cue; leave it out unless it is what you want.",
            )
