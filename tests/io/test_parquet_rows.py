"""Parquet as other programs write it: what Python cannot hold sets its row aside, and bulk that is not used is not read."""

from __future__ import annotations

import datetime
import decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import guerdon
from guerdon.io.parquet_rows import NOT_READ, parquet_rows
from guerdon.io.schema import Rejected

PAIRS = {
    "prompt": ["Name a metal.", "Name a river."],
    "chosen": ["Iron.", "The Nile."],
    "rejected": ["Wood.", "A stone."],
}


def write(path, **columns):
    pq.write_table(pa.table({**PAIRS, **columns}), path, version="2.6")
    return path


def not_utf8(*texts: bytes) -> pa.Array:
    return pa.Array.from_buffers(pa.string(), len(texts), pa.array(list(texts), pa.binary()).buffers())


def test_a_byte_that_is_not_utf8_sets_its_row_aside_only(tmp_path):
    path = write(tmp_path / "a.parquet", prompt=not_utf8(b"Name a metal.", b"Name a M\xfcn."))
    good, (location, bad) = parquet_rows(path)
    assert good[1]["prompt"] == "Name a metal."
    assert isinstance(bad, Rejected)
    assert (location, bad.place) == (f"{path}: row 2", f"{path}: row 2")
    assert bad.reason == "prompt is not UTF-8 at byte 9. Correct the cell, or drop the row or the column."
    assert bad.row == {"chosen": "The Nile.", "rejected": "A stone."}


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1700000000123456789] * 2, pa.timestamp("ns")),
        pa.array([10**18, 2], pa.timestamp("us")),
        pa.array([b"\xff\xfe"] * 2),
        pa.array([[0.5, 0.25]] * 2),
        pa.array([{"bytes": b"\xff", "path": "a.png"}] * 2),
    ],
    ids=["nanoseconds", "far future", "bytes", "embeddings", "images"],
)
def test_columns_that_no_import_uses_are_not_read(column, tmp_path):
    path = write(tmp_path / "a.parquet", other=column)
    assert len(guerdon.read(path)) == 2
    assert [row["other"] for _, row in parquet_rows(path, wanted=PAIRS)] == [NOT_READ] * 2
    assert all(not isinstance(row, Rejected) and row["other"] != NOT_READ for _, row in parquet_rows(path))


@pytest.mark.parametrize(
    ("columns", "values"),
    [
        ({"margin": pa.array([decimal.Decimal("1.5"), decimal.Decimal("0.5")])}, [1.5, 0.5]),
        ({"margin": pa.array([1.5, float("nan")])}, [1.5, None]),
        ({"margin": ["1.5", "NA"]}, [1.5, None]),
    ],
)
def test_a_margin_may_be_a_decimal_or_missing(columns, values, tmp_path):
    assert [c.preference.strength for c in guerdon.read(write(tmp_path / "a.parquet", **columns))] == values


def test_names_may_be_numbers_and_objects(tmp_path):
    sources = [{"name": "web"}, {"name": "lab"}]
    path = write(tmp_path / "a.parquet", id=pa.array([12.0, 13.0]), source=sources, group=[3, 4])
    comparisons = guerdon.read(path)
    assert [(c.id, c.source, c.group) for c in comparisons] == [
        ("12", '{"name": "web"}', "3"),
        ("13", '{"name": "lab"}', "4"),
    ]


def test_every_type_of_text_is_read(tmp_path):
    path = tmp_path / "a.parquet"
    kinds = {
        "prompt": pa.array(PAIRS["prompt"], pa.large_string()),
        "chosen": pa.array(PAIRS["chosen"]).dictionary_encode(),
        "rejected": pa.array(PAIRS["rejected"], pa.string_view()),
        "when": pa.array([datetime.datetime(2024, 1, 1)] * 2),
    }
    assert guerdon.read(write(path, **kinds)) == guerdon.read(write(path))
