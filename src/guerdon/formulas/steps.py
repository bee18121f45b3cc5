"""How benchmarks of step-by-step solutions turn verdicts on steps into points, by their authors' own rules.

Axes: k steps of a solution, in their order. A verdict is True where a step counts as right.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

__all__ = ["StepCounts", "count_steps", "f1", "first_wrong", "harmonic_mean", "prm_score"]


def first_wrong(is_right: Bool[np.ndarray, " k"]) -> int:
    """Verdicts in, the index of the first step that counts as wrong out; -1 where none does.

    ProcessBench (Zheng et al. 2024, arXiv 2412.06559; code/run_eval_prm_trl.py, find_first_zero).
    """
    wrong = np.flatnonzero(~is_right)
    return int(wrong[0]) if len(wrong) else -1


def harmonic_mean(a: float, b: float) -> float:
    """ProcessBench's F1, of the accuracies on solutions with an error and without; 0.0 if both are 0, where its code gives NaN."""
    return 0.0 if a == b == 0 else 2 * a * b / (a + b)


class StepCounts(NamedTuple):
    """Steps by verdict and label: right called right, wrong called right, wrong called wrong, right called wrong."""

    tp: float
    fp: float
    tn: float
    fn: float


def count_steps(is_right: Bool[np.ndarray, " k"], label: Bool[np.ndarray, " k"]) -> StepCounts:
    """Verdicts and labels of one solution's steps in, counts out (PRMBench: eval_on_hallucination_step)."""
    cells = ((is_right & label), (is_right & ~label), (~is_right & ~label), (~is_right & label))
    return StepCounts(*(float(cell.sum()) for cell in cells))


def f1(tp: float, fp: float, fn: float) -> float:
    """Counts, or means of counts, in; the harmonic mean of precision and recall out; NaN where all are 0."""
    total = 2 * tp + fp + fn
    return 2 * tp / total if total else math.nan


def prm_score(counts: StepCounts) -> float:
    """PRMScore: the mean of the F1 of right steps and that of wrong ones.

    Song et al. 2025 (arXiv 2501.03124; mr_eval/tasks/prmtest_classified/task.py, form_excel_strs.ipynb). The authors' code has
    an F1 of -1 where a precision or recall is 0/0 or both are 0; here it is 0.0, and NaN where there is nothing to count.
    """
    return 0.5 * f1(counts.tp, counts.fp, counts.fn) + 0.5 * f1(counts.tn, counts.fn, counts.fp)
