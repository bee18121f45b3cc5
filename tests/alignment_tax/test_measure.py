"""Every task of the battery is measured, the same for every policy."""

from __future__ import annotations

import numpy as np
from taught_policies import GENERATED, HELD, READ

from guerdon.alignment_tax.measure import measure
from guerdon.alignment_tax.minimal_pairs import minimal_pairs
from guerdon.alignment_tax.tasks import TASKS
from guerdon.config import TaxOptions


def test_the_seed_decides_the_replies_and_the_items(taught, repeating):
    one, same, other = (
        measure(taught, GENERATED.model_copy(update={"seed": seed})).tasks["distinct"].answers for seed in (1, 1, 2)
    )
    assert one == same != other
    assert measure(repeating, GENERATED).tasks["distinct"].answers != one
    assert minimal_pairs(1) == minimal_pairs(1) != minimal_pairs(2)


def test_form_both_is_plain_and_chat_side_by_side(taught):
    both, plain, chat = (
        measure(taught, READ.model_copy(update={"form": form}), HELD).tasks for form in ("both", "plain", "chat")
    )
    assert list(both) == ["text", "text_chat", "minimal_pairs", "minimal_pairs_chat"]
    np.testing.assert_array_equal(both["minimal_pairs"].score, plain["minimal_pairs"].score)
    np.testing.assert_allclose(both["text_chat"].score, chat["text"].score, atol=1e-5)
    assert (both["text_chat"].score != both["text"].score).any()


def test_every_task_of_the_battery_is_measured(taught):
    tasks = measure(taught, TaxOptions(form="plain", max_tokens=4)).tasks
    assert set(tasks) == set(TASKS)
    for task in tasks.values():
        assert len(task.items) == len(task.answers) == len(task.score) > 20
        assert np.isfinite(task.score).all()
