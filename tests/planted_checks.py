"""Checks of a run whose truth is planted: where gold turns, and how much of the proxy's gain is length."""

from __future__ import annotations

import dataclasses

import numpy as np

from guerdon.optimization.checks import Check

DISTANCE = np.linspace(0, 4, 9)
WORDS = "river small often answer bright seven history people always water stone green walk open late".split()


def hump(d):
    return d * (2 - 0.6 * d)


def planted_checks(gold=hump, p=80, m=9, seed=0, *, by_length=0.0, by_quality=0.5, longer=2.0, **changed):
    """Checks whose gold follows a curve of √KL, whose proxy rises by quality and by length, each prompt with its own level."""
    rng = np.random.default_rng(seed)
    level, checks = rng.normal(size=p), []
    for i, d in enumerate(DISTANCE[:m]):
        length = np.round(np.maximum(1, 60 + 10 * level + longer * i + 6 * rng.normal(size=p)))
        texts = tuple(f"{a} " + " ".join(rng.choice(WORDS, size=12)) for a in range(p))
        check = Check(
            update=10 * i,
            kl_coef=0.05,
            prompts=tuple(f"prompt {a}" for a in range(p)),
            proxy=level + by_quality * i + by_length * length + 0.3 * rng.normal(size=p),
            gold=None if gold is None else level + gold(d) + 0.5 * rng.normal(size=p),
            kl=d * d * (1 + 0.2 * rng.normal(size=p)),
            length=length,
            finished=rng.random(p) < 0.9,
            std=None,
            shift_p=None,
            texts=texts,
        )
        checks.append(dataclasses.replace(check, **{k: v(i, p, rng) for k, v in changed.items()}))
    return checks
