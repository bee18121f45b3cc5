"""A sample of comparisons as data that the page's own script shows one at a time.

The data are JSON in which no character means anything to HTML, and the script is named by its hash in the page's policy: text
that a stranger wrote can neither end the block it is in nor run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, Final

from guerdon.contracts import Comparison, Response
from guerdon.errors import counted, verb
from guerdon.io.labels import label_of, label_of_response
from guerdon.reporting.words import prompt_turns, response_text

__all__ = ["Sample", "browser_view", "script_policy"]

Sample = Sequence[tuple[Comparison, Sequence[str]]]
"""Comparisons, and the titles of the findings that name each."""

MAX_BYTES: Final = 1_800_000  # of the data, so that the page stays below 3 MB
TEXT_LENGTHS: Final = (
    6000,
    3000,
    1500,
    700,
    300,
)  # characters of a text that are shown; fewer if all take too much space
MAX_RESPONSES, MAX_TURNS, MAX_NAME = 16, 30, 200
WORD: Final = re.compile(r"\w+")
FILTERS: Final = (
    ("finding", "any or none"), ("label", "all labels"), ("source", "all sources"), ("annotator", "everybody"), ("length", "all lengths"),
)  # fmt: skip


def browser_view(sample: Sample) -> dict[str, Any]:
    """What the template prints: the data, the script, the style, the filters and a sentence about the sample."""
    from markupsafe import Markup

    rows, num_shown = _data(sample)
    more = len(sample) - num_shown
    left_out = f" {more:,} more {verb(more, 'are')} left out of this page." if more else ""
    caption = f"{counted(num_shown, 'comparison')}: a random sample, after those that findings name."
    return {
        "rows": Markup(rows),
        "script": Markup(_asset("browser.js")),
        "style": Markup(_asset("browser.css")),
        "policy": script_policy(_asset("browser.js")),
        "filters": FILTERS,
        "caption": caption + left_out,
    }


def script_policy(script: str = "") -> str:
    """The content security policy of a page that loads nothing and runs this script alone."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"{policy}; script-src 'sha256-{digest}'" if script else policy


def _asset(name: str) -> str:
    return resources.files("guerdon.reporting").joinpath(name).read_text(encoding="utf-8")


def _data(sample: Sample) -> tuple[str, int]:
    """The rows as a JSON list of at most MAX_BYTES, and their number: texts are cut before rows are left out."""
    encoded: list[str] = []
    for length in TEXT_LENGTHS:
        encoded = [_encode(_row(comparison, findings, length)) for comparison, findings in sample]
        if sum(map(len, encoded)) + len(encoded) <= MAX_BYTES:
            break
    kept, size = [], 2
    for row in encoded:
        size += len(row) + 1
        if size > MAX_BYTES:
            break
        kept.append(row)
    return f"[{','.join(kept)}]", len(kept)


def _encode(value: object) -> str:
    """JSON in ASCII without <, > and &: it stays inert wherever it stands in a page."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _row(comparison: Comparison, findings: Sequence[str], length: int) -> dict[str, Any]:
    preference, turns = comparison.preference, prompt_turns(comparison.prompt)
    ranks = comparison.ranks
    best = [rank == 0 for rank in ranks] if len(set(ranks)) > 1 else [False] * len(ranks)
    return {
        "place": (comparison.prompt.location or comparison.id)[:MAX_NAME],
        "label": label_of(comparison),
        "source": (comparison.source or "")[:MAX_NAME],
        "annotator": (comparison.annotator or "")[:MAX_NAME],
        "strength": "" if preference.strength is None else f"strength {preference.strength:g}",
        "votes": _votes(preference.votes),
        "rationale": (comparison.rationale or "")[:length],
        "findings": list(findings),
        "earlier": max(0, len(turns) - MAX_TURNS),
        "prompt": [[role[:MAX_NAME], *_clip(text, length)] for role, text in turns[-MAX_TURNS:]],
        "left_out": max(0, len(ranks) - MAX_RESPONSES),
        "responses": [
            _response(response, label_of_response(comparison, i), best[i], length)
            for i, response in enumerate(comparison.responses[:MAX_RESPONSES])
        ],
    }


def _response(response: Response, label: str, is_best: bool, length: int) -> dict[str, Any]:
    whole = response_text(response)
    text, more = _clip(whole, length)
    return {
        "text": text,
        "more": more,
        "label": label,
        "best": is_best,
        "words": sum(1 for _ in WORD.finditer(whole)),
        "author": (response.author or "")[:MAX_NAME],
        "ratings": ", ".join(_ratings(response.ratings)),
    }


def _ratings(ratings: Mapping[str, float]) -> Iterator[str]:
    for name, value in list(ratings.items())[:8]:
        yield f"{name[:40]} {value:g}"


def _clip(text: str, length: int) -> tuple[str, int]:
    """The beginning of the text, and how many characters are left out."""
    return text[:length], max(0, len(text) - length)


def _votes(votes: tuple[int, int, int] | None) -> str:
    return "" if votes is None else f"votes {votes[0]} : {votes[2]}" + (f", {votes[1]} ties" if votes[1] else "")
