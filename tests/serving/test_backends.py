"""A server in front of engines: their raw scores become the model's rewards, and what an engine fails at is never a number."""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from engines import Engine, running
from serving_site import PROMPT, RESPONSE, messages, rendered, served, serving
from shell import guerdon as command

from guerdon import GuerdonError
from guerdon.api import serving as api
from guerdon.config import ModelOptions, ServingOptions
from guerdon.models.card import Calibration
from guerdon.models.chat import Encoded
from guerdon.models.directory.formats import read_manifest
from guerdon.models.directory.loading import create_reward_model, load
from guerdon.models.directory.saving import save
from guerdon.serving.backends import ServedBackend, connect

ITEM = {"prompt": PROMPT, "response": RESPONSE}


def total(ids):
    return sum(ids) / 100


@contextmanager
def proxied(folder, *engines, **options):
    """A client of a server in front of engines that run."""
    with ExitStack() as stack:
        urls = [stack.enter_context(running(engine)).url for engine in engines]
        backend = connect(str(folder), urls, ModelOptions(truncation="refuse"), "a token", 5.0)
        yield stack.enter_context(serving(ServedBackend("tiny", str(folder), backend), **options))


def rewards(client, *items, **fields):
    response = client.post("/v1/reward", json={"items": items or [ITEM], **fields})
    return response.status_code, response.json()


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_an_engine_with_the_model_gives_the_offline_number(saved, kind):
    model = load(saved, ModelOptions()).model

    def score(ids):
        return float(model.score_encoded([Encoded(np.array(ids, np.int32), truncated=False)]).value[0])

    items = [ITEM, {"messages": messages("is it good ?", "yes")}, {"text": rendered("is it good ?", "no")}]
    with serving(served(saved)) as client:
        _, wanted = rewards(client, *items)
    engine = Engine(kind, score)
    with proxied(saved, engine) as client:
        status, answer = rewards(client, *items)
        _, _, body = engine.requests[-1]
    assert status == 200
    assert [row["score"] for row in answer["results"]] == pytest.approx(
        [row["score"] for row in wanted["results"]], abs=1e-5
    )
    assert [row["tokens"] for row in answer["results"]] == [row["tokens"] for row in wanted["results"]]
    assert body.get("use_activation", False) is False
    assert {headers.get("Authorization") for _, headers, _ in engine.requests} == {"Bearer a token"}


def test_all_protocols_give_the_calibrated_number(saved):
    with proxied(saved, Engine("vllm", total)) as client:
        text = rendered(PROMPT, RESPONSE)
        (row,) = rewards(client)[1]["results"]
        ids = client.post("/v1/reward", json={"items": [{"text": text}]}).json()["results"][0]
        assert row["score"] == ids["score"]
        assert client.post("/classify", json={"input": text}).json()["data"][0]["probs"] == [row["score"]]
        assert client.post("/get_reward", json={"query": [text]}).json()["rewards"] == [row["score"]]
        (facts,) = client.get("/info").json()["models"]
        assert facts["backends"][0].startswith("vLLM at http://127.0.0.1")
        assert facts["calibration"]["temperature"] == 0.5


def test_members_behind_engines_are_an_ensemble_with_a_spread_and_advice_to_abstain(saved_heads):
    engines = [Engine("vllm", lambda ids, shift=shift: shift) for shift in (1.0, 2.0, 6.0)]
    with proxied(saved_heads, *engines, abstain_std=1.0) as client:
        (row,) = rewards(client)[1]["results"]
    assert read_manifest(saved_heads).rule.name == "mean"
    assert row["members"] == [1.0, 2.0, 6.0]
    assert row["score"] == pytest.approx(3.0)
    assert row["std"] == pytest.approx(np.std([1, 2, 6]))
    assert row["abstain"] is True


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ((500, {"error": {"message": "CUDA out of memory"}}), 503),
        ((429, {"error": "busy"}), 503),
        ((400, {"error": {"message": "too long"}}), 502),
        ((200, b"not JSON"), 502),
        ((200, []), 502),
        ((200, {"data": []}), 502),
        ((200, {"data": [{"index": 0, "probs": [0.5, 0.5]}]}), 502),
        ((200, {"data": [{"index": 0, "probs": [None]}]}), 502),
        ((200, b'{"data": [{"index": 0, "probs": [NaN]}]}'), 502),
    ],
)
def test_a_call_that_fails_is_an_error_and_never_a_number(saved, answer, status):
    engine = Engine("vllm", total)
    with proxied(saved, engine) as client:
        engine.answer = answer
        for path, body in (
            ("/v1/reward", {"items": [ITEM]}),
            ("/get_reward", {"query": ["a"]}),
            ("/classify", {"input": "a"}),
        ):
            response = client.post(path, json=body)
            assert response.status_code == status, response.text
            assert ("retry-after" in response.headers) == (status == 503)
            assert "score" not in response.json()
        engine.answer = None
        assert rewards(client)[0] == 200


def test_one_member_that_fails_fails_the_ensemble(saved_heads):
    engines = [Engine("vllm", lambda ids: 1.0) for _ in range(3)]
    with proxied(saved_heads, *engines) as client:
        engines[1].answer = (500, {})
        assert rewards(client)[0] == 503
        engines[1].answer = None
        assert rewards(client)[0] == 200


def test_an_engine_that_has_stopped_is_503_until_it_is_back(saved):
    engine = Engine("vllm", total)
    with running(engine):
        backend = connect(str(saved), [engine.url], ModelOptions(truncation="refuse"), None, 5.0)
    with serving(ServedBackend("tiny", str(saved), backend)) as client:
        status, answer = rewards(client)
    assert status == 503
    assert "the server must answer" in answer["error"]


def test_another_model_behind_the_engine_is_refused_at_the_start(tiny_dir, tmp_path):
    model = create_reward_model(ModelOptions(base=str(tiny_dir)))
    save(model.with_card(self_test=(("a", "b", 3.25),), calibration=Calibration(temperature=2.0)), tmp_path / "m")
    with running(Engine("vllm", lambda _: 3.3)) as engine:
        connect(str(tmp_path / "m"), [engine.url], ModelOptions(), None, 5.0).close()
    with running(Engine("vllm", lambda _: 0.96)) as engine, pytest.raises(GuerdonError, match=r"got 2\.29 off"):
        connect(str(tmp_path / "m"), [engine.url], ModelOptions(), None, 5.0)


def test_wrong_numbers_and_kinds_of_engines_are_refused(saved, saved_heads):
    with running(Engine("vllm", total)) as engine:
        with pytest.raises(GuerdonError, match="--backend must be given 3 times"):
            connect(str(saved_heads), [engine.url], ModelOptions(), None, 5.0)
        engine.kind = "guerdon"
        with pytest.raises(GuerdonError, match="must be vLLM or SGLang"):
            connect(str(saved), [engine.url], ModelOptions(), None, 5.0)


def test_what_an_engine_decides_cannot_be_set_here(saved):
    with pytest.raises(GuerdonError, match=r"model\.dtype must be left out with --backend"):
        api.serve([saved], port=0, backends=["http://127.0.0.1:1"], model_options={"dtype": "bfloat16"})
    with pytest.raises(GuerdonError, match="--backend must be left out for several models"):
        api.serve([f"a={saved}", f"b={saved}"], port=0, backends=["http://127.0.0.1:1"])
    with pytest.raises(GuerdonError, match=r"serving\.audit_texts must be false"):
        api.serve([saved], port=0, options=ServingOptions(audit_texts=True))


# ---- The audit log -------------------------------------------------------------------------------------------------


def test_the_audit_log_has_every_request_and_no_text(saved, tmp_path):
    log = tmp_path / "logs" / "audit.jsonl"
    with serving(served(saved), audit_log=str(log)) as client:
        _, answer = rewards(client, ITEM, {"prompt": PROMPT, "response": "no"}, step=7)
        assert rewards(client, {"text": "a " * 5000})[0] == 400
    first, second = map(json.loads, log.read_text("utf-8").splitlines())
    assert [row["score"] for row in first["texts"]] == [row["score"] for row in answer["results"]]
    assert (first["status"], first["step"], first["path"], first["model"]) == (200, 7, "/v1/reward", "tiny")
    assert len({row["sha256"] for row in first["texts"]}) == 2
    assert len(first["fingerprint"]) >= 12
    assert (second["status"], second["texts"]) == (400, [{}])
    for word in (PROMPT, "great", "film", "a a"):
        assert word not in log.read_text("utf-8")
    assert log.stat().st_mode & 0o077 == 0


def test_texts_are_in_the_audit_log_if_asked_for(saved, tmp_path):
    log = tmp_path / "audit.jsonl"
    with serving(served(saved), audit_log=str(log), audit_texts=True) as client:
        rewards(client, ITEM, {"text": "a b"}, {"input_ids": [5, 6]})
    texts = json.loads(log.read_text("utf-8"))["texts"]
    assert texts[0]["messages"] == messages(PROMPT, RESPONSE)
    assert (texts[1]["text"], texts[2]["input_ids"]) == ("a b", [5, 6])


def test_without_room_for_the_audit_log_nothing_is_answered(saved):
    with serving(served(saved), audit_log="/dev/full") as client:
        status, answer = rewards(client)
    assert status == 503
    assert "the audit log cannot be written" in answer["error"]


def test_an_audit_log_that_cannot_be_opened_is_refused_at_the_start(saved):
    with (
        pytest.raises(
            GuerdonError, match=r"serving\.audit_log must be a file that can be written \(.*\), got '/proc/nowhere/a'"
        ),
        serving(served(saved), audit_log="/proc/nowhere/a"),
    ):
        pass


def test_a_second_start_goes_on_with_the_audit_log(saved, tmp_path):
    log = tmp_path / "audit.jsonl"
    for _ in range(2):
        with serving(served(saved), audit_log=str(log)) as client:
            assert rewards(client)[0] == 200
    assert len(log.read_text("utf-8").splitlines()) == 2


@pytest.mark.parametrize("content", ['{"bos_token": "x"}\n', "notes\n", "[1]\n"])
def test_nothing_is_appended_to_a_file_that_is_no_audit_log(saved, tmp_path, content):
    """On the command line too, where the word names a file that exists, as a model does."""
    (file := tmp_path / "mine.txt").write_text(content)
    ran = command("serve", saved, f"serving.audit_log={file}", "--port", 0)
    assert (ran.code, "serving.audit_log must be a new file or an audit log" in ran.err) == (2, True), ran.err
    assert file.read_text() == content


@pytest.mark.parametrize("variable", ["GUERDON_REWARD_TOKEN", "GUERDON_BACKEND_TOKEN"])
def test_a_token_that_no_header_holds_is_refused(saved, monkeypatch, variable):
    monkeypatch.setenv(variable, "\u043a\u043b\u044e\u0447")
    with pytest.raises(GuerdonError, match=f"{variable} must be printable ASCII without spaces"):
        api.serve([saved], port=0, backends=["http://127.0.0.1:9"])
    monkeypatch.setenv(variable, "  \n")  # as a file that holds a line end gives it
    with pytest.raises(GuerdonError, match="the server must answer"):
        api.serve([saved], port=0, backends=["http://127.0.0.1:9"])
