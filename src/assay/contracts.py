"""The objects that flow between the stages, and the protocols that models fulfil. All frozen; none knows a file or a model.

Axes: n counts responses (or comparisons, where said), k ensemble members. Rewards are nats of preference log-odds: a
difference of 1 between two responses to one prompt means odds of e : 1. Only differences within a prompt mean anything.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool, Float

__all__ = [
    "AssayError",
    "Comparison",
    "Curve",
    "Estimate",
    "Example",
    "Finding",
    "Judge",
    "Message",
    "Policy",
    "Prompt",
    "Report",
    "Response",
    "RewardModel",
    "Rollouts",
    "Scores",
    "Verdict",
    "as_prompt",
    "as_response",
    "digest",
    "digest_all",
    "prompt_digest",
]

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length"]
Severity = Literal["error", "warning", "note"]


class AssayError(ValueError):
    """A user's mistake: one line that names the place, the value and the remedy. The command line exits with 2 on it."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. Content is plain text, hostile until escaped."""

    role: str
    content: str


Prompt = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Response:
    """One answer to a prompt.

    `finish` is "length" for an answer that was cut, "stop" for one that ended, None where nobody knows (then it is taken
    as ended). `author` is the model or person that wrote it. `ratings` holds attribute ratings, higher is better; an
    attribute that was not rated is absent.
    """

    text: str
    finish: FinishReason | None = None
    author: str | None = None
    ratings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who is better. Exactly one of `groups` and `q` is set.

    groups: indices into the responses, best group first; a shared group is a tie; a response in no group is known only to
        be below every group (a top-k ranking).
    q: P(first is better), for two responses; 0.5 is a tie.
    strength: how much better the best is than the worst, in nats of log-odds if known, else the annotator's own scale; >= 0.
    votes: how many people said (first better, tie, second better), for two responses; None where nobody counted.
    """

    groups: tuple[tuple[int, ...], ...] | None = None
    q: float | None = None
    strength: float | None = None
    votes: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if (self.groups is None) == (self.q is None):
            raise AssayError(
                "verdict: give either groups (best first) or q = P(first is better), not both and not neither"
            )
        if self.q is not None and not 0.0 <= self.q <= 1.0:
            raise AssayError(f"verdict: q is a probability between 0 and 1, got {self.q}")
        if self.strength is not None and not (math.isfinite(self.strength) and self.strength >= 0):
            raise AssayError(f"verdict: strength is a finite number >= 0, got {self.strength}")
        if self.votes is not None and (len(self.votes) != 3 or min(self.votes) < 0):
            raise AssayError(f"verdict: votes are three counts (first, tie, second), got {self.votes}")
        if self.groups is not None:
            flat = [i for group in self.groups for i in group]
            if not flat or len(set(flat)) != len(flat):
                raise AssayError(f"verdict: groups name each response at most once and at least one, got {self.groups}")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One prompt, its responses in the order shown, what was judged, and by whom.

    `group` names the unit that a split must not tear apart and that intervals resample; by default the prompt itself.
    `weight` multiplies this comparison's loss and its share in every mean. Nothing here is truncated: that belongs to a model.
    """

    prompt: Prompt
    responses: tuple[Response, ...]
    verdict: Verdict
    annotator: str | None = None
    source: str | None = None
    weight: float = 1.0
    group: str = ""
    id: str = ""

    def __post_init__(self) -> None:
        k = len(self.responses)
        if k < 2:
            raise AssayError(f"comparison {self.id or '?'}: needs at least 2 responses, got {k}; remedy: drop the row")
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise AssayError(f"comparison {self.id or '?'}: weight is a finite number > 0, got {self.weight}")
        v = self.verdict
        if (v.q is not None or v.votes is not None) and k != 2:
            raise AssayError(
                f"comparison {self.id or '?'}: q and votes are for 2 responses, got {k}; remedy: give groups"
            )
        if v.groups is not None and any(not 0 <= i < k for g in v.groups for i in g):
            raise AssayError(f"comparison {self.id or '?'}: groups {v.groups} name a response outside 0..{k - 1}")
        if not self.group:
            object.__setattr__(self, "group", prompt_digest(self.prompt))
        if not self.id:
            body = [self.group, [r.text for r in self.responses], v.groups, v.q, self.annotator]
            object.__setattr__(self, "id", digest(body))

    @property
    def ranks(self) -> tuple[int, ...]:
        """Rank of each response: 0 is best, equal is a tie, -1 was not ranked (below all ranked ones)."""
        if self.verdict.q is not None:
            q = self.verdict.q
            return (0, 0) if q == 0.5 else (0, 1) if q > 0.5 else (1, 0)
        ranks = [-1] * len(self.responses)
        for rank, group in enumerate(self.verdict.groups or ()):
            for i in group:
                ranks[i] = rank
        return tuple(ranks)

    @property
    def q(self) -> float | None:
        """P(first is better) for two responses, 0.5 for a tie; None for more than two."""
        if len(self.responses) != 2:
            return None
        if self.verdict.q is not None:
            return self.verdict.q
        first, second = (rank if rank >= 0 else math.inf for rank in self.ranks)
        return 0.5 if first == second else float(first < second)


@dataclass(frozen=True, slots=True)
class Scores:
    """What a reward model says of n responses.

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
    """n responses that a policy gave, prompts repeated beside them.

    reward: [n] nats, or None before scoring. kl: [n] nats per sequence against the reference, or None where not measured.
    log_prob: [n] nats of each response under the distribution that it was drawn from, or None where nobody kept it.
    """

    prompts: tuple[Prompt, ...]
    responses: tuple[Response, ...]
    reward: Float[np.ndarray, " n"] | None = None
    kl: Float[np.ndarray, " n"] | None = None
    log_prob: Float[np.ndarray, " n"] | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its doubt: a 95 % interval, and n independent units (prompts or groups, never tokens).

    low and high are NaN where the data cannot give an interval (one unit, say); the reader is then told so.
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}] (n={self.n})"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a reader should know: what was seen, the evidence, and the remedy.

    cost: share of decisions that the fault turns or gets wrong, None where that is not known; findings are ranked by it.
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

    `kind` "line" and "points" draw y with its interval at x; "bars" draws counts or shares. `diagonal` draws y = x, the
    line of perfect calibration. Labels name units.
    """

    x: tuple[float, ...]
    y: tuple[Estimate, ...]
    x_label: str
    y_label: str
    kind: Literal["line", "points", "bars"] = "line"
    diagonal: bool = False
    x_names: tuple[str, ...] = ()
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """Texts a person should read: a prompt, its responses with their rewards, and why they are shown."""

    title: str
    prompt: Prompt
    responses: tuple[Response, ...]
    labels: tuple[str, ...]
    rewards: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What a stage found: named estimates, findings, curves and texts to read. No number stands without its interval.

    about: facts that are not estimates (names, hashes, counts, seconds). sections: parts with titles of their own.
    """

    title: str
    about: Mapping[str, str] = field(default_factory=dict)
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    curves: Mapping[str, Curve] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()
    sections: tuple[Report, ...] = ()


@runtime_checkable
class RewardModel(Protocol):
    """Gives each response a scalar. Neither batch size, order, neighbours nor padding side change a score."""

    def score(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Scores:
        """Score response i as an answer to prompt i; both have length n."""
        ...


@runtime_checkable
class Judge(Protocol):
    """Compares two responses. Swapping them flips a reward model's odds by construction; of others it is to be measured."""

    def log_odds(
        self, prompts: Sequence[PromptLike], first: Sequence[ResponseLike], second: Sequence[ResponseLike]
    ) -> Float[np.ndarray, " n"]:
        """Log-odds, in nats, that the first response is the better one."""
        ...


@runtime_checkable
class Policy(Protocol):
    """A language model that speaks."""

    def sample(self, prompts: Sequence[PromptLike], n: int, max_tokens: int, temperature: float, seed: int) -> Rollouts:
        """Draw n responses to each prompt; those of one prompt stand together."""
        ...


PromptLike = str | Sequence[Message] | Sequence[Mapping[str, str]]
ResponseLike = str | Response


def as_prompt(prompt: PromptLike) -> Prompt:
    """A prompt from a string (one user turn), messages, or {role, content} mappings."""
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    return tuple(m if isinstance(m, Message) else _as_message(m) for m in prompt)


def as_response(response: ResponseLike) -> Response:
    """A response from a string or as it is."""
    return Response(response) if isinstance(response, str) else response


def digest(value: object, size: int = 16) -> str:
    """A short stable hash (hex) of anything JSON can hold."""
    body = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()[:size]


def prompt_digest(prompt: Prompt) -> str:
    """What tells a prompt from others."""
    return digest([[m.role, m.content] for m in prompt])


def digest_all(values: Iterable[str], size: int = 16) -> str:
    """One hash over many strings, in order, without holding them together."""
    total = hashlib.sha256()
    for value in values:
        total.update(value.encode("utf-8", "surrogatepass") + b"\0")
    return total.hexdigest()[:size]


def _as_message(turn: Mapping[str, str]) -> Message:
    if not isinstance(turn, Mapping) or not {"role", "content"} <= set(turn):
        raise AssayError(f"a message is a mapping with role and content, got {turn!r:.80}")
    if not isinstance(turn["role"], str) or not isinstance(turn["content"], str):
        raise AssayError(f"role and content of a message are strings, got {turn!r:.80}")
    return Message(turn["role"], turn["content"])
