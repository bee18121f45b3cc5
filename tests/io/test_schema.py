"""Native rows with tools, tool calls and several messages are read back exactly, and text-only rows are as they were."""

from __future__ import annotations

import json

import comparison_files
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guerdon.contracts import Comparison, GuerdonError, Message, Preference, Prompt, Response, Rollouts, ToolCall
from guerdon.io import readers, schema, writers

TOOL = '{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}'
USER, ANSWER = Message("user", "Weather in Rome?"), Message("assistant", "Sunny.")
CALL = Message("assistant", "", (ToolCall("weather", '{"city": "Rome"}', "c1"),))
RESULT = Message("tool", "sunny", tool_call_id="c1", name="weather")
TRAJECTORY = Response(messages=(CALL, RESULT, ANSWER), finish="stop", author="ada", ratings={"truth": 4.0})


def one(prompt, *responses) -> Comparison:
    return Comparison(prompt, responses, Preference(q=1.0))


text = st.text(st.characters(codec="utf-8"), max_size=6)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2),
    max_leaves=4,
)
objects = st.dictionaries(text, json_values, max_size=3)
calls = st.lists(
    st.builds(ToolCall, names, objects.map(json.dumps), st.none() | names),
    min_size=1,
    max_size=2,
    unique_by=lambda call: call.id or id(call),
)
tools = st.lists(st.builds(lambda name, more: {**more, "name": name}, names, objects), max_size=2).filter(
    lambda tools: all("function" not in tool for tool in tools)
)


@st.composite
def trajectories(draw):
    """A call, a result for each call, an answer: the turns of a response."""
    call = Message("assistant", draw(text), tuple(draw(calls)))
    results = [Message("tool", draw(text), tool_call_id=c.id, name=draw(st.none() | names)) for c in call.tool_calls]
    return (call, *results, Message("assistant", draw(text), name=draw(st.none() | names)))


@st.composite
def comparisons(draw):
    earlier = draw(st.just(()) | trajectories())
    prompt = Prompt([Message("user", draw(text)), *earlier, Message("user", draw(text))], draw(tools))
    answers = st.builds(Response, text, st.sampled_from([None, "length"])) | st.builds(
        lambda messages, finish: Response(messages=messages, finish=finish),
        trajectories(),
        st.sampled_from([None, "stop", "length"]),
    )
    return one(prompt, draw(answers), draw(answers))


@settings(max_examples=60, deadline=None)
@given(comparisons())
def test_a_row_gives_back_its_comparison_exactly_through_json(comparison):
    line = json.dumps(schema.comparison_to_row(comparison), ensure_ascii=False)
    assert schema.comparison_from_row(json.loads(line)) == comparison


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_file_gives_back_its_comparisons_exactly(name, tmp_path):
    @settings(max_examples=15, deadline=None)
    @given(st.lists(comparisons(), min_size=1, max_size=3))
    def gives_back(wanted):
        writers.write_comparisons(tmp_path / name, wanted)
        found = list(readers.read_comparisons(tmp_path / name))
        assert found == wanted
        assert [c.prompt.tools for c in found] == [c.prompt.tools for c in wanted]

    gives_back()


def test_a_text_only_row_has_the_keys_it_always_had():
    prompt = (Message("system", "Be brief."), Message("user", "Hi"))
    comparison = Comparison(
        prompt, (Response("a", "stop", "ada", {"x": 1.0}), Response("b")), Preference(groups=((0,), (1,))), source="s"
    )
    assert json.dumps(schema.comparison_to_row(comparison)) == (
        '{"id": "ID", "group": "4583eae423bf95de", "prompt": [{"role": "system", "content": "Be brief."}, '
        '{"role": "user", "content": "Hi"}], "responses": [{"text": "a", "finish": "stop", "author": "ada", '
        '"ratings": {"x": 1.0}}, {"text": "b"}], "preference": {"groups": [[0], [1]]}, "source": "s"}'
    ).replace("ID", comparison.id)


def test_a_row_of_the_first_release_is_read():
    row = {"prompt": "Hi", "responses": ["a", "b"], "verdict": {"q": 0.75}}
    assert schema.comparison_from_row(row).preference == Preference(q=0.75)
    with pytest.raises(GuerdonError, match=r"verdict is not a known field"):
        schema.comparison_from_row({**row, "preference": {"q": 1}})


def test_calls_are_written_in_openais_shape_and_several_messages_in_place_of_their_text():
    row = schema.comparison_to_row(one(Prompt([USER, CALL, RESULT], [TOOL]), TRAJECTORY, Response("b")))
    assert row["tools"] == [TOOL]
    assert row["prompt"][1] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
        ],
    }
    assert row["prompt"][2] == {"role": "tool", "content": "sunny", "tool_call_id": "c1", "name": "weather"}
    assert set(row["responses"][0]) == {"finish", "author", "ratings", "messages"}


@pytest.mark.parametrize("tools", [[json.loads(TOOL)], [TOOL], f"[{TOOL}]"])
def test_tools_may_be_objects_or_json_text(tools):
    row = {"prompt": "Weather in Rome?", "tools": tools, "responses": ["a", "b"], "preference": {"q": 1}}
    assert schema.comparison_from_row(row).prompt == Prompt([USER], [TOOL])


def test_a_response_may_be_a_list_of_messages():
    turns = schema.response_to_row(TRAJECTORY)["messages"]
    assert schema.response_from_row(turns, "response").messages == TRAJECTORY.messages
    assert schema.response_from_row([{"role": "assistant", "content": "Sunny."}], "response") == Response("Sunny.")
    both = {"messages": turns, "text": TRAJECTORY.text}
    assert schema.response_from_row(both, "response").messages == TRAJECTORY.messages


def test_a_row_to_be_scored_keeps_tools_and_calls():
    turns = [schema._message_to_row(turn) for turn in (USER, CALL, RESULT, ANSWER)]
    prompt, responses, single = schema.conversation_from_row("a:1", {"messages": turns, "tools": [TOOL]})
    assert (prompt, responses, single) == (Prompt([USER, CALL, RESULT], [TOOL]), [Response("Sunny.")], True)
    prompt, (response,), _ = schema.conversation_from_row("a:1", {"messages": turns[:2], "tools": [TOOL]})
    assert (prompt, response) == (Prompt([USER], [TOOL]), Response(messages=(CALL,)))
    row = {"prompt": turns[:1], "tools": [TOOL], "responses": [turns[1:], "Rainy."]}
    prompt, responses, single = schema.conversation_from_row("a:1", row)
    assert (prompt, single) == (Prompt([USER], [TOOL]), False)
    assert responses == [Response(messages=(CALL, RESULT, ANSWER)), Response("Rainy.")]


@pytest.mark.parametrize(
    "row",
    [
        {
            "messages": [
                {"role": "user", "content": "Hi", "weight": 1},
                {"role": "assistant", "content": "Yes", "train": 0},
            ]
        },
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                {"role": "assistant", "content": "Yes"},
            ]
        },
        {"prompt": [{"role": "user", "content": "Hi", "weight": None}], "response": "Yes"},
        {"prompt": "Hi", "response": "Yes", "responses": None, "messages": None},
        {"prompt": '[{"role": "user", "content": "Hi"}]', "response": "Yes"},
        {"messages": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes"}]},
    ],
)
def test_a_row_to_be_scored_is_read_as_an_import_reads_it(row):
    assert schema.conversation_from_row("a:1", row) == (Prompt([Message("user", "Hi")]), [Response("Yes")], True)


def test_a_row_to_be_scored_keeps_names_and_refuses_what_would_be_lost():
    named = {"role": "user", "content": "Hi", "name": "ann"}
    prompt, _, _ = schema.conversation_from_row("a:1", {"prompt": [named], "response": "Yes"})
    assert prompt[0].name == "ann"
    for turn in ({"role": "assistant", "content": "Yes", "reasoning_content": "Hm."}, {"role": None, "content": "Yes"}):
        with pytest.raises(
            GuerdonError, match=r"^a:1: prompt\[1\]\.(reasoning_content must be empty|role must be system)"
        ):
            schema.conversation_from_row("a:1", {"messages": [named, turn]})
    with pytest.raises(GuerdonError, match=r"^a:1: row must be an object with prompt and response"):
        schema.conversation_from_row("a:1", {"prompt": "Hi", "response": None})


def test_columns_of_a_system_message_and_of_a_history_are_read_wherever_prompts_are(tmp_path):
    row = {"prompt": "Who am I?", "response": "Ada.", "system": "Be kind.", "history": [["I am Ada.", "Hello."]]}
    expected = [("system", "Be kind."), ("user", "I am Ada."), ("assistant", "Hello."), ("user", "Who am I?")]
    prompt, _, _ = schema.conversation_from_row("a:1", row)
    assert [(message.role, message.content) for message in prompt] == expected
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    assert readers.read_prompts(tmp_path / "a.jsonl") == [prompt]
    for change, words in (
        ({"history": "I am Ada."}, "history must be a list of messages"),
        ({"system": 3}, "system must be"),
    ):
        with pytest.raises(GuerdonError, match=f"a:1: {words}"):
            schema.conversation_from_row("a:1", {**row, **change})


def test_rollouts_and_prompts_keep_tools_and_messages(tmp_path):
    prompt = Prompt([USER], [TOOL])
    writers.write_rollouts(tmp_path / "a.jsonl", Rollouts((prompt, Prompt([USER])), (TRAJECTORY, Response("b"))))
    found = readers.read_rollouts(tmp_path / "a.jsonl")
    assert found.prompts == (prompt, Prompt([USER]))
    assert found.responses == (TRAJECTORY, Response("b"))
    assert readers.read_prompts(tmp_path / "a.jsonl") == [prompt, Prompt([USER])]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tools": "weather"}, "tools must be a list of tools, or one as JSON text, got 'weather'"),
        ({"tools": {"name": "f"}}, "tools must be a list of tools, or one as JSON text, got {'name': 'f'}"),
        ({"tools": [{"type": "x"}]}, "tools[0] must be a function with a name"),
        ({"responses": ["a", {"finish": "stop"}]}, "responses[1].text is missing. Add it."),
        ({"responses": ["a", {"messages": "b"}]}, "responses[1].messages must be a list of messages, got 'b'"),
        (
            {"responses": ["a", [{"role": "user", "content": "b"}]]},
            "responses[1]: response: messages must be assistant",
        ),
        (
            {"responses": ["a", {"text": "b", "messages": [{"role": "assistant", "content": "c", "name": "x"}]}]},
            "responses[1]: response: text must be the text of its messages, got 'b'",
        ),
        ({"prompt": [{"role": "user"}]}, "prompt[0].content must be text, got nothing"),
        (
            {"prompt": [{"role": "user", "content": "a", "naem": "b"}]},
            "prompt[0].naem is not a known field. Did you mean",
        ),
        (
            {"prompt": [{"role": "tool", "content": "a", "tool_call_id": "c1"}]},
            "message 0: tool_call_id must name an earlier tool call, got 'c1' where there are none",
        ),
        (
            {"prompt": [{"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": "{"}]}]},
            "prompt[0].tool_calls[0]: the arguments of 'f' must be a JSON object, got '{'",
        ),
    ],
)
def test_a_field_that_cannot_be_kept_is_named_with_its_value(changes, words):
    row = {"prompt": "Hi", "responses": ["a", "b"], "preference": {"q": 1}, **changes}
    with pytest.raises(GuerdonError) as error:
        schema.comparison_from_row(row)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@settings(max_examples=60, deadline=None)
@given(comparison_files.comparisons(comparison_files.any_text))
def test_a_comparison_survives_its_row_and_json_exactly(comparison):
    line = json.dumps(schema.comparison_to_row(comparison), ensure_ascii=False).encode("utf-8", "backslashreplace")
    assert schema.comparison_from_row(json.loads(line)) == comparison
