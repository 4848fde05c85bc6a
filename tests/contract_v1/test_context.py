"""`pyflow.core.context.ExecutionContext`, as v1 users know it."""

import pytest

from pyflow.core.context import ExecutionContext


@pytest.fixture
def context() -> ExecutionContext:
    return ExecutionContext(workflow_name="flow", run_id="r1")


def test_it_carries_its_names(context: ExecutionContext):
    assert (context.workflow_name, context.run_id) == ("flow", "r1")


def test_a_result_is_kept_as_it_is(context: ExecutionContext):
    result = {"x": [1]}
    context.set_result("a", result)
    assert context.get_result("a") is result
    assert context.has_result("a")


@pytest.mark.parametrize("result", [None, 0, "", [], False])
def test_an_empty_result_is_a_result(context: ExecutionContext, result: object):
    context.set_result("a", result)
    assert context.has_result("a")
    assert context.get_result("a") == result


def test_a_missing_result_is_a_key_error(context: ExecutionContext):
    assert not context.has_result("a")
    with pytest.raises(KeyError, match="a"):
        context.get_result("a")


def test_all_results_is_a_copy(context: ExecutionContext):
    context.set_result("a", 1)
    context.all_results()["b"] = 2
    assert context.all_results() == {"a": 1}


def test_a_later_result_replaces_the_earlier(context: ExecutionContext):
    context.set_result("a", 1)
    context.set_result("a", 2)
    assert context.all_results() == {"a": 2}


@pytest.mark.parametrize("error", [ValueError("bad"), "bad"])
def test_an_error_is_kept_as_text_and_is_no_result(context: ExecutionContext, error: Exception | str):
    context.set_error("a", error)
    assert context.has_error("a")
    assert context.get_error("a") == "bad"
    assert not context.has_result("a")
    assert "a" not in context.all_results()


def test_there_is_no_error_where_none_was_set(context: ExecutionContext):
    assert not context.has_error("a")
    assert context.get_error("a") is None
