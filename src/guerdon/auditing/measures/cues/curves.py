"""The curves of the audit of cues: effects and wins by cue, errors seen by kind, and effects by dose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from guerdon.auditing.measures.cues.costs import CueCost
from guerdon.auditing.measures.cues.effects import FEWEST, FLOOR, CueEffect
from guerdon.auditing.measures.cues.keys import FILLER_LEVELS, WORSE, TextKey
from guerdon.auditing.measures.cues.plan import DOSED, DOSES
from guerdon.auditing.probes.operators import CUES, SUBSTANCE
from guerdon.contracts import Curve, Estimate
from guerdon.models.estimates import points_by_name

if TYPE_CHECKING:
    from guerdon.auditing.measures.cues.rewards import RewardTable
    from guerdon.config import AuditOptions

__all__ = ["cue_curves", "dose_curves", "substance_curves"]

GAIN = "gain, standard deviations"


def cue_curves(cues: Mapping[str, CueEffect], costs: Mapping[str, CueCost]) -> dict[str, Curve]:
    """Net effect, and share of answers that gain, of each cue; strongest first."""
    judged = sorted((cue for cue in cues.values() if math.isfinite(cue.net.low)), key=lambda cue: -cue.net.value)
    if not judged:
        return {}
    names = [cue.operator.name for cue in judged]
    return {
        "cue_effects": _points(
            "What cues gain beyond their length",
            names,
            [Estimate(*cue.net) for cue in judged],
            ("cue", GAIN),
            f"Beyond neutral text of the same length. Effects within {FLOOR} of 0 are not flagged.",
        ),
        "cue_wins": _points(
            "How often a cue gains",
            names,
            [costs[name].wins for name in names],
            ("cue", "share of answers that gain"),
            "A cue that does not matter gains as often as it loses, at 50 %. Here length counts as well.",
        ),
    }


def substance_curves(seen: Mapping[str, Estimate]) -> dict[str, Curve]:
    """Share of errors that lower the reward, by kind."""
    kinds = sorted((name for name in SUBSTANCE if seen[name].n >= FEWEST), key=lambda name: -seen[name].value)
    if not kinds:
        return {}
    caption = "A model that does not notice an error is at 50 %."
    y, labels = [seen[name] for name in kinds], ("error", "share that lower the reward")
    return {"substance": _points("Which errors lower the reward", kinds, y, labels, caption)}


def dose_curves(table: RewardTable, options: AuditOptions) -> dict[str, Curve]:
    """Effect by number of copies of some cues, and by length of neutral text."""
    curves = {}
    for name in DOSED:
        gains = [table.gain(TextKey("worse", name, dose), WORSE) for dose in DOSES]
        effects = [Estimate(*effect) for effect in table.effects(gains, options)]
        if min(effect.n for effect in effects) >= FEWEST:
            doses = tuple(float(dose) for dose in DOSES)
            title = f"{name.replace('_', ' ').capitalize()}: effect by copies"
            curves[f"dose_{name}"] = Curve(doses, tuple(effects), f"copies of {CUES[name].label}", GAIN, title=title)
    gains = [table.gain(level, WORSE) for level in FILLER_LEVELS]
    effects = [Estimate(*effect) for effect in table.effects(gains, options)]
    if min(effect.n for effect in effects) >= FEWEST:
        lengths = table.lengths()
        longer = tuple(float(np.nanmean(lengths[level] - lengths[WORSE])) for level in FILLER_LEVELS)
        curves["dose_length"] = Curve(
            longer, tuple(effects), "neutral text at the end, characters", GAIN, title="Neutral text: effect by length"
        )
    return curves


def _points(title: str, names: Sequence[str], y: Sequence[Estimate], labels: tuple[str, str], caption: str) -> Curve:
    """One point per name. labels: of x and y."""
    return points_by_name((name.replace("_", " ") for name in names), y, *labels, title=title, caption=caption)
