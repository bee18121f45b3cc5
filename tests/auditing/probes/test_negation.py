"""Sentences by hand: each with its negation, and those that have none."""

from __future__ import annotations

import pytest

from guerdon.auditing.probes.negation import negate


@pytest.mark.parametrize(
    ("sentence", "negated"),
    [
        ("Water is wet.", "Water is not wet."),
        ("The wall fell and it was rebuilt.", "The wall fell and it was not rebuilt."),
        ("You can eat it raw.", "You cannot eat it raw."),
        ("You cannot eat it raw.", "You can eat it raw."),
        ("It doesn't help.", "It does help."),
        ("We won’t go there.", "We will go there."),
        ("It's a planet.", "It's not a planet."),
        ("I’ll be there.", "I won’t be there."),
        ("There are many reasons.", "There are no reasons."),
        ("There is a lot of snow.", "There is no snow."),
        ("Do not run.", "Do run."),
        ("Add the salt first.", "Don't add the salt first."),
        ("They have been found.", "They have not been found."),
        ("If it rains, you should stay inside.", "If it rains, you should not stay inside."),
    ],
)
def test_a_sentence_is_negated(sentence, negated):
    assert next(negate(sentence)) == negated


@pytest.mark.parametrize(
    "sentence",
    [
        "Is water wet?",
        "Hello there.",
        "The house that was sold.",
        "It is not only big.",
        "You are welcome.",
        "I do not have any.",
        "Whatever you are.",
        "",
    ],
)
def test_a_sentence_without_a_clear_negation_is_left_alone(sentence):
    assert not list(negate(sentence))
