"""Rows with the reward after every token in; a report of where in the replies the reward was gained out.

Axes: n replies, p tenths of a reply by its tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from guerdon.contracts import Curve, Estimate, Finding, GuerdonError, Quantity, Report, prompt_digest
from guerdon.io import schema
from guerdon.models.estimates import estimate_mean
from guerdon.models.token_rewards import TokenRewards

__all__ = ["token_report"]

PARTS = 10
NUM_SHOWN, NUM_STRETCHES = 8, 24  # replies drawn, and stretches of tokens in a drawing
GAIN = "nats gained"
QUANTITIES = {
    "reward_start": Quantity("before the reply", "nats", "Reward", "read after the prompt, before the first token"),
    "reward_end": Quantity("of the reply", "nats", "Reward", "read at its end, where the model was trained"),
    "gain": Quantity("gained", "nats", "Reward", "the second less the first: the sum over the reply's tokens"),
    "gain_closing": Quantity(
        "gained in the last tenth", "nats", "Reward", "of the tokens, the template's end included"
    ),
}
NOT_CALIBRATED = Finding(
    "note",
    "Rewards inside a reply are not calibrated",
    "The model learned to score whole replies. At a prefix its head is read where nothing taught it what to say, so a jump "
    "shows where the model's opinion changed, not what that token is worth.",
    "Trust the value at the end. Test a place that matters by editing it and scoring the whole reply again.",
)


def token_report(rows: Iterable[tuple[str, Mapping[str, Any]]], about: Mapping[str, str]) -> Report:
    """Mean gain by tenth of the reply with intervals by prompt, and a drawing of each of the first few replies."""
    groups: list[str] = []
    ends, parts = [], []
    drawn: dict[str, Curve] = {}
    for place, row in rows:
        prompt, _, is_single = schema.conversation_from_row(place, row)
        for own in [row["token_rewards"]] if is_single else row["token_rewards"]:
            reply = TokenRewards(tuple(own["tokens"]), np.array(own["rewards"], dtype=np.float64), own["start"])
            groups.append(prompt_digest(prompt))
            ends.append((reply.start, reply.reward))
            parts.append([float(part.sum()) for part in np.array_split(reply.gains, PARTS)])
            if len(drawn) < NUM_SHOWN and reply.tokens:
                drawn[f"reply_{len(drawn) + 1}"] = _drawing(reply, prompt[-1].content)
    if not ends:
        raise GuerdonError("score: a report needs at least one response, got none. Give rows with responses.")
    start, end = np.array(ends).T
    gains = np.array(parts)
    measured = {"reward_start": start, "reward_end": end, "gain": end - start, "gain_closing": gains[:, -1]}
    by_part = Curve(
        x=tuple(float(10 * (i + 1)) for i in range(PARTS)),
        y=tuple(_mean(column, groups) for column in gains.T),
        x_label="% of the reply's tokens",
        y_label=GAIN,
        kind="points",
        title="Where the reward was gained",
        caption="Mean over replies of what each tenth of their tokens added; the tenths sum to the gain.",
    )
    return Report(
        "Reward by token",
        {**about, "responses": f"{len(groups):,}", "prompts": f"{len(set(groups)):,}"},
        {key: _mean(values, groups) for key, values in measured.items()},
        findings=(NOT_CALIBRATED,),
        curves={"gain_by_part": by_part, **drawn},
        quantities=QUANTITIES,
    )


def _mean(values: np.ndarray, groups: list[str]) -> Estimate:
    return estimate_mean(values, groups, None)


def _drawing(reply: TokenRewards, question: str) -> Curve:
    """What each stretch of a reply's tokens added, from top to bottom as it is read."""
    stretches = np.array_split(np.arange(len(reply.tokens)), min(NUM_STRETCHES, len(reply.tokens)))
    texts = ["".join(reply.tokens[i] for i in stretch) for stretch in stretches]
    sums = [float(reply.gains[stretch].sum()) for stretch in stretches]
    return Curve(
        x=tuple(float(i) for i in range(len(texts))),
        y=tuple(Estimate(value, np.nan, np.nan, 1) for value in sums),
        x_label="text",
        y_label=GAIN,
        kind="bars",
        x_names=tuple(text.replace("\n", "⏎") or "·" for text in texts),
        title=f"A reply to: {question[:80]}",
        caption=f"From {reply.start:+.3f} before the reply to {reply.reward:+.3f} at its end.",
    )
