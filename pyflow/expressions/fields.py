"""Fields of a ``set`` node: each is an expression, or a nested mapping or list of them, and may read the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from pyflow.core.plain import to_plain
from pyflow.expressions.evaluation import (
    MAX_STEPS,
    EvaluationError,
    Expression,
    UnsafeExpressionError,
    compile_expression,
)
from pyflow.expressions.functions import Evaluation2
from pyflow.expressions.references import references_in_expression
from pyflow.expressions.scope import FieldScope
from pyflow.expressions.template import Scope, Value
from pyflow.expressions.values import Evaluation

#: Steps that the fields of one node take together, and their time is that of one expression.
MAX_NODE_STEPS = 5 * MAX_STEPS
_OUTPUT = frozenset({"output"})

Path = tuple[str | int, ...]
_Compute = Callable[[Evaluation], Any]


class _OfNode(Evaluation2):
    """The evaluation of all fields of a node."""

    __slots__ = ()

    limit = MAX_NODE_STEPS


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every expression in a field or in all of them, with its place; numbers, booleans and null are themselves."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))


def fields_read(source: str) -> set[str | None]:
    """Return the fields of its own node that an expression reads; ``None`` stands for all, or one that is computed."""
    return {each.member for each in references_in_expression(source, _OUTPUT) if each.name == "output"}


def circle(fields: Mapping[str, Any]) -> list[str]:
    """Return fields that read each other in a circle, the first one again at the end; none, if there is no circle."""
    try:
        _in_order(fields)
    except CycleError as error:
        found: list[str] = error.args[1]
        return found[::-1]
    return []


def compile_fields(fields: Mapping[str, Any], *, reads_own: bool = True) -> Value:
    """Compile the fields of a node: rendering the result computes them all.

    ``reads_own``: whether `output` is what is computed so far; in a compensation it is what that undoes. Raises
    ``UnsafeExpressionError``, or ``CycleError`` for fields that ``circle`` finds.
    """
    names: set[str] = set()
    parts = {name: _compile(value, f"config.{name}", names) for name, value in fields.items()}
    order = _in_order(fields) if reads_own else list(fields)

    def render(scope: Scope) -> dict[str, Any]:
        own = FieldScope(scope)
        evaluation = _OfNode(own if reads_own else scope)
        for name in order:
            own.output[name] = parts[name](evaluation)
        return {name: to_plain(own.output[name]) for name in fields}

    return Value(render, frozenset(names - _OUTPUT if reads_own else names), constant=False)


def _in_order(fields: Mapping[str, Any]) -> list[str]:
    read = {
        name: {other for _, source in leaves(value) for other in fields_read(source)} for name, value in fields.items()
    }
    # In the same order in every process: random values follow from the number of the call.
    known = {
        name: sorted(other for other in others if other is not None and other in fields)
        for name, others in read.items()
    }
    return [*TopologicalSorter(known).static_order()]


def _compile(value: Any, where: str, names: set[str]) -> _Compute:
    if isinstance(value, str):
        expression = compile_expression(value, version=2)
        names |= expression.names
        return _placed(expression, where)
    if isinstance(value, Mapping):
        parts = {key: _compile(item, f"{where}.{key}", names) for key, item in value.items()}
        return lambda evaluation: {key: part(evaluation) for key, part in parts.items()}
    if isinstance(value, list | tuple):
        items = [_compile(item, f"{where}[{index}]", names) for index, item in enumerate(value)]
        return lambda evaluation: [item(evaluation) for item in items]
    return lambda _: value


def _placed(expression: Expression, where: str) -> _Compute:
    def compute(evaluation: Evaluation) -> Any:
        try:
            return expression.evaluate(evaluation.scope, evaluation)
        except (EvaluationError, UnsafeExpressionError) as error:
            raise type(error)(f"`{where}`: {error}") from error

    return compute
