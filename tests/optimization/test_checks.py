"""A check is read back as it was written; rows that are no check, and checks that cannot be compared, are refused."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from planted_checks import planted_checks

from guerdon.contracts import GuerdonError
from guerdon.io.writers import append_jsonl
from guerdon.optimization.alerts import alerts
from guerdon.optimization.checks import from_row, read_checks, to_row
from guerdon.optimization.monitor import assess_reward


def test_a_check_is_read_back_as_it_was_written(tmp_path):
    odd = planted_checks(p=3, shift_p=lambda i, p, rng: rng.random(p))
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


def test_a_partial_last_line_is_left_out_and_a_broken_line_before_it_is_an_error(tmp_path):
    path = tmp_path / "checks.jsonl"
    lines = [json.dumps(to_row(check)) for check in planted_checks(p=2, m=3)]
    path.write_text("\n".join(lines)[:-40])
    assert [check.update for check in read_checks(path)] == [0, 10]
    path.write_text("\n".join([lines[0], lines[1][:-40], lines[2]]) + "\n")
    with pytest.raises(GuerdonError, match=r"checks\.jsonl:2"):
        read_checks(path)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"update": -1}, "update must be a count of updates, from 0, got -1"),
        ({"update": True}, "update must be a count"),
        ({"kl_coef": None}, "kl_coef must be a finite number, got nothing"),
        ({"proxy": [1.0]}, "proxy must have one entry for each of 2 prompts, got 1"),
        ({"proxy": None}, "proxy must be a list of numbers"),
        ({"kl": [0.0, "x"]}, r"kl\[1\] must be a finite number, got 'x'"),
        ({"texts": ["a", 3]}, r"texts\[1\] must be text, got 3"),
        ({"finished": [True, 1]}, r"finished\[1\] must be true or false, got 1"),
        ({"prompts": "abc"}, "prompts must be a list of texts"),
        ({"glod": []}, r"glod is not a known field\. Did you mean gold\?"),
    ],
)
def test_an_invalid_key_is_named(change, error):
    with pytest.raises(GuerdonError, match=error):
        from_row(to_row(planted_checks(p=2, m=1)[0]) | change)


def test_a_missing_key_and_a_row_that_is_no_object_are_refused():
    row = to_row(planted_checks(p=2, m=1)[0])
    del row["length"]
    with pytest.raises(GuerdonError, match=r"length is missing\. Use the file"):
        from_row(row)
    with pytest.raises(GuerdonError, match="a check must be an object"):
        from_row([1])


def test_checks_of_two_runs_in_one_file_are_refused(tmp_path):
    path = tmp_path / "checks.jsonl"
    for check in (*planted_checks(p=2, m=2), *planted_checks(p=2, m=1)):
        append_jsonl(path, to_row(check))
    with pytest.raises(GuerdonError, match=r"checks\.jsonl:3: update must be above 10, got 0\. Keep one run per file"):
        read_checks(path)


def test_checks_of_different_prompts_or_columns_are_refused():
    one, other = planted_checks(p=9, m=2)
    with pytest.raises(GuerdonError, match="check 10: prompts must be those of check 0"):
        assess_reward([one, dataclasses.replace(other, prompts=other.prompts[::-1])])
    with pytest.raises(GuerdonError, match="shift_p must be in all checks or in none"):
        alerts([one, dataclasses.replace(other, shift_p=np.ones(9))])
    with pytest.raises(GuerdonError, match="must have at least one prompt, got none"):
        planted_checks(p=0, m=1)
