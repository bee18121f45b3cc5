"""A judge that is killed at any moment and started again ends with the same calls as one that never was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import sqlalchemy as sa
from judge_server import JudgeServer, completion, misbehaving, share

from guerdon.store import tables
from guerdon.store.calls import open_call_log

SCRIPT = Path(__file__).with_name("killed_judge.py")
SRC = Path(__file__).parents[3] / "src"
COUNT = 220


def verdict(body: dict, tried: int) -> dict:
    return completion(f"Reasons.\nVerdict: {1 + (share(body, 'verdict') < 0.5)}", usage=(40, 6))


def calls_after(path: Path, kills: int) -> tuple[dict[str, tuple[object, ...]], int]:
    """The calls of a run, by key, and how many answers the server gave."""
    with JudgeServer(misbehaving(verdict, 50.0)) as server:
        command = [sys.executable, str(SCRIPT), server.url, str(path), str(COUNT), str(kills)]
        subprocess.run(command, check=True, timeout=300, env={**os.environ, "PYTHONPATH": str(SRC)})
        answered = sum(server.answered.values())
    columns = tables.judge_calls.c
    rows = sa.select(columns.cache_key, columns.status, columns.failure_code, columns.response_raw, columns.item_id)
    with open_call_log(path) as log, log.database.reading() as connection:
        return {row[0]: tuple(row[1:]) for row in connection.execute(rows)}, answered


def test_killing_a_judge_ten_times_ends_with_the_same_calls(tmp_path: Path) -> None:
    expected, answered = calls_after(tmp_path / "whole.db", kills=0)
    calls, answered_again = calls_after(tmp_path / "killed.db", kills=10)
    assert calls == expected
    assert len({row[-1] for row in calls.values()}) == COUNT
    in_flight = 8 + 64  # answers that a kill may lose: not yet kept
    assert answered <= answered_again <= answered * 2 + 10 * in_flight
