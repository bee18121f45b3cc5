"""judge.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

from guerdon.contracts import GuerdonError
from guerdon.io.judge_file import read_judge


def write(folder: Path, text: str) -> Path:
    path = folder / "judge.yaml"
    path.write_text(text, "utf-8")
    return path


def test_a_file_of_options_and_a_config_with_a_judge_are_the_same(tmp_path: Path) -> None:
    flat = read_judge(write(tmp_path, "url: http://localhost:8000\nmodel: m\nmode: pair\n"))
    nested = read_judge(write(tmp_path, "judge:\n  url: http://localhost:8000\n  model: m\n  mode: pair\n"))
    assert flat == nested
    assert read_judge(tmp_path / "judge.yaml", mode="score").mode == "score"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "judge.url must be given for a judge of kind endpoint, got nothing. Add it."),
        ("kind: local", "judge.model must be given for a judge of kind local, got nothing. Add it."),
        ("kind: oracle", "kind"),
        ("urls: x", "urls is not an option in JudgeOptions. Did you mean url?"),
        ("1: 2", "the keys must be options of a judge, got 1. Correct the file."),
        ("[1]", "the file must be a mapping of options of a judge, got [1]. Write kind: endpoint, for example."),
        ("url: [", "is not valid YAML"),
        ("kind: local\nmodel: m\nurl: http://x", "judge.url must be left out for a judge of kind local"),
        (
            "url: localhost:8000\nmodel: m",
            "judge.url must start with http:// or https:// and name a host, got 'localhost:8000'.",
        ),
        ("url: [http://x, y]\nmodel: m", "judge.url must start with http:// or https:// and name a host, got 'y'."),
        ("url: http://me:secret@x\nmodel: m", "judge.url must have no user, query or fragment"),
        (
            "kind: jury\njudges: [{url: http://x, model: m}, {url: ftp://x, model: m}]",
            "judge.judges[1]: judge.url must start with http:// or https:// and name a host, got 'ftp://x'.",
        ),
        ("kind: jury\njudges: [{url: http://x}]", "judge.judges[0]: judge.model must be given"),
        ("kind: local\nmodel: m\nmax_calls: 3", "judge.max_calls must be left out for a judge of kind local"),
        ("url: http://x\nmodel: m\nprices: none.toml", "none.toml: judge.prices must be a file"),
        ("url: http://x\nmodel: m\nmax_cost: 3", "judge.max_cost must be left out where prices are unknown, got 3.0."),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_with_its_name(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(GuerdonError) as error:
        read_judge(path)
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)
