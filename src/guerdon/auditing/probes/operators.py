"""The table of operators: cues, which must not matter; substance, which must; placebos, which nobody would notice.

A new operator is one function and one entry in the file of its family. Operators are pure functions of a text and a seed. Edits
of prose leave code, addresses and formulas alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from guerdon.auditing.probes.edit import Operator
from guerdon.auditing.probes.format_edits import FORMAT_CUES
from guerdon.auditing.probes.gaming_edits import GAMING_CUES
from guerdon.auditing.probes.length_edits import LENGTH_CUES
from guerdon.auditing.probes.placebo_edits import PLACEBO_EDITS
from guerdon.auditing.probes.style_edits import PERSONA_CUES, STYLE_CUES
from guerdon.auditing.probes.substance_edits import SUBSTANCE_EDITS

__all__ = ["CUES", "ERRORS", "PLACEBOS", "SUBSTANCE"]


def _by_name(operators: Iterable[Operator]) -> dict[str, Operator]:
    return {operator.name: operator for operator in operators}


CUES: Mapping[str, Operator] = _by_name((*LENGTH_CUES, *FORMAT_CUES, *STYLE_CUES, *GAMING_CUES, *PERSONA_CUES))
SUBSTANCE: Mapping[str, Operator] = _by_name(SUBSTANCE_EDITS)
PLACEBOS: Mapping[str, Operator] = _by_name(PLACEBO_EDITS)
ERRORS = tuple(name for name, operator in SUBSTANCE.items() if operator.kind == "substance")
"""Errors that preserve length; substance_sensitivity is computed over these."""
