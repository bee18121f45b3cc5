"""Best-of-N: replies drawn and scored into a pool, the best of each prompt kept; what a pool says, and what it is good for.

Axes: p prompts, N replies to each, m values of n <= N at which best-of-n is judged. The proxy is the reward that chooses,
gold one that only judges. KL is nats a reply, from best-of-n to the policy that drew the pool.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby, islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, final, runtime_checkable

import numpy as np
from scipy.special import gammaln
from scipy.stats import rankdata

from guerdon.contracts import (
    Comparison,
    Curve,
    Estimate,
    Example,
    Finding,
    GuerdonError,
    Policy,
    Preference,
    Prompt,
    PromptLike,
    Report,
    Response,
    Rollouts,
    as_prompt,
    prompt_digest,
)
from guerdon.formulas import best_of_n as formulas
from guerdon.formulas.resampling import bootstrap_mean
from guerdon.io import (
    fields,
    readers,
    run_folder,
    schema,
    writers,
)
from guerdon.models.remote_policy import PromptRefused, ServerError
from guerdon.progress import Bar, note

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from guerdon.config import BestOfNOptions
    from guerdon.optimization.rewards import Reward, Rewarded

__all__ = [
    "Point",
    "Pool",
    "PoolCurve",
    "SeededPolicy",
    "best_of_n",
    "curve",
    "read_pool",
    "to_comparisons",
    "to_report",
    "to_sft_rows",
    "write_pool",
]

Row = dict[str, Any]
MANY_DUPLICATES = 0.05  # share of replies from which on the KL bound is too loose to stand alone
KEYS = (
    "id", "prompt", "responses", "reward", "gold", "log_prob", "std", "shift_p", "partly_read", "best", "excluded",
)  # fmt: skip
NOWHERE = 1 << 62  # the place of a prompt that only finds out whether the policy still speaks
HELLO = (as_prompt("Hello."), Response("Hello.", finish="stop"))


@runtime_checkable
class SeededPolicy(Protocol):
    """A policy that draws for many prompts at once, each from a seed of its own, whatever its company."""

    def sample_with_seeds(
        self, prompts: Sequence[PromptLike], n: int, max_tokens: int, temperature: float, seeds: Sequence[int]
    ) -> Rollouts:
        """As Policy.sample; the draws of prompt i depend on the prompt and seeds[i] only."""
        ...


# ---- Drawing a pool ----------------------------------------------------------------------------------------------


def write_pool(
    path: str | Path,
    policy: Policy,
    reward: Reward,
    prompts: Iterable[PromptLike],
    options: BestOfNOptions,
    *,
    gold: Reward | None = None,
    identity: Mapping[str, Any] | None = None,
    made_of: Mapping[str, Any] | None = None,
) -> dict[str, int]:
    """Write a row a prompt, as `best_of_n` makes them; returns how many prompts, responses and excluded prompts.

    The file appears when it is whole. With an identity (names and JSON values that tell the policy, the rewards and the
    prompts from others) a killed run goes on after its last whole group, and its file is the one of an unbroken run. With
    `made_of` besides (what else a row depends on, all of it), a finished one is drawn no second time: PATH.made.json remembers it.
    A file that was made of something else stays, and is an error. Replies that came before a server failed, and could not
    be written yet, wait in PATH.replies.json.
    """
    target = Path(os.path.realpath(path))
    writers.refuse_other_ending(path, "a pool is")
    made, whole = target.with_name(f"{target.name}.made.json"), None
    waiting = target.with_name(f"{target.name}.replies.json")
    if identity is not None:
        identity = {
            **identity,
            "set of options": options.model_dump(include={"n", "max_tokens", "temperature", "seed"}),
        }
        identity = json.loads(json.dumps(identity))
        whole = json.loads(json.dumps({**identity, **made_of})) if made_of is not None else None
        if counts := _counts_of(target, made, identity, whole):
            note(f"{path}: whole already, nothing is drawn; delete it to draw anew")
            return counts
    with run_folder.resumable_write(path, identity) as chunks:
        if chunks.rows:
            note(f"{path}: goes on after {chunks.rows:,} prompts")

        def sink(rows: Sequence[Row]) -> None:
            lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
            # Half a character (a lone surrogate) becomes its escape, which JSON reads back as it was.
            body = "".join(lines).encode("utf-8", "backslashreplace")
            chunks.add(body, len(rows), sum(len(row.get("responses", ())) for row in rows))

        kept = _read_kept(waiting, identity)
        best_of_n(
            policy, reward, prompts, options, gold=gold, sink=sink, skip=chunks.rows, kept=kept,
            keep=None if identity is None else lambda kept: _write_kept(waiting, identity, kept),
        )  # fmt: skip
        excluded = chunks.rows - chunks.responses // options.n
    counts = {"prompts": chunks.rows, "responses": chunks.responses, "excluded": excluded}
    if identity is not None and target.is_file():
        writers.write_json(made, {"made of": whole or identity, "file": _file_digest(target), **counts})
        waiting.unlink(missing_ok=True)
    return counts


def _counts_of(path: Path, made: Path, identity: Mapping[str, Any], whole: Mapping[str, Any] | None) -> dict[str, int]:
    """What the pool at `path` holds, if it is still the file that was made of all this; nothing, if it has to be drawn.

    A file that was made of something else, or by somebody else, is an error.
    """
    if not path.is_file() or not path.stat().st_size:
        return {}
    said = readers.read_json(made) if made.is_file() else None
    of = said.get("made of") if isinstance(said, Mapping) else None
    if not isinstance(of, Mapping) or said is None or said.get("file") != _file_digest(path):
        raise GuerdonError(
            f"{path}: is not a pool that was drawn by this command; remedy: delete it, or pass another --out"
        )
    if differs := [name for name in identity if of.get(name) != identity[name]]:
        raise GuerdonError(
            f"{path}: was drawn with another {' and another '.join(differs)}; remedy: delete it, or pass another --out"
        )
    return {name: int(said[name]) for name in ("prompts", "responses", "excluded")} if of == whole else {}


def _write_kept(path: Path, identity: Mapping[str, Any], kept: Mapping[int, _Replies]) -> None:
    rows = {
        str(place): {"responses": [_response_row(each) for each in replies.responses], "log_prob": replies.log_prob}
        for place, replies in kept.items()
    }
    writers.write_json(path, {"made of": identity, "replies": rows})


def _read_kept(path: Path, identity: Mapping[str, Any] | None) -> dict[int, _Replies]:
    """Replies of an earlier try of this very pool."""
    said = readers.read_json(path) if identity is not None and path.is_file() else None
    if not isinstance(said, Mapping) or said.get("made of") != identity:
        return {}
    return {
        int(place): _Replies(tuple(Response(**each) for each in row["responses"]), row["log_prob"])
        for place, row in said["replies"].items()
    }


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def best_of_n(
    policy: Policy,
    reward: Reward,
    prompts: Iterable[PromptLike],
    options: BestOfNOptions,
    *,
    gold: Reward | None = None,
    sink: Callable[[Sequence[Row]], None],
    skip: int = 0,
    kept: Mapping[int, _Replies] | None = None,
    keep: Callable[[Mapping[int, _Replies]], None] | None = None,
) -> dict[str, int]:
    """Draw options.n replies to each prompt, score them, and give the rows to the sink, a group of prompts at a time.

    {id, prompt: [{role, content}], responses: [{text, finish}], reward: [N], gold?: [N], log_prob?: [N], std?: [N],
     shift_p?: [N], partly_read?: [N] of 0 and 1 where the reward did not see all of a text, best: index of the first reply
     with the highest reward}, or {id, prompt, excluded: reason}.

    Excluded are empty prompts, prompts of which a reply has no finite reward, and those that the policy or a reward
    refuses (too long, say) while another prompt still goes through; an error that befalls every prompt is raised. A prompt
    on which a server gives up while it answers another is one of these. When a server dies, the prompts that begin the
    group and have all their replies are given to the sink first, and all other whole sets of replies to `keep`, by the
    place of their prompt; `kept` are those of an earlier try.
    Draws depend on the seed and on a prompt's place only, so a run that skips the first `skip` prompts gives the same
    rows. No rows are kept: memory does not grow with the prompts. Returns how many prompts, responses and exclusions.
    """
    total = len(prompts) if isinstance(prompts, Sized) else None
    counts = {"prompts": 0, "responses": 0, "excluded": 0}
    desk = _Desk(policy, reward, gold, options, kept)
    numbered = islice(enumerate(prompts), skip, None)
    with closing(Bar(total, "best of n", "prompts", initial=skip)) as bar:
        # By place, not by count: wherever a run goes on, the same prompts are sampled and scored together.
        for _, group in groupby(numbered, lambda pair: pair[0] // options.prompts_at_once):
            asked = [_Asked(place, _prompt(place, prompt)) for place, prompt in group]
            try:
                rows = desk.rows(asked)
            except ServerError:
                came = desk.came(asked)
                left = {place: each for place, each in desk.kept.items() if place not in {one.place for one in came}}
                if came:
                    sink(desk.rows(came))
                if keep is not None:
                    keep(left)
                raise
            sink(rows)
            excluded = sum("excluded" in row for row in rows)
            counts["prompts"] += len(rows)
            counts["excluded"] += excluded
            counts["responses"] += options.n * (len(rows) - excluded)
            bar.advance(len(rows), excluded=counts["excluded"])
    if not counts["prompts"] and not skip:
        raise GuerdonError("best of n: no prompts; remedy: give at least one")
    return counts


class _Asked(NamedTuple):
    place: int
    prompt: Prompt


class _Drawn(NamedTuple):
    place: int
    prompt: Prompt
    responses: tuple[Response, ...]
    log_prob: list[float] | None


class _Replies(NamedTuple):
    """All that one prompt was answered."""

    responses: tuple[Response, ...]
    log_prob: list[float] | None


class _Done(NamedTuple):
    place: int
    row: Row


Item = TypeVar("Item", _Asked, _Drawn)
Made = TypeVar("Made", _Drawn, _Done)


@final
class _Desk:
    """Where groups of prompts become rows. Remembers one prompt that went well, to tell a bad prompt from a dead policy."""

    def __init__(
        self,
        policy: Policy,
        reward: Reward,
        gold: Reward | None,
        options: BestOfNOptions,
        kept: Mapping[int, _Replies] | None = None,
    ) -> None:
        self.policy, self.reward, self.gold, self.options = policy, reward, gold, options
        self.good = _Drawn(0, HELLO[0], (HELLO[1],) * options.n, None)
        self.kept = dict(kept or {})  # whole sets of replies of prompts that have no row yet
        self.stuck: dict[int, str] = {}  # prompts on which a server gave up that answers others, and what it said

    def came(self, group: Sequence[_Asked]) -> list[_Asked]:
        """The prompts that begin the group and need no more draws."""
        return list(takewhile(lambda each: each.place in self.kept or _is_empty(each.prompt), group))

    def rows(self, group: Sequence[_Asked]) -> list[Row]:
        """A row for each prompt, in order."""
        found = {
            asked.place: _excluded(asked.prompt, "the prompt is empty") for asked in group if _is_empty(asked.prompt)
        }
        asked = [each for each in group if each.place not in found]
        together = isinstance(self.policy, SeededPolicy)
        drawn = self._each(self._draw, asked, _Asked(NOWHERE, self.good.prompt), found, together)
        scored = self._each(self._score, drawn, self.good, found, True)
        found |= {done.place: done.row for done in scored}
        well = [each for each in drawn if "excluded" not in found[each.place]]
        self.good = well[-1] if well else self.good
        for each in group:
            self.kept.pop(each.place, None)
        return [found[each.place] for each in group]

    def _each(
        self,
        work: Callable[[Sequence[Item]], list[Made]],
        items: Sequence[Item],
        probe: Item,
        found: dict[int, Row],
        together: bool,
    ) -> list[Made]:
        """What the work makes of the items at once; where that fails, of each alone, and the failed are excluded.

        An error is an item's own only if the work still does something: the last failure is followed by another item
        that goes through, or one that went through before does so again, or the probe does.
        """
        if together or not items:
            try:
                return work(items) if items else []
            except GuerdonError as error:
                if _is_gone(error):
                    raise
        made, failure = [], None
        for item in items:
            try:
                made += work([item])
                failure, probe = None, self._again(item)
            except GuerdonError as error:
                if _is_gone(error):
                    raise
                failure = error
                found[item.place] = _excluded(item.prompt, _said(error))
        if failure is not None and not _works(work, probe):
            raise failure
        return made

    @staticmethod
    def _again(item: Item) -> Item:
        """An item that went through, to be tried once more; a draw is made anew."""
        return _Asked(NOWHERE, item.prompt) if isinstance(item, _Asked) else item

    def _draw(self, asked: Sequence[_Asked]) -> list[_Drawn]:
        if stuck := [self.stuck[each.place] for each in asked if each.place in self.stuck]:
            raise PromptRefused(stuck[0])
        missing = [each for each in asked if each.place not in self.kept]
        try:
            drawn = {each.place: each for each in self._ask(missing)} if missing else {}
        except ServerError as error:
            whole = {at: replies for at, replies in error.partial.items() if len(replies) == self.options.n}
            self.kept |= {missing[at].place: _Replies(each, error.log_prob.get(at)) for at, each in whole.items()}
            if error.prompt is not None and _is_gone(error) and self._answers():
                self.stuck[missing[error.prompt].place] = str(error)
                raise PromptRefused(str(error)) from None
            raise
        self.kept |= {each.place: _Replies(each.responses, each.log_prob) for each in drawn.values()}
        self.kept.pop(NOWHERE, None)
        return [drawn.get(each.place) or _Drawn(*each, *self.kept[each.place]) for each in asked]

    def _answers(self) -> bool:
        """Whether a server that gave up on one prompt still answers one that went well before."""
        ask = getattr(self.policy, "can_answer", None)
        return ask is not None and bool(ask(self.good.prompt))

    def _ask(self, asked: Sequence[_Asked]) -> list[_Drawn]:
        options = self.options
        seeds = [_seed(options.seed, each.place) for each in asked]
        prompts = [each.prompt for each in asked]
        how = (options.n, options.max_tokens, options.temperature)
        if isinstance(self.policy, SeededPolicy):
            rollouts = [self.policy.sample_with_seeds(prompts, *how, seeds)]
        else:
            rollouts = [self.policy.sample([p], *how, seed) for p, seed in zip(prompts, seeds, strict=True)]
        responses = [response for some in rollouts for response in some.responses]
        if len(responses) != options.n * len(asked):
            raise GuerdonError(
                f"the policy gave {len(responses)} replies, not {options.n} to each of {len(asked)} prompts"
            )
        nats = [None if some.log_prob is None else some.log_prob.tolist() for some in rollouts]
        log_prob = None if any(some is None for some in nats) else [value for some in nats for value in some or ()]
        return [
            _Drawn(
                *each,
                tuple(responses[at : at + options.n]),
                None if log_prob is None else log_prob[at : at + options.n],
            )
            for each, at in zip(asked, range(0, len(responses), options.n), strict=True)
        ]

    def _score(self, drawn: Sequence[_Drawn]) -> list[_Done]:
        prompts = [each.prompt for each in drawn for _ in each.responses]
        responses = [response for each in drawn for response in each.responses]
        proxy = self.reward.score(prompts, responses)
        gold = None if self.gold is None else self.gold.score(prompts, responses)
        n = self.options.n
        return [_Done(each.place, _row(each, proxy, gold, slice(i * n, i * n + n))) for i, each in enumerate(drawn)]


def _row(drawn: _Drawn, proxy: Rewarded, gold: Rewarded | None, at: slice) -> Row:
    for name, rewarded in (("reward", proxy), ("gold", gold)):
        if rewarded is not None and not rewarded.usable[at].all():
            bad = int(np.count_nonzero(~rewarded.usable[at]))
            return _excluded(drawn.prompt, f"{name}: {bad} of {len(drawn.responses)} replies have no finite number")
    reward = proxy.value[at]
    columns = {
        "reward": reward,
        "gold": None if gold is None else gold.value[at],
        "log_prob": drawn.log_prob,
        "std": None if proxy.std is None else proxy.std[at],
        "shift_p": None if proxy.shift_p is None else proxy.shift_p[at],
    }
    if proxy.truncated[at].any():
        columns["partly_read"] = proxy.truncated[at].astype(int)
    return {
        "id": prompt_digest(drawn.prompt),
        "prompt": _messages(drawn.prompt),
        "responses": [_response_row(response) for response in drawn.responses],
        **{name: np.asarray(values).tolist() for name, values in columns.items() if values is not None},
        "best": int(np.argmax(reward)),
    }


def _response_row(response: Response) -> Row:
    return {"text": response.text} | ({} if response.finish is None else {"finish": response.finish})


def _messages(prompt: Prompt) -> list[Row]:
    return [{"role": message.role, "content": message.content} for message in prompt]


def _is_empty(prompt: Prompt) -> bool:
    return not any(message.content.strip() for message in prompt)


def _is_gone(error: GuerdonError) -> bool:
    """Nobody's fault but the server's."""
    return isinstance(error, ServerError) and not isinstance(error, PromptRefused)


def _excluded(prompt: Prompt, reason: str) -> Row:
    return {"id": prompt_digest(prompt), "prompt": _messages(prompt), "excluded": reason}


def _said(error: GuerdonError) -> str:
    """An error about one prompt alone, without the place that it had there."""
    return re.sub(r"(^|: )prompt \d+: ", r"\1", str(error), count=1)


def _works(work: Callable[[Sequence[Item]], list[Made]], probe: Item) -> bool:
    try:
        work([probe])
    except GuerdonError:
        return False
    return True


def _prompt(place: int, prompt: PromptLike) -> Prompt:
    try:
        return as_prompt(prompt)
    except GuerdonError as error:
        raise GuerdonError(f"prompt {place}: {error}") from None


def _seed(seed: int, place: int) -> int:
    """Of one prompt's draws: 31 bits, which every sampler takes."""
    return int(np.random.SeedSequence((seed, place)).generate_state(1)[0] >> 1)


# ---- Reading a pool ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pool:
    """N replies to each of p prompts, with their rewards.

    proxy, and where known gold, log_prob (nats under the policy that drew them), std (of the proxy) and shift_p: [p, N].
    partly_read: [p, N], whether the proxy saw only a part of a text; None where it saw all of all.
    excluded: the place of each prompt that was left out, and why.
    """

    prompts: tuple[Prompt, ...]
    responses: tuple[tuple[Response, ...], ...]
    proxy: Float[np.ndarray, "p N"]
    gold: Float[np.ndarray, "p N"] | None = None
    log_prob: Float[np.ndarray, "p N"] | None = None
    std: Float[np.ndarray, "p N"] | None = None
    shift_p: Float[np.ndarray, "p N"] | None = None
    partly_read: Bool[np.ndarray, "p N"] | None = None
    excluded: tuple[tuple[str, str], ...] = ()

    @property
    def size(self) -> int:
        """N, the replies to each prompt."""
        return int(self.proxy.shape[1])

    @property
    def best(self) -> list[int]:
        """The first reply of each prompt with the highest proxy."""
        found: list[int] = np.argmax(self.proxy, axis=1).tolist()
        return found


COLUMNS: Mapping[str, Mapping[str, Any]] = {
    "reward": {},
    "gold": {},
    "log_prob": {"claim": "a log-probability, a finite number <= 0", "high": 1e-3},  # sums of float32 may pass 0
    "std": {"claim": "a number >= 0", "low": 0.0},
    "shift_p": {"claim": "a probability in [0, 1]", "low": 0.0, "high": 1.0},
    "partly_read": {"claim": "0 or 1", "low": 0.0, "high": 1.0},
}


def read_pool(path: str | Path) -> Pool:
    """A file of `write_pool` in, what it holds out. Texts and numbers are held, rows are not.

    Strict: errors name file:line, and a pool in which prompts have different numbers of replies or columns is refused.
    """
    prompts: list[Prompt] = []
    responses: list[tuple[Response, ...]] = []
    columns: dict[str, list[np.ndarray]] = {}
    partly: list[np.ndarray] = []
    excluded: list[tuple[str, str]] = []
    first = ""
    for place, row in readers.read_rows(path):
        if isinstance(row, Mapping) and "excluded" in row:
            excluded.append((place, str(row["excluded"])))
            continue
        prompt, replies, _ = schema.asked_row(place, row)
        try:
            found = _columns(row, len(replies))
        except GuerdonError as error:
            raise GuerdonError(f"{place}: {error}") from None
        if prompts and len(replies) != len(responses[0]):
            raise GuerdonError(
                f"{place}: has {len(replies)} replies where {first} has {len(responses[0])}; "
                "remedy: draw all prompts with one n, or divide the file"
            )
        if prompts and (differs := (found.keys() ^ columns.keys()) - {"partly_read"}):
            name = sorted(differs)[0]
            raise GuerdonError(f"{place}: {name} is in some rows and not in others; remedy: give it in all, or in none")
        first = first or place
        partly.append(found.pop("partly_read", np.zeros(len(replies))) > 0)
        prompts.append(prompt)
        responses.append(tuple(replies))
        for name, values in found.items():
            columns.setdefault(name, []).append(values)
    if not prompts:
        raise GuerdonError(f"{path}: every prompt was left out ({excluded[0][1]}); remedy: see the reasons in the file")
    stacked = {name: np.stack(rows) for name, rows in columns.items()}
    proxy, seen = stacked.pop("reward"), np.stack(partly)
    partly_read = seen if seen.any() else None
    return Pool(tuple(prompts), tuple(responses), proxy, partly_read=partly_read, excluded=tuple(excluded), **stacked)


def _columns(row: Mapping[str, Any], n: int) -> dict[str, Float[np.ndarray, " N"]]:
    if unknown := [key for key in row if key not in KEYS]:
        raise GuerdonError(f"{unknown[0]} is not a known field. {fields.did_you_mean(unknown[0], KEYS)}")
    if n == 0 or "reward" not in row:
        missing = "reward" if n else "responses"
        raise GuerdonError(f"{missing} is missing. Draw the pool with guerdon optimize best-of-n.")
    found = {}
    for name, limits in COLUMNS.items():
        values = row.get(name)
        if values is None:
            continue
        if not isinstance(values, list) or len(values) != n:
            raise fields.field_error(name, f"a list of {n} numbers, one per reply", values)
        found[name] = np.array([fields.as_number(value, f"{name}[{i}]", **limits) for i, value in enumerate(values)])
    best = int(np.argmax(found["reward"]))
    if row.get("best", best) != best:
        raise GuerdonError(f"field best is {row['best']}, but reward is highest at {best}; remedy: leave best out")
    return found


# ---- The curve over n --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Point:
    """Best-of-n at one n, means over prompts.

    proxy, gold: reward of the reply that the proxy chooses; gains are above the mean reply of the same prompt, and are
        what can be compared between prompts.
    kl_bound: log n - (n - 1) / n. kl: Beirami's estimate, never above it but for its noise.
    win_rate: how often the proxy prefers the chosen reply to another one of the policy, a tie counting half; at most
        n / (n + 1), and that exactly without ties. None at n = N, which leaves no other reply.
    """

    n: int
    kl_bound: float
    kl: Estimate
    proxy: Estimate
    proxy_gain: Estimate
    gold: Estimate | None
    gold_gain: Estimate | None
    win_rate: Estimate | None


@dataclass(frozen=True, slots=True)
class PoolCurve:
    """What a pool says of best-of-n, point by point, and the same prompt by prompt for whoever fits or compares.

    proxy, gold: [p, m], the gains. kl: [p, m]. groups: [p], equal for equal prompts. size: N. duplicates: the share of
    replies that repeat an earlier one of their prompt. kl_from says where the probabilities behind kl come from.
    """

    points: tuple[Point, ...]
    proxy: Float[np.ndarray, "p m"]
    gold: Float[np.ndarray, "p m"] | None
    kl: Float[np.ndarray, "p m"]
    groups: tuple[str, ...]
    size: int
    duplicates: Estimate
    kl_from: str


def curve(
    pool: Pool, ns: Sequence[int] | None = None, *, most: int | None = None, seed: int = 0, draws: int = 2000
) -> PoolCurve:
    """A pool in; reward, KL and win rate of best-of-n out, at `ns` or at 1, 2, 4, ... up to `most` (N / 4 unless given).

    Rewards are the unbiased estimates of Nakano et al. 2021 (2112.09332, appendix I), ties of the proxy averaged. KL is
    estimated as in Beirami et al. 2024 (2401.01879) from the replies' log-probabilities where the pool has them, else
    from how often a reply is repeated, p = count / N. Intervals are bootstraps over prompts; equal prompts count once.
    """
    ns = _checked(ns, pool.size) if ns is not None else formulas.default_ns(pool.size, _most(most, pool.size))
    groups = tuple(prompt_digest(prompt) for prompt in pool.prompts)
    repeats = _repeats(pool.responses)
    known = pool.log_prob is not None
    chance = np.exp(np.minimum(pool.log_prob, 0.0)) if pool.log_prob is not None else repeats / pool.size

    def mean(values: Float[np.ndarray, " p"]) -> Estimate:
        return Estimate(*bootstrap_mean(values, groups, draws=draws, seed=seed))

    proxy = formulas.curve(pool.proxy, pool.proxy, ns)
    gold = None if pool.gold is None else formulas.curve(pool.proxy, pool.gold, ns)
    proxy_gain = proxy - formulas.curve(pool.proxy, pool.proxy, [1])
    gold_gain = None if pool.gold is None or gold is None else gold - formulas.curve(pool.proxy, pool.gold, [1])
    chance = formulas.chance_of_outcome(pool.proxy, chance, repeats)
    kl = np.stack([_kl(pool.proxy, chance, n) for n in ns], axis=1)
    points = tuple(
        Point(
            n=n,
            kl_bound=float(formulas.kl_bound(n)),
            kl=mean(kl[:, i]),
            proxy=mean(proxy[:, i]),
            proxy_gain=mean(proxy_gain[:, i]),
            gold=None if gold is None else mean(gold[:, i]),
            gold_gain=None if gold_gain is None else mean(gold_gain[:, i]),
            win_rate=None if n == pool.size else mean(win_rate(pool.proxy, n)),
        )
        for i, n in enumerate(ns)
    )
    duplicates = mean(1.0 - (1.0 / repeats).mean(axis=1))  # each text counts 1 / its repeats: the sum is texts
    source = "log-probabilities of the replies" if known else "counts of equal replies"
    return PoolCurve(points, proxy_gain, gold_gain, kl, groups, pool.size, duplicates, source)


def win_rate(proxy: Float[np.ndarray, "p N"], n: int) -> Float[np.ndarray, " p"]:
    """Rewards in; for each prompt, how often the best of n beats one more reply of the pool out, a tie counting half.

    Exact over all choices of n and one more out of N: the one more wins where all n are below it. n < N.
    """
    size = proxy.shape[1]
    below = rankdata(proxy, method="min", axis=1) - 1
    not_above = rankdata(proxy, method="max", axis=1) - 1  # of the others
    lost = (_all_among(below, size, n) + _all_among(not_above, size, n)) / 2
    won: np.ndarray = 1.0 - lost.mean(axis=1)
    return won


def _all_among(count: Float[np.ndarray, "p N"], size: int, n: int) -> Float[np.ndarray, "p N"]:
    """C(count, n) / C(size - 1, n): the chance that n of the size - 1 others all lie among `count` of them."""
    enough = count >= n
    c = np.where(enough, count, n)
    log_share = gammaln(c + 1) - gammaln(c - n + 1) - gammaln(size) + gammaln(size - n)
    return np.where(enough, np.exp(log_share), 0.0)


def _kl(proxy: Float[np.ndarray, "p N"], chance: Float[np.ndarray, "p N"], n: int) -> Float[np.ndarray, " p"]:
    """The estimate of each reply, as if it were chosen, carried by the choice."""
    each = np.asarray(formulas.kl_estimate(chance.reshape(-1), n)).reshape(chance.shape)
    carried: np.ndarray = formulas.curve(proxy, each, [n])[:, 0]
    return carried


def _repeats(responses: Sequence[Sequence[Response]]) -> Float[np.ndarray, "p N"]:
    """How often each reply stands among those of its prompt; one that was cut is not one that ended."""
    rows = []
    for replies in responses:
        counts = Counter((reply.text, reply.finish == "length") for reply in replies)
        rows.append([float(counts[reply.text, reply.finish == "length"]) for reply in replies])
    return np.array(rows)


def _checked(ns: Sequence[int], size: int) -> list[int]:
    if not ns or sorted(set(ns)) != list(ns) or ns[0] < 1:
        raise GuerdonError(
            f"curve: ns are rising numbers from 1, got {list(ns)}; remedy: leave them out for 1, 2, 4, ..."
        )
    if ns[-1] > size:
        raise GuerdonError(f"curve: n = {ns[-1]} of pools of {size} replies; remedy: draw more replies, or lower n")
    return list(ns)


def _most(most: int | None, size: int) -> int | None:
    if most is not None and not 1 <= most <= size:
        raise GuerdonError(f"best_of_n.most_n={most}: the pool has {size} replies a prompt; remedy: 1 to {size}")
    return most


# ---- The report --------------------------------------------------------------------------------------------------


def to_report(pool: Pool, found: PoolCurve | None = None) -> Report:
    """A pool, and its curve if it is there already, in; estimates at the largest n, curves, findings and texts out.

    Keys: proxy_gain, gold_gain (with a gold), kl, win_rate, duplicates, unfinished.
    """
    found = curve(pool) if found is None else found
    last = found.points[-1]
    cut = np.array([[reply.finish == "length" for reply in replies] for replies in pool.responses], dtype=np.float64)
    estimates = {
        "proxy_gain": last.proxy_gain,
        "gold_gain": last.gold_gain,
        "kl": last.kl,
        "win_rate": last.win_rate,
        "duplicates": found.duplicates,
        "unfinished": Estimate(*bootstrap_mean(cut.mean(axis=1), found.groups)),
    }
    about = {
        "prompts": f"{len(pool.prompts):,}",
        "replies a prompt": str(pool.size),
        "largest n": str(last.n),
        "KL bound at the largest n": f"{last.kl_bound:.3f} nats",
        "KL estimate from": found.kl_from,
        "prompts left out": str(len(pool.excluded)),
    }
    return Report(
        title=f"Best of {last.n}",
        about=about,
        estimates={name: estimate for name, estimate in estimates.items() if estimate is not None},
        findings=_findings(pool, found),
        curves=_curves(found),
        examples=_examples(pool),
    )


def _curves(found: PoolCurve) -> dict[str, Curve]:
    made = {}
    for name, label in (("proxy", "proxy reward"), ("gold", "gold")):
        points = [(point, point.proxy_gain if name == "proxy" else point.gold_gain) for point in found.points]
        y = tuple(gain for _, gain in points if gain is not None)
        if not y:
            continue
        above = f"{label}, above the policy's mean reply"
        ns = tuple(point.n for point in found.points)
        made[f"{name}_by_n"] = Curve(
            tuple(float(n) for n in ns), y, "n, replies to choose from", above, x_names=tuple(str(n) for n in ns)
        )
        distance = tuple(math.sqrt(max(0.0, point.kl.value)) for point in found.points)
        made[f"{name}_by_kl"] = Curve(
            distance, y, "√KL to the policy, nats a reply", above, caption=f"KL is estimated from {found.kl_from}."
        )
    return made


def _findings(pool: Pool, found: PoolCurve) -> tuple[Finding, ...]:
    last, notes = found.points[-1], []
    if pool.excluded:
        reasons = Counter(reason for _, reason in pool.excluded).most_common(3)
        evidence = "; ".join(f"{count} x {reason}" for reason, count in reasons)
        title = f"{len(pool.excluded)} of {len(pool.excluded) + len(pool.prompts)} prompts were left out"
        notes.append(Finding("warning", title, evidence, "Mend or drop them; every number here is without them."))
    if found.duplicates.value > MANY_DUPLICATES:
        both = f"at n = {last.n} the bound says {last.kl_bound:.3f} nats, the estimate {last.kl}"
        evidence = f"{found.duplicates} of replies repeat an earlier one; {both}"
        remedy = "Read the estimate: the bound holds for replies that never repeat. A higher temperature repeats less."
        notes.append(Finding("note", "Many replies are equal", evidence, remedy))
    if last.n < found.size and 4 * last.n >= found.size - 3:
        evidence = f"n stops at {last.n} of {found.size} replies: close to N it is the same few lucky draws every time"
        notes.append(
            Finding("note", "Larger n are not shown", evidence, "Draw more replies, or set best_of_n.most_n higher.")
        )
    cut = np.mean([reply.finish == "length" for replies in pool.responses for reply in replies])
    if cut > 0:
        evidence = f"{100 * cut:.1f} % of replies were cut at max_tokens; a reward model reads them as unfinished"
        notes.append(
            Finding("note", "Some replies did not end", evidence, "Raise best_of_n.max_tokens if that matters.")
        )
    if pool.partly_read is not None:
        evidence = (
            f"of {100 * pool.partly_read.mean():.1f} % of replies, with their prompts, the beginning was left out"
        )
        remedy = "Shorter replies (best_of_n.max_tokens) or prompts, or a reward model with a larger max_length."
        notes.append(Finding("warning", "The reward saw only a part of some texts", evidence, remedy))
    return tuple(notes)


def _examples(pool: Pool) -> tuple[Example, ...]:
    """Where the choice gained most, a middling one, and with a gold where it lost most; each prompt once."""
    rows, best = np.arange(len(pool.prompts)), np.array(pool.best)
    changed = rows[best > 0]
    if not len(changed):
        return ()
    gain = pool.proxy[rows, best] - pool.proxy[:, 0]
    order = changed[np.argsort(-gain[changed], kind="stable")].tolist()
    chosen = {order[0]: "The choice gained most", order[len(order) // 2]: "A middling gain"}
    if pool.gold is not None:
        change = pool.gold[rows, best] - pool.gold[:, 0]
        worst = int(changed[np.argmin(change[changed])])
        if change[worst] < 0:
            chosen = {worst: "The proxy rose and gold fell most"} | {k: v for k, v in chosen.items() if k != worst}
    return tuple(_example(pool, row, int(best[row]), title) for row, title in chosen.items())


def _example(pool: Pool, row: int, best: int, title: str) -> Example:
    def label(name: str, at: int) -> str:
        return name if pool.gold is None else f"{name}, gold {pool.gold[row, at]:.3g}"

    return Example(
        title=title,
        prompt=pool.prompts[row],
        responses=(pool.responses[row][0], pool.responses[row][best]),
        labels=(label("first reply", 0), label(f"best of {pool.size}", best)),
        rewards=(float(pool.proxy[row, 0]), float(pool.proxy[row, best])),
    )


# ---- The next round ----------------------------------------------------------------------------------------------


def to_sft_rows(pool: Pool, top: int = 1) -> Iterator[Row]:
    """The `top` best different replies of each prompt, best first, as {prompt, response, reward} to fine-tune on.

    A reply that was cut is left out: it would teach to stop in the middle. A prompt without a finished reply has no row.
    """
    if top < 1:
        raise GuerdonError(f"to_sft_rows: top is at least 1, got {top}")
    for prompt, replies, proxy in zip(pool.prompts, pool.responses, pool.proxy, strict=True):
        kept: dict[str, float] = {}
        for at in np.argsort(-proxy, kind="stable").tolist():
            if len(kept) < top and replies[at].finish != "length":
                kept.setdefault(replies[at].text, float(proxy[at]))
        for text, reward in kept.items():
            yield {"prompt": _messages(prompt), "response": text, "reward": reward}


def to_comparisons(pool: Pool, least_gap: float = 0.0) -> Iterator[Comparison]:
    """The best and the worst reply of each prompt, in the order drawn, as comparisons to train on.

    `strength` is the proxy's gap. A prompt whose gap is not above `least_gap`, nats, is skipped; so is a tie.
    """
    if not (math.isfinite(least_gap) and least_gap >= 0):
        raise GuerdonError(f"to_comparisons: least_gap is a finite number >= 0, got {least_gap}")
    for prompt, replies, proxy in zip(pool.prompts, pool.responses, pool.proxy, strict=True):
        best, worst = int(np.argmax(proxy)), int(np.argmin(proxy))
        gap = float(proxy[best] - proxy[worst])
        if gap <= least_gap:
            continue
        order = sorted((best, worst))  # as drawn, so that the place does not give the verdict away
        preference = Preference(groups=((order.index(best),), (order.index(worst),)), strength=gap)
        yield Comparison(prompt, tuple(replies[i] for i in order), preference, source="best-of-n")
