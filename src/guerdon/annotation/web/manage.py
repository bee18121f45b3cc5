"""The pages of managers: how far a project is, who works how, where people disagree, known answers, and settings.

Statistics are imported where they are used: a server that starts does not wait for them.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Annotated, Any, Final, Literal

import yaml
from fastapi import APIRouter, Form, Request
from pydantic import ConfigDict, Field
from starlette.responses import Response

from guerdon.annotation.accounts import ADJUDICATE, GIVEN_ROLES, JUDGE, MANAGE, Account, change_person
from guerdon.annotation.answers import Answer
from guerdon.annotation.errors import AnswerError
from guerdon.annotation.known_answers import known_answers, set_gold
from guerdon.annotation.project import Project, change_project
from guerdon.annotation.rendering import guidelines_html, screen_json, turn_json
from guerdon.annotation.web import figures
from guerdon.annotation.web.identity import NotAllowed, Person, application_of
from guerdon.annotation.web.pages import OwnForm, api_path, project_path, see_other
from guerdon.annotation.web.responses import page_response
from guerdon.config.annotation import CAN_BE_BAD, PAIR_VERDICTS
from guerdon.contracts import Preference

router: Final = APIRouter(prefix="/p/{project}/manage", include_in_schema=False)

LOOK: Final = frozenset({"owner", "manager", "viewer"})
PAGES: Final = (  # of the navigation: path, title, who may open it
    ("", "Overview", LOOK),
    ("people", "People", LOOK),
    ("agreement", "Agreement", LOOK),
    ("disagreements", "Disagreements", ADJUDICATE),
    ("gold", "Known answers", MANAGE),
    ("settings", "Settings", LOOK),
)
Text = Annotated[str, Field(max_length=2000)]


class PersonForm(OwnForm):
    """What becomes of a person."""

    account: Text
    state: Literal["active", "paused"] | None = None
    role: Text | None = None


class StateForm(OwnForm):
    """What becomes of a project."""

    state: Literal["open", "paused", "closed"]


class DecisionForm(OwnForm):
    """The answer of an adjudicator. rank: a place for each response, in the order of the item."""

    model_config = ConfigDict(extra="forbid")
    verdict: Annotated[int, Field(ge=-3, le=3)] | Literal["bad"] | None = None
    rank: Annotated[list[Annotated[int, Field(ge=1, le=99)]], Field(default_factory=list, max_length=100)]
    rationale: Annotated[str, Field(max_length=100_000)] = ""
    known: Literal["", "gold", "training"] = ""


# ---- Pages ---------------------------------------------------------------------------------------------------------


@router.get("")
def overview_page(request: Request, project: str) -> Response:
    """How far the project is."""
    from guerdon.annotation import adjudicating
    from guerdon.annotation.status import overview
    from guerdon.annotation.summaries import read_summaries

    person, work = _enter(request, project, LOOK)
    now = application_of(request).clock()
    summaries = read_summaries(work.database, work.name)
    learning = summaries.get("learning", {"content": []})["content"]
    training = summaries.get("training", {"content": None})["content"]
    return _page(
        "manage_overview.html.j2", person, work, "",
        progress=overview(work, now), waiting=adjudicating.queue_size(work), now=now,
        warnings=summaries.get("warnings"), learning=learning, training=training,
    )  # fmt: skip


@router.get("/people")
def people_page(request: Request, project: str) -> Response:
    """Who works how."""
    from guerdon.annotation.status import people
    from guerdon.annotation.summaries import read_summaries

    person, work = _enter(request, project, LOOK)
    at = read_summaries(work.database, work.name).get("abilities", {}).get("at")
    can_change = person.account.role in MANAGE
    roles = (*GIVEN_ROLES, "owner") if person.account.role == "owner" else GIVEN_ROLES
    return _page(
        "manage_people.html.j2", person, work, "people",
        people=people(work), at=at, now=application_of(request).clock(), can_change=can_change, roles=roles,
    )  # fmt: skip


@router.get("/agreement")
def agreement_page(request: Request, project: str) -> Response:
    """How far people agree, with each other and with judges."""
    from guerdon.annotation.summaries import read_summaries

    person, work = _enter(request, project, LOOK)
    summary = read_summaries(work.database, work.name).get("agreement")
    now = application_of(request).clock()
    return _page("manage_agreement.html.j2", person, work, "agreement", agreement=summary, now=now)


@router.get("/disagreements")
def disagreements_page(request: Request, project: str) -> Response:
    """Items that wait for a decision, or on which people are split."""
    from guerdon.annotation import adjudicating

    person, work = _enter(request, project, ADJUDICATE)
    return _page("manage_disagreements.html.j2", person, work, "disagreements", queue=adjudicating.queue(work, 100))


@router.get("/disagreements/{item}")
def case_page(request: Request, project: str, item: str) -> Response:
    """One item, with all that people said of it, to decide."""
    person, work = _enter(request, project, ADJUDICATE)
    return _case_page(person, work, item)


@router.get("/gold")
def gold_page(request: Request, project: str) -> Response:
    """Items with a known answer."""
    person, work = _enter(request, project, MANAGE)
    return _page("manage_gold.html.j2", person, work, "gold", known=known_answers(work), options=work.options)


@router.get("/settings")
def settings_page(request: Request, project: str) -> Response:
    """The options as YAML, what people see of them, and warnings before publishing."""
    from guerdon.annotation.summaries import read_summaries

    person, work = _enter(request, project, LOOK)
    summaries = read_summaries(work.database, work.name)
    options = yaml.safe_dump(work.options.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return _page(
        "manage_settings.html.j2", person, work, "settings",
        yaml=options, screen=screen_json(work.options), guidelines=guidelines_html(work.guidelines),
        warnings=summaries.get("warnings"), can_change=person.account.role in MANAGE,
        now=application_of(request).clock(),
    )  # fmt: skip


# ---- Forms ---------------------------------------------------------------------------------------------------------


@router.post("/people")
def change_access(request: Request, project: str, form: Annotated[PersonForm, Form()]) -> Response:
    """Pause or resume somebody, or give another role."""
    person, work = _enter(request, project, MANAGE, form.csrf)
    change_person(work.database, person.account, form.account, form.state, form.role)
    return see_other(project_path(work.name, "manage/people"))


@router.post("/settings")
def change_state(request: Request, project: str, form: Annotated[StateForm, Form()]) -> Response:
    """Open, pause or close the project."""
    _, work = _enter(request, project, MANAGE, form.csrf)
    change_project(work, state=form.state)
    return see_other(project_path(work.name, "manage/settings"))


@router.post("/disagreements/{item}")
def decide(request: Request, project: str, item: str, form: Annotated[DecisionForm, Form()]) -> Response:
    """Decide an item, or keep its answer as a known one."""
    from guerdon.annotation import adjudicating

    person, work = _enter(request, project, ADJUDICATE, form.csrf)
    now = application_of(request).clock()
    try:
        if form.known:
            _require(person.account, MANAGE)
            known = _preference(work, item, form)
            set_gold(work, item, known.groups or (), known.strength, person.account.login, now, form.known)
            return see_other(project_path(work.name, "manage/gold"))
        answer = _answer(work, person.account, item, form)
        adjudicating.decide(work, person.account.annotator_id, item, answer, now)
    except AnswerError as error:
        return _case_page(person, work, item, str(error))
    return see_other(project_path(work.name, "manage/disagreements"))


# ---- Parts ---------------------------------------------------------------------------------------------------------


def _enter(request: Request, name: str, roles: Set[str], csrf: str | None = None) -> tuple[Person, Project]:
    """Who asks, in a browser, and the project."""
    application = application_of(request)
    person = application.person(request, csrf)
    if person.csrf is None:
        raise NotAllowed("this page must be opened in a browser. Sign in there; programs read the API.")
    _require(person.account, roles)
    return person, application.project(name)


def _require(account: Account, roles: Set[str]) -> None:
    if account.role not in roles:
        raise NotAllowed(f"the role {account.role} may not do this. Ask a manager.")
    if account.state != "active":
        raise NotAllowed("the account is paused. Ask a manager.")


def _page(
    template: str, person: Person, project: Project, page: str, status_code: int = 200, **values: Any
) -> Response:
    role = person.account.role
    tabs = [
        (title, project_path(project.name, f"manage/{path}".rstrip("/")), path == page)
        for path, title, roles in PAGES
        if role in roles
    ]
    return page_response(
        template, status_code,
        account=person.account, csrf=person.csrf or "", project=project.name, state=project.state, tabs=tabs,
        base=project_path(project.name, "manage"), api=api_path(project.name),
        can_judge=role in JUDGE, figures=figures, **values,
    )  # fmt: skip


def _case_page(person: Person, project: Project, item: str, error: str = "") -> Response:
    from guerdon.annotation import adjudicating

    case = adjudicating.case(project, item)
    math = project.options.math
    return _page(
        "manage_case.html.j2", person, project, "disagreements", 422 if error else 200,
        case=case, error=error, options=project.options, is_pair=project.options.verdict in PAIR_VERDICTS,
        verdicts=_verdicts(project.options.verdict), can_set_known=person.account.role in MANAGE,
        prompt=[turn_json(message, math) for message in case.shown.prompt],
        responses=[[turn_json(message, math) for message in response.turns()] for response in case.shown.responses],
    )  # fmt: skip


def _verdicts(verdict: str) -> list[tuple[int | str, str]]:
    """The verdicts of a pair with their words, from the first response to the second."""
    steps = ("slightly better", "clearly better", "much better") if verdict == "strength7" else ("better",)
    first: list[tuple[int | str, str]] = [(-i, f"1 is {steps[i - 1]}") for i in range(len(steps), 0, -1)]
    second = [(i, f"2 is {word}") for i, word in enumerate(steps, start=1)]
    tie = [] if verdict == "binary" else [(0, "equal")]
    bad = [("bad", "both are bad")] if verdict in CAN_BE_BAD else []
    return [*first, *tie, *second, *bad]


def _answer(project: Project, account: Account, item: str, form: DecisionForm) -> Answer:
    """The form as an answer of this person."""
    from guerdon.annotation import adjudicating

    why = form.rationale or None
    if project.options.verdict in PAIR_VERDICTS:
        if form.verdict == "bad":
            return Answer(both_bad=True, rationale=why)
        return Answer(verdict=form.verdict, rationale=why)
    k = len(adjudicating.case(project, item).shown.responses)
    handles = adjudicating.handles_for(project, account.annotator_id, item, k)
    groups = _groups(form.rank, k)
    if project.options.verdict == "rank":
        return Answer(ranking=[[handles[i] for i in group] for group in groups], rationale=why)
    if project.options.verdict == "best_worst":
        if len(groups[0]) != 1 or len(groups[-1]) != 1:
            raise AnswerError("places must have one response first and one last. Change them.")
        return Answer(best=handles[groups[0][0]], worst=handles[groups[-1][0]], rationale=why)
    raise AnswerError("ratings must be given where people judge. Judge the item there.")


def _preference(project: Project, item: str, form: DecisionForm) -> Preference:
    """The form as a preference that numbers responses as the item does. Both bad is known as a tie."""
    from guerdon.annotation import adjudicating

    if project.options.verdict not in PAIR_VERDICTS:
        k = len(adjudicating.case(project, item).shown.responses)
        return Preference(groups=tuple(map(tuple, _groups(form.rank, k))))
    if form.verdict is None:
        raise AnswerError("a known answer must say which response is better. Choose one.")
    verdict = 0 if form.verdict == "bad" else form.verdict
    groups = ((0, 1),) if verdict == 0 else ((0,), (1,)) if verdict < 0 else ((1,), (0,))
    strength = float(abs(verdict)) if project.options.verdict == "strength7" else None
    return Preference(groups=groups, strength=strength)


def _groups(rank: list[int], k: int) -> list[list[int]]:
    """Responses by their places, equal places together."""
    if len(rank) != k:
        raise AnswerError(f"each of the {k} responses must have a place. Fill them in.")
    return [[i for i in range(k) if rank[i] == place] for place in sorted(set(rank))]
