"""The watch: sums are right however requests come, memory is bounded, and what it says is what the data were built to show."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_site import PROMPT, outcomes, served, serving

from guerdon.serving.models import Outcome
from guerdon.serving.watch import Watch, Window, windows_of
from guerdon.serving.watch_report import is_exploiting, watch_report


def report_of(*steps, **options):
    watch, rng = Watch(), np.random.default_rng(0)
    for step, change in enumerate(steps):
        watch.observe(outcomes(rng, 400, **change), step, [float(step)] * 400)
    seen = watch.as_json()
    return watch_report("mine", seen["axis"], windows_of(seen["windows"]))


texts = st.builds(
    Outcome,
    st.none() | st.floats(-5, 5),
    st.none() | st.floats(0, 2),
    shift_p=st.none() | st.floats(0, 1),
    tokens=st.integers(1, 900),
)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 40), st.lists(texts, max_size=4)), max_size=40), st.integers(2, 8))
def test_joining_windows_loses_no_text_whatever_the_order_of_steps(requests, most):
    watch = Watch(most=most)
    for step, some in requests:
        watch.observe(some, step)
    windows = windows_of(watch.as_json()["windows"])
    every = [outcome for _, some in requests for outcome in some]
    scored = [outcome for outcome in every if outcome.score is not None]
    assert len(windows) <= most
    assert all(one.last < other.first for one, other in pairwise(windows))
    assert sum(window.texts for window in windows) == len(scored)
    assert sum(window.without_reward for window in windows) == len(every) - len(scored)
    assert sum(window.score for window in windows) == pytest.approx(sum(outcome.score for outcome in scored))
    assert sum(window.shifted for window in windows) == sum(o.shift_p is not None and o.shift_p < 0.05 for o in scored)


def test_the_numbers_of_a_window_are_those_of_numpy():
    rng = np.random.default_rng(1)
    some = outcomes(rng, 50, score=1.0, slope=0.8)
    window = Window(0, 0)
    for outcome in some:
        window.add(outcome, 2.0)
    scores, lengths = [o.score for o in some], [o.tokens for o in some]
    assert window.mean == pytest.approx(np.mean(scores))
    assert window.variance == pytest.approx(np.var(scores, ddof=1))
    assert window.length_correlation == pytest.approx(np.corrcoef(scores, lengths)[0, 1])
    assert (window.mean_kl, window.mean_std) == (2.0, pytest.approx(0.5))


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        ({"shifted": 0.4}, "texts out of distribution went from"),
        ({"slope": 1.5}, "the correlation of reward and length went from"),
        ({"std": 1.0}, "the spread of the ensemble's members went from 0.50 to 1.00 nats"),
    ],
)
def test_a_reward_that_rises_for_a_reason_not_to_be_trusted_is_called_exploiting(change, clause):
    report = report_of({}, {}, {"score": 2.0, **change})
    assert is_exploiting(report)
    assert clause in report.findings[0].evidence
    assert report.summary == "The policy has begun to exploit the reward model"
    flat = report_of({}, {}, change)
    assert not is_exploiting(flat)
    assert flat.findings[0].title == "The texts have changed, and the reward has not risen"


def test_a_reward_that_only_rises_is_learning():
    report = report_of({}, {"score": 1.0}, {"score": 2.0})
    assert report.findings == ()
    assert report.estimates["reward_now"].value == pytest.approx(2.0, abs=0.15)
    assert report.estimates["kl_now"].value == 2.0
    assert report.curves["reward"].x == (0.0, 1.0, 2.0)


def test_chance_alone_is_no_sign():
    """Of 300 trainings in which nothing changes but candidates of a prompt are alike in fours, none is called exploiting."""
    rng = np.random.default_rng(2)
    for _ in range(300):
        watch = Watch()
        for step in range(2):
            for outcome in outcomes(rng, 32):
                watch.observe([outcome] * 4, step)
        seen = watch.as_json()
        assert watch_report("mine", "step", windows_of(seen["windows"])).findings == ()


def test_too_few_texts_are_said_to_be_too_few():
    about = [watch_report("mine", axis, []).about for axis in ("step", "part of 256 texts")]
    assert [list(rows)[-1] for rows in about] == ["steps", "parts of 256 texts"]
    assert watch_report("mine", "step", []).summary.startswith("Too few texts to compare: 128 at the start")
    assert report_of({}).summary.startswith("Too few texts")


def test_requests_without_a_step_are_counted_in_parts(saved):
    with serving(served(saved)) as client:
        for i in range(3):
            client.post("/classify", json={"input": f"text {i}"})
        seen = client.get("/v1/watch").json()["models"]["tiny"]
        assert (seen["axis"], seen["windows"][0]["texts"]) == ("part of 256 texts", 3)
        item = {"prompt": PROMPT, "response": "yes"}
        client.post("/v1/reward", json={"items": [item, item], "step": 7, "kl": [1.0, 3.0]})
        (window,) = client.get("/v1/watch").json()["models"]["tiny"]["windows"]
    assert (window["first"], window["texts"], window["kl"], window["kl_count"]) == (7, 2, 4.0, 2)


@pytest.mark.parametrize(
    "row", [{"first": 0}, {"first": 0, "last": 0, "texts": "9"}, {"first": 0, "last": 0, "more": 1}]
)
def test_windows_of_another_program_are_refused(row):
    with pytest.raises(TypeError):
        windows_of([row])
