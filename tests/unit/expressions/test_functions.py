"""Functions of version 2: values shaped in expressions and templates alike, and the errors that say what to write."""

import datetime
import json
from collections.abc import Mapping
from typing import Any

import pytest

from pyflow.core.errors import PyFlowError
from pyflow.expressions.draws import DRAWS, Draws
from pyflow.expressions.evaluation import (
    EvaluationError,
    ExpressionLimitError,
    UnknownFunctionError,
    UnsafeExpressionError,
    compile_expression,
    safe_eval,
)
from pyflow.expressions.template import TemplateError, TemplateLimitError, compile_template

NOW = datetime.datetime(2026, 12, 1, 23, 30, tzinfo=datetime.UTC)
ROWS = [{"day": "mon", "n": 2, "at": {"h": 9}}, {"day": "tue", "n": 1, "at": {"h": 8}}, {"day": "mon", "n": 3}]


def scope() -> dict[str, Any]:
    names = {"rows": ROWS, "text": "a;b;c", "data": {"items": 3, "get": "x"}, "flag": True, "run": {}}
    return names | {"now": NOW, DRAWS: Draws("run", "node"), "null": None, "true": True, "false": False}


def both(source: str, names: Mapping[str, Any] | None = None) -> Any:
    """Return the value of an expression, which is that of the template, as JSON has it."""
    value = safe_eval(source, names or scope(), version=2)
    leaves = compile_template(f"{{{{ [{source}] }}}}", typed=True).render(names or scope())
    assert json.loads(json.dumps(leaves)) == json.loads(json.dumps([value], default=_plain))
    return value


def _plain(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, datetime.timedelta) else value.isoformat()


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("fromjson('{\"a\": [1, 2.5, null, true]}')", {"a": [1, 2.5, None, True]}),
        ("fromjson(tojson(rows)) == rows", True),
        ("tojson({'a': [1, null, true], 'b': 'ä'})", '{"a": [1, null, true], "b": "ä"}'),
        ("tojson(today())", '"2026-12-01"'),
        ("split(text, ';')", ["a", "b", "c"]),
        ("split('a  b ')", ["a", "b"]),
        ("split(text, ';', 1)", ["a", "b;c"]),
        ("join(split(text, ';'), ', ')", "a, b, c"),
        ("join([1, 2.5, true, null, 'x', [1]], '-')", "1-2.5-true-null-x-[1]"),
        ("join([])", ""),
        ("product([1, 2], ['a', 'b'])", [(1, "a"), (1, "b"), (2, "a"), (2, "b")]),
        ("product()", [()]),
        ("zip([1, 2], ['a', 'b'])", [(1, "a"), (2, "b")]),
        ("group_by(rows, 'day')", {"mon": [ROWS[0], ROWS[2]], "tue": [ROWS[1]]}),
        ("group_by([[1, 'x'], [2, 'x']], 1)", {"x": [[1, "x"], [2, "x"]]}),
        (
            "group_by([{'a': true}, {'a': null}, {'a': 1}], 'a')",
            {"true": [{"a": True}], "null": [{"a": None}], "1": [{"a": 1}]},
        ),
        ("sort_by(rows, 'n')", [ROWS[1], ROWS[0], ROWS[2]]),
        ("sort_by(rows, 'day', 'n', reverse=true)", [ROWS[1], ROWS[2], ROWS[0]]),
        ("sort_by(rows[:2], 'at.h')", [ROWS[1], ROWS[0]]),
        ("unique([2, 1, 2.0, true, 'a', 'a', [1], [1.0]])", [2, 1, True, "a", [1]]),
        ("unique(rows, 'day')", ROWS[:2]),
        ("merge({'a': 1, 'b': 1}, {'b': 2}, {})", {"a": 1, "b": 2}),
        ("{'a': 1}.items()", [("a", 1)]),
        ("data.items()", [("items", 3), ("get", "x")]),
        ("data.keys()", ["items", "get"]),
        ("data.values()", [3, "x"]),
        ("data.get('nope', 1)", 1),
        ("date('2026-11-30')", datetime.date(2026, 11, 30)),
        ("date('2026-11-30T23:30:00+01:00')", datetime.date(2026, 11, 30)),
        ("date(now)", datetime.date(2026, 12, 1)),
        ("date(2026, 2, 28) + duration('1d')", datetime.date(2026, 3, 1)),
        ("date('2026-11-30') + duration('P1D')", datetime.date(2026, 12, 1)),
        ("(date('2026-12-24') - date(now)).days", 23),
        ("datetime('2026-11-30T12:00')", datetime.datetime(2026, 11, 30, 12, tzinfo=datetime.UTC)),
        ("datetime('2026-12-01 23:30:00Z') == now", True),
        ("datetime(1796167800) == now", True),
        ("datetime('2026-06-30T12:00', 'Europe/Berlin').astimezone().hour", 10),
        ("datetime('2026-11-30').isoformat()", "2026-11-30T00:00:00+00:00"),
        ("datetime(0)", datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)),
        ("duration('5m') + duration('PT1H30M')", datetime.timedelta(minutes=95)),
        ("duration('90m').total_seconds()", 5400.0),
        ("-duration('1d') + now < now", True),
        ("today()", datetime.date(2026, 12, 1)),
        ("today('Europe/Berlin')", datetime.date(2026, 12, 2)),
        ("now.astimezone('Asia/Tokyo').isoformat()", "2026-12-02T08:30:00+09:00"),
        ("now.strftime('%d.%m.%Y')", "01.12.2026"),
        ("now.replace(hour=0, minute=0).isoformat()", "2026-12-01T00:00:00+00:00"),
        ("max([date('2026-01-01'), date('2026-02-01')])", datetime.date(2026, 2, 1)),
        ("[true, false, null]", [True, False, None]),
    ],
)
def test_a_function_gives_the_same_in_an_expression_and_a_template(source: str, value: object):
    found = both(source)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("<{{ now }}>", "<2026-12-01T23:30:00+00:00>"),
        ("<{{ today() }} {{ duration('36h') }} {{ duration('1500ms') }}>", "<2026-12-01 129600 1.5>"),
        ("{% for key, value in data.items() %}{{ key }}={{ value }};{% endfor %}", "items=3;get=x;"),
        ("<{{ data.items }}>", "<3>"),
        ("{% macro join(x) %}[{{ x }}]{% endmacro %}<{{ join(1) }}>", "<[1]>"),
        ("{% set n = len(rows) %}{{ n }} rows", "3 rows"),
    ],
)
def test_a_template_writes_what_functions_give(source: str, text: str):
    assert compile_template(source, typed=True).render(scope()) == text


def test_a_text_of_an_expression_has_dates_in_iso_8601_and_durations_in_seconds():
    assert safe_eval("f'{now} {duration(\"1d\")} ' + str(today())", scope(), version=2) == (
        "2026-12-01T23:30:00+00:00 86400 2026-12-01"
    )


def test_a_name_of_a_template_function_is_a_value_where_it_is_not_called():
    template = compile_template("{{ join }} {{ split('a,b', ',') }}", typed=True)
    assert template.names == {"join"}
    assert template.render({"join": "mine"}) == "mine ['a', 'b']"


@pytest.mark.parametrize("source", ["fromjson('1')", "{**{'a': 1}}", "today()", "true", "d.strftime('%Y')"])
def test_version_1_has_none_of_it(source: str):
    with pytest.raises((UnsafeExpressionError, EvaluationError)):
        safe_eval(source, {"d": datetime.date(2026, 1, 1)})
    with pytest.raises(TemplateError):
        compile_template("{{ split('a,b', ',') }}", typed=False).render({})


def test_a_set_is_gone_through_in_the_same_order_everywhere():
    names = {"words": ["b", "c", "a", 3, 1, None]}
    for source in ("[x for x in {*words}]", "list({*words})", "[*{*words}]", "[p[1] for p in enumerate({*words})]"):
        assert safe_eval(source, names, version=2) == [1, 3, None, "a", "b", "c"]
    assert safe_eval("','.join({'b', 'a', 'c'})", {}, version=2) == "a,b,c"
    assert compile_template("{{ set(words) }}", typed=True).render(names) == [1, 3, None, "a", "b", "c"]


def test_random_values_follow_from_who_asks_and_how_often():
    def drawn() -> list[Any]:
        names = scope()
        return [safe_eval(source, names, version=2) for source in ("uuid()", "uuid()", "random()", "random()")]

    first = drawn()
    assert drawn() == first
    assert len(set(first)) == 4
    assert 0 <= first[2] < 1
    other = safe_eval("uuid()", scope() | {DRAWS: Draws("run", "other")}, version=2)
    assert other not in first
    assert first[0][14] == "8"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("fromjson(1)", "reads text, not a number"),
        ("fromjson('{')", "not JSON: .*line 1, column 2"),
        ("fromjson('NaN')", "NaN is not JSON"),
        ('fromjson(\'{"a": 1, "a": 2}\')', "a key twice"),
        ("split(rows, ',')", "takes text apart, not a list"),
        ("split('a', 1)", "the text, then the separator"),
        ("join(', ', rows)", "a list, then the separator"),
        ("join(data, ',')", r"`\.values\(\)`"),
        ("group_by(rows, 'dya')", "row 0: the mapping has no 'dya' .did you mean 'day'"),
        ("group_by(rows, 'at.x')", "row 0: the mapping has no 'x'"),
        ("group_by(rows, 'at.h')", "row 2: the mapping has no 'at'|row 2: the mapping has no 'at.h'"),
        ("group_by(rows, rows)", r"`group_by\(rows, 'day'\)`"),
        ("group_by(data, 'a')", r"`\.values\(\)`"),
        ("group_by([1], 'a')", "row 0 is a number"),
        ("group_by([{'a': []}], 'a')", "is a list, which is no key"),
        ("sort_by(rows)", "the keys to sort them by"),
        ("sort_by([{'a': 1}, {'a': 'x'}], 'a')", "cannot compare text and a number"),
        ("merge({}, [])", "takes mappings, not a list"),
        ("date('30.11.2026')", "write it as '2026-11-30'"),
        ("datetime('noon')", r"write it as '2026-11-30T18:00:00\+01:00'"),
        ("duration('1 month')", "is not a duration"),
        ("today('Berlin')", "not an IANA time zone: 'Berlin'"),
        ("now.astimezone('Europe/Berlim')", "did you mean 'Europe/Berlin'"),
        ("now < '2026-12-01'", r"a moment and text: convert one of them first .`date\(\)`"),
        ("now - 1", "a moment and a number"),
    ],
)
def test_an_error_says_what_is_wrong_and_what_to_write(source: str, message: str):
    with pytest.raises(EvaluationError, match=message):
        safe_eval(source, scope(), version=2)
    with pytest.raises(TemplateError, match=message):
        compile_template(f"{{{{ {source} }}}}", typed=True).render(scope())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("fromJSON(text)", r"it is `fromjson\(text\)` here"),
        ("contains(text, 'a')", "write `part in whole`"),
        ("now()", "without the parentheses"),
        ("filter(rows)", "for x in items if"),
        ("always()", "run_if: all_done"),
        ("grop_by(rows, 'a')", "did you mean 'group_by'"),
    ],
)
def test_a_function_of_another_language_is_named_as_it_is_here(source: str, message: str):
    with pytest.raises(UnknownFunctionError, match=message):
        compile_expression(source, version=2)
    with pytest.raises(TemplateError, match=message):
        compile_template(f"{{{{ {source} }}}}", typed=True)


@pytest.mark.parametrize("source", ["split()", "date(1, 2, 3, 4)", "unique([], wrong=1)", "random(1)"])
def test_arguments_that_do_not_fit_are_found_before_anything_runs(source: str):
    with pytest.raises(UnsafeExpressionError, match="it is called as `"):
        compile_expression(source, version=2)
    with pytest.raises(TemplateError, match="it is called as `"):
        compile_template(f"{{{{ {source} }}}}", typed=True)


@pytest.mark.parametrize(
    "source",
    [
        "product(range(400), range(400))",
        "product([1, 2], [1, 2], range(5000), range(5000))",
        "tojson([['x' * 1000] * 9000] * 9)",
        "join(['x' * 1000] * 2000)",
        "join(['x'] * 90000, 'y' * 1000)",
        "split('a,' * 200000, ',')",
        "fromjson('[' * 200000)",
        "fromjson('1' * 4000)",
        "fromjson('1e999')",
        "date(9999, 12, 31) + duration('1d')",
        "now + duration('1d') * 10000000",
        "duration('1d') * 1e300",
        "merge({str(x): x for x in range(9000)}, many, many)",
        "group_by(rows, 'a' * 1000)",
        "unique([rows * 30000])",
    ],
)
def test_a_result_that_would_be_too_large_is_a_limit(source: str):
    names = scope() | {"many": {str(number): number for number in range(150_000)}}
    with pytest.raises(ExpressionLimitError):
        safe_eval(source, names, version=2)
    if "for" not in source:
        with pytest.raises(TemplateLimitError):
            compile_template(f"{{{{ {source} }}}}", typed=True).render(names)


def test_colliding_numbers_as_keys_are_a_limit():
    names = {f"m{part}": {i * (2**61 - 1): 1 for i in range(part * 90, part * 90 + 90)} for part in range(1, 5)}
    with pytest.raises(ExpressionLimitError, match="same hash"):
        safe_eval("merge(m1, m2, m3, m4)", names, version=2)


def test_where_nothing_is_computed_for_a_node_there_are_no_values_of_its_run():
    for source in ("random()", "uuid()", "today()"):
        with pytest.raises(PyFlowError, match=r"there is no (random|uuid|today)\(\) here"):
            safe_eval(source, {}, version=2)


def test_the_random_filter_draws_as_the_functions_do():
    template = compile_template("{% for i in range(9) %}{{ [1, 2, 3] | random }}{% endfor %}", typed=True)
    drawn = template.render(scope())
    assert drawn == template.render(scope())
    assert set(drawn) == {"1", "2", "3"}
    assert compile_template("{{ [7] | random }}", typed=True).render({}) == 7


def test_groups_come_in_the_order_of_their_names():
    """A database gives a mapping back in an order of its own: a resumed run sees what the first one saw."""
    groups = compile_expression("group_by(rows, 'day')", version=2).evaluate({"rows": [{"day": day} for day in "bca"]})
    assert list(groups) == ["a", "b", "c"]
