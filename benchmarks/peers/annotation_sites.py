"""Servers on which people judge pairs, started as their own documentation says, and how a program judges a pair on each.

Each site is a process on loopback with a store of its own, its default server and no access log that it can leave out. A
judgment is what its own page sends: Guerdon `claim`, then `judgment` (or `judgment?next=1`, as its page does); Label Studio the
project's next task, then an annotation; Potato `updateinstance`, then the next page, whose HTML holds the pair.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

SECONDS_TO_START: Final = 900.0  # Label Studio creates its tables
SOURCE: Final = Path(__file__).resolve().parents[2] / "src"
Judge = Callable[[], float | None]  # judges one pair; the seconds that its requests took, None where no pair is left


class Connection:
    """A connection that stays open, with its cookies."""

    def __init__(self, port: int, headers: dict[str, str] | None = None) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._headers = dict(headers or {})

    def ask(self, method: str, path: str, body: object = None, form: dict[str, str] | None = None) -> bytes:
        """The body of the response; AssertionError for an error."""
        data, kind = None, {}
        if form is not None:
            data, kind = urlencode(form).encode(), {"Content-Type": "application/x-www-form-urlencoded"}
        elif body is not None:
            data, kind = json.dumps(body).encode(), {"Content-Type": "application/json"}
        self._http.request(method, path, data, {**self._headers, **kind})
        response = self._http.getresponse()
        content = response.read()
        cookies = [value.split(";", 1)[0] for name, value in response.getheaders() if name.lower() == "set-cookie"]
        if cookies:
            self._headers["Cookie"] = "; ".join(cookies)
        assert response.status < 400, f"{method} {path}: {response.status} {content[:300]!r}"
        return content

    def json(self, method: str, path: str, body: object = None) -> Any:
        """The response as JSON."""
        return json.loads(self.ask(method, path, body))


class Site(ABC):
    """A server with so many pairs. `judge` is called for each annotator while it runs."""

    def __init__(self, folder: Path, pairs: int, python: Path) -> None:
        self.folder, self.pairs, self.python = folder, pairs, python
        self.port = free_port()

    @abstractmethod
    def command(self) -> list[str]:
        """What starts the server; files that it reads are written here."""

    def environment(self) -> dict[str, str]:
        """Variables of the server."""
        return {}

    @abstractmethod
    def judge(self, number: int) -> Judge:
        """What judges a pair as the annotator of this number."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """The server, until the end of the block."""
        self.folder.mkdir()
        with (self.folder / "log").open("wb") as log:
            command = self.command()
            env = {**os.environ, **self.environment()}
            process = subprocess.Popen(command, cwd=self.folder, env=env, stdout=log, stderr=log)
            try:
                self.wait(process)
                yield
            finally:
                process.terminate()
                process.wait(timeout=60)

    def wait(self, process: subprocess.Popen[bytes]) -> None:
        """Return when the server answers and has its pairs."""
        end = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < end and process.poll() is None:
            try:
                Connection(self.port).ask("GET", "/health")
            except OSError:
                time.sleep(0.2)
            else:
                return
        raise AssertionError(f"{type(self).__name__} does not start: {(self.folder / 'log').read_text()[-300:]}")


class Guerdon(Site):
    """`guerdon annotation serve`, with an API token for each annotator. `next_with_answer`: as its own page asks."""

    annotators = 30
    next_with_answer = False

    def command(self) -> list[str]:
        """The server of a store that is filled first."""
        from annotation import fill

        from guerdon.annotation.accounts import insert_account
        from guerdon.annotation.tokens import create_token
        from guerdon.store.database import open_database
        from guerdon.store.location import locate

        store = str(self.folder / "annotations.db")
        fill(store, self.pairs)
        with open_database(locate(store)) as database:
            with database.writing() as connection:
                people = [
                    insert_account(connection, f"p{i}", role="annotator", now=1.0) for i in range(self.annotators)
                ]
            self.tokens = [create_token(database, person.id, "benchmark", ["judge"], time.time()) for person in people]
        words = ["annotation", "serve", store, "--no-browser", "--port", str(self.port)]
        return [str(self.python), "-m", "guerdon", *words]

    def environment(self) -> dict[str, str]:
        """This checkout's package."""
        return {"PYTHONPATH": str(SOURCE)}

    def judge(self, number: int) -> Judge:
        """Claim and submit."""
        connection = Connection(self.port, {"Authorization": f"Bearer {self.tokens[number]}"})
        base, held = "/api/v1/projects/p", {}

        def judge() -> float | None:
            claimed = held.pop("next", None)
            start = time.perf_counter()
            if claimed is None:
                claimed = connection.json("POST", f"{base}/claim")
            if "assignment" not in claimed:
                return None
            path = f"{base}/presentations/{claimed['assignment']['presentation']}/judgment"
            answer = connection.json("POST", path + "?next=1" * self.next_with_answer, {"verdict": -2})
            if self.next_with_answer:
                held["next"] = answer["next"]
            return time.perf_counter() - start

        return judge


class GuerdonPage(Guerdon):
    """The same as its own page asks: the receipt of an answer brings the next pair."""

    next_with_answer = True


class LabelStudio(Site):
    """Label Studio's own server with SQLite, one annotator with an API token."""

    token = "0123456789abcdef0123456789abcdef01234567"
    screen = (
        '<View><Text name="q" value="$q"/><Pairwise name="best" toName="a,b"/>'
        '<Text name="a" value="$a"/><Text name="b" value="$b"/></View>'
    )

    def command(self) -> list[str]:
        """`label-studio start`."""
        words = ["--no-browser", "--port", str(self.port), "--internal-host", "127.0.0.1", "--log-level", "ERROR"]
        words += ["--data-dir", str(self.folder / "data"), "--username", "a@example.org", "--password", "benchmark"]
        words += ["--user-token", self.token, "--enable-legacy-api-token"]
        return [str(self.python.with_name("label-studio")), "start", *words]

    def environment(self) -> dict[str, str]:
        """No call to the outside, and tokens as in its API's first version."""
        return {
            "COLLECT_ANALYTICS": "false",
            "LATEST_VERSION_CHECK": "false",
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        }

    def wait(self, process: subprocess.Popen[bytes]) -> None:
        """The server, then a project with all tasks."""
        super().wait(process)
        connection = Connection(self.port, {"Authorization": f"Token {self.token}"})
        project = connection.json("POST", "/api/projects/", {"title": "pairs", "label_config": self.screen})
        self.project = int(project["id"])
        texts = [
            {"q": f"Question {i}", "a": f"The first answer to question {i}.", "b": f"Another answer to question {i}."}
            for i in range(self.pairs)
        ]
        for start in range(0, len(texts), 2000):
            tasks = [{"data": text} for text in texts[start : start + 2000]]
            connection.ask("POST", f"/api/projects/{self.project}/import", tasks)

    def judge(self, number: int) -> Judge:
        """The next task, then an annotation of it."""
        connection = Connection(self.port, {"Authorization": f"Token {self.token}"})
        choice = {"from_name": "best", "to_name": "a,b", "type": "pairwise", "value": {"selected": "left"}}

        def judge() -> float:
            start = time.perf_counter()
            task = connection.json("GET", f"/api/projects/{self.project}/next")
            answer = {"result": [choice], "lead_time": 1.0}
            connection.ask("POST", f"/api/tasks/{task['id']}/annotations/?project={self.project}", answer)
            return time.perf_counter() - start

        return judge


class Potato(Site):
    """Potato's own server, one annotator in a session without password."""

    config = """
annotation_task_name: pairs
task_dir: .
output_annotation_dir: annotations
data_files: [items.jsonl]
item_properties: {id_key: id, text_key: text}
server_name: potato
user_config: {allow_all_users: true, users: []}
require_password: false
assignment_strategy: fixed_order
max_annotations_per_user: 1000000
max_annotations_per_item: 1
annotation_schemes:
  - {annotation_type: pairwise, name: best, description: Which is better, mode: binary, items_key: text}
"""

    def command(self) -> list[str]:
        """`potato start`."""
        (self.folder / "config.yaml").write_text(f"port: {self.port}{self.config}")
        with (self.folder / "items.jsonl").open("w") as file:
            for i in range(self.pairs):
                texts = [f"The first answer to question {i}.", f"Another answer to question {i}."]
                file.write(json.dumps({"id": f"i{i}", "text": texts}) + "\n")
        words = ["start", "config.yaml", "-p", str(self.port), "--host", "127.0.0.1", "--quiet"]
        return [str(self.python.with_name("potato")), *words]

    def judge(self, number: int) -> Judge:
        """Store the answer, then open the next page."""
        connection = Connection(self.port)
        connection.ask("POST", "/auth", form={"email": f"annotator{number}", "pass": ""})
        page = connection.ask("GET", "/annotate")
        held = {"item": _item_of(page)}

        def judge() -> float:
            start = time.perf_counter()
            answer = {"instance_id": held["item"], "annotations": {"best:::A": "A"}}
            receipt = connection.json("POST", "/updateinstance", answer)
            assert receipt["status"] == "success", receipt
            page = connection.ask("POST", "/annotate", {"action": "next_instance", "instance_id": held["item"]})
            before, held["item"] = held["item"], _item_of(page)
            assert held["item"] != before
            return time.perf_counter() - start

        return judge


def _item_of(page: bytes) -> str:
    match = re.search(rb'name="instance_id"[^>]*value="([^"]*)"', page)
    assert match is not None, page[:300]
    return match[1].decode()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
