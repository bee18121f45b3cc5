"""What a chat template shows is scored; what it would hide or change is refused or handled, on three kinds of templates."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from chat_templates import (
    ARGUMENT_TEXT,
    ENDS_ONCE,
    LAST_THOUGHT,
    NO_ARGUMENTS,
    OPENS_THOUGHT,
    PRINTS_PYTHON,
    QWEN3,
    TEMPLATES,
    TEXT_ONLY,
    tokenizer_with,
)

import guerdon
from guerdon.config import ModelOptions
from guerdon.contracts import GuerdonError, Message, Prompt, Response, ToolCall, as_prompt
from guerdon.models.chat_template import ChatTemplate, render_prompt
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.template_source import PLAIN_TEMPLATE

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
SYSTEM, USER = Message("system", "Be brief."), Message("user", "Weather in Rome?")
CALL = Message("assistant", "", (ToolCall("weather", '{"city": "Rome"}', "c1"),))
THOUGHTFUL_CALL = dataclasses.replace(CALL, content="<think>\nI look it up.\n</think>\n\n")
RESULT, ANSWER = Message("tool", "22 degrees", tool_call_id="c1"), Message("assistant", "It is warm.")
TRAJECTORY = Response(messages=(CALL, RESULT, ANSWER))
CUT_TRAJECTORY = dataclasses.replace(TRAJECTORY, finish="length")
THOUGHTS = Prompt([Message("user", "6 times 7?"), Message("assistant", "<think>\n6*7\n</think>\n\n42"), USER])


def render(template: str, prompt, response: Response | str, system: str | None = None) -> str:
    response = Response(response) if isinstance(response, str) else response
    return ChatTemplate(tokenizer_with(template), template, system).conversation(as_prompt(prompt), response)


def refusal(template: str, prompt, response: Response | str) -> str:
    with pytest.raises(GuerdonError) as error:
        render(template, prompt, response)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")
    return str(error.value)


@pytest.fixture(params=TEMPLATES)
def template(request) -> str:
    return TEMPLATES[request.param]


# ---- What each kind of template shows --------------------------------------------------------------------------------

EMPTY_THOUGHT = "<think>\n\n</think>\n\n"
PLAIN_CHAT = {
    "chatml": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n",
    "llama3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|>"
    ),
    "qwen3": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        f"<|im_start|>assistant\n{EMPTY_THOUGHT}Hello!<|im_end|>\n"
    ),
}
AFTER_THE_PROMPT = {
    "chatml": (
        '\n<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>tool\n22 degrees<|im_end|>\n<|im_start|>assistant\nIt is warm."
    ),
    "llama3": (
        '{"name": "weather", "parameters": {"city": "Rome"}}<|eot_id|><|start_header_id|>ipython<|end_header_id|>\n\n'
        '"22 degrees"<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nIt is warm.'
    ),
    "qwen3": (
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call><|im_end|>\n<|im_start|>user\n'
        f"<tool_response>\n22 degrees\n</tool_response><|im_end|>\n<|im_start|>assistant\n{EMPTY_THOUGHT}It is warm."
    ),
}
END_OF_TURN = {"chatml": "<|im_end|>\n", "llama3": "<|eot_id|>", "qwen3": "<|im_end|>\n"}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_plain_chat_is_the_templates_own_rendering(name):
    assert render(TEMPLATES[name], [SYSTEM, Message("user", "Hi")], "Hello!") == PLAIN_CHAT[name]
    assert render(TEMPLATES[name], "Hi", "Hello!", system="Be brief.") == PLAIN_CHAT[name]
    tokenizer = tokenizer_with(TEMPLATES[name])
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    assert render(TEMPLATES[name], "Hi", "Hello!") == tokenizer.apply_chat_template(turns, tokenize=False)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_trajectory_follows_the_prompt_with_its_tools(name):
    prompt = Prompt([SYSTEM, USER], [TOOL])
    start = render_prompt(tokenizer_with(TEMPLATES[name]), prompt, template="model", system=None)
    assert '"name": "weather"' in start
    assert render(TEMPLATES[name], prompt, TRAJECTORY) == start + AFTER_THE_PROMPT[name] + END_OF_TURN[name]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_trajectory_that_was_cut_is_left_open(name):
    whole, cut = (render(TEMPLATES[name], [USER], response) for response in (TRAJECTORY, CUT_TRAJECTORY))
    assert whole == cut + END_OF_TURN[name]


def test_calls_and_results_in_the_prompt_are_shown(template):
    text = render(template, Prompt([USER, CALL, RESULT], [TOOL]), "It is warm.")
    assert text == render(template, Prompt([USER], [TOOL]), TRAJECTORY)


def test_responses_that_differ_in_a_call_or_a_result_alone_render_differently(template):
    other_call = dataclasses.replace(CALL, tool_calls=(ToolCall("weather", '{"city": "Bonn"}', "c1"),))
    other_result = dataclasses.replace(RESULT, content="cold")
    ways = [(CALL, RESULT, ANSWER), (other_call, RESULT, ANSWER), (CALL, other_result, ANSWER)]
    assert len({render(template, Prompt([USER], [TOOL]), Response(messages=way)) for way in ways}) == 3
    assert render(template, Prompt([USER], [TOOL]), TRAJECTORY) != render(template, [USER], TRAJECTORY)


def test_parallel_calls_are_shown_or_refused_by_the_template():
    two = Message("assistant", "", (ToolCall("weather", id="c1"), ToolCall("time", id="c2")))
    turns = (two, RESULT, Message("tool", "noon", tool_call_id="c2"), ANSWER)
    for name in ("chatml", "qwen3"):
        text = render(TEMPLATES[name], [USER], Response(messages=turns))
        assert text.index('"weather"') < text.index('"time"') < text.index("22 degrees") < text.index("noon")
    line = refusal(TEMPLATES["llama3"], [USER], Response(messages=turns))
    assert "refuses its roles user,assistant,tool,tool,assistant: one tool call per turn. Reorder" in line


# ---- Tools that a template leaves out --------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [TEXT_ONLY, PLAIN_TEMPLATE])
def test_a_template_that_leaves_out_tools_is_refused(source):
    named = [Message("user", "Call the tool weather!")]
    assert "must show tool 'weather', but leaves it out. Choose" in refusal(source, Prompt(named, [TOOL]), "Hi")
    assert "tool call 'weather', but leaves it out" in refusal(source, [*named, CALL, RESULT], "Hi")
    assert "but leaves it out" in refusal(source, named, TRAJECTORY)
    with pytest.raises(GuerdonError, match=r"must show tool 'weather', but leaves it out"):
        render_prompt(tokenizer_with(source), Prompt(named, [TOOL]), template="model", system=None)
    assert render(source, named, "Hi"), "text alone is rendered"


def test_a_template_that_leaves_out_arguments_or_results_is_refused():
    assert "must show the arguments of tool call 'weather'" in refusal(NO_ARGUMENTS, [USER], TRAJECTORY)
    hides_results = TEXT_ONLY.replace(
        "{{ '<|im_start|>' + m.role", "{{ '' if m.role == 'tool' else '<|im_start|>' + m.role"
    )
    source = hides_results.replace("m.content", "(m.content or m.tool_calls | tojson)")
    assert "must show the result of a tool" in refusal(source, [USER], TRAJECTORY)


@pytest.mark.parametrize("source", [ARGUMENT_TEXT, PRINTS_PYTHON])
def test_a_template_that_takes_arguments_as_text_gets_them_as_json(source):
    assert 'weather{"city": "Rome"}' in render(source, [USER], TRAJECTORY)


def test_the_check_looks_at_each_shape_of_conversation_once(monkeypatch):
    tokenizer = tokenizer_with(QWEN3)
    applied = []
    plain = tokenizer.apply_chat_template
    monkeypatch.setattr(tokenizer, "apply_chat_template", lambda *a, **k: applied.append(1) or plain(*a, **k))
    template = ChatTemplate(tokenizer, QWEN3)
    for i in range(10):
        template.conversation(Prompt([Message("user", f"{i}")], [TOOL]), TRAJECTORY)
    assert len(applied) == 10 * 2 + 2, "prompt and conversation of each, one probe of each shape"


# ---- Thoughts --------------------------------------------------------------------------------------------------------


def test_earlier_thoughts_are_dropped_by_a_template_that_drops_them_and_kept_by_others():
    text = render(QWEN3, THOUGHTS, "Warm.")
    assert text == (
        "<|im_start|>user\n6 times 7?<|im_end|>\n<|im_start|>assistant\n42<|im_end|>\n"
        f"<|im_start|>user\nWeather in Rome?<|im_end|>\n<|im_start|>assistant\n{EMPTY_THOUGHT}Warm.<|im_end|>\n"
    )
    for name in ("chatml", "llama3"):
        assert "<think>\n6*7\n</think>" in render(TEMPLATES[name], THOUGHTS, "Warm.")


def test_thoughts_of_the_reply_are_shown_though_tools_were_called_between():
    last = Message("assistant", "<think>\nSo it is warm.\n</think>\n\nIt is warm.")
    text = render(QWEN3, Prompt([USER], [TOOL]), Response(messages=(THOUGHTFUL_CALL, RESULT, last)))
    assert "<think>\nI look it up.\n</think>\n\n<tool_call>" in text
    assert "<think>\nSo it is warm.\n</think>\n\nIt is warm.<|im_end|>\n" in text


def test_a_template_that_takes_thoughts_from_an_earlier_turn_once_a_reply_is_added_is_refused():
    line = refusal(LAST_THOUGHT, THOUGHTS, "Warm.")
    assert line.startswith("the chat template must render a prompt the same with and without its reply, got '<think>")
    assert "without and '\\n\\n42<|im_end|>" in line
    assert "Use a template that keeps earlier turns as they are, or drop the row." in line
    assert render(LAST_THOUGHT, [Message("user", "6 times 7?")], "<think>6*7</think>42"), "no earlier turn"
    assert render(LAST_THOUGHT, [*THOUGHTS[::2]], "Warm."), "no thought"


def test_a_prompt_that_ends_with_the_assistant_is_refused_where_its_thought_would_go():
    prompt = [USER, Message("assistant", "Let me see.")]
    assert "must render a prompt the same" in refusal(QWEN3, prompt, "Warm.")
    for name in ("chatml", "llama3"):
        assert render(TEMPLATES[name], prompt, "Warm.")


@pytest.mark.parametrize("source", [OPENS_THOUGHT, ENDS_ONCE, PLAIN_TEMPLATE, TEXT_ONLY])
def test_what_follows_the_prompts_last_turn_may_differ(source):
    """A thought that is opened for the reply, an end of the whole text: earlier turns are as they were."""
    tokenizer = tokenizer_with(source)
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    assert render(source, "Hi", "Hello!") == tokenizer.apply_chat_template(turns, tokenize=False)


def test_a_prompt_that_the_template_refuses_without_a_reply_is_scored():
    source = "{% if messages[-1].role != 'assistant' %}{{ raise_exception('no reply') }}{% endif %}" + TEXT_ONLY
    assert render(source, "Hi", "Hello!") == render(TEXT_ONLY, "Hi", "Hello!")


# ---- Replies that were cut -------------------------------------------------------------------------------------------


def cut(text: str) -> Response:
    return Response(text, finish="length")


@pytest.mark.parametrize("text", ["The answer is", "  The answer  is \n", "<think>\n6*7\n</think>\n\nThe answer is"])
def test_a_cut_reply_is_the_finished_one_without_its_end(template, text):
    whole, opened = (render(template, "6 times 7?", response) for response in (text, cut(text)))
    assert opened.rstrip().endswith(text.rstrip()[-9:])
    assert whole.startswith(opened.rstrip())
    assert len(whole) - len(opened.rstrip()) <= len("<|im_end|>\n") + 2


def test_a_reply_that_was_cut_behind_a_thought_without_line_breaks_is_scored():
    """The template writes the thought in its own way, so the text as a whole is not in the rendering."""
    text = render(QWEN3, "6 times 8?", cut("<think>6*8=48</think>The answer is"))
    assert text.endswith("<|im_start|>assistant\n<think>\n6*8=48\n</think>\n\nThe answer is")


@pytest.mark.parametrize("text", ["<think>6*8=", "<think>\n6*8=", "<think>\na\n</think>\n\n<think>b"])
def test_a_reply_that_was_cut_inside_a_thought_stands_as_it_was_written(template, text):
    start = render_prompt(tokenizer_with(template), as_prompt("6 times 8?"), template="model", system=None)
    assert render(template, "6 times 8?", cut(text)) == start + text


def test_a_thought_that_the_generation_prompt_opened_is_continued_once():
    start = "<|User|>6 times 8?<|Assistant|><think>\n"
    assert render(OPENS_THOUGHT, "6 times 8?", cut("6*8=")) == start + "6*8="
    assert render(OPENS_THOUGHT, "6 times 8?", cut("<think>\n6*8=")) == start + "6*8="
    assert render(OPENS_THOUGHT, "6 times 8?", cut("6*8=48</think>The")) == "<|User|>6 times 8?<|Assistant|>The"


def test_without_a_generation_prompt_a_thought_that_was_cut_stays_in_its_turn():
    source = TEXT_ONLY.removesuffix("{{ '<|im_start|>assistant\n' if add_generation_prompt }}")
    assert source != TEXT_ONLY
    text = render(source, "6 times 8?", cut("<think>6*8="))
    assert text == "<|im_start|>user\n6 times 8?<|im_end|>\n<|im_start|>assistant\n<think>6*8="


def test_a_reply_that_was_cut_after_a_call_is_left_open_or_refused(template):
    whole, opened = (render(template, [USER], Response(messages=(CALL,), finish=f)) for f in (None, "length"))
    assert whole.startswith(opened)
    assert opened.rstrip().endswith(("}", "</tool_call>"))
    own = TEMPLATES["llama3"].replace(
        "call.arguments | tojson + '}<|eot_id|>'", "call.arguments | tojson + '}<|eom_id|>'"
    )
    assert "Set finish to stop, or drop the row." in refusal(own, [USER], Response(messages=(CALL,), finish="length"))


def test_an_empty_cut_reply_is_closed(template):
    assert render(template, "Hi", cut(" ")) == render(template, "Hi", " ")


# ---- Through a model -------------------------------------------------------------------------------------------------


def test_a_reward_model_scores_trajectories_and_tells_calls_apart(tiny_dir):
    model = create_reward_model(ModelOptions(base=str(tiny_dir)))
    model.text.tokenizer.chat_template = QWEN3
    love, hate = (
        Response(
            messages=(Message("assistant", "", (ToolCall("write", f'{{"the": "{word}"}}', "c1"),)), RESULT, ANSWER)
        )
        for word in ("love", "hate")
    )
    prompt = Prompt([USER], [{"type": "function", "function": {"name": "write"}}])
    scores = model.score([prompt, prompt, [USER]], [love, hate, love]).value
    assert len(set(scores.tolist())) == 3
    np.testing.assert_allclose(model.score([prompt], [love]).value, scores[:1], atol=1e-6)
    turns = [
        {
            "role": "assistant",
            "tool_calls": [{"id": "c1", "name": "write", "arguments": {"the": "love"}}],
            "content": None,
        },
        {"role": "tool", "content": RESULT.content, "tool_call_id": "c1"},
        {"role": "assistant", "content": [{"type": "text", "text": ANSWER.content}]},
    ]
    np.testing.assert_allclose(model.score([prompt], [turns]).value, scores[:1], atol=1e-6)


def test_a_policy_reads_tools_and_refuses_a_template_that_hides_them(tiny_dir):
    policy = guerdon.load_policy(base=str(tiny_dir))
    prompt = Prompt([USER], [TOOL])
    policy.tokenizer.chat_template = TEXT_ONLY
    with pytest.raises(GuerdonError, match=r"must show tool 'weather', but leaves it out"):
        policy.encode(prompt)
    with_text = policy.encode(Prompt([USER]))
    policy.tokenizer.chat_template = QWEN3
    assert len(policy.encode(prompt)) > len(policy.encode(Prompt([USER]))) == len(with_text)
