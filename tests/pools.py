"""Policies that draw random words, a server that dies or refuses, and pools of rewards whose answer is known."""

from __future__ import annotations

import dataclasses
import math
import random
import time

import numpy as np
from toys import Good

from guerdon.config import BestOfNOptions
from guerdon.contracts import GuerdonError, Response, Rollouts, as_prompt
from guerdon.models.remote_policy import PromptRefused, ServerError
from guerdon.optimization.best_of_n.files import write_pool
from guerdon.optimization.best_of_n.sampling import PoolSampler
from guerdon.optimization.rewards import combined

WORDS = ("good", "bad", "small", "river", "often")
SPEC = {"policy": "toy", "reward": "toy", "data file": 1}


class WordPolicy:
    """Draws one to six words, a function of the prompt and the seed. A prompt with "long" in it is too long."""

    def __init__(self, pause: float = 0.0) -> None:
        self.pause, self.calls = pause, 0

    def sample(self, prompts, n, max_tokens, temperature, seed):
        return self.sample_with_seeds(prompts, n, max_tokens, temperature, [seed] * len(prompts))

    def sample_with_seeds(self, prompts, n, max_tokens, temperature, seeds):
        self.calls += 1
        time.sleep(self.pause)
        asked = [as_prompt(prompt) for prompt in prompts]
        for i, prompt in enumerate(asked):
            if "long" in prompt[-1].content:
                raise GuerdonError(f"prompt {i}: must have at most 512 tokens, got 900. Drop it.")
        responses = []
        for prompt, seed in zip(asked, seeds, strict=True):
            rng = random.Random(f"{prompt[-1].content} {seed}")
            for _ in range(n):
                size = rng.randint(1, 6)
                text = " ".join(rng.choices(WORDS, k=min(size, max_tokens)))
                responses.append(Response(text, finish="length" if size > max_tokens else "stop"))
        return Rollouts(tuple(p for p in asked for _ in range(n)), tuple(responses))


class OneSeedPolicy:
    """As WordPolicy, with one seed per call, and log-probabilities."""

    def sample(self, prompts, n, max_tokens, temperature, seed):
        assert len(prompts) == 1
        drawn = WordPolicy().sample(prompts, n, max_tokens, temperature, seed)
        words = [len(response.text.split()) for response in drawn.responses]
        return dataclasses.replace(drawn, log_prob=-math.log(len(WORDS)) * np.array(words, dtype=np.float64))


class FailingPolicy(WordPolicy):
    """Fails for good after some calls."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.left = calls

    def sample_with_seeds(self, *given):
        self.left -= 1
        if self.left < 0:
            raise GuerdonError("http://localhost: connection refused. Start the server.")
        return super().sample_with_seeds(*given)


class FakeServer(WordPolicy):
    """A WordPolicy behind a server that takes prompts one by one, refuses long ones, and dies after `lives` prompts."""

    def __init__(self, lives: int = 10**9) -> None:
        super().__init__()
        self.lives, self.asked = lives, 0

    def sample_with_seeds(self, prompts, n, max_tokens, temperature, seeds):
        partial = {}
        for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
            if self.asked >= self.lives:
                raise ServerError("http://localhost/v1: connection refused. See its log.", partial)
            if "long" in as_prompt(prompt)[-1].content:
                raise PromptRefused(f"http://localhost/v1: prompt {i}: HTTP 400: too long. Drop it.", partial)
            self.asked += 1
            partial[i] = super().sample_with_seeds([prompt], n, max_tokens, temperature, [seed]).responses
        return Rollouts(tuple(as_prompt(p) for p in prompts for _ in range(n)), sum(partial.values(), ()))


class RefusingServer(FakeServer):
    """Refuses every prompt."""

    def sample_with_seeds(self, prompts, *how):
        raise PromptRefused("http://localhost/v1: prompt 0: HTTP 422: no such field. Change it.")


class StuckServer(FakeServer):
    """A server that never answers a prompt with "stuck" in it, and returns log-probabilities if wanted."""

    def __init__(self, log_probs=False, lives=10**9) -> None:
        super().__init__(lives)
        self.log_probs, self.tried = log_probs, 0

    def sample_with_seeds(self, prompts, n, max_tokens, temperature, seeds):
        partial, nats = {}, {}
        for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
            text = as_prompt(prompt)[-1].content
            if self.asked >= self.lives or "stuck" in text:
                self.tried += "stuck" in text
                raise ServerError(f"http://localhost/v1: prompt {i}: no answer", partial, nats, i)
            self.asked += 1
            partial[i] = WordPolicy.sample_with_seeds(self, [prompt], n, max_tokens, temperature, [seed]).responses
            if self.log_probs:
                nats[i] = [-float(len(each.text)) for each in partial[i]]
        log_prob = np.array([x for each in nats.values() for x in each]) if self.log_probs else None
        found = Rollouts(tuple(as_prompt(p) for p in prompts for _ in range(n)), sum(partial.values(), ()))
        return dataclasses.replace(found, log_prob=log_prob)

    def can_answer(self, prompt):
        return self.asked < self.lives


def options(**given):
    return BestOfNOptions(**{"n": 4, "prompts_at_once": 3, **given})


def numbered_prompts(num):
    return [f"prompt {i}" for i in range(num)]


def draw_rows(prompts, policy=None, reward=None, *, gold=None, skip=0, **given):
    rows = []
    sampler = PoolSampler(policy or WordPolicy(), reward or combined(Good()), options(**given), gold)
    counts = sampler.run(prompts, rows.extend, skip=skip)
    return rows, counts


def write_toy_pool(path, num=40, details=None, **given):
    counts = write_pool(
        path, given.pop("policy", None) or WordPolicy(), combined(Good()), numbered_prompts(num), options(**given),
        identity=SPEC, details=details,
    )  # fmt: skip
    return counts, path.read_bytes()


def brevity(prompts, responses):
    return [-len(response.text) for response in responses]


def toy_rollouts(rewards, gold=None, texts=None, **tables):
    """Rollouts from tables [prompts, N]."""
    rewards = np.array(rewards, dtype=np.float64)
    p, n = rewards.shape
    texts = texts or [[f"reply {i} {j}" for j in range(n)] for i in range(p)]
    tables |= {"reward": rewards} | ({} if gold is None else {"gold": np.array(gold, dtype=np.float64)})
    return Rollouts(
        tuple(as_prompt(f"prompt {i}") for i in range(p) for _ in range(n)),
        tuple(Response(text, finish="stop") for row in texts for text in row),
        samples=n,
        **{name: None if table is None else np.asarray(table).ravel() for name, table in tables.items()},
    )


def discrete_rollouts(probabilities, scores, prompts=40, size=512, seed=0, known=True):
    """Rollouts of the texts 0, 1, ... with given probabilities and rewards."""
    rng = np.random.default_rng(seed)
    outcome = rng.choice(len(probabilities), p=probabilities, size=(prompts, size))
    texts = [[str(number) for number in row] for row in outcome]
    log_prob = np.log(np.asarray(probabilities))[outcome] if known else None
    return toy_rollouts(np.asarray(scores)[outcome], texts=texts, log_prob=log_prob)
