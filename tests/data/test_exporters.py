"""Every format out: what it holds comes back exactly, what it loses is counted, and what it cannot hold is set aside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from comparison_files import one_line
from errors import gives_advice
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import guerdon
from guerdon.config import ExportOptions, ImportOptions
from guerdon.contracts import Comparison, Message, Preference, Prompt, Response, ToolCall, response_identity
from guerdon.data.exporters import EXPORTERS, exported_lines, prepare
from guerdon.data.importers import import_rows
from guerdon.io.fields import complement
from guerdon.io.schema import Rejected
from guerdon.io.shared_prompt import response_start

PAIR = Comparison("Name a color.", (Response("Red."), Response("Tuesday.")), Preference(groups=((0,), (1,))))
TIE = replace(PAIR, preference=Preference(groups=((0, 1),)), id="tie")
SOFT = replace(PAIR, preference=Preference(q=0.2, strength=1.5, votes=(1, 0, 4)), id="soft")
RANKED = Comparison(
    "Rank.", tuple(map(Response, "abcde")), Preference(groups=((2,), (0, 4), (1,)), strength=3.0), id="r"
)  # d is in no group
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = Message("assistant", "", (ToolCall("add", '{"a": 1}', "c1"),))
AGENT = Comparison(
    Prompt([Message("system", "Use tools."), Message("user", "1 + 1?")], [TOOL]),
    (Response(messages=(CALL, Message("tool", "2", (), "c1"), Message("assistant", "Two."))), Response("Three.")),
    Preference(groups=((0,), (1,))),
)
TURNS = ("s:Be brief.", "u:Hi", "a:Hello", "u:And?")
ROLES = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
OF_PAIRS = [name for name, exporter in EXPORTERS.items() if exporter.pair]
FOREIGN = [name for name in EXPORTERS if name != "native"]


def chat(*turns: str, **changes: Any) -> Comparison:
    return replace(PAIR, prompt=Prompt(Message(ROLES[turn[0]], turn[2:]) for turn in turns), **changes)


def lines(
    *comparisons: Comparison, out: str = "x.jsonl", **options: Any
) -> tuple[list[Any], list[str], dict[str, int]]:
    """Rows, reasons of what is set aside, and losses."""
    job = prepare(ExportOptions(**options), out)
    results = list(exported_lines(comparisons, job))
    rows = [json.loads(line) for line in results if isinstance(line, bytes)]
    return rows, [line.reason for line in results if isinstance(line, Rejected)], dict(job.losses.counts)


def only(comparison: Comparison, **options: Any) -> dict[str, Any]:
    (row,), reasons, _ = lines(comparison, **{"extras": False, **options})
    assert not reasons
    return row


# ---- The forms that other tools read -------------------------------------------------------------------------------

USER, RED, TUESDAY = (
    {"role": role, "content": text} for role, text in (("user", "Name a color."), ("assistant", "Red."), ("assistant", "Tuesday."))
)  # fmt: skip
FORMS: dict[str, Any] = {
    "trl": {"prompt": [USER], "chosen": [RED], "rejected": [TUESDAY]},
    "trl-implicit": {"chosen": [USER, RED], "rejected": [USER, TUESDAY]},
    "trl-text": {"prompt": "Name a color.", "chosen": "Red.", "rejected": "Tuesday."},
    "trl-implicit-text": {
        "chosen": "\n\nHuman: Name a color.\n\nAssistant: Red.",
        "rejected": "\n\nHuman: Name a color.\n\nAssistant: Tuesday.",
    },
    "openrlhf": {"prompt": [USER], "chosen": [RED], "rejected": [TUESDAY]},
    "nemo-rl": {"context": [USER], "completions": [{"rank": 0, "completion": [RED]}, {"rank": 1, "completion": [TUESDAY]}]},
    "llamafactory": {
        "instruction": "Name a color.", "input": "", "system": "", "history": [], "tools": "",
        "chosen": "Red.", "rejected": "Tuesday.",
    },
    "llamafactory-sharegpt": {
        "conversations": [{"from": "human", "value": "Name a color."}], "system": "", "tools": "",
        "chosen": {"from": "gpt", "value": "Red."}, "rejected": {"from": "gpt", "value": "Tuesday."},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_a_pair_has_the_form_that_the_tool_documents(name):
    assert only(PAIR, format=name) == FORMS[name]
    swapped = replace(PAIR, responses=PAIR.responses[::-1], preference=Preference(groups=((1,), (0,))))
    row = only(swapped, format=name)
    if name == "nemo-rl":  # keeps the order shown
        assert [side["rank"] for side in row["completions"]] == [1, 0]
        row["completions"].reverse()
    assert row == FORMS[name]


def test_every_pair_format_is_tested_by_its_form():
    assert set(FORMS) == set(OF_PAIRS)


def test_unpaired_rows_are_the_best_and_the_worst_responses():
    rows, _, lost = lines(PAIR, format="kto", extras=False)
    assert rows == [
        {"prompt": [USER], "completion": [RED], "label": True},
        {"prompt": [USER], "completion": [TUESDAY], "label": False},
    ]
    rows, _, lost = lines(RANKED, TIE, format="kto-text", extras=False)
    assert [(row["completion"], row["label"]) for row in rows] == [("c", True), ("d", False)]
    assert (lost["responses between the best and the worst"], lost["ties"]) == (1, 1)


def test_earlier_turns_and_the_system_message_stand_where_each_tool_looks():
    comparison = chat(*TURNS)
    row = only(comparison, format="llamafactory")
    assert (row["system"], row["history"], row["instruction"]) == ("Be brief.", [["Hi", "Hello"]], "And?")
    row = only(comparison, format="llamafactory-sharegpt")
    assert [turn["from"] for turn in row["conversations"]] == ["human", "gpt", "human"]
    assert row["system"] == "Be brief."
    assert [turn["role"] for turn in only(comparison, format="nemo-rl")["context"]] == [
        "system",
        "user",
        "assistant",
        "user",
    ]


def test_tools_are_json_text_and_arguments_are_objects_but_in_parquet():
    row = only(AGENT, format="trl")
    assert json.loads(row["tools"]) == [TOOL]
    assert row["chosen"][0]["tool_calls"][0]["function"] == {"name": "add", "arguments": {"a": 1}}
    row = only(AGENT, format="trl", out="x.parquet")
    assert row["chosen"][0]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'


def test_calls_in_a_prompt_become_the_functions_of_sharegpt():
    prompt = Prompt([Message("user", "1 + 1?"), CALL, Message("tool", "2", (), "c1")], [TOOL])
    row = only(replace(PAIR, prompt=prompt), format="llamafactory-sharegpt")
    assert [turn["from"] for turn in row["conversations"]] == ["human", "function_call", "observation"]
    assert json.loads(row["conversations"][1]["value"]) == [{"name": "add", "arguments": {"a": 1}}]


def test_the_entry_of_a_file_names_columns_that_every_row_has():
    for name in ("llamafactory", "llamafactory-sharegpt"):
        entry = EXPORTERS[name].entry
        assert entry is not None
        (body,) = entry(Path("out/pairs.v1.jsonl")).values()
        assert set(body["columns"].values()) == set(only(PAIR, format=name))
        assert (body["file_name"], body["ranking"]) == ("pairs.v1.jsonl", True)


# ---- Ties, soft labels, rankings, margins --------------------------------------------------------------------------


@pytest.mark.parametrize("name", FOREIGN)
def test_ties_are_dropped_and_counted(name):
    rows, reasons, lost = lines(PAIR, TIE, replace(TIE, preference=Preference(q=0.5)), format=name)
    assert len(rows) == (2 if name.startswith("kto") else 1)
    assert not reasons
    assert lost["ties"] == 2


def test_soft_ties_are_kept_with_their_probability():
    rows, _, lost = lines(TIE, SOFT, format="trl", ties="soft", margin_scale=0)
    assert [row["p_chosen"] for row in rows] == [0.5, 0.8]
    assert rows[1]["chosen"] == [TUESDAY]
    assert "ties" not in lost
    (row,), _, _ = lines(TIE, format="nemo-rl", ties="soft")
    assert [side["rank"] for side in row["completions"]] == [0, 0]


def test_ties_with_margin_0_stand_beside_margins():
    strong = replace(PAIR, preference=Preference(groups=((0,), (1,)), strength=2.0))
    rows, _, lost = lines(TIE, strong, format="trl", ties="margin0", margin_scale=0.5)
    assert [row["margin"] for row in rows] == [0.0, 1.0]
    assert lost["ties, now margin 0,"] == 1


def test_the_chosen_side_of_a_tie_does_not_depend_on_the_order_shown():
    other = replace(TIE, responses=TIE.responses[::-1])
    (a,), (b,) = (lines(tie, format="trl-text", ties="soft")[0] for tie in (TIE, other))
    assert a["chosen"] == b["chosen"]


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        # ranks: c 0; a and e 1; b 2; d, in no group, last
        ("all", {"ca1", "ce1", "cb2", "cd3", "ab1", "eb1", "ad2", "ed2", "bd1"}),
        ("best_vs_rest", {"ca1", "ce1", "cb2", "cd3"}),
        ("adjacent", {"ca1", "ce1", "ab1", "eb1", "bd1"}),
        ("best_vs_worst", {"cd3"}),
    ],
)
def test_a_ranking_gives_the_pairs_that_were_chosen(pairs, expected):
    rows, _, lost = lines(RANKED, format="trl-text", pairs=pairs)
    assert {f"{row['chosen']}{row['rejected']}{row['rank_gap']}" for row in rows} == expected
    assert len({row["id"] for row in rows}) == len(rows)
    assert {row["group"] for row in rows} == {RANKED.group}
    assert lost.get("ties", 0) == (1 if pairs in ("all", "adjacent") else 0)
    strengths = {row["chosen"] + row["rejected"]: row.get("strength") for row in rows}
    assert {pair for pair, strength in strengths.items() if strength is not None} == {"cd"} & set(strengths)


def test_rankings_stay_whole_where_the_format_holds_them():
    (row,), _, lost = lines(RANKED, format="nemo-rl")
    assert [side["rank"] for side in row["completions"]] == [1, 2, 0, 3, 1]
    assert lost == {"which responses were not ranked": 1}
    assert len(lines(RANKED, format="nemo-rl", pairs="best_vs_rest")[0]) == 4


def test_margins_are_strengths_times_a_scale_in_all_rows_or_in_none():
    strong = replace(PAIR, preference=Preference(groups=((0,), (1,)), strength=3.0))
    assert only(strong, format="trl", margin_scale=1 / 3)["margin"] == 1.0
    assert "margin" not in only(strong, format="trl", margin_scale=0)
    line = one_line(lambda: lines(strong, PAIR, format="trl"))
    assert "a margin must be in all rows or in none for trl, got none here and one before" in line
    assert "Write --margin-scale 0 for none." in line
    line = one_line(lambda: lines(PAIR, TIE, format="trl", ties="margin0"))
    assert "Write --margin-scale 0 --ties drop for none." in line
    assert ["margin" in row for row in lines(strong, PAIR, format="openrlhf")[0]] == [True, False]


# ---- What is lost --------------------------------------------------------------------------------------------------


def test_losses_are_counted_by_kind():
    rich = replace(
        SOFT,
        responses=(Response("Red.", author="m", ratings={"truth": 1.0}), Response("Tuesday.", finish="stop")),
        annotator="ann", source="s", rationale="why", group="g", weight=2.0,
    )  # fmt: skip
    kept = {"order shown": 2, "author": 1, "ratings": 1, "finish": 1, "vote counts": 1}
    assert lines(rich, PAIR, format="trl", margin_scale=0)[2] == kept
    lost = lines(rich, PAIR, format="llamafactory", extras=False)[2]
    of_one = ("annotator", "source", "rationale", "group", "weight", "soft label", "strength")
    assert lost == kept | {"id": 2} | dict.fromkeys(of_one, 1)


def test_losses_are_named_in_a_sentence():
    job = prepare(ExportOptions(margin_scale=0), "x.jsonl")
    list(exported_lines([PAIR, SOFT, TIE], job))
    assert job.losses.describe() == "1 tie (dropped), order shown of all comparisons, vote counts of 1 comparison"


def test_native_loses_nothing(tmp_path):
    comparisons = [PAIR, TIE, SOFT, RANKED, AGENT]
    done = guerdon.convert(comparisons, tmp_path / "x.jsonl", format="native")
    assert guerdon.read(tmp_path / "x.jsonl") == comparisons
    assert (done.rows, done.lost, done.losses) == (5, {}, "")
    assert guerdon.convert(comparisons, tmp_path / "x.jsonl", format="native", ties="drop").lost == {"ties": 1}


# ---- What a format cannot hold -------------------------------------------------------------------------------------

HALF = replace(PAIR, prompt=Prompt([Message("user", "\ud800")]))
TOOL_TURNS = [Message("user", "1"), CALL, Message("tool", "2", (), "c1"), Message("tool", "3", (), "c1")]
UNHELD = [
    ("trl-text", chat(*TURNS), "prompt must be one user turn for trl-text, got system, user, assistant, user."),
    ("trl-text", replace(AGENT, prompt=AGENT.prompt[1:]), "prompt must be one user turn for trl-text, got user with tools."),
    ("kto-text", replace(PAIR, responses=AGENT.responses), "responses must be plain texts for kto-text, got messages (assistant, tool"),
    ("trl-implicit-text", chat("s:a", "u:b"), "prompt must be turns of user and assistant for trl-implicit-text, got system"),
    ("trl-implicit-text", chat("u:a\n\nHuman: b"), "texts must hold no mark of a turn"),
    ("trl-implicit-text", chat("u:\n\nHuman: b"), "texts must hold no mark of a turn"),
    ("llamafactory", chat("u:a", "u:b", "u:c"), "prompt must be turns of user and assistant in alternation"),
    ("llamafactory", chat("s:a"), "prompt must be turns of user and assistant in alternation for llamafactory, got none"),
    ("llamafactory", replace(PAIR, responses=AGENT.responses), "responses must be plain texts"),
    ("llamafactory", replace(PAIR, prompt=Prompt(TOOL_TURNS[:3])), "prompt must be turns of user and assistant"),
    ("llamafactory-sharegpt", AGENT, "responses must be one turn for LLaMA-Factory"),
    ("llamafactory-sharegpt", replace(PAIR, prompt=Prompt(TOOL_TURNS)), "prompt must be turns of user or tool"),
    ("llamafactory-sharegpt", chat("u:a", "s:b", "u:c"), "must have its system message first"),
    *((name, chat("u:a", "a:b"), "the last message of the prompt must be a user, tool") for name in FOREIGN if not name.endswith("-text")),
    *((name, HALF, "text must be whole characters, got '\\ud800'.") for name in FOREIGN),
    *((name, replace(PAIR, responses=(Response(" \n"), Response("b"))), "must be a response that is not empty") for name in FOREIGN),
    *((name, replace(PAIR, responses=(Response("b "), Response("b"))), "must differ, got identical responses") 
      for name in FORMS if name != "nemo-rl"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "comparison", "words"), UNHELD)
def test_what_a_format_cannot_hold_is_set_aside_with_its_reason(name, comparison, words):
    rows, (reason,), lost = lines(comparison, format=name)
    assert rows == []
    assert words in reason
    assert gives_advice(reason)
    assert "\n" not in reason
    assert not lost


def test_a_reason_that_holds_for_all_pairs_of_a_ranking_is_given_once():
    assert len(lines(replace(RANKED, prompt=HALF.prompt), format="trl")[1]) == 1


def test_the_first_such_comparison_stops_a_call_from_python_and_nothing_is_written(tmp_path):
    line = one_line(lambda: guerdon.convert([PAIR, HALF], tmp_path / "x.jsonl", format="trl"))
    assert "text must be whole characters" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "out", "words"),
    [
        ({"format": "trll"}, "x.jsonl", "--to must be a known format, got 'trll'. Did you mean trl?"),
        (
            {"format": "llamafactory"},
            "x.jsonl.gz",
            "the ending must be .jsonl or .parquet for llamafactory, got '.jsonl.gz'",
        ),
        ({"format": "trl"}, "x.csv", "the ending must be .jsonl, .jsonl.gz or .parquet for trl, got '.csv'"),
        ({"format": "kto", "ties": "soft"}, "x.jsonl", "--ties must be drop for kto, got 'soft'"),
        ({"format": "nemo-rl", "ties": "margin0"}, "x.jsonl", "--ties must be drop or soft for nemo-rl, got 'margin0'"),
        ({"format": "kto", "pairs": "all"}, "x.jsonl", "--pairs must be absent for kto"),
        ({"format": "llamafactory", "margin_scale": 2.0}, "x.jsonl", "--margin-scale must be absent for llamafactory"),
        ({"format": "native", "extras": False}, "x.jsonl", "--no-extras must be absent for native"),
        ({"format": "trl", "ties": "soft", "extras": False}, "x.jsonl", "--ties soft must come with extra columns"),
    ],
)
def test_an_option_that_a_format_would_ignore_is_refused(options, out, words):
    line = one_line(lambda: prepare(ExportOptions(**options), out))
    assert words in line
    assert gives_advice(line)


def test_ties_alone_are_no_file(tmp_path):
    line = one_line(lambda: guerdon.convert([TIE], tmp_path / "x.jsonl"))
    assert "got ties only (1), which trl drops. Write --ties soft." in line
    line = one_line(lambda: guerdon.convert([TIE], tmp_path / "x.jsonl", format="kto"))
    assert "got ties only (1), which kto drops. Write --to trl --ties soft." in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["kto", "kto-text"])
def test_a_strength_belongs_to_two_responses_so_unpaired_rows_lose_it(name):
    strong = replace(PAIR, preference=Preference(groups=((0,), (1,)), strength=3.0))
    rows, _, lost = lines(strong, format=name)
    assert lost == {"order shown": 1, "strength": 1}
    assert [("strength" in row, row["label"]) for row in rows] == [(False, True), (False, False)]


# ---- There and back ------------------------------------------------------------------------------------------------

any_text = st.text(st.characters(codec="utf-8"), max_size=8)
words = st.builds(
    lambda a, b: f"{a}{b}", st.sampled_from(["yes", "no", "naïve 🙂", "a\u202eb", "x\r\ny", "{", "Human:"]), any_text
)
calls = st.builds(
    ToolCall,
    st.sampled_from(["add", "get"]),
    st.sampled_from(['{"a": 1}', '{"b": {"c": [null, "é"]}}', "{}"]),
    st.just("c1"),
)
agents = st.builds(
    lambda call, content, result, last: Response(
        messages=(Message("assistant", content, (call,)), Message("tool", result, (), "c1"), Message("assistant", last))
    ),
    calls, st.just("") | words, any_text, words,
)  # fmt: skip
plain_responses = st.builds(Response, words)
names = st.sampled_from([None, "ann", "Zoë 3"])
strengths = st.none() | st.floats(0, 9)


def hard(strength: float | None, is_first: bool) -> Preference:
    return Preference(groups=((0,), (1,)) if is_first else ((1,), (0,)), strength=strength)


preferences = st.builds(hard, strengths, st.booleans()) | st.builds(
    Preference, q=st.integers(0, 100).map(lambda k: k / 100), strength=strengths
)  # fmt: skip


@st.composite
def prompts(draw, has_history: bool, has_tools: bool) -> Prompt:
    turns = [Message("system", draw(words))] if has_history and draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 2)) if has_history else 0):
        turns += [Message("user", draw(words)), Message("assistant", draw(words))]
    tools = [TOOL] if has_tools and draw(st.booleans()) else []
    return Prompt([*turns, Message("user", draw(words))], tools)


def comparisons(
    prompt: st.SearchStrategy[Prompt], response: st.SearchStrategy[Response]
) -> st.SearchStrategy[Comparison]:
    weight = st.sampled_from([1.0, 0.5])
    return st.builds(
        Comparison, prompt, st.tuples(response, response), preferences, names, names, weight,
        group=st.sampled_from(["", "g1"]), id=st.sampled_from(["", "i1"]), rationale=names,
    )  # fmt: skip


def oriented(comparison: Comparison) -> tuple[Any, ...]:
    """All that a pair format holds of a comparison, whichever response stands first."""
    preference, (first, second) = comparison.preference, comparison.responses
    sides = [(response_identity(first), comparison.q), (response_identity(second), complement(comparison.q or 0.0))]
    kept = (
        comparison.annotator,
        comparison.source,
        comparison.weight,
        comparison.group,
        comparison.id,
        comparison.rationale,
    )
    is_soft = preference.q is not None
    return (comparison.prompt, comparison.prompt.tools, sorted(sides, key=repr), is_soft, preference.strength, kept)


def can_come_back(comparison: Comparison) -> bool:
    """Whether no reading rule of ours applies to the texts: repeated prompts, equal texts, a shared beginning."""
    a, b = comparison.responses
    shared = comparison.prompt[-1].content.strip()
    repeats = bool(shared) and all(not r.messages and r.text.lstrip().startswith(shared) for r in (a, b))
    turns = [Prompt(r.messages or (Message("assistant", r.text),)) for r in (a, b)]
    texts = [r.text.strip() for r in (a, b)]
    is_empty = any(r.is_empty for r in (a, b))
    return not (
        repeats or is_empty or response_start(*turns) or (texts[0] == texts[1] and not a.messages and not b.messages)
    )


def texts_of(comparison: Comparison) -> list[str]:
    return [turn.content for turn in comparison.prompt] + [response.text for response in comparison.responses]


ALL_TURNS = comparisons(prompts(True, True), plain_responses | agents)
PLAIN_TURNS = comparisons(prompts(True, False), plain_responses)
ONE_TURN = comparisons(prompts(False, False), plain_responses)
WITHOUT_SYSTEM = PLAIN_TURNS.filter(lambda c: c.prompt[0].role != "system")
STRATEGIES = {
    "trl": ALL_TURNS,
    "trl-implicit": ALL_TURNS,
    "openrlhf": ALL_TURNS,
    "nemo-rl": ALL_TURNS,
    "trl-text": ONE_TURN,
    "trl-implicit-text": WITHOUT_SYSTEM.filter(lambda c: not any("\n\n" in f"\n{text}" for text in texts_of(c))),
    "llamafactory": PLAIN_TURNS,
    "llamafactory-sharegpt": PLAIN_TURNS,
}


def there_and_back(comparison: Comparison, name: str, as_text: bool) -> Comparison:
    """The comparison as it is read from the row that is written."""
    out = "x.parquet" if as_text else "x.jsonl"
    (row,), reasons, lost = lines(comparison, out=out, format=name, ties="soft")
    assert not reasons
    assume("white space at the ends of texts" not in lost)
    (again,) = import_rows([("x.jsonl:1", row)], ImportOptions())
    assert isinstance(again, Comparison), again
    return again


@pytest.mark.parametrize("name", STRATEGIES)
@settings(suppress_health_check=[HealthCheck.filter_too_much], deadline=None)
@given(data=st.data(), as_text=st.booleans())
def test_what_a_format_holds_comes_back_as_it_was(name, data, as_text):
    comparison = data.draw(STRATEGIES[name])
    assume(can_come_back(comparison))
    assert oriented(there_and_back(comparison, name, as_text)) == oriented(comparison)


@pytest.mark.parametrize("name", ["kto", "kto-text"])
def test_unpaired_rows_are_joined_again(name):
    rows, _, _ = lines(PAIR, format=name)
    (again,) = import_rows([(f"x.jsonl:{i}", row) for i, row in enumerate(rows)], ImportOptions())
    assert isinstance(again, Comparison)
    assert oriented(again)[:4] == oriented(PAIR)[:4]


def test_a_completion_that_begins_with_the_prompt_keeps_it():
    echo = replace(PAIR, responses=(Response("Red."), Response("Name a color. Name a color.")))
    rows, _, _ = lines(echo, format="kto")
    (again,) = import_rows([(f"x.jsonl:{i}", row) for i, row in enumerate(rows)], ImportOptions())
    assert isinstance(again, Comparison)
    assert {response.text for response in again.responses} == {response.text for response in echo.responses}


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".parquet"])
def test_files_of_every_ending_hold_the_same(tmp_path, ending):
    comparisons = [PAIR, AGENT, SOFT, chat(*TURNS, annotator="ann")]
    guerdon.convert(comparisons, tmp_path / f"x{ending}", margin_scale=0)
    assert list(map(oriented, guerdon.read(tmp_path / f"x{ending}"))) == list(map(oriented, comparisons))


def test_a_margin_comes_back_as_the_strength_without_extra_columns(tmp_path):
    strong = replace(PAIR, preference=Preference(groups=((0,), (1,)), strength=2.5))
    guerdon.convert([strong], tmp_path / "x.jsonl", extras=False)
    (again,) = guerdon.read(tmp_path / "x.jsonl")
    assert again.preference.strength == 2.5


# ---- Files ---------------------------------------------------------------------------------------------------------


def test_parquet_has_the_columns_that_occur_and_no_others(tmp_path):
    import pyarrow.parquet as pq

    guerdon.convert([PAIR] * 600, tmp_path / "x.parquet", extras=False)
    schema = pq.read_schema(tmp_path / "x.parquet")
    assert schema.names == ["prompt", "chosen", "rejected"]
    assert {field.name for field in schema.field("prompt").type.value_type} == {"role", "content"}

    late = [*[PAIR] * 600, AGENT, replace(PAIR, annotator="ann")]  # new columns in the second batch
    guerdon.convert(late, tmp_path / "x.parquet")
    assert {"tools", "annotator"} <= set(pq.read_schema(tmp_path / "x.parquet").names)
    assert list(map(oriented, guerdon.read(tmp_path / "x.parquet"))) == list(map(oriented, late))


def test_a_conversion_reads_one_comparison_at_a_time(tmp_path):
    from guerdon.api.conversion import convert_rows

    pending: list[int] = []

    def counted() -> Iterator[Comparison]:
        for i in range(50):
            assert len(pending) <= 1
            pending.append(i)
            yield PAIR
            pending.pop()

    assert convert_rows(counted(), tmp_path / "x.jsonl", ExportOptions()).rows == 50


def test_the_same_comparisons_give_the_same_bytes(tmp_path):
    for ending in (".jsonl", ".jsonl.gz", ".parquet"):
        written = []
        for name in "ab":
            guerdon.convert([PAIR, SOFT, RANKED], tmp_path / f"{name}{ending}", margin_scale=0)
            written.append((tmp_path / f"{name}{ending}").read_bytes())
        assert written[0] == written[1]
