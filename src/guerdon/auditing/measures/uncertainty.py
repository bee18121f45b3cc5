"""Does the model know where it errs, and does it notice texts that are not of its kind?

Axes: n pairs, m replies. A signal is a doubt: higher where an error should be likelier. The headline is whether it predicts
the model's own errors; to notice strange texts without that is decoration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.stats import beta

from guerdon.contracts import (
    Curve,
    Estimate,
    Example,
    Finding,
    GuerdonError,
    Quantity,
    Report,
    RewardModel,
    as_prompt,
    as_response,
    digest,
    prompt_digest,
)
from guerdon.formulas.agreement import pair_accuracy
from guerdon.formulas.resampling import bootstrap
from guerdon.formulas.uncertainty import aurc, auroc, selective_threshold
from guerdon.models.estimates import estimate_share
from guerdon.models.scored_pairs import UNCERTAINTY_FIELDS, score_comparisons

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, Shaped

    from guerdon.config import AuditOptions
    from guerdon.contracts import (
        Comparison,
        Judge,
        PromptLike,
        ResponseLike,
    )
    from guerdon.models.scored_pairs import ScoredPairs

__all__ = ["measure_uncertainty", "strange_replies"]

ALARM: Final = 0.05  # p-value at which a text counts as outside: the rate of false alarms
DELTA: Final = 0.05  # chance that the promise of abstention does not hold
SHOWN: Final = 3  # texts far outside that are shown
FEWEST_LETTERS, FEWEST_ROWS = 12, 2
NAMES: Final = {
    "margin": "a small margin",
    "laplace": "a wide spread of the margin (Laplace)",
    "ratio": "a margin small beside its spread",
    "shift": "a text unlike the training data",
    "members": "members that disagree",
}
REMEDY: Final = "`guerdon uncertainty MODEL --data train.jsonl --held-out calibrate.jsonl`"
Replies = tuple[Sequence["PromptLike"], Sequence["ResponseLike"]]

ERRORS, STRANGE = "Whether it knows where it errs", "Texts of another kind"
SIGNALS: Mapping[str, tuple[str, str]] = {  # label, and what counts as uncertain
    "margin": ("margin", "a small margin"),
    "laplace": ("spread", "a wide spread of the margin, by Laplace on the head"),
    "ratio": ("margin over spread", "a margin that is small beside its spread"),
    "shift": ("strange text", "a text unlike the training data"),
    "members": ("disagreement", "members that disagree"),
}
QUANTITIES: Mapping[str, Quantity] = {
    "aurc_random": Quantity("mean error, in any order", "share", ERRORS, "what a doubt that says nothing gets"),
    "abstain_threshold": Quantity("abstain below", "nats", ERRORS, "margin from which few answers are wrong, surely"),
    "abstain_coverage": Quantity("then it answers", "share", ERRORS, "pairs whose margin is that large"),
    "abstain_error": Quantity("and is wrong in", "share", ERRORS, "of the answers given, on these comparisons"),
    "outside": Quantity("outside its data", "share", STRANGE, "replies with p at most 0.05; of its own kind 5 % are"),
    "false_alarms": Quantity(
        "false alarms", "share", STRANGE, "of these comparisons' replies, if they are of its kind"
    ),
    **{
        f"error_auroc_{name}": Quantity(
            f"{label} tells errors",
            "share",
            ERRORS,
            f"a wrong pair has more of it than a right one: {says}; 50 % is chance",
        )
        for name, (label, says) in SIGNALS.items()
    },
    **{
        f"aurc_{name}": Quantity(
            f"mean error, by {label}", "share", ERRORS, f"over how many pairs are answered, last those with {says}"
        )
        for name, (label, says) in SIGNALS.items()
    },
}


def measure_uncertainty(
    model: RewardModel | Judge,
    comparisons: Sequence[Comparison],
    pairs: ScoredPairs,
    options: AuditOptions,
    *,
    shifted: Mapping[str, Replies] | None = None,
) -> Report:
    """Whether doubt predicts error, how far abstaining can be trusted, and whether strange texts are noticed.

    `pairs` are the comparisons' as scored; only where they lack the doubt that the model can give are they scored again.
    `shifted` holds sets of replies known to be of another kind, by name; `strange_replies` adds four made of the data.

    Keys, for each signal that is known (margin, laplace, ratio, shift, members): error_auroc_SIGNAL, chance that a wrong
    pair has more of the doubt than a right one; aurc_SIGNAL, mean error over how many pairs are answered, the least
    doubtful first, beside aurc_random, that of a doubt that says nothing. abstain_threshold, abstain_coverage and
    abstain_error: the least |margin|, nats, from which at most options.abstain_error are wrong (with probability 95 %), the
    share of pairs that is, their error here; absent where no margin will do. Where p-values are known: outside, the share
    of replies with p <= 0.05; for each set NAME shift_auroc_NAME, chance that one of its replies has a smaller p than one
    of the comparisons', and detected_NAME, its share with p <= 0.05; beside them false_alarms, that of the comparisons'.
    """
    pairs = _with_doubt(model, comparisons, pairs)
    decided = np.flatnonzero(~pairs.is_tie)
    if len(decided) == 0:
        raise GuerdonError(
            "uncertainty: every verdict is a tie, so no answer is wrong; remedy: add pairs with a winner"
        )
    table = _Table.of(pairs, decided)
    estimates, curves = _judge_signals(table, options), {"risk_coverage": _risk_curve(table, options)}
    chosen = _abstention(table, options)
    estimates |= chosen
    findings = [*_error_findings(estimates, table), *_abstention_findings(chosen, table, options)]
    examples: tuple[Example, ...] = ()
    if pairs.first_shift_p is None:
        findings.append(_nothing_stored(table))
    else:
        replies = _Seen.of(comparisons, pairs)
        strange = strange_replies(comparisons, options.shift_rows, options.seed) | dict(shifted or {})
        found, missed = _judge_shifts(model, replies, strange, options)
        estimates |= found
        findings += [
            *_outside_findings(found, table, replies, options),
            *_shift_findings(found, shifted or {}),
            *missed,
        ]
        if strange:
            curves["detected"] = _detected_curve(found)
        examples = _furthest(comparisons, replies, min(SHOWN, options.worst))
    about = {"signals": ", ".join(table.signals), "pairs with a winner": str(len(decided))}
    return Report("Uncertainty", about, estimates, tuple(findings), curves, examples, quantities=_quantities(estimates))


def _quantities(keys: Iterable[str]) -> dict[str, Quantity]:
    """QUANTITIES, and those of each kind of text that is unlike the training data: shift_auroc_NAME, detected_NAME."""
    quantities = dict(QUANTITIES)
    for key in keys:
        if key.startswith("shift_auroc_"):
            label = f"tells apart: {_words(key.removeprefix('shift_auroc_'))}"
            says = "such a reply looks stranger than one of these comparisons; 50 % is blind"
            quantities[key] = Quantity(label, "share", STRANGE, says)
        elif key.startswith("detected_"):
            label = f"noticed: {_words(key.removeprefix('detected_'))}"
            quantities[key] = Quantity(label, "share", STRANGE, "such replies with p at most 0.05")
    return quantities


@dataclass(frozen=True, slots=True)
class _Table:
    """Pairs with a winner: how wrong (0, 1/2 or 1), and each signal known."""

    wrong: Float[np.ndarray, " n"]
    certainty: Float[np.ndarray, " n"]
    group: Shaped[np.ndarray, " n"]
    weight: Float[np.ndarray, " n"]
    signals: Mapping[str, Float[np.ndarray, " n"]]

    @staticmethod
    def of(pairs: ScoredPairs, rows: Int[np.ndarray, " n"]) -> _Table:
        margin = np.abs(pairs.margin)
        signals = {"margin": -margin}
        if pairs.margin_std is not None:
            signals |= {"laplace": pairs.margin_std, "ratio": -margin / np.maximum(pairs.margin_std, 1e-300)}
        if pairs.first_shift_p is not None and pairs.second_shift_p is not None:
            signals["shift"] = -np.minimum(pairs.first_shift_p, pairs.second_shift_p)
        if pairs.members is not None:
            signals["members"] = pairs.members.std(axis=0)
        return _Table(
            (1.0 - pair_accuracy(pairs.margin, pairs.q))[rows],
            margin[rows],
            pairs.group[rows],
            pairs.weight[rows],
            {name: np.asarray(signal)[rows] for name, signal in signals.items()},
        )


@dataclass(frozen=True, slots=True)
class _Seen:
    """Each reply of the comparisons once: its p-value, reward, and which of which comparison it is."""

    p: Float[np.ndarray, " m"]
    reward: Float[np.ndarray, " m"]
    group: Shaped[np.ndarray, " m"]
    place: Int[np.ndarray, "m 2"]

    @staticmethod
    def of(comparisons: Sequence[Comparison], pairs: ScoredPairs) -> _Seen:
        assert pairs.first_shift_p is not None
        assert pairs.second_shift_p is not None
        places = np.concatenate([np.stack([pairs.index, side], axis=1) for side in (pairs.first, pairs.second)])
        place, at = np.unique(places, axis=0, return_index=True)
        p = np.concatenate([pairs.first_shift_p, pairs.second_shift_p])[at]
        reward = np.concatenate([pairs.first_reward, pairs.second_reward])[at]
        return _Seen(p, reward, np.array([comparisons[i].group for i, _ in place]), place)


def _with_doubt(model: RewardModel | Judge, comparisons: Sequence[Comparison], pairs: ScoredPairs) -> ScoredPairs:
    """The pairs with every doubt that the model gives; asked of one comparison first, of all only where it pays."""
    if not isinstance(model, RewardModel):
        return pairs
    few = score_comparisons(model, comparisons[:1])
    if not any(getattr(few, name) is not None and getattr(pairs, name) is None for name in UNCERTAINTY_FIELDS):
        return pairs
    whole = score_comparisons(model, comparisons)
    return replace(pairs, **{name: getattr(whole, name) for name in UNCERTAINTY_FIELDS})


# ---- Does doubt predict error? -----------------------------------------------------------------------------------


def _judge_signals(table: _Table, options: AuditOptions) -> dict[str, Estimate]:
    def by_group(statistic: Callable[..., float], doubt: Float[np.ndarray, " n"]) -> Estimate:
        return Estimate(
            *bootstrap(
                lambda rows: statistic(doubt[rows], table.wrong[rows], table.weight[rows]),
                table.group,
                options.draws,
                options.seed,
            )
        )

    found = {f"error_auroc_{name}": by_group(auroc, doubt) for name, doubt in table.signals.items()}
    found |= {f"aurc_{name}": by_group(aurc, -doubt) for name, doubt in table.signals.items()}
    return found | {"aurc_random": estimate_share(table.wrong, table.group, table.weight, options)}


def _risk_curve(table: _Table, options: AuditOptions) -> Curve:
    """Error among the pairs of largest margin, by how many they are."""
    order = np.argsort(-table.certainty, kind="stable")
    sizes = np.unique(np.ceil(np.linspace(0.05, 1.0, 20) * len(order)).astype(np.int64))
    y = [
        estimate_share(table.wrong[rows], table.group[rows], table.weight[rows], options)
        for rows in (order[:size] for size in sizes)
    ]
    return Curve(
        tuple(float(size / len(order)) for size in sizes),
        tuple(y),
        "share of pairs answered, the largest margins first",
        "share of answers that are wrong",
        title="Errors left, by how much is answered",
        caption="Where margins say nothing of errors, the curve is level.",
    )


def _error_findings(found: Mapping[str, Estimate], table: _Table) -> list[Finding]:
    aurocs = {name: found[f"error_auroc_{name}"] for name in table.signals}
    if not table.wrong.any():
        return [Finding("note", "It makes no error here", f"{len(table.wrong)} pairs, all right", "")]
    evidence = "; ".join(f"{NAMES[name]}: {auc}" for name, auc in aurocs.items())
    evidence = f"chance that a wrong pair has more of the doubt than a right one, 0.5 says nothing: {evidence}"
    if any(auc.low > 0.5 for auc in aurocs.values()):
        return []
    remedy = "Do not abstain, filter or ask people by these numbers; audit on more prompts to be sure."
    return [Finding("warning", "Uncertainty does not predict its errors", evidence, remedy)]


# ---- Abstention --------------------------------------------------------------------------------------------------


def _abstention(table: _Table, options: AuditOptions) -> dict[str, Estimate]:
    """The promise is made on one pair a group, drawn at random, since the bound is for independent rows."""
    rows = _one_a_group(table.group, options.seed)
    certainty, wrong = table.certainty[rows], table.wrong[rows] > 0

    def threshold(draw: Int[np.ndarray, " m"]) -> float:
        chosen = selective_threshold(certainty[draw], wrong[draw], options.abstain_error, DELTA)
        return math.nan if chosen is None else chosen.threshold

    value = threshold(np.arange(len(rows)))
    if math.isnan(value):
        return {}
    answered = table.certainty >= value
    return {
        "abstain_threshold": Estimate(*bootstrap(threshold, table.group[rows], options.draws, options.seed)),
        "abstain_coverage": estimate_share(answered.astype(np.float64), table.group, table.weight, options),
        "abstain_error": estimate_share(table.wrong[answered], table.group[answered], table.weight[answered], options),
    }


def _one_a_group(group: Shaped[np.ndarray, " n"], seed: int) -> Int[np.ndarray, " g"]:
    order = np.random.default_rng(seed).permutation(len(group))
    first: np.ndarray = order[np.unique(group[order], return_index=True)[1]]
    return np.sort(first)


def _abstention_findings(found: Mapping[str, Estimate], table: _Table, options: AuditOptions) -> list[Finding]:
    error, groups = options.abstain_error, len(np.unique(table.group))
    wanted = f"at most {error:.0%} wrong".replace("%", " %")
    if found:
        coverage = found["abstain_coverage"]
        if coverage.value == 1.0:
            return [Finding("note", f"It may answer everything: {wanted}", f"wrong {found['abstain_error']}", "")]
        evidence = (
            f"margins from {found['abstain_threshold']} nats on, {coverage} of pairs, wrong {found['abstain_error']}"
        )
        remedy = f"Below {found['abstain_threshold'].value:.3g} nats ask a person, or leave the pair out."
        return [Finding("note", f"It may answer with {wanted} where its margin is large", evidence, remedy)]
    needed = math.ceil(math.log(DELTA) / math.log(1 - error))
    if groups < needed:
        evidence = f"{groups} groups; {needed} without a single error would be needed"
        return [Finding("note", f"Too few pairs to promise {wanted}", evidence, "Audit on more prompts.")]
    evidence = f"no margin from which the upper bound of the error is {error:g} or less, on {groups} groups"
    remedy = "Do not let it decide alone; or allow more with audit.abstain_error."
    return [Finding("warning", f"No margin is large enough for {wanted}", evidence, remedy)]


# ---- Texts of another kind ---------------------------------------------------------------------------------------


def _judge_shifts(
    model: RewardModel | Judge, replies: _Seen, strange: Mapping[str, Replies], options: AuditOptions
) -> tuple[dict[str, Estimate], list[Finding]]:
    assert isinstance(model, RewardModel)
    found = {"outside": _share(replies.p <= ALARM, replies.group, options)}
    if strange:
        found["false_alarms"] = found["outside"]
    missed = []
    for name, given in strange.items():
        try:
            p, group = _p_values(model, *given)
        except GuerdonError as error:  # texts that the model does not take: the other sets still tell
            missed.append(Finding("note", f"Not measured: {_words(name)}", str(error).partition("; remedy")[0]))
            continue
        both, groups = np.concatenate([replies.p, p]), np.concatenate([replies.group, group])
        is_strange = np.repeat([0.0, 1.0], [len(replies.p), len(p)])

        def told_apart(
            rows: Int[np.ndarray, " m"], both: np.ndarray = both, is_strange: np.ndarray = is_strange
        ) -> float:
            return auroc(-both[rows], is_strange[rows])

        found[f"shift_auroc_{name}"] = Estimate(*bootstrap(told_apart, groups, options.draws, options.seed))
        found[f"detected_{name}"] = _share(p <= ALARM, group, options)
    return found, missed


def _p_values(
    model: RewardModel, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]
) -> tuple[Float[np.ndarray, " m"], Shaped[np.ndarray, " m"]]:
    """p-value and group of each reply; where some are too long for the model, the longer half is left out, and again.

    The group is the prompt, or the reply itself where all answer one prompt.
    """
    rows = sorted(range(len(prompts)), key=lambda i: len(as_response(responses[i]).text))
    while True:
        try:
            p = model.score([prompts[i] for i in rows], [responses[i] for i in rows]).shift_p
        except GuerdonError:
            if len(rows) < 2 * FEWEST_ROWS:
                raise
            rows = rows[: len(rows) // 2]
            continue
        assert p is not None
        group = np.array([prompt_digest(as_prompt(prompts[i])) for i in rows])
        return p, group if len(np.unique(group)) > 1 else np.array([str(i) for i in rows])


def _share(values: Bool[np.ndarray, " m"], group: Shaped[np.ndarray, " m"], options: AuditOptions) -> Estimate:
    return estimate_share(values.astype(np.float64), group, np.ones(len(values)), options)


def _outside_findings(
    found: Mapping[str, Estimate], table: _Table, replies: _Seen, options: AuditOptions
) -> list[Finding]:
    """Held-out replies are a sample too: with G groups of them the rate of false alarms is itself spread as a Beta."""
    outside = found["outside"]
    held_out = max(19.0, 1.0 / float(replies.p.min()) - 1.0)
    k = max(1, math.floor(ALARM * (held_out + 1)))
    chance = float(beta.ppf(0.975, k, held_out + 1 - k))
    if not outside.low > chance:
        return []
    unlike = (table.signals["shift"] >= -ALARM).astype(np.float64)
    cost = estimate_share(unlike * table.wrong, table.group, table.weight, options)
    evidence = (
        f"{outside} of replies have p <= {ALARM}; of texts like those it was trained on it would be {ALARM}, by chance up "
        f"to {chance:.2g}"
    )
    where = {kind: estimate_share(table.wrong[c], table.group[c], table.weight[c], options) for kind, c in
             (("outside", unlike > 0), ("inside", unlike == 0)) if c.any()}  # fmt: skip
    evidence += "; wrong " + ", ".join(f"{kind} {error}" for kind, error in where.items())
    remedy = "Trust its scores of such texts only as far as the error there allows; train on comparisons of this kind."
    title = f"{100 * outside.value:.0f} % of these texts lie outside what it was trained on"
    return [Finding("warning", title, evidence, remedy, cost)]


def _shift_findings(found: Mapping[str, Estimate], given: Mapping[str, Replies]) -> list[Finding]:
    """Texts that are no language, and sets that the user calls strange, should be noticed; a reply to another prompt need not be."""
    blind = [
        name
        for name in ("gibberish", "other_language", *given)
        if f"shift_auroc_{name}" in found and not found[f"shift_auroc_{name}"].low > 0.5
    ]
    return [
        Finding(
            "warning",
            f"Does not notice {_words(name)}",
            f"chance that such a reply looks stranger than an ordinary one: {found[f'shift_auroc_{name}']}, 0.5 is blind; "
            f"{found[f'detected_{name}']} are noticed at p <= {ALARM}",
            "Do not rely on shift_p to keep such texts out; look for them by a rule.",
        )
        for name in blind
    ]


def _nothing_stored(table: _Table) -> Finding:
    others = "its margins and its members' agreement" if "members" in table.signals else "its margins"
    return Finding(
        "note",
        f"Only {others} tell how sure it is",
        "no spread and no distance from the training data are stored with this model",
        f"For a model with one head: {REMEDY}.",
    )


def _detected_curve(found: Mapping[str, Estimate]) -> Curve:
    names = [key.removeprefix("detected_") for key in found if key.startswith("detected_")]
    return Curve(
        tuple(float(i) for i in range(len(names) + 1)),
        (found["false_alarms"], *(found[f"detected_{name}"] for name in names)),
        "kind of text",
        f"share with p <= {ALARM}",
        title="Which strange texts it notices",
        kind="points",
        x_names=("these comparisons", *map(_words, names)),
        caption=f"Texts of the kind that was trained on stand near {ALARM}.",
    )


def _furthest(comparisons: Sequence[Comparison], replies: _Seen, num: int) -> tuple[Example, ...]:
    order = [at for at in np.argsort(replies.p, kind="stable") if replies.p[at] <= ALARM][:num]
    shown = []
    for at in order:
        comparison, which = comparisons[replies.place[at, 0]], replies.place[at, 1]
        title = f"Unlike what the model was trained on: p = {replies.p[at]:.2g}"
        reward = (float(replies.reward[at]),)
        shown.append(Example(title, comparison.prompt, (comparison.responses[which],), ("outside",), reward))
    return tuple(shown)


def _words(name: str) -> str:
    return name.replace("_", " ")


# ---- Strange replies, made of any data ---------------------------------------------------------------------------

LETTERS: Final = "aeiouybcdfghjklmnpqrstvwxz"
OTHERS: Final = "oyaeuizkrvstbcdfghjlmnpqwx"  # vowels for vowels, so that it can nearly be spoken
CIPHER: Final = str.maketrans(LETTERS + LETTERS.upper(), OTHERS + OTHERS.upper())


def strange_replies(comparisons: Sequence[Comparison], rows: int, seed: int = 0) -> dict[str, Replies]:
    """At most `rows` replies of the comparisons, each made strange in four ways: name -> prompts and replies.

    gibberish: its characters shuffled. word_salad: its words shuffled. other_answer: the reply to another prompt.
    other_language: its letters exchanged for others, so that word lengths and marks stay and no word does. A way that
    changes nothing of a reply leaves it out, and so does a reply of few letters.
    """
    step = max(1, len(comparisons) // max(1, rows))
    chosen = [(c, c.responses[i % len(c.responses)]) for i, c in enumerate(comparisons[::step][:rows])]
    texts = [(c, response.text) for c, response in chosen if not response.messages]  # never half a trajectory
    plain = [(c, text) for c, text in texts if sum(letter.isalpha() for letter in text) >= FEWEST_LETTERS]
    ways: Mapping[str, Callable[[str, np.random.Generator], str]] = {
        "gibberish": lambda text, rng: "".join(rng.permutation(list(text))),
        "word_salad": lambda text, rng: " ".join(rng.permutation(text.split())),
        "other_language": lambda text, rng: text.translate(CIPHER),
    }
    sets: dict[str, Replies] = {}
    for name, way in ways.items():
        made = [(c.prompt, text, way(text, _rng(text, name, seed))) for c, text in plain]
        kept = [(prompt, strange) for prompt, text, strange in made if strange.split() != text.split()]
        sets[name] = ([prompt for prompt, _ in kept], [as_response(strange) for _, strange in kept])
    swapped = [
        (c.prompt, text)
        for (c, own), (other, text) in zip(plain, [*plain[1:], *plain[:1]], strict=True)
        if c.group != other.group and own != text
    ]
    sets["other_answer"] = ([prompt for prompt, _ in swapped], [as_response(text) for _, text in swapped])
    return {name: replies for name, replies in sets.items() if len(replies[0]) >= FEWEST_ROWS}


def _rng(text: str, name: str, seed: int) -> np.random.Generator:
    """Of the text and the way alone, so that no reply depends on its company."""
    return np.random.default_rng(int(digest([name, seed, text])[:15], 16))
