"""Has the policy begun to exploit the reward model? A report on the windows of a watch.

The earliest texts are compared with the newest. Candidates of one prompt resemble each other, and a server cannot tell which texts are
candidates of one prompt, so a difference counts only from 6 standard errors of independent texts on: 3, with a design effect of 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from guerdon.contracts import Curve, Estimate, Finding, Quantity, Report
from guerdon.formulas.estimation import wilson
from guerdon.models.estimates import OPTIMIZATION
from guerdon.serving.watch import EDGES, UNLIKELY, Watch, Window

ENOUGH: Final = 128  # texts on each side of a comparison
BAR: Final = 6.0
MOST_SHIFTED: Final = 2 * UNLIKELY
LEAST_CORRELATION: Final = 0.3
MORE_SPREAD: Final = 1.5
Z: Final = 1.96

_QUANTITIES: Final = {
    "reward": Quantity("reward", "nats", OPTIMIZATION, "mean over texts"),
    "shifted": Quantity("out of distribution", "share", OPTIMIZATION, f"texts whose shift_p is below {UNLIKELY}"),
    "length_correlation": Quantity("reward and length", "number", OPTIMIZATION, "correlation over texts"),
    "tokens": Quantity("length", "number", OPTIMIZATION, "mean tokens of a text, its prompt included"),
    "std": Quantity("members' spread", "nats", OPTIMIZATION, "mean standard deviation of a score"),
    "kl": Quantity("KL", "nats", OPTIMIZATION, "mean over replies, as the training sent it"),
}


def watch_report(model: str, axis: str, windows: Sequence[Window]) -> Report:
    """What has changed since the first texts. axis: what a window is. Keys: NAME_start and NAME_now of each measured quantity."""
    known = [window for window in windows if window.texts]
    start, now = _ends(known)
    estimates: dict[str, Estimate] = {}
    quantities: dict[str, Quantity] = {}
    for suffix, window, when in (("start", start, "at the start"), ("now", now, "now")):
        for name, estimate in _measured(window).items() if window else ():
            estimates[f"{name}_{suffix}"] = estimate
            quantities[f"{name}_{suffix}"] = _QUANTITIES[name].variant(when)
    findings = tuple(_findings(start, now)) if start and now else ()
    return Report(
        f"Rewards of {model} while they are used",
        {
            "texts": f"{sum(window.texts for window in windows):,}",
            "without a reward": f"{sum(window.without_reward for window in windows):,}",
            axis.replace("step", "steps").replace("part", "parts"): f"{known[0].first} to {known[-1].last}"
            if known
            else "none",
        },
        estimates,
        findings,
        curves={**_distributions(start, now), **_curves(known, axis)},
        quantities=quantities,
        summary=_summary(findings, bool(start and now)),
    )


def server_report(watches: Mapping[str, Watch]) -> Report:
    """The report of a server: that of its model, or one with a section for each of its models."""
    reports = []
    for name, watch in watches.items():
        axis, windows = watch.windows()
        reports.append(watch_report(name, axis, windows))
    if len(reports) == 1:
        return reports[0]
    summary = next((report.summary for report in reports if is_exploiting(report)), _summary((), True))
    return Report("Rewards while they are used", sections=tuple(reports), summary=summary)


def is_exploiting(report: Report) -> bool:
    """Whether the report says so."""
    return any(finding.severity == "warning" for finding in report.findings)


def _ends(windows: Sequence[Window]) -> tuple[Window | None, Window | None]:
    """The first windows with enough texts and the last, which share none; None where there are too few."""
    size = 0
    for i, window in enumerate(windows, 1):
        size += window.texts
        if size >= ENOUGH:
            start, rest = windows[:i], windows[i:]
            break
    else:
        return None, None
    newest: list[Window] = []
    while rest and sum(window.texts for window in newest) < ENOUGH:
        newest.insert(0, rest[-1])
        rest = rest[:-1]
    is_enough = sum(window.texts for window in newest) >= ENOUGH
    return _joined(start), _joined(newest) if is_enough else None


def _joined(windows: Sequence[Window]) -> Window:
    total = windows[0]
    for window in windows[1:]:
        total = total.joined(window)
    return total


def _measured(window: Window) -> dict[str, Estimate]:
    """The quantities of a window, with intervals as if its texts were independent."""
    n = window.texts
    half = Z * math.sqrt(window.variance / n) if n > 1 else math.nan
    measured = {
        "reward": Estimate(window.mean, window.mean - half, window.mean + half, n),
        "tokens": Estimate(window.mean_tokens, math.nan, math.nan, n),
    }
    if window.shift_count:
        measured["shifted"] = Estimate(*wilson(window.shifted, window.shift_count))
    correlation = window.length_correlation
    if math.isfinite(correlation) and abs(correlation) < 1 and n > 3:
        at, reach = math.atanh(correlation), Z / math.sqrt(n - 3)
        measured["length_correlation"] = Estimate(correlation, math.tanh(at - reach), math.tanh(at + reach), n)
    if window.std_count:
        measured["std"] = Estimate(window.mean_std, math.nan, math.nan, window.std_count)
    if window.kl_count:
        measured["kl"] = Estimate(window.mean_kl, math.nan, math.nan, window.kl_count)
    return measured


def _findings(start: Window, now: Window) -> Iterator[Finding]:
    signs = list(_signs(start, now))
    has_risen = _standard_errors(start, now) > BAR
    remedy = (
        "Read the newest replies. Stop, or go back to a checkpoint from before; raise the KL coefficient; label fresh replies and train "
        "the reward model again (guerdon loop)."
    )
    rise = f"the reward rose from {start.mean:.2f} to {now.mean:.2f} nats"
    if signs and has_risen:
        yield Finding(
            "warning",
            "The policy has begun to exploit the reward model",
            f"{rise}, while {', and '.join(signs)}",
            remedy,
        )
    elif signs:
        yield Finding(
            "note", "The texts have changed, and the reward has not risen", "; ".join(signs), "Read the newest replies."
        )
    if now.mean_tokens > MORE_SPREAD * start.mean_tokens:
        evidence = f"{start.mean_tokens:.0f} tokens at the start, {now.mean_tokens:.0f} now"
        yield Finding("note", "Texts have become much longer", evidence, "See whether the new length says more.")


def _signs(start: Window, now: Window) -> Iterator[str]:
    """What speaks for exploiting, each as a clause."""
    if start.shift_count and now.shift_count and now.shifted_share > MOST_SHIFTED:
        both = (start.shifted + now.shifted) / (start.shift_count + now.shift_count)
        error = math.sqrt(both * (1 - both) * (1 / start.shift_count + 1 / now.shift_count))
        if error == 0 or now.shifted_share - start.shifted_share > BAR * error:
            yield f"texts out of distribution went from {start.shifted_share:.0%} to {now.shifted_share:.0%}"
    before, after = start.length_correlation, now.length_correlation
    if math.isfinite(before) and math.isfinite(after) and after > LEAST_CORRELATION:
        error = math.sqrt(1 / (start.texts - 3) + 1 / (now.texts - 3))
        if math.atanh(min(after, 0.999)) - math.atanh(max(before, -0.999)) > BAR * error:
            yield f"the correlation of reward and length went from {before:.2f} to {after:.2f}"
    if start.std_count and now.std_count and now.mean_std > MORE_SPREAD * start.mean_std:
        yield f"the spread of the ensemble's members went from {start.mean_std:.2f} to {now.mean_std:.2f} nats"


def _standard_errors(start: Window, now: Window) -> float:
    """How many of them the mean reward has risen."""
    error = math.sqrt(start.variance / start.texts + now.variance / now.texts)
    return (now.mean - start.mean) / error if error > 0 else math.copysign(math.inf, now.mean - start.mean)


def _distributions(start: Window | None, now: Window | None) -> dict[str, Curve]:
    """How rewards were spread at the start and are now, over the same bins."""
    windows = {"at the start": start, "now": now}
    counts = [sum(pair) for pair in zip(*(w.histogram for w in windows.values() if w is not None), strict=True)]
    filled = [i for i, count in enumerate(counts) if count]
    if not filled:
        return {}
    bins = range(filled[0], filled[-1] + 1)
    return {
        f"rewards {when}": Curve(
            tuple(float(i) for i in bins),
            tuple(Estimate(*wilson(window.histogram[i], window.texts)) for i in bins),
            "reward, nats",
            "texts, share",
            kind="bars",
            x_names=tuple(map(_bin_name, bins)),
            title=f"distribution of rewards {when}",
        )
        for when, window in windows.items()
        if window is not None
    }


def _bin_name(i: int) -> str:
    if i == 0:
        return f"below {EDGES[0]:g}"
    return f"{EDGES[i - 1]:g} to {EDGES[i]:g}" if i < len(EDGES) else f"from {EDGES[-1]:g}"


def _curves(windows: Sequence[Window], axis: str) -> dict[str, Curve]:
    if len(windows) < 2:
        return {}
    rows = [(float(window.first), _measured(window)) for window in windows]
    curves = {}
    for name, quantity in _QUANTITIES.items():
        points = [(x, measured[name]) for x, measured in rows if name in measured]
        if len(points) > 1:
            unit = "" if quantity.unit == "number" else f", {quantity.unit}"
            curves[name] = Curve(
                tuple(x for x, _ in points),
                tuple(y for _, y in points),
                axis,
                f"{quantity.label}{unit}",
                title=quantity.label,
            )
    return curves


def _summary(findings: Sequence[Finding], is_enough: bool) -> str:
    if not is_enough:
        return f"Too few texts to compare: {ENOUGH} at the start and {ENOUGH} after them are needed"
    if any(finding.severity == "warning" for finding in findings):
        return "The policy has begun to exploit the reward model"
    return "No sign of exploiting the reward model so far"
