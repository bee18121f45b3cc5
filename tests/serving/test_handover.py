"""What `guerdon export` writes: each trainer's file is loaded as that trainer loads it, and asks a server."""

from __future__ import annotations

import asyncio
import importlib
import json
import shlex
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
import yaml
from shell import guerdon as command

from guerdon.serving.handover.files import HANDOVERS


class Server:
    """Stands in for the client: a reward is the length of the reply, and what was asked is kept."""

    asked: ClassVar[list] = []
    steps: ClassVar[list] = []

    def __init__(self, url, model=None, **_):
        self.url, self.model = url, model

    def score(self, prompts, responses, cut=None, step=None):
        Server.asked.append((prompts, responses, cut))
        Server.steps.append(step)
        return [float(len(r if isinstance(r, str) else r[0]["content"])) for r in responses]

    async def score_async(self, prompts, responses, cut=None, step=None):
        return self.score(prompts, responses, cut, step)

    def score_texts(self, texts):
        return [float(len(text)) for text in texts]


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """Export for a trainer, then import reward.py with the modules of the trainer that it needs."""

    def export(trainer, **modules):
        out = tmp_path / trainer
        ran = command("export", trainer, "my-model", "--out", out, "--url", "http://rewards:8050/", "--model", "mine")
        assert ran.code == 0, ran.err
        monkeypatch.syspath_prepend(str(out))
        monkeypatch.setattr(sys, "dont_write_bytecode", True)  # the folder holds what the command wrote, and no more
        client = types.ModuleType("guerdon_rewards")
        client.RewardClient = Server
        for name, members in {"guerdon_rewards": vars(client), **modules}.items():
            module = types.ModuleType(name)
            vars(module).update({key: value for key, value in members.items() if not key.startswith("__")})
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.delitem(sys.modules, "reward", raising=False)
        Server.asked = []
        try:
            return out, importlib.import_module("reward")
        finally:
            sys.modules.pop("reward", None)

    return export


def test_trl_gets_a_function_and_a_cut_completion_counts_as_cut(exported, monkeypatch):
    monkeypatch.setenv("GUERDON_MAX_COMPLETION_LENGTH", "3")
    out, reward = exported("trl")
    assert (reward.client.url, reward.client.model) == ("http://rewards:8050", "mine")
    columns = {"completion_ids": [[1], [1, 2, 3]], "answer": [0, 0], "trainer_state": SimpleNamespace(global_step=7)}
    rewards = reward.guerdon_reward(prompts=["p", "p"], completions=["ab", "abc"], **columns)
    assert (rewards, Server.steps[-1]) == ([2.0, 3.0], 7)
    assert Server.asked[-1][2] == [False, True]
    assert reward.guerdon_reward.__name__ == "guerdon_reward"  # the name of the metric
    assert asyncio.run(reward.guerdon_reward_async(prompts=["p"], completions=["abcd"])) == [4.0]
    assert {path.name for path in out.iterdir()} == {"guerdon_rewards.py", "reward.py", "README.md"}


def test_openrlhf_gets_tensors_by_the_names_that_it_reads(exported):
    _, reward = exported("openrlhf")
    given = reward.reward_func(["<user>p<assistant>ab"], ["<user>p<assistant>"], [""])
    assert set(given) == {"rewards", "scores", "extra_logs"}
    assert torch.equal(given["rewards"], torch.tensor([20.0]))
    assert torch.equal(given["extra_logs"]["guerdon_reward"], given["scores"])


def test_verl_gets_a_reward_manager_that_sees_messages_and_knows_what_was_cut(exported):
    class Base:
        def __init__(self, config, tokenizer, compute_score):
            self.config, self.tokenizer = config, tokenizer

    out, reward = exported("verl", **{"verl.experimental.reward_loop.reward_manager.base": {"RewardManagerBase": Base}})
    tokenizer = types.SimpleNamespace(eos_token_id=9, decode=lambda ids, skip_special_tokens: "x" * len(ids))
    manager = reward.GuerdonRewardManager({}, tokenizer, None)
    prompt = np.array([{"role": "user", "content": "p"}], dtype=object)

    def item(replies, mask):
        batch = {"responses": torch.tensor(replies), "attention_mask": torch.tensor([1, 1, *mask])}
        return [types.SimpleNamespace(batch=batch, non_tensor_batch={"raw_prompt": prompt})]

    for replies, mask, length, cut in (
        ([5, 9, 0], [1, 1, 0], 2, False),
        ([5, 6, 9], [1, 1, 1], 3, False),
        ([5, 6, 7], [1, 1, 1], 3, True),
    ):
        given = asyncio.run(manager.run_single(item(replies, mask)))
        assert given == {"reward_score": float(length), "reward_extra_info": {"guerdon_reward": float(length)}}
        assert Server.asked[-1] == ([[{"role": "user", "content": "p"}]], ["x" * length], [cut])
    options = yaml.safe_load((out / "verl.yaml").read_text("utf-8"))
    assert options["reward"]["reward_manager"]["name"] == "GuerdonRewardManager"
    assert options["reward"]["reward_manager"]["module"]["path"] == str(out / "reward.py")


def test_nemo_rl_gets_an_environment(exported):
    class Return(dict):
        pass

    class Interface:
        pass

    interfaces = {"EnvironmentInterface": Interface, "EnvironmentReturn": lambda **values: Return(values)}
    _, reward = exported(
        "nemo-rl", **{"ray": {"remote": lambda kind: kind}, "nemo_rl.environments.interfaces": interfaces}
    )
    log = [{"role": "user", "content": "p", "token_ids": [1]}, {"role": "assistant", "content": "abc"}]
    given = reward.GuerdonEnvironment({}).step([log], [{}])
    assert given["rewards"].tolist() == [3.0]
    assert Server.asked[-1][0] == [[{"role": "user", "content": "p"}]]
    assert given["terminateds"].tolist() == [1.0]


def test_skyrl_gets_an_environment_under_a_name(exported):
    registered = {}
    _, reward = exported(
        "skyrl",
        **{
            "skyrl_gym.envs.base_text_env": {"BaseTextEnv": object, "BaseTextEnvStepOutput": dict},
            "skyrl_gym.envs.registration": {"register": lambda id, entry_point: registered.update({id: entry_point})},
        },
    )
    environment = reward.GuerdonEnv()
    environment.init([{"role": "user", "content": "p"}])
    assert environment.step("abcde")["reward"] == 5.0
    assert registered == {"guerdon": "reward:GuerdonEnv"}


@pytest.mark.parametrize("trainer", list(HANDOVERS))
def test_the_readme_of_a_folder_has_three_steps_and_no_token(trainer, tmp_path, monkeypatch):
    monkeypatch.setenv("GUERDON_REWARD_TOKEN", "secret")
    ran = command("export", trainer, "my-model", "--out", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["server"] == "http://127.0.0.1:8050"
    texts = [path.read_text("utf-8") for path in (tmp_path / "out").iterdir()]
    assert not any("secret" in text for text in texts)
    readme = (tmp_path / "out/README.md").read_text("utf-8")
    assert "guerdon serve my-model" in readme
    assert [line[0] for line in readme.splitlines() if line[:2] in ("1.", "2.", "3.")] == ["1", "2", "3"]
    for path in (tmp_path / "out").glob("*.py"):
        compile(path.read_text("utf-8"), path, "exec")


class Body(SimpleNamespace):
    def model_dump(self):
        return {"kept": True}


def gym_body(prompt, *outputs, status="completed", **request):
    """What NeMo Gym posts to /verify."""
    response = SimpleNamespace(output=list(outputs), status=status)
    return Body(responses_create_params=SimpleNamespace(input=prompt, **request), response=response)


def spoken(text):
    part = SimpleNamespace(type="output_text", text=text)
    return SimpleNamespace(type="message", role="assistant", content=[part])


@pytest.fixture
def verify(exported):
    """The endpoint of the exported server."""
    classes = {
        name: type(name, (), {}) for name in ("BaseResourcesServerConfig", "BaseVerifyRequest", "SimpleResourcesServer")
    }
    error = type("RewardError", (RuntimeError,), {})
    modules = {
        "nemo_gym.base_resources_server": {**classes, "BaseVerifyResponse": SimpleNamespace},
        "guerdon_rewards": {"RewardClient": Server, "RewardError": error},
    }
    out, reward = exported("nemo-gym", **modules)
    options = yaml.safe_load((out / "nemo_gym.yaml").read_text("utf-8"))
    assert options["guerdon"]["resources_servers"]["guerdon"]["entrypoint"] == "reward.py"
    assert (out / "requirements.txt").read_text("utf-8") == "-e nemo-gym[dev] @ ../../\n"
    return reward, lambda body: asyncio.run(reward.GuerdonResourcesServer().verify(body))


def test_nemo_gym_gets_a_resources_server(verify):
    _, ask = verify
    turns = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "input_text", "text": "p"}]},
    ]
    reasoning = SimpleNamespace(type="reasoning", summary=[])
    answer = ask(gym_body(turns, reasoning, spoken("abc"), instructions="rules"))
    assert (answer.reward, answer.kept) == (3.0, True)
    roles = [
        {"role": "system", "content": "rules"},
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "p"},
    ]
    assert Server.asked[-1] == ([roles], ["abc"], [False])
    ask(gym_body("p", spoken("ab"), status="incomplete"))
    assert Server.asked[-1] == ([[{"role": "user", "content": "p"}]], ["ab"], [True])


@pytest.mark.parametrize(
    "body",
    [
        gym_body("p", SimpleNamespace(type="function_call", name="f")),
        gym_body([{"type": "function_call_output", "output": "x"}], spoken("a")),
        gym_body([{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}], spoken("a")),
    ],
)
def test_what_is_no_text_is_an_error_in_nemo_gym_and_no_number(verify, body):
    reward, ask = verify
    with pytest.raises(reward.RewardError, match="has no reward"):
        ask(body)


@pytest.mark.parametrize("trainer", HANDOVERS)
def test_an_export_replaces_an_older_one_and_no_file_of_somebody_else(trainer, tmp_path):
    for older in ("trl", trainer, trainer):
        assert command("export", older, "my-model", "--out", tmp_path / "out").code == 0
    for file in sorted((tmp_path / "out").iterdir()):
        mine = tmp_path / f"mine-{file.name}"
        mine.mkdir()
        (mine / file.name).write_text("# Mine, with guerdon\n")
        ran = command("export", trainer, "my-model", "--out", mine)
        assert (ran.code, f"{file.name}: was not written by `guerdon export`" in ran.err) == (2, True), ran.err
        assert [path.name for path in mine.iterdir()] == [file.name]
        assert (mine / file.name).read_text() == "# Mine, with guerdon\n"


def test_an_unknown_trainer_or_an_address_with_a_path_is_one_line(tmp_path):
    ran = command("export", "ppo", "my-model", "--out", tmp_path / "out")
    assert (
        ran.code,
        "FORMAT must be one of trl, openrlhf, verl, nemo-rl, skyrl, nemo-gym, gguf, adapter, got 'ppo'" in ran.err,
    ) == (
        2,
        True,
    )
    ran = command("export", "trl", "my-model", "--out", tmp_path / "out", "--url", "http://host/v1")
    assert (ran.code, "--url must be http://HOST:PORT, got 'http://host/v1'" in ran.err) == (2, True)
    ran = command("export", "trl", "my-model", "--out", tmp_path / "out", "--url", 'http://host"+evil+"')
    assert (ran.code, "--url must be http://HOST:PORT" in ran.err) == (2, True)
    ran = command("export", "trl", " ", "--out", tmp_path / "out")
    assert (ran.code, "DIR must be the reward model that is served, got nothing" in ran.err) == (2, True)
    assert not Path(tmp_path / "out").exists()


def test_a_folder_with_any_name_is_named_rightly_in_yaml_and_in_a_shell(tmp_path):
    out = tmp_path / "rewards, {mine}: #1 'new'"
    for trainer in ("verl", "openrlhf"):
        assert command("export", trainer, "my model", "--out", out).code == 0
    options = yaml.safe_load((out / "verl.yaml").read_text("utf-8"))
    assert options["reward"]["reward_manager"]["module"] == {"path": str(out / "reward.py"), "name": "guerdon"}
    lines = (out / "README.md").read_text("utf-8").splitlines()
    (line,) = (line for line in lines if "reward.py ..." in line.replace("'", ""))
    assert str(out / "reward.py") in shlex.split(line)
    assert any("`guerdon serve 'my model'`" in line for line in lines)
