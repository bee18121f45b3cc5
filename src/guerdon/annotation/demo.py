"""Pairs to try the application with: texts of ours, with code, a table, a conversation and other scripts among them."""

from __future__ import annotations

import json
from pathlib import Path

from guerdon.io.schema import conversation_from_row
from guerdon.store.items import Item, unjudged_item


def demo_items() -> list[Item]:
    """The items of the demonstration."""
    lines = (Path(__file__).parent / "demo.jsonl").read_text("utf-8").splitlines()
    items = []
    for number, line in enumerate(lines, start=1):
        prompt, responses, _ = conversation_from_row(f"demo:{number}", json.loads(line))
        items.append(unjudged_item(prompt, responses)[0])
    return items
