"""Files are decompressed by their content; damaged data is named."""

from __future__ import annotations

import bz2
import gzip
import lzma

import pyarrow as pa
import pytest
from comparison_files import one_line

from guerdon.io import readers
from guerdon.io.text_lines import text_blocks, text_lines

BODY = b'{"a": 1}\n{"a": 2}\n'


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(data)
    return sink.getvalue().to_pybytes()


COMPRESS = {"gz": gzip.compress, "zst": zstd, "bz2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("ending", COMPRESS)
def test_compressed_files_are_read_by_their_content(ending, tmp_path):
    for name in (f"a.jsonl.{ending}", "a.jsonl"):
        (tmp_path / name).write_bytes(COMPRESS[ending](BODY))
        assert [row for _, row in readers.read_rows(tmp_path / name)] == [{"a": 1}, {"a": 2}]


def test_files_compressed_in_parts_are_read_whole(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(BODY) + gzip.compress(BODY))
    assert sum(1 for _ in text_lines(tmp_path / "a.jsonl.gz")) == 4


@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("content", ["cut", "junk"])
def test_damaged_data_is_one_line(ending, content, tmp_path):
    data = COMPRESS[ending](BODY * 9999)
    path = tmp_path / f"a.jsonl.{ending}"
    path.write_bytes(data[: len(data) // 2] if content == "cut" else data[:6] + b"junk" * 20)
    assert "data is damaged or truncated (" in one_line(lambda: list(readers.read_rows(path)))


def test_blocks_hold_whole_characters(tmp_path, monkeypatch):
    monkeypatch.setattr("guerdon.io.text_lines.BLOCK", 3)
    (tmp_path / "a.json").write_bytes("\ufeffGrüße 😀".encode())
    assert "".join(text_blocks(tmp_path / "a.json")) == "Grüße 😀"
    (tmp_path / "a.json").write_bytes(b"abcd\xff")
    assert "is not UTF-8 at byte" in one_line(lambda: list(text_blocks(tmp_path / "a.json")))
