"""The browser is killed while somebody judges: what was chosen and answered is there when it comes back, and stored once.

Two kills here; `pytest tests/annotation/browser/test_kills.py --kills 20` does more.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'guerdon[dev]'")
pytest.importorskip("guerdon.annotation.web.app", reason="needs the application: pip install 'guerdon[annotation]'")

from annotation.browser.application import pairs

KINDS = ("chosen", "kept", "sent")  # what was done last: a choice, an answer without connection, an answer on its way
SECONDS_TO_DISK = 0.1  # after a key


@contextmanager
def browser(engine: Any, executable: str, profile: Path) -> Iterator[Any]:
    """A page of a browser with this profile; it is killed at the end, as by a crash of the machine's session."""
    port = profile / "DevToolsActivePort"
    port.unlink(missing_ok=True)
    words = ("--no-sandbox", "--headless=new", "--remote-debugging-port=0", "--no-first-run", "about:blank")
    process = subprocess.Popen(
        [executable, f"--user-data-dir={profile}", *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        end = time.monotonic() + 30
        while not port.exists() or len(port.read_text().split()) < 2:
            assert time.monotonic() < end, "the browser did not start"
            time.sleep(0.02)
        connected = engine.chromium.connect_over_cdp(f"http://127.0.0.1:{port.read_text().split()[0]}")
        yield connected.contexts[0].new_page()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def work(page: Any, kind: str, number: int, pause: float) -> None:
    """Judge the item on the screen up to the moment of the kill."""
    if kind == "kept":
        page.context.set_offline(True)
    page.keyboard.press("r")
    page.keyboard.type(f"kill {number}")
    page.keyboard.press("Escape")
    page.keyboard.press(str(number % 7 + 1))
    time.sleep(SECONDS_TO_DISK)
    if kind != "chosen":
        page.keyboard.press("Enter")
    if kind == "kept":
        page.wait_for_selector("#waiting:not([hidden])")  # which says that the answer is kept on this device
    else:
        time.sleep(pause)


def test_a_killed_browser_loses_no_answer_and_stores_none_twice(serve, playwright, chromium_path, tmp_path, request):
    kills, rng = request.config.getoption("--kills"), random.Random(0)
    site = serve(pairs(kills + 1))
    profile = tmp_path / "profile"
    given: dict[str, int] = {}
    for number in range(kills + 1):
        kind = KINDS[number % len(KINDS)]
        with browser(playwright, chromium_path, profile) as page:
            page.goto(site.judge)
            page.wait_for_selector("#work:not([hidden]), #done:not([hidden])")
            if number > 0 and (why := f"kill {number - 1}") not in [row["rationale"] for row in site.judgments()]:
                assert KINDS[(number - 1) % len(KINDS)] != "kept"
                assert page.input_value("#rationale") == why, "what was chosen is on the screen again"
                assert page.is_checked(f"input[name=verdict][value='{(number - 1) % 7 - 3}']")
                before = page.inner_text("#turns")
                page.keyboard.press("Enter")
                page.wait_for_function("before => document.querySelector('#turns').innerText !== before", arg=before)
            assert len(site.judgments()) == number
            if number < kills:
                given[f"kill {number}"] = number % 7 - 3
                work(page, kind, number, rng.uniform(0.0, 0.06))
    rows = site.judgments()
    verdicts = {row["rationale"]: (row["strength"] or 0) * (-1 if row["groups"] == [[0], [1]] else 1) for row in rows}
    assert verdicts == given
    assert [row["revision"] for row in rows] == [1] * kills
    assert len({row["item_id"] for row in rows}) == kills
