"""A string that is exactly one expression keeps the value, and all of the expression counts."""

from typing import Any

import pytest

from pyflow.expressions.template import compile_template

SCOPE: dict[str, Any] = {"x": 12.5, "input": {"amount": 12.5}, "text": " a ", "flags": [True]}


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("{{ -input.amount }}", -12.5),
        ("{{ -1 }}", -1),
        ("{{ -(x) }}", -12.5),
        ("{{ -x + 2 }}", -10.5),
        ("{{ +x }}", 12.5),
        ("{{ - x }}", -12.5),
        ("{{- x -}}", 12.5),
        ("{{- -x -}}", -12.5),
        ("{{--1-}}", -1),
        ("{{-1}}", 1),  # Jinja2 takes a sign right behind the braces for a mark of white space
        ("{{+1}}", 1),
        ("{{ x - 2 -}}", 10.5),
        ("{{ not flags[0] }}", False),
        ("{{ text }}", " a "),
        ("{{ '}}' }}", "}}"),
        ("{{ [-1, -x] }}", [-1, -12.5]),
        ("{{ {'a': -x} }}", {"a": -12.5}),
        ("{{ 1 if x > 0 else -1 }}", 1),
        ("{{\n  -x\n}}", -12.5),
    ],
)
def test_the_value_is_that_of_the_whole_expression(source: str, value: object):
    result = compile_template(source, typed=True).render(SCOPE)
    assert (result, type(result)) == (value, type(value))
    between = compile_template(f"<{source}>", typed=True).render(SCOPE)
    assert between == f"<{value}>"  # what Jinja2 itself makes of it
