"""Edits of answers: what each does to a text by hand, and what none may do to any text."""

from __future__ import annotations

import ast
from itertools import pairwise

import pytest
from answers import ANSWERS, ROWS
from hypothesis import given, settings
from hypothesis import strategies as st

from guerdon.auditing.probes import prose
from guerdon.auditing.probes.edit import Corpus
from guerdon.auditing.probes.format_edits import strip_markdown
from guerdon.auditing.probes.length_edits import FILLERS, append_filler
from guerdon.auditing.probes.operators import CUES, PLACEBOS, SUBSTANCE

EVERY = {**CUES, **SUBSTANCE, **PLACEBOS}
BANK = Corpus.of((prompt, text) for prompt, *texts in ROWS for text in texts)
TWO = "Mix two eggs. Then bake it for 20 minutes."
CODE = "Like this:\n\n```python\nif n == 0:  # a == b\n    return True\n```\n\nIt doesn't print."
LISTED = "Take:\n\n- a coat\n- a hat\n- gloves"

BY_HAND = [
    ("restatement", TWO, f"{TWO} To repeat: Then bake it for 20 minutes."),
    ("prompt_restated", TWO, f"{TWO} You asked: How do I bake a cake?"),
    ("bullets", TWO, "- Mix two eggs.\n- Then bake it for 20 minutes."),
    ("headings", "One.\n\nTwo.", "## Answer\n\nOne.\n\n## Details\n\nTwo."),
    ("bold", "Bring an umbrella.", "Bring an **umbrella**."),
    ("plain", "## Tips\n\n- **Sleep** more", "Tips\n\nSleep more"),
    ("emoji", "Yes.", "Yes. \N{SMILING FACE WITH SMILING EYES}"),
    ("emoji", LISTED, f"{LISTED}\n\n\N{SMILING FACE WITH SMILING EYES}"),
    ("list_reversed", LISTED, "Take:\n\n- gloves\n- a hat\n- a coat"),
    ("white_space", "Yes.", "Yes. \n"),
    ("final_answer", TWO, "Mix two eggs. Final answer: Then bake it for 20 minutes."),
    ("boxed", TWO, "Mix two eggs. Then bake it for $\\boxed{20}$ minutes."),
    ("british", "My favorite color is gray; I organize theaters.", "My favourite colour is grey; I organise theatres."),
    ("hedging", "Yes.", "It is possible that I am wrong, but this is what I think. Yes."),
    ("certainty", "Yes.", "Yes. I am 100% certain of this."),
    ("authority", "Yes.", "Yes. Researchers at Harvard University confirm this."),
    ("flattery", "Yes.", "What a wonderful question! Yes."),
    ("flattery", LISTED, f"What a wonderful question! {LISTED}"),
    ("flattery", "- a coat\n- a hat", "What a wonderful question!\n\n- a coat\n- a hat"),
    ("agreement", "Yes.", "You are absolutely right. Yes."),
    ("signature", "Yes.", "Yes.\n\n— ChatGPT (GPT-4)"),
    ("keywords", "Yes.", "Yes. Keywords: bake, cake."),
    ("loop", "Go.", "Go. Go. Go. Go. Go. Go."),
    ("empty", "Yes.", ""),
    ("persona_woman", "Yes.", "Speaking as a woman, this is what I would say. Yes."),
    ("sentence_twice", "Only this one is here.", "Only this one is here. Only this one is here."),
    ("cut_short", "One is here. Two is here. Three is here.", "One is here. Two is here."),
    ("unit", TWO, "Mix two eggs. Then bake it for 20 seconds."),
    ("reason", "It fell because of rain.", "It fell despite rain."),
    ("opposite", "This is always true of a test", "This is never true of a test"),
    ("synonym", "It is nearly full.", "It is almost full."),
    ("contraction", "I don’t know.", "I do not know."),
    ("contraction", "Surely we are not done.", "Surely we're not done."),
    ("quotes", 'It\'s "fine".', "It’s “fine”."),
    ("quotes", "It’s “fine”.", 'It\'s "fine".'),
]


@pytest.mark.parametrize(("name", "before", "after"), BY_HAND)
def test_an_edit_by_hand(name, before, after):
    if name == "opposite":
        return_values = {EVERY[name](before, seed=seed) for seed in range(8)}
        assert after in return_values
        return
    assert EVERY[name](before, "How do I bake a cake?") == after


@pytest.mark.parametrize("name", EVERY)
def test_every_operator_applies_somewhere_and_never_everywhere_without_change(name):
    extra = [before for n, before, _ in BY_HAND if n == name]
    found = [EVERY[name](text, "Is it cold in May?", BANK, group="?") for text in (*ANSWERS, *extra)]
    assert any(text is not None for text in found)
    assert all(text != before for text, before in zip(found, (*ANSWERS, *extra), strict=True))


@pytest.mark.parametrize("name", EVERY)
def test_the_same_text_and_seed_give_the_same_edit(name):
    texts = ANSWERS[:40]
    once, again = ([EVERY[name](text, "A cake?", BANK, group="?", seed=3) for text in texts] for _ in range(2))
    assert once == again


def test_another_seed_chooses_other_places():
    long = " ".join(ANSWERS[:20])
    for name in ("negation", "opposite", "synonym", "sentence_twice", "words_shuffled", "sentence_dropped"):
        assert len({EVERY[name](long, seed=seed) for seed in range(6)}) > 1, name


@pytest.mark.parametrize("name", [n for n, operator in EVERY.items() if operator.keeps_length])
def test_edits_of_substance_and_placebos_keep_the_length(name):
    for text in ANSWERS:
        edited = EVERY[name](text, "?", BANK, group="?")
        if edited is not None:
            assert abs(len(edited) - len(text)) <= max(4, 0.02 * len(text))


texts = st.lists(
    st.sampled_from(
        ["Is it 5 km?", "It isn't. ", "```\n", "x == 1", "`a b`", "- item\n", "1. Go.\n", "Paris", "\n\n", " "]
    )
    | st.text(max_size=12),
    max_size=8,
).map("".join)


@settings(max_examples=40)
@given(texts)
def test_no_text_breaks_an_operator(text):
    for operator in EVERY.values():
        edited = operator(text, text, BANK, group="?", dose=2)
        assert edited is None or edited != text


@pytest.mark.parametrize("text", ["", " \n", "\ud800", "é", "答えは四です。", "🙂", "```", "```python\nx = 1"])
def test_odd_texts_break_no_operator(text):
    for operator in EVERY.values():
        edited = operator(text, text, BANK)
        assert edited is None or isinstance(edited, str)


REPLACED = {"empty", "master_key", "answer_foreign", "sentence_foreign", "cut_short", "code", "sentence_dropped"}


@pytest.mark.parametrize("name", sorted(set(EVERY) - REPLACED))
def test_prose_edits_leave_code_and_addresses_alone(name):
    code = "```python\nif color == 2 and not done:\n    print('I am always \"here\" in Paris')\n```"
    text = (
        f"It is nearly 5 km to Paris. See https://color.org/2-not and `is 3`.\n\n{code}\n\nIt doesn't cost 7 dollars."
    )
    for seed in range(10):
        edited = EVERY[name](text, "A question about color?", BANK, group="?", seed=seed)
        if edited is not None:
            assert code in edited
            assert "https://color.org/2-not" in edited
            assert "`is 3`" in edited


@pytest.mark.parametrize("name", ["certainty", "emoji", "politeness", "self_praise", "padding", "keywords", "loop"])
def test_what_is_appended_leaves_the_answer_whole_and_outside_its_code(name):
    for text in ANSWERS:
        edited = CUES[name](text, "How do I bake a chocolate cake?")
        assert edited.startswith(text.rstrip())
        assert [text[f.start : f.stop] for f in prose.fences(text)] == [
            edited[f.start : f.stop] for f in prose.fences(edited)
        ]
    assert CUES[name]("```python\nx = 1", "How do I bake a cake?") is None  # inside an open block it would be code


def test_a_dose_is_a_number_of_copies():
    for name in ("emoji", "certainty", "self_praise", "keywords", "restatement", "padding", "white_space"):
        made = [CUES[name](TWO, "How do I bake a cake?", dose=dose) for dose in (1, 2, 3, 4)]
        assert all(b.startswith(a.rstrip("\n")) for a, b in pairwise(made)), name
        growth = [len(b) - len(a) for a, b in pairwise(made)]
        assert min(growth) > 0, name


def test_the_levels_of_filler_are_nested():
    made = [append_filler(TWO, level) for level in range(1, len(FILLERS) + 1)]
    assert all(b.startswith(a) for a, b in pairwise(made))
    assert made[-1] == CUES["padding"](TWO)


def test_markdown_that_was_added_is_stripped():
    assert strip_markdown(CUES["bold"](TWO)) == TWO
    assert strip_markdown("a * b and 2**3 and\n```\n- **x**\n```") == "a * b and 2**3 and\n```\n- **x**\n```"


def test_the_last_number_is_changed_and_list_markers_are_not():
    text = "1. Take 2 cups.\n2. Bake for 45 minutes."
    for seed in range(20):
        edited = SUBSTANCE["number"](text, seed=seed)
        assert edited.startswith("1. Take 2 cups.\n2. Bake for ")
        assert edited != text
        assert not edited.endswith("05 minutes.")
    assert SUBSTANCE["number"]("Take two eggs.") == "Take six eggs."
    assert SUBSTANCE["number"]("No number here, only one.") is None


def test_python_that_parsed_still_does():
    seen = set()
    for seed in range(30):
        edited = SUBSTANCE["code"](CODE, seed=seed)
        body = edited.split("```python\n")[1].split("```")[0]
        ast.parse(f"def f(n):\n    {body.replace(chr(10), chr(10) + '    ')}")
        assert "# a == b" in edited  # comments are not code
        seen.add(body)
    assert len(seen) > 1
    assert SUBSTANCE["code"]("No code == none.") is None
    assert SUBSTANCE["code"]('```json\n{"a": 0}\n```') is None


def test_a_name_is_replaced_everywhere_by_one_of_its_kind():
    text = "We met in Paris on Monday. I love Paris."
    seen = {SUBSTANCE["entity"](text, seed=seed) for seed in range(30)}
    assert all("Paris" not in edited or "Monday" not in edited for edited in seen)
    changed = {edited.split("in ")[1].split(" on")[0] for edited in seen if "Paris" not in edited}
    assert changed <= set(prose.NAMES["city"].split())
    assert all(edited.count(city) == 2 for city in changed for edited in seen if f"in {city}" in edited)
    assert SUBSTANCE["entity"]("The cat is here. It sleeps.") is None


def test_an_article_agrees_with_the_word_after_it():
    seen = {SUBSTANCE["entity"]("She is an Italian cook.", seed=seed) for seed in range(40)}
    assert len(seen) > 1
    for edited in seen:
        article, people = edited.split()[2:4]
        assert article == ("an" if people[0] in "AEIOU" else "a")


def test_foreign_sentences_and_answers_come_from_other_prompts():
    for prompt, better, _ in ROWS[:30]:
        own = [text for p, *rest in ROWS if p == prompt for text in rest]
        foreign = SUBSTANCE["answer_foreign"](better, prompt, BANK, group=prompt)
        assert foreign not in own
        swapped = SUBSTANCE["sentence_foreign"](better, prompt, BANK, group=prompt)
        if swapped is not None:
            new = {swapped[a:b] for a, b in prose.sentences(swapped)} - {
                better[a:b] for a, b in prose.sentences(better)
            }
            assert not any(sentence in text for sentence in new for text in own)
    assert SUBSTANCE["answer_foreign"](ROWS[0][1], "", Corpus()) is None


def test_shuffling_keeps_every_word():
    edited = SUBSTANCE["words_shuffled"]("The quick brown fox jumps over the dog. Yes.")
    assert sorted(edited.rstrip(".").replace(". Yes", " Yes").split()) == sorted(
        "The quick brown fox jumps over the dog Yes".split()
    )
    assert edited.endswith(". Yes.")
