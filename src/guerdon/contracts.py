"""The objects that flow between stages, and the protocols that models implement. All are frozen and independent of files and models.

Messages, prompts and responses have a file of their own, `conversation.py`; their names are imported from here.

Axes: n counts responses (or comparisons, where stated), p prompts, N responses per prompt, k ensemble members. Rewards are
nats of preference log-odds: a difference of 1 between two responses to one prompt means odds of e : 1. Only differences
within a prompt mean anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, Protocol, SupportsIndex, overload, runtime_checkable

from guerdon.conversation import (
    FinishReason,
    Message,
    Prompt,
    PromptLike,
    Response,
    ResponseLike,
    Role,
    ToolCall,
    as_message,
    as_prompt,
    as_response,
    digest,
    digest_all,
    prompt_digest,
    prompt_identity,
    response_digest,
    response_identity,
)
from guerdon.errors import GuerdonError

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool, Float, Int, Shaped

__all__ = [
    "Comparison", "Curve", "Estimate", "Example", "Finding", "FinishReason", "Gate", "GuerdonError", "Judge",
    "Message", "Policy", "Preference", "Prompt", "PromptLike", "Quantity", "Report", "Response", "ResponseLike",
    "RewardModel", "Role", "Rollouts", "Ruling", "Scores", "Severity", "ToolCall", "Unit", "as_message",
    "as_prompt", "as_response", "digest", "digest_all", "prompt_digest", "prompt_identity", "response_digest",
    "response_identity",
]  # fmt: skip

Severity = Literal["error", "warning", "note"]
Unit = Literal["share", "nats", "number"]

_FIX_ROW = "Correct or drop the row."
WEIGHTS, WEIGHT_CLAIM = (1e-6, 1e6), "a number from 1e-6 to 1e6"  # sums of weights and their squares stay finite


@dataclass(frozen=True, slots=True)
class Preference:
    """Which response is better. Exactly one of `groups` and `q` is set.

    groups: indices into the responses, best group first; a shared group is a tie; a response in no group is known only to
        be below every group (a top-k ranking).
    q: P(first is better), for two responses; 0.5 is a tie.
    strength: how much better the best is than the worst, in nats of log-odds if known, else the annotator's own scale; >= 0.
    votes: how many people chose (first better, tie, second better), for two responses; None where votes were not counted.
    """

    groups: tuple[tuple[int, ...], ...] | None = None
    q: float | None = None
    strength: float | None = None
    votes: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if (self.groups is None) == (self.q is None):
            raise GuerdonError(
                "preference: exactly one of groups (best first) and q = P(first is better) must be given, "
                f"got {'both' if self.q is not None else 'neither'}. Give one."
            )
        if self.q is not None and not 0.0 <= self.q <= 1.0:
            raise GuerdonError(f"preference: q must be a probability in [0, 1], got {self.q}. {_FIX_ROW}")
        if self.strength is not None and not (math.isfinite(self.strength) and self.strength >= 0):
            raise GuerdonError(f"preference: strength must be a finite number >= 0, got {self.strength}. {_FIX_ROW}")
        if self.votes is not None and (len(self.votes) != 3 or min(self.votes) < 0):
            raise GuerdonError(
                f"preference: votes must be three counts (first, tie, second), got {self.votes}. {_FIX_ROW}"
            )
        if self.groups is not None:
            flat = [i for group in self.groups for i in group]
            if not flat or len(set(flat)) != len(flat):
                raise GuerdonError(
                    f"preference: groups must name at least one response, each at most once, got {self.groups}. {_FIX_ROW}"
                )


@dataclass(frozen=True, slots=True)
class Comparison:
    """One prompt, its responses in the order shown, which of them is better, who judged it, and why (`rationale`).

    group: the unit that a split must keep together and that intervals resample; by default the prompt itself.
    weight: in [1e-6, 1e6]; multiplies the loss and the share of every mean. Texts are whole; a model truncates them.
    """

    prompt: Prompt
    responses: tuple[Response, ...]
    preference: Preference
    annotator: str | None = None
    source: str | None = None
    weight: float = 1.0
    group: str = ""
    id: str = ""
    rationale: str | None = None

    def __post_init__(self) -> None:
        if reason := self._invalid():
            raise GuerdonError(f"comparison {self.id or '?'}: {reason}")
        if not isinstance(self.prompt, Prompt):
            object.__setattr__(self, "prompt", as_prompt(self.prompt))
        if not self.group:
            object.__setattr__(self, "group", prompt_digest(self.prompt))
        if not self.id:
            responses = [response_identity(response) for response in self.responses]
            body = [self.group, responses, self.preference.groups, self.preference.q, self.annotator]
            object.__setattr__(self, "id", digest(body))

    def _invalid(self) -> str | None:
        """Why the fields cannot stand together; None where they can."""
        k, preference = len(self.responses), self.preference
        if k < 2:
            return f"it must have at least 2 responses, got {k}. Drop the row."
        if not WEIGHTS[0] <= self.weight <= WEIGHTS[1]:
            return f"weight must be {WEIGHT_CLAIM}, got {self.weight}. {_FIX_ROW}"
        if (preference.q is not None or preference.votes is not None) and k != 2:
            return f"q and votes must be about exactly 2 responses, got {k}. Give groups, best first."
        if preference.groups is not None and any(not 0 <= i < k for group in preference.groups for i in group):
            return f"groups must name responses 0..{k - 1}, got {preference.groups}. {_FIX_ROW}"
        return None

    @property
    def ranks(self) -> tuple[int, ...]:
        """Rank of each response: 0 is best, equal is a tie, -1 was not ranked (below all ranked ones)."""
        if self.preference.q is not None:
            q = self.preference.q
            return (0, 0) if q == 0.5 else (0, 1) if q > 0.5 else (1, 0)
        ranks = [-1] * len(self.responses)
        for rank, group in enumerate(self.preference.groups or ()):
            for i in group:
                ranks[i] = rank
        return tuple(ranks)

    @property
    def q(self) -> float | None:
        """P(first is better) for two responses, 0.5 for a tie; None for more than two."""
        if len(self.responses) != 2:
            return None
        if self.preference.q is not None:
            return self.preference.q
        first, second = (rank if rank >= 0 else math.inf for rank in self.ranks)
        return 0.5 if first == second else float(first < second)


@dataclass(frozen=True, slots=True)
class Scores:
    """The rewards of n responses.

    value: reward [n], float64, nats; higher is better.
    truncated: [n], True where the model did not see the whole text.
    std: spread of the value [n], nats; None unless the model was asked for its uncertainty and has one.
    members: reward of each ensemble member [k, n]; None for a single model.
    shift_p: conformal p-value of each response being in distribution [n]; None where no reference features are stored.
    attributes: one reward per named attribute [n]; empty for a model with a single head.
    """

    value: Float[np.ndarray, " n"]
    truncated: Bool[np.ndarray, " n"]
    std: Float[np.ndarray, " n"] | None = None
    members: Float[np.ndarray, "k n"] | None = None
    shift_p: Float[np.ndarray, " n"] | None = None
    attributes: Mapping[str, Float[np.ndarray, " n"]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rollouts:
    """n responses of a policy, with the prompt of each next to it. Replies per prompt have no other contract.

    samples: N, the number of consecutive responses that answer one prompt. A prompt that was drawn twice has two groups.

    All other fields are columns, one entry per response, or None where nothing was measured:
    reward: nats; what a policy is optimized for, or the best of N chosen by. gold: a judge that nothing is optimized for.
    kl: nats per sequence against the reference policy. log_prob: nats under the distribution the response was drawn from.
    std: spread of the reward, nats. shift_p: conformal p-value of the response being in distribution.
    truncated: True where the reward model did not see the whole text.
    length: tokens, the end token included. prompt_ids, token_ids: the prompt and the response as the policy's token ids.
    token_log_prob: nats of each of token_ids, as the server that drew them says; None where none did.
    attributes: what the reward says of each named attribute, such as a criterion of a rubric, by name; empty if it has none.
    """

    prompts: tuple[Prompt, ...]
    responses: tuple[Response, ...]
    reward: Float[np.ndarray, " n"] | None = None
    kl: Float[np.ndarray, " n"] | None = None
    log_prob: Float[np.ndarray, " n"] | None = None
    gold: Float[np.ndarray, " n"] | None = None
    std: Float[np.ndarray, " n"] | None = None
    shift_p: Float[np.ndarray, " n"] | None = None
    truncated: Bool[np.ndarray, " n"] | None = None
    length: Int[np.ndarray, " n"] | None = None
    prompt_ids: tuple[Int[np.ndarray, " _"], ...] | None = None
    token_ids: tuple[Int[np.ndarray, " _"], ...] | None = None
    token_log_prob: tuple[Float[np.ndarray, " _"], ...] | None = None
    samples: int = 1
    attributes: Mapping[str, Float[np.ndarray, " n"]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.responses)
        columns = {name: getattr(self, name) for name in _COLUMNS} | dict(self.attributes)
        for name, column in columns.items():
            if column is not None and len(column) != n:
                raise GuerdonError(f"rollouts: {name} must have one entry for each of {n} responses, got {len(column)}")
        if self.samples < 1 or n % self.samples:
            raise GuerdonError(f"rollouts: samples must be at least 1 and divide the {n} responses, got {self.samples}")

    def __len__(self) -> int:
        return len(self.responses)

    @property
    def prompts_once(self) -> tuple[Prompt, ...]:
        """The prompt of each group of N responses, in order."""
        return self.prompts[:: self.samples]

    @property
    def responses_by_prompt(self) -> list[tuple[Response, ...]]:
        """The N responses of each group, in order."""
        return [self.responses[start : start + self.samples] for start in range(0, len(self), self.samples)]

    @property
    def reward_by_prompt(self) -> Float[np.ndarray, "p N"]:
        """The rewards as a table. An error where the responses were not scored."""
        if self.reward is None:
            raise GuerdonError("rollouts: reward must be measured first, got none. Score the responses.")
        return self.by_prompt(self.reward)

    @property
    def cut(self) -> Bool[np.ndarray, " n"]:
        """True where a response was cut at the token limit; one whose finish is unknown counts as ended."""
        import numpy as np

        return np.array([response.finish == "length" for response in self.responses], dtype=bool)

    @overload
    def by_prompt(self, column: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, "p N"]: ...

    @overload
    def by_prompt(self, column: None) -> None: ...

    def by_prompt(self, column: Shaped[np.ndarray, " n"] | None) -> Shaped[np.ndarray, "p N"] | None:
        """A column as a table [prompts, N]; None for a column that was not measured."""
        return None if column is None else column.reshape(-1, self.samples)

    def select(self, rows: Iterable[SupportsIndex], samples: int = 1) -> Rollouts:
        """The responses at these positions, in this order, in groups of `samples`."""
        chosen = [int(row) for row in rows]

        def selected(column: Any) -> Any:
            if column is None:
                return None
            return tuple(column[row] for row in chosen) if isinstance(column, tuple) else column[chosen]

        columns = {name: selected(getattr(self, name)) for name in _COLUMNS}
        attributes = {name: selected(column) for name, column in self.attributes.items()}
        return replace(self, samples=samples, attributes=attributes, **columns)

    @classmethod
    def join(cls, parts: Sequence[Rollouts]) -> Rollouts:
        """The responses of all parts, part after part. A column that any part lacks is left out; N is 1 where parts differ."""
        import numpy as np

        def joined(columns: list[Any]) -> Any:
            if any(column is None for column in columns):
                return None
            return tuple(chain(*columns)) if isinstance(columns[0], tuple) else np.concatenate(columns)

        if not parts:
            return cls((), ())
        sizes = {part.samples for part in parts}
        samples = sizes.pop() if len(sizes) == 1 else 1
        columns = {name: joined([getattr(part, name) for part in parts]) for name in _COLUMNS}
        names = [name for name in parts[0].attributes if all(name in part.attributes for part in parts)]
        attributes = {name: np.concatenate([part.attributes[name] for part in parts]) for name in names}
        return cls(samples=samples, attributes=attributes, **columns)


_COLUMNS = tuple(column.name for column in fields(Rollouts) if column.name not in ("samples", "attributes"))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval, and n independent units (prompts or groups, never tokens).

    low and high are NaN where the data cannot give an interval (a single unit, say).
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}] (n={self.n})"


@dataclass(frozen=True, slots=True)
class Quantity:
    """How to read an estimate: its label, its unit, the section of the page that it belongs to, and what it means."""

    label: str
    unit: Unit
    section: str
    meaning: str = ""

    def variant(self, name: str) -> Quantity:
        """The same quantity of one of several things, such as "before" or "a"."""
        return replace(self, label=f"{self.label}, {name}")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a reader should know: what was found, the evidence, and the remedy.

    cost: share of decisions that the fault flips or gets wrong, None where unknown; findings are ranked by it.
    examples: texts to read as evidence.
    """

    severity: Severity
    title: str
    evidence: str
    remedy: str = ""
    cost: Estimate | None = None
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True)
class Curve:
    """Estimates along an axis, drawn as one line or as bars. `y` belongs to `x` point by point.

    kind: "line" and "points" draw y with its interval at x; "bars" draws counts or shares. diagonal: also draw y = x, the
    line of perfect calibration. Labels name units. title: what to call the curve; its key in the report unless given.
    """

    x: tuple[float, ...]
    y: tuple[Estimate, ...]
    x_label: str
    y_label: str
    kind: Literal["line", "points", "bars"] = "line"
    diagonal: bool = False
    x_names: tuple[str, ...] = ()
    caption: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """Texts a person should read: a prompt, its responses with their rewards, and why they are shown."""

    title: str
    prompt: Prompt
    responses: tuple[Response, ...]
    labels: tuple[str, ...]
    rewards: tuple[float, ...]


Decision = Literal["fit", "fit with limits", "not fit", "not enough evidence"]
RuleState = Literal["passed", "failed", "not shown", "unknown", "does not apply"]
RuleEffect = Literal["not fit", "not enough evidence", "limit"]
Hygiene = Literal["passed", "refused", "not checked"]


@dataclass(frozen=True, slots=True)
class Ruling:
    """The outcome of one rule of the gate.

    measured: what was measured, in words. wanted: what the rule asks for. effect: the decision where the state is failed or
    not shown. limit: how to live with a failure whose effect is "limit". advice: how to use what passed. data: which data
    would fix or settle it.
    """

    rule: str
    state: RuleState
    measured: str
    wanted: str
    effect: RuleEffect = "not fit"
    limit: str = ""
    data: str = ""
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    advice: str = ""

    @property
    def passes(self) -> bool:
        """Whether the rule raises no objection; one that was not measured or does not apply raises none."""
        return self.state in ("passed", "unknown", "does not apply")


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether a reward model is fit to be optimized against, and why.

    limits: the conditions under which it may be used. needed_data: which data would help most. expectation: what to
    compare the accuracy with. published: accuracies of published models. hygiene: whether scores were checked for being
    finite and independent of their batch, and passed.
    """

    decision: Decision
    reason: str
    limits: tuple[str, ...] = ()
    needed_data: str = ""
    expectation: str = ""
    published: str = ""
    hygiene: Hygiene = "not checked"
    rulings: tuple[Ruling, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What a stage measured: named estimates, findings, curves and texts to read. Every number has its interval.

    about: facts that are not estimates (names, hashes, counts, seconds). summary: the result in one sentence, where the
    stage states one. gate: the decision of an audit. sections: parts with titles of their own. quantities: how to read the
    estimates, by the same keys; those of no estimate are dropped, so that a stage may pass its whole table.
    """

    title: str
    about: Mapping[str, str] = field(default_factory=dict)
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    curves: Mapping[str, Curve] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()
    sections: tuple[Report, ...] = ()
    summary: str = ""
    gate: Gate | None = None
    quantities: Mapping[str, Quantity] = field(default_factory=dict)

    def __post_init__(self) -> None:
        described = {key: self.quantities[key] for key in self.estimates if key in self.quantities}
        object.__setattr__(self, "quantities", described)

    def walk(self) -> Iterator[Report]:
        """This report, then its sections and theirs, in order."""
        yield self
        for section in self.sections:
            yield from section.walk()


@runtime_checkable
class RewardModel(Protocol):
    """Gives each response a scalar. Batch size, order, neighbors and padding side never change a score."""

    def score(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Scores:
        """Score response i as an answer to prompt i; both have length n."""
        ...


@runtime_checkable
class Judge(Protocol):
    """Compares two responses. Swapping them negates a reward model's log-odds by construction; for other judges, measure it."""

    def log_odds(
        self, prompts: Sequence[PromptLike], first: Sequence[ResponseLike], second: Sequence[ResponseLike]
    ) -> Float[np.ndarray, " n"]:
        """Log-odds, in nats, that the first response is the better one."""
        ...


@runtime_checkable
class Policy(Protocol):
    """A language model that writes responses."""

    def sample(self, prompts: Sequence[PromptLike], n: int, max_tokens: int, temperature: float, seed: int) -> Rollouts:
        """Draw n responses to each prompt; responses to one prompt are consecutive."""
        ...
