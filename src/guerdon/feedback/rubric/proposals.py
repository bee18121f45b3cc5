"""Criteria that a model proposes: it is shown labeled comparisons, a few at a time, and writes what the better responses do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from guerdon.config.feedback import DraftOptions
from guerdon.contracts import Comparison, Message
from guerdon.feedback.rubric.lint import say_the_same
from guerdon.models.judges.calls import Answer, Question, Unreadable
from guerdon.models.judges.driver import Conversation, Reading, ask
from guerdon.models.judges.prompts import JudgePrompt, material, parse_prompt
from guerdon.models.judges.readers import finished_text, without_verdict

MOST_CHARACTERS = 400  # of a criterion; longer lines are no criteria

_LINE = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s*(.+?)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class CriteriaReader:
    """The criteria of an answer: its lines that start with a dash, a star or a number."""

    most: int

    def read(self, answer: Answer) -> tuple[str, ...]:
        """Raises Unreadable: refusal, empty, unparsable. A list that was cut loses its last line."""
        text = finished_text(answer, may_be_cut=True)
        lines = [" ".join(line.replace("**", "").split()) for line in _LINE.findall(text)]
        if answer.finish == "length" and lines:
            lines.pop()
        criteria = [line for line in lines if 3 <= len(line.split()) and len(line) <= MOST_CHARACTERS]
        if not criteria:
            raise Unreadable(*without_verdict(answer, "no line is a criterion"))
        return tuple(criteria[: self.most])


@cache
def draft_template() -> JudgePrompt:
    """The template that comes with the package."""
    return parse_prompt(
        "draft.txt",
        files("guerdon.feedback.rubric").joinpath("draft.txt").read_text("utf-8"),
        known=("system", "example", "user", "reminder"),
        required="example",
        placeholders=("conversation", "responses", "count", "example", "examples"),
    )


def batches(comparisons: Sequence[Comparison], options: DraftOptions) -> Iterator[list[Comparison]]:
    """Comparisons to show together: `rounds` batches, each of other prompts as far as there are enough."""
    size = options.batch_size
    for number in range(options.rounds):
        start = number * size
        batch = [comparisons[(start + i) % len(comparisons)] for i in range(min(size, len(comparisons)))]
        yield batch
        if start + size >= len(comparisons):
            return


def propose(batch: Sequence[Comparison], options: DraftOptions, number: int) -> Conversation[Reading]:
    """Ask for criteria, given labeled comparisons. Preferred responses stand first and second equally often."""
    template = draft_template()
    examples = []
    for position, comparison in enumerate(batch):
        best_first = (position + number) % 2 == 0
        order = _best_and_worst(comparison) if best_first else _best_and_worst(comparison)[::-1]
        shown = [comparison.responses[i] for i in order]
        conversation, responses = material(comparison.prompt, shown, options.seed)
        values = {
            "count": str(position + 1), "conversation": conversation, "responses": responses,
            "example": "1" if best_first else "2", "examples": "",
        }  # fmt: skip
        examples.append(template.fill("example", values))
    values = {"examples": "\n\n".join(examples), "count": str(options.criteria_per_round)}
    messages = (
        Message("system", template.sections["system"]),
        Message("user", template.fill("user", values)),
    )
    question = Question(
        messages,
        CriteriaReader(options.criteria_per_round),
        max_tokens=options.max_tokens,
        temperature=options.temperature,
        seed=options.seed,
        sample=number,
        purpose="draft",
        item=f"draft {number}",
    )
    (reading,) = yield from ask([question], reasks=2, reminder=template.sections["reminder"])
    return reading


def distinct(texts: Sequence[str], most: int) -> list[str]:
    """Texts without those that say what an earlier one says; those proposed most often first, at most `most`."""
    kept: list[str] = []
    votes: dict[str, int] = {}
    for text in texts:
        same = next((other for other in kept if say_the_same(text, other)), None)
        if same is None:
            kept.append(text)
            votes[text] = 1
        else:
            votes[same] += 1
    return sorted(kept, key=lambda text: -votes[text])[:most]


def _best_and_worst(comparison: Comparison) -> tuple[int, int]:
    ranks = [rank if rank >= 0 else len(comparison.responses) for rank in comparison.ranks]
    return ranks.index(min(ranks)), ranks.index(max(ranks))
