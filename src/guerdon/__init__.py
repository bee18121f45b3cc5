"""Guerdon trains reward models, proves how far each can be trusted, and says how hard it may be pushed.

The public names, imported when first used: `import guerdon` loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0.dev0"

_NAMES = {
    "guerdon.api.data": (
        "ComparisonFiles",
        "Fixed",
        "aggregate",
        "check",
        "fix",
        "inspect",
        "read",
        "split",
        "write",
    ),
    "guerdon.api.conversion": (
        "Conversion",
        "convert",
    ),
    "guerdon.api.selection": (
        "Selection",
        "select",
    ),
    "guerdon.api.store": (
        "add_to_store",
        "create_store",
        "export_store",
        "import_prefs",
        "merge_stores",
        "store_status",
        "verify_store",
    ),
    "guerdon.api.rubric": (
        "audit_rubric",
        "draft_rubric",
        "lint_rubric",
        "load_rubric",
        "rubric_model",
    ),
    "guerdon.api.training": ("train",),
    "guerdon.api.ensembles": (
        "ensemble",
        "train_ensemble",
        "warm",
    ),
    "guerdon.api.calibration": ("calibrate",),
    "guerdon.api.uncertainty": ("measure_uncertainty",),
    "guerdon.api.auditing": (
        "audit",
        "compare",
        "compare_many",
        "read_scores",
    ),
    "guerdon.api.benchmarks": ("benchmark",),
    "guerdon.api.judges": (
        "judge_rewards",
        "load_judge",
    ),
    "guerdon.api.saved_models": (
        "doctor",
        "load",
        "save",
    ),
    "guerdon.api.scoring": (
        "score",
        "score_file",
    ),
    "guerdon.api.optimization": (
        "best_of_n",
        "load_policy",
        "optimize",
        "sample",
    ),
    "guerdon.api.overoptimization": ("measure_overoptimization",),
    "guerdon.api.alignment_tax": ("measure_alignment_tax",),
    "guerdon.api.pipeline": ("quickstart",),
    "guerdon.api.loop": (
        "loop",
        "pick_checkpoint",
    ),
    "guerdon.config": ("Config",),
    "guerdon.contracts": (
        "Comparison",
        "Estimate",
        "GuerdonError",
        "Judge",
        "Message",
        "Policy",
        "Preference",
        "Prompt",
        "Report",
        "Response",
        "RewardModel",
        "Rollouts",
        "Scores",
        "ToolCall",
    ),
    "guerdon.reporting": (
        "to_html",
        "to_markdown",
    ),
    "guerdon.testing": ("check_reward_model",),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:
    from guerdon.api.alignment_tax import measure_alignment_tax
    from guerdon.api.auditing import audit, compare, compare_many, read_scores
    from guerdon.api.benchmarks import benchmark
    from guerdon.api.calibration import calibrate
    from guerdon.api.conversion import Conversion, convert
    from guerdon.api.data import ComparisonFiles, Fixed, aggregate, check, fix, inspect, read, split, write
    from guerdon.api.ensembles import ensemble, train_ensemble, warm
    from guerdon.api.judges import judge_rewards, load_judge
    from guerdon.api.loop import loop, pick_checkpoint
    from guerdon.api.optimization import best_of_n, load_policy, optimize, sample
    from guerdon.api.overoptimization import measure_overoptimization
    from guerdon.api.pipeline import quickstart
    from guerdon.api.rubric import audit_rubric, draft_rubric, lint_rubric, load_rubric, rubric_model
    from guerdon.api.saved_models import doctor, load, save
    from guerdon.api.scoring import score, score_file
    from guerdon.api.selection import Selection, select
    from guerdon.api.store import (
        add_to_store,
        create_store,
        export_store,
        import_prefs,
        merge_stores,
        store_status,
        verify_store,
    )
    from guerdon.api.training import train
    from guerdon.api.uncertainty import measure_uncertainty
    from guerdon.config import Config
    from guerdon.contracts import (
        Comparison,
        Estimate,
        GuerdonError,
        Judge,
        Message,
        Policy,
        Preference,
        Prompt,
        Report,
        Response,
        RewardModel,
        Rollouts,
        Scores,
        ToolCall,
    )
    from guerdon.reporting import to_html, to_markdown
    from guerdon.testing import check_reward_model


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'guerdon' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
