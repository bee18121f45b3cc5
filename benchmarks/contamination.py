"""Make the index of public benchmarks' prompts that `guerdon check` looks up: 8-byte hashes only, no text.

Run: python benchmarks/contamination.py FOLDER
FOLDER holds a clone of each repository below as OWNER+NAME (bare or not), and the unpacked source package bigbench-1.0.0 from PyPI.
A benchmark whose source is missing is left out and named. The index and its manifest go to src/guerdon/data/contamination/.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from guerdon.data.contamination import FOLDER, text_hash, write_index

Extract = Callable[[Any], Iterator[str]]


class Source(NamedTuple):
    """A benchmark: its repository, the start of its files' paths, and what to take from each parsed file."""

    name: str
    repository: str
    paths: tuple[str, ...]
    texts: Extract


def main(folder: Path) -> None:
    """Write the index of all benchmarks whose sources are in the folder."""
    hashes, manifest, missing = {}, [], []
    for source in SOURCES:
        try:
            commit, date, files = committed_files(folder, source)
        except FileNotFoundError:
            missing.append(source.name)
            continue
        texts = [text for path, body in files for text in source.texts(parse(path, body))]
        known = {value for value in map(text_hash, texts) if value is not None}
        hashes[source.name] = known
        origin = {"repository": source.repository, "commit": commit, "date": date, "paths": list(source.paths)}
        manifest.append({"name": source.name, **origin, "texts": len(texts), "hashes": len(known)})
    size = write_index(FOLDER, hashes, manifest)
    for entry in manifest:
        print(
            f"{entry['name']:24} {entry['hashes']:6,} hashes of {entry['texts']:6,} texts  {entry['commit'][:9]} {entry['date']}"
        )
    print(f"{size / 1024:,.0f} kB in {FOLDER}; missing: {', '.join(missing) or 'none'}")


def committed_files(folder: Path, source: Source) -> tuple[str, str, list[tuple[str, bytes]]]:
    """The commit, its date, and the (path, content) of each file of the source."""
    if source.repository.startswith("pypi:"):
        root = folder / source.repository.removeprefix("pypi:").replace("==", "-")
        if not root.is_dir():
            raise FileNotFoundError(root)
        paths = sorted(path for start in source.paths for path in root.glob(start))
        return source.repository, "2022", [(str(path.relative_to(root)), path.read_bytes()) for path in paths]
    clone = folder / source.repository.replace("/", "+")
    if not clone.is_dir():
        raise FileNotFoundError(clone)
    clone = clone / "repo" if (clone / "repo").is_dir() else clone
    commit, date = git(clone, "log", "-1", "--format=%H %cs").decode().split()
    names = git(clone, "ls-tree", "-r", "-z", "--name-only", "HEAD").decode().split("\0")
    chosen = [name for name in names if name.startswith(source.paths) and name.endswith(ENDINGS)]
    present = (
        git(clone, "cat-file", "--batch-check", stdin="".join(f"HEAD:{name}\n" for name in chosen))
        .decode()
        .splitlines()
    )
    absent = [name for name, line in zip(chosen, present, strict=True) if line.endswith(" missing")]
    if absent:
        print(f"{source.name}: the clone lacks {', '.join(absent)}", file=sys.stderr)
    return commit, date, [(name, git(clone, "show", f"HEAD:{name}")) for name in chosen if name not in absent]


ENDINGS = (".json", ".jsonl", ".csv", ".jsonl.gz")


def git(clone: Path, *words: str, stdin: str = "") -> bytes:
    """What git prints."""
    command = ["git", "-C", str(clone), *words]
    return subprocess.run(command, check=True, capture_output=True, input=stdin.encode()).stdout


def parse(path: str, body: bytes) -> Any:
    """The value of a JSON file, or the rows of a JSON Lines or CSV file."""
    text = (gzip.decompress(body) if path.endswith(".gz") else body).decode("utf-8-sig")
    if path.endswith(".csv"):
        return list(csv.DictReader(io.StringIO(text)))
    if path.endswith((".jsonl", ".jsonl.gz")) or (text.lstrip().startswith("{") and "\n{" in text.strip()):
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    return json.loads(text)


def column(*names: str) -> Extract:
    """Texts of columns, of rows in a list or under `examples`; a list of texts counts text by text."""

    def texts(value: Any) -> Iterator[str]:
        rows = value.get("examples", list(value.values())) if isinstance(value, dict) else value
        for row in rows:
            for name in names:
                field = row.get(name) or []
                yield from [field] if isinstance(field, str) else field

    return texts


def with_input(instruction: str, context: str) -> Extract:
    """An instruction, and the instruction with its input below it: both forms are in use."""

    def texts(value: Any) -> Iterator[str]:
        for row in value:
            if row.get(context):
                yield f"{row[instruction]}\n\n{row[context]}"
            else:
                yield row[instruction]

    return texts


def conversations(value: Any) -> Iterator[str]:
    """The last user turn of each conversation."""
    for row in value:
        yield row["conversation_input"][-1]["content"]


def biases(value: Any) -> Iterator[str]:
    """Instructions by kind of bias."""
    yield from (row["instruction"] for rows in value.values() for row in rows)


SOURCES = (
    Source("RM-Bench", "THU-KEG/RM-Bench", ("data/chat", "data/code", "data/safety"), column("prompt")),
    Source("JudgeBench", "ScalerLab/JudgeBench", ("data/dataset=judgebench",), column("question")),
    Source("RMB", "Zhou-Zoey/RMB-Reward-Model-Benchmark", ("RMB_dataset/BoN_set/", "RMB_dataset/Pairwise_set/"), conversations),
    Source("LLMBar", "princeton-nlp/LLMBar", tuple(
        f"Dataset/LLMBar/{name}/dataset.json" for name in
        ("Adversarial/GPTInst", "Adversarial/GPTOut", "Adversarial/Manual", "Adversarial/Neighbor", "Natural")
    ), column("input")),
    Source("LLMEval^2, FairEval, MT-Bench judgments", "princeton-nlp/LLMBar", tuple(
        f"Dataset/Processed/{name}/dataset.json" for name in ("FairEval", "LLMEval^2", "MT-Bench")
    ), column("input")),
    Source("AlpacaEval", "tatsu-lab/alpaca_eval", ("results/Conifer-7B-DPO/model_outputs.json",), column("instruction")),
    Source("MT-Bench", "lm-sys/FastChat", ("fastchat/llm_judge/data/mt_bench/question.jsonl",), column("turns")),
    Source("Vicuna Bench", "lm-sys/FastChat", ("fastchat/llm_judge/data/vicuna_bench/question.jsonl",), column("turns")),
    Source("Arena-Hard 0.1", "lmarena/arena-hard-auto", ("data/arena-hard-v0.1/question.jsonl",), column("prompt")),
    Source("Arena-Hard 2.0", "lmarena/arena-hard-auto", ("data/arena-hard-v2.0/question.jsonl",), column("prompt")),
    Source("PandaLM test", "WeOpenML/PandaLM", ("data/testset-v1.json",), with_input("instruction", "input")),
    Source("Auto-J test", "prometheus-eval/prometheus-eval", ("eval/benchmark/autoj_utils/testdata_pairwise.jsonl",), column("prompt")),
    Source("BiGGen-Bench", "prometheus-eval/prometheus-eval", ("BiGGen-Bench/sample_evals.json",), column("input")),
    Source("EvalBiasBench", "ncsoft/offsetbias", ("data/evalbiasbench/biasbench.json",), biases),
    Source("HHH alignment", "pypi:bigbench==1.0.0", ("bigbench/benchmark_tasks/hhh_alignment/*/task.json",), column("input")),
    Source("TruthfulQA", "pypi:bigbench==1.0.0", ("bigbench/benchmark_tasks/truthful_qa/questions.json",), column("Question")),
    Source("XSTest", "paul-rottger/exaggerated-safety", ("xstest_prompts.csv",), column("prompt")),
    Source("GSM8K test", "openai/grade-school-math", ("grade_school_math/data/test.jsonl",), column("question")),
    Source("HumanEval", "openai/human-eval", ("data/HumanEval.jsonl.gz",), column("prompt")),
    Source("BIG-Bench Hard", "suzgunmirac/BIG-Bench-Hard", ("bbh/",), column("input")),
)  # fmt: skip

if __name__ == "__main__":
    main(Path(sys.argv[1]))
