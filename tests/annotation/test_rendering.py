"""An assignment on the screen: exact texts, readable tools, and nothing that tells who wrote what."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from annotation.test_markup import ATTACKS, Elements, assert_harmless
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("nh3", reason="needs the extra: pip install 'guerdon[annotation]'")

from guerdon.annotation.rendering import assignment_json, message_html
from guerdon.config.annotation import AnnotationOptions
from guerdon.conversation import Message, Prompt, Response, ToolCall, as_prompt, as_response


def shown(prompt: Prompt, responses: tuple[Response, ...], **rest: object) -> dict:
    handles = tuple("abc"[: len(responses)])
    fields = {
        "presentation_id": 7,
        "prompt": prompt,
        "responses": responses,
        "handles": handles,
        "expires": 1.0,
        "answer": None,
    } | rest
    return assignment_json(SimpleNamespace(**fields), AnnotationOptions())


@given(st.text(min_size=1))
def test_the_raw_text_is_exact(text):
    page = json.loads(json.dumps(shown(as_prompt(text), (as_response(text), as_response("b")))))
    assert page["prompt"][0]["raw"] == text
    assert page["responses"][0]["turns"][0]["raw"] == text


def test_nothing_tells_who_wrote_a_response():
    response = Response("a", author="model-x", finish="length", ratings={"good": 4.5})
    page = json.dumps(shown(as_prompt("Hi"), (response, Response("b", author="model-y"))))
    assert not any(word in page for word in ("model-x", "model-y", "length", "4.5", "author"))


def test_tool_calls_and_results_are_readable():
    messages = (
        Message("assistant", "Let me look.", (ToolCall("weather", '{"city": "Oslo"}', "1"),)),
        Message("tool", '{"degrees": 7}', tool_call_id="1", name="weather"),
        Message("assistant", "7 degrees."),
    )
    prompt = as_prompt("How warm is Oslo?", [{"name": "weather", "parameters": {}}])
    page = shown(prompt, (Response(messages=messages), Response("b")))
    turns = page["responses"][0]["turns"]
    assert [turn["role"] for turn in turns] == ["assistant", "tool", "assistant"]
    assert "Calls <strong>weather</strong>" in turns[0]["html"]
    assert turns[0]["raw"] == 'Let me look.\nweather({"city": "Oslo"})'
    assert turns[1]["name"] == "weather"
    assert Elements(turns[1]["html"]).text.split() == ["json{", '"degrees":', "7", "}"]
    assert page["tools"][0]["name"] == "weather"


@pytest.mark.parametrize("attack", ATTACKS)
def test_published_attacks_are_inert_in_tools(attack):
    call = ToolCall(attack, json.dumps({attack: attack}))
    assert_harmless(message_html(Message("assistant", attack, (call,))))
    assert_harmless(message_html(Message("tool", attack)))
    assert_harmless(message_html(Message("tool", json.dumps([attack]))))
