"""Exports of annotation tools: whose judgment it is, what it says, and what is no judgment."""

from __future__ import annotations

import json

import pytest
from format_rows import (
    ANN,
    ARGILLA_FLAT,
    ARGILLA_LABEL,
    ARGILLA_RANKING,
    ARGILLA_RATING,
    BOB,
    LABEL_STUDIO_CHOICES,
    LABEL_STUDIO_CSV,
    LABEL_STUDIO_MIN,
    LABEL_STUDIO_PAIRWISE,
    LABEL_STUDIO_RANKER,
    PAIRS,
    POTATO,
    POTATO_FLAT,
    POTATO_PAIRS,
    POTATO_SCALE,
    PRODIGY,
    PRODIGY_COMPARE,
    TEXTS,
    annotation,
    argilla,
    by,
    picked,
    result,
    task,
)
from imports import one, reason, take, turns

from guerdon.config import ImportOptions
from guerdon.contracts import Comparison, GuerdonError
from guerdon.data.files import import_files
from guerdon.data.importers import Rejected, import_rows
from guerdon.data.importers.potato import RowsOfStates


def judgments(rows, **options):
    """(annotator, ranks, rationale) of each judgment."""
    imported = take(*rows, judgments="each", **options)
    assert all(isinstance(row, Comparison) for row in imported), imported
    return [(row.annotator, row.ranks, row.rationale) for row in imported]


def notes(rows, **options):
    lines: list[str] = []
    list(import_rows([(f"a:{i}", row) for i, row in enumerate(rows, 1)], ImportOptions(**options), lines.append))
    return lines


# ---- Argilla -----------------------------------------------------------------------------------------------------------


def test_every_argilla_user_is_an_annotator_with_a_judgment_and_a_reason():
    assert judgments(ARGILLA_RANKING) == [
        (ANN, (0, 1), None),
        (BOB, (0, 1), None),
        (ANN, (1, 0), "A cow is no bird."),
        (ANN, (0, 1), None),
        (BOB, (1, 0), None),
    ]
    first = one(ARGILLA_RANKING[0])
    assert (turns(first), [r.text for r in first.responses], first.id) == (
        ["u:Name a metal."],
        ["Iron.", "Wood."],
        "r1",
    )
    assert (first.q, first.preference.votes) == (1.0, (2, 0, 0))


def test_argilla_labels_name_a_field_or_are_words_and_a_skip_is_no_label():
    assert judgments(ARGILLA_LABEL) == [
        (ANN, (0, 1), None),
        (BOB, (0, 1), None),
        (ANN, (1, 0), None),
        (BOB, (0, 0), "Both are animals."),
        (BOB, (1, 0), None),
    ]
    assert "answers that are no judgments, because they were skipped, discarded or not submitted: 1" in notes(
        ARGILLA_LABEL
    )


def test_argilla_ratings_of_each_field_rank_the_fields_and_are_kept():
    assert judgments(ARGILLA_RATING)[:4] == [
        (ANN, (0, 1), "fine"),
        (BOB, (0, 1), None),
        (ANN, (1, 0), "fine"),
        (BOB, (1, 0), None),
    ]
    assert [r.ratings["rating"] for r in one(ARGILLA_RATING[1]).responses] == [2.0, 3.5], "the mean of the users"


def test_flat_argilla_rows_say_the_same_and_leave_out_what_was_discarded():
    assert judgments(ARGILLA_FLAT) == [
        (ANN, (0, 1), None),
        (BOB, (0, 1), None),
        (BOB, (1, 0), None),
        (ANN, (1, 0), None),
    ]
    as_cells = [{k: repr(v) if isinstance(v, list) else v for k, v in row.items()} for row in ARGILLA_FLAT]
    assert take(*as_cells) == take(*ARGILLA_FLAT)


def test_argillas_ranks_keep_ties():
    ranked = [{"value": "response1", "rank": 1}, {"value": "response2", "rank": 1}]
    assert one(argilla(1, TEXTS[0], {"ranking": [by(ANN, ranked)]})).q == 0.5


def test_the_answers_of_argillas_server_are_read_with_their_status():
    users = [
        {"values": {"ranking": {"value": ["response2", "response1"]}}, "status": "draft", "user_id": ANN},
        {"values": {"ranking": {"value": ["response1", "response2"]}}, "status": "submitted", "user_id": BOB},
    ]
    assert judgments([{**argilla(1, TEXTS[0], {}), "responses": users}]) == [(BOB, (0, 1), None)]


def test_one_of_several_argilla_questions_is_named():
    answers = {"helpful": [by(ANN, "response1")], "safe": [by(ANN, "response2")]}
    rows = [argilla(1, TEXTS[0], answers)]
    assert "one question must be the preference, got helpful, safe. Say which: --column label=NAME." in reason(rows[0])
    assert judgments(rows, columns={"label": "safe"}) == [(ANN, (1, 0), None)]


def test_fields_with_other_names_are_named():
    fields = {"task": "Name a metal.", "ours": "Iron.", "theirs": "Wood."}
    row = argilla(1, fields, {"preference": [by(ANN, "a")]})
    assert "two texts must be the responses, got id, task, ours, theirs" in reason(row)
    columns = {"prompt": "task", "first": "ours", "second": "theirs"}
    assert judgments([row], columns=columns) == [(ANN, (0, 1), None)]
    with pytest.raises(GuerdonError, match=r"--column prompt=tusk: no row has tusk\. Did you mean task\?"):
        take(row, columns={**columns, "prompt": "tusk"})


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (argilla(1, TEXTS[0], {}), "judgments are missing. Judge the item"),
        (argilla(1, TEXTS[0], {"ranking": []}), "judgments are missing"),
        (argilla(1, TEXTS[0], {"label": [by(ANN, "skip")]}), "judgments were skipped, discarded or not submitted"),
        (argilla(1, TEXTS[0], {"ranking": [by(ANN, ["response1", "x"])]}), "the ranking must name texts of the item"),
        (
            argilla(1, {**TEXTS[0], "response2": "Iron."}, {"label": [by(ANN, "a")]}),
            "must differ, got identical responses",
        ),
        (argilla(1, {**TEXTS[0], "response2": ""}, {"label": [by(ANN, "a")]}), "two texts must be the responses"),
        (
            argilla(1, {k: v for k, v in TEXTS[0].items() if k != "instruction"}, {"label": [by(ANN, "a")]}),
            "prompt is missing. Add it, or say which text it is",
        ),
        (argilla(1, TEXTS[0], {"ranking": "x"}), "responses.ranking must be a list of answers, got 'x'"),
    ],
)
def test_a_record_without_a_comparison_is_set_aside_with_the_true_reason(row, words):
    assert words in reason(row)


def test_an_unknown_label_is_an_error_of_the_whole_file():
    rows = [argilla(1, TEXTS[0], {"label": [by(ANN, "response1")]}), argilla(2, TEXTS[1], {"label": [by(ANN, "Lft")]})]
    with pytest.raises(GuerdonError, match=r"a:2: the answer to the question must be a, b, tie, .*got 'Lft'"):
        take(*rows)


# ---- Label Studio ------------------------------------------------------------------------------------------------------


def test_every_label_studio_annotation_is_a_judgment_of_who_completed_it():
    assert judgments(LABEL_STUDIO_PAIRWISE) == [
        ("1", (0, 1), None),
        ("bob@example.com", (0, 1), None),
        ("1", (1, 0), "A cow is no bird."),
        ("2", (0, 1), None),
    ]
    assert "answers that are no judgments, because they were skipped, discarded or not submitted: 1" in notes(
        LABEL_STUDIO_PAIRWISE
    )
    assert turns(one(LABEL_STUDIO_PAIRWISE[1])) == ["u:Name a bird."]


def test_a_ranker_ranks_the_items_and_leaves_the_others_below():
    assert [ranks for _, ranks, _ in judgments(LABEL_STUDIO_RANKER)] == [(0, 2, 1), (1, 2, 0), (1, -1, 0)]
    assert [r.text for r in one(LABEL_STUDIO_RANKER[0]).responses] == ["Iron.", "Wood.", "Steel."]


def test_choices_and_the_minimal_exports_say_the_same():
    assert [ranks for _, ranks, _ in judgments(LABEL_STUDIO_CHOICES)] == [(0, 1), (1, 0), (0, 0)]
    assert judgments(LABEL_STUDIO_MIN) == [("1", (0, 1), None), ("2", (1, 0), None), ("3", (0, 1), None)]
    assert [ranks for _, ranks, _ in judgments(LABEL_STUDIO_CSV)] == [(0, 1), (1, 0), (0, 1)]


def test_annotations_of_one_task_have_their_own_ids():
    rows = [{**LABEL_STUDIO_MIN[0], "annotation_id": number} for number in (40, 41)]
    assert [row.id for row in take(*rows)] == ["0/40", "0/41"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (task(1, PAIRS[0]), "judgments are missing"),
        (task(1, PAIRS[0], annotation(1, was_cancelled=True)), "judgments were skipped, discarded or not submitted"),
        (task(1, PAIRS[0], annotation(1, {**picked("left")}, was_cancelled=True)), "judgments were skipped"),
        (task(1, PAIRS[0], annotation(1)), "judgments were skipped, discarded or not submitted"),
        (task(1, PAIRS[0], annotation(1, {"value": 3})), "annotations[0].result[0] must be an object with from_name"),
        (task(1, {"text": "x"}, annotation(1, picked("left"))), "two texts must be the responses, got id, text"),
        (
            task(1, {**PAIRS[0], "answer_a": "x", "answer_b": "y"}, annotation(1, picked("left"))),
            "two texts must be the responses, got text1 and text2; answer_a and answer_b. Say which",
        ),
        (
            task(1, {"prompt": "x", "items": [{"id": "1", "body": "a"}, {"id": "2", "body": "b"}]},
                 annotation(1, result("ranker", {"ranker": {"good": ["1"], "bad": ["2"]}}, "rank"))),
            "must be one ranked list, got the buckets 'good', 'bad', whose order is not in the export",
        ),
    ],
)  # fmt: skip
def test_a_task_without_a_comparison_is_set_aside_with_the_true_reason(row, words):
    assert words in reason(row)


# ---- Potato and Prodigy ------------------------------------------------------------------------------------------------


def test_potatos_letters_and_scales_are_judgments_of_its_users():
    assert judgments(POTATO) == [
        ("ann", (0, 1), None),
        ("bob", (0, 1), None),
        ("ann", (1, 0), None),
        ("bob", (0, 0), None),
    ]
    assert judgments(POTATO_FLAT)[1] == ("ann", (1, 0), "It is one.")
    assert [ranks for _, ranks, _ in judgments(POTATO_PAIRS)] == [(0, 1), (1, 0), (0, 1)]
    assert [(c.q, c.preference.strength) for c in take(*POTATO_SCALE)] == [(1.0, 2.0), (0.0, 3.0), (0.5, None)]
    assert len({comparison.id for comparison in take(*POTATO)}) == 4


def test_the_file_of_a_potato_user_is_a_row_for_each_of_its_items(tmp_path):
    def chosen(name, value):
        return [{"schema": "preference", "name": name}, value]

    state = {
        "user_id": "ann",
        "instance_id_ordering": ["0", "1", "2"],
        "instance_id_to_label_to_value": {
            "0": [chosen("selection", "B"), chosen("selection", "A"), chosen("justification", "It is one.")],
            "1": [chosen("B", True)],  # a radio button
            "2": {"preference": {"tie": "true"}},  # the form of older versions
            "3": [],
            "4": ["A"],
        },
        "max_assignments": -1,
    }
    (tmp_path / "user_state.json").write_text(json.dumps(state, indent=4))
    keys = ("instance_id", "prompt", "responses")
    items = [{key: row[key] for key in keys} for row in (*POTATO[:1], *POTATO[2:])]
    items += [{**items[0], "instance_id": name} for name in ("3", "4")]
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, items)))
    lines: list[str] = []
    options = ImportOptions(items=str(tmp_path / "items.jsonl"))
    first, second, tie, empty, damaged = import_files([tmp_path / "user_state.json"], options, lines.append)
    assert lines[0] == "format: potato (detected from instance_id and labels of Potato)"
    assert [(c.annotator, c.ranks, c.id) for c in (first, second, tie)] == [
        ("ann", (0, 1), "0/ann"),
        ("ann", (1, 0), "1/ann"),
        ("ann", (0, 0), "2/ann"),
    ]
    assert first.rationale == "It is one."
    assert first.prompt.location == f"{tmp_path / 'user_state.json'}:1: item '0'"
    assert empty.reason == "judgments are missing. Judge the item, or drop the row."
    assert damaged.reason == "an answer must be a pair [{schema, name}, value], got 'A'. Correct or drop the row."


@pytest.mark.parametrize("labels", [[], {}, "x", None, 3])
def test_the_file_of_a_potato_user_without_answers_is_rejected_with_the_reason(labels, tmp_path):
    row = {"user_id": "ann", "instance_id_to_label_to_value": labels}
    (tmp_path / "state.jsonl").write_text(json.dumps(row))
    (rejected,) = RowsOfStates([("a:1", row)])
    assert "instance_id_to_label_to_value must be an object with the answers to an item" in rejected[1].reason
    assert all(isinstance(row, Rejected) for row in import_files([tmp_path / "state.jsonl"], ImportOptions()))


def test_one_of_potatos_dimensions_is_named():
    row = {**POTATO[0], "labels": {"quality": {"fluency": "A", "truth": "B"}}}
    assert "one question must be the preference, got quality.fluency, quality.truth" in reason(row)
    assert judgments([row], columns={"label": "quality.truth"}) == [("ann", (1, 0), None)]


def test_a_potato_row_without_an_answer_or_without_texts_is_set_aside():
    assert "judgments were skipped" in reason({**POTATO[0], "labels": {"preference": {"selection": ""}}})
    row = {key: value for key, value in POTATO[0].items() if key != "responses"}
    assert "two texts must be the responses, got prompt" in reason(row)


def test_of_prodigys_two_outputs_the_answer_names_the_better_one():
    rows = [(f"a:{i}", row) for i, row in enumerate(PRODIGY_COMPARE, start=1)]
    accepted, rejected, ignored = import_rows(rows, ImportOptions())
    assert [(c.q, [r.author for r in c.responses], c.annotator) for c in (accepted, rejected)] == [
        (1.0, ["B", "A"], "prefs-ann"),
        (0.0, ["B", "A"], "prefs-ann"),
    ]
    assert accepted.responses[0].text == rows[0][1]["accept"]["text"]
    assert ignored.reason.startswith("answer must be accept or reject, got 'ignore'")


def test_prodigys_accepted_options_are_above_the_others():
    *judged, ignored = take(*PRODIGY)
    assert [(c.annotator, c.ranks) for c in judged] == [
        ("prefs-ann", (0, 1)),
        ("prefs-ann", (1, 0)),
        ("prefs-ann", (0, 1)),
    ]
    assert "answer must be accept, got 'ignore'. The task was not judged: drop the row." in ignored.reason
    options = [{"id": i, "text": text} for i, text in enumerate(("Iron.", "Wood.", "Steel.", "Wool."))]
    row = {**PRODIGY[0], "options": options, "accept": [0, 2]}
    assert one(row).ranks == (0, -1, 0, -1)
    assert "accept must be a list of ids of the options ('0', '1', '2', '3'), got [7]" in reason({**row, "accept": [7]})


def test_messages_in_a_field_are_read_as_messages():
    chat = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Go"},
    ]
    row = argilla(1, {"chat": chat, "response1": "a b", "response2": "c d"}, {"label": [by(ANN, "response1")]})
    assert turns(one(row)) == ["u:Hi", "a:Yes?", "u:Go"]
    row = task(1, {"conversation": json.dumps(chat), "text1": "a b", "text2": "c d"}, annotation(1, picked("left")))
    assert turns(one(row)) == ["u:Hi", "a:Yes?", "u:Go"]


@pytest.mark.parametrize("mapping", [{"A": ["accept"]}, {"A": {}}, {"A": 1}, ["accept"], "accept"])
def test_a_mapping_of_prodigy_that_names_no_side_names_no_author(mapping):
    imported = one({**PRODIGY_COMPARE[0], "mapping": mapping})
    assert [response.author for response in imported.responses] == [None, None]
