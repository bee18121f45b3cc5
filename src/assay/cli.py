"""The command line: one small function a command that reads, calls a verb of api.py, and writes.

Commands end with any number of overrides such as train.lr=1e-5. A user's mistake is one line on stderr and exit code 2.
"""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from assay import __version__

if TYPE_CHECKING:
    from assay.config import Config
    from assay.contracts import Report


class TwoWords(typer.core.TyperGroup):
    """Commands may be named by two words, such as `optimize ppo`; the first may be a command by itself."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The longest name that the arguments begin with."""
        two = " ".join(args[:2])
        if two in self.commands:
            return two, self.commands[two], args[2:]
        family = [name for name in self.commands if name.startswith(f"{args[0]} ")]
        if family and args[0] not in self.commands:
            ctx.fail(f"say which: {', '.join(f'assay {name}' for name in family)}")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="assay",
    cls=TwoWords,
    help="Train reward models, prove how far each can be trusted, and say how hard it may be pushed.",
    epilog="Start with `assay quickstart`. Every option is listed in docs/options.md; any may be given as STAGE.NAME=VALUE.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[STAGE.NAME=VALUE]...", help="Options, such as train.lr=1e-5.", show_default=False),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="YAML with options; the config.yaml of a run is accepted back.", show_default=False),
]
RecipeName = Annotated[
    str | None,
    typer.Option("--recipe", help="Named configuration: starter, quickstart, small, reference.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
Data = Annotated[
    Path, typer.Option("--data", help="Comparisons: .jsonl, .jsonl.gz or .parquet, as `assay import` writes them.")
]
ModelDir = Annotated[str, typer.Argument(metavar="MODEL", help="Directory of a saved reward model, or a hub name.")]


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option("--out", help="Run folder; the same command goes on from a killed run.")] = Path(
        "runs/quickstart"
    ),
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="Your own comparisons in any known format, instead of the starter kit's.", show_default=False
        ),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Train, calibrate and audit a reward model, end to end.

    About twelve minutes on two CPU cores. Writes the model and a page to look at; the first run fetches the starter kit
    (95 MB), later ones need no network. With --data, the same on your own comparisons.

    Example: assay quickstart --data pairs.jsonl --out runs/mine
    """
    from assay.quickstart import run

    settings = _config(config, "quickstart", overrides)
    report = run(out, data=data, config=settings, say=lambda line: print(line, file=sys.stderr))
    if json:
        _show(report, json)
        return
    from rich.console import Console

    from assay.quickstart import FACTS, TABLE
    from assay.report.console import brief, examples

    console = Console(highlight=False)
    console.print(brief(report, TABLE, FACTS))
    for section in report.sections:
        if section.title.startswith("Best of"):
            console.print(examples(section))
    print(f"\nmodel   {out / 'model'}\nreport  {(out / 'report.html').resolve()}")


@app.command("import")
def import_(
    source: Annotated[
        str, typer.Argument(help="File (.jsonl, .json, .csv, .tsv, .parquet, also .gz) or a hub data set's name.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Where the comparisons go: .jsonl, .jsonl.gz or .parquet.")],
    format: Annotated[
        str | None, typer.Option("--format", help="auto, native, hh, trl, csv, scores or votes.", show_default=False)
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="OURS=THEIRS, such as prompt=question; repeatable.", show_default=False),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first bad row instead of setting it aside.")
    ] = False,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Turn a file in any known format into comparisons.

    Bad rows go to rejected.jsonl beside the output, with their reason. docs/collect.md shows a row of each format.

    Example: assay import pairs.csv --out all.jsonl --column prompt=question
    """
    from assay import files
    from assay.collect.sources import import_rows
    from assay.contracts import AssayError

    settings = _config(
        config, None, overrides, imports=_given(format=format, strict=strict or None, columns=_columns(column))
    )
    aside = out.parent / "rejected.jsonl"
    if out.name == aside.name:
        raise AssayError(f"--out {out}: the rejected rows go there; remedy: another name")
    rows = import_rows(files.read_rows(source, settings.imports), settings.imports, _note)
    kept = files.write_comparisons(out, files.set_aside(rows, aside))
    with aside.open("rb") as file:
        rejected = sum(1 for _ in file)
    if not kept:
        out.unlink()
        raise AssayError(f"{source}: none of its {rejected} rows could be used; remedy: see the reasons in {aside}")
    _print({"comparisons": kept, "rejected": rejected, "out": str(out), "rejected_file": str(aside)}, json)


@app.command()
def check(
    data: Annotated[Path, typer.Argument(help="Comparisons to look at.")],
    against: Annotated[
        list[Path] | None,
        typer.Option("--against", help="Another part that must share nothing with it; repeatable.", show_default=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Model whose tokenizer and max_length say what truncation makes identical.",
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Find what is wrong with comparisons before training on them.

    Duplicates, contradictions, leaks between parts, empty or identical responses, length imbalance. Exit 1 on errors.

    Example: assay check parts/train.jsonl --against parts/audit.jsonl
    """
    from assay import api, files

    settings = _config(config, None, overrides, model=_given(base=model))
    others = {str(path): files.read_comparisons(path) for path in against or []}
    tokens = api.token_counter(settings.model) if model else None
    report = api.check(files.read_comparisons(data), against=others, tokens=tokens, **settings.check.model_dump())
    _show(report, json)
    _exit_on_errors(report)


@app.command()
def split(
    data: Annotated[Path, typer.Argument(help="Comparisons to divide.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for train.jsonl, calibrate.jsonl and audit.jsonl.")],
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Divide comparisons into train, calibrate and audit parts.

    By prompt group and by hash: a prompt is in one part only, and the same on any machine.

    Example: assay split all.jsonl --out parts
    """
    from assay import api, files
    from assay.collect.split import split as divide

    settings = _config(config, None, overrides)
    counts = files.write_parts(out, divide(files.read_comparisons(data), settings.split), api.PARTS)
    _print({**counts, "out": str(out)}, json)


@app.command()
def train(
    data: Data,
    out: Annotated[
        Path,
        typer.Option("--out", help="Run folder: config, metrics, checkpoint, model. A killed run goes on from it."),
    ],
    held_out: Annotated[
        Path | None,
        typer.Option(
            "--held-out", help="Comparisons to measure on while training, and to stop early by.", show_default=False
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", help="Model to start from; same as model.base=.", show_default=False)
    ] = None,
    recipe: RecipeName = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Train a scalar reward model on comparisons.

    A killed run goes on where it was when the same command is given again.

    Example: assay train --data train.jsonl --out runs/mine --base org/model
    """
    from accelerate import PartialState

    from assay import api, files

    settings = _config(config, recipe, overrides, model=_given(base=base))
    comparisons = list(files.read_comparisons(data))
    checked = list(files.read_comparisons(held_out)) if held_out else []
    api.train(comparisons, held_out=checked, out=out, config=settings)
    if PartialState().is_main_process:
        last = _last_metrics(out / "metrics.jsonl")
        _print({"comparisons": len(comparisons), **last, "model": str(out / "model")}, json)


@app.command()
def calibrate(
    model: ModelDir,
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Where the calibrated model goes; the same directory unless given.", show_default=False
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference", help="Responses of the policy to be trained: their rewards get mean 0.", show_default=False
        ),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Fit the scale on which a margin of 1 means odds of e to 1.

    One temperature, on comparisons that were not trained on. No ranking and no weight changes.

    Example: assay calibrate runs/mine/model --data calibrate.jsonl
    """
    from assay import api, files

    settings = _config(config, None, overrides)
    loaded = api.load(model, **settings.model.model_dump(exclude_unset=True))
    if out is None and not Path(model).is_dir():
        from assay.contracts import AssayError

        raise AssayError(f"{model}: a hub model cannot be written in place; remedy: give --out DIR")
    rollouts = files.read_rollouts(reference) if reference else None
    held_out = list(files.read_comparisons(data))
    scaled, report = api.calibrate(loaded, held_out, reference=rollouts, **settings.calibrate.model_dump())
    api.recalibrate(scaled, model, out)
    _show(report, json)


@app.command()
def uncertainty(
    model: ModelDir,
    data: Annotated[Path, typer.Option("--data", help="The comparisons that the model was trained on.")],
    held_out: Annotated[
        Path, typer.Option("--held-out", help="Comparisons of the same kind that it was not trained on.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Where the model goes; the same directory unless given.", show_default=False),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Measure how sure a reward model may be.

    Afterwards every score has a spread and says how likely its text is to be of the kind that was trained on. No score
    and no weight changes.

    Example: assay uncertainty runs/mine/model --data train.jsonl --held-out calibrate.jsonl
    """
    from assay import api, files
    from assay.contracts import AssayError

    settings = _config(config, None, overrides)
    if out is None and not Path(model).is_dir():
        raise AssayError(f"{model}: a hub model cannot be written in place; remedy: give --out DIR")
    loaded = api.load(model, uncertain=False, **settings.model.model_dump(exclude_unset=True))
    measured = api.measure_uncertainty(
        loaded,
        list(files.read_comparisons(data)),
        held_out=list(files.read_comparisons(held_out)),
        **settings.uncertainty.model_dump(),
    )
    api.store_uncertainty(measured, model, out)
    found = measured.model.card.uncertainty.items()  # type: ignore[attr-defined]
    facts = {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in found}
    _print({**facts, "model": str(out or model)}, json)


FailOn = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-on",
        help="Exit 1 where this holds: verdict=not_fit, warning, accuracy<0.6, accuracy.low<0.6; repeatable.",
        show_default=False,
    ),
]
Scored = Annotated[
    Path | None,
    typer.Option("--from", help="File of scored comparisons instead of MODEL and --data.", show_default=False),
]


@app.command()
def audit(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="Directory of a saved reward model, or a hub name; none with --from.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Comparisons: .jsonl, .jsonl.gz or .parquet, as `assay import` writes them.",
            show_default=False,
        ),
    ] = None,
    scores: Scored = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder for report.html, report.md and report.json; the same command goes on from a killed run.",
            show_default=False,
        ),
    ] = None,
    pushed: Annotated[
        str | None,
        typer.Option(
            "--pushed",
            help="Run folder of `optimize`, or a file of best-of-n: how hard the model may be pushed.",
            show_default=False,
        ),
    ] = None,
    fail_on: FailOn = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Say how far a reward model can be trusted.

    A verdict with the rules behind it, what it gets wrong and what that costs, and every number with its interval. With
    --out, a directory of ours also gets its model card. Exit 1 when a score depends on its company, since no number
    counts then, and where a rule of --fail-on holds.

    Example: assay audit runs/mine/model --data audit.jsonl --out runs/mine
    """
    from assay import api, files
    from assay.audit.demands import parse
    from assay.contracts import AssayError

    if scores and model and "=" in model:  # with --from the first word is an override
        overrides, model = [model, *(overrides or [])], None
    settings = _config(config, None, overrides)
    demands = [parse(each) for each in fail_on or []]
    if (scores is None) != (model is not None and data is not None) or (scores is not None and (model or data)):
        raise AssayError("audit: give MODEL with --data FILE, or --from FILE of scored comparisons")
    judged: Any
    if scores is not None:
        comparisons, judged = api.read_scores(scores)
    else:
        judged = api.load(str(model), **settings.model.model_dump(exclude_unset=True))
        comparisons = list(files.read_comparisons(str(data)))
    report = api.audit(judged, comparisons, out=out, pushed=pushed, **settings.audit.model_dump())
    if out:
        api.write_report(report, out)
        if model is not None and Path(model).is_dir():
            _write_card(report, Path(model))
    _show(report, json)
    if out and not json:
        print(f"\nreport  {(out / 'report.html').resolve()}")
    _exit_on_errors(report)
    _exit_on_broken(report, demands)


@app.command()
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="Directory of a reward model, a hub name, or a score file.")],
    b: Annotated[str, typer.Argument(metavar="B", help="What stands beside it, likewise.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="Comparisons that neither has seen; a score file holds its own.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for report.html, report.md and report.json.", show_default=False),
    ] = None,
    fail_on: FailOn = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Say which of two reward models is better, and where.

    On the same comparisons, pair by pair: accuracy, log loss, calibration, agreement, and the texts on which they
    disagree most. Options are those of the audit.

    Example: assay compare my-model runs/mine/model --data audit.jsonl --out runs/beside
    """
    from assay import api, files
    from assay.audit.demands import parse
    from assay.contracts import AssayError

    settings = _config(config, None, overrides)
    demands = [parse(each) for each in fail_on or []]
    comparisons = list(files.read_comparisons(data)) if data else []
    models: list[Any] = []
    for name in (a, b):
        if name.endswith((".jsonl", ".jsonl.gz", ".ndjson", ".json", ".csv", ".tsv", ".parquet")):
            found, model = api.read_scores(name)
            comparisons = comparisons or found
        else:
            model = api.load(name, **settings.model.model_dump(exclude_unset=True))
        models.append(model)
    if not comparisons:
        raise AssayError("compare: no comparisons; remedy: give --data FILE, or a file of scored comparisons as A or B")
    report = api.compare(models[0], models[1], comparisons, names=(a, b), **settings.audit.model_dump())
    if out:
        api.write_report(report, out)
    _show(report, json)
    if out and not json:
        print(f"\nreport  {(out / 'report.html').resolve()}")
    _exit_on_broken(report, demands)


@app.command()
def benchmark(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="Directory of a saved reward model, or a hub name; none with --scores.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data", help="The benchmark's file as published, or its hub name; repeatable.", show_default=False
        ),
    ] = None,
    name: Annotated[
        str, typer.Option("--name", help="Which benchmark, such as rewardbench2; auto sees it from the rows.")
    ] = "auto",
    scores: Annotated[
        Path | None,
        typer.Option("--scores", help="Scores made elsewhere, matched by id, instead of MODEL.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for report.html, report.md and report.json.", show_default=False),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Put a reward model on a public benchmark.

    RewardBench 1 and 2, RM-Bench, JudgeBench, RMB, LLMBar, EvalBiasBench, HHH, XSTest and pairs, each by its own rule, with
    intervals and what the longer answer would get. Exit 1 when a score depends on its company.

    Example: assay benchmark my-model --data pairs.jsonl --out runs/bench
    """
    from dataclasses import replace

    from assay import api
    from assay.contracts import AssayError

    if model and "=" in model:  # with --scores the first word is an override
        overrides = [model, *(overrides or [])]
        model = None
    settings = _config(config, None, overrides)
    if not data or (model is None) == (scores is None):
        raise AssayError("benchmark: give MODEL with --data FILE, or --data FILE with --scores FILE")
    loaded = api.load(model, **settings.model.model_dump(exclude_unset=True)) if model else None
    report = api.benchmark(loaded, data, name, scores, **settings.benchmark.model_dump())
    if out:
        api.write_report(report, out)
    if json:
        _show(report, json)
    else:
        _show(replace(report, sections=()), json)
        _subsets(report)
        if out:
            print(f"\nreport  {(out / 'report.html').resolve()}")
    _exit_on_errors(report)


@app.command()
def score(
    model: ModelDir,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Rows of prompt and response (or responses, or messages).", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="JSONL: each row with its reward added.", show_default=False)
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="One prompt, instead of --data.", show_default=False)
    ] = None,
    response: Annotated[
        list[str] | None, typer.Option("--response", help="A response to it; repeatable.", show_default=False)
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Processes that share the file; same as score.workers=.", show_default=False),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Score responses with a reward model.

    Rewards are nats of preference log-odds; only differences within a prompt mean anything. A killed run goes on where
    it was when the same command is given again.

    Example: assay score my-model --prompt "2 + 2?" --response 4 --response 5
    """
    from assay import api
    from assay.bulk import BulkScorer
    from assay.contracts import AssayError

    settings = _config(config, None, overrides, score=_given(workers=workers))
    if (
        (data is None) == (prompt is None)
        or (data is not None and out is None)
        or (data is not None and response)
        or (prompt is not None and not response)
        or (prompt is not None and (out is not None or workers is not None))
    ):
        raise AssayError("score: give --data FILE with --out FILE, or --prompt TEXT with one --response TEXT or more")
    scoring = settings.score.model_dump(exclude={"workers"})
    scorer = BulkScorer(model, **settings.model.model_dump(exclude_unset=True), **scoring)
    if data is not None and out is not None:
        _print({**api.score_file(scorer, data, out, workers=settings.score.workers), "out": str(out)}, json)
        return
    answers = response or []
    values = scorer.score([prompt or ""] * len(answers), answers).value.tolist()
    if json:
        _print({"rewards": values}, json)
        return
    _rows((answer[:60], f"{value:+.4f}") for answer, value in zip(answers, values, strict=True))


@app.command()
def ensemble(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="Directories of saved reward models; options may stand behind them."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Where the ensemble goes, or the average: a directory.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Held-out comparisons that put the members on one scale, and show whether they err together.",
            show_default=False,
        ),
    ] = None,
    rule: Annotated[
        str, typer.Option("--rule", help="Makes one reward of the members': mean, min, uncertainty, soft_min.")
    ] = "mean",
    strength: Annotated[
        float | None,
        typer.Option("--strength", help="Of rule uncertainty (0.5) or soft_min (1 nat).", show_default=False),
    ] = None,
    average: Annotated[
        bool,
        typer.Option("--average", help="One model of the mean of their weights instead; --data shows if it may be."),
    ] = False,
    config: ConfigFile = None,
    json: AsJson = False,
) -> None:
    """Make one reward model of several.

    A directory of members that each load alone, for `assay score`, `calibrate` and `audit` as any model. With --average,
    one model at the cost of one, where the members are fine-tunings of the same start.

    Example: assay ensemble my-model old-model --out both --data calibrate.jsonl --rule uncertainty
    """
    from assay import api, files
    from assay.config import Config
    from assay.contracts import AssayError

    overrides = [word for word in models if word.partition(".")[0] in Config.model_fields and "=" in word]
    settings = _config(config, None, overrides)
    members = [word for word in models if word not in overrides]
    if unread := [word for word in overrides if not word.startswith("audit.")]:
        raise AssayError(
            f"{unread[0]}: ensemble reads audit.* only; remedy: leave it out, members load as they were saved"
        )
    held_out = list(files.read_comparisons(data)) if data else []
    measured = settings.audit.model_dump()
    if not average:
        _show(api.ensemble(members, out, comparisons=held_out, rule=rule, strength=strength, **measured), json)
        return
    if not held_out:
        raise AssayError("ensemble: whether weights may be averaged shows on held-out comparisons; remedy: --data FILE")
    if rule != "mean" or strength is not None:
        raise AssayError(f"ensemble: an average has no rule, got --rule {rule}; remedy: leave it out")
    _, report = api.warm(members, held_out, out=out, **measured)
    _show(report, json)


PolicyName = Annotated[
    str | None,
    typer.Option(
        "--policy", help="Hub name or directory of a causal language model; starter unless given.", show_default=False
    ),
]
Rule = Annotated[
    str,
    typer.Option(
        "--rule", help="Makes one of several --reward: sum, or an ensemble's mean, min, uncertainty, soft_min."
    ),
]
Rewards = Annotated[
    list[str],
    typer.Option("--reward", help="Reward model's directory, or FILE.py:FUNCTION(prompts, responses); repeatable."),
]
Weights = Annotated[
    list[float] | None, typer.Option("--weight", help="Of each --reward, in order; 1 unless given.", show_default=False)
]
Gold = Annotated[
    str | None,
    typer.Option(
        "--gold", help="A second judge that nothing learns from, as --reward; shows when the reward stops being true.",
        show_default=False,
    ),
]  # fmt: skip
Prompts = Annotated[
    Path, typer.Option("--prompts", help="Rows with a prompt or messages; comparisons are taken too, each prompt once.")
]


@app.command("optimize best-of-n")
def best_of_n(
    reward: Rewards,
    prompts: Prompts,
    out: Annotated[
        Path, typer.Option("--out", help="JSONL: a row a prompt with all its replies, rewards and the best.")
    ],
    policy: PolicyName = None,
    weight: Weights = None,
    rule: Rule = "sum",
    gold: Gold = None,
    n: Annotated[
        int | None, typer.Option("--n", help="Replies a prompt; same as best_of_n.n=.", show_default=False)
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Folder for report.html, .md and .json.", show_default=False)
    ] = None,
    sft: Annotated[
        Path | None,
        typer.Option("--sft", help="Write the best replies here as {prompt, response} rows.", show_default=False),
    ] = None,
    comparisons: Annotated[
        Path | None,
        typer.Option("--comparisons", help="Write best against worst here as comparisons.", show_default=False),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Draw N replies to each prompt and keep the best.

    The curve over n is unbiased, with intervals by prompt; with --gold it shows where more choice stops helping. A
    killed run goes on where it was when the same command is given again.

    Example: assay optimize best-of-n --policy org/model --reward my-model --prompts prompts.jsonl --n 64 --out pool.jsonl
    """
    from assay import api, files
    from assay.optimize import read_pool, to_comparisons, to_sft_rows

    judged_by = {Path(_source(name)[0]).resolve() for name in (*reward, *([gold] if gold else []))}
    taken = [*judged_by, *(place.resolve() for place in (prompts, out, sft, comparisons, config) if place)]
    if len(set(taken)) < len(taken):
        from assay.contracts import AssayError

        raise AssayError(
            "--reward, --gold, --prompts, --config, --out, --sft and --comparisons are files of their own; "
            "remedy: another name for each"
        )
    settings = _config(config, None, overrides, best_of_n=_given(n=n), policy=_given(base=policy))
    speaker = api.policy(**settings.policy.model_dump(exclude_unset=True))
    chosen = settings.best_of_n.model_dump()
    found = api.best_of_n(
        speaker,
        _judge(reward, weight, rule),
        files.read_prompts(prompts),
        out,
        gold=_judge([gold]) if gold else None,
        **chosen,
    )
    if report:
        api.write_report(found, report)
    if sft or comparisons:
        pool = read_pool(out)
        if sft:
            files.write_jsonl(sft, to_sft_rows(pool))
        if comparisons:
            files.write_comparisons(comparisons, to_comparisons(pool))
    _show(found, json)


def _optimize(
    baseline: str,
    reward: list[str],
    prompts: Path,
    out: Path,
    policy: str | None,
    weight: list[float] | None,
    rule: str,
    gold: str | None,
    held_out: Path | None,
    config: Path | None,
    overrides: list[str] | None,
    json: bool,
) -> None:
    from assay import api, files

    settings = _config(config, None, overrides, optimize={"baseline": baseline}, policy=_given(base=policy))
    if settings.optimize.baseline != baseline:
        from assay.contracts import AssayError

        raise AssayError(
            f"optimize.baseline={settings.optimize.baseline}: this command is {baseline}'s; remedy: the other command"
        )
    given = settings.policy.model_dump(exclude_unset=True)
    speaker = api.policy(**given, adapters=True, seed=settings.optimize.seed)
    done = api.optimize(
        speaker,  # type: ignore[arg-type]
        _judge(reward, weight, rule),
        files.read_prompts(prompts),
        gold=_judge([gold]) if gold else None,
        held_out=files.read_prompts(held_out) if held_out else (),
        out=out,
        config=settings,
    )
    facts: dict[str, Any] = {"updates": done.updates, "policy": str(out / "policy"), "weights_of_update": done.kept}
    facts |= {"stopped": done.stopped} if done.stopped else {}
    facts |= {f"left out ({why})": num for why, num in done.excluded.items()}
    if json:
        _print(facts, json)
        return
    if len(done.checks) > 1:
        _show(api.run_report(out), False)
        facts["report"] = str((out / "report.html").resolve())
    _print(facts, False)


RunOut = Annotated[Path, typer.Option("--out", help="Run folder; the same command goes on from a killed run.")]
HeldOut = Annotated[
    Path | None,
    typer.Option("--held-out", help="Prompts that are only looked at; else a tenth by hash.", show_default=False),
]


@app.command("optimize ppo")
def ppo(
    reward: Rewards,
    prompts: Prompts,
    out: RunOut,
    policy: PolicyName = None,
    weight: Weights = None,
    rule: Rule = "sum",
    gold: Gold = None,
    held_out: HeldOut = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Move a policy towards more reward with PPO.

    Policy, reference and value head share one model with adapters; policy.lora_rank=0 trains every weight beside a frozen
    copy. Now and then held-out prompts are answered and judged by the reward and by --gold.

    Example: assay optimize ppo --policy org/model --reward my-model --gold old-model --prompts prompts.jsonl --out runs/ppo
    """
    _optimize("value", reward, prompts, out, policy, weight, rule, gold, held_out, config, overrides, json)


@app.command("optimize rloo")
def rloo(
    reward: Rewards,
    prompts: Prompts,
    out: RunOut,
    policy: PolicyName = None,
    weight: Weights = None,
    rule: Rule = "sum",
    gold: Gold = None,
    held_out: HeldOut = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Move a policy towards more reward with RLOO.

    As `optimize ppo`, but a reply's baseline is the mean of its prompt's other replies: no value model, and
    optimize.samples is at least 2.

    Example: assay optimize rloo --policy org/model --reward my-model --prompts prompts.jsonl --out runs/rloo optimize.samples=4
    """
    _optimize("leave_one_out", reward, prompts, out, policy, weight, rule, gold, held_out, config, overrides, json)


@app.command("optimize grpo")
def grpo(
    reward: Rewards,
    prompts: Prompts,
    out: RunOut,
    policy: PolicyName = None,
    weight: Weights = None,
    rule: Rule = "sum",
    gold: Gold = None,
    held_out: HeldOut = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Move a policy towards more reward with GRPO's baseline.

    As `optimize ppo`, but a reply's advantage is its reward in standard deviations from its prompt's mean: no value model,
    and optimize.samples is at least 2.

    Example: assay optimize grpo --policy org/model --reward my-model --prompts prompts.jsonl --out runs/grpo optimize.samples=4
    """
    _optimize("group", reward, prompts, out, policy, weight, rule, gold, held_out, config, overrides, json)


@app.command("audit overoptimise")
def overoptimise(
    place: Annotated[Path, typer.Argument(metavar="PLACE", help="Run folder of `optimize`, or a file of best-of-n.")],
    pool: Annotated[
        Path | None,
        typer.Option("--pool", help="A best-of-n file beside the run: its forecast is compared.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for report.html, .md and .json.", show_default=False)
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Say whether a reward stayed true while it was optimised.

    And since which KL it did not. Needs a gold judge in the run or the file; without one only warnings can be given.

    Example: assay audit overoptimise runs/ppo --out runs/ppo
    """
    from assay import api

    settings = _config(config, None, overrides)
    report = api.overoptimise(place, pool=pool, **settings.best_of_n.model_dump(exclude_unset=True))
    if out:
        api.write_report(report, out)
    _show(report, json)


@app.command("audit tax")
def tax(
    place: Annotated[
        str,
        typer.Argument(metavar="RUN_OR_POLICY", help="Run folder of `optimize`, or a policy's directory or hub name."),
    ],
    reference: Annotated[
        str | None,
        typer.Option("--reference", help="The policy that it began from; a run folder knows it.", show_default=False),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option("--also", help="Another run or policy with the same reference; repeatable.", show_default=False),
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option("--texts", help="Held-out texts: rows with text, or paragraphs of a .txt.", show_default=False),
    ] = None,
    lm_eval: Annotated[
        list[str] | None,
        typer.Option("--lm-eval", help="Task of lm-evaluation-harness besides; repeatable.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for report.html, .md and .json, and results.json.", show_default=False),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Say what an optimised policy can no longer do.

    Held-out text, grammar, last words, sums, copying, and sampled replies, each item asked of the policy and of the one it
    began from. With a run, its gain in reward and gold and its KL stand beside.

    Example: assay audit tax runs/ppo --out runs/ppo/tax
    """
    from assay import api

    settings = _config(config, None, overrides, tax=_given(lm_eval=lm_eval))
    report = api.tax(place, reference=reference, also=also or (), texts=texts, out=out, config=settings)
    if out:
        api.write_report(report, out)
    _show(report, json)


@app.command()
def doctor(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of a reward model, ours or another's.")],
    mend: Annotated[
        Path | None,
        typer.Option("--mend", help="Write a copy here that every reader loads with equal scores.", show_default=False),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Check that every reader scores a saved model alike.

    Looks at pad token, rope keys, template, number types, labels, weights and stored scores. Exit 1 on errors.

    Example: assay doctor old-model --mend new-model
    """
    from assay import api

    settings = _config(config, None, overrides)
    if mend:
        api.mend(folder, mend, **settings.model.model_dump(exclude_unset=True))
        folder = mend
    report = api.doctor(folder)
    _show(report, json)
    _exit_on_errors(report)


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit
    if quiet:
        import logging

        from assay import progress

        progress.QUIET["on"] = True
        logging.getLogger("assay").setLevel(logging.WARNING)


INTERRUPTED = 130


def main() -> None:
    """Run a command. A user's mistake is one line and exit code 2."""
    import logging

    from assay.contracts import AssayError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # users' texts hold what a terminal may not know
    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)  # a line a retry; the last error says it
    logging.getLogger("assay").addHandler(logging.StreamHandler())  # the message alone, on stderr
    logging.getLogger("assay").setLevel(logging.INFO)
    try:
        app()
    except AssayError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # what typer makes of Ctrl-C
            print("stopped; the same command goes on from here", file=sys.stderr)
        if not ended.code and "assay.steps.processes" in sys.modules:
            sys.modules["assay.steps.processes"].leave()
        raise
    except OSError as error:
        remedies = {
            errno.ENOSPC: "free space, or pass another --out",
            errno.EDQUOT: "free space, or pass another --out",
            errno.EACCES: "check its permissions",
            errno.EPERM: "check its permissions",
            errno.EROFS: "pass another --out",
        }
        if error.errno not in remedies:
            raise
        place = error.filename or "output"
        print(f"error: {place}: {error.strerror}; remedy: {remedies[error.errno]}", file=sys.stderr)
        sys.exit(2)


def _config(path: Path | None, recipe: str | None, overrides: list[str] | None, **given: dict[str, Any]) -> Config:
    """Defaults, then the recipe, then the file, then flags, then dotted overrides."""
    from assay import files
    from assay.config import build
    from assay.contracts import AssayError
    from assay.recipes import RECIPES

    if recipe is not None and recipe not in RECIPES:
        raise AssayError(f"--recipe {recipe}: no such recipe; known are {', '.join(RECIPES)}")
    layers = [RECIPES[recipe]()] if recipe else []
    layers += [files.read_config(path)] if path else []
    return build(*layers, {stage: options for stage, options in given.items() if options}, overrides=overrides or [])


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _judge(named: list[str], weights: list[float] | None = None, rule: str = "sum") -> Any:
    """One reward from directories of reward models and FILE.py:FUNCTION, with their weights."""
    from assay import api
    from assay.contracts import AssayError
    from assay.optimize import combined
    from assay.optimize.rewards import from_file

    if weights and len(weights) != len(named):
        raise AssayError(f"--weight: {len(weights)} for {len(named)} --reward; remedy: one each, or none")
    if len(set(named)) < len(named):
        raise AssayError(f"--reward: {max(named, key=named.count)} is given twice; remedy: once, with --weight")
    sources: dict[str, Any] = {}
    for name in named:
        file, function = _source(name)
        sources[name] = from_file(file, function) if function else api.load(name, truncation="left")
    return combined(sources, dict(zip(sources, weights, strict=True)) if weights else None, rule)


def _source(name: str) -> tuple[str, str]:
    """FILE.py and FUNCTION, or a directory and nothing."""
    file, _, function = name.rpartition(":")
    return (file, function) if file.endswith(".py") else (name, "")


def _columns(pairs: list[str] | None) -> dict[str, str] | None:
    from assay.contracts import AssayError

    if pairs is None:
        return None
    for pair in pairs:
        if "=" not in pair:
            raise AssayError(f"--column {pair}: write OURS=THEIRS, such as prompt=question")
    return dict(pair.split("=", 1) for pair in pairs)


def _show(report: Report, as_json: bool) -> None:
    if as_json:
        import json

        from assay.report import to_json

        print(json.dumps(to_json(report), ensure_ascii=False))
        return
    from rich.console import Console

    from assay.report.console import summary

    Console(highlight=False).print(summary(report))


def _print(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        import json

        print(json.dumps(facts, ensure_ascii=False))
        return
    _rows((k.replace("_", " "), f"{v:,}" if isinstance(v, int) else str(v)) for k, v in facts.items())


def _rows(rows: Iterable[tuple[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in rows:
        table.add_row(Text(name, style="dim"), Text(value))
    Console(highlight=False).print(table)


def _subsets(report: Report) -> None:
    """A line for each section of a benchmark: its score, and what the longer answer and equal scores would get."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from assay.report.words import interval, number

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("subset", "score", "95 % interval", "longer wins", "a constant", "n"):
        table.add_column(heading, justify="left" if heading in ("subset", "95 % interval") else "right")
    for section in report.sections:
        score, *anchors = (section.estimates[key] for key in ("score", "score_longer", "score_constant"))
        cells = (number(score.value, "share"), interval(score, "share"), *(number(a.value, "share") for a in anchors))
        table.add_row(*map(Text, (section.title, *cells, str(score.n))))
    if report.sections:
        Console(highlight=False).print("", table)


def _exit_on_errors(report: Report) -> None:
    if any(finding.severity == "error" for finding in _all_findings(report)):
        raise typer.Exit(1)


def _exit_on_broken(report: Report, demands: list[Any]) -> None:
    """Exit 1 with a line on stderr for each rule of --fail-on that holds."""
    from assay.audit.demands import broken

    if lines := broken(report, demands):
        print("\n".join(f"failed: {line}" for line in lines), file=sys.stderr)
        raise typer.Exit(1)


def _write_card(report: Report, folder: Path) -> None:
    """The model's README, unless it is somebody's own or cannot be written: the audit stands without it."""
    from assay import api
    from assay.contracts import AssayError

    try:
        if not api.write_card(report, folder):
            _note(f"{folder / 'README.md'}: left as it is, since it was not written by Assay")
    except AssayError as error:
        _note(f"no model card: {error}")


def _all_findings(report: Report) -> Iterator[Any]:
    yield from report.findings
    for section in report.sections:
        yield from _all_findings(section)


def _note(line: str) -> None:
    print(line, file=sys.stderr)


def _last_metrics(path: Path) -> dict[str, Any]:
    """The last known value of each quantity worth showing."""
    import json

    shown: dict[str, Any] = {}
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        shown |= {k: row[k] for k in ("step", "loss", "held_out_loss", "held_out_accuracy") if k in row}
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in shown.items()}


if __name__ == "__main__":
    main()
