"""Pick the comparisons to label next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from guerdon.config import ImportOptions, SelectOptions, make
from guerdon.contracts import Comparison, GuerdonError
from guerdon.errors import counted, verb
from guerdon.io.sources import matching_files
from guerdon.progress import ProgressBar, note

if TYPE_CHECKING:
    from jaxtyping import Int

    from guerdon.data.selection.candidates import Pool
    from guerdon.data.selection.draw import ActivePicks, Picks
    from guerdon.data.selection.features import PairReader
    from guerdon.data.selection.sources import Sources
    from guerdon.models.calibrated import CalibratedModel
    from guerdon.models.reward_model import ScalarRewardModel

__all__ = ["Selection", "select"]

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows to label, in the order in which to label them, and how many pairs there were.

    train, test: rows {id, prompt, responses, selection}, of which `score` reads any, and `import` those with a preference.
    counts: rows, pairs of the pool, pairs left out, and picks of each part.
    """

    train: list[dict[str, Any]]
    test: list[dict[str, Any]]
    counts: dict[str, int]

    def remarks(self, options: SelectOptions) -> Iterator[str]:
        """What the reader should know: fewer picks than were to be picked, and why."""
        num_test = round(options.num * options.test_share)
        for name, picks, num in (("", self.train, options.num - num_test), ("test ", self.test, num_test)):
            if len(picks) < num:
                yield (
                    f"select: {counted(len(picks), f'{name}pick')} instead of {num:,}: no other pairs are left with at most "
                    f"{options.per_prompt} per prompt. Give more prompts, or a larger select.per_prompt."
                )


def select(
    sources: str | Path | Sequence[str | Path],
    *,
    model: CalibratedModel | ScalarRewardModel | None = None,
    labeled: Iterable[Comparison] = (),
    imports: ImportOptions | None = None,
    **options: Any,
) -> Selection:
    """Pick pairs of responses from files of unlabeled rows, {prompt, responses}. Keywords are SelectOptions.

    model: the current reward model, which strategy="d_optimal_half" needs. labeled: the comparisons that it was trained on;
    they are not picked again. The files are read up to three times: memory holds a few numbers per pair, not the texts.
    """
    from guerdon.data.selection import draw
    from guerdon.data.selection.candidates import read_pool
    from guerdon.data.selection.rows import pick_rows
    from guerdon.data.selection.sources import Sources

    chosen = make(SelectOptions, options)
    reader = _reader(model, chosen)
    paths = matching_files([sources] if isinstance(sources, str | Path) else list(sources))
    files = Sources(paths, imports or ImportOptions(), note)
    known = _Labeled(labeled, reader)
    with ProgressBar(files.num_rows, "candidates", "rows") as bar:
        pool = read_pool(_counted(files.rows(), bar), known.keys)
    _refuse_empty(pool, files)

    # The test stream first: neither the model nor the strategy may touch it.
    is_reserved = draw.in_test_stream(pool, chosen.test_share)
    reserved, others = np.flatnonzero(is_reserved & ~known.has_group(pool)), np.flatnonzero(~is_reserved)
    num_test = round(chosen.num * chosen.test_share)
    num_train = chosen.num - num_test
    test = draw.draw_test(pool, reserved, num_test, chosen)

    active = None
    if reader is not None:
        num_active = num_train - round(num_train * chosen.random_share)
        active = _active_picks(reader, files, pool, draw.draw_subsample(others, chosen), num_active, known)
    train = draw.draw_train(pool, others, num_train, chosen, active)

    needed = np.union1d(train.position, test.position)
    with ProgressBar(len(needed), "texts", "picks") as bar:
        texts = {candidate.position: candidate for candidate in _counted(files.candidates(pool, needed), bar)}
    fingerprint = None if reader is None else reader.model.fingerprint
    return Selection(
        list(pick_rows(train, texts, "train", chosen, fingerprint)),
        list(pick_rows(test, texts, "test", chosen, fingerprint)),
        _counts(pool, files, train, test),
    )


def _counts(pool: Pool, files: Sources, train: Picks, test: Picks) -> dict[str, int]:
    num_active = int(np.isfinite(train.score).sum())
    return {
        "rows": pool.num_rows,
        "rejected": files.rejects.count,
        "pairs": len(pool),
        "duplicates": pool.num_duplicates,
        "labeled_before": pool.num_labeled,
        "active": num_active,
        "random": len(train.position) - num_active,
        "test": len(test.position),
    }


def refuse_idle_model(options: SelectOptions, model: object | None) -> None:
    """Raise GuerdonError for an active strategy without a model, and for a model that no strategy would use."""
    if options.strategy == "random" and model is not None:
        raise GuerdonError(
            f"select.strategy must be d_optimal_half with a model, got {options.strategy}. "
            "Leave the model out, or pass --strategy d_optimal_half."
        )
    if options.strategy != "random" and model is None:
        raise GuerdonError(
            f"select.strategy must be random without a model, got {options.strategy}. "
            "Pass the current reward model, such as --model DIR."
        )


def _reader(model: CalibratedModel | ScalarRewardModel | None, options: SelectOptions) -> PairReader | None:
    """What reads pairs for the active strategy; None for random picks."""
    refuse_idle_model(options, model)
    if model is None:
        return None
    from guerdon.data.selection.features import PairReader

    return PairReader(model, options)


class _Labeled:
    """What is labeled already: the keys of its pairs and groups, and what it says about the head."""

    def __init__(self, comparisons: Iterable[Comparison], reader: PairReader | None) -> None:
        from guerdon.data.selection.candidates import labeled_row

        self.keys: set[int] = set()
        self.groups: set[int] = set()

        def noted() -> Iterator[Comparison]:
            for comparison in comparisons:
                row = labeled_row(comparison)
                self.keys.update(key for _, _, key, _ in row.pairs())
                self.groups.add(row.group_key)
                yield comparison

        with ProgressBar(None, "labeled", "comparisons") as bar:
            rows = _counted(noted(), bar)
            self.information = 0.0 if reader is None else reader.labeled_information(rows)
            for _ in rows:  # without a model nothing has read them
                pass

    def has_group(self, pool: Pool) -> np.ndarray:
        """True for the pairs [n] of the pool whose group has a label."""
        groups = np.fromiter(self.groups, dtype=np.uint64, count=len(self.groups))
        is_known: np.ndarray = np.isin(pool.group_key, groups)[pool.group]
        return is_known


def _active_picks(
    reader: PairReader, files: Sources, pool: Pool, subsample: Int[np.ndarray, " s"], num: int, known: _Labeled
) -> ActivePicks:
    """At most `num` pairs of the subsample, by what a label of each tells the model."""
    from guerdon.data.selection.draw import ActivePicks

    if not len(subsample) or num == 0:
        return ActivePicks(np.empty(0, dtype=np.int64), np.empty(0))
    with ProgressBar(len(subsample), "features", "pairs") as bar:
        positions, pairs = reader.candidates(_counted(files.candidates(pool, subsample), bar))
    best = reader.pick(pairs, known.information, num, pool.group[positions])
    return ActivePicks(positions[best.picked], best.gain)


def _refuse_empty(pool: Pool, files: Sources) -> None:
    """Report the rows that cannot be used; GuerdonError where there is nothing to pick from."""
    paths, rejects = ", ".join(map(str, files.paths)), files.rejects
    if rejects.count and rejects.count == pool.num_rows:
        raise GuerdonError(f"{rejects.first_reason} None of {rejects.number} can be used.")
    if rejects.count:
        note(f"{paths}: {rejects.number} left out; the first is {rejects.first_reason}")
    if not len(pool):
        raise GuerdonError(
            f"{paths}: at least one pair must not be labeled yet, got {pool.num_labeled:,} that "
            f"{verb(pool.num_labeled, 'are')}. Give more rows."
        )


def _counted(items: Iterable[Item], bar: ProgressBar) -> Iterator[Item]:
    for item in items:
        yield item
        bar.advance()
