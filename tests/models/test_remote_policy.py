"""A policy behind HTTP keeps its contract: what it sends, what replies hold, and how requests are divided and ordered."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest
from completions_server import choice, choices, last, texts, well
from families import save_family

from guerdon import GuerdonError, Message, Prompt, ToolCall
from guerdon.config import PolicyOptions
from guerdon.contracts import Policy
from guerdon.models.directory.policies import load_policy
from guerdon.models.remote_policy import PromptRefused, RemotePolicy, ServerError
from guerdon.optimization.best_of_n.sampling import SeededPolicy
from guerdon.testing import check_policy

# ---- The contract ----------------------------------------------------------------------------------------------------


def test_a_remote_policy_keeps_the_contract_in_both_dialects(serve, tiny_dir):
    url = serve().url
    check_policy(RemotePolicy(url, "tiny-chat"))
    check_policy(RemotePolicy(url, "tiny-chat", tokenizer=load_policy(PolicyOptions(base=str(tiny_dir))).tokenizer))
    assert isinstance(RemotePolicy(url, "tiny-chat"), Policy)


@pytest.mark.parametrize("behind", ["", "/", "/v1", "/v1/", "//"])
def test_the_url_may_end_with_v1_or_a_slash(serve, behind):
    server = serve()
    RemotePolicy(server.url + behind, "tiny-chat").sample(["hi"], 1, 5)
    assert server.seen[0][0] == "/v1/chat/completions"


def test_only_plain_standard_fields_are_sent(serve):
    server = serve()
    RemotePolicy(server.url, "tiny-chat", system="be kind").sample([[Message("user", "hi")]], 3, 7, 0.5, seed=1)
    (body,) = server.bodies
    seed = body.pop("seed")
    assert 0 <= seed < 2**31
    assert body == {
        "model": "tiny-chat",
        "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}],
        "temperature": 0.5,
        "top_p": 1.0,
        "max_tokens": 7,
        "n": 3,
    }


def test_every_prompt_and_seed_gets_its_own_samples_and_equal_calls_send_equal_requests(serve):
    server = serve()
    policy = RemotePolicy(server.url, "tiny-chat", per_request=2)
    one, same, other = (texts(policy.sample(["hi", "hi"], 5, 5, seed=seed)) for seed in (1, np.int64(1), 2))
    assert one == same
    assert len({*one, *other}) == 20


def test_tools_and_tool_calls_are_sent_in_openai_form(serve):
    server = serve()
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    call = ToolCall("add", '{"a": 1, "b": 2}', id="c1")
    turns = [
        Message("user", "1 + 2?"),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "3", tool_call_id="c1"),
    ]
    RemotePolicy(server.url, "m").sample([Prompt(turns, [json.dumps(tool)])], 1, 5)
    (body,) = server.bodies
    assert body["tools"] == [tool]
    assert body["messages"] == [
        {"role": "user", "content": "1 + 2?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
            ],
        },
        {"role": "tool", "content": "3", "tool_call_id": "c1"},
    ]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_with_a_tokenizer_the_server_gets_the_ids_that_a_local_policy_reads(serve, tmp_path, family):
    local = load_policy(PolicyOptions(base=str(save_family(tmp_path, family)), system="be kind"))
    server = serve()
    RemotePolicy(server.url, "m", tokenizer=local.tokenizer, system="be kind").sample(["write a tweet"], 2, 5)
    path, body, _ = server.seen[0]
    assert path == "/v1/completions"
    assert "messages" not in body
    assert body["prompt"] == local.encode((Message("user", "write a tweet"),)).tolist()


def test_a_plain_template_can_be_chosen_and_one_that_raises_is_reported_with_its_prompt(serve, tiny_dir):
    tokenizer = load_policy(PolicyOptions(base=str(tiny_dir))).tokenizer
    server = serve()
    RemotePolicy(server.url, "m", tokenizer=tokenizer, template="plain").sample(["write"], 1, 5)
    assert server.bodies[0]["prompt"] == tokenizer("User: write\n\nAssistant:", add_special_tokens=False)["input_ids"]
    tokenizer.chat_template = "{{ messages[0]['content'] }}{{ raise_exception('no') if messages|length > 1 }}"
    two = [Message("user", "a"), Message("user", "b")]
    with pytest.raises(
        GuerdonError,
        match=r"prompt 1: the chat template must accept the conversation, but refuses its roles user,user: no. Reorder",
    ):
        RemotePolicy(server.url, "m", tokenizer=tokenizer).sample(["write", two], 1, 5)
    with pytest.raises(GuerdonError, match="template must be model without a tokenizer"):
        RemotePolicy(server.url, "m", template="plain")
    with pytest.raises(GuerdonError, match=r"template must be model or plain, got '\{\{ messages"):
        RemotePolicy(server.url, "m", tokenizer=tokenizer, template="{{ messages }}")


def test_at_temperature_0_one_reply_is_requested_and_repeated(serve):
    server = serve()
    drawn = RemotePolicy(server.url, "tiny-chat").sample(["a", "b"], 3, 5, temperature=0)
    assert [body["n"] for body in server.bodies] == [1, 1]
    assert len(drawn.responses) == len(drawn.prompts) == 6
    assert len(set(texts(drawn))) == 2


def test_no_prompts_send_no_request_and_invalid_options_are_refused_before_one():
    policy = RemotePolicy("http://127.0.0.1:9", "m", log_probs=True)
    assert policy.sample([], 3, 5).responses == ()
    for n, max_tokens, temperature in ((0, 5, 1.0), (1, 0, 1.0), (1, 5, -1.0), (1, 5, float("nan"))):
        with pytest.raises(GuerdonError, match=rf"n and max_tokens must be .* got {n}, {max_tokens} and {temperature}"):
            policy.sample(["hi"], n, max_tokens, temperature)
    with pytest.raises(GuerdonError, match=r"temperature must be 1 with log_probs, got 0.5"):
        policy.sample(["hi"], 1, 5, 0.5)
    with pytest.raises(GuerdonError, match="prompt 0: must have at least one message"):
        policy.sample([[]], 1, 5)


# ---- How replies end, and what they hold -------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["chat", "ids"])
def test_only_a_reply_that_stopped_looks_finished(serve, tiny_dir, dialect, caplog):
    reasons = ["stop", "length", "tool_calls", "content_filter", "abort", None, 7]

    def answer(handler, body, number):
        return 200, {"choices": [choice(body, f"reply {i}", reason, i) for i, reason in enumerate(reasons)]}

    tokenizer = load_policy(PolicyOptions(base=str(tiny_dir))).tokenizer if dialect == "ids" else None
    drawn = RemotePolicy(serve(answer).url, "m", tokenizer=tokenizer).sample(["hi"], len(reasons), 5)
    assert [r.finish for r in drawn.responses] == ["stop", *["length"] * 6]
    assert "'abort' 1" in caplog.text


def test_a_tool_call_without_text_is_an_empty_reply_that_was_cut(serve):
    def answer(handler, body, number):
        return 200, {"choices": [choice(body, None, "tool_calls")]}

    (response,) = RemotePolicy(serve(answer).url, "m").sample(["hi"], 1, 5).responses
    assert (response.text, response.finish, response.author) == ("", "length", "m")


def test_any_unicode_survives_the_round_trip_and_lone_surrogates_are_replaced(serve):
    def answer(handler, body, number):
        content = json.dumps({"choices": [choice(body, last(body), "stop")]})
        return 200, content.replace("HALF", "\\ud83d").encode()

    drawn = RemotePolicy(serve(answer).url, "m").sample(["Grüße 👋 日本 \x00 <b>", "\udc00 HALF"], 1, 5)
    assert texts(drawn) == ["Grüße 👋 日本 \x00 <b>", "\ufffd \ufffd"]


def test_choices_are_ordered_by_their_index(serve):
    def answer(handler, body, number):
        return 200, {"choices": choices(body)["choices"][::-1]}

    drawn = texts(RemotePolicy(serve(answer).url, "m").sample(["hi"], 4, 5))
    assert [text[-1] for text in drawn] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("dialect", ["chat", "ids"])
def test_log_probabilities_are_summed_over_a_replys_tokens(serve, tiny_dir, dialect):
    def answer(handler, body, number):
        assert body["logprobs"]
        chat = {"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.25}]}
        found = chat if "messages" in body else {"token_logprobs": [-0.5, -1.25]}
        return 200, {"choices": [choice(body, "a b", "stop", logprobs=found)]}

    tokenizer = load_policy(PolicyOptions(base=str(tiny_dir))).tokenizer if dialect == "ids" else None
    drawn = RemotePolicy(serve(answer).url, "m", tokenizer=tokenizer, log_probs=True).sample(["hi", "you"], 1, 5)
    assert drawn.log_prob.tolist() == [-1.75, -1.75]
    assert RemotePolicy(serve().url, "m").sample(["hi"], 1, 5).log_prob is None


@pytest.mark.parametrize("found", [None, {"content": None}, {"content": [{"logprob": float("nan")}]}, [], {}])
def test_missing_log_probabilities_are_an_error_without_a_retry(serve, found):
    server = serve(lambda handler, body, number: (200, {"choices": [choice(body, "a", logprobs=found)]}))
    with pytest.raises(ServerError, match=r"without finite log-probabilities\. Pass log_probs=False"):
        RemotePolicy(server.url, "m", log_probs=True).sample(["hi"], 1, 5)
    assert len(server.seen) == 1


# ---- How many at once ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 422, 500])
def test_a_server_that_refuses_many_choices_gets_requests_for_fewer(serve, status):
    def answer(handler, body, number):
        if body["n"] > 3:
            return status, {"error": {"message": "'n' must be at most 3"}}
        return well(handler, body, number)

    server = serve(answer)
    policy = RemotePolicy(server.url, "m", retries=0, workers=1)
    one = policy.sample(["a", "b"], 10, 5)
    learned = len(server.seen)
    assert texts(policy.sample(["a", "b"], 10, 5)) == texts(one), "what was learned of a server changes no draw"
    assert len(server.seen) - learned == 10, "and is not learned twice"
    assert len(set(texts(one))) == 20


@pytest.mark.parametrize("most", [1, 3])
def test_a_server_that_gives_fewer_choices_gets_requests_for_the_rest(serve, most):
    server = serve(lambda handler, body, number: (200, choices(body, min(body["n"], most))))
    policy = RemotePolicy(server.url, "m")
    drawn = texts(policy.sample(["a", "b"], 7, 5))
    assert [text[0] for text in drawn] == ["a"] * 7 + ["b"] * 7
    assert len(set(drawn)) == 14
    assert texts(policy.sample(["a", "b"], 7, 5)) == drawn


def test_surplus_choices_are_ignored(serve):
    server = serve(lambda handler, body, number: (200, choices(body, body["n"] + 2)))
    assert len(RemotePolicy(server.url, "m").sample(["a", "b"], 3, 5).responses) == 6


def test_prompts_with_seeds_send_the_requests_that_each_would_alone_and_run_in_parallel(serve):
    """So a pool can be sampled by many requests at a time, and does not depend on how many prompts go together."""
    together, server = threading.Barrier(3, timeout=20), serve()
    crowd = serve(lambda handler, body, number: (together.wait(), well(handler, body, number))[1])
    policy = RemotePolicy(crowd.url, "m")
    found = policy.sample_with_seeds(["a", "b", "a"], 2, 5, 1.0, [7, 8, 9])
    alone = RemotePolicy(server.url, "m")
    expected = [texts(alone.sample([p], 2, 5, 1.0, seed)) for p, seed in (("a", 7), ("b", 8), ("a", 9))]
    assert texts(found) == [text for some in expected for text in some]
    assert isinstance(policy, SeededPolicy)


@pytest.mark.parametrize(("status", "own"), [(400, True), (413, True), (422, True), (401, False), (404, False)])
def test_a_refused_prompt_is_distinguished_from_a_server_that_refuses_all(serve, status, own):
    server = serve(lambda handler, body, number: (status, b"no") if last(body) == "b" else well(handler, body, number))
    with pytest.raises(ServerError, match="prompt 1: HTTP") as raised:
        RemotePolicy(server.url, "m", workers=1).sample(["a", "b"], 2, 5)
    assert isinstance(raised.value, PromptRefused) == own
    assert len(raised.value.partial[0]) == 2


def test_a_large_n_is_divided_among_requests(serve):
    server = serve()
    RemotePolicy(server.url, "m", per_request=16).sample(["a"], 40, 5)
    assert sorted(body["n"] for body in server.bodies) == [8, 16, 16]


def test_equal_samples_are_warned_of(serve, caplog):
    long = "the same reply, whatever the seed is"
    server = serve(lambda handler, body, number: (200, {"choices": [choice(body, long)] * body["n"]}))
    RemotePolicy(server.url, "m").sample(["a", "b"], 4, 5)
    assert "all replies to a prompt are the same. Use per_request=1" in caplog.text


# ---- Order, and many at a time -------------------------------------------------------------------------------------------


def test_prompts_keep_their_order_whatever_arrives_first(serve):
    def answer(handler, body, number):
        time.sleep(0.02 * (7 - int(last(body))))
        return well(handler, body, number)

    arrived = {}
    policy = RemotePolicy(serve(answer).url, "m", workers=8)
    drawn = policy.sample(
        [str(i) for i in range(8)], 2, 5, on_replies=lambda i, responses: arrived.update({i: responses})
    )
    assert [text[0] for text in texts(drawn)] == [str(i) for i in range(8) for _ in range(2)]
    assert list(arrived) != sorted(arrived), "the first prompt came last"
    assert tuple(r for i in range(8) for r in arrived[i]) == drawn.responses


def test_at_most_one_request_per_worker_is_in_flight(serve):
    together, most = [0], [0]
    lock = threading.Lock()

    def answer(handler, body, number):
        with lock:
            together[0] += 1
            most[0] = max(most[0], together[0])
        time.sleep(0.05)
        with lock:
            together[0] -= 1
        return well(handler, body, number)

    RemotePolicy(serve(answer).url, "m", workers=4).sample(["a"] * 12, 1, 5)
    assert most == [4]
