"""Alerts: what has changed between the first and the last check of a policy. Each can also have harmless causes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from guerdon.contracts import Estimate, Finding
from guerdon.errors import counted, verb
from guerdon.formulas.drift import MIN_REPETITION, REPETITION_ALARM, SHIFT_ALARM, SHIFT_ALPHA
from guerdon.formulas.estimation import clopper_pearson
from guerdon.models.estimates import percent
from guerdon.optimization.attribute_alerts import attribute_alerts
from guerdon.optimization.check_measures import mean_by_prompt, measure_check
from guerdon.optimization.checks import Check, refuse_unlike

__all__ = ["alerts"]

# Thresholds, relative to the first check
LENGTH_STDS = 3.0  # standard deviations of its lengths
LENGTH_RATIO = 1.5  # times its mean length
HALVED = 0.5  # of its unique, or finished, replies
CALM = 0.2  # of its variance of the reward between prompts


def alerts(checks: Sequence[Check]) -> tuple[Finding, ...]:
    """What has changed from the first check to the last; nothing with fewer than two."""
    if len(checks) < 2:
        return ()
    first, last = checks[0], checks[-1]
    refuse_unlike(first, last)
    before, now = (measure_check(check) for check in (first, last))
    return (
        *_length_alert(first, before["length"], now["length"]),
        *_text_alerts(before, now),
        *_spread_alert(first, last),
        *_shift_alert(last),
        *_truncation_alert(last),
        *_variance_alert(first, last),
        *attribute_alerts(checks),
    )


def _length_alert(first: Check, before: Estimate, now: Estimate) -> Iterator[Finding]:
    spread = float(np.std(first.length))
    stds = (now.value - before.value) / spread if spread else 0.0
    ratio = now.value / before.value if before.value else math.inf if now.value else 1.0
    if abs(stds) > LENGTH_STDS or not 1 / LENGTH_RATIO <= ratio <= LENGTH_RATIO:
        yield Finding(
            "warning",
            "Replies have grown" if ratio > 1 else "Replies have shrunk",
            f"mean length {now} tokens, at first {before}: {ratio:.2g} times, {stds:+.1f} standard deviations",
            "See how much of the gain is length; if most of it, take length out of the reward, or train it on pairs of equal "
            "length.",
        )


def _text_alerts(before: dict[str, Estimate], now: dict[str, Estimate]) -> Iterator[Finding]:
    if now["repetition"].value > max(REPETITION_ALARM * before["repetition"].value, MIN_REPETITION):
        yield Finding(
            "warning",
            "Replies repeat themselves",
            f"repeated runs of four words: {percent(now['repetition'])}, at first {percent(before['repetition'])}",
            "Read the last replies; raise the KL penalty, or penalize repetition in the reward.",
        )
    if now["unique_replies"].value < HALVED * before["unique_replies"].value:
        yield Finding(
            "warning",
            "Different prompts get the same reply",
            f"unique replies: {percent(now['unique_replies'])}, at first {percent(before['unique_replies'])}",
            "Read the last replies: one reply to every prompt is what the reward likes whatever the prompt.",
        )
    if now["finished"].value < HALVED * before["finished"].value:
        yield Finding(
            "warning",
            "Replies no longer end",
            f"ended by themselves: {percent(now['finished'])}, at first {percent(before['finished'])}",
            "Raise the penalty for a missing end, or allow more tokens.",
        )


def _spread_alert(first: Check, last: Check) -> Iterator[Finding]:
    if first.std is None or last.std is None:
        return
    gain = mean_by_prompt(last.proxy - first.proxy, last.prompts)
    wider = mean_by_prompt(last.std - first.std, last.prompts)
    if wider.low > 0 and wider.value > gain.value:
        yield Finding(
            "warning",
            "The members disagree by more than was gained",
            f"spread of the members has grown by {wider}, their mean by {gain}",
            "Take a cautious rule (min, or mean less a multiple of the variance) as the reward.",
        )


def _shift_alert(last: Check) -> Iterator[Finding]:
    if last.shift_p is None:
        return
    known = last.shift_p[~np.isnan(last.shift_p)]
    num_shifted = int(np.count_nonzero(known <= SHIFT_ALPHA))
    share = clopper_pearson(num_shifted, len(known))
    if share.value > SHIFT_ALARM * SHIFT_ALPHA and share.low > SHIFT_ALPHA:
        yield Finding(
            "warning",
            "Replies have left what the reward model was trained on",
            f"{num_shifted} of {len(known)} replies, {percent(share)}, {verb(num_shifted, 'have')} a p-value of at most {SHIFT_ALPHA}; "
            f"{100 * SHIFT_ALPHA:g} % would without a shift",
            "Have such replies compared by people, and train the reward model on them.",
        )


def _truncation_alert(last: Check) -> Iterator[Finding]:
    if last.truncated is not None and last.truncated.any():
        num_cut = int(last.truncated.sum())
        yield Finding(
            "warning",
            "A judge saw only part of some texts",
            f"{num_cut} of {counted(len(last.truncated), 'prompt')} with their replies {verb(num_cut, 'are')} longer than a "
            "reward model reads: the beginning was left out",
            "Shorter replies (optimize.max_tokens) or prompts (policy.max_prompt), or a reward model with a larger "
            "max_length.",
        )


def _variance_alert(first: Check, last: Check) -> Iterator[Finding]:
    before, now = float(np.nanvar(first.proxy)), float(np.nanvar(last.proxy))
    if now < CALM * before:
        yield Finding(
            "warning",
            "Every reply gets about the same reward",
            f"variance between prompts {now:.3g}, at first {before:.3g}",
            "The reward has a ceiling and the policy has reached it: more updates teach nothing useful.",
        )
