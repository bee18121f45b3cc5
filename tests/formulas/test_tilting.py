"""Tilting pools of samples: worked cases, the oracle of normal pools, laws, extremes."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from guerdon.formulas.best_of_n import curve, kl_bound
from guerdon.formulas.tilting import tilt, tilt_frontier, turning_point

CASES = json.loads((Path(__file__).parents[1] / "cases" / "evaluation_golden.json").read_text(encoding="utf-8"))
NS = [int(n) for n in CASES["hump"] if n != "says"]
D = np.sqrt([kl_bound(n) for n in NS])
HUMP = np.array([CASES["hump"][str(n)] for n in NS])


# --- Tilting ------------------------------------------------------------------------------------------------------------


def test_tilting_two_samples_is_worked_by_hand() -> None:
    """Proxy 0 and ln 3 at strength 1: weights 1/4 and 3/4."""
    found = tilt(np.array([0.0, math.log(3)]), np.array([4.0, 0.0]), np.array([0.0, 1.0]))
    assert found.proxy.tolist() == pytest.approx([math.log(3) / 2, 0.75 * math.log(3)])
    assert found.gold.tolist() == pytest.approx([2.0, 1.0])
    assert found.kl.tolist() == pytest.approx([0.0, 0.25 * math.log(0.5) + 0.75 * math.log(1.5)])
    assert found.slope.tolist() == pytest.approx([-math.log(3), -0.75 * math.log(3)])
    assert found.ess.tolist() == pytest.approx([2.0, 1.6])


def test_the_frontier_of_normal_pools_follows_the_oracle() -> None:
    rng = np.random.default_rng(0)
    proxy = rng.normal(size=(100, 4096))
    b = CASES["tilt_oracle"]["b"]
    rows = np.array(CASES["tilt_oracle"]["rows"])
    found = tilt_frontier(proxy, proxy - b * (proxy**2 - 1), rows[:, 0], min_share=0.0, max_bad=1.0)
    assert found.gold == pytest.approx(rows[:, 1], abs=0.04)
    assert found.kl == pytest.approx(rows[:, 2], rel=0.06, abs=1e-12)
    assert found.proxy[:4] == pytest.approx(rows[:4, 0], abs=0.02)
    turn = turning_point(proxy, proxy - b * (proxy**2 - 1), found.strengths)
    assert turn == pytest.approx(1 / (2 * b), rel=0.03)


def test_slope_is_the_derivative_of_gold_and_strength_times_slope_that_of_kl() -> None:
    rng = np.random.default_rng(1)
    proxy, gold = rng.normal(size=50), rng.normal(size=50)
    h, at = 1e-5, np.array([0.3, 1.0, 2.5])
    up, here, down = (tilt(proxy, gold, at + step) for step in (h, 0.0, -h))
    assert (up.gold - down.gold) / (2 * h) == pytest.approx(here.slope, rel=1e-6)
    of_proxy = tilt(proxy, proxy, at).slope
    assert (up.kl - down.kl) / (2 * h) == pytest.approx(at * of_proxy, rel=1e-6)
    assert (up.proxy - down.proxy) / (2 * h) == pytest.approx(of_proxy, rel=1e-6)


def test_a_shift_of_the_proxy_changes_no_tilt_and_a_scale_is_a_strength() -> None:
    rng = np.random.default_rng(2)
    proxy, gold, strengths = rng.normal(size=40), rng.normal(size=40), np.array([0.0, 0.5, 2.0])
    here, far, scaled = (
        tilt(proxy, gold, strengths), tilt(proxy + 1e4, gold, strengths), tilt(4 * proxy, gold, strengths / 4)
    )  # fmt: skip
    for other in (far, scaled):
        assert other.gold == pytest.approx(here.gold)
        assert other.kl == pytest.approx(here.kl, abs=1e-9)
        assert other.ess == pytest.approx(here.ess)


def test_the_kl_of_a_tilt_is_at_most_log_n_and_an_infinite_strength_takes_the_best() -> None:
    rng = np.random.default_rng(3)
    proxy, gold = rng.normal(size=16), rng.normal(size=16)
    found = tilt(proxy, gold, np.array([1.0, 1e3, 1e6]))
    assert (found.kl <= math.log(16) + 1e-12).all()
    assert found.kl[-1] == pytest.approx(math.log(16))
    assert found.gold[-1] == pytest.approx(gold[proxy.argmax()])
    assert found.ess[-1] == pytest.approx(1.0)


def test_the_frontier_is_the_mean_over_prompts() -> None:
    rng = np.random.default_rng(4)
    proxy, gold, strengths = rng.normal(size=(3, 64)), rng.normal(size=(3, 64)), np.array([0.0, 0.4])
    found = tilt_frontier(proxy, gold, strengths)
    alone = [tilt(proxy[i], gold[i], strengths) for i in range(3)]
    assert found.by_prompt.kl.shape == (3, 2)
    for name in ("proxy", "gold", "kl", "slope"):
        each = np.array([getattr(prompt, name) for prompt in alone])
        assert getattr(found.by_prompt, name) == pytest.approx(each)
        assert getattr(found, name) == pytest.approx(each.mean(axis=0))
    assert not found.exhausted


def test_the_frontier_stops_where_the_samples_run_out() -> None:
    rng = np.random.default_rng(5)
    proxy = rng.normal(size=(50, 400))
    strengths = np.linspace(0.0, 5.0, 51)
    found = tilt_frontier(proxy, proxy, strengths)
    assert found.exhausted
    assert 0 < len(found.strengths) < 51
    bad = np.mean(found.by_prompt.ess < 20, axis=0)
    assert (bad <= 0.10).all()
    beyond = tilt_frontier(proxy, proxy, strengths, min_share=0.0, max_bad=1.0)
    assert not beyond.exhausted
    assert np.mean(beyond.by_prompt.ess[:, len(found.strengths)] < 20) > 0.10


def test_pools_too_small_to_tilt_give_an_empty_frontier() -> None:
    found = tilt_frontier(np.zeros((4, 9)), np.zeros((4, 9)), np.array([0.0, 1.0]))
    assert found.exhausted
    assert found.gold.shape == (0,)
    assert found.by_prompt.gold.shape == (4, 0)


def test_invalid_scores_and_strengths_are_refused() -> None:
    for strengths in ([1.0, 0.5], [-1.0, 0.5], [1.0, 1.0]):
        with pytest.raises(ValueError, match="at least 0 and ascending"):
            tilt_frontier(np.zeros((1, 20)), np.zeros((1, 20)), np.array(strengths))
    with pytest.raises(ValueError, match="scores must be finite"):
        tilt_frontier(np.full((1, 20), math.nan), np.zeros((1, 20)), np.array([1.0]))


def test_a_minimum_a_flat_line_and_a_steady_rise_have_no_turning_point() -> None:
    proxy = np.random.default_rng(6).normal(size=(30, 500))
    strengths = np.linspace(0.0, 2.0, 21)
    assert turning_point(proxy, -(proxy - 0.3 * (proxy**2 - 1)), strengths) is None
    assert turning_point(proxy, proxy, strengths) is None
    assert turning_point(proxy, np.zeros_like(proxy), strengths) is None


def test_tilting_and_best_of_n_agree_on_gold_for_the_same_proxy() -> None:
    """Where gold is a line of the proxy plus independent noise, either moves along the line."""
    rng = np.random.default_rng(7)
    proxy = rng.normal(size=(200, 1024))
    gold = 0.5 * proxy + rng.normal(size=proxy.shape)
    best, best_gold = (curve(proxy, scores, (2, 4)).mean(axis=0) for scores in (proxy, gold))
    tilted = tilt_frontier(proxy, gold, np.array([0.5, 1.0]))
    assert best_gold / best == pytest.approx([0.5, 0.5], abs=0.02)
    assert tilted.gold / tilted.proxy == pytest.approx([0.5, 0.5], abs=0.02)
