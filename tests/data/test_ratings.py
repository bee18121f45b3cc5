from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from guerdon.contracts import GuerdonError
from guerdon.data.ratings import PROMPTS, rating_comparisons

ROWS = [
    ("tweets", "Best day of my life!", (4, 4, 3)),
    ("tweets", "My dog died.", (-3, -4, -3)),
    ("movies", "A fine film &amp; a kind one.", (2, 1, 2, 0)),
    ("movies", "It is 90 minutes long.", (0, 0, 1)),
]


def some_rows(num: int, seed: int = 0) -> list[tuple[str, str, tuple[int, ...]]]:
    rng = random.Random(seed)
    domains = ["tweets", "movies", "movies", "products"]
    return [(domains[i % 4], f"text {i}", tuple(rng.choices(range(-4, 5), k=15 + i % 5))) for i in range(num)]


def test_q_is_the_probability_that_one_reader_rates_the_first_above_another_readers_rating_of_the_second():
    (film,) = [c for c in rating_comparisons(ROWS, 2, seed=0) if c.source == "movies"]
    # Of the 4 x 3 pairs "fine" is above in 2 * 3 (its twos) + 2 (its one) = 8 and equal in 1 (ones) + 2 (zeros) = 3.
    q = 9.5 / 12
    fine_is_first = film.responses[0].text.startswith("A fine")
    assert film.q == pytest.approx(q if fine_is_first else 1 - q)


def test_entities_are_read_and_the_prompt_states_the_criterion():
    comparisons = rating_comparisons(ROWS, 2, seed=0)
    assert "A fine film & a kind one." in {r.text for c in comparisons for r in c.responses}
    assert all(c.prompt[0].content == PROMPTS[c.source] and "better" in PROMPTS[c.source] for c in comparisons)


def test_a_unanimous_pair_is_certain_in_either_order():
    for seed in range(8):
        (tweet,) = [c for c in rating_comparisons(ROWS, 2, seed) if c.source == "tweets"]
        happy_is_first = tweet.responses[0].text.startswith("Best")
        assert tweet.q == (1.0 if happy_is_first else 0.0)
        assert tweet.preference.votes == ((3, 0, 0) if happy_is_first else (0, 0, 3))


def test_equal_ratings_are_a_tie():
    (tie,) = rating_comparisons([("tweets", "one", (1, 1)), ("tweets", "two", (1, 1))], 1, seed=0)
    assert tie.q == 0.5
    assert tie.preference.votes == (0, 2, 0)


def test_votes_use_each_rating_once_and_average_to_q():
    rows = [("tweets", "one", (3, 1, 0, -1, 2)), ("tweets", "two", (1, 0, 2))]
    shares = []
    for seed in range(2000):
        (c,) = rating_comparisons(rows, 1, seed)
        above, equal, below = c.preference.votes if c.responses[0].text == "one" else c.preference.votes[::-1]
        assert above + equal + below == 3
        shares.append((above + equal / 2) / 3)
    q = c.q if c.responses[0].text == "one" else 1 - c.q
    assert sum(shares) / len(shares) == pytest.approx(q, abs=0.02)


def test_each_text_is_used_once_so_no_split_can_put_it_on_both_sides():
    comparisons = rating_comparisons(some_rows(400), 180, seed=3)
    texts = Counter(r.text for c in comparisons for r in c.responses)
    assert max(texts.values()) == 1
    assert len({c.group for c in comparisons}) == len({c.id for c in comparisons}) == 180


def test_copies_are_dropped_even_across_domains():
    rows = [
        ("tweets", "Good, one.", (1,)),
        ("movies", "good one", (2,)),
        ("tweets", "other", (0,)),
        ("tweets", ":)", (3,)),
    ]
    rows += [("tweets", ":(", (-3,)), ("tweets", "  ", (0,))]
    (first, second) = rating_comparisons(rows, 2, seed=0)
    assert {r.text for c in (first, second) for r in c.responses} == {"Good, one.", "other", ":)", ":("}


def test_domains_contribute_in_proportion_and_the_counts_add_up():
    counts = Counter(c.source for c in rating_comparisons(some_rows(400), 101, seed=0))
    assert sum(counts.values()) == 101
    assert 50 <= counts["movies"] <= 51
    assert 25 <= counts["tweets"] <= 26


def test_the_first_position_is_no_better_than_the_second():
    comparisons = rating_comparisons(some_rows(2000), 900, seed=0)
    assert abs(sum(c.q for c in comparisons) / 900 - 0.5) < 0.02


def test_same_seed_same_comparisons_and_another_seed_others():
    rows = some_rows(100)
    assert rating_comparisons(rows, 40, seed=1) == rating_comparisons(iter(rows), 40, seed=1)
    assert rating_comparisons(rows, 40, seed=1) != rating_comparisons(rows, 40, seed=2)


@pytest.mark.parametrize(
    ("rows", "count", "words"),
    [
        (ROWS, 3, "count must be from 1 to 2, the number of pairs of the rated texts, got 3. Change count."),
        (ROWS, 0, "got 0. Change count."),
        ([], 1, "from 1 to 0, the number of pairs"),
        ([("poems", "a", (1,))], 1, "row 1: domain must be a known domain, got 'poems'. Choose from tweets"),
        ([("tweets", "a", ())], 1, "row 1: 'a' must have ratings, got none. Drop the row."),
    ],
)
def test_a_mistake_is_named_with_advice(rows, count, words):
    with pytest.raises(GuerdonError, match=re.escape(words)):
        rating_comparisons(rows, count, seed=0)
