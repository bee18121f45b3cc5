"""A marker that only preferred responses have is reported with its share; texts that differ by chance are not."""

from __future__ import annotations

import random

import pytest

from guerdon.config import CheckOptions
from guerdon.contracts import Comparison, Preference, Response, as_prompt
from guerdon.data.checks import check
from guerdon.data.checks.shortcuts import JudgedTexts, TextSample, predict_preferred

WORDS = "the river runs past a quiet mill where people read and talk about bread rain and old songs".split()
TITLE = "Shortcuts in the texts"


def text(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=20)).capitalize() + "."


def pairs(num: int, share: float, marker: str = "As an AI, ", *, is_preferred: bool = True, seed: int = 0):
    """Random texts, of which this share of the preferred ones, or of the others, starts with a marker."""
    rng = random.Random(seed)
    for i in range(num):
        texts = [text(rng), text(rng)]
        if rng.random() < share:
            texts[not is_preferred] = marker + texts[not is_preferred]
        first = rng.randrange(2)
        responses = tuple(Response(each) for each in (texts if first else texts[::-1]))
        yield Comparison(as_prompt(f"question {i}"), responses, Preference(q=float(first)))


def report(rows, **options):
    return check(rows, CheckOptions(**options))


@pytest.mark.parametrize("is_preferred", [True, False])
def test_a_marker_of_one_side_is_reported_with_its_direction(is_preferred):
    checked = report(pairs(300, 0.8, is_preferred=is_preferred))
    (finding,) = (finding for finding in checked.findings if finding.title == TITLE)
    assert finding.severity == "warning"
    share = "100.0" if is_preferred else "0.0"
    assert f"“As an AI” at the start {share}\N{NO-BREAK SPACE}% [" in finding.evidence
    names = checked.curves["shortcuts"].x_names
    assert "“As an AI” at the start" == names[0 if is_preferred else -1]


def test_texts_that_differ_by_chance_are_no_shortcut():
    checked = report(pairs(300, 0.0))
    assert TITLE not in {finding.title for finding in checked.findings}
    auc = checked.estimates["shortcut_auc"]
    assert auc.low < 0.5 < auc.high
    assert auc.n == 300


@pytest.mark.parametrize("share", [0.2, 0.6, 1.0])
def test_the_auc_is_that_of_the_marker(share):
    """With nothing but the marker to tell, a preferred response has it or draws: AUC = share + (1 - share) / 2."""
    texts = [JudgedTexts(f"{i}", f"The same.{' Thanks!' * (i % 10 < 10 * share)}", "The same.") for i in range(200)]
    assert predict_preferred(texts).auc.value == pytest.approx(share + (1 - share) / 2)


def test_what_a_prompt_repeats_is_never_used_to_predict_it():
    """Labels at random, each pair five times: a model that saw one of the five would know the other four."""
    rows = [JudgedTexts(pair.group, *pair[1:]) for pair in TextSampleOf(pairs(80, 0.0)) for _ in range(5)]
    auc = predict_preferred(rows).auc
    assert auc.value == pytest.approx(0.5, abs=0.12)
    assert auc.n == 80


def TextSampleOf(comparisons) -> list[JudgedTexts]:
    sample = TextSample(10_000)
    for comparison in comparisons:
        sample.add(comparison)
    return sample.pairs


def test_the_sample_is_the_same_in_any_order():
    rows = list(pairs(300, 0.5))
    samples = []
    for ordered in (rows, rows[::-1]):
        sample = TextSample(50)
        for row in ordered:
            sample.add(row)
        samples.append(sample.pairs)
    assert samples[0] == samples[1]
    assert len(samples[0]) == 50


def test_a_ranking_gives_its_best_and_its_worst_response():
    responses = tuple(map(Response, "abcd"))
    ranking = Comparison(as_prompt("p"), responses, Preference(groups=((2,), (0, 1))))
    tie = Comparison(as_prompt("p"), responses, Preference(groups=((0, 1, 2, 3),)))
    assert [pair[1:] for pair in TextSampleOf([ranking, tie])] == [("c", "d")]


def test_options_set_the_limit_and_skip_the_check():
    rows = list(pairs(100, 0.8))
    assert TITLE not in {finding.title for finding in report(rows, shortcut_auc_warn=1.0).findings}
    assert "shortcut_auc" not in report(rows, shortcut_pairs=0).estimates


def test_few_prompts_say_nothing():
    assert predict_preferred([JudgedTexts(f"{i % 19}", "a marker here", "none here") for i in range(100)]) is None
    assert predict_preferred([]) is None


@pytest.mark.parametrize("odd", ["", "\ud83d", "\x00\x02\x03", "x" * 100_000, "\N{FAMILY}\u200d" * 50, "日本語の文章"])
def test_any_text_can_be_read(odd):
    assert 0 <= predict_preferred([JudgedTexts(f"{i}", odd, "plain words") for i in range(60)]).auc.value <= 1


def test_phrases_read_as_they_were_written():
    rows = pairs(300, 0.9, "Sorry, I can't (really):\n\n")
    names = report(rows).curves["shortcuts"].x_names
    assert names[0] in ("“Sorry, I” at the start", "“Sorry, I can't” at the start", "“can't (really):”")
