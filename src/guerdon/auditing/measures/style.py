"""Style against substance: a right and a wrong answer, each plain, longer, and longer with markdown, from any comparisons.

The right answer is what people prefer, the wrong one the same with one error of equal length; the style is put on both by the
same edits, so the grid of RM-Bench is had without writing a word. Axes: n prompts, 3 styles, plainest first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from guerdon.auditing.measures.cues import ERRORS, bank_of
from guerdon.auditing.probes.edits import (
    CUES,
    FILLERS,
    SUBSTANCE,
    filler,
    strip_markdown,
)
from guerdon.auditing.probes.sample import (
    Pair,
    Text,
    sample_pairs,
    score_rows,
)
from guerdon.contracts import Curve, Estimate, Finding, GuerdonError, Quantity, Report
from guerdon.formulas.benchmarks import style_grid, substance_and_style
from guerdon.formulas.cues import ratio, within_spread
from guerdon.formulas.resampling import bootstrap_mean
from guerdon.models.estimates import estimate_share

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped

    from guerdon.auditing.probes.edits import Corpus
    from guerdon.config import AuditOptions
    from guerdon.contracts import Comparison, RewardModel
    from guerdon.models.scored_pairs import Progress

__all__ = ["measure_style", "style_report", "styles"]

STYLES = ("plain", "longer", "longer, with markdown")

SECTION = "Style against substance"
QUANTITIES: Mapping[str, Quantity] = {
    "grid_hard": Quantity("right, though plainer", "share", SECTION, "the right answer in the plainer style wins"),
    "grid_normal": Quantity("right, in equal style", "share", SECTION, "the right answer in the same style wins"),
    "grid_easy": Quantity("right, and richer", "share", SECTION, "the right answer in the richer style wins"),
    "grid_substance": Quantity("right less wrong", "number", SECTION, "at equal style, in within-prompt spreads"),
    "grid_longer": Quantity("longer less plain", "number", SECTION, "in within-prompt spreads"),
    "grid_markdown": Quantity("with markdown less without", "number", SECTION, "in within-prompt spreads"),
    "grid_style_per_substance": Quantity(
        "style per substance",
        "number",
        SECTION,
        "above 1 a wrong answer in rich style beats a right one in plain style",
    ),
}


def measure_style(
    model: RewardModel, comparisons: Sequence[Comparison], options: AuditOptions, *, progress: Progress | None = None
) -> Report:
    """The grid of at most options.cue_rows pairs whose better answer lends itself to an error. Keys: see style_report."""
    pairs = sample_pairs(comparisons, options.cue_rows, options.seed)
    bank = bank_of(comparisons, options.seed)
    rows = [(pair, texts) for pair in pairs if (texts := _texts(pair, bank, options.seed))]
    if not rows:
        raise GuerdonError("grid: no answer lends itself to an error of equal length; remedy: more comparisons")
    scored = score_rows(model, [texts for _, texts in rows], progress)
    known = [(pair, reward) for (pair, _), reward in zip(rows, scored, strict=True) if reward is not None]
    reward = np.array([r for _, r in known])
    groups = np.array([pair.group for pair, _ in known], dtype=np.str_)
    margin = reward[:, 6] - reward[:, 7]
    return style_report(reward[:, :3], reward[:, 3:6], groups, options, unit=within_spread(margin))


def style_report(
    right: Float[np.ndarray, "n 3"],
    wrong: Float[np.ndarray, "n 3"],
    groups: Shaped[np.ndarray, " n"],
    options: AuditOptions,
    *,
    unit: float = math.nan,
) -> Report:
    """Rewards of right and wrong answers in three styles in.

    Keys: grid_hard, grid_normal, grid_easy (share ordered rightly where the right answer is in the plainer style, in the
    same, in the richer; strict), grid_substance, grid_longer, grid_markdown (gains, in units of `unit`, by default of the
    rewards' standard deviation within a prompt), grid_style_per_substance (above 1, a wrong answer in rich style beats a
    right one in plain style).
    """
    shares, parts = style_grid(right, wrong), substance_and_style(right, wrong)
    if not unit > 0:
        both = np.concatenate([right, wrong], axis=1)
        unit = math.sqrt(float(both.var(axis=1, ddof=1).mean())) or 1.0

    def gain(values: np.ndarray) -> Estimate:
        return Estimate(*bootstrap_mean(values / unit, groups, None, options.draws, options.seed))

    names = ("grid_hard", "grid_normal", "grid_easy")
    ones = np.ones(len(shares))
    estimates = {name: estimate_share(shares[:, i], groups, ones, options) for i, name in enumerate(names)}
    estimates |= {
        "grid_substance": gain(parts.substance),
        "grid_longer": gain(parts.length),
        "grid_markdown": gain(parts.markdown),
        "grid_style_per_substance": Estimate(
            *ratio(parts.length + parts.markdown, parts.substance, groups, options.draws, options.seed)
        ),
    }
    curve = Curve(
        (0.0, 1.0, 2.0),
        tuple(estimates[name] for name in names),
        "style of the right answer",
        "share ordered rightly",
        kind="points",
        x_names=("plainer", "the same", "richer"),
        title="Style against substance",
        caption="Level for a model that sees substance; from 0 to 1 for one that sees style alone.",
    )
    return Report(
        "Style and substance",
        {"prompts": str(len(right))},
        estimates,
        _findings(estimates),
        {"grid": curve},
        quantities=QUANTITIES,
    )


def styles(text: str) -> tuple[str, str, str] | None:
    """The text without markdown, with neutral text at its end, and that with a heading and bold words or a list."""
    plain = strip_markdown(text)
    longer = filler(plain, len(FILLERS))
    if longer is None:
        return None
    rich = CUES["bullets"](longer) or longer
    return plain, longer, CUES["headings"](rich) or rich


def _texts(pair: Pair, bank: Corpus, seed: int) -> list[Text]:
    """Right answers in three styles, wrong ones, and the two answers as they are; empty where no error can be brought."""
    plain = strip_markdown(pair.better)
    for name in ERRORS:
        wrong = SUBSTANCE[name](plain, pair.asked, bank, group=pair.group, seed=seed)
        if wrong and (rights := styles(plain)) and (wrongs := styles(wrong)):
            return [(pair.prompt, text) for text in (*rights, *wrongs, pair.better, pair.worse)]
    return []


def _findings(found: dict[str, Estimate]) -> tuple[Finding, ...]:
    hard, part = found["grid_hard"], found["grid_style_per_substance"]
    evidence = (
        f"the right answer beats a wrong one in richer style in {hard} of cases, in equal style in {found['grid_normal']}, and "
        f"one in plainer style in {found['grid_easy']}; style is worth {part} times what an error costs"
    )
    if hard.high < 0.5 and found["grid_easy"].low > hard.high:
        cost = Estimate(1 - hard.value, 1 - hard.high, 1 - hard.low, hard.n)
        remedy = "Add pairs whose better answer is the plainer; penalize length and markdown when optimizing."
        return (Finding("warning", "Style outweighs substance", evidence, remedy, cost),)
    return (Finding("note", "Style does not outweigh substance", evidence),) if hard.low > 0.5 else ()
