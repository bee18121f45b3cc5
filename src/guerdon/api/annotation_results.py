"""What came of an annotation project: status, labels, exports, and decisions where people disagree."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from guerdon.config import ExportOptions, make
from guerdon.contracts import Comparison, GuerdonError
from guerdon.errors import did_you_mean, field_error, show_value

if TYPE_CHECKING:
    from guerdon.annotation.answers import Answer
    from guerdon.annotation.project import Project
    from guerdon.api.conversion import Conversion

__all__ = [
    "adjudicate", "adjudication_queue", "annotation_status", "export_annotation", "label_annotation", "summarize_annotation",
]  # fmt: skip

USUAL_STRENGTH: Final = 2


def annotation_status(store: str | Path, project: str | None = None) -> dict[str, Any]:
    """Items by state, rate and what is left, leases, skips, agreement, and what each person did. Reads counts and summaries alone."""
    from guerdon.annotation.status import project_status
    from guerdon.annotation.summaries import read_summaries

    with _opened(store, project) as work:
        agreement = read_summaries(work.database, work.name).get("agreement")
        return {**project_status(work, time.time()), "agreement": agreement}


def summarize_annotation(store: str | Path, project: str | None = None) -> dict[str, Any]:
    """Compute agreement, abilities and disagreements from the votes as they are now, and store them."""
    from guerdon.annotation.summaries import summarize

    with _opened(store, project) as work:
        return summarize(work, time.time())


def label_annotation(store: str | Path, project: str | None = None, method: str | None = None) -> dict[str, Any]:
    """Write the label of each item that people judged into the store, in place of earlier ones.

    method: ability, majority or dawid_skene; by default ability where people judged the same items, else majority.
    """
    from guerdon.annotation.labels import label_items

    with _opened(store, project) as work:
        return {"project": work.name, **asdict(label_items(work, time.time(), method))}


def export_annotation(
    store: str | Path,
    out: str | Path,
    project: str | None = None,
    *,
    each: bool = False,
    all_revisions: bool = False,
    names: bool = False,
    purposes: Collection[str] = (),
    rejected_file: str | Path | None = None,
    **options: Any,
) -> Conversion:
    """Write a project's items in any format of `guerdon convert`: one row per item, or per judgment with `each`.

    all_revisions: judgments that were replaced too. names: people's names in place of pseudonyms. purposes: gold, attention,
    training or repeat, which are left out unless named. Keywords are ExportOptions; the format is native by default.
    """
    from guerdon.annotation.counting import OPEN_TO_ALL
    from guerdon.annotation.exporting import exported
    from guerdon.api.conversion import convert_rows
    from guerdon.data.exporters import EXPORTERS
    from guerdon.store.tables import PURPOSES

    for purpose in purposes:
        if purpose not in PURPOSES:
            raise field_error("--include", f"one of {', '.join(PURPOSES)}", purpose, did_you_mean(purpose, PURPOSES))
    chosen = make(ExportOptions, {"format": "native", **options})
    if not each and chosen.format in EXPORTERS and EXPORTERS[chosen.format].has_margin and chosen.ties != "margin0":
        # votes together have no strength, and a decision has: a column of margins needs all
        chosen = make(ExportOptions, {"format": "native", "margin_scale": 0.0, **options})
    with _opened(store, project) as work:
        rows: Iterator[Comparison] = exported(
            work, each=each, all_revisions=all_revisions, names=names, purposes={*OPEN_TO_ALL, *purposes}
        )
        return convert_rows(rows, out, chosen, rejected_file)


# ---- Decisions -----------------------------------------------------------------------------------------------------


def adjudication_queue(store: str | Path, project: str | None = None, limit: int = 20) -> list[dict[str, Any]]:
    """Items that need a decision, or on which people are split: responses in the order that an answer numbers from 1, and votes.

    On which ones people are split is as last computed, and computed where it never was.
    """
    from guerdon.annotation import adjudicating
    from guerdon.annotation.summaries import read_summaries, summarize

    with _opened(store, project) as work:
        if "disagreements" not in read_summaries(work.database, work.name):
            summarize(work, time.time())
        return [_case_json(adjudicating.case(work, each.item_id), each) for each in adjudicating.queue(work, limit)]


def adjudicate(
    store: str | Path,
    item: str,
    answer: str,
    project: str | None = None,
    by: str | None = None,
    rationale: str | None = None,
) -> dict[str, Any]:
    """Decide an item: its label, whatever people voted. Returns the label.

    answer: 1 or 2, the better response as the queue numbers them, tie or bad; of more responses an order such as 2>1=3.
    by: the login of who decides, an owner, manager or adjudicator; the first owner by default.
    """
    from guerdon.annotation.adjudicating import case, decide, handles_for
    from guerdon.io.schema import preference_to_row

    with _opened(store, project) as work:
        who, login = _adjudicator(work, by)
        k = len(case(work, item).shown.responses)
        given = _answer(work, answer, handles_for(work, who, item, k), rationale)
        label = decide(work, who, item, given, time.time())
    is_bad = {"all_bad": True} if given.both_bad else {}
    return {"item": item, "project": work.name, "by": login, "label": {**preference_to_row(label), **is_bad}}


def _case_json(case: Any, waiting: Any) -> dict[str, Any]:
    from guerdon.io.schema import preference_to_row

    opinions = [
        {
            "name": opinion.name,
            **(
                {"skipped": opinion.skip_reason}
                if opinion.preference is None
                else preference_to_row(opinion.preference)
            ),
            **({"all_bad": True} if opinion.all_bad else {}),
            **({"rationale": opinion.rationale} if opinion.rationale else {}),
        }
        for opinion in case.opinions
    ]
    return {
        "item": case.item_id,
        "reason": waiting.reason,
        "prompt": waiting.prompt,
        "responses": [response.text for response in case.shown.responses],
        "opinions": opinions,
    }


def _adjudicator(project: Project, login: str | None) -> tuple[str, str]:
    """The annotator id and the login of who decides."""
    from guerdon.annotation.accounts import ADJUDICATE, account_by_login, first_owner

    if login is None:
        if (owner := first_owner(project.database)) is None:
            raise field_error(
                "--by", "the login of who decides, where the store has no owner", None, "Pass --by LOGIN."
            )
        return owner.annotator_id, owner.login
    account = account_by_login(project.database, login)
    if account is None or account.role not in ADJUDICATE or account.state != "active":
        claim = "the login of an owner, manager or adjudicator who is active"
        raise field_error("--by", claim, login, "Invite them with `guerdon annotation invite --role adjudicator`.")
    return account.annotator_id, account.login


def _answer(project: Project, text: str, handles: tuple[str, ...], rationale: str | None) -> Answer:
    """The answer that a few characters are. handles: of the responses, in the item's order."""
    from guerdon.annotation.answers import Answer
    from guerdon.config.annotation import PAIR_VERDICTS

    verdict, cleaned = project.options.verdict, text.replace(" ", "").lower()
    if verdict in PAIR_VERDICTS:
        steps = USUAL_STRENGTH if verdict == "strength7" else 1
        known = {"1": -steps, "2": steps, "tie": 0}
        if cleaned == "bad":
            return Answer(both_bad=True, rationale=rationale)
        if cleaned in known:
            return Answer(verdict=known[cleaned], rationale=rationale)
        raise field_error("--answer", "1, 2, tie or bad", text, "Numbers are those of the queue.")
    try:
        groups = [[handles[_number(part, len(handles))] for part in group.split("=")] for group in cleaned.split(">")]
    except ValueError:
        claim = f"an order of the numbers 1 to {len(handles)}, such as 2>1=3"
        raise field_error("--answer", claim, text, "Numbers are those of the queue.") from None
    if verdict == "rank":
        return Answer(ranking=groups, rationale=rationale)
    if verdict == "best_worst" and len(groups) == 2 and len(groups[0]) == len(groups[1]) == 1:
        return Answer(best=groups[0][0], worst=groups[1][0], rationale=rationale)
    raise GuerdonError(
        f"--answer must be BEST>WORST for best_worst, and cannot decide ratings, got {show_value(text)} for {verdict}. "
        "Decide on the page of disagreements, or judge the item where people do."
    )


def _number(text: str, size: int) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= size:
        raise ValueError(text)
    return int(text) - 1


# ---- The store -----------------------------------------------------------------------------------------------------


@contextmanager
def _opened(store: str | Path, project: str | None) -> Iterator[Project]:
    """The project of a store; the only one where none is named."""
    from guerdon.annotation.project import load_project
    from guerdon.annotation.results import project_names
    from guerdon.api.annotation import existing_store
    from guerdon.store.database import open_database
    from guerdon.store.schema import require_schema

    with open_database(existing_store(store)) as database:
        if project is None:
            with database.reading() as connection:
                require_schema(connection, database)
            names = project_names(database)
            if len(names) != 1:
                claim = "the name of a project" if names else "that of a project, and the store has none"
                advice = (
                    f"Choose from {', '.join(names[:20])}." if names else "Create one with `guerdon annotation init`."
                )
                raise field_error("--project", claim, project, advice)
            project = names[0]
        yield load_project(database, project)
