"""Rows are locked so that others may insert rows which refer to them (see ``plumbing.database.transactions``)."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.repo_shape import tree

#: Functions that lock in the plain form, and why: the row is going to be deleted.
DELETIONS = {
    "workflows/services.py: delete_workflow": "starts of the workflow are not committed any more while it is deleted",
}
PLAIN_SQL = re.compile(r"(?<!NO KEY )\bFOR\s+UPDATE\b")
#: Prepared where it is written, so that this file does not break its own rule.
PLAIN = '''
def lock(rows):
    """Lock ``FOR UPDATE``."""
    rows.select_for_update().get()
    rows.select_for_update(skip_locked=True, no_key=False)
    return "SELECT FOR UPDATE SKIP LOCKED"
'''
WEAK = """
def lock(rows):
    rows.select_for_update(no_key=True)
    return "SELECT FOR NO KEY UPDATE"
"""


def _plain_locks(module: ast.Module) -> Iterator[str]:
    """The functions of a module that lock in the plain form, once for each lock."""
    for function in ast.walk(module):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if _is_plain(node, ast.get_docstring(function, clean=False)):
                    yield function.name


def _is_plain(node: ast.AST, docstring: str | None) -> bool:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value != docstring and PLAIN_SQL.search(node.value) is not None
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    weak = any(word.arg == "no_key" and ast.unparse(word.value) == "True" for word in node.keywords)
    return node.func.attr == "select_for_update" and not weak


@pytest.mark.parametrize("path", tree.product_modules(), ids=str)
def test_only_deletions_lock_in_the_plain_form(path: Path):
    found = {f"{path}: {name}" for name in _plain_locks(tree.tree(path))}
    in_statements = [
        f"{path}:{node.lineno}"
        for statement in tree.tree(path).body
        if not isinstance(statement, ast.FunctionDef | ast.ClassDef)
        for node in ast.walk(statement)
        if isinstance(node, ast.Constant) and _is_plain(node, None)
    ]
    assert found - DELETIONS.keys() == set(), "give no_key=True, or a reason here"
    assert in_statements == [], "FOR NO KEY UPDATE"


def test_every_reason_is_needed():
    found = {f"{path}: {name}" for path in tree.product_modules() for name in _plain_locks(tree.tree(path))}
    assert found == DELETIONS.keys()


def test_the_rule_knows_a_plain_lock_when_it_sees_it():
    assert list(_plain_locks(ast.parse(PLAIN))) == ["lock", "lock", "lock"]
    assert list(_plain_locks(ast.parse(WEAK))) == []
