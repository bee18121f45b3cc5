"""A directory is written whole, replaces only what Guerdon wrote, and never a file of its user."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from leftovers import hidden, of_dead_process

from guerdon import GuerdonError
from guerdon.io import temporary
from guerdon.io.directories import CARD_MARK, recover, write_directory


def fill(scratch: Path, text: str = "new") -> None:
    (scratch / "config.json").write_text(text)
    (scratch / "sub").mkdir()
    (scratch / "sub" / "reward.json").write_text(text)


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_what_guerdon_wrote_is_replaced_with_what_it_added_in_place(tmp_path):
    write_directory(tmp_path / "m", lambda scratch: fill(scratch, "old"))
    (tmp_path / "m" / "README.md").write_text(f"{CARD_MARK}\n# m")
    (tmp_path / "m" / "sub" / "guerdon").mkdir()
    (tmp_path / "m" / "sub" / "guerdon" / "uncertainty.safetensors").write_text("x")
    write_directory(tmp_path / "m", fill)
    assert set(contents(tmp_path / "m")) == {"config.json", "sub/reward.json", "guerdon/files.json"}
    assert contents(tmp_path / "m")["config.json"] == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


USERS = {
    "a model that only looks like ours": {"config.json": "{}", "thesis.txt": "years of work", "sub/notes.md": "x"},
    "weights from a hub": {"config.json": "{}", "model.safetensors": "x"},
    "a folder of files": {"thesis.txt": "years of work"},
    "only folders": {"sub/": ""},
}


@pytest.mark.parametrize("name", USERS)
def test_a_folder_of_somebody_else_is_not_touched(tmp_path, name):
    for file, text in USERS[name].items():
        (tmp_path / "m" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / file).mkdir(exist_ok=True) if file.endswith("/") else (tmp_path / "m" / file).write_text(text)
    before = contents(tmp_path)
    filled = []
    with pytest.raises(GuerdonError, match=f"^{re.escape(str(tmp_path / 'm'))}: holds .* Write elsewhere"):
        write_directory(tmp_path / "m", filled.append)
    assert filled == []
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("file", "text"), [("thesis.txt", "years of work"), ("README.md", "# By hand")])
def test_a_file_that_a_user_put_into_our_folder_keeps_it_from_being_replaced(tmp_path, file, text):
    write_directory(tmp_path / "m", fill)
    (tmp_path / "m" / file).write_text(text)
    before = contents(tmp_path)
    with pytest.raises(GuerdonError, match=rf"m: holds {file}, which Guerdon did not write"):
        write_directory(tmp_path / "m", lambda scratch: fill(scratch, "newer"))
    assert contents(tmp_path) == before


def test_a_file_that_appears_while_the_directory_is_filled_stays(tmp_path):
    write_directory(tmp_path / "m", fill)

    def slow(scratch: Path) -> None:
        fill(scratch, "newer")
        (tmp_path / "m" / "thesis.txt").write_text("years of work")

    with pytest.raises(GuerdonError, match="holds thesis"):
        write_directory(tmp_path / "m", slow)
    assert contents(tmp_path / "m")["thesis.txt"] == "years of work"
    assert hidden(tmp_path) == []


def test_a_file_is_not_replaced_by_a_directory(tmp_path):
    (tmp_path / "m").write_text("mine")
    with pytest.raises(GuerdonError, match="m: is a file"):
        write_directory(tmp_path / "m", fill)
    assert (tmp_path / "m").read_text() == "mine"


def test_a_symbolic_link_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "m").symlink_to("disk")
    for text in ("old", "new"):
        write_directory(tmp_path / "m", lambda scratch, text=text: fill(scratch, text))
    assert (tmp_path / "m").is_symlink()
    assert contents(tmp_path / "disk")["config.json"] == "new"
    assert hidden(tmp_path) == []


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path):
    write_directory(tmp_path / "m", fill)
    (tmp_path / "m").rename(of_dead_process(tmp_path / "m", "old"))
    recover(tmp_path / "m")
    assert contents(tmp_path / "m")["config.json"] == "new"
    (tmp_path / "m").rename(tmp_path / ".m.old")  # the name that older versions gave
    recover(tmp_path / "m")
    assert contents(tmp_path / "m")["config.json"] == "new"
    of_dead_process(tmp_path / "m", "old").mkdir()  # killed before it was removed
    recover(tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_what_a_running_process_puts_aside_is_left_to_it(tmp_path, monkeypatch):
    monkeypatch.setattr("guerdon.io.directories.LONGEST_RENAME", 0.05)
    aside = temporary.temporary_path(tmp_path / "m", "old")
    aside.mkdir()
    recover(tmp_path / "m")
    assert os.listdir(tmp_path) == [aside.name]


def test_a_folder_of_an_older_version_is_replaced(tmp_path):
    for file in ("config.json", "reward.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / "m").mkdir(exist_ok=True)
        (tmp_path / "m" / file).write_text("old")
    write_directory(tmp_path / "m", fill)
    assert contents(tmp_path / "m")["config.json"] == "new"


def test_an_ensemble_of_an_older_version_is_replaced_with_all_that_it_wrote(tmp_path):
    for file in ("ensemble.json", "member-1/reward.json", "member-2/assay/uncertainty.safetensors"):
        (tmp_path / "m" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / file).write_text("old")
    write_directory(tmp_path / "m", fill)
    assert contents(tmp_path / "m")["config.json"] == "new"


@pytest.mark.parametrize("folder", ["backup", "member-1/backup", "member-mine", "backup/member-1", "guerdon/backup"])
def test_a_copy_that_a_user_put_into_a_folder_of_an_older_version_stays(tmp_path, folder):
    for file in ("reward.json", "config.json", f"{folder}/config.json", f"{folder}/model.safetensors"):
        (tmp_path / "m" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / file).write_text("years of work")
    before = contents(tmp_path)
    with pytest.raises(GuerdonError, match=rf"m: holds {folder}/config.json, which Guerdon did not write"):
        write_directory(tmp_path / "m", fill)
    assert contents(tmp_path) == before
