"""JSONPath: v1's rule for one match and many, what is refused, what it may cost."""

import contextlib
from typing import Any

import pytest

from pyflow.core.jsonpath import JsonPathError, compile_path, find, find_all

STORE: dict[str, Any] = {"books": [{"t": "a", "p": 8}, {"t": "b", "p": 20}], "open": True, "none": None}


def chain(depth: int) -> list[Any]:
    """A list in a list in a list…: every further `..*` multiplies its matches."""
    data: list[Any] = []
    for _ in range(depth):
        data = [data]
    return data


CHAIN = chain(150)


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("$.books[*].t", ["a", "b"]),
        ("$.books[0].p", 8),
        ("books[-1].t", "b"),
        ("$['books'][0]['t']", "a"),
        ("$..p", [8, 20]),
        ("$.books[0:1].t", "a"),
        ("$.books[?(@.p > 10)].t", "b"),
        ("$.books[?(@.p > 1 && @.t == 'a')].p", 8),
        ("$.books.`len`", 2),
        ("$.nothing", []),
        ("$.none", None),
        ("$.books", STORE["books"]),
        ("$", STORE),
    ],
)
def test_one_match_is_its_value_and_others_a_list(expression: str, found: object):
    assert find(expression, STORE) == found


def test_all_matches_are_a_list_always():
    assert find_all("$.books[0].p", STORE) == [8]


@pytest.mark.parametrize(
    "expression", ["", "  ", "[[[", "$.", "$[", "$." + "a" * 4096, "(" * 2000, None, 5, "$.a.`nope()`"]
)
def test_what_is_no_jsonpath_is_refused(expression: Any):
    with pytest.raises(JsonPathError):
        find(expression, STORE)


@pytest.mark.parametrize(
    "expression",
    ["$.books[?(@.t =~ '(a+)+$')]", "$.books[?(@.p > 1 & @.t =~ 'a')]", "$.books[*].t.`sub(/(a+)+$/, x)`",
     "$.books[?(@.x[?(@.y =~ 'a')])]"],
)  # fmt: skip
def test_regular_expressions_are_refused(expression: str):
    with pytest.raises(JsonPathError):
        find(expression, STORE)


@pytest.mark.parametrize("expression", ["$..*..*..*..*", "$..[*]..[*]..[*]", "$" + "..*" * 100])
def test_an_expression_that_multiplies_is_stopped(expression: str):
    with pytest.raises(JsonPathError, match="takes"):
        find(expression, CHAIN)


@pytest.mark.parametrize(
    "expression",
    ["$.t * 1000000000", "1000000000 * $.t", "$.l * 99999999", "$.n" + " * $.n" * 20, "$.long" + " + $.long" * 3],
)
def test_arithmetic_makes_no_giants(expression: str):
    with pytest.raises(JsonPathError, match="makes"):
        find(expression, {"t": "xxxx", "l": [1], "n": 2**400, "long": "x" * 600_000})


def test_ordinary_arithmetic_works():
    assert find("$.a * $.b", {"a": 6, "b": 7}) == 42
    assert find("$.a + $.b", {"a": "x", "b": "y"}) == "xy"


def test_it_goes_on_serving_after_a_refusal():
    with pytest.raises(JsonPathError):
        find("$" + "..*" * 100, CHAIN)
    assert find("$.books[0].t", STORE) == "a"


def test_data_nested_deeply_gives_an_error_of_ours_or_a_result():
    with contextlib.suppress(JsonPathError):
        assert find("$..x", chain(100_000)) == []


def test_large_data_with_a_plain_path_is_no_problem():
    rows = [{"id": number, "value": {"n": number}} for number in range(20_000)]
    assert find("$[*].value.n", rows) == list(range(20_000))


def test_a_failure_on_the_data_is_an_error_of_ours():
    with pytest.raises(JsonPathError):
        find("$.books[0].t.`split(x, y, z)`", STORE)


def test_an_expression_is_parsed_once():
    assert compile_path("$.books[*].p") is compile_path("$.books[*].p")
