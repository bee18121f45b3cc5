"""A world whose optimal policy is known: one prompt, one token, a reward of the token, a KL penalty."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from optimization_runs import small_policy
from scipy.special import logsumexp

from guerdon.contracts import as_prompt

ONE_TOKEN = {
    "updates": 60, "prompts": 64, "samples": 1, "max_tokens": 1, "unfinished": 0.0, "epochs": 2, "minibatches": 1,
    "kl_coef": 0.5, "check_every": 0, "save_every": 0, "lr": 3e-3, "value_lr": 0.05,
}  # fmt: skip


class OneTokenWorld:
    """One prompt, one token, a reward of the token: the optimum is the initial policy times e^(reward / beta)."""

    PROMPT = as_prompt("write a review")
    BETA = ONE_TOKEN["kl_coef"]

    def __init__(self, base, lora_rank, within_reach):
        self.policy = small_policy(base, lora_rank)
        tokens = range(self.policy.vocabulary_size)
        self.words = [
            self.policy.response(np.array([t]), "stop" if t in self.policy.stop_ids else "length").text for t in tokens
        ]
        self.first = self.log_probs()
        self.worth = np.array([self._worth(word) for word in self.words])
        if within_reach:  # adapters turn the last hidden state, the norm before the unembedding keeps its length
            unembedding = self.policy.model.get_output_embeddings().weight.detach().double().numpy()
            state = self.policy.backbone.hidden_states([self.policy.encode(self.PROMPT)])[0].detach().double().numpy()
            turned = np.random.default_rng(0).normal(size=len(state))
            turned *= np.linalg.norm(state) / np.linalg.norm(turned)
            self.worth = self.BETA * (unembedding @ (turned - state))
        self.worths = dict(zip(self.words, self.worth, strict=True))
        optimum = self.first + self.worth / self.BETA
        self.optimum = optimum - logsumexp(optimum)

    @staticmethod
    def _worth(word):
        """A number in [-1, 1], a function of the word."""
        return int(hashlib.sha256(word.encode()).hexdigest(), 16) % 2001 / 1000 - 1

    def reward(self, prompts, responses):
        return [self.worths[response.text] for response in responses]

    def log_probs(self):
        """The exact log-probability of every token."""
        ids = self.policy.encode(self.PROMPT)
        every = [np.array([t]) for t in range(len(self.words))]
        with torch.no_grad():
            return self.policy.forward([ids] * len(every), every).log_prob.double().numpy()

    def mean(self, log_probs):
        return float(np.exp(log_probs) @ self.worth)


def divergence(p, q):
    """KL(p || q) of log-probabilities, nats."""
    return float(np.exp(p) @ (p - q))
