"""Every dialect: recorded requests get answers of the recorded form, and all give the number of `guerdon score`."""

from __future__ import annotations

import base64
import json
import math
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_site import PROMPT, RESPONSE, Counted, messages, rendered, served, serving

from guerdon.scoring.bulk_scorer import BulkScorer
from tiny import WORDS

CASES = json.loads((Path(__file__).parents[1] / "cases" / "serving.json").read_text("utf-8"))["cases"]
TEXT = rendered(PROMPT, RESPONSE)


@pytest.fixture(scope="module")
def client(saved):
    with serving(served(saved)) as client:
        yield client


@pytest.fixture(scope="module")
def cached(saved):
    with serving(served(saved, prefix_bytes=10_000_000)) as client:
        yield client


@pytest.fixture(scope="module")
def offline(saved):
    scorer = BulkScorer(saved)
    return lambda prompt, response: float(scorer.score([prompt], [response]).value[0])


@pytest.fixture(scope="module")
def values(saved, offline):
    """What the names in the recorded requests stand for."""
    model = served(saved)
    score, other = offline(PROMPT, RESPONSE), offline(PROMPT, "no")
    best = int(other > score)
    return {
        "$TEXT": TEXT,
        "$STRIPPED": TEXT.removeprefix("<|im_start|>"),
        "$IDS": model.members[0].text.token_ids([TEXT])[0],
        "$PROMPT": PROMPT,
        "$RESPONSE": RESPONSE,
        "$PATH": str(saved),
        "$SCORE": score,
        "$OTHER": other,
        "$P": 1 / (1 + math.exp(-score)),
        "$BEST": best,
        "$BEST_TEXT": (RESPONSE, "no")[best],
        "$BEST_SCORE": max(score, other),
    }


def filled(template, values):
    if isinstance(template, dict):
        return {name: filled(value, values) for name, value in template.items()}
    if isinstance(template, list):
        return [filled(value, values) for value in template]
    return values.get(template, template) if isinstance(template, str) else template


def check(answer, template, values):
    """The answer has the form of the template, and its numbers."""
    if isinstance(template, dict):
        assert answer.keys() == template.keys()
        for name in template:
            check(answer[name], template[name], values)
    elif isinstance(template, list):
        assert len(answer) == len(template)
        for one, other in zip(answer, template, strict=True):
            check(one, other, values)
    elif template == "$B64":
        assert struct.unpack("<f", base64.b64decode(answer)) == pytest.approx((values["$SCORE"],), abs=1e-5)
    elif template == "$CONTENT":
        assert float(answer.removeprefix("reward:")) == pytest.approx(values["$SCORE"], abs=1e-5)
    elif template == "$ID":
        assert isinstance(answer, str)
        assert answer
    elif template in ("$TIME", "$TOKENS"):
        assert isinstance(answer, int)
        assert answer > 0
    elif template != "$ANY":
        expected = values.get(template, template) if isinstance(template, str) else template
        assert answer == (pytest.approx(expected, abs=1e-5) if isinstance(expected, float) else expected)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_recorded_request_gets_an_answer_of_the_recorded_form(client, values, case):
    response = client.post(case["path"], json=filled(case["body"], values))
    assert response.status_code == 200, response.text
    check(response.json(), case["answer"], values)


def every_way(client, prompt: str, response: str) -> list[float]:
    """The reward of one conversation through every dialect."""
    text, chat = rendered(prompt, response), messages(prompt, response)

    def post(path, **body):
        answer = client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    pooled = post("/pooling", input=text)["data"][0]["data"][0]
    return [
        post("/v1/reward", items=[{"prompt": prompt, "response": response}])["results"][0]["score"],
        post("/v1/reward", items=[{"messages": chat}])["results"][0]["score"],
        post("/v1/reward", items=[{"text": text}])["results"][0]["score"],
        post("/classify", input=text)["data"][0]["probs"][0],
        post("/classify", messages=chat)["data"][0]["probs"][0],
        post("/classify", text=text)["embedding"][0],
        pooled,
        post("/score", queries=prompt, documents=response)["data"][0]["score"],
        post("/rerank", query=prompt, documents=[response])["results"][0]["relevance_score"],
        post("/rerank", query=prompt, texts=[response], raw_scores=True)[0]["score"],
        post("/predict", inputs=text, raw_scores=True)[0]["score"],
        post("/get_reward", query=[text])["rewards"][0],
        post("/v1/embeddings", input=text)["data"][0]["embedding"][0],
        float(post("/v1/chat/completions", messages=chat)["choices"][0]["message"]["content"].removeprefix("reward:")),
    ]


phrases = st.lists(st.sampled_from(WORDS), min_size=1, max_size=30).map(" ".join)


@settings(max_examples=5)
@given(prompt=phrases, response=phrases)
def test_all_dialects_give_the_offline_score_to_the_bit(client, offline, prompt, response):
    """A text that is computed by itself, without a prefix cache, as `guerdon score` computes a single one."""
    assert set(every_way(client, prompt, response)) == {offline(prompt, response)}


@settings(max_examples=5)
@given(prompt=phrases, response=phrases)
def test_with_a_prefix_cache_all_dialects_agree_within_rounding(cached, offline, prompt, response):
    assert every_way(cached, prompt, response) == pytest.approx([offline(prompt, response)] * 14, abs=2e-5)


# ---- What trainers drop --------------------------------------------------------------------------------------------


def test_a_text_that_stops_at_its_end_token_is_read_to_the_end_of_the_template(tmp_path, tiny_dir):
    """OpenRLHF sends what the policy wrote, which never has what the template writes after the end token."""
    from transformers import AutoTokenizer

    from guerdon.config import ModelOptions
    from guerdon.models.directory.loading import create_reward_model
    from guerdon.models.directory.saving import save

    tokenizer = AutoTokenizer.from_pretrained(tiny_dir)
    model = create_reward_model(ModelOptions(base=str(tiny_dir)))
    source = tokenizer.chat_template.replace("<|im_end|>\n{% endfor %}", "<|im_end|> . {% endfor %}")
    assert source != tokenizer.chat_template
    model.text.tokenizer.chat_template = source
    save(model, tmp_path / "model")
    whole = rendered(PROMPT, RESPONSE).replace("<|im_end|>\n", "<|im_end|> . ")
    with serving(served(tmp_path / "model")) as client:
        stops = [whole, whole.removesuffix(" . "), whole.removesuffix("<|im_end|> . ")]
        scores = client.post("/get_reward", json={"query": stops}).json()["rewards"]
        cut = {"prompt": PROMPT, "response": {"text": RESPONSE, "finish": "length"}}
        finished = {"prompt": PROMPT, "response": RESPONSE}
        rewards = [r["score"] for r in client.post("/v1/reward", json={"items": [finished, cut]}).json()["results"]]
    assert scores[:2] == pytest.approx([rewards[0]] * 2, abs=1e-5)
    assert scores[2] == pytest.approx(rewards[1], abs=1e-5), "without an end token it was cut, and is left open"
    assert abs(scores[2] - scores[0]) > 1e-3


# ---- What else a reward carries ------------------------------------------------------------------------------------


def test_an_ensemble_gives_its_members_their_spread_and_the_offline_mean(saved_heads):
    with serving(served(saved_heads)) as client:
        body = {"items": [{"prompt": PROMPT, "response": RESPONSE}]}
        (result,) = client.post("/v1/reward", json=body).json()["results"]
        logs = client.post("/get_reward", json={"query": [TEXT]}).json()["extra_logs"]
        info = client.get("/info").json()["models"][0]
    scores = BulkScorer(saved_heads).score([PROMPT], [RESPONSE])
    assert result["score"] == scores.value[0]
    assert result["members"] == scores.members[:, 0].tolist()
    assert result["std"] == scores.std[0]
    assert logs == {"reward_std": [scores.std[0]]}
    assert (info["kind"], info["members"], info["gives_std"]) == ("ensemble", 3, True)


def test_the_server_advises_to_abstain_where_members_disagree(saved_heads):
    scores = BulkScorer(saved_heads).score([PROMPT] * 2, [RESPONSE, "no"])
    between = float(scores.std.mean())
    with serving(served(saved_heads), abstain_std=between) as client:
        items = [{"prompt": PROMPT, "response": response} for response in (RESPONSE, "no")]
        results = client.post("/v1/reward", json={"items": items}).json()["results"]
    assert [result["abstain"] for result in results] == (scores.std > between).tolist()
    assert all(result["score"] is not None for result in results), "the score is given all the same"


def test_a_missing_verdict_is_an_error_in_every_dialect_and_never_a_number():
    with serving(Counted()) as client:
        own = client.post("/v1/reward", json={"items": [{"text": "mute"}, {"text": "two words"}]}).json()["results"]
        assert [(result["score"], result["abstain"]) for result in own] == [(None, True), (2.0, False)]
        assert own[0]["error"] == "there is no verdict. Ask again."
        for path, body in (
            ("/classify", {"input": "mute"}),
            ("/pooling", {"input": "mute"}),
            ("/classify", {"text": "mute"}),
            ("/get_reward", {"query": ["mute"]}),
            ("/predict", {"inputs": "mute"}),
            ("/v1/embeddings", {"input": "mute"}),
            ("/score", {"queries": "mute", "documents": "x"}),
            ("/rerank", {"query": "mute", "texts": ["x"]}),
        ):
            response = client.post(path, json=body)
            assert response.status_code == 502
            assert "there is no verdict" in response.text
