"""What an inspection counts, samples and quotes."""

from __future__ import annotations

import json

import pytest
from shell import guerdon

from guerdon.api.data import ComparisonFiles, inspect
from guerdon.config import CheckOptions, ImportOptions, InspectOptions
from guerdon.contracts import Comparison, Preference, Response, as_prompt
from guerdon.data.inspection import inspect as run
from guerdon.data.inspection.histograms import EDGES, SIGNED_EDGES, NameCounter, range_of
from guerdon.data.inspection.sample import RowSample, rows_by_number

CHECKS = CheckOptions(shortcut_pairs=0)


def pair(i, first="good one", second="bad", q=1.0, **more) -> Comparison:
    return Comparison(as_prompt(f"question {i}"), (Response(first), Response(second)), Preference(q=q), **more)


def bars(curve) -> dict[str, float]:
    return {name: e.value for name, e in zip(curve.x_names, curve.y, strict=True) if e.value}


def test_figures_are_shares_of_what_was_counted():
    rows = [
        pair(i, "x" * 15, "y" * 5, q=float(i < 6), annotator=f"w{i % 2}", source="a" if i < 3 else "b")
        for i in range(8)
    ]
    curves = run(rows, InspectOptions(), CHECKS).report.curves
    assert bars(curves["characters"]) == {"1–9": 0.5, "10–19": 0.5}
    assert bars(curves["difference"]) == {"10–49": 0.75, "−49 to −10": 0.25}
    assert bars(curves["labels"]) == {"first is better": 0.75, "second is better": 0.25}
    assert bars(curves["sources"]) == {"b": 0.625, "a": 0.375}
    assert bars(curves["annotators"]) == {"w0": 0.5, "w1": 0.5}
    assert bars(curves["position"]) == {"a": 1.0, "b": 0.6}
    assert "soft_labels" not in curves


def test_votes_soft_labels_and_rankings_have_their_figures():
    soft = [
        Comparison(as_prompt("p"), (Response("a"), Response(f"b{i}")), Preference(q=q, votes=(i, 0, 3 - i)))
        for i, q in enumerate((0.01, 1 / 3, 2 / 3, 0.99))
    ]
    ranking = Comparison(as_prompt("q"), tuple(map(Response, "abc")), Preference(groups=((0,), (1, 2)), strength=2.0))
    curves = run([*soft, ranking, pair(1)], InspectOptions(), CHECKS).report.curves
    assert bars(curves["soft_labels"]) == {
        "0.0 to 0.1": 0.25,
        "0.3 to 0.4": 0.25,
        "0.6 to 0.7": 0.25,
        "0.9 to 1.0": 0.25,
    }
    assert bars(curves["responses"]) == pytest.approx({"2": 5 / 6, "3": 1 / 6})
    assert bars(curves["responses_per_prompt"]) == pytest.approx({"2": 1 / 3, "3": 1 / 3, "5–9": 1 / 3})
    assert bars(curves["labels"])["ranking with ties"] == pytest.approx(1 / 6)


@pytest.mark.parametrize(("value", "name"), [(0, 0), (1, 1), (9, 1), (10, 2), (10**9, len(EDGES) - 1)])
def test_ranges_hold_their_lower_edge(value, name):
    assert range_of(value, EDGES) == name
    assert range_of(-(10**9), SIGNED_EDGES) == -1


def test_names_beyond_memory_count_as_one(monkeypatch):
    monkeypatch.setattr("guerdon.data.inspection.histograms.MAX_NAMES", 2)
    counter = NameCounter()
    for name in "abcad":
        counter.add(name)
    assert counter == {"a": 2, "b": 1, "all others": 2}


def test_a_sample_is_the_same_for_a_seed_and_another_for_another():
    rows = [pair(i) for i in range(200)]
    drawn = [run(rows, InspectOptions(sample=20, seed=seed), CHECKS).sample for seed in (0, 0, 1)]
    assert len(drawn[0]) == 20
    assert drawn[0] == drawn[1] != drawn[2]


def test_huge_texts_make_a_sample_smaller_and_not_the_memory_larger():
    sample = RowSample(50, 0, max_characters=1000)
    for i in range(300):
        sample.add(i, pair(i, "x" * 90, "y"))
    assert 5 <= len(sample.rows) <= 10
    assert list(rows_by_number([pair(0), pair(1), pair(2)], [2, 0])) == [0, 2]


def test_contradictions_are_quoted_once_with_everybodys_judgment():
    rows = [
        *(pair(i) for i in range(30)),
        pair(3, q=0.0, annotator="bob"),
        pair(4, "bad", "good one", q=1.0, annotator="eve"),
    ]
    report = run(rows, InspectOptions(), CHECKS).report
    (finding,) = (finding for finding in report.findings if finding.title == "Contradictions")
    assert [example.labels for example in finding.examples] == [
        ("preferred; not preferred by bob", "not preferred; preferred by bob"),
        ("not preferred; preferred by eve", "preferred; not preferred by eve"),
    ]


def test_rows_that_findings_name_can_be_browsed_by_finding():
    rows = [*(pair(i) for i in range(400)), pair(1)]
    sample = run(rows, InspectOptions(sample=5), CHECKS).sample
    assert [titles for _, titles in sample if titles] == [("Exact duplicates",)]


def test_files_are_read_twice_and_noted_once(tmp_path, capsys):
    path = tmp_path / "pairs.csv"
    path.write_text("prompt,first,second,label,extra\n" + "q,a,b,a,1\nq,a,b,b,1\n,,,,1\n")
    files = ComparisonFiles([path], ImportOptions())
    page = tmp_path / "page.html"
    report = inspect(files, page)
    assert report.about["comparisons"] == "2"
    assert report.about["rows set aside"] == "1"
    assert "labeled" in report.about["format"]
    assert capsys.readouterr().err.count("columns not used: extra") == 1
    assert "Contradictions" in page.read_text()


def test_the_command_writes_a_page_and_prints_facts_or_json(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"q{i}", "chosen": "a", "rejected": "b"}) + "\n" for i in range(3)))
    ran = guerdon("inspect", path, "--html", tmp_path / "page.html")
    assert ran.code == 0, ran.err
    assert "comparisons" in ran.out
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    printed = json.loads(guerdon("inspect", path, "--json").out)
    assert printed["about"]["comparisons"] == "3"


def test_the_rows_of_a_cycle_are_cited_and_shown_without_votes_against_it():
    def judged(prompt, first, second, row):
        return Comparison(
            as_prompt(prompt).at(f"v.jsonl:{row}"), (Response(first), Response(second)), Preference(q=1.0)
        )

    votes = [
        *(("p", "a", "b"), ("r", "a", "b"), ("p", "b", "c"), ("r", "b", "c"), ("r", "a", "c")),  # r has no cycle
        *(
            ("p", "a", "c"),
            ("p", "c", "a"),
            ("p", "c", "a"),
            ("p", "c", "d"),
        ),  # c beats a by two to one; d beats nobody
    ]
    rows = [judged(*vote, i) for i, vote in enumerate(votes)]
    report = run(rows, InspectOptions(), CHECKS).report
    cycle = next(finding for finding in report.findings if finding.title == "Cyclic preferences")
    assert cycle.evidence.startswith("1 of 2 prompts")
    assert cycle.evidence.endswith(": v.jsonl:0, v.jsonl:2, v.jsonl:6, v.jsonl:7")
    texts = [[response.text for response in example.responses] for example in cycle.examples]
    assert texts[:3] == [["a", "b"], ["b", "c"], ["c", "a"]]
