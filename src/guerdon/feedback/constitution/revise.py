"""Critique and revision: a response is criticized under a principle and rewritten, several times, and every step is kept.

After Bai et al. 2022, Constitutional AI, arXiv 2212.08073, section 3.1. What differs: a revision that fails a check is not
used, a critic may say that nothing needs to change, and what is revised stands between tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files

from guerdon.config.feedback import ConstitutionOptions
from guerdon.contracts import Message, Prompt, Response
from guerdon.feedback.constitution.checks import NO_CHANGE, StepState, check_revision, strip_introduction
from guerdon.feedback.constitution.principles import Constitution, Principle
from guerdon.models.judges.calls import Question
from guerdon.models.judges.driver import Conversation, Reading, ask
from guerdon.models.judges.prompts import JudgePrompt, material, parse_prompt
from guerdon.models.judges.readers import TextReader


@dataclass(frozen=True, slots=True)
class Step:
    """One critique and revision. text: the response after it: the revision where it is used, else what was there before.

    revision: as the critic wrote it, without an introduction. reason: why a call failed. keys: of the calls.
    """

    principle: str
    state: StepState
    text: str
    critique: str = ""
    revision: str = ""
    reason: str = ""
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chain:
    """A response and its revisions. id: of the row. author: of the first response."""

    prompt: Prompt
    first: Response
    steps: tuple[Step, ...] = field(default=())
    id: str = ""

    @property
    def last(self) -> str:
        """The text after the last step."""
        return self.steps[-1].text if self.steps else self.first.text

    @property
    def used(self) -> tuple[tuple[str, Step], ...]:
        """Each step that changed the text, with the text before it."""
        before, used = self.first.text, []
        for step in self.steps:
            if step.state == "revised":
                used.append((before, step))
                before = step.text
        return tuple(used)


@cache
def revision_template() -> JudgePrompt:
    """The template that comes with the package."""
    text = files("guerdon.feedback.constitution").joinpath("revision.txt").read_text("utf-8")
    return parse_prompt(
        "revision.txt",
        text,
        known=("system", "critique", "revision"),
        required="critique",
        placeholders=("conversation", "responses", "critique_request", "revision_request"),
    )


def revise(
    prompt: Prompt, response: Response, constitution: Constitution, options: ConstitutionOptions, item: str = ""
) -> Conversation[Chain]:
    """Criticize and revise a response under a principle of its own in each step."""
    chain = Chain(prompt, response, id=item)
    for number, principle in enumerate(constitution.choose(prompt, options.revisions, options.seed)):
        step = yield from _one_step(chain, principle, constitution, options, number)
        chain = replace(chain, steps=(*chain.steps, step))
    return chain


def _one_step(
    chain: Chain, principle: Principle, constitution: Constitution, options: ConstitutionOptions, number: int
) -> Conversation[Step]:
    before = chain.last
    template = revision_template()
    opening = (
        Message("system", template.sections["system"]),
        *_examples(constitution),
        Message("user", _critique_request(chain.prompt, before, principle.critique_request, options.seed)),
    )
    critique = yield from _write(opening, "critique", chain.id, number, options)
    if critique.failure:
        return Step(principle.id, "failed", before, reason=str(critique.failure), keys=(critique.key,))
    if NO_CHANGE.match(critique.value):
        return Step(principle.id, "no_change", before, critique.value, keys=(critique.key,))
    request = template.fill("revision", {"revision_request": principle.revision_request})
    messages = (*opening, Message("assistant", critique.value), Message("user", request))
    revision = yield from _write(messages, "revise", chain.id, number, options)
    keys = (critique.key, revision.key)
    if revision.failure:
        return Step(principle.id, "failed", before, critique.value, reason=str(revision.failure), keys=keys)
    text = strip_introduction(revision.value)
    state = check_revision(before, text, options)
    return Step(principle.id, state, text if state == "revised" else before, critique.value, text, keys=keys)


def _write(
    messages: Sequence[Message], purpose: str, item: str, number: int, options: ConstitutionOptions
) -> Conversation[Reading]:
    """A text from the critic. A refusal to revise is a text too: the checks decide."""
    question = Question(
        tuple(messages),
        TextReader(refusals_too=purpose == "revise"),
        max_tokens=options.max_tokens,
        temperature=options.temperature,
        seed=options.seed,
        sample=number,
        purpose=purpose,  # type: ignore[arg-type]
        item=item,
    )
    (reading,) = yield from ask([question], reasks=1)
    return reading


def _critique_request(prompt: Prompt, text: str, request: str, seed: int) -> str:
    conversation, response = material(prompt, [Response(text)], seed)
    values = {"conversation": conversation, "responses": response, "critique_request": request}
    return revision_template().fill("critique", values)


def _examples(constitution: Constitution) -> tuple[Message, ...]:
    turns: list[Message] = []
    for example in constitution.examples:
        prompt = Prompt([Message("user", example.prompt)])
        request = revision_template().fill("revision", {"revision_request": example.revision_request})
        turns += [
            Message("user", _critique_request(prompt, example.response, example.critique_request, 0)),
            Message("assistant", example.critique),
            Message("user", request),
            Message("assistant", example.revision),
        ]
    return tuple(turns)
