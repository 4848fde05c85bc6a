"""Habits that have hurt other codebases are kept out of this one."""

import ast
import re
from pathlib import Path

import pytest

from tests.repo_shape import tree

# Spelled in pieces, or this file would be the one that breaks its rules.
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
REGISTRIES = re.compile(
    "py" + r"pi\.org|python" + r"hosted\.org|--(extra-)?index-" + "url|--find-" + "links", re.IGNORECASE
)
MACHINE_PATH = re.compile(r"(?<![\w.])/(home|Users|root)/\w+")
HOSTILE_INPUTS = "tests/corpora/*"
"""Attack cases name any path or host they like."""

TESTS = [path for path in tree.modules() if path.name.startswith("test_")]


def test_nothing_is_left_unfinished():
    assert _lines_matching(UNFINISHED) == []


def test_no_file_names_a_registry():
    assert _lines_matching(REGISTRIES) == []


def test_no_file_names_a_path_of_one_machine():
    assert _lines_matching(MACHINE_PATH) == []


def test_no_file_names_the_folder_of_this_checkout():
    assert _lines_matching(re.compile(rf"(?<!\w){re.escape(str(tree.ROOT))}(?!\w)")) == []


def _lines_matching(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path}:{number}: {line.strip()}"
        for path, text in tree.texts()
        if not path.match(HOSTILE_INPUTS)
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]


@pytest.mark.parametrize("path", TESTS, ids=str)
def test_no_test_is_skipped_or_expected_to_fail(path: Path):
    """CI has every real part: what a skip would hide is a defect."""
    names = {"skip", "skipif", "skipUnless", "skipIf", "skipTest", "xfail", "importorskip", "expectedFailure"}
    used = [node for node in ast.walk(tree.tree(path)) if isinstance(node, ast.Attribute) and node.attr in names]
    assert [f"{path}:{node.lineno}: {node.attr}" for node in used if _is_of_a_test_library(node)] == []


def _is_of_a_test_library(node: ast.Attribute) -> bool:
    return ast.unparse(node.value).split(".")[0] in {"pytest", "unittest", "self", "mark"}


def test_no_error_is_swallowed():
    """Catching everything and doing nothing hides defects; `contextlib.suppress` of one error says what is expected."""
    swallowed = [
        f"{path}:{node.lineno}"
        for path in tree.modules()
        for node in ast.walk(tree.tree(path))
        if isinstance(node, ast.ExceptHandler) and _catches_all(node) and _does_nothing(node)
    ]
    assert swallowed == []


def _catches_all(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or ast.unparse(handler.type) in {"Exception", "BaseException"}


def _does_nothing(handler: ast.ExceptHandler) -> bool:
    return all(
        isinstance(node, ast.Pass | ast.Continue)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in handler.body
    )


def test_no_wildcard_import():
    found = [
        f"{path}:{node.lineno}"
        for path in tree.modules()
        for node in ast.walk(tree.tree(path))
        if isinstance(node, ast.ImportFrom) and any(name.name == "*" for name in node.names)
    ]
    assert found == []
