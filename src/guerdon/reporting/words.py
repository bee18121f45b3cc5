"""What each named estimate means, in words and units, and the one sentence that a report opens with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from guerdon.contracts import Estimate, Finding, Report

Unit = Literal["share", "nats", "number"]
PERCENT = "\N{NO-BREAK SPACE}%"
# Control characters, which steer a terminal, as the pictures of them; tab and line end stay
PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {0x7F: 0x2421}
PICTURES |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)


def visible(text: str) -> str:
    """A text that only shows: no character of it steers a terminal."""
    return text.translate(PICTURES)


@dataclass(frozen=True, slots=True)
class Quantity:
    """How to print an estimate: its label, unit, the table it stands in, and a sentence for those who ask."""

    label: str
    unit: Unit
    part: str
    meaning: str = ""


RIGHT, PEOPLE, ODDS, SCALE, OTHER = "How often it is right", "People", "Odds", "Scale", "Other numbers"
PUSHED = "While it was optimized"
BESIDE = "One beside the other"
TAX = "Alignment tax"
LENGTH, PROMPT, STYLES = "Length", "Does it read the prompt?", "Style against substance"
CUES, FLIPS, DOSES, SEES = (
    "What cues gain",
    "Decisions that cues turn",
    "Doses that outweigh an error",
    "Errors it sees",
)
MEMBERS = "Its members"
DOUBT, STRANGE = "Whether it knows where it errs", "Texts of another kind"
RULE, ANCHORS, GRID = "By the benchmark's own rule", "The anchors by the same rule", "Substance and style"

QUANTITIES: Mapping[str, Quantity] = {
    "accuracy": Quantity(
        "accuracy", "share", RIGHT, "pairs ordered as the label says; a tie on either side counts half"
    ),
    "accuracy_strict": Quantity(
        "accuracy, strict", "share", RIGHT, "pairs with a winner only; equal rewards count as wrong"
    ),
    "accuracy_decided": Quantity(
        "accuracy, no ties", "share", RIGHT, "pairs with a winner only; equal rewards count half"
    ),
    "longer_wins": Quantity("anchor: longer wins", "share", RIGHT, "accuracy of always preferring the longer response"),
    "constant": Quantity(
        "anchor: a constant", "share", RIGHT, "accuracy of a model that gives everything the same reward"
    ),
    "accuracy_above_longer": Quantity(
        "above longer-wins", "share", RIGHT, "accuracy minus that of longer-wins, pair by pair"
    ),
    "accuracy_longer_preferred": Quantity(
        "when the better is longer", "share", RIGHT, "accuracy on pairs whose better response is longer"
    ),
    "accuracy_shorter_preferred": Quantity(
        "when the better is shorter", "share", RIGHT, "accuracy on pairs whose better response is shorter"
    ),
    "model_ties": Quantity("equal rewards", "share", RIGHT, "pairs whose two responses get exactly the same reward"),
    "preference_ties": Quantity("tied labels", "share", RIGHT, "pairs that people call equal"),
    "truncated": Quantity("truncated", "share", RIGHT, "pairs of which the model did not see all the text"),
    "ceiling_majority": Quantity(
        "ceiling", "share", PEOPLE, "how often the majority would stand if as many other people voted"
    ),
    "person_vs_person": Quantity(
        "two people agree", "share", PEOPLE, "two raters of the same pair give the same label"
    ),
    "person_vs_others": Quantity(
        "one person vs the others", "share", PEOPLE, "a rater agrees with the majority of the other raters"
    ),
    "model_vs_person": Quantity(
        "model vs one person", "share", PEOPLE, "the model agrees with one rater drawn at random"
    ),
    "nll": Quantity("log loss", "nats", ODDS, "mean negative log-likelihood of the labels; a coin has 0.693"),
    "brier": Quantity("Brier score", "number", ODDS, "mean squared error of the probability; a coin has 0.25"),
    "ece": Quantity(
        "calibration error", "share", ODDS, "mean distance between confidence and accuracy, over equal-mass bins"
    ),
    "ece_null": Quantity(
        "if it were calibrated", "share", ODDS, "the calibration error that perfect odds would show on this many pairs"
    ),
    "ece_p_value": Quantity(
        "p-value of calibration", "number", ODDS, "chance of so large an error under perfect calibration"
    ),
    "overconfidence": Quantity(
        "overconfidence", "share", ODDS, "mean confidence minus accuracy; below 0 is too modest"
    ),
    "temperature": Quantity("temperature", "number", SCALE, "raw units of reward in one nat"),
    "reference_mean": Quantity("reference mean", "number", SCALE, "mean raw reward of the reference policy's samples"),
    "reference_spread": Quantity("reference spread", "number", SCALE, "standard deviation of those rewards"),
    "reference_between_prompts": Quantity(
        "variance between prompts",
        "share",
        SCALE,
        "share that prompts explain; where it is high, rewards of different prompts are not comparable",
    ),
    "nll_temperature": Quantity("log loss, a temperature", "nats", ODDS, "by one scale, fitted to other groups"),
    "isotonic_gain": Quantity("less by the curve", "nats", ODDS, "log loss by a temperature minus that by the curve"),
    "isotonic_ties": Quantity("left undecided", "share", ODDS, "pairs to which only the curve gives the odds 1 : 1"),
    "proxy_gain": Quantity("proxy, gain", "nats", PUSHED, "the optimized reward at the end, less that at the start"),
    "gold_gain": Quantity(
        "gold, gain", "number", PUSHED, "the second judge's reward at the end, less that at the start"
    ),
    "gold_drop": Quantity(
        "gold, lost since its best", "number", PUSHED, "the best gold less the last, allowing for the choice"
    ),
    "kl": Quantity("KL", "nats", PUSHED, "nats/sequence to the policy that it began from"),
    "length_gain": Quantity("length, gain", "number", PUSHED, "a reply; tokens, or words in a best-of-n file"),
    "length_share": Quantity(
        "gain that is length", "share", PUSHED, "share of the proxy's gain that goes with longer replies"
    ),
    "length_correlation": Quantity(
        "gain with length", "number", PUSHED, "correlation over prompts of the gain in proxy with the gain in length"
    ),
    "gold_per_proxy": Quantity("gold per proxy", "number", PUSHED, "gold gained for a nat of proxy, from start to end"),
    "gold_per_proxy_late": Quantity(
        "gold per proxy, late", "number", PUSHED, "the same over the last part; below 0 the reward misleads"
    ),
    "falling_prompts": Quantity("prompts that fall", "share", PUSHED, "prompts whose gold falls over the last part"),
    "law_alpha": Quantity("law, α", "number", PUSHED, "first gain per √KL; Gao et al. 2022"),
    "law_beta": Quantity("law, β", "number", PUSHED, "how soon the gain bends; Gao et al. 2022"),
    "peak_kl": Quantity("KL at the peak", "nats", PUSHED, "where gold is highest by the law, nats/sequence"),
    "peak_gold": Quantity("gold at the peak", "number", PUSHED, "its gain there, by the law"),
    "forecast_gold": Quantity(
        "forecast of gold", "number", PUSHED, "what tilting the pool says at the proxy that was reached"
    ),
    "forecast_error": Quantity("measured less forecast", "number", PUSHED, "of gold, at the same proxy"),
    "win_rate": Quantity(
        "beats a first reply", "share", PUSHED, "how often the best of n has the higher reward; at most n/(n+1)"
    ),
    "duplicates": Quantity("repeated replies", "share", PUSHED, "replies to a prompt that another reply equals"),
    "unfinished": Quantity("unfinished replies", "share", PUSHED, "replies that were cut at the token limit"),
    "repetition": Quantity(
        "repetition", "share", PUSHED, "runs of four words in a chosen reply that stood in it before"
    ),
    "repetition_gain": Quantity("repetition, gain", "share", PUSHED, "the same, less that of any reply"),
    "distinct_1": Quantity("different words", "share", PUSHED, "among all words in the chosen replies' beginnings"),
    "distinct_2": Quantity("different pairs of words", "share", PUSHED, "among all in the chosen replies' beginnings"),
    "partly_read": Quantity(
        "seen in part", "share", PUSHED, "chosen replies of which the reward did not see the beginning"
    ),
    "partly_read_gain": Quantity("seen in part, gain", "share", PUSHED, "the same, less that of any reply"),
    "spread": Quantity("members' spread", "nats", PUSHED, "standard deviation between an ensemble's members"),
    "spread_gain": Quantity("members' spread, gain", "nats", PUSHED, "of a chosen reply, less that of any reply"),
    "shifted": Quantity(
        "outside the training data", "share", PUSHED, "chosen replies with a conformal p-value of at most 0.05"
    ),
    "shifted_gain": Quantity("outside, gain", "share", PUSHED, "the same, less that of any reply"),
    "score": Quantity("official score", "share", RULE, "computed as the benchmark's authors do"),
    "score_longer": Quantity("anchor: longer wins", "share", RULE, "what the longest response gets by the same rule"),
    "score_constant": Quantity("anchor: a constant", "share", RULE, "what equal scores get by the same rule"),
    "score_above_longer": Quantity("above longer-wins", "share", RULE, "the difference, on the same items"),
    "score_single": Quantity("first order shown only", "share", RULE, "strict accuracy in the order published"),
    "length_contrast": Quantity(
        "longer-biased less shorter-biased", "share", RULE, "subsets whose better answer is longer, less the opposite"
    ),
    "substance": Quantity("right less wrong", "nats", GRID, "at equal style, in units of the score"),
    "style_length": Quantity("detailed less concise", "nats", GRID, "averaged over right and wrong answers"),
    "style_markdown": Quantity("markdown less plain", "nats", GRID, "averaged over right and wrong answers"),
    "substance_by_length": Quantity(
        "substance, detailed less concise", "nats", GRID, "how length changes right less wrong"
    ),
    "substance_by_markdown": Quantity(
        "substance, markdown less plain", "nats", GRID, "how markdown changes right less wrong"
    ),
    "style_per_substance": Quantity(
        "style per substance", "number", GRID, "above 1 a wrong answer in rich style beats a right one in plain style"
    ),
    "position_consistency": Quantity(
        "same winner when swapped", "share", RIGHT, "pairs whose winner stays when the two change places"
    ),
    "first_position": Quantity(
        "prefers the first", "share", RIGHT, "share of pairs, in both orders, in which the first shown wins"
    ),
    "accuracy_voted": Quantity(
        "accuracy, pairs with votes", "share", PEOPLE, "accuracy on the pairs that two people or more judged"
    ),
    "length_within": Quantity(
        "reward with length", "number", LENGTH, "correlation of reward and log length, within prompts"
    ),
    "length_partial": Quantity("the same, given the label", "number", LENGTH, "what no label accounts for"),
    "length_pooled": Quantity("over all answers", "number", LENGTH, "prompts that get long answers move it too"),
    "length_pooled_rank": Quantity("over all answers, ranks", "number", LENGTH, "the same by Spearman"),
    "prefers_longer": Quantity("prefers the longer", "share", LENGTH, "pairs whose longer response is rewarded more"),
    "accuracy_length_matched": Quantity(
        "at equal length", "share", LENGTH, f"accuracy where lengths are within 10{PERCENT}"
    ),
    "accuracy_length_gap": Quantity(
        "longer less shorter", "share", LENGTH, "accuracy where the better answer is longer, less where it is shorter"
    ),
    "length_slope": Quantity(
        "worth of a margin, length apart", "number", LENGTH, "1 where its odds need no correction"
    ),
    "length_per_margin": Quantity(
        "length that people pay beyond it", "nats", LENGTH, "of a long answer; below 0 the model pays too much"
    ),
    "length_turns": Quantity("decisions that length turns", "share", LENGTH, "once length is paid for as people do"),
    "substance_sensitivity": Quantity("sees errors", "share", SEES, "answers that beat themselves with one error"),
    "placebo": Quantity("placebo", "number", CUES, "effect of edits that keep the meaning, in within-prompt spreads"),
    "mde": Quantity("smallest effect seen", "number", CUES, "four times in five, in within-prompt spreads"),
    "worst_flips": Quantity("most that a cue turns", "share", FLIPS, "its interval holds for all cues together"),
    "within_spread": Quantity("spread within a prompt", "nats", CUES, "the unit of the effects"),
    "grid_hard": Quantity("right, though plainer", "share", STYLES, "the right answer in the plainer style wins"),
    "grid_normal": Quantity("right, in equal style", "share", STYLES, "the right answer in the same style wins"),
    "grid_easy": Quantity("right, and richer", "share", STYLES, "the right answer in the richer style wins"),
    "grid_substance": Quantity("right less wrong", "number", STYLES, "at equal style, in within-prompt spreads"),
    "grid_longer": Quantity("longer less plain", "number", STYLES, "in within-prompt spreads"),
    "grid_markdown": Quantity("with markdown less without", "number", STYLES, "in within-prompt spreads"),
    "grid_style_per_substance": Quantity(
        "style per substance", "number", STYLES, "above 1 a wrong answer in rich style beats a right one in plain style"
    ),
    "relevance_auroc": Quantity("own above other prompts'", "share", PROMPT, "an answer to its own prompt wins"),
    "relevance_swap": Quantity(
        "fits its own prompt", "share", PROMPT, "two prompts with their answers beat them with answers exchanged"
    ),
    "prompt_free_share": Quantity(
        "margins that need no prompt", "number", PROMPT, "correlation with margins under another prompt; 1 reads none"
    ),
    "member_accuracy_mean": Quantity("accuracy of a member", "share", MEMBERS, "mean over the members"),
    "member_accuracy_min": Quantity("worst member", "share", MEMBERS),
    "member_accuracy_max": Quantity("best member", "share", MEMBERS),
    "ensemble_gain": Quantity(
        "gain of the ensemble", "share", MEMBERS, "its accuracy less its members' mean, pair by pair"
    ),
    "error_correlation": Quantity(
        "correlation of errors", "number", MEMBERS, "of what the label leaves unexplained of two members' margins"
    ),
    "disagreement": Quantity("disagreement", "share", MEMBERS, "how often two members name different winners"),
    "average_accuracy": Quantity(
        "averaged weights", "share", MEMBERS, "accuracy of the average of the members' weights"
    ),
    "average_gain": Quantity(
        "gain of averaging", "share", MEMBERS, "its accuracy less the members' mean, pair by pair"
    ),
    "path_gain": Quantity(
        "on the way between members", "share", MEMBERS, "accuracy between two members less the line between theirs"
    ),
    "average_less_ensemble": Quantity("averaged weights less the ensemble", "share", MEMBERS),
    "icc": Quantity("variance between prompts", "share", SCALE, "high: rewards of different prompts do not compare"),
    "temperature_spread": Quantity(
        "hottest over coldest source", "number", SCALE, "of temperatures; 1 where one scale serves all"
    ),
    "accuracy_difference": Quantity("accuracy, a less b", "share", BESIDE, "pair by pair, so its interval is narrow"),
    "only_a_right": Quantity("only a is right", "share", BESIDE, "pairs that a orders rightly and b does not"),
    "only_b_right": Quantity("only b is right", "share", BESIDE, "pairs that b orders rightly and a does not"),
    "mcnemar_p": Quantity(
        "p-value of equal accuracy",
        "number",
        BESIDE,
        "exact, pairs taken as independent; n counts those only one gets right",
    ),
    "agreement": Quantity("they agree", "share", BESIDE, "pairs that both order alike"),
    "margin_correlation": Quantity(
        "their margins agree", "number", BESIDE, "1 where one is the other on another scale"
    ),
    "nll_difference": Quantity("log loss, a less b", "nats", ODDS, "below 0 the odds of a say more"),
    "ece_difference": Quantity("calibration error, a less b", "share", ODDS, "below 0 a means its odds more"),
}


TASKS: Mapping[str, tuple[str, Unit, str]] = {  # of the alignment tax: label, unit and meaning of a score
    "text": ("text", "nats", "log-likelihood a token of held-out text"),
    "minimal_pairs": ("grammar", "share", "pairs of sentences of which the right one is likelier"),
    "cloze": ("last word", "share", "sentences whose right last word is likelier than three others"),
    "arithmetic": ("sums", "share", "sums to two digits whose result is likelier than three near misses"),
    "copy": ("copying", "nats", "log-likelihood a token of a list that was read just before"),
    "unrepeated": ("without repeats", "share", "runs of four words in a reply that had not stood in it before"),
    "distinct": ("different pairs", "share", "different pairs of words among all in the replies' beginnings"),
    "vocabulary": ("vocabulary", "nats", "entropy of the words of the replies' beginnings"),
    "answered": ("answered", "share", "harmless requests that are not declined"),
    "json": ("valid JSON", "share", "requests for a JSON object that are answered with one"),
}
QUANTITIES = {
    **QUANTITIES,
    "tax_mean": Quantity("mean tax", "number", TAX, "mean over tasks of what was lost, in standard errors of each"),
    "tax_worst": Quantity(
        "worst tax", "number", TAX, "the largest loss of a task, in standard errors, allowing for the choice"
    ),
    **{
        f"{kind}_{name}{form}": Quantity(f"{label}{where}{end}", unit, TAX, says)
        for name, (label, unit, says) in TASKS.items()
        for form, where in (("", ""), ("_chat", " in a chat"))
        for kind, end in (("tax", ", lost"), ("score", ""))
    },
}
SIGNALS: Mapping[str, tuple[str, str]] = {  # of doubt: label, and what counts as doubt
    "margin": ("margin", "a small margin"),
    "laplace": ("spread", "a wide spread of the margin, by Laplace on the head"),
    "ratio": ("margin over spread", "a margin that is small beside its spread"),
    "shift": ("strange text", "a text unlike the training data"),
    "members": ("disagreement", "members that disagree"),
}
QUANTITIES = {
    **QUANTITIES,
    **{
        f"error_auroc_{name}": Quantity(
            f"{label} tells errors",
            "share",
            DOUBT,
            f"a wrong pair has more of it than a right one: {says}; 50 % is chance",
        )
        for name, (label, says) in SIGNALS.items()
    },
    **{
        f"aurc_{name}": Quantity(
            f"mean error, by {label}", "share", DOUBT, f"over how many pairs are answered, last those with {says}"
        )
        for name, (label, says) in SIGNALS.items()
    },
    "aurc_random": Quantity("mean error, in any order", "share", DOUBT, "what a doubt that says nothing gets"),
    "abstain_threshold": Quantity("abstain below", "nats", DOUBT, "margin from which few answers are wrong, surely"),
    "abstain_coverage": Quantity("then it answers", "share", DOUBT, "pairs whose margin is that large"),
    "abstain_error": Quantity("and is wrong in", "share", DOUBT, "of the answers given, on these comparisons"),
    "outside": Quantity("outside its data", "share", STRANGE, "replies with p at most 0.05; of its own kind 5 % are"),
    "false_alarms": Quantity(
        "false alarms", "share", STRANGE, "of these comparisons' replies, if they are of its kind"
    ),
}


def quantity(key: str) -> Quantity:
    """What is known of a key. "nll_before" (or "nll_a") is "nll" with its suffix; an unknown key is a number under its own name."""
    if key in QUANTITIES:
        return QUANTITIES[key]
    stem, _, suffix = key.rpartition("_")
    if stem in QUANTITIES and suffix in ("before", "after", "a", "b"):
        known = QUANTITIES[stem]
        return Quantity(f"{known.label}, {suffix}", known.unit, known.part, known.meaning)
    if key.startswith("tax_") or (key.startswith("score_") and suffix in ("before", "after")):  # a task by its own name
        return Quantity(key.replace("_", " "), "number", TAX)
    if key.startswith("score_"):
        part, _, anchor = key.removeprefix("score_").rpartition("_")
        if part and anchor in ("longer", "constant"):
            return Quantity(f"{part.replace('_', ' ')}, {QUANTITIES[f'score_{anchor}'].label}", "share", ANCHORS)
        return Quantity(key.removeprefix("score_").replace("_", " "), "share", RULE)
    if known_by := _of_edits(key):
        return known_by
    for start, label, says in (
        ("shift_auroc_", "tells apart", "such a reply looks stranger than one of these comparisons; 50 % is blind"),
        ("detected_", "noticed", "such replies with p at most 0.05"),
    ):
        if key.startswith(start):
            return Quantity(f"{label}: {key.removeprefix(start).replace('_', ' ')}", "share", STRANGE, says)
    return Quantity(key.replace("_", " "), "number", OTHER)


def _of_edits(key: str) -> Quantity | None:
    """What a key of the audit's edits means: cue_NAME, cue_NAME_flips, cue_NAME_doses, substance_NAME."""
    kind, _, name = key.partition("_")
    label, _, of = name.rpartition("_")
    if kind == "cue" and of in ("flips", "doses"):
        unit: Unit = "share" if of == "flips" else "number"
        return Quantity(label.replace("_", " "), unit, FLIPS if of == "flips" else DOSES)
    if kind in ("cue", "substance") and name:
        return Quantity(name.replace("_", " "), "number" if kind == "cue" else "share", CUES if kind == "cue" else SEES)
    return None


def parts(report: Report) -> Iterator[tuple[str, list[tuple[Quantity, Estimate]]]]:
    """The estimates in tables by subject, subjects and rows in the order in which they are first met."""
    tables: dict[str, list[tuple[Quantity, Estimate]]] = {}
    for key, estimate in report.estimates.items():
        known = quantity(key)
        tables.setdefault(known.part, []).append((known, estimate))
    yield from tables.items()


def number(value: float, unit: Unit) -> str:
    """A share as a percentage with one decimal, anything else with three digits; a dash where there is none."""
    if not math.isfinite(value):
        return "–"
    return f"{100 * value:.1f}{PERCENT}" if unit == "share" else f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"


def interval(estimate: Estimate, unit: Unit) -> str:
    """The 95 % interval in brackets, or the words for having none."""
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return "no interval"
    low, high = number(estimate.low, unit), number(estimate.high, unit)
    return f"[{low.removesuffix(PERCENT)}, {high.removesuffix(PERCENT)}]"


def phrase(estimate: Estimate, unit: Unit) -> str:
    """The value with its interval, as in a sentence."""
    return f"{number(estimate.value, unit)} {interval(estimate, unit)}"


def headline(report: Report, *, counted: bool = True) -> str:
    """What the report says, in a sentence or two, from its summary, estimates and findings; how many warnings if `counted`."""
    found = report.estimates
    own = report.findings if report.gate is None else [finding for finding, *_ in inner_findings(report)]
    errors = sum(finding.severity == "error" for finding in report.findings)
    warnings = sum(finding.severity == "warning" for finding in own)
    if errors:
        return f"Refused: {errors} check{'s' * (errors > 1)} failed; until that is mended no number can be trusted."
    said = [report.summary.removesuffix(".")] if report.summary else []
    if "accuracy" in found:
        ceiling = (
            f", of a ceiling of {phrase(found['ceiling_majority'], 'share')}" if "ceiling_majority" in found else ""
        )
        said.append(f"The model orders {phrase(found['accuracy'], 'share')} of pairs as people do{ceiling}")
    if "longer_wins" in found:
        said.append(f"preferring the longer answer gets {phrase(found['longer_wins'], 'share')}")
    if "temperature" in found:
        said.append(f"One nat is {phrase(found['temperature'], 'number')} raw units of reward")
    if {"nll_before", "nll_after"} <= set(found):
        said.append(f"log loss goes from {found['nll_before'].value:.3f} to {found['nll_after'].value:.3f}")
    sentence = "; ".join(said) + "." if said else ""
    warned = f"{warnings} warning{'s' * (warnings > 1)} below." if warnings else "No warnings." if not said else ""
    return " ".join(part for part in (sentence, warned if counted else "") if part)


def rank(finding: Finding) -> tuple[bool, bool, float, int]:
    """What findings are sorted by: errors, then what turns most decisions, then those of unknown cost, warnings first."""
    cost = finding.cost.value if finding.cost else math.nan
    known = math.isfinite(cost)
    severity = ("error", "warning", "note").index(finding.severity)
    return severity > 0, not known, -cost if known else 0.0, severity


def costs(cost: Estimate) -> str:
    """What a finding costs, as in a sentence."""
    return f"turns {phrase(cost, 'share')} of decisions"


def inner_findings(report: Report, place: str = "part") -> Iterator[tuple[Finding, str, str]]:
    """Every finding of a report and its parts, with the place and the title of the part: "part-1-2" is 1's second."""
    yield from ((finding, "" if place == "part" else place, report.title) for finding in report.findings)
    for i, section in enumerate(report.sections, 1):
        yield from inner_findings(section, f"{place}-{i}")
