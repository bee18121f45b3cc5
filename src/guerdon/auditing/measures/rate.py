"""What an attribute is worth, from rewrites of rewrites (RATE): Reber 2024, arXiv 2410.11348.

An answer is rewritten to the other value of the attribute, and the result rewritten back. Both texts that are compared have
then been through the rewriter, so that what it changes besides the attribute cancels. The rewriter is yours, a language model
most often; for some attributes an edit does it, and then nothing else changes at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from guerdon.auditing.probes import prose
from guerdon.auditing.probes.edits import CUES
from guerdon.auditing.probes.sample import (
    Pair,
    Text,
    sample_pairs,
    score_rows,
)
from guerdon.contracts import (
    Estimate,
    Example,
    Finding,
    GuerdonError,
    Report,
    Response,
)
from guerdon.formulas.cues import naive_rate, rate, within_spread
from guerdon.formulas.estimation import Interval

if TYPE_CHECKING:
    from guerdon.config import AuditOptions
    from guerdon.contracts import Comparison, Prompt, RewardModel
    from guerdon.models.scored_pairs import Progress

__all__ = ["ATTRIBUTES", "Attribute", "Rewrite", "measure_rate"]

FLOOR = 0.2  # standard deviations within a prompt
FEWEST = 10  # groups

Rewrite = Callable[["Prompt", str, str, bool], str]  # prompt, answer, attribute, the value that it is to have


@dataclass(frozen=True, slots=True)
class Attribute:
    """A property that an answer has or has not, with the edits that give it and take it away."""

    name: str
    says: str
    has: Callable[[str], bool]
    give: Callable[[str], str]
    take: Callable[[str], str]

    def rewrite(self, prompt: Prompt, text: str, attribute: str, value: bool) -> str:
        """The text with or without the attribute; as it is where it has that value already."""
        if self.has(text) == value:
            return text
        return self.give(text) if value else self.take(text)


def measure_rate(
    model: RewardModel,
    comparisons: Sequence[Comparison],
    attribute: str,
    options: AuditOptions,
    *,
    has: Callable[[str], bool] | None = None,
    rewrite: Rewrite | None = None,
    progress: Progress | None = None,
) -> Report:
    """The effect of an attribute on the answers of at most options.cue_rows pairs.

    `has` says whether a text has the attribute, `rewrite` gives a text the attribute or takes it away; both come with the
    attributes of ATTRIBUTES. Keys, in standard deviations of answers to one prompt: rate_ate, rate_att, rate_atu (effect on
    all, on those that have it, on those that have not), rate_naive (from one rewrite: with all that the rewriter changes).
    """
    ours = ATTRIBUTES.get(attribute)
    if (has is None or rewrite is None) and ours is None:
        raise GuerdonError(
            f"rate: no edit is known for {attribute!r}, only for {', '.join(ATTRIBUTES)}; remedy: give both has and rewrite"
        )
    has, rewrite = has or ours.has, rewrite or ours.rewrite  # type: ignore[union-attr]
    pairs = sample_pairs(comparisons, options.cue_rows, options.seed)
    if not pairs:
        raise GuerdonError("rate: no pair of two different answers; remedy: give comparisons with two texts each")
    chains = [_Chain.of(pair, text, attribute, has, rewrite) for pair in pairs for text in (pair.better, pair.worse)]
    scored = score_rows(model, [_together(*chains[i : i + 2]) for i in range(0, len(chains), 2)], progress)
    known = [(pair, reward) for pair, reward in zip(pairs, scored, strict=True) if reward is not None]
    unit = within_spread(np.array([reward[0] - reward[3] for _, reward in known])) or 1.0
    rewards = [reward for pair in scored for reward in ((None, None) if pair is None else (pair[:3], pair[3:]))]
    rows = [(c, r / unit) for c, r in zip(chains, rewards, strict=True) if r is not None and c.once != c.text]
    facts = {"attribute": attribute, "answers rewritten": f"{len(rows)} of {2 * len(known)}"}
    if not rows:
        return Report("Rewrites", facts)
    original, once, twice = np.array([r for _, r in rows]).T
    treated = np.array([chain.has for chain, _ in rows])
    groups = np.array([chain.pair.group for chain, _ in rows], dtype=np.str_)
    found = rate(once, twice, treated, groups, options.draws, options.seed)
    naive = naive_rate(original, once, treated, groups, options.draws, options.seed)
    named = {"rate_ate": found.ate, "rate_att": found.att, "rate_atu": found.atu, "rate_naive": naive.ate}
    estimates = {name: Estimate(*interval) for name, interval in named.items() if interval.n}
    facts["answers that have it"] = str(int(treated.sum()))
    order = np.argsort(-np.abs(twice - once), kind="stable")[:2]
    examples = tuple(rows[i][0].shown(attribute, unit * once[i], unit * twice[i]) for i in order)
    return Report(
        "Rewrites", facts, estimates, _findings(ours.says if ours else attribute, found.ate, naive.ate, examples)
    )


@dataclass(frozen=True, slots=True)
class _Chain:
    """An answer, rewritten to the other value of the attribute, and back; `has` is of the answer itself."""

    pair: Pair
    text: str
    once: str
    twice: str
    has: bool

    @staticmethod
    def of(pair: Pair, text: str, attribute: str, has: Callable[[str], bool], rewrite: Rewrite) -> _Chain:
        value = has(text)
        once = rewrite(pair.prompt, text, attribute, not value)
        return _Chain(pair, text, once, rewrite(pair.prompt, once, attribute, value), value)

    def shown(self, attribute: str, once: float, twice: float) -> Example:
        """The two rewrites, for a person to read."""
        labels = (f"rewritten {'without' if self.has else 'with'} it", "rewritten back")
        texts = (Response(self.once), Response(self.twice))
        return Example(f"Rewritten: {attribute}", self.pair.prompt, texts, labels, (float(once), float(twice)))


def _together(*chains: _Chain) -> list[Text]:
    """Every text of these chains: as it was, rewritten, rewritten back."""
    return [(chain.pair.prompt, text) for chain in chains for text in (chain.text, chain.once, chain.twice)]


def _findings(says: str, ate: Interval, naive: Interval, examples: tuple[Example, ...]) -> tuple[Finding, ...]:
    evidence = (
        f"effect {Estimate(*ate)} standard deviations of answers to one prompt; a single rewrite would have said "
        f"{Estimate(*naive)}"
    )
    if ate.n >= FEWEST and abs(ate.value) > FLOOR and not ate.low <= 0 <= ate.high:
        title = f"{'Rewarded' if ate.value > 0 else 'Penalized'} by rewrites: {says}"
        remedy = "Where it should not matter, add pairs that differ in this alone, as ties."
        return (Finding("warning", title, evidence, remedy, None, examples),)
    return (Finding("note", f"No effect shown by rewrites: {says}", evidence),)


# ---- Attributes that an edit gives and takes ---------------------------------------------------------------------

PICTURE = re.compile(r"\s*[\U0001F300-\U0001FAFF\u2600-\u27BF\uFE0F\u200D]+")
BULLET = re.compile(r"^[ \t]*[-*+•][ \t]+", re.MULTILINE)
CLOSING = re.compile(
    r"\s*(?:I hope (?:this|that) helps|Please let me know|Let me know if|Feel free to ask|Have a (?:great|nice) day)[^.!?\n]*[.!?]*",
    re.IGNORECASE,
)
OPENING = re.compile(
    r"^\s*(?:What a|That['’]s a|That is a)?\s*(?:wonderful|great|good|excellent) question[.!]*\s*", re.IGNORECASE
)


def _cue(name: str) -> Callable[[str], str]:
    return lambda text: CUES[name](text) or text


def _in_prose(pattern: re.Pattern[str], new: str) -> Callable[[str], str]:
    """Replace a pattern outside code."""

    def take(text: str) -> str:
        for match in reversed(prose.free_matches(pattern, text)):
            text = text[: match.start()] + match.expand(new) + text[match.end() :]
        return text

    return take


def _found(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: bool(prose.free_matches(pattern, text))


def _as_paragraph(text: str) -> str:
    """Bulleted lines as sentences of a paragraph."""
    return re.sub(r"\n(?=\S)", " ", _in_prose(BULLET, "")(text)) if not prose.fences(text) else text


def _attributes(*some: Attribute) -> dict[str, Attribute]:
    return {attribute.name: attribute for attribute in some}


BOLD = re.compile(r"\*\*(?=\S)([^*\n]+?)(?<=\S)\*\*")
ATTRIBUTES: Mapping[str, Attribute] = _attributes(
    Attribute("emoji", "emoji", _found(PICTURE), _cue("emoji"), _in_prose(PICTURE, "")),
    Attribute("bold", "words in bold", _found(BOLD), _cue("bold"), _in_prose(BOLD, r"\1")),
    Attribute("bullets", "a list", _found(BULLET), _cue("bullets"), _as_paragraph),
    Attribute("politeness", "a polite ending", _found(CLOSING), _cue("politeness"), _in_prose(CLOSING, "")),
    Attribute("flattery", "praise of the question", _found(OPENING), _cue("flattery"), _in_prose(OPENING, "")),
)
