"""Doubt is judged by the errors it predicts: toys that know where they err or do not, and notice strange texts or do not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from toys import Constant, Good, as_scores, comparisons, liked

from guerdon import GuerdonError, Preference, Response
from guerdon.api import calibration, training, uncertainty
from guerdon.auditing.measures.uncertainty import measure_uncertainty
from guerdon.config import AuditOptions
from guerdon.contracts import Comparison, Scores, as_response
from guerdon.models.scored_pairs import PairScorer, score_comparisons

OPTIONS = AuditOptions(draws=100, shift_rows=60)
ENGLISH = {"river", "small", "often", "answer", "bright", "seven", "history", "people", "always", "water", "good"}
SILENT = {"Too few pairs to guarantee at most 20 % errors"}


def titles(report, severity="warning"):
    return {finding.title for finding in report.findings if finding.severity == severity}


def measure(model, rows, options=OPTIONS, **given):
    return measure_uncertainty(model, rows, score_comparisons(model, rows), options, **given)


def drawn(text: str) -> float:
    """A number in (0, 1) that a text always gets, and that says nothing of it."""
    return np.random.default_rng(list(text.encode())).random()


class Knowing(Good):
    """Counts good and knows its uncertainty: `spread` of a margin from its two texts, `p` of a text being like its data."""

    def __init__(self, spread=lambda a, b: 1.0, p=drawn) -> None:
        super().__init__()
        self.spread, self.p = spread, p
        self.texts = 0

    def score(self, prompts, responses):
        texts = [as_response(r).text for r in responses]
        self.texts += len(texts)
        p = np.array([self.p(text) for text in texts], dtype=np.float64)
        return dataclasses.replace(super().score(prompts, responses), std=np.ones(len(texts)), shift_p=p)

    def score_pairs(self, prompts, responses, first, second):
        texts = [as_response(r).text for r in responses]
        spread = [self.spread(texts[i], texts[j]) for i, j in zip(first, second, strict=True)]
        return self.score(prompts, responses), np.array(spread, dtype=np.float64)


def like_english(text: str) -> float:
    """Ordinary texts get any p-value, others one as small as a hundred held-out texts allow."""
    words = text.split()
    known = np.mean([word in ENGLISH for word in words]) if words else 0.0
    return max(drawn(text), 1 / 101) if known > 0.5 else 1 / 101


# ---- Errors --------------------------------------------------------------------------------------------------------


def test_margins_that_are_log_odds_predict_errors_and_allow_abstaining():
    report = measure(Good(), comparisons(800))
    found = report.estimates
    assert found["error_auroc_margin"].low > 0.5
    assert found["aurc_margin"].high < found["aurc_random"].low
    assert not titles(report) - SILENT
    assert found["abstain_error"].value <= 0.2
    assert 0.2 < found["abstain_coverage"].value < 1
    assert found["abstain_threshold"].value > 0
    curve = report.curves["risk_coverage"]
    assert curve.x[-1] == 1.0
    assert curve.y[0].value < curve.y[-1].value == pytest.approx(found["aurc_random"].value)


def test_random_preferences_are_not_predicted():
    report = measure(Good(), comparisons(400, odds=0.0))
    assert titles(report) == {
        "Uncertainty does not predict the model's errors",
        "No margin is large enough for at most 20 % errors",
    }
    assert "abstain_threshold" not in report.estimates
    assert report.estimates["error_auroc_margin"].low < 0.5 < report.estimates["error_auroc_margin"].high


def planted(num: int, seed: int = 0) -> list[Comparison]:
    """Preferences right for every pair, but random where a text says "often" three times: margins cannot know, a spread can."""
    rng = np.random.default_rng(seed)
    rows = []
    for c in comparisons(num, seed=seed):
        a, b = (r.text.split().count("good") for r in c.responses)
        if a == b:
            continue
        unsure = unsettled(c.responses[0].text) or unsettled(c.responses[1].text)
        q = float(rng.random() < 0.5) if unsure else float(a > b)
        rows.append(dataclasses.replace(c, preference=Preference(q=q), id=""))
    return rows


def unsettled(text: str) -> bool:
    """About one text in five."""
    return text.split().count("often") >= 3


def test_a_spread_that_knows_where_preferences_are_random_predicts_errors():
    knows = Knowing(spread=lambda a, b: 1.0 + 9.0 * (unsettled(a) or unsettled(b)))
    rows = planted(450)
    found = measure(knows, rows).estimates
    assert found["error_auroc_laplace"].low > 0.7
    assert found["error_auroc_laplace"].low > found["error_auroc_margin"].high
    assert found["aurc_laplace"].high < found["aurc_random"].low
    blind = measure(Knowing(spread=lambda a, b: drawn(a + b)), rows).estimates
    assert blind["error_auroc_laplace"].low < 0.5 < blind["error_auroc_laplace"].high


def test_members_that_disagree_where_they_err_predict_errors():
    class Members(Good):
        """Three members that differ where a text is unsettled."""

        def score(self, prompts, responses):
            scores = super().score(prompts, responses)
            apart = np.array([unsettled(as_response(r).text) * drawn(as_response(r).text) for r in responses])
            return dataclasses.replace(scores, members=np.stack([scores.value + k * apart for k in (-1, 0, 1)]))

    found = measure(Members(), planted(450)).estimates
    assert found["error_auroc_members"].low > 0.6
    assert "error_auroc_laplace" not in found
    assert "outside" not in found


def test_equal_rewards_are_half_wrong_and_no_signal_tells_them_apart():
    report = measure(Constant(), comparisons(200))
    assert report.estimates["error_auroc_margin"].value == 0.5
    assert report.estimates["aurc_margin"].value == 0.5
    assert "Uncertainty does not predict the model's errors" in titles(report)


def test_a_model_without_errors_is_reported():
    rows = [c for c in comparisons(300, odds=50.0) if len({r.text.split().count("good") for r in c.responses}) == 2]
    report = measure(Good(), rows)
    assert "The model makes no error here" in titles(report, "note")
    assert "The model may answer every pair with at most 20 % errors" in titles(report, "note")
    assert report.estimates["abstain_coverage"].value == 1.0


def test_ties_are_left_out_and_ties_alone_are_refused():
    rows = comparisons(300, people=3, ties=0.5)
    decided = [row for row in rows if row.q != 0.5]
    both, alone = (measure(Good(), each).estimates for each in (rows, decided))
    assert both["error_auroc_margin"].value == pytest.approx(alone["error_auroc_margin"].value)
    with pytest.raises(GuerdonError, match=r"at least one pair must have a winner, got ties only\. Add pairs"):
        measure(Good(), [dataclasses.replace(row, preference=Preference(q=0.5), id="") for row in rows[:5]])


def test_the_guarantee_counts_groups_not_rows():
    """Ten right pairs, each shown ten times, count as ten: too few for a guarantee."""
    rows = [c for c in comparisons(40, odds=50.0) if len({r.text.split().count("good") for r in c.responses}) == 2][:10]
    many = [dataclasses.replace(row, id=f"{row.id}-{i}") for row in rows for i in range(10)]
    report = measure(Good(), many)
    assert "abstain_threshold" not in report.estimates
    assert "Too few pairs to guarantee at most 20 % errors" in titles(report, "note")


def test_the_rate_of_errors_that_may_be_left_is_an_option():
    strict, lax = (
        measure(Good(), comparisons(800), AuditOptions(draws=100, abstain_error=e)).estimates for e in (0.2, 0.3)
    )
    assert strict["abstain_coverage"].value < lax["abstain_coverage"].value


def test_a_judge_is_measured_by_its_margins():
    class Judging:
        def log_odds(self, prompts, first, second):
            return Good().score(prompts, first).value - Good().score(prompts, second).value

    report = measure(Judging(), comparisons(200))
    assert report.about["signals"] == "margin"
    assert "The model's uncertainty is known from its margins only" in titles(report, "note")


# ---- Texts of another kind -----------------------------------------------------------------------------------------


def test_a_model_that_notices_shifted_texts_passes():
    report = measure(Knowing(p=like_english), comparisons(400))
    found = report.estimates
    assert found["false_alarms"].low <= 0.05 <= found["false_alarms"].high
    for name in ("gibberish", "other_language"):
        assert found[f"shift_auroc_{name}"].low > 0.9
        assert found[f"detected_{name}"].value > 0.95
    assert found["detected_word_salad"].high < 0.2  # its words are the data's
    assert not titles(report) - SILENT
    assert len(report.curves["detected"].y) == 5


def test_a_model_that_does_not_notice_shifted_texts_is_reported():
    report = measure(
        Knowing(p=drawn),
        comparisons(400),
        shifted={"reviews": ([f"p{i}" for i in range(40)], [f"a film {i}" for i in range(40)])},
    )
    assert titles(report) - SILENT == {
        "The model does not notice gibberish",
        "The model does not notice other language",
        "The model does not notice reviews",
    }


def test_a_given_set_is_measured_beside_the_derived_ones():
    reviews = ([f"review {i}" for i in range(40)], [f"une critique {i}" for i in range(40)])
    found = measure(Knowing(p=like_english), comparisons(200), shifted={"reviews": reviews}).estimates
    assert found["detected_reviews"].value == 1.0
    assert found["detected_reviews"].n == 40
    assert found["shift_auroc_reviews"].low > 0.8
    none_made = measure(Knowing(p=like_english), comparisons(200), AuditOptions(draws=100, shift_rows=0)).estimates
    assert not [key for key in none_made if key.startswith(("shift_", "detected_", "false_"))]
    assert "outside" in none_made


def strangers(num: int, share: float) -> list[Comparison]:
    """Comparisons of which a share is in another language, where preferences do not depend on goods."""
    rng = np.random.default_rng(9)
    rows = []
    for i, c in enumerate(comparisons(num)):
        if i < share * num:
            texts = [f"{'good ' * int(rng.integers(0, 3))}ceci est une phrase {i} {j}" for j in range(2)]
            c = dataclasses.replace(
                c, responses=tuple(map(Response, texts)), preference=Preference(q=float(rng.integers(2))), id=""
            )
        rows.append(c)
    return rows


def test_data_outside_the_training_data_is_reported_with_its_cost_and_texts():
    report = measure(Knowing(p=like_english), strangers(300, 0.3))
    (finding,) = [finding for finding in report.findings if "are outside" in finding.title]
    assert finding.title.startswith(("32 %", "33 %", "34 %"))  # 30 strange and one in twenty of the others
    assert finding.cost.value == pytest.approx(0.15, abs=0.05)
    assert " outside it, " in finding.evidence
    assert len(report.examples) == 3
    assert all("phrase" in example.responses[0].text for example in report.examples)
    assert report.estimates["outside"].n == 300


def test_chance_in_the_held_out_replies_is_not_reported_as_a_shift():
    """The rate of false alarms that so many held-out texts happen to give is not the data's fault."""
    blamed = 0
    for seed in range(6):
        held_out = np.sort(np.random.default_rng(seed).random(40))

        def p(text: str, held_out=held_out) -> float:
            return float((1 + np.sum(held_out >= drawn(text))) / (len(held_out) + 1))

        report = measure(Knowing(p=p), comparisons(60, seed=seed), AuditOptions(draws=100, shift_rows=0))
        blamed += any("are outside" in title for title in titles(report))
    assert blamed <= 1


def test_pairs_with_their_uncertainty_are_not_scored_again():
    model, rows = Knowing(p=like_english), comparisons(100)
    assert isinstance(model, PairScorer)
    pairs = score_comparisons(model, rows)
    model.texts = 0
    options = AuditOptions(draws=100, shift_rows=0)
    carried = measure_uncertainty(model, rows, pairs, options)
    assert model.texts == 2  # one comparison, to see what it can tell
    bare = dataclasses.replace(pairs, margin_std=None, first_shift_p=None, second_shift_p=None)
    assert measure_uncertainty(model, rows, bare, options) == carried
    assert model.texts > 200


def test_texts_that_are_too_long_for_the_model_leave_the_shorter_ones():
    class Short(Knowing):
        def score(self, prompts, responses):
            if max(len(as_response(r).text.split()) for r in responses) > 20:
                raise GuerdonError("a text must have at most 20 tokens. Set a larger model.max_length.")
            return super().score(prompts, responses)

    rows = [c for c in comparisons(200) if all(len(r.text.split()) <= 20 for r in c.responses)]
    long = (["p"] * 8, [" ".join(["mot"] * n) for n in (3, 4, 5, 6, 30, 40, 50, 60)])
    never = (["p"] * 8, [" ".join(["mot"] * 50)] * 8)
    report = measure(Short(p=like_english), rows, shifted={"long": long, "never": never})
    assert report.estimates["detected_long"].value == 1.0
    assert "detected_never" not in report.estimates
    assert "Not measured: never" in titles(report, "note")


# ---- A real model --------------------------------------------------------------------------------------------------


EVERY = liked(500, seed=1)


@pytest.fixture(scope="module")
def trained(tiny_dir):
    """A tiny model trained on the planted task, with its doubt measured."""
    rows, held_out = EVERY[:250], EVERY[250:350]
    model = training.train(rows, base=str(tiny_dir), lr=3e-3, micro_tokens=8192)
    model, _ = calibration.calibrate(model, held_out)
    return uncertainty.measure_uncertainty(model, rows, held_out=held_out)


def test_a_real_model_is_measured_in_one_pass_and_notices_gibberish(trained):
    rows = EVERY[350:]
    report = measure(trained, rows)
    found = report.estimates
    assert report.about["signals"] == "margin, laplace, ratio, shift"
    assert found["outside"].low < 0.12
    assert found["shift_auroc_gibberish"].low > 0.5
    assert found["detected_gibberish"].value > found["false_alarms"].value


def test_scores_hold_what_the_report_is_made_of(trained):
    scores = trained.score(["write a review of film 1 2"], ["good great film"])
    assert isinstance(scores, Scores)
    assert scores.std.shape == scores.shift_p.shape == as_scores([0.0]).value.shape
