"""Where sentences are in a text."""

from __future__ import annotations

from guerdon.auditing.probes import prose


def test_sentences_are_found_around_abbreviations_lists_and_code():
    text = "Dr. Smith paid $3.50, e.g. for tea. 'Why?' he asked.\n\n1. Mix it. Bake it.\n- salt\n# Title\n```\na. B\n```\nOf 3. OK"
    found = [text[a:b] for a, b in prose.sentences(text)]
    assert found == [
        "Dr. Smith paid $3.50, e.g. for tea.",
        "'Why?' he asked.",
        "Mix it.",
        "Bake it.",
        "salt",
        "Of 3.",
        "OK",
    ]
