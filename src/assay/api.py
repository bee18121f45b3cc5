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
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from assay import bulk, files
from assay.bulk import BulkScorer
from assay.config import (
    AuditOptions,
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
    prompt_digest,
)
from assay.models.scalar import ScalarModel
from assay.models.scaled import Scaled
from assay.progress import Bar

if TYPE_CHECKING:
    from assay.audit.overoptimise import Candidates, Trajectory
    from assay.models.policy import LanguagePolicy
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

    trained = fit(model, comparisons, config.train, held_out=held_out, folder=folder, begin=begin).model
    if folder and PartialState().is_main_process:
        save(with_self_test(trained, comparisons), folder / "model")
    return trained


def calibrate(
    model: RewardModel, comparisons: Sequence[Comparison], *, reference: Rollouts | None = None, **options: Any
) -> tuple[Scaled, Report]:
    """The model in nats, with odds fitted to held-out comparisons, and the report of what changed. Keywords are CalibrateOptions."""
    from assay.calibrate import fit
    from assay.config import CalibrateOptions

    with bar("calibrate", len(comparisons)) as progress:
        return fit(model, comparisons, make(CalibrateOptions, options), reference=reference, progress=progress)


def audit(model: Any, comparisons: Sequence[Comparison], **options: Any) -> Report:
    """How far the model can be trusted, measured on comparisons that nothing else has seen. Keywords are AuditOptions."""
    from assay.audit import audit as measure
    from assay.audit import hygiene_gate, hygiene_rows

    chosen = make(AuditOptions, options)
    inner = model.model if isinstance(model, Scaled) else model
    hygiene = None
    if isinstance(inner, ScalarModel):
        tokenizer = inner.text.tokenizer
        special = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}

        def tokenize(prompt: PromptLike, response: ResponseLike) -> list[int]:
            return inner.text.encode([prompt], [response])[0].ids.tolist()  # type: ignore[no-any-return]

        hygiene = hygiene_gate(
            model, *hygiene_rows(comparisons, chosen.hygiene_rows), chosen, tokenize=tokenize, special=special
        )
    with bar("audit", len(comparisons)) as progress:
        return measure(model, comparisons, chosen, hygiene=hygiene, progress=progress)


def score(model: RewardModel, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Scores:
    """Rewards in nats; strings or chat messages."""
    return model.score(prompts, responses)


def load(folder: str | Path, **options: Any) -> Scaled:
    """A saved reward model, with its calibration. Keywords are ModelOptions, such as device or truncation."""
    from assay.models.scalar import load as load_scalar

    model = load_scalar(folder, make(ModelOptions, options))
    return Scaled(model, model.card.calibration)


def save(model: Scaled | ScalarModel, folder: str | Path) -> None:
    """Write the directory that every reader loads; calibration goes to reward.json and never into the weights."""
    from assay.models.scalar import save as save_scalar

    inner = model.model if isinstance(model, Scaled) else model
    if not isinstance(inner, ScalarModel):
        raise AssayError(f"save: {type(inner).__name__} is no model of ours; remedy: save it the way it was made")
    if isinstance(model, Scaled):
        card = dataclasses.replace(inner.card, calibration=model.calibration)
        inner = ScalarModel(inner.network, inner.text, card, autocast=inner.autocast)
    save_scalar(inner, folder)


def recalibrate(model: Scaled, folder: str | Path, out: str | Path | None = None) -> None:
    """Store a calibration: in place only reward.json is rewritten, elsewhere the whole directory is."""
    inner = model.model
    assert isinstance(inner, ScalarModel)
    if out is not None and Path(out) != Path(folder):
        save(model, out)
        return
    card = dataclasses.replace(inner.card, calibration=model.calibration)
    files.write_json(Path(folder) / "reward.json", card.as_dict())


def score_file(
    model: BulkScorer | RewardModel, source: str | Path, out: str | Path, *, workers: int = 1, chunk: int = 1024
) -> dict[str, int]:
    """Score every row of a file and write it with its reward(s), streaming; returns how many rows and responses.

    A row holds prompt (text or messages) with response or responses, or messages that end with an assistant turn.
    `chunk` responses are scored and put on the disk at a time. With a BulkScorer the same call goes on from a killed
    run, and several `workers` share the file; another model stays in this process and starts afresh.
    """
    if isinstance(model, BulkScorer):
        identity = {**model.identity(), "data file": files.identity(source)}
        return bulk.score_rows(model.on_worker, source, out, identity, workers=workers, chunk=chunk)
    if workers != 1:
        raise AssayError(f"workers={workers}: a loaded model stays in its process; remedy: score_file(BulkScorer(DIR))")
    return bulk.score_rows(lambda _: model, source, out, None, chunk=chunk)


def policy(base: str = "starter", *, adapters: bool = False, seed: int = 0, **options: Any) -> Policy:
    """A language model that speaks, here or on a server. Keywords are PolicyOptions; `adapters` adds those that are trained."""
    from assay.models.policy import load_policy
    from assay.models.server import RemotePolicy

    chosen = make(PolicyOptions, {"base": base, **options})
    if chosen.server:
        if ignored := {"stop", "max_prompt", "template"} & chosen.model_fields_set:
            raise AssayError(f"policy.{sorted(ignored)[0]}: not used with policy.server; remedy: set it on the server")
        return RemotePolicy(chosen.server, chosen.base, system=chosen.system)
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
    target, judge = _reward(reward), None if gold is None else _reward(gold)
    identity = {
        "policy": getattr(policy, "fingerprint", repr(policy)),
        "reward": target.fingerprint,
        "gold": judge.fingerprint if judge else "",
        "prompts": digest([prompt_digest(prompt) for prompt in asked]),
    }
    write_pool(out, policy, target, asked, chosen, gold=judge, identity=identity)
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
    target, judge = _reward(reward), None if gold is None else _reward(gold)
    if judge and judge.fingerprint == target.fingerprint:
        raise AssayError("gold is the reward itself, and would always agree; remedy: a judge that nothing learns from")
    if both := set(asked) & set(kept):
        log.warning("%d held-out prompts are also learnt from; they are left out of learning", len(both))
        asked = [prompt for prompt in asked if prompt not in both]
    ours = _only_scaled(target)
    if ours is not None:
        refuse_other_template(policy, ours.model)  # type: ignore[arg-type]

    def begin() -> None:
        if folder and PartialState().is_main_process:
            files.write_config(folder / "config.yaml", settings)
            rows = [{"prompt": [{"role": m.role, "content": m.content} for m in prompt]} for prompt in kept]
            files.write_jsonl(folder / "held_out.jsonl", rows)

    done = optimise(
        policy,
        target,
        asked,
        chosen,
        gold=judge,
        held_out=kept,
        value=_value_network(policy, ours, chosen),
        reference_scale=_reference_scale(ours),
        folder=folder,
        begin=begin,
    )
    if folder and PartialState().is_main_process:
        save_policy(done.policy, folder / "policy")
        if len(done.checks) > 1:
            write_report(overoptimise(folder), folder)
    return done


def overoptimise(place: str | Path, *, pool: str | Path | None = None, **options: Any) -> Report:
    """Whether the reward stayed true while it was optimised: of a run folder of `optimize`, or a file of `best_of_n`.

    With a pool of the policy that the run began from, its forecast stands beside what the run did. Keywords are
    BestOfNOptions: most_n, draws, seed.
    """
    from assay.audit.overoptimise import overoptimise_pool, overoptimise_run
    from assay.optimize import monitor
    from assay.optimize.course import course

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
        about={"run": str(place)},
        **doubt,
    )
    metrics = folder / "metrics.jsonl"
    rows = [row for _, row in files.read_rows(metrics)] if metrics.exists() else []
    return dataclasses.replace(report, sections=(*report.sections, course(rows, checks)))


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
        where, remedy = f"system message ({policy.system!r} and {text.system!r})", f"policy.system={text.system!r}"
    raise AssayError(f"the policy and the reward model have one tokenizer but not one {where}; remedy: {remedy}")


def _reward(given: Any) -> Reward:
    from assay.optimize.rewards import Reward, combined

    return given if isinstance(given, Reward) else combined(given)


def _only_scaled(reward: Reward) -> Scaled | None:
    """The one reward model of ours that the reward is; None where it is more, or something else."""
    models = list(reward.sources.values())
    ours = len(models) == 1 and isinstance(models[0], Scaled) and isinstance(models[0].model, ScalarModel)
    return models[0] if ours else None  # type: ignore[return-value]


def _reference_scale(model: Scaled | None) -> tuple[float, float] | None:
    """Mean and spread, in nats, of the rewards of the reference policy's replies, where the model stores them."""
    if model is None or not model.calibration.provenance:
        return None
    return 0.0, model.calibration.reference_spread / model.calibration.temperature


def _value_network(policy: LanguagePolicy, model: Scaled | None, options: OptimizeOptions) -> ValueNetwork | None:
    """A copy of the reward model that starts as a value model, in units of the optimised score."""
    from assay.optimize.rollouts import ValueNetwork

    if options.baseline != "value" or options.value != "reward" or model is None:
        return None
    inner, calibration = model.model, model.calibration
    assert isinstance(inner, ScalarModel)
    if inner.network.encoder or policy.tokenizer.get_vocab() != inner.text.tokenizer.get_vocab():
        raise AssayError(
            "optimize.value=reward: the policy and the reward model have different tokenizers; remedy: optimize.value=head"
        )
    unit = calibration.reference_spread if options.reward_scale == "reference" else calibration.temperature
    return ValueNetwork(copy.deepcopy(inner.network), calibration.reference_mean, 1 / unit)


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
    )


def _tenth(prompts: list[Prompt]) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts to learn from, and those held out: the part that `split` would audit."""
    from assay.collect.split import part_of

    parts = [part_of(prompt_digest(prompt), SplitOptions()) for prompt in prompts]
    held = [prompt for prompt, part in zip(prompts, parts, strict=True) if part == "audit"]
    rest = [prompt for prompt, part in zip(prompts, parts, strict=True) if part != "audit"]
    return (rest, held) if rest else (prompts, [])


class bar:
    """A progress callback (done, total) with a bar behind it."""

    def __init__(self, label: str, total: int) -> None:
        self.bar = Bar(total, label, "comparisons")

    def __enter__(self) -> Any:
        return lambda done, total: self.bar.advance(done - self.bar.done)

    def __exit__(self, *_: object) -> None:
        self.bar.close()
