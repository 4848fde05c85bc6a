"""A bounded Jinja2: loop steps, calls, filters and operators are charged to a budget, values have a maximum size.

Stock Jinja2's sandbox keeps templates away from Python's insides, not from a machine's memory and time. Here a
rendering has a ``Budget``; what makes values asks it first where the size is known beforehand, and afterwards
otherwise.
"""

from __future__ import annotations

import datetime
import functools
import sys
import threading
import time
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from string import Formatter
from typing import Any, cast

import jinja2
from jinja2 import nodes
from jinja2.filters import FILTERS
from jinja2.runtime import LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.utils import Cycler, Joiner, Namespace, pass_context
from jinja2.visitor import NodeTransformer

from pyflow.core.errors import PyFlowError
from pyflow.expressions import template_limits as limits
from pyflow.expressions.costs import MAX_ITEMS, MAX_TEXT, WRITE, CostError, cut
from pyflow.expressions.draws import DRAWS
from pyflow.expressions.evaluation_errors import ExpressionLimitError, UnsafeExpressionError
from pyflow.expressions.functions import Evaluation2, call_function
from pyflow.expressions.template_errors import Missing, TemplateLimitError, TemplateSecurityError
from pyflow.expressions.template_functions import is_mapping_method
from pyflow.expressions.values import TIMES, Evaluation, as_text, call_method
from pyflow.expressions.values import WORK as STEP_OF_EXPRESSIONS
from pyflow.expressions.weight import UNIT, VIEWS, HeavyError, NestingError, Scale

MAX_STEPS = 100_000
#: How much work (see ``pyflow.expressions.costs``) is a step.
WORK = 4096
#: CPU time of one rendering, seconds: for what steps do not see.
MAX_SECONDS = 0.4
#: Everything that one rendering makes, bytes.
MAX_BYTES = 32 * 1024 * 1024
#: A list or tuple that something is looked for by: values, or 16 characters each.
MAX_KEY = 1000
#: A value written out in full: characters, and 16 for each value that is not text.
MAX_WEIGHT = 32 * 1024 * 1024


class Budget:
    """The remaining budget of one rendering."""

    __slots__ = ("_bytes", "_deadline", "_ends", "_loads", "_purse", "_scale", "_steps", "scope")

    def __init__(self, scope: Mapping[str, Any] | None = None) -> None:
        #: The names that functions of the language look up; ``None``: a template of version 1, which has none.
        self.scope = scope
        self._purse: _Purse | None = None
        self._steps = MAX_STEPS
        self._bytes = MAX_BYTES
        self._deadline = time.perf_counter() + MAX_SECONDS
        self._ends = time.thread_time() + MAX_SECONDS
        self._scale: _DataScale | None = None
        self._loads: Scale | None = None

    @property
    def purse(self) -> Evaluation:
        """The evaluation in which functions of the language are called: it pays from this budget."""
        if self._purse is None:
            self._purse = _Purse(self, self.scope or {})
        return self._purse

    def spend(self, steps: int = 1) -> None:
        """Take ``steps``; raises ``TemplateLimitError`` when they, or the time, are used up."""
        self._steps -= steps
        if self._steps < 0:
            raise TemplateLimitError(f"the template takes more than {MAX_STEPS:,} steps")
        # The first clock is cheap and also runs while others have the processor; the second is the one that counts.
        if time.perf_counter() > self._deadline and time.thread_time() > self._ends:
            raise TemplateLimitError(f"the template takes longer than {MAX_SECONDS:g} s")

    def work(self, work: int) -> None:
        """Take the steps for ``work`` that is about to be done."""
        self.spend(1 + work // WORK)

    def made(self, value: Any) -> Any:
        """``value`` if it is within bounds, once its size is paid for; an iterator as one that pays as it goes."""
        kind = type(value)
        if kind is int:
            limits.bits(value.bit_length())
        elif kind is float:
            limits.finite(value)
        elif isinstance(value, str | bytes):
            limits.size(len(value), MAX_TEXT)
            self._take(sys.getsizeof(value))
        elif isinstance(value, list | tuple | set | frozenset | dict):
            limits.size(len(value), MAX_ITEMS)
            self._take(sys.getsizeof(value) + sum(map(_owned, value)))
            if self.weigh(value) > MAX_WEIGHT:
                raise TemplateLimitError("a collection that is too large when written out")
        elif isinstance(value, Iterator):
            return self.steps(value)
        return value

    def weigh(self, value: Any) -> int:
        """The weight of a value (see ``Scale``)."""
        if self._scale is None:
            self._scale = _DataScale()
        try:
            return self._scale.weigh(value)
        except (NestingError, HeavyError) as error:
            raise TemplateLimitError(f"a value {error}") from None

    def compared(self, value: Any) -> Any:
        """``value``, once it is paid for that all of it may be looked at."""
        if type(value) not in _PLAIN:
            self.work(limits.comparison(self.load, value))
        return value

    def carried(self, values: Iterable[Any]) -> None:
        """Have it paid for that a new tuple or mapping, which nobody sees being made, will hold ``values``."""
        if sum(self.load(value) for value in values if isinstance(value, _CONTAINERS)) > MAX_WEIGHT:
            raise TemplateLimitError("arguments that are too large when written out")

    def load(self, value: Any) -> int:
        """The weight of a value whatever is in it: it is not kept or written, and may be a function of a result."""
        if self._loads is None:
            self._loads = Scale()
        try:
            return self._loads.weigh(value)
        except (NestingError, HeavyError) as error:
            raise TemplateLimitError(f"a value {error}") from None

    def steps(self, items: Iterable[Any]) -> Iterator[Any]:
        """The items, each paid for."""
        for item in items:
            self.spend()
            # `map(attribute=…) | select("defined")` is meant.
            self._take(8 if isinstance(item, Undefined) else 8 + _owned(item))
            yield item

    def shown(self, value: Any) -> Any:
        """``value`` if it may be written as text."""
        if isinstance(value, _CONTAINERS) or (type(value) is int and value.bit_length() > 64):
            weight = self.weigh(value)
            limits.size(weight // UNIT, MAX_TEXT)
            self.work(WRITE * weight)
            value = str(value)
        elif not isinstance(value, str):
            if type(value) not in _PLAIN and isinstance(value, _NEVER_SHOWN):
                raise _not_data(value)
            return value
        limits.size(len(value), MAX_TEXT)
        self._take(sys.getsizeof(value))
        return value

    def _take(self, size: int) -> None:
        self._bytes -= size
        if self._bytes < 0:
            raise TemplateLimitError(f"the template makes more than {MAX_BYTES:,} bytes of values")


class _Purse(Evaluation2):
    """An evaluation that pays from the budget of a rendering: a step of expressions is worth several of templates."""

    __slots__ = ("_budget",)

    def __init__(self, budget: Budget, scope: Mapping[str, Any]) -> None:
        super().__init__(scope)
        self._budget = budget

    def spend(self, steps: int = 1) -> None:
        self._budget.spend(steps * (STEP_OF_EXPRESSIONS // WORK))


def _owned(item: Any) -> int:
    """Return the cost of an item of a new collection: rows and groups are new, too. None may be undefined."""
    if isinstance(item, Undefined):
        item._fail_with_undefined_error()
    return sys.getsizeof(item) if isinstance(item, list | tuple) else 0


_CODE = (type, types.FunctionType, types.MethodType, types.BuiltinMethodType, Macro, LoopContext, Cycler, Joiner)
#: A namespace changes after it was weighed: it hands values on and is none.
_NEVER_KEPT = (*_CODE, Namespace)
_NEVER_SHOWN = (*_NEVER_KEPT, Iterator)
_CONTAINERS = (list, tuple, set, frozenset, dict, *VIEWS)
_PLAIN = frozenset({int, float, bool, type(None)})


_METHODS = (types.MethodType, types.BuiltinMethodType)
#: Callables of C that have no entry in a table of costs.
_UNKNOWN = (
    types.MethodWrapperType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    functools.partial,
)


def _not_data(value: Any) -> TemplateSecurityError:
    hint = "; add `| list`" if isinstance(value, Iterator) else ""
    return TemplateSecurityError(f"a {type(value).__name__} is not data{hint}")


class _DataScale(Scale):
    """Weighs what is written or kept, in which no code may hide, nor anything undefined."""

    def other(self, value: Any, /) -> int:
        if isinstance(value, Undefined):
            value._fail_with_undefined_error()
        if isinstance(value, _NEVER_KEPT):
            raise _not_data(value)
        return UNIT


class _Rendering(threading.local):
    # Not a context variable: rendering never awaits, and nodes' contexts stay as they are.
    budget: Budget | None = None


_rendering = _Rendering()


class budgeted:  # noqa: N801 - reads as the statement it is
    """``with budgeted(scope):`` gives what is rendered inside a budget of its own; ``scope`` as of ``Budget``."""

    __slots__ = ("_outer", "_scope")

    def __init__(self, scope: Mapping[str, Any] | None = None) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        self._outer = _rendering.budget
        _rendering.budget = Budget(self._scope)

    def __exit__(self, *_: object) -> None:
        _rendering.budget = self._outer


def shown(value: Any) -> str:
    """``str(value)``, for a collection within the bounds of a rendering."""
    return str(Budget().shown(value) if isinstance(value, _CONTAINERS) else value)


def _budget() -> Budget:
    budget = _rendering.budget
    return Budget() if budget is None else budget


# --- filters -----------------------------------------------------------------------------------------------------


def _metered(name: str, apply: Callable[..., Any]) -> Callable[..., Any]:
    cost = limits.FILTERS[name]
    skip = 1 if hasattr(apply, "jinja_pass_arg") else 0

    @wraps(apply)
    def metered(*args: Any, **kwargs: Any) -> Any:
        budget = _budget()
        budget.spend(1 + sum(map(_cost, args[skip:])))
        for arg in args[skip:]:
            if isinstance(arg, _NEVER_KEPT):
                raise _not_data(arg)
        if skip < len(args):
            args = (*args[:skip], _paid(budget, name, args[skip]), *args[skip + 1 :])
        budget.work(cost(budget.weigh, *args[skip:], **kwargs))
        if name in limits.KEYED:
            budget.work(limits.ordering(name, budget.load, _keys(name, *args, **kwargs)))
        result = apply(*args, **kwargs)
        return budget.made(str(result) if name == "tojson" else result)

    return metered


#: What is handed to these is looked at item by item, with nothing of ours in between.
_LOOPING = frozenset({"batch", "map", "reject", "rejectattr", "select", "selectattr", "slice", "sum"})


def _paid(budget: Budget, name: str, value: Any) -> Any:
    """The value of a filter as one that pays as it is looped over, or all of it where it is looped over twice."""
    if isinstance(value, Iterator):
        value = budget.steps(value)
        return list(value) if name in limits.KEYED else value
    if name in _LOOPING and isinstance(value, _CONTAINERS):
        return budget.steps(cast(Iterable[Any], value))
    return value


def _keys(
    name: str,
    environment: jinja2.Environment,
    value: Any = (),
    *args: Any,
    attribute: Any = None,
    **_: Any,
) -> list[Any]:
    """Return the values that a filter will compare, by the attributes that it is given."""
    at = {"groupby": 0, "sort": 2}.get(name, 1)
    attribute = args[at] if at < len(args) else attribute
    make = jinja2.filters.make_multi_attrgetter if name == "sort" else jinja2.filters.make_attrgetter
    return [*map(make(environment, attribute), value)]


def _metered_test(name: str, apply: Callable[..., Any]) -> Callable[..., Any]:
    cost = limits.TESTS[name]
    skip = 1 if hasattr(apply, "jinja_pass_arg") else 0

    @wraps(apply)
    def metered(*args: Any) -> Any:
        budget = _budget()
        budget.work(cost(budget.load, *args[skip:]))
        return apply(*args)

    return metered


def _cost(value: Any) -> int:
    """Count the steps of looking at a value."""
    if isinstance(value, str):
        return len(value) // 4096
    return len(value) // 16 if isinstance(value, list | tuple | dict) else 0


@jinja2.pass_environment
def _join(environment: jinja2.Environment, value: Any, d: Any = "", attribute: Any = None) -> str:
    items = value if attribute is None else map(jinja2.filters.make_attrgetter(environment, attribute), value)
    return _concat(items, str(d))


def _concat(items: Iterable[Any], separator: str = "") -> str:
    budget, parts, size = _budget(), [], 0
    for item in items:
        budget.spend()
        if isinstance(item, Undefined):
            str(item)  # raises
        part = str(budget.shown(item))
        size += len(part) + len(separator)
        limits.size(size, MAX_TEXT + len(separator))
        parts.append(part)
    return separator.join(parts)


@jinja2.pass_environment
def _sum(environment: jinja2.Environment, value: Any, attribute: Any = None, start: Any = 0) -> Any:
    items = value if attribute is None else map(jinja2.filters.make_attrgetter(environment, attribute), value)
    if not isinstance(start, list | tuple):
        return sum(items, start)
    budget, total = _budget(), list(start)
    for item in items:
        total.extend(budget.steps(item))
    return type(start)(total)


@pass_context
def _random(context: Any, seq: Any) -> Any:
    scope = _budget().scope
    draws = None if scope is None else scope.get(DRAWS)
    if draws is None or not seq:
        return FILTERS["random"](context, seq)
    return seq[int(draws.random() * len(seq))]


# --- functions of the language ------------------------------------------------------------------------------------


def _call(name: str, *args: Any, **kwargs: Any) -> Any:
    budget = _budget()
    values = [_as_data(budget, arg) for arg in args]
    named = {key: _as_data(budget, arg) for key, arg in kwargs.items()}
    with _as_template_limit():
        return budget.made(call_function(budget.purse, name, values, named))


@pass_context
def _method(context: Any, owner: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    budget = _budget()
    if isinstance(owner, Undefined):
        owner._fail_with_undefined_error()
    if not is_mapping_method(owner, name):
        environment = context.environment
        return environment.call(context, environment.getattr(owner, name), *args, **kwargs)
    values = [_as_data(budget, arg) for arg in args]
    with _as_template_limit():
        return budget.made(call_method(budget.purse, owner, name, values, kwargs))


@contextmanager
def _as_template_limit() -> Iterator[None]:
    try:
        yield
    except ExpressionLimitError as error:
        raise TemplateLimitError(str(error)) from None
    except UnsafeExpressionError as error:
        raise TemplateSecurityError(str(error)) from None


def _as_data(budget: Budget, value: Any) -> Any:
    """An argument as the functions know it: what `map` and its kind give is computed first."""
    if isinstance(value, Undefined):
        value._fail_with_undefined_error()
    if isinstance(value, _NEVER_KEPT):
        raise _not_data(value)
    if isinstance(value, (Iterator, range, *VIEWS)):
        return list(budget.steps(cast(Iterable[Any], value)))
    return str(value) if isinstance(value, str) else value


# --- the environment ---------------------------------------------------------------------------------------------


class _Metering(NodeTransformer):
    """Has loops, literals, concatenations and plain text paid for, and refuses what configs do not need."""

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        if isinstance(node, _REFUSED):
            raise TemplateSecurityError(f"{type(node).__name__.lower()} is not allowed in a template")
        if isinstance(node, nodes.Name) and node.name == "self":
            raise TemplateSecurityError("'self' is not allowed in a template")
        super().generic_visit(node, *args, **kwargs)
        if isinstance(node, nodes.For):
            node.iter = _filtered(cast(nodes.Expr, node.iter), "pyflow_steps")
        elif isinstance(node, nodes.Compare):
            node.expr = _filtered(node.expr, "pyflow_compared")
            for operand in node.ops:
                name = "pyflow_searched" if operand.op in ("in", "notin") else "pyflow_compared"
                operand.expr = _filtered(operand.expr, name)
        elif isinstance(node, nodes.Concat):
            return _filtered(nodes.Tuple(node.nodes, "load", lineno=node.lineno), "pyflow_concat")
        elif isinstance(node, nodes.List | nodes.Dict) or (isinstance(node, nodes.Tuple) and node.ctx == "load"):
            return _filtered(cast(nodes.Expr, node), "pyflow_made")
        elif isinstance(node, nodes.TemplateData):
            return nodes.Const(node.data, lineno=node.lineno)
        return node


_REFUSED = (
    nodes.Extends,
    nodes.Include,
    nodes.Import,
    nodes.FromImport,
    nodes.Block,
    nodes.EvalContextModifier,
    nodes.ScopedEvalContextModifier,
)


def _filtered(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


_GLOBALS = ("range", "dict", "cycler", "joiner", "namespace")


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2 over plain data, with a budget."""

    intercepted_binops = frozenset({"*", "**", "%", "+", "-", "/"})

    def __init__(self) -> None:
        super().__init__(undefined=Missing, autoescape=False, optimized=False, finalize=_shown)
        self.globals = {name: self.globals[name] for name in _GLOBALS}
        filters = FILTERS | {"join": _join, "sum": _sum, "random": _random}
        self.filters = {name: _metered(name, filters[name]) for name in limits.FILTERS.keys() & filters.keys()}
        tests = cast(Mapping[str, Any], self.tests)
        self.tests = {name: _metered_test(name, tests[name]) for name in limits.TESTS.keys() & tests.keys()}
        # The five that `_Metering` inserts, and the two of `Functions`.
        self.filters |= {
            "pyflow_call": _call,
            "pyflow_method": _method,
            "pyflow_steps": lambda items: _budget().steps(items),
            "pyflow_made": lambda value: _budget().made(value),
            "pyflow_concat": _concat,
            "pyflow_compared": lambda value: _budget().compared(value),
            "pyflow_searched": lambda value: value if limits.is_hashed(value) else _budget().compared(value),
        }

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        metered = cast(nodes.Template, _Metering().visit(source))
        metered.set_environment(self)
        return super()._generate(metered, *args, **kwargs)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """The field of ``obj``; data before methods: a key named ``items`` is data."""
        if isinstance(obj, Mapping):
            try:
                return obj[attribute]
            except KeyError as error:
                if isinstance(error, PyFlowError):  # a secret that does not exist says so itself
                    raise
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """The item of ``obj``. What is looked for is written into the message if it is not there."""
        budget = _budget()
        # A filter may look for an attribute of each of its items, and that by a path of thousands of steps.
        budget.spend()
        if isinstance(argument, slice):
            try:
                budget.work(cut(obj, argument))
            except CostError as error:
                raise TemplateLimitError(str(error)) from None
        elif isinstance(argument, _NEVER_KEPT):
            raise _not_data(argument)
        elif isinstance(argument, _CONTAINERS):
            limits.size(budget.weigh(argument) // UNIT, MAX_KEY)
        return super().getitem(obj, argument)

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        """Refused at once: stock Jinja2 waits for a use, which `default`, `is defined` and `sort` are not."""
        raise TemplateSecurityError(f"access to {attribute!r} of a {type(obj).__name__} is not allowed")

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """``str.format`` with fields of bounded width."""
        if super().wrap_str_format(value) is None:
            return None
        text = value.__self__

        def format_text(*args: Any, **kwargs: Any) -> str:
            return _Format(self).vformat(str(text), args, kwargs)

        def format_map(mapping: Mapping[str, Any]) -> str:
            return _Format(self).vformat(str(text), (), mapping)

        return format_map if value.__name__ == "format_map" else format_text

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a macro, a method of data or a function of a node's result, and pay for it."""
        budget = _budget()
        budget.spend(1 + sum(map(_cost, args)))
        owner = getattr(obj, "__self__", None) if isinstance(obj, _METHODS) else None
        if isinstance(obj, LoopContext) and args:
            args = (budget.steps(args[0]), *args[1:])
        elif obj is dict and args and not isinstance(args[0], Mapping):
            args = (limits.pairs(budget.steps(args[0])), *args[1:])
        elif obj is Cycler or (isinstance(obj, Macro) and (obj.catch_varargs or obj.catch_kwargs)):
            budget.carried((*args, *kwargs.values()))
        elif isinstance(obj, types.BuiltinMethodType) or isinstance(owner, str):  # Markup's methods are Python's
            # Jinja2 passes the context of loops this way, and drops it before the call.
            named = {name: value for name, value in kwargs.items() if name not in ("_loop_vars", "_block_vars")}
            if unkept := next((arg for arg in (*args, *named.values()) if isinstance(arg, _NEVER_KEPT)), None):
                raise _not_data(unkept)
            budget.work(limits.method(owner, obj.__name__, args, named, budget.load))
        elif isinstance(owner, LoopContext):  # `loop.changed` compares
            for arg in args:
                budget.compared(arg)
        elif isinstance(obj, _UNKNOWN) or (isinstance(obj, type) and obj.__module__ == "builtins" and obj is not dict):
            raise TemplateSecurityError(f"calling a {type(obj).__name__} is not allowed in a template")
        return budget.made(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute an operator that can make large or endless values, if the result is within bounds."""
        budget = _budget()
        budget.work(limits.operation(operator, left, right, budget.weigh))
        return budget.made(super().call_binop(context, operator, left, right))


@pass_context
def _shown(_: Any, value: Any) -> Any:
    budget = _budget()
    shown = budget.shown(value)
    # Only functions of version 2 give these.
    return as_text(shown) if isinstance(shown, TIMES) and budget.scope is not None else shown


class _Format(SandboxedFormatter, Formatter):
    def vformat(self, format_string: str, args: Any, kwargs: Any) -> str:
        limits.size(len(format_string), limits.MAX_FORMAT)
        return str(super().vformat(format_string, args, kwargs))

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, datetime.date | datetime.time):
            limits.time_format(format_spec)
        else:
            limits.widths(format_spec)
        budget = _budget()
        return str(budget.shown(super().format_field(budget.shown(value), format_spec)))

    def convert_field(self, value: Any, conversion: Any) -> Any:
        return super().convert_field(_budget().shown(value) if conversion else value, conversion)
