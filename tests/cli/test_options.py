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


def test_overrides_win_over_flags_flags_over_the_file_and_the_file_over_the_recipe(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("train:\n  lr: 2.0e-5\n  epochs: 3\nmodel:\n  base: file\n")
    config = settings_from(path, "quickstart", ["train.lr=1e-5"], model={"base": "flag"})
    assert (config.train.lr, config.train.epochs, config.model.base) == (1e-5, 3, "flag")
    recipe = settings_from(None, "quickstart", None)
    assert settings_from(path, "quickstart", None).train.batch_size == recipe.train.batch_size


def test_an_unknown_recipe_is_refused_with_the_known_ones():
    with pytest.raises(GuerdonError, match=r"--recipe must be one of starter, .*, got smal\. Choose one of these\."):
        settings_from(None, "smal", None)


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
