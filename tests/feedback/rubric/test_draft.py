"""Drafts: in a world where people reward truth and punish sources, those two are kept, with those signs, and noise is not."""

from __future__ import annotations

import pytest
from rubric_worlds import CORRECT, KIND, SOURCE, script_of
from scripted_judges import scripted

from guerdon.api.rubric import draft_rubric, load_rubric
from guerdon.config import DraftOptions, JudgeOptions
from guerdon.contracts import Comparison, GuerdonError, Preference, Response, as_prompt
from guerdon.feedback.rubric.draft import split_by_group
from guerdon.feedback.rubric.proposals import CriteriaReader, distinct
from guerdon.models.judges.calls import Answer, Unreadable
from guerdon.models.judges.failures import Failure

JUDGE = JudgeOptions.model_validate({"model": "script", "url": "http://localhost"})
ENGLISH = "The response is in English."


def noise(text: str) -> float:
    return 0.3 + 0.4 * ((sum(map(ord, text)) * 7919) % 101) / 101


RULES = {
    CORRECT: lambda text: 0.9 if "true" in text else 0.2,
    SOURCE: lambda text: 0.8 if "Source" in text else 0.3,
    KIND: noise,
    ENGLISH: lambda text: 0.9,
}


def comparisons(n: int = 400) -> list[Comparison]:
    """Truth decides; between equally true responses the one without a source is preferred; one label in ten is wrong."""
    rows = []
    for i in range(n):
        kinds = [("true", ""), ("false", ""), ("true", " Source"), ("false", " Source")]
        a, b = kinds[i % 4], kinds[(i // 4) % 4]
        if a == b:
            continue
        value = [2.0 * (word == "true") - (source != "") for word, source in (a, b)]
        q = float(value[0] > value[1])
        q = 1 - q if i % 10 == 3 else q
        pair = tuple(Response(f"{word} {i}{side}{source}") for side, (word, source) in zip("ab", (a, b), strict=True))
        rows.append(Comparison(as_prompt(f"Question {i}"), pair, Preference(q=q)))
    return rows


def world(answer: str = f"- {CORRECT}\n- {SOURCE}\n- **{KIND}**\n- {ENGLISH}\n- ok"):
    judged = script_of(RULES)

    def script(question):
        return Answer(answer, "stop") if question.purpose == "draft" else judged(question)

    return scripted(script)


def test_criteria_that_predict_labels_are_kept_with_their_signs_and_the_rest_is_not(tmp_path):
    respondent = world()
    rubric, report = draft_rubric(comparisons(), JUDGE, out=tmp_path / "r.yaml", respondent=respondent, rounds=3)
    weights = {criterion.text: criterion.weight for criterion in rubric.criteria}
    assert set(weights) == {CORRECT, SOURCE}
    assert weights[CORRECT] > 0 > weights[SOURCE]
    assert load_rubric(tmp_path / "r.yaml").fingerprint == rubric.fingerprint
    assert (tmp_path / "r.report" / "report.html").exists()
    assert report.estimates["agreement"].low > 0.6
    reasons = {quantity.label: quantity.meaning for quantity in report.quantities.values()}
    assert reasons[ENGLISH] == "always answered yes"
    assert reasons[KIND] == "accuracy not different from chance"


def test_preferred_responses_stand_on_both_sides_equally_often_and_prompts_are_held_out():
    respondent = world()
    draft_rubric(comparisons(), JUDGE, respondent=respondent, rounds=4, batch_size=6)
    shown = [question.messages[1].content for question in respondent.asked if question.purpose == "draft"]
    assert len(shown) == 4
    assert all(text.count("People preferred response 1.") == 3 for text in shown)
    parts = split_by_group(comparisons(), 0)
    names = {part: {row.group for row in rows} for part, rows in parts.items()}
    assert not names["propose"] & names["select"]
    assert not names["select"] & names["check"]
    judged = {
        q.messages[1].content.split(">\n", 2)[2].split("\n<")[0] for q in respondent.asked if q.purpose == "score"
    }
    assert judged
    assert not any(f"{row.prompt[0].content}\n" in " ".join(judged) for row in parts["propose"])


def test_no_criterion_is_an_error_and_no_file(tmp_path):
    rubric, report = draft_rubric(comparisons(), JUDGE, out=tmp_path / "r.yaml", respondent=world(f"- {KIND}"))
    assert rubric is None
    assert not (tmp_path / "r.yaml").exists()
    assert [finding.severity for finding in report.findings] == ["error"]


def test_failed_proposals_are_counted_and_are_no_criteria():
    respondent = scripted(lambda question: Failure("timeout"))
    rubric, report = draft_rubric(comparisons(), JUDGE, respondent=respondent, rounds=2)
    assert rubric is None
    assert "timeout 2." in {finding.evidence for finding in report.findings}


def test_too_few_prompts_are_one_line():
    one = comparisons(8)[:1]
    with pytest.raises(GuerdonError, match="data must have labeled comparisons on enough prompts for three parts"):
        draft_rubric(one, JUDGE, respondent=world())


def test_answers_are_read_as_lists_and_what_is_no_list_is_a_failure():
    reader = CriteriaReader(3)
    assert reader.read(Answer("Sure:\n1. The response is kind.\n2) The response is short.\n* x", "stop")) == (
        "The response is kind.",
        "The response is short.",
    )
    assert reader.read(Answer("- The response is kind.\n- The response is a", "length")) == ("The response is kind.",)
    with pytest.raises(Unreadable):
        reader.read(Answer("The response is kind.", "stop"))


def test_texts_that_say_the_same_are_one_and_the_most_proposed_come_first():
    texts = ["The response is kind.", "The response cites a source.", "the response cites a source"]
    assert distinct(texts, 5) == ["The response cites a source.", "The response is kind."]
    assert distinct(texts, 1) == ["The response cites a source."]
    assert DraftOptions().alpha == 0.05
