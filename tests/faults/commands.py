"""Every command that writes: a new one gets a line here, and is held to all that the tests of this folder demand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Writer:
    """A command in the folder that `make_folder` fills, and what it writes there.

    words: the command, with relative paths. outputs: patterns of the files that have to be the same bytes after a kill and
    the same command again. older: a command whose outputs it replaces. points: at how many operations it is killed, spread
    evenly; few for a command that takes seconds.
    """

    words: str
    outputs: tuple[str, ...]
    older: str = ""
    points: int = 6


AUDIT = "audit.only=[accuracy,odds] audit.draws=100 audit.null_draws=100"
TRAIN = "--base tiny train.max_steps=3 train.save_every=1 train.batch_size=4"
WRITERS = {
    "import": Writer("import d.jsonl --out new/x.jsonl", ("new/x.*",), "import e.jsonl --out new/x.jsonl"),
    "import to Parquet": Writer("import d.jsonl --out new/x.parquet", ("new/x.*",)),
    "check --fix": Writer("check d.jsonl --fix new/x.jsonl", ("new/x.*",), "check e.jsonl --fix new/x.jsonl", points=4),
    "inspect": Writer("inspect d.jsonl --html new/page.html", ("new/*",), "inspect e.jsonl --html new/page.html", points=4),
    "convert": Writer("convert d.jsonl new/x.jsonl", ("new/x.*",), "convert e.jsonl new/x.jsonl"),
    "convert to Parquet": Writer("convert d.jsonl new/x.parquet --to nemo-rl", ("new/x.*",)),
    "aggregate": Writer(
        "aggregate d.jsonl e.jsonl --out new/labels.jsonl --annotators new/annotators.csv --html new/page.html",
        ("new/*",),
        "aggregate e.jsonl --out new/labels.jsonl",
    ),
    "judge": Writer(
        "judge d.jsonl --judge judge.yaml --out new/x.jsonl",
        ("new/x.jsonl", "new/x.verdicts.jsonl", "new/x.failures.jsonl"),
        "judge e.jsonl --judge judge.yaml --out new/x.jsonl",
    ),
    "judge-card": Writer(
        "judge-card --judge judge.yaml --data d.jsonl --out new", ("new/card.*",), "judge-card --judge judge.yaml --data e.jsonl --out new",
        points=4,
    ),
    "split": Writer("split d.jsonl --out new", ("new/*",), "split e.jsonl --out new"),
    "select": Writer(
        "select d.jsonl --out new/p.jsonl --num 12 select.test_share=0.3 --strategy d_optimal_half --model a",
        ("new/p.*",),
        "select e.jsonl --out new/p.jsonl --num 12",
        points=4,
    ),
    "score": Writer("score a --data d.jsonl --out new/s.jsonl", ("new/s.*",), "score b --data e.jsonl --out new/s.jsonl"),
    "calibrate": Writer("calibrate a --data d.jsonl", ("a/*",), points=2),
    "calibrate to a copy": Writer(
        "calibrate a --data d.jsonl --out new", ("new/*", "new/*/*"), "calibrate b --data e.jsonl --out new", points=4
    ),
    "uncertainty": Writer("uncertainty a --data d.jsonl --held-out e.jsonl --out new", ("new/*", "new/*/*"), points=3),
    "ensemble": Writer("ensemble a b --out new", ("new/*", "new/*/*"), "ensemble b a --out new", points=6),
    "repair": Writer("doctor a --repair new", ("new/*", "new/*/*"), points=3),
    "bake": Writer("bake a --out new", ("new/*", "new/*/*"), "bake b --out new", points=3),
    "audit": Writer(f"audit a --data d.jsonl --out new {AUDIT}", ("new/*",), points=3),
    "rubric audit": Writer(
        "rubric audit rubric.yaml --judge local.yaml --data d.jsonl --out new --once", ("new/report.*",), points=3
    ),
    "train": Writer(f"train --data d.jsonl --out new {TRAIN}", ("new/config.yaml", "new/model/*"), points=4),
    "export": Writer("export verl a --out new", ("new/*",), "export trl b --out new", points=4),
    "sample": Writer(
        "sample --policy tiny --prompts d.jsonl --out new/pool.jsonl --n 2 best_of_n.max_tokens=3", ("new/*",), points=4
    ),
    "sample candidates": Writer(
        "sample --policy tiny --policy local.yaml --prompts d.jsonl --out new/c.jsonl --n 1 best_of_n.max_tokens=3", ("new/c.jsonl",),
        points=4,
    ),
    "best-of-n": Writer(
        "optimize best-of-n --policy tiny --reward a --prompts d.jsonl --out new/pool.jsonl --n 2 best_of_n.max_tokens=3 "
        "best_of_n.prompts_at_once=8 best_of_n.draws=100",
        ("new/*",),
        points=4,
    ),
}  # fmt: skip


ELSEWHERE = {  # commands that write and have no line above, and why
    "store import": "writes a database; tests/store/test_kills.py kills it at each statement",
    "store export": "tests/store/test_kills.py fills the disk and kills it",
    "constitution run": "writes its files as convert and audit do; the tests of judges kill calls",
    "annotation export": "writes its file as convert does",
    "quickstart": "its steps are those of the commands above",
    "loop": "its steps are those of the commands above; tests/api/test_loop.py stops it before each",
    "optimize ppo": "its checkpoints are those of train; tests/optimization kills it",
    "optimize rloo": "is optimize ppo",
    "optimize grpo": "is optimize ppo",
    "watch": "writes a report as audit does",
    "rubric draft": "writes a report as rubric audit does, and its rubric whole as any text",
    "compare": "writes a report as audit does",
    "benchmark": "writes a report as audit does",
    "audit overoptimization": "writes a report as audit does",
    "audit tax": "writes a report as audit does",
}


def make_folder(folder: Path, tiny: Path) -> None:
    """Two models, two files of comparisons, and the language model `tiny`."""
    import shutil

    from toys import liked

    from guerdon.api import data, saved_models
    from guerdon.config import ModelOptions
    from guerdon.models.directory.loading import create_reward_model

    folder.mkdir()
    (folder / "judge.yaml").write_text("kind: python\nfunction: judge.py:longer\nunresolved_max: 1.0\n")
    (folder / "judge.py").write_text(
        "def longer(prompt, first, second):\n    return float(len(first.text) - len(second.text)) or None\n"
    )
    shutil.copytree(tiny, folder / "tiny")
    (folder / "rubric.yaml").write_text("criteria: [The response is kind.]")
    (folder / "local.yaml").write_text("kind: local\nname: local\nmodel: tiny\nmin_mass: 0.0\nunresolved_max: 1\n")
    for seed, name in enumerate("ab"):
        saved_models.save(create_reward_model(ModelOptions(base=str(folder / "tiny")), seed=seed), folder / name)
    for seed, name in enumerate("de"):
        data.write(folder / f"{name}.jsonl", liked(24, seed))
