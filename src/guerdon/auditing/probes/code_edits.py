"""An error put into a block of code: one operator, constant or condition changed."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator

from guerdon.auditing.probes import prose
from guerdon.auditing.probes.edit import Draft

NOT_CODE = set("text txt json yaml html css xml markdown md output console toml csv diff".split())
CHANGES = tuple(
    (re.compile(old), new)
    for old, new in (
        (r" == ", " != "), (r" != ", " == "), (r" <= ", " > "), (r" >= ", " < "), (r" < ", " >= "), (r" > ", " <= "),
        (r" \+ ", " - "), (r" - ", " + "), (r" \* ", " + "), (r" \+= ", " -= "), (r" -= ", " += "), (r" // ", " % "),
        (r" % ", " // "), (r"\bTrue\b", "False"), (r"\bFalse\b", "True"), (r"\btrue\b", "false"), (r"\bfalse\b", "true"),
        (r" and ", " or "), (r" or ", " and "), (r" && ", " || "), (r" \|\| ", " && "), (r"\[0\]", "[1]"), (r"\[-1\]", "[0]"),
        (r"\b0\b(?!\.)", "1"), (r"(?<![\w.])1\b(?!\.)", "2"), (r"\bmin\(", "max("), (r"\bmax\(", "min("), (r"\+\+", "--"),
    )
)  # fmt: skip


def break_code(draft: Draft) -> Iterator[str]:
    """One operator, constant or condition of a code block changed. Python that parsed before still parses."""
    places = []
    for fence in prose.fences(draft.text):
        if fence.language not in NOT_CODE:
            body = draft.text[slice(*fence.body)]
            places += [(fence, m, new) for old, new in CHANGES for m in old.finditer(body) if _is_live(body, m.start())]
    draft.random.shuffle(places)
    for fence, match, new in places:
        start = fence.body[0]
        body = draft.text[slice(*fence.body)]
        changed = body[: match.start()] + new + body[match.end() :]
        if not parses(body) or parses(changed):
            yield draft.text[:start] + changed + draft.text[fence.body[1] :]


def _is_live(body: str, position: int) -> bool:
    """Whether a position in code is outside comments and strings."""
    before = body[body.rfind("\n", 0, position) + 1 : position]
    return "#" not in before and "//" not in before and before.count('"') % 2 == 0 and before.count("'") % 2 == 0


def parses(code: str) -> bool:
    """Whether this is valid Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
