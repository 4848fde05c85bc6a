"""Modules are nouns of the field, small, documented, and placed in the layers."""

import ast
import configparser
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.repo_shape import tree

DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc"}
MOST_LINES = 600
IN_NO_LAYER = {"tests", "benchmarks", "examples", "docs"}
"""Top-level packages that nobody imports."""

# The code that others program against: SDK, client, test support, node types and ports.
PUBLIC = [
    path
    for path in tree.product_modules()
    if path.is_relative_to("packages")
    or path.is_relative_to("pyflow/testing")
    or path.is_relative_to("pyflow/nodes")
    or path.name == "ports.py"
]


def test_no_module_is_a_drawer():
    assert [path for path in tree.files() if {path.stem, *path.parent.parts} & DRAWERS] == []


def test_no_module_is_a_god():
    lines = {str(path): len((tree.ROOT / path).read_text().splitlines()) for path in tree.product_modules()}
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}


@pytest.mark.parametrize("path", PUBLIC, ids=str)
def test_everything_public_says_what_it_does(path: Path):
    assert list(_undocumented(tree.tree(path))) == []


def _undocumented(module: ast.Module):
    if module.body and ast.get_docstring(module) is None:
        yield "the module"
    for node in module.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            overload = any(isinstance(mark, ast.Name) and mark.id == "overload" for mark in node.decorator_list)
            if not node.name.startswith("_") and not overload and ast.get_docstring(node) is None:
                yield f"{node.name} (line {node.lineno})"


EMPTY = """
def f():
    'See the class.'

def start_run():
    'Start the run.'

class RunQueue:
    'The run queue.'

def check(value):
    'Check that the value is valid.'
"""


def test_no_docstring_says_nothing():
    """One that refers elsewhere, or repeats the name, is longer than none and says no more."""
    found = [
        f"{path}:{node.lineno}: {text}"
        for path in tree.product_modules()
        for node, text in _empty_docstrings(tree.tree(path))
    ]
    assert found == []


def test_the_rule_about_docstrings_knows_an_empty_one():
    assert [node.name for node, _ in _empty_docstrings(ast.parse(EMPTY))] == ["f", "start_run", "RunQueue"]


def _empty_docstrings(
    module: ast.Module,
) -> Iterator[tuple[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, str]]:
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node) or ""
            if text and (text.startswith("See ") or _words(text) == _words(node.name)):
                yield node, text


def _words(text: str) -> list[str]:
    """The words of a name or a sentence, without articles, in lower case."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", text)
    return [word for word in re.findall(r"[a-z0-9]+", spaced.lower()) if word not in {"a", "an", "the"}]


def test_every_top_level_package_is_in_the_layers():
    contracts = configparser.ConfigParser()
    contracts.read(tree.ROOT / ".importlinter")
    layered = set(contracts["importlinter"]["root_packages"].split())
    inits = [path.parent for path in tree.files() if path.name == "__init__.py"]
    ours = {path.name for path in inits if len(path.parts) == 1 or path.match("packages/*/src/*")}
    assert ours - IN_NO_LAYER == layered


def test_every_app_is_in_the_layers_of_apps():
    contracts = configparser.ConfigParser()
    contracts.read(tree.ROOT / ".importlinter")
    apps = {path.parent.name for path in tree.files() if path.name == "apps.py" and len(path.parts) == 2}
    layered = {
        name.removeprefix("importlinter:contract:").removesuffix("_rooms") for name in contracts if "_rooms" in name
    }
    assert apps - {"pyflow_site"} == layered - {"engine", "plumbing"}
