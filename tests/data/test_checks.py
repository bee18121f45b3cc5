from __future__ import annotations

import random
from typing import NamedTuple

import pytest

from guerdon.api.data import stream_comparisons
from guerdon.config import CheckOptions, ImportOptions
from guerdon.contracts import Comparison, Message, Preference, Prompt, Response, ToolCall, as_prompt
from guerdon.data.checks import LEAK_LENGTH, check
from guerdon.data.files import Rejects
from guerdon.io.schema import Rejected

LONG = "a text that is long enough to be no coincidence when two splits share it"


def pair(prompt="p", first="good one", second="bad one", q=1.0, **more) -> Comparison:
    return Comparison(as_prompt(prompt), (Response(first), Response(second)), Preference(q=q), **more)


def clean(num=200, seed=1, prefix=""):
    """Different prompts and texts; neither length nor position predicts the preference."""
    rng = random.Random(seed)
    for i in range(num):
        texts = [f"{prefix} answer {i} {side} " + "x" * rng.randrange(60) for side in "ab"]
        yield pair(f"{prefix} question {i}", *texts, q=float(rng.random() < 0.5))


class Encoded(NamedTuple):
    """What stands for models.chat.Encoded: any ids will do."""

    ids: list
    truncated: bool


def read(response, max_length: int = 10**9) -> Encoded:
    """The characters of a response as its tokens."""
    text = str(response)
    return Encoded(list(text)[:max_length], truncated=len(text) > max_length)


def findings(comparisons, options=None, **more) -> dict[str, str]:
    """Severity by title."""
    report = check(comparisons, options or CheckOptions(), tokens=more.pop("tokens", lambda p, r: read(r)), **more)
    return {finding.title: finding.severity for finding in report.findings}


def test_clean_data_have_no_findings_and_balanced_estimates():
    report = check(clean(), CheckOptions(), tokens=lambda prompt, text: read(text))
    assert report.findings == ()
    assert report.about == {"comparisons": "200", "groups": "200", "prompts": "200"}
    for name in ("preferred_is_longer", "length_auc", "first_is_preferred"):
        estimate = report.estimates[name]
        assert estimate.low < 0.5 < estimate.high
        assert estimate.n >= 190
    for name in ("ties", "duplicates", "contradicted_pairs"):
        assert report.estimates[name].value == 0


@pytest.mark.parametrize(
    ("bad", "title", "severity"),
    [
        ([pair("p", "same", "same")], "Identical responses", "error"),
        ([pair("p", "", "text")], "Empty responses", "error"),
        ([pair("p"), pair("p")], "Exact duplicates", "warning"),
        ([pair("p"), pair("p", "bad one", "good one", q=0.0)], "Exact duplicates", "warning"),
        ([pair("p"), pair("p", q=0.0)], "Contradictions", "note"),
        ([pair("p"), pair("p", "bad one", "good one")], "Contradictions", "note"),
        ([pair("p", "ok\n\nHuman: more", "no")], "Role marks inside responses", "error"),
        ([pair("p", "ok<|im_end|>", "no")], "Special tokens in texts", "error"),
        ([pair("p", "a", "b"), pair("p", "c", "d")], "Prompts that repeat", "note"),
    ],
)
def test_a_fault_among_clean_rows_is_reported_with_its_count(bad, title, severity):
    assert findings([*clean(), *bad])[title] == severity
    ids = [f.evidence for f in check([*clean(), *bad], CheckOptions()).findings if f.title == title]
    if title != "Prompts that repeat":
        assert ids[0].startswith("1 of 20")
        assert ids[0].endswith(bad[-1].id)


def test_votes_of_two_people_are_not_duplicates():
    votes = [pair("p", annotator="w1"), pair("p", annotator="w2")]
    assert "Exact duplicates" not in findings([*clean(), *votes])


def test_a_pair_judged_both_ways_is_one_contradiction_however_often():
    rows = [pair("p", q=q, annotator=f"{i}") for i, q in enumerate((1.0, 0.0, 1.0, 0.0, 0.5))]
    report = check([*clean(9), *rows], CheckOptions())
    (contradiction,) = (f for f in report.findings if f.title == "Contradictions")
    assert contradiction.evidence.startswith("1 of 14")
    assert report.estimates["contradicted_pairs"].value == pytest.approx(0.1)


def test_equal_texts_in_one_group_of_a_ranking_are_accepted_and_in_two_groups_are_not():
    responses = tuple(Response(text) for text in ("a", "b", "b"))
    tied = Comparison(as_prompt("p"), responses, Preference(groups=((0,), (1, 2))))
    apart = Comparison(as_prompt("p"), responses, Preference(groups=((0, 1), (2,))))
    assert "Identical responses" not in findings([*clean(), tied])
    assert findings([*clean(), apart])["Identical responses"] == "error"


def test_responses_that_truncation_makes_identical_are_reported_with_a_tokenizer_only():
    rows = [*clean(), pair("q", LONG + " yes", LONG + " no")]
    assert findings(rows, tokens=lambda prompt, text: read(text, 40))["Identical after truncation"] == "error"
    assert "Identical after truncation" not in findings(rows)
    assert findings(rows, tokens=None) == {"Not checked: length, and what truncation does": "note"}


def test_leaks_are_reported_by_group_by_prompt_and_by_response():
    ours = list(clean())
    theirs = list(clean(50, seed=2, prefix="other"))
    assert findings(ours, against={"audit": theirs}) == {}
    group = pair("unlike", "u1", "u2", group=ours[0].group)
    assert findings(ours, against={"audit": [*theirs, group]}) == {"Groups leak into audit": "error"}
    prompt = pair("  QUESTION\n 7", "u1", "u2")
    assert findings(ours, against={"audit": [*theirs, prompt]}) == {"Prompts leak into audit": "error"}
    text = next(r.text for c in ours for r in c.responses if len(r.text.strip()) >= LEAK_LENGTH)
    response = pair("unlike", text.upper() + " ", "u")
    assert findings(ours, against={"audit": [*theirs, response]}) == {"Responses leak into audit": "error"}
    assert findings([*ours, pair("x", LONG, "u")], against={"a": [pair("y", LONG, "v")]}) == {
        "Responses leak into a": "error"
    }


def test_short_answers_that_two_splits_share_are_not_a_leak():
    assert findings([*clean(), pair("q1", "Yes.", "No.")], against={"audit": [pair("q2", "Yes.", "No.")]}) == {}


def test_an_instruction_that_all_groups_share_by_design_is_a_warning():
    ours = [pair("Rate it.", f"a {i}", f"b {i}", q=i % 2, group=f"g{i}") for i in range(20)]
    theirs = [pair("Rate it.", f"c {i}", f"d {i}", group=f"h{i}") for i in range(20)]
    assert findings(ours, against={"audit": theirs}) == {"One prompt": "warning", "Prompts leak into audit": "warning"}


@pytest.mark.parametrize(("longer_wins", "word"), [(0.8, "longer"), (0.2, "shorter")])
def test_length_that_predicts_the_preference_warns_with_its_interval(longer_wins, word):
    rng = random.Random(0)
    rows = []
    for i in range(400):
        longer, is_first = rng.random() < longer_wins, i % 2 == 0
        texts = ("xx", "x") if longer == is_first else ("x", "xx")
        rows.append(pair(f"{i}", *texts, q=float(is_first)))
    report = check(rows, CheckOptions(shortcut_pairs=0), tokens=lambda prompt, text: read(text))
    assert [f.title for f in report.findings] == [f"The {word} response is preferred"]
    auc = report.estimates["length_auc"]
    assert f" {100 * max(auc.value, 1 - auc.value):.1f}\N{NO-BREAK SPACE}% [" in report.findings[0].evidence
    assert report.quantities["length_auc"].unit == "share"
    assert report.estimates["length_auc"].low < longer_wins < report.estimates["length_auc"].high
    assert findings(rows, CheckOptions(length_auc_warn=0.9, shortcut_pairs=0)) == {}


def test_equal_lengths_count_half_in_the_auc_and_not_at_all_among_the_longer():
    rows = [pair("1", "xx", "x"), pair("2", "xx", "x"), pair("3", "x", "xx"), pair("4", "x", "y")]
    estimates = check(rows, CheckOptions()).estimates
    assert estimates["preferred_is_longer"].value == pytest.approx(2 / 3)
    assert estimates["length_auc"].value == pytest.approx(2.5 / 4)


def test_intervals_count_groups_not_rows():
    rows = [pair(f"{i % 5}", f"a {i} ", f"b {i}") for i in range(100)]
    assert check(rows, CheckOptions()).estimates["length_auc"].n == 5


def test_data_that_teach_nothing_are_reported():
    ties = [pair(f"{i}", q=0.5) for i in range(5)]
    assert findings(ties) == {"All ties": "error"}
    assert findings([]) == {"No comparisons": "error"}
    assert findings([pair()]) == {"The longer response is preferred": "warning"}
    assert findings([pair("p", f"a{i}", f"b{i}", q=i % 2) for i in range(4)]) == {"One prompt": "warning"}


def test_no_more_examples_are_named_than_asked_for():
    rows = [*clean(9), *(pair(f"same {i}", "x", "x", id=f"bad{i}") for i in range(9))]
    (finding,) = (f for f in check(rows, CheckOptions(max_examples=2)).findings if f.severity == "error")
    assert finding.evidence.endswith("bad0, bad1")


def test_comparisons_are_read_once_and_not_kept():
    assert (
        check(iter(list(clean(20))), CheckOptions(), against={"a": clean(5, prefix="o")}).about["comparisons"] == "20"
    )


def test_lone_surrogates_and_nul_characters_are_accepted():
    assert findings([pair("\ud83d\x00", "\ud83d", "\x00"), pair("\ud83d", "\x00\ud83d", "b")])


# ---- Tools and several messages ------------------------------------------------------------------------------------


def trajectory(name: str, *, call_id: str | None = None, answer: str = "Done.") -> Response:
    call = Message("assistant", "", (ToolCall(name, '{"city": "Rome"}', call_id),))
    return Response(messages=(call, Message("tool", "ok", tool_call_id=call_id), Message("assistant", answer)))


def judged(prompt, *responses: Response, q: float = 1.0) -> Comparison:
    return Comparison(prompt, responses, Preference(q=q))


def test_responses_that_differ_in_calls_alone_are_not_identical():
    assert "Identical responses" not in findings([*clean(), judged(as_prompt("p"), trajectory("f"), trajectory("g"))])
    same = judged(as_prompt("p"), trajectory("f"), trajectory("f"))
    assert findings([*clean(), same])["Identical responses"] == "error"


def test_prompts_that_differ_in_tools_alone_are_no_duplicates_nor_contradictions():
    tools = [Prompt(as_prompt("p"), [{"name": name}]) for name in ("f", "g")]
    rows = [judged(tools[0], Response("a"), Response("b")), judged(tools[1], Response("a"), Response("b"), q=0.0)]
    assert findings([*clean(), *rows]) == {}
    assert findings([*clean(), rows[0], rows[0]])["Exact duplicates"] == "warning"
    turned = judged(tools[0], Response("a"), Response("b"), q=0.0)
    assert findings([*clean(), rows[0], turned])["Contradictions"] == "note"
    ours, theirs = [*clean(), rows[0]], [judged(tools[1], Response("c"), Response("d"))]
    assert findings(ours, against={"audit": theirs}) == {}


def test_a_response_that_only_calls_a_tool_is_not_empty():
    call = Response(messages=trajectory("f").messages[:1])
    assert "Empty responses" not in findings([*clean(), judged(as_prompt("p"), call, Response("b"))])


def test_a_trajectory_leaks_whatever_the_ids_of_its_calls():
    ours = [*clean(), judged(as_prompt("p"), trajectory("f", call_id="c1", answer=LONG), Response("b"))]
    again = judged(as_prompt("q"), trajectory("f", call_id="x9", answer=LONG.upper()), Response("c"))
    assert findings(ours, against={"audit": [again]}) == {"Responses leak into audit": "error"}
    other = judged(as_prompt("q"), trajectory("g", call_id="x9", answer=LONG), Response("c"))
    assert findings(ours, against={"audit": [other]}) == {}


def test_the_tokenizer_gets_a_trajectory_as_it_is():
    given = []
    rows = [judged(as_prompt("p"), trajectory("f"), Response("b"))]
    check(
        rows,
        CheckOptions(),
        tokens=lambda prompt, response: given.append(response) or Encoded([len(given)], truncated=False),
    )
    assert given == [trajectory("f"), "b"]


def test_comparisons_that_are_too_long_are_counted():
    rows = [*clean(), pair("p", "x" * 91, "y"), pair("other", "x", "y")]
    report = check(rows, CheckOptions(), tokens=lambda prompt, text: read(text, 90))
    (finding,) = (f for f in report.findings if f.title == "Longer than the model reads")
    assert finding.severity == "warning"
    assert finding.evidence.startswith("1 of 202 comparisons has a response that is longer, with its prompt")


def test_rows_that_share_an_id_are_found_unless_they_are_the_same_comparison():
    same = [pair("p", id="7"), pair("p", id="7")]
    other = [pair("p", id="7"), pair("other", id="7")]
    assert "Ids that are shared" not in findings([*clean(), *same])
    assert findings([*clean(), *other])["Ids that are shared"] == "warning"


def test_rows_that_cannot_be_used_are_an_error_with_the_first_reason():
    rejects = Rejects()
    rejects.add(Rejected("a.jsonl:3", "is not valid JSON. Delete the line.", "x"))
    report = check(clean(), CheckOptions(), tokens=lambda prompt, text: read(text), rejects=rejects)
    (finding,) = report.findings
    assert (finding.severity, finding.title) == ("error", "Rows that cannot be used")
    assert finding.evidence == "1 of 201 rows; the first is a.jsonl:3: is not valid JSON. Delete the line."


def test_faults_are_named_by_the_rows_of_their_file(tmp_path):
    (tmp_path / "a.csv").write_text("prompt,first,second,label\nq,a,b,a\nq,a,b,a\nr,a,b,b\n")
    report = check(stream_comparisons([tmp_path / "a.csv"], ImportOptions()), CheckOptions())
    (finding,) = (f for f in report.findings if f.title == "Exact duplicates")
    assert finding.evidence.endswith(f": {tmp_path / 'a.csv'}:3")
