"""Every published row format is read, and a malformed row is refused with its place."""

from __future__ import annotations

import json

import pytest
from errors import gives_advice
from published import HHH_HUB, PAIRS, PUBLISHED, REWARDBENCH, FirstJudge, items_of
from toys import Good

from guerdon.benchmarks.readers import READERS, detect, read_items
from guerdon.benchmarks.rules import BENCHMARKS
from guerdon.benchmarks.score_files import match_scores
from guerdon.benchmarks.scoring import score_items
from guerdon.contracts import GuerdonError


def test_every_benchmark_has_a_reader():
    assert set(READERS) == set(BENCHMARKS) == set(PUBLISHED)


def test_items_say_which_response_is_right_and_what_is_resampled():
    first, second, third = items_of("judgebench")
    assert (first.correct, second.correct) == ((0,), (1,))
    assert first.group == second.group == "mmlu-pro-law:10646" != third.group
    assert [r.text for r in items_of("rewardbench2")[3].responses] == ["good red", "good blue", "two"]
    assert items_of("rewardbench2")[2].group == items_of("rewardbench2")[3].group
    assert items_of("rmbench")[0].correct == (0, 1, 2)
    assert [item.id for item in items_of("rmb")] == ["pair:3", "pair:4", "bon:3", "bon:5"]
    assert {item.subset for item in items_of("llmbar")} == {"Adversarial/Neighbor"}
    assert [item.correct for item in items_of("hhh")] == [(0,), (1,)]
    assert [item.correct for item in items_of("hhh", HHH_HUB)] == [(0,), (1,)]
    assert [m.role for m in items_of("hhh")[1].prompt] == ["user", "assistant", "user"]
    assert {item.subset for item in items_of("hhh")} == {"harmless"}
    assert [m.content for m in items_of("pairs")[2].prompt] == ["three"]
    assert [item.subset for item in items_of("xstest")] == ["should-respond", "should-respond", "should-refuse"]
    assert [item.group for item in items_of("xstest")] != [items_of("xstest")[0].group] * 3


def test_pairs_of_a_known_source_are_that_benchmark():
    pair = {"id": "x", "prompt": "p", "chosen": "a", "rejected": "b"}
    assert detect({**pair, "source": "hhh_alignment"}) == "hhh"
    assert detect({**pair, "source": "llmbar_processed/MT-Bench"}) == "pairs"
    assert detect(pair, "data/xstest_pairs.jsonl:1") == "xstest"
    assert detect({**pair, "subset": "hep-go"}) == "rewardbench"
    meta = {"meta": {"subset": "Adversarial/Manual"}, "source": "llmbar"}
    assert read_items([("f:1", {**pair, **meta})])[1][0].subset == "Adversarial/Manual"


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("rewardbench", {"subset": None}, "f:1: subset must be present, got nothing. Add it"),
        ("rewardbench", {"chosen": 3}, "f:1: chosen must be text or a list of messages, got 3"),
        ("rewardbench2", {"num_correct": 2}, "f:1: num_correct must be 1, the length of the lists of responses, got 2"),
        ("rewardbench2", {"chosen": ["a", "b"], "num_correct": 2, "total_completions": 5}, "outside the subset Ties"),
        ("rewardbench2", {"rejected": []}, "f:1: rejected must be a list of texts"),
        ("rewardbench2", {"subset": "Ties", "id": "12"}, "id must be ref:NUMBER or tied:NUMBER"),
        ("rewardbench2", {"subset": "Ties", "id": "tied:1"}, "two or more right answers where the id begins with tied"),
        ("rmbench", {"chosen": ["a", "b"]}, "f:1: chosen must be 3 texts"),
        ("rmbench", {"domain": "poetry"}, "f:1: domain must be one of chat, code, math"),
        ("judgebench", {"label": "A=B"}, "f:1: label must be one of A>B, B>A, got 'A=B'"),
        ("judgebench", {"response_B": None}, "f:1: response_B must be present, got nothing. Add it"),
        (
            "rmb",
            {"category_path": "elsewhere"},
            "f:1: category_path must be a path that begins with Pairwise_set or BoN_set",
        ),
        ("rmb", {"reject": {"llm_name": "b"}}, "f:1: answer must be text, got nothing"),
        ("llmbar", {"label": 3}, "f:1: label must be one of 1, 2, got 3"),
        ("llmbar", {"output_2": None}, "f:1: output_2 must be present, got nothing. Add it"),
        ("xstest", {"prompt": []}, "f:1: prompt must be text or a list of messages"),
        ("pairs", {"rejected": None}, "f:1: rejected must be present, got nothing. Add it"),
    ],
)
def test_a_malformed_row_is_one_line_with_its_place(name, change, said):
    row = {**PUBLISHED[name][0][0], **change}
    with pytest.raises(GuerdonError) as caught:
        read_items([("f:1", row)], name)
    assert said in str(caught.value)
    assert gives_advice(str(caught.value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "name", "said"),
    [
        (
            [{"a": 1}],
            "auto",
            "f:1: fields must fit a known benchmark, got 'a'. Name the benchmark, one of rewardbench, ",
        ),
        (["text"], "auto", "f:1: row must be an object with named fields"),
        ([], "auto", "rows must be at least one, got none. Give"),
        ([PAIRS[0]], "rewardbench3", "name must be a benchmark's, got rewardbench3. Did you mean rewardbench"),
        ([PAIRS[0], PAIRS[0]], "pairs", "id must be unique, got mine/a 2 times. Give each row an id of its own"),
        (
            [{**HHH_HUB[0], "targets": {"choices": ["a", "b"], "labels": [1, 1]}}],
            "hhh",
            "two or more choices, one of them marked as right",
        ),
        ([{**HHH_HUB[0], "input": "\n\nHuman:"}], "hhh", "input must be a transcript with a question"),
    ],
)
def test_what_is_no_benchmark_is_refused(rows, name, said):
    with pytest.raises(GuerdonError) as caught:
        read_items([(f"f:{i}", row) for i, row in enumerate(rows, 1)], name)
    assert said in str(caught.value)


def test_ids_that_two_subsets_share_are_told_apart():
    rows = [{**row, "id": 0} for row in REWARDBENCH]
    assert [i.id for i in items_of("rewardbench", rows)] == ["alpacaeval-easy/0", "donotanswer/0", "math-prm/0"]
    scores = [(f"f:{i}", {"id": 0, "subset": row["subset"], "scores": [i, 0]}) for i, row in enumerate(rows)]
    assert [float(s[0, 0]) for s in match_scores(scores, items_of("rewardbench", rows)).scores] == [0, 1, 2]


def test_an_answer_that_calls_a_tool_keeps_its_call():
    asks = {"role": "user", "content": "Weather in Rome?"}
    calls = [
        [asks, {"role": "assistant", "content": None, "tool_calls": [{"name": name, "arguments": {}}]}]
        for name in ("weather", "delete_all")
    ]
    (item,) = read_items([("f:1", {"id": "x", "chosen": calls[0], "rejected": calls[1]})], "pairs")[1]
    assert [r.messages[0].tool_calls[0].name for r in item.responses] == ["weather", "delete_all"]


def message(role, content, **more):
    return {"role": role, "content": content, **more}


def pair(chosen, rejected, **more):
    return {"id": "1", "chosen": chosen, "rejected": rejected, **more}


METAL, IRON, WOOD = message("user", "Name a metal."), message("assistant", "Iron."), message("assistant", "Wood.")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (pair([METAL, IRON], [message("user", "Name a king."), WOOD]), "chosen and rejected must answer one prompt"),
        (
            pair([METAL, IRON, message("user", "Thanks!")], [METAL, WOOD, message("user", "What?")]),
            "the last message of chosen must be an assistant message, got 'user'",
        ),
        (
            pair([METAL, IRON], [METAL, WOOD], prompt="Name a metal, and answer in French."),
            "chosen must be the response alone, or the prompt and the response",
        ),
        (pair("Iron.", [WOOD], prompt="Name a metal."), "chosen must be messages, as the other is"),
        (pair([IRON], [WOOD]), "prompt is missing, and chosen holds the response only. Give a prompt"),
    ],
)
def test_two_conversations_that_answer_no_one_prompt_are_refused(row, said):
    with pytest.raises(GuerdonError) as caught:
        read_items([("f:1", row)], "pairs")
    assert said in str(caught.value)


def test_a_prompt_may_be_written_beside_answers_in_messages_or_again_in_front_of_them():
    rows = (pair([IRON], [WOOD]), pair([METAL, IRON], [METAL, WOOD]))
    for row in (*({**row, "prompt": prompt} for row in rows for prompt in ([METAL], "Name a metal.")), rows[1]):
        (item,) = read_items([("f:1", row)], "pairs")[1]
        assert [turn.content for turn in item.prompt] == ["Name a metal."]
        assert [response.text for response in item.responses] == ["Iron.", "Wood."]


def test_messages_may_be_text_in_a_cell_or_have_the_names_of_other_programs():
    shared = [{"from": "human", "value": "Name a metal."}, {"from": "gpt", "value": "Iron."}]
    rows = (pair(json.dumps([METAL, IRON]), repr([METAL, WOOD])), pair(shared, [METAL, WOOD]))
    for row in (*rows, pair("Iron.", "Wood.", prompt=json.dumps([METAL]))):
        (item,) = read_items([("f:1", row)], "pairs")[1]
        assert [turn.content for turn in item.prompt] == ["Name a metal."]
        assert [response.text for response in item.responses] == ["Iron.", "Wood."]


def test_an_error_about_the_texts_of_an_item_can_name_its_row():
    assert [item.prompt.location for item in items_of("pairs")] == [f"mine.jsonl: item {i}" for i in (1, 2, 3)]


def test_a_table_writes_numbers_as_text():
    row = {"bias": "length", "instruction": "i", "response1": "a", "response2": "b", "label": "2", "id": ""}
    assert items_of("evalbiasbench", [row])[0].correct == (1,)
    assert items_of("llmbar", [{"input": "i", "output_1": "a", "output_2": "b", "label": 1.0}])[0].correct == (0,)
    assert items_of("pairs", [PAIRS[0] | {"id": 12.0}])[0].id == "12"


def test_ifbench_is_read_as_converted_and_as_published():
    broken = {1: "level-3", 2: "level-2", 4: "level-1", 0: "level-1"}
    rows = [
        {"id": n, "instruction": "i", "chosen": {"content": "good"},
         "rejected": {"content": "no", "unsatisfied_constraints": [{}] * n}} for n in broken
    ]  # fmt: skip
    assert detect(rows[0]) == "ifbench"
    assert [item.subset for item in items_of("ifbench", rows)] == list(broken.values())


def test_solutions_of_one_problem_are_one_item():
    items = items_of("rewardmath")
    assert [(item.id, item.subset, item.correct, len(item.responses)) for item in items] == [
        ("0", "Algebra", (0,), 3), ("399", "Algebra", (0,), 3),
    ]  # fmt: skip
    assert items[0].responses[0].text == "Double it.\nSo it is good: 0."
    with pytest.raises(GuerdonError, match="one or more wrong ones, got 0 right ones of 2"):
        items_of("rewardmath", PUBLISHED["rewardmath"][0][1:3])


def test_calls_and_results_of_a_trajectory_are_those_of_a_conversation_with_tools():
    first, second, _ = items_of("planrewardbench")
    assert first.group == second.group
    assert first.prompt.tools
    assert [turn.role for turn in first.responses[0].messages] == ["assistant", "tool", "assistant"]
    assert first.responses[0].messages[0].tool_calls[0].arguments == '{"city": "Rome"}'
    assert first.responses[1].text == "I cannot know that."


def test_a_trajectory_with_later_turns_of_the_user_has_its_own_prompt_and_its_whole_length():
    row = PUBLISHED["planrewardbench"][0][0]
    later = [message("user", "And tomorrow?"), message("tool_call", "{'name': 'weather', 'arguments': '{1 + '}")]
    rows = {
        "chosen": {"messages": [*row["chosen"]["messages"], *later, message("assistant", "good: 20")]},
        "reject": {"messages": [*row["reject"]["messages"], later[0], message("assistant", "No.")]},
    }
    (item,) = items_of("planrewardbench", [row | rows])
    assert [turn.role for turn in item.prompt] == ["user"]
    assert [[turn.role for turn in prompt] for prompt in item.prompts] == [
        ["user", "assistant", "tool", "assistant", "user"], ["user", "assistant", "user"],
    ]  # fmt: skip
    assert item.responses[0].text.startswith(
        "[TOOL_CALL] {'name'"
    )  # arguments that are no JSON, as the authors write calls
    assert item.lengths == (len("good: 18") + len(item.responses[0].text), len("I cannot know that.") + len("No."))
    seen = []

    class Reader(Good):
        def score(self, prompts, responses):
            seen.extend(prompts)
            return super().score(prompts, responses)

    score_items(Reader(), [item])
    assert seen == list(item.prompts)
    with pytest.raises(GuerdonError, match="responses must answer one prompt for a judge"):
        score_items(FirstJudge(0.0), [item])
