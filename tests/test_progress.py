"""Progress is a line now and then where there is no terminal, and nothing where it is off."""

from __future__ import annotations

import pytest

from guerdon import progress
from guerdon.progress import ProgressBar


@pytest.fixture(autouse=True)
def audible():
    was_quiet = progress.set_quiet(False)
    yield
    progress.set_quiet(was_quiet)


@pytest.mark.parametrize(("total", "line"), [(None, "score: 8 rows, "), (16, "score: 8/16 rows, ")])
def test_progress_is_plain_lines_where_there_is_no_terminal(capsys, total, line):
    with ProgressBar(total, "score", "rows", interval=0) as bar:
        bar.advance(8, loss=0.123456, name="x")
    written = capsys.readouterr().err
    assert written.startswith(line)
    assert written.endswith("loss=0.1235 name=x\n")
    assert not bar.is_on_terminal


def test_a_stage_may_count_more_than_it_was_given(capsys):
    with ProgressBar(10, "audit", "comparisons", interval=0) as bar:
        bar.update(4, 12)
        bar.update(12, 12)
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "audit: 4/12 comparisons",
        "audit: 12/12 comparisons",
    ]


def test_the_rate_leaves_out_what_an_earlier_run_did(capsys):
    with ProgressBar(None, "score", "rows", initial=10**9, interval=0) as bar:
        bar.start_time -= 1000
        bar.advance(1)
    assert "score: 1000000001 rows, 0.001/s" in capsys.readouterr().err


def test_lines_are_an_interval_apart(capsys):
    with ProgressBar(3, "train", interval=3600) as bar:
        bar.advance()
        bar.advance()
    assert capsys.readouterr().err == ""


def test_nothing_is_shown_where_progress_is_off(capsys):
    assert progress.set_quiet() is False
    assert progress.is_quiet()
    with ProgressBar(3, "train", interval=0) as bar:
        bar.advance()
    progress.note("a note")
    assert capsys.readouterr().err == ""
    assert progress.set_quiet(False) is True
    progress.note("a note")
    assert capsys.readouterr().err == "a note\n"


def test_a_line_before_anything_is_done_names_no_time_that_is_left(capsys):
    with ProgressBar(3, "sample", interval=0) as bar:
        bar.update(0, 3)
    assert capsys.readouterr().err.startswith("sample: 0/3 it, 0/s\n")
