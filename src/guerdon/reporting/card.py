"""The model card of a saved reward model: metadata for hubs, how to load it, its scale, and its audit."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from guerdon.contracts import Report
from guerdon.io.directories import CARD_MARK, OLD_CARD_MARK
from guerdon.reporting.decision import decision_card
from guerdon.reporting.markdown import decision_lines, estimate_table, inline, table_row
from guerdon.reporting.words import cost_phrase, placed_findings, quantity, rank

__all__ = ["is_ours", "model_card"]

HEAD = """\
---
library_name: transformers
pipeline_tag: text-classification
{base}tags:
- reward-model
- guerdon
---
"""
LOAD = """\
## Use

```python
import guerdon

model = guerdon.load("PATH")
scores = model.score(["a prompt"], ["a response"])
```

Rewards are nats of preference log-odds: a difference of 1 between two responses to one prompt means odds of e to 1. Only
differences within a prompt mean anything.

Plain transformers reads the same directory, and gives one raw logit, before the temperature in reward.json:

```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("PATH")
model = AutoModelForSequenceClassification.from_pretrained("PATH").eval()
turns = [{"role": "user", "content": "a prompt"}, {"role": "assistant", "content": "a response"}]
text = tokenizer.apply_chat_template(turns, tokenize=False)
reward = model(**tokenizer(text, add_special_tokens=False, return_tensors="pt")).logits[0, 0]
```
"""
KEYS = (
    "accuracy", "longer_wins", "accuracy_above_longer", "accuracy_majority", "best_accuracy", "accuracy_shorter_preferred", "nll", "ece",
    "ece_null",
)  # fmt: skip
FACTS = ("comparisons", "groups", "comparisons hash", "intervals")


def is_ours(text: str) -> bool:
    """Whether Guerdon wrote this README, and its user did not ask to keep it."""
    return any(mark in text for mark in (CARD_MARK, OLD_CARD_MARK))


def model_card(report: Report, facts: Mapping[str, Any], *, name: str = "Reward model") -> str:
    """README.md from an audit and the content of reward.json."""
    base = facts.get("base")
    base_line = f"base_model: {json.dumps(base)}\n" if isinstance(base, str) and base.count("/") == 1 else ""
    lines = [HEAD.format(base=base_line) + CARD_MARK, "", f"# {inline(name)}", "", *_decision_lines(report), ""]
    lines += [LOAD + _system_message(facts), *_scale_lines(facts), *_audit_lines(report)]
    return "\n".join(lines).rstrip() + "\n"


def _decision_lines(report: Report) -> list[str]:
    card = decision_card(report) if report.gate is not None else None
    return decision_lines(card) if card else ["A reward model that was not audited for optimization."]


def _system_message(facts: Mapping[str, Any]) -> str:
    """The system message that the model was trained with, without which its scores are wrong.

    The chat template of a model that version 0.1 saved does not add it.
    """
    system = facts.get("system")
    if not isinstance(system, str):
        return ""
    quoted = inline(json.dumps(system, ensure_ascii=False))
    return (
        f"\nIt was trained with the system message {quoted}: put it before the turns if the chat template does not.\n"
    )


def _scale_lines(facts: Mapping[str, Any]) -> list[str]:
    scale = facts.get("calibration")
    if not isinstance(scale, Mapping):
        return []
    lines = ["## Scale", "", f"* temperature: {scale.get('temperature', 1.0):.6g} raw units in one nat"]
    if scale.get("note"):
        lines[-1] += f" ({scale['note']})"
    if scale.get("provenance"):
        mean, spread = scale.get("reference_mean", 0.0), scale.get("reference_spread", 1.0)
        lines.append(f"* a reference policy's replies: mean {mean:.6g}, spread {spread:.6g}, in raw units")
    if "max_length" in facts:
        lines.append(f"* longest text: {facts['max_length']} tokens; longer ones: {facts.get('truncation', '?')}")
    return [*lines, ""]


def _audit_lines(report: Report) -> list[str]:
    estimates = {key: report.estimates[key] for key in KEYS if key in report.estimates}
    rows = [(quantity(report, key), e) for key, e in estimates.items() if math.isfinite(e.value)]
    lines = ["## Audit", "", *estimate_table(rows)]
    findings = sorted((finding for finding, *_ in placed_findings(report)), key=rank)
    if faults := [finding for finding in findings if finding.severity != "note"]:
        lines += ["", "Its faults, the costliest first:", ""]
    for fault in faults:
        cost = f" ({inline(cost_phrase(fault.cost))})" if fault.cost else ""
        lines.append(f"* **{inline(fault.title)}**{cost}: {inline(fault.evidence)}")
    if report.gate is not None:
        lines += ["", "| Rule | State | Measured |", "|---|---|---|"]
        lines += [table_row(ruling.rule, ruling.state, ruling.measured) for ruling in report.gate.rulings]
    return [*lines, "", *(f"* {key}: {inline(report.about[key])}" for key in FACTS if key in report.about)]
