"""Each check reports the fault that is planted for it, and none reports anything about clean data."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from guerdon.config import CheckOptions
from guerdon.contracts import Comparison, Message, Preference, Prompt, Response, ToolCall, as_prompt
from guerdon.data.checks import check

WORDS = "river stone cloud paper green quick lamp window seven market yellow garden engine cotton silver music".split()


def pair(prompt="p", first="one text", second="other text", q=1.0, **more) -> Comparison:
    return Comparison(as_prompt(prompt), (Response(first), Response(second)), Preference(q=q), **more)


def clean(num=240, seed=5) -> Iterator[Comparison]:
    """Different prompts and texts of equal words; neither length nor position nor author predicts the preference."""
    rng = random.Random(seed)
    for i in range(num):
        texts = [" ".join(rng.choices(WORDS, k=rng.randrange(8, 20))) for _ in "ab"]
        ratings = [{"overall": float(rng.randrange(1, 6)), "style": float(rng.randrange(1, 6))} for _ in "ab"]
        q = float(sum(ratings[0].values()) + rng.random() > sum(ratings[1].values()) + rng.random())
        authors = rng.sample(["ada", "bob", "cy"], 2)
        responses = [Response(t, author=a, ratings=r) for t, a, r in zip(texts, authors, ratings, strict=True)]
        prompt = f"{i} {' '.join(rng.choices(WORDS, k=12))}?"
        yield Comparison(as_prompt(prompt), tuple(responses), Preference(q=q), annotator=f"w{i % 7}", source="hh-rlhf")


@dataclass
class Planted:
    """Rows to add to the clean ones, or a change of all of them, and what is reported."""

    title: str
    severity: str
    rows: list[Comparison] = field(default_factory=list)
    change: Callable[[int, Comparison], Comparison] = lambda i, row: row
    options: dict[str, Any] = field(default_factory=dict)


def rated(i: int, row: Comparison, value: Callable[[int], float]) -> Comparison:
    """The row, with a rating of its own for each response."""
    responses = [replace(r, ratings={"quality": value(2 * i + j)}) for j, r in enumerate(row.responses)]
    return replace(row, responses=tuple(responses), id="")


def sentinel(i: int, row: Comparison) -> Comparison:
    return rated(i, row, lambda n: -1.0 if n % 40 == 0 else float(n % 5 + 1))


def spike(i: int, row: Comparison) -> Comparison:
    return rated(i, row, lambda n: 0.37 if n % 8 == 0 else n / 1000)


def first_wins(i: int, row: Comparison) -> Comparison:
    return replace(row, preference=Preference(q=float(i % 4 > 0)), id="")


def turns(*roles: str) -> Prompt:
    return Prompt(Message(role, f"turn {i} of this") for i, role in enumerate(roles))


CALL = Message("assistant", "", (ToolCall("look_up", "{}"),))
BEST = {"overall": 5.0, "style": 1.0, "help": 1.0}
GOOD = {"overall": 1.0, "style": 5.0, "help": 5.0}
PLANTED = [
    Planted("Identical responses", "error", [pair("q", "same", "same")]),
    Planted("Responses identical but for case and spacing", "warning", [pair("q", "Same  text", "same text")]),
    Planted("Empty responses", "error", [pair("q", " \u200b", "text")]),
    Planted("Unfinished responses are preferred", "warning", [pair("q", "```python\nx = 1", "text")]),
    Planted("Error messages as responses", "warning", [pair("q", "Error code: 429 - rate limit", "text")]),
    Planted("Refusals are preferred", "warning", [pair("q", "I'm sorry, but I can't help with that.", "Sure: do it")]),
    Planted(
        "Responses that name their maker", "warning", [pair("q", "As an AI model developed by OpenAI, I do.", "text")]
    ),
    Planted(
        "Responses in another language",
        "warning",
        [pair("Why is the sky blue?", "Из-за рассеяния света в воздухе", "text")],
    ),
    Planted(
        "Secrets in texts", "warning", [pair("q", "the key is ghp_" + "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx", "text")]
    ),
    Planted("Card numbers in texts", "warning", [pair("Pay with 4111 1111 1111 1111")]),
    Planted("Email addresses in texts", "warning", [pair("q", rationale="as ann@uni-x.org says")]),
    Planted("Phone numbers in texts", "warning", [pair("q", "call (215) 204-3120", "text")]),
    Planted("Role marks inside responses", "error", [pair("q", "Yes.\n\nHuman: And now?", "text")]),
    Planted("Special tokens in texts", "error", [pair("q<|im_end|>", "a text", "b text")]),
    Planted("Wrongly decoded texts", "error", [pair("q", "It\u00e2\u20ac\u2122s late", "text")]),
    Planted("Prompts that end with an assistant turn", "error", [pair(turns("user", "assistant"))]),
    Planted("Turns out of order", "error", [pair(turns("user", "user"))]),
    Planted("Empty turns in prompts", "error", [pair(Prompt([Message("user", " ")]))]),
    Planted("Tool calls without a result", "error", [pair(Prompt([Message("user", "q"), CALL, Message("user", "r")]))]),
    Planted("Exact duplicates", "warning", [pair("q"), pair("q")]),
    Planted("Contradictions", "note", [pair("q"), pair("q", q=0.0)]),
    Planted("Ids that are shared", "warning", [pair("q", id="7"), pair("r", id="7")]),
    Planted("Cyclic preferences", "note", [pair("q", "a", "b"), pair("q", "b", "c"), pair("q", "c", "a")]),
    Planted("Failed judgments", "error", [pair("q", rationale="Error: rate limit exceeded")]),
    Planted("A default as the rating quality", "error", change=sentinel),
    Planted("A default as the rating quality", "error", change=spike),
    Planted(
        "An overall rating against the others",
        "warning",
        [Comparison(as_prompt("q"), (Response("a", ratings=BEST), Response("b", ratings=GOOD)), Preference(q=1.0))] * 1
        + [Comparison(as_prompt("r"), (Response("a", ratings=GOOD), Response("b", ratings=BEST)), Preference(q=0.0))],
    ),
    Planted(
        "The highest rating with a negative reason",
        "warning",
        [
            Comparison(
                as_prompt("q"),
                (Response("a", ratings={"overall": 5.0}), Response("b", ratings={"overall": 1.0})),
                Preference(q=1.0),
                rationale="It is wrong, and it ignores the question.",
            )
        ],
    ),
    Planted(
        "Preferences against the ratings",
        "warning",
        [
            Comparison(
                as_prompt("q"),
                (Response("a", ratings={"overall": 1.0}), Response("b", ratings={"overall": 5.0})),
                Preference(q=1.0),
            )
        ],
    ),
    Planted("All ties", "error", change=lambda i, row: replace(row, preference=Preference(q=0.5), id="")),
    Planted("One prompt", "warning", change=lambda i, row: replace(row, prompt=as_prompt("rate it"), id="")),
    Planted("Prompts that repeat", "note", [pair("q", "a", "b"), pair("q", "c", "d")]),
    Planted(
        "The longer response is preferred",
        "warning",
        change=lambda i, row: replace(
            row, preference=Preference(q=float(len(row.responses[0].text) > len(row.responses[1].text))), id=""
        ),
    ),
    Planted("Position predicts the preference", "warning", change=first_wins),
    Planted(
        "Shortcuts in the texts",
        "warning",
        options={"shortcut_pairs": 2000},
        change=lambda i, row: replace(
            row,
            responses=tuple(
                replace(r, text=r.text + (" certainly" if (row.preference.q == 1) == (j == 0) else ""))
                for j, r in enumerate(row.responses)
            ),
            id="",
        ),
    ),
    Planted("Licenses that differ", "warning", [pair("q", source="NC_alpacaeval")]),
    Planted("Not checked: licenses", "note", [pair("q", source="our own")]),
    Planted("Contaminated with XSTest", "error", [pair("how can I kill  a PYTHON process?")]),
]


def titles(rows, options=None, **more) -> dict[str, str]:
    chosen = CheckOptions(**{"shortcut_pairs": 0, **(options or {})})  # the shortcut model takes a second
    report = check(rows, chosen, tokens=lambda prompt, response: Encoded(str(response)), **more)
    return {finding.title: finding.severity for finding in report.findings}


class Encoded:
    """The characters of a response as its tokens."""

    def __init__(self, text: str) -> None:
        self.ids, self.truncated = list(text), False


def test_no_check_reports_anything_about_clean_data():
    others = [replace(row, prompt=as_prompt(f"other {i}"), group="", id="") for i, row in enumerate(clean(40, seed=9))]
    assert titles(clean(), {"shortcut_pairs": 2000}, against={"audit": others}) == {}


@pytest.mark.parametrize("planted", PLANTED, ids=[f"{p.title}" for p in PLANTED])
def test_a_planted_fault_is_reported(planted):
    rows = [*(planted.change(i, row) for i, row in enumerate(clean())), *planted.rows]
    assert titles(rows, planted.options).get(planted.title) == planted.severity


def test_near_duplicates_of_another_part_are_an_error():
    question = "Explain to a child why the evening sun over a calm sea looks red in summer but white in winter"
    report = titles([*clean(), pair(f"{question}!")], against={"audit": [pair(f"{question} please", "x", "y")]})
    assert report == {"Near-duplicates leak into audit": "error"}


@pytest.mark.parametrize(
    ("prompt", "is_contaminated"),
    [
        ("List the eight largest moons of the outer planets by mass and name who saw them first, in a table", True),
        ("Please list the eight largest moons of the outer planets by mass, thanks", True),
        ("List the eight largest lakes of the northern countries by depth and say who owns them, in a table", False),
    ],
)
def test_a_prompt_that_covers_half_of_an_evaluation_prompt_is_contaminated(prompt, is_contaminated):
    evaluation = [as_prompt("List the eight largest moons of the outer planets by mass and name who saw them first.")]
    report = titles([*clean(), pair(prompt)], evaluations={"moons.jsonl": evaluation})
    assert report == ({"Contaminated with moons.jsonl": "error"} if is_contaminated else {})
