"""Comparisons and files of them to try readers and writers on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import strategies as st

from guerdon.contracts import Comparison, GuerdonError, Message, Preference, Response

ROW = {
    "prompt": [{"role": "user", "content": "Name a color."}],
    "responses": [{"text": "Red."}, {"text": "Tuesday."}],
    "preference": {"q": 0.9},
}


def a_row(**changes) -> dict:
    return {**ROW, **changes}


def write_rows(path: Path, *rows: object) -> Path:
    path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    return path


def some_comparisons(num: int = 3) -> Iterator[Comparison]:
    for i in range(num):
        prompt = (Message("system", "Be brief."), Message("user", f"Question {i}?"))
        responses = (Response("yes", "stop", "ada", {"truth": 4.0}), Response(f"no {i}", "length"), Response("?"))
        preference = Preference(groups=((1,), (0, 2)), strength=0.5)
        yield Comparison(prompt, responses, preference, annotator="w1", source="made up", weight=0.25)
        yield Comparison(prompt, responses[:2], Preference(q=0.75, votes=(2, 1, 0)), group=f"g{i}", id=f"{i}")


def one_line(call: Callable[[], object]) -> str:
    """The message of the error that the call raises."""
    with pytest.raises(GuerdonError) as error:
        call()
    assert "\n" not in str(error.value), "one line"
    return str(error.value)


def _is_valid_text(text: str) -> bool:
    """Whether UTF-16 returns it unchanged: two surrogates that make up a character would become that character."""
    return text == text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


any_text = st.text(st.characters(codec=None), max_size=12).filter(_is_valid_text)
utf8_text = st.text(st.characters(codec="utf-8"), max_size=12)


def comparisons(text: st.SearchStrategy[str]) -> st.SearchStrategy[Comparison]:
    ratings = st.dictionaries(text, st.floats(-9, 9), max_size=2)
    response = st.builds(Response, text, st.sampled_from([None, "stop", "length"]), st.none() | text, ratings)
    message = st.builds(Message, st.sampled_from(["system", "user", "assistant", "tool"]), text)
    preferences = st.one_of(
        st.builds(lambda q, votes: Preference(q=q, votes=votes), st.floats(0, 1), st.none() | st.just((2, 0, 1))),
        st.builds(
            Preference, st.sampled_from([((0,), (1,)), ((1,),), ((0, 1),)]), strength=st.none() | st.floats(0, 9)
        ),
    )
    prompt = st.lists(message, min_size=1, max_size=3).map(tuple)
    names = st.none() | text
    weight = st.floats(0.001, 10)
    return st.builds(Comparison, prompt, st.tuples(response, response), preferences, names, names, weight, text, text)
