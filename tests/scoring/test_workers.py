"""Workers return chunks in order and in bounded memory, and end with the main process."""

from __future__ import annotations

import importlib
import signal
import subprocess
import sys
import time

from scoring_files import rows, write
from toys import slow_worker

from guerdon.scoring.chunks import split_into_chunks
from guerdon.scoring.workers import CHUNKS_PER_WORKER, PRELOADED, score_chunks


def test_chunks_in_memory_are_bounded_and_returned_in_order():
    pulled = 0
    most = 0
    given = 0

    def source():
        nonlocal pulled
        for i, row in enumerate(rows(120)):
            pulled += 1
            yield f"row {i}", row

    first = []
    for chunk, scores in score_chunks(split_into_chunks(source(), 3), slow_worker, 2):
        most = max(most, pulled - given)
        given += len(chunk.rows)
        first += [row["id"] for row in chunk.rows]
        assert len(scores.value) <= 3
    assert first == list(range(120))
    assert most <= 3 * (
        CHUNKS_PER_WORKER * 2 + 2
    )  # rows: at most three a chunk, those in flight, and one chunk read ahead


def test_workers_end_with_the_main_process_even_in_the_middle_of_a_chunk(tmp_path):
    import psutil

    write(tmp_path / "in.jsonl", rows(40))
    (tmp_path / "stuck.py").write_text(
        "import time\n"
        "from pathlib import Path\n"
        "class Stuck:\n"
        "    def score(self, prompts, responses):\n"
        "        Path(f'busy-{time.time_ns()}').touch()\n"
        "        time.sleep(600)\n"
        "def worker(index):\n"
        "    return Stuck()\n"
    )
    script = (
        "from guerdon.scoring.files import score_rows; from stuck import worker\n"
        "score_rows(worker, 'in.jsonl', 'out.jsonl', {}, workers=2, chunk=8)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("busy-*"))) < 2 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert psutil.wait_procs(workers, timeout=30)[1] == []


def test_what_the_server_of_workers_loads_exists():
    """It goes on without a module that it cannot import, and each worker would take seconds again."""
    assert all(importlib.import_module(name).__name__ == name for name in PRELOADED)
