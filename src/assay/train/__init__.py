"""Comparisons in, a reward model out."""

from assay.train.loop import TrainResult, fit

__all__ = ["TrainResult", "fit"]
