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

    About ten minutes on two CPU cores. Writes the model and a page to look at; the first run fetches the starter kit
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
def audit(
    model: ModelDir,
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for report.html, report.md and report.json.", show_default=False),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Measure how far a reward model can be trusted.

    Every number comes with an interval. Exit 1 when a score depends on its company, since no number counts then.

    Example: assay audit runs/mine/model --data audit.jsonl --out runs/mine
    """
    from assay import api, files

    settings = _config(config, None, overrides)
    loaded = api.load(model, **settings.model.model_dump(exclude_unset=True))
    report = api.audit(loaded, list(files.read_comparisons(data)), **settings.audit.model_dump())
    if out:
        api.write_report(report, out)
    _show(report, json)
    if out and not json:
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
        _show(api.overoptimise(out), False)
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
        file, colon, function = name.rpartition(":")
        if not (colon and file.endswith(".py")):
            sources[name] = api.load(name, truncation="left")
            continue
        try:
            sources[name] = from_file(file, function)
        except (OSError, KeyError):
            raise AssayError(f"--reward {name}: no such file or function; remedy: FILE.py:FUNCTION") from None
    return combined(sources, dict(zip(sources, weights, strict=True)) if weights else None, rule)


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


def _exit_on_errors(report: Report) -> None:
    if any(finding.severity == "error" for finding in _all_findings(report)):
        raise typer.Exit(1)


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
