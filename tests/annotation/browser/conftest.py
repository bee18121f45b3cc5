"""A real Chromium in front of the application. The tests skip, with the reason, where a part of it is missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Starts the application: serve(items, **options)."""
    from annotation.browser.application import running

    with ExitStack() as stack:
        yield lambda items, **options: stack.enter_context(running(tmp_path, items, **options))


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The browser of the distribution."""
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    return executable


@pytest.fixture(scope="module")
def playwright() -> Iterator[Any]:
    """Its event loop runs in this thread until the fixture ends, so it ends with the file: elsewhere asyncio.run would fail."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as engine:
        yield engine


@pytest.fixture(scope="module")
def chromium(playwright: Any, chromium_path: str) -> Iterator[Any]:
    browser = playwright.chromium.launch(executable_path=chromium_path, args=["--no-sandbox"])
    yield browser
    browser.close()


@pytest.fixture
def window(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens a browser of a person: window(width=1280, color_scheme="dark"). The test fails on an error in a page's script."""
    contexts, errors = [], []

    def new(width: int = 1280, height: int = 860, **settings: Any) -> Any:
        context = chromium.new_context(viewport={"width": width, "height": height}, **settings)
        context.set_default_timeout(10_000)
        context.on("weberror", lambda error: errors.append(str(error.error)))
        contexts.append(context)
        return context

    yield new
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def open_page(window: Callable[..., Any]) -> Callable[..., Any]:
    """Opens the page where people judge, and waits for the first item."""

    def open_one(site: Any, **settings: Any) -> Any:
        page = window(**settings).new_page()
        page.goto(site.judge)
        page.wait_for_selector("#work:not([hidden])")
        return page

    return open_one
