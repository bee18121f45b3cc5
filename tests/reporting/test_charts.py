"""Drawings."""

from __future__ import annotations

from sample_reports import SURE

from guerdon.contracts import Curve
from guerdon.reporting.charts import chart_svg


def test_a_curve_of_names_stands_in_rows_with_the_names_whole():
    names = ("bullets and bold headings", "flattery in the first sentence", "over-confidence")
    svg = chart_svg(Curve((0.0, 1.0, 2.0), (SURE,) * 3, "cue", "effect", kind="points", x_names=names), "cues")
    assert all(name in svg for name in names)
    assert svg.index(names[0]) < svg.index(names[2])
