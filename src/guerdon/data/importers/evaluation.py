"""Public benchmarks of reward models, which are for evaluation only: who trains on one has no number to show for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guerdon.contracts import GuerdonError
from guerdon.data.importers.columns import Row

__all__ = ["BENCHMARKS", "refuse_benchmarks"]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The columns by which a benchmark is known, and what else tells its rows."""

    columns: tuple[str, ...]
    matches: Callable[[Row], bool] = lambda row: True


def _are_texts(row: Row, size: int | None = None) -> bool:
    sides = [row["chosen"], row["rejected"]]
    return all(
        isinstance(side, list | tuple) and all(isinstance(text, str) for text in side) and size in (None, len(side))
        for side in sides
    )


def _is_reward_bench(row: Row) -> bool:
    from guerdon.formulas.benchmarks import WEIGHTS  # loads numpy, which most files do not need to be read

    return str(row["subset"]) in WEIGHTS or {"chosen_model", "rejected_model"} <= set(row)


BENCHMARKS: Mapping[str, Benchmark] = {
    "RewardBench": Benchmark(("prompt", "chosen", "rejected", "subset"), _is_reward_bench),
    "RewardBench 2": Benchmark(("prompt", "chosen", "rejected", "num_correct", "total_completions"), _are_texts),
    "RM-Bench": Benchmark(("prompt", "chosen", "rejected"), lambda row: _are_texts(row, 3)),
    "JudgeBench": Benchmark(("question", "response_A", "response_B", "label")),
    "RMB": Benchmark(("conversation_input", "category_path")),
    "RewardMATH": Benchmark(("problem", "eval_solution")),
    "Plan-RewardBench": Benchmark(("query", "chosen", "reject")),
    "IFBench": Benchmark(
        ("text_chosen", "text_rejected", "domain"), lambda row: str(row["domain"]).startswith("level-")
    ),
    "EvalBiasBench": Benchmark(("bias", "instruction", "response1", "response2", "label")),
    "ProcessBench": Benchmark(("problem", "steps", "final_answer_correct", "label")),
    "PRMBench": Benchmark(("modified_question", "modified_process", "error_steps")),
    "HHH alignment": Benchmark(("input", "target_scores")),
}


def refuse_benchmarks(head: Sequence[tuple[str, Any]]) -> None:
    """GuerdonError where most of a file's first (location, row) pairs are a benchmark's."""
    rows = [(place, row) for place, row in head if isinstance(row, Mapping)]
    counts = Counter(name for _, row in rows for name in [_benchmark_of(row)] if name is not None)
    for name, count in counts.most_common(1):
        if 2 * count > len(rows):
            columns = ", ".join(BENCHMARKS[name].columns)
            raise GuerdonError(
                f"{rows[0][0]}: rows must be comparisons to learn from, got those of {name} (detected from {columns}), which is "
                "for evaluation only. Run guerdon benchmark MODEL --data FILE."
            )


def _benchmark_of(row: Row) -> str | None:
    present = {key for key, value in row.items() if value is not None}
    fitting = (name for name, known in BENCHMARKS.items() if present.issuperset(known.columns) and known.matches(row))
    return next(fitting, None)
