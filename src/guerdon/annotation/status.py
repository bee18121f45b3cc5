"""Where a project stands, from counts and summaries alone: no query reads more rows than there are people, hours or leases."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from scipy.special import chdtri

from guerdon.annotation.counting import OPEN_TO_ALL, project_counts
from guerdon.annotation.project import Project
from guerdon.annotation.summaries import estimate_json, read_summaries
from guerdon.config.annotation import PAIR_VERDICTS
from guerdon.formulas.clustered import clustered_mean
from guerdon.formulas.estimation import Interval, mcnemar, wilson
from guerdon.store import annotation_tables, tables

__all__ = ["hourly_rate", "overview", "people", "project_status", "side_p_value"]

HOUR: Final = 3600.0
MOST_HOURS: Final = 168  # that a rate looks back on
FEWEST_HOURS: Final = 6  # whole ones, that an interval between hours needs
SURE: Final = 0.001  # p-value from which a habit is flagged
FAST_SHARE: Final = 0.1  # of judgments faster than anybody reads, from which speed is flagged
FEWEST_FAST: Final = 3


def project_status(project: Project, now: float) -> dict[str, Any]:
    """The overview and the people together, as JSON."""
    return {"project": project.name, "state": project.state, **overview(project, now), "people": people(project)}


def overview(project: Project, now: float) -> dict[str, Any]:
    """Items by state, judgments, skips by reason, leases that are held, the rate, and when the rest will be done."""
    counts = project_counts(project.database, project.name)
    items: dict[str, dict[str, int]] = defaultdict(dict)
    skips: dict[str, int] = {}
    hours: dict[int, int] = {}
    for key, number in counts.items():
        kind, _, rest = key.partition(":")
        if kind == "items" and number:
            purpose, _, status = rest.partition(":")
            items[purpose][status] = number
        elif kind == "skips":
            skips[rest] = number
        elif kind == "hour":
            hours[int(rest)] = number
    remaining = counts.get("needed", 0)
    rate = hourly_rate(hours, now, _began(project, hours, now))
    return {
        "items": dict(items),
        "tasks": _added(items),
        "judgments": counts.get("judgments", 0),
        "revisions": counts.get("revisions", 0),
        "late": counts.get("late", 0),
        "all_bad": counts.get("all_bad", 0),
        "skips": dict(sorted(skips.items(), key=lambda pair: -pair[1])),
        "held": _held(project, now),
        "remaining_judgments": remaining,
        "judgments_per_hour": None if rate is None else estimate_json(rate),
        "hours_left": _hours_left(remaining, rate),
        "hourly": [hours.get(hour, 0) for hour in _last_hours(hours, now)],
    }


def _added(items: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Items that count toward the work, by state."""
    total: dict[str, int] = defaultdict(int)
    for purpose in OPEN_TO_ALL:
        for status, number in items.get(purpose, {}).items():
            total[status] += number
    return dict(total)


# ---- Rate ----------------------------------------------------------------------------------------------------------


def hourly_rate(hours: Mapping[int, int], now: float, began: float = 0.0) -> Interval | None:
    """Judgments per hour, with an interval; nights and breaks count as hours without. None before the first judgment.

    hours: how many in each hour since 1970. began: when the work of the first of these hours began. With six whole hours or more,
    Student's interval between hours, of the last week; with fewer, the exact one of a Poisson rate (Garwood 1936), which is too
    narrow where the pace varies.
    """
    worked = [hour for hour, number in hours.items() if number > 0]
    if not worked:
        return None
    current = int(now // HOUR)
    start = max(min(worked), current - MOST_HOURS)
    whole = np.array([hours.get(hour, 0) for hour in range(start, current)], dtype=np.float64)
    if len(whole) >= FEWEST_HOURS and whole.any():
        return clustered_mean(whole, np.arange(len(whole)), within=(0.0, math.inf))
    number = sum(hours.get(hour, 0) for hour in range(start, current + 1))
    seconds = max(60.0, now - max(start * HOUR, began))
    low = float(chdtri(2 * number, 0.975)) / 2 if number else 0.0
    high = float(chdtri(2 * number + 2, 0.025)) / 2
    per_hour = HOUR / seconds
    return Interval(number * per_hour, low * per_hour, high * per_hour, number)


def _began(project: Project, hours: Mapping[int, int], now: float) -> float:
    """When the first item was claimed, of a project that has worked for a few hours: its first hour is not a whole one."""
    first = HOUR * min((hour for hour, number in hours.items() if number), default=0)
    if now - first > HOUR * (FEWEST_HOURS + 1):
        return 0.0
    presentations, items, work = tables.presentations.c, tables.items.c, annotation_tables.work_counts.c
    query = (
        sa.select(sa.func.min(presentations.issued))
        .join_from(tables.items, tables.presentations, items.id == presentations.item_id)
        .join(annotation_tables.work_counts, work.annotator_id == presentations.annotator_id)
        .where(presentations.issued >= first, items.project == project.name, work.project == project.name)
    )
    with project.database.reading() as connection:
        return float(connection.scalar(query) or 0.0)


def _hours_left(remaining: int, rate: Interval | None) -> dict[str, Any] | None:
    """Hours until nothing is left at this rate; null where the rate may be 0."""
    if rate is None or rate.value <= 0:
        return None
    high = remaining / rate.low if rate.low > 0 else math.inf
    low = remaining / rate.high if rate.high > 0 else math.nan
    return estimate_json(Interval(remaining / rate.value, low, high, rate.n))


def _last_hours(hours: Mapping[int, int], now: float) -> range:
    current = int(now // HOUR)
    first = min((hour for hour, number in hours.items() if number), default=current)
    return range(max(first, current - 71), current + 1)


def _held(project: Project, now: float) -> list[dict[str, Any]]:
    """Leases, the ones that end first above; a lease that has ended counts until somebody else claims."""
    presentations, items = tables.presentations.c, tables.items.c
    query = (
        sa.select(tables.annotators.c.name, presentations.issued, presentations.expires)
        .join_from(tables.presentations, tables.items, items.id == presentations.item_id)
        .join(tables.annotators, tables.annotators.c.id == presentations.annotator_id)
        .where(presentations.state == sa.literal_column("'held'"), items.project == project.name)
        .order_by(presentations.expires)
    )
    with project.database.reading() as connection:
        rows = connection.execute(query).all()
    return [
        {"name": row.name or "unnamed", "seconds": now - (row.issued or now), "expires_in": (row.expires or now) - now}
        for row in rows
    ]


# ---- People --------------------------------------------------------------------------------------------------------


def people(project: Project) -> list[dict[str, Any]]:
    """Each person who has worked here, or may: what they did, how their checks went, and what is odd about them."""
    work, accounts, annotators = annotation_tables.work_counts, annotation_tables.accounts, tables.annotators
    of_work = sa.and_(work.c.annotator_id == annotators.c.id, work.c.project == project.name)
    query = (
        sa.select(
            annotators.c.id,
            annotators.c.name,
            accounts.c.id.label("account_id"),
            accounts.c.display_name,
            accounts.c.role,
            accounts.c.state,
            *(column for column in work.c if column.name not in ("project", "annotator_id")),
        )
        .join_from(annotators, work, of_work, isouter=True)
        .join(accounts, accounts.c.annotator_id == annotators.c.id, isouter=True)
        .where(sa.or_(work.c.annotator_id.isnot(None), accounts.c.id.isnot(None)))
        .order_by(annotators.c.name)
    )
    with project.database.reading() as connection:
        rows = connection.execute(query).mappings().all()
    abilities = read_summaries(project.database, project.name).get("abilities", {"content": []})["content"]
    by_id = {row["annotator_id"]: row for row in abilities}
    is_of_pairs = project.options.verdict in PAIR_VERDICTS
    everyone = [_person(dict(row), by_id.get(row["id"], {}), is_of_pairs) for row in rows]
    return sorted(everyone, key=lambda row: (-row["submitted"], row["name"]))


def _person(row: Mapping[str, Any], ability: Mapping[str, Any], is_of_pairs: bool) -> dict[str, Any]:
    number = {name: int(row[name] or 0) for name in annotation_tables.COUNTS}
    submitted = number["submitted"]
    seconds = float(row["active_ms_total"] or 0.0) / 1000 / submitted if submitted else None
    return {
        "annotator_id": row["id"],
        "account_id": row["account_id"],
        "name": row["name"] or "unnamed",
        "display_name": row["display_name"] or row["name"] or "unnamed",
        "role": row["role"],
        "state": row["state"],
        "submitted": submitted,
        "skipped": number["skipped"],
        "late": number["late"],
        "mean_seconds": seconds,
        "last_at": row["last_at"],
        "gold": estimate_json(wilson(number["gold_passed"], number["gold_seen"])),
        "attention": estimate_json(wilson(number["attention_passed"], number["attention_seen"])),
        "same_again": estimate_json(wilson(number["repeats_agreed"], number["repeats_seen"])),
        "first_side": estimate_json(wilson(number["first_side"], number["decided"])),
        "ability": ability.get("ability"),
        "agrees_with_others": ability.get("agrees_with_others"),
        "flags": _flags(number, ability, is_of_pairs),
    }


def _flags(number: Mapping[str, int], ability: Mapping[str, Any], is_of_pairs: bool) -> list[str]:
    """What is odd about a person. Sides are looked at where two responses are shown, so that each is as likely as the other."""
    flags = []
    first, decided = number["first_side"], number["decided"]
    if is_of_pairs and side_p_value(first, decided) < SURE:
        flags.append("prefers the first shown" if 2 * first > decided else "prefers the second shown")
    if is_of_pairs and _run_p_value(number["longest_run"], decided) < SURE:
        flags.append(f"one side {number['longest_run']} times in a row")
    if number["fast"] >= FEWEST_FAST and number["fast"] > FAST_SHARE * number["submitted"]:
        flags.append("faster than anybody reads")
    if ability.get("is_reversed"):
        flags.append("votes say the opposite")
    return flags


def side_p_value(first: int, decided: int) -> float:
    """Two-sided p-value of choosing both sides equally often: sides are drawn evenly, so an attentive person does."""
    return mcnemar(first, decided - first)


def _run_p_value(longest: int, decided: int) -> float:
    """A bound on the chance of so long a run of one side in so many fair decisions: a run may start at each of them."""
    return min(1.0, (decided - longest + 2) * 0.5 ** (longest - 1)) if longest > 1 else 1.0
