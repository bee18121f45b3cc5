"""The house rules that linters do not know: short files, short functions, names that say what they hold.

Layers and cycles are import-linter's, spelling is codespell's; both run in `make lint`.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
NAMES = [str(path.relative_to(ROOT / "src")) for path in SOURCES]
LONGEST_FILE = 500  # lines
LONGEST_FUNCTION = 80  # lines, the docstring not counted
MOST_ARGUMENTS = 10  # parameters of a function that is not a command; a command's are its options

# Words that say nothing of what a name holds, or that name an idea by a word of our own instead of the field's.
VAGUE = {"found", "made", "said", "lot", "luck", "asked", "told", "thing", "stuff"}
NOT_THE_TERM = {
    "company": "batch_invariance",
    "trunk": "backbone",
    "shelf": "a padded batch of KV caches",
    "glance": "prefill",
    "mend": "repair",
    "doubt": "uncertainty",
}


@functools.cache
def trees() -> list[tuple[str, ast.Module]]:
    return [(name, ast.parse(path.read_text("utf-8"))) for name, path in zip(NAMES, SOURCES, strict=True)]


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, without the docstring."""
    first = function.body[0]
    is_docstring = ast.get_docstring(function) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if is_docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def defined_names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Every name that a file defines: functions, classes, parameters, variables, attributes, imports under another name."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name, node.lineno
            case ast.arg():
                yield node.arg, node.lineno
            case ast.Name(ctx=ast.Store()):
                yield node.id, node.lineno
            case ast.Attribute(ctx=ast.Store()):
                yield node.attr, node.lineno
            case ast.alias(asname=str() as alias):
                yield alias, node.lineno


def words(name: str) -> list[str]:
    """The words of a name: snake_case and CamelCase apart, in lower case."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def test_no_file_is_longer_than_one_can_keep_in_mind():
    lengths = {name: len(path.read_text("utf-8").splitlines()) for name, path in zip(NAMES, SOURCES, strict=True)}
    assert {name: num for name, num in lengths.items() if num > LONGEST_FILE} == {}


def test_no_function_is_longer_than_a_screen_or_two():
    long = {
        f"{name}:{function.lineno} {function.name}": length(function)
        for name, tree in trees()
        for function in functions(tree)
        if length(function) > LONGEST_FUNCTION
    }
    assert long == {}


def test_no_function_takes_more_arguments_than_one_can_name():
    crowded = {
        f"{name}:{function.lineno} {function.name}": len(function.args.args)
        for name, tree in trees()
        if not name.startswith("guerdon/cli/")
        for function in functions(tree)
        if len(function.args.args) > MOST_ARGUMENTS
    }
    assert crowded == {}


def test_names_use_the_terms_of_the_field():
    wrong = [
        f"{name}:{line} {identifier}: use {NOT_THE_TERM[word]}"
        for name, tree in trees()
        for identifier, line in defined_names(tree)
        for word in words(identifier)
        if word in NOT_THE_TERM
    ]
    assert wrong == []


def test_names_say_what_they_hold():
    vague = [
        f"{name}:{line} {identifier}"
        for name, tree in trees()
        for identifier, line in defined_names(tree)
        if VAGUE & set(words(identifier))
    ]
    assert vague == []


@pytest.mark.parametrize("name", NAMES)
def test_every_file_says_first_what_it_is_for(name):
    docstring = ast.get_docstring(dict(trees())[name])
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":", "?"))


def test_the_check_of_names_can_fail():
    tree = ast.parse("def measure(asked): made_of = 1; self.verdict = 2\nimport numpy as company")
    assert {name for name, _ in defined_names(tree)} == {"measure", "asked", "made_of", "verdict", "company"}
    assert words("KVCache") == ["kv", "cache"] or words("KVCache") == ["kvcache"]
    assert words("_refuse_other_Verdict") == ["refuse", "other", "verdict"]


COUNT = re.compile(r"(self\.)?(num_\w+|len\(.*\)|count|shared|repeated|more|\w+\.n|.*\.size|.*\.sum\(\))")
PLURAL = re.compile(r" (that )?(\w+ ){0,2}(are|were|have|do|differ|prefer)\b")


def test_no_text_has_a_plural_verb_after_a_number_that_may_be_one():
    texts = [
        f"{name}:{number.lineno}: {{{ast.unparse(number.value)}}}{after.value}"
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for number, after in zip(node.values, node.values[1:], strict=False)
        if isinstance(number, ast.FormattedValue) and COUNT.fullmatch(ast.unparse(number.value))
        if isinstance(after, ast.Constant) and PLURAL.match(str(after.value))
    ]
    near_duplicates = "groups have near-duplicate prompts"  # two groups at least, or there is no cluster
    assert [text for text in texts if near_duplicates not in text] == []
