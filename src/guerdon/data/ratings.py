"""Texts that many people rated, as comparisons: two texts of one domain answer the prompt of that domain."""

from __future__ import annotations

import html
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from guerdon.contracts import Comparison, GuerdonError, Message, Preference, Prompt, Response, digest
from guerdon.errors import did_you_mean, field_error

__all__ = ["PROMPTS", "rating_comparisons"]

PROMPTS: Mapping[str, str] = {
    "tweets": "Write a tweet. The more positive its feeling, the better.",
    "movies": "Write a sentence of a film review. The more positive its feeling, the better.",
    "editorials": "Write a sentence of a newspaper editorial. The more positive its feeling, the better.",
    "products": "Write a sentence of a product review. The more positive its feeling, the better.",
}

Rated = tuple[str, tuple[int, ...]]


def rating_comparisons(rows: Iterable[tuple[str, str, Sequence[int]]], count: int, seed: int) -> list[Comparison]:
    """`count` comparisons from rows of (domain, text, ratings by independent people), domains in proportion to their texts.

    Each text is in at most one comparison (copies are dropped first), so comparisons are independent and no split can put
    one text on both sides: `group` is the pair itself, never the prompt. `seed` draws the pairs, their order and the votes.

    q is P(X > Y) + P(X = Y) / 2 for X, Y drawn from the two texts' ratings: the probability that one reader rates the
    first above another reader's rating of the second. Readers are not matched: the starter kit does not identify them.
    Its columns are not raters: within blocks of 10 to 50 neighboring rows, the mean square between columns over the
    residual's is between 0.93 and 1.05 for tweets, editorials and products, as for shuffled rows. Only film reviews come
    in blocks of 30 by the same people (ratio 9.0); matching them would change q by 0.03 on average (correlation 0.99),
    0.02 further from a tie, so one rule serves all domains.

    votes pairs the raters at random, one to one, and counts (first above, equal, second above): as many votes as the text
    with fewer ratings has, each rating used once, so votes are independent judgments. q is the expected share of votes
    over all pairings, ties counted half. ratings["positivity"] of a response is the mean of its text's ratings.
    """
    rng = random.Random(seed)
    domains = _by_domain(rows)
    quotas = _quotas({domain: len(texts) // 2 for domain, texts in domains.items()}, count)
    comparisons = []
    for domain, texts in domains.items():
        rng.shuffle(texts)
        for i in range(quotas[domain]):
            comparisons.append(_compare(domain, texts[2 * i], texts[2 * i + 1], rng))
    rng.shuffle(comparisons)
    return comparisons


def _compare(domain: str, first: Rated, second: Rated, rng: random.Random) -> Comparison:
    texts = [first[0], second[0]]
    return Comparison(
        prompt=Prompt([Message("user", PROMPTS[domain])]),
        responses=tuple(Response(text, ratings={"positivity": sum(r) / len(r)}) for text, r in (first, second)),
        preference=Preference(q=_q(first[1], second[1]), votes=_votes(first[1], second[1], rng)),
        annotator="crowd",
        source=domain,
        group=digest([domain, sorted(texts)]),
    )


def _q(first: Sequence[int], second: Sequence[int]) -> float:
    x, y = Counter(first), Counter(second)
    halves = sum(n * m * ((a > b) * 2 + (a == b)) for a, n in x.items() for b, m in y.items())
    return halves / (2 * len(first) * len(second))


def _votes(first: Sequence[int], second: Sequence[int], rng: random.Random) -> tuple[int, int, int]:
    num = min(len(first), len(second))
    pairs = list(zip(rng.sample(first, num), rng.sample(second, num), strict=True))
    above, equal = sum(a > b for a, b in pairs), sum(a == b for a, b in pairs)
    return above, equal, num - above - equal


def _by_domain(rows: Iterable[tuple[str, str, Sequence[int]]]) -> dict[str, list[Rated]]:
    """Texts and ratings by domain; of several copies of a text, in any domain, the first is kept."""
    domains: dict[str, list[Rated]] = {}
    seen: set[str] = set()
    for number, (domain, text, ratings) in enumerate(rows, start=1):
        if domain not in PROMPTS:
            raise field_error(f"ratings row {number}: domain", "a known domain", domain, did_you_mean(domain, PROMPTS))
        if not ratings:
            raise GuerdonError(f"ratings row {number}: {text[:40]!r} must have ratings, got none. Drop the row.")
        text = _clean(text)
        key = _copy_key(text)
        if text and key not in seen:
            seen.add(key)
            domains.setdefault(domain, []).append((text, tuple(ratings)))
    return domains


def _clean(text: str) -> str:
    """The text on one line, HTML entities unescaped twice (some were escaped twice)."""
    return " ".join(html.unescape(html.unescape(text)).split())


def _copy_key(text: str) -> str:
    """Equal for copies of a text: its letters and digits, or the text itself if it has none (emoticons)."""
    return "".join(c for c in text.casefold() if c.isalnum()) or text


def _quotas(available: Mapping[str, int], count: int) -> dict[str, int]:
    """The number of pairs from each domain, `count` in all, in proportion to its texts, by largest remainders."""
    total = sum(available.values())
    if not 1 <= count <= total:
        raise field_error("count", f"from 1 to {total}, the number of pairs of the rated texts", count, "Change count.")
    quotas = {domain: count * num // total for domain, num in available.items()}
    by_remainder = sorted(available, key=lambda domain: -(count * available[domain] % total))
    for domain in by_remainder[: count - sum(quotas.values())]:
        quotas[domain] += 1
    return quotas
