"""The page of a sample: what strangers wrote stays text, in the data, in the drawings and in a real browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from guerdon.config import CheckOptions, InspectOptions
from guerdon.contracts import Comparison, Preference, Report, Response, as_prompt
from guerdon.data.inspection import inspect
from guerdon.reporting import to_html

TEMPLATE = "{{ 7 * 7 }}{% raw %}"  # means nothing to a browser, so it stays as it is
PAYLOADS = (
    "<script>console.log('pwned')</script>",
    "</script><script>console.log('pwned')</script>",
    "<img src=x onerror=\"console.log('pwned')\">",
    "<svg onload=console.log('pwned')>",
    "<a href=\"javascript:console.log('pwned')\">x</a>",
    "\"'><iframe srcdoc=\"<script>console.log('pwned')</script>\">",
    "<!--<script>",
    TEMPLATE,
    "\u202eright to left\u2066 zero\u200bwidth \u2028 \U000e0041",
    "\ud83d\x00\x1b[31m",
)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def comparison(text: str, i: int, q: float = 1.0) -> Comparison:
    responses = (Response(f"{text} first", author=text), Response(f"{text} second", ratings={text: 1.0}))
    prompt = as_prompt(f"{text}?").at(f"{text}:{i}")
    return Comparison(
        prompt, responses, Preference(q=q), annotator=text, source=text, rationale=text, group=text, id=text
    )


@pytest.fixture(scope="module")
def page() -> str:
    rows = [comparison(text, i, q) for i, text in enumerate(PAYLOADS) for q in (1.0, 0.0, 1.0)]
    inspection = inspect(rows, InspectOptions(), CheckOptions())
    return to_html(inspection.report, inspection.sample)


def data_of(page: str) -> list[dict]:
    return json.loads(re.search(r'<script type="application/json" id="rows">(.*?)</script>', page)[1])


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen, self.active = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.active += [
            (tag, *attr) for attr in attrs if attr[0].startswith("on") or attr[0] in ("src", "srcdoc", "action")
        ]
        self.active += [(tag, *attr) for attr in attrs if attr[0] == "href" and not attr[1].startswith("#")]


def test_a_page_holds_no_payload_as_it_was_written(page):
    for payload in PAYLOADS:
        assert payload not in page or payload == TEMPLATE, payload
    tags = Tags()
    tags.feed(page)
    assert tags.seen.count("script") == 2
    assert not {"img", "iframe", "object", "embed", "base", "link"} & set(tags.seen)
    assert tags.active == []
    assert not re.findall("[\u202a-\u202e\u2066-\u2069\u200b\u2028\x00\x1b]", page)


def test_the_data_hold_every_text_unchanged(page):
    rows = data_of(page)
    assert len(rows) == 3 * len(PAYLOADS)
    assert {row["responses"][0]["text"] for row in rows} == {f"{text} first" for text in PAYLOADS}
    block = re.search(r'id="rows">(.*?)</script>', page)[1]
    assert block.isascii()
    assert not set("<>&") & set(block)


def test_the_policy_allows_the_one_script_and_nothing_else(page):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1].replace("&#39;", "'")
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy.split("script-src")[1]
    assert "innerHTML" not in script


def test_characters_without_a_shape_are_written_as_their_numbers_in_what_is_read(page):
    for code in ("202E", "2066", "200B", "2028", "E0041", "D83D", "0000", "001B"):
        assert f"⟨U+{code}⟩" in page, code


def test_findings_show_the_texts_with_everybodys_judgment(page):
    assert "preferred by" in page
    assert "not preferred by" in page


def test_a_page_of_huge_texts_stays_small_and_says_what_is_cut():
    rows = [comparison("\N{PILE OF POO}<" * 100_000, i) for i in range(40)]
    inspection = inspect(rows, InspectOptions(sample=40), CheckOptions(shortcut_pairs=0))
    page = to_html(inspection.report, inspection.sample)
    assert len(page.encode()) < 3_000_000
    assert all(row["responses"][0]["more"] > 190_000 for row in data_of(page))
    assert "more characters)" in page


def test_a_report_without_a_sample_has_no_script():
    page = to_html(Report("r"))
    assert "<script" not in page
    assert "script-src" not in page


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_browser_shows_the_texts_and_runs_none_of_them(page, tmp_path):
    """Without its policy, so that nothing but the escaping keeps a payload from running; a probe reads what is shown."""
    probe = "<script>console.log('shown: ' + document.getElementById('shown').textContent.slice(0, 400))</script>"
    bare = re.sub(r"<meta http-equiv[^>]*>", "", page).replace("</body>", f"{probe}</body>")
    shown = console(tmp_path / "bare.html", bare)
    assert "shown: " in shown
    assert "first" in shown
    assert "pwned" not in shown.replace("console.log('pwned')", "")
    assert "Refused to execute" not in console(tmp_path / "page.html", page)  # its own script has the right hash


def console(path: Path, page: str) -> str:
    """What a page writes to the console of a headless browser."""
    path.write_text(page, encoding="utf-8")
    words = "--headless=new --no-sandbox --disable-gpu --enable-logging=stderr --window-size=800,600 --virtual-time-budget=3000"
    ran = subprocess.run(
        [
            CHROMIUM,
            *words.split(),
            f"--user-data-dir={path.parent / 'profile'}",
            f"--screenshot={path}.png",
            path.as_uri(),
        ],
        capture_output=True,
        timeout=120,
    )
    if not Path(f"{path}.png").exists():
        pytest.skip(f"Chromium does not run here: exit code {ran.returncode}")
    return "\n".join(line for line in ran.stderr.decode(errors="replace").splitlines() if "CONSOLE" in line)
