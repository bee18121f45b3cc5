from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guerdon.api.data import PARTS, stream_comparisons
from guerdon.config import ImportOptions, SplitOptions
from guerdon.contracts import (
    Comparison,
    GuerdonError,
    Message,
    Preference,
    Prompt,
    Response,
    as_prompt,
)
from guerdon.data.split import part_of, split
from guerdon.io import text_lines
from guerdon.io.writers import write_parts

OPTIONS = SplitOptions()
BY_NAME = SplitOptions(near_duplicates=False)


def comparison(prompt: str, text: str = "a") -> Comparison:
    return Comparison(as_prompt(prompt), (Response(text), Response("b")), Preference(q=1.0))


def test_the_split_is_the_same_on_every_machine():
    parts = "".join(part_of(f"group {i}", OPTIONS)[0] for i in range(40))
    assert parts == "aattttttatttaatttttttacttattttttttttcaat"


@given(st.lists(st.text(max_size=3)), st.randoms(use_true_random=False))
def test_a_part_depends_on_the_group_alone_so_order_and_other_rows_move_none(prompts, random):
    rows = [comparison(p, f"{i}") for i, p in enumerate(prompts)]
    alone = {row.id: part_of(row.group, OPTIONS) for row in rows}
    random.shuffle(rows)
    together = list(split([comparison("one more"), *rows], BY_NAME))[1:]
    assert {row.id: part for part, row in together} == alone


def test_a_group_is_never_split():
    rows = [comparison(f"prompt {i % 30}", f"{i}") for i in range(300)]
    parts = {}
    for part, row in split(rows, OPTIONS):
        assert parts.setdefault(row.group, part) == part


@pytest.mark.parametrize("shares", [(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (1, 0, 0), (0, 0, 1), (0.7, 0.3, 0.0)])
def test_shares_are_kept_and_an_empty_part_stays_empty(shares):
    options = SplitOptions(train=shares[0], calibrate=shares[1], audit=shares[2])
    counts = Counter(part_of(f"{i}", options) for i in range(5000))
    for part, share in zip(("train", "calibrate", "audit"), shares, strict=True):
        assert abs(counts[part] / 5000 - share) <= 4 * (share * (1 - share) / 5000) ** 0.5


def test_another_salt_is_another_split():
    salted = SplitOptions(salt="other")
    assert any(part_of(f"{i}", OPTIONS) != part_of(f"{i}", salted) for i in range(50))


def test_a_larger_train_share_only_takes_from_the_others():
    larger = SplitOptions(train=0.9, calibrate=0.05, audit=0.05)
    assert all(part_of(f"{i}", larger) == "train" for i in range(500) if part_of(f"{i}", OPTIONS) == "train")


def test_a_lone_surrogate_has_a_part():
    assert part_of("\ud83d", OPTIONS) in ("train", "calibrate", "audit")


def test_shares_that_do_not_sum_to_1_are_refused():
    with pytest.raises(GuerdonError, match=r"audit must be 1, got 0\.8 \+ 0\.1 \+ 0\.2 = 1\.1\. Change the shares"):
        part_of("g", SplitOptions(audit=0.2))


def test_splitting_a_file_takes_no_more_memory_for_more_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(text_lines, "BLOCK", 2**12)

    def peak(num: int) -> int:
        source = tmp_path / f"{num}.json"
        rows = [{"prompt": f"Question {i}?", "chosen": "yes " * 50, "rejected": "no " * 50} for i in range(num)]
        source.write_text(json.dumps(rows))
        del rows
        tracemalloc.start()
        comparisons = stream_comparisons([source], ImportOptions())
        write_parts(tmp_path / str(num), split(comparisons, BY_NAME), PARTS)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(100)  # whatever is imported on first use
    assert peak(1200) < 2 * peak(300)  # four times as many rows


# ---- Near-duplicate prompts ----------------------------------------------------------------------------------------

QUESTION = "Explain to a child why the sky is blue and why the evening sun looks red over a calm sea in summer, please"


def near_duplicates(num: int) -> list[Comparison]:
    return [comparison(f"{QUESTION}, number {i}.", f"{i}") for i in range(num)]


def others(num: int) -> list[Comparison]:
    return [comparison(" ".join(f"word{i * 31 + j * 7 % 29}" for j in range(12)), f"{i}") for i in range(num)]


def parts_by_id(rows, options=OPTIONS) -> dict[str, str]:
    return {row.id: part for part, row in split(rows, options)}


def test_near_duplicate_prompts_stay_together():
    rows = near_duplicates(30)
    assert len({part_of(row.group, OPTIONS) for row in rows}) == 3
    parts = parts_by_id([*rows, *others(50)])
    assert len({parts[row.id] for row in rows}) == 1
    alone = parts_by_id(rows, BY_NAME)
    assert alone == {row.id: part_of(row.group, OPTIONS) for row in rows}


@given(st.randoms(use_true_random=False))
def test_clusters_do_not_depend_on_the_order_of_rows(random):
    rows = [*near_duplicates(5), *others(10)]
    expected = parts_by_id(rows)
    random.shuffle(rows)
    assert parts_by_id(rows) == expected


def test_prompts_without_near_duplicates_stay_where_they_are():
    parts = parts_by_id([*near_duplicates(5), *others(40)])
    assert all(parts[row.id] == part_of(row.group, OPTIONS) for row in others(40))


def test_a_prompt_of_several_groups_connects_none_of_them():
    rows = [replace(comparison("Rate this text.", f"{i}"), group=f"text {i}", id="") for i in range(30)]
    assert parts_by_id(rows) == {row.id: part_of(row.group, OPTIONS) for row in rows}


def test_system_turns_connect_no_prompts():
    system = Message("system", " ".join(f"rule{i}" for i in range(300)))
    rows = [replace(row, prompt=Prompt((system, *row.prompt)), group="", id="") for row in others(30)]
    assert parts_by_id(rows) == {row.id: part_of(row.group, OPTIONS) for row in rows}


def test_a_cluster_that_holds_much_of_the_data_is_named():
    lines = []
    list(split([*near_duplicates(10), *others(10)], OPTIONS, lines.append))
    assert lines[0].startswith("10 of 20 groups have near-duplicate prompts: 1 cluster ")
    assert "split.near_duplicates=false" in lines[1]
