"""Assay trains reward models, proves how far each can be trusted, and says how hard it may be pushed.

The public names, imported when first used: `import assay` loads no torch.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    **dict.fromkeys(
        ("read", "write", "check", "split", "train", "calibrate", "audit", "score", "load", "save", "doctor", "quickstart",
         "policy", "best_of_n", "optimize", "overoptimise", "tax", "benchmark", "compare", "read_scores",
         "measure_uncertainty", "ensemble", "train_ensemble", "warm"),
        "assay.api",
    ),
    **dict.fromkeys(
        ("AssayError", "Comparison", "Estimate", "Judge", "Message", "Policy", "Report", "Response", "RewardModel",
         "Rollouts", "Scores", "Verdict"), "assay.contracts",
    ),
    "Config": "assay.config",
    "check_reward_model": "assay.testing",
    "to_html": "assay.report",
    "to_markdown": "assay.report",
}  # fmt: skip

__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:
    from assay.api import (
        audit,
        benchmark,
        best_of_n,
        calibrate,
        check,
        compare,
        doctor,
        ensemble,
        load,
        measure_uncertainty,
        optimize,
        overoptimise,
        policy,
        quickstart,
        read,
        read_scores,
        save,
        score,
        split,
        tax,
        train,
        train_ensemble,
        warm,
        write,
    )
    from assay.config import Config
    from assay.contracts import (
        AssayError,
        Comparison,
        Estimate,
        Judge,
        Message,
        Policy,
        Report,
        Response,
        RewardModel,
        Rollouts,
        Scores,
        Verdict,
    )
    from assay.report import to_html, to_markdown
    from assay.testing import check_reward_model


class _Verbs(types.ModuleType):
    """This module, on which a verb stays a verb: importing the stage assay.train does not put it in the place of train()."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Verbs


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'assay' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
