"""The pages of managers in a real Chromium: accessible in light and dark, and not wider than a phone."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("playwright", reason="needs playwright")
pytest.importorskip("uvicorn", reason="needs guerdon[annotation]")

from annotation.browser.application import pairs

from guerdon.annotation.accounts import create_account
from guerdon.annotation.answers import Answer
from guerdon.annotation.assignments import Assignment
from guerdon.annotation.claiming import claim, skip
from guerdon.annotation.submitting import submit
from guerdon.annotation.summaries import summarize

PAGES = ("", "/people", "/agreement", "/disagreements", "/gold", "/settings")


def judge(project, login, verdict, number=12):
    """A person with a long name judges so many items, after skipping one."""
    now = time.time() - 7200
    person = create_account(project.database, login, display_name=f"{login} of the team", role="annotator", now=now)
    skip(project, person.annotator_id, claim(project, person.annotator_id, now).presentation_id, "unclear", now + 1)
    for i in range(number):
        assignment = claim(project, person.annotator_id, now + 60 * i)
        assert isinstance(assignment, Assignment)
        answer = Answer(verdict=verdict, active_ms=4000, wall_ms=5000)
        submit(project, person.annotator_id, assignment.presentation_id, answer, None, now + 60 * i + 5)


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_no_violation_and_no_page_is_wider_than_the_window(serve, window, width, color_scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    site = serve(pairs(20), need=3)
    for login, verdict in (("ann", -2), ("bob", 1), ("eve", -1)):
        judge(site.project, login, verdict)
    summarize(site.project, time.time())
    page = window(width=width, color_scheme=color_scheme).new_page()
    addresses = [f"{site.url}/p/replies/manage{path}" for path in PAGES]
    page.goto(f"{site.url}/p/replies/manage/disagreements")
    addresses.append(site.url + page.get_attribute("a.prompt-line", "href"))
    for address in addresses:
        page.goto(address)
        violations = axe.Axe().run(page).response["violations"]
        assert [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in violations] == []
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width, address
