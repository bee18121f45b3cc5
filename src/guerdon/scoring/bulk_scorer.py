"""A saved reward model that is loaded in the process that uses it: a file's workers, or an actor of Ray Data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from guerdon.config import ModelOptions, ScoreOptions, make
from guerdon.config.training import refuse_options_of_new_models
from guerdon.contracts import Prompt, PromptLike, Response, ResponseLike, RewardModel, Scores
from guerdon.io import schema
from guerdon.io.directories import recover
from guerdon.models.directory.formats import is_ensemble
from guerdon.models.directory.layout import refuse_headless
from guerdon.models.directory.loading import load
from guerdon.models.engine.pretrained import read_config
from guerdon.models.step_reward import StepReward
from guerdon.models.token_rewards import TokenScorer
from guerdon.scoring.chunks import ADDED, ChunkScores, added_columns, flatten, renamed, score_texts

SMALL_FILE = 2**20  # bytes; a larger file of a model is identified by its size and time, a smaller one by its content


@final
class BulkScorer:
    """A saved reward model that is loaded on first use; until then, and when pickled, it is a folder and options.

    A RewardModel. Called on a batch of columns, it is an actor of Ray Data. Keywords are ModelOptions, and batch_tokens,
    calibrated, per_token and steps of ScoreOptions. A text longer than the model's max_length is an error, whatever training did with such
    texts, unless `truncation` is given.
    """

    def __init__(self, folder: str | Path, **options: Any) -> None:
        scoring: dict[str, Any] = {
            name: options.pop(name) for name in ("batch_tokens", "calibrated", "per_token", "steps") if name in options
        }
        refuse_options_of_new_models(options)
        self.folder = str(folder)
        self.scoring = make(ScoreOptions, scoring)
        self.options = make(ModelOptions, {"truncation": "refuse", **options})
        self._model: RewardModel | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None}

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """The columns of the batch with `truncated` and `reward` (rows with one response) or `rewards`, None where a row has the other."""
        columns = {name: [_plain(value) for value in values] for name, values in batch.items()}
        rows = [
            {name: value for name, value in zip(columns, row, strict=True) if value is not None}
            for row in zip(*columns.values(), strict=True)
        ]
        conversations = [schema.conversation_from_row(f"row {i} of the batch", row) for i, row in enumerate(rows)]
        added = list(added_columns(self.score_texts(*flatten(conversations)), conversations))
        names = [name for name in ADDED if any(name in row for row in added)]
        # Arrays within an array have no Arrow type, so lists go back as lists
        nested = {name for name, values in columns.items() if any(isinstance(value, list) for value in values)}
        own = renamed({name: _column(columns[name]) if name in nested else batch[name] for name in columns})
        return own | {name: _column([row.get(name) for row in added]) for name in names}

    def score(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Scores:
        """Rewards in nats, or raw ones if not calibrated."""
        return self._loaded().score(prompts, responses)

    def score_texts(self, prompts: Sequence[Prompt], responses: Sequence[Response]) -> ChunkScores:
        """As `score`, with the reward after every token where per_token is set."""
        return score_texts(self._loaded(), prompts, responses)

    def load_on_worker(self, index: int) -> RewardModel:
        """The model for one of several workers: they take the accelerators in turn, unless the options name one."""
        options = self.options
        if options.device in ("auto", "cuda") and torch.cuda.is_available():
            options = options.model_copy(update={"device": f"cuda:{index % torch.cuda.device_count()}"})
        return self._load(options)

    def identity(self) -> dict[str, Any]:
        """What the scores depend on, as JSON values: the model's files and the options that change a score."""
        path = Path(self.folder)
        recover(path)
        has_members = is_ensemble(path)
        if not has_members:
            refuse_headless(self.folder, self.options)
        if path.is_dir():
            files = sorted(file for file in path.glob("**/*" if has_members else "*") if file.is_file())
            model: object = {
                str(file.relative_to(path)): _file_identity(file) for file in files if file.suffix != ".md"
            }
        else:
            model = [self.folder, getattr(read_config(self.folder, self.options), "_commit_hash", None)]
        options = self.options.model_dump(mode="json", exclude_unset=True)
        by_token = {"per_token": True} if self.scoring.per_token else {}
        by_step = {"steps": self.scoring.steps} if self.scoring.steps else {}
        return {
            "model": model,
            "set of options": {**options, "calibrated": self.scoring.calibrated, **by_token, **by_step},
        }

    def _loaded(self) -> RewardModel:
        if self._model is None:
            self._model = self._load(self.options)
        return self._model

    def _load(self, options: ModelOptions) -> RewardModel:
        model = load(self.folder, options, batch_tokens=self.scoring.batch_tokens)
        chosen = model if self.scoring.calibrated else model.model
        if self.scoring.steps:
            return StepReward(chosen, self.scoring.steps)
        return TokenScorer(chosen) if self.scoring.per_token else chosen


def _plain(value: Any) -> Any:
    """Lists and mappings where a batch holds arrays; None where a column has no value."""
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value


def _column(values: list[Any]) -> np.ndarray:
    """An array of numbers or of truth values if every row has one; otherwise an array of objects."""
    for kind in (float, bool):
        if all(isinstance(value, kind) for value in values):
            return np.array(values, dtype=kind)
    column = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):  # assigned at once, lists of one length would become a matrix
        column[i] = value
    return column


def _file_identity(path: Path) -> object:
    stat = path.stat()
    if stat.st_size <= SMALL_FILE:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return [stat.st_size, stat.st_mtime_ns]
