"""Two thousand damaged inputs; benchmarks/fuzz_importers.py runs as many as you like."""

from __future__ import annotations

from fuzzing import check_input

INPUTS = 2000


def test_no_damaged_input_ends_in_a_traceback_a_lost_row_or_another_text(tmp_path):
    outcomes = [check_input(seed, tmp_path) for seed in range(INPUTS)]
    read = sum(outcome not in ("error", "0") for outcome in outcomes)
    assert INPUTS / 4 < read, "the damage leaves something to read"
    assert INPUTS / 20 < INPUTS - read, "and it is damage"
