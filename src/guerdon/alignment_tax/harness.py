"""Tasks of lm-evaluation-harness on our policies, if it is installed: a score per item, and its results file.

Checked with lm-eval 0.4.13. Axis: n documents of a task.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from guerdon.alignment_tax.tasks import MAX_CHARACTERS, Task
from guerdon.contracts import GuerdonError
from guerdon.models.engine.pretrained import context_length
from guerdon.models.likelihood import continuation_likelihood, plain_ids, text_likelihood

if TYPE_CHECKING:
    from guerdon.config import TaxOptions
    from guerdon.formulas.alignment_tax import Tax
    from guerdon.models.policy import LanguagePolicy

__all__ = ["harness_tasks", "to_lm_eval"]

DEFAULT_MAX_TOKENS = 256  # if a task names no limit


def harness_tasks(policy: LanguagePolicy, options: TaxOptions) -> dict[str, Task]:
    """Each leaf of the tasks that `options.lm_eval` names: its first metric that is a mean over documents, by document.

    Scores of a metric of which less is better change their sign. With `form` "chat" the chat template is applied, as with
    `--apply_chat_template`.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise GuerdonError(
            "tax.lm_eval needs lm-evaluation-harness, which is not installed. Run pip install 'guerdon[lm-eval]'."
        )
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=options.lm_eval_include)
    if unknown := [name for name in options.lm_eval if not manager.match_tasks([name])]:
        raise GuerdonError(f"tax.lm_eval must name tasks of lm-eval, got {unknown[0]}. See `lm-eval ls tasks`.")
    evaluation = simple_evaluate(
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
    better = evaluation.get("higher_is_better", {})
    return {
        name: by_document(name, rows, evaluation["results"][name], better.get(name, {}))
        for name, rows in evaluation["samples"].items()
    }


def by_document(
    name: str, rows: Sequence[Mapping[str, Any]], results: Mapping[str, Any], higher_is_better: Mapping[str, Any]
) -> Task:
    """A task's scores in the order of its documents, from what the harness logged of each and from its results.

    Uses the first metric whose result is the mean of the logged values; a perplexity, say, is not. Of several filters the
    first.
    """
    first = rows[0]["filter"]
    documents = sorted((row for row in rows if row["filter"] == first), key=lambda row: row["doc_id"])
    for metric in documents[0]["metrics"]:
        values, result = [row[metric] for row in documents], results.get(f"{metric},{first}")
        is_numeric = all(isinstance(value, int | float | np.number) for value in values)
        if not is_numeric or not isinstance(result, int | float):
            continue
        score = np.array(values, dtype=np.float64)
        if math.isclose(float(score.mean()), result, rel_tol=1e-6, abs_tol=1e-9):
            return Task(
                -score if higher_is_better.get(metric) is False else score,
                f"lm-eval {name}",
                is_share=bool(np.isin(score, (0.0, 1.0)).all()),
                items=tuple(_text(row["arguments"]) for row in documents),
                answers=tuple(_text(row["filtered_resps"]) for row in documents),
            )
    raise GuerdonError(
        f"tax.lm_eval: {name} must have a score per document for a paired comparison, got none. Choose another task."
    )


def to_lm_eval(before: Mapping[str, Task], after: Mapping[str, Task], taxes: Mapping[str, Tax]) -> dict[str, Any]:
    """The comparison as a results.json that lm-eval's tables read: the policy's `acc` (of a share) or `score`, that of the
    reference as `before`, and `tax`, each with its standard error."""
    results: dict[str, Any] = {}
    for name, task in after.items():
        metric = "acc" if task.is_share else "score"
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
            f"guerdon_{name}": {"acc" if task.is_share else "score": True, "before": True, "tax": False}
            for name, task in after.items()
        },
        "n-samples": {f"guerdon_{name}": {"original": len(task.score), "effective": len(task.score)} for name, task in after.items()},
        "config": {"model": "guerdon"},
    }  # fmt: skip


def _as_lm(policy: LanguagePolicy, micro_tokens: int) -> Any:
    """The policy as a model of the harness: nats of continuations, nats of texts, and replies."""
    from lm_eval.api.model import LM

    class PolicyLM(LM):  # type: ignore[misc]
        """Answers the three kinds of requests of the harness."""

        tokenizer_name = policy.name or "policy"

        def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
            pairs = [request.args for request in requests]
            contexts, continuations = [context for context, _ in pairs], [text for _, text in pairs]
            read = continuation_likelihood(policy, contexts, continuations, micro_tokens=micro_tokens, greedy=True)
            assert read.is_greedy is not None
            return list(zip(read.log_prob.tolist(), read.is_greedy.tolist(), strict=True))

        def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
            read = text_likelihood(policy, [request.args[0] for request in requests], micro_tokens=micro_tokens)
            return [float(nats) for nats in read.log_prob]

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


def generate(policy: LanguagePolicy, requests: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """What follows plain contexts, each with the harness's keywords (until, max_gen_toks, do_sample, temperature)."""
    replies = [""] * len(requests)
    by_settings: dict[tuple[int, float], list[int]] = {}
    for i, (_, keywords) in enumerate(requests):
        temperature = float(keywords.get("temperature", 1.0)) if keywords.get("do_sample") else 0.0
        max_tokens = int(keywords.get("max_gen_toks", DEFAULT_MAX_TOKENS))
        by_settings.setdefault((max_tokens, temperature), []).append(i)
    for (max_tokens, temperature), rows in by_settings.items():
        room = (context_length(policy.model.config) or 1 << 30) - max_tokens
        if room < 1:
            raise GuerdonError(
                f"tax.lm_eval: a task must fit the policy's context, got one that asks for {max_tokens} tokens. "
                "Choose another task."
            )
        contexts = [ids[-room:] for ids in plain_ids(policy, [requests[i][0] for i in rows])]
        drawn = policy.generate(contexts, 1, max_tokens, temperature)
        for i, reply, finish in zip(rows, drawn.replies, drawn.finish, strict=True):
            until = requests[i][1].get("until") or []
            replies[i] = _cut(policy.response(reply, finish).text, [until] if isinstance(until, str) else until)
    return replies


def _cut(text: str, until: Sequence[str]) -> str:
    for stop in until:
        if stop:
            text = text.split(stop)[0]
    return text


def _text(value: Any) -> str:
    """What the harness logged of an item, cut to MAX_CHARACTERS."""
    text = str(value)
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1] + "\N{HORIZONTAL ELLIPSIS}"
