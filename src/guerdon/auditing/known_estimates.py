"""The names that the estimates of an audit and of a comparison can have, known before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from string import ascii_lowercase
from typing import Final, get_args

from guerdon.auditing.compare import QUANTITIES as COMPARED
from guerdon.auditing.measures import (
    accuracy,
    agreement,
    calibration,
    cues,
    domains,
    ensemble,
    injection,
    length,
    position_bias,
    relevance,
    style,
    unresolved,
)
from guerdon.auditing.measures.cues.keys import EDIT_KEYS
from guerdon.auditing.measures.uncertainty import abstention, shift, signals
from guerdon.auditing.overoptimization import forecast, pool, report
from guerdon.auditing.probes.shifted_replies import OTHER_ANSWER, SHIFTS
from guerdon.contracts import Quantity
from guerdon.models.calibration_error import QUANTITIES as ODDS

__all__ = ["names_of_audit", "names_of_comparison"]

_MEASURED: Final[tuple[Mapping[str, Quantity], ...]] = (
    accuracy.QUANTITIES, agreement.QUANTITIES, ODDS, calibration.TEMPERATURE, length.QUANTITIES,
    cues.QUANTITIES, style.QUANTITIES, relevance.QUANTITIES, domains.QUANTITIES, ensemble.QUANTITIES,
    position_bias.QUANTITIES, unresolved.QUANTITIES, injection.QUANTITIES, signals.QUANTITIES, abstention.QUANTITIES, shift.QUANTITIES,
)  # fmt: skip
_PUSHED: Final[tuple[Mapping[str, Quantity], ...]] = (report.QUANTITIES, forecast.QUANTITIES, pool.QUANTITIES)


def names_of_audit(*, is_pushed: bool = True) -> list[str]:
    """What an audit can estimate; with a run or a best-of-n file also what is estimated of that. A model has only some."""
    of_parts = [name for quantities in _MEASURED for name in quantities]
    of_sets = [shift.ShiftEstimate(name, of).key for name in (*SHIFTS, OTHER_ANSWER) for of in get_args(shift.Of)]
    of_pushed = [name for quantities in _PUSHED for name in quantities] if is_pushed else []
    return list(dict.fromkeys((*of_parts, *EDIT_KEYS, *of_sets, *of_pushed)))


def names_of_comparison(num_models: int) -> list[str]:
    """What a comparison of this many models estimates, of each pair of models too."""
    if num_models == 2:
        return list(COMPARED)
    letters = ascii_lowercase[:num_models]
    of_pairs = [
        f"{name}_{a}_{b}" for a, b in combinations(letters, 2) for name in ("accuracy_difference", "adjusted_p")
    ]
    return [*(f"accuracy_{letter}" for letter in letters), *of_pairs, *COMPARED]
