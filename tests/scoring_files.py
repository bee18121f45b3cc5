"""Files of rows to score, and what a run that nothing interrupts writes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from toys import good_worker

from guerdon.scoring.files import score_rows

TEXTS = ("a good film", "a bad film, and a good one", "Grüße\u2028 😀 good", "we love it")
SPEC = {"model": "toy"}


def rows(num: int) -> list[dict]:
    """One, two or three responses per row, in each form that a row may have."""
    result: list[dict] = []
    for i in range(num):
        prompt = f"write a {'slow ' if i % 16 == 0 else ''}review {i}"
        text = TEXTS[i % 4]
        if i % 3 == 0:
            result.append({"id": i, "prompt": prompt, "response": text})
        elif i % 3 == 1:
            result.append({"prompt": prompt, "responses": [text, f"no {i % 10}", "yes"], "id": i})
        else:
            turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]
            result.append({"messages": turns, "id": i})
    return result


def write(path: Path, result: list[dict]) -> Path:
    body = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in result).encode("utf-8")
    path.write_bytes(gzip.compress(body) if path.suffix == ".gz" else body)
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def score_unbroken(source: Path, out: Path) -> bytes:
    """The file that a run of the toy writes if nothing interrupts it."""
    score_rows(good_worker, source, out, None, chunk=8)
    return out.read_bytes()
