"""Templates in node configs: sandboxed Jinja2 over plain data, compiled once, with bounded input and output.

v1: a string that is only ``{{ name }}`` gives the object itself, anything else text. Version 2: a string that is
exactly one expression keeps its value's type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, cast

import jinja2
from jinja2 import meta, nodes
from jinja2.environment import TemplateExpression
from jinja2.exceptions import SecurityError
from jinja2.runtime import Undefined

from pyflow.core.context import ExecutionContext
from pyflow.core.errors import PyFlowError
from pyflow.core.messages import MAX_SHOWN, said
from pyflow.core.plain import to_plain
from pyflow.core.ports import SystemClock
from pyflow.core.wording import computed_reason, no_field, template_reason
from pyflow.expressions.evaluation import MAX_ITEMS, EvaluationError, read_field
from pyflow.expressions.sandbox import Sandbox, budgeted, shown
from pyflow.expressions.scope import V1Scope
from pyflow.expressions.template_errors import (
    TemplateError,
    TemplateLimitError,
    TemplateSecurityError,
    TemplateSyntaxError,
    TemplateUndefinedError,
)
from pyflow.expressions.template_functions import Functions
from pyflow.expressions.weight import VIEWS
from pyflow_sdk.node import SecretNotFoundError

__all__ = [
    "MAX_OUTPUT",
    "MAX_SOURCE",
    "Template",
    "TemplateError",
    "TemplateLimitError",
    "TemplateSecurityError",
    "TemplateSyntaxError",
    "TemplateUndefinedError",
    "Value",
    "compile_template",
    "compile_value",
    "count_words",
    "is_reference",
    "is_template",
    "resolve_templates",
    "template_strings",
]

MAX_SOURCE = 64 * 1024
MAX_OUTPUT = 1024 * 1024
#: Statements, and outputs, of one template: what compiling it costs.
MAX_BLOCKS = 500
MAX_OUTPUTS = 1000
MAX_WORDS = 12_000
MAX_NODES = 4000
MAX_DEPTH = 60

Scope = Mapping[str, Any]


_ENVIRONMENT = Sandbox()

# `{{ a.b['c'][0] }}`: by far the most common template needs no template engine.
_REFERENCE = re.compile(
    r"\{\{-?\s*([A-Za-z_]\w*)((?:\.[A-Za-z_]\w*|\[\d{1,6}\]|\[(?:'[^'\\]*'|\"[^\"\\]*\")\])*)\s*-?\}\}", re.ASCII
)
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]|\['([^']*)'\]|\[\"([^\"]*)\"\]", re.ASCII)
_WORD = re.compile(r"\w+|[^\w\s]")
_MARKS = ("{{", "{%", "{#")
_JINJA_CONSTANTS = frozenset({"true", "false", "none", "True", "False", "None"})


class Template:
    """A compiled string. ``names`` are the names it looks up."""

    __slots__ = ("names", "render", "source")

    def __init__(self, source: str, names: frozenset[str], render: Callable[[Scope], Any]) -> None:
        self.source = source
        self.names = names
        #: Renders over a scope; raises ``TemplateError``, or what a source of secrets does.
        self.render = render


def is_template(text: str) -> bool:
    """Return whether ``text`` holds any template syntax."""
    return "{" in text and any(mark in text for mark in _MARKS)


def is_reference(text: str) -> bool:
    """Return whether a template is just ``{{ a.b['c'][0] }}``, which costs next to nothing."""
    reference = _REFERENCE.fullmatch(text)
    return reference is not None and reference[1] not in _JINJA_CONSTANTS


def template_strings(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every template in a nested value, with its place; ``path`` is that of the value itself."""
    if isinstance(value, str):
        if is_template(value):
            yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from template_strings(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from template_strings(item, (*path, i))


@lru_cache(maxsize=8192)
def compile_template(source: str, *, typed: bool) -> Template:
    """Compile a string that ``is_template``. ``typed``: version 2's rule for single expressions, else v1's."""
    if len(source) > MAX_SOURCE:
        raise TemplateLimitError(f"a template has at most {MAX_SOURCE:,} characters, this one {len(source):,}")
    reference = _REFERENCE.fullmatch(source)
    if reference and reference[1] not in _JINJA_CONSTANTS and not (typed and reference[1] == "now"):
        return _compile_reference(source, reference[1], reference[2], as_text=not typed and bool(reference[2]))
    for mark, most in (("{%", MAX_BLOCKS), ("{{", MAX_OUTPUTS), ("{#", MAX_OUTPUTS)):
        if source.count(mark) > most:
            raise TemplateLimitError(f"a template has at most {most:,} of {mark!r}")
    if count_words(source) > MAX_WORDS:
        raise TemplateLimitError(f"a template has at most {MAX_WORDS:,} words and signs in its tags")
    try:
        tree = _ENVIRONMENT.parse(source)
        _check_size(tree)
        needs: set[str] = set()
        is_computed = False
        if typed:
            functions = Functions(tree)
            tree = cast(nodes.Template, functions.visit(tree))
            needs, is_computed = functions.needs, functions.called
        names = frozenset(meta.find_undeclared_variables(tree)).union(needs)
        if typed and (single := _single_expression(tree, source)) is not None:
            assigned = nodes.Template([nodes.Assign(nodes.Name("result", "store"), single, lineno=1)], lineno=1)
            expression = TemplateExpression(_ENVIRONMENT.from_string(assigned), undefined_to_none=False)
            plain = is_computed or "now" in names
            return Template(source, names, _guarded(source, lambda scope: _evaluate(expression, names, scope, plain)))
        template = _ENVIRONMENT.from_string(tree if typed else source)
    except jinja2.TemplateSyntaxError as error:
        reason = template_reason(error.message or "", _ENVIRONMENT.filters, _ENVIRONMENT.tests)
        raise TemplateSyntaxError(f"not a template: {reason}", error.lineno) from None
    except (RecursionError, MemoryError, SyntaxError):
        # Python's own compiler has its limits, too, and says so by a syntax error.
        raise TemplateLimitError("the template is nested too deeply") from None
    except PyFlowError:
        raise
    except Exception as error:
        raise TemplateError(f"not a template: {error}") from error
    return Template(source, names, _guarded(source, lambda scope: _render(template, names, scope, typed)))


def count_words(source: str) -> int:
    """About how many tokens the tags hold: parsing 60,000 of them takes most of a second."""
    tags = (part[: max(part.rfind("}}"), part.rfind("%}"), 0)] for part in re.split(r"\{[{%]", source)[1:])
    return sum(len(_WORD.findall(tag)) for tag in tags)


def _check_size(tree: nodes.Template) -> None:
    """Check the size and depth of a template before Python compiles it."""
    level: list[nodes.Node] = [tree]
    count = depth = 0
    while level:
        level = [child for node in level for child in node.iter_child_nodes()]
        count, depth = count + len(level), depth + 1
        if count > MAX_NODES:
            raise TemplateLimitError(f"the template has more than {MAX_NODES:,} parts")
        if depth > MAX_DEPTH:
            raise TemplateLimitError(f"the template is nested deeper than {MAX_DEPTH} levels")


def _single_expression(tree: nodes.Template, source: str) -> nodes.Expr | None:
    """The expression of a template that is nothing else, as it was parsed: marks of white space are no part of it."""
    if not (source.startswith("{{") and source.endswith("}}")) or len(tree.body) != 1:
        return None
    [output] = tree.body
    if (
        not isinstance(output, nodes.Output)
        or len(output.nodes) != 1
        or isinstance(output.nodes[0], nodes.TemplateData)
    ):
        return None
    return output.nodes[0]


def _compile_reference(source: str, name: str, path: str, *, as_text: bool) -> Template:
    steps: list[str | int] = [
        int(index) if index else (field or single or double) for field, index, single, double in _STEP.findall(path)
    ]
    unsafe = next((step for step in steps if isinstance(step, str) and step.startswith("__")), None)
    if unsafe:
        raise TemplateSecurityError(f"access to {unsafe!r} is not allowed")

    def render(scope: Scope) -> Any:
        try:
            value = scope[name]
        except KeyError:
            raise TemplateUndefinedError(f"'{name}' is undefined") from None
        for step in steps:
            value = _step(value, step, source)
        return shown(value) if as_text else value

    return Template(source, frozenset({name}), render)


def _step(value: Any, step: str | int, source: str) -> Any:
    try:
        if isinstance(step, int):
            return value[step]
        return value[step] if isinstance(value, dict) else read_field(value, step)
    except SecretNotFoundError:  # a KeyError that says more than that
        raise
    except (LookupError, TypeError, EvaluationError):
        if not isinstance(step, int) and not isinstance(value, Mapping):
            # Methods that the sandbox allows, as in `{{ text.upper }}`, are Jinja2's business.
            found = _ENVIRONMENT.getattr(value, step)
            if not isinstance(found, Undefined):
                return found
        raise TemplateUndefinedError(f"{source}: {no_field(value, step)}") from None


def _evaluate(expression: Any, names: frozenset[str], scope: Scope, plain: bool) -> Any:
    """``plain``: the value may be a date or such, which leaves as JSON has it."""
    with budgeted(scope):
        value = expression(**{name: scope[name] for name in names if name in scope})
        if isinstance(value, Undefined):
            value._fail_with_undefined_error()
        if isinstance(value, (Iterator, range, *VIEWS)):
            # What `map` and its kind give is computed here, within the budget.
            items = list(islice(cast(Iterable[Any], value), MAX_ITEMS + 1))
            if len(items) > MAX_ITEMS:
                raise TemplateLimitError(f"a list of more than {MAX_ITEMS:,} items")
            value = items
    if callable(value) or type(value).__module__.startswith("jinja2."):
        raise TemplateSecurityError("the expression gives a function, not data; call it or name a field")
    if isinstance(value, str):
        return str(value)
    return to_plain(value) if plain else value


def _render(template: jinja2.Template, names: frozenset[str], scope: Scope, typed: bool) -> str:
    parts: list[str] = []
    size = 0
    with budgeted(scope if typed else None):
        for part in template.generate({name: scope[name] for name in names if name in scope}):
            size += len(part)
            if size > MAX_OUTPUT:
                raise TemplateLimitError(f"a text of more than {MAX_OUTPUT:,} characters")
            parts.append(part)
    return "".join(parts)


def _guarded(source: str, render: Callable[[Scope], Any]) -> Callable[[Scope], Any]:
    """``render`` with errors of ours, which name the template where they are about its values."""

    def guarded(scope: Scope) -> Any:
        try:
            return render(scope)
        except EvaluationError as error:
            raise TemplateError(str(error)) from error
        except PyFlowError:  # ours, or why there is no such secret
            raise
        except SecurityError as error:
            raise TemplateSecurityError(said(error)) from None
        except jinja2.UndefinedError as error:
            raise TemplateUndefinedError(f"{said(source, MAX_SHOWN)}: {said(error)}") from None
        except (OverflowError, MemoryError, RecursionError) as error:
            raise TemplateLimitError(f"the template makes a value that is too large: {error}") from None
        except Exception as error:
            reason = computed_reason(str(error))
            if reason == str(error):
                reason = f"{type(error).__name__}: {reason}"
            raise TemplateError(f"the template failed: {said(source, MAX_SHOWN)}: {said(reason)}") from error

    return guarded


# --- whole configs -----------------------------------------------------------------------------------------------


class Value:
    """A compiled config value: ``render(scope)`` gives a new value each time; ``names`` is what it looks up."""

    __slots__ = ("constant", "names", "render")

    def __init__(self, render: Callable[[Scope], Any], names: frozenset[str], *, constant: bool) -> None:
        self.render = render
        self.names = names
        self.constant = constant


def compile_value(value: Any, *, typed: bool, where: str = "") -> Value:
    """Compile every template in a nested value. Raises ``TemplateError`` for one that is not valid.

    ``where`` is what the value is called; errors while it is rendered name the place in it.
    """
    names: set[str] = set()
    render = _compile_nested(value, typed, names, where)
    if render is None:
        return Value(_copier(value), frozenset(), constant=True)
    return Value(render, frozenset(names), constant=False)


def _compile_nested(value: Any, typed: bool, names: set[str], where: str) -> Callable[[Scope], Any] | None:
    """A renderer of ``value``, or ``None`` if there is no template in it."""
    if isinstance(value, str):
        if not is_template(value):
            if len(value) > MAX_OUTPUT:
                raise TemplateLimitError(f"a text of more than {MAX_OUTPUT:,} characters")
            return None
        template = compile_template(value, typed=typed)
        names |= template.names
        return _placed(template.render, where) if where else template.render
    if isinstance(value, dict):
        parts = {key: _compile_nested(item, typed, names, where and f"{where}.{key}") for key, item in value.items()}
        if not any(parts.values()):
            return None
        pairs = [(key, part or _copier(value[key])) for key, part in parts.items()]
        return lambda scope: {key: part(scope) for key, part in pairs}
    if isinstance(value, list | tuple):
        renders = [_compile_nested(item, typed, names, where and f"{where}[{i}]") for i, item in enumerate(value)]
        if not any(renders):
            return None
        items = [part or _copier(item) for part, item in zip(renders, value, strict=True)]
        kind = type(value) if type(value) in (list, tuple) else list
        return lambda scope: kind([part(scope) for part in items])
    return None


def _placed(render: Callable[[Scope], Any], where: str) -> Callable[[Scope], Any]:
    def placed(scope: Scope) -> Any:
        try:
            return render(scope)
        except TemplateError as error:
            error.place = where
            raise

    return placed


def _copier(value: Any) -> Callable[[Scope], Any]:
    """Nodes may change what they are handed, so containers are copied; ``value`` itself is left alone."""
    if type(value) is dict:
        if not any(isinstance(item, dict | list) for item in value.values()):
            return lambda scope: value.copy()
        pairs = [(key, _copier(item)) for key, item in value.items()]
        return lambda scope: {key: copy(scope) for key, copy in pairs}
    if type(value) is list:
        if not any(isinstance(item, dict | list) for item in value):
            return lambda scope: value.copy()
        items = [_copier(item) for item in value]
        return lambda scope: [copy(scope) for copy in items]
    return lambda scope: value


def resolve_templates(value: Any, context: ExecutionContext | Mapping[str, Any]) -> Any:
    """Render all templates in ``value`` as v1 does: dicts and lists recursively, other values unchanged.

    Raises ``TemplateError`` (which is also Jinja2's ``UndefinedError`` or ``SecurityError`` where it is one).
    """
    scope = V1Scope(context, SystemClock().time()) if isinstance(context, ExecutionContext) else context
    return compile_value(value, typed=False).render(scope)
