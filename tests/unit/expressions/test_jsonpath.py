"""JSONPath: v1's rule for one match and many, what is refused, what it may cost."""

from typing import Any

import pytest

from pyflow.expressions import jsonpath
from pyflow.expressions.jsonpath import JsonPathError, compile_path, find, find_all

STORE: dict[str, Any] = {"books": [{"t": "a", "p": 8}, {"t": "b", "p": 20}], "open": True, "none": None}


def chain(depth: int) -> list[Any]:
    """A list in a list in a list…: every further `..*` multiplies its matches."""
    data: list[Any] = []
    for _ in range(depth):
        data = [data]
    return data


CHAIN = chain(150)


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as show the bound; all of them take a second each time."""
    monkeypatch.setattr(jsonpath, "MAX_STEPS", 50_000)


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
def test_an_expression_that_multiplies_is_stopped(expression: str, few_steps):
    with pytest.raises(JsonPathError, match="takes"):
        find(expression, CHAIN)


@pytest.mark.parametrize("function", ["sorted", "str()", "len", "path"])
def test_what_reads_a_whole_value_again_and_again_is_stopped(function: str, few_steps):
    numbers = [number * 7919 % 20_000 for number in range(20_000)]
    with pytest.raises(JsonPathError, match="takes"):
        find(f"$.x[*].`parent`.`{function}`", {"x": numbers})


def test_reading_a_whole_value_costs_what_it_is_long(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jsonpath, "MAX_STEPS", 1000)
    assert find("$.x.`sorted`", {"x": [2, 1]}) == [1, 2]
    with pytest.raises(JsonPathError, match="more than 1,000 steps"):
        find("$.x.`sorted`", {"x": [0] * 5000})
    assert len(find("$.x + $.x", {"x": "x" * 10_000})) == 20_000
    with pytest.raises(JsonPathError, match="more than 1,000 steps"):
        find("$.x + $.x", {"x": "x" * 100_000})


def test_the_same_expression_takes_the_same_steps_on_the_same_data(monkeypatch: pytest.MonkeyPatch):
    """No clock has a say: what is allowed here is allowed on a machine that is slower, or busy."""
    monkeypatch.setattr(jsonpath, "MAX_STEPS", 20_006)
    rows = [{"value": {"n": number}} for number in range(4000)]
    assert find("$[*].value.n", rows) == list(range(4000))
    monkeypatch.setattr(jsonpath, "MAX_STEPS", 20_005)
    with pytest.raises(JsonPathError, match="takes"):
        find("$[*].value.n", rows)


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


def test_it_goes_on_serving_after_a_refusal(few_steps):
    with pytest.raises(JsonPathError):
        find("$" + "..*" * 100, CHAIN)
    assert find("$.books[0].t", STORE) == "a"


def test_data_nested_deeply_gives_an_error_of_ours_or_a_result():
    assert find("$..x", chain(70_000)) == []
    with pytest.raises(JsonPathError, match="steps"):
        find("$..x", chain(100_000))


def test_large_data_with_a_plain_path_is_no_problem():
    rows = [{"id": number, "value": {"n": number}} for number in range(20_000)]
    assert find("$[*].value.n", rows) == list(range(20_000))


def test_a_failure_on_the_data_is_an_error_of_ours():
    with pytest.raises(JsonPathError):
        find("$.books[0].t.`split(x, y, z)`", STORE)


def test_an_expression_is_parsed_once():
    assert compile_path("$.books[*].p") is compile_path("$.books[*].p")
