"""The starter kit: fetched once, checked by hash, never run, and never mistaken for whole when a run was killed."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from guerdon.contracts import GuerdonError
from guerdon.models.directory import pip_archive, starter

TEXTS = "1\t-3.0\tMy dog died.\r\n2\t2.5\tYay &amp; hooray\r\n"
RATINGS = "1\t-3.0\t0.0\t[-3, -3]\r\n2\t2.5\t0.5\t[2, 3]\r\n"


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty GUERDON_HOME, and a pip that looks only in tmp_path/index."""
    (tmp_path / "index").mkdir()
    for name in [name for name in os.environ if name.upper().startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GUERDON_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "home"


@pytest.fixture
def archive(home, monkeypatch) -> pip_archive.Archive:
    """A source archive in the index, like the one of the ratings, whose setup.py leaves a mark if it is ever run."""
    path = home.parent / "index" / starter.RATINGS.filename
    path.write_bytes(source_archive(mark=home.parent / "setup_was_run"))
    pinned = replace(starter.RATINGS, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), size=path.stat().st_size)
    monkeypatch.setattr(starter, "RATINGS", pinned)
    return pinned


def source_archive(mark: Path) -> bytes:
    folder = starter.RATINGS_FOLDER
    inner = {f"{folder}/{stem}_GroundTruth.txt": TEXTS for stem in starter.DOMAINS.values()}
    inner |= {f"{folder}/{stem}_anonDataRatings.txt": RATINGS for stem in starter.DOMAINS.values()}
    setup = f"open({str(mark)!r}, 'w')\nfrom setuptools import setup\nsetup(name='vaderSentiment', version='3.3.2')\n"
    outer = {
        "vaderSentiment-3.3.2/setup.py": setup.encode(),
        "vaderSentiment-3.3.2/PKG-INFO": b"Metadata-Version: 1.0\nName: vaderSentiment\nVersion: 3.3.2\n",
        starter.RATINGS.license_member: b"The MIT License",
        starter.RATINGS_MEMBER: targz({name: text.encode() for name, text in inner.items()}),
    }
    return targz(outer)


def targz(members: dict[str, bytes]) -> bytes:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return body.getvalue()


def test_the_archive_is_fetched_read_and_its_setup_never_run(home, archive):
    seen = []
    rows = list(starter.starter_ratings(lambda *step: seen.append(step)))
    assert rows[:2] == [("tweets", "My dog died.", (-3, -3)), ("tweets", "Yay &amp; hooray", (2, 3))]
    assert [domain for domain, _, _ in rows[::2]] == list(starter.DOMAINS)
    assert not (home.parent / "setup_was_run").exists()
    assert seen[-1] == ("fetching vaderSentiment", archive.size, archive.size)
    names = sorted(path.name for path in home.rglob("*"))
    assert names == ["kit", "vaderSentiment-3.3.2.LICENSE.txt", "vaderSentiment-3.3.2.tar.gz"]


def test_a_file_that_is_there_is_read_without_pip(home, archive, monkeypatch):
    (home / "kit").mkdir(parents=True)
    shutil.copy(home.parent / "index" / archive.filename, home / "kit")
    monkeypatch.setattr(subprocess, "Popen", None)
    assert len(list(starter.starter_ratings())) == 8
    assert "The MIT License" in (home / "kit" / "vaderSentiment-3.3.2.LICENSE.txt").read_text()


def test_pip_prints_nothing(home, archive, capfd):
    list(starter.starter_ratings())
    assert capfd.readouterr() == ("", "")


def test_a_file_with_another_hash_is_refused_before_it_is_opened(home, archive):
    (home / "kit").mkdir(parents=True)
    (home / "kit" / archive.filename).write_bytes(b"not an archive at all")
    with pytest.raises(
        GuerdonError, match=r"vaderSentiment-3.3.2.tar.gz: sha256 must start with .*, got .*\. Delete it"
    ):
        list(starter.starter_ratings())


def test_an_index_that_serves_another_file_is_refused(home, archive):
    (home.parent / "index" / archive.filename).write_bytes(source_archive(mark=home.parent / "elsewhere"))
    with pytest.raises(GuerdonError, match=r"another sha256\. Instead, place .* by hand in"):
        list(starter.starter_ratings())
    assert not (home.parent / "elsewhere").exists()
    assert list((home / "kit").iterdir()) == []


@pytest.mark.parametrize("read", [starter.starter_model, lambda: list(starter.starter_ratings())])
def test_without_a_network_the_advice_names_the_file_and_the_folder(home, read):
    with pytest.raises(
        GuerdonError, match=r"pip could not fetch it .*\. Connect .*, or place .* by hand in .*kit"
    ) as error:
        read()
    assert "\n" not in str(error.value)
    assert [path.name for path in home.iterdir()] == ["kit"]


def test_a_python_without_pip_is_reported(home, archive, monkeypatch, tmp_path):
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\necho "$0: No module named pip"\nexit 1\n')
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    with pytest.raises(GuerdonError, match=r"python has no pip\. Run python -m ensurepip"):
        list(starter.starter_ratings())


def test_a_cache_that_cannot_be_written_is_reported_with_advice(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("a file where a folder should be")
    for where in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("GUERDON_HOME", str(where))
        with pytest.raises(GuerdonError, match=r"cannot write the cache .*\. Set GUERDON_HOME"):
            starter.starter_model()


def test_a_full_disk_is_reported_with_advice(home, archive, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(GuerdonError, match=r"the disk is full\. Free space"):
        list(starter.starter_ratings())


def test_too_little_disk_space_is_reported_before_anything_is_fetched(home, monkeypatch):
    monkeypatch.setattr(starter, "NEEDED_BYTES", 1 << 60)
    with pytest.raises(GuerdonError, match=r"the starter model needs \d+ MiB, got \d+ MiB free\. Set GUERDON_HOME"):
        starter.starter_model()


def test_a_killed_conversion_is_not_mistaken_for_a_model_and_its_download_is_kept(home, archive, monkeypatch):
    monkeypatch.setattr(starter, "MODEL", archive)

    def killed(wheel, scratch, progress):
        (scratch / "model").mkdir()
        (scratch / "model" / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(starter, "_convert", killed)
    with pytest.raises(KeyboardInterrupt):
        starter.starter_model()
    assert [path.name for path in home.iterdir()] == ["kit"]

    monkeypatch.setattr(subprocess, "Popen", None)
    monkeypatch.setattr(starter, "_convert", lambda wheel, scratch, progress: (scratch / "model").mkdir())
    assert starter.starter_model().is_dir()
    assert sorted(path.name for path in home.iterdir()) == ["kit", starter.starter_model().name]


def test_an_old_partial_download_is_removed_and_a_recent_one_is_kept(home, archive):
    for name, age in (("old", 100_000), ("young", 0)):
        folder = home / f".partial-{name}"
        folder.mkdir(parents=True)
        os.utime(folder, (folder.stat().st_atime, folder.stat().st_mtime - age))
    list(starter.starter_ratings())
    assert [path.name for path in home.glob(".partial-*")] == [".partial-young"]


REAL_HOME = pip_archive.guerdon_home()


@pytest.mark.skipif(
    not (REAL_HOME / starter.starter_name()).is_dir(), reason="the starter model is not in GUERDON_HOME"
)
def test_the_real_starter_model_answers_a_question():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = starter.starter_model()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert tokenizer.decode(answer) == "The capital of France is Paris.<|im_end|>"
    assert tokenizer.pad_token_id not in (tokenizer.eos_token_id, tokenizer.bos_token_id)


@pytest.mark.skipif(
    not (REAL_HOME / starter.starter_name()).is_dir(), reason="the starter model is not in GUERDON_HOME"
)
def test_rewards_of_the_real_starter_model_equal_those_of_padded_rows():
    import torch

    from guerdon.config import ModelOptions
    from guerdon.models.directory.loading import create_reward_model

    model = create_reward_model(ModelOptions(base=str(starter.starter_model())), seed=0)
    prompts = ["What is the capital of France?"] * 3 + ["Name a color."] * 2
    replies = ["Paris.", "It is Paris, on the Seine.", "", "Blue", "Blue, like the sky on a day in June."]
    shared = model.score(prompts, replies).value
    assert model.network.backbone.mode == "prefix_tree"
    model.network.backbone.use_padding()
    with torch.inference_mode():
        np.testing.assert_allclose(shared, model.score(prompts, replies).value, atol=1e-5)


@pytest.mark.skipif(
    not (REAL_HOME / "kit" / starter.RATINGS.filename).exists(), reason="the ratings are not in GUERDON_HOME"
)
def test_the_real_ratings_are_read_whole():
    rows = list(starter.starter_ratings())
    assert len(rows) == 23_703
    assert min(len(ratings) for _, _, ratings in rows) == 15
    assert {rating for _, _, ratings in rows for rating in ratings} == set(range(-4, 5))
