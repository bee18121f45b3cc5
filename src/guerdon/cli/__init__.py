"""The command line: one small function per command that reads, calls a verb of `guerdon.api`, and writes.

Commands end with any number of overrides such as train.lr=1e-5.
"""

# Importing a module registers its commands, in the order in which --help lists them.
from guerdon.cli import (  # noqa: F401, I001
    pipeline,
    data,
    inspection,
    store,
    conversion,
    aggregate,
    selection,
    judging,
    annotation,
    annotation_results,
    constitution,
    rubric,
    training,
    calibration,
    auditing,
    benchmarks,
    scoring,
    ensembles,
    sampling,
    optimization,
    overoptimization,
    loop,
    alignment_tax,
    saved_models,
    serving,
    handover,
)
from guerdon.cli.app import main

__all__ = ["main"]
