"""Runs and pools with a planted truth about the reward: where gold turns, how much is length, what RL would have done."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from guerdon.auditing.overoptimization import Trajectory, measure_pool, measure_run
from guerdon.contracts import Finding, GuerdonError, Response, Rollouts, as_prompt
from guerdon.formulas.overoptimization import rl_law
from guerdon.io.reports import from_json, to_json
from guerdon.reporting import to_html, to_markdown

DISTANCE = np.linspace(0, 5, 11)
DRAWS = 400
TURNS = math.exp(1.5 / 1.0 - 1)  # d of the peak of d (1.5 - log d)


def by_rl_law(d):
    return rl_law(d, 1.5, 1.0)


def run(gold=by_rl_law, p=100, seed=0, *, by_length=0.0, by_quality=0.4, longer=5.0, noise=0.4):
    """A run whose gold follows a curve of √KL, whose proxy rises by quality and by length."""
    rng = np.random.default_rng(seed)
    m, level, step = len(DISTANCE), rng.normal(size=p), np.arange(len(DISTANCE))[:, None]
    length = 60 + 10 * level + longer * step + 6 * rng.normal(size=(m, p))
    judged = None if gold is None else level + gold(DISTANCE)[:, None] + noise * rng.normal(size=(m, p))
    return Trajectory(
        updates=tuple(range(0, 10 * m, 10)),
        names=tuple(f"{i}" for i in range(p)),
        proxy=level + by_quality * step + by_length * length + 0.3 * rng.normal(size=(m, p)),
        kl=np.square(DISTANCE)[:, None] * (1 + 0.2 * rng.normal(size=(m, p))),
        length=length,
        gold=judged,
        texts=[[f"reply {i} at {check}" for i in range(p)] for check in range(m)],
        prompts=[as_prompt(f"question {i}") for i in range(p)],
    )


def pool(gold, p=60, size=1024, seed=0, error=None):
    """A standard normal proxy with gold a function of it, or a standard normal gold with the proxy gold plus an error."""
    rng = np.random.default_rng(seed)
    base, level = rng.normal(size=(p, size)), rng.normal(size=(p, 1))
    proxy, judged = (base, gold(base)) if error is None else (base + error(rng, (p, size)), base)
    return rollouts(proxy + level, gold=judged + level)


def rollouts(rewards, texts=None, **tables):
    """Rollouts from tables [prompts, N]."""
    p, n = rewards.shape
    texts = texts or [[f"reply {j}" for j in range(n)] for _ in range(p)]
    return Rollouts(
        tuple(as_prompt(f"question {i}") for i in range(p) for _ in range(n)),
        tuple(Response(text) for row in texts for text in row),
        samples=n,
        reward=rewards.ravel(),
        **{name: table.ravel() for name, table in tables.items()},
    )


def hump(s):
    return s - 0.3 * (s**2 - 1)


def tilted_run(strengths, p=200, seed=0, lost=0.0):
    """The run that does exactly what tilting the hump's world does: KL = λ²/2, proxy λ, gold λ - 0.3 λ²."""
    rng, m = np.random.default_rng(seed), len(strengths)
    strengths = np.asarray(strengths, dtype=np.float64)[:, None]
    noise = rng.normal(size=(2, m, p)) * 0.3
    return Trajectory(
        tuple(range(m)),
        tuple(f"{i}" for i in range(p)),
        strengths + noise[0],
        np.broadcast_to(strengths**2 / 2, (m, p)),
        np.full((m, p), 30.0),
        strengths - 0.3 * strengths**2 - lost * strengths + noise[1],
    )


def titles(report, severity=None):
    return [finding.title for finding in report.findings if severity in (None, finding.severity)]


# ---- Runs --------------------------------------------------------------------------------------------------------


def test_a_hump_is_over_optimized_and_the_interval_of_its_peak_covers_the_truth():
    report = measure_run(run(), draws=DRAWS)
    assert report.findings[0].title.startswith("Over-optimized since KL = ")
    assert report.findings[0].severity == "warning"
    assert "best by gold (update 30)" in report.findings[0].remedy
    assert report.summary == report.findings[0].title + "."
    peak = report.estimates["peak_kl"]
    assert peak.low < TURNS**2 < peak.high
    assert peak.high < 5
    assert report.estimates["peak_gold"].low < by_rl_law(np.array([TURNS]))[0] < report.estimates["peak_gold"].high
    assert report.estimates["law_alpha"].low < 1.5 < report.estimates["law_alpha"].high
    assert report.estimates["gold_drop"].low > 0
    assert report.estimates["gold_per_proxy_late"].high < 0
    assert "At the end gold falls as the proxy rises" in titles(report, "warning")


def test_a_steady_rise_is_fine_and_has_no_peak():
    report = measure_run(run(lambda d: d), draws=DRAWS)
    assert report.findings[0].title.startswith("Fine up to KL = ")
    assert titles(report, "warning") == []
    assert not {"peak_kl", "peak_gold"} & set(report.estimates)
    assert any(title.startswith("No peak observed up to KL = ") for title in titles(report, "note"))
    assert "No peak observed up to KL = " in report.curves["gold_by_kl"].caption


def test_a_law_that_fits_better_is_named():
    report = measure_run(run(lambda d: d * (2 - 0.5 * d), noise=0.1), draws=DRAWS)
    assert "d (α - β d) fits these points better" in report.curves["gold_by_kl"].caption


def test_a_gain_in_length_is_reported_and_a_gain_in_quality_is_not():
    by_length = measure_run(run(lambda d: d, by_length=0.1, by_quality=0.0), draws=DRAWS)
    assert by_length.estimates["length_share"].low < 1 < by_length.estimates["length_share"].high
    assert "Most of the gain is length" in titles(by_length, "warning")
    by_quality = measure_run(run(lambda d: d, by_length=0.0), draws=DRAWS)
    assert by_quality.estimates["length_share"].low < 0 < by_quality.estimates["length_share"].high
    assert "Most of the gain is length" not in titles(by_quality)


def test_the_share_of_length_is_narrow_enough_to_tell_length_from_quality():
    by_length = measure_run(run(lambda d: d, p=80, by_length=0.1, by_quality=0.0, longer=8.0), draws=DRAWS).estimates
    assert by_length["length_share"].low < 1 < by_length["length_share"].high
    assert by_length["length_share"].high - by_length["length_share"].low < 0.3
    assert by_length["length_correlation"].low > 0.5
    by_quality = measure_run(run(lambda d: d, p=80, by_quality=0.5, longer=8.0), draws=DRAWS).estimates["length_share"]
    assert by_quality.low < 0 < by_quality.high
    assert by_quality.high - by_quality.low < 0.3


def test_without_a_gain_or_without_a_change_of_length_there_is_no_share_of_length():
    assert "length_share" not in measure_run(run(by_quality=0.0), draws=DRAWS).estimates
    steady = dataclasses.replace(run(), length=np.full((len(DISTANCE), 100), 32.0))
    assert not {"length_share", "length_correlation"} & set(measure_run(steady, draws=DRAWS).estimates)


def test_without_gold_nothing_is_concluded():
    alert = Finding("warning", "Replies have grown", "a lot", "read them")
    report = measure_run(run(None), alerts=[alert], draws=DRAWS)
    assert report.findings[0].title == "Without a gold judge nothing can be concluded"
    assert report.findings[1] == alert
    assert set(report.curves) == {"proxy_by_kl", "length_by_kl"}
    assert "gold_gain" not in report.estimates


def test_three_prompts_are_insufficient():
    report = measure_run(run(p=3), draws=DRAWS)
    assert report.findings[0].title.startswith("Not enough evidence for a trend: 3 prompts")
    assert "more prompts" in report.findings[0].remedy
    alone = measure_run(run(p=1), draws=DRAWS)
    assert math.isnan(alone.estimates["proxy_gain"].low)


def test_incomplete_prompts_are_left_out_and_counted():
    whole = run()
    gold = whole.gold.copy()
    gold[3, :20] = math.nan
    report = measure_run(dataclasses.replace(whole, gold=gold), draws=DRAWS)
    assert report.about["prompts left out"].startswith("20 of 100")
    assert report.estimates["gold_gain"].n == 80
    assert report.findings[0].title.startswith("Over-optimized")


def test_checks_are_sorted_by_kl():
    whole = run()
    turned = [0, *range(10, 0, -1)]
    mixed = dataclasses.replace(
        whole, **{name: getattr(whole, name)[turned] for name in ("proxy", "kl", "length", "gold")}
    )
    one, other = (measure_run(each, draws=DRAWS) for each in (whole, mixed))
    assert one.findings[0].title == other.findings[0].title
    assert list(other.curves["gold_by_kl"].x) == sorted(other.curves["gold_by_kl"].x)


def test_examples_are_from_the_first_the_best_and_the_last_check():
    report = measure_run(run(), draws=DRAWS)
    assert len(report.examples) == 3
    shown = report.examples[0]
    assert shown.title == "Where gold fell most"
    assert [label.split(",")[0] for label in shown.labels] == ["first check", "best by gold check", "last check"]
    assert [response.text.split(" at ")[1] for response in shown.responses] == ["0", "3", "10"]
    assert shown.prompt[0].content.removeprefix("question ") == shown.responses[0].text.split()[1]
    rising = measure_run(run(lambda d: d), draws=DRAWS).examples[0]
    assert len(rising.responses) == 2


def test_a_run_that_cannot_be_measured_is_refused():
    whole = run()
    with pytest.raises(GuerdonError, match="Check the initial policy first"):
        measure_run(dataclasses.replace(whole, updates=tuple(range(5, 16))))
    one = {name: getattr(whole, name)[:1] for name in ("proxy", "kl", "length", "gold")}
    with pytest.raises(GuerdonError, match="must have at least two checks, got 1"):
        measure_run(dataclasses.replace(whole, updates=(0,), **one))
    with pytest.raises(
        GuerdonError, match=r"gold must have shape \(11, 100\) for 11 checks of 100 prompts, got \(1, 100\)"
    ):
        dataclasses.replace(whole, gold=one["gold"])
    with pytest.raises(
        GuerdonError, match="some prompt must have every number at the first check and a later one, got none"
    ):
        measure_run(dataclasses.replace(whole, proxy=np.full_like(whole.proxy, math.nan)))


# ---- Pools -------------------------------------------------------------------------------------------------------


def test_a_gaussian_hump_turns_at_the_known_kl():
    report = measure_pool(pool(hump), draws=DRAWS)
    assert report.findings[0].title.startswith("Over-optimized since KL = ")
    peak = report.estimates["peak_kl"]
    assert peak.low < 1.34**2 < peak.high  # least squares on the exact curve
    assert peak.high - peak.low < 1
    assert report.about["KL from"].startswith("the bound")


def test_the_forecast_turns_at_the_known_kl_penalty():
    report = measure_pool(pool(lambda s: s - 0.5 * (s**2 - 1)), draws=DRAWS)
    (turn,) = [f for f in report.findings if "is forecast to lose gold" in f.title]
    told = float(turn.evidence.split("β = ")[1].split(",")[0])
    assert told == pytest.approx(1.0, abs=0.1)  # λ* = 1 / (2 b)


def test_a_proxy_with_a_heavy_tail_is_over_optimized():
    report = measure_pool(pool(None, size=4096, error=lambda rng, s: rng.standard_t(2, size=s)), draws=DRAWS)
    assert report.findings[0].title.startswith("Over-optimized since KL = ")
    assert report.estimates["gold_drop"].low > 0.3
    assert report.about["largest n"] == "1024"


def test_a_proxy_with_a_light_tail_is_not_over_optimized():
    report = measure_pool(pool(None, error=lambda rng, s: rng.normal(size=s)), draws=DRAWS)
    assert not report.findings[0].title.startswith("Over-optimized")
    assert "The forecast of RL does not turn within reach of the pool" in titles(report)
    assert "peak_kl" not in report.estimates


def test_repeated_replies_lower_the_kl():
    apart = pool(lambda s: s, p=20, size=64)
    same = dataclasses.replace(
        apart,
        responses=tuple(Response(f"{j // 16}") for _ in range(20) for j in range(64)),
        reward=np.tile(np.repeat(np.arange(4.0), 16), 20),
    )
    one, other = (measure_pool(each, draws=DRAWS) for each in (apart, same))
    assert other.about["KL from"].startswith("counts of equal replies")
    assert other.curves["proxy_by_kl"].x[-1] < 0.9 * one.curves["proxy_by_kl"].x[-1]
    known = measure_pool(dataclasses.replace(same, log_prob=np.full(20 * 64, -50.0)), draws=DRAWS)
    assert known.about["KL from"].startswith("log-probabilities")
    assert known.curves["proxy_by_kl"].x == pytest.approx(one.curves["proxy_by_kl"].x)


def test_a_pool_without_gold_and_one_of_three_prompts():
    whole = pool(hump, p=3, size=64)
    few = measure_pool(whole, draws=DRAWS)
    assert few.findings[0].title.startswith("Not enough evidence for a trend: 3 prompts")
    blind = measure_pool(dataclasses.replace(whole, gold=None), draws=DRAWS)
    assert blind.findings[0].title == "Without a gold judge nothing can be concluded"
    assert blind.examples == ()


def drifting(p=40, size=64, *, longer=0.0, apart=0.0, outside=0.0, stuck=0.0, quality=1.0):
    """A pool whose proxy is quality, plus as much of each fault as given."""
    rng = np.random.default_rng(3)
    good, faulty = rng.normal(size=(p, size)), rng.normal(size=(p, size))
    words = np.round(30 + 8 * (faulty if longer else rng.normal(size=(p, size)))).clip(8)
    texts = [
        ["go on and on " * int(n) if stuck and f > 1 else " ".join(map(str, rng.integers(0, 10**6, int(n)))) for n, f in row]
        for row in (zip(a, b, strict=True) for a, b in zip(words, faulty, strict=True))
    ]  # fmt: skip
    return rollouts(
        quality * good + (longer + apart + outside + stuck) * faulty,
        texts,
        std=0.1 + apart * 3 * np.exp(faulty),
        shift_p=np.where(faulty > 1, 0.01, 0.5) if outside else rng.uniform(size=(p, size)),
    )


@pytest.mark.parametrize(
    ("fault", "title"),
    [
        ({"longer": 1.0, "quality": 0.1}, "Most of the gain is length"),
        ({"apart": 1.0}, "The members disagree by more than was gained"),
        ({"outside": 1.0}, "The chosen replies have left what the reward model was trained on"),
        ({"stuck": 1.0}, "The chosen replies repeat themselves"),
        ({}, None),
    ],
)
def test_each_drift_of_the_chosen_replies_is_reported_and_quality_is_not(fault, title):
    report = measure_pool(drifting(**fault), draws=DRAWS)
    assert [t for t in titles(report, "warning") if "gold" not in t] == ([] if title is None else [title])
    assert {"length_by_kl", "repetition_by_kl", "spread_by_kl", "shifted_by_kl"} <= report.curves.keys()
    if title is None:
        assert report.estimates["shifted"].low < 0.05 < report.estimates["shifted"].high


@pytest.mark.parametrize("constant", [1.0, 0.7, 3.3])
def test_a_constant_gold_neither_rises_nor_falls(constant):
    report = measure_pool(pool(lambda s: np.full_like(s, constant), p=20, size=64), draws=DRAWS)
    assert report.findings[0].title.startswith("Not enough evidence for a trend: up to KL")
    assert [report.estimates[name].value for name in ("gold_gain", "gold_drop", "falling_prompts")] == [0, 0, 0]


def test_equal_prompts_count_once():
    whole = pool(hump, p=20, size=64)
    prompts = tuple(as_prompt(f"{i // 2}") for i in range(20) for _ in range(64))
    report = measure_pool(dataclasses.replace(whole, prompts=prompts), draws=DRAWS)
    assert report.estimates["gold_gain"].n == 10


def test_a_pool_that_cannot_be_measured_is_refused():
    whole = pool(hump, p=4, size=16)
    with pytest.raises(GuerdonError, match="most_n must be from 1 to its 16 replies per prompt, got 17"):
        measure_pool(whole, most_n=17)
    with pytest.raises(GuerdonError, match=r"8 or more replies per prompt for a curve, got 4\. Draw more"):
        measure_pool(pool(hump, p=4, size=4))
    with pytest.raises(GuerdonError, match="gold must be finite for every reply, got nan"):
        measure_pool(dataclasses.replace(whole, gold=np.full(64, math.nan)))
    with pytest.raises(GuerdonError, match="must have at least one prompt, got none"):
        measure_pool(whole.select([]))
    with pytest.raises(GuerdonError, match="reward must be measured first"):
        measure_pool(dataclasses.replace(whole, reward=None))


# ---- The forecast beside the run ---------------------------------------------------------------------------------


def test_a_run_as_forecast_has_no_forecast_error():
    report = measure_run(tilted_run([0, 0.4, 0.8, 1.2, 1.6]), pool(hump), draws=DRAWS)
    error = report.estimates["forecast_error"]
    assert error.low < 0 < error.high
    assert error.high - error.low < 0.4
    assert report.estimates["forecast_gold"].value == pytest.approx(1.6 - 0.3 * 1.6**2, abs=0.1)
    assert "The run got the gold that the pool forecast" in titles(report, "note")
    assert {"gold_by_proxy", "gold_by_proxy_forecast", "gold_by_proxy_best_of_n"} <= set(report.curves)
    assert report.sections[0].title.endswith("best of n")


def test_a_run_that_exploits_new_errors_gets_less_than_forecast():
    report = measure_run(tilted_run([0, 0.4, 0.8, 1.2, 1.6], lost=0.3), pool(hump), draws=DRAWS)
    assert report.estimates["forecast_error"].high < 0
    assert any(title.startswith("The run got less gold than the pool forecast") for title in titles(report, "warning"))


def test_the_forecast_is_compared_only_within_its_reach():
    report = measure_run(tilted_run([0, 0.5, 1.0, 4.0, 9.0]), pool(hump, size=64), draws=DRAWS)
    (finding,) = [f for f in report.findings if "forecast" in f.title and "measured less forecast" in f.evidence]
    assert "at update 2," in finding.evidence
    far = measure_run(tilted_run([0, 6.0, 9.0]), pool(hump, size=64), draws=DRAWS)
    assert "forecast_error" not in far.estimates


# ---- The page ----------------------------------------------------------------------------------------------------


def test_the_report_is_the_same_in_json_and_html_and_again():
    report = measure_run(run(), pool(hump, p=20, size=64), draws=DRAWS)
    assert to_json(from_json(to_json(report))) == to_json(report)
    decision, _, reason = report.findings[0].title.partition(": ")
    page = to_html(report)
    assert f'<p class="decision">{decision}</p>' in page
    assert page.count(f"{reason[1:]}.") == 1  # in the decision, and not once more among the findings
    assert "Over-optimized since" in to_markdown(report)
    again = measure_run(run(), pool(hump, p=20, size=64), draws=DRAWS)
    assert to_html(again) == to_html(report)


def test_a_run_that_changed_nothing_is_flat():
    still = run(lambda d: 0 * d, by_quality=0.0, longer=0.0, noise=0.0)
    flat = measure_run(still, draws=DRAWS)
    assert flat.findings[0].title.startswith("Not enough evidence for a trend")
    assert not {"length_share", "gold_per_proxy"} & set(flat.estimates)
    stuck = measure_run(dataclasses.replace(still, kl=np.zeros_like(still.kl)), draws=DRAWS)
    assert "all points are at the same KL" in stuck.findings[0].title
    assert to_markdown(stuck)
