"""Draw and score N responses to each prompt. A prompt that cannot be answered is excluded; a broken policy or reward is an error.

Axes: p prompts, N responses per prompt. A prompt's position counts all prompts of the run, from 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import replace
from itertools import groupby, islice, takewhile
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar, final, runtime_checkable

import numpy as np

from guerdon.contracts import GuerdonError, Policy, Prompt, PromptLike, Response, Rollouts, as_prompt
from guerdon.errors import verb
from guerdon.models.remote_policy import PromptRefused, ServerError
from guerdon.optimization.best_of_n.rows import Row, excluded_row, rollouts_row
from guerdon.progress import ProgressBar

if TYPE_CHECKING:
    from guerdon.config import BestOfNOptions
    from guerdon.optimization.rewards import Reward

__all__ = ["PoolSampler", "SeededPolicy"]

Sink = Callable[[Sequence[Row]], None]
Save = Callable[[Mapping[int, Rollouts]], None]

PROBE = 1 << 62  # position of a prompt that is drawn only to see whether the policy still works
HELLO = as_prompt("Hello.")


@runtime_checkable
class SeededPolicy(Protocol):
    """A policy that takes many prompts at once, each with a seed of its own. Batching changes no draw."""

    def sample_with_seeds(
        self, prompts: Sequence[PromptLike], n: int, max_tokens: int, temperature: float, seeds: Sequence[int]
    ) -> Rollouts:
        """As Policy.sample; the draws of prompt i depend on the prompt and seeds[i] only."""
        ...


class _Numbered(NamedTuple):
    position: int
    prompt: Prompt


class _Drawn(NamedTuple):
    """N responses to the prompt of this position, not scored yet."""

    position: int
    rollouts: Rollouts

    @property
    def prompt(self) -> Prompt:
        """The prompt of all of them."""
        return self.rollouts.prompts[0]


class _Done(NamedTuple):
    position: int
    row: Row


Item = TypeVar("Item", _Numbered, _Drawn)
Output = TypeVar("Output", _Drawn, _Done)


@final
class PoolSampler:
    """A policy, the reward that chooses among its responses, and gold, which only judges them; both are optional."""

    def __init__(
        self, policy: Policy, reward: Reward | None, options: BestOfNOptions, gold: Reward | None = None
    ) -> None:
        self.policy, self.reward, self.gold, self.options = policy, reward, gold, options
        # The last prompt that went through: drawn or scored once more, it shows whether the prompt is bad or the policy is broken
        hello = Rollouts((HELLO,) * options.n, (Response("Hello.", finish="stop"),) * options.n, samples=options.n)
        self.known_good = _Drawn(0, hello)
        self.unwritten: dict[int, Rollouts] = {}  # complete responses of prompts that have no row yet, by position
        self.gave_up: dict[int, str] = {}  # prompts on which a server failed that answers others, and its error

    def run(
        self,
        prompts: Iterable[PromptLike],
        sink: Sink,
        *,
        skip: int = 0,
        saved: Mapping[int, Rollouts] | None = None,
        save: Save | None = None,
    ) -> dict[str, int]:
        """Give the sink a row per prompt (see `rows`), in order, one group of prompts at a time; returns counts.

        Excluded are empty prompts, prompts with a response whose reward is not finite, and prompts that the policy or a
        reward refuses (too long, say) while another prompt still goes through. An error that hits every prompt is raised.
        A prompt on which a server gives up while it answers another is excluded too. If a server dies, the sink first
        gets the prompts at the beginning of the group that are complete, and `save` all other complete responses, by
        position; `saved` are those of an earlier run.

        A prompt's draws depend on the seed and its position only, so a run that skips the first `skip` prompts gives the
        same rows. Rows are not kept: memory does not grow with the prompts. Counts: prompts, responses, excluded.
        """
        total = len(prompts) if isinstance(prompts, Sized) else None
        counts = {"prompts": 0, "responses": 0, "excluded": 0}
        self.unwritten = dict(saved or {})
        numbered = islice(enumerate(prompts), skip, None)
        with ProgressBar(total, "sample" if self.reward is None else "best of n", "prompts", initial=skip) as bar:
            # Grouped by position, not by count: wherever a run resumes, the same prompts are sampled and scored together
            for _, pairs in groupby(numbered, lambda pair: pair[0] // self.options.prompts_at_once):
                group = [_Numbered(position, _as_prompt(position, prompt)) for position, prompt in pairs]
                try:
                    rows = self._rows(group)
                except ServerError:
                    self._rescue(group, sink, save)
                    raise
                sink(rows)
                excluded = sum("excluded" in row for row in rows)
                counts["prompts"] += len(rows)
                counts["excluded"] += excluded
                counts["responses"] += self.options.n * (len(rows) - excluded)
                bar.advance(len(rows), excluded=counts["excluded"])
        if not counts["prompts"] and not skip:
            raise GuerdonError("sample: there must be at least one prompt, got none. Give a file with prompts.")
        return counts

    def _rescue(self, group: Sequence[_Numbered], sink: Sink, save: Save | None) -> None:
        """Write the prompts at the beginning of the group that need no more draws; save the other complete responses."""
        complete = list(takewhile(lambda item: item.position in self.unwritten or _is_empty(item.prompt), group))
        rest = {i: rollouts for i, rollouts in self.unwritten.items() if i not in {item.position for item in complete}}
        if complete:
            sink(self._rows(complete))
        if save is not None:
            save(rest)

    def _rows(self, group: Sequence[_Numbered]) -> list[Row]:
        """A row for each prompt, in order."""
        rows = {
            item.position: excluded_row(item.prompt, "the prompt is empty") for item in group if _is_empty(item.prompt)
        }
        askable = [item for item in group if item.position not in rows]
        together = isinstance(self.policy, SeededPolicy)
        drawn = self._apply(self._draw, askable, _Numbered(PROBE, self.known_good.prompt), rows, together)
        rows |= {done.position: done.row for done in self._apply(self._score, drawn, self.known_good, rows, True)}
        good = [item for item in drawn if "excluded" not in rows[item.position]]
        self.known_good = good[-1] if good else self.known_good
        for item in group:
            self.unwritten.pop(item.position, None)
        return [rows[item.position] for item in group]

    def _apply(
        self,
        work: Callable[[Sequence[Item]], list[Output]],
        items: Sequence[Item],
        probe: Item,
        rows: dict[int, Row],
        together: bool,
    ) -> list[Output]:
        """The work done on all items at once, or, if that fails, on one at a time; an item that fails gets an excluded row.

        A failure is the item's own only if the work still succeeds for something: the last failure must be followed by an
        item that goes through, or an item that went through before, or else the probe, must go through again.
        """
        if together or not items:
            try:
                return work(items) if items else []
            except GuerdonError as error:
                if _is_server_failure(error):
                    raise
        outputs, failure = [], None
        for item in items:
            try:
                outputs += work([item])
                # A draw is repeated as a draw of its own, under the probe's position
                failure, probe = None, _Numbered(PROBE, item.prompt) if isinstance(item, _Numbered) else item
            except GuerdonError as error:
                if _is_server_failure(error):
                    raise
                failure = error
                rows[item.position] = excluded_row(item.prompt, _without_index(error))
        if failure is not None and not _succeeds(work, probe):
            raise failure
        return outputs

    def _draw(self, items: Sequence[_Numbered]) -> list[_Drawn]:
        """Responses to these prompts, drawn or left over from before."""
        if errors := [self.gave_up[item.position] for item in items if item.position in self.gave_up]:
            raise PromptRefused(errors[0])
        missing = [item for item in items if item.position not in self.unwritten]
        try:
            drawn = self._sample(missing) if missing else {}
        except ServerError as error:
            self.unwritten |= self._complete(missing, error)
            if error.prompt is not None and _is_server_failure(error) and self._still_answers():
                self.gave_up[missing[error.prompt].position] = str(error)
                raise PromptRefused(str(error)) from None
            raise
        self.unwritten |= {position: rollouts for position, rollouts in drawn.items() if position != PROBE}
        return [
            _Drawn(
                position, replace(drawn.get(position) or self.unwritten[position], prompts=(prompt,) * self.options.n)
            )
            for position, prompt in items
        ]

    def _complete(self, items: Sequence[_Numbered], error: ServerError) -> dict[int, Rollouts]:
        """What a server answered in full before it failed, by position."""
        n = self.options.n
        complete = {}
        for at, responses in error.partial.items():
            if len(responses) == n:
                nats = error.log_prob.get(at)
                log_prob = None if nats is None else np.array(nats, dtype=np.float64)
                rollouts = Rollouts((items[at].prompt,) * n, tuple(responses), samples=n, log_prob=log_prob)
                complete[items[at].position] = rollouts
        return complete

    def _still_answers(self) -> bool:
        """Whether a server that gave up on one prompt still answers one that went through before."""
        can_answer = getattr(self.policy, "can_answer", None)
        return can_answer is not None and bool(can_answer(self.known_good.prompt))

    def _sample(self, items: Sequence[_Numbered]) -> dict[int, Rollouts]:
        """The policy's responses to each prompt, by position."""
        options, prompts = self.options, [item.prompt for item in items]
        seeds = [prompt_seed(options.seed, item.position) for item in items]
        how = (options.n, options.max_tokens, options.temperature)
        if isinstance(self.policy, SeededPolicy):
            parts = [self.policy.sample_with_seeds(prompts, *how, seeds)]
        else:
            parts = [self.policy.sample([prompt], *how, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        num = sum(len(part) for part in parts)
        if num != options.n * len(items):
            raise GuerdonError(
                f"policy: sample must return {options.n} responses to each of {len(items)} prompts, got {num} in all. "
                "Return n per prompt, in order."
            )
        groups = _divide(Rollouts.join(parts), options.n)
        return {item.position: group for item, group in zip(items, groups, strict=True)}

    def _score(self, items: Sequence[_Drawn]) -> list[_Done]:
        rollouts = Rollouts.join([item.rollouts for item in items])
        scored = rollouts if self.reward is None else self.reward.score_rollouts(rollouts)
        gold = None if self.gold is None else self.gold.score(rollouts.prompts, rollouts.responses).value
        groups = _divide(replace(scored, gold=gold), self.options.n)
        return [_Done(item.position, _row(item.prompt, group)) for item, group in zip(items, groups, strict=True)]


def prompt_seed(seed: int, position: int) -> int:
    """The seed of one prompt's draws: 31 bits, which every sampler takes."""
    return int(np.random.SeedSequence((seed, position)).generate_state(1)[0] >> 1)


def _divide(rollouts: Rollouts, n: int) -> list[Rollouts]:
    """One part per prompt."""
    return [rollouts.select(range(at, at + n), samples=n) for at in range(0, len(rollouts), n)]


def _row(prompt: Prompt, rollouts: Rollouts) -> Row:
    for name, values in (("reward", rollouts.reward), ("gold", rollouts.gold)):
        if values is not None and not np.isfinite(values).all():
            num = int(np.count_nonzero(~np.isfinite(values)))
            return excluded_row(
                prompt, f"{name}: {num} of {len(rollouts)} replies {verb(num, 'have')} no finite number"
            )
    return rollouts_row(rollouts)


def _is_empty(prompt: Prompt) -> bool:
    return not any(message.content.strip() for message in prompt)


def _is_server_failure(error: GuerdonError) -> bool:
    """Whether the server failed, rather than refuse a prompt."""
    return isinstance(error, ServerError) and not isinstance(error, PromptRefused)


def _without_index(error: GuerdonError) -> str:
    """The error about a prompt that was tried alone, without the position 0 that it had there."""
    return re.sub(r"(^|: )prompt \d+: ", r"\1", str(error), count=1)


def _succeeds(work: Callable[[Sequence[Item]], list[Output]], probe: Item) -> bool:
    try:
        work([probe])
    except GuerdonError:
        return False
    return True


def _as_prompt(position: int, prompt: PromptLike) -> Prompt:
    try:
        return as_prompt(prompt)
    except GuerdonError as error:
        raise GuerdonError(f"prompt {position}: {error}") from None
