"""One application for each test, over a copy of one store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs guerdon[annotation]")

from annotation_site import Annotating, annotating


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    with annotating(folder):
        pass
    return folder / "annotations.db"


@pytest.fixture
def site(tmp_path: Path, template: Path) -> Iterator[Annotating]:
    with annotating(tmp_path, template=template) as world:
        yield world
