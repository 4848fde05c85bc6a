"""Operators, functions, methods and fields of expressions, each with a bound on the size of its result."""

from __future__ import annotations

import ast
import dataclasses
import datetime
import math
import operator
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel

from pyflow.core.errors import PyFlowError
from pyflow.core.plain import in_order
from pyflow.core.wording import no_field
from pyflow.expressions.costs import COMPARE as COMPARING
from pyflow.expressions.costs import MAX_INT_BITS, MAX_ITEMS, MAX_TEXT, WRITE, CostError, find_cost, searching, sorting
from pyflow.expressions.evaluation_errors import EvaluationAttributeError, ExpressionLimitError, UnsafeExpressionError
from pyflow.expressions.weight import VIEWS, ClashError, HeavyError, NestingError, Scale, check_clashes

#: Of version 2, beside Python's.
LITERALS: Mapping[str, Any] = {"true": True, "false": False, "null": None}
MAX_STEPS = 10_000
#: How much work (see ``pyflow.expressions.costs``) is a step.
WORK = 32_768
#: Bounds what steps do not see (comparing large data): seconds.
MAX_SECONDS = 1.0
#: A value that an expression makes, written out in full: characters, and 16 for each value that is not text.
MAX_WEIGHT = 32 * 1024 * 1024


class Evaluation:
    """One evaluation in progress: the scope, the names that comprehensions bind, and what may still be spent."""

    __slots__ = ("deadline", "ends", "names", "scale", "scope", "steps")

    #: Of the document: version 2 writes dates as JSON has them, and goes through a set in a steady order.
    version: ClassVar[int] = 1
    methods: ClassVar[Methods]
    limit: ClassVar[int] = MAX_STEPS

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self.scope = scope
        self.names: dict[str, Any] = {}
        self.steps = self.limit
        #: By the clock, and by the processor's time of this thread: the second is the one that counts.
        self.deadline = self.ends = 0.0
        self.scale: Scale | None = None

    def spend(self, steps: int = 1) -> None:
        """Take ``steps`` from the budget; raises ``ExpressionLimitError`` when it, or the time, is used up."""
        self.steps -= steps
        if self.steps < 0:
            raise ExpressionLimitError(f"the expression takes more than {self.limit:,} steps")
        if not self.deadline:
            self.deadline, self.ends = time.perf_counter() + MAX_SECONDS, time.thread_time() + MAX_SECONDS
        elif time.perf_counter() > self.deadline and time.thread_time() > self.ends:
            raise ExpressionLimitError(f"the expression takes longer than {MAX_SECONDS:g} s")

    def charge(self, value: Any) -> Any:
        """``value`` if it is within bounds, once what it cost to make is spent."""
        bounded(value)
        kind = type(value)
        if kind is str:
            self.spend(1 + len(value) // 1024)
        elif kind in SIZED:
            self.spend(1 + len(value) // 1024)
            if self.weigh(value) > MAX_WEIGHT:
                raise ExpressionLimitError("a collection that is too large when written out")
        return value

    def weigh(self, value: Any) -> int:
        """The weight of a value (see ``Scale``)."""
        if self.scale is None:
            self.scale = Scale()
        try:
            return self.scale.weigh(value)
        except (NestingError, HeavyError) as error:
            raise ExpressionLimitError(f"a value {error}") from None

    def work(self, work: int) -> None:
        """Take the steps for ``work`` that is about to be done."""
        self.spend(1 + work // WORK)

    def compared(self, value: Any) -> None:
        """Take the steps for looking at all of a value."""
        if type(value) in SIZED:
            self.work(COMPARING * self.weigh(value))
        elif isinstance(value, str) and len(value) > WORK:
            self.work(COMPARING * len(value))

    def show(self, value: Any, write: Callable[[Any], str] = str) -> str:
        """``value`` as text by ``write``, if that text can be within bounds."""
        if isinstance(value, int):
            bounded(int(value))
        elif self.version != 1 and isinstance(value, TIMES):
            return as_text(value)
        elif isinstance(value, _WRITTEN_OUT):
            if self.weigh(value) > 8 * MAX_TEXT:
                raise ExpressionLimitError(f"text of more than {MAX_TEXT:,} characters")
            self.work(WRITE * self.weigh(value))
        text = write(value)
        return text if type(text) is str else str(text)

    def items(self, value: Any) -> Any:
        """``value`` as something to go through in an order that is the same whenever and wherever that is done."""
        return in_order(value) if self.version != 1 and isinstance(value, set | frozenset) else value


TIMES = (datetime.date, datetime.time, datetime.timedelta)


def as_text(value: datetime.date | datetime.time | datetime.timedelta) -> str:
    """Return a date or moment in ISO 8601, and a duration as its number of seconds, which is what JSON gets."""
    if not isinstance(value, datetime.timedelta):
        return value.isoformat()
    seconds = value.total_seconds()
    return str(int(seconds) if seconds.is_integer() else seconds)


def bounded(value: Any) -> Any:
    """``value`` if it is within the limits of its type."""
    kind = type(value)
    if kind is int:
        if value.bit_length() > MAX_INT_BITS:
            raise ExpressionLimitError(f"an integer of more than {MAX_INT_BITS} bits")
    elif kind is float:
        if not math.isfinite(value):
            raise ExpressionLimitError("a number beyond the range of floats")
    elif kind is str:
        if len(value) > MAX_TEXT:
            raise ExpressionLimitError(f"text of more than {MAX_TEXT:,} characters")
    elif kind in SIZED and len(value) > MAX_ITEMS:
        raise ExpressionLimitError(f"a collection of more than {MAX_ITEMS:,} items")
    return value


SIZED = frozenset({list, tuple, set, dict})
_LOOKED_AT = SIZED | {str}
_WRITTEN_OUT = (list, tuple, set, dict, *VIEWS)
NUMBERS = (int, float)


def _add(a: Any, b: Any) -> Any:
    if isinstance(a, str | list | tuple) and type(a) is type(b):
        limit = MAX_TEXT if isinstance(a, str) else MAX_ITEMS
        if len(a) + len(b) > limit:
            raise ExpressionLimitError(f"a value of more than {limit:,} items or characters")
    return a + b


def _of_sets(combine: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """An operator of numbers that sets and mappings have, too."""

    def apply(a: Any, b: Any) -> Any:
        for value in (a, b):
            if type(value) in SIZED and len(value) > MAX_ITEMS:
                raise ExpressionLimitError(f"a collection of more than {MAX_ITEMS:,} items")
        return combine(a, b)

    return apply


def _multiply(a: Any, b: Any) -> Any:
    for sequence, count in ((a, b), (b, a)):
        if isinstance(sequence, str | list | tuple):
            if not isinstance(count, int):
                break
            limit = MAX_TEXT if isinstance(sequence, str) else MAX_ITEMS
            if len(sequence) * max(count, 0) > limit:
                raise ExpressionLimitError(f"a repetition of more than {limit:,} items")
    return a * b


def _power(a: Any, b: Any) -> Any:
    if not isinstance(a, NUMBERS) or not isinstance(b, NUMBERS):
        raise TypeError("** works on numbers")
    if isinstance(a, int) and isinstance(b, int) and b > 0 and a.bit_length() * b > 2 * MAX_INT_BITS:
        raise ExpressionLimitError(f"an integer of more than {MAX_INT_BITS} bits")
    result = a**b
    if isinstance(result, complex):
        raise ValueError("a root of a negative number")
    return result


def _modulo(a: Any, b: Any) -> Any:
    if isinstance(a, str | bytes):
        raise UnsafeExpressionError("text formatting by % is not allowed; use an f-string")
    return a % b


def _shift_left(a: Any, b: Any) -> Any:
    if not isinstance(a, int) or not isinstance(b, int):
        raise TypeError("<< works on integers")
    if b > MAX_INT_BITS:
        raise ExpressionLimitError(f"an integer of more than {MAX_INT_BITS} bits")
    return a << b


BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: _add,
    ast.Sub: _of_sets(operator.sub),
    ast.Mult: _multiply,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: _modulo,
    ast.Pow: _power,
    ast.BitAnd: _of_sets(operator.and_),
    ast.BitOr: _of_sets(operator.or_),
    ast.BitXor: _of_sets(operator.xor),
    ast.LShift: _shift_left,
    ast.RShift: operator.rshift,
}
UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
}
COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}

TYPES: dict[str, type] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "list": list,
    "dict": dict,
    "tuple": tuple,
    "set": set,
}


def _to_int(value: Any = 0, base: Any = None) -> int:
    if isinstance(value, str) and len(value) > 100:
        raise ExpressionLimitError("an integer of more than 100 digits")
    return int(value) if base is None else int(value, base)


def _to_float(value: Any = 0.0) -> float:
    if isinstance(value, str) and len(value) > 1000:
        raise ExpressionLimitError("a float of more than 1,000 digits")
    return float(value)


def _range(*args: int) -> list[int]:
    numbers = range(*args)
    if len(numbers) > MAX_STEPS:
        raise ExpressionLimitError(f"a range of more than {MAX_STEPS:,} numbers")
    return list(numbers)


def _round(value: Any, digits: Any = None) -> Any:
    if isinstance(digits, int) and abs(digits) > 100:
        raise ExpressionLimitError("round() to more than 100 digits")
    return round(value, digits)


def distinct(keys: Iterable[Any]) -> list[Any]:
    """The keys of a set or mapping that is about to be made."""
    keys = list(keys)
    try:
        check_clashes(keys)
    except ClashError as error:
        raise ExpressionLimitError(str(error)) from None
    return keys


def make_set(items: Iterable[Any] = ()) -> set[Any]:
    """``set(items)`` in linear time; ``ExpressionLimitError`` if that cannot be."""
    return set(items if isinstance(items, set | str | dict) else distinct(items))


def make_dict(items: Any = ()) -> dict[Any, Any]:
    """``dict(items)`` in linear time; ``ExpressionLimitError`` if that cannot be."""
    if not isinstance(items, Mapping):
        items = [tuple(pair) for pair in items]
        distinct(pair[0] for pair in items if pair)
    return dict(items)


_OF_SETS = ("union", "intersection", "difference", "symmetric_difference", "issubset", "issuperset", "isdisjoint")


def _with_sets(name: str) -> Callable[..., Any]:
    method = getattr(set, name)
    return lambda own, *others: method(own, *map(make_set, others))


def _sum(items: Iterable[Any], start: Any = 0) -> Any:
    total = start
    for item in items:
        if not isinstance(item, NUMBERS):
            raise TypeError("sum() adds numbers")
        total = bounded(total + item)
    return total


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "all": all,
    "any": any,
    "bool": bool,
    "dict": make_dict,
    "enumerate": lambda items, start=0: [(start + i, item) for i, item in enumerate(items)],
    "float": _to_float,
    "int": _to_int,
    "isinstance": isinstance,
    "len": len,
    "list": list,
    "max": max,
    "min": min,
    "range": _range,
    "reversed": lambda items: list(reversed(items)),
    "round": _round,
    "set": make_set,
    "sorted": sorted,
    "str": str,
    "sum": _sum,
    "tuple": tuple,
    "zip": lambda *items: list(zip(*items, strict=False)),
}


def pay_for_comparison(env: Evaluation, _: Any, right: Any) -> None:
    """Take the steps for comparing two values: no more than looking at one of them takes."""
    if type(right) in _LOOKED_AT:
        env.compared(right)


def pay_for_search(env: Evaluation, value: Any, container: Any) -> None:
    """Take the steps for looking for ``value`` in ``container``."""
    if isinstance(container, str):
        if len(container) > WORK:
            env.work(searching(container, value))
        return
    env.compared(value)
    if not isinstance(container, Mapping | set):
        env.compared(container)


#: Functions that compare, hash or only look at what they are given.
_ORDERING = frozenset({"max", "min", "sorted"})
_HASHING = frozenset({"dict", "set"})


def pay_for_call(env: Evaluation, name: str, values: list[Any]) -> None:
    """Take the steps for a call of a function with these arguments."""
    for value in values:
        if type(value) in SIZED:
            env.spend(1 + len(value) // 64)
            if name in _ORDERING:
                env.work(sorting(env.weigh(value), len(value)))
            elif name in _HASHING:
                env.compared(value)
        elif isinstance(value, str) and name not in _SHORT:
            if len(value) > MAX_ITEMS:
                raise ExpressionLimitError(f"a collection of more than {MAX_ITEMS:,} items")
            env.spend(1 + len(value) // 64)


#: Functions that take a text as one thing; the others look at each of its characters.
_SHORT = frozenset({"abs", "bool", "float", "int", "len", "round", "str"})
KEYWORDS = {"sorted": {"reverse"}, "min": {"default"}, "max": {"default"}, "enumerate": {"start"}}


def _zfill(text: str, width: int) -> str:
    if width > 1000:
        raise ExpressionLimitError("zfill() to more than 1,000 characters")
    return text.zfill(width)


def _plain_methods(kind: type, names: str) -> dict[str, Callable[..., Any]]:
    return {name: getattr(kind, name) for name in names.split()}


Methods = tuple[tuple[type, dict[str, Callable[..., Any]]], ...]
METHODS: Methods = (
    (
        str,
        _plain_methods(
            str,
            "capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit islower isnumeric "
            "isspace istitle isupper join lower lstrip partition removeprefix removesuffix replace rfind rindex "
            "rpartition rsplit rstrip split splitlines startswith strip swapcase title upper",
        )
        | {"zfill": _zfill},
    ),
    (dict, _plain_methods(dict, "get keys values items")),
    (list, _plain_methods(list, "count index")),
    (tuple, _plain_methods(tuple, "count index")),
    (
        set,
        {name: _with_sets(name) for name in _OF_SETS},
    ),
    (datetime.datetime, _plain_methods(datetime.datetime, "date isoformat isoweekday timestamp weekday")),
    (datetime.date, _plain_methods(datetime.date, "isoformat isoweekday weekday")),
    (float, _plain_methods(float, "is_integer")),
    (int, _plain_methods(int, "bit_length")),
)
Evaluation.methods = METHODS
_DATE_FIELDS = frozenset({"year", "month", "day", "hour", "minute", "second", "microsecond"})
_DURATION_FIELDS = frozenset({"days", "seconds", "microseconds"})


def read_field(value: Any, name: str) -> Any:
    """The data field ``name`` of ``value``: a key of a mapping, or a field of a model, dataclass or named tuple.

    Never a method or anything else that an object carries besides its data. ``AttributeError`` if there is none.
    """
    if isinstance(value, Mapping):
        try:
            return value[name]
        except KeyError as error:
            if isinstance(error, PyFlowError):  # a secret that does not exist says so itself
                raise
            raise EvaluationAttributeError(no_field(value, name)) from None
    if not name.startswith("_"):
        if isinstance(value, BaseModel) and name in {*type(value).model_fields, *(value.model_extra or ())}:
            return getattr(value, name)
        if isinstance(value, tuple) and name in getattr(value, "_fields", ()):
            return getattr(value, name)
        if isinstance(value, datetime.date) and name in _DATE_FIELDS:
            return getattr(value, name)
        if isinstance(value, datetime.timedelta) and name in _DURATION_FIELDS:
            return getattr(value, name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            if any(field.name == name for field in dataclasses.fields(value)):
                return getattr(value, name)
        elif not isinstance(value, type) and not callable(value):
            fields = getattr(value, "__dict__", None)
            if isinstance(fields, dict) and name in fields and not callable(fields[name]):
                return fields[name]
    raise EvaluationAttributeError(f"{type(value).__name__} has no field {name!r}")


def call_method(env: Evaluation, value: Any, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Call an allowed method of a value of a built-in type; ``UnsafeExpressionError`` for any other."""
    for kind, methods in env.methods:
        if isinstance(value, kind):
            if name not in methods:
                break
            if name == "join":
                args = [*map(env.items, args)]
            cost = find_cost(value, name)
            if cost is None:
                break
            try:
                env.work(cost(env.weigh, value, *args, **kwargs))
            except CostError as error:
                raise ExpressionLimitError(f"{name}(): {error}") from None
            result = methods[name](value, *args, **kwargs)
            if kind is dict and name != "get":
                if len(result) > MAX_ITEMS:
                    raise ExpressionLimitError(f"a collection of more than {MAX_ITEMS:,} items")
                result = list(result)
            return env.charge(result)
    raise UnsafeExpressionError(f"{type(value).__name__} has no method {name!r} here")


Code = Callable[[Evaluation], Any]
#: A ``for`` of a comprehension: what it loops over, its names, whether it unpacks items into them, its conditions.
Loop = tuple[Code, list[str], bool, list[Code]]


def run_loops(env: Evaluation, loops: list[Loop], at: int, body: Callable[[], None]) -> None:
    """Call ``body`` for each combination of items of ``loops`` from the one ``at`` this place on."""
    if at == len(loops):
        body()
        return
    source, targets, unpack, conditions = loops[at]
    items = source(env)
    if not isinstance(items, list | tuple | set | dict | str):
        raise TypeError(f"cannot loop over {type(items).__name__}")
    for item in env.items(items):
        env.spend()
        if unpack:
            values = list(item)
            if len(values) != len(targets):
                raise ValueError(f"cannot unpack {len(values)} values into {len(targets)} names")
            env.names.update(zip(targets, values, strict=True))
        else:
            env.names[targets[0]] = item
        if all(condition(env) for condition in conditions):
            run_loops(env, loops, at + 1, body)
