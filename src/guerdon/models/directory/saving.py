"""Save a reward model, calibrated or not, single or an ensemble, as a directory that every reader loads.

An ensemble is a directory of model directories, each of which loads alone everywhere, with ensemble.json next to them. Heads that
share a backbone are written as members whose backbone is one linked file.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from guerdon.contracts import GuerdonError, RewardModel
from guerdon.io import writers
from guerdon.io.directories import write_directory
from guerdon.models.calibrated import CalibratedModel, strip_calibration
from guerdon.models.card import Calibration, Card
from guerdon.models.directory import shared_backbone
from guerdon.models.directory.formats import (
    CARD_FILE,
    ENSEMBLE_FILE,
    Manifest,
    card_as_json,
    manifest_as_json,
    read_manifest,
    write_card,
    write_manifest,
)
from guerdon.models.directory.layout import write_model_files
from guerdon.models.directory.uncertainty_file import (
    OLD_FILE,
    UNCERTAINTY_FILE,
    uncertainty_as_bytes,
    write_uncertainty,
)
from guerdon.models.engine.classifier import linear_head, merge_adapters, single_head
from guerdon.models.ensemble import Ensemble
from guerdon.models.reward_model import ScalarRewardModel


def save(model: RewardModel, folder: str | Path) -> None:
    """Write a model's whole directory, or nothing. Calibration goes into reward.json and never into the weights.

    Several heads on one backbone are written as an ensemble.
    """
    inner = strip_calibration(model)
    calibration = model.calibration if isinstance(model, CalibratedModel) else None
    if isinstance(inner, Ensemble):
        return _save_ensemble(inner, Path(folder), calibration or Calibration())
    if not isinstance(inner, ScalarRewardModel):
        raise GuerdonError(
            f"save: the model must be one that Guerdon trained or loaded, got {type(inner).__name__}. "
            "Save it with the library it came from."
        )
    if calibration is not None:
        inner = inner.with_card(calibration=calibration)
    if inner.heads > 1:
        return _save_ensemble(Ensemble([inner]), Path(folder), Calibration())
    return write_directory(Path(folder), lambda scratch: _write_single(inner, scratch))


def save_calibration(model: CalibratedModel, folder: str | Path, out: str | Path | None = None) -> None:
    """Store a calibration. In place only reward.json or ensemble.json is rewritten; in another folder the whole model is."""
    inner = model.model
    is_multi_head = isinstance(inner, ScalarRewardModel) and inner.heads > 1  # each head has a reward.json of its own
    if is_multi_head or _is_elsewhere(folder, out):
        save(model, out or folder)
    elif isinstance(inner, Ensemble):
        manifest = dataclasses.replace(read_manifest(folder), calibration=model.calibration)
        writers.write_json(Path(folder) / ENSEMBLE_FILE, manifest_as_json(manifest))
    else:
        assert isinstance(inner, ScalarRewardModel)
        card = dataclasses.replace(inner.card, calibration=model.calibration)
        writers.write_json(Path(folder) / CARD_FILE, card_as_json(card))


def save_uncertainty(model: CalibratedModel, folder: str | Path, out: str | Path | None = None) -> None:
    """Store a measured uncertainty. In place no weight is rewritten; in another folder the whole model is."""
    inner = model.model
    assert isinstance(inner, ScalarRewardModel)
    assert inner.uncertainty is not None
    if out is not None and _is_elsewhere(folder, out):
        return save(model, out)
    with writers.atomic_write(Path(folder) / UNCERTAINTY_FILE, "wb") as file:
        file.write(uncertainty_as_bytes(inner.uncertainty))
    (Path(folder) / OLD_FILE).unlink(missing_ok=True)
    return save_calibration(model, folder)


def _is_elsewhere(folder: str | Path, out: str | Path | None) -> bool:
    """Whether the result goes to another directory than the model's own, whatever the two paths look like."""
    return out is not None and os.path.realpath(out) != os.path.realpath(folder)


def save_members(
    folders: Sequence[str | Path], out: str | Path, ensemble: Ensemble, calibration: Calibration | None = None
) -> None:
    """Write saved models as an ensemble, with the rule and the scale of `ensemble`.

    Files are copied, not linked: a tool that later writes into a member would change the model that it came from.
    """
    names = _member_names(len(folders))
    manifest = Manifest(names, False, ensemble.rule, ensemble.scale, calibration or Calibration())

    def fill(scratch: Path) -> None:
        for folder, name in zip(folders, names, strict=True):
            (scratch / name).mkdir()
            for file in sorted(path for path in Path(folder).iterdir() if path.is_file()):
                shutil.copyfile(file, scratch / name / file.name)
        write_manifest(manifest, scratch)

    write_directory(Path(out), fill)


def _save_ensemble(ensemble: Ensemble, folder: Path, calibration: Calibration) -> None:
    models = [_member(model, number) for number, model in enumerate(ensemble.models, start=1)]
    names = _member_names(sum(model.heads for model in models))
    is_shared = len(models) == 1 and len(names) > 1
    manifest = Manifest(names, is_shared, ensemble.rule, ensemble.scale, calibration)

    def fill(scratch: Path) -> None:
        folders = iter([scratch / name for name in names])
        for model in models:
            _write_members(model, [next(folders) for _ in range(model.heads)])
        write_manifest(manifest, scratch)

    write_directory(folder, fill)


def _member_names(count: int) -> tuple[str, ...]:
    return tuple(f"member-{i + 1}" for i in range(count))


def _member(model: RewardModel, number: int) -> ScalarRewardModel:
    """A member with its own calibration on its card."""
    inner = strip_calibration(model)
    if not isinstance(inner, ScalarRewardModel):
        raise GuerdonError(
            f"ensemble: member {number} must be a model that Guerdon trained or loaded, got {type(inner).__name__}. "
            "Save it with the library it came from."
        )
    return inner.with_card(calibration=model.calibration) if isinstance(model, CalibratedModel) else inner


def _write_single(model: ScalarRewardModel, folder: Path) -> None:
    """Write a model of one head into a directory that exists."""
    uncertainty = model.uncertainty
    card = dataclasses.replace(model.card, uncertainty=dict(uncertainty.provenance) if uncertainty else {})
    write_model_files(merge_adapters(model.network.classifier), model.text, folder)
    write_card(card, folder)
    if uncertainty:
        write_uncertainty(uncertainty, folder)


def _write_members(model: ScalarRewardModel, folders: Sequence[Path]) -> None:
    """Write each head of a model as a directory of its own."""
    first, *others = folders
    first.mkdir()
    if not others:
        return _write_single(model, first)
    cards = _cards_of_heads(model)
    classifier = merge_adapters(model.network.classifier)
    head = linear_head(classifier)
    with single_head(classifier, 0):
        write_model_files(classifier, model.text, first)
    write_card(cards[0], first)
    shard = shared_backbone.split_off_head(first, classifier)
    for row, folder in enumerate(others, start=1):
        shared_backbone.link_files(first, folder, but=(shard, CARD_FILE))
        shared_backbone.write_head(head, row, classifier, folder / shard)
        write_card(cards[row], folder)
    return None


def _cards_of_heads(model: ScalarRewardModel) -> list[Card]:
    """The card of each head, with its own scores of the self-test."""
    card = dataclasses.replace(model.card, uncertainty={})  # it was measured on the mean of the heads
    if not card.self_test:
        return [card] * model.heads
    prompts, responses = [prompt for prompt, _, _ in card.self_test], [response for _, response, _ in card.self_test]
    members = model.score(prompts, responses).members
    assert members is not None
    tests = [
        tuple(
            (prompt, response, float(score)) for prompt, response, score in zip(prompts, responses, member, strict=True)
        )
        for member in members
    ]
    return [dataclasses.replace(card, self_test=test) for test in tests]
