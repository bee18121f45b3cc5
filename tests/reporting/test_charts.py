"""Drawings."""

from __future__ import annotations

import re

from sample_reports import SURE

from guerdon.contracts import Curve
from guerdon.reporting.charts import chart_svg


def test_a_curve_of_names_stands_in_rows_with_the_names_whole():
    names = ("bullets and bold headings", "flattery in the first sentence", "over-confidence")
    svg = chart_svg(Curve((0.0, 1.0, 2.0), (SURE,) * 3, "cue", "effect", kind="points", x_names=names), "cues")
    assert all(name in svg for name in names)
    assert svg.index(names[0]) < svg.index(names[2])


def test_an_axis_of_counts_has_no_tick_between_whole_numbers():
    labels = re.findall(r">([0-9.]+)</text>", chart_svg(Curve((1.0, 2.0), (SURE,) * 2, "round", "accuracy"), "rounds"))
    assert labels == ["1", "2"]  # those of shares end in %
    assert ">1.2<" in chart_svg(Curve((1.0, 1.5, 2.0), (SURE,) * 3, "nats", "accuracy"), "drift")
