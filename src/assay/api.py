"""The verbs of the command line as functions: objects or paths in, objects out. Options are those of config.py, by name.

comparisons = assay.read("fit.jsonl")
parts = assay.split(comparisons)
model = assay.train(parts["train"], base="org/model", lr=1e-5)
model, odds = assay.calibrate(model, parts["calibrate"])
report = assay.audit(model, parts["audit"])
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay import bulk, files
from assay.bulk import BulkScorer
from assay.config import (
    AuditOptions,
    CheckOptions,
    Config,
    ImportOptions,
    ModelOptions,
    SplitOptions,
    TrainOptions,
    build,
    make,
)
from assay.contracts import (
    AssayError,
    Comparison,
    PromptLike,
    Report,
    ResponseLike,
    RewardModel,
    Rollouts,
    Scores,
    as_prompt,
)
from assay.models.scalar import ScalarModel
from assay.models.scaled import Scaled
from assay.progress import Bar

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


class bar:
    """A progress callback (done, total) with a bar behind it."""

    def __init__(self, label: str, total: int) -> None:
        self.bar = Bar(total, label, "comparisons")

    def __enter__(self) -> Any:
        return lambda done, total: self.bar.advance(done - self.bar.done)

    def __exit__(self, *_: object) -> None:
        self.bar.close()
