"""The versioned JSON files of a saved reward model: reward.json of a single model, ensemble.json of an ensemble."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guerdon.contracts import GuerdonError
from guerdon.io.format_version import upgrade_format
from guerdon.models.card import Calibration, Card
from guerdon.models.ensemble import MEAN, CommonScale
from guerdon.models.ensemble_rules import EnsembleRule, ensemble_rule

CARD_FILE = "reward.json"
CARD_FORMAT = 2
ENSEMBLE_FILE = "ensemble.json"  # a directory that holds it is not a model but a directory of models
ENSEMBLE_FORMAT = 2
RESTORE = "Restore it from where the model was saved."


# ---- reward.json -------------------------------------------------------------------------------------------------


def read_card(folder: str | Path) -> Card | None:
    """The card of a model's directory; None if it has none."""
    file = Path(folder) / CARD_FILE
    if not file.is_file():
        return None
    try:
        return card_from_json(json.loads(file.read_text("utf-8")), str(file))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise GuerdonError(f"{file}: not valid JSON ({error}). {RESTORE}") from None


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
    body = upgrade_format(_object(values, file), file, CARD_FORMAT, {1: _upgrade_card_1})
    if unknown := set(body) - {f.name for f in dataclasses.fields(Card)}:
        raise GuerdonError(
            f"{file}: unknown key {sorted(unknown)[0]!r}. Delete it, or upgrade with `pip install -U guerdon`."
        )
    body["calibration"] = Calibration.from_dict(body.get("calibration", {}))
    for name in ("attributes", "attribute_weights"):
        body[name] = tuple(body.get(name, ()))
    body["self_test"] = tuple(tuple(row) for row in body.get("self_test", ()))
    return Card(**body)


def _upgrade_card_1(values: dict[str, Any]) -> dict[str, Any]:
    """Format 2 hashes the training data by content. The older hash, of Python's repr, could not be compared: it is dropped."""
    return {**values, "data_hash": ""}


# ---- ensemble.json -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of ensemble.json.

    members: names of the members' folders. shared_backbone: whether their backbones are one file. calibration: of the whole.
    """

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
    try:
        return manifest_from_json(json.loads(file.read_text("utf-8")), str(file))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise GuerdonError(f"{file}: not a readable ensemble ({reason:.100}). {RESTORE}") from None


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
    """The inverse of manifest_as_json, for any format so far. KeyError or TypeError if a key is missing or of a wrong type."""
    body = upgrade_format(_object(values, file), file, ENSEMBLE_FORMAT, {1: _upgrade_manifest_1})
    names, scale = tuple(body["members"]), body["scale"]
    if not names or any(name != Path(name).name or name in (".", "..") for name in names):
        raise GuerdonError(f"{file}: members must be names of folders beside it, got {names!r:.80}. {RESTORE}")
    return Manifest(
        names,
        bool(body["shared_backbone"]),
        ensemble_rule(**body["rule"]),
        scale and CommonScale(tuple(scale["center"]), tuple(scale["spread"]), scale["provenance"]),
        Calibration.from_dict(body["calibration"]),
    )


def _upgrade_manifest_1(values: dict[str, Any]) -> dict[str, Any]:
    """Format 2 renamed shared_trunk to shared_backbone, and scale's centre to center."""
    renamed = {"shared_trunk": "shared_backbone", "centre": "center"}
    scale = values["scale"] and {renamed.get(key, key): value for key, value in values["scale"].items()}
    return {**{renamed.get(key, key): value for key, value in values.items()}, "scale": scale}


def _object(values: Any, file: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise GuerdonError(f"{file}: must hold an object, got {values!r:.80}. {RESTORE}")
    return dict(values)
