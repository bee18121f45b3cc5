"""The documentation is run: snippets execute and print what they say, commands and options exist, generated pages are current."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import shlex
from pathlib import Path

import pytest
from snippets import blocks, commands, with_tiny_models
from typer.main import get_command
from typer.testing import CliRunner

import guerdon
import guerdon.contracts
from guerdon.cli.app import app
from guerdon.config import Config, build, known_keys
from guerdon.recipes import RECIPES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
WITH_PYTHON = [n for n, page in zip(NAMES, PAGES, strict=True) if any(b.language == "python" for b in blocks(page))]
WITH_COMMANDS = [n for n, page in zip(NAMES, PAGES, strict=True) if any(b.language == "bash" for b in blocks(page))]
SMALL = "optimize.updates=2 optimize.max_tokens=4 optimize.check_every=1"
SMALL_POOL = "--n 4 best_of_n.max_tokens=4"
NEED_A_WRITER = ("rubric audit", "rubric draft")  # tests/feedback/rubric runs them with a model that answers in words
SERVE = (
    "annotate",
    "annotation serve",
    "serve",
    "watch",
)  # until Ctrl-C; tests/annotation/web/test_server.py and tests/serving run them
# These need people who have judged; tests/cli/test_annotation_results.py runs them.
NEED_PEOPLE = ("annotation labels", "annotation adjudicate")
LONG = ("loop",)  # three rounds of everything; tests/api/test_loop.py runs it
ELSEWHERE = ("hub", "minutes")  # words of the comment behind a command that needs a network or patience


@pytest.mark.parametrize("name", WITH_PYTHON)
def test_the_snippets_of_a_page_run_in_order_and_print_what_it_says(name, here, tiny_dir):
    namespace = {"__name__": "__snippet__"}
    printed = ""
    for block in blocks(ROOT / name):
        if block.language == "python":
            source = "\n" * (block.line - 1) + with_tiny_models(block.text, tiny_dir)
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(source, str(ROOT / name), "exec", dont_inherit=True), namespace)
            printed = out.getvalue()
        elif block.language == "output":
            assert printed == block.text, f"{name}:{block.line}: the snippet above prints something else"


@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_the_commands_of_a_page_exist_with_their_options(name):
    group = get_command(app)
    for block in (b for b in blocks(ROOT / name) if b.language == "bash"):
        for command, _ in commands(block):
            words = [word for word in shlex.split(command) if word not in ("--quiet", "-q")]
            known = next((n for n in (" ".join(words[:2]), words[0]) if n in group.commands), None)
            assert known or words[0].startswith("--"), f"{name}:{block.line}: guerdon {command}"
            if known and "--help" not in words:
                given = group.commands[known].make_context(known, words[len(known.split()) :]).params
                build(overrides=given.get("overrides") or [])
                assert given.get("recipe") in (None, *RECIPES), f"{name}:{block.line}: --recipe {given['recipe']}"


@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_the_commands_of_a_page_run_in_order(name, here, tiny_dir):
    (here / "tiny-model").symlink_to(tiny_dir)  # a policy's draws depend on its name, so it has the same in every run
    for block in (b for b in blocks(ROOT / name) if b.language == "bash"):
        for command, comment in commands(block):
            local = with_tiny_models(command, Path("tiny-model"))
            starter = command.startswith("quickstart") and local == command
            is_run_elsewhere = command.startswith((*NEED_A_WRITER, *SERVE, *NEED_PEOPLE, *LONG))
            if starter or is_run_elsewhere or any(word in comment for word in ELSEWHERE):
                continue
            is_pool = command.startswith("optimize best-of-n")
            small = SMALL_POOL if is_pool else SMALL if command.startswith("optimize") else ""
            done = CliRunner().invoke(app, shlex.split(f"{local} {small}"))
            problem = done.exception if done.exit_code != 1 or done.exception else None
            assert done.exit_code == 0, f"{name}:{block.line}: guerdon {command}: {done.output} {problem!r}"


@pytest.mark.parametrize("name", NAMES)
def test_the_options_that_a_page_names_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    known = {key for key, _ in known_keys()}
    stages = "|".join(Config.model_fields)
    named = set(re.findall(rf"`((?:{stages})\.[a-z_]+)(?:=[^`]*)?`", text)) | set(
        re.findall(rf"\b((?:{stages})\.[a-z_]+)=", text)
    )
    named -= {"judge.yaml", "annotation.yaml"}  # files
    assert named <= known | METHODS, f"{name}: {sorted(named - known - METHODS)}"
    flags = {opt for command in get_command(app).commands.values() for p in command.params for opt in p.opts}
    flags |= {"--help", "--version", "--quiet"}
    mentioned = set(re.findall(r"`(--[a-z][a-z-]+)", text))
    assert mentioned <= flags, f"{name}: {sorted(mentioned - flags)}"


METHODS = {"model.score", "score.weight", "model.safetensors"}  # written like options, and none


@pytest.mark.parametrize("name", NAMES)
def test_the_links_of_a_page_lead_somewhere(name):
    page = ROOT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{name}: {target}"
        if anchor:
            assert anchor in _anchors(found), f"{name}: {target}"


def test_the_tests_that_a_page_names_exist():
    files = sorted((ROOT / "tests").rglob("*.py"))
    functions = {name for file in files for name in re.findall(r"def (test_\w+)", file.read_text(encoding="utf-8"))}
    checked = 0
    for page in (*PAGES, ROOT / "CONTRIBUTING.md"):
        for span in re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8")):
            for path in re.findall(r"\btests/[\w/*.-]+\.\w+", span):
                assert any(ROOT.glob(path)), f"{page.name}: {path}"
                checked += 1
            if re.fullmatch(r"test_\w+", span):
                assert span in functions, f"{page.name}: {span}"
                checked += 1
    assert checked > 40


def test_the_tests_of_a_row_are_in_the_file_that_it_names():
    rows = re.findall(
        r"`(tests/[\w/]+\.py)`: ((?:`test_\w+`(?:, )?)+)", (ROOT / "docs" / "ppo.md").read_text(encoding="utf-8")
    )
    for path, names in rows:
        for name in re.findall(r"test_\w+", names):
            assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"docs/ppo.md: {path}: {name}"
    assert len(rows) > 30


def test_the_generated_pages_are_current():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for page, text in generate.pages().items():
        assert (ROOT / "docs" / page).read_text(encoding="utf-8") == text, f"docs/{page}: run make docs"


def test_every_command_is_told_in_a_line_and_shows_an_example():
    for name, command in get_command(app).commands.items():
        first, *rest = command.help.split("\n\n")
        assert len(first) <= 60, f"guerdon {name}: {first}"
        assert any(paragraph.strip().startswith(f"Example: guerdon {name} ") for paragraph in rest), f"guerdon {name}"


def _anchors(page: Path) -> set[str]:
    """GitHub's anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def test_the_python_reference_has_every_public_name_and_no_other():
    def listed(page):
        return re.findall(r"^::: (\S+)", (ROOT / "docs/reference" / page).read_text("utf-8"), re.MULTILINE)

    assert listed("contracts.md") == ["guerdon.contracts"], "all of them, on a page of their own"
    public = set(guerdon.__all__) - {"__version__", *guerdon.contracts.__all__}
    assert sorted(name.rpartition(".")[2] for name in listed("api.md")) == sorted(public)
