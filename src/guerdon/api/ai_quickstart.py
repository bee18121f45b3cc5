"""The first steps of `quickstart --feedback ai`: prompts, replies of the starter model, and labels by a judge on this machine.

The judge is the starter model itself, 135 million parameters: it is weak, and its card says how weak. The audit is on people's
judgments, so it shows what a reward model that learned from this judge is worth to people.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from guerdon.config import Config, JudgeOptions, PolicyOptions
from guerdon.contracts import Comparison, Message, Prompt
from guerdon.conversation import message_dict
from guerdon.io import readers, writers
from guerdon.io.reports import to_json

DRAFTS, LABELS, PEOPLE, CARD_FOLDER, CARD = "drafts.jsonl", "labels.jsonl", "people.jsonl", "card", "judge_card.json"
AI_FILES: Final = (
    DRAFTS, LABELS, "labels.verdicts.jsonl", "labels.failures.jsonl", "labels.calls.db", PEOPLE, CARD, f"{CARD_FOLDER}/",
)  # fmt: skip

TOPICS: Final = (
    "the weather", "a birthday", "the first day of school", "a train ride", "a new phone", "a football match", "a cup of coffee",
    "a rainy weekend", "a lost key", "a visit to the dentist", "an old friend", "a long flight", "a garden", "a traffic jam",
    "a concert", "a broken bike", "a walk on the beach", "a job interview", "a small dog", "a power cut", "a good book",
    "a cold winter", "a wedding", "an exam", "a new neighbor", "a museum", "a late bus", "a home-made cake", "a camping trip",
    "a Monday morning",
)  # fmt: skip


def ai_prompts(count: int) -> list[Prompt]:
    """`count` prompts: the starter kit's tasks, each about one topic after another; every prompt is distinct."""
    from guerdon.data.ratings import PROMPTS

    tasks = list(PROMPTS.values())
    prompts = []
    for i in range(count):
        task, topic = tasks[i % len(tasks)], TOPICS[(i // len(tasks)) % len(TOPICS)]
        first, _, rest = task.partition(". ")
        again = i // (len(tasks) * len(TOPICS))
        words = f"{first} about {topic}{'' if not again else f', number {again + 1}'}. {rest}"
        prompts.append(Prompt([Message("user", words)]))
    return prompts


def judge_options(config: Config) -> JudgeOptions:
    """The judge: the model that is trained, before training, on this machine."""
    return JudgeOptions(
        kind="local",
        model=config.model.base,
        name="starter judge" if config.model.base == "starter" else None,
        mode="pair",
        criterion="The better response has the more positive feeling.",
        min_mass=0.0,  # a model this small gives the verdicts little of its probability; what it gives is compared
        device=config.model.device,
    )


def draw_drafts(out: Path, config: Config) -> dict[str, Any]:
    """Replies to the prompts, in drafts.jsonl."""
    from guerdon.models.directory.policies import load_policy

    options = config.quickstart
    names = ("base", "revision", "trust_remote_code", "dtype", "device", "system")
    policy = load_policy(PolicyOptions(**{name: getattr(config.model, name) for name in names}))
    prompts = ai_prompts(options.ai_prompts)
    rollouts = policy.sample(prompts, options.ai_replies, options.sample_tokens, seed=config.train.seed)
    rows = (
        {"prompt": [message_dict(turn) for turn in prompt], "responses": [reply.text for reply in replies]}
        for prompt, replies in zip(rollouts.prompts_once, rollouts.responses_by_prompt, strict=True)
    )
    writers.write_jsonl(out / DRAFTS, rows)
    return {"replies": len(rollouts)}


def judge_drafts(out: Path, config: Config) -> dict[str, Any]:
    """Labels for all pairs of replies to a prompt, in labels.jsonl."""
    from guerdon.api.judging import judge_files

    judging = judge_files([out / DRAFTS], judge_options(config), out=out / LABELS)
    return {"unresolved": judging.unresolved_share}


def write_card(out: Path, config: Config) -> dict[str, Any]:
    """How far the judge agrees with people: card/, and judge_card.json for the report."""
    from guerdon.api.judge_cards import make_judge_card

    writers.write_comparisons(out / PEOPLE, people_comparisons(config)[: config.quickstart.card_pairs])
    report = make_judge_card([out / PEOPLE], judge_options(config), out=out / CARD_FOLDER, again=False)
    writers.write_json(out / CARD, to_json(report))
    return {}


def people_comparisons(config: Config) -> list[Comparison]:
    """Comparisons by the human ratings of the starter kit, as the quickstart without AI trains on: for the card and the audit."""
    from guerdon.data.ratings import rating_comparisons
    from guerdon.models.directory.starter import starter_ratings

    return rating_comparisons(starter_ratings(), config.quickstart.comparisons, config.train.seed)


def judged_comparisons(out: Path) -> list[Comparison]:
    """The labels that the judge gave."""
    return list(readers.read_comparisons(out / LABELS))


def audit_comparisons(config: Config) -> list[Comparison]:
    """People's comparisons that the card did not use, for the audit."""
    options = config.quickstart
    return people_comparisons(config)[options.card_pairs : options.card_pairs + options.audit_pairs]
