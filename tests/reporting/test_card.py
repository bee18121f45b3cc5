"""The model card says what hubs and readers need, runs nothing, and overwrites no README of the user's."""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console
from sample_reports import HOSTILE, costly, hostile_report, judged

from guerdon.api import auditing
from guerdon.reporting.card import is_ours, model_card
from guerdon.reporting.console import brief, summary


def test_a_model_card_and_a_terminal_run_nothing_either():
    report, facts = hostile_report(), {"base": "a/b", "system": HOSTILE, "calibration": {"temperature": 2.0}}
    card = model_card(report, facts, name=HOSTILE)
    outside = re.sub(r"^(`{3,})python\n.*?\n\1$", "", card, flags=re.DOTALL | re.MULTILINE)
    assert "<script" not in outside
    assert "<img" not in outside
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(summary(report))
    console.print(brief(report, ("accuracy",)))
    assert "<script>alert(1)" in console.export_text()


def test_the_model_card_says_what_hubs_and_readers_need():
    facts = {
        "base": "org/small",
        "calibration": {"temperature": 1.5, "provenance": {}},
        "max_length": 512,
        "system": "Be kind.",
    }
    card = model_card(judged(costly("a fault", 0.2)), facts, name="mine")
    front = card.split("---")[1]
    assert front.startswith("\nlibrary_name: transformers\n")
    assert 'base_model: "org/small"' in front
    for said in ("# mine", "**Fit with limits**: A reason.", "* Limit: stop early.", "temperature: 1.5", "Be kind.", "a fault",
                 "AutoModelForSequenceClassification", "| accuracy | 60.0", "Better than a coin | passed"):  # fmt: skip
        assert said in card, said
    assert is_ours(card)
    assert not is_ours(card.replace("<!--", "<!- -"))
    assert "base_model" not in model_card(judged(), {"base": "/home/me/model"})


def test_a_card_is_overwritten_and_a_readme_of_the_users_is_not(tmp_path):
    report = judged()
    assert auditing.write_card(report, tmp_path)
    first = (tmp_path / "README.md").read_text("utf-8")
    assert auditing.write_card(judged(decision="not fit"), tmp_path)
    assert (tmp_path / "README.md").read_text("utf-8") != first
    (tmp_path / "README.md").write_text("# My own words\n", "utf-8")
    assert not auditing.write_card(report, tmp_path)
    assert (tmp_path / "README.md").read_text("utf-8") == "# My own words\n"


def test_a_card_that_0_1_wrote_is_overwritten():
    old = (Path(__file__).parents[1] / "cases" / "saved_0_1" / "calibrated" / "README.md").read_text("utf-8")
    assert "Assay" in old
    assert is_ours(old)
