"""What a manager sees and does: labels, agreement, the queue and its decisions, status."""

from __future__ import annotations

import pytest
from annotation.worlds import World, pairs, world

from guerdon.annotation import adjudicating
from guerdon.annotation.adjudicating import decide
from guerdon.annotation.answers import Answer
from guerdon.annotation.claiming import skip
from guerdon.annotation.errors import NotYours
from guerdon.annotation.exporting import exported, pseudonym
from guerdon.annotation.known_answers import set_gold
from guerdon.annotation.labels import label_items
from guerdon.annotation.project import add_items, create_project
from guerdon.annotation.repair import repair
from guerdon.annotation.status import hourly_rate, project_status, side_p_value
from guerdon.annotation.summaries import read_summaries, summarize
from guerdon.annotation.votes import read_votes
from guerdon.config import AnnotationOptions
from guerdon.contracts import Preference, Response, as_prompt
from guerdon.errors import GuerdonError
from guerdon.store.comparisons import read_store
from guerdon.store.items import ADJUDICATED, Annotator, Item, Judgment, unjudged_item
from guerdon.store.verify import verify
from guerdon.store.writer import add_items as add_to_store


def vote(site, name, item_id=None, better=0):
    """The person judges an item, and says that its response at this position is better; None for a tie."""
    assignment = site.claim(name)
    row = site.rows(f"SELECT shown FROM presentations WHERE id = '{assignment.presentation_id}'")[0][0]
    first = int(row[1])
    verdict = 0 if better is None else -1 if first == better else 1
    site.submit(name, assignment, verdict=verdict)
    return assignment


def labels_of(site):
    rows = site.rows("SELECT item_id, method, q, groups, n_votes, status FROM labels")
    return {row[0]: row[1:] for row in rows}


def test_votes_are_of_the_items_responses_whichever_side_they_were_shown_on(new_store):
    store = new_store()
    with world(store, 6, need=2) as site:
        for name in ("ann", "bob"):
            for _ in range(6):
                vote(site, name, better=0)
        votes = read_votes(site.project)
        assert votes.table.num_pairs == 6
        assert set(votes.table.vote.tolist()) == {0}
        assert 0 < votes.table.is_swapped.sum() < 12
        label_items(site.project, site.now, "majority")
        assert {row[1] for row in labels_of(site).values()} == {1.0}


def test_replaced_revisions_and_items_that_check_people_do_not_count(new_store):
    store = new_store()
    with world(store, 2) as site:
        assignment = vote(site, "ann", better=0)
        first = read_votes(site.project).table.vote.tolist()
        flipped = 1 if site.rows("SELECT groups FROM judgments")[0][0] == "[[0],[1]]" else -1
        site.submit("ann", assignment, verdict=flipped)
        assert first == [0]
        assert read_votes(site.project).table.vote.tolist() == [2]
        gold = unjudged_item(as_prompt("known"), (Response("x"), Response("y")))[0]
        add_items(site.project, [Item(gold.prompt, gold.responses, facts={"purpose": "gold"})])
        assert read_votes(site.project).table.num_pairs == 1


def test_a_judge_of_the_same_responses_is_an_annotator_of_the_same_item(new_store):
    store = new_store()
    with world(store, 12) as site:
        items = {}
        for _ in range(12):
            assignment = vote(site, "ann", better=0)
            items[assignment.item_id] = assignment
        judged = []
        for assignment in items.values():
            item, shown = unjudged_item(assignment.prompt, assignment.responses)
            groups = ((shown.index(0),), (shown.index(1),))
            judged.append(
                Item(
                    item.prompt,
                    item.responses,
                    (Judgment(Annotator("llm", "judge"), shown, Preference(groups=groups)),),
                )
            )
        add_to_store(site.project.database, judged)
        content = summarize(site.project, site.now)
        (judge,) = content["agreement"]["judges"]
        assert (judge["judge"], judge["pairs"], judge["agrees_with_a_person"]["value"]) == ("judge", 12, 1.0)
        assert content["agreement"]["people"] == {}  # a judge is no second person
        assert label_items(site.project, site.now).method == "majority"
        assert read_summaries(site.project.database, "p")["agreement"]["content"] == content["agreement"]


def test_labels_are_replaced_and_what_waits_is_not_accepted(new_store):
    store = new_store()
    with world(store, 3, need=2, unresolved="adjudicate") as site:
        vote(site, "ann", better=0)
        assert label_items(site.project, 1.0).labels == 1
        skipped = site.claim("ann").item_id
        with site.project.database.writing() as connection:
            connection.exec_driver_sql(f"UPDATE items SET status = 'adjudicate' WHERE id = '{skipped}'")
        site.submit("ann", site.claim("ann"), verdict=-1)
        labeled = label_items(site.project, 2.0, "dawid_skene")
        assert (labeled.labels, labeled.waiting) == (2, 1)
        assert {row[0] for row in labels_of(site).values()} == {"dawid_skene"}
        assert labels_of(site)[skipped][-1] == "adjudicate"


def test_a_ranking_is_labeled_by_an_order_of_all_its_responses(new_store):
    store = new_store()
    with world(store, 1, k=3, verdict="rank", need=3) as site:
        for name, best in (("ann", 2), ("bob", 2), ("eve", 0)):
            assignment = site.claim(name)
            shown = [
                int(i)
                for i in site.rows(f"SELECT shown FROM presentations WHERE id = '{assignment.presentation_id}'")[0][0]
                .strip("[]")
                .split(",")
            ]
            handle = dict(zip(shown, assignment.handles, strict=True))
            rest = sorted(set(range(3)) - {best})
            site.submit(name, assignment, ranking=[[handle[best]], [handle[i] for i in rest]])
        label_items(site.project, 1.0, "majority")
        ((method, q, groups, n_votes, _),) = labels_of(site).values()
        assert (method, q, groups, n_votes) == ("majority", None, "[[2],[0],[1]]", 3)


def test_a_project_without_judgments_has_no_labels(new_store):
    store = new_store()
    with world(store, 1) as site:
        with pytest.raises(GuerdonError, match="must have judgments to label, got none"):
            label_items(site.project, 1.0)
        with pytest.raises(GuerdonError, match="--method must be one of ability, majority, dawid_skene"):
            label_items(site.project, 1.0, "abilty")  # codespell:ignore


# ---- Adjudication --------------------------------------------------------------------------------------------------


def test_an_adjudicator_decides_over_votes_and_later_labels(new_store):
    store = new_store()
    with world(store, 4, need=2) as site:
        for _ in range(4):
            vote(site, "ann", better=0)
            vote(site, "bob", better=1)
        summarize(site.project, site.now)
        waiting = adjudicating.queue(site.project)
        assert {each.reason for each in waiting} == {"split"}
        item_id = waiting[0].item_id
        who = site.person("judy")
        assert [o.preference.groups for o in adjudicating.case(site.project, item_id).opinions] == [
            ((0,), (1,)),
            ((1,), (0,)),
        ]
        preference = adjudicating.decide(site.project, who, item_id, Answer(verdict=2), site.now)
        assert preference.groups == ((1,), (0,))
        assert adjudicating.decide(site.project, who, item_id, Answer(verdict=2), site.now + 1) == preference
        assert adjudicating.case(site.project, item_id).decided.groups == ((1,), (0,))
        assert item_id not in {each.item_id for each in adjudicating.queue(site.project)}
        labeled = label_items(site.project, site.now)
        assert (labeled.labels, labeled.adjudicated) == (3, 1)
        assert labels_of(site)[item_id][0] == ADJUDICATED
        source = [each for each in read_store(store) if each.preference.groups]
        assert len(source) == 1
        assert not [f for f in verify(site.project.database).findings if f.level == "error"]


def test_a_decision_of_an_own_item_flips_with_its_sides(new_store):
    store = new_store()
    with world(store, 3) as site:
        who = site.person("ann")
        for _ in range(3):
            item_id = vote(site, "ann", better=0).item_id
            assert adjudicating.decide(site.project, who, item_id, Answer(verdict=3), site.now).groups == ((1,), (0,))


def test_an_item_that_everybody_skips_is_decided_and_completed(new_store):
    store = new_store()
    from guerdon.annotation.claiming import skip

    with world(store, 1, max_skips=2) as site:
        for name in ("ann", "bob"):
            assignment = site.claim(name)
            skip(site.project, site.person(name), assignment.presentation_id, "unclear", site.now)
        (waiting,) = adjudicating.queue(site.project)
        assert (waiting.reason, adjudicating.queue_size(site.project), waiting.prompt) == (
            "adjudicate",
            1,
            "question 0",
        )
        opinions = adjudicating.case(site.project, waiting.item_id).opinions
        assert [o.skip_reason for o in opinions] == ["unclear", "unclear"]
        adjudicating.decide(site.project, site.person("judy"), waiting.item_id, Answer(verdict=0), site.now)
        status = project_status(site.project, site.now)
        assert (status["tasks"].get("complete"), status["tasks"].get("adjudicate", 0)) == (1, 0)
        assert (adjudicating.queue(site.project), status["skips"]) == ([], {"unclear": 2})


def other_project(site):
    """Another project in the store of this one."""
    database = site.project.database
    return World(create_project(database, "q", AnnotationOptions(training=0, overlap=0.0), now=1.0, secret="other"))


def test_an_item_of_another_project_or_a_check_is_no_case(new_store):
    with world(new_store(), 1) as site:
        other = other_project(site)
        add_items(other.project, pairs(1, start=7))
        gold = unjudged_item(as_prompt("known"), (Response("x"), Response("y")))[0]
        add_items(site.project, [Item(gold.prompt, gold.responses, facts={"purpose": "gold"})])
        items = site.rows("SELECT id FROM items WHERE project = 'q' OR purpose = 'gold'")
        assert len(items) == 2
        for (item_id,) in items:
            with pytest.raises(NotYours):
                adjudicating.case(site.project, item_id)
            with pytest.raises(NotYours):
                adjudicating.decide(site.project, site.person("judy"), item_id, Answer(verdict=0), 1.0)


def test_an_export_holds_the_items_of_its_project_alone(new_store):
    with world(new_store(), 4) as site:
        other = other_project(site)
        add_items(other.project, pairs(3, start=7))
        for _ in range(4):
            vote(site, "ann", better=0)
        for _ in range(3):
            vote(other, "ann", better=1)
        own, others = ({each.prompt[-1].content for each in exported(w.project)} for w in (site, other))
        assert (len(own), len(others)) == (4, 3)
        assert not own & others


def test_an_export_by_people_leaves_out_what_judges_say_of_the_same_items(new_store):
    with world(new_store(), 1) as site:
        assignment = vote(site, "ann", better=0)
        item, shown = unjudged_item(assignment.prompt, assignment.responses)
        against = Judgment(Annotator("llm", "judge"), shown, Preference(groups=((shown.index(1),), (shown.index(0),))))
        judged = Item(item.prompt, item.responses, (against,), facts={"project": site.project.name})
        add_to_store(site.project.database, [judged])
        assert len(list(exported(site.project, each=True))) == 2
        (by_people,) = exported(site.project, each=True, by_people=True)
        assert by_people.annotator == pseudonym(site.project, site.person("ann"))


# ---- Status --------------------------------------------------------------------------------------------------------


def test_status_counts_items_people_and_leases(new_store):
    store = new_store()
    with world(store, 10) as site:
        for _ in range(4):
            vote(site, "ann", better=0)
        site.claim("bob")
        status = project_status(site.project, site.now + 600)
        assert (status["tasks"], status["judgments"], status["remaining_judgments"]) == (
            {"open": 6, "complete": 4},
            4,
            6,
        )
        assert [each["name"] for each in status["held"]] == ["bob"]
        ann = next(each for each in status["people"] if each["name"] == "ann")
        assert (ann["submitted"], ann["gold"]["value"], ann["flags"]) == (4, None, [])
        assert status["hours_left"]["low"] < status["hours_left"]["value"] < status["hours_left"]["high"]


def test_judgments_left_are_those_that_open_items_need_at_each_moment(new_store):
    """Whatever ends or prolongs the need of an item, and without any summary."""
    with world(new_store(), 4, need=3, adaptive_max=5, max_skips=1, overlap=0.0) as site:

        def left():
            number = project_status(site.project, site.now)["remaining_judgments"]
            assert repair(site.project) == 0
            return number

        assert left() == 12
        item = vote(site, "ann", better=0).item_id
        assert left() == 11
        site.claim("bob")
        assert left() == 11, "an item in progress is still needed"
        assert {vote(site, "bob", better=1).item_id, vote(site, "cem", better=0).item_id} == {item}
        assert left() == 11, "people disagree, so two more are needed"
        second = site.claim("ann")
        skip(site.project, site.person("ann"), second.presentation_id, "unclear", site.now)
        assert left() == 8, "an adjudicator gets the skipped one"
        third = site.judge("ann").item_id
        decide(site.project, site.person("boss"), third, Answer(verdict=-1), site.now)
        assert left() == 5, "a decision completes an item"
        set_gold(site.project, site.judge("ann").item_id, [[0], [1]], None, "boss", site.now)
        assert left() == 2, "an item with a known answer is no task any more"


def test_a_rate_counts_hours_without_work_and_has_students_interval():
    """Ten hours of 0, 30, 0, 30, ...: mean 15, standard error 15.811 / sqrt(10) = 5, t(9, 0.975) = 2.262."""
    hours = {1000 + 2 * i + 1: 30 for i in range(5)} | {1000: 0}
    hours[1000] = 0
    rate = hourly_rate({**hours, 1001: 30}, now=1011 * 3600.0)
    assert rate.n == 10
    assert rate.value == pytest.approx(15.0)
    assert rate.low == pytest.approx(15 - 2.262 * 5, abs=0.3)
    assert rate.high == pytest.approx(15 + 2.262 * 5, abs=0.3)


def test_a_young_project_has_the_exact_interval_of_a_poisson_rate():
    """Garwood 1936: of 10 events, 4.795 to 18.39; in half an hour the rate is twice as large."""
    rate = hourly_rate({500: 10}, now=500.5 * 3600)
    assert (rate.value, rate.low, rate.high) == (
        pytest.approx(20),
        pytest.approx(2 * 4.795, abs=0.01),
        pytest.approx(2 * 18.39, abs=0.01),
    )
    assert hourly_rate({}, 0.0) is None


def test_the_rate_of_a_projects_first_hour_starts_with_its_first_claim(new_store):
    """Two judgments within ten minutes, from forty minutes past the hour on: twelve per hour."""
    with world(new_store(), 4) as site:
        site.now += 2400 - site.now % 3600
        for _ in range(2):
            vote(site, "ann", better=0)
        assert project_status(site.project, site.now + 600)["judgments_per_hour"]["value"] == pytest.approx(
            12, rel=0.01
        )


def test_side_bias_is_the_two_sided_binomial_test():
    """20 of 20 fair sides: 2 / 2^20. 10 of 20: 1."""
    assert side_p_value(20, 20) == pytest.approx(2 / 2**20)
    assert side_p_value(10, 20) == 1.0
    assert side_p_value(0, 0) == 1.0
