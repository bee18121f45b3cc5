"""A saved model whose forward passes another server makes: vLLM or SGLang gives raw scores, this server everything else.

The directory stays the authority on how texts are read: its chat template makes the token ids that the engine gets. Calibration,
the rule of an ensemble and its spread are applied to what comes back, so that the number is the one that `guerdon score` gives, but for
the engine's arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np

from guerdon.config import ModelOptions
from guerdon.contracts import GuerdonError, Scores, digest
from guerdon.errors import counted, field_error
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.card import Card
from guerdon.models.chat import ChatTokenizer, Encoded
from guerdon.models.directory.formats import card_as_json, is_ensemble, read_card, read_manifest
from guerdon.models.directory.loading import load_text
from guerdon.models.engine_server import NAMES, EngineAway, EngineError, EngineServer
from guerdon.models.ensemble import Ensemble
from guerdon.models.fingerprint import fingerprint_of
from guerdon.serving.errors import BackendAway, Unscorable
from guerdon.serving.models import Outcome, outcomes_of, score_encoded
from guerdon.serving.reading import Item, ItemReader, Reading

RETRY_AFTER: Final = 5.0  # seconds
MOST_DIFFERENCE: Final = 0.5  # of a stored raw score; bfloat16 moves scores by up to 0.2


@final
class EngineModel:
    """A single model behind an engine, as Calibrated and Ensemble wrap it: raw scores of token ids."""

    def __init__(self, server: EngineServer, folder: Path, text: ChatTokenizer, card: Card) -> None:
        self.server, self.folder, self.text, self.card = server, folder, text, card

    @property
    def fingerprint(self) -> str:
        """Changes with the directory's card and template. The engine's weights cannot be hashed; see check."""
        return digest([card_as_json(self.card), self.text.template_hash, self.server.model])

    def score_encoded(self, encoded: Sequence[Encoded]) -> Scores:
        """What the engine gives. Raises BackendAway and Unscorable: never a number in place of a failed call."""
        try:
            values = self.server.classify([one.ids.tolist() for one in encoded])
        except EngineAway as error:
            raise BackendAway(str(error), RETRY_AFTER) from None
        except EngineError as error:
            raise Unscorable(str(error)) from None
        return Scores(np.array(values, np.float64), np.array([one.truncated for one in encoded]))

    def check(self) -> None:
        """Raise where the engine serves another model, or in another way, than the directory says."""
        if self.server.max_length is not None and self.server.max_length < self.text.max_length:
            raise GuerdonError(
                f"{self.server.url}: must take texts of {self.text.max_length} tokens, as {self.folder} does, got "
                f"{self.server.max_length}. Start it with a longer context, or set model.max_length={self.server.max_length}."
            )
        rows = self.card.self_test
        if not rows:
            return
        encoded = self.text.encode([row[0] for row in rows], [row[1] for row in rows])
        values = self.score_encoded(encoded).value
        worst = max(abs(float(value) - row[2]) for value, row in zip(values, rows, strict=True))
        if worst > MOST_DIFFERENCE:
            raise GuerdonError(
                f"{self.server.url}: must give the scores stored in {self.folder}, got {worst:.3g} off. "
                "Serve this directory there, without an activation."
            )


@dataclass(frozen=True, slots=True)
class Backend:
    """What a served model needs: the models behind engines in the order of score_encoded, and the whole."""

    engines: list[EngineModel]
    model: Any

    def close(self) -> None:
        """End the connections."""
        for engine in self.engines:
            engine.server.close()


def connect(source: str, urls: Sequence[str], options: ModelOptions, token: str | None, seconds: float) -> Backend:
    """A directory and the engines that serve it: one, or one for each member of an ensemble, in their order."""
    folder = Path(source)
    manifest = read_manifest(folder) if is_ensemble(folder) else None
    folders = [folder] if manifest is None else [folder / name for name in manifest.members]
    if len(urls) != len(folders):
        raise field_error(
            "--backend", f"given {counted(len(folders), 'time')}, once for each model", len(urls), "Repeat it."
        )
    engines: list[EngineModel] = []
    try:
        for path, url in zip(folders, urls, strict=True):
            engines.append(_engine(path, url, options, token, seconds))
        with ThreadPoolExecutor(len(engines)) as pool:
            list(pool.map(EngineModel.check, engines))
    except GuerdonError:
        for engine in engines:
            engine.server.close()
        raise
    members = [CalibratedModel(engine, engine.card.calibration) for engine in engines]  # type: ignore[arg-type]
    if manifest is None:
        return Backend(engines, members[0])
    return Backend(engines, CalibratedModel(Ensemble(members, manifest.rule, manifest.scale), manifest.calibration))


def _engine(folder: Path, url: str, options: ModelOptions, token: str | None, seconds: float) -> EngineModel:
    card = read_card(folder)
    if card is None:
        raise GuerdonError(
            f"{folder}: must have a reward.json. Save the model with Guerdon, or repair it with `guerdon doctor`."
        )
    if card.attributes:
        raise GuerdonError(
            f"{folder}: must have one label, got {len(card.attributes)} attributes. Serve it without --backend."
        )
    text = load_text(options.model_copy(update={"base": str(folder)}))
    server = EngineServer(url, token, seconds)
    if server.kind == "guerdon":
        server.close()
        raise GuerdonError(f"{url}: must be vLLM or SGLang, got guerdon serve. Ask that server itself.")
    return EngineModel(server, folder, text, card)


@final
class ServedBackend:
    """A model behind engines, as a queue needs it. The members of an ensemble are asked at the same time."""

    can_merge, needs_turn = True, False
    gives_shift_p = False
    passes_at_once = 16  # an engine batches by itself

    def __init__(self, name: str, path: str, backend: Backend, *, calibrated: bool = True) -> None:
        self.name, self.path, self._backend = name, path, backend
        self.engines = backend.engines
        self.model = backend.model if calibrated else backend.model.model
        self._reader = ItemReader([engine.text for engine in self.engines])
        self.max_length: int | None = self._reader.max_length
        self._pool = ThreadPoolExecutor(len(self.engines), "engine")

    @property
    def gives_std(self) -> bool:
        """Whether scores have a standard deviation: that between members. Hidden states stay in the engine."""
        return len(self.engines) > 1

    def read(self, items: Sequence[Item]) -> list[Reading]:
        """Token ids of each item, for each tokenizer of the model."""
        return self._reader.read(items)

    def score(self, readings: Sequence[Reading]) -> list[Outcome]:
        """The engines' scores, calibrated and combined."""
        columns = self._reader.columns(readings)
        waiting = [
            self._pool.submit(engine.score_encoded, column)
            for engine, column in zip(self.engines, columns, strict=True)
        ]
        wait(waiting)  # a connection is of one call at a time, also where another member failed
        scores = iter([future.result() for future in waiting])
        combined = score_encoded(self.model, iter(columns), lambda _, __: next(scores))
        return outcomes_of(combined, [len(reading.ids) for reading in readings])

    def facts(self) -> dict[str, Any]:
        """Hashes, calibration, and where the engines are."""
        calibration = self.model.calibration.as_dict() if isinstance(self.model, CalibratedModel) else None
        return {
            "name": self.name,
            "kind": "ensemble" if len(self.engines) > 1 else "reward model",
            "fingerprint": fingerprint_of(self.model),
            "template_hash": digest([engine.text.template_hash for engine in self.engines]),
            "calibration_hash": None if calibration is None else digest(calibration),
            "calibration": calibration,
            "members": len(self.engines),
            "gives_std": self.gives_std,
            "gives_shift_p": False,
            "max_length": self.max_length,
            "backends": [f"{NAMES[engine.server.kind]} at {engine.server.url}" for engine in self.engines],
        }

    def close(self) -> None:
        """End the connections."""
        self._pool.shutdown()
        self._backend.close()
