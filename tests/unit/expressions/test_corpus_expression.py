"""Every case of the expression corpus, in a process with little memory and time."""

import json
from typing import Any

import pytest

from tests.support import corpora
from tests.unit.expressions import boxed, hostile

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
    "a power from the right": "9**9**9**9",
    "an int one bit too large": "2**256",
    "a shift of a shift": "(1 << 255) << 1",
    "a range that is only counted": "len(range(10**15))",
    "a look into a long range": "10**12 in range(10**13)",
    "digits in base 16": "int('f'*200, 16)",
    "a text of texts": "'a'.replace('a', 'b'*10**6).replace('b', 'c'*10**6)",
    "a mapping of many": "{x: x for x in range(100000)}",
    "not a number, by subtraction": "1e308*10 - 1e308*10",
    "signs": "-" * 3000 + "1",
    "a chain of fields": "a." * 2000 + "a",
    "a chain of items": "a" + "[0]" * 1300,
    "choices in choices": "1 if 1 else " * 300 + "1",
    "a long number": "9" * 4000,
    "blanks": " " * 5000,
    "nots in a clause": "[x for x in " + "not " * 900 + "1]",
    "sums in a clause": "[x for x in " + "1+" * 1500 + "1]",
    "fields in a condition": "[x for x in [1] if a" + ".b" * 1500 + "]",
    "fields in a keyword": "max([1], default=a" + ".b" * 1500 + ")",
    "many comparisons": "["
    + " and ".join(["a==b"] * 400)
    + " for a in [[[1000]*1000]*2000] for b in [[[1000]*1000]*2000]]",
    "views of views": "str([{'a':x,'b':x,'c':x,'d':x}.values() for x in " * 14 + "[1]" + "])" * 14,
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
    "a complex number": "1j",
    "matrix multiplication": "[[1]] @ [[1]]",
    "two expressions": "1\n2",
    "a NUL character": "1\0",
    "half a character": "'\ud800'",
    "a byte order mark": "\ufeff1",
    "nothing but a comment": "# comment",
    "an f-string that calls": "f'{open(1)}'",
    "an f-string with a class": "f'{inputs.__class__}'",
    "letters that fold to ASCII": "\uff47lobals()",
    "superscripts that fold to ASCII": "inputs.__\u1d9c\u02e1\u1d43\u02e2\u02e2__",
    "low lines that fold to ASCII": "inputs.\uff3f\uff3fclass\uff3f\uff3f",
    "a function as a key": "sorted([1], key=len)",
    "a default that calls": "min([], default=__import__('os'))",
    "a type that is none of ours": "isinstance(1, object)",
    "a sum of lists": "sum([[1], [2]], [])",
    "a step of zero": "range(1, 10, 0)",
    "a template": "{{ 1 }}",
    "a method that mutates": "[3, 1].sort()",
    "a class method": "int.from_bytes('a', 'big')",
    "padding": "'a'.center(9)",
    "a wide format": "f'{1:>1000000000}'",
}


@pytest.fixture(scope="module", params=["expression", "expression 2"])
def outcomes(request) -> dict[str, dict[str, Any]]:
    """Return the outcome of every case in the language of version 1, and in that of version 2."""
    texts = [*MORE_LIMITS.values(), *MORE_REFUSALS.values()]
    extra = [{"id": text, "kind": request.param, "source": text} for text in texts]
    cases = [case for case in corpora.load("expression") if corpora.is_text(case)]
    return boxed.run([*(hostile.as_boxed(case, request.param) for case in cases), *extra])


@corpora.each("expression")
def test_a_case_of_the_corpus_ends_as_it_says(case: corpora.Case, outcomes: dict[str, dict[str, Any]]):
    outcome = hostile.outcome(case, outcomes)
    assert hostile.holds(case, outcome), (case["why"], outcome)


@pytest.mark.parametrize("source", MORE_LIMITS.values(), ids=MORE_LIMITS.keys())
def test_what_would_be_too_large_is_a_limit(source: str, outcomes: dict[str, dict[str, Any]]):
    assert outcomes[source]["is"] == "limit", outcomes[source]


@pytest.mark.parametrize("source", MORE_REFUSALS.values(), ids=MORE_REFUSALS.keys())
def test_what_is_not_data_is_refused(source: str, outcomes: dict[str, dict[str, Any]]):
    assert outcomes[source]["is"] == "reject", outcomes[source]


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("(x for x in [1])", [1]),
        ("inputs.get", 7),
        ("inputs.keys", "mine"),
        ("round(2.675, 2)", 2.67),
        ("2 ** 255 > 0", True),
        ("9007199254740993", 9007199254740993),
        ("'1' == 1", False),
        ("1, 2", [1, 2]),
        ("[" * 32 + "]" * 32, json.loads("[" * 32 + "]" * 32)),
        ("1 < 2 < 3  # in order", True),
    ],
)
@pytest.mark.parametrize("kind", ["expression", "expression 2"])
def test_what_people_write_still_works(source: str, value: Any, kind: str):
    context = {"inputs": {"get": 7, "keys": "mine"}}
    outcome = boxed.run([{"id": "x", "kind": kind, "source": source, "context": context}])["x"]
    assert outcome == {"is": "value", "value": value, "detail": outcome["detail"]}
