"""Warns of templates in which Jinja2 does something else than what is meant; for ``pyflow.validation.lint.rules``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jinja2
from jinja2 import nodes

from pyflow.core.problems import suggest
from pyflow.core.wording import hint
from pyflow.documents.models import WorkflowDef
from pyflow.expressions import template_limits as limits
from pyflow.expressions.evaluation import UnsafeExpressionError
from pyflow.expressions.functions import COMPUTING
from pyflow.expressions.references import Reference, references_in_expression
from pyflow.validation.lint.references import Finding, templates

_PARSER = jinja2.Environment(autoescape=False)  # noqa: S701 - parses, never renders
_COMMENT = re.compile(r"\{#(.*?)#\}", re.DOTALL)
#: What a comment in words has not, and a rule of CSS has.
_RULE = re.compile(r"^[\w-]+[^{}]*\{|^[\w-]+\s*[,:.>{]", re.ASCII)
#: Filters that take the name of another filter or of a test, with the place of the name.
_BY_NAME = {"map": ("filter", 0), "select": ("test", 0), "reject": ("test", 0)}
_BY_NAME |= {"selectattr": ("test", 1), "rejectattr": ("test", 1)}


def wrong_arguments(workflow: WorkflowDef) -> Iterator[Finding]:
    """Find filters whose arguments cannot be right."""
    for path, text in templates(workflow.model_dump(by_alias=True, exclude_none=True)):
        if "|" not in text:
            continue
        try:
            tree = _PARSER.parse(text)
        except (jinja2.TemplateError, RecursionError):
            continue
        for used in tree.find_all(nodes.Filter):
            if (message := _what_is_wrong(used)) is not None:
                yield "wrong_filter_arguments", message, path


def _what_is_wrong(used: nodes.Filter) -> str | None:
    if used.dyn_args is not None or used.dyn_kwargs is not None or used.name not in limits.FILTERS:
        return None
    by_name = _BY_NAME.get(used.name)
    if by_name is None:
        return _misfit(f"`{used.name}`", _PARSER.filters[used.name], used.args, used.kwargs)
    kind, at = by_name
    given = used.args[at] if len(used.args) > at else None
    name = given.value if isinstance(given, nodes.Const) else None
    if not isinstance(name, str):
        return None
    known: Mapping[str, Any] = limits.FILTERS if kind == "filter" else limits.TESTS
    if name not in known:
        instead = f"write `[{name}(x, …) for x in items]` in a `set` node" if name in COMPUTING else None
        if instead is None and hasattr(str, name):
            instead = f"write `[x.{name}(…) for x in items]` in a `set` node: that is a method of texts"
        near = hint(suggest(name, known))
        return f"`{used.name}` takes the name of a {kind}, and none is called {name!r}{near}" + (
            f": {instead}" if instead else ""
        )
    table: Mapping[str, Any] = _PARSER.filters if kind == "filter" else _PARSER.tests
    return _misfit(f"the {kind} `{name}` of `{used.name}`", table[name], used.args[at + 1 :], used.kwargs)


def _misfit(what: str, function: Callable[..., Any], args: list[nodes.Expr], named: list[Any]) -> str | None:
    """Say why a function cannot take such arguments behind the value that it is applied to."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # of C
        return None
    passed = 1 + hasattr(inspect.unwrap(function), "jinja_pass_arg")
    try:
        signature.bind(*range(passed + len(args)), **{keyword.key: None for keyword in named})
    except TypeError as error:
        return f"{what} cannot take these arguments: {error}"
    return None


def comments(workflow: WorkflowDef) -> Iterator[Finding]:
    """Find rules of CSS that are taken for comments: ``@media print{#nav{…}}``."""
    for path, text in templates(workflow.model_dump(by_alias=True, exclude_none=True)):
        if any(_RULE.match(comment) for comment in _COMMENT.findall(text)):
            message = "`{#` begins a comment, and nothing is written up to `#}`: put a blank between, `{ #`"
            yield "template_comment", message, path


def steady_moments(workflow: WorkflowDef) -> Iterator[Finding]:
    """Find ``now`` where it is asked again and again, and stays what it was."""
    sections = (("nodes", workflow.nodes), ("on_failure", workflow.on_failure), ("finally", workflow.finally_))
    for section, part in sections:
        for i, node in enumerate(part):
            if node.until is None:
                continue
            try:
                found = references_in_expression(node.until.when, frozenset())
            except UnsafeExpressionError:
                continue
            if Reference("now") in found:
                message = "`now` is the moment at which the node began, in every round: write `datetime(run.now)`"
                yield "steady_now", message, (section, i, "until", "when")
