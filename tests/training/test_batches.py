"""The order of the data, and batches that hold every comparison once."""

from __future__ import annotations

import numpy as np
from toys import liked
from training_runs import farthest, train, weights

from guerdon.config import ModelOptions, TrainOptions
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.engine import prefix_tree
from guerdon.training.batches import epoch_order, micro_batches, step_rows
from guerdon.training.dataset import tokenize_comparisons


def test_micro_batches_keep_to_their_tokens_and_hold_every_row_once(tiny_dir):
    model = create_reward_model(ModelOptions(base=str(tiny_dir)))
    table = tokenize_comparisons(model.text, liked(40, k=3), TrainOptions(loss="all_pairs"))
    chunks = micro_batches(table, range(40), 300, model.network.backbone)
    assert sorted(row for chunk in chunks for row in chunk) == list(range(40))
    for chunk in chunks:
        assert len(chunk) == 1 or prefix_tree.count_unique_tokens([t for row in chunk for t in table.texts(row)]) <= 300


def test_the_seed_decides_the_order_of_the_data_and_nothing_else(tiny_dir):
    one, same, other = (weights(train(tiny_dir, liked(48), seed=seed)) for seed in (1, 1, 2))
    assert farthest(one, same) == 0.0
    assert farthest(one, other) > 0.0
    assert sorted(epoch_order(10, 0, 0)) == list(range(10))
    assert list(epoch_order(10, 0, 0)) != list(epoch_order(10, 0, 1))
    steps = [step_rows(10, 4, 0, step) for step in range(6)]
    assert [len(rows) for rows in steps] == [4, 4, 2] * 2
    for epoch in (steps[:3], steps[3:]):
        assert sorted(np.concatenate(epoch)) == list(range(10))
