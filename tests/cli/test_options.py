"""Flags become a configuration; commands that share options declare them once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from shell import guerdon
from toys import liked
from typer.main import get_command
from typer.testing import CliRunner

from guerdon.api.data import write
from guerdon.cli.app import app as guerdon_app
from guerdon.cli.options import settings_from, with_option_groups
from guerdon.contracts import GuerdonError


@dataclass(frozen=True, kw_only=True)
class Kitchen:
    dish: Annotated[str, typer.Option("--dish", help="What to cook.")]
    guests: Annotated[int, typer.Option("--guests")] = 2


@dataclass(frozen=True, kw_only=True)
class Restaurant(Kitchen):
    spices: Annotated[list[str] | None, typer.Option("--spice")] = None


def run(*words: str) -> tuple[str, int]:
    """Output and exit code of a command with one group of options and one option of its own."""
    app = typer.Typer()

    @app.command()
    @with_option_groups
    def cook(place: Restaurant, late: Annotated[bool, typer.Option("--late")] = False) -> None:
        """Cook a dish."""
        print(place, late)

    result = CliRunner().invoke(app, words)
    return result.output.strip(), result.exit_code


def test_a_group_gives_an_option_for_each_field_with_its_default():
    assert run("--dish", "soup") == (f"{Restaurant(dish='soup')} False", 0)


def test_a_group_is_filled_from_its_options():
    output, code = run("--late", "--spice", "salt", "--guests", "3", "--dish", "soup", "--spice", "mint")
    assert output == f"{Restaurant(dish='soup', guests=3, spices=['salt', 'mint'])} True"
    assert code == 0


def test_a_field_without_default_is_a_required_option():
    output, code = run("--guests", "3")
    assert code == 2
    assert "--dish" in output


def test_help_lists_the_fields_of_a_group_with_their_help_texts():
    output, code = run("--help")
    assert code == 0
    assert "What to cook." in output
    assert "Cook a dish." in output
    assert all(option in output for option in ("--dish", "--guests", "--spice", "--late"))


def test_ppo_rloo_and_grpo_take_the_same_options():
    commands = get_command(guerdon_app).commands
    options = [
        [(p.opts, p.required, p.default, p.help) for p in commands[f"optimize {name}"].params]
        for name in ("ppo", "rloo", "grpo")
    ]
    assert options[0] == options[1] == options[2]
    assert ["--gold"] in [opts for opts, *_ in options[0]]


def test_overrides_and_flags_win_over_the_file_and_the_file_over_the_recipe(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("train:\n  lr: 2.0e-5\n  epochs: 3\nmodel:\n  base: file\n")
    stages = ["train", "model"]
    config = settings_from(path, "quickstart", ["train.lr=1e-5"], reads=stages, model={"base": "flag"})
    assert (config.train.lr, config.train.epochs, config.model.base) == (1e-5, 3, "flag")
    recipe = settings_from(None, "quickstart", None, reads=stages)
    assert settings_from(path, "quickstart", None, reads=stages).train.batch_size == recipe.train.batch_size


def test_an_unknown_recipe_is_refused_with_the_known_ones():
    with pytest.raises(GuerdonError, match=r"--recipe must be one of starter, .*, got smal\. Choose one of these\."):
        settings_from(None, "smal", None, reads=["train"])


MODEL_AND_DATA = ("none", "--data", "none.jsonl")
POLICY_RUN = ("--reward", "none", "--prompts", "none.jsonl", "--out", "run")
READS = {  # what each command reads, and a command line without its inputs: options are looked at first
    "import": ("imports", ("none.jsonl", "--out", "all.jsonl")),
    "check": ("imports, check or model", ("none.jsonl",)),
    "inspect": ("imports, check, inspect or model", ("none.jsonl",)),
    "split": ("imports or split", ("none.jsonl", "--out", "parts")),
    "convert": ("imports or export", ("none.jsonl", "all.jsonl")),
    "aggregate": ("imports or aggregate", ("none.jsonl", "--out", "labels.jsonl")),
    "select": ("imports, select or model", ("none.jsonl", "--out", "picks.jsonl")),
    "store import": ("imports", ("none.db", "none.jsonl")),
    "train": ("imports, model or train", ("--data", "none.jsonl", "--out", "run")),
    "calibrate": ("imports, model or calibrate", MODEL_AND_DATA),
    "uncertainty": ("imports, model or uncertainty", (*MODEL_AND_DATA, "--held-out", "none.jsonl")),
    "audit": ("imports, model, judge or audit", MODEL_AND_DATA),
    "compare": ("imports, model, judge or audit", MODEL_AND_DATA),
    "benchmark": ("model, judge or benchmark", MODEL_AND_DATA),
    "score": ("imports, model or score", (*MODEL_AND_DATA, "--out", "scores.jsonl")),
    "ensemble": ("imports or audit", ("none", "other", "--out", "both")),
    "doctor": ("model", ("none",)),
    "sample": ("policy or best_of_n", ("--prompt", "Hi")),
    "optimize best-of-n": ("policy, judge or best_of_n", (*POLICY_RUN[:-1], "pool.jsonl")),
    "optimize grpo": ("policy, judge or optimize", POLICY_RUN),
    "audit tax": ("tax or policy", ("none",)),
    "audit overoptimization": ("best_of_n", ("none",)),
    "judge": ("imports or judge", ("none.jsonl", "--judge", "none.yaml", "--out", "labels.jsonl")),
    "judge-card": ("imports or judge", ("--data", "none.jsonl", "--judge", "none.yaml", "--out", "card")),
    "annotate": ("annotation or imports", ("none.jsonl", "--no-browser", "--port", "0")),
    "annotation init": ("annotation", ("none.db", "--project", "replies")),
    "rubric audit": ("imports or judge", ("none.yaml", "--data", "none.jsonl", "--judge", "none.yaml")),
    "rubric draft": (
        "imports, judge or draft",
        ("--data", "none.jsonl", "--judge", "none.yaml", "--out", "rubric.yaml"),
    ),
    "constitution run": (
        "imports, constitution, policy or best_of_n",
        ("none.jsonl", "--critic", "none.yaml", "--out", "revised"),
    ),
    "serve": ("model or serving", ("none",)),
    "loop": (
        "policy, model, split, train, calibrate, audit, best_of_n, optimize or loop",
        ("--prompts", "none.jsonl", "--judge", "none.yaml", "--out", "run"),
    ),
    "quickstart": ("imports, check, split, model, train, calibrate, audit or quickstart", ("--out", "run")),
}


@pytest.mark.parametrize("name", READS)
def test_an_option_that_a_command_does_not_read_is_refused_with_those_that_it_reads(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stages, words = READS[name]
    foreign = "select.num=4" if "select" not in stages else "tax.seed=4"
    ran = guerdon(*name.split(), *words, foreign)
    claim = f"override must be an option of {stages}, which this command reads, got '{foreign}'. Leave it out."
    assert (ran.code, ran.err) == (2, f"error: {claim}\n")
    assert list(tmp_path.iterdir()) == []


def test_every_command_that_takes_options_of_stages_is_looked_at():
    takes = {
        name
        for name, command in get_command(guerdon_app).commands.items()
        if any(parameter.name in ("config", "overrides") for parameter in command.params)
    }
    assert takes == {*READS, "optimize ppo", "optimize rloo"}


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("inspect", "none.jsonl", "inspect.sample=9"), "--html"),
        (("check", "none.jsonl", "model.max_length=9"), "--model"),
        (("select", "none.jsonl", "--out", "picks.jsonl", "model.max_length=9"), "--model"),
        (("audit", "--from", "none.jsonl", "model.max_length=9"), "MODEL"),
        (("optimize", "grpo", *POLICY_RUN, "judge.mode=score"), "--reward judge.yaml"),
        (("score", "none", "--prompt", "a", "--response", "b", "imports.strict=true"), "--data"),
    ],
)
def test_an_option_that_needs_another_one_is_refused_without_it(words, option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = guerdon(*words)
    assert ran.code == 2
    assert f"error: {words[-1]} must come with {option}, got it without. Give {option}, or leave" in ran.err


def test_an_option_and_an_override_that_contradict_each_other_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("select", "none.jsonl", "--out", "picks.jsonl", "--num", 3)
    ran = guerdon(*words, "select.num=4")
    claim = "select.num must have one value, got 3 by its own option and 4 as an override. Leave one of them out."
    assert (ran.code, ran.err) == (2, f"error: {claim}\n")
    assert "none.jsonl" in guerdon(*words, "select.num=3").err  # the same value twice is no contradiction


def test_judgments_that_a_command_reads_one_by_one_are_joined_if_an_override_says_so(tmp_path):
    write(tmp_path / "rows.jsonl", liked(4))
    words = ("aggregate", tmp_path / "rows.jsonl", "--out", tmp_path / "labels.jsonl")
    assert guerdon(*words, "imports.judgments=together").code == 0


def test_a_conflict_matters_only_to_a_command_that_runs_its_stage(tmp_path):
    path, rows = tmp_path / "config.yaml", tmp_path / "rows.jsonl"
    path.write_text("train: {compile: true, shard: true}\noptimize: {baseline: group}\npolicy: {server_retries: 3}\n")
    write(rows, liked(4))
    assert guerdon("split", rows, "--out", tmp_path / "parts", "--config", path).code == 0

    def refused(*words: object) -> str:
        ran = guerdon(*words, "--config", path)
        assert ran.code == 2
        return ran.err

    missing = ("--reward", tmp_path / "none", "--prompts", rows, "--out", tmp_path / "x")
    assert "train.compile must be false" in refused("train", "--data", tmp_path / "none", "--out", tmp_path / "x")
    assert "train.compile must be false" in refused("quickstart", "--out", tmp_path / "x")
    heads = ("--out", tmp_path / "x", "train.shard=false", "model.heads=2", "train.loss=attributes")
    assert "model.heads must be 1" in refused("train", "--data", tmp_path / "none", *heads)
    assert "model.heads must be 1" in refused("quickstart", *heads)
    assert "policy.server_retries must be left out" in refused("optimize", "best-of-n", *missing)
    assert "policy.server_retries must be left out" in refused("optimize", "grpo", *missing)
    assert "optimize.samples must be 2 or more" in refused("optimize", "grpo", *missing, "policy.server_retries=8")
    assert not (tmp_path / "x").exists()
