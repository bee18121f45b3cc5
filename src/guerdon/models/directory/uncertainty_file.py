"""The file that keeps a model's measured uncertainty next to its weights."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from guerdon.contracts import GuerdonError
from guerdon.io.format_version import upgrade_format
from guerdon.models.laplace import uncertainty_fingerprint
from guerdon.models.uncertainty import Uncertainty

if TYPE_CHECKING:
    from guerdon.models.reward_model import ScalarRewardModel

log = logging.getLogger("guerdon")

# In a subfolder, because vLLM and SGLang read every *.safetensors file next to the weights as weights.
UNCERTAINTY_FILE: Final = Path("guerdon") / "uncertainty.safetensors"
UNCERTAINTY_FORMAT: Final = 3
OLD_FILE: Final = Path("assay") / "uncertainty.safetensors"  # format 1, whose metadata key was "assay" too
SAMPLED: Final = "sampled:"  # before a fingerprint of format 2, which stays with the measurement when it is saved again
TENSORS: Final = ("mean", "precision", "covariance", "distance", "weight")
MEASURE: Final = "`guerdon uncertainty MODEL --data train.jsonl --held-out calibrate.jsonl`"


def read_uncertainty(folder: str | Path) -> Uncertainty | None:
    """The uncertainty stored in a model's directory; None if none is."""
    from safetensors import SafetensorError, safe_open

    file = next((path for name in (UNCERTAINTY_FILE, OLD_FILE) if (path := Path(folder) / name).is_file()), None)
    if file is None:
        return None
    try:
        with safe_open(str(file), framework="numpy") as tensors:
            metadata = tensors.metadata() or {}
            header = json.loads(metadata["guerdon"] if "guerdon" in metadata else metadata["assay"])
            values = upgrade_format(header, str(file), UNCERTAINTY_FORMAT, {1: _upgrade_1, 2: _upgrade_2})
            return Uncertainty(
                **{name: tensors.get_tensor(name) for name in TENSORS},
                fingerprint=str(values["fingerprint"]),
                provenance=dict(values["provenance"]),
            )
    except GuerdonError:
        raise
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise GuerdonError(f"{file}: not readable ({reason}). Delete it, or write it again with {MEASURE}.") from None


def read_uncertainty_of(model: ScalarRewardModel, folder: str | Path) -> Uncertainty | None:
    """The uncertainty stored for this model. An error if it was measured on other weights or with another template."""
    uncertainty = read_uncertainty(folder)
    if uncertainty is not None and not _belongs_to(uncertainty, model):
        raise GuerdonError(
            f"{Path(folder) / UNCERTAINTY_FILE}: was measured on other weights or with another chat template. "
            f"Delete it, or measure again with {MEASURE}."
        )
    if uncertainty is None and model.card.uncertainty:
        log.warning(
            "%s is missing, though reward.json names it; scores have no std and no shift_p",
            Path(folder) / UNCERTAINTY_FILE,
        )
    return uncertainty


def _belongs_to(uncertainty: Uncertainty, model: ScalarRewardModel) -> bool:
    stored = uncertainty.fingerprint
    if stored.startswith(SAMPLED):
        return stored.removeprefix(SAMPLED) == uncertainty_fingerprint(model, is_sampled=True)
    return stored == uncertainty_fingerprint(model)


def write_uncertainty(uncertainty: Uncertainty, folder: Path) -> None:
    """Write the file into a directory that is being filled."""
    (folder / UNCERTAINTY_FILE).parent.mkdir(exist_ok=True)
    (folder / UNCERTAINTY_FILE).write_bytes(uncertainty_as_bytes(uncertainty))


def uncertainty_as_bytes(uncertainty: Uncertainty) -> bytes:
    """The file's content: five float64 tensors, and the rest as JSON in the metadata."""
    from safetensors.numpy import save

    header = {
        "version": UNCERTAINTY_FORMAT,
        "fingerprint": uncertainty.fingerprint,
        "provenance": dict(uncertainty.provenance),
    }
    tensors = {name: np.ascontiguousarray(getattr(uncertainty, name), np.float64) for name in TENSORS}
    return save(tensors, {"guerdon": json.dumps(header)})


def _upgrade_1(header: dict[str, Any]) -> dict[str, Any]:
    """Format 2 moved the file and renamed its metadata key; the header is the same."""
    return header


def _upgrade_2(header: dict[str, Any]) -> dict[str, Any]:
    """Format 3 has a fingerprint of all values; format 2 took the first values of each weight."""
    return {**header, "fingerprint": f"{SAMPLED}{header.get('fingerprint')}"}
