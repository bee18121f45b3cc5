"""The plan of edits: which texts are made from each sampled pair of answers, to be scored together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guerdon.auditing.measures.cues.keys import BETTER, FILLER_LEVELS, WORSE, TextKey
from guerdon.auditing.probes.length_edits import append_filler
from guerdon.auditing.probes.operators import CUES, PLACEBOS, SUBSTANCE
from guerdon.auditing.probes.sample import Pair, Text, sample_corpus, sample_pairs
from guerdon.auditing.probes.sycophancy import BELIEVABLE, state_belief
from guerdon.contracts import GuerdonError, Message, Prompt

if TYPE_CHECKING:
    from guerdon.auditing.probes.edit import Corpus, Operator
    from guerdon.config import AuditOptions
    from guerdon.contracts import Comparison

__all__ = ["DOSED", "DOSES", "Plan", "plan_edits", "plan_edits_of_better"]

DOSED = ("emoji", "certainty", "self_praise", "keywords")
DOSES = (1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Plan:
    """Sampled pairs and, row by row, the texts to score."""

    pairs: tuple[Pair, ...]
    texts: tuple[Mapping[TextKey, Text], ...]

    @property
    def rows(self) -> list[list[Text]]:
        """The texts of each row, to be scored together."""
        return [list(texts.values()) for texts in self.texts]


def plan_edits(comparisons: Sequence[Comparison], options: AuditOptions) -> Plan:
    """Every text to score; the same for the same comparisons, options and seed.

    Cues and placebos edit the answer that people like less, errors the one that they prefer.
    """
    pairs = sample_pairs(comparisons, options.cue_rows, options.seed)
    if not pairs:
        raise GuerdonError(
            "cues: at least one comparison must have two different answers, got none. Give comparisons with two texts each."
        )
    corpus = sample_corpus(comparisons, options.seed)
    return Plan(tuple(pairs), tuple(_texts(pair, corpus, options.seed) for pair in pairs))


def plan_edits_of_better(plan: Plan, operators: Sequence[Operator], seed: int) -> Plan:
    """The same pairs, with these cues on the better answers: what a penalized cue costs shows there."""
    return Plan(plan.pairs, tuple(_texts_of_better(pair, operators, seed) for pair in plan.pairs))


def _texts(pair: Pair, corpus: Corpus, seed: int) -> dict[TextKey, Text]:
    texts: dict[TextKey, str | None] = {BETTER: pair.better, WORSE: pair.worse}

    def edit(operator: Operator, text: str, dose: int = 1) -> str | None:
        return operator(text, pair.last_turn, corpus, group=pair.group, seed=seed, dose=dose)

    for name, cue in CUES.items():
        texts[TextKey("worse", name)] = edit(cue, pair.worse)
        if cue.before is not None:
            texts[TextKey("worse", name, is_baseline=True)] = cue.baseline(pair.worse, seed=seed)
        if name in DOSED:
            texts |= {TextKey("worse", name, dose): edit(cue, pair.worse, dose) for dose in DOSES[1:]}
    texts |= {key: append_filler(pair.worse, key.dose) for key in FILLER_LEVELS}
    texts |= {TextKey("worse", name): edit(placebo, pair.worse) for name, placebo in PLACEBOS.items()}
    texts |= {TextKey("better", name): edit(error, pair.better) for name, error in SUBSTANCE.items()}
    edited = {key: (pair.prompt, text) for key, text in texts.items() if text is not None}
    return edited | _texts_on_belief(pair, edited)


def _texts_on_belief(pair: Pair, texts: Mapping[TextKey, Text]) -> dict[TextKey, Text]:
    """The better answer and one with an error, to a prompt whose user believes the error."""
    if not pair.prompt or pair.prompt[-1].role != "user":
        return {}
    for name in BELIEVABLE:
        _, wrong = texts.get(TextKey("better", name), (pair.prompt, ""))
        belief = state_belief(pair.better, wrong) if wrong else None
        if belief:
            last_turn = Message("user", f"{pair.last_turn}\n\n{belief}")
            prompt = Prompt((*pair.prompt[:-1], last_turn), pair.prompt.tools)
            return {
                TextKey("better", is_believed=True): (prompt, pair.better),
                TextKey("better", name, is_believed=True): (prompt, wrong),
            }
    return {}


def _texts_of_better(pair: Pair, operators: Sequence[Operator], seed: int) -> dict[TextKey, Text]:
    texts: dict[TextKey, str | None] = {}
    for operator in operators:
        edited = operator(pair.better, pair.last_turn, group=pair.group, seed=seed)
        texts[TextKey("better", operator.name)] = edited
        texts[TextKey("better", operator.name, is_baseline=True)] = operator.baseline(pair.better, seed=seed)
    return {key: (pair.prompt, text) for key, text in texts.items() if text is not None}
