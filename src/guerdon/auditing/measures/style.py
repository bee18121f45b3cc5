"""Style against substance: right answers and wrong ones in three styles each, as in RM-Bench (Liu 2024, arXiv 2410.16184).

Axes: n prompts, 3 styles, plainest first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from guerdon.auditing.probes.format_edits import strip_markdown
from guerdon.auditing.probes.length_edits import FILLERS, append_filler
from guerdon.auditing.probes.operators import CUES, ERRORS, SUBSTANCE
from guerdon.auditing.probes.sample import Pair, Text, sample_corpus, sample_pairs, score_rows
from guerdon.contracts import Estimate, Finding, GuerdonError, Quantity, Report
from guerdon.formulas.benchmarks import style_grid, substance_and_style
from guerdon.formulas.cues import ratio, within_spread
from guerdon.models.estimates import estimate_mean, estimate_share, number, percent, points_by_name

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped

    from guerdon.auditing.probes.edit import Corpus
    from guerdon.config import AuditOptions
    from guerdon.contracts import Comparison, RewardModel
    from guerdon.progress import Progress

__all__ = ["TITLE", "measure_style", "style_report", "three_styles"]

TITLE = "Style and substance"
SECTION = "Style against substance"
QUANTITIES: Mapping[str, Quantity] = {
    "grid_hard": Quantity("plainer and right", "share", SECTION, "the right answer beats a wrong one in richer style"),
    "grid_normal": Quantity(
        "right in equal style", "share", SECTION, "the right answer beats a wrong one in its style"
    ),
    "grid_easy": Quantity("richer and right", "share", SECTION, "the right answer beats a wrong one in plainer style"),
    "grid_substance": Quantity("right minus wrong", "number", SECTION, "in equal style, in spreads within a prompt"),
    "grid_longer": Quantity("longer minus plain", "number", SECTION, "in spreads within a prompt"),
    "grid_markdown": Quantity("with minus without markdown", "number", SECTION, "in spreads within a prompt"),
    "grid_style_per_substance": Quantity(
        "style per substance",
        "number",
        SECTION,
        "above 1, a wrong answer in rich style beats a right one in plain style",
    ),
}


def measure_style(
    model: RewardModel, comparisons: Sequence[Comparison], options: AuditOptions, *, progress: Progress | None = None
) -> Report:
    """The grid of at most options.cue_rows pairs into whose better answer an error can be put. Keys: see style_report."""
    pairs = sample_pairs(comparisons, options.cue_rows, options.seed)
    corpus = sample_corpus(comparisons, options.seed)
    rows = [(pair, texts) for pair in pairs if (texts := _texts(pair, corpus, options.seed))]
    if not rows:
        raise GuerdonError(
            "style: at least one answer must take an error of equal length, got none. Give more comparisons."
        )
    scored = score_rows(model, [texts for _, texts in rows], progress)
    known = [(pair, rewards) for (pair, _), rewards in zip(rows, scored, strict=True) if rewards is not None]
    reward = np.array([rewards for _, rewards in known])
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
    """The report from rewards of right and wrong answers in three styles.

    Keys: grid_hard, grid_normal, grid_easy (share in which the right answer wins, strictly, in a plainer, the same, a richer
    style than the wrong one), grid_substance, grid_longer, grid_markdown (gains, in units of `unit`, by default the standard
    deviation of rewards within a prompt), grid_style_per_substance (above 1, a wrong answer in rich style beats a right one in
    plain style).
    """
    shares, parts = style_grid(right, wrong), substance_and_style(right, wrong)
    if not unit > 0:
        both = np.concatenate([right, wrong], axis=1)
        unit = math.sqrt(float(both.var(axis=1, ddof=1).mean())) or 1.0
    names = ("grid_hard", "grid_normal", "grid_easy")
    weight = np.ones(len(shares))
    gains = {"substance": parts.substance, "longer": parts.length, "markdown": parts.markdown}
    estimates = {
        **{name: estimate_share(shares[:, i], groups, weight) for i, name in enumerate(names)},
        **{f"grid_{name}": estimate_mean(gain / unit, groups, None) for name, gain in gains.items()},
        "grid_style_per_substance": Estimate(
            *ratio(parts.length + parts.markdown, parts.substance, groups, options.draws, options.seed)
        ),
    }
    curve = points_by_name(
        ("plainer", "the same", "richer"),
        (estimates[name] for name in names),
        "style of the right answer",
        "share in which it wins",
        title="Style against substance",
        caption="Flat for a model that judges substance only; it rises from 0 to 100 % for one that judges style only.",
    )
    return Report(
        TITLE,
        {"prompts": str(len(right))},
        estimates,
        _findings(estimates),
        {"grid": curve},
        quantities=QUANTITIES,
    )


def three_styles(text: str) -> tuple[str, str, str] | None:
    """The text without markdown; that with filler at the end; and that with a heading and a list or bold words."""
    plain = strip_markdown(text)
    longer = append_filler(plain, len(FILLERS))
    if longer is None:
        return None
    rich = CUES["bullets"](longer) or longer
    return plain, longer, CUES["headings"](rich) or rich


def _texts(pair: Pair, corpus: Corpus, seed: int) -> list[Text]:
    """Three right answers, three wrong ones, and the pair's two answers as they are; empty where no error can be put in."""
    plain = strip_markdown(pair.better)
    for name in ERRORS:
        wrong = SUBSTANCE[name](plain, pair.last_turn, corpus, group=pair.group, seed=seed)
        if wrong and (rights := three_styles(plain)) and (wrongs := three_styles(wrong)):
            return [(pair.prompt, text) for text in (*rights, *wrongs, pair.better, pair.worse)]
    return []


def _findings(estimates: dict[str, Estimate]) -> tuple[Finding, ...]:
    hard, normal, easy = (estimates[f"grid_{name}"] for name in ("hard", "normal", "easy"))
    evidence = (
        f"the right answer beats a wrong one in richer style in {percent(hard)} of cases, in the same style in "
        f"{percent(normal)}, in plainer style in {percent(easy)}; style is worth "
        f"{number(estimates['grid_style_per_substance'])} times what an error costs"
    )
    if hard.high < 0.5 and easy.low > hard.high:
        cost = Estimate(1 - hard.value, 1 - hard.high, 1 - hard.low, hard.n)
        remedy = "Add pairs whose better answer is the plainer one; penalize length and markdown when optimizing."
        return (Finding("warning", "Style outweighs substance", evidence, remedy, cost),)
    return (Finding("note", "Style does not outweigh substance", evidence),) if hard.low > 0.5 else ()
