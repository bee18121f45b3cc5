"""Conversations keep what they hold: equality, hashes, copies, the shapes they are read from, and the errors."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import subprocess
import sys

import pytest

from guerdon.contracts import (
    Comparison,
    GuerdonError,
    Message,
    Preference,
    Prompt,
    Response,
    ToolCall,
    as_message,
    as_prompt,
    as_response,
    prompt_digest,
    response_digest,
)
from guerdon.conversation import MAX_CHARACTERS, message_dict, tool_name

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
USER, ANSWER = Message("user", "Weather in Rome?"), Message("assistant", "Sunny.")
CALL = Message("assistant", "", (ToolCall("weather", '{"city": "Rome"}', "c1"),))
RESULT = Message("tool", "sunny", tool_call_id="c1")
TRAJECTORY = Response(messages=(CALL, RESULT, ANSWER))
A, B = Response("a"), Response("b")


def message(make) -> str:
    with pytest.raises(GuerdonError) as error:
        make()
    assert "\n" not in str(error.value), "one line"
    assert str(error.value).endswith("."), "advice"
    return str(error.value)


def comparison(prompt=(USER,), first=A, second=B) -> Comparison:
    return Comparison(prompt, (first, second), Preference(q=1.0))


# ---- Hashes of text-only data are fixed ------------------------------------------------------------------------------


def test_hashes_of_text_only_data_are_those_of_the_first_release():
    """Split parts, stored ids and score caches hang on these."""
    prompt = as_prompt([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])
    assert prompt_digest(prompt) == prompt_digest(tuple(prompt)) == "4583eae423bf95de"
    assert response_digest(Response("Hello!", "stop", "ada", {"truth": 1.0})) == response_digest(Response("Hello!"))
    assert response_digest(Response("Hello!")) == "e71bcaa3de3d2df1"
    assert comparison(prompt).id == "693e8c96e88e9ecf"


# ---- Prompts with tools ----------------------------------------------------------------------------------------------


def test_a_prompt_without_tools_equals_the_tuple_of_its_messages():
    prompt = Prompt([USER])
    assert prompt == (USER,)
    assert (USER,) == prompt
    assert hash(prompt) == hash((USER,))
    assert repr(prompt) == repr((USER,))
    assert {prompt: 1}[(USER,)] == 1


def test_prompts_that_differ_in_tools_alone_are_different():
    plain, tools = Prompt([USER]), Prompt([USER], [WEATHER])
    assert plain != tools
    assert tools != (USER,)
    assert prompt_digest(plain) != prompt_digest(tools)
    assert len({plain, tools, Prompt([USER], [WEATHER])}) == 2
    assert comparison(plain).id != comparison(tools).id
    assert comparison(plain).group != comparison(tools).group


def test_tools_given_as_text_or_as_objects_are_equal():
    assert Prompt([USER], [WEATHER]) == Prompt([USER], [json.dumps(WEATHER, indent=2)])
    assert [tool_name(t) for t in Prompt([], [WEATHER, {"name": "bare"}]).tools] == ["weather", "bare"]


def test_a_slice_and_a_sum_keep_the_tools():
    prompt = Prompt([USER, ANSWER, USER], [WEATHER])
    plain = (USER,)
    for part in (prompt[:-1], prompt[1:], prompt + plain, plain + prompt, Prompt(plain) + prompt, prompt + prompt):
        assert isinstance(part, Prompt)
        assert part.tools == prompt.tools
    assert Prompt(prompt) == prompt
    assert Prompt(tuple(prompt)) == tuple(prompt)
    assert prompt[0] is USER
    line = message(lambda: prompt + Prompt([USER], [{"name": "other"}]))
    assert line == "prompts must have the same tools to be joined, got weather and other. Give both the same tools."


def test_a_prompt_cannot_be_changed():
    with pytest.raises(AttributeError, match="cannot be changed: tools"):
        Prompt([USER]).tools = ()  # type: ignore[misc]


@pytest.mark.parametrize("value", [Prompt([USER], [WEATHER]), CALL, TRAJECTORY, comparison(Prompt([USER], [WEATHER]))])
def test_copies_and_pickles_are_equal_and_hash_alike(value):
    for again in (pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value)):
        assert again == value
        assert type(again) is type(value)
        assert hash(again) == hash(value)
    if isinstance(value, Prompt):
        assert pickle.loads(pickle.dumps(value, protocol=2)).tools == value.tools


def test_responses_hash_though_ratings_are_a_mapping():
    assert len({Response("a", ratings={"x": 1.0}), Response("a", ratings={"x": 2.0}), Response("a")}) == 3


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ('{"name": ', "tools[0] must be a JSON object, got '{\"name\": '"),
        ("[]", "tools[0] must be a JSON object"),
        ({"type": "web_search"}, "tools[0] must be a function with a name"),
        ({"function": {"name": ""}}, "tools[0] must be a function with a name"),
    ],
)
def test_a_tool_without_a_name_is_refused(tool, words):
    assert words in message(lambda: Prompt([USER], [tool]))


# ---- Tool calls ------------------------------------------------------------------------------------------------------


def test_calls_that_differ_in_white_space_only_are_equal_and_in_key_order_are_not():
    assert ToolCall("f", '{"a":1,\n"b":"é"}') == ToolCall("f", '{"a": 1, "b": "\\u00e9"}')
    assert ToolCall("f", '{"a": 1, "b": 2}') != ToolCall("f", '{"b": 2, "a": 1}'), "a model sees the order"


@pytest.mark.parametrize("arguments", ['{"city": ', "", "[1]", "null", "3", '{"x": NaN}', "[" * 100_000])
def test_arguments_that_are_no_json_object_are_refused(arguments):
    line = message(lambda: ToolCall("weather", arguments))
    assert line.startswith("the arguments of tool call 'weather' must be a JSON object, got ")
    assert len(line) < 200


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ToolCall(""), "the name of a tool call must be text, got ''"),
        (
            lambda: Message("user", "", CALL.tool_calls),
            "tool_calls must be in assistant turns only, got them in a user",
        ),
        (
            lambda: Message("user", "", tool_call_id="c1"),
            "tool_call_id must be in tool turns only, got it in a user turn",
        ),
        (
            lambda: Message("assistant", "", CALL.tool_calls * 2),
            "ids of tool calls in one turn must differ, got c1, c1",
        ),
    ],
)
def test_a_message_that_contradicts_itself_is_refused(make, words):
    assert words in message(make)


# ---- Responses in several messages -----------------------------------------------------------------------------------


def test_the_text_of_several_messages_is_what_the_assistant_wrote():
    said = Message("assistant", "I look it up.", CALL.tool_calls)
    assert Response(messages=(said, RESULT, ANSWER)).text == "I look it up.\n\nSunny."
    assert TRAJECTORY.turns() == (CALL, RESULT, ANSWER)
    assert Response("a").turns() == (Message("assistant", "a"),)


def test_one_plain_message_is_plain_text():
    assert Response(messages=(ANSWER,)) == Response("Sunny.")
    assert response_digest(Response(messages=(ANSWER,))) == response_digest(Response("Sunny."))


def test_responses_that_differ_in_calls_alone_are_different():
    other = Response(messages=(Message("assistant", "", (ToolCall("delete_all"),)), Message("tool", "sunny"), ANSWER))
    assert other.text == TRAJECTORY.text
    assert other != TRAJECTORY
    assert response_digest(other) != response_digest(TRAJECTORY) != response_digest(Response(TRAJECTORY.text))
    assert comparison(first=other).id != comparison(first=TRAJECTORY).id


def test_replacing_the_text_of_several_messages_is_refused_and_of_a_plain_answer_is_not():
    line = message(lambda: dataclasses.replace(TRAJECTORY, text="Rainy."))
    assert line.startswith("response: text must be the text of its messages, got 'Rainy.'")
    assert dataclasses.replace(TRAJECTORY, text="Rainy.", messages=()) == Response("Rainy.")
    assert dataclasses.replace(TRAJECTORY, finish="length").messages == TRAJECTORY.messages
    assert dataclasses.replace(Response("a"), text="b") == Response("b")


def test_a_response_is_empty_without_a_visible_character_or_a_call():
    assert Response(" \n").is_empty
    assert not Response("a").is_empty
    assert not Response(messages=(CALL,)).is_empty


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ((USER, ANSWER), "messages must be assistant and tool turns, got a user turn"),
        ((RESULT, ANSWER), "the first message must be an assistant turn, got tool"),
        ((CALL, RESULT), "the last message must be an assistant turn, got tool"),
        ((ANSWER, RESULT, ANSWER), "must answer a call of the assistant turn before it, got no call"),
        ((CALL, Message("tool", "x", tool_call_id="c9"), ANSWER), "the assistant turn before it, got 'c9'"),
        ((CALL, RESULT, ANSWER, RESULT, ANSWER), "the assistant turn before it, got no call"),
    ],
)
def test_turns_that_are_no_answer_are_refused(messages, words):
    assert words in message(lambda: Response(messages=messages))


def test_results_of_parallel_calls_and_results_without_ids_are_accepted():
    two = Message("assistant", "", (ToolCall("f", id="1"), ToolCall("g", id="2")))
    results = tuple(Message("tool", "x", tool_call_id=i) for i in ("2", "1"))
    assert len(Response(messages=(two, *results, ANSWER)).messages) == 4
    bare = Message("assistant", "", (ToolCall("f"),))
    assert len(Response(messages=(bare, Message("tool", "x", name="f"), ANSWER)).messages) == 3


# ---- OpenAI's shapes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}},
        {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}},
        {"id": "c1", "function": {"name": "weather", "arguments": {"city": "Rome"}}},
        {"id": "c1", "name": "weather", "arguments": {"city": "Rome"}},
    ],
)
@pytest.mark.parametrize("content", [{"content": None}, {"content": ""}, {}])
def test_every_shape_of_a_tool_call_makes_the_same_message(call, content):
    assert as_message({"role": "assistant", "tool_calls": [call], **content}) == CALL


def test_calls_given_as_a_list_are_a_tuple():
    assert Message("user", "a", []) == Message("user", "a")
    assert hash(Message("assistant", "", list(CALL.tool_calls))) == hash(Message("assistant", "", CALL.tool_calls))


def test_a_message_goes_through_its_dict_and_back():
    for turn in (USER, CALL, RESULT, Message("tool", "x", name="weather"), Message("assistant", "a", CALL.tool_calls)):
        assert as_message(message_dict(turn)) == turn
    assert message_dict(USER) == {"role": "user", "content": "Weather in Rome?"}
    assert message_dict(CALL)["tool_calls"][0]["function"]["arguments"] == {"city": "Rome"}, "an object"


def test_text_parts_are_joined_and_fields_that_tables_leave_empty_are_absent():
    parts = [{"type": "text", "text": "Weather "}, {"type": "text", "text": "in Rome?"}]
    row = {
        "role": "user",
        "content": parts,
        "tool_calls": [],
        "tool_call_id": "",
        "name": None,
        "reasoning_content": "",
    }
    assert as_message(row) == USER
    assert as_message({"role": "assistant", "tool_calls": [{"name": "f", "arguments": ""}]}).tool_calls == (
        ToolCall("f"),
    )


IMAGE = {"type": "image_url", "image_url": {"url": "a.png"}}
CANNOT_BE_KEPT = [
    ("hi", "message must be an object with role and content, got 'hi'"),
    ({"content": "x"}, "message must be an object with role and content"),
    ({"role": "assistant", "content": None}, "message.content must be text, got nothing"),
    ({"role": "user", "content": 3}, "message.content must be text, got 3"),
    (
        {"role": "user", "content": [{"type": "text", "text": "a"}, IMAGE]},
        "message.content[1] must be a part of type text, got type image_url. Only text is scored: drop the row.",
    ),
    ({"role": "user", "content": [{"type": "input_audio"}]}, "must be a part of type text, got type input_audio"),
    ({"role": "user", "content": ["a"]}, """content[0] must be a part such as {"type": "text"}, got 'a'"""),
    (
        {"role": "assistant", "content": "42", "reasoning_content": "6*7"},
        "message.reasoning_content must be empty, got '6*7'. Move the text into content",
    ),
    ({"role": "assistant", "function_call": {"name": "f"}}, "Write the call as tool_calls."),
    ({"role": "user", "content": "x", "images": ["a.png"]}, "message.images must be empty, got ['a.png']. Only text"),
    ({"role": "assistant", "tool_calls": {"name": "f"}}, "message.tool_calls must be a list of calls"),
    ({"role": "assistant", "tool_calls": ["f"]}, "message.tool_calls[0] must be a function call with name and"),
    ({"role": "assistant", "tool_calls": [{"type": "custom", "name": "f"}]}, "must be a function call"),
    (
        {"role": "assistant", "tool_calls": [{"arguments": {}}]},
        "message: the name of a tool call must be text, got nothing",
    ),
    (
        {"role": "assistant", "tool_calls": [{"name": "f", "arguments": '{"a"'}]},
        "message.tool_calls[0]: the arguments of 'f' must be a JSON object, got '{\"a\"'",
    ),
    ({"role": "assistant", "tool_calls": [{"name": "f", "id": 3}]}, "message.tool_calls[0].id must be text, got 3"),
    ({"role": "user", "content": "", "tool_calls": [{"name": "f"}]}, "message: tool_calls must be in assistant turns"),
]


@pytest.mark.parametrize(("row", "words"), CANNOT_BE_KEPT)
def test_a_shape_that_cannot_be_kept_is_refused_with_its_reason(row, words):
    line = message(lambda: as_message(row))
    assert line.startswith("message")
    assert words in line


def test_prompts_and_responses_are_read_from_dicts():
    prompt = as_prompt([message_dict(USER), message_dict(CALL), message_dict(RESULT)], [WEATHER])
    assert prompt == Prompt([USER, CALL, RESULT], [WEATHER])
    assert as_prompt(prompt) is not None
    assert as_prompt(Prompt([USER]), [WEATHER]) == Prompt([USER], [WEATHER])
    assert as_response([message_dict(m) for m in (CALL, RESULT, ANSWER)]) == TRAJECTORY
    assert as_response([ANSWER]) == Response("Sunny.")
    assert comparison("Hi").prompt == (Message("user", "Hi"),)
    assert as_response(TRAJECTORY) is TRAJECTORY


def test_a_result_in_a_prompt_must_name_an_earlier_call():
    assert "message 1: tool_call_id must name an earlier tool call, got 'c1' where there are none" in message(
        lambda: as_prompt([USER, RESULT])
    )
    assert "got 'c2' where there are only c1" in message(
        lambda: as_prompt([USER, CALL, Message("tool", "x", tool_call_id="c2")])
    )
    assert as_prompt([USER, CALL, RESULT])[1:] == (CALL, RESULT)
    assert as_prompt([USER, Message("tool", "text alone")]), "without an id there is nothing to check"


def test_conversations_load_neither_torch_nor_numpy():
    code = "import sys, guerdon.contracts; print([m for m in ('torch', 'numpy', 'transformers') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# ---- Whatever recognizes a text tells tools and calls apart ----------------------------------------------------------

PLAIN, TOOLS = Prompt([USER]), Prompt([USER], [WEATHER])
OTHER = Response(messages=(Message("assistant", "", (ToolCall("delete_all"),)), Message("tool", "sunny"), ANSWER))


def test_recorded_scores_tell_tools_and_calls_apart_and_keys_of_text_are_stable():
    from guerdon.auditing.score_cache import text_key

    assert len({text_key(p, r) for p in (PLAIN, TOOLS) for r in (TRAJECTORY, OTHER, Response(TRAJECTORY.text))}) == 6
    assert text_key("Hi", "Hello!") == "8c0cc86b5756662e"


def test_a_prompt_normalized_model_leaves_out_the_response_itself_and_not_one_of_the_same_text():
    import numpy as np

    from guerdon.contracts import Scores
    from guerdon.models.prompt_normalized import per_prompt_baseline

    class ByCalls:
        def score(self, prompts, responses):
            value = np.array([float(as_response(r).turns() == TRAJECTORY.turns()) for r in responses])
            return Scores(value, np.zeros(len(value), dtype=bool))

    samples = [TRAJECTORY, OTHER, Response("Rainy.")]
    model = per_prompt_baseline(ByCalls(), [TOOLS] * 3, samples)
    assert model.score([TOOLS], [TRAJECTORY]).value.tolist() == [1.0]
    assert model.score([TOOLS], [OTHER]).value.tolist() == [-0.5]
    with pytest.raises(GuerdonError, match="no reference samples"):
        model.score([PLAIN], [OTHER])


def test_size_counts_the_arguments_of_calls():
    from guerdon.models.batch_invariance import _size

    long = Response(messages=(Message("assistant", "", (ToolCall("f", json.dumps({"x": "y" * 100})),)),))
    assert _size("a", "bc") == 3
    assert _size("a", long) > 100


def test_the_location_of_a_prompt_stays_with_its_parts_and_copies_and_makes_no_prompt_differ():
    prompt = as_prompt([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])
    located = prompt.at("a.jsonl:3")
    copies = [
        located[1:],
        located + prompt,
        prompt[:1] + located,
        as_prompt(located),
        pickle.loads(pickle.dumps(located)),
    ]
    assert [copy.location for copy in copies] == ["a.jsonl:3"] * 5
    assert (located, hash(located), prompt.location) == (prompt, hash(prompt), "")


def test_an_error_about_a_prompt_names_its_row_once():
    located = as_prompt("Hi").at("a.jsonl:3")
    expected = pytest.raises(GuerdonError, match=r"^a\.jsonl:3: no\. Drop it\.$")
    with expected, located.named_in_errors(), located.named_in_errors():
        raise GuerdonError("no. Drop it.")


def test_a_text_that_no_model_reads_is_refused_at_once():
    just_fits = "x" * MAX_CHARACTERS
    assert Message("user", just_fits).content == Response(just_fits).text
    for make in (
        Response,
        lambda text: Message("user", text),
        as_prompt,
        lambda text: Response(messages=(Message("assistant", text),)),
    ):
        with pytest.raises(
            GuerdonError, match=r"a text must have at most 4,000,000 characters, got 4,000,001\. Shorten"
        ):
            make(just_fits + "x")
