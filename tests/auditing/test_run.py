"""For each audit: a model with the fault, which it must find, and one without, which it must pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toys import Constant, Good, comparisons

from guerdon.auditing import audit
from guerdon.config import AuditOptions
from guerdon.contracts import (
    Comparison,
    Finding,
    GuerdonError,
    Message,
    Preference,
    Response,
    ToolCall,
    as_prompt,
    as_response,
)

CORE = ["accuracy", "people", "odds", "order", "mistakes"]  # the other parts have tests of their own
OPTIONS = AuditOptions(draws=100, null_draws=100, bins=10, only=CORE)
LONGER = Good(scale=0.0, by_length=0.05)
CALL = Message("assistant", "", (ToolCall("look"),))


def warnings(report):
    return {finding.title for finding in report.findings if finding.severity == "warning"} - {"Too little evidence"}


def test_a_calibrated_model_passes():
    report = audit(Good(), comparisons(800), OPTIONS, hygiene=())
    assert not warnings(report)
    assert report.estimates["accuracy"].low > 0.5
    assert report.estimates["accuracy"].n == 800


def test_a_model_that_scores_by_length_is_found_out():
    report = audit(LONGER, comparisons(400), OPTIONS)
    assert "Not shown to be better than preferring the longer answer" in warnings(report)
    assert report.estimates["accuracy_above_longer"].value == 0
    assert report.estimates["accuracy_longer_preferred"].value == 1
    assert report.estimates["accuracy_shorter_preferred"].value == 0
    assert "When the better answer is shorter, the model picks the longer one" in warnings(report)
    by_length = report.curves["accuracy_by_length"]
    assert by_length.y[0].value == 0
    assert by_length.y[-1].value == 1


def test_an_overconfident_model_is_found_out_and_its_ranking_is_not_blamed():
    calm, loud = (audit(Good(scale), comparisons(800), OPTIONS) for scale in (1.0, 4.0))
    assert warnings(loud) >= {"The model is overconfident", "The model's odds are worse than chance"}
    assert loud.estimates["accuracy"] == calm.estimates["accuracy"]
    assert loud.estimates["ece"].value > loud.estimates["ece_null"].high
    assert loud.estimates["ece_p_value"].value < 0.01


def test_too_modest_odds_are_found_out():
    assert "The model is underconfident" in warnings(audit(Good(0.2), comparisons(800), OPTIONS))


def test_a_model_that_prefers_the_worse_answer_is_found_out():
    report = audit(Good(-1.0), comparisons(400), OPTIONS)
    assert "The model prefers the worse answer" in warnings(report)


def test_a_constant_model_stands_at_its_anchors():
    found = audit(Constant(), comparisons(200), OPTIONS, hygiene=()).estimates
    assert found["accuracy"].value == found["constant"].value == 0.5
    assert found["accuracy_strict"].value == 0
    assert found["model_ties"].value == 1
    assert found["model_ties"].low < 1  # 200 of 200 is no certainty


def test_negating_every_score_mirrors_the_accuracy():
    rows = comparisons(300)
    up, down = (audit(Good(scale), rows, OPTIONS).estimates for scale in (1.0, -1.0))
    assert up["accuracy"].value == pytest.approx(1 - down["accuracy"].value)


def test_true_ties_count_half_and_are_reported_apart():
    rows = comparisons(400, people=3, ties=0.6)
    report = audit(Good(), rows, OPTIONS)
    share = np.mean([row.q == 0.5 for row in rows])
    assert report.estimates["preference_ties"].value == pytest.approx(share)
    mixed = share * 0.5 + (1 - share) * report.estimates["accuracy_decided"].value
    assert report.estimates["accuracy"].value == pytest.approx(mixed)


def test_votes_give_a_ceiling_and_without_them_a_note_says_so():
    found = audit(Good(), comparisons(600, people=3), OPTIONS)
    ceiling, single = found.estimates["ceiling_majority"], found.estimates["model_vs_person"]
    assert 0.5 < found.estimates["person_vs_person"].value < ceiling.value < 1
    assert single.value > 0.5
    assert "No ceiling is known" not in {finding.title for finding in found.findings}
    without = audit(Good(), comparisons(50), OPTIONS)
    assert "No ceiling is known" in {finding.title for finding in without.findings}
    assert "ceiling_majority" not in without.estimates


def test_the_ceiling_of_people_who_toss_coins_is_low():
    coins = audit(Good(), comparisons(400, odds=0.0, people=3), OPTIONS)
    sure = audit(Good(), comparisons(400, odds=6.0, people=3), OPTIONS)
    assert coins.estimates["person_vs_person"].value == pytest.approx(0.5, abs=0.06)
    assert sure.estimates["ceiling_majority"].value > coins.estimates["ceiling_majority"].value + 0.05


def test_little_evidence_is_a_warning_with_the_number_needed():
    report = audit(Good(), comparisons(40), OPTIONS)
    found = [finding for finding in report.findings if finding.title == "Too little evidence"]
    assert "there are 40 groups" in found[0].evidence
    assert int(found[0].evidence.split("about ")[1].split()[0]) > 200
    enough = audit(Good(), comparisons(1500), OPTIONS)
    assert "Too little evidence" not in {finding.title for finding in enough.findings}


def test_intervals_resample_groups_not_rows():
    rows = comparisons(60)
    ten_times = [
        Comparison(row.prompt, row.responses, row.preference, id=f"{i}-{row.id}") for row in rows for i in range(10)
    ]
    once, often = (audit(Good(), each, OPTIONS).estimates["accuracy"] for each in (rows, ten_times))
    assert often.n == once.n == 60
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=0.2)


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


def test_rankings_are_split_into_pairs():
    texts = tuple(Response("good " * i) for i in range(4))
    rows = [Comparison(as_prompt(f"p{i}"), texts, Preference(groups=((3,), (2,), (1,), (0,)))) for i in range(30)]
    report = audit(Good(), rows, OPTIONS)
    assert report.about["pairs"] == "180"
    assert report.estimates["accuracy"].value == 1
    assert report.estimates["accuracy"].n == 30


def test_an_error_of_the_hygiene_gate_leaves_no_numbers():
    broken = Finding("error", "Scores are not finite", "3 of 8", "mend it")
    report = audit(Good(), comparisons(50), OPTIONS, hygiene=(broken,), about={"model": "toy"})
    assert report.findings == (broken,)
    assert not report.estimates
    assert not report.curves
    assert report.about["model"] == "toy"


def test_nothing_to_compare_is_refused():
    with pytest.raises(GuerdonError, match="comparisons must be at least one, got none"):
        audit(Good(), [], OPTIONS)
    one = Comparison(as_prompt("p"), tuple(Response(t) for t in "abc"), Preference(groups=((0, 1, 2),)))
    assert audit(Good(), [one], AuditOptions(draws=100)).estimates["preference_ties"].value == 1


class FirstJudge:
    """Prefers what it sees first by `lean` nats."""

    def __init__(self, lean):
        self.lean = lean

    def log_odds(self, prompts, first, second):
        goods = [
            as_response(a).text.count("good") - as_response(b).text.count("good")
            for a, b in zip(first, second, strict=True)
        ]
        return np.array(goods, dtype=np.float64) + self.lean


def test_a_judge_that_prefers_the_first_is_found_out():
    fair, leaning = (audit(FirstJudge(lean), comparisons(300), OPTIONS) for lean in (0.001, 2.5))
    assert "The preference depends on the order shown" in warnings(leaning)
    assert leaning.estimates["first_position"].low > 0.5
    assert fair.estimates["position_consistency"].value > 0.5
    assert "position_consistency" not in audit(Good(), comparisons(30), OPTIONS).estimates


def test_an_audit_repeats_itself():
    assert audit(Good(), comparisons(100), OPTIONS) == audit(Good(), comparisons(100), OPTIONS)


def test_an_audit_of_trajectories_measures_what_it_can_and_counts_what_it_cannot_edit():
    trajectories = [
        Comparison(
            as_prompt(f"Task {i}"),
            tuple(
                Response(messages=(CALL, Message("tool", word), Message("assistant", f"{word} {i}")))
                for word in ("good", "bad")
            ),
            Preference(q=1.0),
        )
        for i in range(20)
    ]
    options = AuditOptions(draws=100, null_draws=100, bins=10)
    mixed = audit(Good(), [*comparisons(200), *trajectories], options, hygiene=())
    assert mixed.about["responses not edited"] == "those in several messages, of 20 comparisons"
    assert mixed.estimates["accuracy"].n == 220
    alone = audit(Good(), trajectories, options, hygiene=())
    assert alone.estimates["accuracy"].value == 1.0
    assert "responses not edited" not in audit(Good(), comparisons(50), OPTIONS, hygiene=()).about


def test_every_estimate_is_described_and_every_curve_has_a_title():
    rows = [replace(row, source=f"source {i % 2}") for i, row in enumerate(comparisons(300, people=3, ties=0.2))]
    report = audit(Good(1.0, 0.01), rows, AuditOptions(draws=100, null_draws=100, cue_rows=8))
    assert {section.title for section in report.sections} >= {
        "Length",
        "Cues and substance",
        "Uncertainty",
        "Relevance",
    }
    for part in report.walk():
        assert set(part.quantities) == set(part.estimates), part.title
        assert all(quantity.label and quantity.section for quantity in part.quantities.values()), part.title
        assert all(curve.title for curve in part.curves.values()), part.title
