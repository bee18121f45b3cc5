"""The versioned JSON files of a saved reward model: reward.json of a single model, ensemble.json of an ensemble."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter

from guerdon.contracts import GuerdonError
from guerdon.errors import field_error
from guerdon.io.format_version import upgrade_format
from guerdon.io.json_files import parse_object, read_object
from guerdon.models.card import AS_STORED, Calibration, Card
from guerdon.models.ensemble import MEAN, CommonScale
from guerdon.models.ensemble_rules import EnsembleRule, ensemble_rule

CARD_FILE = "reward.json"
CARD_FORMAT = 2
ENSEMBLE_FILE = "ensemble.json"  # a directory that holds it is not a model but a directory of models
ENSEMBLE_FORMAT = 2
RESTORE_CARD = "Restore it from where the model was saved, or delete it to read raw rewards."
RESTORE_MANIFEST = "Restore it from where the ensemble was saved."


# ---- reward.json -------------------------------------------------------------------------------------------------


def read_card(folder: str | Path) -> Card | None:
    """The card of a model's directory; None if it has none."""
    file = Path(folder) / CARD_FILE
    return card_from_json(read_object(file, RESTORE_CARD), str(file)) if file.is_file() else None


def write_card(card: Card, folder: Path) -> None:
    """Write reward.json into a directory that exists."""
    (folder / CARD_FILE).write_text(json.dumps(card_as_json(card), indent=2) + "\n", "utf-8")


def card_as_json(card: Card) -> dict[str, Any]:
    """The content of reward.json."""
    values = {f.name: getattr(card, f.name) for f in dataclasses.fields(card)}
    if not card.uncertainty:
        del values["uncertainty"]
    return {"version": CARD_FORMAT, **values, "calibration": card.calibration.as_dict()}


def card_from_json(values: Any, file: str) -> Card:
    """The inverse of card_as_json, for any format so far. An unknown key is an error."""
    body = upgrade_format(values, file, CARD_FORMAT, {1: _upgrade_card_1})
    card = parse_object(body, TypeAdapter(Card), file, RESTORE_CARD)
    with _names_file(file):
        Calibration.from_dict(body.get("calibration", Calibration().as_dict()))  # a missing key is an error
    return card


@contextmanager
def _names_file(file: str) -> Iterator[None]:
    """Inside the block, errors begin with the file."""
    try:
        yield
    except GuerdonError as error:
        raise GuerdonError(f"{file}: {error}") from None


def _upgrade_card_1(values: dict[str, Any]) -> dict[str, Any]:
    """Format 2 hashes the training data by content. The older hash, of Python's repr, could not be compared: it is dropped."""
    return {**values, "data_hash": ""}


# ---- ensemble.json -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of ensemble.json.

    members: names of the members' folders. shared_backbone: whether their backbones are one file. calibration: of the whole.
    """

    __pydantic_config__: ClassVar[ConfigDict] = AS_STORED

    members: tuple[str, ...]
    shared_backbone: bool = False
    rule: EnsembleRule = MEAN
    scale: CommonScale | None = None
    calibration: Calibration = field(default_factory=Calibration)


def is_ensemble(folder: str | Path) -> bool:
    """Whether the directory holds the members of an ensemble."""
    return (Path(folder) / ENSEMBLE_FILE).is_file()


def read_manifest(folder: str | Path) -> Manifest:
    """The manifest of an ensemble's directory."""
    file = Path(folder) / ENSEMBLE_FILE
    return manifest_from_json(read_object(file, RESTORE_MANIFEST), str(file))


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write ensemble.json into a directory that exists."""
    (folder / ENSEMBLE_FILE).write_text(json.dumps(manifest_as_json(manifest), indent=2) + "\n", "utf-8")


def manifest_as_json(manifest: Manifest) -> dict[str, Any]:
    """The content of ensemble.json."""
    scale = manifest.scale and {
        **dataclasses.asdict(manifest.scale),
        "provenance": dict(manifest.scale.provenance),
    }
    return {
        "version": ENSEMBLE_FORMAT,
        "members": list(manifest.members),
        "shared_backbone": manifest.shared_backbone,
        "rule": dataclasses.asdict(manifest.rule),
        "scale": scale,
        "calibration": manifest.calibration.as_dict(),
    }


def manifest_from_json(values: Any, file: str) -> Manifest:
    """The inverse of manifest_as_json, for any format so far."""
    body = upgrade_format(values, file, ENSEMBLE_FORMAT, {1: _upgrade_manifest_1})
    if missing := [f.name for f in dataclasses.fields(Manifest) if f.name not in body]:
        raise GuerdonError(f"{file}: {missing[0]} is missing. {RESTORE_MANIFEST}")
    manifest = parse_object(body, TypeAdapter(Manifest), file, RESTORE_MANIFEST)
    names = manifest.members
    if not names or any(name != Path(name).name or name in (".", "..") for name in names):
        raise field_error(f"{file}: members", "names of folders next to it", list(names), RESTORE_MANIFEST)
    if manifest.scale and len(manifest.scale.spread) != len(names):
        raise field_error(f"{file}: scale.spread", "one per member", list(manifest.scale.spread), RESTORE_MANIFEST)
    with _names_file(file):
        Calibration.from_dict(body["calibration"])  # a missing key is an error
        return dataclasses.replace(manifest, rule=ensemble_rule(manifest.rule.name, manifest.rule.strength))


def _upgrade_manifest_1(values: dict[str, Any]) -> dict[str, Any]:
    """Format 2 renamed shared_trunk to shared_backbone, and scale's centre to center."""
    renamed = {"shared_trunk": "shared_backbone", "centre": "center"}
    scale = values.get("scale")
    if isinstance(scale, Mapping):
        scale = {renamed.get(key, key): value for key, value in scale.items()}
    return {**{renamed.get(key, key): value for key, value in values.items()}, "scale": scale}
