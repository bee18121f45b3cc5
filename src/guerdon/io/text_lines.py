"""The lines and blocks of a text file, decompressed. Lines end at \\n only, so a text that holds U+2028 stays whole."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

from guerdon.contracts import GuerdonError

LONGEST_LINE = 256 * 2**20  # bytes; with a longer line the file is not JSONL
BLOCK = 2**18  # bytes
COMPRESSED = (".gz", ".zst", ".zstd", ".bz2", ".xz")  # what the name of a compressed file may end in
BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")  # its byte-order marks
TABLES = (".csv", ".tsv")
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}
_DAMAGED = (EOFError, zlib.error, lzma.LZMAError, OSError)  # what reading a damaged or truncated file raises


def text_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line) of a text file, without a byte-order mark."""
    number = 0
    with _open(path) as (file, compression):
        try:
            while line := file.readline(LONGEST_LINE):
                number += 1
                if number == 1:
                    line = line.removeprefix(BOM)
                    _refuse_binary(path, line)
                if len(line) == LONGEST_LINE:
                    raise GuerdonError(
                        f"{path}:{number}: line is longer than {LONGEST_LINE >> 20} MiB. Check that the file is JSONL."
                    )
                yield number, line
        except _DAMAGED as error:
            raise _damaged(f"{path}:{number + 1}", compression, error) from None


def text_blocks(path: Path) -> Iterator[str]:
    """The text of a file in blocks of BLOCK bytes, without a byte-order mark."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    position = 0
    with _open(path) as (file, compression):
        try:
            while block := file.read(BLOCK):
                yield decoder.decode(block)
                position += len(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            byte = position + error.start + 1
            raise GuerdonError(f"{path}: is not UTF-8 at byte {byte}. Convert the file to UTF-8.") from None
        except _DAMAGED as error:
            raise _damaged(f"{path}: byte {position + 1}", compression, error) from None


def first_byte(path: Path) -> bytes:
    """The first byte that is not white space among the first 4,096, without a byte-order mark; b"" where there is none."""
    with _open(path) as (file, compression):
        try:
            return file.peek(4096).removeprefix(BOM).lstrip()[:1]
        except _DAMAGED as error:
            raise _damaged(f"{path}:1", compression, error) from None


def is_compressed(start: bytes) -> bool:
    """Whether a file that starts like this is compressed."""
    return any(start.startswith(magic) for magic in _MAGIC)


@contextmanager
def _open(path: Path) -> Iterator[tuple[io.BufferedReader, str]]:
    """The file, decompressed by its first bytes whatever its name is, and its compression; "" for none."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
            start = file.peek(6)[:6]
        except OSError as error:
            raise GuerdonError(f"{path}: cannot be read ({error.strerror}). Check its permissions.") from None
        compression = next((name for magic, name in _MAGIC.items() if start.startswith(magic)), "")
        if compression:
            raw = stack.enter_context(_decompress(file, compression))
            file = stack.enter_context(io.BufferedReader(cast("io.RawIOBase", raw), BLOCK))
        try:
            head = file.peek(4096)[:4096]
        except _DAMAGED as error:
            raise _damaged(f"{path}:1", compression, error) from None
        if b"\0" in head:
            raise GuerdonError(f"{path}: {_of_binary(head)}")
        yield file, compression


def _of_binary(head: bytes) -> str:
    """What a file that starts like this is, and what to do."""
    if head.startswith(b"PK\x03\x04"):
        return "is a ZIP archive, such as an Excel workbook, and not text. In Excel, save the sheet as CSV UTF-8."
    fewer, more = sorted((head[::2].count(0), head[1::2].count(0)))
    if head.startswith(_UTF16) or (fewer == 0 and more > len(head) // 4):
        return "is UTF-16 text, and must be UTF-8. Save it as UTF-8; in Excel, as CSV UTF-8 and not as Unicode Text."
    return "is not UTF-8 text (it holds NUL bytes). Save it as UTF-8, or give another file."


def not_utf8(line: bytes) -> str:
    """The first byte of a line of a table that is not UTF-8, and what it is where Excel wrote it, with what to do."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        letter = line[error.start : error.start + 1].decode("cp1252", "replace")
        meaning = f", {letter!r} in Windows-1252" if letter.isprintable() and letter != "\ufffd" else ""
        return f"is not UTF-8 (byte {error.start + 1}{meaning}). Save the file as UTF-8; in Excel, as CSV UTF-8."
    raise AssertionError("the line is UTF-8")


def _decompress(file: io.BufferedReader, compression: str) -> Any:
    if compression == "gzip":
        return gzip.GzipFile(fileobj=file, mode="rb")
    if compression == "zstd":
        import pyarrow as pa

        return pa.CompressedInputStream(file, "zstd")
    return bz2.BZ2File(file) if compression == "bzip2" else lzma.LZMAFile(file)


def _damaged(location: str, compression: str, error: BaseException) -> GuerdonError:
    cause = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")[:160]
    data = f"{compression} data is damaged or truncated" if compression else "cannot be read any further"
    return GuerdonError(f"{location}: {data} ({cause}). Copy the file again.")


def _refuse_binary(path: Path, line: bytes) -> None:
    """Raise GuerdonError if the first line is not text; a line that may be an object is left to be rejected as a row."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        if any(ending in path.name.lower() for ending in TABLES):
            raise GuerdonError(f"{path}:1: {not_utf8(line)}") from None
        if not line.lstrip().startswith(b"{"):
            raise GuerdonError(
                f"{path}:1: is not UTF-8 text (byte {error.start + 1}). Save it as UTF-8, or give another file."
            ) from None
