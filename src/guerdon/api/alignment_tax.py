"""What a policy lost in other abilities while it was optimized."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guerdon.api.overoptimization import read_run_checks, trajectory_of_run
from guerdon.config import Config, build
from guerdon.contracts import Estimate, GuerdonError, Report
from guerdon.errors import show_value
from guerdon.io import readers, writers

if TYPE_CHECKING:
    import numpy as np

    from guerdon.alignment_tax.compare import Gain
    from guerdon.auditing.overoptimization import Trajectory
    from guerdon.models.policy import LanguagePolicy


def measure_alignment_tax(
    place: Any,
    *,
    reference: Any = None,
    also: Sequence[str | Path] = (),
    texts: Sequence[str] | str | Path | None = None,
    out: str | Path | None = None,
    config: Config | None = None,
    **options: Any,
) -> Report:
    """What an optimized policy does less well than its initial policy.

    `place` is a run folder of `optimize`, which knows its initial policy and its gains; a policy's directory or hub name; or a
    loaded policy, whose reference is itself without adapters unless another is given. `also` are more of the first two.
    `texts` are held-out texts or a file of them. With `out`, each policy's results.json in lm-evaluation-harness's form
    goes there. Keywords are TaxOptions; the config's policy options load the models.
    """
    from guerdon.alignment_tax.compare import compare, results
    from guerdon.alignment_tax.run import measure_policies
    from guerdon.models.directory.policies import load_policy
    from guerdon.models.policy import LanguagePolicy

    settings = build((config or Config()).model_dump(exclude_unset=True), {"tax": options}, runs=["policy", "tax"])
    chosen = settings.tax

    def load(source: Any) -> LanguagePolicy:
        if isinstance(source, LanguagePolicy):
            return source
        base = Path(source) / "policy" if (Path(source) / "policy").is_dir() else source
        return load_policy(settings.policy.model_copy(update={"base": str(base)}))

    def named_policies() -> Iterator[tuple[str, LanguagePolicy]]:
        for source in (place, *also):
            policy = load(source)
            yield policy.name or "policy" if isinstance(source, LanguagePolicy) else str(source), policy

    held_out = _read_texts(texts) if isinstance(texts, str | Path) else texts
    initial = reference or (None if isinstance(place, LanguagePolicy) else _initial_policy(Path(place)))
    measured = measure_policies(None if initial is None else load(initial), named_policies(), chosen, held_out)
    runs = [source for source in (place, *also) if not isinstance(source, LanguagePolicy)]
    gains = {str(run): _gain(Path(run)) for run in runs}
    if out is not None:
        for i, (name, after) in enumerate(measured.afters.items()):
            folder = Path(out) if len(measured.afters) == 1 else Path(out) / f"{i}-{Path(name).name}"
            writers.write_json(folder / "results.json", results(measured.before, after))
    known = {name: gain for name, gain in gains.items() if gain is not None}
    return compare(measured.before, measured.afters, chosen, gains=known, distances=measured.distances)


def gain_of_run(run: Trajectory, update: int | None = None) -> Gain:
    """What a run had gained at the check of an update (the last by default) over its first check, prompt by prompt."""
    from guerdon.alignment_tax.compare import Gain
    from guerdon.formulas import drift
    from guerdon.formulas.clustered import clustered_mean

    check = len(run.updates) - 1 if update is None else run.updates.index(update)
    tables = [run.proxy, run.kl, *([] if run.gold is None else [run.gold])]
    proxy, kl, *rest = drift.complete_prompts(run.names, *tables)

    def mean(values: np.ndarray) -> Estimate:
        return Estimate(*clustered_mean(values, range(len(values))))

    gold = mean(rest[0][check] - rest[0][0]) if rest else None
    return Gain(mean(proxy[check] - proxy[0]), mean(kl[check]), gold, run.updates[check])


def _gain(folder: Path) -> Gain | None:
    """The gain of a run at the update that its policy's weights are from; None if this is no run, or one without checks."""
    from guerdon.optimization.monitor import best_update

    checks = read_run_checks(folder)
    if len(checks) < 2:
        return None
    keep = build(readers.read_config(folder / "config.yaml")).optimize.keep
    update = best_update(checks) if keep == "best_gold" else checks[-1].update
    return gain_of_run(trajectory_of_run(folder, checks), update)


def _initial_policy(folder: Path) -> str | None:
    """The policy that a run folder started from."""
    if not (folder / "config.yaml").is_file() or not (folder / "policy").is_dir():
        raise GuerdonError(
            f"{folder}: must be a run folder of `guerdon optimize` if no reference is given, got one without "
            "config.yaml and policy/. Pass --reference with the initial policy."
        )
    return str(build(readers.read_config(folder / "config.yaml")).policy.base)


def _read_texts(place: str | Path) -> list[str]:
    """Held-out texts: the `text` of each row of a JSONL file or table, or the paragraphs of a .txt file."""
    path = Path(place)
    if path.suffix == ".txt":
        return [" ".join(part.split()) for part in path.read_text("utf-8").split("\n\n") if part.strip()]
    texts = []
    for where, row in readers.read_rows(path):
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise GuerdonError(
                f'{where}: a held-out text must be a row with text, got {show_value(row)}. Write {{"text": ...}}.'
            )
        texts.append(row["text"])
    return texts
