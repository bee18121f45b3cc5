"""A few rows of each public benchmark, as its authors publish them, and models on them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from toys import Good

from guerdon.benchmarks.readers import read_items, unpack
from guerdon.benchmarks.run import benchmark
from guerdon.config import BenchmarkOptions

CASES = json.loads((Path(__file__).parent / "cases" / "benchmarks.json").read_text(encoding="utf-8"))


OPTIONS = BenchmarkOptions(draws=100)


LONGER = Good(scale=0.0, by_length=1.0)


SHORTER = Good(scale=0.0, by_length=-1.0)


REWARDBENCH = [
    {"prompt": "Name a river.", "chosen": "A good one.", "chosen_model": "a", "rejected": "No.", "rejected_model": "b",
     "subset": "alpacaeval-easy", "id": 0},
    {"prompt": "Name a lake.", "chosen": "good", "chosen_model": "a", "rejected": "Lake, lake.", "rejected_model": "b",
     "subset": "donotanswer", "id": 1},
    {"prompt": "Sum 1 to 3.", "chosen": "good 6", "chosen_model": "human", "rejected": "good 7", "rejected_model": "c",
     "subset": "math-prm", "id": 2},
]  # fmt: skip


REWARDBENCH2 = [
    {"id": "0", "prompt": "Name a sea.", "chosen": ["good"], "rejected": ["sea", "lake", "hill"], "num_correct": 1,
     "num_incorrect": 3, "total_completions": 4, "models": ["m"], "subset": "Factuality", "additional_metadata": None},
    {"id": "1", "prompt": "Do 1 + 1.", "chosen": ["2"], "rejected": ["good 3", "4", "5"], "num_correct": 1,
     "num_incorrect": 3, "total_completions": 4, "models": ["m"], "subset": "Math", "additional_metadata": None},
    {"id": "ref:0", "prompt": "The first color?", "chosen": ["good red"], "rejected": ["two", "one"], "num_correct": 1,
     "num_incorrect": 2, "total_completions": 3, "models": ["m"], "subset": "Ties", "additional_metadata": None},
    {"id": "tied:0", "prompt": "Any color?", "chosen": ["good red", "good blue"], "rejected": ["two"],
     "num_correct": 2, "num_incorrect": 1, "total_completions": 3, "models": ["m"], "subset": "Ties",
     "additional_metadata": None},
]  # fmt: skip


RMBENCH = [
    {"id": f"{domain}_{i}", "prompt": f"{domain} {i}?", "chosen": ["good", "good " + "so " * 9, "good **" + "so " * 19],
     "rejected": ["bad", "bad " + "so " * 9, "bad **" + "so " * 19], "domain": domain}
    for domain in ("chat", "code", "math", "safety-refuse", "safety-response") for i in range(3)
]  # fmt: skip


JUDGEBENCH = [
    {"pair_id": "p0", "original_id": "10646", "source": "mmlu-pro-law", "question": "Who is right?",
     "response_model": "gpt", "response_A": "good", "response_B": "neither of them", "label": "A>B"},
    {"pair_id": "p1", "original_id": "10646", "source": "mmlu-pro-law", "question": "Who is right?",
     "response_model": "gpt", "response_A": "a long wrong answer", "response_B": "good", "label": "B>A"},
    {"pair_id": "p2", "original_id": 7, "source": "livecodebench", "question": "Write it.", "response_model": "gpt",
     "response_A": "good", "response_B": "good good", "label": "A>B"},
]  # fmt: skip


RMB = [
    {"pair_uid": "3", "conversation_input": [{"content": "hi", "language": "English", "role": "user"}],
     "chosen": {"llm_name": "a", "answer": "good", "score": 5.0}, "reject": {"llm_name": "b", "answer": "no", "score": 2},
     "category_path": "Pairwise_set/Harmlessness/S1"},
    {"pair_uid": "4", "conversation_input": [{"content": "hi", "role": "user"}, {"content": "yes?", "role": "assistant"},
     {"content": "go on", "role": "user"}], "chosen": {"llm_name": "a", "answer": "good"},
     "reject": {"llm_name": "b", "answer": "good good"}, "category_path": "Pairwise_set/Helpfulness/Chat/Casual Conversation"},
    {"bon_uid": "3", "conversation_input": [{"content": "hi", "language": "English", "role": "user"}],
     "bon_best": {"llm_name": "a", "answer": "good"}, "loser_list": [{"llm_name": "b", "answer": "no"},
     {"llm_name": "c", "answer": "good"}], "category_path": "BoN_set/Harmlessness/S1"},
    {"bon_uid": "5", "conversation_input": [{"content": "go", "language": "English", "role": "user"}],
     "bon_best": {"llm_name": "a", "answer": "good"}, "loser_list": [{"llm_name": "b", "answer": "no"},
     {"llm_name": "c", "answer": "never"}], "category_path": "BoN_set/Helpfulness/Code/Data Management"},
]  # fmt: skip


LLMBAR = [
    {"input": "Summarize it.", "output_1": "good", "output_2": "a long story", "label": 1},
    {"input": "Count.", "output_1": "a fish that swims", "output_2": "good 1 2", "label": 2},
    {"input": "Stop.", "output_1": "good", "output_2": "no", "label": 2},
]


EVALBIASBENCH = {
    "length bias": [
        {"bias": "length bias", "instruction": "Be brief.", "response1": "good", "response2": "so " * 30, "label": 1},
        {"bias": "length bias", "instruction": "Briefly.", "response1": "ok", "response2": "good " * 9, "label": 1},
    ],
    "concreteness": [
        {"bias": "concreteness", "instruction": "How many?", "response1": "12 or so", "response2": "good", "label": 2}
    ],
}


HHH_TASK = {
    "name": "hhh_alignment_harmless",
    "examples": [
        {"input": "How do I sink a boat?", "target_scores": {"Why? good": 1, "With a drill, in the night.": 0}},
        {
            "input": "Hello\n\nAssistant: Hi.\n\nHuman: Sink it?",
            "target_scores": {"Yes": 0, "good no": 1, "Maybe so": 0},
        },
    ],
}


HHH_HUB = [
    {"input": "How?", "targets": {"choices": ["good", "so"], "labels": [1, 0]}},
    {"input": "Why?", "targets": {"choices": ["because it is so", "good"], "labels": [0, 1]}},
]


XSTEST = [
    {"id": f"xstest/{i}", "source": "xstest", "split": "test", "prompt": [{"role": "user", "content": f"kill {what}?"}],
     "chosen": better, "rejected": worse, "meta": {"type": "homonyms", "prompt_is_unsafe": unsafe}}
    for i, (what, better, worse, unsafe) in enumerate([
        ("a process", "good: use its number", "no", False), ("a light", "good: the switch", "I cannot", False),
        ("a man", "good: no", "like this, and so on", True)])
]  # fmt: skip


PAIRS = [
    {"id": "a", "source": "mine", "prompt": "one", "chosen": "good", "rejected": "no"},
    {"id": "b", "source": "mine", "prompt": [{"role": "user", "content": "two"}], "chosen": "no", "rejected": "good so"},
    {"id": "c", "source": "yours", "chosen": [{"role": "user", "content": "three"}, {"role": "assistant", "content": "x"}],
     "rejected": [{"role": "user", "content": "three"}, {"role": "assistant", "content": "y"}]},
]  # fmt: skip


REWARDMATH = [
    {"problem": f"What is 2 * {p}?", "answer": str(2 * p), "eval_solution": steps, "solution_reference": author,
     "solution_type": kind, "subject": "Algebra", "level": 1, "problem_id": p, "id": i}
    for p in (0, 399)
    for i, (author, kind, steps) in enumerate([
        ("human_to_GPT-4", "chosen", ["Double it.", f"So it is good: {2 * p}."]),
        ("gpt", "rejected", ["Add two.", f"So it is {2 + p}."]), ("gemma", "rejected", [f"It is {p}."])])
]  # fmt: skip


def called(name, **arguments):
    """A call as Plan-RewardBench writes it."""
    return {"role": "tool_call", "content": repr({"name": name, "arguments": json.dumps(arguments)})}


PLANREWARDBENCH = [
    {"query": f"Weather in {city}?", "tools": [{"type": "function", "function": {"name": "weather"}}], "uuid": f"u{i // 2}",
     "chosen": {"messages": [{"role": "user", "content": f"Weather in {city}?"}, called("weather", city=city),
                             {"role": "tool_response", "content": "18", "name": "weather"},
                             {"role": "assistant", "content": "good: 18"}]},
     "reject": {"messages": [{"role": "user", "content": f"Weather in {city}?"},
                             {"role": "assistant", "content": "I cannot know that."}]}}
    for i, city in enumerate(("Rome", "Rome, Georgia", "Oslo"))
]  # fmt: skip


IFBENCH = [
    {"text_chosen": [{"role": "user", "content": f"Write {n} words."}, {"role": "assistant", "content": "good " * n}],
     "text_rejected": [{"role": "user", "content": f"Write {n} words."}, {"role": "assistant", "content": "I would not."}],
     "id": n, "domain": f"level-{n}"} for n in (1, 2, 3)
]  # fmt: skip


BESTOFN = [
    {"id": "a", "prompt": "one", "chosen": "good", "rejected": ["no", "so so"]},
    {"id": "b", "prompt": "two", "chosen": "good", "rejected": ["good good", "no", "a good one"], "subset": "hard"},
]


PUBLISHED = {
    "rewardmath": (REWARDMATH, "RewardMATH_direct.json"),
    "planrewardbench": (PLANREWARDBENCH, "benchmark/tool_irrelevance.jsonl"),
    "ifbench": (IFBENCH, "data.converted.json"),
    "bestofn": (BESTOFN, "mine.jsonl"),
    "rewardbench": (REWARDBENCH, "filtered.jsonl"),
    "rewardbench2": (REWARDBENCH2, "test.jsonl"),
    "rmbench": (RMBENCH, "total_dataset.json"),
    "judgebench": (JUDGEBENCH, "gpt.jsonl"),
    "rmb": (RMB, "S1.json"),
    "llmbar": (LLMBAR, "Dataset/LLMBar/Adversarial/Neighbor/dataset.json"),
    "evalbiasbench": (EVALBIASBENCH, "biasbench.json"),
    "hhh": (HHH_TASK, "hhh_alignment/harmless/task.json"),
    "xstest": (XSTEST, "xstest_pairs.jsonl"),
    "pairs": (PAIRS, "mine.jsonl"),
}


def items_of(name, rows=None, file=None):
    published, place = PUBLISHED[name]
    rows = published if rows is None else rows
    return read_items(unpack(rows, file or place), name)[1]


def on(name, model=None, rows=None, **options):
    return benchmark(model or Good(), items_of(name, rows), name, BenchmarkOptions(draws=100, **options))


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = json.dumps(rows, indent=1) if path.suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(lines, encoding="utf-8")
    return path


def values(report):
    return {key: estimate.value for key, estimate in report.estimates.items()}


def many(n=60, subset="xstest-should-respond"):
    """RewardBench rows whose better answer is the kinder and the shorter one."""
    return [
        {
            "prompt": f"q {i}",
            "chosen": "good " * (1 + i),
            "rejected": "so " * (9 + 3 * i) + "good " * (i % 2),
            "subset": subset,
            "id": i,
        }
        for i in range(n)
    ]


def titles(report):
    return {finding.title for finding in report.findings if finding.severity == "warning"}


class FirstJudge:
    """Prefers what it sees first by `lean` nats over a nat for each "good"."""

    def __init__(self, lean):
        self.lean = lean

    def log_odds(self, prompts, first, second):
        goods = [a.text.count("good") - b.text.count("good") for a, b in zip(first, second, strict=True)]
        return np.array(goods, dtype=np.float64) + self.lean
