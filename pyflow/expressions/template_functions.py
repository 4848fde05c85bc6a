"""Calls the functions of expressions from templates of version 2, within the budget of the rendering."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from pyflow.expressions.evaluation_errors import UnsafeExpressionError
from pyflow.expressions.functions import COMPUTING, NEEDS, check_call, is_function, unknown_function
from pyflow.expressions.template_errors import TemplateSyntaxError

#: Names that Jinja2 has, too: they stay what they are in a template.
_JINJA = frozenset({"range", "dict", "isinstance"})
#: Names that a template calls without giving them a value itself.
_CALLABLE = frozenset({"caller", "cycler", "dict", "joiner", "loop", "namespace", "range"})
#: Methods that mean in a template what they mean in an expression.
SHARED_METHODS = frozenset({"items", "keys", "values", "get", "astimezone"})


class Functions(NodeTransformer):
    """Replaces calls of the language's functions and methods; ``needs`` collects the names that they look up."""

    def __init__(self, tree: nodes.Template) -> None:
        # A name that the template gives a value itself, by a macro or `set`, is that.
        own = {name.name for name in tree.find_all(nodes.Name) if name.ctx != "load"}
        self._own = own | {macro.name for macro in tree.find_all(nodes.Macro)}
        self.needs: set[str] = set()
        #: Whether a function is called, whose result may be none of JSON's.
        self.called = False

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        """Replace the calls in a part of the template, and the part itself if it is one."""
        super().generic_visit(node, *args, **kwargs)
        return self._call(node) if isinstance(node, nodes.Call) else node

    def _call(self, node: nodes.Call) -> nodes.Node:
        if isinstance(node.node, nodes.Name) and self._is_function(node.node.name):
            name = node.node.name
            self._check(name, node)
            self.called = True
            if name in NEEDS:
                self.needs.add(NEEDS[name])
            return _filter(nodes.Const(name), "pyflow_call", node.args, node)
        if isinstance(node.node, nodes.Name) and node.node.name not in self._own | _CALLABLE:
            raise TemplateSyntaxError(str(unknown_function(node.node.name)), node.lineno)
        if isinstance(node.node, nodes.Getattr) and node.node.attr in SHARED_METHODS:
            return _filter(node.node.node, "pyflow_method", [nodes.Const(node.node.attr), *node.args], node)
        return node

    def _is_function(self, name: str) -> bool:
        return name not in self._own and name not in _JINJA and is_function(name)

    @staticmethod
    def _check(name: str, node: nodes.Call) -> None:
        if name in COMPUTING and node.dyn_args is None and node.dyn_kwargs is None:
            try:
                check_call(name, len(node.args), [pair.key for pair in node.kwargs])
            except UnsafeExpressionError as error:
                raise TemplateSyntaxError(str(error), node.lineno) from None


def _filter(value: nodes.Expr, name: str, args: list[nodes.Expr], call: nodes.Call) -> nodes.Filter:
    return nodes.Filter(value, name, args, call.kwargs, call.dyn_args, call.dyn_kwargs, lineno=call.lineno)


def is_mapping_method(owner: Any, name: str) -> bool:
    """Return whether a method is the language's own, whatever fields a mapping has: else it is Jinja2's business."""
    return isinstance(owner, dict) if name != "astimezone" else not isinstance(owner, Mapping)
