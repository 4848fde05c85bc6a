"""An expression means what Python means: its own `eval` is the reference."""

import datetime
import itertools
import json
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import pytest
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


@pytest.mark.parametrize("version", [1, 2])
@given(EXPRESSIONS, NUMBERS, NUMBERS)
def test_an_allowed_expression_means_what_python_means(version: int, source: str, a: float, b: float):
    names = {"a": a, "b": b, "xs": [1, 2, 3], "s": "abc", "d": {"k": 5}}
    expected, error = _outcome(lambda: eval(source, dict(names)))
    value, ours = _outcome(lambda: safe_eval(source, names, version=version))
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


#: What can be stored.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(-1e9, 1e9) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
ROWS = st.lists(st.fixed_dictionaries({"k": st.text("ab", max_size=2), "n": st.integers(0, 3)}), max_size=8)
LISTS = st.lists(st.integers(0, 9) | st.text("ab", max_size=2), max_size=5)
DAYS = st.dates(datetime.date(1900, 1, 1), datetime.date(2100, 1, 1))


@given(JSON)
def test_json_is_read_and_written_as_python_does(value: Any):
    text = safe_eval("tojson(v)", {"v": value}, version=2)
    assert text == json.dumps(value, ensure_ascii=False)
    assert safe_eval("fromjson(t)", {"t": text}, version=2) == value


@given(st.text("ab ,;", max_size=20), st.sampled_from([",", ";", " ", "ab"]))
def test_texts_are_split_and_joined_as_python_does(text: str, separator: str):
    names = {"t": text, "s": separator}
    parts = safe_eval("split(t, s)", names, version=2)
    assert parts == text.split(separator)
    assert safe_eval("join(split(t, s), s)", names, version=2) == text
    assert safe_eval("split(t)", names, version=2) == text.split()


@given(ROWS)
def test_rows_are_sorted_grouped_and_made_unique_as_python_does(rows: list[dict[str, Any]]):
    def get(source: str) -> Any:
        return safe_eval(source, {"rows": rows}, version=2)

    assert get("sort_by(rows, 'k', 'n')") == sorted(rows, key=itemgetter("k", "n"))
    assert get("sort_by(rows, 'n', reverse=true)") == sorted(rows, key=itemgetter("n"), reverse=True)
    groups = itertools.groupby(sorted(rows, key=itemgetter("k")), key=itemgetter("k"))
    assert get("group_by(rows, 'k')") == {key: list(group) for key, group in groups}
    assert get("unique([row.k for row in rows])") == list(dict.fromkeys(row["k"] for row in rows))


@given(st.lists(LISTS, max_size=3))
def test_products_are_those_of_python(lists: list[list[Any]]):
    names = {f"l{number}": items for number, items in enumerate(lists)}
    assert safe_eval(f"product({', '.join(names)})", names, version=2) == list(itertools.product(*lists))


@given(
    st.dictionaries(st.text("ab"), st.integers(), max_size=3), st.dictionaries(st.text("ab"), st.integers(), max_size=3)
)
def test_mappings_are_merged_as_python_does(a: dict[str, int], b: dict[str, int]):
    for source in ("merge(a, b)", "{**a, **b}", "a | b"):
        assert safe_eval(source, {"a": a, "b": b}, version=2) == {**a, **b}


@given(DAYS, st.integers(0, 3000), st.integers(0, 86400))
def test_dates_and_durations_are_those_of_python(day: datetime.date, days: int, seconds: int):
    def get(source: str) -> Any:
        return safe_eval(source, {"d": day.isoformat(), "n": days, "s": seconds}, version=2)

    assert get("date(d) + duration(f'{n}d')") == day + datetime.timedelta(days=days)
    moment = datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC) + datetime.timedelta(seconds=seconds)
    assert get("datetime(d) + duration(s)") == moment
    assert get("datetime((datetime(d) + duration(s)).isoformat())") == moment
    assert get("(date(d) + duration('1d') * n - date(d)).days") == days
