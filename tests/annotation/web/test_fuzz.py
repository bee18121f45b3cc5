"""Requests that schemathesis makes from the description of the API: none ends in a 5xx."""

from __future__ import annotations

import pytest
from annotation_site import Annotating, annotating
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis")

EXAMPLES = 10  # of each endpoint, right ones and wrong ones each


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with annotating(tmp_path_factory.mktemp("fuzz"), items=400) as world:
        yield world


def operations(world: Annotating):
    """Those that take JSON; test_mistakes.py has the lines that /items refuses."""
    schema = schemathesis.openapi.from_dict(world.app.openapi())
    return [result.ok() for result in schema.get_all_operations() if not result.ok().path.endswith("/items")]


def test_no_request_that_the_description_allows_or_forbids_ends_in_a_5xx(shared):
    client = shared.browser("owner")
    held = client.claim()["presentation"]
    codes = set()
    for operation in operations(shared):
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

            @settings(
                max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate], derandomize=True,
                suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(case=operation.as_strategy(generation_mode=mode), is_own=st.booleans())
            def request(case, is_own):
                path = case.path.replace("{project}", "replies")
                parameters = case.path_parameters or {}
                for name, value in parameters.items():
                    text = "".join(c for c in str(value) if c.isalnum()) or "x"
                    path = path.replace(f"{{{name}}}", held if is_own else text)
                body = case.body if isinstance(case.body, dict | list | str | int | float | bool | None) else None
                kwargs = {"content": body} if isinstance(body, str) else {"json": body}
                query = {str(key): str(value) for key, value in (case.query or {}).items()}
                response = client.request(case.method, path, params=query, **kwargs)
                codes.add(response.status_code)
                assert response.status_code < 500, (case.method, path, query, body, response.text)

            request()
    assert {200, 404, 422} <= codes, "the requests reached the endpoints"
