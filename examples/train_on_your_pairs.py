"""From your own judgments to a calibrated reward model, and a page that reports how far it can be trusted.

    python examples/train_on_your_pairs.py pairs.jsonl --out runs/mine --base org/model

`pairs.jsonl` can have any format that docs/collect.md describes. The steps are those of `guerdon quickstart --data`, written
out so that you can change them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import guerdon


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/mine"))
    parser.add_argument("--base", default="starter", help="hub name or directory of the model to start from")
    parser.add_argument("--lr", type=float, default=2e-5)
    args = parser.parse_args(arguments)

    comparisons = guerdon.read(args.data)
    show(guerdon.check(comparisons))

    # Split by prompt. The audit part must stay unused until the last step, or its numbers mean nothing.
    parts = guerdon.split(comparisons, train=0.7, calibrate=0.15, audit=0.15)

    # With a folder, a run that was killed resumes from its last checkpoint.
    model = guerdon.train(parts["train"], out=args.out, base=args.base, lr=args.lr, truncation="drop")

    calibrated, calibration = guerdon.calibrate(model, parts["calibrate"])
    print(f"one nat is {calibration.estimates['temperature']} raw units of reward")
    guerdon.save(calibrated, args.out / "model")

    report = guerdon.audit(calibrated, parts["audit"])
    show(report)
    print(f"accuracy {report.estimates['accuracy']}" if report.estimates else "refused: see above")
    (args.out / "report.html").write_text(guerdon.to_html(report), encoding="utf-8")
    print(f"model {args.out / 'model'}, page {args.out / 'report.html'}")


def show(report: guerdon.Report) -> None:
    for finding in report.findings:
        print(f"{finding.severity}: {finding.title}: {finding.evidence}")


if __name__ == "__main__":
    main()
