"""Chunks in, their rewards out in the same order: in this process, or in several with the model in each.

At most two chunks per worker are in memory, scored or waiting for their turn.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess

import torch

from guerdon.contracts import GuerdonError, RewardModel
from guerdon.scoring.chunks import Chunk, ChunkScores, score_texts

LoadModel = Callable[[int], RewardModel]  # the number of a worker -> the model on that worker's device
CHUNKS_PER_WORKER = 2  # in memory at once
PRELOADED = [__name__, "guerdon.models.directory.loading"]  # in the server that forks workers


def score_chunks(
    chunks: Iterable[Chunk], load_model: LoadModel, workers: int
) -> Generator[tuple[Chunk, ChunkScores], None, None]:
    """Each chunk with its rewards, in the order of the chunks. An error is raised after everything before it."""
    stream = _until_error(chunks)
    first = next(stream, None)
    if isinstance(first, Chunk):
        if workers == 1:
            yield from _score_here(first, stream, load_model)
        else:
            yield from _score_in_workers(first, stream, load_model, workers)
    elif first is not None:
        raise first


def _until_error(chunks: Iterable[Chunk]) -> Iterator[Chunk | GuerdonError]:
    """The chunks; an error of reading them becomes the last item."""
    try:
        yield from chunks
    except GuerdonError as error:
        yield error


def _score_here(
    first: Chunk, stream: Iterator[Chunk | GuerdonError], load_model: LoadModel
) -> Iterator[tuple[Chunk, ChunkScores]]:
    model = load_model(0)
    chunk: Chunk | GuerdonError | None = first
    while chunk is not None:
        if isinstance(chunk, GuerdonError):
            raise chunk
        try:
            scores = score_texts(model, *chunk.texts())
        except GuerdonError as error:
            raise chunk.failure(error) from None
        yield chunk, scores
        chunk = next(stream, None)


# ---- The main process --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Worker:
    """A process, our end of its pipe, whether it waits for work, and the number of the chunk that it scores."""

    process: BaseProcess
    pipe: Connection
    is_idle: bool = False
    chunk: int | None = None


def _score_in_workers(
    first: Chunk, stream: Iterator[Chunk | GuerdonError], load_model: LoadModel, num: int
) -> Iterator[tuple[Chunk, ChunkScores]]:
    workers: list[Worker] = []
    try:
        for index in range(num):
            with _interrupts_held_back():
                workers.append(_start_worker(load_model, index, num))
        yield from _WorkerPool(first, stream, list(workers)).results()
    finally:
        for worker in workers:
            worker.pipe.close()
            worker.process.kill()
            worker.process.join()


class _WorkerPool:
    """Sends chunks to idle workers and returns their results in order."""

    def __init__(self, first: Chunk, stream: Iterator[Chunk | GuerdonError], workers: list[Worker]) -> None:
        self.next_chunk: Chunk | GuerdonError | None = first
        self.stream, self.workers, self.limit = stream, workers, CHUNKS_PER_WORKER * len(workers)
        self.chunks: dict[int, Chunk] = {}  # in memory, by number
        self.values: dict[int, ChunkScores | GuerdonError] = {}  # scored, by the number of the chunk
        self.num_sent = self.num_returned = 0

    def results(self) -> Iterator[tuple[Chunk, ChunkScores]]:
        """Chunks with their rewards, in order."""
        while self.next_chunk is not None or self.num_returned < self.num_sent:
            self._send()
            if self.num_returned not in self.values:
                self._receive()
                continue
            values = self.values.pop(self.num_returned)
            if isinstance(values, GuerdonError):
                raise values
            self.num_returned += 1
            yield self.chunks.pop(self.num_returned - 1), values

    def _send(self) -> None:
        while self.next_chunk is not None and self.num_sent - self.num_returned < self.limit:
            if isinstance(self.next_chunk, GuerdonError):
                self.values[self.num_sent] = self.next_chunk
            else:
                worker = next((worker for worker in self.workers if worker.is_idle), None)
                if worker is None:
                    return
                self.chunks[self.num_sent] = self.next_chunk
                worker.is_idle, worker.chunk = False, self.num_sent
                with suppress(ConnectionError):  # it has died, which _receive finds
                    worker.pipe.send(self.next_chunk.texts())
            self.num_sent += 1
            self.next_chunk = next(self.stream, None)

    def _receive(self) -> None:
        """Wait for at least one worker, and keep the answer of each that is ready."""
        ready = wait([worker.pipe for worker in self.workers])
        for worker in [worker for worker in self.workers if worker.pipe in ready]:
            try:
                answer = worker.pipe.recv()
            except (EOFError, ConnectionError):
                self.workers.remove(worker)
                answer = _describe_death(worker)
            if worker.chunk is None:
                if answer is not None:
                    raise GuerdonError(answer)
            else:
                is_error = isinstance(answer, str)
                self.values[worker.chunk] = self.chunks[worker.chunk].failure(answer) if is_error else answer
            worker.is_idle, worker.chunk = True, None


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the block ends.

    A process that is started in it never sees Ctrl-C, which reaches every process of a terminal: the main one ends it.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _describe_death(worker: Worker) -> str:
    worker.process.join(10)
    code = worker.process.exitcode
    cause = f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
    advice = "Repeat the command to resume; if memory ran out, use fewer --workers."
    return f"a worker process died ({cause}). {advice}"


# ---- A worker ----------------------------------------------------------------------------------------------------


def _start_worker(load_model: LoadModel, index: int, num: int) -> Worker:
    context = _process_context()
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, load_model, index, num), daemon=True)
    process.start()
    theirs.close()  # so that either process sees the end of the pipe when the other ends
    return Worker(process, ours)


def _process_context() -> ForkServerContext | SpawnContext:
    """Forks of a server that has imported what takes seconds, or new processes where an accelerator or a system forbids it.

    CUDA does not survive a fork, and an import may have started it; nor do macOS's own libraries.
    """
    if sys.platform != "linux" or torch.cuda.is_available():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _work(pipe: Connection, load_model: LoadModel, index: int, num: int) -> None:
    """Send None once the model is loaded, then scores for each (prompts, responses); an error is sent as text."""
    if sys.platform != "win32":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    threading.Thread(target=_exit_with_the_main_process, daemon=True).start()
    torch.set_num_threads(max(1, torch.get_num_threads() // num))
    with suppress(EOFError, ConnectionError):  # the main process has ended
        try:
            model = load_model(index)
        except GuerdonError as error:
            pipe.send(str(error))
            return
        pipe.send(None)
        while True:
            prompts, responses = pipe.recv()
            try:
                pipe.send(score_texts(model, prompts, responses))
            except GuerdonError as error:
                pipe.send(str(error))


def _exit_with_the_main_process() -> None:
    """Exit even in the middle of a chunk, which may take minutes: a run that resumes needs the memory now."""
    main = multiprocessing.parent_process()
    if main is not None:
        main.join()
        os._exit(1)
