"""Whatever a template, expression or JSONPath calls is paid for before it is called, and nothing else can be called."""

import inspect

import jinja2
import pytest
from jinja2.filters import FILTERS
from jinja2.tests import TESTS

from pyflow.expressions import template_limits as limits
from pyflow.expressions.costs import METHODS, find_cost
from pyflow.expressions.sandbox import Sandbox
from pyflow.expressions.template import TemplateSecurityError, compile_template
from pyflow.expressions.values import METHODS as EXPRESSION_METHODS
from tests.unit.expressions import costly

#: One in so many cases of a kind; `python -m tests.unit.expressions.costly KIND 1` evaluates them all, in hours.
STEPS = {"template": 409, "expression": 211, "computing": 31, "path": 61}
#: Each held the interpreter for seconds to minutes, as the cost was charged when it was done.
HELD = [
    *(f"ones.{name}(infix)" for name in ("rfind", "rindex", "rpartition", "rsplit")),
    *(f"wide.{name}(wides)" for name in ("strip", "lstrip", "rstrip")),
]
HELD_BY_TEMPLATES = [
    "(ones|e).strip(wides)",
    "wide|trim(wides)",
    "letters|groupby(path)",
    "letters|list|sort(attribute=path)",
    "ones|list|min(attribute=path)",
    "([number] * 90000)|string",
    "([grows] * 9000)|select('lower')|list",
    "numbers == numbers[1:]",
    "clashes|unique|list",
    "long_numbers|tojson",
    "floats|map('string')|list",
    "('\\ud800' * 1000000).encode('utf-16', 'backslashreplace')",
]


@pytest.mark.parametrize("kind", costly.KINDS)
def test_nothing_that_can_be_called_holds_the_interpreter(kind: str):
    outcomes = costly.outcomes(kind, STEPS[kind])
    assert {case: outcome for case, outcome in outcomes.items() if outcome in ("killed", "memory")} == {}
    assert {"value", "reject"} <= {*outcomes.values()}


@pytest.mark.parametrize("source", HELD)
def test_a_method_that_takes_quadratic_time_is_a_limit(source: str):
    cases = {"template": f"{{{{ {source} }}}}", "expression": source}
    assert {kind: costly.outcome_of(kind, case) for kind, case in cases.items()} == dict.fromkeys(cases, "limit")


@pytest.mark.parametrize("source", HELD_BY_TEMPLATES)
def test_what_took_its_time_in_a_template_is_a_limit(source: str):
    assert costly.outcome_of("template", f"{{{{ {source} }}}}") == "limit"


@pytest.mark.parametrize("codec", ["idna", "punycode", "rot13", "zlib", "unicode_escape", "utf_7"])
def test_only_codecs_that_take_linear_time_are_allowed(codec: str):
    assert costly.outcome_of("template", f"{{{{ 'a'.encode('{codec}') }}}}") == "limit"
    assert costly.outcome_of("template", f"{{{{ 'a'.encode().decode('{codec}') }}}}") == "limit"


@pytest.mark.parametrize("codec", ["utf-8", "UTF_8", "ascii", "latin-1"])
def test_common_codecs_work(codec: str):
    assert compile_template(f"{{{{ 'a'.encode('{codec}').decode('{codec}') }}}}!", typed=False).render({}) == "a!"


def test_every_filter_test_and_global_has_a_cost():
    sandbox = Sandbox()
    own = {name for name in sandbox.filters if name.startswith("pyflow_")}
    assert sandbox.filters.keys() - own == limits.FILTERS.keys() == FILTERS.keys()
    assert sandbox.tests.keys() == limits.TESTS.keys() == TESTS.keys()
    assert sandbox.globals.keys() == {"range", "dict", "cycler", "joiner", "namespace"}


@pytest.mark.parametrize("table", ["FILTERS", "TESTS"])
def test_a_filter_or_test_that_a_later_version_adds_is_not_there(table: str, monkeypatch: pytest.MonkeyPatch):
    for name in ("FILTERS", "DEFAULT_FILTERS") if table == "FILTERS" else ("TESTS", "DEFAULT_TESTS"):
        module = jinja2.filters if name == "FILTERS" else jinja2.tests if name == "TESTS" else jinja2.defaults
        monkeypatch.setitem(getattr(module, name), "later", lambda value: value)
    sandbox = Sandbox()
    assert "later" not in sandbox.filters
    assert "later" not in sandbox.tests


def test_every_method_of_expressions_has_a_cost():
    for kind, methods in EXPRESSION_METHODS:
        value = costly.OTHERS["when"] if kind.__module__ == "datetime" else kind()
        assert [name for name in methods if find_cost(value, name) is None] == []


@pytest.mark.parametrize("kinds", [kinds for kinds, _ in METHODS], ids=lambda kinds: kinds[0].__name__)
def test_a_method_without_a_cost_is_refused(kinds: tuple[type, ...]):
    values = [value for kind in kinds for value in [*_values(kind)]]
    assert values
    for value in values:
        known = next(costs for owners, costs in METHODS if isinstance(value, owners))
        for name in dir(value):
            if name.startswith("_") or name in known or not inspect.isbuiltin(getattr(value, name)):
                continue
            with pytest.raises(TemplateSecurityError):
                compile_template(f"{{{{ x.{name}() }}}}", typed=True).render({"x": value})


def _values(kind: type) -> list[object]:
    if kind.__name__.startswith("dict_"):
        return [view for view in ({}.keys(), {}.values(), {}.items()) if isinstance(view, kind)]
    if kind.__module__ == "datetime":
        return [costly.OTHERS["when"], costly.OTHERS["when"].tzinfo]
    return [range(1) if kind is range else kind()]


def test_functions_of_python_are_not_called():
    for function in (len, str.upper, "x".__add__, str, sorted):
        with pytest.raises(TemplateSecurityError):
            compile_template("{{ f('a') }}", typed=False).render({"f": function})
        with pytest.raises(TemplateSecurityError):
            compile_template("{{ x.f('a') }}", typed=True).render({"x": {"f": function}})


def test_looking_for_a_key_costs_the_same_in_a_large_mapping():
    large = {str(i): {"x": [i]} for i in range(400_000)}
    source = "{% for i in range(1000) %}{{ 'y' in large }}{% endfor %}"
    assert compile_template(source, typed=True).render({"large": large}) == "False" * 1000
