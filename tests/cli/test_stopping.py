"""Ctrl-C and SIGTERM end a command with one sentence that is true."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from shell import guerdon

from guerdon.api import saved_models, scoring
from guerdon.cli import app as cli_app

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


def test_ctrl_c_while_the_commands_are_loaded_is_one_line_too():
    script = (
        "import sys\n"
        "class Stop:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'guerdon.cli.{}':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Stop())\n"
        "from guerdon.__main__ import main\n"
        "main()\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(cli_app.__file__).parents[2])}
    words = [sys.executable, "-c", script.format("store")]
    ran = subprocess.run(words, env=env, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (130, "stopped; the same command starts over\n")


def test_ctrl_c_before_the_command_is_known_is_one_line_too(monkeypatch):
    def stopped() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_app, "app", stopped)
    ran = guerdon("doctor", "m")
    assert (ran.code, ran.err) == (130, "stopped; the same command starts over\n")


def test_only_the_first_process_of_a_launcher_says_so(monkeypatch):
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(saved_models, "doctor", stopped)
    monkeypatch.setenv("RANK", "1")
    assert "stopped" not in guerdon("doctor", "m").err
