"""Whether the names of the models that wrote two responses predict which one is preferred, whatever they wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final

from guerdon.contracts import Curve, Estimate, Finding, Quantity
from guerdon.data.checks.contract import SECTION, Check, Data, Row
from guerdon.data.checks.shortcuts import hash_name
from guerdon.errors import show_value
from guerdon.formulas.estimation import wilson
from guerdon.models.estimates import percent, points_by_name

__all__ = ["ModelNames", "NamePrediction", "name_strengths"]

FOLDS: Final = 5
MAX_PAIRS: Final = 20_000  # pairs of names that are counted, so that names which are ids cannot fill the memory
MAX_DRAWN: Final = 30  # models in the figure
FEWEST_COMPARISONS: Final = 50  # fewer predict nothing that can be told from chance

_Pair = tuple[str, str]  # of names, in alphabetical order


@dataclass(frozen=True, slots=True)
class NamePrediction:
    """What names alone predict.

    accuracy: of preferring the response of the model that wins more often on other prompts. wins: each model's share of
    wins against the others, best first.
    """

    accuracy: Estimate
    wins: Mapping[str, Estimate]


class ModelNames(Check):
    """Whether the author of a response decides. It counts how often each model is preferred to each other one, by fold."""

    quantities: ClassVar[Mapping[str, Quantity]] = {
        "model_names_accuracy": Quantity(
            "model names predict the better one", "share", SECTION, "on other prompts, where two models differ"
        ),
    }

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self._counts: list[dict[_Pair, list[int]]] = [{} for _ in range(FOLDS)]
        self._groups: set[int] = set()

    def add(self, row: Row) -> None:
        """Count each pair of responses of two different models that is not a tie."""
        authors = [response.author for response in row.comparison.responses]
        if len({author for author in authors if author}) < 2:
            return
        group = hash_name(row.comparison.group)
        for i, j in row.pairs:
            better, worse = authors[i], authors[j]
            if better and worse and better != worse:
                self._count(group, better, worse)

    def _count(self, group: int, better: str, worse: str) -> None:
        counts, pair = self._counts[group % FOLDS], (min(better, worse), max(better, worse))
        if pair in counts or len(counts) < MAX_PAIRS // FOLDS:
            counts.setdefault(pair, [0, 0])[better != pair[0]] += 1
            self._groups.add(group)

    def estimates(self) -> Mapping[str, Estimate]:
        """The accuracy, cross-validated."""
        return {"model_names_accuracy": self.prediction.accuracy} if self.prediction else {}

    def findings(self) -> Iterator[Finding]:
        """A warning where names predict most preferences."""
        warn = self.options.model_names_warn
        if self.prediction is None or self.prediction.accuracy.value <= warn:
            return
        (best, most), *_, (worst, least) = self.prediction.wins.items()
        evidence = (
            f"the names of the models predict {percent(self.prediction.accuracy)} of preferences on other prompts, "
            f"{100 * warn:g} % warns; {show_value(best)} wins {percent(most)}, {show_value(worst)} {percent(least)}"
        )
        remedy = "A model may learn the style of one author: compare responses of the same model too."
        yield Finding("warning", "The author decides", evidence, remedy)

    def curves(self) -> Mapping[str, Curve]:
        """Each model's share of wins."""
        if self.prediction is None:
            return {}
        names = list(self.prediction.wins)[:MAX_DRAWN]
        curve = points_by_name(
            names,
            [self.prediction.wins[name] for name in names],
            "model",
            "share of wins",
            title="Wins by model",
            caption=f"Against the other models of these data. Names alone predict {percent(self.prediction.accuracy)} of preferences.",
        )
        return {"wins_by_model": curve}

    @cached_property
    def prediction(self) -> NamePrediction | None:
        """How well names predict preferences on prompts that were left out; None for too few comparisons of two models."""
        total = sum(sum(wins) for fold in self._counts for wins in fold.values())
        if total < FEWEST_COMPARISONS or sum(map(bool, self._counts)) < 2:
            return None
        correct = 0.0
        for i, held_out in enumerate(self._counts):
            strength = name_strengths([fold for j, fold in enumerate(self._counts) if j != i])
            for (first, second), (first_wins, second_wins) in held_out.items():
                margin = strength.get(first, 0.0) - strength.get(second, 0.0)
                correct += first_wins if margin > 0 else second_wins if margin < 0 else (first_wins + second_wins) / 2
        units = min(total, len(self._groups))
        return NamePrediction(Estimate(*wilson(correct / total * units, units)), self._win_shares())

    def _win_shares(self) -> dict[str, Estimate]:
        wins: dict[str, list[int]] = {}
        for fold in self._counts:
            for (first, second), (first_wins, second_wins) in fold.items():
                for name, won in ((first, first_wins), (second, second_wins)):
                    both = wins.setdefault(name, [0, 0])
                    both[0] += won
                    both[1] += first_wins + second_wins
        shares = {name: Estimate(*wilson(*both)) for name, both in wins.items()}
        return dict(sorted(shares.items(), key=lambda item: (-item[1].value, item[0])))


def name_strengths(folds: list[dict[_Pair, list[int]]]) -> dict[str, float]:
    """Bradley-Terry strengths of the models, in nats: a logistic regression without intercept and with a weak prior."""
    import numpy as np
    from scipy.sparse import csr_array, vstack
    from sklearn.linear_model import LogisticRegression

    names = sorted({name for fold in folds for pair in fold for name in pair})
    column = {name: i for i, name in enumerate(names)}
    entries = [(column[a], column[b], *wins) for fold in folds for (a, b), wins in fold.items()]
    first, second, first_wins, second_wins = np.array(entries).T
    n = len(entries)
    place = (np.repeat(np.arange(n), 2), np.stack([first, second], axis=1).ravel())
    design = csr_array((np.tile([1.0, -1.0], n), place), shape=(n, len(names)))
    model = LogisticRegression(fit_intercept=False, C=10.0, max_iter=1000)
    both, label = vstack([design, design]), np.repeat([1, 0], n)  # each pair won by the first, and by the second
    model.fit(both, label, sample_weight=np.concatenate([first_wins, second_wins]))
    return dict(zip(names, map(float, model.coef_[0]), strict=True))
