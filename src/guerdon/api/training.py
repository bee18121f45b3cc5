"""Train a reward model from comparisons."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from guerdon.config import Config, ModelOptions, build
from guerdon.config.training import refuse_untrainable_heads
from guerdon.contracts import Comparison, as_prompt
from guerdon.io import run_folder, writers
from guerdon.models.reward_model import ScalarRewardModel

log = logging.getLogger("guerdon")


def train(
    comparisons: Sequence[Comparison],
    *,
    held_out: Sequence[Comparison] = (),
    out: str | Path | None = None,
    config: Config | None = None,
    **options: Any,
) -> ScalarRewardModel:
    """A reward model trained on the comparisons. Keywords are ModelOptions and TrainOptions together.

    out: a run folder, which gets config.yaml, metrics.jsonl, the newest checkpoint and the model. The same call resumes a run
    that was killed.
    """
    from accelerate import PartialState

    from guerdon.models.directory.loading import create_reward_model
    from guerdon.models.directory.saving import save
    from guerdon.runtime.distributed import join_processes
    from guerdon.training import fit

    config = with_options(config or Config(), options)
    warn_of_unverified(comparisons)
    folder = Path(out) if out else None
    run_folder.RunFolder(folder).refuse_foreign("model")
    model = create_reward_model(join_processes(config.model, config.train), seed=config.train.seed)

    def write_config_file() -> None:  # only once the data and the folder are known to be usable
        if folder and PartialState().is_main_process:
            # with the values that defaults resolved to, so that --config reproduces the run
            resolved = {"max_length": model.text.max_length, "attention": model.network.backbone.native_attention}
            model_options = config.model.model_copy(update=resolved)
            writers.write_config(folder / "config.yaml", config.model_copy(update={"model": model_options}))

    with run_folder.RunFolder(folder).lock():
        trained = fit(
            model, comparisons, config.train, held_out=held_out, folder=folder, on_start=write_config_file
        ).model
        if folder and PartialState().is_main_process:
            save(with_self_test(trained, comparisons), folder / "model")
    return trained


def warn_of_unverified(comparisons: Sequence[Comparison]) -> None:
    """Warn of pairs that a constitution made and no judge prefers: their sources say so."""
    num = sum((comparison.source or "").endswith("unverified") for comparison in comparisons)
    if num:
        log.warning(
            "%s of %s comparisons are revisions that no judge verified: that the revision is better is a claim. "
            "Train on comparisons.jsonl of `guerdon constitution run` alone.", f"{num:,}", f"{len(comparisons):,}",
        )  # fmt: skip


def with_options(config: Config, options: Mapping[str, Any]) -> Config:
    """The config with each keyword, such as lr=1e-5, in the stage that has an option of this name (model, else train).

    Raises GuerdonError for options that cannot be trained together.
    """
    stages: dict[str, dict[str, Any]] = {"model": {}, "train": {}}
    for name, value in options.items():
        stages["model" if name in ModelOptions.model_fields else "train"][name] = value
    merged = build(config.model_dump(exclude_unset=True), stages)
    refuse_conflicts(merged)
    return merged


def refuse_conflicts(config: Config) -> None:
    """Raise GuerdonError for options of the model and of training that cannot be trained together."""
    config.model.refuse_conflicts()
    config.train.refuse_conflicts()
    refuse_untrainable_heads(config.train.loss, config.model.heads, config.model.attributes)


def with_self_test(model: ScalarRewardModel, comparisons: Sequence[Comparison], rows: int = 4) -> ScalarRewardModel:
    """The model with a few texts and their scores in its card, so that other readers can check that they score the same.

    They are scored as a saved model is, without autocast.
    """
    short = [
        c
        for c in comparisons
        if len(c.prompt) == 1
        and not (c.prompt.tools or c.responses[0].messages)
        and len(c.prompt[0].content) + len(c.responses[0].text) < 2000
    ][:rows]
    if not short:
        return model
    texts = [(c.prompt[0].content, c.responses[0].text) for c in short]
    as_loaded = ScalarRewardModel(model.network, model.text, model.card)
    scores = np.asarray(as_loaded.score([as_prompt(prompt) for prompt, _ in texts], [text for _, text in texts]).value)
    self_test = tuple((prompt, text, float(score)) for (prompt, text), score in zip(texts, scores, strict=True))
    return model.with_card(self_test=self_test)
