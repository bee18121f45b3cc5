"""The pages of managers: who may open them, what they show, and what their forms change."""

from __future__ import annotations

import pytest
from annotation_site import Annotating, csrf_of

from guerdon.annotation.accounts import list_accounts
from guerdon.annotation.project import change_project, load_project
from guerdon.annotation.summaries import summarize, write_summary
from guerdon.config import AnnotationOptions
from guerdon.store.annotation_tables import ACCOUNT_ROLES as ROLES
from guerdon.store.tables import labels

MANAGE = "/p/replies/manage"
LOOKS = {"owner", "manager", "viewer"}
PAGES = {
    "": LOOKS,
    "/people": LOOKS,
    "/agreement": LOOKS,
    "/settings": LOOKS,
    "/disagreements": {"owner", "manager", "adjudicator"},
    "/gold": {"owner", "manager"},
}


def judge(site: Annotating, who: str, number: int, verdict: int = -2) -> list[str]:
    browser = site.browser(who)
    done = []
    for _ in range(number):
        assignment = browser.claim()
        response = browser.submit(assignment["presentation"], {"verdict": verdict})
        assert response.status_code == 200, response.text
        done.append(response.json()["judgment"]["id"])
    return done


def project_of(site):
    return load_project(site.database, "replies")


def item_ids(site):
    with site.database.reading() as connection:
        return [row[0] for row in connection.exec_driver_sql("SELECT id FROM items WHERE purpose = 'task' ORDER BY id")]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens_for_its_roles_alone(site, page):
    judge(site, "annotator", 3)
    summarize(project_of(site), site.now)
    for role in ROLES:
        response = site.browser(role).get(MANAGE + page)
        assert response.status_code == (200 if role in PAGES[page] else 403), (role, response.text)
    assert site.browser().get(MANAGE + page).status_code == 303
    assert site.program("owner", "read").get(MANAGE + page).status_code == 403


def test_forms_need_the_secret_of_the_session(site):
    (item, *_) = item_ids(site)
    account = site.people["annotator"].id
    forms = {
        "/people": {"account": account, "state": "paused"},
        "/settings": {"state": "paused"},
        f"/disagreements/{item}": {"verdict": "1"},
    }
    for path, form in forms.items():
        browser = site.browser("owner")
        del browser.headers["X-CSRF-Token"]
        assert browser.post(MANAGE + path, data={**form, "csrf": "wrong"}).status_code == 403
        for role in ("annotator", "viewer", "service"):
            other = site.browser(role)
            assert other.post(MANAGE + path, data={**form, "csrf": other.headers["X-CSRF-Token"]}).status_code == 403


def test_a_manager_pauses_resumes_and_promotes_but_not_owners_nor_oneself(site):
    browser = site.browser("manager")
    csrf = csrf_of(browser.get(f"{MANAGE}/people").text)

    def change(who, **form):
        return browser.post(f"{MANAGE}/people", data={"csrf": csrf, "account": site.people[who].id, **form}).status_code

    def account(who):
        return next(each for each in list_accounts(site.database) if each.id == site.people[who].id)

    assert change("annotator", state="paused") == 303
    assert account("annotator").state == "paused"
    assert site.browser("annotator").post("/api/v1/projects/replies/claim").status_code == 403
    assert (change("annotator", state="active"), account("annotator").state) == (303, "active")
    assert (change("annotator", role="adjudicator"), account("annotator").role) == (303, "adjudicator")
    assert [change("annotator", role="owner"), change("owner", state="paused"), change("manager", role="viewer")] == [
        400
    ] * 3
    assert account("owner").state == "active"


def test_a_decision_on_the_page_is_the_label(site):
    (item, *_) = item_ids(site)
    browser = site.browser("adjudicator")
    page = browser.get(f"{MANAGE}/disagreements/{item}")
    assert page.status_code == 200
    form = {"csrf": csrf_of(page.text), "verdict": "2", "rationale": "more complete"}
    assert browser.post(f"{MANAGE}/disagreements/{item}", data=form).status_code == 303
    with site.database.reading() as connection:
        row = connection.execute(labels.select()).mappings().one()
    assert (row["method"], row["groups"], row["item_id"]) == ("adjudicated", [[1], [0]], item)
    again = browser.get(f"{MANAGE}/disagreements/{item}").text
    assert "Decided: 2 &gt; 1" in again
    assert "more complete" in again
    wrong = browser.post(f"{MANAGE}/disagreements/{item}", data={"csrf": form["csrf"]})
    assert wrong.status_code == 422
    assert "verdict must be one of" in wrong.text


def test_an_adjudicator_can_call_both_bad(site):
    (item, *_) = item_ids(site)
    browser = site.browser("adjudicator")
    path = f"{MANAGE}/disagreements/{item}"
    form = {"csrf": csrf_of(browser.get(path).text), "verdict": "bad"}
    assert browser.post(path, data=form).status_code == 303
    with site.database.reading() as connection:
        row = connection.execute(labels.select()).mappings().one()
    assert (row["groups"], row["params"]) == ([[0, 1]], {"all_bad": True})
    page = browser.get(path).text
    assert "Decided: both bad" in page
    assert "<td>both bad</td>" in page
    assert browser.post(path, data={**form, "verdict": "-1"}).status_code == 303
    assert "Decided: 1 &gt; 2" in browser.get(path).text


def test_a_known_answer_comes_in_between_and_its_result_is_on_the_page_of_people(site):
    change_project(project_of(site), AnnotationOptions(training=0, gold=0.5))
    (item, *_) = item_ids(site)
    browser = site.browser("manager")
    form = {"csrf": csrf_of(browser.get(f"{MANAGE}/disagreements/{item}").text), "verdict": "-2", "known": "gold"}
    assert browser.post(f"{MANAGE}/disagreements/{item}", data=form).status_code == 303
    assert "gold" in browser.get(f"{MANAGE}/gold").text
    judge(site, "annotator", 4)
    with site.database.reading() as connection:
        seen = connection.exec_driver_sql("SELECT sum(gold_seen) FROM work_counts").scalar()
    assert seen == 1
    assert "of 1</span>" in browser.get(f"{MANAGE}/people").text


def test_names_prompts_and_errors_on_the_pages_are_text(site):
    write_summary(project_of(site), "learning", [{"judgments": 5, "at": 1.0, "error": "<img src=x>"}], 1.0)
    finding = {"title": "<script>", "evidence": "<b>", "advice": "<i>"}
    write_summary(project_of(site), "warnings", {"items": 1, "findings": [finding]}, 1.0)
    for page in ("", "/settings"):
        response = site.browser("owner").get(MANAGE + page)
        assert response.status_code == 200
        text = response.text
        assert "<img" not in text
        assert "<script>" not in text
        assert "style=" not in text


def test_what_trainings_came_to_and_that_no_text_is_suspicious_are_on_the_pages(site):
    """With the points and warnings as the server writes them: a training that worked has no error, and texts may all be fine."""
    accuracy = {"value": 0.75, "low": 0.6, "high": 0.86, "n": 40}
    worked = {"judgments": 200, "at": 1.0, "accuracy": accuracy}
    failed = {"judgments": 400, "at": 2.0, "error": "disk is full"}
    write_summary(project_of(site), "warnings", {"items": 1200, "findings": []}, 1.0)
    for points, line in (
        ([worked], "200 judgments: held-out accuracy 75"),
        ([worked, failed], "400 judgments, failed: disk is full"),
    ):
        write_summary(project_of(site), "learning", points, 1.0)
        response = site.browser("owner").get(MANAGE)
        assert response.status_code == 200
        assert line in " ".join(response.text.split())
    response = site.browser("owner").get(f"{MANAGE}/settings")
    assert response.status_code == 200
    assert "Of 1,200 items looked at" in response.text


def test_a_paused_project_gives_out_nothing_and_says_so(site):
    browser = site.browser("owner")
    csrf = csrf_of(browser.get(f"{MANAGE}/settings").text)
    assert browser.post(f"{MANAGE}/settings", data={"csrf": csrf, "state": "paused"}).status_code == 303
    site.now += 5
    assert "This project is paused" in browser.get(MANAGE).text
    assert site.browser("annotator").post("/api/v1/projects/replies/claim").status_code == 403
