"""Whether the preferred response can be told from the other by its characters alone, and which texts give it away.

A small linear model reads single responses: it knows neither the prompt nor the other response, so whatever it predicts is a
shortcut. It sees a sample of the comparisons that is drawn by hash, the same for the same data in any order.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from guerdon.contracts import Comparison, Curve, Estimate, Finding, Quantity
from guerdon.data.checks.contract import SECTION, Check, Data, Row
from guerdon.data.checks.ngrams import tfidf
from guerdon.data.hashes import hash_parts
from guerdon.models.estimates import percent, points_by_name

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Feature", "JudgedTexts", "Prediction", "Shortcuts", "TextSample", "hash_name", "predict_preferred"]

FOLDS: Final = 5
FEWEST_GROUPS: Final = 20  # fewer give no interval worth reading
FEWEST_PAIRS: Final = 10  # in which one of two responses has a feature
HEAD, TAIL = 3000, 1000  # characters of a text that are read; markers stand at its ends
START, END, LINE = "\x02", "\x03", "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}"  # of a text, and of its lines
MIN_DOCUMENTS, MAX_NGRAMS = 5, 50_000  # responses that have an n-gram; n-grams of the model
MAX_NAMED, MAX_DRAWN = 5, 8  # phrases in a finding, and of each side in the figure
NEARLY_ALL: Final = 0.8  # of the responses that have a part of a phrase have the whole
CANDIDATES: Final = 60  # phrases from which those to show are taken
LETTERS: Final = (
    "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # of scripts that put no spaces between words: each is a token
)
TOKEN: Final = rf"[{LETTERS}]|[^\W{LETTERS}]+(?:['’][^\W{LETTERS}]+)*|[{START}{END}]|{LINE}+|[^\w\s{START}{END}{LINE}]+"

_TOKEN, _SPACES = re.compile(TOKEN), re.compile(r"\s\s+")


class JudgedTexts(NamedTuple):
    """The texts of a preferred response and of one below it, and the group of their prompt."""

    group: str
    better: str
    worse: str


@dataclass(frozen=True, slots=True)
class Feature:
    """A phrase as a reader sees it; of the pairs of which one response has it, the share in which that one is preferred.

    The share is measured on groups that did not choose the phrase. is_better_with: what the choosing groups say.
    """

    text: str
    wins: Estimate
    is_better_with: bool


@dataclass(frozen=True, slots=True)
class Prediction:
    """How well the characters of single responses predict which one is preferred, and by what.

    auc: of a preferred and another response of any prompt, cross-validated by group; 0.5 is chance. features: those that
    count most in a model of words, most telling first.
    """

    auc: Estimate
    features: tuple[Feature, ...]


class Shortcuts(Check):
    """Texts that tell the preferred response whatever the question was. It keeps the texts of `check.shortcut_pairs` pairs."""

    quantities: ClassVar[Mapping[str, Quantity]] = {
        "shortcut_auc": Quantity("the text gives the better one away", "share", SECTION, "AUC: 50 % is chance"),
    }

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self._sample = TextSample(self.options.shortcut_pairs)

    def add(self, row: Row) -> None:
        """Keep its texts if it is drawn."""
        self._sample.add(row.comparison)

    @cached_property
    def prediction(self) -> Prediction | None:
        """What the texts predict; None for too few of them."""
        return predict_preferred(self._sample.pairs)

    def estimates(self) -> Mapping[str, Estimate]:
        """The AUC, cross-validated."""
        return {"shortcut_auc": self.prediction.auc} if self.prediction else {}

    def findings(self) -> Iterator[Finding]:
        """A warning where single responses can be told apart without the question."""
        warn = self.options.shortcut_auc_warn
        if self.prediction is None or self.prediction.auc.value <= warn:
            return
        telling = [feature for feature in self.prediction.features if feature.wins.low > 0.5 or feature.wins.high < 0.5]
        phrases = ", ".join(f"{feature.text} {percent(feature.wins)}" for feature in telling[:MAX_NAMED])
        evidence = (
            f"the characters of a response, without its question, predict whether it is preferred with AUC "
            f"{percent(self.prediction.auc)}; 50 % is chance, {100 * warn:g} % warns"
            f"{'; of pairs in which one response has it, the share in which that one wins: ' if phrases else ''}{phrases}"
        )
        remedy = "A model would learn these texts instead of quality: balance them, or drop what only one side has."
        yield Finding("warning", "Shortcuts in the texts", evidence, remedy)

    def curves(self) -> Mapping[str, Curve]:
        """The phrases by how often the response that has one is preferred."""
        features = self.prediction.features if self.prediction else ()
        sides = [[feature for feature in features if feature.is_better_with == side] for side in (True, False)]
        shown = sorted(
            (feature for side in sides for feature in side[:MAX_DRAWN]), key=lambda feature: -feature.wins.value
        )
        if not shown:
            return {}
        curve = points_by_name(
            [feature.text for feature in shown],
            [feature.wins for feature in shown],
            "phrase",
            "share in which the response with it is preferred",
            title="Phrases that tell the preferred response",
            caption="Of pairs in which only one response has the phrase; 50 % tells nothing. Half of the prompts choose the "
            "phrases, the other half measures them.",
        )
        return {"shortcuts": curve}


class TextSample:
    """The pairs of at most `size` comparisons, chosen by the hash of their ids as they stream by."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._kept: list[tuple[int, int, JudgedTexts]] = []
        self._num = 0

    def add(self, comparison: Comparison) -> None:
        """Take the comparison's best and worst response, unless all are tied or enough others have a lower hash."""
        self._num += 1
        key = -hash_parts(comparison.id)
        if len(self._kept) == self.size and (not self.size or key <= self._kept[0][0]):
            return
        if texts := _judged_texts(comparison):
            push = heapq.heappush if len(self._kept) < self.size else heapq.heappushpop
            push(self._kept, (key, self._num, texts))

    @property
    def pairs(self) -> list[JudgedTexts]:
        """The sample, in the order of the hashes."""
        return [texts for *_, texts in sorted(self._kept, key=lambda entry: (-entry[0], entry[1]))]


def predict_preferred(pairs: Sequence[JudgedTexts], seed: int = 0, draws: int = 300) -> Prediction | None:
    """What the characters of single responses give away; None where there are too few groups or texts to say.

    The model is a logistic regression on tf-idf weights of 3 to 5 characters (scikit-learn). Its interval resamples groups.
    """
    import numpy as np

    from guerdon.formulas.resampling import bootstrap
    from guerdon.formulas.uncertainty import auroc

    groups = np.repeat([hash_name(pair.group) for pair in pairs], 2)
    if len(np.unique(groups)) < FEWEST_GROUPS:
        return None
    texts = [_cut(text) for pair in pairs for text in (pair.better, pair.worse)]
    is_better = np.tile([1.0, 0.0], len(pairs))
    held_out = _held_out_scores(texts, is_better, groups)
    if held_out is None:
        return None
    score, fold = held_out

    def mean_auc(rows: np.ndarray) -> float:
        """Within folds only: the scores of two models are not on one scale."""
        by_fold = [own for i in range(FOLDS) if len(own := rows[fold[rows] == i])]
        aucs = [auroc(score[own], is_better[own]) for own in by_fold]
        return float(np.average(aucs, weights=[len(own) for own in by_fold]))

    auc = bootstrap(mean_auc, groups, draws, seed)
    return Prediction(Estimate(*auc), tuple(_features(texts, is_better, groups)))


def hash_name(name: str) -> int:
    """A number from 0 to 2**31 - 1 that a name always has."""
    return hash_parts(name) >> 33


# ---- Texts -------------------------------------------------------------------------------------------------------


def _judged_texts(comparison: Comparison) -> JudgedTexts | None:
    """The first of the best responses and the last of the worst; None where all are tied."""
    k = len(comparison.responses)
    ranks = [rank if rank >= 0 else k for rank in comparison.ranks]  # unranked responses are below all ranked ones
    best, worst = min(ranks), max(ranks)
    if best == worst:
        return None
    better = comparison.responses[ranks.index(best)].text
    worse = comparison.responses[k - 1 - ranks[::-1].index(worst)].text
    return JudgedTexts(comparison.group, better, worse)


def _cut(text: str) -> str:
    """Both ends of the text, with marks where it starts and ends and for its lines, which the vectorizer would not keep."""
    if len(text) > HEAD + TAIL:
        text = f"{text[:HEAD]} … {text[-TAIL:]}"
    text = text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate becomes a question mark
    return f"{START}{text.replace(START, ' ').replace(END, ' ')}{END}".replace("\r\n", "\n").replace("\n", LINE)


# ---- The model ---------------------------------------------------------------------------------------------------


def _model() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(solver="liblinear", random_state=0)


def _held_out_scores(
    texts: Sequence[str], is_better: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """The log-odds of each response by a model that has not seen its group, and its fold; None where texts share no n-gram."""
    import numpy as np
    from sklearn.model_selection import GroupKFold

    score, fold = np.zeros(len(texts)), np.zeros(len(texts), dtype=np.int64)
    model = _model()
    characters = [_SPACES.sub(" ", text) for text in texts]
    try:  # frequencies know no label, so all groups may share them
        features, _ = tfidf(characters, (3, 5), "", MIN_DOCUMENTS, MAX_NGRAMS)
    except ValueError:  # no n-gram is in MIN_DOCUMENTS texts
        return None
    for i, (train, test) in enumerate(GroupKFold(FOLDS).split(texts, groups=groups)):
        model.fit(features[train], is_better[train])
        score[test], fold[test] = model.decision_function(features[test]), i
    return score, fold


def _features(texts: Sequence[str], is_better: np.ndarray, groups: np.ndarray) -> list[Feature]:
    """The phrases that count most in a model of words, chosen on one half of the groups and measured on the other.

    Words are what a reader can judge; the score itself reads characters.
    """
    import numpy as np

    names = np.unique(groups)
    chooses = np.isin(groups, names[::2])
    model = _model()
    try:
        weights, phrases = tfidf([_TOKEN.findall(text) for text in texts], (1, 4), " ", MIN_DOCUMENTS, MAX_NGRAMS)
    except ValueError:  # no phrase is in MIN_DOCUMENTS texts
        return []
    model.fit(weights[chooses], is_better[chooses])
    effect = np.abs(model.coef_[0]) * _spread(weights[chooses])
    has = weights[~chooses].tocsc()
    kept: list[tuple[str, set[int], bool]] = []
    for i in np.argsort(-effect, kind="stable")[:CANDIDATES]:
        phrase, having = phrases[i], set(has[:, i].indices.tolist())
        same = next((j for j, (other, others, _) in enumerate(kept) if _is_same(phrase, having, other, others)), None)
        if same is None:
            kept.append((phrase, having, bool(model.coef_[0][i] > 0)))
        elif _is_inside(kept[same][0], phrase) and _overlap(having, kept[same][1]) > NEARLY_ALL:
            kept[same] = (phrase, having, kept[same][2])  # the whole of what was a part
    measured = [(phrase, _win_share(having, groups[~chooses]), is_better) for phrase, having, is_better in kept]
    return [Feature(_readable(phrase), wins, is_better) for phrase, wins, is_better in measured if wins is not None]


def _spread(weights: Any) -> np.ndarray:
    """The standard deviation of each column of a sparse matrix."""
    import numpy as np

    mean = np.asarray(weights.mean(axis=0)).ravel()
    square = np.asarray(weights.multiply(weights).mean(axis=0)).ravel()
    spread: np.ndarray = np.sqrt(np.maximum(0.0, square - mean**2))
    return spread


def _is_same(phrase: str, having: set[int], other: str, other_having: set[int]) -> bool:
    """Whether two phrases say the same: one is in the other, or mostly the same responses have both."""
    return _is_inside(phrase, other) or _is_inside(other, phrase) or _overlap(having, other_having) > 0.5


def _is_inside(part: str, whole: str) -> bool:
    return f" {part} " in f" {whole} "


def _overlap(a: set[int], b: set[int]) -> float:
    return len(a & b) / (len(a | b) or 1)


def _win_share(having: set[int], groups: np.ndarray) -> Estimate | None:
    """Of pairs of which one response has a phrase: the share in which that one is preferred; None for too few pairs.

    having: the responses that have it, numbered 0 (preferred) and 1 for the first pair, 2 and 3 for the next.
    """
    import numpy as np

    from guerdon.formulas.clustered import clustered_share

    decided = np.array(sorted(row for row in having if row ^ 1 not in having), dtype=np.int64)
    if len(decided) < FEWEST_PAIRS:
        return None
    return Estimate(*clustered_share((decided % 2 == 0).astype(np.float64), groups[decided]))


def _readable(phrase: str) -> str:
    """The phrase in quotes, as it is written, with the place where it must stand."""
    words = phrase.split(" ")
    starts, ends = words[0] == START, words[-1] == END
    body = " ".join(word for word in words if word not in (START, END))
    body = re.sub(r" (?=[^\w\s(\[“*#&$@/-])|(?<=[(\[“/$#]) ", "", body)
    where = {(True, False): " at the start", (False, True): " at the end", (True, True): " and nothing else"}
    return f"“{body}”{where.get((starts, ends), '')}" if body else "nothing"
