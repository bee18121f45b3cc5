"""Scores for more rows than memory holds: a file through several processes in order, or batches of a Ray data set.

Axes: n responses of a chunk. A chunk is as many whole rows as ask for some 256 responses, so that rows with many responses
stay bounded too. Two chunks a worker are held at most, scored or waiting for their turn.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float

from guerdon.config import ModelOptions, ScoreOptions, make
from guerdon.contracts import (
    GuerdonError,
    Prompt,
    PromptLike,
    Response,
    ResponseLike,
    RewardModel,
    Scores,
)
from guerdon.io import (
    readers,
    run_folder,
    schema,
    writers,
)
from guerdon.models.directory.atomic import recover
from guerdon.models.directory.formats import is_ensemble
from guerdon.models.directory.layout import refuse_headless
from guerdon.models.directory.loading import load
from guerdon.models.engine.pretrained import read_config
from guerdon.progress import ProgressBar, note

Asked = tuple[Prompt, list[Response], bool]  # what conversation_from_row finds in a row
Values = Float[np.ndarray, " n"]
OpenModel = Callable[[int], RewardModel]  # the number of a worker -> the model on that worker's device
CHUNK = (
    256  # responses; the same for any number of workers (the last bits depend on it), and few: a short file is shared
)
AHEAD = 2  # chunks a worker that are held at most
SMALL = 2**20  # bytes; a larger file of a model is known by its size and time, a smaller one by its content


@final
class BulkScorer:
    """A saved reward model that is loaded where it is first asked: until then, and pickled, a folder and options.

    Fulfills RewardModel; called on a batch of columns it is an actor of Ray Data. Keywords are ModelOptions, and
    batch_tokens and calibrated of ScoreOptions.
    """

    def __init__(self, folder: str | Path, **options: Any) -> None:
        scoring: dict[str, Any] = {
            name: options.pop(name) for name in ("batch_tokens", "calibrated") if name in options
        }
        self.folder = str(folder)
        self.scoring, self.options = make(ScoreOptions, scoring), make(ModelOptions, options)
        self._model: RewardModel | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None}

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """Columns of rows in; the same with `reward` (one response) or `rewards` out, None where a row has the other."""
        columns = {name: [_plain(value) for value in values] for name, values in batch.items()}
        rows = [
            {name: value for name, value in zip(columns, row, strict=True) if value is not None}
            for row in zip(*columns.values(), strict=True)
        ]
        asked = [schema.conversation_from_row(f"row {at} of the batch", row) for at, row in enumerate(rows)]
        found = _by_row(self.score(*_flat(asked)).value, asked)
        single = [one for _, _, one in asked]
        reward = [values[0] if one else None for values, one in zip(found, single, strict=True)]
        rewards = [None if one else values for values, one in zip(found, single, strict=True)]
        added = ({"reward": _column(reward)} if any(single) else {}) | (
            {} if all(single) else {"rewards": _column(rewards)}
        )
        # Arrays within an array have no Arrow type, so lists go back as lists.
        nested = {name for name, values in columns.items() if any(isinstance(value, list) for value in values)}
        return {name: _column(columns[name]) if name in nested else batch[name] for name in columns} | added

    def score(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Scores:
        """Rewards in nats, or raw ones if not calibrated."""
        if self._model is None:
            self._model = self._opened(self.options)
        return self._model.score(prompts, responses)

    def on_worker(self, index: int) -> RewardModel:
        """The model, loaded; worker i of several is on accelerator i, in turns, unless the options name one."""
        options = self.options
        if options.device in ("auto", "cuda") and torch.cuda.is_available():
            options = options.model_copy(update={"device": f"cuda:{index % torch.cuda.device_count()}"})
        return self._opened(options)

    def identity(self) -> dict[str, Any]:
        """What the scores come from, as JSON values: the model's files and the options that change a score."""
        place = Path(self.folder)
        recover(place)
        several = is_ensemble(place)
        if not several:
            refuse_headless(self.folder, self.options)
        if place.is_dir():
            named = sorted(path for path in place.glob("**/*" if several else "*") if path.is_file())
            model: object = {
                str(path.relative_to(place)): _file_identity(path) for path in named if path.suffix != ".md"
            }
        else:
            model = [self.folder, getattr(read_config(self.folder, self.options), "_commit_hash", None)]
        options = self.options.model_dump(mode="json", exclude_unset=True)
        return {"model": model, "set of options": {**options, "calibrated": self.scoring.calibrated}}

    def _opened(self, options: ModelOptions) -> RewardModel:
        model = load(self.folder, options, batch_tokens=self.scoring.batch_tokens)
        return model if self.scoring.calibrated else model.model


def score_rows(
    open_model: OpenModel,
    source: str | Path,
    out: str | Path,
    identity: Mapping[str, Any] | None,
    *,
    workers: int = 1,
    chunk: int = CHUNK,
) -> dict[str, int]:
    """Write every row of the source with its reward(s), in order; returns how many rows and responses.

    With an identity, a killed run goes on after its last whole chunk, if the source begins with the rows that are
    scored. open_model is pickled if there are several workers.
    """
    rows = readers.read_rows(source)
    writers.require_jsonl_ending(out)
    if Path(out).resolve() == Path(source).resolve():
        raise GuerdonError(f"{out}: is what is scored, and would be replaced; remedy: another --out")
    with run_folder.open_resumable(out, identity) as sink:
        if sink.rows:
            _refuse_other_rows(sink.partial, rows)
            note(f"{out}: goes on after {sink.rows:,} rows")
        chunks = in_chunks(rows, chunk)
        bar = ProgressBar(readers.count_rows(source), "score", "rows", initial=sink.rows)
        with bar, closing(in_order(chunks, open_model, workers)) as scored:
            for part, values in scored:
                sink.add(part.lines(values), len(part.rows), len(values))
                bar.advance(len(part.rows))
    return {"rows": sink.rows, "responses": sink.responses}


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows that are scored in one call, what each asks for, and the places of the first and the last."""

    first: str
    last: str
    rows: list[Mapping[str, Any]]
    asked: list[Asked]

    def lines(self, values: Values) -> bytes:
        """The rows as JSONL, each with its reward(s)."""
        return b"".join(
            _line(row, {"reward": found[0]} if single else {"rewards": found})
            for row, found, (_, _, single) in zip(self.rows, _by_row(values, self.asked), self.asked, strict=True)
        )

    def failed(self, reason: object) -> GuerdonError:
        """An error that says which rows it befell."""
        return GuerdonError(f"{self.first} to {self.last}: {reason}")


def _line(row: Mapping[str, Any], found: Mapping[str, Any]) -> bytes:
    """A row with what was found. Half a character (a lone surrogate) becomes its escape."""
    text = json.dumps({**row, **found}, ensure_ascii=False, default=str)  # Parquet also holds dates and bytes
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _refuse_other_rows(partial: Path, rows: Iterator[tuple[str, Any]]) -> None:
    """Read as many rows as the partial holds; raise at the first that is not the one that was scored."""
    remedy = "delete it to start afresh, or pass another --out"
    with partial.open("rb") as scored:
        for at, line in enumerate(scored, start=1):
            place, row = next(rows, ("its end", None))
            found = json.loads(line)
            added = {name: found[name] for name in ("reward", "rewards") if name in found}
            if not isinstance(row, Mapping) or _line(row, added) != line:
                raise GuerdonError(
                    f"{partial}: row {at} is not that of {place}: begun with other data; remedy: {remedy}"
                )


def in_chunks(rows: Iterable[tuple[str, Any]], size: int) -> Iterator[Chunk]:
    """(place, row) pairs in, chunks of whole rows out, at most `size` responses each unless a single row has more."""
    places: list[str] = []
    held: list[Any] = []
    asked: list[Asked] = []
    num = 0
    for place, row in rows:
        wanted = schema.conversation_from_row(place, row)
        weight = max(1, len(wanted[1]))  # a row without responses takes memory too
        if held and num + weight > size:
            yield Chunk(places[0], places[-1], held, asked)
            places, held, asked, num = [], [], [], 0
        places.append(place)
        held.append(row)
        asked.append(wanted)
        num += weight
    if held:
        yield Chunk(places[0], places[-1], held, asked)


def in_order(
    chunks: Iterable[Chunk], open_model: OpenModel, workers: int
) -> Generator[tuple[Chunk, Values], None, None]:
    """Each chunk with its rewards, in the order of the chunks. An error is raised in its turn, after all before it."""
    ahead = _until_error(chunks)
    first = next(ahead, None)
    if isinstance(first, Chunk):
        yield from (
            _in_process(first, ahead, open_model) if workers == 1 else _by_crew(first, ahead, open_model, workers)
        )
    elif first is not None:
        raise first


def _until_error(chunks: Iterable[Chunk]) -> Iterator[Chunk | GuerdonError]:
    """The chunks, and in the place of the one that could not be read what is wrong with it."""
    try:
        yield from chunks
    except GuerdonError as error:
        yield error


def _in_process(
    first: Chunk, ahead: Iterator[Chunk | GuerdonError], open_model: OpenModel
) -> Iterator[tuple[Chunk, Values]]:
    model = open_model(0)
    following: Chunk | GuerdonError | None = first
    while following is not None:
        if isinstance(following, GuerdonError):
            raise following
        try:
            values = model.score(*_flat(following.asked)).value
        except GuerdonError as error:
            raise following.failed(error) from None
        yield following, values
        following = next(ahead, None)


# ---- Several processes -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Worker:
    """A process, our end of its pipe, whether it waits for work, and the number of the chunk that it has."""

    process: SpawnProcess
    pipe: Connection
    idle: bool = False
    number: int | None = None


def _by_crew(
    first: Chunk, ahead: Iterator[Chunk | GuerdonError], open_model: OpenModel, num: int
) -> Iterator[tuple[Chunk, Values]]:
    crew = _Crew(first, ahead, [_hire(open_model, index, num) for index in range(num)])
    hired = list(crew.staff)
    try:
        yield from crew.results()
    finally:
        for worker in hired:
            worker.pipe.close()
            worker.process.kill()
            worker.process.join()


def _hire(open_model: OpenModel, index: int, num: int) -> Worker:
    context = multiprocessing.get_context("spawn")  # CUDA does not live through a fork
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, open_model, index, num), daemon=True)
    process.start()
    theirs.close()  # so that the end of either process is the end of the pipe for the other
    return Worker(process, ours)


def _work(pipe: Connection, open_model: OpenModel, index: int, num: int) -> None:
    """A worker's life: "ready", then for (prompts, responses) their rewards or what is wrong with them, as text."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal; the main one ends us
    threading.Thread(target=_end_with_the_main_process, daemon=True).start()
    torch.set_num_threads(max(1, torch.get_num_threads() // num))
    with suppress(EOFError, ConnectionError):  # the main process has gone
        try:
            model = open_model(index)
        except GuerdonError as error:
            pipe.send(str(error))
            return
        pipe.send(None)
        while True:
            prompts, responses = pipe.recv()
            try:
                pipe.send(model.score(prompts, responses).value)
            except GuerdonError as error:
                pipe.send(str(error))


def _end_with_the_main_process() -> None:
    """A chunk may take minutes, and whoever goes on after a kill needs the memory now."""
    main = multiprocessing.parent_process()
    if main is not None:
        main.join()
        os._exit(1)


class _Crew:
    """Hands chunks to whoever is idle and gives results out in turn."""

    def __init__(self, first: Chunk, ahead: Iterator[Chunk | GuerdonError], staff: list[Worker]) -> None:
        self.following: Chunk | GuerdonError | None = first
        self.ahead, self.staff, self.limit = ahead, staff, AHEAD * len(staff)
        self.held: dict[int, Chunk] = {}
        self.found: dict[int, Values | GuerdonError] = {}
        self.sent = self.given = 0  # the numbers of the next chunk to send, and to give out

    def results(self) -> Iterator[tuple[Chunk, Values]]:
        """Chunks with their rewards, in order."""
        while self.following is not None or self.given < self.sent:
            self._hand_out()
            if self.given not in self.found:
                self._collect()
                continue
            values = self.found.pop(self.given)
            if isinstance(values, GuerdonError):
                raise values
            self.given += 1
            yield self.held.pop(self.given - 1), values

    def _hand_out(self) -> None:
        while self.following is not None and self.sent - self.given < self.limit:
            if isinstance(self.following, GuerdonError):
                self.found[self.sent] = self.following
            else:
                worker = next((worker for worker in self.staff if worker.idle), None)
                if worker is None:
                    return
                self.held[self.sent] = self.following
                worker.idle, worker.number = False, self.sent
                with suppress(ConnectionError):  # it has died, which _collect finds
                    worker.pipe.send(_flat(self.following.asked))
            self.sent += 1
            self.following = next(self.ahead, None)

    def _collect(self) -> None:
        """Wait for one worker at least, and keep what each has to say."""
        ready = wait([worker.pipe for worker in self.staff])
        for worker in [worker for worker in self.staff if worker.pipe in ready]:
            try:
                said = worker.pipe.recv()
            except (EOFError, ConnectionError):
                self.staff.remove(worker)
                said = _obituary(worker)
            if worker.number is None:
                if said is not None:
                    raise GuerdonError(said)
            else:
                self.found[worker.number] = self.held[worker.number].failed(said) if isinstance(said, str) else said
            worker.idle, worker.number = True, None


def _obituary(worker: Worker) -> str:
    worker.process.join(10)
    code = worker.process.exitcode
    how = f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
    remedy = "the same command goes on from here; if memory ran out, with fewer --workers"
    return f"a worker process died ({how}); remedy: {remedy}"


# ---- Rows and columns --------------------------------------------------------------------------------------------


def _flat(asked: Sequence[Asked]) -> tuple[list[Prompt], list[Response]]:
    pairs = [(prompt, response) for prompt, responses, _ in asked for response in responses]
    return [prompt for prompt, _ in pairs], [response for _, response in pairs]


def _by_row(values: Values, asked: Sequence[Asked]) -> list[list[float]]:
    rest = iter(values.tolist())
    return [list(islice(rest, len(responses))) for _, responses, _ in asked]


def _plain(value: Any) -> Any:
    """Lists and mappings where a batch holds arrays; None where a column has no value."""
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value


def _column(values: list[Any]) -> np.ndarray:
    """Numbers where there is one for every row; else an array of objects."""
    if all(isinstance(value, float) for value in values):
        return np.array(values, dtype=np.float64)
    column = np.empty(len(values), dtype=object)
    for at, value in enumerate(values):  # at once, lists of one length would be taken as a matrix
        column[at] = value
    return column


def _file_identity(path: Path) -> object:
    found = path.stat()
    if found.st_size <= SMALL:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return [found.st_size, found.st_mtime_ns]
