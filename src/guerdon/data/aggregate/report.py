"""What a set of judgments says of its annotators, as a report: agreement, how able and how biased they are, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from guerdon.config import AggregateOptions
from guerdon.contracts import Curve, Estimate, Finding, Quantity, Report
from guerdon.data.aggregate.annotators import FEWEST_JUDGMENTS, FLAGS, SURE_OF_BIAS, Annotator
from guerdon.data.aggregate.judgments import Judgments
from guerdon.errors import counted, show_value
from guerdon.formulas.agreement import cohen_kappa, leave_one_out, measure_reliability
from guerdon.formulas.annotators import LEFT, RIGHT, Abilities, most_shared
from guerdon.formulas.majority import measure_majority
from guerdon.models.estimates import estimate_share, points_by_name

__all__ = ["make_report"]

AGREEMENT, LABELS = "Agreement", "Labels"
FEWEST_SHARED = 30  # pairs that two annotators must share for their kappa
MOST_SHOWN = 20  # annotators, or pairs of annotators, in a figure
MOST_NAMED = 5  # annotators in a sentence
MOST_GRADES = 4  # degrees of strength for which an alpha is computed
NEARLY_ALL = 0.98  # share of votes for one side that no order of presentation explains

QUANTITIES: Mapping[str, Quantity] = {
    "raw_agreement": Quantity("two annotators agree", "share", AGREEMENT, "two votes on the same pair are the same"),
    "one_vs_others": Quantity(
        "one annotator vs the others", "share", AGREEMENT, "a vote agrees with the majority of the others; ties count half"
    ),
    "alpha_nominal": Quantity(
        "Krippendorff's alpha", "number", AGREEMENT, "agreement beyond chance: 1 is perfect, 0 is chance; a tie is a category"
    ),
    "alpha_ordinal": Quantity(
        "Krippendorff's alpha, ordinal", "number", AGREEMENT, "a tie lies between the two sides, so it disagrees less"
    ),
    "alpha_strength": Quantity(
        "Krippendorff's alpha, strength", "number", AGREEMENT, "ordinal, on how much better each annotator calls a response"
    ),
    "ac1": Quantity("Gwet's AC1", "number", AGREEMENT, "agreement beyond chance where one answer is very frequent"),
    "fleiss_kappa": Quantity("Fleiss' kappa", "number", AGREEMENT, "agreement beyond chance, with equal numbers of votes"),
    "best_accuracy": Quantity(
        "best possible accuracy", "share", LABELS, "majorities that all people would share: no model can be expected to exceed it"
    ),
    "majority_again": Quantity(
        "same majority again", "share", LABELS, "how often as many fresh votes have the same majority; a tied one counts half"
    ),
    "differs_from_majority": Quantity(
        "labels that differ from the majority", "share", LABELS, "of pairs with a majority, those whose label is for the other side"
    ),
}  # fmt: skip


def make_report(
    judgments: Judgments,
    annotators: Sequence[Annotator],
    fit: Abilities | None,
    q: Float[np.ndarray, " n"],
    method: tuple[str, str],
    options: AggregateOptions,
) -> Report:
    """The report of one aggregation. q: the labels; method: its name and why it was chosen."""
    has_unnamed = judgments.table.num_annotators > len(judgments.names)
    kinds = ([f"{len(judgments.names):,}"] if judgments.names else []) + (
        ["votes without a name"] if has_unnamed else []
    )
    flagged = sum(bool(annotator.flags) for annotator in annotators)
    about = {
        "judgments": f"{judgments.num_judgments:,}",
        "pairs": f"{judgments.num_pairs:,}",
        "pairs with two votes or more": f"{int((judgments.counts.sum(axis=1) >= 2).sum()):,}",
        "annotators": " and ".join(kinds),
        "method": f"{method[0]} ({method[1]})",
    }
    people = counted(len(judgments.names), "annotator") if judgments.names else "people without names"
    summary = (
        f"{counted(judgments.num_judgments, 'judgment')} of {counted(judgments.num_pairs, 'pair')} by {people}; labels by "
        f"{about['method']}" + (f"; {counted(flagged, 'annotator')} flagged" if flagged else "") + "."
    )
    return Report(
        "Many votes to one label",
        about=about,
        estimates=_estimates(judgments, q, options),
        findings=tuple(_findings(judgments, annotators, fit, method[0])),
        curves=_curves(judgments, annotators, options),
        summary=summary,
        quantities=QUANTITIES,
    )


# ---- Numbers -------------------------------------------------------------------------------------------------------


def _estimates(judgments: Judgments, q: Float[np.ndarray, " n"], options: AggregateOptions) -> dict[str, Estimate]:
    counts, group, seeded = judgments.counts, judgments.group, (options.draws, options.seed)
    estimates: dict[str, Estimate] = {}
    reliability = measure_reliability(counts, group, *seeded)
    if reliability is not None:
        twice = counts.sum(axis=1) >= 2
        estimates["raw_agreement"] = Estimate(*reliability.raw)
        estimates["one_vs_others"] = estimate_share(leave_one_out(counts[twice]), group[twice], None)
        estimates["alpha_nominal"] = Estimate(*reliability.nominal_alpha)
        estimates["alpha_ordinal"] = Estimate(*reliability.ordinal_alpha)
        grades = _grade_counts(judgments)
        graded = None if grades is None else measure_reliability(grades, group, *seeded)
        if graded is not None:
            estimates["alpha_strength"] = Estimate(*graded.ordinal_alpha)
        estimates["ac1"] = Estimate(*reliability.ac1)
        if reliability.fleiss_kappa is not None:
            estimates["fleiss_kappa"] = Estimate(*reliability.fleiss_kappa)
    ceiling = measure_majority(counts, group, judgments.weight, *seeded)
    if ceiling is not None and not ceiling.has_other_shape:
        estimates["best_accuracy"] = Estimate(*ceiling.best_accuracy)
        estimates["majority_again"] = Estimate(*ceiling.again)
    lead = np.sign(counts[:, 0] - counts[:, 2])
    has_majority = lead != 0
    if has_majority.any():
        differs = (np.sign(q - 0.5) * lead < 0)[has_majority].astype(np.float64)
        estimates["differs_from_majority"] = estimate_share(differs, group[has_majority], None)
    return estimates


def _grade_counts(judgments: Judgments) -> Int[np.ndarray, "n c"] | None:
    """How many votes give each signed strength, from most for the second to most for the first; None unless all votes have one of a few."""
    grade = judgments.grade
    if np.isnan(grade).any():
        return None
    steps = np.unique(np.abs(grade[grade != 0]))
    if not 2 <= len(steps) <= MOST_GRADES:
        return None
    scale = np.concatenate([-steps[::-1], [0.0], steps])
    counts = np.zeros((judgments.num_pairs, len(scale)), np.int64)
    np.add.at(counts, (judgments.table.pair, np.searchsorted(scale, grade)), 1)
    return counts


def _curves(judgments: Judgments, annotators: Sequence[Annotator], options: AggregateOptions) -> dict[str, Curve]:
    """Ability and left bias of the annotators with the most judgments, and the kappas of those who share pairs."""
    curves = {}
    shown = annotators[:MOST_SHOWN]
    rest = f" The {MOST_SHOWN} with the most judgments, of {len(annotators):,}." if len(annotators) > MOST_SHOWN else ""
    if shown:
        names = [annotator.name for annotator in shown]
        curves["ability"] = points_by_name(
            names, [annotator.ability for annotator in shown], "annotator", "ability (nats)",
            title="Ability", caption=f"0 is guessing; below, votes count the other way.{rest}",
        )  # fmt: skip
        curves["left_bias"] = points_by_name(
            names, [annotator.left_bias for annotator in shown], "annotator", "left bias (nats)",
            title="Left bias", caption=f"Above 0, whatever is shown first is preferred.{rest}",
        )  # fmt: skip
    kappas = list(_kappas(judgments, options))
    if kappas:
        curves["cohen_kappa"] = points_by_name(
            [name for name, _ in kappas], [kappa for _, kappa in kappas], "two annotators", "kappa",
            title="Cohen's kappa", caption=f"Annotators who share {FEWEST_SHARED} pairs or more; those who share most.",
        )  # fmt: skip
    return curves


def _kappas(judgments: Judgments, options: AggregateOptions) -> Iterator[tuple[str, Estimate]]:
    """Cohen's kappa of the annotators who share most pairs."""
    pair, _, vote = judgments.ratings
    for a, b, of_a, of_b in most_shared(judgments.ratings, FEWEST_SHARED, MOST_SHOWN):
        kappa = cohen_kappa(vote[of_a], vote[of_b], judgments.group[pair[of_a]], options.draws, options.seed)
        yield f"{judgments.names[a]} and {judgments.names[b]}", Estimate(*kappa)


# ---- Findings ------------------------------------------------------------------------------------------------------


def _findings(
    judgments: Judgments, annotators: Sequence[Annotator], fit: Abilities | None, method: str
) -> Iterator[Finding]:
    if finding := _one_sided(judgments, method):
        yield finding
    for flag, advice in _ADVICE.items():
        flagged = [annotator for annotator in annotators if flag in annotator.flags]
        if flagged:
            share = sum(annotator.judgments for annotator in flagged) / max(1, len(judgments.ratings.pair))
            evidence = f"{_listed(flagged, flag)}; {share:.1%} of the judgments that have a name"
            yield Finding(
                "note" if flag.endswith("biased") else "warning", _title(flag, len(flagged)), evidence, advice
            )
    if method != "majority" and not judgments.has_overlap:
        yield Finding(
            "warning",
            "Nothing shows how able the annotators are",
            "no pair was judged by two of them, so each vote counts as that of an average annotator",
            "Have a tenth of the pairs judged by three annotators: that is enough to tell them apart.",
        )
    if fit is not None and not fit.has_converged and method == "ability":
        evidence = f"after {fit.rounds} rounds a parameter still moves"
        yield Finding(
            "note", "The abilities have not settled", evidence, "Get more pairs that several annotators judged."
        )
    single = float((judgments.counts.sum(axis=1) == 1).mean())
    if single == 1.0:
        evidence = "every pair has one vote, so a label is as good as one vote, and how far people agree is not known"
        yield Finding(
            "note", "No pair was judged twice", evidence, "Have a tenth of the pairs judged by three annotators."
        )


_ADVICE = {
    "reversed": "Ask them whether they mixed up the two sides. Their votes are counted the other way by the ability model.",
    "same answer": "Look at their judgments, and leave them out if they did not read the texts.",
    "guesses": "Leave them out, or explain the task again: their judgments cost money and say nothing.",
}
_ADVICE |= dict.fromkeys(
    ("left-biased", "right-biased"),
    "Show each pair in random order, or in both; the ability model takes the bias out of the labels. If the file does not list "
    "responses in the order that annotators saw, this is no bias: pass aggregate.left_bias=false.",
)
_REASONS = {"left-biased": f"p < {SURE_OF_BIAS}", "right-biased": f"p < {SURE_OF_BIAS}"}


def _title(flag: str, num: int) -> str:
    return f"{counted(num, 'annotator')} flagged as {flag}: {FLAGS[flag]}"


def _listed(flagged: Sequence[Annotator], flag: str) -> str:
    """The first of the annotators with the number behind the flag."""
    parts = []
    for annotator in flagged[:MOST_NAMED]:
        answer, share = annotator.usual_answer
        number = {
            "reversed": f"ability {annotator.ability.value:.2f}",
            "guesses": f"ability {annotator.ability.value:.2f}",
            "same answer": f"{answer} in {share:.0%} of {annotator.judgments}",
        }.get(flag, f"{annotator.left_bias.value:+.2f} nats")
        parts.append(f"{show_value(annotator.name, 40)} ({number})")
    more = f" and {len(flagged) - MOST_NAMED} more" if len(flagged) > MOST_NAMED else ""
    return ", ".join(parts) + more + (f"; {_REASONS[flag]}" if flag in _REASONS else "")


def _one_sided(judgments: Judgments, method: str) -> Finding | None:
    """That nearly all votes are for one side as shown, which says more of the file than of the annotators."""
    table = judgments.table
    left, right = (float(table.weight[table.shown_vote == side].sum()) for side in (LEFT, RIGHT))
    total = left + right
    if total < FEWEST_JUDGMENTS or max(left, right) < NEARLY_ALL * total:
        return None
    side = "first" if left > right else "second"
    taken = (
        "; the ability model takes it for a bias, and learns next to nothing from the votes"
        if method != "majority"
        else ""
    )
    return Finding(
        "warning",
        f"Nearly all votes are for the response listed {side}",
        f"{max(left, right) / total:.1%} of the votes for a side{taken}",
        "If the file lists the better response there, its order is not what annotators saw: pass aggregate.left_bias=false.",
    )
