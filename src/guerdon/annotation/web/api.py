"""The JSON endpoints of a project: claim, submit, skip, undo, history, and items in and results out."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response, StreamingResponse

from guerdon.annotation import claiming, progress, results, submitting, uploads
from guerdon.annotation.accounts import ADD_ITEMS, JUDGE, READ, Account, mark_guidelines_seen
from guerdon.annotation.answers import Answer
from guerdon.annotation.assignments import Assignment
from guerdon.annotation.errors import NotNow, RequestError
from guerdon.annotation.project import Project
from guerdon.annotation.rendering import assignment_json
from guerdon.annotation.web.identity import application_of
from guerdon.runtime.web.json_response import json_response

router: Final = APIRouter(prefix="/api/v1/projects/{project}")

LONGEST_PROMPT: Final = 500  # characters, in the history
ID_PATTERN: Final = "^[0-9a-f]{32}$"
Name = Annotated[str, Path(min_length=1, max_length=200, description="Name of the project.")]
Id = Annotated[str, Path(pattern=ID_PATTERN, description="Id of a presentation or a judgment.")]
AndNext = Annotated[bool, Query(description="Claim the next item in the same request.")]
DayStart = Annotated[
    float | None,
    Query(ge=0, le=1e12, allow_inf_nan=False, description="When the person's day began, in seconds since 1970."),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="A name of the answer: the same answer again under its name is stored once.",
    ),
]


class Skip(BaseModel):
    """Why an item is skipped."""

    model_config = ConfigDict(extra="forbid", strict=True)
    reason: str = Field(min_length=1, max_length=200)


class GuidelinesRead(BaseModel):
    """Which version of the guidelines somebody has read."""

    model_config = ConfigDict(extra="forbid", strict=True)
    version: str = Field(min_length=1, max_length=100)


# ---- Judging -------------------------------------------------------------------------------------------------------


@router.post("/claim")
def claim(request: Request, project: Name) -> Response:
    """The item that this person holds, or the next one."""
    account, work = _judge(request, project)
    return json_response(_claimed(request, account, work))


@router.post("/presentations/{presentation}/judgment")
def submit(
    request: Request,
    project: Name,
    presentation: Id,
    answer: Answer,
    next: AndNext = False,  # the name in the query
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Store an answer. The same answer again, under the same Idempotency-Key, changes nothing."""
    account, work = _judge(request, project)
    call = work, account.annotator_id, presentation, answer, idempotency_key, application_of(request).clock()
    if not next:
        return json_response({"judgment": _submission_json(submitting.submit(*call))})
    stored, following = submitting.submit_and_claim(*call)
    return json_response({"judgment": _submission_json(stored), "next": _claim_json(work, following)})


@router.post("/presentations/{presentation}/skip")
def skip(request: Request, project: Name, presentation: Id, body: Skip, next: AndNext = False) -> Response:
    """Give an item back for a reason; it does not come again."""
    account, work = _judge(request, project)
    claiming.skip(work, account.annotator_id, presentation, body.reason, application_of(request).clock())
    return json_response(_with_next(request, account, work, {"skipped": presentation}, next))


@router.post("/presentations/{presentation}/release")
def release(request: Request, project: Name, presentation: Id) -> Response:
    """Give an item back unanswered; it may come again."""
    account, work = _judge(request, project)
    claiming.release(work, account.annotator_id, presentation)
    return json_response({"released": presentation})


@router.post("/presentations/{presentation}/heartbeat")
def heartbeat(request: Request, project: Name, presentation: Id) -> Response:
    """Hold an item for longer."""
    account, work = _judge(request, project)
    now = application_of(request).clock()
    return json_response({"expires": claiming.heartbeat(work, account.annotator_id, presentation, now)})


@router.post("/judgments/{judgment}/reopen")
def reopen(request: Request, project: Name, judgment: Id) -> Response:
    """An own item with its answer, to change it."""
    account, work = _judge(request, project)
    assignment = submitting.reopen(work, account.annotator_id, judgment)
    return json_response({"assignment": assignment_json(assignment, work.options)})


@router.get("/me/history")
def history(request: Request, project: Name, limit: Annotated[int, Query(ge=1, le=200)] = 20) -> Response:
    """Own judgments, the newest first."""
    account, work = _judge(request, project)
    entries = submitting.history(work, account.annotator_id, limit)
    return json_response({"judgments": [_entry_json(entry) for entry in entries]})


@router.get("/me/progress")
def own_progress(request: Request, project: Name, day_start: DayStart = None) -> Response:
    """How much this person has done, and how much is left."""
    account, work = _judge(request, project)
    now = application_of(request).clock()
    since = day_start if day_start is not None else now - now % progress.DAY
    return json_response(asdict(progress.own_progress(work, account.annotator_id, since)))


@router.post("/me/guidelines")
def read_guidelines(request: Request, project: Name, body: GuidelinesRead) -> Response:
    """Remember that this person has read the guidelines in this version."""
    account, work = _judge(request, project)
    if body.version != work.guidelines_version:
        raise RequestError("the guidelines have changed. Reload the page, and read them again.")
    mark_guidelines_seen(application_of(request).database, account.id, work.name, body.version)
    return json_response({"version": body.version})


# ---- Items in, results out -----------------------------------------------------------------------------------------


@router.post("/items", openapi_extra=uploads.BODY)
async def add_items(request: Request, project: Name) -> Response:
    """Add items, one JSON object a line: {"prompt": ..., "responses": [...]}.

    Items that are there already are counted as read. Of a request with a bad line, up to 500 lines before it are not added.
    """
    application = application_of(request)
    _, work = await asyncio.to_thread(application.enter, request, project, ADD_ITEMS, "items")
    read = new = 0
    async for lines in uploads.batches(request.stream()):
        some = await asyncio.to_thread(uploads.add_rows, work, lines)
        read, new = read + some[0], new + some[1]
    return json_response({"read": read, "new": new})


@router.get("/status")
def status(request: Request, project: Name) -> Response:
    """How many items, judgments and skips there are, by kind."""
    _, work = application_of(request).enter(request, project, READ, "read")
    return json_response(results.status(work, application_of(request).clock()))


@router.get("/agreement")
def agreement(request: Request, project: Name) -> Response:
    """How far people agree, as last computed, with the time of it."""
    _, work = application_of(request).enter(request, project, READ, "read")
    return json_response(results.agreement(work))


@router.get("/labels")
def labels(request: Request, project: Name) -> Response:
    """The labels of all items, one JSON object a line."""
    _, work = application_of(request).enter(request, project, READ, "read")
    return _lines(results.labels(work))


@router.get("/export")
def export(
    request: Request,
    project: Name,
    all_revisions: Annotated[bool, Query(description="Give each revision, not the last one alone.")] = False,
) -> Response:
    """All judgments as comparisons, one JSON object a line, with pseudonyms for people."""
    _, work = application_of(request).enter(request, project, READ, "read")
    return _lines(results.export(work, all_revisions))


def _entry_json(entry: submitting.HistoryEntry) -> dict[str, Any]:
    """A line of the history: the last turn of the prompt tells which it was."""
    text = entry.prompt[-1].content if entry.prompt else ""
    shown = {"prompt": text[:LONGEST_PROMPT], "judgment": entry.judgment_id}
    return {**shown, **{name: getattr(entry, name) for name in ("revision", "submitted_at", "answer", "can_change")}}


def _lines(rows: Any) -> StreamingResponse:
    return StreamingResponse(rows, media_type="application/x-ndjson")


def _judge(request: Request, project: str) -> tuple[Account, Project]:
    return application_of(request).enter(request, project, JUDGE, "judge")


def _submission_json(stored: submitting.Submission) -> dict[str, Any]:
    judgment: dict[str, Any] = {
        "id": stored.judgment_id, "revision": stored.revision, "late": stored.late, "repeated": stored.repeated,
    }  # fmt: skip
    return judgment if stored.feedback is None else {**judgment, "feedback": asdict(stored.feedback)}


def _claimed(request: Request, account: Account, project: Project) -> dict[str, Any]:
    return _claim_json(project, claiming.claim(project, account.annotator_id, application_of(request).clock()))


def _claim_json(project: Project, claimed: Assignment | claiming.NothingLeft | NotNow) -> dict[str, Any]:
    if isinstance(claimed, NotNow):
        return {"error": str(claimed)}
    if isinstance(claimed, claiming.NothingLeft):
        return {"done": True, "held_by_others": claimed.held_by_others, "next_expiry": claimed.next_expiry}
    return {"assignment": assignment_json(claimed, project.options)}


def _with_next(
    request: Request, account: Account, project: Project, value: dict[str, Any], is_wanted: bool
) -> dict[str, Any]:
    """The value, and what a claim answers. A claim that is refused leaves what was stored as it is."""
    if not is_wanted:
        return value
    try:
        return {**value, "next": _claimed(request, account, project)}
    except RequestError as error:
        return {**value, "next": {"error": str(error)}}
