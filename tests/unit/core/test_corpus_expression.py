"""Every case of the expression corpus, in a process with little memory and time."""

from typing import Any

import pytest

from tests.support import corpora
from tests.unit.core import boxed, hostile

CASES = corpora.load("expression")

MORE_LIMITS = {
    "written out it is a billion numbers": "str([[[0]*1000]*1000]*1000)",
    "comparing it never ends": "[[[0]*1000]*1000]*1000 == [[[0]*1000]*1000]*1000",
    "in an f-string": "f'{[[[0]*1000]*1000]*1000}'",
    "hashing it never ends": "{(((0,)*1000,)*1000,)*1000}",
    "many long texts": "['x' * 1000000] * 1000",
    "an item for each character": "list('\U0001f600' * 1000000)",
    "pairs of characters": "enumerate('x' * 1000000)",
    "loops in loops": "[[y for y in range(9000)] for x in range(9000)]",
    "power of power": "9 ** 9 ** 9",
    "shift": "1 << 100000",
    "a long join": "('x' * 1000000).join(['a', 'b', 'c'])",
    "a growing replace": "('x' * 1000).replace('x', 'y' * 10000)",
    "rounding to a million digits": "round(1.5, 1000000)",
    "nested calls": "abs(" * 40 + "1" + ")" * 40,
    "a chain of nots": "not " * 1000 + "True",
    "infinity": "float('inf')",
}
MORE_REFUSALS = {
    "private attribute": "inputs._secret",
    "method of a method": "'a'.upper.__call__()",
    "format map": "'{a}'.format_map({'a': 1})",
    "a format computed": "f'{1:{2}}'",
    "a lambda": "(lambda: 1)()",
    "yield": "(yield)",
    "await": "(await x)",
    "a bytes constant": "b'x'",
    "a function as a value": "len",
    "a star argument": "max(*[1, 2])",
    "a double star argument": "dict(**{})",
    "an attribute as a loop's name": "[1 for x.y in [1]]",
    "type": "type(1)",
    "getattr": "getattr(inputs, 'a')",
    "ellipsis": "...",
}


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    extra = [
        {"id": text, "kind": "expression", "source": text} for text in (*MORE_LIMITS.values(), *MORE_REFUSALS.values())
    ]
    return boxed.run([*(hostile.boxed(case, "expression") for case in CASES), *extra])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_case_of_the_corpus_ends_as_it_says(case: dict[str, Any], outcomes: dict[str, dict[str, Any]]):
    outcome = outcomes[case["id"]]
    assert hostile.holds(case, outcome), (case["why"], outcome)


@pytest.mark.parametrize("source", MORE_LIMITS.values(), ids=MORE_LIMITS.keys())
def test_what_would_be_too_large_is_a_limit(source: str, outcomes: dict[str, dict[str, Any]]):
    assert outcomes[source]["is"] == "limit", outcomes[source]


@pytest.mark.parametrize("source", MORE_REFUSALS.values(), ids=MORE_REFUSALS.keys())
def test_what_is_not_data_is_refused(source: str, outcomes: dict[str, dict[str, Any]]):
    assert outcomes[source]["is"] == "reject", outcomes[source]
