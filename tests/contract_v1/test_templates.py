"""`pyflow.core.template.resolve_templates`, as v1 users know it."""

from typing import Any

import jinja2
import pytest
from jinja2.exceptions import SecurityError

from pyflow.core.context import ExecutionContext
from pyflow.core.template import resolve_templates


@pytest.fixture
def context() -> ExecutionContext:
    context = ExecutionContext(workflow_name="flow", run_id="r1")
    context.set_result("rates", {"body": {"eur": 1.5, "all": [1, 2]}, "status": 200})
    context.set_result("n", 3)
    context.set_result("flag", False)
    context.set_result("nothing", None)
    context.set_result("text", "{{ n }}")
    return context


@pytest.mark.parametrize("name", ["rates", "n", "flag", "nothing"])
@pytest.mark.parametrize("spelling", ["{{ %s }}", "{{%s}}", "{{   %s   }}"])
def test_a_string_that_is_only_a_name_gives_the_object_itself(context: ExecutionContext, name: str, spelling: str):
    assert resolve_templates(spelling % name, context) is context.get_result(name)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("n is {{ n }}", "n is 3"),
        ("{{ n }} ", "3 "),
        ("{{ rates.status }}", "200"),
        ("{{ rates['body']['eur'] }}", "1.5"),
        ("{{ rates.body.all }}", "[1, 2]"),
        ("{{ n + 1 }}", "4"),
        ("{{ n }}{{ n }}", "33"),
        ("{{ flag }}!", "False!"),
        ("{{ rates.body.all | join('-') }}", "1-2"),
        ("{% for x in rates.body.all %}<{{ x }}>{% endfor %}", "<1><2>"),
        ("{% if n > 2 %}yes{% else %}no{% endif %}", "yes"),
        ("{{ ghost | default('x') }}", "x"),
        ("{{ __run_id__ }} {{ __workflow__ }}", "r1 flow"),
        ("{# note #}x", "x"),
    ],
)
def test_anything_else_renders_to_text(context: ExecutionContext, template: str, text: str):
    result = resolve_templates(template, context)
    assert result == text
    assert type(result) is str


def test_dicts_and_lists_are_resolved_recursively(context: ExecutionContext):
    value = {"a": ["{{ n }}", {"b": "n={{ n }}"}], "c": 1, "d": None, "e": "plain"}
    assert resolve_templates(value, context) == {"a": [3, {"b": "n=3"}], "c": 1, "d": None, "e": "plain"}


@pytest.mark.parametrize("value", [1, 2.5, None, True, "plain text", "{ not a template }", "", b"{{ n }}"])
def test_other_values_are_left_as_they_are(context: ExecutionContext, value: Any):
    result = resolve_templates(value, context)
    assert result == value
    assert type(result) is type(value)


def test_the_value_that_was_given_is_not_changed(context: ExecutionContext):
    value = {"a": ["{{ n }}"]}
    resolve_templates(value, context)
    assert value == {"a": ["{{ n }}"]}


def test_results_are_not_rendered_a_second_time(context: ExecutionContext):
    assert resolve_templates("{{ text }}", context) == "{{ n }}"
    assert resolve_templates("{{ text }}!", context) == "{{ n }}!"


@pytest.mark.parametrize("template", ["{{ ghost }}", "x {{ ghost }}", "{{ rates.ghost }}", "{{ ghost.x }}"])
def test_an_undefined_name_is_an_error(context: ExecutionContext, template: str):
    with pytest.raises(jinja2.UndefinedError):
        resolve_templates(template, context)


@pytest.mark.parametrize("template", ["{{ ''.__class__ }}", "{{ n.__class__.__mro__ }}", "{{ rates.update({}) }}"])
def test_the_sandbox_is_closed(context: ExecutionContext, template: str):
    with pytest.raises(SecurityError):
        resolve_templates(template, context)


def test_bad_syntax_is_jinjas_error(context: ExecutionContext):
    with pytest.raises(jinja2.TemplateSyntaxError):
        resolve_templates("{{ n + }}", context)
