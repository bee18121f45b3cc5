"""Every item has one right answer, and the texts never change."""

from __future__ import annotations

import dataclasses

import pytest

from guerdon.alignment_tax import battery, requests
from guerdon.alignment_tax.minimal_pairs import SENTENCE_ASK, minimal_pairs
from guerdon.contracts import digest


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_item_has_one_right_answer_and_its_length_does_not_reveal_it(seed):
    pairs, last, sums = minimal_pairs(seed), battery.cloze(seed), battery.arithmetic(seed)
    assert len(pairs) == 11 * 20
    assert len({(item.right, item.wrong) for item in pairs}) == len(pairs)
    for item in [*pairs, *last, *sums]:
        assert item.right not in item.wrong
        assert len(set(item.wrong)) == len(item.wrong)
    for item in pairs:
        differ = [a != b for a, b in zip(item.right.split(), item.wrong[0].split(), strict=False)]
        assert sum(differ) >= 1
    for item in sums:
        a, sign, b = item.context.splitlines()[-1].removesuffix(" =").split()
        assert int(item.right) == (int(a) + int(b) if sign == "+" else int(a) - int(b))
        assert {len(wrong) for wrong in item.wrong} == {len(item.right)}
    for item in battery.copies(seed):
        assert item.continuation.strip() in item.context


def test_no_wrong_sentence_is_right_in_another_pair():
    right = {item.right for seed in range(3) for item in minimal_pairs(seed)}
    assert not right & {item.wrong[0] for seed in range(3) for item in minimal_pairs(seed)}


def test_the_texts_of_the_battery_never_change():
    """They feed published numbers: a change of a byte, or of the order of draws, makes old and new numbers incomparable."""
    lists = {
        "minimal pairs": [minimal_pairs(seed) for seed in (0, 1)],
        "cloze": [battery.cloze(seed) for seed in (0, 1)],
        "arithmetic": [battery.arithmetic(seed) for seed in (0, 1)],
        "copies": [battery.copies(seed) for seed in (0, 1)],
        "texts": [battery.TEXTS, battery.TEXT_ASK, SENTENCE_ASK],
        "requests": [requests.OPEN, requests.BENIGN, requests.JSON],
    }
    plain = {
        name: [
            [dataclasses.asdict(item) if dataclasses.is_dataclass(item) else item for item in part] for part in parts
        ]
        for name, parts in lists.items()
    }
    assert {name: digest(value) for name, value in plain.items()} == {
        "minimal pairs": "6ea44546c26c1432",
        "cloze": "2e6c85916f21ff14",
        "arithmetic": "a2072f75c56eb926",
        "copies": "33be11d5b5db4878",
        "texts": "4458db7c33f44aaf",
        "requests": "c762ac926bf6f0ae",
    }
