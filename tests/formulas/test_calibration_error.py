"""The calibration error without noise: simulations with errors that are known, and laws."""

import math

import numpy as np
import pytest
from scipy.special import expit

from guerdon.formulas import calibration_error as error_module
from guerdon.formulas.calibration import ece
from guerdon.formulas.calibration_error import calibration_error, debiased_error


def drawn(n: int, temperature: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Margins, and labels of people whose odds are the margins' over the temperature."""
    margin = rng.normal(1, 2, n)
    return margin, (rng.random(n) < expit(margin / temperature)).astype(float)


def true_error(temperature: float) -> float:
    size = np.abs(np.random.default_rng(0).normal(1, 2, 400_000))
    return math.sqrt(np.mean((expit(size) - expit(size / temperature)) ** 2))


@pytest.mark.parametrize("temperature", [1.0, 1.3, 2.0])
@pytest.mark.parametrize("n", [100, 350, 2000])
def test_the_interval_holds_the_true_error(n: int, temperature: float) -> None:
    """80 simulations: a coverage of .95 has a standard deviation of .024."""
    rng = np.random.default_rng(n)
    truth, covered, values = true_error(temperature), 0, []
    for _ in range(80):
        found = calibration_error(*drawn(n, temperature, rng), np.arange(n))
        covered += found.low <= truth <= found.high
        values.append(found.value)
    assert covered >= 71
    assert np.mean(values) == pytest.approx(truth, abs=0.03 if n == 100 else 0.02)


def test_the_uncorrected_error_is_not_the_true_one() -> None:
    """What was reported before: at 350 pairs of calibrated odds the mean distance is several points."""
    margin, q = drawn(350, 1.0, np.random.default_rng(1))
    assert ece(margin, q) > 0.03
    assert calibration_error(margin, q, np.arange(350)).low == 0.0


def test_pairs_of_one_prompt_are_not_independent() -> None:
    rng = np.random.default_rng(2)
    margin, q = drawn(200, 1.0, rng)
    repeated = calibration_error(np.repeat(margin, 5), np.repeat(q, 5), np.repeat(np.arange(200), 5))
    alone = calibration_error(np.repeat(margin, 5), np.repeat(q, 5), np.arange(1000))
    assert repeated.low == 0.0
    assert repeated.n == 200
    assert repeated.high - repeated.low > alone.high - alone.low
    assert debiased_error(np.repeat(margin, 5), np.repeat(q, 5), np.repeat(np.arange(200), 5)) == repeated.value


def test_swapping_the_responses_changes_nothing() -> None:
    margin, q = drawn(150, 2.0, np.random.default_rng(3))
    side = np.where(np.random.default_rng(4).random(150) < 0.5, 1.0, -1.0)
    turned = calibration_error(side * margin, np.where(side > 0, q, 1 - q), np.arange(150))
    assert turned == pytest.approx(calibration_error(margin, q, np.arange(150)))


def test_degenerate_tables_have_no_interval_or_no_error() -> None:
    assert math.isnan(calibration_error(np.ones(3), np.ones(3), np.zeros(3)).low)
    assert math.isnan(debiased_error(np.zeros(0), np.zeros(0), np.zeros(0)))
    undecided = calibration_error(np.zeros(30), np.tile([0.0, 1.0], 15), np.arange(30))
    assert (undecided.value, undecided.low, undecided.high) == (0.0, 0.0, 0.0)
    wrong = calibration_error(np.full(300, 6.0), np.zeros(300), np.arange(300))
    assert 0.95 < wrong.low < wrong.high <= 1.0


def test_labels_that_happen_to_be_alike_in_a_bin_are_as_uncertain_as_their_votes():
    """Two votes to one for every pair of a bin: the labels do not vary, and are known from three votes each."""
    margin, q = np.tile([1.0, 2.0], 30), np.tile([2 / 3, 1.0], 30)
    found = calibration_error(margin, q, np.arange(60), votes=np.full(60, 3))
    assert found.high - found.low > 0.05
    assert found.low <= found.value <= found.high
    more = calibration_error(margin, q, np.arange(60), votes=np.full(60, 300))
    assert more.high - more.low < (found.high - found.low) / 3


def test_an_error_that_is_many_times_its_noise_has_a_finite_interval():
    margin, q = np.tile([2.0, 1.0], 20), np.tile([1.0, 2 / 3], 20)
    for votes in (None, np.full(40, 10**9)):
        found = calibration_error(margin, q, np.arange(40), votes=votes)
        assert 0 <= found.low <= found.value <= found.high <= 1


def test_the_normal_limit_joins_the_noncentral_distribution(monkeypatch):
    rng = np.random.default_rng(3)
    margin = np.full(3000, 1.0)
    q = (rng.random(3000) < 0.05).astype(float)
    exact = calibration_error(margin, q, np.arange(3000))
    monkeypatch.setattr(error_module, "MAX_OBSERVED", 1.0)
    assert calibration_error(margin, q, np.arange(3000)) == pytest.approx(exact, rel=2e-3)
