"""Every operation of the API has a test file that names it, hides other tenants' objects and counts its queries."""

import ast
from pathlib import Path

import pytest

from tests.repo_shape import tree
from tests.support.operations import operations


def _operations_of(path: Path) -> tuple[str, ...]:
    """What a file names as its ``OPERATION``, or as ``OPERATIONS`` where several have the same shape."""
    for node in tree.tree(path).body:
        if isinstance(node, ast.Assign) and (name := ast.unparse(node.targets[0])) in {"OPERATION", "OPERATIONS"}:
            named = ast.literal_eval(node.value)
            return (named,) if name == "OPERATION" else named
    return ()


def _tests_of(path: Path) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in tree.tree(path).body if isinstance(node, ast.FunctionDef)}


FILES = {
    operation: path
    for path in tree.modules("tests")
    if path.is_relative_to("tests/api")
    for operation in _operations_of(path)
}


def test_every_operation_has_a_test_file_and_every_file_an_operation():
    assert FILES.keys() == operations().keys()


@pytest.mark.parametrize("operation", FILES)
def test_an_operation_that_needs_a_key_is_tested_with_another_tenants_object(operation: str):
    tests = _tests_of(FILES[operation])
    if not operations()[operation].is_open:
        assert {"test_it_hides_other_tenants", "test_it_needs_a_key"} <= tests.keys()


@pytest.mark.parametrize("operation", FILES)
def test_the_queries_of_an_operation_are_pinned(operation: str):
    arguments = {argument.arg for test in _tests_of(FILES[operation]).values() for argument in test.args.args}
    assert "django_assert_num_queries" in arguments
