"""Ask a running server with the client code of OpenRLHF 0.11 and verl 0.9, taken out of their wheels as it is.

python tests/compat/ask_as_trainers.py URL MODEL OPENRLHF_WHEEL VERL_WHEEL, in an environment with aiohttp, torch and transformers
(pip download --no-deps openrlhf verl). MODEL is the directory that the server serves. The trainers themselves need GPUs, ray and
vLLM; these methods need none. Prints the rewards and fails where one of them is not that of /v1/reward.
"""

from __future__ import annotations

import ast
import asyncio
import itertools
import json
import logging
import sys
import urllib.request
import zipfile
from types import SimpleNamespace
from typing import Any

import aiohttp
import torch
from transformers import AutoTokenizer

CHATS = [("write a film review", "it is great"), ("is it good ?", "no"), ("do they love you ?", "yes , very much")]


def main(url: str, model: str, openrlhf: str, verl: str) -> None:
    """Compare the rewards that three clients get."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    texts = [tokenizer.apply_chat_template(_messages(*chat), tokenize=False) for chat in CHATS]
    wanted = _ours(url)
    rewards = {
        "OpenRLHF, URL": asyncio.run(_as_openrlhf(url, openrlhf, texts)),
        "verl, vLLM": asyncio.run(_as_verl(url, model, verl, tokenizer, "vllm")),
        "verl, SGLang": asyncio.run(_as_verl(url, model, verl, tokenizer, "sglang")),
    }
    for name, values in rewards.items():
        print(f"{name}: {[round(value, 6) for value in values]}")
        assert max(abs(a - b) for a, b in zip(values, wanted, strict=True)) < 1e-4, (name, values, wanted)
    print(f"/v1/reward: {[round(value, 6) for value in wanted]}")


def _messages(prompt: str, response: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]


def _ours(url: str) -> list[float]:
    body = json.dumps({"items": [{"messages": _messages(*chat)} for chat in CHATS]}).encode()
    request = urllib.request.Request(f"{url}/v1/reward", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return [result["score"] for result in json.load(response)["results"]]


def _methods(wheel: str, module: str, *names: str) -> dict[str, Any]:
    """Functions of a module in a wheel, without what the module imports."""
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith(module))
        tree = ast.parse(archive.read(path))
    kept = [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef) and node.name in names]
    scope: dict[str, Any] = {"aiohttp": aiohttp, "asyncio": asyncio, "logger": logging.getLogger(module)}
    future = ast.parse("from __future__ import annotations").body
    exec(compile(ast.Module([*future, *kept], []), path, "exec"), scope)
    return {name: scope[name] for name in names}


async def _as_openrlhf(url: str, wheel: str, texts: list[str]) -> list[float]:
    fetch = _methods(wheel, "openrlhf/utils/agent.py", "_fetch_rewards_via_http")["_fetch_rewards_via_http"]
    endpoints = [f"{url}/get_reward"]
    agent = SimpleNamespace(reward_endpoints=endpoints, _reward_endpoint_cycle=itertools.cycle(endpoints))
    (answer,) = await fetch(agent, texts, [prompt for prompt, _ in CHATS], ["" for _ in CHATS])
    return [float(value) for value in answer["rewards"]]


async def _as_verl(url: str, model: str, wheel: str, tokenizer: Any, engine: str) -> list[float]:
    names = ("_post_request", "_preprocess_reward_inputs", "compute_score_disrm")
    methods = _methods(wheel, "verl/experimental/reward_loop/reward_loop.py", *names)
    reward_model = SimpleNamespace(rollout=SimpleNamespace(name=engine), model_path=model)
    worker = SimpleNamespace(
        config=SimpleNamespace(reward=SimpleNamespace(reward_model=reward_model)),
        reward_router_address=url.removeprefix("http://"),
        input_tokenizer=tokenizer,
        reward_model_tokenizer=tokenizer,
    )
    for name, method in methods.items():
        setattr(worker, name, method.__get__(worker))
    scores = []
    for prompt, response in CHATS:
        ids = tokenizer(response + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
        row = SimpleNamespace(
            non_tensor_batch={"raw_prompt": _messages(prompt, response)[:1]},
            batch={"responses": torch.tensor(ids), "attention_mask": torch.ones(len(ids), dtype=torch.long)},
        )
        scores.append((await worker.compute_score_disrm([row]))["reward_score"])
    return scores


if __name__ == "__main__":
    main(*sys.argv[1:5])
