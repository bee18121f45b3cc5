"""A provider of batches that answers each request by a script, and loses connections or expires when a test says so."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Script = Callable[[dict[str, Any]], tuple[int, dict[str, Any]] | None]
"""From a request's body to the status and body of its response; None where the batch does not get to it."""


class BatchProvider(ThreadingHTTPServer):
    """Files and batches in memory; use it in a `with` statement. A batch ends when it is looked at for the second time.

    status: in which batches end. drops: how many accepted batches are not confirmed: the connection breaks instead.
    """

    daemon_threads = True

    def __init__(self, script: Script, status: str = "completed", drops: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script, self.status, self.drops = script, status, drops
        self.stored: dict[str, str] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.asked = 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> BatchProvider:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that breaks is part of the tests."""

    def store(self, text: str) -> dict[str, str]:
        name = f"file-{len(self.stored)}"
        self.stored[name] = text
        return {"id": name}

    def look(self, name: str) -> dict[str, Any]:
        """The state of a batch; the second look ends it."""
        batch = self.batches[name]
        batch["looks"] += 1
        if batch["looks"] == 2:
            rows = []
            for line in self.stored[batch["input_file_id"]].splitlines():
                request = json.loads(line)
                self.asked += 1
                answer = self.script(request["body"])
                if answer is not None:
                    response = {"status_code": answer[0], "body": answer[1]}
                    rows.append({"custom_id": request["custom_id"], "response": response, "error": None})
            good, bad = ([row for row in rows if (row["response"]["status_code"] == 200) is ok] for ok in (True, False))
            batch["output_file_id"] = self.store("".join(json.dumps(row) + "\n" for row in reversed(good)))["id"]
            batch["error_file_id"] = self.store("".join(json.dumps(row) + "\n" for row in bad))["id"]
            batch["request_counts"] = {"completed": len(good)}
            batch["status"] = self.status
        return batch


class _Handler(BaseHTTPRequestHandler):
    server: BatchProvider

    def do_GET(self) -> None:
        path = self.path.removeprefix("/v1/")
        if match := re.fullmatch(r"files/([\w-]+)/content", path):
            self.send(self.server.stored[match[1]].encode())
        elif match := re.fullmatch(r"batches/([\w-]+)", path):
            self.send(json.dumps(self.server.look(match[1])).encode())
        else:
            self.send(json.dumps({"data": list(self.server.batches.values()), "has_more": False}).encode())

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/files":
            text = content.split(b"\r\n\r\n")[-1].rsplit(b"\r\n--", 1)[0].decode()
            self.send(json.dumps(self.server.store(text)).encode())
            return
        name = f"batch-{len(self.server.batches)}"
        self.server.batches[name] = {"id": name, "status": "in_progress", "looks": 0, **json.loads(content)}
        if len(self.server.batches) <= self.server.drops:
            self.close_connection = True
            return
        self.send(json.dumps(self.server.batches[name]).encode())

    def send(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass
