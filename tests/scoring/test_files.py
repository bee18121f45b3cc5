"""A scored file has the same bytes with any number of processes and after any kill; an error is one line."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from scoring_files import SPEC, TEXTS, names, rows, score_unbroken, write
from shell import guerdon as command
from toys import Good, absent_worker, good_worker, mortal_worker

from guerdon import GuerdonError, progress
from guerdon.api import saved_models, scoring
from guerdon.config import ModelOptions
from guerdon.io import readers, run_folder, schema
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.directory.saving import save
from guerdon.scoring import files
from guerdon.scoring.bulk_scorer import BulkScorer
from guerdon.scoring.files import score_rows

TESTS = Path(__file__).parent.parent


def test_two_workers_write_what_one_writes(model, tmp_path):
    source = write(tmp_path / "in.jsonl.gz", rows(50))
    scorer = BulkScorer(model)
    one = scoring.score_file(scorer, source, tmp_path / "one.jsonl", chunk=16)
    two = scoring.score_file(scorer, source, tmp_path / "two.jsonl", workers=2, chunk=16)
    assert one == two == {"rows": 50, "responses": 84, "truncated": 0}
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    assert names(tmp_path) == {"in.jsonl.gz", "one.jsonl", "two.jsonl"}
    found = [json.loads(line) for line in (tmp_path / "one.jsonl").read_text("utf-8").split("\n")[:-1]]
    assert [row["id"] for row in found] == list(range(50))
    loaded = saved_models.load(model)
    for row in found[:6]:
        prompts, responses, single = (
            schema.conversation_from_row("", row)[0],
            schema.conversation_from_row("", row)[1],
            "reward" in row,
        )
        values = loaded.score([prompts] * len(responses), responses).value
        np.testing.assert_allclose([row["reward"]] if single else row["rewards"], values, atol=1e-5)


def test_no_more_workers_are_started_than_there_are_rows_and_cores(model, tmp_path, capsys):
    started = []

    def worker(index):
        started.append(index)
        return Good()

    source = write(tmp_path / "in.jsonl", rows(1))
    assert score_rows(worker, source, tmp_path / "o.jsonl", None, workers=100_000)["rows"] == 1
    assert started == [0]
    assert files._useful(100_000, 10**9) <= max(2, os.cpu_count())
    assert files._useful(2, None) == 2


def test_memory_does_not_grow_with_the_file(tmp_path):
    made = [{"prompt": f"p {i}", "response": "good " * 200} for i in range(6000)]
    source = write(tmp_path / "in.jsonl", made)
    del made
    assert source.stat().st_size > 6e6
    tracemalloc.start()
    try:
        score_rows(good_worker, source, tmp_path / "out.jsonl", SPEC, chunk=64)
        assert tracemalloc.get_traced_memory()[1] < 3e6
    finally:
        tracemalloc.stop()


def test_a_killed_run_resumes_and_its_workers_end(tmp_path):
    source, out = write(tmp_path / "in.jsonl", rows(400)), tmp_path / "out.jsonl"
    script = (
        "from guerdon.scoring.files import score_rows; from toys import slow_worker; import sys\n"
        f"score_rows(slow_worker, sys.argv[1], sys.argv[2], {SPEC!r}, workers=2, chunk=8)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, source, out], cwd=TESTS)
    partial = tmp_path / "out.jsonl.partial"
    deadline = time.monotonic() + 60
    while not (partial.exists() and partial.stat().st_size > 2000) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.005)
    import psutil

    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert names(tmp_path) == {"in.jsonl", "out.jsonl.partial", "out.jsonl.journal"}
    assert psutil.wait_procs(workers, timeout=10)[1] == []

    before = partial.read_bytes().count(b"\n")
    assert 0 < before < 400
    for name in ("partial", "journal"):  # what a power cut may leave
        with (tmp_path / f"out.jsonl.{name}").open("ab") as file:
            file.write(b'{"half')
    scored: list[int] = []

    class Counting(Good):
        def score(self, prompts, responses):
            scored.append(len(prompts))
            return super().score(prompts, responses)

    found = score_rows(lambda _: Counting(), source, out, SPEC, chunk=8)
    assert found["rows"] == 400
    assert 0 < sum(scored) < found["responses"]
    assert names(tmp_path) == {"in.jsonl", "out.jsonl"}
    assert out.read_bytes() == score_unbroken(source, tmp_path / "whole.jsonl")


def test_a_worker_that_dies_names_its_rows_and_loses_nothing(tmp_path):
    made = [{"prompt": "p", "response": f"good {i}"} for i in range(60)]
    made[30]["response"] = "poison"
    source, out = write(tmp_path / "in.jsonl", made), tmp_path / "out.jsonl"
    with pytest.raises(
        GuerdonError, match=r"in\.jsonl:29 to .*in\.jsonl:32: a worker process died \(killed by SIGKILL\)"
    ):
        score_rows(mortal_worker, source, out, SPEC, workers=2, chunk=4)
    assert (tmp_path / "out.jsonl.partial").read_bytes().count(b"\n") == 28
    assert score_rows(good_worker, source, out, SPEC, chunk=4) == {"rows": 60, "responses": 60, "truncated": 0}
    assert out.read_bytes() == score_unbroken(source, tmp_path / "whole.jsonl")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_that_cannot_be_loaded_is_one_line_from_any_process(tmp_path, workers):
    source = write(tmp_path / "in.jsonl", rows(3))
    with pytest.raises(
        GuerdonError, match=r"^model\.device must be a device of this machine, got cuda:7\. Set model\.device=cpu"
    ):
        score_rows(absent_worker, source, tmp_path / "out.jsonl", SPEC, workers=workers)
    assert names(tmp_path) == {"in.jsonl"}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_row_is_reported_after_the_rows_before_it_are_written(tmp_path, workers):
    source = write(tmp_path / "in.jsonl", [*rows(20), {"prompt": "p", "answer": "a"}])
    with pytest.raises(GuerdonError, match=r"in\.jsonl:21: row must be an object with prompt and response"):
        score_rows(good_worker, source, tmp_path / "out.jsonl", SPEC, workers=workers, chunk=4)
    assert (tmp_path / "out.jsonl.partial").read_bytes().count(b"\n") >= 16


@pytest.mark.parametrize("workers", [1, 2])
def test_once_a_bad_row_is_corrected_the_run_resumes_after_the_rows_before_it(tmp_path, workers):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = write(source, rows(40)).read_bytes().splitlines(keepends=True)
    source.write_bytes(b"".join([*lines[:25], b'{"prompt": "half', *lines[26:]]))
    with pytest.raises(GuerdonError, match=r"in\.jsonl:26: is not valid JSON"):
        score_rows(good_worker, source, out, SPEC, workers=workers, chunk=4)
    kept = (tmp_path / "out.jsonl.partial").read_bytes()
    assert 20 <= kept.count(b"\n") <= 25
    write(source, rows(40))
    assert score_rows(good_worker, source, out, SPEC, workers=workers, chunk=4)["rows"] == 40
    assert out.read_bytes() == score_unbroken(source, tmp_path / "whole.jsonl")
    assert out.read_bytes().startswith(kept)


LONG = {"prompt": "write " * 600, "response": "good"}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_text_that_the_model_refuses_is_reported_with_its_row(model, tmp_path, workers):
    source = write(tmp_path / "in.jsonl", [*rows(2), LONG, *rows(2)])
    with pytest.raises(GuerdonError, match=r"in\.jsonl:3: model\.max_length=512: 1 of \d texts is longer .*=left"):
        scoring.score_file(BulkScorer(model), source, tmp_path / "out.jsonl", chunk=8, workers=workers)


@pytest.mark.parametrize("truncation", ["refuse", "drop", "left"])
def test_a_model_that_was_trained_to_truncate_refuses_long_texts_unless_told(tiny_dir, tmp_path, truncation):
    folder = tmp_path / "model"
    save(create_reward_model(ModelOptions(base=str(tiny_dir), max_length=40, truncation=truncation)), folder)
    several = {"prompt": "write", "responses": ["good", "good " * 60]}
    source = write(tmp_path / "in.jsonl", [{"prompt": "write", "response": "good"}, several, LONG])
    with pytest.raises(GuerdonError, match=r"in\.jsonl:2: model\.max_length=40: 2 of 4 texts are longer"):
        scoring.score_file(BulkScorer(folder), source, tmp_path / "out.jsonl")
    told = BulkScorer(folder, truncation="left")
    assert scoring.score_file(told, source, tmp_path / "cut.jsonl") == {"rows": 3, "responses": 4, "truncated": 2}
    found = [json.loads(line) for line in (tmp_path / "cut.jsonl").read_text("utf-8").splitlines()]
    assert [row["truncated"] for row in found] == [False, True, True]
    ran = command("score", folder, "--prompt", "write", "--response", "good " * 60, "model.truncation=left")
    assert "(truncated)" in ran.out


def test_a_resumed_run_counts_what_was_truncated_before(model, tmp_path):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    told = BulkScorer(model, truncation="left")
    write(source, [LONG, *rows(3), {"prompt": "p", "answer": "a"}])
    with pytest.raises(GuerdonError, match=r"in\.jsonl:5"):
        score_rows(told.load_on_worker, source, out, told.identity(), chunk=1)
    write(source, [LONG, *rows(3), LONG])
    assert score_rows(told.load_on_worker, source, out, told.identity(), chunk=1)["truncated"] == 2


def test_a_rows_own_columns_are_kept_under_other_names(tmp_path):
    own = {"prompt": "p", "response": "good", "reward": 5.0, "input_reward": "mine", "truncated": None, "rewards": [1]}
    source, out = write(tmp_path / "in.jsonl", [own, {"prompt": "p", "answer": "a"}]), tmp_path / "out.jsonl"
    with pytest.raises(GuerdonError, match=r"in\.jsonl:2"):
        score_rows(good_worker, source, out, SPEC, chunk=1)
    write(source, [own, {"prompt": "p", "response": "good"}])
    score_rows(good_worker, source, out, SPEC, chunk=1)
    first, second = (json.loads(line) for line in out.read_text("utf-8").splitlines())
    reward = first.pop("reward")
    assert first == {
        "prompt": "p", "response": "good", "input_input_reward": 5.0, "input_reward": "mine", "input_truncated": None,
        "input_rewards": [1], "truncated": False,
    }  # fmt: skip
    assert second == {"prompt": "p", "response": "good", "reward": reward, "truncated": False}


def test_a_full_disk_is_one_line_and_the_same_call_resumes(tmp_path, monkeypatch):
    source, out = write(tmp_path / "in.jsonl", rows(40)), tmp_path / "out.jsonl"
    real, left = os.fsync, 10

    def fsync(handle):
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(GuerdonError, match=r"cannot write .*out\.jsonl: No space left on device\. Free space"):
            score_rows(good_worker, source, out, SPEC, chunk=8)
    assert names(tmp_path) == {"in.jsonl", "out.jsonl.partial", "out.jsonl.journal"}
    score_rows(good_worker, source, out, SPEC, chunk=8)
    assert out.read_bytes() == score_unbroken(source, tmp_path / "whole.jsonl")


def interrupted(scorer: BulkScorer, source: Path, out: Path, monkeypatch) -> None:
    """Leave a partial of one chunk."""
    with monkeypatch.context() as patch:
        patch.setattr(files.ProgressBar, "advance", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            scoring.score_file(scorer, source, out, chunk=8)


def test_a_partial_file_of_another_run_is_refused_with_advice(model, tiny_dir, tmp_path, monkeypatch):
    source, out = write(tmp_path / "in.jsonl", rows(20)), tmp_path / "out.jsonl"
    partial = tmp_path / "out.jsonl.partial"
    interrupted(BulkScorer(model), source, out, monkeypatch)
    held = partial.read_bytes()

    other = tmp_path / "other"
    save(create_reward_model(ModelOptions(base=str(tiny_dir)), seed=1), other)
    for what, scorer in (("model", BulkScorer(other)), ("set of options", BulkScorer(model, calibrated=False))):
        with pytest.raises(
            GuerdonError,
            match=rf"out\.jsonl\.partial: belongs to a run that differs in {what}\. Delete it to start over",
        ):
            scoring.score_file(scorer, source, out)
        assert partial.read_bytes() == held
    for at, changed in ((3, [*rows(2), {**rows(3)[2], "id": -1}, *rows(20)[3:]]), (2, [rows(1)[0], *rows(20)[2:]])):
        write(source, changed)
        message = rf"partial: row {at} must be that of .*in\.jsonl:{at}, got one of other data\. Delete it"
        with pytest.raises(GuerdonError, match=message):
            scoring.score_file(BulkScorer(model), source, out)
        assert partial.read_bytes() == held
    write(source, rows(3))
    with pytest.raises(GuerdonError, match=r"partial: row 4 must be that of the end of the file"):
        scoring.score_file(BulkScorer(model), source, out)
    partial.unlink()
    write(source, rows(20))
    assert scoring.score_file(BulkScorer(other), source, out)["rows"] == 20
    assert names(tmp_path) == {"in.jsonl", "out.jsonl", "other"}


def test_a_run_resumes_with_another_batch_size_and_says_so(model, tmp_path, monkeypatch, capsys):
    source, out = write(tmp_path / "in.jsonl", rows(20)), tmp_path / "out.jsonl"
    interrupted(BulkScorer(model), source, out, monkeypatch)
    progress.set_quiet(False)
    assert scoring.score_file(BulkScorer(model, batch_tokens=64), source, out)["rows"] == 20
    assert "out.jsonl: resumes after 4 rows" in capsys.readouterr().err


def test_files_that_we_did_not_write_are_left_alone(tmp_path):
    source, out = write(tmp_path / "in.jsonl", rows(3)), tmp_path / "out.jsonl"
    for ending in ("partial", "journal"):
        theirs = tmp_path / f"out.jsonl.{ending}"
        theirs.write_text("mine\n")
        with pytest.raises(GuerdonError, match=rf"out\.jsonl\.{ending}: is in the way"):
            score_rows(good_worker, source, out, SPEC)
        assert theirs.read_text() == "mine\n"
        assert names(tmp_path) == {"in.jsonl", theirs.name}
        theirs.unlink()


@pytest.mark.skipif(sys.platform == "win32", reason="files are not locked there")
def test_two_runs_do_not_write_one_file(tmp_path):
    source, out = write(tmp_path / "in.jsonl", rows(3)), tmp_path / "out.jsonl"
    with (
        run_folder.open_resumable(out, SPEC),
        pytest.raises(GuerdonError, match="another process is writing it"),
    ):
        score_rows(good_worker, source, out, SPEC)


def test_an_empty_file_is_an_error_and_leaves_nothing(model, tmp_path):
    (tmp_path / "in.jsonl").write_text("")
    with pytest.raises(GuerdonError, match=r"in\.jsonl: holds no rows"):
        scoring.score_file(BulkScorer(model), tmp_path / "in.jsonl", tmp_path / "out.jsonl", workers=2)
    assert names(tmp_path) == {"in.jsonl"}


def test_every_kind_of_file_is_scored_alike(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    made = [{"prompt": f"p {i}", "response": TEXTS[i % 4]} for i in range(30)]
    pq.write_table(pa.Table.from_pylist(made), tmp_path / "in.parquet")
    (tmp_path / "in.json").write_text(json.dumps(made))
    sources = [write(tmp_path / name, made) for name in ("in.jsonl", "in.jsonl.gz")]
    found = {
        score_unbroken(source, tmp_path / "out.jsonl")
        for source in [*sources, tmp_path / "in.parquet", tmp_path / "in.json"]
    }
    assert len(found) == 1
    assert "Grüße\u2028 😀 good" in found.pop().decode("utf-8")
    totals = {source.name: readers.count_rows(source) for source in sorted(tmp_path.glob("in.*"))}
    assert totals == {"in.jsonl": 30, "in.jsonl.gz": None, "in.parquet": 30, "in.json": None}


def test_a_lone_surrogate_and_an_empty_list_are_written_as_they_came(tmp_path):
    made = '{"prompt": "a", "response": "\\ud83d good"}\n{"prompt": "a", "responses": []}\n'
    (tmp_path / "in.jsonl").write_text(made)
    lines = score_unbroken(tmp_path / "in.jsonl", tmp_path / "out.jsonl").decode("utf-8").splitlines()
    assert lines[0] == '{"prompt": "a", "response": "\\ud83d good", "reward": 1.0, "truncated": false}'
    assert json.loads(lines[1])["rewards"] == []


def test_a_loaded_model_scores_a_file_in_its_own_process(tmp_path):
    source = write(tmp_path / "in.jsonl", rows(3))
    assert scoring.score_file(Good(), source, tmp_path / "out.jsonl") == {"rows": 3, "responses": 5, "truncated": 0}
    with pytest.raises(
        GuerdonError, match=r"workers must be 1 for a model that is already loaded, got 2\. Use score_file"
    ):
        scoring.score_file(Good(), source, tmp_path / "out.jsonl", workers=2)


def test_workers_are_for_files_only(model):
    ran = command("score", model, "--prompt", "a", "--response", "b", "--workers", "2")
    assert ran.code == 2
    assert "Give --data FILE with --out FILE" in ran.err


@pytest.mark.parametrize("name", ["scores.parquet", "scores.csv", "scores.jsonl.gz", "scores"])
def test_a_name_that_promises_another_format_is_refused(tmp_path, name):
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "a", "response": "b"}\n')
    with pytest.raises(GuerdonError, match=r"the ending must be \.jsonl, got .*\. Change the ending"):
        score_rows(good_worker, source, tmp_path / name, None)
    assert not (tmp_path / name).exists()


def test_the_source_is_not_replaced(tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "a", "response": "b"}\n')
    with pytest.raises(GuerdonError, match="must not be what is read, which the command would replace"):
        score_rows(good_worker, source, source, None)
    assert source.read_text().startswith('{"prompt"')
