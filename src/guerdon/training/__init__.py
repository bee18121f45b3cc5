"""Comparisons in, a reward model out."""

from guerdon.training.loop import TrainResult, fit

__all__ = ["TrainResult", "fit"]
