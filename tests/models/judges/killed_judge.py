"""Run as a script: a judge whose process is killed ten times, each time after more results, and then runs to its end.

URL LOG COUNT KILLS: the server, the file of calls, the number of conversations, and how often to kill.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

from guerdon.config.judging import JudgeOptions
from guerdon.contracts import Message
from guerdon.models.judges.calls import Question
from guerdon.models.judges.driver import Conversation, Reading, ask
from guerdon.models.judges.endpoint import EndpointRespondent
from guerdon.models.judges.endpoint.pacing import Backoff
from guerdon.models.judges.readers import VerdictLineReader
from guerdon.store.calls import open_call_log


def conversation(text: str) -> Conversation[Reading]:
    [reading] = yield from ask([Question((Message("user", text),), VerdictLineReader(), max_tokens=64, item=text)], 2)
    return reading


def judge(url: str, path: str, count: int) -> Iterator[tuple[int, Reading]]:
    options = JudgeOptions.model_validate({"model": "tiny", "url": url, "timeout": 5.0})
    with open_call_log(path) as log:
        respondent = EndpointRespondent(options, log, backoff=Backoff(0.001, 0.01))
        yield from respondent.converse(conversation(f"item {i}") for i in range(count))


def run_in_child(url: str, path: str, count: int, results: int | None) -> None:
    """Judge in a process of its own, and kill it after so many results; None lets it end."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        for _ in judge(url, path, count):
            os.write(writer, b".")
        os._exit(0)
    os.close(writer)
    while results is None or results > 0:
        if not os.read(reader, 1):
            break
        results = None if results is None else results - 1
    if results is not None:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(reader)
    assert os.WIFSIGNALED(status) if results is not None else status == 0, status


if __name__ == "__main__":
    url, path, count, kills = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    for kill in range(kills):
        run_in_child(url, path, count, 1 + kill * count // (kills + 1))
    run_in_child(url, path, count, None)
