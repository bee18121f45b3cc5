"""Tasks of lm-evaluation-harness on a policy of ours, where it is installed: a score an item, and its results file.

Checked with lm-eval 0.4.13. Axis: n documents of a task.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from guerdon.alignment_tax.battery import Task
from guerdon.contracts import GuerdonError
from guerdon.models.engine.pretrained import context_length
from guerdon.models.likelihood import continuation_likelihood, plain_ids, text_likelihood

if TYPE_CHECKING:
    from guerdon.config import TaxOptions
    from guerdon.formulas.alignment_tax import Tax
    from guerdon.models.policy import LanguagePolicy

__all__ = ["harness_tasks", "to_lm_eval"]

GENERATED = 256  # tokens, where a task names no limit
SHOWN = 400


def harness_tasks(policy: LanguagePolicy, options: TaxOptions) -> dict[str, Task]:
    """Each leaf of the tasks that `options.lm_eval` names: its first metric that is a mean over documents, by document.

    Scores of a metric that falls as a model gets better change their sign. With `form` "chat" the chat template is
    applied, as `--apply_chat_template` would.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise GuerdonError(
            "tax.lm_eval: lm-evaluation-harness is not installed; remedy: pip install 'guerdon[lm-eval]'"
        )
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=options.lm_eval_include)
    if unknown := [name for name in options.lm_eval if not manager.match_tasks([name])]:
        raise GuerdonError(f"tax.lm_eval: {unknown[0]} is no task of lm-eval; remedy: see `lm-eval ls tasks`")
    found = simple_evaluate(
        model=_as_lm(policy, options.micro_tokens),
        tasks=list(options.lm_eval),
        task_manager=manager,
        limit=options.lm_eval_limit,
        log_samples=True,
        bootstrap_iters=0,
        apply_chat_template=options.form == "chat",
        random_seed=options.seed,
        numpy_random_seed=options.seed,
        torch_random_seed=options.seed,
        fewshot_random_seed=options.seed,
    )
    better = found.get("higher_is_better", {})
    return {
        name: by_document(name, rows, found["results"][name], better.get(name, {}))
        for name, rows in found["samples"].items()
    }


def by_document(
    name: str, rows: Sequence[Mapping[str, Any]], results: Mapping[str, Any], higher_is_better: Mapping[str, Any]
) -> Task:
    """What the harness logged of a task's documents, and its results, in; its scores in the order of the documents out.

    The first metric whose result is the mean of what was logged; a perplexity's, say, is not. Of several filters the first.
    """
    first = rows[0]["filter"]
    kept = sorted((row for row in rows if row["filter"] == first), key=lambda row: row["doc_id"])
    for metric in kept[0]["metrics"]:
        values, told = [row[metric] for row in kept], results.get(f"{metric},{first}")
        if not all(isinstance(value, int | float | np.number) for value in values) or not isinstance(told, int | float):
            continue
        score = np.array(values, dtype=np.float64)
        if math.isclose(float(score.mean()), told, rel_tol=1e-6, abs_tol=1e-9):
            return Task(
                -score if higher_is_better.get(metric) is False else score,
                f"lm-eval {name}",
                share=bool(np.isin(score, (0.0, 1.0)).all()),
                asked=tuple(_text(row["arguments"]) for row in kept),
                said=tuple(_text(row["filtered_resps"]) for row in kept),
            )
    raise GuerdonError(
        f"tax.lm_eval: {name} has no score of its single documents, which a paired comparison needs; remedy: another task"
    )


def to_lm_eval(before: Mapping[str, Task], after: Mapping[str, Task], taxes: Mapping[str, Tax]) -> dict[str, Any]:
    """The comparison as a results.json that lm-eval's tables read: the policy's `acc` (of a share) or `score`, the reference's
    under `before`, and `tax`, each with its standard error."""
    results: dict[str, Any] = {}
    for name, task in after.items():
        metric = "acc" if task.share else "score"
        values = {metric: task.score, "before": before[name].score}
        row: dict[str, Any] = {"alias": name}
        for key, score in values.items():
            row[f"{key},none"] = float(score.mean())
            row[f"{key}_stderr,none"] = float(score.std(ddof=1) / math.sqrt(len(score))) if len(score) > 1 else "N/A"
        error = taxes[name].error
        row["tax,none"] = taxes[name].difference.value
        row["tax_stderr,none"] = error if math.isfinite(error) else 0.0
        results[f"guerdon_{name}"] = row
    return {
        "results": results,
        "group_subtasks": {name: [] for name in results},
        "versions": dict.fromkeys(results, 1),
        "n-shot": dict.fromkeys(results, 0),
        "higher_is_better": {
            f"guerdon_{name}": {"acc" if task.share else "score": True, "before": True, "tax": False}
            for name, task in after.items()
        },
        "n-samples": {f"guerdon_{name}": {"original": len(task.score), "effective": len(task.score)} for name, task in after.items()},
        "config": {"model": "guerdon"},
    }  # fmt: skip


def _as_lm(policy: LanguagePolicy, micro_tokens: int) -> Any:
    """The policy as the harness asks for a model: nats of continuations, nats of texts, and replies."""
    from lm_eval.api.model import LM

    class PolicyLM(LM):  # type: ignore[misc]
        """Answers the harness's three requests."""

        tokenizer_name = policy.name or "policy"

        def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
            asked = [request.args for request in requests]
            found = continuation_likelihood(
                policy, [c for c, _ in asked], [t for _, t in asked], micro_tokens=micro_tokens, greedy=True
            )
            assert found.is_greedy is not None
            return list(zip(found.log_prob.tolist(), found.is_greedy.tolist(), strict=True))

        def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
            found = text_likelihood(policy, [request.args[0] for request in requests], micro_tokens=micro_tokens)
            return [float(nats) for nats in found.log_prob]

        def generate_until(self, requests: Sequence[Any]) -> list[str]:
            return generate(policy, [request.args for request in requests])

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            return str(
                policy.tokenizer.apply_chat_template(
                    chat_history,
                    chat_template=policy.chat_template,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    continue_final_message=not add_generation_prompt,
                )
            )

    return PolicyLM()


def generate(policy: LanguagePolicy, asked: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Plain contexts with the harness's keywords (until, max_gen_toks, do_sample, temperature) in, what follows them out."""
    replies = [""] * len(asked)
    by_way: dict[tuple[int, float], list[int]] = {}
    for i, (_, given) in enumerate(asked):
        temperature = float(given.get("temperature", 1.0)) if given.get("do_sample") else 0.0
        by_way.setdefault((int(given.get("max_gen_toks", GENERATED)), temperature), []).append(i)
    for (most, temperature), rows in by_way.items():
        room = (context_length(policy.model.config) or 1 << 30) - most
        if room < 1:
            raise GuerdonError(
                f"tax.lm_eval: a task asks for {most} tokens, more than the policy's context; remedy: another task"
            )
        contexts = [ids[-room:] for ids in plain_ids(policy, [asked[i][0] for i in rows])]
        drawn = policy.generate(contexts, 1, most, temperature)
        for i, reply, finish in zip(rows, drawn.replies, drawn.finish, strict=True):
            until = asked[i][1].get("until") or []
            replies[i] = _cut(policy.response(reply, finish).text, [until] if isinstance(until, str) else until)
    return replies


def _cut(text: str, until: Sequence[str]) -> str:
    for stop in until:
        if stop:
            text = text.split(stop)[0]
    return text


def _text(value: Any) -> str:
    """Whatever the harness logged of an item, short."""
    found = str(value)
    return found if len(found) <= SHOWN else found[: SHOWN - 1] + "\N{HORIZONTAL ELLIPSIS}"
