"""An expression means what Python means: its own `eval` is the reference."""

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pyflow.expressions.evaluation import EvaluationError, UnsafeExpressionError, safe_eval

NUMBERS = st.integers(-50, 50) | st.floats(-50, 50).map(lambda x: round(x, 3))


def _binary(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operators = st.sampled_from(["+", "-", "*", "/", "//", "%", "==", "!=", "<", ">", "<=", ">=", "and", "or"])
    return st.one_of(
        st.tuples(inner, operators, inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda x: f"(not {x})"),
        inner.map(lambda x: f"(-({x}))"),
        st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} if {t[1]} else {t[2]})"),
        st.lists(inner, min_size=1, max_size=3).map(lambda xs: f"max([{', '.join(xs)}])"),
        st.lists(inner, max_size=3).map(lambda xs: f"len([{', '.join(xs)}])"),
        inner.map(lambda x: f"[y * 2 for y in [{x}, 1] if y]"),
        inner.map(lambda x: f"f'{{{x}!r:>9}}'"),
        st.tuples(inner, inner).map(lambda t: f"{{'k': {t[0]}, 'm': {t[1]}}}['k']"),
        inner.map(lambda x: f"[{x}, 2, 3][1:]"),
        st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} < {t[1]} <= {t[2]})"),
        st.tuples(inner, inner).map(lambda t: f"({t[0]} in [{t[1]}, 1, 'a'])"),
        inner.map(lambda x: f"isinstance({x}, (int, str))"),
        inner.map(lambda x: f"any(z == {x} for z in [a, b])"),
    )


EXPRESSIONS = st.recursive(
    st.sampled_from(["a", "b", "xs[0]", "'text'", "True", "None", "xs", "s.upper()", "d.get('k')", "d['k']"])
    | NUMBERS.map(repr),
    _binary,
    max_leaves=8,
)


@given(EXPRESSIONS, NUMBERS, NUMBERS)
def test_an_allowed_expression_means_what_python_means(source: str, a: float, b: float):
    names = {"a": a, "b": b, "xs": [1, 2, 3], "s": "abc", "d": {"k": 5}}
    expected, error = _outcome(lambda: eval(source, dict(names)))
    value, ours = _outcome(lambda: safe_eval(source, names))
    if error is None and ours is None:
        assert value == expected
        assert type(value) is type(expected)
    elif error is None:
        # A limit may come first, another meaning may not.
        assert isinstance(ours, UnsafeExpressionError)
        assert ours.code == "expression_limit"
    else:
        assert isinstance(ours, (EvaluationError, UnsafeExpressionError))
        assert isinstance(ours, (type(error), UnsafeExpressionError)) or isinstance(error, OverflowError)


def _outcome(work: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return work(), None
    except Exception as error:
        return None, error
