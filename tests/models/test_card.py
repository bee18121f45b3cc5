"""A calibration as plain values: read back as it was, and refused by the name of what is wrong."""

from __future__ import annotations

import pytest

from guerdon.contracts import (
    GuerdonError,
)
from guerdon.models.card import Calibration


def test_a_calibration_survives_a_round_trip():
    calibration = Calibration(2.5, -1.0, 0.7, {"policy": "toy", "n": 4})
    assert Calibration.from_dict(calibration.as_dict()) == calibration


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temprature": 1.0}, "unknown key 'temprature'"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"temperature": "2"}, "temperature must be a finite number, got '2'"),
        ({"reference_spread": float("nan")}, "reference_spread must be a finite number, got nan"),
        ({"provenance": "toy"}, "provenance must be an object, got 'toy'"),
    ],
)
def test_a_bad_calibration_is_refused_by_name(change, message):
    with pytest.raises(GuerdonError, match=message):
        Calibration.from_dict(Calibration().as_dict() | change)


def test_a_missing_key_is_refused_by_name():
    values = Calibration().as_dict()
    del values["reference_mean"]
    with pytest.raises(GuerdonError, match="reference_mean is missing"):
        Calibration.from_dict(values)
