"""Data sets as trainers take them: conversations with a rejected end, and single responses with a label."""

from __future__ import annotations

import json

import pytest
from comparison_files import write_rows
from format_rows import (
    FORMAT_ROWS,
    LLAMA_FACTORY_ALPACA,
    LLAMA_FACTORY_KTO,
    LLAMA_FACTORY_LISTS,
    LLAMA_FACTORY_PARTS,
    LLAMA_FACTORY_SHAREGPT,
    SWIFT,
    SWIFT_KTO,
    TRL_KTO,
    TRL_KTO_MESSAGES,
    turn,
)
from fuzzing import encoded
from imports import one, preferred, reason, sides, take, turns
from typer.testing import CliRunner

from guerdon.cli.app import app
from guerdon.config import ImportOptions
from guerdon.contracts import Comparison, GuerdonError
from guerdon.data.files import Rejects, import_files, scorable_rows
from guerdon.data.importers import IMPORTERS, import_rows
from guerdon.io.schema import Rejected


def test_every_format_has_rows_here():
    """But the file form of the store, whose header counts its rows (tests/store)."""
    assert {name.partition("/")[0] for name in FORMAT_ROWS} == set(IMPORTERS) - {"prefs"}


@pytest.mark.parametrize("name", FORMAT_ROWS)
def test_each_format_is_detected_and_gives_what_its_name_gives(name):
    rows = [(f"a:{i}", row) for i, row in enumerate(FORMAT_ROWS[name], 1)]
    lines: list[str] = []
    imported = list(import_rows(rows, ImportOptions(), lines.append))
    form = name.partition("/")[0]
    assert lines[0].startswith(f"format: {form}"), lines
    assert imported == list(import_rows(rows, ImportOptions(format=form)))
    assert any(isinstance(row, Comparison) for row in imported)


# ---- LLaMA-Factory and ms-swift ------------------------------------------------------------------------------------------


def test_calls_and_results_of_sharegpt_are_tool_turns():
    imported = one(LLAMA_FACTORY_SHAREGPT[1])
    assert [m.role for m in imported.prompt] == ["system", "user", "assistant", "user", "assistant", "tool"]
    (call,) = imported.prompt[4].tool_calls
    assert (call.name, call.arguments) == ("weather", '{"city": "Rome"}')
    assert imported.prompt.tools
    assert preferred(imported) == ("It is clear in Rome.", "I cannot tell.")


def test_calls_one_behind_the_other_are_one_turn():
    imported = one(SWIFT[3])
    assert [m.role for m in imported.prompt] == ["user"], "the user's last turn ends the prompt"
    chosen, rejected = sides(imported)
    assert [call.arguments for call in chosen.messages[0].tool_calls] == ['{"city": "Rome"}', '{"city": "Oslo"}']
    assert [m.role for m in chosen.messages] == ["assistant", "tool", "tool", "assistant"]
    assert rejected.text == "I don't know."


def test_swift_replaces_what_follows_the_users_last_turn():
    imported = take(*SWIFT)
    assert [preferred(row) for row in imported[:3]] == [
        ("It is sunny.", "I don't know"),
        ("3", "4"),
        ("Iron.", "Wood."),
    ]
    assert turns(imported[1]) == ["u:1 + 1?", "a:2", "u:And 1 more?"]
    assert imported[1].preference.strength == 1.5
    assert turns(imported[4]) == ["u:Hi", "a:Hello!", "u:Name a bird."]


def test_of_two_outputs_the_first_is_the_better_one():
    lists, pairs = take(*LLAMA_FACTORY_LISTS), take(*LLAMA_FACTORY_ALPACA)
    assert [(c.prompt, c.responses, c.q) for c in lists] == [(c.prompt, c.responses, c.q) for c in pairs]
    lines: list[str] = []
    list(import_rows([("a:1", LLAMA_FACTORY_LISTS[0])], ImportOptions(), lines.append))
    assert lines[0] == "format: llama_factory_list (detected from instruction, output: two texts as output)"


@pytest.mark.parametrize("output", [["Iron."], ["Iron.", "Wood.", "Tin."], ["Iron.", 3], "Iron."])
def test_other_outputs_are_not_taken_for_two_answers(output):
    with pytest.raises(GuerdonError, match="columns must fit a known format"):
        take({"instruction": "Name a metal.", "input": "", "output": output})


@pytest.mark.parametrize(
    "damaged", [{}, {"output": []}, {"output": ["Iron."]}, {"output": ["a", "b", "c"]}, {"output": 3}]
)
def test_a_row_without_two_outputs_is_set_aside_where_others_have_them(damaged):
    row = {"instruction": "Name a metal.", **damaged}
    *_, rejected = take(*LLAMA_FACTORY_LISTS, row)
    assert rejected.reason.startswith(
        ("output is missing.", "output must be a list of two texts, the better one first, got")
    )


def test_parts_of_llama_factory_keep_their_text_byte_for_byte():
    imported = one(LLAMA_FACTORY_PARTS[0])
    assert turns(imported) == ["s:Translate.", "u:Guten Abend"]
    assert preferred(imported) == ("Good evening", " Good night")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rejected_response": "It is sunny."}, "chosen and rejected must differ"),
        ({"rejected_response": " "}, "rejected must be a response that is not empty"),
        ({"messages": [turn("user", "Hi")]}, "messages must be a conversation that ends with the assistant's turn"),
        (
            {"messages": [turn("assistant", "Hi")]},
            "messages must be a conversation that ends with the assistant's turn",
        ),
        ({"messages": "Hi"}, "messages must be text or a list of messages, got 'Hi'"),
        ({"images": ["cat.png"]}, "images must be empty"),
        (
            {"messages": [turn("tool_call", "{"), turn("assistant", "x")]},
            "messages[0].content must be a call as JSON text",
        ),
    ],
)
def test_a_bad_swift_row_is_set_aside_with_the_true_reason(changes, words):
    assert words in reason({**SWIFT[0], **changes}, format="swift")


# ---- One response per row -----------------------------------------------------------------------------------------------


def test_the_labels_of_one_prompt_are_one_ranking():
    """Hand-worked: two good responses above a bad one, and a pair, whatever stands between their rows."""
    sky, grass = take(*TRL_KTO)
    ranks = dict(zip((r.text for r in sky.responses), sky.ranks, strict=True))
    assert (turns(sky), ranks) == (["u:The sky is"], {" blue.": 0, " above.": 0, " green.": 1})
    assert preferred(grass) == (" green.", " blue.")
    assert grass == one({"prompt": "Grass is", "chosen": " green.", "rejected": " blue."}), "as a pair"


def test_the_forms_of_unpaired_labels_say_the_same():
    texts = {"2": 0, "It is 2.": 0, "3": 1, "11": 1}
    (swift,) = take(*SWIFT_KTO)
    assert dict(zip((r.text for r in swift.responses), swift.ranks, strict=True)) == texts
    assert turns(swift) == ["s:You help.", "u:1 + 1?"]
    assert turns(take(*LLAMA_FACTORY_KTO)[1]) == ["u:Name a color.\nBriefly."]
    (sky,) = take(*TRL_KTO_MESSAGES)
    assert len(sky.responses) == 3
    as_words = [{**row, "label": str(row["label"])} for row in TRL_KTO]
    assert take(*as_words) == take(*TRL_KTO)
    renamed = [{"input": r["prompt"], "output": r["completion"], "good": int(r["label"])} for r in TRL_KTO]
    columns = {"prompt": "input", "completion": "output", "label": "good"}
    assert take(*renamed, format="unpaired", columns=columns) == take(*TRL_KTO), "OpenRLHF: keys by flag"


def test_a_prompt_with_labels_of_one_kind_only_is_set_aside_row_by_row():
    rows = [TRL_KTO[0], TRL_KTO[3], *TRL_KTO[2:5:2]]
    blue, above, grass = take(*rows)
    assert isinstance(grass, Comparison)
    assert [row.place for row in (blue, above)] == ["a:1", "a:2"]
    assert blue.reason == (
        "label must be true for one response of a prompt and false for another, got only true (2 responses of the prompt). "
        "Add a response of the other kind, or drop the row."
    )


def test_a_response_that_was_labeled_both_ways_stands_between_the_others():
    rows = [*TRL_KTO, {**TRL_KTO[1], "label": True}, TRL_KTO[0]]
    sky = take(*rows)[0]
    assert dict(zip((r.text for r in sky.responses), sky.ranks, strict=True)) == {
        " blue.": 0,
        " above.": 0,
        " green.": 1,
    }
    rows = [{**TRL_KTO[0], "label": value} for value in (True, False)]
    assert "got both for each (1 response of the prompt)" in take(*rows)[0].reason


def test_a_bad_row_leaves_the_other_rows_of_its_prompt():
    bad = [{**TRL_KTO[0], "completion": ""}, {**TRL_KTO[0], "label": "maybe"}, {**TRL_KTO[0], "prompt": None}]
    imported = take(*bad, *TRL_KTO)
    assert [isinstance(row, Rejected) for row in imported] == [True, True, True, False, False]
    assert "completion must be a response that is not empty" in imported[0].reason
    assert "label must be true or false, got 'maybe'" in imported[1].reason
    assert "prompt is missing" in imported[2].reason


@pytest.mark.parametrize("row", [{"prompt": "p", "completion": "c", "label": 3}, {"text": "p", "label": 1}])
def test_a_scale_is_not_taken_for_labels_of_single_responses(row):
    with pytest.raises(GuerdonError, match="columns must fit a known format"):
        take(row)


# ---- File kinds and commands --------------------------------------------------------------------------------------------

IN_TABLES = (
    "hh", "scores", "votes", "labeled", "shp", "helpsteer2", "trl", "trl/feedloop", "trl/openrlhf_chat", "trl/llama_factory_alpaca",
    "trl/llama_factory_sharegpt", "llama_factory", "unpaired", "unpaired/messages", "unpaired/llama_factory",
    "unpaired/llama_factory_sharegpt", "unpaired/swift", "argilla/flat", "label_studio/min", "label_studio/csv", "potato/flat",
    "potato/pairs",
)  # fmt: skip


def rows_of(path):
    return [row if isinstance(row, Comparison) else row.reason for row in import_files([path], ImportOptions())]


IN_PARQUET = [name for name, rows in FORMAT_ROWS.items() if encoded(rows, "parquet") is not None]  # columns of one type


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((n, "json") for n in FORMAT_ROWS), *((n, "parquet") for n in IN_PARQUET), *((n, "csv") for n in IN_TABLES)],
)
def test_every_kind_of_file_says_the_same(name, kind, tmp_path):
    paths = [tmp_path / "rows.jsonl", tmp_path / f"rows.{kind}"]
    for path in paths:
        path.write_bytes(encoded(FORMAT_ROWS[name], path.suffix[1:]))
    assert rows_of(paths[0]) == rows_of(paths[1])


@pytest.mark.parametrize("name", FORMAT_ROWS)
def test_check_split_and_score_take_every_format_without_an_import(name, tmp_path):
    path = write_rows(tmp_path / "rows.jsonl", *FORMAT_ROWS[name])
    usable = [row for row in import_files([path], ImportOptions()) if isinstance(row, Comparison)]
    for command in (["check", str(path)], ["split", str(path), "--out", str(tmp_path / "parts")]):
        done = CliRunner().invoke(app, ["--quiet", *command])
        assert done.exit_code in (0, 1), (command, done.output)
        assert not isinstance(done.exception, GuerdonError), command
    parts = [
        json.loads(line) for part in (tmp_path / "parts").glob("*.jsonl") for line in part.read_text().splitlines()
    ]
    assert len(parts) == len(usable)
    rejects = Rejects()
    scorable = list(scorable_rows([path], ImportOptions(), rejects))
    assert scorable or rejects.count
