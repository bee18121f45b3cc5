"""Train a reward model from comparisons."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from guerdon.config import (
    Config,
    ModelOptions,
    TrainOptions,
    build,
)
from guerdon.contracts import (
    Comparison,
    as_prompt,
)
from guerdon.io import (
    run_folder,
    writers,
)
from guerdon.models.reward_model import ScalarRewardModel


def train(
    comparisons: Sequence[Comparison],
    *,
    held_out: Sequence[Comparison] = (),
    out: str | Path | None = None,
    config: Config | None = None,
    **options: Any,
) -> ScalarRewardModel:
    """A reward model from comparisons. Keywords are ModelOptions and TrainOptions together; with `out`, a run folder.

    The folder holds config.yaml, metrics.jsonl, the newest checkpoint and the model; the same call goes on from a killed run.
    """
    from accelerate import PartialState

    from guerdon.models.directory.loading import create_reward_model
    from guerdon.models.directory.saving import save
    from guerdon.runtime.distributed import join_processes
    from guerdon.training import fit

    config = with_options(config or Config(), options)
    folder = Path(out) if out else None
    model = create_reward_model(join_processes(config.model, config.train), seed=config.train.seed)

    def write_config_file() -> None:  # not before the data and the folder are known to be usable
        if folder and PartialState().is_main_process:
            # as resolved, so that --config takes the file back: what is written there counts as asked for
            actual = {"max_length": model.text.max_length, "attention": model.network.backbone.native_attention}
            said = config.model_copy(update={"model": config.model.model_copy(update=actual)})
            writers.write_config(folder / "config.yaml", said)

    with run_folder.RunFolder(folder).lock():
        trained = fit(
            model, comparisons, config.train, held_out=held_out, folder=folder, on_start=write_config_file
        ).model
        if folder and PartialState().is_main_process:
            save(with_self_test(trained, comparisons), folder / "model")
    return trained


def with_options(config: Config, options: Mapping[str, Any]) -> Config:
    """The config with keywords such as lr=1e-5 put in the stage that knows them (model or train)."""
    layers: dict[str, dict[str, Any]] = {"model": {}, "train": {}}
    for name, value in options.items():
        stage = next(
            (s for s, kind in (("model", ModelOptions), ("train", TrainOptions)) if name in kind.model_fields), "train"
        )
        layers[stage][name] = value
    return build(config.model_dump(exclude_unset=True), layers)


def with_self_test(model: ScalarRewardModel, comparisons: Sequence[Comparison], rows: int = 4) -> ScalarRewardModel:
    """The model with a few texts and their scores in its card, so that a reader can prove that it scores the same."""
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
    values = model.score([as_prompt(p) for p, _ in texts], [r for _, r in texts]).value
    card = dataclasses.replace(
        model.card, self_test=tuple((p, r, float(v)) for (p, r), v in zip(texts, np.asarray(values), strict=True))
    )
    return ScalarRewardModel(model.network, model.text, card, autocast=model.autocast)
