"""Text is the same from the file to the comparison, or its row is set aside with a reason: whatever its characters are."""

from __future__ import annotations

import csv
import json

import pytest
from errors import gives_advice
from hypothesis import given
from hypothesis import strategies as st

from guerdon.config import ImportOptions
from guerdon.contracts import Comparison, Response
from guerdon.data.files import import_files
from guerdon.data.importers import Rejected
from guerdon.io import writers
from guerdon.io.readers import read_comparisons

ODD = [
    "\x00", "\ud800", "\udfff", "\ud83d\ude00", "\u202e", "\u2066", "\ufeff", "\u2028", "\x85", "\x1c", "\x1e", "\r", "\r\n", "\n", "\t",
    '"', "'", "\\", ",", ";", "{", "[", "e\u0301", "\u00e9", "\u212b", "\ufb01", "\u3000", "\u200b", "NaN", "null", "1e999",
]  # fmt: skip
PART = st.one_of(st.sampled_from(ODD), st.text(st.characters(), max_size=4), st.sampled_from(["a", "b ", "word "]))
# Two halves of a pair are one character in JSON; lone ones stay.
TEXT = st.lists(PART, min_size=1, max_size=6).map(
    lambda parts: "".join(parts).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
)
PLAIN = TEXT.map(lambda text: "".join(c for c in text if c and not "\ud800" <= c <= "\udfff" and c != "\0"))


def _turn(role, text):
    return {"role": role, "content": text}


# A prompt and two responses in, a row out; the first response is the better one.
FORMS = {
    "trl": lambda p, a, b: {"prompt": p, "chosen": a, "rejected": b},
    "trl messages": lambda p, a, b: {
        "prompt": [_turn("user", p)],
        "chosen": [_turn("assistant", a)],
        "rejected": [_turn("assistant", b)],
    },
    "trl implicit": lambda p, a, b: {
        "chosen": [_turn("user", p), _turn("assistant", a)],
        "rejected": [_turn("user", p), _turn("assistant", b)],
    },
    "labeled": lambda p, a, b: {"question": p, "first": a, "second": b, "label": "a"},
    "votes": lambda p, a, b: {"prompt": p, "response_a": a, "response_b": b, "votes": [{"annotator": a, "label": "a"}]},
    "scores": lambda p, a, b: {"prompt": p, "responses": [a, b], "scores": [2, 1]},
    "native": lambda p, a, b: {
        "prompt": [_turn("user", p)],
        "responses": [{"text": a}, {"text": b}],
        "preference": {"groups": [[0], [1]]},
    },
    "helpsteer3": lambda p, a, b: {
        "context": [_turn("user", p)],
        "response1": a,
        "response2": b,
        "overall_preference": -1,
    },
    "arena": lambda p, a, b: {
        "model_a": "x",
        "model_b": "y",
        "winner": "model_a",
        "conversation_a": [_turn("user", p), _turn("assistant", a)],
        "conversation_b": [_turn("user", p), _turn("assistant", b)],
    },
    "arena_lists": lambda p, a, b: {
        "model_a": "x",
        "model_b": "y",
        "prompt": json.dumps([p]),
        "response_a": json.dumps([a]),
        "response_b": json.dumps([b]),
        "winner_model_a": 1,
        "winner_model_b": 0,
        "winner_tie": 0,
    },
    "nemo_rl": lambda p, a, b: {
        "context": [_turn("user", p)],
        "completions": [{"rank": i, "completion": [_turn("assistant", text)]} for i, text in enumerate((a, b))],
    },
    "shp": lambda p, a, b: {"history": p, "human_ref_A": a, "human_ref_B": b, "labels": 1, "score_ratio": 2.0},
}


def outcome(path) -> tuple[list[Comparison | Rejected], list[str]]:
    lines: list[str] = []
    return list(import_files([path], ImportOptions(), lines.append)), lines


def assert_exact_or_rejected(result, lines, prompt, better, worse):
    if isinstance(result, Rejected):
        assert gives_advice(result.reason)
        assert result.reason.isprintable()
        is_empty = any(not text.strip() or Response(text).is_empty for text in (prompt, better, worse))
        are_repetitions = all(text.strip().startswith(prompt.strip()) for text in (better, worse))
        assert is_empty or are_repetitions or better.strip() == worse.strip(), result.reason
        return
    assert "".join(message.content for message in result.prompt) == prompt
    first, second = (response.text for response in result.responses)
    got = (first, second) if result.q == 1.0 else (second, first)
    if got != (better, worse):
        assert any(line.startswith("responses without the prompt that they repeated") for line in lines)
        assert all(text.endswith(part) for text, part in zip((better, worse), got, strict=True))


@pytest.mark.parametrize("name", FORMS)
@given(prompt=TEXT, better=TEXT, worse=TEXT)
def test_json_rows_keep_every_character(name, prompt, better, worse, tmp_path_factory):
    path = tmp_path_factory.mktemp("exact") / "a.jsonl"
    path.write_text(json.dumps(FORMS[name](prompt, better, worse)) + "\n", encoding="ascii")
    (result,), lines = outcome(path)
    assert_exact_or_rejected(result, lines, prompt, better, worse)


@given(prompt=PLAIN, better=PLAIN, worse=PLAIN)
def test_tables_keep_every_character_that_utf8_holds(prompt, better, worse, tmp_path_factory):
    path = tmp_path_factory.mktemp("exact") / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([["prompt", "chosen", "rejected"], [prompt, better, worse]])
    (result,), lines = outcome(path)
    assert_exact_or_rejected(result, lines, prompt, better, worse)


@given(prompt=PLAIN, better=PLAIN, worse=PLAIN)
def test_parquet_keeps_every_character_that_utf8_holds(prompt, better, worse, tmp_path_factory):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path_factory.mktemp("exact") / "a.parquet"
    pq.write_table(pa.Table.from_pylist([FORMS["trl"](prompt, better, worse)]), path)
    (result,), lines = outcome(path)
    assert_exact_or_rejected(result, lines, prompt, better, worse)


@given(prompt=TEXT, better=TEXT, worse=TEXT)
def test_what_is_written_is_read_again_with_every_character(prompt, better, worse, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exact")
    (folder / "a.jsonl").write_text(json.dumps(FORMS["trl"](prompt, better, worse)) + "\n", encoding="ascii")
    kept = [result for result in outcome(folder / "a.jsonl")[0] if isinstance(result, Comparison)]
    writers.write_comparisons(folder / "b.jsonl", kept)
    if kept:
        assert list(read_comparisons(folder / "b.jsonl")) == kept


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_a_cell_of_ten_megabytes_is_set_aside_with_its_length_and_the_other_rows_are_read(ending, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / f"a.{ending}"
    rows = [FORMS["trl"]("Hi", text, "No.") for text in ("x" * 10_000_000, "Yes.")]
    if ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif ending == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    (first, second), _ = outcome(path)
    assert isinstance(first, Rejected)
    assert "must have at most 4,000,000 characters, got 10,000,000" in first.reason
    assert isinstance(second, Comparison)


def test_a_text_of_three_megabytes_is_kept_whole(tmp_path):
    text = "x\x00\u202e" * 1_000_000
    (tmp_path / "a.jsonl").write_text(json.dumps(FORMS["trl"]("Hi", text, "No.")) + "\n")
    (result,), _ = outcome(tmp_path / "a.jsonl")
    assert isinstance(result, Comparison)
    assert text in {response.text for response in result.responses}


def test_a_repeated_prompt_is_removed_from_the_responses_with_a_line_that_counts_them(tmp_path):
    row = FORMS["trl"]("Name a metal.", "Name a metal. Iron.", "Name a metal. Wood.")
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    (result,), lines = outcome(tmp_path / "a.jsonl")
    assert isinstance(result, Comparison)
    assert {response.text for response in result.responses} == {"Iron.", "Wood."}
    assert lines[-1] == "responses without the prompt that they repeated: 2"
