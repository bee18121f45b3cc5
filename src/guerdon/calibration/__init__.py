"""A reward model and held-out comparisons in; the same model with calibrated odds, and a report of what changed, out."""

from guerdon.calibration.isotonic import fit_isotonic_judge
from guerdon.calibration.temperature import fit_calibrated_model

__all__ = ["fit_calibrated_model", "fit_isotonic_judge"]
