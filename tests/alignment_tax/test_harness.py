"""lm-evaluation-harness on our policies: scores per document, generation, its results file."""

from __future__ import annotations

import importlib.util

import pytest
from taught_policies import HELD, READ

from guerdon.alignment_tax.harness import by_document, generate, harness_tasks
from guerdon.alignment_tax.measure import measure
from guerdon.alignment_tax.minimal_pairs import minimal_pairs
from guerdon.config import TaxOptions
from guerdon.contracts import GuerdonError
from guerdon.io import writers


def logged(values, metric="acc", name="none"):
    return [
        {"doc_id": i, "filter": name, "metrics": [metric], metric: v, "arguments": [("c", " t")], "filtered_resps": [i]}
        for i, v in reversed([*enumerate(values)])
    ]


TASK = """
task: planted
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: ""
doc_to_choice: "{{{{choices}}}}"
doc_to_target: 0
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


def test_logged_scores_are_ordered_by_document():
    task = by_document("t", logged([1.0, 0.0, 1.0, 1.0]), {"acc,none": 0.75}, {"acc": True})
    assert task.is_share
    assert task.score.tolist() == [1.0, 0.0, 1.0, 1.0]
    lower = by_document("t", logged([0.5, 2.0], "ter"), {"ter,none": 1.25}, {"ter": False})
    assert (lower.is_share, lower.score.tolist()) == (False, [-0.5, -2.0])
    with pytest.raises(GuerdonError, match=r"tax\.lm_eval: t must have a score per document"):
        by_document("t", logged([-3.0, -4.0], "perplexity"), {"perplexity,none": 33.1}, {"perplexity": False})


def test_generation_ends_at_the_limit_or_at_a_stop_text(taught):
    context = "Tomorrow Maria will"
    greedy, again, short, cut = generate(
        taught,
        [
            (context, {"until": [], "max_gen_toks": 8}),
            (context, {"until": "nothing", "max_gen_toks": 8, "do_sample": False}),
            (context, {"max_gen_toks": 2}),
            (context, {"until": ["the", "."], "max_gen_toks": 8}),
        ],
    )
    assert greedy == again
    assert greedy.startswith(short)
    assert len(short.split()) <= 2
    assert "the" in greedy
    assert cut == greedy.split("the")[0]
    with pytest.raises(GuerdonError, match="must fit the policy's context, got one that asks for 300 tokens"):
        generate(taught, [(context, {"max_gen_toks": 300})])


def test_the_harness_gives_a_score_per_document_or_tells_how_to_install_it(taught, tmp_path):
    """With the real package if it is installed; its absence is an error of one line."""
    options = TaxOptions(tasks=["text"], form="plain", lm_eval=["planted"], lm_eval_include=str(tmp_path))
    if importlib.util.find_spec("lm_eval") is None:
        with pytest.raises(GuerdonError, match=r"not installed\. Run pip install 'guerdon\[lm-eval\]'"):
            measure(taught, options, HELD)
        return
    items = minimal_pairs()
    writers.write_jsonl(tmp_path / "rows.jsonl", [{"choices": [item.right, item.wrong[0]]} for item in items])
    (tmp_path / "planted.yaml").write_text(TASK.format(rows=tmp_path / "rows.jsonl"), "utf-8")
    task = harness_tasks(taught, options)["planted"]
    own = measure(taught, READ, HELD).tasks["minimal_pairs"]
    assert task.is_share
    assert (task.score == own.score).mean() > 0.9  # the harness puts a space before a choice
    with pytest.raises(GuerdonError, match=r"tax\.lm_eval must name tasks of lm-eval, got nothing"):
        harness_tasks(taught, options.model_copy(update={"lm_eval": ["nothing"]}))
