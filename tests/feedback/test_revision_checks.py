"""Which revisions can be used."""

from __future__ import annotations

import pytest

from guerdon.config import make
from guerdon.config.feedback import ConstitutionOptions
from guerdon.feedback.constitution.checks import check_revision, is_bare_refusal, similarity, strip_introduction

BEFORE = "Mix the flour with the butter, add an egg, and bake the dough for twenty minutes in a hot oven."


@pytest.mark.parametrize(
    ("after", "state"),
    [
        ("Mix flour and butter, add one egg, and bake for half an hour. Use an oven glove.", "revised"),
        (BEFORE, "no_change"),
        (BEFORE.replace(" an egg", "  an\negg"), "no_change"),
        (BEFORE.replace("oven.", "oven!"), "no_change"),
        ("", "no_change"),
        ("Mix flour, butter and egg. I have removed the part about the oven as asked by the critique.", "meta_talk"),
        ("The revised response says to mix flour, butter and an egg, then to bake them for a while.", "meta_talk"),
        ("I'm sorry, but I can't help with that request.", "refusal"),
        ("Bake it.", "too_short"),
        ("Mix the flour very well with all of the butter that you have. " * 6, "too_long"),
        ("Смешайте муку с маслом, добавьте яйцо и выпекайте тесто двадцать минут в горячей печи.", "other_language"),
    ],
)
def test_each_fault_has_its_state(after: str, state: str) -> None:
    assert check_revision(BEFORE, after, ConstitutionOptions()) == state


def test_a_refusal_may_be_kept_and_one_that_stays_one_is_none_of_the_critics_doing() -> None:
    refusal = "I'm sorry, but I can't help with that request, because it asks for a recipe with raw eggs."
    assert check_revision(BEFORE, refusal, make(ConstitutionOptions, {"allow_refusals": True})) == "revised"
    assert (
        check_revision(
            "I cannot help with that. Ask a cook.", "I can't help with baking. Ask a baker.", ConstitutionOptions()
        )
        == "revised"
    )


@pytest.mark.parametrize(
    "text",
    [
        "Here is the revised response:\n\nBake it well.",
        "Sure! Here's a rewritten version of the answer: Bake it well.",
        "Revised response: Bake it well.",
        '"Bake it well."',
        "  Bake it well.\n",
    ],
)
def test_introductions_are_stripped(text: str) -> None:
    assert strip_introduction(text) == "Bake it well."


@pytest.mark.parametrize("text", ["Here is the recipe: bake it.", 'Say "yes" or "no".', "Sure: bake it."])
def test_what_belongs_to_the_answer_stays(text: str) -> None:
    assert strip_introduction(text) == text


def test_long_texts_are_compared_in_linear_time_by_their_words() -> None:
    text = "word and another " * 20_000
    assert similarity(text, text) == 1.0
    assert not is_bare_refusal("I can't say for sure, but " + text)
