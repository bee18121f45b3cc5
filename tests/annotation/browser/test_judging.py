"""People judge in a real browser: by keyboard alone, offline, in two tabs, on a phone."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'guerdon[dev]'")
pytest.importorskip("guerdon.annotation.web.app", reason="needs the application: pip install 'guerdon[annotation]'")

from annotation.browser.application import pairs

from guerdon.conversation import as_prompt, as_response

ATTACKS = json.loads((Path(__file__).parents[2] / "cases/html_attacks.json").read_text("utf-8"))["attacks"]


def shown(page: Any) -> str:
    return str(page.inner_text("#turns"))


def wait_for_other(page: Any, before: str) -> None:
    page.wait_for_function("before => document.querySelector('#turns').innerText !== before", arg=before)


def answer(page: Any, *keys: str) -> None:
    """Press the keys, submit, and wait for the next item."""
    before = shown(page)
    for key in (*keys, "Enter"):
        page.keyboard.press(key)
    wait_for_other(page, before)


def wait_until(holds: Any, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_ten_pairs_are_judged_by_keyboard_alone(serve, open_page):
    site = serve(pairs(11))
    page = open_page(site)
    for i in range(10):
        answer(page, str(i % 7 + 1))
    rows = site.judgments()
    assert [row["strength"] for row in rows] == [3, 2, 1, 0, 1, 2, 3, 3, 2, 1]
    assert [row["groups"] for row in rows[:7]] == [[[0], [1]]] * 3 + [[[0, 1]]] + [[[1], [0]]] * 3
    assert page.inner_text("#progress-done") == "10 done"


def test_the_last_item_leads_to_done_for_now(serve, open_page):
    site = serve(pairs(1))
    page = open_page(site)
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    page.wait_for_selector("#done:not([hidden])")
    assert "nothing left" in page.inner_text("#done-text")
    page.keyboard.press("u")
    page.wait_for_selector("#work:not([hidden])")
    assert page.is_checked("input[name=verdict][value='-2']")


def test_five_responses_are_ranked_with_a_tie_and_a_line(serve, open_page):
    site = serve(pairs(2, k=5), verdict="rank")
    page = open_page(site)
    answer(page, "3", "1", "5", "2", "4", "5", "ArrowUp", "4", "t", "2", "l")
    (row,) = site.judgments()
    # 3, 1, 5, 2, 4; 5 moves up; 4 ties with 2; the line is above 2 = 4
    assert row["groups"] == [[2], [4], [0], [1, 3]]
    assert row["acceptable_upto"] == 3


def test_a_ranking_that_is_not_complete_is_not_sent(serve, open_page):
    site = serve(pairs(1, k=3), verdict="rank")
    page = open_page(site)
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('#hint').textContent.includes('Place every response')")
    assert site.judgments() == []


def test_undo_opens_the_last_answer_and_keeps_both_revisions(serve, open_page):
    site = serve(pairs(3))
    page = open_page(site)
    first = shown(page)
    answer(page, "1")
    second = shown(page)
    page.keyboard.press("u")
    wait_for_other(page, second)
    assert shown(page) == first, page.inner_text("#message")
    assert page.is_checked("input[name=verdict][value='-3']")
    answer(page, "7")
    assert shown(page) == second
    assert [(row["revision"], row["groups"]) for row in site.judgments()] == [(1, [[0], [1]]), (2, [[1], [0]])]


def test_an_answer_given_offline_is_kept_and_sent_once(serve, open_page):
    site = serve(pairs(3))
    page = open_page(site)
    before = shown(page)
    page.context.set_offline(True)
    page.keyboard.press("6")
    page.keyboard.press("Enter")
    page.wait_for_selector("#waiting:not([hidden])")
    assert site.judgments() == []
    page.context.set_offline(False)
    page.wait_for_selector("#work:not([hidden])")
    wait_for_other(page, before)
    assert [row["groups"] for row in site.judgments()] == [[[1], [0]]]


def test_an_answer_given_offline_outlives_the_tab(serve, window):
    site = serve(pairs(3))
    context = window()
    page = context.new_page()
    page.goto(site.judge)
    page.wait_for_selector("#work:not([hidden])")
    context.set_offline(True)
    page.keyboard.press("6")
    page.keyboard.press("Enter")
    page.wait_for_selector("#waiting:not([hidden])")
    page.close()
    context.set_offline(False)
    page = context.new_page()
    page.goto(site.judge)
    page.wait_for_selector("#work:not([hidden])")
    assert len(site.judgments()) == 1


def test_an_answer_given_offline_can_be_taken_back(serve, open_page):
    site = serve(pairs(2))
    page = open_page(site)
    page.context.set_offline(True)
    page.keyboard.press("6")
    page.keyboard.press("Enter")
    page.wait_for_selector("#waiting:not([hidden])")
    page.keyboard.press("u")
    page.wait_for_selector("#work:not([hidden])")
    page.context.set_offline(False)
    answer(page, "1")
    assert [row["groups"] for row in site.judgments()] == [[[0], [1]]]


def test_an_answer_whose_receipt_was_lost_is_stored_once(serve, open_page):
    """The server stores it, the connection breaks, and the page sends it again under its key."""
    site = serve(pairs(3))
    page = open_page(site)
    lost: list[str] = []

    def lose(route: Any) -> None:
        if lost:
            route.continue_()
        else:
            lost.append(route.fetch().text())
            route.abort()

    page.route("**/judgment*", lose)
    answer(page, "2")
    assert len(lost) == 1
    assert len(site.judgments()) == 1


def test_a_draft_outlives_the_page(serve, open_page):
    site = serve(pairs(2))
    page = open_page(site)
    page.keyboard.press("3")
    page.keyboard.press("r")
    page.keyboard.type("because of this")
    page.reload()
    page.wait_for_selector("#work:not([hidden])")
    assert page.is_checked("input[name=verdict][value='-1']")
    assert page.input_value("#rationale") == "because of this"
    answer(page)
    assert site.judgments()[0]["rationale"] == "because of this"


def test_two_tabs_show_one_item_and_store_one_answer(serve, window):
    site = serve(pairs(3))
    context = window()
    tabs = [context.new_page() for _ in range(2)]
    for tab in tabs:
        tab.goto(site.judge)
        tab.wait_for_selector("#work:not([hidden])")
    before = shown(tabs[0])
    assert shown(tabs[1]) == before
    answer(tabs[0], "2")
    wait_for_other(tabs[1], before)
    assert shown(tabs[0]) == shown(tabs[1])
    answer(tabs[1], "5")
    assert len(site.judgments()) == 2


def test_a_skip_takes_a_reason_and_goes_on(serve, open_page):
    site = serve(pairs(2))
    page = open_page(site)
    before = shown(page)
    page.keyboard.press("s")
    page.keyboard.press("2")
    wait_for_other(page, before)
    assert site.judgments() == []


def test_an_expired_lease_is_said_and_the_answer_still_counts(serve, open_page):
    site = serve(pairs(2), heartbeat_seconds=1.0)
    page = open_page(site)
    site.claim_as_another(ahead=24 * 3600.0)  # which takes back what is held for too long
    page.wait_for_selector("#message:not([hidden])")
    assert "still counts" in page.inner_text("#message")
    answer(page, "2")
    assert [row["late"] for row in site.judgments()] == [True]


def test_a_verdict_key_submits_where_the_project_wants_it(serve, open_page):
    site = serve(pairs(2), auto_submit=True)
    page = open_page(site)
    before = shown(page)
    page.keyboard.press("2")
    wait_for_other(page, before)
    assert page.is_visible("#toast")
    second = shown(page)
    page.click("#toast-undo")
    wait_for_other(page, second)
    assert shown(page) == before
    assert len(site.judgments()) == 1


def test_a_required_rationale_is_asked_for(serve, open_page):
    site = serve(pairs(2), rationale="required", rationale_min=5)
    page = open_page(site)
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('#hint').textContent.includes('at least 5 characters')")
    page.keyboard.press("r")
    page.keyboard.type("It is right.")
    page.keyboard.press("Escape")
    answer(page)
    assert site.judgments()[0]["rationale"] == "It is right."


def test_half_a_character_in_a_rationale_is_replaced_and_the_answer_counts(serve, open_page):
    site = serve(pairs(2))
    page = open_page(site)
    page.evaluate("document.querySelector('#rationale').value = 'half: \\ud83d'")
    answer(page, "2")
    assert site.judgments()[0]["rationale"] == "half: \ufffd"


def test_keys_in_a_text_are_letters(serve, open_page):
    site = serve(pairs(2))
    page = open_page(site)
    page.keyboard.press("r")
    page.keyboard.type("1 use b? s")
    assert page.input_value("#rationale") == "1 use b? s"
    assert page.query_selector("input[name=verdict]:checked") is None


def test_single_keys_can_be_turned_off(serve, open_page):
    """WCAG 2.2, 2.1.4: who speaks to the computer presses letters by accident."""
    page = open_page(serve(pairs(2)))
    page.keyboard.press("?")
    page.uncheck("#keys-on")
    page.keyboard.press("Escape")
    page.keyboard.press("2")
    assert page.query_selector("input[name=verdict]:checked") is None


@pytest.mark.parametrize(
    ("verdict", "keys", "k"),
    [
        ("strength7", "b", 2),
        ("binary_tie_bad", "b", 2),
        ("binary", "2", 2),
        ("best_worst", "1 Shift+3", 3),
        ("rating", "4 3 2", 3),
    ],
)
def test_every_mode_answers_by_keyboard(serve, open_page, verdict, keys, k):
    site = serve(pairs(2, k), verdict=verdict)
    answer(open_page(site), *keys.split())
    (row,) = site.judgments()
    groups = {
        "strength7": [[0, 1]],
        "binary_tie_bad": [[0, 1]],
        "binary": [[1], [0]],
        "best_worst": [[0], [1], [2]],
        "rating": [[0], [1], [2]],
    }
    assert row["groups"] == groups[verdict]
    assert row["all_bad"] == ("b" in keys)


def test_hostile_texts_are_inert_and_ask_no_other_host(serve, open_page):
    text = "\n\n".join(ATTACKS)
    site = serve([(as_prompt(text), [as_response(text), as_response(text + "x")])] * 1, math=True, guidelines=text)
    page = open_page(site, width=1280)
    hosts: list[str] = []
    page.on("request", lambda request: hosts.append(request.url))
    page.on("dialog", lambda dialog: hosts.append(f"dialog {dialog.message}"))
    page.reload()
    page.wait_for_selector("#work:not([hidden])")
    page.keyboard.press("m")
    page.keyboard.press("d")
    page.wait_for_timeout(300)
    assert [url for url in hosts if not url.startswith(site.url)] == []
    assert page.locator("#work :is(script, img, svg, iframe, style, link, form, object, embed)").count() == 0


def test_the_raw_text_is_exact(serve, open_page):
    text = "a\u202eb  c\n\n\t*d* \u200b<b>"
    page = open_page(serve([(as_prompt("Hi"), [as_response(text), as_response("other")])]))
    page.keyboard.press("m")
    texts = page.eval_on_selector_all("pre.exact-text", "all => all.map(one => one.textContent)")
    assert text in texts


def test_words_that_differ_are_marked(serve, open_page):
    page = open_page(
        serve(
            [
                (
                    as_prompt("Hi"),
                    [as_response("The quick brown fox jumps."), as_response("The quick red fox jumps twice.")],
                )
            ]
        )
    )
    page.keyboard.press("d")
    marked = page.eval_on_selector_all(".response mark", "all => all.map(one => one.textContent.trim())")
    assert sorted(marked) == ["brown", "red", "twice"]


def test_right_to_left_texts_run_from_the_right(serve, open_page):
    page = open_page(
        serve([(as_prompt("ما هي عاصمة النرويج؟"), [as_response("عاصمة النرويج هي أوسلو."), as_response("Oslo.")])])
    )
    directions = page.eval_on_selector_all(
        ".response p, #turns p", "all => all.map(one => getComputedStyle(one).direction)"
    )
    assert sorted(directions) == ["ltr", "rtl", "rtl"]


def test_a_phone_shows_one_column_without_scrolling_sideways(serve, open_page):
    site = serve(
        [(as_prompt("Hi"), [as_response("word " * 300), as_response("```\n" + "x" * 400 + "\n```")]), *pairs(1)]
    )
    page = open_page(site, width=390, height=844, has_touch=True, is_mobile=True)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    first, second = (page.locator(".response").nth(i).bounding_box() for i in range(2))
    assert first["x"] == second["x"]
    assert second["y"] >= first["y"] + first["height"]
    for box in page.eval_on_selector_all(
        "#bar label, #bar button", "all => all.map(one => one.getBoundingClientRect().toJSON())"
    ):
        assert min(box["width"], box["height"]) >= 24  # WCAG 2.2, 2.5.8
    page.locator("#verdict label").nth(1).tap()
    page.tap("#submit")
    wait_until(lambda: site.judgments())


def test_responses_have_equal_heights(serve, open_page):
    page = open_page(serve([(as_prompt("Hi"), [as_response("short"), as_response("long\n\n" * 30)])]))
    heights = page.eval_on_selector_all(".response", "all => all.map(one => one.offsetHeight)")
    assert len(set(heights)) == 1


def test_new_guidelines_are_shown_until_they_are_read(serve, open_page):
    site = serve(pairs(2), guidelines="# Be fair")
    page = open_page(site)
    page.wait_for_selector("#guidelines[open]")
    assert "Be fair" in page.inner_text("#guidelines")
    with page.expect_response("**/me/guidelines"):
        page.click("#acknowledge")
    page.reload()
    page.wait_for_selector("#work:not([hidden])")
    assert not page.is_visible("#guidelines")


def test_the_theme_follows_the_system_and_the_switch(serve, open_page):
    page = open_page(serve(pairs(1)), color_scheme="dark")
    ground = "() => getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.click("[data-theme-switch]")
    assert page.evaluate(ground) != dark
    page.reload()
    assert page.evaluate(ground) != dark


def test_own_answers_are_listed_and_can_be_changed(serve, open_page):
    site = serve(pairs(3))
    page = open_page(site)
    first = shown(page)
    answer(page, "1")
    page.goto(site.judge.replace("judge", "history"))
    page.get_by_role("link", name="Change the answer").click()
    page.wait_for_selector("#work:not([hidden])")
    assert shown(page) == first, page.inner_text("#message")


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("verdict", "keys"),
    [("strength7", "2"), ("binary_tie_bad", ""), ("rank", "21l"), ("best_worst", "1"), ("rating", "3")],
)
def test_axe_finds_no_violation(serve, open_page, verdict, keys, color_scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    text = (
        "# Title\n\n### Part\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\ndef f(x): return None  # why\n```\n\n"
        "[link](https://a.test) \u202e ![p](https://b.test/p.png)"
    )
    responses = [as_response(text), as_response(f"b {text}"), as_response("c")][
        : 3 if verdict in ("rank", "best_worst", "rating") else 2
    ]
    prompt = as_prompt([{"role": "system", "content": "Be kind."}, {"role": "user", "content": text}])
    site = serve([(prompt, responses)], verdict=verdict, axes=["helpful", "right"], reasons=["clear"], guidelines=text)
    page = open_page(site, color_scheme=color_scheme)
    page.wait_for_selector("#guidelines[open]")
    assert violations(axe, page) == []
    page.keyboard.press("Escape")
    for key in keys:
        page.keyboard.press(key)
    page.eval_on_selector("#details-box", "box => { box.open = true }")
    assert violations(axe, page) == []
    page.keyboard.press("?")
    assert violations(axe, page) == []


def violations(axe: Any, page: Any) -> list[Any]:
    page.wait_for_timeout(250)  # what moves has arrived
    found = axe.Axe().run(page).response["violations"]
    return [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found]


WATCH = """() => {
  addEventListener("keydown", (event) => { if (event.key === "Enter") window.pressed = event.timeStamp; }, true);
  window.times = [];
  const drawn = () => window.times.push(performance.now() - window.pressed);
  const responses = document.querySelector("#responses");
  new MutationObserver(() => requestAnimationFrame(() => setTimeout(drawn))).observe(responses, { childList: true });
}"""


def test_the_next_pair_is_on_the_screen_within_50_ms_of_the_key(serve, open_page):
    """From the key event to the end of the frame in which the new texts are drawn. Other work on the machine delays some."""
    page = open_page(serve(pairs(32)))
    page.evaluate(WATCH)
    for i in range(30):
        answer(page, "2")
        page.wait_for_function("count => window.times.length > count", arg=i)
    times = sorted(page.evaluate("() => window.times"))
    print(f"key to next pair: median {statistics.median(times):.1f} ms, longest {times[-1]:.1f} ms of {len(times)}")
    assert times[len(times) // 4] < 50


def test_every_control_has_a_name(serve, open_page):
    page = open_page(serve(pairs(1), axes=["helpful"], reasons=["clear"]))
    page.eval_on_selector("#details-box", "box => { box.open = true }")
    tree = page.locator("body").aria_snapshot()
    for line in (
        'heading "Prompt"', 'radiogroup "Which response is better?"', 'radio "A is much better"', 'radio "They are about equal"',
        'article "Response A"', 'radiogroup "helpful"', 'radio "helpful: B is clearly better"', 'group "Problems"', 'checkbox "unsafe"',
        'button "Submit"', 'button "Skip"', 'progressbar "Your progress"', 'button "Theme: automatic"',
    ):  # fmt: skip
        assert line in tree, tree
