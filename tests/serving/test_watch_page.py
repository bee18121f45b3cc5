"""The watch in a browser: a page without scripts that needs the token, shows what the report says, and takes no text as markup."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from serving_site import ADDRESS, Counted, outcomes
from starlette.testclient import TestClient

from guerdon.config import ServingOptions
from guerdon.reporting.page import to_html
from guerdon.serving.app import Access, create_app
from guerdon.serving.service import Service


def page(*names, token=None, steps=(), **request):
    """What a browser gets from a server whose models have seen these steps."""
    service = Service([Counted(name=name) for name in names], ServingOptions())
    rng = np.random.default_rng(0)
    for step, change in enumerate(steps):
        for watch in service.watches.values():
            watch.observe(outcomes(rng, 400, **change), step, [0.1 * step] * 400)
    with TestClient(create_app(service, Access(token), to_html), ADDRESS) as client:
        return client.get("/watch", **request)


def basic(password):
    return {"Authorization": "Basic " + base64.b64encode(f"me:{password}".encode()).decode()}


EXPLOITED = ({}, {"score": 0.5}, {"score": 1.5, "shifted": 0.3}, {"score": 3.0, "shifted": 0.5, "slope": 1.0})


def test_the_page_shows_the_verdict_and_each_curve():
    answer = page("mine", steps=EXPLOITED)
    assert answer.status_code == 200
    assert "The policy has begun to exploit the reward model" in answer.text
    for title in (
        "distribution of rewards at the start",
        "distribution of rewards now",
        "out of distribution",
        "reward and length",
        "KL",
    ):
        assert title in answer.text.replace("Distribution", "distribution").replace("Out of", "out of").replace(
            "Reward and", "reward and"
        )
    assert answer.text.count("<svg") >= 6


def test_nothing_runs_and_nothing_is_loaded():
    answer = page("mine", steps=EXPLOITED)
    assert "<script" not in answer.text
    assert "script-src" not in answer.headers["content-security-policy"]
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["refresh"] == "30"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401), (basic("wrong"), 401), (basic(""), 401), ({"Authorization": "Basic !"}, 401), ({"Authorization": "Basic /w=="}, 401),
        (basic("a token"), 200), ({"Authorization": "Bearer a token"}, 200),
    ],
)  # fmt: skip
def test_the_token_is_the_password(headers, status):
    answer = page("mine", token="a token", headers=headers)
    assert answer.status_code == status
    if status == 401:
        assert answer.headers["www-authenticate"].startswith("Basic ")


def test_a_password_opens_the_page_alone():
    service = Service([Counted()], ServingOptions())
    with TestClient(create_app(service, Access("a token"), to_html), ADDRESS) as client:
        assert client.get("/info", headers=basic("a token")).status_code == 401


def test_several_models_have_a_section_each_and_names_are_no_markup():
    answer = page("mine", "<img src=x>", steps=EXPLOITED)
    assert answer.text.count("Rewards of ") >= 2
    assert "<img" not in answer.text
    assert "The policy has begun to exploit the reward model" in answer.text


def test_before_the_first_text_the_page_says_so():
    assert "Too few texts to compare" in page("mine").text
