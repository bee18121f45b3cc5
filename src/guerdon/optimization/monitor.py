"""Checks of a policy while it is optimized, and what they say: is the reward still true, where was it best, when to stop.

Axes: m checks in order, the first of the untouched policy; p held-out prompts with a reply each, the same prompts at every
check. KL is nats a reply to the reference, length is tokens, rewards are nats. Only gold, a judge that was not optimized,
can give a verdict; everything else gives alerts, which say where to look.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from guerdon.contracts import Estimate, Finding, GuerdonError
from guerdon.errors import did_you_mean, field_error, show_value
from guerdon.formulas import drift
from guerdon.formulas.drift import (
    MIN_REPETITION,
    REPETITION_ALARM,
    SHIFT_ALARM,
    SHIFT_ALPHA,
)
from guerdon.formulas.estimation import clopper_pearson
from guerdon.formulas.overoptimization import MIN_DISTANCE, GoldTrend, gold_trend
from guerdon.formulas.resampling import bootstrap_mean
from guerdon.io import fields as checks
from guerdon.io import readers, schema

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

__all__ = [
    "Check",
    "Judgment",
    "alerts",
    "best",
    "from_row",
    "judge",
    "lead",
    "length_correlation",
    "length_share",
    "measures",
    "read_checks",
    "should_stop",
    "to_row",
]

PATIENCE = 2  # verdicts in a row before a run is stopped: each look is a test of its own

# Where an alert goes off.
FAR = 3.0  # standard deviations of the first check's lengths
LONGER = 1.5  # times the first check's mean length
FEWER = 0.5  # of the first check's unique, or finished, replies
CALMER = 0.2  # of the first check's variance of the reward between prompts


# ---- A check -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """What was measured of the policy after `update` updates. NaN where a reward or a KL is not known.

    prompts: digests. proxy: the reward that is optimized. gold: of a judge that is not. kl: k1 summed over a reply's tokens.
    finished: whether the reply ended by itself. std: spread of the proxy's members. shift_p: conformal p-value of the reply
    being in the reward model's training distribution. kl_coef: what a nat of KL cost at that time. partly_read: whether the
    reward or gold saw only a part of the text, which was too long for it.
    """

    update: int
    kl_coef: float
    prompts: tuple[str, ...]
    proxy: Float[np.ndarray, " p"]
    gold: Float[np.ndarray, " p"] | None
    kl: Float[np.ndarray, " p"]
    length: Float[np.ndarray, " p"]
    finished: Bool[np.ndarray, " p"]
    std: Float[np.ndarray, " p"] | None
    shift_p: Float[np.ndarray, " p"] | None
    texts: tuple[str, ...]
    partly_read: Bool[np.ndarray, " p"] | None = None

    def __post_init__(self) -> None:
        p = len(self.prompts)
        for name in LISTS:
            held = getattr(self, name)
            if held is not None and len(held) != p:
                raise GuerdonError(f"check {self.update}: {name} has {len(held)} places for {p} prompts")
        if p == 0:
            raise GuerdonError(f"check {self.update}: no prompts; remedy: hold out at least one")


NUMBERS = ("proxy", "gold", "kl", "length", "std", "shift_p")
OPTIONAL = ("gold", "std", "shift_p")
LISTS = (*NUMBERS, "finished", "texts", "partly_read")


def to_row(check: Check) -> dict[str, Any]:
    """A check in, plain values for one line of checks.jsonl out. JSON has no NaN: it becomes null."""
    row: dict[str, Any] = {field.name: getattr(check, field.name) for field in fields(Check)}
    for name in NUMBERS:
        if row[name] is not None:
            row[name] = [float(x) if math.isfinite(x) else None for x in row[name]]
    plain = {"prompts": list(check.prompts), "texts": list(check.texts), "finished": [bool(x) for x in check.finished]}
    plain["partly_read"] = None if check.partly_read is None else [bool(x) for x in check.partly_read]
    return row | plain | {"update": int(check.update), "kl_coef": float(check.kl_coef)}


def from_row(row: object) -> Check:
    """The inverse of to_row. An unknown, missing or wrong key is an GuerdonError that names it."""
    known = [field.name for field in fields(Check)]
    needed = [name for name in known if name != "partly_read"]
    if not isinstance(row, Mapping):
        raise GuerdonError(f"a check must be an object, got {show_value(row)}. Use the file as the run wrote it.")
    if unknown := [key for key in row if key not in known]:
        raise GuerdonError(f"{unknown[0]} is not a known field. {did_you_mean(unknown[0], known)}")
    if missing := [name for name in needed if name not in row]:
        raise GuerdonError(f"{missing[0]} is missing. Use the file as the run wrote it.")
    update = row["update"]
    if isinstance(update, bool) or not isinstance(update, int) or update < 0:
        raise field_error("update", "a count of updates, from 0", update)
    values: dict[str, Any] = {"update": update, "kl_coef": checks.as_number(row["kl_coef"], "kl_coef", low=0.0)}
    for name, kind in (("prompts", str), ("texts", str), ("finished", bool)):
        values[name] = tuple(_listed(row[name], name, kind))
    values["finished"] = np.array(values["finished"], dtype=bool)
    if row.get("partly_read") is not None:
        values["partly_read"] = np.array(_listed(row["partly_read"], "partly_read", bool), dtype=bool)
    for name in NUMBERS:
        values[name] = None if row[name] is None and name in OPTIONAL else _numbers(row[name], name)
    return Check(**values)


def read_checks(path: str | Path) -> list[Check]:
    """A checks.jsonl in, its checks in order out; none where there is no file. Errors name file:line.

    A last line without an end, which a killed run leaves behind, is left out.
    """
    place = Path(path)
    if not place.exists():
        return []
    rows = list(readers.read_rows(place))
    if rows and isinstance(rows[-1][1], schema.Rejected) and not place.read_bytes().endswith(b"\n"):
        rows.pop()
    checks: list[Check] = []
    for at, row in rows:
        try:
            if isinstance(row, schema.Rejected):
                raise GuerdonError(row.reason)
            check = from_row(row)
            _refuse_other(checks[0] if checks else check, check)
            if checks and check.update <= checks[-1].update:
                raise GuerdonError(f"update {check.update} follows {checks[-1].update}; remedy: keep one run a file")
        except GuerdonError as error:
            raise GuerdonError(f"{at}: {error}") from None
        checks.append(check)
    return checks


def _listed(value: object, name: str, kind: type) -> list[Any]:
    claim, item_claim = ("a list of texts", "text") if kind is str else ("a list of booleans", "true or false")
    if not isinstance(value, list):
        raise field_error(name, claim, value)
    for i, each in enumerate(value):
        if not isinstance(each, kind):
            raise field_error(f"{name}[{i}]", item_claim, each)
    return value


def _numbers(value: object, name: str) -> np.ndarray:
    if not isinstance(value, list):
        raise field_error(name, "a list of numbers, one per prompt", value)
    return np.array([math.nan if x is None else checks.as_number(x, f"{name}[{i}]") for i, x in enumerate(value)])


# ---- What a check says -------------------------------------------------------------------------------------------


def measures(check: Check, first: Check | None = None, *, draws: int = 2000, seed: int = 0) -> dict[str, Estimate]:
    """A check, and the first one, in; what describes its replies, with intervals by prompt, out.

    Keys: proxy, gold, kl, sqrt_kl, length, finished, shifted (share of replies outside the reward model's training
    distribution at SHIFT_ALPHA, which is also the share expected without any shift), partly_read (share that a judge did not see
    whole), spread, repetition, distinct_1, distinct_2, unique_replies; with the first check proxy_gain, gold_gain and
    length_gain too, prompt by prompt. What was not measured
    is absent.
    """

    def mean(values: np.ndarray) -> Estimate:
        return _mean(values, check.prompts, draws, seed)

    def share(marks: np.ndarray) -> Estimate:
        return _share_of(marks, check.prompts, draws, seed)

    found = {"proxy": mean(check.proxy)}
    if check.gold is not None:
        found["gold"] = mean(check.gold)
    found["kl"] = kl = mean(check.kl)
    value, low, high = (math.sqrt(max(0.0, x)) for x in (kl.value, kl.low, kl.high))
    found["sqrt_kl"] = Estimate(value, low, high, kl.n)
    found["length"] = mean(check.length)
    found["finished"] = share(check.finished.astype(np.float64))
    if check.partly_read is not None:
        found["partly_read"] = share(check.partly_read.astype(np.float64))
    if check.shift_p is not None:
        found["shifted"] = share(np.where(np.isnan(check.shift_p), math.nan, check.shift_p <= SHIFT_ALPHA))
    if check.std is not None:
        found["spread"] = mean(check.std)
    found["repetition"] = share(np.array([drift.repetition(text) for text in check.texts]))
    found["distinct_1"] = Estimate(*drift.distinct(check.texts, 1))
    found["distinct_2"] = Estimate(*drift.distinct(check.texts, 2))
    found["unique_replies"] = Estimate(*drift.unique_share(check.texts))
    if first is not None:
        _refuse_other(first, check)
        found["proxy_gain"] = mean(check.proxy - first.proxy)
        if check.gold is not None and first.gold is not None:
            found["gold_gain"] = mean(check.gold - first.gold)
        found["length_gain"] = mean(check.length - first.length)
    return found


def length_share(checks: Sequence[Check], *, draws: int = 2000, seed: int = 0) -> Estimate | None:
    """Checks in, the share of the proxy's gain that goes with the gain in length out: 1 is all of it, 0 none.

    None where there is nothing to explain (the proxy is not shown to have risen) or the lengths do not vary. How it is
    estimated, and what it is not, is said at `drift.length_effect`.
    """
    proxy, length, names = _gains(checks)
    gain = bootstrap_mean(proxy[-1] - proxy[0], names, draws=draws, seed=seed)
    share = drift.length_effect(proxy, length, draws, seed).share
    return None if not gain.low > 0 or math.isnan(share.value) else Estimate(*share)


def length_correlation(checks: Sequence[Check], *, draws: int = 2000, seed: int = 0) -> Estimate | None:
    """Checks in, the correlation over prompts of the gain in proxy with the gain in length out; None where neither varies."""
    proxy, length, _ = _gains(checks)
    found = drift.length_effect(proxy, length, draws, seed).correlation
    return None if math.isnan(found.value) else Estimate(*found)


def alerts(checks: Sequence[Check], *, draws: int = 2000, seed: int = 0) -> tuple[Finding, ...]:
    """Checks in, what stands out in the last beside the first out. Alerts, not verdicts: each also has honest causes."""
    if len(checks) < 2:
        return ()
    first, last = checks[0], checks[-1]
    _refuse_other(first, last)
    before, now = (measures(check, draws=draws, seed=seed) for check in (first, last))
    found = [
        _length_alert(first, before["length"], now["length"]),
        _alert(
            now["repetition"].value > max(REPETITION_ALARM * before["repetition"].value, MIN_REPETITION),
            "Replies repeat themselves",
            f"repeated runs of four words: {_share(now['repetition'])}, at first {_share(before['repetition'])}",
            "Read the last replies; raise the KL penalty, or penalize repetition in the reward.",
        ),
        _alert(
            now["unique_replies"].value < FEWER * before["unique_replies"].value,
            "Different prompts get the same reply",
            f"unique replies: {_share(now['unique_replies'])}, at first {_share(before['unique_replies'])}",
            "Read the last replies: a policy that says one thing has found what the reward likes whatever is asked.",
        ),
        _alert(
            now["finished"].value < FEWER * before["finished"].value,
            "Replies no longer end",
            f"ended by themselves: {_share(now['finished'])}, at first {_share(before['finished'])}",
            "Charge more for a missing end, or allow more tokens.",
        ),
        _spread_alert(first, last, draws, seed),
        _shift_alert(last),
        _reading_alert(last),
        _variance_alert(first, last),
    ]
    return tuple(finding for finding in found if finding is not None)


def _alert(fires: bool, title: str, evidence: str, remedy: str) -> Finding | None:
    return Finding("warning", title, evidence, remedy) if fires else None


def _length_alert(first: Check, before: Estimate, now: Estimate) -> Finding | None:
    spread = float(np.std(first.length))
    away = (now.value - before.value) / spread if spread else 0.0
    times = now.value / before.value if before.value else math.inf if now.value else 1.0
    fires = abs(away) > FAR or not 1 / LONGER <= times <= LONGER
    evidence = f"mean length {now} tokens, at first {before}: {times:.2g} times, {away:+.1f} standard deviations"
    remedy = "See how much of the gain is length; if most, take length out of the reward, or train it on pairs of equal length."
    return _alert(fires, "Replies have grown" if times > 1 else "Replies have shrunk", evidence, remedy)


def _spread_alert(first: Check, last: Check, draws: int, seed: int) -> Finding | None:
    if first.std is None or last.std is None:
        return None
    gain = _mean(last.proxy - first.proxy, last.prompts, draws, seed)
    wider = _mean(last.std - first.std, last.prompts, draws, seed)
    return _alert(
        wider.low > 0 and wider.value > gain.value,
        "The members disagree by more than was gained",
        f"spread of the members has grown by {wider}, their mean by {gain}",
        "Take a cautious rule (min, or mean less a multiple of the variance) as the reward.",
    )


def _shift_alert(last: Check) -> Finding | None:
    if last.shift_p is None:
        return None
    known = last.shift_p[~np.isnan(last.shift_p)]
    outside = int(np.count_nonzero(known <= SHIFT_ALPHA))
    share = clopper_pearson(outside, len(known))
    return _alert(
        share.value > SHIFT_ALARM * SHIFT_ALPHA and share.low > SHIFT_ALPHA,
        "Replies have left what the reward model was trained on",
        f"{outside} of {len(known)} replies, {_share(Estimate(*share))}, have a p-value of at most {SHIFT_ALPHA}; "
        f"{100 * SHIFT_ALPHA:g} % would without a shift",
        "Have such replies compared by people, and train the reward model on them.",
    )


def _reading_alert(last: Check) -> Finding | None:
    if last.partly_read is None or not last.partly_read.any():
        return None
    outside = int(last.partly_read.sum())
    return Finding(
        "warning",
        "A judge saw only part of some texts",
        f"{outside} of {len(last.partly_read)} prompts with their replies are longer than a reward model reads: the "
        "beginning was left out",
        "Shorter replies (optimize.max_tokens) or prompts (policy.max_prompt), or a reward model with a larger max_length.",
    )


def _variance_alert(first: Check, last: Check) -> Finding | None:
    before, now = float(np.nanvar(first.proxy)), float(np.nanvar(last.proxy))
    return _alert(
        now < CALMER * before,
        "Every reply gets about the same reward",
        f"variance between prompts {now:.3g}, at first {before:.3g}",
        "The reward has a ceiling and the policy stands at it: more updates teach nothing that is wanted.",
    )


# ---- What the checks say together --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Judgment:
    """Whether the reward is still true, and the sentence that says so.

    since_kl: nats a reply, for "over-optimized" only. verdict: the numbers behind it, None where nothing could be measured.
    """

    kind: Literal["fine", "flattening", "over-optimized", "insufficient"]
    since_kl: float | None
    text: str
    trend: GoldTrend | None = None


def judge(checks: Sequence[Check], *, draws: int = 2000, seed: int = 0) -> Judgment:
    """Checks in, the verdict of their gold out, by the rule of `overoptimization.gold_trend`.

    Prompts that lack a number at any check are left out, and first the checks that lack most (`drift.complete_rows`). Without
    a gold nothing is concluded.
    """

    def unable(text: str) -> Judgment:
        return Judgment("insufficient", None, text)

    if not checks:
        return unable("No check has been made; remedy: hold out prompts and check them now and then.")
    if any(check.gold is None for check in checks):
        return unable(
            "Without a gold judge nothing can be concluded, there are only alerts; remedy: name a second judge that is "
            "not optimized: a reward model trained on other comparisons, a rule, a stronger model."
        )
    if len(checks) < 2:
        return unable("Too little evidence for a verdict: one check; remedy: go on to the next.")
    _, gold, kl = _columns(checks, "gold", "kl")
    if gold.shape[1] == 0:
        return unable("No prompt has gold and KL at every check; remedy: see why the judge gives no finite number.")
    d = _distance(checks, kl)
    if d[0] >= MIN_DISTANCE or d[0] > d.min():
        return unable("The first check is not of the untouched policy; remedy: check at update 0.")
    found = gold_trend(d, gold.T, seed, draws)
    text = drift.describe_trend(found, float(d.max() ** 2))
    if found.kind == "insufficient" and d.max() > d.min():
        text += " Remedy: hold out more prompts (64, say)."
    return Judgment(found.kind, found.since_kl, text, found)


def should_stop(checks: Sequence[Check], *, patience: int = PATIENCE, draws: int = 2000, seed: int = 0) -> str | None:
    """Checks in; why a run should end here out, or None.

    It should once `patience` checks in a row found gold fallen from its best beyond doubt: a verdict after each check is
    a test after each check, and one of many alarms by chance.
    """
    reason = None
    for held in range(patience):
        found = judge(checks[: len(checks) - held], draws=draws, seed=seed)
        if found.kind != "over-optimized":
            return None
        reason = reason or found.text
    return reason


def best(checks: Sequence[Check]) -> int:
    """Checks in, the update with the highest mean gold out (the earliest of equals). `lead` says what that is worth."""
    rows, gold = _gold(checks)
    return checks[int(rows[np.argmax(gold.mean(axis=1))])].update


def lead(checks: Sequence[Check], *, draws: int = 2000, seed: int = 0) -> Estimate:
    """Checks in, how far the gold of the `best` stands above that of the last out. Where it reaches 0, stay with the last.

    The best was chosen because it is high; the interval allows for that, as the drop of `overoptimization.gold_trend` does.
    """
    rows, gold = _gold(checks)
    if len(rows) < 2:
        return Estimate(0.0, math.nan, math.nan, gold.shape[1])
    in_time = rows.astype(np.float64)  # the last in time, not the farthest, is what would be kept
    return Estimate(*gold_trend(in_time, gold.T, seed, draws).drop)


def _gold(checks: Sequence[Check]) -> tuple[np.ndarray, np.ndarray]:
    """Places of the checks that are compared, and gold [m, u] by such check and different prompt."""
    if not checks or any(check.gold is None for check in checks):
        raise GuerdonError("the best check is the one with the best gold, and there is none; remedy: name a gold judge")
    rows, gold = _columns(checks, "gold")
    if gold.shape[1] == 0:
        raise GuerdonError("gold: no prompt has a finite number at every check; remedy: see why the judge gives none")
    return rows, gold


def _gains(checks: Sequence[Check]) -> tuple[np.ndarray, np.ndarray, range]:
    """Proxy and length [m, u], and a name for each different prompt."""
    if not checks:
        raise GuerdonError("no check has been made; remedy: give at least one")
    _, proxy, length = _columns(checks, "proxy", "length")
    return proxy, length, range(proxy.shape[1])


def _columns(checks: Sequence[Check], *names: str) -> tuple[np.ndarray, ...]:
    """Places of the checks that are compared, then each named number [m, u] there, for the prompts that have all of them at
    all of these; equal ones as one."""
    for check in checks:
        _refuse_other(checks[0], check)
    tables = [np.stack([np.asarray(getattr(check, name), dtype=np.float64) for check in checks]) for name in names]
    rows = drift.complete_rows(*tables)
    return rows, *drift.complete_prompts(checks[0].prompts, *(table[rows] for table in tables))


def _distance(checks: Sequence[Check], kl: np.ndarray) -> np.ndarray:
    """Root of the mean KL [m]. That of the untouched policy is 0, whatever rounding says; an estimate below 0 is 0."""
    d: np.ndarray = np.sqrt(np.maximum(kl.mean(axis=1), 0.0))
    if checks[0].update == 0 and d[0] < MIN_DISTANCE:
        d[0] = 0.0
    return d


def _refuse_other(first: Check, check: Check) -> None:
    if check.prompts != first.prompts:
        raise GuerdonError(
            f"check {check.update}: its prompts are not those of check {first.update}; remedy: check the same prompts in "
            "the same order every time"
        )
    for name in OPTIONAL:
        if (getattr(check, name) is None) != (getattr(first, name) is None):
            raise GuerdonError(
                f"check {check.update}: {name} is in some checks and not in others; remedy: measure it in all, or in none"
            )


def _mean(values: np.ndarray, groups: Sequence[str], draws: int, seed: int) -> Estimate:
    """The mean of what is known, by prompt."""
    known = np.isfinite(values)
    names = [name for name, kept in zip(groups, known, strict=True) if kept]
    return Estimate(*bootstrap_mean(np.asarray(values, dtype=np.float64)[known], names, draws=draws, seed=seed))


def _share_of(marks: np.ndarray, groups: Sequence[str], draws: int, seed: int) -> Estimate:
    """As `_mean`, of shares; where all are 0 or all 1 nothing is left to resample: the exact interval."""
    found = _mean(marks, groups, draws, seed)
    if found.value in (0.0, 1.0):
        return Estimate(*clopper_pearson(round(found.value * found.n), found.n))
    return found


def _share(found: Estimate) -> str:
    return f"{100 * found.value:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"
