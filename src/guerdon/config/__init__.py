"""Every option of every stage, one sentence each: defaults, then a recipe, then a YAML file, then dotted overrides."""

from guerdon.config.annotation import AnnotationOptions
from guerdon.config.auditing import AuditOptions, BenchmarkOptions, ScoreOptions, TaxOptions
from guerdon.config.base import Options
from guerdon.config.build import Config, QuickstartOptions, build, known_keys, make
from guerdon.config.data import (
    AggregateOptions,
    CheckOptions,
    ExportOptions,
    ImportOptions,
    InspectOptions,
    SelectOptions,
    SplitOptions,
)
from guerdon.config.feedback import ConstitutionOptions, DraftOptions
from guerdon.config.judging import JudgeOptions
from guerdon.config.loop import LoopOptions
from guerdon.config.optimization import BestOfNOptions, OptimizeOptions, PolicyOptions
from guerdon.config.serving import ServingOptions
from guerdon.config.training import CalibrateOptions, ModelOptions, TrainOptions, UncertaintyOptions

__all__ = [
    "AggregateOptions",
    "AnnotationOptions",
    "AuditOptions",
    "BenchmarkOptions",
    "BestOfNOptions",
    "CalibrateOptions",
    "CheckOptions",
    "Config",
    "ConstitutionOptions",
    "DraftOptions",
    "ExportOptions",
    "ImportOptions",
    "InspectOptions",
    "JudgeOptions",
    "LoopOptions",
    "ModelOptions",
    "OptimizeOptions",
    "Options",
    "PolicyOptions",
    "QuickstartOptions",
    "ScoreOptions",
    "SelectOptions",
    "ServingOptions",
    "SplitOptions",
    "TaxOptions",
    "TrainOptions",
    "UncertaintyOptions",
    "build",
    "known_keys",
    "make",
]
