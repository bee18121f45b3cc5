"""Responses in another language or script than their prompt."""

from __future__ import annotations

import pytest

from guerdon.config import CheckOptions
from guerdon.contracts import Comparison, Preference, Response, as_prompt
from guerdon.data.checks import check, languages

TITLE = "Responses in another language"
ENGLISH = (
    "Explain in a few sentences why the sky is blue during the day and turns red in the evening, and when it does not."
)
GERMAN = (
    "Das Licht der Sonne wird in der Luft gestreut, und zwar hauptsächlich das blaue. Am Abend hat es einen längeren Weg "
    "durch die Luft, sodass fast nur noch das rote Licht bei uns ankommt."
)
CHINESE = "白天的天空之所以是蓝色的，是因为空气分子对蓝光的散射比对红光的散射更强。傍晚时分，阳光穿过的大气层更厚。"
JAPANESE = (
    "昼間の空が青いのは、空気の分子が青い光を赤い光よりも強く散乱させるからです。夕方には光の通る道が長くなります。"
)
RUSSIAN = "Объясни в нескольких предложениях, почему днём небо голубое, а вечером становится красным."
ANSWER = (
    "The light of the sun is scattered in the air, blue light more than red light. In the evening its way is longer, "
    "so that red is left."
)


def is_reported(prompt: str, *responses: str) -> bool:
    row = Comparison(as_prompt(prompt), tuple(map(Response, responses)), Preference(q=1.0))
    return TITLE in {finding.title for finding in check([row], CheckOptions(shortcut_pairs=0)).findings}


@pytest.mark.parametrize(
    ("prompt", "response"),
    [
        (ENGLISH, CHINESE),
        (ENGLISH, GERMAN),
        (GERMAN, ANSWER),
        (RUSSIAN, ANSWER),
        (CHINESE, ANSWER),
        (JAPANESE, RUSSIAN),
    ],
)
def test_another_language_is_reported_on_either_side(prompt, response):
    assert is_reported(prompt, response, "no")
    assert is_reported(prompt, "no", response)


@pytest.mark.parametrize(
    ("prompt", "response"),
    [
        *((ENGLISH, ANSWER), (GERMAN, GERMAN[::-1][:5] + GERMAN), (CHINESE, JAPANESE)),
        (f"Translate: {ENGLISH}", GERMAN),
        ("Say in Russian why the sky is blue, in one sentence or two.", RUSSIAN),
        (f"What does this mean?\n{GERMAN}", GERMAN),  # a line of the prompt is in the language
        (f"Fasse zusammen, was dort steht, und nenne die wichtigsten Punkte:\n{ANSWER}", ANSWER),
        (RUSSIAN, "```python\nprint('the sky is blue because of scattering')\n```"),
        (RUSSIAN, "E = mc^2"),
        ("2 + 2 = ?", RUSSIAN),  # no language of its own
        (ENGLISH, f"{ANSWER} In Chinese it is 天空."),
        (ENGLISH, "α + β = γ, where α, β and γ are the angles"),
        (ENGLISH, "\ud800\udfff\u202e"),
    ],
)
def test_the_same_language_or_one_that_the_prompt_names_is_not(prompt, response):
    assert not is_reported(prompt, response, "no")


def test_without_the_package_scripts_are_compared_and_a_note_says_so(monkeypatch):
    monkeypatch.setattr(languages, "has_identifier", lambda: False)
    assert is_reported(ENGLISH, CHINESE, "no")
    assert not is_reported(ENGLISH, GERMAN, "no")
    row = Comparison(as_prompt(ENGLISH), (Response("a"), Response("b")), Preference(q=1.0))
    titles = {f.title: f.remedy for f in check([row], CheckOptions(shortcut_pairs=0)).findings}
    assert titles["Not checked: languages of one script"] == "Run pip install 'guerdon[language]'."
