"""Requests that must not be answered as they are: wrong, too large, without a token, too many, from pages of other sites."""

from __future__ import annotations

import threading

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from serving_site import PROMPT, RESPONSE, Counted, served, serving

SCORED = {
    "/v1/reward": {"items": [{"text": "a b"}]},
    "/classify": {"input": "a b"},
    "/pooling": {"input": "a b"},
    "/score": {"queries": "a", "documents": "b"},
    "/v1/score": {"queries": "a", "documents": "b"},
    "/rerank": {"query": "a", "documents": ["b"]},
    "/v1/rerank": {"query": "a", "documents": ["b"]},
    "/v2/rerank": {"query": "a", "documents": ["b"]},
    "/v1/embeddings": {"input": "a b"},
    "/get_reward": {"query": ["a b"]},
    "/predict": {"inputs": "a b"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
}
ALIASES = ("/v1/score", "/v1/rerank", "/v2/rerank")
READ = ("/v1/watch", "/metrics", "/v1/models", "/info", "/openapi.json")


@pytest.fixture(scope="module")
def client(saved):
    with serving(served(saved), max_items=8, max_tokens=4000, max_body=1) as client:
        yield client


def test_the_table_of_endpoints_is_complete(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) | {"/openapi.json"} == {*SCORED, *READ, "/health"}


@pytest.mark.parametrize("path", [*SCORED, *READ, "/health", "/nowhere"])
def test_every_endpoint_but_health_needs_the_token(path):
    with serving(Counted(), token="a secret") as client:
        for header, allowed in (
            (None, False), ("Bearer wrong", False), ("Bearer ", False), ("Basic a secret", False), ("a secret", False),
            ("Bearer a secret", True), ("bearer a secret", True),
        ):  # fmt: skip
            headers = {} if header is None else {"Authorization": header}
            response = client.request("POST" if path in SCORED else "GET", path, json=SCORED.get(path), headers=headers)
            wanted = 404 if path == "/nowhere" else 200
            assert response.status_code == (wanted if allowed or path == "/health" else 401), (header, response.text)
            if response.status_code == 401:
                assert response.headers["www-authenticate"] == "Bearer"
                assert "a secret" not in response.text


def test_with_a_token_the_server_may_be_asked_by_any_name():
    with serving(Counted(), token="t") as client:
        headers = {"Authorization": "Bearer t", "Host": "rewards.cluster.local"}
        assert client.get("/info", headers=headers).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "a@127.0.0.1"])
def test_without_a_token_a_name_of_somebody_else_is_refused(client, host):
    assert client.get("/info", headers={"Host": host}).status_code == 421
    assert client.get("/info", headers={"Host": "localhost:8050"}).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "line"),
    [
        ("/classify", {}, 400, "a request must have input or messages, got neither. Send one of them."),
        ("/classify", {"text": "a", "input_ids": [1]}, 400, "a request must have text or input_ids, got both."),
        ("/rerank", {"query": "a"}, 400, "a request must have texts or documents, got neither."),
        ("/v1/reward", {"items": [{"prompt": "a"}]}, 400, "items[0]: row must be an object with prompt and response"),
        ("/v1/reward", {"items": [{"text": "a", "input_ids": [1]}]}, 400, "items[0] must be one text in one form"),
        ("/v1/reward", {"items": [{}]}, 400, "items[0] must be one text in one form"),
        ("/v1/reward", {"items": [{"text": ""}]}, 400, "items[0]: the text must have at least one token"),
        ("/v1/reward", {"items": [{"text": "a"}, {"input_ids": [10**6]}]}, 400, "items[1]: token ids must be at least 0"),
        ("/v1/reward", {"items": [{"text": "a", "extra": 1}]}, 400, "items.0.extra"),
        ("/v1/reward", {"items": [{"text": "a"}], "kl": [1.0, 2.0]}, 400, "kl must be one number for each of 1 items"),
        ("/v1/reward", {"items": [{"text": "a"}] * 9}, 413, "one request may hold 8 texts, got 9"),
        ("/v1/reward", {"items": [{"text": "a"}], "model": "tinny"}, 404, "model must be one of tiny, got 'tinny'"),
        ("/v1/reward", {"items": [{"messages": [{"role": "user", "content": "a"}]}]}, 400, "items[0]: messages must be"),
        ("/classify", {"input": []}, 400, "input must hold at least one text"),
        ("/classify", {"input": "a " * 3000}, 400, "input: model.max_length=512: 1 of 1 text is longer"),
        ("/classify", {}, 400, "a request must have input or messages"),
        ("/classify", {"text": "a", "input_ids": [1]}, 400, "a request must have text or input_ids"),
        ("/classify", {"input": "a", "truncate_prompt_tokens": 0}, 400, "truncate_prompt_tokens must be -1 or at least 1"),
        ("/classify", {"messages": [], "add_generation_prompt": True}, 400, "add_generation_prompt must be false"),
        ("/pooling", {"input": "a", "task": "token_classify"}, 400, "task must be classify"),
        ("/pooling", {"input": "a", "encoding_format": "bytes"}, 400, "encoding_format must be float or base64"),
        ("/score", {"queries": ["a", "b"], "documents": ["c"]}, 400, "queries must be one, or as many as documents"),
        ("/rerank", {"query": "a", "texts": []}, 400, "texts"),
        ("/rerank", {"query": "a"}, 400, "a request must have texts or documents"),
        ("/predict", {"inputs": ["a", "b", "c"]}, 400, "inputs must be a text, or a prompt and its reply"),
        ("/predict", {"inputs": 3}, 422, "inputs"),
        ("/v1/chat/completions", {"messages": [], "stream": True}, 400, "stream must be false"),
        ("/get_reward", {"query": []}, 400, "query"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_one_line_that_says_what_is_wrong(client, path, body, status, line):
    response = client.post(path, json=body)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    text = error["message"] if isinstance(error, dict) else error
    assert line in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("body", "kind", "line"),
    [
        (
            b'{"prompt": "a",}',
            "application/json",
            "the body must be JSON, got an error at character 15: Expecting property",
        ),
        (b"\xff", "application/json", "the body must be JSON in UTF-8"),
        (
            b"",
            "application/json",
            "the body must be a JSON object under Content-Type: application/json, got nothing under",
        ),
        (b"[]", "application/json", "the body must be a JSON object"),
        (b'{"prompt": "a", "response": "b"}', "text/plain", "under text/plain"),
    ],
)
def test_a_body_that_is_no_json_object_is_one_line_that_says_so(client, body, kind, line):
    response = client.post("/v1/reward", content=body, headers={"Content-Type": kind})
    assert response.status_code == 400, response.text
    assert line in response.json()["error"]


def test_errors_have_the_form_of_the_dialect(client):
    vllm = client.post("/classify", json={"input": []}).json()
    assert vllm["error"].keys() == {"message", "type", "param", "code"}
    assert (vllm["error"]["type"], vllm["error"]["code"]) == ("BadRequestError", 400)
    tei = client.post("/predict", json={"inputs": []}).json()
    assert tei.keys() == {"error", "error_type"}
    assert tei["error_type"] == "Validation"
    assert client.post("/rerank", json={"query": "a", "texts": ["b " * 900]}).json()["error_type"] == "Validation"
    assert client.get("/nowhere").status_code == 404
    assert client.get("/classify").status_code == 405


def test_a_body_beyond_the_limit_is_refused_whatever_its_header_says(client):
    def parts():
        yield b'{"input": "'
        for _ in range(40):
            yield b"a" * 2**15
        yield b'"}'

    headers = {"Content-Type": "application/json"}
    assert client.post("/classify", content=parts(), headers=headers).status_code == 413
    assert client.post("/classify", content=b"a" * (2**20 + 1), headers=headers).status_code == 413


def test_a_long_text_is_cut_at_its_beginning_where_the_request_asks_for_it(client):
    long = {"prompt": "a " * 600, "response": RESPONSE}
    (result,) = client.post("/v1/reward", json={"items": [long], "truncate": True}).json()["results"]
    assert (result["truncated"], result["tokens"]) == (True, 512)
    text = "<|im_start|> " + "a " * 600 + RESPONSE + "<|im_end|>"
    cut = client.post("/classify", json={"input": text, "truncate_prompt_tokens": 100}).json()
    assert cut["usage"]["prompt_tokens"] == 100
    assert client.post("/predict", json={"inputs": text, "truncate": True}).status_code == 200


def test_a_template_of_the_request_needs_leave(saved):
    body = {
        "messages": [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": RESPONSE}],
        "chat_template": "{% for m in messages %}{{ m['content'] }} {% endfor %}",
    }
    with serving(served(saved)) as client:
        response = client.post("/classify", json=body)
        assert response.status_code == 400
        assert "--allow-template" in response.text
        plain = client.post("/v1/reward", json={"items": [{"text": f"<|im_start|>{PROMPT} {RESPONSE}"}]}).json()
    with serving(served(saved), allow_template=True) as client:
        own = client.post("/classify", json=body).json()
        assert own["usage"]["prompt_tokens"] == plain["usage"]["tokens"] - 1
        broken = client.post("/classify", json={**body, "chat_template": "{{ 1 / 0 }}"})
        assert broken.status_code == 400


def test_overload_is_503_with_a_time_to_come_again_in_the_form_of_each_dialect():
    go = threading.Event()
    with serving(Counted(go=go), max_items=1) as client:
        threads = [
            threading.Thread(target=client.post, args=("/classify",), kwargs={"json": {"input": "a"}}) for _ in range(2)
        ]
        queue = next(iter(client.app.state.service.queues.values()))
        for thread, waiting in zip(threads, (0, 1), strict=True):
            thread.start()
            wait_until(lambda waiting=waiting: queue.model.passes and queue.num_waiting == waiting)
        for path, body in SCORED.items():
            response = client.post(path, json=body)
            assert response.status_code == 503, (path, response.text)
            assert int(response.headers["retry-after"]) >= 1
        assert client.get("/health").status_code == 200, "whoever watches the server gets an answer"
        go.set()
        for thread in threads:
            thread.join()


def test_a_deadline_is_kept_by_the_server():
    go = threading.Event()
    with serving(Counted(go=go)) as client:
        response = client.post("/v1/reward", json={"items": [{"text": "a"}], "deadline": 0.05})
        assert response.status_code == 503
        assert "deadline passed" in response.text
        go.set()


def test_metrics_count_requests_scores_and_what_the_prefix_cache_saved(saved):
    with serving(served(saved, prefix_bytes=10_000_000)) as client:
        for response in ("yes , it is great", "no , it is bad", RESPONSE):
            client.post("/v1/reward", json={"items": [{"prompt": PROMPT, "response": response}]})
        client.post("/classify", json={"input": []})
        lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")
    assert float(lines['guerdon_requests_total{model="tiny",path="/v1/reward",status="200"}']) == 3
    assert float(lines['guerdon_score_nats_count{model="tiny"}']) == 3
    assert float(lines['guerdon_prefix_cache_hits_total{model="tiny"}']) >= 2
    assert float(lines['guerdon_prefix_cache_reused_tokens_total{model="tiny"}']) >= 16
    assert float(lines['guerdon_queue_prefix_cache_bytes{model="tiny"}']) > 0


def test_no_text_of_a_request_reaches_the_log(saved, caplog):
    with serving(served(saved)) as client:
        client.post("/classify", json={"input": "xylophone " * 900})
        client.post("/v1/reward", json={"items": [{"prompt": "xylophone"}]})
        client.post("/v1/reward", json={"items": [{"prompt": "xylophone", "response": "xylophone"}]})
    assert "xylophone" not in caplog.text


def test_several_models_are_served_by_name(saved, saved_heads):
    with serving(served(saved, name="one"), served(saved_heads, name="three")) as client:
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["one", "three"]
        for name, members in ((None, None), ("one", None), ("three", 3), (str(saved_heads), 3)):
            (result,) = client.post("/v1/reward", json={"items": [{"text": "a"}], "model": name}).json()["results"]
            assert (None if result["members"] is None else len(result["members"])) == members


def test_no_request_that_the_description_allows_or_forbids_ends_in_a_5xx(client):
    schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis")
    codes = set()
    for result in schemathesis.openapi.from_dict(client.app.openapi()).get_all_operations():
        operation = result.ok()
        if operation.method.upper() != "POST" or operation.path in ALIASES:
            continue
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

            @settings(
                max_examples=3, deadline=None, database=None, phases=[Phase.generate], derandomize=True,
                suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(case=operation.as_strategy(generation_mode=mode))
            def request(case):
                body = case.body if isinstance(case.body, dict | list | str | int | float | bool | None) else None
                kwargs = {"content": body.encode("utf-8", "replace")} if isinstance(body, str) else {"json": body}
                response = client.request(case.method, case.path, **kwargs)
                codes.add(response.status_code)
                assert response.status_code < 500, (case.method, case.path, body, response.text)

            request()
    assert {200, 400} <= codes, "the requests reached the endpoints"


def wait_until(condition):
    import time

    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)
