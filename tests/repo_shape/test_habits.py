"""Habits that have hurt other codebases are kept out of this one."""

import ast
import re
from collections.abc import Iterator
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
    used = [node for node in tree.nodes(path) if isinstance(node, ast.Attribute) and node.attr in names]
    assert [f"{path}:{node.lineno}: {node.attr}" for node in used if _is_of_a_test_library(node)] == []


def _is_of_a_test_library(node: ast.Attribute) -> bool:
    return ast.unparse(node.value).split(".")[0] in {"pytest", "unittest", "self", "mark"}


def test_no_error_is_swallowed():
    """Catching everything and doing nothing hides defects; `contextlib.suppress` of one error says what is expected."""
    swallowed = [
        f"{path}:{node.lineno}"
        for path in tree.modules()
        for node in tree.nodes(path)
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
        for node in tree.nodes(path)
        if isinstance(node, ast.ImportFrom) and any(name.name == "*" for name in node.names)
    ]
    assert found == []


CLOCKS = {"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time", "process_time_ns"}
CLOCKS |= {"thread_time", "thread_time_ns", "time", "time_ns"}
MEASURED_TOO_LATE = """
def elapsed():
    return time.monotonic() - began

assert time.perf_counter() - began < 5
assert 1 <= time.time() - began <= 10
assert 5 > perf_counter() - began
took = round(time.process_time() - began, 1)
assert took < limit, "slow"
assert elapsed() < 2
assert not took >= 5
"""
MEASURED_WELL = """
assert time.monotonic() - began >= 1
assert 1 < time.monotonic() - began
assert len(found) < 5
assert clock.now() < 5
"""


@pytest.mark.parametrize("path", [path for path in tree.modules() if "tests" in path.parts], ids=str)
def test_no_test_asserts_that_something_was_quick(path: Path):
    """A busy machine fails it, and nothing is wrong. What is promised is a count of steps, or that it ends at all."""
    assert [f"{path}:{node.lineno}: {ast.unparse(node.test)}" for node in _upper_bounds_on_time(tree.tree(path))] == []


def test_the_rule_about_quickness_knows_one_when_it_sees_it():
    found = [node.lineno for node in _upper_bounds_on_time(ast.parse(MEASURED_TOO_LATE))]
    assert found == [5, 6, 7, 9, 10, 11]
    assert list(_upper_bounds_on_time(ast.parse(MEASURED_WELL))) == []


def _upper_bounds_on_time(module: ast.Module) -> Iterator[ast.Assert]:
    """Assertions that a clock, or what was computed from one under a name of this module, shows less than something."""
    known = _names_of_times(module)
    for node in ast.walk(module):
        if isinstance(node, ast.Assert):
            denied = {inner for outer in ast.walk(node.test) if _is_not(outer) for inner in ast.walk(outer)}
            for compare in ast.walk(node.test):
                if isinstance(compare, ast.Compare) and _bounds_above(compare, known, compare in denied):
                    yield node
                    break


def _is_not(node: ast.AST) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)


def _names_of_times(module: ast.Module) -> set[str]:
    known: set[str] = set()
    while True:
        found = set(known)
        for node in ast.walk(module):
            if isinstance(node, ast.Assign) and _is_elapsed(node.value, known):
                found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                returned = [inner.value for inner in ast.walk(node) if isinstance(inner, ast.Return) and inner.value]
                found |= {node.name} if any(_is_elapsed(value, known) for value in returned) else set()
        if found == known:
            return known
        known = found


def _is_elapsed(value: ast.expr, known: set[str]) -> bool:
    """A difference that has a clock in it, or something computed from such a one."""
    return any(
        (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) and _shows_time(node, set()))
        or (isinstance(node, ast.Name) and node.id in known)
        for node in ast.walk(value)
    )


def _shows_time(value: ast.expr, known: set[str]) -> bool:
    return any(
        (isinstance(node, ast.Call) and ast.unparse(node.func).removeprefix("time.") in CLOCKS)
        or (isinstance(node, ast.Name) and node.id in known)
        for node in ast.walk(value)
    )


def _bounds_above(compare: ast.Compare, known: set[str], denied: bool) -> bool:
    sides = [compare.left, *compare.comparators]
    for operator, left, right in zip(compare.ops, sides, sides[1:], strict=False):
        less = isinstance(operator, ast.Lt | ast.LtE)
        if less or isinstance(operator, ast.Gt | ast.GtE):
            smaller = left if less != denied else right
            if _shows_time(smaller, known):
                return True
    return False
