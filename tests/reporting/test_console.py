"""The terminal shows every estimate, the decision first, and is not steered by any text."""

from __future__ import annotations

import io

from rich.console import Console
from sample_reports import costly, judged

from guerdon.contracts import Example, Finding, Report, Response, as_prompt
from guerdon.reporting import to_html, to_markdown
from guerdon.reporting.console import brief, examples, summary


def test_the_console_prints_every_estimate_and_no_markup(report):
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(summary(report))
    console.print(summary(Report("[bold]title[/bold]")))
    said = console.export_text()
    assert "longer wins" in said
    assert "Calibration" in said
    assert "[bold]title[/bold]" in said


def test_markdown_and_terminal_give_the_decision_first_too():
    report = judged(inner=(costly("of a part", 0.2),))
    lines = to_markdown(report).splitlines()
    assert lines[4] == "**Fit with limits**: A reason."
    assert "| Better than a coin | passed | 60 % | above 50 % |" in lines
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(brief(report, ("accuracy",)))
    said = console.export_text()
    assert (
        said.index("Fit with limits: A reason.")
        < said.index("95 % interval")
        < said.index("warning: of a part (flips 20")
    )


def test_no_text_of_a_model_steers_a_terminal():
    hostile = "\x1b[2Jgone\x07\r\x9b31m\x7f"
    report = Report(
        title=hostile,
        about={"run": hostile},
        findings=(Finding("warning", hostile, hostile, hostile),),
        examples=(Example(hostile, as_prompt(hostile), (Response(hostile),), (hostile,), (1.0,)),),
    )
    console = Console(file=io.StringIO(), width=200)
    console.print(summary(report), examples(report), brief(report, (), ("run",)))
    for text in (to_html(report), to_markdown(report), console.file.getvalue()):
        assert not set(text) & set("\x1b\x07\r\x9b\x7f")
        assert "[2Jgone" in text
