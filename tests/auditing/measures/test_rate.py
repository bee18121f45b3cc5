"""RATE: a rewriter that changes more than it was asked for does not fool it; one rewrite alone is fooled."""

from __future__ import annotations

import numpy as np
import pytest
from answers import answered
from toys import Constant, as_scores

from guerdon.auditing.measures.rate import measure_rate
from guerdon.auditing.probes.format_edits import EMOJI
from guerdon.config import AuditOptions
from guerdon.contracts import Comparison, GuerdonError, Response, as_response

OPTIONS = AuditOptions(draws=200, cue_rows=60)
DATA = answered()


class Marks:
    """`weights` for each mark in the text, and 0.01 a character of content."""

    def __init__(self, **weights):
        self.weights = weights

    def score(self, prompts, responses):
        texts = [as_response(r).text for r in responses]
        marks = {"emoji": EMOJI[0], "bold": "**", "formal": "indeed", "typo": "teh"}
        return as_scores(
            [sum(w * (marks[k] in t) for k, w in self.weights.items()) + 0.01 * len(t.split()) for t in texts]
        )


def rewriter(prompt, text, attribute, value):
    """Gives and takes the word "indeed", and always mends every typo: what a language model does unasked."""
    text = text.replace("teh", "the").replace(" indeed", "")
    return f"{text} indeed" if value else text


def formal(text):
    return "indeed" in text


def with_typos(rows, share_formal=0.5):
    """Every original has a typo; some have the attribute."""
    made = []
    for i, row in enumerate(rows):
        tail = " indeed" if i < share_formal * len(rows) else ""
        texts = tuple(Response(f"teh {response.text}{tail}") for response in row.responses)
        made.append(Comparison(row.prompt, texts, row.preference))
    return made


def test_what_a_rewriter_changes_unasked_cancels_and_fools_a_single_rewrite():
    report = measure_rate(
        Marks(formal=0.5, typo=-1.0), with_typos(DATA), "formal", OPTIONS, has=formal, rewrite=rewriter
    )
    found, unit = report.estimates, _unit(Marks(formal=0.5, typo=-1.0), with_typos(DATA))
    word = 0.01 / unit  # the word itself is a word longer
    for name in ("rate_ate", "rate_att", "rate_atu"):
        assert found[name].value == pytest.approx(0.5 / unit + word)
    # those that have it lose the word and the typo at once, those that have not gain both
    assert found["rate_naive"].value == pytest.approx((0.5 + (-1.0 + 1.0) / 2) / unit + word, abs=0.05)
    everyone = with_typos(DATA, share_formal=0.0)
    report = measure_rate(Marks(formal=0.5, typo=-1.0), everyone, "formal", OPTIONS, has=formal, rewrite=rewriter)
    unit = _unit(Marks(formal=0.5, typo=-1.0), everyone)
    assert report.estimates["rate_naive"].value == pytest.approx(1.51 / unit)
    assert report.estimates["rate_ate"].value == pytest.approx(0.51 / unit)
    assert "rate_att" not in report.estimates


def _unit(model, rows):
    from guerdon.formulas.cues import within_spread

    margins = [np.diff(model.score([row.prompt] * 2, row.responses).value)[0] for row in rows]
    return within_spread(np.array(margins))


def test_a_model_without_a_care_for_the_attribute_passes():
    report = measure_rate(Marks(typo=-1.0), with_typos(DATA), "formal", OPTIONS, has=formal, rewrite=rewriter)
    assert abs(report.estimates["rate_ate"].value) < 0.2
    assert {f.severity for f in report.findings} == {"note"}


def test_the_average_weighs_those_that_have_it_and_those_that_have_not():
    """An effect of 2 on answers that had the attribute and 0 on the others, a quarter of which had it."""

    class Mixed:
        def score(self, prompts, responses):
            texts = [as_response(r).text for r in responses]
            return as_scores([2.0 * (formal(t) and "[had]" in t) + 0.01 * len(t) * ("[had]" not in t) for t in texts])

    rows = [
        Comparison(
            c.prompt,
            tuple(Response(f"{'[had] ' * (i < 15)}{r.text}{' indeed' * (i < 15)}") for r in c.responses),
            c.preference,
        )
        for i, c in enumerate(DATA)
    ]
    found = measure_rate(Mixed(), rows, "formal", OPTIONS, has=formal, rewrite=rewriter).estimates
    assert found["rate_ate"].value == pytest.approx((found["rate_att"].value + 3 * found["rate_atu"].value) / 4)


def test_a_planted_attribute_is_recovered_without_a_generator():
    report = measure_rate(Marks(emoji=0.4), DATA, "emoji", OPTIONS)
    unit = _unit(Marks(), DATA)
    assert report.estimates["rate_ate"].value == pytest.approx((0.4 + 0.01) / unit, rel=0.02)
    assert report.findings[0].title == "By rewrites, the model rewards emoji"
    assert report.findings[0].examples[0].labels == ("rewritten with it", "rewritten back")
    assert measure_rate(Constant(), DATA, "emoji", OPTIONS).estimates["rate_ate"].value == 0


def test_a_generator_is_asked_twice_for_each_answer_and_no_more():
    asked = []

    def watched(prompt, text, attribute, value):
        asked.append((text, value))
        return rewriter(prompt, text, attribute, value)

    measure_rate(Marks(formal=1.0), DATA, "formal", OPTIONS, has=formal, rewrite=watched)
    assert len(asked) == 2 * 2 * len(DATA)


def test_an_attribute_that_nobody_can_rewrite_is_refused_with_those_that_can():
    with pytest.raises(GuerdonError, match=r"attribute must be one of emoji, bold, .*got .formality.\. Give both"):
        measure_rate(Constant(), DATA, "formality", OPTIONS)
