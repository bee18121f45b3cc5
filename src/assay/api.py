"""The verbs of the command line as functions: objects or paths in, objects out. Options are those of config.py, by name.

comparisons = assay.read("fit.jsonl")
parts = assay.split(comparisons)
model = assay.train(parts["train"], base="org/model", lr=1e-5)
model, odds = assay.calibrate(model, parts["calibrate"])
report = assay.audit(model, parts["audit"])
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from assay import bulk, files
from assay.bulk import BulkScorer
from assay.config import (
    AuditOptions,
    BenchmarkOptions,
    BestOfNOptions,
    CheckOptions,
    Config,
    ImportOptions,
    ModelOptions,
    OptimizeOptions,
    PolicyOptions,
    SplitOptions,
    TrainOptions,
    build,
    make,
)
from assay.contracts import (
    AssayError,
    Comparison,
    Finding,
    Judge,
    Policy,
    Prompt,
    PromptLike,
    Report,
    ResponseLike,
    RewardModel,
    Rollouts,
    Scores,
    as_prompt,
    digest,
    digest_all,
    prompt_digest,
)
from assay.models.scalar import ScalarModel
from assay.models.scaled import Scaled
from assay.progress import Bar, note

if TYPE_CHECKING:
    from assay.audit import Memory
    from assay.audit.overoptimise import Candidates, Trajectory
    from assay.audit.tax import Gain
    from assay.models.ensemble import Ensemble
    from assay.models.isotonic import Isotonic
    from assay.models.policy import LanguagePolicy
    from assay.models.rules import EnsembleRule
    from assay.optimize import Reward
    from assay.optimize.loop import Optimised
    from assay.optimize.monitor import Check
    from assay.optimize.rollouts import ValueNetwork

log = logging.getLogger("assay")
PARTS = ("train", "calibrate", "audit")


def read(source: str | Path, **options: Any) -> list[Comparison]:
    """Comparisons from a file in any known format, or a hub data set's name. A bad row raises AssayError with its place.

    Keywords are ImportOptions: format, columns, hub_split, source.
    """
    from assay.collect.sources import import_rows

    chosen = make(ImportOptions, {"strict": True, **options})
    return [row for row in import_rows(files.read_rows(source, chosen), chosen) if isinstance(row, Comparison)]


def write(path: str | Path, comparisons: Iterable[Comparison]) -> int:
    """Write comparisons as JSONL or Parquet by the path's ending; returns how many."""
    return files.write_comparisons(path, comparisons)


def check(
    comparisons: Iterable[Comparison],
    *,
    against: Mapping[str, Iterable[Comparison]] | None = None,
    tokens: Any = None,
    **options: Any,
) -> Report:
    """What is wrong with these comparisons, and which leak into other parts. Keywords are CheckOptions.

    tokens: (prompt, response text) -> ids as a model would see them, from `token_counter`.
    """
    from assay.collect.hygiene import check as look

    return look(comparisons, make(CheckOptions, options), against=against or {}, tokens=tokens)


def token_counter(options: ModelOptions) -> Any:
    """The ids that a model would see of a prompt and a response, truncated as it would; loads the tokenizer only."""
    from assay.models import layout
    from assay.models.scalar import read_card, resolve, text_for, with_stored

    source = resolve(options.base)
    card = read_card(source)
    options = (with_stored(options, card) if card else options).model_copy(update={"truncation": "left"})
    text = text_for(layout.read_tokenizer(source, options), layout.read_config(source, options), options)
    return lambda prompt, response: text.encode([prompt], [response])[0].ids.tolist()


def split(comparisons: Iterable[Comparison], **options: Any) -> dict[str, list[Comparison]]:
    """Train, calibrate and audit parts by prompt group, the same on any machine. Keywords are SplitOptions."""
    from assay.collect.split import part_of

    chosen = make(SplitOptions, options)
    parts: dict[str, list[Comparison]] = {name: [] for name in PARTS}
    for comparison in comparisons:
        parts[part_of(comparison.group, chosen)].append(comparison)
    return parts


def train(
    comparisons: Sequence[Comparison],
    *,
    held_out: Sequence[Comparison] = (),
    out: str | Path | None = None,
    config: Config | None = None,
    **options: Any,
) -> ScalarModel:
    """A reward model from comparisons. Keywords are ModelOptions and TrainOptions together; with `out`, a run folder.

    The folder holds config.yaml, metrics.jsonl, the newest checkpoint and the model; the same call goes on from a killed run.
    """
    from accelerate import PartialState

    from assay.models.scalar import create, save
    from assay.steps.processes import join
    from assay.train import fit

    config = with_options(config or Config(), options)
    folder = Path(out) if out else None
    model = create(join(config.model, config.train), seed=config.train.seed)

    def begin() -> None:  # not before the data and the folder are known to be usable
        if folder and PartialState().is_main_process:
            # as resolved, so that --config takes the file back: what is written there counts as asked for
            actual = {"max_length": model.text.max_length, "attention": model.network.trunk.attention}
            said = config.model_copy(update={"model": config.model.model_copy(update=actual)})
            files.write_config(folder / "config.yaml", said)

    with files.held(folder):
        trained = fit(model, comparisons, config.train, held_out=held_out, folder=folder, begin=begin).model
        if folder and PartialState().is_main_process:
            save(with_self_test(trained, comparisons), folder / "model")
    return trained


def train_ensemble(
    comparisons: Sequence[Comparison],
    *,
    members: int = 5,
    by: str = "seed",
    held_out: Sequence[Comparison] = (),
    out: str | Path | None = None,
    config: Config | None = None,
    rule: str = "mean",
    strength: float | None = None,
    **options: Any,
) -> Scaled:
    """Several reward models of the same comparisons, as one. Keywords are ModelOptions and TrainOptions together.

    by: "seed" draws each member's head and order of the data, "bootstrap" a resample of the data too, "heads" puts them on one
    trunk for the cost of one pass (with bootstrap=True on resamples). They meet on the scale of the held-out comparisons, else
    of those they learnt from; `rule` and `strength` are `assay.optimize.ensemble_rule`'s. With `out`, a run folder for each
    member (for heads, one) and the ensemble in `model`; the same call goes on from a killed one, member by member.
    """
    from accelerate import PartialState

    from assay.models.ensemble import Ensemble, bind, scale_by_comparisons
    from assay.models.scaled import Calibration
    from assay.train.ensemble import runs

    chosen, folder = _rule(rule, strength), Path(out) if out else None
    plans = runs(with_options(config or Config(), options), members, by)
    places = [folder and (folder if by == "heads" else folder / f"member-{i + 1}") for i in range(len(plans))]
    trained = [_member(comparisons, held_out, plan, place) for plan, place in zip(plans, places, strict=True)]
    whole = Ensemble([Scaled(model, model.card.calibration) for model in trained], chosen)
    name = "held-out comparisons" if held_out else "comparisons of the training"
    whole = scale_by_comparisons(whole, held_out or comparisons, name)
    if folder and PartialState().is_main_process:
        if by == "heads":
            save(whole, folder / "model")
        else:
            bind([place / "model" for place in places if place], folder / "model", whole)
    return Scaled(whole, Calibration())


def ensemble(
    models: Sequence[str | Path],
    out: str | Path,
    *,
    comparisons: Sequence[Comparison] = (),
    rule: str = "mean",
    strength: float | None = None,
    **options: Any,
) -> Report:
    """Bind saved reward models into one directory, and report what that gains. Keywords are AuditOptions.

    Held-out comparisons put the members on one scale and say whether they err together; without any they meet as they are.
    """
    from assay.audit.ensemble import measure_ensemble
    from assay.contracts import Finding
    from assay.models.ensemble import Ensemble, bind, scale_by_comparisons
    from assay.models.pairs import score_comparisons

    if len({Path(model).resolve() for model in models}) != len(models) or len(models) < 2:
        raise AssayError(f"ensemble: takes two different models or more, got {', '.join(map(str, models)) or 'none'}")
    loaded = [load(model) for model in models]
    for name, model in zip(models, loaded, strict=True):
        if not Path(name).is_dir() or not isinstance(model.model, ScalarModel):
            raise AssayError(
                f"{name}: a member is the directory of one saved reward model; remedy: give those, one by one"
            )
    whole = Ensemble(loaded, _rule(rule, strength))
    about = {"members": ", ".join(map(str, models)), "rule": rule, "directory": str(out)}
    if not comparisons:
        bind(models, out, whole)
        remedy = "Give held-out comparisons (--data), or calibrate each member first."
        missing = Finding("warning", "The members are not on one scale", "no comparisons were given", remedy)
        return Report("Ensemble", about, findings=(missing,))
    whole = scale_by_comparisons(whole, comparisons, "held-out comparisons")
    bind(models, out, whole)
    with bar("ensemble", len(comparisons)) as progress:
        pairs = score_comparisons(whole, comparisons, progress=progress)
    report = measure_ensemble(whole, comparisons, pairs, make(AuditOptions, options))
    return dataclasses.replace(report, about={**about, **report.about})


def warm(
    models: Sequence[str | Path | Scaled | ScalarModel],
    comparisons: Sequence[Comparison],
    *,
    out: str | Path | None = None,
    **options: Any,
) -> tuple[Scaled, Report]:
    """One model of the mean of several fine-tunings' weights, and whether they lie close enough for that. Not calibrated.

    Comparisons that none was trained on show it; see `measure_linear_mode`. Keywords are AuditOptions.
    """
    from assay.audit.ensemble import measure_linear_mode

    loaded = [load(model) if isinstance(model, str | Path) else model for model in models]
    inner = [model.model if isinstance(model, Scaled) else model for model in loaded]
    for model in inner:
        if not isinstance(model, ScalarModel):
            raise AssayError(f"average: {type(model).__name__} has no weights of its own; remedy: give single models")
    average, report = measure_linear_mode(inner, comparisons, make(AuditOptions, options))  # type: ignore[arg-type]
    if out:
        save(average, out)
    return Scaled(average, average.card.calibration), report


@overload
def calibrate(
    model: RewardModel,
    comparisons: Sequence[Comparison],
    *,
    reference: Rollouts | None = None,
    method: Literal["temperature"] = "temperature",
    **options: Any,
) -> tuple[Scaled, Report]: ...


@overload
def calibrate(
    model: RewardModel | Judge, comparisons: Sequence[Comparison], *, method: Literal["isotonic"], **options: Any
) -> tuple[Isotonic, Report]: ...


def calibrate(
    model: Any, comparisons: Sequence[Comparison], *, reference: Rollouts | None = None, **options: Any
) -> tuple[Any, Report]:
    """The model in nats, with odds fitted to held-out comparisons, and the report of what changed. Keywords are CalibrateOptions.

    With method="isotonic" a judge instead: the odds are bent, so no rewards belong to them.
    """
    from assay.calibrate import fit
    from assay.calibrate.isotonic import fit_judge
    from assay.config import CalibrateOptions

    chosen = make(CalibrateOptions, options)
    if chosen.method == "isotonic" and reference is not None:
        raise AssayError(
            "calibrate.method=isotonic: a judge has no scale for a reference; remedy: leave the reference out"
        )
    with bar("calibrate", len(comparisons)) as progress:
        if chosen.method == "isotonic":
            return fit_judge(model, comparisons, chosen, progress=progress)
        return fit(model, comparisons, chosen, reference=reference, progress=progress)


def measure_uncertainty(
    model: Scaled | ScalarModel,
    comparisons: Sequence[Comparison],
    *,
    held_out: Sequence[Comparison] | Rollouts,
    **options: Any,
) -> Scaled:
    """The model with a spread of its rewards (`std`) and a p-value of each text being like its data (`shift_p`).

    `comparisons` are those it was trained on, `held_out` comparisons or replies of the same kind that it was not. Keywords
    are UncertaintyOptions.
    """
    from assay.config import UncertaintyOptions
    from assay.models.uncertainty import fit_uncertainty

    chosen = make(UncertaintyOptions, options)
    inner = model.model if isinstance(model, Scaled) else model
    if not isinstance(inner, ScalarModel):
        raise AssayError(f"uncertainty: {type(inner).__name__} is no model of ours; remedy: a saved reward model")
    with bar("uncertainty", len(comparisons)) as progress:
        found = fit_uncertainty(inner, comparisons, held_out, chosen, progress=progress)
    card = dataclasses.replace(inner.card, uncertainty=dict(found.provenance))
    known = ScalarModel(
        inner.network,
        inner.text,
        card,
        autocast=inner.autocast,
        batch_tokens=inner.batch_tokens,
        uncertainty=found,
    )
    return Scaled(known, model.calibration if isinstance(model, Scaled) else inner.card.calibration)


def store_uncertainty(model: Scaled, folder: str | Path, out: str | Path | None = None) -> None:
    """Store what was measured: in place no weight is rewritten, elsewhere the whole directory is."""
    from assay.models import uncertainty

    inner = model.model
    assert isinstance(inner, ScalarModel)
    assert inner.uncertainty is not None
    if out is not None and Path(out) != Path(folder):
        save(model, out)
        return
    with files.atomic_write(Path(folder) / uncertainty.PLACE, "wb") as file:
        file.write(uncertainty.to_bytes(inner.uncertainty))
    recalibrate(model, folder)


def audit(
    model: Any,
    comparisons: Sequence[Comparison],
    *,
    out: str | Path | None = None,
    pushed: str | Path | Report | None = None,
    **options: Any,
) -> Report:
    """How far the model can be trusted, measured on comparisons that nothing else has seen. Keywords are AuditOptions.

    `pushed`: what optimising it came to, a run folder of `optimize`, a file of `best_of_n`, or the report of one; the
    verdict then knows how hard it may be pushed. With `out`, finished parts and scores are kept in out/parts, and the
    same call goes on from a killed run.
    """
    from assay.audit import Memory, Recorded, hygiene_gate, hygiene_rows
    from assay.audit import audit as measure

    chosen = make(AuditOptions, options)
    memory = Memory() if out is None else _kept(Path(out) / "parts", model, comparisons, chosen)
    hygiene = None
    if comparisons and isinstance(model, RewardModel) and not isinstance(model, Recorded):
        if "hygiene" not in memory.parts:
            rows = hygiene_rows(comparisons, chosen.hygiene_rows)
            found = hygiene_gate(model, *rows, chosen, **_tokens_seen(model))
            memory.parts["hygiene"] = Report("Hygiene", findings=found)
        hygiene = memory.parts["hygiene"].findings
    beside = () if pushed is None else (pushed if isinstance(pushed, Report) else overoptimise(pushed),)
    try:
        with _Parts("audit") as watch:
            return measure(model, comparisons, chosen, hygiene=hygiene, beside=beside, memory=memory, watch=watch)
    except AssayError:
        if out is not None and not memory.scores:  # nothing to go on from: a mistake leaves nothing behind
            shutil.rmtree(Path(out) / "parts", ignore_errors=True)
        raise


def compare(
    a: Any, b: Any, comparisons: Sequence[Comparison], *, names: tuple[str, str] = ("A", "B"), **options: Any
) -> Report:
    """Two models on the same comparisons: which is right more often, whose odds say more, and where they disagree.

    Keywords are AuditOptions; draws, bins, worst and seed count.
    """
    from assay.audit.compare import compare as measure

    with bar("compare", 2 * len(comparisons)) as progress:
        return measure(a, b, comparisons, make(AuditOptions, options), names=names, progress=progress)


def read_scores(source: str | Path) -> tuple[list[Comparison], Any]:
    """A file of scored comparisons in; its comparisons, and a model that knows their scores, out: `audit(model, comparisons)`.

    Rows: comparisons with `rewards`, one a response, as `score_file` writes them; or prompt, chosen, rejected with
    scores_chosen and scores_rejected; or either with `margin`, how much better, in nats, the first or the chosen is.
    """
    from assay.audit.scores import SCORE_KEYS, from_rows
    from assay.collect.sources import import_rows

    def rows() -> Iterator[tuple[str, Comparison, Mapping[str, Any]]]:
        for place, row in files.read_rows(source):
            if isinstance(row, files.Rejected):
                raise AssayError(f"{row.place}: {row.reason}")
            bare = {key: row[key] for key in row if key not in SCORE_KEYS} if isinstance(row, Mapping) else row
            for made in import_rows([(place, bare)], ImportOptions(strict=True)):
                assert isinstance(made, Comparison)
                yield place, made, row

    return from_rows(rows(), str(source))


def benchmark(
    model: Any,
    source: str | Path | Sequence[str | Path],
    name: str = "auto",
    scores: str | Path | None = None,
    **options: Any,
) -> Report:
    """A model on a public benchmark, by the benchmark's own rule, with intervals and anchors. Keywords are BenchmarkOptions.

    `source`: the benchmark's files as published, one or several, or its name on the hub. `name`: rewardbench,
    rewardbench2, rmbench, judgebench, rmb, llmbar, evalbiasbench, hhh, xstest or pairs; auto sees it from the rows.
    `scores`: a file of scores that were made elsewhere, with None for the model.
    """
    from assay.audit import hygiene_gate
    from assay.audit.benchmark_rows import match_scores, read_items
    from assay.audit.benchmarks import benchmark as measure
    from assay.audit.benchmarks import hygiene_rows

    chosen = make(BenchmarkOptions, options)
    if (model is None) == (scores is None):
        raise AssayError("benchmark: give a model, or a file of scores and None for the model")
    sources = [source] if isinstance(source, str | Path) else list(source)
    name, items = read_items((row for each in sources for row in _rows_of(each, chosen.hub_split)), name)
    about = {"data": ", ".join(str(each) for each in sources)}
    if scores is not None:
        table = match_scores(_rows_of(scores), items)
        return measure(table, items, name, chosen, about={**about, "scores": str(scores)})
    hygiene = None
    if seen := _tokens_seen(model):
        gate = AuditOptions(hygiene_rows=chosen.hygiene_rows, seed=chosen.seed)
        hygiene = hygiene_gate(model, *hygiene_rows(items, chosen), gate, **seen)
    with bar("benchmark", len(items)) as progress:
        return measure(model, items, name, chosen, progress, hygiene=hygiene, about=about)


def score(model: RewardModel, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Scores:
    """Rewards in nats; strings or chat messages."""
    return model.score(prompts, responses)


def load(folder: str | Path, *, uncertain: bool = True, **options: Any) -> Scaled:
    """A saved reward model, with its calibration. Keywords are ModelOptions, such as device or truncation.

    With what `measure_uncertainty` found, unless `uncertain` says not to look: to measure it anew, say.
    """
    from assay.models import layout
    from assay.models.ensemble import load as load_ensemble
    from assay.models.scalar import load as load_scalar

    layout.recover(Path(folder))
    if layout.is_ensemble(folder):
        return load_ensemble(folder, make(ModelOptions, options), uncertain=uncertain)
    model = load_scalar(folder, make(ModelOptions, options), uncertain=uncertain)
    return Scaled(model, model.card.calibration)


def save(model: Scaled | ScalarModel | Ensemble, folder: str | Path) -> None:
    """Write the directory that every reader loads; calibration goes to reward.json and never into the weights.

    An ensemble is a directory of such directories, with ensemble.json beside them.
    """
    from assay.models.ensemble import Ensemble
    from assay.models.ensemble import save as save_ensemble
    from assay.models.scalar import save as save_scalar

    inner = model.model if isinstance(model, Scaled) else model
    if isinstance(inner, Ensemble):
        return save_ensemble(inner, folder, model.calibration if isinstance(model, Scaled) else None)
    if not isinstance(inner, ScalarModel):
        raise AssayError(f"save: {type(inner).__name__} is no model of ours; remedy: save it the way it was made")
    if isinstance(model, Scaled):
        card = dataclasses.replace(inner.card, calibration=model.calibration)
        inner = ScalarModel(inner.network, inner.text, card, autocast=inner.autocast, uncertainty=inner.uncertainty)
    save_scalar(inner, folder)


def recalibrate(model: Scaled, folder: str | Path, out: str | Path | None = None) -> None:
    """Store a calibration: in place only reward.json (ensemble.json) is rewritten, elsewhere the whole directory is."""
    if not isinstance(model, Scaled):
        raise AssayError(
            "calibrate.method=isotonic gives a judge, which a saved reward model cannot hold; "
            "remedy: calibrate.method=temperature, or use the judge in Python"
        )
    from assay.models.ensemble import Ensemble, recalibrated
    from assay.models.layout import ENSEMBLE

    inner = model.model
    several = isinstance(inner, ScalarModel) and inner.heads > 1  # each head is a member with a reward.json of its own
    if several or (out is not None and Path(out) != Path(folder)):
        save(model, out or folder)
        return
    if isinstance(inner, Ensemble):
        files.write_text(Path(folder) / ENSEMBLE, recalibrated(folder, model.calibration))
        return
    assert isinstance(inner, ScalarModel)
    card = dataclasses.replace(inner.card, calibration=model.calibration)
    files.write_json(Path(folder) / "reward.json", card.as_dict())


def score_file(
    model: BulkScorer | RewardModel, source: str | Path, out: str | Path, *, workers: int = 1, chunk: int = bulk.CHUNK
) -> dict[str, int]:
    """Score every row of a file and write it with its reward(s), streaming; returns how many rows and responses.

    A row holds prompt (text or messages) with response or responses, or messages that end with an assistant turn.
    `chunk` responses are scored and put on the disk at a time. With a BulkScorer the same call goes on from a killed
    run, and several `workers` share the file; another model stays in this process and starts afresh.
    """
    if isinstance(model, BulkScorer):
        return bulk.score_rows(model.on_worker, source, out, model.identity(), workers=workers, chunk=chunk)
    if workers != 1:
        raise AssayError(f"workers={workers}: a loaded model stays in its process; remedy: score_file(BulkScorer(DIR))")
    return bulk.score_rows(lambda _: model, source, out, None, chunk=chunk)


def policy(base: str = "starter", *, adapters: bool = False, seed: int = 0, **options: Any) -> Policy:
    """A language model that speaks, here or on a server. Keywords are PolicyOptions; `adapters` adds those that are trained."""
    from assay.models.policy import load_policy
    from assay.models.server import RemotePolicy

    chosen = make(PolicyOptions, {"base": base, **options})
    usual, ours = PolicyOptions(), ("base", "system", "server")
    changed = sorted(name for name in chosen.model_fields_set if getattr(chosen, name) != getattr(usual, name))
    if chosen.server:
        if ignored := [name for name in changed if name not in ours and not name.startswith("server_")]:
            raise AssayError(f"policy.{ignored[0]}: not used with policy.server; remedy: set it on the server")
        return RemotePolicy(
            chosen.server,
            chosen.base,
            system=chosen.system,
            timeout=chosen.server_timeout,
            retries=chosen.server_retries,
            workers=chosen.server_workers,
            key_from_env=chosen.server_key_from_env,
            log_probs=chosen.server_log_probs,
        )
    if ignored := [name for name in changed if name.startswith("server_")]:
        raise AssayError(f"policy.{ignored[0]}: used with policy.server only; remedy: give policy.server=URL")
    return load_policy(chosen, adapters=adapters, seed=seed)


def best_of_n(
    policy: Policy,
    reward: Any,
    prompts: Sequence[PromptLike],
    out: str | Path,
    *,
    gold: Any = None,
    **options: Any,
) -> Report:
    """Draw N replies to each prompt into the file `out`, the best marked, and report what the reward was worth as n grew.

    `reward` and `gold` are reward models, functions f(prompts, responses) -> numbers, or `assay.optimize.combined`
    ones. The same call goes on from a killed run. Keywords are BestOfNOptions.
    """
    from assay.optimize.best_of_n import read_pool, to_report, write_pool

    chosen = make(BestOfNOptions, options)
    asked = [as_prompt(prompt) for prompt in prompts]
    target, judge = _judges(reward, gold)
    _refuse_other_templates(policy, target, judge)
    if chosen.most_n is not None and chosen.most_n > chosen.n:
        raise AssayError(
            f"best_of_n.most_n={chosen.most_n}: only best_of_n.n={chosen.n} are drawn; remedy: 1 to {chosen.n}"
        )
    identity = {
        "policy": getattr(policy, "fingerprint", repr(policy)),
        "reward": target.fingerprint,
        "gold": judge.fingerprint if judge else "",
        "prompts": digest([prompt_digest(prompt) for prompt in asked]),
    }
    made_of = _all_of_it(policy, [target, *([judge] if judge else [])])
    write_pool(out, policy, target, asked, chosen, gold=judge, identity=identity, made_of=made_of)
    pool = read_pool(out)
    return to_report(pool, pool_curve(pool, **options))


def pool_curve(pool: Any, **options: Any) -> Any:
    """Reward, gold and KL of the best of n, for n = 1, 2, 4, ... Keywords are BestOfNOptions."""
    from assay.optimize.best_of_n import curve

    chosen = make(BestOfNOptions, options)
    return curve(pool, most=chosen.most_n, seed=chosen.seed, draws=chosen.draws)


def optimize(
    policy: LanguagePolicy,
    reward: Any,
    prompts: Sequence[PromptLike],
    /,
    *,
    gold: Any = None,
    held_out: Sequence[PromptLike] = (),
    out: str | Path | None = None,
    config: Config | None = None,
    **options: Any,
) -> Optimised:
    """Move a policy towards more reward: PPO, or RLOO and GRPO with baseline="leave_one_out" or "group".

    `reward` and `gold` are as for best_of_n. Held-out prompts are answered now and then to see whether the reward is still
    true; without any, a tenth of the prompts is held out by hash. With `out`, a run folder: config.yaml, metrics.jsonl,
    checks.jsonl, the newest checkpoint, the policy and the report; the same call goes on from a killed run. Keywords are
    OptimizeOptions.
    """
    from accelerate import PartialState

    from assay.models.policy import LanguagePolicy, save_policy
    from assay.optimize.loop import optimise

    if not isinstance(policy, LanguagePolicy):
        raise AssayError(
            f"optimize: a policy that learns is a model on this machine, got {type(policy).__name__}; remedy: policy.server=null"
        )
    settings = build((config or Config()).model_dump(exclude_unset=True), {"optimize": options})
    chosen, folder = settings.optimize, Path(out) if out else None
    asked = [as_prompt(prompt) for prompt in prompts]
    kept = [as_prompt(prompt) for prompt in held_out]
    if not kept and chosen.check_every:
        asked, kept = _tenth(asked)
    target, judge = _judges(reward, gold)
    if both := set(asked) & set(kept):
        log.warning("%d held-out prompts are also learnt from; they are left out of learning", len(both))
        asked = [prompt for prompt in asked if prompt not in both]
    ours = _only_scaled(target)
    _refuse_other_templates(policy, target, judge)

    def begin() -> None:
        if folder and PartialState().is_main_process:
            files.write_config(folder / "config.yaml", settings)
            rows = [{"prompt": [{"role": m.role, "content": m.content} for m in prompt]} for prompt in kept]
            files.write_jsonl(folder / "held_out.jsonl", rows)

    with files.held(folder):
        done = optimise(
            policy,
            target,
            asked,
            chosen,
            gold=judge,
            held_out=kept,
            value=_value_network(policy, ours, chosen, sum(target.weights.values())),
            reference_scale=_reference_scale(ours, sum(target.weights.values())),
            folder=folder,
            begin=begin,
        )
        if folder and PartialState().is_main_process:
            save_policy(done.policy, folder / "policy")
            write_report(run_report(folder), folder)
    return done


def run_report(folder: str | Path) -> Report:
    """What a run of `optimize` says at its end: `overoptimise`, or its course alone where the checks allow no more."""
    from assay.optimize import monitor

    try:
        return overoptimise(folder)
    except AssayError as error:
        place = Path(folder)
        course = _course(place, monitor.read_checks(place / "checks.jsonl"))
        said = Finding("note", "Whether the reward stayed true is not known", str(error))
        return dataclasses.replace(course, findings=(said, *course.findings))


def overoptimise(place: str | Path, *, pool: str | Path | None = None, **options: Any) -> Report:
    """Whether the reward stayed true while it was optimised: of a run folder of `optimize`, or a file of `best_of_n`.

    With a pool of the policy that the run began from, its forecast stands beside what the run did. Keywords are
    BestOfNOptions: most_n, draws, seed.
    """
    from assay.audit.overoptimise import overoptimise_pool, overoptimise_run
    from assay.optimize import monitor

    chosen, folder = make(BestOfNOptions, options), Path(place)
    doubt = {"draws": chosen.draws, "seed": chosen.seed}
    if not folder.is_dir():
        if pool is not None:
            raise AssayError(f"{place}: a pool beside a pool; remedy: give a run folder, or leave --pool out")
        return overoptimise_pool(_candidates(place), about={"file": str(place)}, most_n=chosen.most_n, **doubt)
    checks = monitor.read_checks(folder / "checks.jsonl")
    if len(checks) < 2:
        raise AssayError(f"{place}: {len(checks)} checks; remedy: a run with optimize.check_every and held-out prompts")
    report = overoptimise_run(
        _trajectory(checks, folder / "held_out.jsonl"),
        None if pool is None else _candidates(pool),
        alerts=monitor.alerts(checks, **doubt),
        about={"run": str(place), **_left_out(folder)},
        **doubt,
    )
    return dataclasses.replace(report, sections=(*report.sections, _course(folder, checks)))


def tax(
    place: Any,
    *,
    reference: Any = None,
    also: Sequence[str | Path] = (),
    texts: Sequence[str] | str | Path | None = None,
    out: str | Path | None = None,
    config: Config | None = None,
    **options: Any,
) -> Report:
    """What an optimised policy can do less well than the one it began from.

    `place` is a run folder of `optimize`, which knows its reference and gains, a policy's directory or hub name, or a
    loaded policy, whose reference is itself without adapters unless another is given; `also` are more of the first two.
    `texts` are held-out texts or a file of them. With `out`, results.json of each policy in lm-evaluation-harness's form
    goes there. Keywords are TaxOptions; the config's policy options load the models.
    """
    from assay.audit.tax import Measured, compare, distance, measure, refuse_unlike, results
    from assay.models.policy import LanguagePolicy, load_policy

    settings = build((config or Config()).model_dump(exclude_unset=True), {"tax": options})
    chosen = settings.tax

    def loaded(given: Any) -> LanguagePolicy:
        if isinstance(given, LanguagePolicy):
            return given
        source = Path(given) / "policy" if (Path(given) / "policy").is_dir() else given
        return load_policy(settings.policy.model_copy(update={"base": str(source)}))

    held = _texts(texts) if isinstance(texts, str | Path) else texts
    began = reference or (None if isinstance(place, LanguagePolicy) else _began_from(Path(place)))
    start = loaded(place if began is None else began)
    before = measure(start, chosen, held, as_reference=began is None)
    afters: dict[str, Measured] = {}
    distances, gains = {}, {}
    for each in (place, *also):
        speaker = start if each is place and began is None else loaded(each)
        name = speaker.name or "policy" if isinstance(each, LanguagePolicy) else str(each)
        refuse_unlike(start, speaker)
        afters[name] = measure(speaker, chosen, held)
        distances[name] = distance(afters[name], start, chosen, as_reference=began is None)
        if not isinstance(each, LanguagePolicy) and (gain := _gain(Path(each), chosen.draws, chosen.seed)):
            gains[name] = gain
    if out is not None:
        for i, (name, after) in enumerate(afters.items()):
            part = Path(out) if len(afters) == 1 else Path(out) / f"{i}-{Path(name).name}"
            files.write_json(part / "results.json", results(before, after, chosen))
    return compare(before, afters, chosen, gains=gains, distances=distances)


def write_card(report: Report, folder: str | Path) -> bool:
    """README.md of a saved model from its audit; False where one stands there that is not ours, which then stays."""
    from assay.report.card import is_ours, model_card

    place = Path(folder) / "README.md"
    if place.exists() and not is_ours(place.read_text("utf-8", "replace")):
        return False
    stored = Path(folder) / "reward.json"
    facts = files.read_json(stored) if stored.is_file() else {}
    files.write_text(place, model_card(report, facts if isinstance(facts, Mapping) else {}, name=_model_name(folder)))
    return True


def write_report(report: Report, folder: str | Path) -> None:
    """report.html, report.md and report.json in a folder."""
    from assay.report import to_html, to_json, to_markdown

    place = Path(folder)
    files.write_json(place / "report.json", to_json(report))
    files.write_text(place / "report.md", to_markdown(report))
    files.write_text(place / "report.html", to_html(report))


def mend(folder: str | Path, out: str | Path, **options: Any) -> None:
    """Write a copy of a reward model, ours or another's, in the layout that every reader loads. Keywords are ModelOptions."""
    from assay.models.foreign import load_foreign
    from assay.models.layout import is_classifier
    from assay.models.scalar import load as load_scalar

    given = make(ModelOptions, options)
    if is_classifier(str(folder), given):
        model = load_scalar(folder, given)
        save(Scaled(model, model.card.calibration), out)
        return
    foreign, calibration = load_foreign(folder, given)
    save(Scaled(foreign, calibration), out)


def doctor(folder: str | Path) -> Report:
    """Whether a saved reward model is read the same by everyone, and the remedy where it is not."""
    from assay.models.doctor import examine

    return examine(folder)


def quickstart(
    out: str | Path = "runs/quickstart", data: str | Path | None = None, config: Config | None = None
) -> Report:
    """The main job end to end; see assay.quickstart."""
    from assay.quickstart import run

    return run(Path(out), data=data, config=config)


def with_options(config: Config, options: Mapping[str, Any]) -> Config:
    """The config with keywords such as lr=1e-5 put in the stage that knows them (model or train)."""
    layers: dict[str, dict[str, Any]] = {"model": {}, "train": {}}
    for name, value in options.items():
        stage = next(
            (s for s, kind in (("model", ModelOptions), ("train", TrainOptions)) if name in kind.model_fields), "train"
        )
        layers[stage][name] = value
    return build(config.model_dump(exclude_unset=True), layers)


def with_self_test(model: ScalarModel, comparisons: Sequence[Comparison], rows: int = 4) -> ScalarModel:
    """The model with a few texts and their scores in its card, so that a reader can prove that it scores the same."""
    short = [
        c for c in comparisons if len(c.prompt) == 1 and len(c.prompt[0].content) + len(c.responses[0].text) < 2000
    ][:rows]
    if not short:
        return model
    texts = [(c.prompt[0].content, c.responses[0].text) for c in short]
    values = model.score([as_prompt(p) for p, _ in texts], [r for _, r in texts]).value
    card = dataclasses.replace(
        model.card, self_test=tuple((p, r, float(v)) for (p, r), v in zip(texts, np.asarray(values), strict=True))
    )
    return ScalarModel(model.network, model.text, card, autocast=model.autocast)


def refuse_other_template(policy: LanguagePolicy, model: ScalarModel) -> None:
    """A policy and a reward model with one tokenizer that render a conversation differently: one of them is set up wrongly."""
    text = model.text
    if policy.tokenizer.get_vocab() != text.tokenizer.get_vocab() or policy.template_hash == text.template_hash:
        return
    if policy.chat_template != text.chat_template:
        where, remedy = (
            "chat template",
            f"policy.template={text.template}, or score with the template it was trained on",
        )
    else:
        own = "null" if text.system is None else repr(text.system)
        where = f"system message ({policy.system!r} and {text.system!r})"
        remedy = (
            f"policy.system={own}" if text.system is None else f'"policy.system={own}", with these quotes in a shell'
        )
    raise AssayError(f"the policy and the reward model have one tokenizer but not one {where}; remedy: {remedy}")


def _refuse_other_templates(policy: Any, reward: Reward, gold: Reward | None) -> None:
    """As refuse_other_template, of every reward model of ours that judges; a policy behind a server renders by itself."""
    from assay.models.policy import LanguagePolicy

    for judge in (reward, gold):
        for model in judge.models if judge is not None and isinstance(policy, LanguagePolicy) else ():
            if isinstance(model, ScalarModel):
                refuse_other_template(policy, model)


def _tokens_seen(model: Any) -> dict[str, Any]:
    """What the hygiene gate asks of a model of ours: the tokens that it reads, and which are special. Empty for others."""
    inner = model.model if isinstance(model, Scaled) else model
    if not isinstance(inner, ScalarModel):
        return {}
    text = inner.text
    special = {name: getattr(text.tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    return {"tokenize": lambda p, r: text.encode([p], [r])[0].ids.tolist(), "special": special}


def _kept(folder: Path, model: Any, comparisons: Sequence[Comparison], options: AuditOptions) -> Memory:
    """What an audit of this model on these comparisons had finished in the folder; nothing, of a model without a fingerprint."""
    from assay import __version__
    from assay.audit import Memory
    from assay.kept import KeptReports, KeptScores

    fingerprint = getattr(model, "fingerprint", None)
    if fingerprint is None:
        return Memory()
    inner = model.model if isinstance(model, Scaled) else model
    identity = digest([fingerprint, _doubt_of(inner)])
    seen = digest_all(digest(files.to_row(comparison)) for comparison in comparisons)
    key = digest([identity, seen, options.model_dump(exclude={"only", "skip"}), __version__])
    return Memory(KeptScores(folder / "scores.jsonl", identity), KeptReports(folder, key))


def _model_name(folder: str | Path) -> str:
    """What to call the model of a directory: RUN for RUN/model."""
    place = Path(folder).resolve()
    return place.parent.name if place.name == "model" else place.name


def _rows_of(source: str | Path, split: str | None = None) -> Iterable[tuple[str, Any]]:
    """Rows of a benchmark or of its scores: of a JSON file whatever its form, of a hub data set its published split."""
    from assay.audit.benchmark_rows import HUB_SPLITS, unpack

    path = Path(source)
    if path.is_file() and path.name.lower().removesuffix(".gz").endswith(".json"):
        try:
            return unpack(files.read_json(path), str(path))
        except AssayError:  # one object a line, perhaps: read_rows knows, and says what is wrong if not
            pass
    return files.read_rows(source, ImportOptions(hub_split=split or HUB_SPLITS.get(str(source), "train")))


def _reward(given: Any) -> Reward:
    from assay.optimize.rewards import Reward, combined

    return given if isinstance(given, Reward) else combined(given)


def _judges(reward: Any, gold: Any) -> tuple[Reward, Reward | None]:
    """The reward and a gold that has nothing of it."""
    target, judge = _reward(reward), None if gold is None else _reward(gold)
    if judge is not None and (name := judge.in_common(target)):
        raise AssayError(
            f"gold {name} is in the reward itself, and would agree with it; remedy: a judge that nothing learns from"
        )
    return target, judge


def _rule(name: str, strength: float | None) -> EnsembleRule:
    from assay.formulas.ensemble import RULES
    from assay.models.rules import ensemble_rule

    if name not in RULES:
        raise AssayError(f"ensemble: rule {name!r} is not known; known are {', '.join(RULES)}")
    return ensemble_rule(name, strength)


def _member(
    comparisons: Sequence[Comparison], held_out: Sequence[Comparison], config: Config, place: Path | None
) -> ScalarModel:
    """Train a member of an ensemble, or load the one that an earlier call finished in its folder."""
    from accelerate import PartialState

    from assay.contracts import digest_all
    from assay.models.scalar import load as load_scalar

    if place is None or config.model.heads > 1:  # heads are one run, which knows by itself whether it is done
        return train(comparisons, held_out=held_out, out=place, config=config)
    harmless = {"save_every", "report_to", "micro_tokens", "shard"}
    told = [config.model.model_dump(mode="json"), config.train.model_dump(mode="json", exclude=harmless)]
    identity = digest([*told, digest_all(map(repr, comparisons)), digest_all(map(repr, held_out))])
    done = place / "done.json"
    if not done.exists():
        model = train(comparisons, held_out=held_out, out=place, config=config)
        if PartialState().is_main_process:
            files.write_json(done, {"identity": identity})
        return model
    if files.read_json(done) != {"identity": identity}:
        raise AssayError(f"{place}: was trained with other options or data; remedy: another --out, or delete {place}")
    running = {"device", "autocast", "attention"} & config.model.model_fields_set
    return load_scalar(place / "model", make(ModelOptions, {name: getattr(config.model, name) for name in running}))


def _only_scaled(reward: Reward) -> Scaled | None:
    """The one calibrated model that the reward is; None where it is more, or something else."""
    (only, *more) = reward.sources.values()
    return only if isinstance(only, Scaled) and not more and reward.members is None else None


def _reference_scale(model: Scaled | None, weight: float) -> tuple[float, float] | None:
    """Mean and spread, in weighted nats, of the rewards of the reference policy's replies, where the model stores them."""
    if model is None or not model.calibration.provenance:
        return None
    return 0.0, abs(weight) * model.calibration.reference_spread / model.calibration.temperature


def _value_network(
    policy: LanguagePolicy, model: Scaled | None, options: OptimizeOptions, weight: float
) -> ValueNetwork | None:
    """A copy of the reward model that starts as a value model, in units of the optimised score."""
    from assay.optimize.rollouts import ValueNetwork

    if options.baseline != "value" or options.value != "reward" or model is None:
        return None
    inner, calibration = model.model, model.calibration
    if not isinstance(inner, ScalarModel) or inner.heads > 1:
        raise AssayError(
            "optimize.value=reward: the reward is an ensemble, and a value model starts as one model; "
            "remedy: optimize.value=head"
        )
    if inner.network.encoder or policy.tokenizer.get_vocab() != inner.text.tokenizer.get_vocab():
        raise AssayError(
            "optimize.value=reward: the policy and the reward model have different tokenizers; remedy: optimize.value=head"
        )
    unit = calibration.reference_spread if options.reward_scale == "reference" else calibration.temperature
    weight = weight / abs(weight) if options.reward_scale == "reference" else weight
    return ValueNetwork(copy.deepcopy(inner.network), calibration.reference_mean, weight / unit)


def _doubt_of(model: Any) -> dict[str, Any] | None:
    """Where a model's uncertainty comes from: it changes no score, but what is known of it."""
    known = model.uncertainty if isinstance(model, ScalarModel) else None
    return dict(known.provenance) if known else None


def _all_of_it(policy: Any, judges: Sequence[Reward]) -> dict[str, Any] | None:
    """What a pool depends on besides its identity; None where that cannot be known, of a function, say."""
    from assay import __version__
    from assay.models.policy import LanguagePolicy

    sources = [source for judge in judges for source in judge.sources.values()]
    inner = [source.model if isinstance(source, Scaled) else source for source in sources]
    models = [model for model in inner if isinstance(model, ScalarModel)]
    if len(models) < len(inner) or not hasattr(policy, "fingerprint"):
        return None
    doubt = [_doubt_of(model) for model in models]
    dtype = str(next(policy.model.parameters()).dtype) if isinstance(policy, LanguagePolicy) else None
    types = [str(next(model.network.parameters()).dtype) for model in models]
    told = [doubt, types, dtype, bool(getattr(policy, "log_probs", False)), __version__]
    return {"and": digest(told)}


def _left_out(folder: Path) -> dict[str, str]:
    """Prompts that a run could not use, by reason."""
    place = folder / "excluded.json"
    found = files.read_json(place) if place.exists() else {}
    return {f"prompts left out ({why})": str(num) for why, num in found.items()} if isinstance(found, dict) else {}


def _course(folder: Path, checks: Sequence[Check]) -> Report:
    """A run's metrics, and its checks if it has any, as curves."""
    from assay.optimize.course import course

    metrics = folder / "metrics.jsonl"
    rows = [row for _, row in files.read_rows(metrics)] if metrics.exists() else []
    found = course([row for row in rows if isinstance(row, dict)], checks)  # a killed run leaves half a line
    return dataclasses.replace(found, about={**found.about, **_left_out(folder)})


def _trajectory(checks: Sequence[Check], prompts: Path) -> Trajectory:
    """A run's checks as the audit takes them."""
    from assay.audit.overoptimise import Trajectory

    told = {prompt_digest(prompt): prompt for prompt in files.read_prompts(prompts)} if prompts.exists() else {}
    names = checks[0].prompts
    return Trajectory(
        updates=tuple(check.update for check in checks),
        names=names,
        proxy=np.stack([check.proxy for check in checks]),
        kl=np.stack([check.kl for check in checks]),
        length=np.stack([check.length for check in checks]),
        gold=None if any(c.gold is None for c in checks) else np.stack([c.gold for c in checks if c.gold is not None]),
        texts=[check.texts for check in checks],
        prompts=[told[name] for name in names] if set(names) <= set(told) else None,
    )


def _began_from(run: Path) -> str | None:
    """The policy that a run folder began from; an error where the place is no run and nobody said."""
    if not (run / "config.yaml").is_file() or not (run / "policy").is_dir():
        raise AssayError(f"{run}: nothing says what this policy began from; remedy: --reference with that model")
    return str(build(files.read_config(run / "config.yaml")).policy.base)


def _gain(run: Path, draws: int, seed: int) -> Gain | None:
    """What a run had gained at the update whose weights its policy has; None where the place is no run or was not checked."""
    from assay.audit.tax import gain_of
    from assay.optimize import monitor

    checks = monitor.read_checks(run / "checks.jsonl")
    if len(checks) < 2:
        return None
    keep = build(files.read_config(run / "config.yaml")).optimize.keep
    update = monitor.best(checks) if keep == "best_gold" else checks[-1].update
    return gain_of(_trajectory(checks, run / "held_out.jsonl"), update, draws, seed)


def _texts(place: str | Path) -> list[str]:
    """Held-out texts: the `text` of each row of a JSONL file or table, or the paragraphs of a .txt file."""
    path = Path(place)
    if path.suffix == ".txt":
        return [" ".join(part.split()) for part in path.read_text("utf-8").split("\n\n") if part.strip()]
    found = []
    for at, row in files.read_rows(path):
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise AssayError(
                f'{at}: a held-out text is a row with text, got {files.shown(row)}; remedy: {{"text": ...}}'
            )
        found.append(row["text"])
    return found


def _candidates(place: str | Path) -> Candidates:
    """A file of best-of-n as the audit takes it."""
    from assay.audit.overoptimise import Candidates
    from assay.optimize import read_pool

    pool = read_pool(place)
    return Candidates(
        pool.prompts,
        [[response.text for response in responses] for responses in pool.responses],
        pool.proxy,
        pool.gold,
        pool.log_prob,
        std=pool.std,
        shift_p=pool.shift_p,
        partly_read=pool.partly_read,
    )


def _tenth(prompts: list[Prompt]) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts to learn from, and those held out: the part that `split` would audit."""
    from assay.collect.split import part_of

    parts = [part_of(prompt_digest(prompt), SplitOptions()) for prompt in prompts]
    held = [prompt for prompt, part in zip(prompts, parts, strict=True) if part == "audit"]
    rest = [prompt for prompt, part in zip(prompts, parts, strict=True) if part != "audit"]
    return (rest, held) if rest else (prompts, [])


class _Parts:
    """Tells of an audit's parts as they begin: a bar on a terminal, a line elsewhere."""

    def __init__(self, label: str) -> None:
        self.label, self.part = label, ""
        self.bar: Bar | None = None

    def __enter__(self) -> Any:
        return self

    def __call__(self, part: str, done: int, total: int | None) -> None:
        """So much is done of a part."""
        if part != self.part or self.bar is None:
            self.__exit__()
            self.part = part
            self.bar = Bar(total, f"{self.label}: {part}", "texts" if total is None else "comparisons")
            if self.bar.bar is None:
                note(f"{self.label}: {part}")
        self.bar.advance(done - self.bar.done)

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()


class bar:
    """A progress callback (done, total) with a bar behind it."""

    def __init__(self, label: str, total: int) -> None:
        self.bar = Bar(total, label, "comparisons")

    def __enter__(self) -> Any:
        def tell(done: int, total: int) -> None:
            self.bar.expect(total)  # a stage may count more than the comparisons that it was given
            self.bar.advance(done - self.bar.done)

        return tell

    def __exit__(self, *_: object) -> None:
        self.bar.close()
