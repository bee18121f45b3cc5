"""Stores to test on: a file, and databases of a PostgreSQL server that runs for the tests alone."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from guerdon.api.store import create_store

_NUMBER = itertools.count()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a server; skips with the reason where none can run."""
    from store.postgres import NoServer, server

    try:
        running = server()
        url = running.__enter__()
    except NoServer as reason:
        pytest.skip(str(reason))
    try:
        yield url
    finally:
        running.__exit__(None, None, None)


@pytest.fixture(params=["sqlite", "postgresql"])
def new_location(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., str]:
    """A function that names a database of its own at each call, which holds nothing yet."""

    def on_disk(template: str = "") -> str:
        return str(tmp_path / f"{next(_NUMBER)}.db")

    if request.param == "sqlite":
        return on_disk
    url = request.getfixturevalue("postgres_url")

    def on_server(template: str = "template1") -> str:
        import psycopg

        name = f"test_{next(_NUMBER)}"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return str(url).replace("/postgres?", f"/{name}?")

    return on_server


@pytest.fixture(scope="session")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store to copy."""
    path = tmp_path_factory.mktemp("empty") / "empty.db"
    create_store(path)
    return path


@pytest.fixture(scope="session")
def empty_database(postgres_url: str) -> str:
    """The name of a database with an empty store, to copy."""
    import psycopg

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE empty_store")
    create_store(postgres_url.replace("/postgres?", "/empty_store?"))
    return "empty_store"


@pytest.fixture
def new_store(new_location: Callable[..., str], request: pytest.FixtureRequest, empty_file: Path) -> Callable[[], str]:
    """A function that creates an empty store at each call."""

    def create() -> str:
        if request.node.callspec.params["new_location"] == "sqlite":
            return str(shutil.copy(empty_file, new_location()))
        return str(new_location(request.getfixturevalue("empty_database")))

    return create
