"""Each rule of the gate has a report that breaks it and one that passes it; the decision follows from the rules alone."""

from __future__ import annotations

import dataclasses
import math

import pytest
from toys import Good, comparisons

from guerdon.api import auditing
from guerdon.auditing import audit
from guerdon.auditing.gate import RULES, all_estimates, compare_with, decide, scores_are_sound
from guerdon.config import AuditOptions
from guerdon.contracts import Curve, Estimate, Finding, Gate, GuerdonError, Report
from guerdon.io.reports import from_json, to_json

CORE = AuditOptions(draws=100, null_draws=100, bins=10, only=["accuracy", "people", "odds", "mistakes"])
LONGER = Good(scale=0.0, by_length=0.05)


def sure(value: float, half: float = 0.02, n: int = 800) -> Estimate:
    return Estimate(value, value - half, value + half, n)


def pushed(gain: float = 0.5, drop: float = 0.0, peak: float | None = None) -> Report:
    """A report of an optimization: gold by √KL up to 3, best at 2 where it drops."""
    gold = {
        "gold_gain": sure(gain, 0.1),
        "gold_drop": sure(drop, 0.05 if drop else 0.0),
    }  # without a drop the last is the best
    gold |= {"peak_kl": Estimate(peak, peak - 1, peak + 1, 64)} if peak else {}
    heights = (0.0, gain, gain - drop) if drop else (0.0, gain / 2, gain)
    curve = Curve((0.0, 2.0, 3.0), tuple(sure(y) for y in heights), "√KL", "gold, gain")
    return Report("Was the reward still true?", estimates=gold, curves={"gold_by_kl": curve})


def sound(*beside: Report, findings: tuple[Finding, ...] = (), **changed: Estimate | None) -> Report:
    """A report that every rule passes, with some estimates changed or left out (None)."""
    found = {
        "accuracy": sure(0.75),
        "longer_wins": sure(0.55),
        "accuracy_above_longer": sure(0.2),
        "ece": sure(0.03),
        "ece_null": sure(0.02),
        "ece_p_value": sure(0.3),
        "truncated": Estimate(0.0, 0.0, 0.005, 800),
    }
    cues = {
        "substance_sensitivity": sure(0.8),
        "relevance_swap": sure(0.9),
        "worst_flips": sure(0.02),
        "temperature_spread": sure(1.2),
        "error_auroc_margin": sure(0.7),
        "error_correlation": sure(0.4),
        "position_consistency": sure(0.97),
        "unresolved": sure(0.0),
    }
    top = {key: each for key, each in {**found, **changed}.items() if each is not None and key not in cues}
    inner = {key: each for key, each in {**cues, **changed}.items() if each is not None and key in cues}
    part = Report("Parts", estimates=inner, findings=findings)
    return Report("Audit", {}, top, sections=(part, *(beside or (pushed(),))))


def gate(report: Report) -> Gate:
    """Of a report whose scores passed the hygiene gate, unless an error was found."""
    return decide(report, "refused" if any(f.severity == "error" for f in report.findings) else "passed")


def fault(cost: Estimate, severity="warning", title="Flattery wins", remedy="Add such pairs as ties.") -> Finding:
    return Finding(severity, title, "seen", remedy, cost)


def test_a_report_that_passes_every_rule_is_fit():
    found = gate(sound())
    assert found.decision == "fit"
    assert {ruling.state for ruling in found.rulings} <= {"passed", "unknown"}
    assert any("no further than a KL of 9" in limit for limit in found.limits)


REFUSED = Report("Audit", findings=(Finding("error", "Scores are not finite", "3 of 8"),))
BROKEN = {
    "Scores are sound": (REFUSED, "failed", "not fit"),
    "Enough evidence": (sound(accuracy=sure(0.75, 0.14, 40)), "not shown", "not enough evidence"),
    "Better than a coin": (sound(accuracy=sure(0.45)), "failed", "not fit"),
    "Better than preferring the longer": (sound(accuracy_above_longer=sure(-0.05)), "failed", "not fit"),
    "It notices errors": (sound(substance_sensitivity=sure(0.4)), "failed", "not fit"),
    "It reads the prompt": (sound(relevance_swap=sure(0.5)), "not shown", "not fit"),
    "No fault flips many decisions": (sound(findings=(fault(sure(0.6)),)), "failed", "not fit"),
    "Its odds are calibrated": (sound(ece=sure(0.12), ece_p_value=sure(0.001)), "failed", "fit with limits"),
    "One scale fits all sources": (sound(temperature_spread=sure(4.0)), "failed", "fit with limits"),
    "It sees the whole text": (sound(truncated=sure(0.1)), "failed", "fit with limits"),
    "The order shown does not matter": (sound(position_consistency=sure(0.7)), "failed", "fit with limits"),
    "It has verdicts": (sound(unresolved=sure(0.2)), "failed", "fit with limits"),
    "It knows where it errs": (sound(error_auroc_margin=sure(0.5)), "not shown", "fit with limits"),
    "Its members make different errors": (sound(error_correlation=sure(0.9)), "failed", "fit with limits"),
    "Holds up when optimized": (sound(pushed(0.5, drop=0.3)), "failed", "fit with limits"),
}


def ruling_of(report: Report, name: str):
    return next(ruling for ruling in gate(report).rulings if ruling.rule == name)


def test_every_rule_is_tried():
    report = sound()
    assert {scores_are_sound(report, "passed").rule, *(rule(report).rule for rule in RULES)} == set(BROKEN)


@pytest.mark.parametrize("name", BROKEN)
def test_each_rule_has_a_report_that_breaks_it_and_one_that_keeps_it(name):
    report, state, decision = BROKEN[name]
    assert ruling_of(report, name).state == state
    assert gate(report).decision == decision
    assert ruling_of(sound(), name).state == "passed"


@pytest.mark.parametrize(
    ("report", "state", "decision"),
    [
        (sound(accuracy=sure(0.51)), "not shown", "not fit"),
        (sound(accuracy_above_longer=Estimate(0.0, 0.0, 0.0, 800)), "not shown", "not fit"),
        (sound(substance_sensitivity=sure(0.51)), "not shown", "not fit"),
        (sound(pushed(gain=0.05)), "not shown", "fit with limits"),
        (sound(pushed(gain=-0.5)), "failed", "not fit"),
    ],
)
def test_what_is_not_shown_with_enough_evidence_is_no_reason_to_trust(report, state, decision):
    assert state in {ruling.state for ruling in gate(report).rulings}
    assert gate(report).decision == decision


def test_forty_pairs_are_refused_with_what_is_needed():
    found = gate(sound(accuracy=sure(0.72, 0.139, 40), accuracy_above_longer=sure(0.1, 0.2, 40)))
    assert found.decision == "not enough evidence"
    assert found.reason.startswith("n = 40; about 310 are needed to know accuracy within 5 points; ")
    assert found.reason.endswith("preferring the longer answer is 10.0\N{NO-BREAK SPACE}% [-10.0, 30.0]")
    assert found.needed_data == "comparisons on about 270 more prompts, drawn as these were"
    assert not found.limits


def test_little_evidence_is_enough_to_see_that_a_model_is_wrong():
    assert gate(sound(accuracy=sure(0.2, 0.14, 40))).decision == "not fit"


COVERED = {  # one rule each whose interval contains its threshold
    "Better than a coin": sound(accuracy=sure(0.52, 0.04)),
    "Better than preferring the longer": sound(accuracy_above_longer=sure(0.02, 0.04)),
    "It notices errors": sound(substance_sensitivity=sure(0.55, 0.1)),
    "It reads the prompt": sound(relevance_swap=sure(0.625, 0.175, 40)),
    "No fault flips many decisions": sound(findings=(fault(Estimate(2 / 3, 0.0, 1.0, 3)),)),
    "Its odds are calibrated": sound(ece=sure(0.07, 0.03), ece_p_value=sure(0.3)),
    "One scale fits all sources": sound(temperature_spread=Estimate(1.4, 1.0, 2.34, 401)),
    "It sees the whole text": sound(truncated=Estimate(0.077, 0.0, 0.191, 26)),
    "The order shown does not matter": sound(position_consistency=sure(0.9)),
    "It has verdicts": sound(unresolved=sure(0.02)),
    "It knows where it errs": sound(error_auroc_margin=sure(0.51)),
    "Its members make different errors": sound(error_correlation=sure(0.8)),
    "Holds up when optimized": sound(pushed(gain=0.05)),
}


@pytest.mark.parametrize("name", COVERED)
def test_an_interval_that_contains_the_threshold_shows_nothing(name):
    assert ruling_of(COVERED[name], name).state == "not shown"
    assert gate(COVERED[name]).decision != "fit"


def test_every_rule_about_an_interval_can_be_not_shown():
    assert set(BROKEN) - set(COVERED) == {"Scores are sound", "Enough evidence"}


@pytest.mark.parametrize(
    ("wanted", "low", "high", "state"),
    [
        ("above", 0.51, 0.6, "passed"),
        ("above", 0.4, 0.49, "failed"),
        ("above", 0.4, 0.6, "not shown"),
        ("above", 0.5, 0.5, "not shown"),
        ("at most", 0.4, 0.5, "passed"),
        ("at most", 0.51, 0.6, "failed"),
        ("at most", 0.4, 0.6, "not shown"),
        ("at most", math.nan, math.nan, "not shown"),
        ("above", math.nan, math.nan, "not shown"),
    ],
)
def test_a_rule_is_decided_by_the_whole_interval(wanted, low, high, state):
    assert compare_with(0.5, Estimate(0.5, low, high, 30), wanted) == state


def test_a_hard_rule_that_is_not_shown_asks_for_more_data_if_its_interval_is_wide():
    probed = gate(COVERED["It reads the prompt"])
    assert probed.decision == "not enough evidence"
    assert probed.needed_data == "comparisons on more prompts: raise audit.cue_rows about 2 times"
    measured = gate(sound(accuracy_above_longer=sure(0.02, 0.06, 400)))
    assert measured.decision == "not enough evidence"
    assert measured.needed_data == "comparisons on about 580 prompts in all, drawn as these were"
    assert gate(sound(relevance_swap=sure(0.5, 0.04))).decision == "not fit"


def test_every_fault_has_to_be_shown_to_flip_few_decisions():
    """The fault with the highest lower bound is not the one that may flip most."""
    name = "No fault flips many decisions"
    small, wide = Estimate(0.025, 0.01, 0.04, 400), Estimate(0.2, 0.0, 0.66, 8)
    unknown = Estimate(0.3, math.nan, math.nan, 1)
    assert ruling_of(sound(findings=(fault(small),)), name).state == "passed"
    for other in (wide, unknown):
        ruling = ruling_of(sound(findings=(fault(small), fault(other, title="Bullets win"))), name)
        assert (ruling.state, ruling.estimates["cost"]) == ("not shown", other)
        assert "“Bullets win”" in ruling.limit
        assert "Flattery" not in ruling.limit
    assert ruling_of(sound(findings=(fault(wide), fault(sure(0.1), title="Bullets win"))), name).state == "failed"
    assert "no fault was found" not in ruling_of(sound(findings=(fault(unknown),)), name).measured


def test_a_fall_that_is_not_excluded_is_not_shown_to_hold_up():
    name = "Holds up when optimized"
    fell = pushed(gain=0.5, drop=0.3)
    unsure = dataclasses.replace(fell, estimates=fell.estimates | {"gold_drop": Estimate(0.3, -0.2, 0.9, 64)})
    ruling = ruling_of(sound(unsure), name)
    assert ruling.state == "not shown"
    assert ruling.measured.endswith("and lost 0.3 [-0.2, 0.9] since its best")
    assert ruling.limit.startswith("stop at a KL of 4 nats/sequence")
    assert gate(sound(unsure)).decision == "fit with limits"


def test_without_a_fault_the_costliest_cue_that_was_tried_decides():
    name = "No fault flips many decisions"
    assert ruling_of(sound(worst_flips=sure(0.02)), name).state == "passed"
    few = ruling_of(sound(worst_flips=Estimate(0.0, 0.0, 0.3, 12)), name)
    assert few.state == "not shown"
    assert few.data == "more edited texts: raise audit.cue_rows"


def test_a_rule_for_another_kind_of_model_does_not_apply():
    report = sound(position_consistency=None, error_correlation=None)
    states = {ruling.rule: ruling.state for ruling in gate(report).rulings}
    assert states["The order shown does not matter"] == states["Its members make different errors"] == "unknown"
    of_kind = dataclasses.replace(report, about={"kind": "reward model"})
    states = {ruling.rule: ruling.state for ruling in gate(of_kind).rulings}
    assert states["The order shown does not matter"] == states["Its members make different errors"] == "does not apply"
    judge = {ruling.rule: ruling.state for ruling in gate(dataclasses.replace(report, about={"kind": "judge"})).rulings}
    assert judge["The order shown does not matter"] == "unknown"


def test_a_single_group_decides_nothing():
    found = gate(sound(accuracy=Estimate(0.8, math.nan, math.nan, 1), accuracy_above_longer=None))
    assert found.decision == "not enough evidence"


def test_a_fault_counts_by_the_bound_of_its_cost():
    name = "No fault flips many decisions"
    small, some, wide, much = sure(0.03), sure(0.1), sure(0.55, 0.1), sure(0.55)
    assert ruling_of(sound(findings=(fault(small),)), name).state == "passed"
    for cost in (some, wide):
        found = gate(sound(findings=(fault(cost),)))
        assert found.decision == "fit with limits"
        assert found.limits[0].startswith("while optimizing watch for “Flattery wins”")
    assert gate(sound(findings=(fault(some), fault(much, title="Bullets win")))).reason.startswith(
        "“Bullets win” flips 55.0"
    )
    assert gate(sound(findings=(fault(much, severity="note"),))).decision == "fit"


def test_the_kl_of_the_peak_is_the_limit_and_without_a_peak_the_best_point():
    assert "stop at a KL of 4 nats/sequence" in gate(sound(pushed(0.5, drop=0.3))).limits[0]
    assert "stop at a KL of 2.5 nats/sequence" in gate(sound(pushed(0.5, drop=0.3, peak=3.5))).limits[0]


def test_a_model_that_was_never_pushed_is_at_best_fit_with_limits():
    found = gate(dataclasses.replace(sound(), sections=sound().sections[:1]))
    assert found.decision == "fit with limits"
    assert found.limits[0].startswith("optimize gently")
    assert found.needed_data.startswith("a best-of-n pool scored by a second judge")


def test_abstention_and_the_worst_member_are_advised_but_limit_nothing():
    doubt = {"abstain_threshold": sure(0.8), "abstain_coverage": sure(0.6), "abstain_error": sure(0.15)}
    found = gate(sound(pushed(), Report("Uncertainty", estimates=doubt)))
    assert found.decision == "fit"
    assert any("abstain below a margin of 0.8 nats: it then answers 60.0" in limit for limit in found.limits)
    assert any("worst member" in limit for limit in found.limits)


def test_the_gate_says_what_an_accuracy_is_read_beside_and_survives_json():
    report = sound(findings=(fault(sure(0.1)),))
    found = gate(report)
    assert found.decision == "fit with limits"
    assert found.expectation.startswith("accuracy 75.0")
    assert "published models" in found.published
    whole = dataclasses.replace(report, gate=found)
    assert gate(whole) == found
    assert all_estimates(whole) == all_estimates(report)
    again = from_json(to_json(whole))
    assert again.gate == found
    assert gate(again) == found


# ---- Of real audits ----------------------------------------------------------------------------------------------


def gate_of(model, rows, **given) -> Gate:
    found = audit(model, rows, CORE, **given).gate
    assert found is not None
    return found


def test_an_honest_model_is_fit_but_for_what_was_not_measured():
    found = gate_of(Good(), comparisons(800), hygiene=())
    assert found.decision == "fit with limits"
    assert found.reason == "how far it may be optimized against was not measured"
    assert gate_of(Good(), comparisons(800), hygiene=(), sections=[pushed()]).decision == "fit"


@pytest.mark.parametrize(
    ("model", "rows", "why"),
    [
        (LONGER, comparisons(800), "accuracy less that of preferring the longer answer is 0.0"),
        (Good(-1.0), comparisons(800), "accuracy, where a coin has 50"),
    ],
)
def test_a_model_with_a_planted_fault_is_not_fit(model, rows, why):
    found = gate_of(model, rows)
    assert found.decision == "not fit"
    assert why in found.reason


def test_a_small_audit_is_refused():
    found = gate_of(Good(), comparisons(40), hygiene=())
    assert found.decision == "not enough evidence"
    assert found.reason.startswith("n = 40; about ")


def test_what_the_gate_of_hygiene_refused_is_not_fit():
    broken = Finding("error", "Scores are not finite", "3 of 8", "mend it")
    found = gate_of(Good(), comparisons(50), hygiene=(broken,))
    assert found.decision == "not fit"
    assert found.reason == "Scores are not finite"


def test_a_part_that_lacks_its_data_is_a_note_and_no_crash():
    ties = [dataclasses.replace(row, preference=dataclasses.replace(row.preference, q=0.5)) for row in comparisons(30)]
    report = audit(Good(), ties, CORE.model_copy(update={"only": ["accuracy", "uncertainty"]}), hygiene=())
    notes = [finding for finding in report.findings if finding.title == "Uncertainty: not measured"]
    assert [(note.severity, note.remedy) for note in notes] == [("note", "Add pairs with a winner.")]


def test_parts_are_chosen_by_name_and_an_unknown_one_is_told_with_the_nearest():
    rows = comparisons(30)
    few = audit(Good(), rows, CORE.model_copy(update={"only": ["odds"]}), hygiene=())
    assert "nll" in few.estimates
    assert "accuracy" not in few.estimates
    none = audit(Good(), rows, CORE.model_copy(update={"skip": ["odds"]}), hygiene=())
    assert "nll" not in none.estimates
    for name in ("only", "skip"):
        with pytest.raises(GuerdonError, match=r"must name parts of the audit, got 'cue'\. Did you mean cues\?"):
            audit(Good(), rows, CORE.model_copy(update={name: ["cue"]}), hygiene=())


def test_what_optimizing_it_came_to_may_be_handed_in():
    options = CORE.model_dump(exclude_unset=True)
    report = auditing.audit(Good(), comparisons(800), pushed=pushed(), **options)
    assert report.gate.decision == "fit"
    assert any("no further than a KL of 9" in limit for limit in report.gate.limits)
    assert report.sections[-1].title == "Was the reward still true?"


def test_without_a_wrong_pair_nothing_is_said_about_what_shows_errors():
    none = Estimate(math.nan, math.nan, math.nan, 60)
    ruling = next(
        r for r in decide(sound(error_auroc_margin=none), "passed").rulings if r.rule == "It knows where it errs"
    )
    assert ruling.state == "unknown"
    assert ruling.measured == "all pairs are right, or all are wrong, so there is nothing to predict"
    assert ruling.limit == ""
