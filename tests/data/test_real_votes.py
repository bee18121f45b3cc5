"""Published votes with known answers: gold labels, the annotators' competence by another model, and published kappas."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from guerdon.formulas.agreement import cohen_kappa
from guerdon.formulas.annotators import VoteTable, dawid_skene, fit_abilities, majority

DATA = Path(__file__).parents[3] / "shared" / "data"
ANSWERS = {"a": 0, "tie": 1, "b": 2}


def rows(name: str) -> Iterator[dict]:
    path = DATA / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def table_of(votes: list[dict]) -> tuple[VoteTable, list[str]]:
    number: dict[str, int] = {}
    flat = [
        (i, number.setdefault(v["annotator"], len(number)), ANSWERS[v["label"]])
        for i, row in enumerate(votes)
        for v in row["votes"]
    ]
    pair, annotator, shown = map(np.array, zip(*flat, strict=True))
    blank = np.zeros(len(pair), dtype=bool)
    return VoteTable(pair, annotator, shown, blank, np.ones(len(pair)), len(votes), len(number)), list(number)


def test_abilities_label_the_ukp_arguments_better_than_other_methods_and_agree_with_the_published_competence():
    """Habernal & Gurevych 2016. The gold label is MACE's on the same votes, which a weighted vote is closer to than a plain one."""
    votes = list(rows("ukp_convarg_votes"))
    table, names = table_of(votes)
    gold = np.array([{"a": 1.0, "b": 0.0}.get(row["gold"], np.nan) for row in votes])
    has_side = ~np.isnan(gold)

    def accuracy(q: np.ndarray) -> float:
        return float(((1 + np.sign(q - 0.5) * np.sign(gold - 0.5)) / 2)[has_side].mean())

    fit = fit_abilities(table)
    assert fit.has_converged
    assert accuracy(majority(table)) == pytest.approx(0.953, abs=0.001)
    assert accuracy(dawid_skene(table) @ [1.0, 0.5, 0.0]) > 0.96
    assert accuracy(fit.q) > 0.973
    competence = {row["worker"]: row["mace_competence"] for row in rows("ukp_convarg_workers")}
    published = np.array([competence[name] for name in names])
    often = np.bincount(table.annotator) >= 10
    assert spearmanr(fit.ability[often], published[often]).statistic > 0.55


def test_the_kappas_of_pandalms_annotators_are_the_published_ones():
    """PandaLM's README (WeOpenML/PandaLM, "Test data"): 0.85, 0.88 and 0.86 on all 999 pairs; these are 549 of them."""
    votes = list(rows("pandalm_votes"))
    answers = np.array([[ANSWERS[vote["label"]] for vote in row["votes"]] for row in votes])
    groups = np.arange(len(votes))
    for (a, b), published in {(0, 1): 0.85, (0, 2): 0.88, (1, 2): 0.86}.items():
        kappa = cohen_kappa(answers[:, a], answers[:, b], groups, draws=200)
        assert kappa.value == pytest.approx(published, abs=0.02)
        assert kappa.low < published < kappa.high
