"""Policies that learned some of the battery: intact, damaged, and repeating themselves."""

from __future__ import annotations

import pytest
from taught_policies import SENTENCES, ids_of, load_local, noisy, teach, untaught

from guerdon.alignment_tax import requests
from guerdon.contracts import as_prompt
from guerdon.models.directory.policies import save_policy


@pytest.fixture(scope="session")
def taught_dir(tmp_path_factory):
    """A policy that has learned the right sentences of the minimal pairs, on disk."""
    policy = untaught()
    save_policy(teach(policy, ids_of(policy, SENTENCES), 150), tmp_path_factory.mktemp("taught") / "policy")
    return tmp_path_factory.getbasetemp() / "taught0" / "policy"


@pytest.fixture(scope="session")
def taught(taught_dir):
    return load_local(taught_dir)


@pytest.fixture(scope="session")
def noisy_dir(taught_dir, tmp_path_factory):
    """The same policy with noise on its weights, on disk."""
    folder = tmp_path_factory.mktemp("noisy") / "policy"
    save_policy(noisy(load_local(taught_dir), 0.6), folder)
    return folder


@pytest.fixture(scope="session")
def repeating(taught_dir):
    """The same policy, trained to answer every request by repeating one phrase."""
    policy = load_local(taught_dir)
    phrase = policy.tokenizer("the king saw the queen " * 4, add_special_tokens=False)["input_ids"]
    rows = [[*policy.encode(as_prompt(ask)).tolist(), *phrase] for ask in requests.OPEN]
    return teach(policy, rows, 25, size=16)
