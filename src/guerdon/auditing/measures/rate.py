"""The effect of an attribute on the reward, from rewrites of rewrites (RATE; Reber 2024, arXiv 2410.11348).

An answer is rewritten to the other value of the attribute, and the result is rewritten back. Both texts that are compared
have been through the rewriter, so what it changes besides the attribute cancels. The rewriter is yours, most often a language
model; for the attributes of probes/attributes.py an edit does it, and then nothing else changes at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from guerdon.auditing.probes.attributes import ATTRIBUTES
from guerdon.auditing.probes.sample import Pair, Text, sample_pairs, score_rows
from guerdon.contracts import Estimate, Example, Finding, GuerdonError, Quantity, Report, Response
from guerdon.formulas.cues import naive_rate, rate, within_spread
from guerdon.models.estimates import number

if TYPE_CHECKING:
    from guerdon.config import AuditOptions
    from guerdon.contracts import Comparison, Prompt, RewardModel
    from guerdon.progress import Progress

__all__ = ["ATTRIBUTES", "Rewrite", "measure_rate"]

FLOOR: Final = 0.2  # standard deviations within a prompt
FEWEST: Final = 10  # groups
SHOWN: Final = 2  # examples

SECTION = "Effects by rewrites"
QUANTITIES: Mapping[str, Quantity] = {
    "rate_ate": Quantity("on all answers", "number", SECTION, "in spreads within a prompt"),
    "rate_att": Quantity("on answers with it", "number", SECTION, "in spreads within a prompt"),
    "rate_atu": Quantity("on answers without it", "number", SECTION, "in spreads within a prompt"),
    "rate_naive": Quantity("by a single rewrite", "number", SECTION, "includes whatever else the rewriter changes"),
}

Has = Callable[[str], bool]
Rewrite = Callable[["Prompt", str, str, bool], str]  # prompt, answer, attribute, the value it should have -> answer


def measure_rate(
    model: RewardModel,
    comparisons: Sequence[Comparison],
    attribute: str,
    options: AuditOptions,
    *,
    has: Has | None = None,
    rewrite: Rewrite | None = None,
    progress: Progress | None = None,
) -> Report:
    """The effect of an attribute on the answers of at most options.cue_rows pairs.

    `has` says whether a text has the attribute; `rewrite` gives it to a text or takes it away. Attributes in ATTRIBUTES have
    both. Keys, in standard deviations of answers to one prompt: rate_ate, rate_att, rate_atu (effect on all answers, on those
    with the attribute, on those without), rate_naive (from a single rewrite: includes whatever else the rewriter changes).
    """
    known = ATTRIBUTES.get(attribute)
    if known is None and (has is None or rewrite is None):
        raise GuerdonError(
            f"rate: attribute must be one of {', '.join(ATTRIBUTES)}, got {attribute!r}. Give both has and rewrite."
        )
    has, rewrite = has or known.has, rewrite or known.rewrite  # type: ignore[union-attr]
    pairs = sample_pairs(comparisons, options.cue_rows, options.seed)
    if not pairs:
        raise GuerdonError(
            "rate: at least one comparison must have two different answers, got none. Give comparisons with two texts each."
        )
    chains = [_Chain.of(pair, text, attribute, has, rewrite) for pair in pairs for text in (pair.better, pair.worse)]
    scored = score_rows(model, [_texts(*chains[i : i + 2]) for i in range(0, len(chains), 2)], progress)
    margins = [rewards[0] - rewards[3] for rewards in scored if rewards is not None]
    unit = within_spread(np.array(margins)) or 1.0
    halves = [half for row in scored for half in ((None, None) if row is None else (row[:3], row[3:]))]
    rows = [(c, r / unit) for c, r in zip(chains, halves, strict=True) if r is not None and c.once != c.text]
    about = {"attribute": attribute, "answers rewritten": f"{len(rows)} of {2 * len(margins)}"}
    if not rows:
        return Report("Rewrites", about)
    about["answers with the attribute"] = str(sum(chain.has for chain, _ in rows))
    estimates = _estimates(rows)
    label = known.label if known else attribute
    findings = _findings(label, estimates, _examples(rows, attribute, unit))
    return Report("Rewrites", about, estimates, findings, quantities=QUANTITIES)


@dataclass(frozen=True, slots=True)
class _Chain:
    """An answer, rewritten to the other value of the attribute, and rewritten back. has: of the answer itself."""

    pair: Pair
    text: str
    once: str
    twice: str
    has: bool

    @staticmethod
    def of(pair: Pair, text: str, attribute: str, has: Has, rewrite: Rewrite) -> _Chain:
        value = has(text)
        once = rewrite(pair.prompt, text, attribute, not value)
        return _Chain(pair, text, once, rewrite(pair.prompt, once, attribute, value), value)


_Rows = list[tuple[_Chain, np.ndarray]]  # rewards of the original, once, twice; in units of the spread


def _texts(*chains: _Chain) -> list[Text]:
    """All texts of these chains: original, rewritten, rewritten back."""
    return [(chain.pair.prompt, text) for chain in chains for text in (chain.text, chain.once, chain.twice)]


def _estimates(rows: _Rows) -> dict[str, Estimate]:
    original, once, twice = np.array([rewards for _, rewards in rows]).T
    has = np.array([chain.has for chain, _ in rows])
    groups = np.array([chain.pair.group for chain, _ in rows], dtype=np.str_)
    effect = rate(once, twice, has, groups)
    naive = naive_rate(original, once, has, groups)
    named = {"rate_ate": effect.ate, "rate_att": effect.att, "rate_atu": effect.atu, "rate_naive": naive.ate}
    return {name: Estimate(*interval) for name, interval in named.items() if interval.n}


def _findings(label: str, estimates: dict[str, Estimate], examples: tuple[Example, ...]) -> tuple[Finding, ...]:
    effect = estimates["rate_ate"]
    evidence = (
        f"effect {number(effect)} standard deviations of answers to one prompt; a single rewrite would give "
        f"{number(estimates['rate_naive'])}"
    )
    if effect.n >= FEWEST and abs(effect.value) > FLOOR and not effect.low <= 0 <= effect.high:
        title = f"By rewrites, the model {'rewards' if effect.value > 0 else 'penalizes'} {label}"
        remedy = "If it should not matter, add pairs that differ in this alone, as ties."
        return (Finding("warning", title, evidence, remedy, None, examples),)
    return (Finding("note", f"Rewrites show no effect of {label}", evidence),)


def _examples(rows: _Rows, attribute: str, unit: float) -> tuple[Example, ...]:
    """The two rewrites of the answers on which they differ most."""
    gaps = np.array([abs(twice - once) for _, (_, once, twice) in rows])
    order = np.argsort(-gaps, kind="stable")[:SHOWN]
    return tuple(_example(rows[i][0], attribute, unit * rows[i][1]) for i in order)


def _example(chain: _Chain, attribute: str, rewards: np.ndarray) -> Example:
    labels = (f"rewritten {'without' if chain.has else 'with'} it", "rewritten back")
    texts = (Response(chain.once), Response(chain.twice))
    return Example(f"Rewritten: {attribute}", chain.pair.prompt, texts, labels, (float(rewards[1]), float(rewards[2])))
