"""`guerdon export gguf`: what it writes, its client against a stand-in, and llama.cpp's own server with the exported model."""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
import unicodedata
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from gguf_models import HARD, PAIRS, byte_model, raw_model
from llama_server import running_llama_server
from safetensors.torch import load_file, save_file
from shell import guerdon as command

import guerdon
from guerdon import GuerdonError
from guerdon.contracts import as_prompt, as_response
from guerdon.models.directory import gguf_file
from guerdon.models.ensemble import Ensemble
from guerdon.serving.handover.llama_cpp import write_llama_cpp

pytest.importorskip("gguf", reason="needs the extra gguf, which dev includes")

TALK = [
    {"role": "user", "content": "Hi."},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "A film?"},
]


def client_of(folder):
    """The exported reward.py as a module."""
    spec = importlib.util.spec_from_file_location("exported_reward", folder / "reward.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def stand_in(answer) -> Iterator[str]:
    """The address of a server that answers an embedding request with what `answer` gives for its text: a state and its tokens."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert (self.path, body["embd_normalize"]) == ("/v1/embeddings", -1)
            state, tokens = answer(body["input"])
            row = {"data": [{"index": 0, "embedding": state}], "usage": {"prompt_tokens": tokens}}
            content = json.dumps(row).encode()
            self.send_response(200 if state else 500)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def states_of(model):
    """Answers as llama.cpp does: with the state that the head reads."""
    raw, one_at_a_time = raw_model(model), threading.Lock()

    def answer(text):
        ids = raw.text.token_ids([text])[0]
        with one_at_a_time, torch.inference_mode():
            hidden = raw.network.backbone.hidden_states([np.asarray(ids, dtype=np.int32)])
        return hidden[0].tolist(), len(ids)

    return answer


@pytest.fixture
def exported(tmp_path):
    model = byte_model(tmp_path / "m")
    ran = command("export", "gguf", tmp_path / "m", "--out", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    facts = json.loads(ran.out)
    assert facts["start"].endswith("/out/backbone.gguf --embedding -np 4 -c 484 -fa off -ctk f32 -ctv f32")
    return model, tmp_path / "out"


def test_the_client_gives_guerdons_rewards_of_texts_and_conversations(exported):
    model, out = exported
    with stand_in(states_of(model)) as url:
        rewards = client_of(out).LlamaCppReward(url)
        prompts, responses = (
            [TALK, *(prompt for prompt, _ in PAIRS)],
            ["The best.", *(response for _, response in PAIRS)],
        )
        ours = model.score([as_prompt(prompt) for prompt in prompts], responses).value
        np.testing.assert_allclose(rewards.score(prompts, responses), ours, atol=1e-5)
        text = raw_model(model).text.render(as_prompt(TALK), as_response("The best."))
        assert "Be fair." in text
        assert rewards.render([*TALK, {"role": "assistant", "content": "The best."}]) == text
        assert rewards.score_texts([text]) == pytest.approx(ours[:1], abs=1e-5)
        with pytest.raises(RuntimeError, match="at most 120 tokens"):
            rewards.score_texts(["film " * 200])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: state[::-1],
            "must give a reward of .* for a known text",
        ),  # of another token, for example
        (lambda state: (np.array(state) / np.linalg.norm(state)).tolist(), "must give the model's own states"),
        (lambda state: state[:-1], "must give the model's own states, got 31 numbers"),
        (lambda state: [], "500"),
    ],
)
def test_a_server_of_something_else_gives_an_error_and_no_number(exported, change, message):
    model, out = exported
    answer = states_of(model)

    def changed(text):
        state, tokens = answer(text)
        return change(state), tokens

    with stand_in(changed) as url, pytest.raises(RuntimeError, match=message):
        client_of(out).LlamaCppReward(url)


@pytest.mark.skipif(find_spec("xllamacpp") is None, reason="needs xllamacpp, which has no build for this machine")
@pytest.mark.parametrize(
    ("family", "rule", "more"),
    [
        ("llama", "gpt-2", {"attention_bias": True, "mlp_bias": True}),
        ("llama", "smollm", {"head_dim": 16}),
        (
            "llama",
            "llama-bpe",
            {
                "rope_parameters": {
                    "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 64,
                }
            },
        ),
        ("qwen2", "qwen2", {}),
        ("qwen3", "qwen2", {"head_dim": 16}),
    ],
)  # fmt: skip
def test_llama_cpp_reads_the_same_tokens_and_gives_the_same_rewards(family, rule, more, tmp_path):
    model = byte_model(tmp_path / "m", family, rule, **more)
    write_llama_cpp(tmp_path / "m", tmp_path / "out", "float32")
    with running_llama_server(tmp_path, tmp_path / "out/backbone.gguf") as url:
        rewards = client_of(tmp_path / "out").LlamaCppReward(url)
        for text in HARD:
            normal = unicodedata.normalize("NFC", text) if rewards.head["normalize"] else text
            body = json.dumps({"content": normal, "add_special": True, "parse_special": True}).encode()
            request = urllib.request.Request(f"{url}/tokenize", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert json.load(answer)["tokens"] == raw_model(model).text.token_ids([text])[0], text
        prompts = ["Write a review."] * len(HARD)
        ours = model.score(prompts, HARD).value
        assert ours.std() > 0.1  # a thousand times what may differ
        np.testing.assert_allclose(rewards.score(prompts, HARD), ours, atol=1e-4)


@pytest.mark.skipif(find_spec("xllamacpp") is None, reason="needs xllamacpp, which has no build for this machine")
def test_a_text_of_the_maximum_length_has_a_reward_and_a_longer_one_is_an_error(tmp_path):
    model = byte_model(tmp_path / "m", max_length=256, max_position_embeddings=1024)
    options = write_llama_cpp(tmp_path / "m", tmp_path / "out", "float32").split()
    context = int(options[options.index("-c") + 1])
    with running_llama_server(tmp_path, tmp_path / "out/backbone.gguf", context) as url:
        rewards = client_of(tmp_path / "out").LlamaCppReward(url)
        [short] = raw_model(model).text.token_ids([rewards.render([*TALK, {"role": "assistant", "content": ""}])])
        fitting = "." * (256 - len(short))
        assert rewards.score([TALK], [fitting]) == pytest.approx(
            model.score([as_prompt(TALK)], [fitting]).value, abs=1e-4
        )
        with pytest.raises(RuntimeError, match="at most 256 tokens"):
            rewards.score([TALK], [fitting + "."])
        with pytest.raises(RuntimeError, match=r"400.*context size"):
            rewards.score([TALK], [fitting * 10])


def test_an_ensemble_is_refused_and_its_member_is_not(tmp_path):
    model = byte_model(tmp_path / "m")
    guerdon.save(Ensemble([model, model]), tmp_path / "e")
    ran = command("export", "gguf", tmp_path / "e", "--out", tmp_path / "out")
    assert (ran.code, "must be a single model to be written as GGUF, got an ensemble" in ran.err) == (2, True)
    assert "or export a member" in ran.err
    assert not (tmp_path / "out").exists()
    assert command("export", "gguf", tmp_path / "e/member-1", "--out", tmp_path / "out").code == 0


UP = "model.layers.1.mlp.up_proj.weight"
QUERY = "model.layers.1.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda t: t[UP].fill_(torch.nan), f"{UP} must be finite numbers"),
        (lambda t: t[UP].fill_(torch.inf), f"{UP} must be finite numbers"),
        (lambda t: t.update({UP: t[UP].to(torch.int8)}), "got NaN, infinity or torch.int8"),
        (lambda t: t["score.weight"].fill_(torch.nan), "its head must be finite"),
        (lambda t: t.pop(UP), f"must hold {UP} 1 times, as config.json says, got it 0 times"),
        (lambda t: t.update({f"{QUERY[:-6]}bias": torch.zeros(32)}), "0 times, as config.json says, got it 1 times"),
        (lambda t: t.update({QUERY: torch.zeros(3, 4)}), f"{QUERY} must have the shape that config.json gives"),
    ],
)
def test_weights_that_guerdon_would_not_load_are_not_exported(tmp_path, change, line):
    byte_model(tmp_path / "m")
    tensors = load_file(tmp_path / "m/model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "m/model.safetensors", metadata={"format": "pt"})
    ran = command("export", "gguf", tmp_path / "m", "--out", tmp_path / "out")
    assert (ran.code, line in ran.err, ran.err.count("\n")) == (2, True, 1), ran.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: [float("nan")] * len(state),
        lambda state: [None] * len(state),
        lambda state: [state],
        lambda state: {"a": 1},
    ],
)
def test_states_that_are_no_numbers_are_an_error_and_no_reward(exported, spoil):
    """Also at the start, where a reward of NaN differs from a known one by no number."""
    model, out = exported
    answer, has_started = states_of(model), []

    def spoiled_later(text):
        state, tokens = answer(text)
        return (spoil(state) if has_started else state), tokens

    with stand_in(spoiled_later) as url:
        client = client_of(out)
        rewards = client.LlamaCppReward(url)
        has_started.append(True)
        with pytest.raises(client.RewardError, match=r"must give"):
            rewards.score_texts(["The film."])
        with pytest.raises(client.RewardError, match=r"must give"):
            client.LlamaCppReward(url)


def test_options_that_an_export_ignores_are_refused(tmp_path):
    for words, option in ((("gguf", "--url", "http://host:1"), "--url"), (("trl", "--dtype", "float16"), "--dtype")):
        ran = command("export", words[0], "m", "--out", tmp_path / "out", *words[1:])
        assert (ran.code, f"{option} must be left out for {words[0]}" in ran.err) == (2, True)
    ran = command("export", "gguf", "m", "--out", tmp_path / "out", "--dtype", "int8")
    assert (ran.code, "--dtype must be float32 or float16, got 'int8'" in ran.err) == (2, True)
    assert not (tmp_path / "out").exists()


def test_without_gguf_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(GuerdonError, match=r"Run pip install 'guerdon\[gguf\]'"):
        write_llama_cpp(tmp_path / "m", tmp_path / "out", "float32")


def test_a_full_disk_leaves_the_older_export(exported, tmp_path, monkeypatch):
    _, out = exported
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf_file, "paired_rows", full)
    ran = command("export", "gguf", tmp_path / "m", "--out", out)
    assert (ran.code, "No space left on device" in ran.err) == (2, True)
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "m-base", "out"]
