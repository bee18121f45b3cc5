"""Attributes that an edit gives and takes away."""

from __future__ import annotations

import pytest
from answers import answered

from guerdon.auditing.probes.attributes import ATTRIBUTES

DATA = answered()


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_edit_gives_and_takes_its_attribute(name):
    attribute = ATTRIBUTES[name]
    changed = 0
    for row in DATA:
        text = row.responses[0].text
        once = attribute.rewrite(row.prompt, text, name, not attribute.has(text))
        twice = attribute.rewrite(row.prompt, once, name, attribute.has(text))
        if once != text:
            changed += 1
            assert attribute.has(once) != attribute.has(text)
            assert attribute.has(twice) == attribute.has(text)
        assert attribute.rewrite(row.prompt, text, name, attribute.has(text)) == text
    assert changed > 10


@pytest.mark.parametrize("name", ["emoji", "bold", "flattery"])
def test_an_edit_that_only_adds_is_undone_by_its_reverse(name):
    attribute = ATTRIBUTES[name]
    for row in DATA:
        text = row.responses[0].text
        if not attribute.has(text):
            assert attribute.take(attribute.give(text)).split() == text.split()
