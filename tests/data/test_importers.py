from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from imports import one, preferred, reason, sides, take, turns

from guerdon.config import ImportOptions
from guerdon.contracts import Comparison, GuerdonError, Message, Prompt, ToolCall
from guerdon.data.files import import_files
from guerdon.data.importers import IMPORTERS, import_rows
from guerdon.io import readers, schema

DATA = Path(__file__).parents[2].parent / "shared" / "data"
USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}


# ---- HH ----------------------------------------------------------------------------------------------------------


def hh(chosen: str, rejected: str) -> dict[str, str]:
    """H and A stand for the marks."""
    marks = {"H": "\n\nHuman:", "A": "\n\nAssistant:"}
    both = ("".join(marks.get(c, c) for c in each) for each in (chosen, rejected))
    return dict(zip(("chosen", "rejected"), both, strict=True))


def test_hh_is_cut_at_the_last_assistant_turn_that_both_share():
    imported = one(hh("H hiA hey H bye A see you", "H hiA hey H bye A no"))
    assert turns(imported) == ["u:hi", "a:hey", "u:bye"]
    assert preferred(imported) == ("see you", "no")


def test_hh_does_not_need_the_space_after_a_mark_nor_the_blank_lines_before_the_first():
    imported = one({"chosen": "Human:hi\n\nAssistant:yes", "rejected": "\n\nHuman:hi\n\nAssistant: no"})
    assert (turns(imported), preferred(imported)) == (["u:hi"], ("yes", "no"))


def test_hh_marks_inside_a_response_are_its_text():
    imported = one(hh("H hi A one A two", "H hi A three"))
    assert preferred(imported) == ("one \n\nAssistant: two", "three")
    start = "\n\nHuman: hi\n\nAssistant: "
    imported = one({"chosen": start + "the word Human: is text", "rejected": start + "Assistant: too"})
    assert preferred(imported) == ("the word Human: is text", "Assistant: too")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (hh("H hi A yes", "H hi A yes"), "identical transcripts"),
        (hh("H hi A yes", "H hi A yes "), "identical responses"),
        (hh("H hi A yes", "H hi A "), "rejected must be a response that is not empty, got ''. Drop"),
        (hh("H hi A", "H hi A yes"), "chosen must be a response that is not empty, got ''. Drop"),
        (hh("H hi A ", "H hi A"), "chosen and rejected must be responses that are not empty, got two empty ones"),
        (hh("H hi A yes", "H ho A no"), "diverging transcripts: their first human turns differ"),
        (
            hh("H hi A a H b A c", "H hi A a H d A e"),
            "chosen has a human turn after character 12, where the two differ",
        ),
        (hh("H hi A a", "H hi A a H d A e"), "rejected has a human turn after character 12, where the two differ"),
        (
            hh("H hi A a H b A c", "H hi A x H b A c"),
            "chosen and rejected must answer one prompt, got diverging transcripts: chosen has a human turn",
        ),
        (hh("A yes", "H hi A no"), 'chosen must be a transcript that starts with "\\n\\nHuman:", got'),
        (hh("H hi", "H hi A no"), 'chosen must be a transcript with an "\\n\\nAssistant:" turn, got'),
        ({"chosen": 3, "rejected": "x"}, "chosen must be text, got 3"),
        ({"chosen": "x"}, "chosen must be a transcript that starts"),
        ({"rejected": "x"}, "chosen is missing. Add it, or say which column holds it: --column chosen=NAME."),
    ],
)
def test_hh_rejects_a_row_with_the_true_reason(row, words):
    assert words in reason(row, format="hh")


@pytest.mark.skipif(not DATA.is_dir(), reason="the real rows are not here")
def test_every_real_hh_line_is_parsed_or_rejected_with_a_true_reason():
    """Truth by other means: the same rows as prompt, chosen, rejected in hh_pairs."""
    with gzip.open(DATA / "hh_pairs.jsonl.gz", "rt", encoding="utf-8") as lines:
        pairs = [json.loads(line) for line in lines]
    truth = Counter(json.dumps([pair["prompt"], pair["chosen"], pair["rejected"]]) for pair in pairs)
    reasons: Counter[str] = Counter()
    num_parsed = num_lines = 0
    for path in sorted(DATA.glob("hh_raw_*.gz")):
        lines_out: list[str] = []
        rows = list(import_rows(readers.read_rows(path), ImportOptions(), lines_out.append))
        assert lines_out == ["format: hh (detected from chosen, rejected: transcripts)"]
        with gzip.open(path, "rb") as lines:
            num_here = sum(1 for _ in lines)
        assert len(rows) == num_here
        num_lines += num_here
        for row in rows:
            if isinstance(row, Comparison):
                num_parsed += 1
                asked = [{"role": m.role, "content": m.content} for m in row.prompt]
                truth[json.dumps([asked, *preferred(row)])] -= 1
                continue
            chosen, rejected = row.row["chosen"], row.row["rejected"]
            if "identical" in row.reason:
                assert chosen == rejected
                reasons["identical"] += 1
            else:
                (key,) = (
                    key for key in ("chosen", "rejected") if f"{key} must be a response that is not empty" in row.reason
                )
                assert row.row[key].endswith("\n\nAssistant: ")
                reasons["empty"] += 1
    assert min(truth.values()) == 0
    assert truth.total() == 27, "the 27 rejected ones"
    assert (num_lines, num_parsed, dict(reasons)) == (4424, 4397, {"empty": 7, "identical": 20})


@pytest.mark.skipif(not DATA.is_dir(), reason="the real rows are not here")
@pytest.mark.parametrize(
    ("name", "form", "num_kept", "num_rejected", "unused"),
    [
        ("polite_pairs", "trl (detected from chosen, rejected", 814, 5, ["split, meta"]),
        ("raw_sharegpt_dpo_demo", "trl, prompt=conversations (detected from chosen, rejected", 300, 0, []),
        ("qa_feedback_kway", "scores (detected from responses, scores", 220, 0, ["split, meta"]),
        ("pandalm_votes", "votes (detected from response_a, response_b, votes", 521, 28, ["split, meta"]),
    ],
)
def test_real_rows_of_other_forms_are_detected_and_counted(name, form, num_kept, num_rejected, unused):
    lines_out: list[str] = []
    rows = list(import_rows(readers.read_rows(DATA / f"{name}.jsonl.gz"), ImportOptions(), lines_out.append))
    assert lines_out == [f"format: {form})", *(f"columns not used: {names}" for names in unused)]
    assert Counter(isinstance(row, Comparison) for row in rows) == Counter({True: num_kept, False: num_rejected})


# ---- TRL ---------------------------------------------------------------------------------------------------------

FORMS = [
    {"prompt": "Hi", "chosen": "Hello!", "rejected": "No."},
    {"prompt": [USER], "chosen": [ANSWER], "rejected": [{**ANSWER, "content": "No."}]},
    {"chosen": [USER, ANSWER], "rejected": [USER, {**ANSWER, "content": "No."}]},
    {"prompt": [USER], "chosen": "Hello!", "rejected": "No."},
    {"prompt": "Hi", "chosen": [USER, ANSWER], "rejected": [USER, {**ANSWER, "content": "No."}]},
    {"prompt": [USER], "chosen": [USER, ANSWER], "rejected": [USER, {**ANSWER, "content": "No."}]},
    {"prompt": "\n\nHuman: Hi\n\nAssistant:", "chosen": "Hello!", "rejected": "No."},
    {
        "conversations": [{"from": "human", "value": "Hi"}],
        "chosen": {"from": "gpt", "value": "Hello!"},
        "rejected": {"from": "gpt", "value": "No."},
    },
    {"prompt": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], "chosen": [ANSWER], "rejected": "No."},
]


@pytest.mark.parametrize("row", FORMS[:8])
def test_every_form_of_a_preference_makes_the_same_comparison(row):
    assert one(row) == one(FORMS[0])
    assert one(row).prompt == (Message("user", "Hi"),)
    assert preferred(one(row)) == ("Hello!", "No.")


def test_implicit_text_is_cut_where_both_begin_to_differ_but_never_inside_a_word():
    imported = one({"chosen": "The sky is blue.", "rejected": "The sky is black."})
    assert (turns(imported), preferred(imported)) == (["u:The sky is"], (" blue.", " black."))


def test_implicit_text_that_reads_like_hh_is_read_as_hh():
    assert turns(one(hh("H hi A a H b A c", "H hi A a H b A d"), format="trl")) == ["u:hi", "a:a", "u:b"]


def test_a_system_message_and_earlier_turns_belong_to_the_prompt():
    system, other = {"role": "system", "content": "Be kind."}, {**ANSWER, "content": "No."}
    imported = one({"chosen": [system, USER, ANSWER, USER, ANSWER], "rejected": [system, USER, ANSWER, USER, other]})
    assert turns(imported) == ["s:Be kind.", "u:Hi", "a:Hello!", "u:Hi"]
    imported = one({"prompt": [USER], "chosen": [ANSWER, USER, ANSWER], "rejected": [ANSWER, USER, other]})
    assert turns(imported) == ["u:Hi", "a:Hello!", "u:Hi"]
    imported = one({"prompt": "Hi", "chosen": [system, USER, ANSWER], "rejected": [system, USER, other]})
    assert turns(imported) == ["s:Be kind.", "u:Hi"]


TRL_FORMS = {
    "explicit text": FORMS[0],
    "explicit messages": FORMS[1],
    "implicit messages": FORMS[2],
    "implicit text": {"chosen": "Say hi: Hello!", "rejected": "Say hi: No."},
}


@pytest.mark.parametrize("form", TRL_FORMS)
@pytest.mark.parametrize("tools", [None, [{"name": "clock"}], '[{"name": "clock"}]'])
@pytest.mark.parametrize("margin", [None, 0.75, "0.75"])
def test_each_of_trls_forms_may_have_a_margin_and_tools(form, tools, margin):
    extra = {"tools": tools, "margin": margin, "chat_template_kwargs": {"enable_thinking": False}}
    lines: list[str] = []
    (imported,) = import_rows([("a:1", {**TRL_FORMS[form], **extra})], ImportOptions(), lines.append)
    assert isinstance(imported, Comparison)
    assert preferred(imported) == ((" Hello!", " No.") if form == "implicit text" else ("Hello!", "No."))
    assert turns(imported) == ["u:Say hi:" if form == "implicit text" else "u:Hi"]
    assert imported.preference.strength == (None if margin is None else 0.75)
    assert [json.loads(tool)["name"] for tool in imported.prompt.tools] == ([] if tools is None else ["clock"])
    assert lines[0] == "format: trl (detected from chosen, rejected)"
    assert lines[-1] == "columns not used: chat_template_kwargs"


def test_a_negative_margin_is_an_error_of_the_file_because_its_rows_would_not_be_left_out_at_random(tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [{**FORMS[0], "margin": 1}, {**FORMS[0], "margin": -1}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(GuerdonError, match=r"pairs\.jsonl:2: margin must be a number >= 0, got -1\. Swap chosen and"):
        list(import_files([path], ImportOptions()))


def test_margin_becomes_strength_and_the_row_keeps_its_names():
    imported = one(
        {**FORMS[0], "margin": 1.5, "id": 7, "source": "s", "annotator": "w", "group": "g", "weight": 2, "split": 1}
    )
    assert (imported.preference.strength, imported.id, imported.source, imported.annotator) == (1.5, "7", "s", "w")
    assert (imported.group, imported.weight) == ("g", 2.0)
    assert one(FORMS[0], source="mine").source == "mine"
    assert one({**FORMS[0], "source": "theirs"}, source="mine").source == "theirs"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (FORMS[8], "rejected must be of the same form as chosen"),
        ({"prompt": "p", "chosen": 3, "rejected": "b"}, "chosen must be text or messages, got 3"),
        ({**FORMS[0], "chosen": None}, "chosen is missing. Add it"),
        ({**FORMS[0], "chosen": "No. "}, "identical responses"),
        ({**FORMS[0], "chosen": " "}, "chosen must be a response that is not empty, got ' '. Drop"),
        ({**FORMS[0], "prompt": ""}, "prompt must be text that is not empty, got ''"),
        ({**FORMS[0], "prompt": 3}, "prompt must be text or a list of messages, got 3"),
        ({**FORMS[0], "margin": "x"}, "margin must be a number >= 0, got 'x'"),
        ({**FORMS[0], "weight": float("inf")}, "weight must be a number from 1e-6 to 1e6, got inf"),
        ({**FORMS[0], "weight": 1e308}, "weight must be a number from 1e-6 to 1e6, got 1e+308"),
        ({**FORMS[0], "weight": "1e-300"}, "weight must be a number from 1e-6 to 1e6, got 1e-300"),
        ({"chosen": "a", "rejected": "b"}, "share no beginning of more than a word. Give a prompt"),
        ({"chosen": "a", "rejected": "a"}, "identical texts"),
        (
            {"chosen": "a b", "rejected": "a b c"},
            "one of chosen and rejected goes on from the other, so where the prompt",
        ),
        (
            {"chosen": [ANSWER], "rejected": [{**ANSWER, "content": "x"}]},
            "prompt is missing, and chosen holds the response only. Give a prompt.",
        ),
        (
            {"chosen": [USER, ANSWER], "rejected": [ANSWER, ANSWER]},
            "diverging messages: they differ before the last message",
        ),
        (
            {"chosen": [ANSWER, USER], "rejected": [ANSWER, USER]},
            "the last message of chosen must be an assistant message, got 'user'",
        ),
        (
            {**FORMS[2], "prompt": "Other"},
            "chosen must be the response alone, or the prompt and the response, got 'Hi'",
        ),
        ({**FORMS[0], "prompt": [{"role": "robot", "content": "x"}]}, "prompt[0].role must be system, user"),
        ({**FORMS[0], "prompt": [{"role": "user", "content": None}]}, "prompt[0].content must be text, got nothing"),
        (
            {**FORMS[0], "prompt": [{"role": "user", "content": [{"type": "image"}]}]},
            "prompt[0].content[0] must be a part of type text, got type image. Only text is scored: drop the row.",
        ),
        ([1, 2], "row must be an object with named fields, got [1, 2]"),
    ],
)
def test_a_bad_preference_is_rejected_with_the_true_reason(row, words):
    assert words in reason(row, format="trl")


# ---- Tools and several messages ----------------------------------------------------------------------------------

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def call(name="weather", arguments='{"city": "Rome"}', **more):
    function = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", **function}], **more}


def result(text="sunny"):
    return {"role": "tool", "content": text, "tool_call_id": "c1"}


def says(text):
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize("tools", [[WEATHER], [json.dumps(WEATHER)], json.dumps([WEATHER])])
def test_the_tools_column_belongs_to_the_prompt(tools):
    row = {"prompt": [USER], "tools": tools, "chosen": [says("a")], "rejected": [says("b")]}
    assert one(row).prompt == Prompt([Message("user", "Hi")], [WEATHER])
    assert one({**row, "tools": None}).prompt == Prompt([Message("user", "Hi")])
    assert one({**row, "tools": []}).id != one(row).id
    for form in (
        {"prompt": "Hi", "first": "a", "second": "b", "label": "a"},
        {"prompt": "Hi", "responses": ["a", "b"], "scores": [1, 2]},
        {"prompt": "Hi", "response_a": "a", "response_b": "b", "votes": ["a"]},
    ):
        assert one({**form, "tools": tools}).prompt == one(row).prompt


def test_a_last_message_that_calls_a_tool_is_the_response_with_its_call():
    """Texts that are equal or null, and calls that are not."""
    for content in (None, "", "I look it up."):
        row = {
            "prompt": [USER],
            "chosen": [call(content=content)],
            "rejected": [call("delete_all", "{}", content=content)],
        }
        chosen, rejected = sides(one(row))
        assert chosen.messages == (
            Message("assistant", content or "", (ToolCall("weather", '{"city": "Rome"}', "c1"),)),
        )
        assert rejected.messages[0].tool_calls == (ToolCall("delete_all", "{}", "c1"),)


@pytest.mark.parametrize("content", [None, ""])
def test_calls_and_results_in_the_prompt_are_kept(content):
    row = {
        "prompt": [USER, call(content=content), result()],
        "chosen": [says("It is sunny.")],
        "rejected": [says("No.")],
    }
    imported = one(row)
    assert imported.prompt[1].tool_calls == (ToolCall("weather", '{"city": "Rome"}', "c1"),)
    assert imported.prompt[2] == Message("tool", "sunny", tool_call_id="c1")
    assert preferred(imported) == ("It is sunny.", "No.")


def test_responses_begin_where_the_conversations_diverge():
    shared = [USER, call(), result()]
    whole = {"chosen": [*shared, says("a")], "rejected": [*shared, says("b")]}
    assert len(one(whole).prompt) == 3
    assert one(whole) == one({"prompt": [USER], "chosen": whole["chosen"][1:], "rejected": whole["rejected"][1:]})

    longer = {
        "chosen": [USER, call(), result(), says("a")],
        "rejected": [USER, call("other"), result("x"), call(), result(), says("b")],
    }
    imported = one(longer)
    assert imported.prompt == (Message("user", "Hi"),)
    assert [len(side.messages) for side in sides(imported)] == [3, 5]
    assert one({"prompt": "Hi", **{key: turns[1:] for key, turns in longer.items()}}) == imported


def test_a_result_belongs_to_the_response_that_called_for_it():
    row = {"chosen": [USER, call(), result("sunny"), says("a")], "rejected": [USER, call(), result("rainy"), says("a")]}
    chosen, rejected = sides(one(row))
    assert one(row).prompt == (Message("user", "Hi"),)
    assert [turn.role for turn in chosen.messages] == ["assistant", "tool", "assistant"]
    assert [side.messages[1].content for side in (chosen, rejected)] == ["sunny", "rainy"]
    assert chosen.text == rejected.text == "a"  # what the assistant wrote


def test_a_response_that_stops_where_the_other_goes_on_is_whole():
    row = {"prompt": [USER], "chosen": [call(), result(), says("a")], "rejected": [call()]}
    chosen, rejected = sides(one(row))
    assert (len(chosen.messages), len(rejected.messages)) == (3, 1)
    assert chosen.messages[0] == rejected.messages[0]


def test_the_drawn_order_of_trajectories_ignores_the_preference():
    first = 0
    for i in range(40):
        row = {"prompt": f"p{i}", "chosen": [call(), result("good"), says("a")], "rejected": [says("bad")]}
        turned = {**row, "chosen": row["rejected"], "rejected": row["chosen"]}
        assert one(row).responses == one(turned).responses
        first += one(row).q == 1.0
    assert 8 <= first <= 32


def test_responses_of_other_formats_may_be_messages():
    turns = [call(), result(), says("a")]
    row = {"prompt": "Hi", "responses": [turns, says("b"), "c"], "scores": [3, 2, 1]}
    assert [len(r.messages) for r in one(row).responses] == [3, 0, 0]
    assert [r.text for r in one(row).responses[1:]] == ["b", "c"]
    assert len(one({"prompt": "Hi", "first": turns, "second": "b", "label": "a"}).responses[0].messages) == 3


IMAGE = {
    "role": "user",
    "content": [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": "x"}}],
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"prompt": [IMAGE]},
            "prompt[0].content[1] must be a part of type text, got type image_url. Only text is scored",
        ),
        (
            {"images": [{"bytes": "x"}]},
            "images must be empty, got [{'bytes': 'x'}]. Only text is scored: drop the row.",
        ),
        ({"chosen": [call(), result(), USER, says("a")]}, "diverging messages"),
        ({"chosen": [call(), result()]}, "the last message of chosen must be an assistant message, got 'tool'"),
        (
            {"chosen": [says("x"), result(), says("a")]},
            "a tool turn must answer a call of the assistant turn before it",
        ),
        (
            {"chosen": [call(), {**result(), "tool_call_id": "c9"}, says("a")]},
            "must answer a call of the assistant turn before it, got 'c9'",
        ),
        (
            {"chosen": [call(arguments='{"city": ')]},
            "chosen[0].tool_calls[0]: the arguments of 'weather' must be a JSON",
        ),
        (
            {"chosen": [{**says("42"), "reasoning_content": "6*7"}]},
            "chosen[0].reasoning_content must be empty, got '6*7'",
        ),
        ({"rejected": [call()], "chosen": [call()]}, "chosen and rejected must differ, got identical responses"),
        ({"chosen": [says("")]}, "chosen must be a response that is not empty"),
        ({"tools": "weather"}, "tools must be a list of tools, or one as JSON text, got 'weather'"),
        ({"prompt": [USER, result()]}, "tool_call_id must name an earlier tool call, got 'c1' where there are none"),
    ],
)
def test_a_row_whose_calls_cannot_be_kept_is_rejected_with_the_true_reason(changes, words):
    row = {"prompt": [USER], "chosen": [call(), result(), says("a")], "rejected": [says("b")]}
    assert isinstance(one(row), Comparison)
    assert words in reason({**row, **changes}, format="trl")


# ---- Order of the two --------------------------------------------------------------------------------------------


def test_the_chosen_response_is_first_half_of_the_time_and_always_in_the_same_position():
    rows = [{"prompt": f"p{i}", "chosen": "good", "rejected": "bad"} for i in range(2000)]
    imported = take(*rows)
    assert abs(sum(c.q for c in imported) / 2000 - 0.5) < 0.035, "three standard deviations"
    assert imported == take(*rows)


def test_a_pair_judged_both_ways_stands_one_way():
    for i in range(20):
        row = {"prompt": f"p{i}", "chosen": "good", "rejected": "bad"}
        turned = {**row, "chosen": "bad", "rejected": "good"}
        assert one(row).responses == one(turned).responses
        assert one(row).q == 1 - one(turned).q


# ---- Tables, scores, votes, native -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "q"),
    [
        ("a", 1.0),
        ("first", 1.0),
        ("B", 0.0),
        ("second", 0.0),
        ("2", 0.0),
        ("Tie ", 0.5),
        ("0.7", 0.7),
    ],
)
def test_a_tables_label_says_which_response_is_better(label, q, tmp_path):
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["question", "x", "y", "who"], ["Say, hi", "one\ntwo", '"quoted"', label]])
    columns = {"prompt": "question", "first": "x", "second": "y", "label": "who"}
    (imported,) = import_rows(readers.read_rows(tmp_path / "a.csv"), ImportOptions(columns=columns))
    assert isinstance(imported, Comparison)
    assert (imported.q, [r.text for r in imported.responses], turns(imported)) == (
        q,
        ["one\ntwo", '"quoted"'],
        ["u:Say, hi"],
    )


def test_a_table_may_name_chosen_and_rejected(tmp_path):
    (tmp_path / "a.csv").write_text("Q,good,bad,margin\nHi,Hello!,No.,2\n")
    columns = {"prompt": "Q", "chosen": "good", "rejected": "bad"}
    for form in ("auto", "csv"):
        (imported,) = import_rows(readers.read_rows(tmp_path / "a.csv"), ImportOptions(format=form, columns=columns))
        assert isinstance(imported, Comparison)
        assert (preferred(imported), imported.preference.strength) == (("Hello!", "No."), 2.0)


def test_equal_scores_tie_and_every_score_is_kept():
    imported = one({"prompt": "Hi", "responses": ["a", {"text": "b"}, "c", "d"], "scores": [1, 3.5, 1, -2]})
    assert imported.ranks == (1, 0, 1, 2)
    assert [r.ratings["score"] for r in imported.responses] == [1.0, 3.5, 1.0, -2.0]


def test_votes_are_counted_and_a_tie_counts_half():
    votes = [{"annotator": "w1", "label": "a"}, {"annotator": "w2", "label": "tie"}, {"annotator": "w3", "label": "A"}]
    row = {"prompt": "Hi", "response_a": "x", "response_b": "y", "votes": votes}
    imported = one(row)
    assert (imported.q, imported.preference.votes, imported.annotator) == (2.5 / 3, (2, 1, 0), None)
    assert one({**row, "votes": votes[:1]}).annotator == "w1"


@pytest.mark.parametrize(
    ("form", "row", "words"),
    [
        (
            "csv",
            {"prompt": "p", "first": "", "second": "b", "label": "a"},
            "first must be a response that is not empty, got ''",
        ),
        (
            "csv",
            {"prompt": "p", "first": "b", "second": "b", "label": "a"},
            "first and second must differ, got identical responses",
        ),
        ("csv", {"prompt": "p", "first": "b", "second": "c"}, "label is missing. Add it"),
        (
            "auto",
            {"prompt": "p", "responses": ["a", "b"], "scores": [1]},
            "scores must be a list of one number for each of 2",
        ),
        ("auto", {"prompt": "p", "responses": ["a", "b"], "scores": [1, None]}, "scores[1] must be a finite number"),
        (
            "auto",
            {"prompt": "p", "responses": ["a", ""], "scores": [1, 2]},
            "responses[1] must be a response that is not empty, got ''",
        ),
        (
            "auto",
            {"prompt": "p", "responses": ["a", "a"], "scores": [1, 2]},
            "responses must differ, got identical ones only",
        ),
        ("auto", {"prompt": "p", "responses": "ab", "scores": [1, 2]}, "responses must be a list, got 'ab'"),
        (
            "auto",
            {"prompt": "p", "response_a": "x", "response_b": "y", "votes": []},
            "votes must be a list of at least one vote",
        ),
        ("auto", {"prompt": "p", "responses": ["a", "b"], "preference": {"q": 3}}, "q must be a probability"),
        ("native", {"chosen": "a", "rejected": "b"}, "prompt is missing. Import the file first."),
    ],
)
def test_a_bad_row_of_any_form_is_rejected_with_the_true_reason(form, row, words):
    assert words in reason(row, format=form)


def test_native_rows_come_back_as_they_were():
    wanted = one({**FORMS[0], "margin": 2, "annotator": "w"})
    assert one(schema.comparison_to_row(wanted)) == wanted


def test_parquet_with_other_column_names_is_read(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(FORMS[1:2] * 3), tmp_path / "a.parquet")
    imported = list(import_rows(readers.read_rows(tmp_path / "a.parquet"), ImportOptions()))
    assert imported == [one(FORMS[0])] * 3


# ---- What is wrong is lines_out, and nothing is lost ------------------------------------------------------------------


def test_every_row_comes_out_as_one_or_the_other_in_order(tmp_path):
    lines = [json.dumps(FORMS[0]), '{"half', json.dumps({**FORMS[0], "chosen": ""}), "3", json.dumps(FORMS[1])]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    imported = list(import_rows(readers.read_rows(tmp_path / "a.jsonl"), ImportOptions()))
    assert [isinstance(row, Comparison) for row in imported] == [True, False, False, False, True]
    assert [row.place for row in imported[1:4]] == [f"{tmp_path / 'a.jsonl'}:{n}" for n in (2, 3, 4)]
    assert imported[1].row == '{"half'


def test_strict_stops_at_the_first_bad_row_with_its_place():
    with pytest.raises(
        GuerdonError, match=r"^a:2: chosen must be a response that is not empty, got ''\. Drop the row\.$"
    ):
        take(FORMS[0], {**FORMS[0], "chosen": ""}, FORMS[0], strict=True)


def test_the_format_most_of_the_first_rows_have_is_taken():
    imported = take(3, {"unlike": 1}, *FORMS[:3])
    assert [isinstance(row, Comparison) for row in imported] == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("row", "options", "words"),
    [
        (
            {"text": "a", "stars": 3},
            {},
            "a:1: columns must fit a known format, got text, stars. Say which is which, such as --column prompt=",
        ),
        (
            FORMS[0],
            {"columns": {"promt": "x"}},
            "--column promt=x: promt is not one of our columns. Did you mean prompt?",
        ),
        (
            {"Question": "a", "Left": "b", "Right": "c", "Who won": "left"},
            {"columns": {"Question": "prompt"}},
            "--column Question=prompt: Question is not one of our columns. Our name comes first: --column prompt=Question.",
        ),
        (
            {"Left": "b", "Right": "c", "Who won": "left"},
            {"columns": {"Who won": "label"}},
            "--column Who won=label: Who won is not one of our columns. Our name comes first: --column 'label=Who won'.",
        ),
        (
            {"Question": "a", "Left": "b", "Right": "c", "Who won": "left"},
            {},
            "a:1: columns must fit a known format, got Question, Left, Right, Who won. Say which is which, such as "
            "--column prompt=question with --column chosen=good --column rejected=bad, or with --column first=left "
            "--column second=right --column label=winner.",
        ),
        (FORMS[0], {"columns": {"prompt": "chose"}}, "--column prompt=chose: no row has chose. Did you mean chosen?"),
    ],
)
def test_a_source_that_fits_nothing_is_refused_at_once(row, options, words):
    with pytest.raises(GuerdonError) as error:
        take(row, **options)
    assert str(error.value).startswith(words)


def test_a_row_without_a_mapped_column_is_rejected():
    imported = take(
        {"q": "Hi", "chosen": "a", "rejected": "b"}, {"chosen": "a", "rejected": "b"}, columns={"prompt": "q"}
    )
    assert isinstance(imported[0], Comparison)
    assert "q is missing. Add it" in imported[1].reason


def test_a_format_that_is_not_known_is_refused():
    with pytest.raises(GuerdonError, match=r"format must be a known format, got 'hhh'. Did you mean hh\?"):
        take(FORMS[0], format="hhh")


def test_rows_of_the_first_release_are_detected_and_read():
    (imported,) = take({"prompt": "Hi", "responses": ["a", "b"], "verdict": {"q": 0.75}})
    assert isinstance(imported, Comparison)
    assert imported.q == 0.75


def test_every_importer_says_what_it_takes():
    assert all((importer.read.__doc__ or "").startswith("{") for importer in IMPORTERS.values())
