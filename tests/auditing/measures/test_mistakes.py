"""The mistakes to read."""

from __future__ import annotations

from toys import Good

from guerdon.auditing import audit
from guerdon.config import AuditOptions
from guerdon.contracts import Comparison, Preference, Response, as_prompt


def test_the_worst_mistake_comes_first_and_shows_what_people_prefer_first():
    rows = [
        Comparison(as_prompt("p"), (Response("good " * i), Response("fine")), Preference(q=0.1), id=f"{i}")
        for i in range(1, 6)
    ]
    report = audit(Good(), rows, AuditOptions(worst=2, draws=100))
    assert [example.rewards for example in report.examples] == [(0.0, 5.0), (0.0, 4.0)]
    assert report.examples[0].responses[0].text == "fine"
    assert report.examples[0].title == "The model is 99.3 % sure of the answer that people rejected"


def test_a_close_preference_is_not_shown_as_a_mistake():
    rows = [Comparison(as_prompt("p"), (Response("good"), Response("fine")), Preference(q=0.4))]
    assert not audit(Good(), rows, AuditOptions(draws=100)).examples
