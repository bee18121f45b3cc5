"""The report over the rounds of a loop: is the reward model still right, how far did the policy go, and did another round pay?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from guerdon.config import LoopOptions
from guerdon.contracts import Curve, Estimate, Example, Finding, Message, Prompt, Quantity, Report, Response
from guerdon.io import readers
from guerdon.io.json_files import read_object
from guerdon.io.reports import from_json
from guerdon.models.estimates import CORRECTNESS, OPTIMIZATION, estimate_mean

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["OUTCOME", "loop_report"]

OUTCOME: Final = "outcome.json"
NUM_EXAMPLES: Final = 3
CHANCE: Final = 0.5  # accuracy of a coin
VERBS: Final = {"fresh": "measure on fresh replies"}  # of steps whose names are none
FRESH = Quantity(
    "accuracy on the moved policy", "share", CORRECTNESS,
    "of the reward model before this round, on labeled replies of the policy that was optimized against it",
)  # fmt: skip
HELD_OUT = Quantity(
    "accuracy on held-out labels", "share", CORRECTNESS, "of the round's reward model, over all rounds' replies"
)
GOLD = Quantity("gold", "number", OPTIMIZATION, "of the round's policy on held-out prompts; nothing is trained on it")
GOLD_BEFORE = Quantity("gold", "number", OPTIMIZATION, "of the policy before optimization, on the same prompts")
GAIN = Quantity("gain in gold", "number", OPTIMIZATION, "over the round before, on the same prompts")
KL = Quantity("KL", "nats", OPTIMIZATION, "of the round's policy to the policy before optimization, per reply")


def loop_report(folders: Sequence[Path], done: Mapping[str, Mapping[str, Any]], options: LoopOptions) -> Report:
    """What the finished rounds gave. folders: of the rounds, in order. done: what each step returned.

    Keys, for round N: fresh_accuracy_N (from the second on), accuracy_N, gold_0 of the policy before, gold_N, gain_N, kl_N.
    """
    rounds = [(i, folder) for i, folder in enumerate(folders, 1) if (folder / OUTCOME).exists()]
    outcomes = {number: read_object(folder / OUTCOME) for number, folder in rounds}
    estimates: dict[str, Estimate] = {}
    quantities: dict[str, Quantity] = {}

    def add(name: str, number: int, estimate: Estimate, quantity: Quantity) -> None:
        estimates[f"{name}_{number}"] = estimate
        quantities[f"{name}_{number}"] = quantity.variant(f"round {number}" if number else "before the first round")

    for number, folder in enumerate(folders, 1):
        for name, file, quantity in (
            ("fresh_accuracy", "fresh.json", FRESH),
            ("accuracy", "audit/report.json", HELD_OUT),
        ):
            if (folder / file).exists():
                add(name, number, from_json(read_object(folder / file)).estimates["accuracy"], quantity)
    before: Float[np.ndarray, " p"] | None = None
    for number, outcome in outcomes.items():
        if outcome["gold"] is not None:
            gold, prompts = np.array(outcome["gold"], dtype=float), outcome["prompts"]
            if before is None:
                before = np.array(outcome["gold_before"], dtype=float)
                add("gold", 0, _mean(before, prompts), GOLD_BEFORE)
            add("gold", number, _mean(gold, prompts), GOLD)
            add("gain", number, _mean(gold - before, prompts), GAIN)
            before = gold
        add("kl", number, _mean(np.array(outcome["kl"], dtype=float), outcome["prompts"]), KL)
    return Report(
        f"Loop of {len(rounds)} rounds" if len(rounds) != 1 else "Loop of one round",
        _facts(done, options),
        estimates,
        tuple(_findings(outcomes, estimates)),
        curves=_curves(estimates),
        examples=tuple(_examples(folders, outcomes)),
        summary=_summary(outcomes, estimates),
        quantities=quantities,
    )


def _mean(values: Float[np.ndarray, " p"], prompts: Sequence[str]) -> Estimate:
    """The mean over prompts [p], without those for which a judge gave no number."""
    known = np.isfinite(values)
    return estimate_mean(values[known], [name for name, is_known in zip(prompts, known, strict=True) if is_known], None)


def _facts(done: Mapping[str, Mapping[str, Any]], options: LoopOptions) -> dict[str, str]:
    """What was labeled by whom and what it cost, round by round, and the seconds of each kind of step."""
    facts = {"method": options.method, "gold": options.gold or "none"}
    seconds: dict[str, float] = {}
    for name, result in done.items():
        where, _, step = name.partition(": ")
        seconds[step] = seconds.get(step, 0.0) + result["seconds"]
        if step == "label":
            facts[f"{where}, labels"] = _counts(result)
    return facts | {f"seconds to {VERBS.get(step, step)}": f"{total:.0f}" for step, total in seconds.items()}


def _counts(result: Mapping[str, Any]) -> str:
    """What a label step returned, in words: "12 by people, 116 by judge, cost: 0.0312 USD"."""
    shown = {key: fact for key, fact in result.items() if key != "seconds" and fact not in (0, "0")}
    return ", ".join(f"{fact} {key}" if isinstance(fact, int) else f"{key}: {fact}" for key, fact in shown.items())


def _findings(outcomes: Mapping[int, Any], estimates: Mapping[str, Estimate]) -> list[Finding]:
    findings = []
    for number in outcomes:
        accuracy = estimates.get(f"accuracy_{number}")
        if accuracy is not None and not accuracy.low > CHANCE:
            findings.append(
                Finding(
                    "warning", f"The reward model of round {number} is not shown to be better than a coin",
                    f"accuracy {accuracy} on held-out labels",
                    "What a policy gains against it is chance. Raise loop.label_prompts, or read rounds/"
                    f"{number}/audit/report.html before another round.",
                )
            )  # fmt: skip
        gain, fresh = estimates.get(f"gain_{number}"), estimates.get(f"fresh_accuracy_{number}")
        if gain is not None and gain.high < 0:
            findings.append(
                Finding(
                    "warning", f"Round {number} made replies worse", f"gold changed by {gain}",
                    f"Read rounds/{number}/run/report.html: raise optimize.kl_coef, or stop at the update where gold peaked.",
                )
            )  # fmt: skip
        elif gain is not None and gain.low <= 0:
            findings.append(
                Finding(
                    "note", f"Round {number} brought no gain that can be shown", f"gold changed by {gain}",
                    "Label more prompts, let the policy go further, or hold out more prompts (loop.held_out), which narrows the "
                    "interval.",
                )
            )  # fmt: skip
        learned = estimates.get(f"accuracy_{number - 1}")
        if fresh is not None and learned is not None and fresh.high < learned.low:
            findings.append(
                Finding(
                    "note", f"The reward model of round {number - 1} is wrong more often where it led the policy",
                    f"accuracy {fresh} on the moved policy, {learned} on held-out labels before",
                    f"Round {number} trains on these replies too.",
                )
            )  # fmt: skip
    return findings


def _summary(outcomes: Mapping[int, Any], estimates: Mapping[str, Estimate]) -> str:
    gains = {number: estimates[f"gain_{number}"] for number in outcomes if f"gain_{number}" in estimates}
    if not outcomes:
        return "No round is finished"
    if not gains:
        return "Whether another round pays is not known: nothing measures gold"
    paid = [number for number, gain in gains.items() if gain.low > 0]
    last = max(gains)
    if last in paid:
        return f"Round {last} still brought a gain: another one may pay"
    if gains[last].high < 0:
        return f"Round {last} made replies worse: another one of the same kind does not pay"
    return f"Round {last} brought no gain that can be shown: nothing here says that another one pays"


def _curves(estimates: Mapping[str, Estimate]) -> dict[str, Curve]:
    """Each quantity over the rounds, where there are two points or more."""
    names = {
        "gold": ("gold", "gold over rounds"),
        "kl": ("nats per reply", "KL over rounds"),
        "fresh_accuracy": ("accuracy on the moved policy", "accuracy on the moved policy over rounds"),
        "accuracy": ("accuracy on held-out labels", "accuracy on held-out labels over rounds"),
    }
    curves = {}
    for name, (label, title) in names.items():
        points = [(i, estimates[f"{name}_{i}"]) for i in range(len(estimates) + 1) if f"{name}_{i}" in estimates]
        if len(points) > 1:
            x, y = zip(*points, strict=True)
            curves[f"{name}_over_rounds"] = Curve(tuple(map(float, x)), y, "round", label, title=title)
    return curves


def _examples(folders: Sequence[Path], outcomes: Mapping[int, Any]) -> list[Example]:
    """Replies to the same held-out prompts, round by round, with their gold."""
    if not outcomes:
        return []
    held_out = _held_out(folders[next(iter(outcomes)) - 1])
    first = next(iter(outcomes.values()))
    examples = []
    for row, name in enumerate(first["prompts"][:NUM_EXAMPLES]):
        prompt = held_out.get(name, Prompt([Message("user", "(the prompt is in the round's folder)")]))
        texts = [first["texts_before"][row], *(outcome["texts"][row] for outcome in outcomes.values())]
        golds = [first["gold_before"], *(outcome["gold"] for outcome in outcomes.values())]
        rewards = tuple(float("nan") if gold is None or gold[row] is None else float(gold[row]) for gold in golds)
        names = ("before", *(f"round {number}" for number in outcomes))
        labels = tuple(name if gold is None else f"{name}, gold" for name, gold in zip(names, golds, strict=True))
        title = prompt[-1].content[:80]
        examples.append(Example(title, prompt, tuple(Response(text) for text in texts), labels, rewards))
    return examples


def _held_out(folder: Path) -> dict[str, Prompt]:
    """The held-out prompts of a round by their digests."""
    from guerdon.contracts import prompt_digest

    for file in (folder / "run" / "held_out.jsonl", folder / "pool.jsonl"):
        if file.exists():
            return {prompt_digest(prompt): prompt for prompt in readers.read_prompts(file)}
    return {}
