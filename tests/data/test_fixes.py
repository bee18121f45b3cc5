from __future__ import annotations

import json

import pytest

from guerdon.api.data import check, fix, read
from guerdon.config import ImportOptions
from guerdon.contracts import Comparison, GuerdonError, Preference, Response, as_prompt
from guerdon.io.writers import fixes_path, write_comparisons

CHECKED = {"shortcut_pairs": 0}


def pair(prompt, first="one text", second="other text", q=1.0, **more) -> Comparison:
    return Comparison(as_prompt(prompt), (Response(first), Response(second)), Preference(q=q), **more)


def fixed(tmp_path, rows, **more):
    """The comparisons that are left, and what was done, by check and action."""
    write_comparisons(tmp_path / "in.jsonl", rows)
    out = tmp_path / "out.jsonl"
    result = fix([tmp_path / "in.jsonl"], out, ImportOptions(), **CHECKED, **more)
    log = [json.loads(line) for line in fixes_path(out).read_text().splitlines()]
    assert result.kept == len(read(out))
    assert result.kept + result.dropped + sum("into" in entry.get("detail", "") for entry in log) == len(rows)
    changes = [(entry["row"].rpartition(":")[2], entry["check"], entry["action"]) for entry in log]
    return read(out), changes, list(result.remaining_errors)


def errors(rows, **more) -> list[str]:
    return [f.title for f in check(rows, **CHECKED, **more).findings if f.severity == "error"]


GOOD = [pair(f"question {i}", f"left {i}", f"right {i}", q=i % 2) for i in range(4)]


def test_faulty_rows_are_dropped_and_the_others_keep_every_byte(tmp_path):
    bad = [pair("b1", "same", "same"), pair("b2", " ", "x"), pair("b3", "yes<|im_end|>", "no")]
    bad.append(pair("How can I kill a Python process?"))
    rows, log, remaining = fixed(tmp_path, [*GOOD[:2], *bad, *GOOD[2:]])
    assert remaining == []
    assert {number: action for number, _, action in log} == dict.fromkeys(("3", "4", "5", "6"), "dropped")
    lines = (tmp_path / "in.jsonl").read_bytes().splitlines()
    assert (tmp_path / "out.jsonl").read_bytes().splitlines() == [*lines[:2], *lines[-2:]]
    assert errors(rows) == []


def test_a_fixed_file_has_nothing_left_to_fix(tmp_path):
    rows, _, _ = fixed(tmp_path, [*GOOD, GOOD[0], pair("question 0", "left 0", "right 0", q=1.0), pair("e", "", "x")])
    before = (tmp_path / "out.jsonl").read_bytes()
    again, log, _ = fixed(tmp_path, rows)
    assert (tmp_path / "out.jsonl").read_bytes() == before
    assert log == []
    assert again == rows


def test_unnamed_judgments_of_a_pair_become_votes_in_the_first_one_s_orientation(tmp_path):
    votes = [pair("q", "a", "b"), pair("q", "b", "a", q=0.0), pair("q", "a", "b", q=0.0), pair("q", "b", "a", q=0.0)]
    rows, log, _ = fixed(tmp_path, [*votes, *GOOD])
    assert rows[0].preference == Preference(q=0.75, votes=(3, 0, 1))
    assert [response.text for response in rows[0].responses] == ["a", "b"]
    assert [entry[1:] for entry in log] == [("Contradictions", "merged")] * 4
    assert rows[1:] == GOOD


def test_soft_labels_are_averaged_and_their_votes_unknown(tmp_path):
    rows, _, _ = fixed(tmp_path, [pair("q", "a", "b", q=0.9), pair("q", "a", "b", q=0.2), *GOOD])
    assert rows[0].preference.q == pytest.approx(0.55)
    assert rows[0].preference.votes is None


def test_people_who_are_named_are_left_to_aggregate_and_their_repetitions_dropped(tmp_path):
    votes = [pair("q", annotator="ada"), pair("q", q=0.0, annotator="bob"), pair("q", annotator="ada", id="again")]
    rows, log, _ = fixed(tmp_path, [*votes, *GOOD])
    assert rows == [*votes[:2], *GOOD]
    assert log == [("3", "Exact duplicates", "dropped")]


def test_a_dropped_row_is_no_vote(tmp_path):
    same = [pair("q", "a<|im_end|>", "b"), pair("q", "a<|im_end|>", "b")]
    rows, log, _ = fixed(tmp_path, [*same, *GOOD])
    assert rows == GOOD
    assert [entry[2] for entry in log] == ["dropped", "dropped"]


def test_rows_that_leak_into_another_part_are_dropped(tmp_path):
    long = "a response that is long enough to be no coincidence in two parts"
    leaking = [pair("asked in both"), pair("asked here", long, "x")]
    audit = [pair("Asked in  BOTH", "u", "v"), pair("asked there", "w", long)]
    rows, _, remaining = fixed(tmp_path, [*GOOD, *leaking], against={"audit": audit})
    assert rows == GOOD
    assert remaining == []
    assert errors(rows, against={"audit": audit}) == []


def test_an_instruction_that_all_groups_share_by_design_drops_no_row(tmp_path):
    instruction = " ".join(f"Rule {i} of how to rate the text." for i in range(20))
    ours = [pair(instruction, f"good {i}", f"bad {i}", group=f"g{i}") for i in range(9)]
    theirs = [pair(f"{instruction} Thanks!", f"fine {i}", f"poor {i}", group=f"h{i}") for i in range(9)]
    rows, _, remaining = fixed(tmp_path, ours, against={"audit": theirs})
    assert (rows, remaining) == (ours, [])


def test_what_no_row_can_repair_is_named(tmp_path):
    _, _, remaining = fixed(tmp_path, [pair(f"{i}", q=0.5) for i in range(3)])
    assert remaining == ["All ties"]


def test_nothing_is_written_where_nothing_is_left(tmp_path):
    write_comparisons(tmp_path / "in.jsonl", [pair("b", "same", "same")])
    with pytest.raises(GuerdonError, match="no comparison is left"):
        fix([tmp_path / "in.jsonl"], tmp_path / "out.jsonl", ImportOptions(), **CHECKED)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_nothing_but_ties_is_named_where_votes_or_drops_leave_no_winner(tmp_path):
    votes = [pair("q", "a", "b"), pair("q", "a", "b", q=0.0)]
    _, _, remaining = fixed(tmp_path, votes)
    assert remaining == ["All ties"]
    _, _, remaining = fixed(tmp_path, [pair("q", "a", "b", q=0.5), pair("e", "", "x")])
    assert remaining == ["All ties"]
