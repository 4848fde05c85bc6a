"""References of templates and expressions: the names they look up, and which members of those that are mappings.

``{{ nodes.a.id }}``, ``nodes['a']``, ``nodes.get('a')`` and ``'a' in nodes`` all refer to the member ``a`` of the name
``nodes``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import jinja2
from jinja2 import nodes

from pyflow.expressions.evaluation import compile_expression
from pyflow.expressions.template import compile_template

__all__ = [
    "Reference",
    "fields_in_expression",
    "fields_in_template",
    "nests_sets",
    "references_in_expression",
    "references_in_template",
]

_PARSER = jinja2.Environment(autoescape=False)  # noqa: S701 - parses, never renders
#: Methods of mappings: `nodes.items()` refers to all of them.
_METHODS = frozenset({"get", "items", "keys", "values"})


class Reference(NamedTuple):
    """``member`` of ``name``; ``None``: the whole of it, or a member that is computed."""

    name: str
    member: str | None = None


@lru_cache(maxsize=4096)
def references_in_template(source: str, mappings: frozenset[str]) -> frozenset[Reference]:
    """Return the references of a version 2 template, with the members of ``mappings``. Raises ``TemplateError``."""
    names = compile_template(source, typed=True).names
    if names.isdisjoint(mappings):
        return frozenset(map(Reference, names))
    tree = _PARSER.parse(source)
    # A name that is also set somewhere in the template may be either.
    own = {name.name for name in tree.find_all(nodes.Name) if name.ctx != "load"}
    found = set(_in_template(tree, (names & mappings) - own))
    return frozenset(found | {Reference(name) for name in names - {each.name for each in found}})


def _in_template(node: nodes.Node, names: frozenset[str]) -> Iterator[Reference]:
    rest: Iterable[nodes.Node] = node.iter_child_nodes()
    match node:
        case nodes.Name(name=name) if name in names:
            yield Reference(name)
        case nodes.Call(node=nodes.Getattr(node=nodes.Name(name=name), attr=method), args=args) if (
            name in names and method in _METHODS
        ):
            yield Reference(name, _text(args[0]) if method == "get" and args else None)
            rest = args
        case nodes.Getattr(node=nodes.Name(name=name), attr=member) if name in names:
            yield Reference(name, member)
            rest = ()
        case nodes.Getitem(node=nodes.Name(name=name), arg=arg) if name in names:
            yield Reference(name, _text(arg))
            rest = (arg,)
        case nodes.Filter(node=nodes.Name(name=name), name="attr", args=[arg, *_]) if name in names:
            yield Reference(name, _text(arg))
            rest = (arg,)
        case nodes.Compare(
            expr=nodes.Const() as left, ops=[nodes.Operand(op="in" | "notin", expr=nodes.Name(name=name))]
        ):
            if name in names:
                yield Reference(name, _text(left))
                rest = ()
    for child in rest:
        yield from _in_template(child, names)


def _text(node: nodes.Node) -> str | None:
    return node.value if isinstance(node, nodes.Const) and isinstance(node.value, str) else None


@lru_cache(maxsize=4096)
def references_in_expression(source: str, mappings: frozenset[str]) -> frozenset[Reference]:
    """Return the references of an expression, with the members of ``mappings``. Raises ``UnsafeExpressionError``."""
    names = compile_expression(source, version=2).names
    if names.isdisjoint(mappings):
        return frozenset(map(Reference, names))
    tree = ast.parse(source.strip(), mode="eval")
    own = {name.id for name in ast.walk(tree) if isinstance(name, ast.Name) and not isinstance(name.ctx, ast.Load)}
    found = set(_in_expression(tree.body, (names & mappings) - own))
    return frozenset(found | {Reference(name) for name in names - {each.name for each in found}})


def _in_expression(node: ast.AST, names: frozenset[str]) -> Iterator[Reference]:
    rest: Iterable[ast.AST] = ast.iter_child_nodes(node)
    match node:
        case ast.Name(id=name) if name in names:
            yield Reference(name)
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method), args=args) if (
            name in names and method in _METHODS
        ):
            yield Reference(name, _constant(args[0]) if method == "get" and args else None)
            rest = args
        case ast.Attribute(value=ast.Name(id=name), attr=member) if name in names:
            yield Reference(name, member)
            rest = ()
        case ast.Subscript(value=ast.Name(id=name), slice=key) if name in names:
            yield Reference(name, _constant(key))
            rest = (key,)
        case ast.Compare(left=ast.Constant() as left, ops=[ast.In() | ast.NotIn()], comparators=[ast.Name(id=name)]):
            if name in names:
                yield Reference(name, _constant(left))
                rest = ()
    for child in rest:
        yield from _in_expression(child, names)


@lru_cache(maxsize=4096)
def fields_in_expression(source: str, name: str) -> frozenset[tuple[str, str | None]]:
    """Return ``(member, field)`` of what an expression that compiles looks up two levels deep in ``name``.

    The field is empty where the member is used as a whole, and ``None`` where ``in`` asks for it.
    """
    if name not in source:
        return frozenset()
    found: set[tuple[str, str | None]] = set()
    inside: set[int] = set()
    for node in ast.walk(ast.parse(source.strip(), mode="eval")):  # what is outside comes first
        match node:
            case ast.Attribute(value=of, attr=field) | ast.Subscript(value=of, slice=ast.Constant(value=str(field))):
                if (member := _member(of, name)) is not None:
                    inside.add(id(of))
                    if field not in _METHODS:
                        found.add((member, field))
            case ast.Compare(
                left=ast.Constant(value=str(member)), ops=[ast.In() | ast.NotIn()], comparators=[ast.Name(id=of_name)]
            ) if of_name == name:
                found.add((member, None))
        if id(node) not in inside and (member := _member(node, name)) is not None:
            found.add((member, ""))
    return frozenset(found)


def _member(node: ast.AST, name: str) -> str | None:
    match node:
        case (
            ast.Subscript(value=ast.Name(id=of), slice=ast.Constant(value=str(member)))
            | ast.Call(
                func=ast.Attribute(value=ast.Name(id=of), attr="get"), args=[ast.Constant(value=str(member)), *_]
            )
        ) if of == name:
            return member
        case ast.Attribute(value=ast.Name(id=of), attr=member) if of == name and member not in _METHODS:
            return member
    return None


@lru_cache(maxsize=4096)
def fields_in_template(source: str, name: str) -> frozenset[tuple[str, str | None]]:
    """Return the same as ``fields_in_expression`` of a template that compiles."""
    if name not in source:
        return frozenset()
    found: set[tuple[str, str | None]] = set()
    inside: set[int] = set()
    tree = _PARSER.parse(source)
    for node in tree.find_all((nodes.Getattr, nodes.Getitem, nodes.Call, nodes.Compare)):  # the same order
        match node:
            case nodes.Getattr(node=of, attr=field) | nodes.Getitem(node=of, arg=nodes.Const(value=str(field))):
                if (member := _member_in_template(of, name)) is not None:
                    inside.add(id(of))
                    if field not in _METHODS:
                        found.add((member, field))
            case nodes.Compare(
                expr=nodes.Const(value=str(member)),
                ops=[nodes.Operand(op="in" | "notin", expr=nodes.Name(name=of_name))],
            ) if of_name == name:
                found.add((member, None))
        if id(node) not in inside and (member := _member_in_template(node, name)) is not None:
            found.add((member, ""))
    return frozenset(found)


def _member_in_template(node: nodes.Node, name: str) -> str | None:
    match node:
        case (
            nodes.Getitem(node=nodes.Name(name=of), arg=nodes.Const(value=str(member)))
            | nodes.Call(
                node=nodes.Getattr(node=nodes.Name(name=of), attr="get"), args=[nodes.Const(value=str(member)), *_]
            )
        ) if of == name:
            return member
        case nodes.Getattr(node=nodes.Name(name=of), attr=member) if of == name and member not in _METHODS:
            return member
    return None


def nests_sets(source: str) -> bool:
    """Return whether an expression has a set in a set, as ``{{ a }}`` is read: it fails when it is evaluated.

    Raises ``UnsafeExpressionError``.
    """
    compile_expression(source, version=2)
    if "{" not in source:
        return False
    sets = (node for node in ast.walk(ast.parse(source.strip(), mode="eval")) if isinstance(node, ast.Set))
    return any(isinstance(element, ast.Set) for node in sets for element in node.elts)


def _constant(node: ast.AST) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
