"""Servers of rollouts in this process: one that makes replies up, and one that samples from a tiny policy as vLLM would."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import torch
from optimization_runs import small_policy
from peft import set_peft_model_state_dict
from safetensors.torch import load_file

from guerdon.models.token_completions import PlainSampling

STOP = 1
SAMPLING = PlainSampling(max_tokens=4, temperature=1.0, stop_ids=frozenset({STOP}), vocabulary_size=1000)


def tokens_of(seed, index):
    """The made-up reply of a seed: different for every one of them."""
    return [2 + seed % 900, 2 + (seed // 900) % 900, 2 + index, STOP]


def made_up(server, body):
    replies = [tokens_of(body["seed"], i) for i in range(body["n"])]
    return [
        {"index": i, "token_ids": ids, "finish_reason": "stop", "logprobs": {"token_logprobs": [-1.0] * 4}}
        for i, ids in enumerate(replies)
    ]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        self.answer(200, {"data": [{"id": name} for name in ["base", *self.server.adapters]]})

    def do_POST(self):
        server, body = self.server, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if server.is_dead:
            self.close_connection = True
            return
        if self.path.endswith("/completions"):
            self.answer(*server.complete(body))
        elif not server.takes_adapters:
            self.answer(404, {"detail": "Not Found"})
        elif self.path.endswith("/unload_lora_adapter"):
            server.adapters.pop(body["lora_name"])
            self.answer(200, b"Success")
        elif body["lora_name"] in server.adapters:
            self.answer(400, {"error": {"message": f"The lora adapter '{body['lora_name']}' has already been loaded."}})
        elif not Path(body["lora_path"]).is_dir():
            self.answer(404, {"error": {"message": f"No adapter found for {body['lora_path']}"}})
        else:
            server.load(body["lora_name"], Path(body["lora_path"]))
            self.answer(200, b"Success")

    def answer(self, status, content):
        if self.server.is_dead:
            self.close_connection = True
            return
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


class RolloutServer(ThreadingHTTPServer):
    """choices: of a request. delay: seconds before each answer. dies_after: completions, after which it answers nothing."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, choices=made_up, *, delay=0.0, dies_after=None, port=0, takes_adapters=True):
        super().__init__(("127.0.0.1", port), Handler)
        self.choices, self.delay, self.dies_after, self.takes_adapters = choices, delay, dies_after, takes_adapters
        self.adapters, self.bodies, self.answered, self.lock = {}, [], Counter(), threading.Lock()
        self.is_dead, self.status, self.most_at_once, self.at_once = False, 200, 0, 0
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def load(self, name, path):
        self.adapters[name] = path

    def complete(self, body):
        with self.lock:
            self.bodies.append(body)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            if self.dies_after is not None and len(self.bodies) > self.dies_after:
                self.is_dead = True
        time.sleep(self.delay)
        with self.lock:
            self.at_once -= 1
        if self.status != 200:
            return self.status, {"error": {"message": "out of order"}}
        if body["model"] not in self.adapters:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
        choices = self.choices(self, body)
        self.answered[body["seed"]] += not self.is_dead
        return 200, {"choices": choices}

    def handle_error(self, request, client_address):
        """A client that hung up is part of the tests."""

    def stop(self):
        self.is_dead = True
        self.shutdown()
        self.server_close()


class PolicyServer(RolloutServer):
    """Samples from the tiny policy with the adapters that it was told to load, all on this thread's copy of the weights.

    is_stale: it keeps the first adapters that it loads, whatever their later versions hold.
    """

    def __init__(self, base, *, lora_rank=2, is_stale=False, **options):
        self.policy, self.is_stale, self.first = small_policy(base, lora_rank), is_stale, None
        super().__init__(sampled, **options)

    def load(self, name, path):
        state = load_file(path / "adapter_model.safetensors")
        self.first = state if self.first is None else self.first
        self.adapters[name] = self.first if self.is_stale else state


def sampled(server, body):
    policy, prompt = server.policy, np.asarray(body["prompt"], np.int32)
    assert body["stop_token_ids"] == sorted(policy.stop_ids)
    with server.lock, torch.no_grad():
        set_peft_model_state_dict(policy.model, server.adapters[body["model"]])
        drawn = policy.generate([prompt], body["n"], body["max_tokens"], body["temperature"], body["seed"])
        nats = policy.forward([prompt] * body["n"], drawn.replies).log_prob.split([len(ids) for ids in drawn.replies])
    return [
        {
            "index": i,
            "token_ids": ids.tolist(),
            "prompt_token_ids": body["prompt"],
            "finish_reason": drawn.finish[i],
            "logprobs": {"token_logprobs": nats[i].tolist()},
        }
        for i, ids in enumerate(drawn.replies)
    ]


@contextmanager
def running(*servers):
    """The servers' addresses as one option; they end with the block."""
    try:
        yield ",".join(server.url for server in servers)
    finally:
        for server in servers:
            server.stop()
