"""What every test stands on: no network, shapes checked as formulas run, the same random examples every time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # processes that tests start need not compile Guerdon again

# Before the first import of a formula: from here on the shapes in their signatures are executed.
install_import_hook("guerdon.formulas", "beartype.beartype")

TESTS = Path(__file__).parent
# The files that take longest. They start first, so that no process is left alone with one of them when the others have finished.
SLOW = (
    "test_docs.py", "faults/test_writers.py", "test_benchmarks.py", "training/test_processes.py", "store/test_kills.py",
    "annotation/browser/test_judging.py", "optimization/test_processes.py", "optimization/test_run_state.py",
    "optimization/test_remote_rollouts.py", "feedback/test_real_server.py", "cli/test_mistakes.py",
    "optimization/test_known_optimum.py", "training/test_run.py", "annotation/web/test_server.py",
    "annotation/test_invariants.py", "models/directory/test_corrupted_files.py", "models/engine/test_backbone.py",
    "models/judges/test_endpoint.py", "models/engine/test_tree_attention.py", "store/test_merge.py", "test_tiny.py",
)  # fmt: skip

settings.register_profile("guerdon", derandomize=True, deadline=None, database=None)
settings.load_profile("guerdon")
torch.set_num_threads(1)  # models this small wait longer for a second thread than they work
os.environ["OMP_NUM_THREADS"] = "1"  # and so in the processes that tests start


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tiny random causal language model and its tokenizer. Read it; do not write into it."""
    from tiny import save_tiny

    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def desk(tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every file that the documentation's snippets and the examples read. Read it; do not write into it."""
    from snippets import make_desk

    from guerdon import progress

    was_quiet = progress.set_quiet()
    try:
        return make_desk(tmp_path_factory.mktemp("desk"), tiny_dir)
    finally:
        progress.set_quiet(was_quiet)


@pytest.fixture
def here(desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with a desk of its own."""
    import shutil

    from guerdon import progress

    was_quiet = progress.set_quiet()
    shutil.copytree(desk, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    progress.set_quiet(was_quiet)


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the tests are that may be longer."""
    parser.addoption("--kills", type=int, default=2, help="how often the browser is killed while somebody judges")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow files first, and skip what needs an accelerator where there is none."""
    turn = {TESTS / name: number for number, name in enumerate(SLOW)}
    items.sort(key=lambda item: turn.get(item.path, len(turn)))
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs an accelerator"))
