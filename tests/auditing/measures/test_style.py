"""Style against substance: models of theory at their places in the grid, from any comparisons."""

from __future__ import annotations

import numpy as np
import pytest
from answers import answered
from toys import Constant, as_scores

from guerdon.auditing.measures.style import measure_style, style_report, three_styles
from guerdon.config import AuditOptions
from guerdon.contracts import Comparison, GuerdonError, Preference, Response, as_prompt, as_response

OPTIONS = AuditOptions(draws=200, cue_rows=40)
DATA = answered()


class Words:
    """1 for each word in a list that the answer has, `style` a character, `markdown` for a heading or a list."""

    def __init__(self, style=0.0, markdown=0.0, known=()):
        self.style, self.markdown, self.known = style, markdown, known

    def score(self, prompts, responses):
        texts = [as_response(r).text for r in responses]
        return as_scores(
            [
                sum(sentence in t.replace("**", "") for sentence in self.known)
                + self.style * len(t)
                + self.markdown * ("## " in t)
                for t in texts
            ]
        )


def oracle(**style):
    """Knows every sentence of the better answers."""
    from guerdon.auditing.probes.prose import sentences

    known = [text[a:b] for c in DATA for text in [c.responses[0 if c.q == 1 else 1].text] for a, b in sentences(text)]
    return Words(known=[sentence for sentence in known if "*" not in sentence], **style)


def titles(report):
    return {finding.title for finding in report.findings}


def test_a_model_of_substance_is_right_in_any_style():
    report = measure_style(oracle(), DATA, OPTIONS)
    shares = [report.estimates[f"grid_{name}"].value for name in ("hard", "normal", "easy")]
    assert shares[0] == shares[1] == shares[2] >= 0.85  # an error in a program is beyond this one
    assert report.estimates["grid_longer"].value == 0
    assert "Style does not outweigh substance" in titles(report)


def test_a_model_of_length_alone_is_wrong_where_it_is_hard_and_right_where_it_is_easy():
    report = measure_style(Words(style=0.1), DATA, OPTIONS)
    assert report.estimates["grid_hard"].value == 0
    assert report.estimates["grid_easy"].value == 1
    assert "Style outweighs substance" in titles(report)
    assert report.findings[0].cost.value == 1


def test_a_constant_model_wins_nothing_and_is_not_blamed_for_style():
    report = measure_style(Constant(), DATA, OPTIONS)
    assert [report.estimates[f"grid_{name}"].value for name in ("hard", "normal", "easy")] == [0, 0, 0]
    assert not report.findings


def test_the_parts_are_recovered_and_their_ratio_has_an_interval():
    rng = np.random.default_rng(0)
    n, noise = 200, 0.3
    style = np.array([0.0, 0.5, 0.8])
    right = 1.0 + style + noise * rng.normal(size=(n, 3))
    wrong = style + noise * rng.normal(size=(n, 3))
    found = style_report(right, wrong, np.arange(n).astype(str), OPTIONS, unit=2.0).estimates
    for name, planted in (("substance", 0.5), ("longer", 0.25), ("markdown", 0.15), ("style_per_substance", 0.8)):
        estimate = found[f"grid_{name}"]
        assert estimate.value == pytest.approx(planted, abs=0.06), name
        assert estimate.low < estimate.value < estimate.high
        assert estimate.n == n


def test_the_published_example():
    """Three rows scored by the code of RM-Bench's authors (scripts/utils.py): 1/9, 2/3, 8/9."""
    right = np.array([[1.0, 1.5, 2.0], [0.1, 0.4, 0.9], [2.0, 2.0, 2.0]])
    wrong = np.array([[0.5, 1.2, 1.8], [0.3, 0.3, 0.3], [1.0, 2.0, 3.0]])
    found = style_report(right, wrong, np.array(["a", "b", "c"]), OPTIONS).estimates
    shares = [found[f"grid_{name}"].value for name in ("hard", "normal", "easy")]
    assert shares == pytest.approx([1 / 9, 2 / 3, 8 / 9])


def test_the_styles_differ_in_style():
    plain, longer, rich = three_styles("**Mix** two eggs. Then bake it.")
    assert plain == "Mix two eggs. Then bake it."
    assert longer.startswith(plain)
    assert rich.startswith("## Answer\n\n- Mix two eggs.\n- Then bake it.")
    assert three_styles("") is None


def test_answers_without_an_error_to_bring_are_refused_with_a_remedy():
    rows = [Comparison(as_prompt(f"p{i}"), (Response("a"), Response("b")), Preference(q=1.0)) for i in range(3)]
    with pytest.raises(
        GuerdonError, match=r"one answer must take an error of equal length, got none\. Give more comparisons"
    ):
        measure_style(Constant(), rows, OPTIONS)
