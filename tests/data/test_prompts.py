"""Which prompt a row has: from columns of other names, from texts that hold messages, and from what two answers share."""

from __future__ import annotations

import json

import pytest
from imports import one, preferred, reason, sides, take, turns

from guerdon.config import ImportOptions
from guerdon.contracts import Comparison, GuerdonError
from guerdon.data.importers import Rejected, import_rows

PAIR = {"chosen": "The sea is wide.", "rejected": "The sea is dry."}
BOTH = ("It is hot.", "It is cold.")


def says(role, text):
    return {"role": role, "content": text}


def talk(answer, question="What is the sun?"):
    return [says("user", question), says("assistant", answer)]


def lines_of(*rows, **options) -> list[str]:
    lines: list[str] = []
    list(import_rows([(f"a:{i}", row) for i, row in enumerate(rows, start=1)], ImportOptions(**options), lines.append))
    return lines


# ---- Columns of other names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"instruction": "Describe the sea."}, ["u:Describe the sea."]),
        ({"instruction": "Describe it.", "input": "The sea"}, ["u:Describe it.\nThe sea"]),
        ({"instruction": "Describe it.", "input": ""}, ["u:Describe it."]),
        ({"instruction": "", "input": "Sea?"}, ["u:Sea?"]),
        ({"input": "How is it?"}, ["u:How is it?"]),
        ({"question": "How is it?"}, ["u:How is it?"]),
        ({"query": "How is it?"}, ["u:How is it?"]),
        ({"context": [says("user", "How is it?")]}, ["u:How is it?"]),
        ({"prompt": "This one.", "question": "Not this."}, ["u:This one."]),
        ({"question": "How is it?", "system": "Be brief."}, ["s:Be brief.", "u:How is it?"]),
        ({"question": "How is it?", "system": " "}, ["u:How is it?"]),
    ],
)
def test_the_prompt_is_in_the_column_that_usually_holds_it(columns, expected):
    imported = one({**PAIR, **columns})
    assert turns(imported) == expected
    assert preferred(imported) == ("The sea is wide.", "The sea is dry.")


def test_the_column_of_the_prompt_is_found_for_labeled_rows_too():
    row = {"question": "Hot?", "first": "yes", "second": "no", "label": "a"}
    assert turns(one(row)) == ["u:Hot?"]
    assert lines_of(row) == ["format: labeled, prompt=question (detected from first, second, label)"]


@pytest.mark.parametrize(
    "write", [list, repr, lambda turns: MARKS["Anthropic"].format(*(turn["content"] for turn in turns))]
)
def test_conversations_that_hold_their_prompt_need_no_column_for_it(write):
    row = {"chosen": write(talk(BOTH[0])), "rejected": write(talk(BOTH[1])), "query": "suns", "context": "A text."}
    imported = one(row)
    assert (turns(imported), preferred(imported)) == (["u:What is the sun?"], BOTH)
    assert lines_of(row)[-1] == "columns not used: query, context"


def test_two_columns_that_could_be_the_prompt_are_asked_about():
    row = {**PAIR, "question": "How is it?", "context": "A text about the sea."}
    with pytest.raises(
        GuerdonError, match=r"^a:1: one column must be the prompt, got question, context\. Say which: --column"
    ):
        take(row)
    assert turns(one(row, columns={"prompt": "question"})) == ["u:How is it?"]


def test_what_two_answers_share_is_no_prompt_beside_another_column_of_text():
    row = {**PAIR, "request": "Describe the sea."}
    assert reason(row) == "prompt is missing, and request may hold it. Say which: --column prompt=NAME."
    assert turns(one(row, columns={"prompt": "request"})) == ["u:Describe the sea."]
    assert turns(one({**PAIR, "split": "train", "id": "a7", "source": "web"})) == ["u:The sea is"]


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([["I am Ada.", "Hello Ada."]], ["u:I am Ada.", "a:Hello Ada.", "u:Who am I?"]),
        ([says("user", "I am Ada."), says("assistant", "Hello.")], ["u:I am Ada.", "a:Hello.", "u:Who am I?"]),
        ([], ["u:Who am I?"]),
        (
            json.dumps([says("user", "I am Ada."), says("assistant", "Hello.")]),
            ["u:I am Ada.", "a:Hello.", "u:Who am I?"],
        ),
    ],
)
def test_a_history_goes_in_front_of_the_prompt(history, expected):
    assert turns(one({**PAIR, "prompt": "Who am I?", "history": history})) == expected


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            {"history": "I am Ada."},
            "history must be a list of messages, or of pairs of a question and its answer, got 'I am",
        ),
        ({"history": [["one"]]}, "history must be a list of messages, or of pairs"),
        ({"system": 3}, "system must be text, got 3"),
        (
            {"system": "Be brief.", "prompt": [says("system", "Be kind."), says("user", "Hi")]},
            "system must be the system message of the prompt, which has one, got 'Be brief.'. Leave one of the two out.",
        ),
        ({"images": ["cat.png"]}, "images must be empty, got ['cat.png']. Only text is scored"),
    ],
)
def test_columns_that_cannot_be_used_reject_the_row(columns, words):
    assert words in reason({**PAIR, "prompt": "Hi", **columns})


def test_a_system_message_that_is_given_twice_is_kept_once():
    row = {**PAIR, "system": "Be kind.", "prompt": [says("system", "Be kind."), says("user", "Hi")]}
    assert turns(one(row)) == ["s:Be kind.", "u:Hi"]


# ---- What is not used ----------------------------------------------------------------------------------------------


def test_columns_and_keys_that_nothing_reads_are_named_once():
    message = {**says("assistant", "Iron."), "weight": 1, "name": "bot", "logprobs": None}
    row = {
        "prompt": "Name a metal.",
        "chosen": [message],
        "rejected": [says("assistant", "Wood.")],
        "margin": 1,
        "id": 3,
    }
    assert lines_of(row, {**row, "split": "train", "empty": ""}, {**row, "model": "m"}) == [
        "format: trl (detected from chosen, rejected)",
        "columns not used: chosen.weight, split, model",
    ]
    wide = {"prompt": "p", "chosen": "x", "rejected": "y", **{f"c{i}": 1 for i in range(99)}}
    assert lines_of(wide)[1].endswith("c11, …")


def test_all_columns_of_a_known_data_set_that_are_not_its_label_are_named():
    row = {"prompt": "p", "response_0": "x", "response_1": "y", "better_response_id": 1, "safer_response_id": 0}
    assert lines_of(row)[-1] == "columns not used: safer_response_id"


# ---- Messages as text ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [json.dumps, repr, lambda v: json.dumps({"messages": v}), lambda v: f"\n {v!r}\n"])
@pytest.mark.parametrize("column", [{}, {"prompt": "What is the sun?"}])
def test_messages_may_be_text(write, column):
    imported = one({**column, "chosen": write(talk('It\'s "hot".')), "rejected": write(talk("Cold\n\\d"))})
    assert turns(imported) == ["u:What is the sun?"]
    assert preferred(imported) == ('It\'s "hot".', "Cold\n\\d")


def test_a_prompt_and_responses_of_every_format_may_be_messages_as_text():
    prompt, answer = json.dumps(talk("", "Hot?")[:1]), repr([says("assistant", "yes")])
    for row in (
        {"prompt": prompt, "first": answer, "second": "no", "label": "a"},
        {"prompt": prompt, "responses": [answer, "no"], "scores": [1, 0]},
        {"prompt": prompt, "response_a": answer, "response_b": "no", "votes": ["a"]},
    ):
        assert (turns(one(row)), [r.text for r in one(row).responses]) == (["u:Hot?"], ["yes", "no"])


@pytest.mark.parametrize(
    "text",
    [
        '[{"role": "user", "content": "Hot?"}, {"role": "assistant", "content": "ye',
        "[{'role': 'user', 'content': 'Hot?'} {'role': 'assistant', 'content': 'yes'}]",  # how NumPy prints it
        "[{'role': 'user', 'content': open('x')}]",
        "[" + "{'role': 'user', 'a': " * 500,
    ],
)
def test_text_that_starts_as_messages_and_cannot_be_read_is_refused(text):
    words = "chosen must be messages as JSON or as Python prints them, got"
    assert words in reason({"chosen": text, "rejected": text[:-1]}, format="trl")


def test_a_text_too_long_to_be_parsed_as_python_is_refused():
    text = repr(talk("x" * 2**20))
    assert "must be messages as JSON or as Python" in reason({"chosen": text, "rejected": text}, format="trl")
    assert isinstance(one({"chosen": json.dumps(talk("x" * 2**20)), "rejected": json.dumps(talk("y"))}), Comparison)


def test_an_answer_that_is_other_json_stays_as_it_is():
    answers = ('[{"role": "admin", "content": "x"}]', '{"role": "user", "age": 3}')
    assert preferred(one({"prompt": "Write JSON.", "chosen": answers[0], "rejected": answers[1]})) == answers


# ---- Transcripts ---------------------------------------------------------------------------------------------------

MARKS = {
    "Anthropic": "\n\nHuman: {}\n\nAssistant: {}",
    "carriage returns": "\r\n\r\nHuman: {}\r\n\r\nAssistant: {}",
    "space in front": " \n\nHuman: {}\n\nAssistant: {}",
    "one newline": "Human: {}\nAssistant: {}",
    "lower case": "human: {}\n\nassistant: {}",
    "open turn": "\n\nHuman: {}\n\nAssistant: {}\n\nHuman:",
}


@pytest.mark.parametrize("name", MARKS)
def test_transcripts_are_read_whatever_is_around_their_marks(name):
    row = {
        key: MARKS[name].format("What is\nthe sun?", text)
        for key, text in zip(("chosen", "rejected"), BOTH, strict=True)
    }
    assert lines_of(row) == ["format: hh (detected from chosen, rejected: transcripts)"]
    assert (turns(one(row)), preferred(one(row))) == (["u:What is\nthe sun?"], BOTH)


@pytest.mark.parametrize("name", ["carriage returns", "one newline"])
def test_earlier_turns_of_such_transcripts_are_turns(name):
    start, mark = MARKS[name].format("a", "b"), MARKS[name].lstrip()
    row = {key: f"{start}\n{mark.format('c', text)}" for key, text in zip(("chosen", "rejected"), BOTH, strict=True)}
    assert turns(one(row)) == ["u:a", "a:b", "u:c"]


def test_a_prompt_column_may_be_the_question_of_both_transcripts():
    row = {
        key: MARKS["Anthropic"].format("What is it?", text)
        for key, text in zip(("chosen", "rejected"), BOTH, strict=True)
    }
    for prompt in ("What is it?", "\n\nHuman: What is it?\n\nAssistant:", [says("user", "What is it?")]):
        assert turns(one({**row, "prompt": prompt})) == ["u:What is it?"]
        assert preferred(one({**row, "prompt": prompt})) == BOTH
    assert preferred(one({**row, "prompt": "Write a dialog."})) == (row["chosen"], row["rejected"])


# ---- What two texts share ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt", "answers"),
    [
        ("Q: Is it red? A: yes", "Q: Is it red? A: no", "Q: Is it red? A:", (" yes", " no")),
        (
            "问：草是什么颜色？答：绿色。",
            "问：草是什么颜色？答：红色。",
            "问：草是什么颜色？答：",
            ("绿色。", "红色。"),
        ),
        (
            "问：雪是什么 颜色？答：白色。",
            "问：雪是什么 颜色？答：黑色。",
            "问：雪是什么 颜色？答：",
            ("白色。", "黑色。"),
        ),
        ("Rate it: 👍🏽 now", "Rate it: 👍🏿 now", "Rate it:", (" 👍🏽 now", " 👍🏿 now")),
        ("The sky is blue.", "The sky is black.", "The sky is", (" blue.", " black.")),
    ],
)
def test_text_is_cut_behind_the_last_whole_word_that_both_share(chosen, rejected, prompt, answers):
    imported = one({"chosen": chosen, "rejected": rejected})
    assert (turns(imported), preferred(imported)) == ([f"u:{prompt}"], answers)


@pytest.mark.parametrize(
    ("chosen", "rejected", "words"),
    [
        ("The moon", "The sun", "share no beginning of more than a word. Give a prompt."),
        ("Rate 👍🏽 now", "Rate 👍🏿 now", "share no beginning of more than a word"),
        (
            "Q: Is it red? A: Green",
            "Q: Is it red? A: Green and heavy",
            "one of chosen and rejected goes on from the other",
        ),
        ("Q: Is it red? A: White", "Q: Is it red? A: Whitewash", "where the prompt ends is unknown. Give a prompt."),
        (
            "<s>[INST] Is it deep? [/INST] Yes",
            "<s>[INST] Is it deep? [/INST] No",
            "marks, such as [INST]. Give the turns as",
        ),
        ("<|im_start|>user\nHi there<|im_end|>", "<|im_start|>user\nHi you<|im_end|>", "marks, such as <|im_start|>"),
    ],
)
def test_a_prompt_that_would_be_a_guess_rejects_the_row_with_the_true_reason(chosen, rejected, words):
    assert words in reason({"chosen": chosen, "rejected": rejected}, format="trl")


@pytest.mark.parametrize("name", ["prompt", "question"])
@pytest.mark.parametrize("absent", [{}, {"prompt": None}, {"prompt": float("nan")}])
@pytest.mark.parametrize("options", [{}, {"format": "trl"}])
def test_a_row_without_the_prompt_that_other_rows_have_is_set_aside(name, absent, options):
    with_prompt = {**PAIR, name: "How is it?"}
    without = {**PAIR, **({name: absent["prompt"]} if absent else {})}
    for rows in ([without, with_prompt], [with_prompt, without]):
        read, refused = sorted(take(*rows, **options), key=lambda result: isinstance(result, Rejected))
        assert turns(read) == ["u:How is it?"]
        assert refused.reason == "prompt is missing, and other rows have one. Add it or drop the row."
        assert not any(line.startswith("prompts:") for line in lines_of(*rows, **options))


def test_conversations_that_hold_their_prompt_need_none_where_other_rows_have_one():
    row = {"chosen": talk(BOTH[0]), "rejected": talk(BOTH[1])}
    read = take({**PAIR, "prompt": "How is it?"}, row, {**row, "prompt": None})
    assert [turns(comparison) for comparison in read] == [["u:How is it?"], *[["u:What is the sun?"]] * 2]


def test_one_line_says_that_prompts_are_what_two_texts_share():
    rows = [
        {"chosen": f"Is\x1b {i} red? {'x' * 99} yes", "rejected": f"Is\x1b {i} red? {'x' * 99} no"} for i in range(3)
    ]
    line = f"prompts: taken from what both answers begin with, such as 'Is\\x1b 0 red? {'x' * 45}…"
    assert lines_of(*rows) == ["format: trl (detected from chosen, rejected)", line]
    assert lines_of(*({**row, "prompt": None} for row in rows)) == [
        "format: trl (detected from chosen, rejected)",
        line,
    ]


def test_messages_and_given_prompts_are_no_prompts_cut_from_texts():
    conversation = {"chosen": talk(BOTH[0]), "rejected": talk(BOTH[1])}
    transcript = {
        key: MARKS["Anthropic"].format("What?", text) for key, text in zip(("chosen", "rejected"), BOTH, strict=True)
    }
    for row in (conversation, {**PAIR, "prompt": "How is it?"}, transcript):
        for options in ({}, {"format": "trl"}):
            assert not any(line.startswith("prompts:") for line in lines_of(row, **options))


# ---- Prompt and answers overlap ------------------------------------------------------------------------------------


def test_responses_that_all_repeat_the_prompt_lose_it():
    question = "What is the sun?"
    answers = [f"{question} {text}" for text in BOTH]
    for prompt in (question, [says("user", question)]):
        imported = one({"prompt": prompt, "chosen": answers[0], "rejected": answers[1]})
        assert (turns(imported), preferred(imported)) == ([f"u:{question}"], BOTH)
    row = {"prompt": question, "responses": answers, "scores": [1, 0]}
    assert [r.text for r in one(row).responses] == list(BOTH)
    transcript = MARKS["Anthropic"].format(question, "")
    imported = one({"prompt": transcript, "chosen": transcript + BOTH[0], "rejected": transcript + BOTH[1]})
    assert (turns(imported), preferred(imported)) == ([f"u:{question}"], BOTH)


def test_a_repetition_in_one_response_or_of_one_word_is_its_text():
    question = "What is the sun?"
    assert preferred(one({"prompt": question, "chosen": f"{question} Hot.", "rejected": "Cold."})) == (
        f"{question} Hot.",
        "Cold.",
    )
    assert preferred(one({"prompt": "Hi", "chosen": "Hi there", "rejected": "Hip"})) == ("Hi there", "Hip")


@pytest.mark.parametrize("as_text", [False, True])
def test_a_prompt_that_ends_with_the_assistants_beginning_is_continued_as_one_turn(as_text):
    answers = [" blue.", " green."]
    given = answers if as_text else [[says("assistant", text)] for text in answers]
    prompt = [says("user", "What color is the sky?"), says("assistant", "The sky is")]
    expected = ["The sky is blue.", "The sky is green."]
    imported = one({"prompt": prompt, "chosen": given[0], "rejected": given[1]})
    assert (turns(imported), preferred(imported)) == (["u:What color is the sky?"], tuple(expected))
    for row in ({"first": given[0], "second": given[1], "label": "a"}, {"responses": given, "scores": [1, 0]}):
        assert [r.text for r in one({"prompt": prompt, **row}).responses] == expected


def test_a_beginning_goes_in_front_of_the_first_turn_of_a_trajectory():
    call = {
        "role": "assistant",
        "content": " look.",
        "tool_calls": [{"id": "c", "function": {"name": "look", "arguments": "{}"}}],
    }
    result = {"role": "tool", "content": "blue", "tool_call_id": "c"}
    prompt = [says("user", "What color is it?"), says("assistant", "I will")]
    chosen, rejected = sides(
        one({"prompt": prompt, "chosen": [call, result, says("assistant", "Blue.")], "rejected": [call]})
    )
    assert [message.content for message in chosen.messages] == ["I will look.", "blue", "Blue."]
    assert [message.content for message in rejected.messages] == ["I will look."]


@pytest.mark.parametrize("text", ["\u200b", " \u200b\u2060\n", "\ufeff", "\u3164", "\u200e\u200f", "\x00"])
def test_a_response_without_a_visible_character_is_empty(text):
    row = {"prompt": "p", "chosen": text, "rejected": "x"}
    assert "chosen must be a response that is not empty" in reason(row)
    assert isinstance(one({**row, "chosen": text + "Oak."}), Comparison)
    assert isinstance(take({"prompt": "p", "first": "x", "second": text, "label": "a"})[0], Rejected)


# ---- --column ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "columns", "words"),
    [
        (
            {"q": "a", "good": "b", "bad": "c"},
            {},
            "got q, good, bad. Say which is which, such as --column prompt=question with --column chosen=",
        ),
        (
            {"q": "a", "good": "b", "bad": "c"},
            {"prompt": "q", "chosen": "good"},
            "got q, good, bad. For format trl, say which columns are missing: --column rejected=NAME.",
        ),
        (
            {"prompt": "a", "x": 1},
            {"zzz": "x"},
            "--column zzz=x: zzz is not one of our columns. Choose from prompt, chosen, rejected,",
        ),
        (
            {"prompt": "a", "x": 1},
            {"label": "verdict"},
            "--column label=verdict: no row has verdict. Choose from prompt, x.",
        ),
    ],
)
def test_an_error_about_columns_shows_the_flag_and_the_fields_that_matter(row, columns, words):
    with pytest.raises(GuerdonError) as error:
        take(row, columns=columns)
    assert words in str(error.value)
