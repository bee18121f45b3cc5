"""Judgments to labels: what is one pair, what is one vote, what is kept, and what is said of the annotators."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from comparison_files import one_line, write_rows
from hypothesis import given, settings
from hypothesis import strategies as st

import guerdon
from guerdon.config import AggregateOptions
from guerdon.contracts import Comparison, Preference, Report, Response, response_digest
from guerdon.data.aggregate import Aggregation, aggregate
from guerdon.data.simulated import UTILITY, SimulatedAnnotator, simulate_judgments, simulate_pairs

FIRST, TIE, SECOND = ((0,), (1,)), ((0, 1),), ((1,), (0,))
GOOD = [SimulatedAnnotator(f"good {i}", 2.0) for i in range(4)]


def judgment(groups=FIRST, annotator: str | None = None, **fields) -> Comparison:
    """One vote on the responses "yes" and "no"."""
    responses = fields.pop("responses", (Response("yes"), Response("no")))
    return Comparison(
        fields.pop("prompt", "Is it?"), responses, Preference(groups=groups), annotator=annotator, **fields
    )


def run(judgments: list[Comparison], **options) -> Aggregation:
    return aggregate(lambda: judgments, AggregateOptions(**options))


def q_of_yes(label: Comparison) -> float:
    assert label.q is not None
    return label.q if label.responses[0].text == "yes" else 1 - label.q


def votes_for_yes(label: Comparison) -> tuple[int, int, int]:
    votes = label.preference.votes
    assert votes is not None
    return votes if label.responses[0].text == "yes" else votes[::-1]


def mirrored(comparison: Comparison) -> Comparison:
    """The same judgment with the responses written in the other order."""
    groups = tuple(tuple(1 - i for i in group) for group in comparison.preference.groups or ())
    return replace(comparison, responses=comparison.responses[::-1], preference=Preference(groups=groups), id="")


def test_soft_judgments_lose_no_digits() -> None:
    first, second = Preference(q=0.8), Preference(q=0.25)
    judgments = [replace(judgment(annotator=name), preference=p, id="") for name, p in (("a", first), ("b", second))]
    (label,) = run(judgments, method="majority").labels()
    assert q_of_yes(label) == pytest.approx((0.8 + 0.25) / 2, abs=1e-12)


def test_annotators_are_counted_only_where_they_have_names() -> None:
    assert run([judgment()]).report.about["annotators"] == "votes without a name"
    assert run([judgment(), judgment(annotator="ann")]).report.about["annotators"] == "1 and votes without a name"


# ---- Pairs and votes -----------------------------------------------------------------------------------------------


def test_votes_on_both_orders_of_a_pair_are_votes_on_one_pair() -> None:
    judgments = [judgment(FIRST), mirrored(judgment(FIRST)), judgment(TIE), judgment(SECOND)]
    (label,) = run(judgments).labels()
    assert votes_for_yes(label) == (2, 1, 1)
    assert q_of_yes(label) == pytest.approx(2.5 / 4)


def test_pairs_of_other_prompts_or_responses_are_other_pairs() -> None:
    other = (Response("yes"), Response("perhaps"))
    labels = list(run([judgment(), judgment(prompt="Was it?"), judgment(responses=other)]).labels())
    assert len(labels) == len({label.id for label in labels}) == 3


def test_the_order_of_a_label_comes_from_the_texts_alone() -> None:
    for judgments in ([judgment(), judgment(SECOND)], [mirrored(judgment()), judgment(SECOND)]):
        (label,) = run(judgments).labels()
        digests = [response_digest(response) for response in label.responses]
        assert digests == sorted(digests)


def test_an_annotator_who_judges_a_pair_again_has_one_vote() -> None:
    judgments = [judgment(FIRST, "ann"), judgment(FIRST, "ann"), judgment(SECOND, "ben"), judgment(SECOND, "cleo")]
    (label,) = run(judgments, method="majority").labels()
    assert votes_for_yes(label) == (1, 0, 2)
    assert q_of_yes(label) == pytest.approx(1 / 3)
    (undecided,) = run([judgment(FIRST, "ann"), judgment(SECOND, "ann")]).labels()
    assert (votes_for_yes(undecided), q_of_yes(undecided)) == ((0, 1, 0), 0.5)


def test_people_without_names_are_different_people() -> None:
    (label,) = run([judgment(FIRST), judgment(FIRST), judgment(SECOND)]).labels()
    assert votes_for_yes(label) == (2, 0, 1)


def test_counts_of_votes_are_votes_and_a_soft_label_is_part_of_one() -> None:
    counted = replace(judgment(), preference=Preference(q=0.7, votes=(3, 1, 1)), id="")
    soft = replace(judgment(annotator="judge"), preference=Preference(q=0.9), id="")
    (label,) = run([counted, soft], method="majority").labels()
    assert votes_for_yes(label) == (4, 1, 1)
    assert q_of_yes(label) == pytest.approx((3.5 + 0.9) / 6)


def test_what_belongs_to_the_pair_is_kept() -> None:
    rows = [
        judgment(FIRST, "ann", source="s", group="g", weight=2.0, id="row 1"),
        judgment(SECOND, "ben", group="g", id="row 1"),
    ]
    (label,) = run(rows).labels()
    assert (label.id, label.group, label.source, label.weight, label.annotator) == ("row 1", "g", "s", 1.5, None)
    (alone,) = run([judgment(FIRST, "ann", id="mine")]).labels()
    assert (alone.id, alone.annotator) == ("mine", "ann")


def test_votes_of_one_row_become_one_label_with_the_id_of_the_row(tmp_path) -> None:
    row = {"id": "x/7", "prompt": "Is it?", "response_a": "yes", "response_b": "no"}
    votes = [{"annotator": name, "label": label} for name, label in (("ann", "a"), ("ben", "b"), ("cleo", "a"))]
    again = {**row, "prompt": "Was it?", "id": "x/8"}
    path = write_rows(
        tmp_path / "votes.jsonl", {**row, "votes": votes}, {**again, "votes": votes}, {**again, "votes": votes}
    )
    judgments = guerdon.read(path, judgments="each")
    assert {judgment.annotator for judgment in judgments} == {"ann", "ben", "cleo"}
    guerdon.write(
        tmp_path / "each.jsonl", judgments
    )  # a row for each judgment: they are in one row of the source no more
    for held in (judgments, guerdon.read(tmp_path / "each.jsonl"), judgments[::-1]):
        one, several = sorted(run(held).labels(), key=lambda label: label.prompt[0].content)
        assert (one.id, votes_for_yes(one)) == ("x/7", (2, 0, 1))
        assert several.id not in ("x/8", "x"), "the votes are from two rows"


def test_ids_that_only_look_like_those_of_one_row_are_not_joined() -> None:
    for names in (("x/7", "x/8"), ("x/1", "x/3"), ("x/²", "x/1"), ("x/01", "x/2"), ("/1", "/2")):
        rows = [judgment(FIRST, "ann", id=names[0]), judgment(SECOND, "ben", id=names[1])]
        (label,) = run(rows).labels()
        assert label.id not in ("x", "", *names)


def test_a_ranking_is_a_judgment_of_each_of_its_pairs() -> None:
    three = (Response("best"), Response("middle"), Response("worst"))
    rows = [judgment(((0,), (1,), (2,)), name, responses=three) for name in ("ann", "ben")]
    labels = list(run([*rows, judgment(((0,),), "cleo", responses=three)], method="majority").labels())
    best = {tuple(sorted(r.text for r in label.responses)): label for label in labels}
    assert set(best) == {("best", "middle"), ("best", "worst"), ("middle", "worst")}
    assert sum(best["best", "middle"].preference.votes) == 3
    assert sum(best["middle", "worst"].preference.votes) == 2, "the ranking of the best alone says nothing of the rest"


crowds = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from([FIRST, TIE, SECOND])), min_size=1, max_size=12
)


@settings(derandomize=True, deadline=None, max_examples=20)
@given(crowds, st.randoms(use_true_random=False), st.sampled_from(["majority", "dawid_skene", "ability"]))
def test_the_order_of_rows_and_of_responses_changes_no_label(crowd, random, method) -> None:
    """Where the order shown is not known; where it is, the order of responses is what a left bias is learned from."""
    rows = [judgment(groups, f"w{who}", prompt=f"Question {pair}?") for pair, who, groups in crowd]
    shuffled = [mirrored(row) if random.random() < 0.5 else row for row in random.sample(rows, len(rows))]

    def labels(judgments: list[Comparison]) -> dict:
        result = run(judgments, method=method, left_bias=False, draws=100).labels()
        return {label.group: (label.responses, label.q, label.preference.votes) for label in result}

    before, after = labels(rows), labels(shuffled)
    assert before.keys() == after.keys()
    for group, (responses, q, votes) in before.items():
        assert after[group][0] == responses
        assert after[group][1] == pytest.approx(q, abs=1e-6)
        assert after[group][2] == votes


# ---- Methods -------------------------------------------------------------------------------------------------------


def accuracy(labels) -> float:
    return float(
        np.mean([(x.q > 0.5) == (x.responses[0].ratings[UTILITY] > x.responses[1].ratings[UTILITY]) for x in labels])
    )


def test_in_a_mixed_crowd_the_default_beats_the_majority_and_names_who_is_odd() -> None:
    crowd = [
        *GOOD,
        SimulatedAnnotator("adversary", -2.0),
        SimulatedAnnotator("lefty", 0.2, left_bias=3.0),
        SimulatedAnnotator("sleeper", laziness=1.0, habit="first"),
        SimulatedAnnotator("guesser", 0.0),
    ]
    judgments = list(simulate_judgments(simulate_pairs(600, 1), crowd, 3, seed=1))
    result = run(judgments)
    assert accuracy(result.labels()) > accuracy(run(judgments, method="majority").labels()) + 0.1
    flags = {annotator.name: annotator.flags for annotator in result.annotators}
    assert all(flags[annotator.name] == () for annotator in GOOD)
    assert flags["adversary"] == ("reversed",)
    assert "left-biased" in flags["lefty"]
    assert {"left-biased", "same answer"} <= set(flags["sleeper"])
    assert flags["guesser"] == ("guesses",)
    titles = " ".join(finding.title for finding in result.report.findings)
    assert all(flag in titles for flag in ("reversed", "left-biased", "same answer", "guesses"))
    assert result.report.estimates["differs_from_majority"].value > 0.1


def test_a_good_crowd_raises_no_finding() -> None:
    judgments = list(simulate_judgments(simulate_pairs(300, 2), GOOD, 3, seed=2))
    report = run(judgments).report
    assert report.findings == ()
    assert report.about["method"] == "ability (some pairs were judged by several named annotators)"
    assert set(report.curves) == {"ability", "left_bias", "cohen_kappa"}
    assert report.estimates["alpha_nominal"].low > 0.2
    assert {"raw_agreement", "one_vs_others", "ac1", "fleiss_kappa", "best_accuracy"} <= set(report.estimates)


def test_without_names_or_overlap_votes_are_counted() -> None:
    unnamed = run([judgment(), judgment(SECOND)])
    assert unnamed.report.about["method"] == "majority (no annotator has a name)"
    assert unnamed.annotators == ()
    single = run([judgment(FIRST, "ann"), judgment(SECOND, "ben", prompt="Was it?")])
    assert single.report.about["method"].startswith("majority (no pair was judged by two named annotators")
    assert sorted(q_of_yes(label) for label in single.labels()) == [0.0, 1.0]
    titles = [finding.title for finding in run([judgment(FIRST, "ann")], method="ability").report.findings]
    assert "Nothing shows how able the annotators are" in titles
    assert "No pair was judged twice" in titles


def test_votes_for_whatever_is_listed_first_are_a_warning() -> None:
    """Whether it is a judge that looks at the position or a file that lists the better response first, the votes do not say."""
    rows = [judgment(FIRST, f"w{who}", prompt=f"Question {pair}?") for pair in range(20) for who in range(2)]
    result = run(rows)
    assert result.report.findings[0].title == "Nearly all votes are for the response listed first"
    assert all(0.4 < q_of_yes(label) < 0.6 for label in result.labels())
    assert all(q_of_yes(label) > 0.75 for label in run(rows, left_bias=False).labels())


def test_the_weight_can_be_the_number_of_equally_able_annotators() -> None:
    rows = [judgment(FIRST), judgment(FIRST), judgment(SECOND), judgment(FIRST, prompt="Was it?")]
    assert [label.weight for label in run(rows, weight="n_eff").labels()] == [3.0, 1.0]


def test_strengths_give_an_alpha_of_their_own() -> None:
    rows = []
    for i, vote in enumerate(simulate_judgments(simulate_pairs(60, 3), GOOD, 2, seed=1)):
        rows.append(replace(vote, preference=replace(vote.preference, strength=1.0 + i % 2), id=""))
    assert "alpha_strength" in run(rows).report.estimates
    assert "alpha_strength" not in run([judgment(), judgment()]).report.estimates


# ---- Mistakes ------------------------------------------------------------------------------------------------------


def test_mistakes_are_one_line() -> None:
    assert one_line(lambda: run([])) == (
        "aggregate: the data must hold at least one judgment of two responses, got none. Add some."
    )
    assert one_line(lambda: run([judgment()], method="ability")).startswith(
        "aggregate: method must be majority where no annotator has a name, got ability."
    )
    readings = iter([[judgment()], [judgment(prompt="Was it?")]])
    result = aggregate(lambda: next(readings), AggregateOptions())
    assert one_line(lambda: list(result.labels())).startswith("aggregate: the data must be the same on both readings")


def test_names_from_a_file_cannot_steer_the_terminal() -> None:
    name = "\x1b[31mred\u202e"
    rows = [judgment(FIRST, name, prompt=f"Question {i}?") for i in range(40)]
    (finding, *_) = [f for f in run(rows).report.findings if "same answer" in f.title]
    assert "\x1b" not in finding.evidence
    assert "\u202e" not in finding.evidence


def test_the_verb_returns_labels_and_report() -> None:
    labels, report = guerdon.aggregate([judgment(FIRST), judgment(SECOND)])
    assert len(labels) == 1
    assert isinstance(report, Report)
