"""Rows of public data sets: each is known by its columns, and none is dropped, turned around or changed silently."""

from __future__ import annotations

import csv
import math

import pytest
from imports import preferred, take
from public_rows import PUBLIC_ROWS

from guerdon.config import ImportOptions
from guerdon.contracts import Comparison, GuerdonError, Preference
from guerdon.data.files import import_files
from guerdon.data.importers import IMPORTERS, Rejected, import_rows

TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]


def read(name, rows=None, **options):
    """The results and the lines of a format's rows."""
    lines: list[str] = []
    located = [(f"a:{i}", row) for i, row in enumerate(rows or PUBLIC_ROWS[name], start=1)]
    return list(import_rows(located, ImportOptions(**options), lines.append)), lines


def comparisons(name, rows=None, **options) -> list[Comparison]:
    return [result for result in read(name, rows, **options)[0] if isinstance(result, Comparison)]


def reasons(name, rows=None, **options) -> list[tuple[str, str]]:
    results = read(name, rows, **options)[0]
    return [(result.place, result.reason) for result in results if isinstance(result, Rejected)]


def shown(comparison: Comparison) -> list[str]:
    return [f"{m.role[0]}:{m.content}" for m in comparison.prompt] + [r.text for r in comparison.responses]


# ---- All of them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLIC_ROWS)
def test_the_format_is_known_by_its_columns_and_says_so(name):
    _, lines = read(name)
    columns = ", ".join(IMPORTERS[name].columns)
    assert lines[0] == f"format: {name} (detected from {columns})"
    assert read(name, format=name)[0] == read(name)[0]


MAY_BE_ABSENT = ("model_a", "model_b")  # and the prompt of dialogs that hold it themselves


@pytest.mark.parametrize("name", PUBLIC_ROWS)
@pytest.mark.parametrize("column_is_missing", [True, False])
def test_a_row_without_a_column_or_with_a_wrong_type_in_it_is_set_aside_or_stops_the_file(name, column_is_missing):
    rows = PUBLIC_ROWS[name]
    for column in IMPORTERS[name].columns:
        if column_is_missing and (column in MAY_BE_ABSENT or (column == "prompt" and "chosen" in rows[0])):
            continue
        broken = {key: value for key, value in rows[0].items() if key != column or not column_is_missing}
        broken |= {} if column_is_missing else {column: object()}
        assert "a:1" in _places_of_errors(name, [broken, *rows[1:]]), column


def _places_of_errors(name, rows) -> list[str]:
    try:
        return [place for place, _ in reasons(name, rows, format=name)]
    except GuerdonError as error:
        return [":".join(str(error).split(":")[:2])]


@pytest.mark.parametrize("name", PUBLIC_ROWS)
def test_every_row_comes_out_once(name):
    """As the location of a comparison or of a reject, or as one of the rows that HelpSteer2 joins."""
    results, _ = read(name)
    places = [result.place if isinstance(result, Rejected) else result.prompt.location for result in results]
    expected = [f"a:{i}" for i in range(1, len(PUBLIC_ROWS[name]) + 1)]
    assert places == (["a:1", "a:3", "a:5"] if name == "helpsteer2" else expected)


def test_tables_and_parquet_files_hold_the_same_rows(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [row for row in PUBLIC_ROWS["arena_lists"] if "ud83d" not in row["response_b"]]
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    wanted = comparisons("arena_lists", rows)
    for ending in ("csv", "parquet"):
        results = list(import_files([tmp_path / f"a.{ending}"], ImportOptions()))
        assert [result for result in results if isinstance(result, Comparison)] == wanted

    for name in ("helpsteer3", "ultrafeedback", "shp", "helpsteer2"):
        pq.write_table(pa.Table.from_pylist(PUBLIC_ROWS[name]), tmp_path / f"{name}.parquet")
        results = list(import_files([tmp_path / f"{name}.parquet"], ImportOptions()))
        assert [result for result in results if isinstance(result, Comparison)] == comparisons(name)


@pytest.mark.parametrize("name", PUBLIC_ROWS)
def test_a_source_is_recorded_where_rows_name_none(name):
    given = {"ultrafeedback": "evol_instruct", "ultrafeedback_cleaned": "evol_instruct", "nectar": "sharegpt"}
    assert comparisons(name, source="mine")[0].source == given.get(name, "mine")


# ---- UltraFeedback ---------------------------------------------------------------------------------------------------


def test_ultrafeedback_ranks_by_the_mean_of_the_aspects_and_not_by_overall_score():
    """Means by hand: 4.75, 1.25, 5 (two aspects are N/A) and 4.75; the worst has an overall score of 10."""
    first, _ = comparisons("ultrafeedback")
    assert first.ranks == (1, 2, 0, 1)
    assert [response.author for response in first.responses] == ["alpha", "beta", "gamma", "delta"]
    assert first.responses[2].ratings == {"instruction_following": 5, "truthfulness": 5, "overall_score": 8}
    assert first.rationale == "alpha: Short and right.\n\nbeta: Wrong.\n\ngamma: Fine."
    assert (first.annotator, first.source) == ("gpt-4", "evol_instruct")


def test_ultrafeedback_ranks_by_overall_score_on_demand_with_a_warning():
    results, lines = read("ultrafeedback", ultrafeedback_score="overall")
    assert results[0].ranks == (1, 0, 2, 3)
    assert (
        "completions ranked by overall_score, which is 10 for many bad ones in files from before December 29, 2023: 8"
        in lines
    )


def test_an_empty_completion_is_left_out_and_counted():
    results, lines = read("ultrafeedback")
    assert results[1].reason.startswith(
        "completions must be a list of two or more that are rated and not empty, got '1 of 2'"
    )
    assert "replies left out because they are empty: 1" in lines


def test_binarized_ultrafeedback_holds_the_dialog_twice_and_equal_scores_tie():
    results, lines = read("ultrafeedback_binarized")
    assert preferred(results[0]) == ("Iron.", "Wood.")
    assert [m.content for m in results[0].prompt] == ["Name a metal."]
    assert results[0].preference.strength == 5.5
    assert results[1].preference == Preference(groups=((0, 1),))
    assert "pairs with equal scores, read as ties: 1" in lines


def test_a_rejected_response_with_the_higher_score_is_an_error_of_the_file():
    row = {**PUBLIC_ROWS["ultrafeedback_binarized"][0], "score_chosen": 1}
    with pytest.raises(GuerdonError, match=r"^a:1: score_chosen must be at least score_rejected, 3, got 1\.0\. Swap"):
        read("ultrafeedback_binarized", [row])


def test_cleaned_ultrafeedback_keeps_the_models_and_the_ratings():
    first = comparisons("ultrafeedback_cleaned")[0]
    assert {r.author: r.ratings["score"] for r in first.responses} == {"alpha": 5.0, "beta": 3.75}
    assert first.preference.strength == 1.25


# ---- SHP ---------------------------------------------------------------------------------------------------------------


def test_shp_labels_of_one_mean_a_and_the_log_of_the_score_ratio_is_the_strength():
    kept = comparisons("shp")
    assert [c.q for c in kept] == [1.0, 0.0, 1.0, 1.0]
    assert kept[1].preference.strength == pytest.approx(math.log(10))
    assert [(c.group, c.source) for c in kept[2:]] == [("qt3", "askbaking_train"), ("zz9", "askbaking_train")]
    assert [r.ratings["score"] for r in kept[0].responses] == [340, 166]


def test_shp_pairs_that_its_authors_left_out_are_set_aside_on_demand_with_a_reason():
    assert reasons("shp", shp_score_ratio=2) == [
        ("a:3", "score_ratio must be at least 2, got 1.2. Lower imports.shp_score_ratio to keep the row.")
    ]
    assert reasons("shp", shp_pairs_per_post=1) == [
        (
            f"a:{i}",
            "post_id must have at most 1 pair, got a further one. Raise imports.shp_pairs_per_post to keep the row.",
        )
        for i in (2, 3)
    ]
    assert any("the authors advise imports.shp_score_ratio=2" in line for line in read("shp")[1])


def test_an_option_of_one_format_is_refused_with_another():
    with pytest.raises(GuerdonError, match=r"imports\.shp_score_ratio: format must be shp, got helpsteer3"):
        read("helpsteer3", format="helpsteer3", shp_score_ratio=2)


# ---- HelpSteer ---------------------------------------------------------------------------------------------------------


def test_helpsteer2_neighbors_are_compared_by_the_weighted_sum_of_their_attributes():
    """By hand: .65 * (3 - 2) + .8 * (4 - 1) + .55 * (2 - 1) = 3.6."""
    first, second = comparisons("helpsteer2")
    assert first.ranks == (0, 1)
    assert first.preference.strength == pytest.approx(3.6)
    assert first.responses[0].ratings["complexity"] == 2
    assert second.preference == Preference(groups=((0, 1),))


def test_helpsteer2_weights_may_be_chosen():
    first, _ = comparisons("helpsteer2", attribute_weights={"verbosity": 1.0})
    assert first.preference == Preference(groups=((0, 1),))
    with pytest.raises(ValueError, match="attribute_weights"):
        ImportOptions(attribute_weights={"charm": 1.0})


def test_helpsteer2_turns_are_behind_their_marks():
    second = comparisons("helpsteer2")[1]
    assert shown(second) == ["u:Name a metal.", "a:Iron.", "u:Another?", "Tin.", "Zinc."]


def test_a_helpsteer2_row_that_cannot_be_used_leaves_its_neighbor_alone_and_says_so():
    rows = PUBLIC_ROWS["helpsteer2"]
    broken = [{**rows[0], "helpfulness": 5}, *rows[1:]]
    assert reasons("helpsteer2", broken)[:2] == [
        ("a:1", "helpfulness must be a number from 0 to 4, got 5. Correct or drop the row."),
        (
            "a:2",
            "prompt must be shared by neighboring rows, got one row with it. Keep the rows of a prompt next to each other.",
        ),
    ]


@pytest.mark.parametrize("name", ["helpsteer2_preference", "helpsteer3"])
def test_negative_preferences_mean_the_first_response(name):
    first = comparisons(name)[0]
    assert first.q is not None
    assert first.q > 0.5
    assert first.preference.strength == 2


def test_helpsteer3_judgments_are_a_soft_label_together_and_a_comparison_each():
    first, second, third = comparisons("helpsteer3")
    assert (first.preference.votes, second.preference.votes) == ((3, 0, 0), (1, 1, 1))
    assert third.preference == Preference(groups=((1,), (0,)), strength=3)
    each = comparisons("helpsteer3", judgments="each")
    assert len(each) == 7
    assert [c.rationale for c in each[:3]] == ["I say -1.", "I say -3.", "I say -2."]
    assert [c.preference.strength for c in each[:3]] == [1, 3, 2]
    assert [c.preference.groups for c in each[3:6]] == [((1,), (0,)), ((0, 1),), ((0,), (1,))]
    assert len({c.id for c in each}) == 7
    assert len({c.group for c in each}) == 1


def test_an_annotator_who_could_not_rate_the_pair_does_not_vote():
    results, lines = read("helpsteer2_preference")
    assert results[0].preference.votes == (2, 0, 1)
    assert results[1].preference.votes == (0, 1, 0)
    assert "judgments left out because the annotator could not rate the pair: 1" in lines
    assert results[2].rationale == "@Response 1 is better. Wood is no metal."


def test_a_judgment_off_the_scale_is_named():
    row = {**PUBLIC_ROWS["helpsteer3"][0], "individual_preference": [{"score": 4, "reasoning": "x"}]}
    ((_, reason),) = reasons("helpsteer3", [row])
    assert reason.startswith("individual_preference[0].score must be a number from -3 to 3, or -100 where")


# ---- Ranked lists --------------------------------------------------------------------------------------------------------


def test_nectar_ranks_seven_replies_in_a_drawn_order():
    first = comparisons("nectar")[0]
    assert sorted(first.ranks) == list(range(7))
    assert first.ranks != tuple(range(7)), "the file lists them from the best to the worst"
    assert {r.author: rank for r, rank in zip(first.responses, first.ranks, strict=True)} == {
        f"model-{rank + 1}": rank for rank in range(7)
    }
    assert (shown(first)[0], first.source) == ("u:Name a metal.", "sharegpt")


def test_nectar_replies_that_go_on_with_the_users_turn_are_left_out_and_counted():
    results, lines = read("nectar")
    assert {r.text for r in results[1].responses} == {"Iron.", "Lead.", "Gold.", "Glass.", "Wood."}
    assert results[2].reason.startswith(
        "answers must be a list of two or more that are not empty and hold no role mark"
    )
    assert "replies left out because they hold a role mark such as Human: 2" in lines


def test_nemo_rl_rank_zero_is_best_and_equal_ranks_tie():
    assert [c.ranks for c in comparisons("nemo_rl")] == [(0, 1), (1, 0, 1), (0, 0)]


# ---- Arena ---------------------------------------------------------------------------------------------------------------


def test_arena_votes_keep_models_judges_and_ties():
    results, lines = read("arena")
    assert [r.author for r in results[0].responses] == ["alpha", "beta"]
    assert [result.annotator for result in results[:4]] == ["arena_user_973", "arena_user_7", "author_2", None]
    assert [result.q for result in results[:4]] == [1.0, 0.5, 0.0, 0.5]
    assert "votes that both responses are bad, read as ties: 2" in lines


def test_a_judged_turn_ends_the_conversation_and_a_later_one_needs_a_common_history():
    results, _ = read("arena")
    assert shown(results[2]) == ["u:Hi", "X", "Z"]
    assert results[4].reason == (
        "conversation_a and conversation_b must answer one prompt, got diverging messages: they differ before the last message. "
        "Drop the row."
    )


def test_arena_lists_are_json_texts_with_lone_surrogates_and_nulls():
    results, _ = read("arena_lists")
    assert shown(results[1]) == ["u:Hi", "a:Hello!", "u:More", "A", "B \ud83d"]
    assert results[3].reason == "response_a[0] must be text, got nothing. Correct or drop the row."


def test_marks_that_name_no_winner_or_two_are_an_error_of_the_file():
    for marks in ({"winner_tie": 1}, {"winner_model_a": 0}, {"winner_model_a": "x"}):
        row = {**PUBLIC_ROWS["arena_lists"][0], **marks}
        with pytest.raises(GuerdonError, match=r"^a:2: winner_model_a"):
            read("arena_lists", [PUBLIC_ROWS["arena_lists"][1], row])


def test_an_unknown_winner_is_an_error_of_the_file():
    with pytest.raises(GuerdonError, match=r"^a:2: winner must be a, b, tie, .* got 'model_c'"):
        read("arena", [PUBLIC_ROWS["arena"][0], {**PUBLIC_ROWS["arena"][0], "winner": "model_c"}])


# ---- Summaries -----------------------------------------------------------------------------------------------------------


def test_summaries_keep_workers_and_policies_and_notes_are_no_reasons():
    first = comparisons("summaries")[0]
    assert shown(first) == [
        "u:SUBREDDIT: r/legaladvice\n\nTITLE: Car\n\nPOST: My car broke.\n\nTL;DR:",
        " car broke",
        " my car broke down",
    ]
    assert (first.q, first.annotator, first.rationale) == (0.0, "w1", None)
    assert any("notes on summaries" in line for line in read("summaries")[1])
    assert [r.author for r in first.responses] == ["sup4", "ref"]


def test_a_confidence_that_names_the_side_too_is_a_distance_from_the_middle():
    """In the rows here each choice of the second has 5 or more, each of the first 5 or less; then in none."""
    assert [c.preference.strength for c in comparisons("summaries")] == [3, 3, None, 1]
    rows = [{**row, "extra": {"confidence": 8}} for row in PUBLIC_ROWS["summaries"]]
    assert [c.preference.strength for c in comparisons("summaries", rows)] == [8, 8, 8, 8]


def test_a_choice_that_is_none_is_an_error_of_the_file():
    with pytest.raises(GuerdonError, match=r"^a:1: choice must be 0 or 1, got 2\. Correct the row"):
        read("summaries", [{**PUBLIC_ROWS["summaries"][0], "choice": 2}])


# ---- Others, by their columns --------------------------------------------------------------------------------------------


def test_pku_saferlhf_and_alpacaeval_are_still_read():
    (safe,) = take(
        {"prompt": "Hi", "response_0": "a", "response_1": "b", "better_response_id": 1, "safer_response_id": 0}
    )
    (eval_row,) = take({"instruction": "Hi", "output_1": "a", "output_2": "b", "preference": 1.0, "annotator": "gpt4"})
    assert (safe.q, eval_row.q) == (0.0, 1.0)


# ---- Evaluation only -----------------------------------------------------------------------------------------------------

TEXTS = ["a", "b", "c"]
PUBLIC_PART = {"prompt": "p", "chosen": "a", "rejected": "b", "subset": "of our own"}
BENCHMARK_ROWS = {
    "RewardBench": {"prompt": "p", "chosen": "a", "rejected": "b", "subset": "hep-cpp", "id": 1, "chosen_model": "x"},
    "RewardBench 2": {
        "id": "0",
        "prompt": "p",
        "chosen": ["a"],
        "rejected": TEXTS,
        "num_correct": 1,
        "total_completions": 4,
        "subset": "Math",
    },
    "RM-Bench": {"id": "1", "prompt": "p", "chosen": TEXTS, "rejected": TEXTS},
    "JudgeBench": {
        "pair_id": "1",
        "question": "p",
        "response_A": "a",
        "response_B": "b",
        "label": "A>B",
        "source": "mmlu",
    },
    "RMB": {
        "pair_uid": "1",
        "conversation_input": TALK[:1],
        "chosen": {"answer": "a"},
        "reject": {"answer": "b"},
        "category_path": "Pairwise_set/Helpfulness",
    },
    "RewardMATH": {"problem": "p", "eval_solution": ["a"], "solution_type": "chosen"},
    "Plan-RewardBench": {"query": "p", "chosen": {"messages": TALK}, "reject": {"messages": TALK}},
    "IFBench": {"text_chosen": "a", "text_rejected": "b", "domain": "level-1"},
    "EvalBiasBench": {"bias": "length", "instruction": "p", "response1": "a", "response2": "b", "label": 1},
    "HHH alignment": {"input": "p", "target_scores": {"a": 1, "b": 0}},
}


@pytest.mark.parametrize("name", BENCHMARK_ROWS)
def test_a_benchmark_is_refused_with_the_command_that_reads_it(name):
    for form in ("auto", "trl"):
        with pytest.raises(GuerdonError) as error:
            take(*[BENCHMARK_ROWS[name]] * 3, format=form)
        line = str(error.value)
        assert line.startswith(f"a:1: rows must be comparisons to learn from, got those of {name} (detected from ")
        assert line.endswith("which is for evaluation only. Run guerdon benchmark MODEL --data FILE.")


def test_a_part_of_reward_bench_is_known_by_its_models():
    row = {**PUBLIC_PART, "chosen_model": "m1", "rejected_model": "m2"}
    with pytest.raises(GuerdonError, match="got those of RewardBench "):
        take(*[row] * 3)
    assert take(*[PUBLIC_PART] * 3)


@pytest.mark.parametrize("name", BENCHMARK_ROWS)
def test_a_refused_row_is_what_guerdon_benchmark_takes(name):
    from guerdon.benchmarks.readers import detect

    names = {"HHH alignment": "hhh"}
    row = BENCHMARK_ROWS[name] | ({"solutions": []} if name == "RewardMATH" else {})
    assert detect(row) == names.get(name, name.lower().replace(" ", "").replace("-", ""))


def test_a_few_rows_like_a_benchmarks_do_not_refuse_a_file():
    pair = {"prompt": "p", "chosen": "a", "rejected": "b"}
    assert len(take(pair, pair, BENCHMARK_ROWS["RewardBench"])) == 3


def test_a_benchmark_is_read_for_evaluation():
    (result,) = import_rows([("a:1", BENCHMARK_ROWS["RewardBench"])], ImportOptions(), for_evaluation=True)
    assert isinstance(result, Comparison)


def test_odd_values_in_a_benchmarks_columns_do_not_stop_detection():
    for subset in (["hep-cpp"], {}, 3):
        assert len(take({**BENCHMARK_ROWS["RewardBench"], "subset": subset})) == 1


def test_advice_about_missing_columns_names_no_format_whose_columns_cannot_be_mapped():
    with pytest.raises(
        GuerdonError, match=r"Say which is which, such as --column prompt=|For format (trl|labeled|votes|scores),"
    ):
        take({"prompt": "Name a metal.", "response": "Iron.", "label": 0, "meta": {}})


# ---- PRM800K ---------------------------------------------------------------------------------------------------------


def test_prm800k_compares_the_candidates_of_a_step_behind_the_steps_before_it():
    """The labeler's own step goes before the next; a candidate without a rating is left out; steps are joined by a blank line."""
    first, second = comparisons("prm800k")
    assert shown(first) == [
        "u:What is 2 + 2?",
        *(f"We add.\n\n{t}" for t in ("2 + 2 = 5.", "Let us see.", "2 + 2 = 4.", "Two!")),
    ]
    assert (first.ranks, first.preference.strength, first.annotator) == ((2, 1, 0, 1), 2, "340d89bc")
    assert first.responses[0].ratings == {"rating": -1}
    assert shown(second) == ["u:What is 1 + 1?", "It is 2.\n\nSo 2.", "It is 2.\n\nSo 3."]
    assert reasons("prm800k") == [
        (
            "a:3",
            "label.finish_reason must be anything but bad_problem: the labeler found the problem broken, got 'bad_problem'. Drop the row.",
        ),
        ("a:4", "label.steps must have a step with candidates of different ratings, got none. Drop the row."),
    ]


def test_each_step_of_prm800k_with_different_ratings_is_a_comparison_and_bad_ones_name_their_field():
    row = PUBLIC_ROWS["prm800k"][1]
    step = row["label"]["steps"][1]

    def with_steps(*steps):
        return [row | {"label": {"steps": list(steps), "finish_reason": "solution"}}]

    both = comparisons("prm800k", with_steps(step, step))
    assert [shown(each)[1] for each in both] == ["So 2.", "So 2.\n\nSo 2."]
    assert both[0].group == both[1].group
    bad = {
        "label.steps[0].chosen_completion must be the index of one of 2 candidates": step | {"chosen_completion": 7},
        "label.steps[0].completions[0].rating must be -1, 0 or 1": step | {"completions": [{"text": "a", "rating": 2}]},
        "label.steps[0].completions[0] must be an object": step | {"completions": ["a"]},
        "label.steps[0].completions must be a list of candidates": step | {"completions": 3},
        "label.steps[0] must be an object": "a",
    }
    for reason, each in bad.items():
        assert reasons("prm800k", with_steps(each))[0][1].startswith(reason)


def test_benchmarks_of_steps_are_not_learned_from():
    rows = [
        {"id": "gsm8k-0", "problem": "p", "steps": ["a"], "final_answer_correct": True, "label": -1},
        {
            "modified_question": "p",
            "modified_process": ["a"],
            "error_steps": [1],
            "classification": "circular",
            "idx": "1",
        },
    ]
    for row, name in zip(rows, ("ProcessBench", "PRMBench"), strict=True):
        with pytest.raises(GuerdonError, match=f"got those of {name} .* for evaluation only"):
            read("", [row])
