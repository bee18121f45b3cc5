"""Your judgments to a calibrated reward model and a page that says how far to trust it.

    python examples/train_on_your_pairs.py pairs.jsonl --out runs/mine --base org/model

`pairs.jsonl` may be any format that docs/collect.md names. The same as `guerdon quickstart --data`, in the open, so that you
can change a step.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import guerdon


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/mine"))
    parser.add_argument("--base", default="starter", help="hub name or directory of the model to start from")
    parser.add_argument("--lr", type=float, default=2e-5)
    asked = parser.parse_args(words)

    comparisons = guerdon.read(asked.data)
    show(guerdon.check(comparisons))

    # By prompt: the audit part stays unseen until the last step, or its numbers mean nothing.
    parts = guerdon.split(comparisons, train=0.7, calibrate=0.15, audit=0.15)

    # With a folder, a killed run goes on from its last checkpoint.
    model = guerdon.train(parts["train"], out=asked.out, base=asked.base, lr=asked.lr, truncation="drop")

    calibrated, odds = guerdon.calibrate(model, parts["calibrate"])
    print(f"one nat is {odds.estimates['temperature']} raw units of reward")
    guerdon.save(calibrated, asked.out / "model")

    report = guerdon.audit(calibrated, parts["audit"])
    show(report)
    print(f"accuracy {report.estimates['accuracy']}" if report.estimates else "refused: see above")
    (asked.out / "report.html").write_text(guerdon.to_html(report), encoding="utf-8")
    print(f"model {asked.out / 'model'}, page {asked.out / 'report.html'}")


def show(report: guerdon.Report) -> None:
    for finding in report.findings:
        print(f"{finding.severity}: {finding.title}: {finding.evidence}")


if __name__ == "__main__":
    main()
