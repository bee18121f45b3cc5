"""What a chat template leaves out is named and counted: a model built to miss it is found, one that sees all passes."""

from __future__ import annotations

import dataclasses
import logging

import pytest
from chat_templates import CHATML, LAST_THOUGHT, LLAMA3, OPENS_THOUGHT, QWEN3, TEXT_ONLY, tokenizer_with
from toys import liked

from guerdon.api import auditing
from guerdon.config import ModelOptions, TrainOptions
from guerdon.contracts import Message, Prompt, Response
from guerdon.models.chat import ChatTokenizer
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.hidden_text import hidden_parts, hidden_text_findings
from guerdon.training import fit

ONLY_FIRST_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}"
    "{% for m in messages if m.role in ('user', 'assistant') %}{{ m.role + m.content + '\n' }}{% endfor %}"
)
ONLY_PEOPLE = ONLY_FIRST_SYSTEM[ONLY_FIRST_SYSTEM.index("{% for") :]
ONLY_REPLIES = "{% for m in messages if m.role == 'assistant' %}{{ m.content + '\n' }}{% endfor %}"
NAMES = {"the names of speakers"}
SYSTEM = {"the system message", "system messages after the first turn"}
EARLIER_REASONING = {"the reasoning of earlier replies"}


def names(template: str) -> set[str]:
    return {part.name for part in hidden_parts(ChatTokenizer(tokenizer_with(template)))}


@pytest.mark.parametrize(
    ("template", "hidden"),
    [
        (TEXT_ONLY, NAMES),
        (CHATML, NAMES),
        (LLAMA3, NAMES),
        (QWEN3, NAMES | EARLIER_REASONING),
        (LAST_THOUGHT, NAMES),
        (OPENS_THOUGHT, NAMES | EARLIER_REASONING | {"the reasoning of the reply"}),
        (ONLY_FIRST_SYSTEM, NAMES | {"system messages after the first turn", "turns of a tool that nobody called"}),
        (ONLY_PEOPLE, NAMES | SYSTEM | {"turns of a tool that nobody called"}),
        (
            ONLY_REPLIES,
            NAMES
            | SYSTEM
            | {"the last turn before the reply", "earlier turns of the user", "turns of a tool that nobody called"},
        ),
    ],
)
def test_what_each_template_leaves_out(template, hidden):
    assert names(template) == hidden


@pytest.fixture
def thoughtful():
    """Two of eight comparisons differ in a thought alone."""
    comparisons = liked(8)
    thoughts = tuple(Response(f"<think>{word}</think>48") for word in ("6*8=48", "no idea"))
    for i in (2, 5):
        comparisons[i] = dataclasses.replace(comparisons[i], responses=thoughts, id=f"t{i}")
    return comparisons


def test_comparisons_that_have_what_is_left_out_are_counted(thoughtful):
    (finding,) = hidden_text_findings(ChatTokenizer(tokenizer_with(OPENS_THOUGHT)), thoughtful)
    assert (finding.severity, finding.title) == ("warning", "The chat template leaves out the reasoning of the reply")
    assert finding.evidence == "2 of 8 comparisons have it, and the model does not see it"
    assert hidden_text_findings(ChatTokenizer(tokenizer_with(OPENS_THOUGHT)), liked(8)) == []
    assert hidden_text_findings(ChatTokenizer(tokenizer_with(CHATML)), thoughtful) == []


def test_a_system_message_of_ones_own_that_is_left_out_is_counted():
    text = ChatTokenizer(tokenizer_with(ONLY_PEOPLE), system="Be kind.")
    (finding,) = hidden_text_findings(text, liked(4))
    assert finding.title == "The chat template leaves out the system message"
    assert finding.evidence.startswith("4 of 4 comparisons")


def test_names_and_later_system_messages_are_found_where_they_are():
    turns = [
        Message("user", "Hi", name="ann"),
        Message("assistant", "Yes"),
        Message("system", "x"),
        Message("user", "y"),
    ]
    comparison = dataclasses.replace(liked(1)[0], prompt=Prompt(turns))
    found = hidden_text_findings(ChatTokenizer(tokenizer_with(ONLY_FIRST_SYSTEM)), [comparison])
    assert [(f.severity, f.title.removeprefix("The chat template leaves out ")) for f in found] == [
        ("warning", "system messages after the first turn"),
        ("note", "the names of speakers"),
    ]


def test_training_warns_and_an_audit_finds_it(tiny_dir, caplog):
    model = create_reward_model(ModelOptions(base=str(tiny_dir), system="be kind"))
    model.text.tokenizer.chat_template = ONLY_PEOPLE
    with caplog.at_level(logging.WARNING):
        fit(model, liked(8), TrainOptions(lr=1e-3, max_steps=1, batch_size=4))
    assert "The chat template leaves out the system message: 8 of 8 comparisons have it" in caplog.text
    report = auditing.audit(model, liked(40), only=["accuracy"])
    assert "The chat template leaves out the system message" in [finding.title for finding in report.findings]
