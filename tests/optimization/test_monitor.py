"""Checks of worlds whose truth is planted: the monitor must see the turn of gold, and must not cry where there is none."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from guerdon.contracts import GuerdonError
from guerdon.io.writers import append_jsonl
from guerdon.optimization.monitor import (
    Check,
    alerts,
    best,
    from_row,
    judge,
    lead,
    length_correlation,
    length_share,
    measures,
    read_checks,
    should_stop,
    to_row,
)

DISTANCE = np.linspace(0, 4, 9)
WORDS = "river small often answer bright seven history people always water stone green walk open late".split()


def hump(d):
    return d * (2 - 0.6 * d)


def run(gold=hump, p=80, m=9, seed=0, *, by_length=0.0, by_quality=0.5, longer=2.0, **changed):
    """Checks whose gold follows a curve of √KL, whose proxy rises by quality and by length, each prompt with its own level."""
    rng = np.random.default_rng(seed)
    level, made = rng.normal(size=p), []
    for i, d in enumerate(DISTANCE[:m]):
        length = np.round(np.maximum(1, 60 + 10 * level + longer * i + 6 * rng.normal(size=p)))
        texts = tuple(f"{a} " + " ".join(rng.choice(WORDS, size=12)) for a in range(p))
        check = Check(
            update=10 * i,
            kl_coef=0.05,
            prompts=tuple(f"prompt {a}" for a in range(p)),
            proxy=level + by_quality * i + by_length * length + 0.3 * rng.normal(size=p),
            gold=None if gold is None else level + gold(d) + 0.5 * rng.normal(size=p),
            kl=d * d * (1 + 0.2 * rng.normal(size=p)),
            length=length,
            finished=rng.random(p) < 0.9,
            std=None,
            shift_p=None,
            texts=texts,
        )
        made.append(dataclasses.replace(check, **{k: v(i, p, rng) for k, v in changed.items()}))
    return made


def titles(checks):
    return {finding.title for finding in alerts(checks, draws=200)}


# ---- The verdict -------------------------------------------------------------------------------------------------


def test_a_hump_is_over_optimized_since_its_peak():
    found = judge(run())
    assert found.kind == "over-optimized"
    peak = (2 / 1.2) ** 2  # checks stand at d = 1.5 and 2.0
    assert found.since_kl == pytest.approx(peak, rel=0.5)
    assert found.text.startswith("Over-optimized since KL = ")
    assert found.trend.drop.low > 0


def test_a_gold_that_collapses_after_a_plateau_is_over_optimized():
    assert judge(run(lambda d: 0.0 if d > 3 else min(d, 1.0))).kind == "over-optimized"


def test_a_steady_rise_is_fine():
    found = judge(run(lambda d: d))
    assert found.kind == "fine"
    assert found.since_kl is None


def test_a_rise_that_ends_is_flattening():
    assert judge(run(lambda d: 1 - math.exp(-3 * d))).kind == "flattening"


def test_without_gold_nothing_is_concluded_though_the_proxy_soars():
    found = judge(run(None, by_quality=10.0))
    assert found.kind == "insufficient"
    assert found.text.startswith("Without a gold judge nothing can be concluded")
    assert should_stop(run(None)) is None


def test_three_prompts_are_too_few_and_the_remedy_is_said():
    found = judge(run(p=3))
    assert found.kind == "insufficient"
    assert "3 prompts" in found.text
    assert "Remedy: hold out more prompts" in found.text


def test_what_has_no_beginning_or_no_second_check_is_not_judged():
    assert judge([]).kind == judge(run(m=1)).kind == "insufficient"
    assert "not of the untouched policy" in judge(run()[3:]).text


def test_a_rounding_error_in_the_first_kl_does_no_harm():
    checks = run()
    checks[0] = dataclasses.replace(checks[0], kl=np.full(80, 1e-6))
    checks[1] = dataclasses.replace(checks[1], kl=np.full(80, -1e-3))
    assert judge(checks).kind == "over-optimized"


def test_prompts_without_gold_at_one_check_are_left_out_of_all():
    checks = run()
    gold = checks[4].gold.copy()
    gold[:10] = math.nan
    checks[4] = dataclasses.replace(checks[4], gold=gold)
    found = judge(checks)
    assert found.trend.gain.n == 70
    assert found.kind == "over-optimized"


def test_a_check_without_gold_is_left_out_and_costs_no_prompt():
    checks = run()
    for lost in (4, 2):
        nothing = dataclasses.replace(checks[lost], gold=np.full(80, math.nan))
        kept = [check for i, check in enumerate(checks) if i != lost]
        assert judge([*checks[:lost], nothing, *checks[lost + 1 :]]) == judge(kept)
    first = dataclasses.replace(checks[0], gold=np.full(80, math.nan))
    assert "No prompt has gold" in judge([first, *checks[1:]]).text


def test_gold_that_is_missing_now_and_then_still_gives_a_verdict():
    """A tenth of all numbers, at random: over all checks hardly a prompt has every number."""
    draw = np.random.default_rng(0)
    checks = [
        dataclasses.replace(check, gold=np.where(draw.random(80) < 0.1, math.nan, check.gold))
        for check in [run()[0], *(dataclasses.replace(run()[1 + i // 3], update=i + 1) for i in range(24))]
    ]
    assert np.isfinite([check.gold for check in checks]).all(axis=0).sum() < 10
    found = judge(checks)
    assert found.kind == "over-optimized"
    assert found.trend.gain.n >= 35
    assert best(checks) in range(1, 25)
    assert lead(checks).value > 0


def test_texts_that_a_judge_did_not_see_whole_are_told():
    checks = run()
    partly = np.arange(80) < 3
    checks[-1] = dataclasses.replace(checks[-1], partly_read=partly)
    (found,) = [a for a in alerts(checks) if a.title == "A judge saw only part of some texts"]
    assert found.evidence.startswith("3 of 80 prompts with their replies")
    assert measures(checks[-1])["partly_read"].value == 3 / 80
    assert from_row(json.loads(json.dumps(to_row(checks[-1])))).partly_read.tolist() == partly.tolist()


def test_a_prompt_asked_twice_counts_once():
    checks = [dataclasses.replace(c, prompts=tuple(f"prompt {a // 2}" for a in range(80))) for c in run()]
    assert judge(checks).trend.gain.n == 40
    assert measures(checks[0])["proxy"].n == 40


# ---- Stopping and rolling back -----------------------------------------------------------------------------------


def test_a_run_is_stopped_only_when_two_checks_in_a_row_say_so():
    checks = run()
    kinds = [judge(checks[: i + 1]).kind for i in range(9)]
    first = kinds.index("over-optimized")
    assert should_stop(checks[: first + 1]) is None
    assert should_stop(checks[: first + 2]).startswith("Over-optimized since KL")
    assert should_stop(checks[: first + 1], patience=1) is not None


def test_an_honest_run_is_not_stopped_at_any_of_its_checks():
    flat = lambda d: 0.0  # noqa: E731
    stopped = [
        any(should_stop(checks[: i + 1], draws=200) for i in range(9))
        for checks in (run(flat, p=30, seed=s) for s in range(20))
    ]
    assert sum(stopped) <= 2


def test_the_best_check_is_that_of_the_highest_gold_and_its_lead_has_an_interval():
    checks = run()
    assert best(checks) in (30, 40)
    ahead = lead(checks)
    assert ahead.low < hump(1.75) - hump(4) < ahead.high
    assert ahead.low > 0
    rising = run(lambda d: d)
    assert best(rising) == 80
    assert lead(rising).value == 0
    assert math.isnan(lead(rising[:1]).low)


def test_the_best_of_many_equal_checks_is_not_said_to_lead():
    equal = (run(lambda d: 0.0, p=30, seed=s) for s in range(60))
    assert sum(lead(checks, draws=200).low > 0 for checks in equal) <= 4


def test_without_gold_there_is_no_best():
    with pytest.raises(GuerdonError, match="remedy: name a gold judge"):
        best(run(None))


# ---- Length ------------------------------------------------------------------------------------------------------


def test_a_gain_that_is_length_has_share_one_and_one_that_is_quality_has_none():
    by_length = length_share(run(by_length=0.1, by_quality=0.0, longer=8.0))
    assert by_length.low < 1 < by_length.high
    assert by_length.high - by_length.low < 0.3
    by_quality = length_share(run(by_length=0.0, by_quality=0.5, longer=8.0))
    assert by_quality.low < 0 < by_quality.high
    assert by_quality.high - by_quality.low < 0.3
    assert length_correlation(run(by_length=0.1, by_quality=0.0)).low > 0.5


def test_without_a_gain_there_is_nothing_to_explain():
    assert length_share(run(by_quality=0.0)) is None
    assert length_share(run(length=lambda i, p, rng: np.full(p, 32.0))) is None


# ---- Measures and alerts -----------------------------------------------------------------------------------------


def test_measures_have_intervals_and_leave_out_what_was_not_measured():
    checks = run(shift_p=lambda i, p, rng: rng.random(p), std=lambda i, p, rng: np.full(p, 0.2))
    found = measures(checks[4], checks[0])
    assert set(found) == {
        "proxy", "gold", "kl", "sqrt_kl", "length", "finished", "shifted", "spread", "repetition", "distinct_1",
        "distinct_2", "unique_replies", "proxy_gain", "gold_gain", "length_gain",
    }  # fmt: skip
    assert all(e.low <= e.value <= e.high for e in found.values())
    assert found["sqrt_kl"].value == pytest.approx(math.sqrt(found["kl"].value))
    assert found["gold_gain"].low < hump(2) < found["gold_gain"].high
    assert found["unique_replies"].value == 1
    assert found["unique_replies"].low < 1
    assert not {"gold", "spread", "shifted"} & set(measures(run(None)[0]))


def test_numbers_that_are_not_known_are_left_out_of_a_mean():
    proxy = np.array([1.0, math.nan, 3.0, 5.0])
    found = measures(dataclasses.replace(run(p=4)[0], proxy=proxy))["proxy"]
    assert found.value == 3
    assert found.n == 3


def test_an_honest_run_raises_no_alert():
    steady = run(shift_p=lambda i, p, rng: rng.random(p), std=lambda i, p, rng: 0.2 + 0.01 * rng.random(p))
    assert titles(steady) == set()
    assert titles(steady[:1]) == set()


def test_each_fault_raises_its_alert_and_no_other():
    late = 5
    assert titles(run(longer=20.0)) == {"Replies have grown"}
    assert titles(run(longer=-7.0)) == {"Replies have shrunk"}
    loops = run(texts=lambda i, p, rng: tuple(f"{a} " + "so it is " * (6 * (i > late)) for a in range(p)))
    assert titles(loops) == {"Replies repeat themselves"}
    same = run(texts=lambda i, p, rng: tuple(f"reply {a % (5 if i > late else p)}" for a in range(p)))
    assert titles(same) == {"Different prompts get the same reply"}
    cut = run(finished=lambda i, p, rng: np.full(p, i <= late))
    assert titles(cut) == {"Replies no longer end"}
    apart = run(std=lambda i, p, rng: 0.2 + 1.0 * i + 0.1 * rng.random(p))
    assert titles(apart) == {"The members disagree by more than was gained"}
    away = run(shift_p=lambda i, p, rng: rng.random(p) * (0.2 if i > late else 1.0))
    assert titles(away) == {"Replies have left what the reward model was trained on"}
    ceiling = run(proxy=lambda i, p, rng: rng.normal(size=p) * (0.2 if i > late else 1.0) + i)
    assert titles(ceiling) == {"Every reply gets about the same reward"}


def test_an_alert_names_its_numbers_and_what_to_do():
    (found,) = alerts(run(longer=20.0))
    assert "times" in found.evidence
    assert found.remedy
    assert found.severity == "warning"


# ---- Files -------------------------------------------------------------------------------------------------------


def test_a_check_comes_back_from_its_line_as_it_was(tmp_path):
    odd = run(p=3, shift_p=lambda i, p, rng: rng.random(p))
    odd[1] = dataclasses.replace(odd[1], proxy=np.array([1.0, math.nan, 3.0]), texts=('a\n"b"', "", "\ud800 half"))
    for check in odd:
        append_jsonl(tmp_path / "checks.jsonl", to_row(check))
    back = read_checks(tmp_path / "checks.jsonl")
    assert len(back) == len(odd)
    for one, other in zip(odd, back, strict=True):
        for name in ("update", "kl_coef", "prompts", "texts"):
            assert getattr(one, name) == getattr(other, name)
        for name in ("proxy", "gold", "kl", "length", "finished", "shift_p"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert other.std is None
    assert read_checks(tmp_path / "none.jsonl") == []


def test_the_half_line_of_a_killed_run_is_left_out_and_a_broken_one_before_it_is_not(tmp_path):
    place = tmp_path / "checks.jsonl"
    lines = [json.dumps(to_row(check)) for check in run(p=2, m=3)]
    place.write_text("\n".join(lines)[:-40])
    assert [check.update for check in read_checks(place)] == [0, 10]
    place.write_text("\n".join([lines[0], lines[1][:-40], lines[2]]) + "\n")
    with pytest.raises(GuerdonError, match=r"checks\.jsonl:2"):
        read_checks(place)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"update": -1}, "update must be a count of updates, from 0, got -1"),
        ({"update": True}, "update must be a count"),
        ({"kl_coef": None}, "kl_coef must be a finite number, got nothing"),
        ({"proxy": [1.0]}, "proxy has 1 places for 2 prompts"),
        ({"proxy": None}, "proxy must be a list of numbers"),
        ({"kl": [0.0, "x"]}, r"kl\[1\] must be a finite number, got 'x'"),
        ({"texts": ["a", 3]}, r"texts\[1\] must be text, got 3"),
        ({"finished": [True, 1]}, r"finished\[1\] must be true or false, got 1"),
        ({"prompts": "abc"}, "prompts must be a list of texts"),
        ({"glod": []}, r"glod is not a known field\. Did you mean gold\?"),
    ],
)
def test_a_line_that_is_no_check_is_refused_with_its_key(change, says):
    with pytest.raises(GuerdonError, match=says):
        from_row(to_row(run(p=2, m=1)[0]) | change)


def test_a_missing_key_and_what_is_no_object_are_refused():
    row = to_row(run(p=2, m=1)[0])
    del row["length"]
    with pytest.raises(GuerdonError, match=r"length is missing\. Use the file"):
        from_row(row)
    with pytest.raises(GuerdonError, match="a check must be an object"):
        from_row([1])


def test_checks_of_two_runs_in_one_file_are_refused(tmp_path):
    place = tmp_path / "checks.jsonl"
    for check in (*run(p=2, m=2), *run(p=2, m=1)):
        append_jsonl(place, to_row(check))
    with pytest.raises(GuerdonError, match=r"checks\.jsonl:3: update 0 follows 10"):
        read_checks(place)


def test_checks_of_other_prompts_cannot_be_compared():
    one, other = run(p=9, m=2)
    with pytest.raises(GuerdonError, match="its prompts are not those of check 0"):
        judge([one, dataclasses.replace(other, prompts=other.prompts[::-1])])
    with pytest.raises(GuerdonError, match="shift_p is in some checks"):
        alerts([one, dataclasses.replace(other, shift_p=np.ones(9))])
    with pytest.raises(GuerdonError, match="no prompts; remedy"):
        run(p=0, m=1)
