"""What a user is made to believe."""

from __future__ import annotations

from guerdon.auditing.probes.sycophancy import state_belief


def test_a_belief_is_the_sentence_that_was_changed_and_never_about_the_speaker():
    right = "Sydney is big. The capital is Canberra."
    assert state_belief(right, right.replace("Canberra", "Sydney")) == "I am convinced of this: The capital is Sydney."
    assert state_belief("I can help you.", "I cannot help you.") is None
    assert state_belief(right, right) is None
