"""Two models on the same pairs: the better one is found, equal ones are not told apart, and swapping them mirrors the report."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom
from toys import Constant, Good, comparisons

from guerdon.auditing.compare import compare, summarize_difference
from guerdon.config import AuditOptions
from guerdon.contracts import Comparison, Estimate, GuerdonError, Preference, Report, Response, as_prompt, as_response

OPTIONS = AuditOptions(draws=200, bins=10)
ROWS = comparisons(400)
DIFFERENCES = ("accuracy_difference", "nll_difference", "ece_difference")


class Noisy:
    """As Good, with noise of its own on each text."""

    def __init__(self, size):
        self.size = size

    def score(self, prompts, responses):
        honest = Good().score(prompts, responses)
        noise = [np.random.default_rng(len(as_response(r).text)).normal() for r in responses]
        return type(honest)(honest.value + self.size * np.array(noise), honest.truncated)


def test_the_better_model_is_found_and_the_worse_one_named():
    report = compare(Good(), Noisy(4.0), ROWS, OPTIONS, names=("old", "new"))
    found = report.estimates
    assert found["accuracy_difference"].low > 0
    assert found["accuracy_difference"].value == pytest.approx(found["accuracy_a"].value - found["accuracy_b"].value)
    assert report.summary.startswith("old is better: it orders ")
    assert found["equal_accuracy_p"].value < 0.01
    assert found["nll_difference"].high < 0
    assert "The odds of old are better" in {finding.title for finding in report.findings}


def test_a_difference_on_the_same_pairs_is_narrower_than_two_apart():
    found = compare(Good(), Noisy(0.5), ROWS, OPTIONS).estimates
    width = {key: found[key].high - found[key].low for key in ("accuracy_a", "accuracy_b", "accuracy_difference")}
    assert width["accuracy_difference"] < math.hypot(width["accuracy_a"], width["accuracy_b"])


def test_a_model_and_itself_on_another_scale_are_not_told_apart():
    report = compare(Good(), Good(3.0), ROWS, OPTIONS)
    found = report.estimates
    assert found["accuracy_difference"].value == 0
    assert found["agreement"].value == 1
    assert found["margin_correlation"].value == pytest.approx(1)
    assert found["equal_accuracy_p"].value == 1
    assert found["ece_difference"].high < 0  # the calm one means its odds
    assert not report.examples
    assert report.summary == "No difference in accuracy is shown between A and B"


def test_swapping_the_two_mirrors_the_report():
    one, other = compare(Good(), Noisy(2.0), ROWS, OPTIONS), compare(Noisy(2.0), Good(), ROWS, OPTIONS)
    for key in DIFFERENCES:
        a, b = one.estimates[key], other.estimates[key]
        assert (a.value, a.low, a.high) == pytest.approx((-b.value, -b.high, -b.low), abs=1e-9), key
    for key in ("agreement", "margin_correlation", "equal_accuracy_p"):
        assert one.estimates[key].value == pytest.approx(other.estimates[key].value)
    assert one.estimates["only_a_right"] == other.estimates["only_b_right"]
    assert one.estimates["nll_a"] == other.estimates["nll_b"]
    shown, mirrored = ([example.responses for example in report.examples] for report in (one, other))
    assert shown == [responses[::-1] for responses in mirrored]


def test_the_test_of_equal_accuracy_is_mcnemars_where_every_pair_has_a_prompt_of_its_own():
    rows = [
        Comparison(as_prompt(f"p{i}"), (Response("good " * (i % 3)), Response("good")), Preference(q=float(i % 2)))
        for i in range(60)
    ]
    found = compare(Good(), Good(-1.0), rows, OPTIONS).estimates
    right = [np.sign((i % 3) - 1) * (2 * (i % 2) - 1) for i in range(60)]
    only_a, only_b = (int(sum(each == side for each in right)) for side in (1, -1))
    fewer, num = min(only_a, only_b), only_a + only_b
    mid_p = min(1.0, 2 * float(binom.cdf(fewer, num, 0.5) - binom.pmf(fewer, num, 0.5) / 2))
    assert found["equal_accuracy_p"].value == pytest.approx(mid_p)
    assert found["equal_accuracy_p"].n == only_a + only_b
    assert math.isnan(found["equal_accuracy_p"].low)


def test_where_they_disagree_most_comes_first_with_the_choice_of_each():
    texts = [("good good good plain", "fine"), ("good plain", "fine fine fine fine"), ("good", "good good")]
    rows = [Comparison(as_prompt(f"p{i}"), tuple(map(Response, t)), Preference(q=0.9)) for i, t in enumerate(texts)]
    shorter = Good(0.0, by_length=-0.1)
    report = compare(Good(), shorter, rows, OPTIONS, names=("goods", "shorter"))
    first = report.examples[0]
    assert first.prompt[0].content == "p0"
    assert [response.text for response in first.responses] == ["good good good plain", "fine"]
    assert first.labels == ("goods prefers this, by 3.00", "shorter prefers this, by 1.60")
    assert first.title == "People side with goods"


def tied_and_won(num_won: int, num_tied: int, seed: int = 0) -> tuple[Report, dict[str, Estimate]]:
    """A is right on some pairs that B calls ties, and both are right elsewhere."""
    texts = [("good good", "good")] * num_won + [("good", "fine")] * num_tied
    rows = [
        Comparison(as_prompt(f"p{i}"), tuple(map(Response, pair)), Preference(q=1.0)) for i, pair in enumerate(texts)
    ]
    report = compare(Good(), FirstGood(), rows, OPTIONS)
    return report, report.estimates


class FirstGood:
    """One point for a text with any good word: more of them make no difference."""

    def score(self, prompts, responses):
        honest = Good().score(prompts, responses)
        return type(honest)(np.minimum(honest.value, 1.0), honest.truncated)


def test_ties_count_half_in_the_interval_and_in_the_test_alike():
    """B ties 12 of 100 pairs that A gets right: each is half a difference, in the interval as in the p-value."""
    report, found = tied_and_won(12, 88)
    assert found["accuracy_difference"].value == pytest.approx(0.06)
    assert found["equal_accuracy_p"].n == 12
    assert found["equal_accuracy_p"].value < 0.05
    assert found["accuracy_difference"].low > 0
    assert report.summary.startswith("A is better")
    few, found = tied_and_won(3, 97)
    assert found["equal_accuracy_p"].value > 0.05
    assert "is better" not in few.summary


@pytest.mark.parametrize(
    ("low", "p", "words"),
    [(0.01, 0.01, "A is better"), (-0.01, 0.03, "Borderline"), (0.01, 0.06, "Borderline"), (-0.01, 0.2, "No")],
)
def test_the_summary_never_says_less_or_more_than_both_interval_and_test(low, p, words):
    estimates = {
        "accuracy_difference": Estimate(0.05, low, 0.11, 100),
        "equal_accuracy_p": Estimate(p, math.nan, math.nan, 30),
    }
    assert summarize_difference(estimates, ("A", "B")).startswith(words)


def test_a_constant_model_agrees_with_nobody_and_breaks_nothing():
    found = compare(Good(), Constant(), ROWS[:50], OPTIONS).estimates
    assert math.isnan(found["margin_correlation"].value)
    assert found["accuracy_b"].value == 0.5


def test_too_few_pairs_say_how_many_would_tell():
    report = compare(Good(), Noisy(0.3), ROWS[:60], OPTIONS)
    assert "groups are needed to see a difference of 2 points" in report.findings[0].remedy


def test_two_of_one_name_are_told_apart_and_nothing_to_compare_is_refused():
    assert compare(Good(), Noisy(1.0), ROWS[:20], OPTIONS, names=("m", "m")).title == "m (a) compared with m (b)"
    with pytest.raises(GuerdonError, match="comparisons must be at least one, got none"):
        compare(Good(), Good(), [], OPTIONS)


def test_differences_are_drawn_by_source():
    curve = compare(Good(), Noisy(2.0), ROWS, OPTIONS).curves["difference_by_source"]
    assert curve.x_names == ("forum", "lab")
    assert all(point.low <= point.value <= point.high for point in curve.y)
