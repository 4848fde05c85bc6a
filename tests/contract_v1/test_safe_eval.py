"""`pyflow.core.safe_eval`, as v1 users know it."""

from typing import Any

import pytest

from pyflow.core.safe_eval import UnsafeExpressionError, safe_eval

NAMES: dict[str, Any] = {
    "n": 5,
    "x": 2.5,
    "name": "Ada",
    "tags": ["b", "a"],
    "order": {"total": 12, "lines": [{"sku": "s1", "count": 2}], "items": "data"},
    "nothing": None,
}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        # comparison
        ("n > 3", True),
        ("1 < n <= 5", True),
        ("n != 5", False),
        ("'a' in tags", True),
        ("'c' not in tags", True),
        ("nothing is None", True),
        ("name is not None", True),
        ("[*tags, 'c']", ["b", "a", "c"]),
        ("(*tags, *[1])", ("b", "a", 1)),
        # boolean
        ("n > 3 and name == 'Ada'", True),
        ("n > 9 or tags", ["b", "a"]),
        ("not nothing", True),
        # arithmetic
        ("n + 1 - 2 * 3", 0),
        ("n / 2", 2.5),
        ("n // 2", 2),
        ("n % 2", 1),
        ("n ** 2", 25),
        ("-n", -5),
        ("'a' + 'b'", "ab"),
        # subscripts and attributes
        ("order['total']", 12),
        ("order.total", 12),
        ("order.lines[0].sku", "s1"),
        ("order['lines'][-1]['count']", 2),
        ("tags[0:1]", ["b"]),
        ("order.items", "data"),
        # method calls on data
        ("name.upper()", "ADA"),
        ("name.lower().startswith('a')", True),
        ("order.get('missing', 0)", 0),
        ("'a,b'.split(',')", ["a", "b"]),
        ("'-'.join(tags)", "b-a"),
        ("tags.count('a')", 1),
        ("list(order.keys())", ["total", "lines", "items"]),
        # conditional expressions and f-strings
        ("'big' if n > 3 else 'small'", "big"),
        ("f'{name}: {x:.1f}'", "Ada: 2.5"),
        # functions
        ("len(tags)", 2),
        ("abs(-n)", 5),
        ("min(3, 1) + max([1, 2])", 3),
        ("sum([1, 2, 3])", 6),
        ("int('7') + float('0.5')", 7.5),
        ("str(n)", "5"),
        ("bool(tags)", True),
        ("any(t == 'a' for t in tags)", True),
        ("all([1, 0])", False),
        ("sorted(tags)", ["a", "b"]),
        ("sorted(tags, reverse=True)", ["b", "a"]),
        ("round(x)", 2),
        ("round(2.567, 1)", 2.6),
        ("isinstance(n, int)", True),
        ("isinstance(name, (int, str))", True),
        ("[t.upper() for t in tags if t != 'b']", ["A"]),
        # literals
        ("[1, 'a', None, True]", [1, "a", None, True]),
        ("{'k': (1, 2)}", {"k": (1, 2)}),
    ],
)
def test_what_an_expression_can_say(expression: str, value: Any):
    result = safe_eval(expression, NAMES)
    assert result == value
    assert type(result) is type(value)


def test_variables_are_optional():
    assert safe_eval("1 + 1") == 2


def test_an_unknown_name_is_a_name_error():
    with pytest.raises(NameError, match="ghost"):
        safe_eval("ghost + 1", NAMES)


@pytest.mark.parametrize(
    "expression",
    [
        "name.__class__",
        "().__class__.__bases__",
        "order['a'].__dict__",
        "__builtins__",
        "__import__('os')",
        "import os",
        "exec('1')",
        "eval('1')",
        "open('x')",
        "compile('1', '', 'eval')",
        "globals()",
        "getattr(name, 'upper')",
        "lambda: 1",
        "(y := 1)",
        "'{0.__class__}'.format(n)",
        "x = 1",
    ],
)
def test_what_an_expression_cannot_say(expression: str):
    with pytest.raises(UnsafeExpressionError):
        safe_eval(expression, NAMES)


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ("1 / 0", ZeroDivisionError),
        ("order['ghost']", KeyError),
        ("tags[9]", IndexError),
        ("n + name", TypeError),
        ("order.ghost", AttributeError),
        ("int('x')", ValueError),
    ],
)
def test_an_expression_that_fails_raises_what_python_raises(expression: str, error: type[Exception]):
    with pytest.raises(error):
        safe_eval(expression, NAMES)


def test_variables_are_not_changed():
    names = {"tags": ["b", "a"]}
    safe_eval("sorted(tags) + [t for t in tags]", names)
    assert names == {"tags": ["b", "a"]}
