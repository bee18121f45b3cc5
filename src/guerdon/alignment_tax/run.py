"""Measure policies one after another, and the policy that they started from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guerdon.alignment_tax.compare import Gain, compare
from guerdon.alignment_tax.measure import Measurement, kl_to_reference, measure, refuse_unlike
from guerdon.contracts import Estimate, GuerdonError, Report

if TYPE_CHECKING:
    from guerdon.config import TaxOptions
    from guerdon.models.policy import LanguagePolicy

__all__ = ["Measurements", "measure_policies", "measure_tax"]


@dataclass(frozen=True, slots=True)
class Measurements:
    """The reference, and each policy by name with its KL to the reference (None if no replies were drawn)."""

    before: Measurement
    afters: Mapping[str, Measurement]
    distances: Mapping[str, Estimate | None]


def measure_policies(
    reference: LanguagePolicy | None,
    policies: Iterable[tuple[str, LanguagePolicy]],
    options: TaxOptions,
    texts: Sequence[str] | None = None,
) -> Measurements:
    """Measure the reference and each named policy. Policies are taken one at a time, so a generator may load them.

    `reference` None is the first policy without its adapters. A policy's KL is then to itself without its own adapters, or, if
    it has none, to the first policy without them. `texts` are held-out texts instead of the built-in ones.
    """
    initial, before = reference, None
    afters: dict[str, Measurement] = {}
    distances: dict[str, Estimate | None] = {}
    if reference is not None:
        before = measure(reference, options, texts)
    for name, policy in policies:
        initial = policy if initial is None else initial
        if before is None:
            before = measure(initial, options, texts, as_reference=True)
        refuse_unlike(initial, policy)
        afters[name] = measure(policy, options, texts)
        base = reference or (policy if hasattr(policy.model, "disable_adapter") else initial)
        distances[name] = kl_to_reference(afters[name], base, options, as_reference=reference is None)
    if before is None or not afters:
        raise GuerdonError("tax: there must be at least one policy, got none. Give one.")
    return Measurements(before, afters, distances)


def measure_tax(
    reference: LanguagePolicy | None,
    policy: LanguagePolicy | Mapping[str, LanguagePolicy],
    options: TaxOptions,
    texts: Sequence[str] | None = None,
    gains: Gain | Mapping[str, Gain] | None = None,
) -> Report:
    """The report of what one policy, or each of several by name, does less well than the reference.

    `gains` say what the optimization gained, for the one table of gain, KL and tax.
    """
    policies = policy if isinstance(policy, Mapping) else {policy.name or "policy": policy}
    measured = measure_policies(reference, policies.items(), options, texts)
    known = gains if isinstance(gains, Mapping) else {} if gains is None else dict.fromkeys(policies, gains)
    return compare(measured.before, measured.afters, options, gains=known, distances=measured.distances)
