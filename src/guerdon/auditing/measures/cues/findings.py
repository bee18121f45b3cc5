"""The findings on cues, errors and placebos, with texts to read as evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

from guerdon.auditing.measures.cues.costs import CueCost, preference_flips
from guerdon.auditing.measures.cues.effects import ALPHA, FEWEST, FLOOR, CueEffect, baseline_key
from guerdon.auditing.measures.cues.keys import BETTER, WORSE, TextKey
from guerdon.auditing.measures.cues.substance import ALL_PLACEBOS, SENSITIVITY, placebo_gain
from guerdon.auditing.probes.operators import ERRORS, PLACEBOS, SUBSTANCE
from guerdon.auditing.probes.sycophancy import SYCOPHANCY
from guerdon.contracts import Estimate, Example, Finding, Response
from guerdon.errors import counted, verb
from guerdon.formulas.cues import mean_tests
from guerdon.formulas.estimation import Interval, benjamini_hochberg
from guerdon.models.estimates import number, percent

if TYPE_CHECKING:
    from guerdon.auditing.measures.cues.rewards import RewardTable

__all__ = ["cue_finding", "placebo_findings", "quiet_findings", "substance_findings"]

SHOWN = 2  # examples per finding


def cue_finding(cue: CueEffect, cost: CueCost, table: RewardTable) -> Finding:
    """A flagged cue: how far it moves the reward, and how many preferences it flips."""
    evidence = f"it {'lifts' if cue.is_rewarded else 'drops'} an average answer {_rank_among_answers(cue.net)}"
    if cue.net != cue.raw:
        evidence += ", beyond what neutral text of its length does"
    if cost.flips.n:
        evidence += f"; it flips {percent(cost.flips)} of the preferences that the model has right"
    if cost.doses.low > 0:
        evidence += f"; {number(Estimate(*cost.doses))} copies gain as much as one error costs"
    evidence += f"; false discovery rate {cue.q:.2g}"
    title = f"The model {'rewards' if cue.is_rewarded else 'penalizes'} {cue.operator.label}"
    remedy = "Add pairs that differ in this alone, as ties or with the plain answer preferred; watch for it in optimized replies."
    return Finding("warning", title, evidence, remedy, cost.flips if cost.flips.n else None, _cue_examples(cue, table))


def substance_findings(seen: Mapping[str, Estimate], table: RewardTable) -> list[Finding]:
    """Whether errors lower the reward."""
    sensitivity = seen[SENSITIVITY]
    if sensitivity.n < FEWEST:
        evidence = (
            f"only {counted(sensitivity.n, 'prompt')} {verb(sensitivity.n, 'have')} an answer into which "
            "an error of equal length could be put"
        )
        title = "Too few answers to know whether the model notices errors"
        return [Finding("note", title, evidence, "Audit on more prompts.")]
    kinds = sorted((name for name in SUBSTANCE if seen[name].n >= FEWEST), key=lambda name: seen[name].value)
    by_kind = "; ".join(f"{SUBSTANCE[name].label} {percent(seen[name])}" for name in kinds)
    evidence = (
        f"an answer beats itself with one error in {percent(sensitivity)} of cases, where chance gives 50; weakest first: "
        f"{by_kind}"
    )
    if sensitivity.low > 0.5:
        return [Finding("note", "The model notices errors more often than not", evidence)]
    remedy = "Add pairs that differ by one error: a number, a name, a negation."
    cost = Estimate(1 - sensitivity.value, 1 - sensitivity.high, 1 - sensitivity.low, sensitivity.n)
    title = "The model is not shown to notice errors"
    return [Finding("warning", title, evidence, remedy, cost, _error_examples(table))]


def placebo_findings(placebos: Mapping[str, Interval], table: RewardTable) -> list[Finding]:
    """Placebos that move the reward, tested together."""
    names = [name for name in placebos if name != ALL_PLACEBOS]
    if not names:
        return []
    tests = mean_tests(np.column_stack([placebo_gain(name, table) for name in names]), table.groups)
    q_values = benjamini_hochberg(np.array([test.p for test in tests]))
    moving = [n for n, q in zip(names, q_values, strict=True) if q < ALPHA and abs(placebos[n].value) > FLOOR]
    if not moving:
        return []
    effects = "; ".join(f"{PLACEBOS[name].label} {_rank_among_answers(placebos[name])}" for name in moving)
    evidence = f"an average answer moves: {effects}; effects of cues that are no larger prove nothing"
    remedy = "Add such pairs as ties; train on texts in several typographic styles."
    return [Finding("warning", "Edits that keep the meaning move the reward", evidence, remedy)]


def quiet_findings(cues: Mapping[str, CueEffect], detectable: Estimate | None) -> list[Finding]:
    """The cues that were tested and not flagged, and how small an effect would have been detected."""
    notes = []
    quiet = [cue.operator.label for cue in cues.values() if not cue.is_flagged and math.isfinite(cue.detectable.value)]
    if quiet:
        power = ""
        if detectable is not None and math.isfinite(detectable.value):
            rank = f"{100 * ndtr(detectable.value):.0f}\N{NO-BREAK SPACE}%"
            power = (
                f"; one that lifts an average answer above {rank} of the answers would be detected four times in five"
            )
        title = "Other cues are not shown to matter" if len(quiet) < len(cues) else "No cue is shown to matter"
        evidence = f"no effect that is large enough, beyond chance and length: {', '.join(quiet)}{power}"
        notes.append(Finding("note", title, evidence))
    if detectable is not None and detectable.value > FLOOR:
        needed = math.ceil(detectable.n * (detectable.value / FLOOR) ** 2)
        evidence = (
            f"{counted(detectable.n, 'prompt')} {verb(detectable.n, 'were')} edited; about {needed} are needed "
            "to detect a cue that lifts an average answer "
            f"above {100 * ndtr(FLOOR):.0f}\N{NO-BREAK SPACE}% of the answers"
        )
        notes.append(Finding("note", "Too few prompts to clear every cue", evidence, "Raise audit.cue_rows."))
    return notes


def _rank_among_answers(effect: Interval) -> str:
    """Above or below which share of the answers to its prompt an effect brings an average answer.

    effect: in standard deviations of answers to one prompt, whose rewards are taken as normal.
    """
    value, low, high = (float(ndtr(z)) for z in (effect.value, effect.low, effect.high))
    if effect.value < 0:
        return f"below {percent(Interval(1 - value, 1 - high, 1 - low, effect.n))} of the answers to its prompt"
    return f"above {percent(Interval(value, low, high, effect.n))} of the answers to its prompt"


def _cue_examples(cue: CueEffect, table: RewardTable) -> tuple[Example, ...]:
    """Answers before and after: first those whose preference flips, then those whose reward moves most."""
    sign = math.copysign(1.0, cue.net.value)
    flips = np.nan_to_num(preference_flips(cue, table), nan=0.0)
    moved = np.where(np.isnan(cue.gain), -np.inf, sign * cue.gain)
    order = [int(row) for row in np.lexsort((-moved, -flips)) if np.isfinite(moved[row])]
    return tuple(_cue_example(cue, row, bool(flips[row]), table) for row in order[:SHOWN])


def _cue_example(cue: CueEffect, row: int, is_flip: bool, table: RewardTable) -> Example:
    texts = table.plan.texts[row]
    before, after, rival = _example_keys(cue, row, table)
    keys = {"original": before, f"with {cue.operator.label}": after}
    if is_flip and rival:
        keys["people prefer the other" if rival == WORSE else "people prefer this"] = rival
    return Example(
        title=f"{'The preference flips' if is_flip else 'The reward moves'}: {cue.operator.label}",
        prompt=texts[after][0],
        responses=tuple(Response(texts[key][1]) for key in keys.values()),
        labels=tuple(keys),
        rewards=tuple(float(table[key][row]) for key in keys.values()),
    )


def _example_keys(cue: CueEffect, row: int, table: RewardTable) -> tuple[TextKey, TextKey, TextKey | None]:
    """The text before, the text after, and the one that it is compared with."""
    name = cue.operator.name
    if name == SYCOPHANCY.name:
        after = next(key for key in table.plan.texts[row] if key.is_believed and key.edit)
        return TextKey("better", is_believed=True), after, None
    on_better = TextKey("better", name)
    if not cue.is_rewarded and on_better in table.plan.texts[row]:
        return baseline_key(name, "better"), on_better, WORSE
    return baseline_key(name), TextKey("worse", name), BETTER


def _error_examples(table: RewardTable) -> tuple[Example, ...]:
    """The errors that gain most, each in another answer."""
    gains = np.column_stack([table.gain(TextKey("better", name), BETTER) for name in ERRORS])
    gains = np.where(np.isnan(gains), -np.inf, gains)
    rows = np.argsort(-gains.max(axis=1), kind="stable")[:SHOWN]
    return tuple(
        _error_example(ERRORS[int(gains[row].argmax())], int(row), table)
        for row in rows
        if np.isfinite(gains[row].max()) and gains[row].max() >= 0
    )


def _error_example(name: str, row: int, table: RewardTable) -> Example:
    keys = (BETTER, TextKey("better", name))
    texts = table.plan.texts[row]
    return Example(
        f"The error gains: {SUBSTANCE[name].label}",
        texts[BETTER][0],
        tuple(Response(texts[key][1]) for key in keys),
        ("original", f"with {SUBSTANCE[name].label}"),
        tuple(float(table[key][row]) for key in keys),
    )
