"""Responses that are the same, empty, unfinished, refused, failed, or speak as a certain product."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from guerdon.contracts import Comparison
from guerdon.data.checks.contract import Fault, Row, RowCheck
from guerdon.data.hashes import normalize

__all__ = ["Texts", "contradict_ranks"]

IDENTICAL: Final = Fault(
    "error",
    "Identical responses",
    "have identical responses with different ranks, or no others",
    "Drop them: nothing can be learned from them.",
)
ALIKE: Final = Fault(
    "warning",
    "Responses identical but for case and spacing",
    "have responses with different ranks that differ in case, character width or white space only",
    "Drop them, unless formatting is what was judged.",
)
EMPTY: Final = Fault(
    "error", "Empty responses", "have a response without text", "Drop them, or find out where the text went."
)
CUT: Final = Fault(
    "warning",
    "Unfinished responses are preferred",
    "prefer a response that was cut at a token limit or leaves a code block open",
    "Collect them again with a higher limit, or a model learns to stop in the middle.",
)
FAILED: Final = Fault(
    "warning",
    "Error messages as responses",
    "have a response that is the error message of a server or a tool",
    "Drop them: the response was never written.",
)
REFUSED: Final = Fault(
    "warning",
    "Refusals are preferred",
    "prefer a response that begins as a refusal to one that does not",
    "Read some: a model learns to refuse what the prompts ask for.",
)
IDENTITY: Final = Fault(
    "warning",
    "Responses that name their maker",
    "have a response in which the assistant says which model or company it is",
    "Replace or drop them, or the model claims to be another's.",
)
_FAILED = re.compile(
    r"\s*(?:\{?\"?error\"?\s*[:=]|\$?ERROR\$?\b|error code: \d|(?:HTTP )?(?:429|500|502|503)\b.{0,40}(?:error|too many|unavailable)"
    r"|rate limit (?:reached|exceeded)|too many requests|internal server error|bad gateway|service unavailable"
    r"|openai\.\w*error|\w+(?:Error|Exception): |traceback \(most recent call last\)|request timed out|null\s*$|none\s*$|nan\s*$"
    r"|\[?(?:no response|response (?:not available|blocked)|content filter(?:ed)?)\]?\.?\s*$)",
    re.IGNORECASE,
)
_CANNOT = r"(?:can(?:no|')t|cannot|won't|will not|am unable to|am not able to)"
_REFUSED = re.compile(
    rf"\s*(?:(?:i'?m|i am|we are) (?:very |really |so )?sorry[,.]? (?:but )?(?:i|as an|we)\b.{{0,40}}?\b(?:{_CANNOT}|unable|not able)"
    rf"|sorry,? (?:but )?i {_CANNOT}"
    rf"|(?:i apologize,? (?:but )?)?i {_CANNOT} (?:help|assist|provide|comply|fulfill|answer|do that|support|create|generate)"
    rf"|as an ai(?: language)?(?: model| assistant)?,? i (?:{_CANNOT}|do not|don't))",
    re.IGNORECASE,
)
_MAKER = r"(?:openai|anthropic|google|deepmind|meta ai|mistral ai|alibaba|deepseek|xai|lmsys|stability ai|baidu)"
_IDENTITY = re.compile(
    r"\b(?:i am|i'm|my name is|as) (?:chatgpt|gpt-?[345]\w*|claude|bard|gemini|llama|vicuna|qwen|alpaca|open ?assistant)\b"
    rf"|\b(?:as|i am|i'm) an? (?:\w+ ){{0,4}}(?:model|assistant|ai)\b.{{0,30}}\b(?:trained|developed|created|built|made) by {_MAKER}\b"
    rf"|\bi was (?:trained|developed|created|built|made) by {_MAKER}\b",
    re.IGNORECASE,
)
# One of which each match of _IDENTITY has, of the makers behind "by"; a quick look for them saves the slow one.
_PRODUCTS = ("gpt", "claude", "bard", "gemini", "llama", "vicuna", "qwen", "alpaca", "assistant")
_MAKERS = (
    *("openai", "anthropic", "google", "deepmind", "meta ai", "mistral"),
    *("alibaba", "deepseek", "xai", "lmsys", "stability ai", "baidu"),
)


class Texts(RowCheck):
    """Faults that responses show by themselves."""

    def faults(self, row: Row) -> Iterator[Fault]:
        """What is wrong with the responses."""
        comparison = row.comparison
        texts = [response.text for response in comparison.responses]
        if any(response.is_empty for response in comparison.responses):
            yield EMPTY
        if contradict_ranks(row.identities, row.ranks):
            yield IDENTICAL
        elif _may_be_alike(comparison) and contradict_ranks(row.normalized, row.ranks):
            yield ALIKE
        best = [i for i, rank in enumerate(row.ranks) if rank == 0] if row.pairs else []
        if any(_is_unfinished(comparison, i) for i in best):
            yield CUT
        if any(len(text) < 1000 and _FAILED.match(text) for text in texts):
            yield FAILED
        refusals = [bool(_REFUSED.match(text)) for text in texts]
        if best and all(refusals[i] for i in best) and not all(refusals):
            yield REFUSED
        if any(_names_maker(text) for text in texts):
            yield IDENTITY


def contradict_ranks(contents: Sequence[object], ranks: Sequence[int]) -> bool:
    """Whether all responses are the same, or two that are the same have different ranks."""
    rank_of: dict[object, int] = {}
    for content, rank in zip(contents, ranks, strict=True):
        if rank_of.setdefault(content, rank) != rank:
            return True
    return len(rank_of) == 1


def _may_be_alike(comparison: Comparison) -> bool:
    """Whether two plain responses begin alike but for case and width; a look at their first words saves a whole one."""
    starts = sorted(normalize("".join(response.text.split(None, 1)[:1])) for response in comparison.responses)
    has_messages = any(response.messages for response in comparison.responses)
    return has_messages or any(second.startswith(first) for first, second in pairwise(starts))


def _names_maker(text: str) -> bool:
    lowered = text.casefold()
    is_possible = any(map(lowered.__contains__, _PRODUCTS)) or (
        " by " in lowered and any(map(lowered.__contains__, _MAKERS))
    )
    return is_possible and bool(_IDENTITY.search(text))


def _is_unfinished(comparison: Comparison, i: int) -> bool:
    response = comparison.responses[i]
    return response.finish == "length" or (response.text.count("\n```") + response.text.startswith("```")) % 2 == 1
