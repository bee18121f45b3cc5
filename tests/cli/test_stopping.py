"""Ctrl-C and SIGTERM end a command with one sentence that is true."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from shell import guerdon

from guerdon.api import saved_models, scoring

STOPS = {"Ctrl-C": (signal.SIGINT, 130), "SIGTERM": (signal.SIGTERM, 143)}


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("is_resumable", [True, False])
def test_a_stopped_command_says_whether_it_resumes(tmp_path, monkeypatch, stop, is_resumable):
    number, code = STOPS[stop]

    def stopped(*_: object, **__: object) -> None:
        os.kill(os.getpid(), number)

    monkeypatch.setattr(saved_models, "doctor", stopped)
    monkeypatch.setattr(scoring, "score_file", stopped)
    words = ("score", "m", "--data", "d.jsonl", "--out", tmp_path / "o.jsonl") if is_resumable else ("doctor", "m")
    interrupt = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # ignored where the tests run in the background
    before = signal.getsignal(signal.SIGTERM)
    try:
        ran = guerdon(*words)
    finally:
        signal.signal(signal.SIGINT, interrupt)
    assert ran.code == code
    sentence = "the same command resumes from here" if is_resumable else "the same command starts over"
    assert ran.err.splitlines()[-1] == f"stopped; {sentence}"
    assert "Traceback" not in ran.err
    assert signal.getsignal(signal.SIGTERM) == before


def test_only_the_first_process_of_a_launcher_says_so(monkeypatch):
    def stopped(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(saved_models, "doctor", stopped)
    monkeypatch.setenv("RANK", "1")
    assert "stopped" not in guerdon("doctor", "m").err
