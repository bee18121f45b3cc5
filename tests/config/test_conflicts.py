"""Options that contradict each other, or that a run would ignore, are one line; what a later layer resolves is none."""

from __future__ import annotations

import pytest
from errors import gives_advice

from guerdon import GuerdonError
from guerdon.config import Config, ModelOptions, OptimizeOptions, PolicyOptions, TrainOptions, build, make
from guerdon.io import readers, writers

CONFLICTS = [
    (
        {"train.report_to": ["dvclive"]},
        "train.report_to must be a list of installed trackers, got 'dvclive'. Install it (pip install dvclive), or leave",
    ),
    ({"train.compile": True, "train.shard": True}, "train.compile must be false with train.shard=true, got True."),
    (
        {"train.loss": "rao_kupper", "train.label_smoothing": 0.1},
        "train.label_smoothing must be 0 with train.loss=rao_kupper, which does not use it, got 0.1.",
    ),
    (
        {"train.loss": "all_pairs", "train.margin_scale": 1},
        "train.margin_scale must be 0 with train.loss=all_pairs, which does not use it, got 1.0.",
    ),
    (
        {"train.loss": "attributes", "train.centering": 0.1},
        "train.centering must be left out with train.loss=attributes, whose ratings say where 0 is, got 0.1. Leave it out",
    ),
    (
        {"model.heads": 2, "model.attributes": ["kind"]},
        "model.heads must be 1 with model.attributes, which have one head each, got 2. Set model.heads=1.",
    ),
    (
        {"model.lora_targets": ["q_proj"]},
        "model.lora_targets must be empty with model.lora_rank=0, which trains no adapters, got ['q_proj']. Set model.lora_rank=16",
    ),
    (
        {"policy.lora_targets": ["q_proj"], "policy.lora_rank": 0},
        "policy.lora_targets must be empty with policy.lora_rank=0, which trains no adapters, got ['q_proj'].",
    ),
    (
        {"policy.server_retries": 3},
        "policy.server_retries must be left out without policy.server, got 3. Give policy.server=URL",
    ),
    (
        {"policy.server": "http://x", "policy.max_prompt": 9},
        "policy.max_prompt must be left out with policy.server, got 9. Set it on the server.",
    ),
    (
        {"optimize.baseline": "group"},
        "optimize.samples must be 2 or more with optimize.baseline=group, which compares replies to one prompt, got 1.",
    ),
    (
        {"optimize.baseline": "leave_one_out", "optimize.samples": 2, "optimize.lam": 0.9},
        "optimize.lam must be left out with optimize.baseline=leave_one_out, which has no value model, got 0.9.",
    ),
    (
        {"optimize.value_warmup": 100},
        "optimize.value_warmup must be less than optimize.updates=100, or the policy never moves, got 100.",
    ),
    (
        {"optimize.min_length": 9, "optimize.max_length": 9},
        "optimize.min_length must be less than optimize.max_length=9, or every length stops the run, got 9.0.",
    ),
    (
        {"optimize.value_warmup": 1, "optimize.weight_decay": 0.1},
        "optimize.weight_decay must be 0 with optimize.value_warmup, or it shrinks a policy that should not move yet, got 0.1.",
    ),
    (
        {"optimize.kl_target": 1, "optimize.kl_coef": 0},
        "optimize.kl_coef must be greater than 0 with optimize.kl_target, because 0 cannot adapt, got 0.0.",
    ),
    (
        {"optimize.minibatches": 33},
        "optimize.minibatches must be at most 32, the replies in a batch, got 33.",
    ),
]


def nested(options):
    layers = {}
    for key, value in options.items():
        stage, name = key.split(".")
        layers.setdefault(stage, {})[name] = value
    return layers


@pytest.mark.parametrize(("options", "message"), CONFLICTS)
def test_options_in_conflict_are_one_line_however_they_are_given(options, message):
    layers = nested(options)
    (stage,) = layers
    kind = {"model": ModelOptions, "train": TrainOptions, "policy": PolicyOptions, "optimize": OptimizeOptions}[stage]
    for give in (
        lambda: build(layers, runs=[stage]),
        lambda: build(overrides=[f"{key}={value}" for key, value in options.items()], runs=[stage]),
        lambda: make(kind, layers[stage]),
    ):
        with pytest.raises(GuerdonError) as error:
            give()
        assert str(error.value).startswith(message)
        assert gives_advice(str(error.value))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(("options", "message"), CONFLICTS)
def test_a_later_layer_may_resolve_a_conflict(options, message):
    """Layers alone may contradict themselves: a recipe, say, that an override completes."""
    defaults = {key: getattr(getattr(Config(), stage), name) for key in options for stage, name in [key.split(".")]}
    assert build(nested(options), nested(defaults), runs=Config.model_fields) == Config()


@pytest.mark.parametrize(("options", "message"), CONFLICTS)
def test_a_conflict_in_a_stage_that_does_not_run_is_no_error(options, message):
    (stage,) = layers = nested(options)
    others = [name for name in Config.model_fields if name != stage]
    config = build(layers, runs=others)
    assert config == build(layers)
    with pytest.raises(GuerdonError) as error:
        build(layers, runs=[*others, stage])
    assert str(error.value).startswith(message)


def test_a_written_config_without_conflicts_is_taken_back(tmp_path):
    """Every option is in the file, at its default too: a default is in conflict with nothing."""
    for overrides in (
        ["policy.server=http://x", "policy.server_retries=3", "policy.base=b", "policy.system=s"],
        ["optimize.baseline=group", "optimize.samples=2"],
        ["train.loss=attributes", "train.shard=true"],
    ):
        config = build(overrides=overrides, runs=Config.model_fields)
        writers.write_config(tmp_path / "config.yaml", config)
        assert build(readers.read_config(tmp_path / "config.yaml"), runs=Config.model_fields) == config
