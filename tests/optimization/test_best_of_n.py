"""Best-of-N: a pool is the same however it was drawn, bad prompts are counted, and the curve says what a choice is worth."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from toys import Good

from guerdon import progress
from guerdon.config import BestOfNOptions, PolicyOptions
from guerdon.contracts import (
    GuerdonError,
    Message,
    Policy,
    Response,
    Rollouts,
    as_prompt,
    digest,
)
from guerdon.io import readers, writers
from guerdon.models.policy import load_policy
from guerdon.models.remote_policy import PromptRefused, ServerError
from guerdon.optimization.best_of_n import (
    Pool,
    SeededPolicy,
    best_of_n,
    curve,
    read_pool,
    to_comparisons,
    to_report,
    to_sft_rows,
    win_rate,
    write_pool,
)
from guerdon.optimization.rewards import combined

TESTS = Path(__file__).parents[1]
WORDS = ("good", "bad", "small", "river", "often")
SPEC = {"policy": "toy", "reward": "toy", "data file": 1}


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setitem(progress.QUIET, "on", True)


class Parrot:
    """Says one to six words; what it says depends on the prompt and the seed. "long" prompts are too much for it."""

    def __init__(self, pause: float = 0.0) -> None:
        self.pause, self.calls = pause, 0

    def sample(self, prompts, n, max_tokens, temperature, seed):
        return self.sample_with_seeds(prompts, n, max_tokens, temperature, [seed] * len(prompts))

    def sample_with_seeds(self, prompts, n, max_tokens, temperature, seeds):
        self.calls += 1
        time.sleep(self.pause)
        asked = [as_prompt(prompt) for prompt in prompts]
        for i, prompt in enumerate(asked):
            if "long" in prompt[-1].content:
                raise GuerdonError(f"prompt {i}: 900 tokens where 512 fit; remedy: drop it")
        responses = []
        for prompt, seed in zip(asked, seeds, strict=True):
            rng = random.Random(f"{prompt[-1].content} {seed}")
            for _ in range(n):
                size = rng.randint(1, 6)
                text = " ".join(rng.choices(WORDS, k=min(size, max_tokens)))
                responses.append(Response(text, finish="length" if size > max_tokens else "stop"))
        return Rollouts(tuple(p for p in asked for _ in range(n)), tuple(responses))


class Loner:
    """A parrot that takes one seed a call, and keeps log-probabilities."""

    def sample(self, prompts, n, max_tokens, temperature, seed):
        assert len(prompts) == 1
        drawn = Parrot().sample(prompts, n, max_tokens, temperature, seed)
        words = [len(response.text.split()) for response in drawn.responses]
        return dataclasses.replace(drawn, log_prob=-math.log(len(WORDS)) * np.array(words, dtype=np.float64))


def options(**given):
    return BestOfNOptions(**{"n": 4, "prompts_at_once": 3, **given})


def asked(num):
    return [f"prompt {i}" for i in range(num)]


def drawn(prompts, policy=None, reward=None, *, gold=None, skip=0, **given):
    rows = []
    counts = best_of_n(
        policy or Parrot(),
        reward or combined(Good()),
        prompts,
        options(**given),
        gold=gold,
        sink=rows.extend,
        skip=skip,
    )
    return rows, counts


def length(prompts, responses):
    return [-len(response.text) for response in responses]


def pool_of(proxy, gold=None, texts=None, **given) -> Pool:
    proxy = np.array(proxy, dtype=np.float64)
    texts = texts or [[f"reply {i} {j}" for j in range(proxy.shape[1])] for i in range(len(proxy))]
    return Pool(
        tuple(as_prompt(f"prompt {i}") for i in range(len(proxy))),
        tuple(tuple(Response(text, finish="stop") for text in row) for row in texts),
        proxy,
        None if gold is None else np.array(gold, dtype=np.float64),
        **given,
    )


# ---- Drawing -----------------------------------------------------------------------------------------------------


def test_a_row_holds_every_reply_its_rewards_and_the_first_best():
    rows, counts = drawn(asked(5), gold=combined(length))
    assert counts == {"prompts": 5, "responses": 20, "excluded": 0}
    for i, row in enumerate(rows):
        assert set(row) == {"id", "prompt", "responses", "reward", "gold", "best"}
        assert row["prompt"] == [{"role": "user", "content": f"prompt {i}"}]
        assert row["id"] == digest([["user", f"prompt {i}"]])
        texts = [response["text"] for response in row["responses"]]
        assert row["reward"] == [text.split().count("good") for text in texts]
        assert row["gold"] == [-len(text) for text in texts]
        assert row["best"] == row["reward"].index(max(row["reward"]))
        assert {response["finish"] for response in row["responses"]} == {"stop"}
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_a_reply_that_was_cut_says_so():
    rows, _ = drawn(asked(10), max_tokens=2)
    finishes = [response["finish"] for row in rows for response in row["responses"]]
    assert set(finishes) == {"stop", "length"}


def test_what_policy_and_reward_know_besides_is_kept():
    class Doubtful(Good):
        def score(self, prompts, responses):
            found = super().score(prompts, responses)
            return dataclasses.replace(found, std=found.value + 1, shift_p=np.full(len(responses), 0.5))

    (row,), _ = drawn(asked(1), Loner(), combined(Doubtful()))
    assert row["std"] == [value + 1 for value in row["reward"]]
    assert row["shift_p"] == [0.5] * 4
    assert row["log_prob"] == [-math.log(5) * len(response["text"].split()) for response in row["responses"]]


def test_how_many_prompts_go_together_changes_no_row():
    expected, _ = drawn(asked(11))
    for size in (1, 2, 64):
        assert drawn(asked(11), prompts_at_once=size)[0] == expected


def test_prompts_are_scored_together():
    sizes = []

    class Counting(Good):
        def score(self, prompts, responses):
            sizes.append(len(responses))
            return super().score(prompts, responses)

    drawn(asked(7), reward=combined(Counting()))
    assert sizes == [12, 12, 4]


def test_a_policy_with_one_seed_a_call_draws_the_same_in_any_company():
    assert isinstance(Loner(), Policy)
    assert not isinstance(Loner(), SeededPolicy)
    together, _ = drawn(asked(7), Loner(), prompts_at_once=7)
    assert drawn(asked(7), Loner(), prompts_at_once=1)[0] == together
    without = [{name: value for name, value in row.items() if name != "log_prob"} for row in together]
    assert without == drawn(asked(7))[0]


def test_a_prompt_that_comes_twice_gets_new_draws_and_another_seed_too():
    rows, _ = drawn(["again"] * 4)
    texts = [json.dumps(row["responses"]) for row in rows]
    assert len(set(texts)) == 4
    assert len({row["id"] for row in rows}) == 1
    assert json.dumps(drawn(["again"], seed=1)[0][0]["responses"]) not in texts


@pytest.mark.parametrize("skip", [1, 3, 7, 10, 11])
def test_a_run_that_skips_gives_the_rest_of_an_unbroken_one(skip):
    expected, _ = drawn(asked(10))
    assert drawn(asked(10), skip=skip)[0] == expected[skip:]


def test_prompts_are_streamed_and_rows_are_not_kept():
    most = 0

    def many():
        nonlocal most
        for i in range(3000):
            most = max(most, i - given)
            yield (Message("user", f"prompt {i} " + "word " * 100),)

    given = 0

    def count(rows):
        nonlocal given
        given += len(rows)

    tracemalloc.start()
    try:
        best_of_n(Parrot(), combined(Good()), many(), options(n=2), sink=count)
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()
    assert given == 3000
    assert most <= 4


def test_no_prompts_are_an_error():
    with pytest.raises(GuerdonError, match="best of n: no prompts"):
        drawn([])


# ---- Exclusions --------------------------------------------------------------------------------------------------


def test_prompts_that_cannot_be_answered_are_counted_and_change_no_other():
    prompts = asked(12)
    expected, _ = drawn(prompts)
    bad = {1: "", 4: "a long one", 5: " \n ", 8: "too long", 11: "long"}
    for place, prompt in bad.items():
        prompts[place] = prompt
    for policy in (Parrot(), Loner()):
        rows, counts = drawn(prompts, policy)
        assert counts == {"prompts": 12, "responses": 28, "excluded": 5}
        assert [row["id"] for row in rows] == [digest([["user", prompt]]) for prompt in prompts]
        for place, row in enumerate(rows):
            row.pop("log_prob", None)
            if place in bad:
                assert set(row) == {"id", "prompt", "excluded"}
                reason = "900 tokens where 512 fit; remedy: drop it" if bad[place].strip() else "the prompt is empty"
                assert row["excluded"] == reason
            else:
                assert row == expected[place]


def test_a_reply_that_a_reward_refuses_costs_its_prompt_only():
    def picky(prompts, responses):
        if any("3" in prompt[-1].content for prompt in prompts):
            raise ValueError("three")
        return [0.0] * len(responses)

    for gold in (None, combined(picky)):
        rows, counts = drawn(asked(6), reward=combined(Good()) if gold else combined(picky), gold=gold)
        assert counts["excluded"] == 1
        assert rows[3]["excluded"].startswith("reward picky: raised ValueError (three) for 4 responses")


@pytest.mark.parametrize("which", ["reward", "gold"])
def test_a_reward_that_is_not_finite_is_never_written(which):
    def broken(prompts, responses):
        return [
            math.nan if "3" in p[-1].content and "good" in r.text else 1.0
            for p, r in zip(prompts, responses, strict=True)
        ]

    given = {"reward": combined(broken)} if which == "reward" else {"gold": combined(broken)}
    rows, counts = drawn(["prompt", "prompt 3 3", "last"], n=16, **given)
    assert counts["excluded"] == 1
    assert rows[1]["excluded"].startswith(f"{which}: ")
    assert rows[1]["excluded"].endswith("of 16 replies have no finite number")


def test_a_language_model_says_the_same_in_any_company_and_refuses_what_is_too_long(tiny_dir):
    policy = load_policy(PolicyOptions(base=str(tiny_dir), max_prompt=40))
    prompts = ["write a review", "write " * 60, "write a review", "tell a story of a film", ""]
    expected, counts = drawn(prompts, policy, max_tokens=6, prompts_at_once=8)
    assert counts == {"prompts": 5, "responses": 12, "excluded": 2}
    assert "where 40 fit" in expected[1]["excluded"]
    assert not expected[1]["excluded"].startswith("prompt")
    assert expected[0]["responses"] != expected[2]["responses"]
    for skip, size in ((0, 1), (2, 2)):
        for row, other in zip(
            expected[skip:], drawn(prompts, policy, max_tokens=6, prompts_at_once=size, skip=skip)[0], strict=True
        ):
            assert row.get("responses") == other.get("responses")
            np.testing.assert_allclose(row.get("log_prob", 0), other.get("log_prob", 0), atol=1e-4)
    assert all(value < 0 for value in expected[0]["log_prob"])


class Dying(Parrot):
    """Says nothing more after some calls."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.left = calls

    def sample_with_seeds(self, *given):
        self.left -= 1
        if self.left < 0:
            raise GuerdonError("http://localhost: connection refused; remedy: start the server")
        return super().sample_with_seeds(*given)


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_policy_that_dies_stops_the_run_and_excludes_nobody(calls):
    rows = []
    with pytest.raises(GuerdonError, match="connection refused"):
        best_of_n(Dying(calls), combined(Good()), asked(9), options(), sink=rows.extend)
    assert rows == drawn(asked(9))[0][: 3 * calls]


class Service(Parrot):
    """A parrot behind a server that takes prompts one after another, refuses long ones, and dies after so many replies."""

    def __init__(self, lives: int = 10**9) -> None:
        super().__init__()
        self.lives, self.asked = lives, 0

    def sample_with_seeds(self, prompts, n, max_tokens, temperature, seeds):
        partial = {}
        for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
            if self.asked >= self.lives:
                raise ServerError("http://localhost/v1: connection refused; remedy: see its log", partial)
            if "long" in as_prompt(prompt)[-1].content:
                raise PromptRefused(f"http://localhost/v1: prompt {i}: HTTP 400: too long; remedy: drop it", partial)
            self.asked += 1
            partial[i] = super().sample_with_seeds([prompt], n, max_tokens, temperature, [seed]).responses
        return Rollouts(tuple(as_prompt(p) for p in prompts for _ in range(n)), sum(partial.values(), ()))


@pytest.mark.parametrize("lives", [0, 1, 2, 3, 5, 8])
def test_a_server_that_dies_takes_no_prompt_with_it_that_was_answered(tmp_path, lives):
    with pytest.raises(ServerError, match="connection refused"):
        written(tmp_path / "pool.jsonl", 9, policy=Service(lives))
    partial = tmp_path / "pool.jsonl.partial"
    assert (partial.read_bytes().count(b"\n") if partial.exists() else 0) == lives
    again = Service()
    assert written(tmp_path / "pool.jsonl", 9, policy=again) == written(tmp_path / "whole.jsonl", 9)
    assert again.asked == 9 - lives


def test_a_prompt_that_a_server_refuses_costs_itself_only_and_no_reply_is_drawn_twice():
    service = Service()
    prompts = ["prompt 0", "a long one", "prompt 2", "prompt 3", "prompt 4", "a long one"]
    rows, counts = drawn(prompts, service)
    assert counts == {"prompts": 6, "responses": 16, "excluded": 2}
    assert rows[1]["excluded"] == "http://localhost/v1: HTTP 400: too long; remedy: drop it"
    assert [rows[i] for i in (0, 2, 3, 4)] == [drawn(["prompt 0", "x", *prompts[2:5]])[0][i] for i in (0, 2, 3, 4)]
    assert service.asked == 4 + 1  # one more to see that it still speaks
    with pytest.raises(PromptRefused):
        drawn(["a long one", "a long one"], Deaf())


class Deaf(Service):
    def sample_with_seeds(self, prompts, *how):
        raise PromptRefused("http://localhost/v1: prompt 0: HTTP 422: no such field; remedy: change it")


def test_a_reward_that_is_broken_throughout_stops_the_run_with_its_own_error():
    def broken(prompts, responses):
        return 1 / 0

    with pytest.raises(GuerdonError, match="reward broken: raised ZeroDivisionError") as told:
        drawn(asked(3), reward=combined(broken))
    assert isinstance(told.value.__cause__, ZeroDivisionError)
    with pytest.raises(GuerdonError, match=r"none of 4 responses gets a finite number"):
        drawn(asked(3), reward=combined(lambda prompts, responses: [math.nan] * len(responses)))


def test_a_policy_that_gives_too_few_replies_is_told():
    class Short(Parrot):
        def sample_with_seeds(self, prompts, n, *rest):
            return super().sample_with_seeds(prompts, n - 1, *rest)

    with pytest.raises(GuerdonError, match="the policy gave 3 replies, not 4 to each of 1 prompts"):
        drawn(asked(3), Short())


def test_a_prompt_that_is_none_is_told_with_its_place():
    with pytest.raises(GuerdonError, match="prompt 1: a message must be a mapping"):
        drawn(["a", [{"text": "b"}]])


# ---- Files -------------------------------------------------------------------------------------------------------


def written(path, num=40, made_of=None, **given):
    counts = write_pool(
        path, given.pop("policy", None) or Parrot(), combined(Good()), asked(num), options(**given),
        identity=SPEC, made_of=made_of,
    )  # fmt: skip
    return counts, path.read_bytes()


def test_a_killed_run_goes_on_without_gaps_or_repeats(tmp_path):
    out = tmp_path / "pool.jsonl"
    script = (
        "import sys, importlib.util as u\n"
        "spec = u.spec_from_file_location('best', sys.argv[1]); best = u.module_from_spec(spec)\n"
        "spec.loader.exec_module(best)\n"
        "from pathlib import Path; best.written(Path(sys.argv[2]), 300, policy=best.Parrot(0.02))"
    )
    process = subprocess.Popen([sys.executable, "-c", script, __file__, out], cwd=TESTS)
    partial = tmp_path / "pool.jsonl.partial"
    deadline = time.monotonic() + 100
    while not (partial.exists() and partial.stat().st_size > 4000) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert {path.name for path in tmp_path.iterdir()} == {"pool.jsonl.partial", "pool.jsonl.journal"}
    before = partial.read_bytes().count(b"\n")
    assert 0 < before < 300
    for name in ("partial", "journal"):  # what a power cut may leave
        with (tmp_path / f"pool.jsonl.{name}").open("ab") as file:
            file.write(b'{"half')

    policy = Parrot()
    counts, body = written(out, 300, policy=policy)
    assert 0 < policy.calls < 100
    assert counts == {"prompts": 300, "responses": 1200, "excluded": 0}
    assert body == written(tmp_path / "whole.jsonl", 300)[1]
    names = {"pool.jsonl", "whole.jsonl"}
    assert {path.name for path in tmp_path.iterdir()} == names | {f"{name}.made.json" for name in names}


def test_a_finished_pool_is_drawn_no_second_time(tmp_path):
    out, all_of_it = tmp_path / "pool.jsonl", {"and": "1"}
    first = written(out, made_of=all_of_it)
    policy = Parrot()

    def draws(**given):
        policy.calls = 0
        found = written(out, policy=policy, **given)
        return policy.calls > 0, found

    assert draws(made_of=all_of_it) == (False, first)
    assert draws()[0]  # where not all is known that a row depends on
    assert draws(made_of={"and": "2"})[0]
    assert draws(made_of=all_of_it)[0]
    assert not draws(made_of=all_of_it)[0]


def test_a_pool_that_was_made_of_something_else_stays(tmp_path):
    out = tmp_path / "pool.jsonl"
    _, body = written(out)
    policy = Parrot()
    with pytest.raises(
        GuerdonError, match="was drawn with another set of options; remedy: delete it, or pass another --out"
    ):
        written(out, policy=policy, seed=1)
    for change in (
        lambda: (tmp_path / "pool.jsonl.made.json").write_text("[]"),
        lambda: (tmp_path / "pool.jsonl.made.json").unlink(),
        lambda: out.write_bytes(body[:-1]),
    ):
        change()
        with pytest.raises(GuerdonError, match="is not a pool that was drawn by this command"):
            written(out, policy=policy)
    assert policy.calls == 0
    assert out.read_bytes() == body[:-1]


def test_a_pool_goes_to_a_file_that_can_be_read_again(tmp_path):
    policy = Parrot()
    with pytest.raises(GuerdonError, match=r"r\.py: a pool is written as \.jsonl"):
        written(tmp_path / "r.py", policy=policy)
    assert policy.calls == 0


class Slow(Service):
    """A service that never answers one prompt, and keeps log-probabilities where it is asked for them."""

    def __init__(self, log_probs=False, lives=10**9) -> None:
        super().__init__(lives)
        self.log_probs, self.tried = log_probs, 0

    def sample_with_seeds(self, prompts, n, max_tokens, temperature, seeds):
        partial, nats = {}, {}
        for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
            text = as_prompt(prompt)[-1].content
            if self.asked >= self.lives or "stuck" in text:
                self.tried += "stuck" in text
                raise ServerError(f"http://localhost/v1: prompt {i}: no answer", partial, nats, i)
            self.asked += 1
            partial[i] = Parrot.sample_with_seeds(self, [prompt], n, max_tokens, temperature, [seed]).responses
            if self.log_probs:
                nats[i] = [-float(len(each.text)) for each in partial[i]]
        log_prob = np.array([x for each in nats.values() for x in each]) if self.log_probs else None
        found = Rollouts(tuple(as_prompt(p) for p in prompts for _ in range(n)), sum(partial.values(), ()))
        return dataclasses.replace(found, log_prob=log_prob)

    def can_answer(self, prompt):
        return self.asked < self.lives


def test_a_prompt_on_which_a_server_gives_up_costs_itself_only():
    service = Slow()
    prompts = ["prompt 0", "stuck", "prompt 2", "prompt 3"]
    rows, counts = drawn(prompts, service)
    assert counts["excluded"] == 1
    assert rows[1]["excluded"] == "http://localhost/v1: no answer"
    assert [rows[i] for i in (0, 2, 3)] == [drawn(["prompt 0", "x", *prompts[2:]])[0][i] for i in (0, 2, 3)]
    assert (service.tried, service.asked) == (1, 3)


@pytest.mark.parametrize("log_probs", [False, True])
def test_replies_wait_for_the_prompts_before_theirs_when_a_server_dies(tmp_path, log_probs):
    """A group of three in which the first comes last: what the others were answered is not asked for again."""

    class Unfair(Slow):
        def sample_with_seeds(self, prompts, n, max_tokens, temperature, seeds):
            if len(prompts) < 2:
                return super().sample_with_seeds(prompts, n, max_tokens, temperature, seeds)
            try:
                turned = super().sample_with_seeds(prompts[::-1], n, max_tokens, temperature, seeds[::-1])
            except ServerError as error:
                back = lambda given: {len(prompts) - 1 - at: each for at, each in given.items()}  # noqa: E731
                raise ServerError("gone", back(error.partial), back(error.log_prob), 0) from None
            order = [i * n + j for i in range(len(prompts))[::-1] for j in range(n)]
            responses = tuple(turned.responses[i] for i in order)
            nats = None if turned.log_prob is None else turned.log_prob[order]
            return dataclasses.replace(turned, prompts=(), responses=responses, log_prob=nats)

    out = tmp_path / "pool.jsonl"
    with pytest.raises(ServerError, match="gone"):
        written(out, 3, policy=Unfair(log_probs, lives=2))
    assert {path.name for path in tmp_path.iterdir()} == {"pool.jsonl.replies.json"}
    again = Unfair(log_probs)
    found = written(out, 3, policy=again)
    assert again.asked == 1
    assert {path.name for path in tmp_path.iterdir()} == {"pool.jsonl", "pool.jsonl.made.json"}
    assert found == written(tmp_path / "whole.jsonl", 3, policy=Slow(log_probs))


def test_a_bad_prompt_that_stands_last_is_seen_to_be_one_by_those_before_it():
    """A reward that would not take an invented text either."""

    def picky(prompts, responses):
        if not all(prompt[-1].content in ("prompt 0", "prompt 1") for prompt in prompts):
            raise ValueError("unknown prompt")
        return [0.0] * len(responses)

    rows, counts = drawn(["prompt 0", "prompt 1", "prompt 9"], reward=combined(picky))
    assert counts["excluded"] == 1
    assert "unknown prompt" in rows[2]["excluded"]


def test_what_the_reward_did_not_see_whole_is_told(tmp_path):
    class Short(Good):
        def score(self, prompts, responses):
            found = super().score(prompts, responses)
            return dataclasses.replace(found, truncated=np.array(["1" in p[-1].content for p in prompts]))

    out = tmp_path / "pool.jsonl"
    write_pool(out, Parrot(), combined(Short()), asked(3), options())
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row.get("partly_read") for row in rows] == [None, [1] * 4, None]
    pool = read_pool(out)
    assert pool.partly_read.tolist() == [[False] * 4, [True] * 4, [False] * 4]
    finding = next(f for f in to_report(pool).findings if f.title == "The reward saw only a part of some texts")
    assert finding.evidence == "of 33.3 % of replies, with their prompts, the beginning was left out"


def test_a_run_with_other_options_does_not_go_on_from_this_one(tmp_path):
    out = tmp_path / "pool.jsonl"
    with pytest.raises(GuerdonError, match="refused"):
        written(out, policy=Dying(2))
    with pytest.raises(GuerdonError, match="was begun with another set of options"):
        written(out, seed=1)
    assert written(out, prompts_at_once=2)[0]["prompts"] == 40
    assert out.read_bytes() == written(tmp_path / "whole.jsonl")[1]


def test_exclusions_are_counted_over_all_parts_of_a_run(tmp_path):
    prompts = [prompt if i % 5 else "" for i, prompt in enumerate(asked(20))]
    arguments = (combined(Good()), prompts, options())
    with pytest.raises(GuerdonError, match="refused"):
        write_pool(tmp_path / "pool.jsonl", Dying(4), *arguments, identity=SPEC)
    counts = write_pool(tmp_path / "pool.jsonl", Parrot(), *arguments, identity=SPEC)
    assert counts == {"prompts": 20, "responses": 64, "excluded": 4}
    pool = read_pool(tmp_path / "pool.jsonl")
    assert len(pool.prompts) == 16
    assert pool.excluded[1] == (f"{tmp_path / 'pool.jsonl'}:6", "the prompt is empty")


def test_half_a_character_survives_the_file(tmp_path):
    class Half(Parrot):
        def sample_with_seeds(self, prompts, n, *rest):
            asked = tuple(as_prompt(prompt) for prompt in prompts for _ in range(n))
            return Rollouts(asked, tuple(Response("\ud83d good\u2028") for _ in asked))

    write_pool(tmp_path / "pool.jsonl", Half(), combined(Good()), ["a \udc00"], options())
    pool = read_pool(tmp_path / "pool.jsonl")
    assert pool.prompts[0][0].content == "a \udc00"
    assert {response.text for response in pool.responses[0]} == {"\ud83d good\u2028"}


def test_a_pool_is_read_as_it_was_drawn(tmp_path):
    write_pool(tmp_path / "a.jsonl", Loner(), combined(Good()), asked(5), options(), gold=combined(length))
    rows, _ = drawn(asked(5), Loner(), gold=combined(length))
    pool = read_pool(tmp_path / "a.jsonl")
    assert (pool.size, pool.excluded) == (4, ())
    for i, row in enumerate(rows):
        assert pool.prompts[i] == as_prompt(row["prompt"])
        assert [response.text for response in pool.responses[i]] == [reply["text"] for reply in row["responses"]]
        assert pool.proxy[i].tolist() == row["reward"]
        assert pool.gold[i].tolist() == row["gold"]
        assert pool.log_prob[i].tolist() == row["log_prob"]
        assert pool.best[i] == row["best"]
    assert pool.std is pool.shift_p is None


def row_of(**changes):
    made = {"prompt": "p", "responses": ["a", "b"], "reward": [1.0, 2.0], "best": 1} | changes
    return {name: value for name, value in made.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"responses": ["a"], "reward": [1.0], "best": 0},
            r"has 1 replies where .*pool\.jsonl:1 has 2; remedy: draw all",
        ),
        ({"reward": [1.0]}, r"reward must be a list of 2 numbers, one per reply, got \[1\.0\]"),
        ({"reward": [1.0, math.nan]}, r"reward\[1\] must be a finite number, got nan"),
        ({"reward": [1.0, "2"]}, r"reward\[1\] must be a finite number, got '2'"),
        ({"reward": None}, r"reward is missing\. Draw the pool"),
        ({"responses": [], "reward": [], "best": 0}, "responses is missing"),
        ({"gold": [1.0, 2.0]}, "gold is in some rows and not in others"),
        ({"log_prob": [-1.0, 2.0]}, r"log_prob\[1\] must be a log-probability"),
        ({"shift_p": [0.0, 2.0]}, r"shift_p\[1\] must be a probability"),
        ({"best": 0}, "field best is 0, but reward is highest at 1"),
        ({"rewards": [1.0]}, r"rewards is not a known field\. Did you mean reward\?"),
        ({"responses": ["a", 3]}, r"responses\[1\]"),
        ({"prompt": None}, "row must be an object with prompt and response"),
    ],
)
def test_a_row_that_is_no_part_of_the_pool_is_told_with_its_line(tmp_path, changes, said):
    path = tmp_path / "pool.jsonl"
    path.write_text(json.dumps(row_of()) + "\n" + json.dumps(row_of(**changes)) + "\n")
    with pytest.raises(GuerdonError, match=rf"pool\.jsonl:2: {said}"):
        read_pool(path)


def test_a_pool_of_exclusions_only_is_an_error(tmp_path):
    path = tmp_path / "pool.jsonl"
    path.write_text(json.dumps({"id": "a", "prompt": [], "excluded": "the prompt is empty"}) + "\n")
    with pytest.raises(GuerdonError, match=r"every prompt was left out \(the prompt is empty\)"):
        read_pool(path)


# ---- The curve ---------------------------------------------------------------------------------------------------


def test_the_curve_is_the_mean_over_all_choices():
    rng = np.random.default_rng(0)
    proxy, gold = rng.integers(0, 4, size=(6, 7)).astype(float), rng.normal(size=(6, 7))
    found = curve(pool_of(proxy, gold), [1, 2, 3, 7], draws=100)
    for point in found.points:
        chosen = list(itertools.combinations(range(7), point.n))
        best = [
            [gold[p, [i for i in c if proxy[p, i] == proxy[p, list(c)].max()]].mean() for c in chosen] for p in range(6)
        ]
        assert point.gold.value == pytest.approx(np.mean(best))
        assert point.proxy.value == pytest.approx(
            np.mean([[proxy[p, list(c)].max() for c in chosen] for p in range(6)])
        )
        assert point.gold_gain.value == pytest.approx(np.mean(best) - gold.mean())
        assert point.proxy_gain.value == pytest.approx(point.proxy.value - proxy.mean())
    np.testing.assert_allclose(found.gold.mean(axis=0), [point.gold_gain.value for point in found.points])


def test_a_constant_of_a_prompt_changes_no_gain():
    """Only differences within a prompt mean anything: the offset widens the mean's interval, never the gain's."""
    rng = np.random.default_rng(1)
    proxy = rng.normal(size=(30, 16))
    offset = 100 * rng.normal(size=(30, 1))
    plain, shifted = (curve(pool_of(values), draws=200).points[-1] for values in (proxy, proxy + offset))
    assert shifted.proxy_gain.value == pytest.approx(plain.proxy_gain.value)
    assert shifted.proxy_gain.low == pytest.approx(plain.proxy_gain.low)
    assert shifted.proxy.high - shifted.proxy.low > 10 * (plain.proxy.high - plain.proxy.low)


def test_n_goes_to_a_quarter_of_the_pool_unless_told():
    pool = pool_of(np.random.default_rng(2).normal(size=(3, 64)))
    assert [point.n for point in curve(pool, draws=100).points] == [1, 2, 4, 8, 16]
    assert curve(pool, most=64, draws=100).points[-1].n == 64
    assert [point.n for point in curve(pool, [3, 5], draws=100).points] == [3, 5]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ns": [1, 8]}, "n = 8 of pools of 4 replies; remedy: draw more"),
        ({"ns": []}, "ns are rising numbers from 1"),
        ({"ns": [2, 1]}, "ns are rising numbers from 1"),
        ({"ns": [0, 1]}, "ns are rising numbers from 1"),
        ({"most": 5}, "best_of_n.most_n=5: the pool has 4 replies a prompt"),
    ],
)
def test_an_n_that_the_pool_cannot_answer_is_refused(given, said):
    with pytest.raises(GuerdonError, match=said):
        curve(pool_of([[1, 2, 3, 4]]), **given)


def test_intervals_are_by_prompt_and_equal_prompts_are_one():
    pool = pool_of(np.random.default_rng(3).normal(size=(10, 8)))
    assert curve(pool, draws=100).points[-1].proxy.n == 10
    twice = dataclasses.replace(pool, prompts=pool.prompts[:5] * 2)
    assert curve(twice, draws=100).points[-1].proxy.n == 5
    alone = curve(pool_of([[1, 2, 3, 4]]), draws=100).points[0]
    assert math.isnan(alone.proxy.low)


def test_without_ties_the_chosen_wins_n_times_in_n_plus_one():
    proxy = np.random.default_rng(4).normal(size=(3, 12))
    for n in (1, 2, 5, 11):
        np.testing.assert_allclose(win_rate(proxy, n), n / (n + 1))
    assert curve(pool_of(proxy), [12], draws=100).points[0].win_rate is None


def test_with_ties_the_win_rate_is_that_of_all_choices():
    proxy = np.random.default_rng(5).integers(0, 3, size=(4, 7)).astype(float)
    for n in (1, 2, 4, 6):
        expected = []
        for row in proxy:
            won = [
                0.5 * (1 + np.sign(row[list(some)].max() - row[one]))
                for one in range(7)
                for some in itertools.combinations([i for i in range(7) if i != one], n)
            ]
            expected.append(np.mean(won))
        np.testing.assert_allclose(win_rate(proxy, n), expected)
        assert (win_rate(proxy, n) <= n / (n + 1) + 1e-12).all()
    np.testing.assert_allclose(win_rate(np.ones((1, 5)), 3), 0.5)


def law(probabilities, scores, prompts=40, size=512, seed=0, known=True):
    """A pool of texts 0, 1, ... with given probabilities and rewards."""
    rng = np.random.default_rng(seed)
    said = rng.choice(len(probabilities), p=probabilities, size=(prompts, size))
    texts = [[str(one) for one in row] for row in said]
    log_prob = np.log(np.asarray(probabilities))[said] if known else None
    return pool_of(np.asarray(scores)[said], texts=texts, log_prob=log_prob)


@pytest.mark.parametrize("known", [True, False])
def test_the_estimated_kl_lies_between_the_truth_and_the_bound(known):
    """Ten equal texts: log 10 nats at most, where the bound grows for ever."""
    found = curve(law(np.full(10, 0.1), np.arange(10.0), known=known), [1, 2, 4, 16, 64], draws=200)
    for point in found.points:
        top = np.diff((np.arange(11) / 10) ** point.n)
        exact = float(np.sum(top * np.log(top / 0.1)))
        assert exact - 0.01 <= point.kl.value <= point.kl_bound + 0.01
    assert found.points[-1].kl.value == pytest.approx(math.log(10), abs=0.05)
    assert found.points[-1].kl_bound > 3
    assert found.kl_from.startswith("log-prob" if known else "counts")
    assert found.duplicates.value == pytest.approx(1 - 10 / 512)


def test_replies_that_never_repeat_have_the_bound():
    pool = pool_of(np.random.default_rng(6).normal(size=(20, 256)))
    for known in (False, True):
        log_prob = np.full((20, 256), -80.0) if known else None
        found = curve(dataclasses.replace(pool, log_prob=log_prob), draws=100)
        assert found.duplicates.value == 0
        for point in found.points:
            assert point.kl.value == pytest.approx(point.kl_bound, abs=0.01)


def test_a_reply_that_was_cut_does_not_repeat_one_that_ended():
    pool = pool_of([[1.0, 1.0]], texts=[["a", "a"]])
    cut = (Response("a", finish="length"), Response("a", finish="stop"))
    assert curve(pool, draws=100).duplicates.value == 0.5
    assert curve(dataclasses.replace(pool, responses=(cut,)), draws=100).duplicates.value == 0


# ---- The report and the next round -------------------------------------------------------------------------------


def titles(report):
    return [finding.title for finding in report.findings]


def test_the_report_shows_gains_against_n_and_kl():
    rng = np.random.default_rng(7)
    proxy = rng.normal(size=(30, 64))
    gold = proxy - 0.5 * proxy**2
    report = to_report(pool_of(proxy, gold))
    assert report.title == "Best of 16"
    assert list(report.estimates) == ["proxy_gain", "gold_gain", "kl", "win_rate", "duplicates", "unfinished"]
    assert list(report.curves) == ["proxy_by_n", "proxy_by_kl", "gold_by_n", "gold_by_kl"]
    assert report.curves["gold_by_n"].x == (1, 2, 4, 8, 16)
    assert report.curves["gold_by_kl"].x[-1] == pytest.approx(math.sqrt(report.estimates["kl"].value))
    assert report.curves["proxy_by_n"].y[-1] == report.estimates["proxy_gain"]
    assert titles(report) == ["Larger n are not shown"]
    assert report.examples[0].title == "The proxy rose and gold fell most"
    assert 2 <= len(report.examples) <= 3
    for example in report.examples:
        assert example.rewards[1] > example.rewards[0]
        assert example.labels[1].startswith("best of 64, gold")
        assert len({example.prompt for example in report.examples}) == len(report.examples)


def test_a_report_without_gold_or_change_has_none_to_show():
    report = to_report(pool_of(np.ones((4, 8))))
    assert "gold_gain" not in report.estimates
    assert list(report.curves) == ["proxy_by_n", "proxy_by_kl"]
    assert report.examples == ()


def test_duplicates_show_both_kls_and_what_was_left_out_is_told():
    pool = dataclasses.replace(
        law(np.full(4, 0.25), np.arange(4.0), size=32),
        excluded=(("a:1", "the prompt is empty"), ("a:5", "the prompt is empty"), ("a:9", "too long")),
    )
    report = to_report(pool)
    assert titles(report) == ["3 of 43 prompts were left out", "Many replies are equal", "Larger n are not shown"]
    assert report.findings[0].evidence == "2 x the prompt is empty; 1 x too long"
    assert "the bound says 1.204 nats, the estimate" in report.findings[1].evidence
    assert report.about["prompts left out"] == "3"
    full = to_report(pool, curve(pool, most=32, draws=100))
    assert "Larger n are not shown" not in titles(full)


def test_cut_replies_are_counted_in_the_report():
    rows, _ = drawn(asked(6), max_tokens=2)
    replies = tuple(tuple(Response(**reply) for reply in row["responses"]) for row in rows)
    pool = dataclasses.replace(pool_of([row["reward"] for row in rows]), responses=replies)
    report = to_report(pool)
    cut = np.mean([reply.finish == "length" for some in replies for reply in some])
    assert report.estimates["unfinished"].value == pytest.approx(cut)
    assert "Some replies did not end" in titles(report)


def test_the_best_replies_become_rows_to_fine_tune_on():
    pool = pool_of([[1, 3, 2, 3], [0, 0, 0, 0]], texts=[["a", "b", "c", "b"], ["d", "e", "f", "g"]])
    assert list(to_sft_rows(pool)) == [
        {"prompt": [{"role": "user", "content": "prompt 0"}], "response": "b", "reward": 3.0},
        {"prompt": [{"role": "user", "content": "prompt 1"}], "response": "d", "reward": 0.0},
    ]
    assert [row["response"] for row in to_sft_rows(pool, top=2)] == ["b", "c", "d", "e"]
    with pytest.raises(GuerdonError, match="top is at least 1"):
        list(to_sft_rows(pool, top=0))


def test_nobody_is_taught_to_stop_in_the_middle():
    pool = pool_of([[1, 3], [1, 2]])
    cut = tuple(tuple(dataclasses.replace(r, finish="length") for r in row) for row in pool.responses)
    half = ((pool.responses[0][0], cut[0][1]), cut[1])
    assert [row["response"] for row in to_sft_rows(dataclasses.replace(pool, responses=half))] == ["reply 0 0"]


def test_best_and_worst_become_comparisons_and_ties_do_not(tmp_path):
    pool = pool_of([[1, 3, 0], [2, 2, 2], [5, 1, 4], [0, 0.5, 0]])
    found = list(to_comparisons(pool))
    assert [[r.text for r in c.responses] for c in found] == [
        ["reply 0 1", "reply 0 2"],
        ["reply 2 0", "reply 2 1"],
        ["reply 3 0", "reply 3 1"],
    ]
    assert [c.preference.groups for c in found] == [((0,), (1,)), ((0,), (1,)), ((1,), (0,))]
    assert [c.preference.strength for c in found] == [3.0, 4.0, 0.5]
    assert {c.source for c in found} == {"best-of-n"}
    assert [c.prompt for c in to_comparisons(pool, least_gap=3.0)] == [pool.prompts[2]]
    writers.write_comparisons(tmp_path / "next.jsonl", found)
    assert list(readers.read_comparisons(tmp_path / "next.jsonl")) == found
    with pytest.raises(GuerdonError, match="least_gap is a finite number"):
        list(to_comparisons(pool, least_gap=-1))
