"""The desk that the documentation's snippets work at: its files, made with the tiny model, and the snippets themselves."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RUBRIC = """id: reviews
license: CC0-1.0
criteria:
  - {id: praises, text: The response praises the film., weight: 2}
  - {id: recommends, text: The response says that the film is worth seeing.}
  - {id: complains, text: The response names a fault of the film., weight: -2}
"""
TOPICS = "film review tweet sentence answer question people love time work story day".split()
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line it begins on."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    """Every fenced block of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        yield Block(match[1], match[2], text.count("\n", 0, match.start(2)) + 1)


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """(command, comment behind it) of each `guerdon` line of a bash block, continued lines joined."""
    for line in block.text.replace("\\\n", " ").splitlines():
        found = re.match(r"\s*(?:\$ )?guerdon (.*?)(?:\s+# (.*))?$", line)
        if found:
            yield " ".join(found[1].split()), found[2] or ""


def with_tiny_models(text: str, base: Path) -> str:
    """The snippet with every model to start from replaced by the tiny one."""
    text = re.sub(r'base="[^"]+"', f'base="{base}"', text)
    for option in ("--base ", "--policy ", "model.base="):
        text = text.replace(f"{option}org/model", f"{option}{base}")
    return text


def judged_pairs(count: int, seed: int = 0) -> list[dict[str, str]]:
    """{prompt, chosen, rejected} rows of the tiny vocabulary, each prompt its own; one in eight is the wrong way round."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        prompt = f"Write a {rng.choice(TOPICS)} about {' '.join(str(i).zfill(4))}."
        good, bad = (
            f"{rng.choice(('we', 'they', 'people'))} {rng.choice(('have', 'love', 'see'))} {rng.choice(words)} "
            f"{rng.choice(TOPICS)} {' '.join(rng.choices('0123456789', k=4))}."
            for words in (("good", "great", "happy", "kind"), ("bad", "awful", "sad", "rude"))
        )
        chosen, rejected = (good, bad) if rng.random() < 7 / 8 else (bad, good)
        rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return rows


def make_desk(folder: Path, base: Path) -> Path:
    """Fill a folder with every file that a snippet reads: judgments in several formats, their parts, and a trained model."""
    import guerdon
    from guerdon.api.store import add_to_store, create_store

    rows = judged_pairs(200)
    _write_jsonl(folder / "pairs.jsonl", rows)
    comparisons = guerdon.read(folder / "pairs.jsonl")
    for name in ("all.jsonl", "comparisons.jsonl"):
        guerdon.write(folder / name, comparisons)
    parts = guerdon.split(comparisons, train=0.6, calibrate=0.2, audit=0.2)
    for name, part in parts.items():
        guerdon.write(folder / f"{name}.jsonl", part)
        guerdon.write(folder / "parts" / f"{name}.jsonl", part)
        guerdon.write(folder / "runs" / "quickstart" / f"{name}.jsonl", part)
    _write_others(folder, rows)
    _write_exports(folder, rows)
    (folder / "critic.yaml").write_text(
        f"kind: local\nmodel: {base}\nmode: pair\nmin_mass: 0\nunresolved_max: 1\n", encoding="utf-8"
    )
    (folder / "writer.yaml").write_text(
        f"kind: local\nmodel: {base}\nname: writer\nunresolved_max: 1\n", encoding="utf-8"
    )
    (folder / "principles.yaml").write_text(
        "id: mine\nlicense: CC0-1.0\nprinciples:\n- {id: kind, compare_question: Which is kinder, "
        "critique_request: Find what is rude., revision_request: Rewrite it kindly.}\n",
        encoding="utf-8",
    )
    (folder / "annotation.yaml").write_text("verdict: strength7\nneed: 2\n", encoding="utf-8")
    (folder / "judge.yaml").write_text("kind: python\nfunction: rules.py:longer\n", encoding="utf-8")
    (folder / "rules.py").write_text(
        "def longer(prompt, first, second):\n    return float(len(first.text) > len(second.text))\n", encoding="utf-8"
    )
    (folder / "judges.py").write_text(
        "def longer(prompt, first, second):\n    return 0.1 * (len(first.text) - len(second.text))\n"
    )
    (folder / "longer.yaml").write_text("kind: python\nfunction: judges.py:longer\n")
    create_store(folder / "team.db")
    add_to_store(folder / "team.db", comparisons[:20], kind="human")
    for seed, names in enumerate((("runs/mine/model", "runs/quickstart/model", "my-model"), ("old-model",))):
        model = guerdon.train(parts["train"], base=str(base), lr=3e-3, micro_tokens=8192, seed=seed)
        model, _ = guerdon.calibrate(model, parts["calibrate"])
        for name in names:
            guerdon.save(model, folder / name)
    return folder


def _write_others(folder: Path, rows: list[dict[str, str]]) -> None:
    """The same judgments as a table and as votes, those of simulated annotators, replies to judge, and picks with answers."""
    import guerdon
    from guerdon.data.simulated import SimulatedAnnotator, simulate_judgments, simulate_pairs

    crowd = [SimulatedAnnotator(f"w{i}", ability) for i, ability in enumerate((2.0, 2.0, 1.0, -1.0))]
    guerdon.write(folder / "judgments.jsonl", simulate_judgments(simulate_pairs(60, 0), crowd, 3, seed=0))
    _write_jsonl(folder / "prompts.jsonl", [{"prompt": r["prompt"]} for r in rows[:40]])
    lines = ["question,first,second,label"]
    lines += [
        f'"{r["prompt"]}","{r["chosen"]}","{r["rejected"]}",{("a", "tie", "0.7")[i % 3]}' for i, r in enumerate(rows)
    ]
    (folder / "rubric.yaml").write_text(RUBRIC, encoding="utf-8")
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    votes = [{"annotator": f"p{i}", "label": label} for i, label in enumerate(("a", "a", "b"))]
    _write_jsonl(
        folder / "votes.jsonl",
        [{"prompt": r["prompt"], "response_a": r["chosen"], "response_b": r["rejected"], "votes": votes} for r in rows],
    )
    _write_jsonl(
        folder / "replies.jsonl",
        [{"prompt": r["prompt"], "responses": [r["chosen"], r["rejected"], "I do not know."]} for r in rows[:5]],
    )
    steps = [
        {"prompt": r["prompt"], "completions": [r["chosen"], r["rejected"]], "labels": [True, False]} for r in rows
    ]
    _write_jsonl(folder / "steps.jsonl", steps)
    solutions = [{"prompt": r["prompt"], "response": f"{r['chosen']}\n\n{r['rejected']}"} for r in rows[:5]]
    _write_jsonl(folder / "solutions.jsonl", solutions)

    pool = judged_pairs(150, seed=1)
    _write_jsonl(
        folder / "candidates.jsonl",
        [{"prompt": r["prompt"], "responses": [r["chosen"], r["rejected"], "I do not know."]} for r in pool],
    )
    picks = guerdon.select(folder / "candidates.jsonl", num=20, seed=1)
    _write_jsonl(folder / "answered.jsonl", [{**row, "preference": {"q": 1.0}} for row in picks.train])
    _write_jsonl(folder / "answered.test.jsonl", [{**row, "preference": {"q": 1.0}} for row in picks.test])


def _write_exports(folder: Path, rows: list[dict[str, str]]) -> None:
    """The same judgments as a spreadsheet, Argilla and Potato write them."""
    sides = [(r["chosen"], r["rejected"]) if i % 2 else (r["rejected"], r["chosen"]) for i, r in enumerate(rows)]
    lines = ["Question;Answer A;Answer B;Winner;Rater"]
    lines += [
        f'"{r["prompt"]}";"{a}";"{b}";{"BA"[i % 2]};ann' for i, (r, (a, b)) in enumerate(zip(rows, sides, strict=True))
    ]
    (folder / "survey.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\r\n")
    records = [
        {
            "id": f"r{i}", "fields": {"instruction": r["prompt"], "response1": a, "response2": b}, "metadata": {}, "suggestions": {},
            "responses": {"preference": [
                {"value": ("response2", "response1")[i % 2], "user_id": "u-ann"},
                {"value": ("response2", "response1")[i % 2] if i % 5 else "tie", "user_id": "u-bob"},
            ]},
            "vectors": {}, "status": "completed", "_server_id": f"{i:032x}",
        }
        for i, (r, (a, b)) in enumerate(zip(rows, sides, strict=True))
    ]  # fmt: skip
    (folder / "argilla.json").write_text(json.dumps(records), encoding="utf-8")
    _write_jsonl(
        folder / "items.jsonl",
        [
            {"id": f"{i}", "prompt": r["prompt"], "text": list(ab)}
            for i, (r, ab) in enumerate(zip(rows, sides, strict=True))
        ],
    )
    labels = [
        {"instance_id": f"{i}", "user_id": "ann", "labels": {"preference": {"selection": "BA"[i % 2]}}}
        for i in range(len(rows))
    ]
    _write_jsonl(folder / "annotations.jsonl", labels)


def _write_jsonl(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
