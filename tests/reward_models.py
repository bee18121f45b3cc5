"""Texts that tests score with tiny reward models, and comparisons that measure their uncertainty."""

from __future__ import annotations

from toys import liked

PROMPTS = ["write a good film review", "is it a sad film ?", "i love the people"]
RESPONSES = ["yes , it is great and we love it very much .", "no", "they love you , and so do we !"]

EVERY = liked(220, seed=1)
TRAIN, HELD_OUT, NEW = EVERY[:120], EVERY[120:160], EVERY[160:]


def scores(model):
    """Rewards [3] of the responses to the prompts."""
    return model.score(PROMPTS, RESPONSES).value


def texts_of(comparisons) -> tuple[list, list]:
    """Every response of the comparisons, with its prompt."""
    return [c.prompt for c in comparisons for _ in c.responses], [r for c in comparisons for r in c.responses]
