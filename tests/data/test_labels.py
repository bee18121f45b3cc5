from __future__ import annotations

import json
import math
from decimal import Decimal

import pytest
from errors import gives_advice
from hypothesis import given
from hypothesis import strategies as st
from imports import one, take

from guerdon.config import ImportOptions
from guerdon.contracts import Comparison, GuerdonError
from guerdon.data.files import import_files
from guerdon.data.importers import Rejected, import_rows

RESPONSES = ("An iron.", "A wood.")


def labeled(*labels):
    """One row for each label."""
    return [
        {"prompt": f"Name {i}.", "first": RESPONSES[0], "second": RESPONSES[1], "label": label}
        for i, label in enumerate(labels)
    ]


def qs(*labels, **options):
    """P(first is better) of a file with these labels."""
    imported = take(*labeled(*labels), **options)
    assert all(isinstance(row, Comparison) for row in imported), imported
    return [row.q for row in imported]


def error(*labels, **options) -> str:
    with pytest.raises(GuerdonError) as caught:
        take(*labeled(*labels), **options)
    message = str(caught.value)
    assert message.startswith("a:")
    assert "\n" not in message
    assert gives_advice(message)
    return message


# ---- Numbers mean what all of the file's say -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ((1.0, 2.0, 1.5), [1.0, 0.0, 0.5]),
        (("1.0", "2.0", "1"), [1.0, 0.0, 1.0]),
        ((1, 2, Decimal("2")), [1.0, 0.0, 0.0]),
        ((2,), [0.0]),
        ((1.25, 2), [0.75, 0.0]),
        ((0.7, 0, 1), [0.7, 0.0, 1.0]),
        (("0.7", "0.5"), [0.7, 0.5]),
        ((1, 2, "tie", "a"), [1.0, 0.0, 0.5, 1.0]),
    ],
)
def test_numbers_are_read_by_the_scale_that_all_of_a_file_fit(labels, expected):
    assert qs(*labels) == expected


@pytest.mark.parametrize("labels", [(0, 1), (1,), (0,), ("0", "1", "tie"), (0, 0.5, 1), (True, False), (1.0, 0.0)])
def test_zero_and_one_could_mean_either_side_and_are_asked_about(labels):
    message = error(*labels)
    assert message.startswith("a:1: label must say which response is better, got only the numbers ")
    assert "Say --label-means first (1 means that the first is better), index (0 does) or probability" in message


@pytest.mark.parametrize(
    ("means", "labels", "expected"),
    [
        ("first", (0, 1), [0.0, 1.0]),
        ("index", (0, 1), [1.0, 0.0]),
        ("probability", (0, 1, 0.5), [0.0, 1.0, 0.5]),
        ("index", ("0", "0.5", "tie"), [1.0, 0.5, 0.5]),
        ("first", (1, 2), [1.0, 0.0]),
        ("index", (1, 2), [1.0, 0.0]),
        ("first", (-2, 3, 0), [0.0, 1.0, 0.5]),
        ("index", (-2, 3, 0), [1.0, 0.0, 0.5]),
    ],
)
def test_the_user_says_what_numbers_mean(means, labels, expected):
    assert qs(*labels, label_means=means) == expected


def test_a_signed_scale_gives_side_and_strength():
    imported = take(*labeled(-3, 1, 0), label_means="index")
    assert [(row.q, row.preference.strength) for row in imported] == [(1.0, 3.0), (0.0, 1.0), (0.5, None)]
    assert "first (a positive number means that the first is better) or index (a negative one does)" in error(-3, 1)


@pytest.mark.parametrize(
    ("labels", "options", "words"),
    [
        ((1, 2, 3), {}, "a:3: label must be a, b, tie, first, second, model_a, model_b, 1, 2, or a probability, got 3, 2, 1."),
        ((0, 1, 2), {}, "got 2, 1, 0."),
        (("a", "good"), {}, "a:2: label must be a, b, tie"),
        (("a", "good"), {}, "got 'good'. Correct these labels: if only their rows were left out, the others could favor"),
        (("a", math.inf), {}, "got inf"),
        (("a", 10**400), {}, "a:2: label must be"),
        (("a", ["b"]), {}, "got ['b']"),
        ((0, 1, 0.7), {"label_means": "index"}, "on one scale (0 means that the first is better, 1 the second), got 0.7"),
        ((-1, 1), {"label_means": "probability"}, "on one scale (P(the first is better)), got -1"),
        (range(-500, 500), {}, "label must say which response is better"),
        ([i / 1000 for i in range(1000)] + [7], {}, "label must be a, b, tie"),
    ],
)  # fmt: skip
def test_a_label_that_fits_no_scale_is_an_error_of_the_whole_file(labels, options, words):
    assert words in error(*labels, **options)


def test_an_absent_label_rejects_its_row_only():
    imported = take(*labeled(1.0, 2.0, "", None, math.nan, "NaN"))
    assert [row.q for row in imported[:2]] == [1.0, 0.0]
    assert all("label is missing. Add it" in row.reason for row in imported[2:])


@pytest.mark.parametrize(
    ("label", "q"),
    [
        ("model_a", 1.0), ("model_b", 0.0), ("tie (bothbad)", 0.5), ("Model A", 1.0), ("both_bad", 0.5), ("[[B]]", 0.0), ("A>>B", 1.0),
        ("A<B", 0.0), ("A=B", 0.5), ("assistant_b", 0.0), ("left", 1.0), (" Tie ", 0.5), ("response_2", 0.0),
    ],
)  # fmt: skip
def test_words_mean_the_same_in_every_file(label, q):
    assert qs(label) == [q]


# ---- Data sets whose columns tell what their labels mean -----------------------------------------------------------

KNOWN = {
    "pku": ("response_0", "response_1", "better_response_id", {0: 1.0, 1: 0.0}),
    "helpsteer": ("response1", "response2", "overall_preference", {-2: 1.0, 1: 0.0, 0: 0.5, 3: 0.0}),
    "alpaca_eval": ("output_1", "output_2", "preference", {1.0: 1.0, 2.0: 0.0, 1.5: 0.5, 1.25: 0.75}),
    "shp": ("human_ref_A", "human_ref_B", "labels", {1: 1.0, 0: 0.0}),
    "arena": ("response_a", "response_b", "winner", {"model_a": 1.0, "model_b": 0.0, "tie": 0.5, "tie (bothbad)": 0.5}),
}
PROMPTS = {"alpaca_eval": "instruction", "shp": "history"}


@pytest.mark.parametrize("name", KNOWN)
def test_the_columns_of_a_known_data_set_tell_what_its_labels_mean(name):
    first, second, label, expected = KNOWN[name]
    rows = [{PROMPTS.get(name, "prompt"): "Name it.", first: "x y", second: "z", label: value} for value in expected]
    imported = take(*rows)
    assert [row.q for row in imported] == list(expected.values())
    assert {row.prompt[-1].content for row in imported} == {"Name it."}
    mapped = {"prompt": PROMPTS.get(name, "prompt"), "first": first, "second": second, "label": label}
    assert take(*rows, columns=mapped) == imported


def test_an_option_that_contradicts_a_known_data_set_is_refused():
    row = {"prompt": "p", "response_0": "x", "response_1": "y", "better_response_id": 0}
    with pytest.raises(
        GuerdonError, match="--label-means must agree with the column better_response_id, where 0 means"
    ):
        take(row, label_means="first")
    assert one(row, label_means="index").q == 1.0


def test_columns_that_the_user_turned_around_are_no_longer_a_known_data_set():
    row = {"prompt": "p", "response_0": "x", "response_1": "y", "better_response_id": 0}
    with pytest.raises(GuerdonError, match="which can mean either"):
        take(row, columns={"first": "response_1", "second": "response_0"})


def test_conversations_of_an_arena_share_their_prompt():
    def talk(answer):
        return [{"role": "user", "content": "Name a metal."}, {"role": "assistant", "content": answer}]

    imported = one({"conversation_a": talk("Iron."), "conversation_b": talk("Wood."), "winner": "model_b"})
    assert ([r.text for r in imported.responses], imported.q) == (["Iron.", "Wood."], 0.0)
    assert [m.content for m in imported.prompt] == ["Name a metal."]


def test_the_votes_of_a_file_are_read_by_one_scale():
    def rows(*labels):
        return [{"prompt": "p", "response_a": "x", "response_b": "y", "votes": [{"label": v}, "tie"]} for v in labels]

    assert [row.preference.votes for row in take(*rows(1, 2))] == [(1, 1, 0), (0, 1, 1)]
    for labels, words in (((0, 1), "which can mean either"), (("a", "c"), "got 'c'"), ((0.7, 0.2), "got 0.7, 0.2")):
        with pytest.raises(GuerdonError, match=f"^a:[12]: the label of votes must .*{words}"):
            take(*rows(*labels))
    assert take(*rows(0, 1), label_means="index")[0].preference.votes == (1, 1, 0)


# ---- Files ---------------------------------------------------------------------------------------------------------


VOTE = {"prompt": "p", "response_a": "x", "response_b": "y"}


@pytest.mark.parametrize(
    ("labels", "options", "words"),
    [
        ((0.7,), {}, "1 or 2, since each is one vote, got 0.7. Correct"),
        ((1, 1.3), {}, "1 or 2, since each is one vote, got 1.3. Correct"),
        (("maybe",), {}, "1 or 2, since each is one vote, got 'maybe'. Correct"),
        (
            (0, 1),
            {},
            r"can mean either. Say --label-means first \(1 means that the first is better\) or index \(0 does\).",
        ),
    ],
)
def test_a_vote_is_for_one_side_and_its_error_offers_no_probability(labels, options, words):
    rows = [{**VOTE, "votes": [{"label": label}, "tie"]} for label in labels]
    with pytest.raises(GuerdonError, match=f"^a:[12]: the label of votes must .*{words}"):
        take(*rows, **options)


def test_votes_are_not_read_as_probabilities_even_if_the_user_says_so():
    words = "^a:1: --label-means must be first or index for the label of votes, since each is one vote, got probability"
    with pytest.raises(GuerdonError, match=words):
        take({**VOTE, "votes": [1, 0]}, label_means="probability")


def test_what_an_annotator_says_again_is_no_other_vote():
    ann = [{"annotator": "ann", "label": label, "rationale": f"It is {label}."} for label in ("a", "b", "a")]
    ben = [{"annotator": "ben", "label": label} for label in ("b", "a")]
    (row,) = take({**VOTE, "votes": [*ann, *ben, {"label": "b"}, {"label": "b"}]})
    assert (row.q, row.preference.votes) == (0.375, (1, 1, 2)), "ann, ben's tie, and two without a name"
    (alone,) = take({**VOTE, "votes": ann})
    assert (alone.annotator, alone.q, alone.preference.votes, alone.rationale) == ("ann", 1.0, (1, 0, 0), None)
    (same,) = take({**VOTE, "votes": [ann[0], ann[0]]})
    assert (same.annotator, same.rationale) == ("ann", "It is a.")
    each = take({**VOTE, "votes": [*ann, *ben]}, judgments="each")
    assert [row.q for row in each] == [1, 0, 1, 0, 1]


def test_each_file_has_its_own_labels_and_is_read_again_for_them(tmp_path):
    for name, labels in (("a", (1, 2)), ("b", (0.2, 1))):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, labeled(*labels))))
    lines: list[str] = []
    rows = import_files([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], ImportOptions(), lines.append)
    assert [row.q for row in rows if isinstance(row, Comparison)] == [1.0, 0.0, 0.2, 1.0]
    assert lines[1].endswith("a.jsonl: labels: 1 means that the first is better, 2 the second, 1.5 a tie")
    assert lines[3].endswith("b.jsonl: labels: P(the first is better)")


def test_a_wrong_label_in_the_last_row_stops_a_file_before_its_first_row():
    rows = ((f"a:{i}", row) for i, row in enumerate(labeled(*["a"] * 100, "good"), start=1))
    with pytest.raises(GuerdonError, match=r"^a:101: label must be"):
        next(import_rows(rows, ImportOptions()))


def test_a_row_that_cannot_be_read_does_not_decide_about_labels():
    imported = take(3, {**labeled("a")[0], "first": ""}, *labeled(1, 2))
    assert [isinstance(row, Rejected) for row in imported] == [True, True, False, False]


# ---- Turning every label around ------------------------------------------------------------------------------------


def _swap(row, a, b):
    return {**row, a: row[b], b: row[a]}


def _turn_word(label):
    return {"a": "b", "b": "a"}.get(label, label)


TURNED = {  # format: (labels to draw from, a label to its row, the row with the label turned around, options)
    "words": (["a", "b", "tie"], lambda v: labeled(v)[0], lambda v: labeled(_turn_word(v))[0], {}),
    "one or two": ([1.0, 2.0, 1.5, 1.25], lambda v: labeled(v)[0], lambda v: labeled(3 - v)[0], {"label_means": "first"}),
    "probability": ([0, 1, 0.25, 0.5], lambda v: labeled(v)[0], lambda v: labeled(1 - v)[0], {"label_means": "probability"}),
    "index": ([0, 1, 0.5], lambda v: labeled(v)[0], lambda v: labeled(1 - v)[0], {"label_means": "index"}),
    "signed": (
        [-3, -1, 0, 2],
        lambda v: {"prompt": "p", "response1": "x", "response2": "y", "overall_preference": v},
        lambda v: {"prompt": "p", "response1": "x", "response2": "y", "overall_preference": -v},
        {},
    ),
    "votes": (
        ["a", "b", "tie"],
        lambda v: {"prompt": "p", "response_a": "x", "response_b": "y", "votes": [v, v, "tie"]},
        lambda v: {"prompt": "p", "response_a": "x", "response_b": "y", "votes": [_turn_word(v)] * 2 + ["tie"]},
        {},
    ),
    "scores": (
        [-1.0, 0.0, 2.0],
        lambda v: {"prompt": "p", "responses": ["x", "y"], "scores": [v, 0]},
        lambda v: {"prompt": "p", "responses": ["x", "y"], "scores": [-v, 0]},
        {},
    ),
    "trl": (
        ["good", "bad", " ", "", "p"],
        lambda v: {"prompt": "p", "chosen": v, "rejected": "other"},
        lambda v: {"prompt": "p", "chosen": "other", "rejected": v},
        {"format": "trl"},
    ),
    "hh": (
        ["good", "bad", " ", "x\n\nHuman: y"],
        lambda v: {"chosen": f"\n\nHuman: q\n\nAssistant: {v}", "rejected": "\n\nHuman: q\n\nAssistant: no"},
        lambda v: {"rejected": f"\n\nHuman: q\n\nAssistant: {v}", "chosen": "\n\nHuman: q\n\nAssistant: no"},
        {"format": "hh"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TURNED)
@given(data=st.data())
def test_turning_every_label_turns_every_preference_and_keeps_every_row(name, data):
    values, row, turned, options = TURNED[name]
    labels = data.draw(st.lists(st.sampled_from(values), min_size=1, max_size=8))
    before, after = take(*map(row, labels), **options), take(*map(turned, labels), **options)
    assert [isinstance(r, Comparison) for r in before] == [isinstance(r, Comparison) for r in after]
    for one_way, other_way in zip(before, after, strict=True):
        if isinstance(one_way, Comparison) and isinstance(other_way, Comparison):
            assert one_way.responses == other_way.responses or name == "scores"
            assert one_way.q == pytest.approx(1 - other_way.q)


@given(
    labels=st.lists(
        st.sampled_from(["a", "b", "tie", 0, 1, 2, -1, 0.7, 1.5, "x", "", None, True]), min_size=1, max_size=6
    )
)
def test_any_labels_give_rows_or_one_error_and_never_a_rejection_for_one_side(labels):
    try:
        imported = take(*labeled(*labels))
    except GuerdonError:
        return
    for label, row in zip(labels, imported, strict=True):
        assert isinstance(row, Rejected) == (label in ("", None))
