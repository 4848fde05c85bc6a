"""Modules are nouns of the field, small, documented, and placed in the layers."""

import ast
import configparser
from pathlib import Path

import pytest

from tests.repo_shape import tree

DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc"}
MOST_LINES = 600
IN_NO_LAYER = {"tests", "benchmarks", "examples", "docs"}
"""Top-level packages that nobody imports."""

# The code that others program against.
PUBLIC = [path for path in tree.product_modules() if path.parts[0] in {"pyflow", "packages"}]


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
    layered = "importlinter:contract:app", "importlinter:contract:runs_rooms"
    assert apps - {"pyflow_site"} == {app for name in layered for app in contracts[name]["containers"].split()}
