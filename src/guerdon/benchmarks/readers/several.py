"""Benchmarks whose items have more than two responses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from guerdon.benchmarks.items import Item
from guerdon.benchmarks.readers.fields import Row, field, has_value, new_item, prompt, row_id, text, texts
from guerdon.contracts import GuerdonError, Prompt, Response, as_prompt
from guerdon.errors import field_error
from guerdon.io.fields import as_text, to_number
from guerdon.io.schema import Rejected, parse_row

__all__ = [
    "DOMAINS",
    "REWARDBENCH2",
    "domain_of_file",
    "join_solutions",
    "read_bestofn",
    "read_rewardbench2",
    "read_rewardmath",
    "read_rmb",
    "read_rmbench",
]

REWARDBENCH2 = {"Factuality": 475, "Precise IF": 160, "Math": 183, "Safety": 450, "Focus": 495, "Ties": 102}
DOMAINS = {"chat": 129, "code": 228, "math": 529, "safety-refuse": 284, "safety-response": 157}


def read_rewardbench2(row: Row, place: str, number: int) -> Item:
    """{id, prompt, chosen: [text], rejected: [text], num_correct, total_completions, subset}; allenai/reward-bench-2."""
    right, wrong = texts(row, "chosen"), texts(row, "rejected")
    for key, size in (("num_correct", len(right)), ("total_completions", len(right) + len(wrong))):
        if has_value(row, key) and to_number(row[key], key, "a number of responses") != size:
            raise field_error(key, f"{size}, the length of the lists of responses", row[key])
    subset = {name.lower(): name for name in REWARDBENCH2}.get(text(row, "subset").lower(), text(row, "subset"))
    group = ""
    if subset == "Ties":
        kind, _, prompt_id = str(field(row, "id")).partition(":")
        if kind not in ("ref", "tied") or not prompt_id.isdecimal():
            raise field_error("id", "ref:NUMBER or tied:NUMBER in the subset Ties", row["id"])
        if kind == "tied" and len(right) < 2:
            raise field_error(
                "chosen", "two or more right answers where the id begins with tied", right, "Drop the row."
            )
        group = f"ties:{int(prompt_id)}"
    elif len(right) != 1:
        raise field_error("chosen", "one right answer outside the subset Ties", right)
    item = new_item(row, number, prompt(row, "prompt"), (*right, *wrong), range(len(right)), subset)
    return replace(item, group=group) if group else item


def read_rmbench(row: Row, place: str, number: int) -> Item:
    """{id, prompt, chosen: [concise, detailed, markdown], rejected: the same, domain?}; THU-KEG/RM-Bench.

    The file of one domain, chat_filtered.json for example, has no field `domain`: its name says it.
    """
    sides = [texts(row, key) for key in ("chosen", "rejected")]
    for key, side in zip(("chosen", "rejected"), sides, strict=True):
        if len(side) != 3:
            raise field_error(key, "3 texts (concise, detailed, detailed in markdown)", side)
    domain = text(row, "domain") if has_value(row, "domain") else domain_of_file(place)
    if domain not in DOMAINS:
        advice = "Name the file as it was published, such as chat_filtered.json, or add the field."
        raise field_error("domain", f"one of {', '.join(DOMAINS)}", domain or None, advice)
    return new_item(row, number, prompt(row, "prompt"), (*sides[0], *sides[1]), (0, 1, 2), domain)


def domain_of_file(place: str) -> str:
    """The domain of RM-Bench that the name of the file begins with; "" where it begins with none."""
    name = place.lower().replace("\\", "/").split("/")[-1]
    match = re.match(rf"({'|'.join(DOMAINS)})(?![a-z-])", name)
    return match[1] if match else ""


def read_rmb(row: Row, place: str, number: int) -> Item:
    """{pair_uid, conversation_input, chosen: {answer}, reject: {answer}, category_path}, or for best-of-N {bon_uid,
    conversation_input, bon_best: {answer}, loser_list: [{answer}], category_path}; Zhou-Zoey/RMB-Reward-Model-Benchmark.
    """
    path = text(row, "category_path").split("/")
    if len(path) < 2 or path[0] not in ("Pairwise_set", "BoN_set") or path[1] not in ("Helpfulness", "Harmlessness"):
        raise field_error(
            "category_path",
            "a path that begins with Pairwise_set or BoN_set, then Helpfulness or Harmlessness",
            "/".join(path),
        )
    is_pair = path[0] == "Pairwise_set"
    best = field(row, "chosen" if is_pair else "bon_best")
    losers = [field(row, "reject")] if is_pair else field(row, "loser_list")
    if not isinstance(losers, list | tuple) or not losers:
        raise field_error("loser_list", "a list of answers", losers)
    answers = [
        as_text(reply.get("answer") if isinstance(reply, Mapping) else None, "answer") for reply in (best, *losers)
    ]
    uid = "pair_uid" if is_pair else "bon_uid"
    item = new_item(row, number, prompt(row, "conversation_input"), answers, (0,), "/".join(path[:3]))
    kind = "pair" if is_pair else "bon"
    return replace(item, id=f"{kind}:{row_id(row, uid)}") if has_value(row, uid) else item


def read_bestofn(row: Row, place: str, number: int) -> Item:
    """{prompt, chosen: text or [text], rejected: [text, ...], id?, subset?}: one right response against any number."""
    right = [row["chosen"]] if isinstance(row.get("chosen"), str) else texts(row, "chosen")
    if len(right) != 1:
        raise field_error("chosen", "one right response", right)
    subset = text(row, "subset") if has_value(row, "subset") else "all"
    return new_item(row, number, prompt(row, "prompt"), (*right, *texts(row, "rejected")), (0,), subset)


# ---- RewardMATH: one row per solution ------------------------------------------------------------------------------

_RIGHT_AUTHOR = "human_to_GPT-4"  # of the one right solution of each problem


def join_solutions(rows: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Rows of one solution each in; one row per problem, with the list `solutions`, at the place of its first row, out."""
    problems: dict[str, tuple[str, dict[str, Any]]] = {}
    for place, row in rows:
        if isinstance(row, Rejected) or not isinstance(row, Mapping) or "eval_solution" not in row:
            yield place, row
            continue
        name = parse_row(place, row, _problem_name)
        problems.setdefault(name, (place, {**row, "id": name, "solutions": []}))[1]["solutions"].append(row)
    yield from problems.values()


def _problem_name(row: Row) -> str:
    return row_id(row, "problem_id") if has_value(row, "problem_id") else text(row, "problem")


def read_rewardmath(row: Row, place: str, number: int) -> Item:
    """{problem, eval_solution: [step], solution_type: chosen or rejected, solution_reference, problem_id, subject}, one row
    per solution, joined by `join_solutions`; kimsh0507/RewardMATH_official.

    As for the authors' classifiers, a solution is its steps, one line each.
    """
    solutions = field(row, "solutions")
    correct = [i for i, solution in enumerate(solutions) if _is_right(solution)]
    if len(correct) != 1 or len(solutions) < 2:
        got = f"{len(correct)} right ones of {len(solutions)}"
        raise GuerdonError(f"solutions must be one right and one or more wrong ones, got {got}. Give all rows.")
    responses = [Response(_solution_text(s), author=s.get("solution_reference") or None) for s in solutions]
    subset = text(row, "subject") if has_value(row, "subject") else "all"
    question: Prompt = as_prompt(text(row, "problem"))
    return new_item(row, number, question, responses, correct, subset)


def _is_right(solution: Row) -> bool:
    kind = solution.get("solution_type")
    if kind is None:
        return bool(solution.get("solution_reference") == _RIGHT_AUTHOR)
    if kind not in ("chosen", "rejected"):
        raise field_error("solution_type", "chosen or rejected", kind)
    return bool(kind == "chosen")


def _solution_text(solution: Row) -> str:
    steps = solution["eval_solution"]
    return steps if isinstance(steps, str) else "\n".join(texts(solution, "eval_solution"))
