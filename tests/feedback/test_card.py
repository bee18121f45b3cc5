"""A judge card names the fault that a judge was built with, and finds none where there is none."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scripted_judges import judge_by, shown_first, shown_second, tokens

from guerdon.contracts import Comparison, Preference, Response, as_prompt
from guerdon.feedback.card import Answers, JudgeMap, fit_map, judge_card, mapped_q
from guerdon.feedback.card_run import ask_for_card, pooled
from guerdon.feedback.card_texts import family
from guerdon.formulas.regression import partial_slope

RNG = np.random.default_rng(0)


def people(number: int = 400) -> tuple[list[Comparison], np.ndarray, np.ndarray]:
    """Pairs with five votes each, the true log-odds, and the difference of log-lengths, which people do not look at."""
    truth = RNG.normal(0, 1.5, number)
    lengths = RNG.integers(10, 400, (number, 2))
    comparisons = []
    for i in range(number):
        wins = int(RNG.binomial(5, 1 / (1 + math.exp(-truth[i]))))
        responses = tuple(
            Response("x" * int(n), author=a) for n, a in zip(lengths[i], ("qwen-7b", "llama-8b"), strict=True)
        )
        preference = Preference(q=wins / 5, votes=(wins, 0, 5 - wins))
        comparisons.append(Comparison(as_prompt(f"Q{i}"), responses, preference))
    return comparisons, truth, np.log1p(lengths[:, 0]) - np.log1p(lengths[:, 1])


def card_of(comparisons, margin, **columns):
    nothing = np.full(len(margin), np.nan)
    answers = Answers(comparisons, margin, columns.pop("bias", nothing), columns.pop("flips", nothing), **columns)
    return judge_card(answers, columns.pop("name", "qwen-judge"), "f00d", {})


def test_an_honest_judge_is_at_the_ceiling_without_a_bias():
    comparisons, truth, _ = people()
    card = card_of(comparisons, truth)
    estimates = card.report.estimates
    assert estimates["below_ceiling"].high > -0.02
    assert estimates["length"].low < 0 < estimates["length"].high
    assert estimates["self_preference"].low < 0.35
    assert estimates["temperature"].low < 1 < estimates["temperature"].high
    assert not [finding for finding in card.report.findings if finding.severity != "note"]


def test_faults_that_were_built_in_are_measured_at_their_size():
    comparisons, truth, length = people()
    own = 0.8 * np.where(RNG.random(400) < 0.5, 1, -1)
    for i, sign in enumerate(own):  # the judge's family is first in half of the pairs
        if sign < 0:
            first, second = comparisons[i].responses
            swapped = (Response(first.text, author=second.author), Response(second.text, author=first.author))
            comparisons[i] = Comparison(comparisons[i].prompt, swapped, comparisons[i].preference)
    card = card_of(
        comparisons, 2.0 * truth + 0.9 * length / math.log(2) * 0.5 + own, bias=np.full(400, 0.7), flips=np.zeros(400)
    )
    estimates = card.report.estimates
    assert estimates["length"].low < 0.45 < estimates["length"].high
    assert estimates["self_preference"].low < 0.8 < estimates["self_preference"].high
    assert estimates["position_bias"].value == pytest.approx(0.7)
    assert estimates["temperature"].low > 1
    assert estimates["brier_fitted"].value < estimates["brier"].value
    titles = {finding.title for finding in card.report.findings}
    assert {"The judge rewards length", "The judge prefers its own family"} <= titles


def test_pairs_without_a_verdict_are_counted_and_change_nothing_else():
    comparisons, truth, _ = people(60)
    whole = card_of(comparisons, truth).report.estimates
    more = comparisons + [Comparison(as_prompt(f"R{i}"), c.responses, c.preference) for i, c in enumerate(comparisons)]
    half = card_of(more, np.concatenate([truth, np.full(60, np.nan)]), failures={"timeout": 120})
    assert half.report.estimates["unresolved"].value == 0.5
    assert half.report.estimates["accuracy"] == whole["accuracy"]
    assert half.report.about["failed: timeout"] == "120"
    assert card_of(comparisons, np.full(60, np.nan)).map is None


def test_a_coin_is_an_error_and_the_same_seed_gives_the_same_card():
    comparisons, _, _ = people(100)
    coin = np.where(np.arange(100) % 2 == 0, 1.0, -1.0) * np.where([c.q > 0.5 for c in comparisons], 1, -1)
    first, again = card_of(comparisons, coin), card_of(comparisons, coin)
    assert first == again
    assert any("does not agree" in finding.title for finding in first.report.findings)


def test_a_map_is_odd_and_comes_back_from_its_row():
    comparisons, truth, _ = people(1200)
    q = np.array([c.q for c in comparisons])
    for rows in (slice(0, 300), slice(0, 1200)):
        fitted = fit_map(2 * truth[rows], q[rows], "f")
        points = np.linspace(-4, 4, 9)
        assert fitted(points) == pytest.approx(-fitted(-points), abs=1e-9)
        row = json.loads(json.dumps(fitted.to_row()))
        row.pop("kind")
        assert JudgeMap(**{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}) == fitted
        assert 0.5 < mapped_q(fitted, 2.0)[0] < 1 / (1 + math.exp(-2.0))


def test_a_prompted_judge_is_asked_again_and_in_other_words():
    def script(question):
        said = question.messages[0].content
        if said.startswith("Your task"):
            return tokens(0.9)  # in other words, the judge always picks the first
        return tokens(0.8 if len(shown_first(question)) > len(shown_second(question)) else 0.2)

    comparisons, _, _ = people(30)
    answers = ask_for_card(judge_by(script, mode="pair"), comparisons)
    assert answers.retest is not None
    assert answers.paraphrase is not None
    assert (np.sign(answers.retest) == np.sign(answers.margin)).all()
    assert answers.paraphrase == pytest.approx(np.zeros(30), abs=1e-9)
    estimates = judge_card(answers, "m", "f", {}).report.estimates
    assert (estimates["retest"].value, estimates["paraphrase_flips"].value) == (1.0, 0.5)


def test_rows_about_one_pair_are_pooled_whatever_their_order():
    a, b = Response("a"), Response("b")
    rows = [
        Comparison(as_prompt("Q"), (a, b), Preference(q=1.0), annotator="1"),
        Comparison(as_prompt("Q"), (b, a), Preference(groups=((0,), (1,))), annotator="2"),
        Comparison(as_prompt("Q"), (a, b), Preference(q=0.75, votes=(3, 0, 1))),
    ]
    (row,) = pooled(rows)
    assert (row.responses, row.preference) == ((a, b), Preference(q=4 / 6, votes=(4, 0, 2)))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", "qwen"),
        ("gpt-4o-mini", "gpt"),
        ("meta-llama/Llama-3.1-8B", "llama"),
        ("", None),
        (None, None),
    ],
)
def test_the_family_of_a_model_is_the_first_word_of_its_name(model, expected):
    assert family(model) == expected


def test_a_slope_is_that_of_least_squares():
    of, other = RNG.normal(size=80), RNG.normal(size=80)
    outcome = 1.5 * of - 0.5 * other + RNG.normal(size=80)
    expected = np.linalg.lstsq(np.column_stack([of, other]), outcome, rcond=None)[0][0]
    slope = partial_slope(outcome, of, other[:, None], np.arange(80))
    assert slope.value == pytest.approx(expected)
    assert slope.low < expected < slope.high
    assert math.isnan(partial_slope(outcome, of, of[:, None], np.arange(80)).value), "collinear"
