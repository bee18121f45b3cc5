"""Options: layers in their order, names checked with the nearest one, and a file that --config takes back."""

from __future__ import annotations

import pytest
import yaml
from pydantic import ValidationError

from guerdon import GuerdonError
from guerdon.api import training
from guerdon.config import (
    Config,
    ModelOptions,
    SplitOptions,
    TrainOptions,
    build,
    known_keys,
    make,
)
from guerdon.io import readers, writers
from guerdon.recipes import RECIPES

KEYS = dict(known_keys())


def test_later_layers_replace_earlier_ones_and_overrides_replace_both():
    config = build(
        {"train": {"lr": 1e-4, "epochs": 2}, "model": {"base": "a"}},
        {"train": {"lr": 2e-4, "batch_size": 4}},
        overrides=["train.batch_size=8", "train.batch_size=9", "model.max_length=64"],
    )
    assert (config.train.lr, config.train.epochs, config.train.batch_size) == (2e-4, 2.0, 9)
    assert (config.model.base, config.model.max_length) == ("a", 64)
    assert config.calibrate == Config().calibrate


def test_layers_are_left_as_they_were():
    layer = {"train": {"lr": 1e-4}}
    build(layer, {"train": {"lr": 2e-4}}, overrides=["train.seed=1"])
    assert layer == {"train": {"lr": 1e-4}}


@pytest.mark.parametrize(
    ("override", "stage", "name", "value"),
    [
        ("train.lr=1e-5", "train", "lr", 1e-5),
        ("train.lr=1.e-5", "train", "lr", 1e-5),
        ("model.system=", "model", "system", None),
        ("model.system=''", "model", "system", ""),
        ("model.base=/a/b=c", "model", "base", "/a/b=c"),
        ("model.autocast=no", "model", "autocast", "no"),
        ("model.autocast=false", "model", "autocast", "no"),
        ("train.head_lr=null", "train", "head_lr", None),
        ("model.lora_targets=[q_proj, v_proj]", "model", "lora_targets", ["q_proj", "v_proj"]),
        ("train.betas=[0.9, 0.95]", "train", "betas", (0.9, 0.95)),
        ("model.trust_remote_code=true", "model", "trust_remote_code", True),
        ("imports.columns={prompt: question}", "imports", "columns", {"prompt": "question"}),
    ],
)
def test_an_override_is_read_as_yaml(override, stage, name, value):
    assert getattr(getattr(build(overrides=[override]), stage), name) == value


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("train.bach_size=1", "train.bach_size is not an option. Did you mean train.batch_size?"),
        ("loop.round=1", "loop.round is not an option. Did you mean loop.rounds?"),  # select.round is another stage's
        ("model.lora_rnk=1", "model.lora_rnk is not an option. Did you mean model.lora_rank?"),
        (
            "train.lr=[*a]",
            "override must be STAGE.NAME=VALUE with a value in YAML (an alias (*name), which is not supported), "
            "got 'train.lr=[*a]'. Correct or quote the value.",
        ),
        ("train.seed=" + "k" * 5000, f"train.seed must be a valid integer, got '{'k' * 59}…. See docs/options.md."),
        ("k" * 5000 + ".lr=1", f"'{'k' * 79}… is not an option. Choose from "),
        ("trian.lr=1", "trian is not an option. Did you mean train?"),
        ("train.lr=fast", "train.lr must be a valid number, got 'fast'. See docs/options.md."),
        ("train.lr=0", "train.lr must be greater than 0, got 0. See docs/options.md."),
        ("train.loss=hinge", "train.loss must be 'bradley_terry', "),
        ("train.label_smoothing=0.5", "train.label_smoothing must be less than 0.5, got 0.5"),
        ("train.epochs=nan", "train.epochs must be a finite number, got 'nan'"),
        ("train.report_to=[zzz]", "train.report_to[0] must be 'trackio', 'tensorboard', 'wandb', "),
        ("uncertainty.most=1", "uncertainty.most must be greater than or equal to 100, got 1"),
        ("optimize.prompts=100000", "optimize.prompts must be less than or equal to 8192, got 100000"),
        ("train.lr", "override must be STAGE.NAME=VALUE, got 'train.lr'. Write it as in train.lr=1e-5."),
        ("model.device=meta", "model.device must be auto, cpu, mps, cuda or cuda:N, got 'meta'. See"),
        ("policy.device=cuda:x", "policy.device must be auto, cpu, mps, cuda or cuda:N, got 'cuda:x'."),
        ("model.heads=100000", "model.heads must be less than or equal to 256, got 100000."),
        ("model.system=be kind: always", "model.system must be a valid string, got {'be kind': 'always'}"),
        ("lr=1", "override must be STAGE.NAME=VALUE, got 'lr=1'"),
        (
            "train.betas=[1",
            "override must be STAGE.NAME=VALUE with a value in YAML (expected ',' or ']', but got '<stream end>'), "
            "got 'train.betas=[1'. Correct or quote the value.",
        ),
    ],
)
def test_a_wrong_override_is_one_line_with_advice(override, complaint):
    with pytest.raises(GuerdonError) as refusal:
        build(overrides=[override])
    assert str(refusal.value).startswith(complaint)
    assert "\n" not in str(refusal.value)


def test_a_wrong_layer_is_named_too():
    with pytest.raises(GuerdonError, match=r"train must be a mapping of options, got 3\. Write train\.NAME=VALUE\."):
        build({"train": 3})
    with pytest.raises(GuerdonError, match=r"scores is not an option\. Did you mean score\?"):
        build({"scores": {}})


def test_the_file_a_run_writes_is_taken_back(tmp_path):
    config = build(
        {"model": {"system": "be kind: \u00e9 \n#", "attributes": ["a", "b"]}, "imports": {"columns": {"prompt": "q"}}},
        overrides=["train.betas=[0.8, 0.99]", "train.lr=3e-7", "train.head_lr=1e-3"],
    )
    writers.write_config(tmp_path / "config.yaml", config)
    again = build(readers.read_config(tmp_path / "config.yaml"))
    assert again == config
    assert set(again.model_fields_set) == set(Config.model_fields)
    written = yaml.safe_load((tmp_path / "config.yaml").read_text("utf-8"))
    assert {f"{stage}.{name}" for stage, options in written.items() for name in options} == set(KEYS)


def test_scientific_notation_in_a_file_is_a_number(tmp_path):
    """YAML 1.1 reads 1e-5 as text: it has no dot."""
    (tmp_path / "c.yaml").write_text("train: {lr: 1e-5}\n")
    assert build(readers.read_config(tmp_path / "c.yaml")).train.lr == 1e-5


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_valid_and_changes_something(name):
    assert build(RECIPES[name]()) != Config()


@pytest.mark.parametrize("key", KEYS)
def test_every_option_has_a_sentence_and_a_default_that_is_valid(key):
    option = KEYS[key]
    assert option.description
    assert option.description.rstrip().endswith(".")
    assert option.description[0].isupper() or option.description.split()[0].strip(",") in (
        "auto",
        "transformers'",
        "AdamW's",
    )
    assert not option.is_required()


def test_every_stage_has_a_sentence():
    for name, field in Config.model_fields.items():
        assert field.description, name
        assert field.annotation.__doc__, name


def test_options_are_frozen():
    with pytest.raises(ValidationError):
        Config().train.lr = 1.0


def test_keywords_are_checked_by_name_and_value():
    assert make(SplitOptions, {"salt": "x"}).salt == "x"
    with pytest.raises(GuerdonError, match=r"slat is not an option in SplitOptions\. Did you mean salt\?"):
        make(SplitOptions, {"slat": "x"})
    with pytest.raises(GuerdonError, match=r"qqq is not an option in SplitOptions\. Choose from train, .*, salt\.$"):
        make(SplitOptions, {"qqq": "x"})
    with pytest.raises(GuerdonError, match=r"train must be less than or equal to 1, got 2\. See"):
        make(SplitOptions, {"train": 2})


def test_keywords_of_training_find_their_stage():
    config = training.with_options(Config(), {"lr": 1.0, "base": "x", "max_length": 99})
    assert (config.train.lr, config.model.base, config.model.max_length) == (1.0, "x", 99)
    assert config.model.model_fields_set == {"base", "max_length"}
    with pytest.raises(GuerdonError, match=r"train\.bach_size is not an option\. Did you mean train\.batch_size\?"):
        training.with_options(Config(), {"bach_size": 1})
    assert not set(ModelOptions.model_fields) & set(TrainOptions.model_fields)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 2, "loss": "attributes"}, r"model.heads must be 1 with train.loss=attributes, .*, got 2\. Set"),
        (
            {"attributes": ["kind"]},
            r"model.attributes must be empty with train.loss=bradley_terry, .*, got \['kind'\]\. Use train.loss=attributes",
        ),
    ],
)
def test_heads_that_the_loss_does_not_train_are_refused_before_a_model_is_loaded(options, message):
    with pytest.raises(GuerdonError, match=message):
        training.train([], base="no such model", **options)
    build({"model": {"attributes": ["kind"]}})  # a command that reads another trainer's model has no loss
