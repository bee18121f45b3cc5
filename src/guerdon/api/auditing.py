"""Audit a reward model, compare two, and write the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from guerdon.api.data import stream_comparisons
from guerdon.api.overoptimization import measure_overoptimization
from guerdon.config import AuditOptions, ImportOptions, make
from guerdon.contracts import Comparison, Finding, GuerdonError, Report, RewardModel, digest
from guerdon.errors import field_error
from guerdon.io import readers, schema, writers
from guerdon.models.calibrated import strip_calibration
from guerdon.models.hidden_text import hidden_text_findings
from guerdon.models.reward_model import ScalarRewardModel
from guerdon.progress import ProgressBar, note

if TYPE_CHECKING:
    from guerdon.auditing.run import AuditCache
    from guerdon.auditing.score_rows import ScoredRow


def audit(
    model: Any,
    comparisons: Sequence[Comparison],
    *,
    out: str | Path | None = None,
    pushed: str | Path | Report | None = None,
    **options: Any,
) -> Report:
    """How far the model can be trusted, measured on held-out comparisons. Keywords are AuditOptions.

    `pushed` is a run folder of `optimize`, a file of `best_of_n`, or the report of one: it shows the gate how hard the
    model may be optimized against. With `out`, scores and finished parts are saved in out/.guerdon-parts, and the same call
    resumes a killed audit.
    """
    from guerdon.auditing.recorded_scores import RecordedRewardModel
    from guerdon.auditing.run import AuditCache, chosen_parts, hygiene_rows
    from guerdon.auditing.run import audit as run_audit
    from guerdon.auditing.saved_parts import SAVED_PARTS, remove_saved
    from guerdon.models.hygiene import hygiene_gate

    chosen = make(AuditOptions, options)
    chosen_parts(model, chosen)  # before anything is written, since it raises for unknown names
    cache = AuditCache() if out is None else _saved_cache(Path(out) / SAVED_PARTS, model, comparisons, chosen)
    hygiene = None
    if comparisons and isinstance(model, RewardModel) and not isinstance(model, RecordedRewardModel):
        if "hygiene" not in cache.parts:
            rows = hygiene_rows(comparisons, chosen.hygiene_rows)
            findings = (
                *hygiene_gate(model, *rows, chosen, **tokenization_of(model)),
                *_hidden_text(model, comparisons),
            )
            cache.parts["hygiene"] = Report("Hygiene", findings=findings)
        hygiene = cache.parts["hygiene"].findings
    sections = () if pushed is None else (pushed if isinstance(pushed, Report) else measure_overoptimization(pushed),)
    try:
        with _PartBars("audit") as bars:
            return run_audit(model, comparisons, chosen, hygiene=hygiene, sections=sections, cache=cache, progress=bars)
    except GuerdonError:
        if out is not None and not cache.scores:  # nothing to resume from: a mistake leaves no files behind
            remove_saved(Path(out) / SAVED_PARTS, list(cache.parts))
        raise


def compare(
    a: Any, b: Any, comparisons: Sequence[Comparison], *, names: tuple[str, str] = ("A", "B"), **options: Any
) -> Report:
    """Two models on the same comparisons: which is right more often, whose odds are better, and where they disagree.

    Keywords are AuditOptions, of which draws, bins, worst and seed apply.
    """
    from guerdon.auditing.compare import compare as run_compare

    with ProgressBar(2 * len(comparisons), "compare", "comparisons") as bar:
        return run_compare(a, b, comparisons, make(AuditOptions, options), names=names, progress=bar.update)


def compare_many(
    models: Sequence[Any], comparisons: Sequence[Comparison], *, names: Sequence[str] = (), **options: Any
) -> Report:
    """Three or more models on the same comparisons, every one with every other, corrected for the number of tests.

    Keywords are AuditOptions, as for `compare`. names: of the models; A, B, C, ... by default.
    """
    from guerdon.auditing.compare_many import compare_many as run_compare_many

    names = list(names) or [chr(ord("A") + i) for i in range(len(models))]
    with ProgressBar(len(models) * len(comparisons), "compare", "comparisons") as bar:
        return run_compare_many(models, comparisons, make(AuditOptions, options), names=names, progress=bar.update)


def read_scores(
    scores: str | Path, data: str | Path | Sequence[str | Path] = (), **options: Any
) -> tuple[list[Comparison], Any]:
    """A file of scores in; comparisons, and a model that repeats their scores, out: for `audit`, `compare` and `calibrate`.

    A row holds `rewards`, one per response, as `score_file` writes them; or scores_chosen and scores_rejected; or scores_first
    and scores_second; or log_odds, by how many nats the first response, or the chosen one, is better. It is a comparison
    itself, in any known format, or has the id of one in `data`, whose texts are then used. A row that is no comparison, such
    as one with an empty response, is set aside with a note. Keywords are ImportOptions; `columns` may name score fields too.
    """
    from guerdon.auditing.recorded_scores import recorded_model
    from guerdon.auditing.score_rows import SCORE_FIELDS, ScoredRow, has_texts, join_scores, rename_scores, unscored

    chosen = make(ImportOptions, options)
    columns = {ours: theirs for ours, theirs in chosen.columns.items() if ours not in SCORE_FIELDS}
    score_rows = list(rename_scores(_object_rows([scores], chosen), chosen.columns))
    sources = [data] if isinstance(data, str | Path) else list(data)
    has_own_texts = any(has_texts(row) for _, row in score_rows)
    if not sources and not has_own_texts:
        names = ", ".join(map(str, score_rows[0][1]))
        raise GuerdonError(
            f"{scores}: rows must hold texts, got fields {names}. Pass --data FILE, whose ids these rows have."
        )
    is_joined = bool(sources) and not has_own_texts
    if is_joined:
        texts = _object_rows(sources, chosen)
        rows = list(join_scores(texts, score_rows, columns.get("id", "id")))
        if not any(columns.get("id", "id") in row for _, row in texts):  # it names the field of the scores
            columns.pop("id", None)
    else:
        texts = [(place, unscored(row)) for place, row in score_rows]
        rows = [ScoredRow(place, row, row) for place, row in score_rows]
    options_of_texts = chosen.model_copy(update={"columns": columns})
    kept, notes = _usable_rows(str(scores), texts, rows, options_of_texts)
    comparisons, model = recorded_model(kept, str(scores), notes)
    if sources and not is_joined:
        comparisons = list(stream_comparisons(sources, options_of_texts))
    return comparisons, model


def _object_rows(sources: Sequence[str | Path], options: ImportOptions) -> list[tuple[str, Mapping[str, Any]]]:
    """The (location, row) pairs of files; a row that cannot be read is an error, for its scores would be missing."""

    def check(row: Any) -> Mapping[str, Any]:
        if not isinstance(row, Mapping):
            raise field_error("row", "an object with named fields", row, "Write JSONL or CSV.")
        return row

    return [
        (place, schema.parse_row(place, row, check))
        for source in sources
        for place, row in readers.read_rows(source, options)
    ]


def _usable_rows(
    source: str, texts: Sequence[tuple[str, Any]], rows: Sequence[ScoredRow], options: ImportOptions
) -> tuple[list[tuple[Comparison, ScoredRow]], tuple[Finding, ...]]:
    """The comparisons with their scores, and a note that says how many rows are none."""
    from guerdon.data.files import Rejects, count_rejects
    from guerdon.data.importers import import_rows

    rejects = Rejects()
    imported = count_rejects(import_rows(texts, options, for_evaluation=True), rejects)
    row_at = {place: row for (place, _), row in zip(texts, rows, strict=True)}
    kept = [(result, row_at[result.prompt.location]) for result in imported if isinstance(result, Comparison)]
    if not rejects.count:
        return kept, ()
    if not kept:
        raise GuerdonError(rejects.first_reason)
    evidence = f"{rejects.count:,} of {len(rows):,}; the first is {rejects.first_reason}".rstrip(".")
    note(f"{source}: rows set aside: {evidence}.")
    return kept, (Finding("note", "Rows of the score file were set aside", evidence),)


def write_card(report: Report, folder: str | Path) -> bool:
    """Write README.md of a saved model from its audit; False, and nothing written, if a README of the user's is there."""
    from guerdon.reporting.card import is_ours, model_card

    path = Path(folder) / "README.md"
    if path.exists() and not is_ours(path.read_text("utf-8", "replace")):
        return False
    card = Path(folder) / "reward.json"
    facts = readers.read_json(card) if card.is_file() else {}
    writers.write_text(
        path, model_card(report, facts if isinstance(facts, Mapping) else {}, name=name_of_model(folder))
    )
    return True


def write_report(report: Report, folder: str | Path) -> None:
    """report.html, report.md and report.json in a folder."""
    from guerdon.io.reports import to_json
    from guerdon.reporting import to_html, to_markdown

    path = Path(folder)
    writers.write_json(path / "report.json", to_json(report))
    writers.write_text(path / "report.md", to_markdown(report))
    writers.write_text(path / "report.html", to_html(report))


def tokenization_of(model: Any) -> dict[str, Any]:
    """Arguments of the hygiene gate: the tokens that one of Guerdon's models reads, and its special tokens. Empty for others."""
    inner = strip_calibration(model)
    if not isinstance(inner, ScalarRewardModel):
        return {}
    text = inner.text
    special = {name: getattr(text.tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    return {"tokenize": lambda p, r: text.encode([p], [r])[0].ids.tolist(), "special": special}


def _hidden_text(model: Any, comparisons: Sequence[Comparison]) -> list[Finding]:
    """What one of Guerdon's models does not see of the comparisons; empty for others."""
    inner = strip_calibration(model)
    return hidden_text_findings(inner.text, comparisons) if isinstance(inner, ScalarRewardModel) else []


def uncertainty_source(model: Any) -> dict[str, Any] | None:
    """Provenance of a model's uncertainty, which is no part of its fingerprint: it changes no score."""
    uncertainty = model.uncertainty if isinstance(model, ScalarRewardModel) else None
    return dict(uncertainty.provenance) if uncertainty else None


def _saved_cache(folder: Path, model: Any, comparisons: Sequence[Comparison], options: AuditOptions) -> AuditCache:
    """Scores and parts that an audit of this model on these comparisons saved in the folder; empty without a fingerprint."""
    from guerdon import __version__
    from guerdon.auditing.run import AuditCache
    from guerdon.auditing.saved_parts import SCORES, SavedReports, SavedScores

    fingerprint = getattr(model, "fingerprint", None)
    if fingerprint is None:
        return AuditCache()
    identity = digest([fingerprint, uncertainty_source(strip_calibration(model))])
    data = schema.comparisons_digest(comparisons)
    key = digest([identity, data, options.model_dump(exclude={"only", "skip"}), __version__])
    return AuditCache(SavedScores(folder / SCORES, identity), SavedReports(folder, key))


def name_of_model(place: str | Path) -> str:
    """What to call the model of a directory or of the hub: RUN for RUN/model, else the last part of its path."""
    path = Path(place)
    path = path.resolve() if path.exists() else path
    return path.parent.name if path.name == "model" else path.name


class _PartBars:
    """Progress of an audit: one bar per part on a terminal, one line per part elsewhere."""

    def __init__(self, label: str) -> None:
        self.label, self.part = label, ""
        self.bar: ProgressBar | None = None

    def __enter__(self) -> Self:
        return self

    def __call__(self, part: str, done: int, total: int | None) -> None:
        """`done` of `total` texts or comparisons of a part are scored."""
        if part != self.part or self.bar is None:
            self.__exit__()
            self.part = part
            self.bar = ProgressBar(total, f"{self.label}: {part}", "texts" if total is None else "comparisons")
            if not self.bar.is_on_terminal:
                note(f"{self.label}: {part}")
        self.bar.advance(done - self.bar.done)

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()
