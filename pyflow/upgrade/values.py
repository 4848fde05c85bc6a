"""Templates and expressions of v1, read and rewritten for version 2 (see ``pyflow.upgrade.convert``)."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import jinja2
from jinja2 import nodes

from pyflow.expressions.evaluation import UnsafeExpressionError, compile_expression
from pyflow.expressions.template import TemplateError, compile_template, is_template

#: A v1 name's new spelling, or ``None`` if it stays. The flag says whether it stands in an expression.
Rename = Callable[[str, bool], str | None]

_PLAIN = jinja2.Environment(keep_trailing_newline=True, autoescape=False)  # noqa: S701 - parses, never renders
# What v1 gave as it was; everything else it made text of.
_BARE_NAME = re.compile(r"\{\{-?\s*([A-Za-z_]\w*)\s*-?\}\}", re.ASCII)
_CONSTANTS = frozenset({"true", "false", "none", "True", "False", "None"})
_TEXT_FILTERS = frozenset({"string", "tojson", "join", "upper", "lower", "title", "trim", "capitalize", "replace"})
_NEEDS_PARENTHESES = (
    nodes.BinExpr,
    nodes.UnaryExpr,
    nodes.Compare,
    nodes.CondExpr,
    nodes.Concat,
    nodes.Test,
    nodes.Tuple,
)

#: All that they hold is looked at when they are rendered.
_TRANSPARENT = (
    nodes.Template,
    nodes.Output,
    nodes.Getattr,
    nodes.Getitem,
    nodes.Operand,
    nodes.BinExpr,
    nodes.UnaryExpr,
    nodes.Concat,
    nodes.List,
    nodes.Dict,
    nodes.Pair,
)


def map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """A nested value with every template changed."""
    if isinstance(value, str):
        return change(value) if is_template(value) else value
    if isinstance(value, dict):
        return {key: map_strings(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [map_strings(item, change) for item in value]
    return value


# --- templates ---------------------------------------------------------------------------------------------------


def template_names(source: str) -> frozenset[str]:
    """The names a template looks up; none if it is not a template that compiles."""
    try:
        return compile_template(source, typed=False).names
    except TemplateError:
        return frozenset()


def rewrite_template(source: str, rename: Rename, *, typed: bool = False) -> str:
    """A v1 template as version 2 spells it. What does not compile stays as it is.

    It gives text wherever v1 did, unless it is to be ``typed``.
    """
    text = source if typed else keep_text(source)
    if any(rename(name, False) for name in template_names(text)):
        text = "".join(_renamed(text, rename))
    return text


def _renamed(source: str, rename: Rename) -> Iterator[str]:
    tokens = [(kind, value) for _, kind, value in _PLAIN.lex(source)]
    solid = [index for index, (kind, _) in enumerate(tokens) if kind != "whitespace"]
    place = {index: at for at, index in enumerate(solid)}
    for index, (kind, value) in enumerate(tokens):
        if kind == "name":
            at = place[index]
            before = tokens[solid[at - 1]][1]
            after = tokens[solid[at + 1]][1]
            # `.name`, `| name`, `is name` and `name=` are no variables.
            if before not in {".", "|", "is"} and after != "=":
                yield rename(value, False) or value
                continue
        yield value


def keep_text(source: str) -> str:
    """A template that is one expression, so that it still gives text in version 2; others are not changed."""
    bare = _BARE_NAME.fullmatch(source)
    if (bare and bare[1] not in _CONSTANTS) or not (source.startswith("{{") and source.endswith("}}")):
        return source
    try:
        body = _PLAIN.parse(source).body
    except jinja2.TemplateSyntaxError:
        return source
    if len(body) != 1 or not isinstance(body[0], nodes.Output) or len(body[0].nodes) != 1:
        return source
    expression = body[0].nodes[0]
    if isinstance(expression, nodes.TemplateData) or _is_text(expression):
        return source
    inner = source[2:-2].strip("-+ \t\r\n")
    return (
        f"{{{{ ({inner}) | string }}}}" if isinstance(expression, _NEEDS_PARENTHESES) else f"{{{{ {inner} | string }}}}"
    )


def _is_text(expression: nodes.Node) -> bool:
    if isinstance(expression, nodes.Filter):
        return expression.name in _TEXT_FILTERS
    return isinstance(expression, nodes.Const) and isinstance(expression.value, str)


def needed_names(source: str) -> frozenset[str]:
    """The names without which a template cannot be rendered, whatever else there is."""
    names = template_names(source)
    if not names:
        return names
    found: set[str] = set()
    _need(_PLAIN.parse(source), found)
    return names & found


def _need(node: nodes.Node, found: set[str]) -> None:
    """Collect names that are looked up in any case and where being undefined is an error."""
    if isinstance(node, nodes.Name):
        found.add(node.name)
        return
    parts: list[nodes.Node | None]
    if isinstance(node, nodes.CondExpr | nodes.If):
        parts = [node.test]
    elif isinstance(node, nodes.And | nodes.Or):
        parts = [node.left]
    elif isinstance(node, nodes.For):
        parts = [node.iter]
    elif isinstance(node, nodes.Filter):
        parts = [] if node.name in {"default", "d"} else [node.node]
    elif isinstance(node, nodes.Compare):
        parts = [node.expr, node.ops[0]] if node.ops else [node.expr]
    elif isinstance(node, nodes.Call):
        parts = [node.node]
    elif isinstance(node, _TRANSPARENT):
        parts = list(node.iter_child_nodes())
    else:
        parts = []  # `is defined`, `{% set %}`, macros: nobody knows
    for part in parts:
        if part is not None:
            _need(part, found)


def is_delicate(source: str, sure: Collection[str]) -> bool:
    """Return whether rendering a template may fail although the names in ``sure`` have values."""
    bare = _BARE_NAME.fullmatch(source)
    if bare:
        return bare[1] not in sure
    return bool(template_names(source))


# --- expressions -------------------------------------------------------------------------------------------------


def expression_names(source: str) -> frozenset[str] | None:
    """The free names of an expression; ``None`` if it does not compile."""
    try:
        return compile_expression(source).names
    except UnsafeExpressionError:
        return None


def rewrite_expression(source: str, rename: Rename) -> str:
    """An expression with its names replaced; as it is written if there is nothing to replace."""
    names = expression_names(source)
    wanted = {name: new for name in names or () if (new := rename(name, True)) is not None}
    if not wanted:
        return source
    return ast.unparse(_Renamer(wanted).visit(ast.parse(source.strip(), mode="eval")))


class _Renamer(ast.NodeTransformer):
    def __init__(self, wanted: Mapping[str, str]) -> None:
        self._wanted = wanted

    def visit_Name(self, node: ast.Name) -> ast.expr:
        new = self._wanted.get(node.id)
        return node if new is None else ast.parse(new, mode="eval").body


def needed_in_expression(source: str) -> frozenset[str]:
    """The free names that an expression looks up in any case."""
    names = expression_names(source)
    if not names:
        return frozenset()
    found: set[str] = set()
    _need_in_expression(ast.parse(source.strip(), mode="eval").body, found)
    return names & found


def _need_in_expression(node: ast.AST, found: set[str]) -> None:
    parts: list[ast.AST]
    if isinstance(node, ast.Name):
        found.add(node.id)
        return
    if isinstance(node, ast.BoolOp):
        parts = [node.values[0]]
    elif isinstance(node, ast.IfExp):
        parts = [node.test]
    elif isinstance(node, ast.Compare):
        parts = [node.left, node.comparators[0]]
    elif isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp):
        parts = [node.generators[0].iter]
    else:
        parts = list(ast.iter_child_nodes(node))
    for part in parts:
        _need_in_expression(part, found)


def cannot_fail(source: str, sure: Collection[str]) -> bool:
    """Return whether an expression surely has a value when the names in ``sure`` have one."""
    return _total(ast.parse(source.strip(), mode="eval").body, sure)


def _total(node: ast.AST, sure: Collection[str]) -> bool:
    match node:
        case ast.Constant():
            return True
        case ast.Name(id=name):
            return name in sure
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _total(operand, sure)
        case ast.BoolOp(values=values):
            return all(_total(value, sure) for value in values)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return all(_total(part, sure) for part in (test, body, orelse))
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            safe = all(isinstance(op, ast.Eq | ast.NotEq | ast.Is | ast.IsNot) for op in ops)
            return safe and all(_total(part, sure) for part in (left, *comparators))
    return False
