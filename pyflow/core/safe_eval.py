"""Expressions from strangers: a subset of Python's syntax, compiled to closures. No ``eval``, no ``getattr``.

What may stand in an expression is listed here; everything else is refused when the expression is compiled. What an
expression may cost is bounded: length, depth, steps, the size of every value it makes, and time as the last resort.
"""

from __future__ import annotations

import ast
import dataclasses
import datetime
import math
import operator
import re
import time
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, ClassVar, cast

from pydantic import BaseModel

from pyflow.core.errors import PyFlowError

MAX_SOURCE = 4096
MAX_DEPTH = 32
MAX_STEPS = 10_000
MAX_INT_BITS = 256
MAX_TEXT = 1024 * 1024
MAX_ITEMS = 100_000
#: Bounds what steps do not see (comparing large data): seconds.
MAX_SECONDS = 1.0


class UnsafeExpressionError(PyFlowError, ValueError):
    """The expression holds something that is not allowed."""

    code: ClassVar[str] = "expression_unsafe"


class ExpressionSyntaxError(UnsafeExpressionError, SyntaxError):
    """The text is not an expression."""

    code: ClassVar[str] = "expression_syntax"

    def __str__(self) -> str:
        return str(self.args[0])


class UnknownFunctionError(UnsafeExpressionError, NameError):
    """The expression calls a function that does not exist here."""

    code: ClassVar[str] = "expression_unknown_function"


class ExpressionLimitError(UnsafeExpressionError):
    """The expression, or a value it makes, is larger than allowed."""

    code: ClassVar[str] = "expression_limit"


class EvaluationError(PyFlowError):
    """An allowed expression failed on these values. Its subclasses also are Python's own error of the kind."""

    code: ClassVar[str] = "expression_failed"


class UnknownNameError(EvaluationError, NameError):
    """The expression uses a name that has no value."""

    code: ClassVar[str] = "expression_unknown_name"


class EvaluationTypeError(EvaluationError, TypeError):
    """An operation does not fit the types of its values."""


class EvaluationValueError(EvaluationError, ValueError):
    """A value is right in type and wrong otherwise."""


class EvaluationKeyError(EvaluationError, KeyError):
    """A mapping has no such key."""

    def __str__(self) -> str:
        return str(self.args[0])


class EvaluationIndexError(EvaluationError, IndexError):
    """A sequence is not that long."""


class EvaluationAttributeError(EvaluationError, AttributeError):
    """A value has no such field."""


class EvaluationDivisionError(EvaluationError, ZeroDivisionError):
    """A division by zero."""


_WRAPPED: tuple[tuple[type[Exception], type[EvaluationError]], ...] = (
    (ZeroDivisionError, EvaluationDivisionError),
    (KeyError, EvaluationKeyError),
    (IndexError, EvaluationIndexError),
    (AttributeError, EvaluationAttributeError),
    (ValueError, EvaluationValueError),
    (TypeError, EvaluationTypeError),
)


class _Env:
    """The state of one evaluation."""

    __slots__ = ("deadline", "names", "scope", "steps")

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self.scope = scope
        self.names: dict[str, Any] = {}
        self.steps = MAX_STEPS
        self.deadline = 0.0

    def spend(self, steps: int = 1) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise ExpressionLimitError(f"the expression takes more than {MAX_STEPS:,} steps")
        if not self.deadline:
            self.deadline = time.perf_counter() + MAX_SECONDS
        elif time.perf_counter() > self.deadline:
            raise ExpressionLimitError(f"the expression takes longer than {MAX_SECONDS:g} s")


_Code = Callable[[_Env], Any]


class Expression:
    """A compiled expression. ``names`` are the free names it looks up."""

    __slots__ = ("_code", "names", "source")

    def __init__(self, source: str, code: _Code, names: frozenset[str]) -> None:
        self.source = source
        self._code = code
        self.names = names

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """The value of the expression; raises ``UnsafeExpressionError`` or ``EvaluationError``, nothing else."""
        try:
            return self._code(_Env(scope))
        except PyFlowError:
            raise
        except OverflowError as error:
            raise ExpressionLimitError(f"{self._short()}: {error}") from None
        except (RecursionError, MemoryError):
            raise ExpressionLimitError(f"{self._short()}: the values are too large or too deep") from None
        except Exception as error:
            wrapped = next((ours for theirs, ours in _WRAPPED if isinstance(error, theirs)), EvaluationError)
            detail = f"no key {error}" if isinstance(error, KeyError) else str(error)
            raise wrapped(f"{self._short()}: {detail}") from error

    def _short(self) -> str:
        return self.source if len(self.source) <= 80 else self.source[:77] + "..."


def safe_eval(expression: str, variables: Mapping[str, Any] | None = None) -> Any:
    """Evaluate ``expression`` over ``variables``.

    Raises ``UnsafeExpressionError`` for what is not allowed or too large, ``NameError`` for an unknown name, and
    otherwise an ``EvaluationError`` that also is Python's own (``TypeError``, ``KeyError``, …).
    """
    return compile_expression(expression).evaluate(variables if variables is not None else {})


def compile_expression(source: str) -> Expression:
    """Check and compile ``source``; equal sources share one result. Raises ``UnsafeExpressionError``."""
    if not isinstance(source, str):
        raise ExpressionSyntaxError(f"an expression is text, not {type(source).__name__}")
    if len(source) > MAX_SOURCE:
        raise ExpressionLimitError(f"an expression has at most {MAX_SOURCE:,} characters, this one {len(source):,}")
    return _compile(source)


@lru_cache(maxsize=4096)
def _compile(source: str) -> Expression:
    _check_brackets(source)
    try:
        tree = ast.parse(source.strip(), mode="eval")
    except (SyntaxError, ValueError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ExpressionSyntaxError(f"not an expression: {source[:80]!r}: {reason}") from None
    except (RecursionError, MemoryError):
        raise ExpressionLimitError("the expression is nested too deeply") from None
    _check_depth(tree.body)
    compiler = _Compiler()
    return Expression(source, compiler.expr(tree.body), frozenset(compiler.free))


def _check_brackets(source: str) -> None:
    depth = 0
    for char in source:
        if char in "([{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ExpressionLimitError(f"the expression is nested deeper than {MAX_DEPTH} levels")
        elif char in ")]}":
            depth -= 1


def _check_depth(root: ast.AST) -> None:
    level: list[ast.AST] = [root]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
        if not level:
            return
    raise ExpressionLimitError(f"the expression is nested deeper than {MAX_DEPTH} levels")


# --- values ------------------------------------------------------------------------------------------------------


def _bounded(value: Any) -> Any:
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
    elif kind in _SIZED and len(value) > MAX_ITEMS:
        raise ExpressionLimitError(f"a collection of more than {MAX_ITEMS:,} items")
    return value


_SIZED = frozenset({list, tuple, set, dict})
_NUMBERS = (int, float)


def _charge(env: _Env, value: Any) -> Any:
    """Count what a collection or a text cost to make."""
    _bounded(value)
    if type(value) is str or type(value) in _SIZED:
        env.spend(1 + len(value) // 1024)
    return value


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
    if not isinstance(a, _NUMBERS) or not isinstance(b, _NUMBERS):
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


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: _multiply,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: _modulo,
    ast.Pow: _power,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: _shift_left,
    ast.RShift: operator.rshift,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
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

_TYPES: dict[str, type] = {
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


def _to_str(value: Any = "") -> str:
    if isinstance(value, int):
        _bounded(int(value))
    return str(value)


def _range(*args: int) -> list[int]:
    numbers = range(*args)
    if len(numbers) > MAX_STEPS:
        raise ExpressionLimitError(f"a range of more than {MAX_STEPS:,} numbers")
    return list(numbers)


def _round(value: Any, digits: Any = None) -> Any:
    if isinstance(digits, int) and abs(digits) > 100:
        raise ExpressionLimitError("round() to more than 100 digits")
    return round(value, digits)


def _sum(items: Iterable[Any], start: Any = 0) -> Any:
    total = start
    for item in items:
        if not isinstance(item, _NUMBERS):
            raise TypeError("sum() adds numbers")
        total = _bounded(total + item)
    return total


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "all": all,
    "any": any,
    "bool": bool,
    "dict": dict,
    "enumerate": lambda items, start=0: [(start + i, item) for i, item in enumerate(items)],
    "float": float,
    "int": _to_int,
    "isinstance": isinstance,
    "len": len,
    "list": list,
    "max": max,
    "min": min,
    "range": _range,
    "reversed": lambda items: list(reversed(items)),
    "round": _round,
    "set": set,
    "sorted": sorted,
    "str": _to_str,
    "sum": _sum,
    "tuple": tuple,
    "zip": lambda *items: list(zip(*items, strict=False)),
}
_KEYWORDS = {"sorted": {"reverse"}, "min": {"default"}, "max": {"default"}, "enumerate": {"start"}}


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    found = text.count(old) if count < 0 else min(text.count(old), count)
    if len(text) + found * (len(new) - len(old)) > MAX_TEXT:
        raise ExpressionLimitError(f"text of more than {MAX_TEXT:,} characters")
    return text.replace(old, new, count)


def _join(separator: str, items: Iterable[str]) -> str:
    parts = list(items)
    if sum(map(len, parts)) + len(separator) * len(parts) > MAX_TEXT:
        raise ExpressionLimitError(f"text of more than {MAX_TEXT:,} characters")
    return separator.join(parts)


def _zfill(text: str, width: int) -> str:
    if width > 1000:
        raise ExpressionLimitError("zfill() to more than 1,000 characters")
    return text.zfill(width)


def _plain_methods(kind: type, names: str) -> dict[str, Callable[..., Any]]:
    return {name: getattr(kind, name) for name in names.split()}


_METHODS: tuple[tuple[type, dict[str, Callable[..., Any]]], ...] = (
    (
        str,
        _plain_methods(
            str,
            "capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit islower isnumeric "
            "isspace istitle isupper lower lstrip partition removeprefix removesuffix rfind rindex rpartition rsplit "
            "rstrip split splitlines startswith strip swapcase title upper",
        )
        | {"replace": _replace, "join": _join, "zfill": _zfill},
    ),
    (dict, _plain_methods(dict, "get keys values items")),
    (list, _plain_methods(list, "count index")),
    (tuple, _plain_methods(tuple, "count index")),
    (set, _plain_methods(set, "union intersection difference symmetric_difference issubset issuperset isdisjoint")),
    (datetime.datetime, _plain_methods(datetime.datetime, "date isoformat isoweekday timestamp weekday")),
    (datetime.date, _plain_methods(datetime.date, "isoformat isoweekday weekday")),
    (float, _plain_methods(float, "is_integer")),
    (int, _plain_methods(int, "bit_length")),
)
_DATE_FIELDS = frozenset({"year", "month", "day", "hour", "minute", "second", "microsecond"})


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
            raise EvaluationAttributeError(f"no key {name!r}") from None
    if not name.startswith("_"):
        if isinstance(value, BaseModel) and name in {*type(value).model_fields, *(value.model_extra or ())}:
            return getattr(value, name)
        if isinstance(value, tuple) and name in getattr(value, "_fields", ()):
            return getattr(value, name)
        if isinstance(value, datetime.date) and name in _DATE_FIELDS:
            return getattr(value, name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            if any(field.name == name for field in dataclasses.fields(value)):
                return getattr(value, name)
        elif not isinstance(value, type) and not callable(value):
            fields = getattr(value, "__dict__", None)
            if isinstance(fields, dict) and name in fields and not callable(fields[name]):
                return fields[name]
    raise EvaluationAttributeError(f"{type(value).__name__} has no field {name!r}")


def _call_method(env: _Env, value: Any, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    for kind, methods in _METHODS:
        if isinstance(value, kind):
            if name not in methods:
                break
            result = methods[name](value, *args, **kwargs)
            if kind is dict and name != "get":
                result = list(result)
            if isinstance(value, str):
                env.spend(len(value) // 1024)
            return _charge(env, result)
    raise UnsafeExpressionError(f"{type(value).__name__} has no method {name!r} here")


# --- compiler ----------------------------------------------------------------------------------------------------

_FORMAT = re.compile(r"(?:.?[<>=^])?[-+ ]?#?0?[0-9]{0,2}[,_]?(?:\.[0-9]{1,2})?[bdeEfFgGnosxX%]?", re.DOTALL)


class _Compiler:
    """Turns an allowed syntax tree into closures; ``free`` collects the names it looks up in the scope."""

    def __init__(self) -> None:
        self.free: set[str] = set()
        self._bound: list[frozenset[str]] = []

    def expr(self, node: ast.AST) -> _Code:
        method = getattr(self, f"_{type(node).__name__}", None)
        if method is None:
            raise UnsafeExpressionError(f"{_what(node)} is not allowed in an expression")
        return cast(_Code, method(node))

    def _Constant(self, node: ast.Constant) -> _Code:
        value = node.value
        if value is not None and type(value) not in (bool, int, float, str):
            raise UnsafeExpressionError(f"a {type(value).__name__} constant is not allowed in an expression")
        _bounded(value)
        return lambda env: value

    def _Name(self, node: ast.Name) -> _Code:
        name = node.id
        if name.startswith("__") and name not in {"__run_id__", "__workflow__", "__now__"}:
            raise UnsafeExpressionError(f"the name {name!r} is not allowed in an expression")
        if any(name in bound for bound in self._bound):
            return lambda env: env.names[name]
        self.free.add(name)

        def load(env: _Env) -> Any:
            try:
                return env.scope[name]
            except KeyError:
                if name in _FUNCTIONS:
                    raise UnsafeExpressionError(f"{name} is a function: call it") from None
                raise UnknownNameError(f"name {name!r} is not defined") from None

        return load

    def _Attribute(self, node: ast.Attribute) -> _Code:
        name = node.attr
        if name.startswith("_"):
            raise UnsafeExpressionError(f"the attribute {name!r} is not allowed in an expression")
        value = self.expr(node.value)
        return lambda env: read_field(value(env), name)

    def _Subscript(self, node: ast.Subscript) -> _Code:
        value = self.expr(node.value)
        if isinstance(node.slice, ast.Slice):
            parts = [
                self.expr(part) if part is not None else (lambda env: None)
                for part in (node.slice.lower, node.slice.upper, node.slice.step)
            ]

            def cut(env: _Env) -> Any:
                sequence = value(env)
                if not isinstance(sequence, str | list | tuple):
                    raise TypeError(f"{type(sequence).__name__} cannot be sliced")
                return _charge(env, sequence[slice(*(part(env) for part in parts))])

            return cut
        key = self.expr(node.slice)

        def item(env: _Env) -> Any:
            container = value(env)
            if not isinstance(container, Mapping | str | list | tuple):
                raise TypeError(f"{type(container).__name__} has no items")
            return container[key(env)]  # type: ignore[index]

        return item

    def _BinOp(self, node: ast.BinOp) -> _Code:
        left, right, apply = self.expr(node.left), self.expr(node.right), _BINARY.get(type(node.op))
        if apply is None:
            raise UnsafeExpressionError(f"{_what(node.op)} is not allowed in an expression")

        def calculate(env: _Env) -> Any:
            result = apply(left(env), right(env))
            kind = type(result)
            return _bounded(result) if kind is int or kind is float else _charge(env, result)

        return calculate

    def _UnaryOp(self, node: ast.UnaryOp) -> _Code:
        operand, apply = self.expr(node.operand), _UNARY[type(node.op)]
        return lambda env: apply(operand(env))

    def _BoolOp(self, node: ast.BoolOp) -> _Code:
        parts = [self.expr(value) for value in node.values]
        is_and = isinstance(node.op, ast.And)

        def decide(env: _Env) -> Any:
            value: Any = None
            for part in parts:
                value = part(env)
                if bool(value) is not is_and:
                    break
            return value

        return decide

    def _Compare(self, node: ast.Compare) -> _Code:
        first = self.expr(node.left)
        rest = [(_COMPARE[type(op)], self.expr(right)) for op, right in zip(node.ops, node.comparators, strict=True)]
        if len(rest) == 1:
            compare, right = rest[0]
            return lambda env: compare(first(env), right(env))

        def chain(env: _Env) -> Any:
            left, result = first(env), True
            for compare, right in rest:
                value = right(env)
                result = compare(left, value)
                if not result:
                    break
                left = value
            return result

        return chain

    def _IfExp(self, node: ast.IfExp) -> _Code:
        test, yes, no = self.expr(node.test), self.expr(node.body), self.expr(node.orelse)
        return lambda env: yes(env) if test(env) else no(env)

    def _List(self, node: ast.List) -> _Code:
        return self._collection(node.elts, list)

    def _Tuple(self, node: ast.Tuple) -> _Code:
        return self._collection(node.elts, tuple)

    def _Set(self, node: ast.Set) -> _Code:
        return self._collection(node.elts, set)

    def _collection(self, elements: list[ast.expr], kind: Callable[[Iterable[Any]], Any]) -> _Code:
        parts = [self.expr(element) for element in elements]
        return lambda env: kind(part(env) for part in parts)

    def _Dict(self, node: ast.Dict) -> _Code:
        if any(key is None for key in node.keys):
            raise UnsafeExpressionError("** is not allowed in an expression")
        pairs = [(self.expr(cast(ast.expr, k)), self.expr(v)) for k, v in zip(node.keys, node.values, strict=True)]
        return lambda env: {key(env): value(env) for key, value in pairs}

    def _JoinedStr(self, node: ast.JoinedStr) -> _Code:
        parts = [self._piece(value) for value in node.values]
        return lambda env: cast(str, _charge(env, "".join([part(env) for part in parts])))

    def _piece(self, node: ast.expr) -> _Code:
        if not isinstance(node, ast.FormattedValue):
            return self.expr(node)
        value, spec = self.expr(node.value), ""
        if node.format_spec is not None:
            texts = cast(ast.JoinedStr, node.format_spec).values
            if not all(isinstance(text, ast.Constant) for text in texts):
                raise UnsafeExpressionError("a computed format is not allowed in an expression")
            spec = "".join(str(cast(ast.Constant, text).value) for text in texts)
            if not _FORMAT.fullmatch(spec):
                raise UnsafeExpressionError(f"the format {spec!r} is not allowed in an expression")
        show: Callable[[Any], Any] = repr if node.conversion in (ord("r"), ord("a")) else _to_str

        def render(env: _Env) -> str:
            shown = value(env)
            if node.conversion == -1 and spec and isinstance(shown, int | float | str):
                return format(shown, spec)
            text: str = show(shown)
            return format(text, spec) if spec else text

        return render

    def _Call(self, node: ast.Call) -> _Code:
        args = [self.expr(arg) if not isinstance(arg, ast.Starred) else self._refuse_star() for arg in node.args]
        if any(keyword.arg is None for keyword in node.keywords):
            self._refuse_star()
        kwargs = {cast(str, keyword.arg): self.expr(keyword.value) for keyword in node.keywords}
        func = node.func
        if isinstance(func, ast.Attribute):
            return self._method(func, args, kwargs)
        if not isinstance(func, ast.Name):
            raise UnsafeExpressionError(f"calling {_what(func)} is not allowed in an expression")
        name = func.id
        if name not in _FUNCTIONS:
            if name.startswith("__") or name in {"exec", "eval", "open", "compile", "globals", "locals", "vars"}:
                raise UnsafeExpressionError(f"calling {name!r} is not allowed in an expression")
            raise UnknownFunctionError(f"there is no function {name!r}; there are {', '.join(sorted(_FUNCTIONS))}")
        if not kwargs.keys() <= _KEYWORDS.get(name, set()):
            raise UnsafeExpressionError(f"{name}() takes no such keyword here")
        if name == "isinstance":
            return self._isinstance(node, args)
        function = _FUNCTIONS[name]

        def call(env: _Env) -> Any:
            values = [arg(env) for arg in args]
            for value in values:
                if type(value) in _SIZED:
                    env.spend(1 + len(value) // 64)
            return _charge(env, function(*values, **{key: value(env) for key, value in kwargs.items()}))

        return call

    def _method(self, func: ast.Attribute, args: list[_Code], kwargs: dict[str, _Code]) -> _Code:
        name, owner = func.attr, self.expr(func.value)
        if name.startswith("_") or not any(name in methods for _, methods in _METHODS):
            raise UnsafeExpressionError(f"the method {name!r} is not allowed in an expression")
        return lambda env: _call_method(
            env, owner(env), name, [arg(env) for arg in args], {key: value(env) for key, value in kwargs.items()}
        )

    def _isinstance(self, node: ast.Call, args: list[_Code]) -> _Code:
        if len(node.args) != 2:
            raise UnsafeExpressionError("isinstance() takes a value and a type")
        kinds = node.args[1].elts if isinstance(node.args[1], ast.Tuple) else [node.args[1]]
        types = tuple(_TYPES[kind.id] for kind in kinds if isinstance(kind, ast.Name) and kind.id in _TYPES)
        if len(types) != len(kinds):
            raise UnsafeExpressionError(f"isinstance() knows the types {', '.join(_TYPES)}")
        value = args[0]
        # Compiling the arguments noted the type names as free names.
        self.free -= _TYPES.keys()
        return lambda env: isinstance(value(env), types)

    @staticmethod
    def _refuse_star() -> _Code:
        raise UnsafeExpressionError("* and ** are not allowed in an expression")

    # Comprehensions: one or more `for`, any number of `if`, plain names as targets.

    def _ListComp(self, node: ast.ListComp) -> _Code:
        return self._comprehension(node.generators, [node.elt], list)

    def _GeneratorExp(self, node: ast.GeneratorExp) -> _Code:
        return self._comprehension(node.generators, [node.elt], list)

    def _SetComp(self, node: ast.SetComp) -> _Code:
        return self._comprehension(node.generators, [node.elt], set)

    def _DictComp(self, node: ast.DictComp) -> _Code:
        return self._comprehension(node.generators, [node.key, node.value], dict)

    def _comprehension(
        self, generators: list[ast.comprehension], results: list[ast.expr], kind: Callable[[Iterable[Any]], Any]
    ) -> _Code:
        loops: list[tuple[_Code, list[str], bool, list[_Code]]] = []
        for generator in generators:
            if generator.is_async:
                raise UnsafeExpressionError("async is not allowed in an expression")
            source = self.expr(generator.iter)
            targets = _targets(generator.target)
            self._bound.append(frozenset(targets))
            conditions = [self.expr(condition) for condition in generator.ifs]
            loops.append((source, targets, isinstance(generator.target, ast.Tuple), conditions))
        makers = [self.expr(result) for result in results]
        del self._bound[-len(generators) :]

        def collect(env: _Env) -> Any:
            found: list[Any] = []
            outer = dict(env.names)
            try:
                _loop(env, loops, 0, lambda: found.append(_make(env, makers)))
            finally:
                env.names = outer
            return _charge(env, kind(found))

        return collect


def _make(env: _Env, makers: list[_Code]) -> Any:
    return makers[0](env) if len(makers) == 1 else tuple(maker(env) for maker in makers)


def _loop(
    env: _Env, loops: list[tuple[_Code, list[str], bool, list[_Code]]], at: int, body: Callable[[], None]
) -> None:
    if at == len(loops):
        body()
        return
    source, targets, unpack, conditions = loops[at]
    items = source(env)
    if not isinstance(items, list | tuple | set | dict | str):
        raise TypeError(f"cannot loop over {type(items).__name__}")
    for item in items:
        env.spend()
        if unpack:
            values = list(item)
            if len(values) != len(targets):
                raise ValueError(f"cannot unpack {len(values)} values into {len(targets)} names")
            env.names.update(zip(targets, values, strict=True))
        else:
            env.names[targets[0]] = item
        if all(condition(env) for condition in conditions):
            _loop(env, loops, at + 1, body)


def _targets(target: ast.expr) -> list[str]:
    names = target.elts if isinstance(target, ast.Tuple) else [target]
    if not all(isinstance(name, ast.Name) and not name.id.startswith("__") for name in names):
        raise UnsafeExpressionError("a comprehension's target must be plain names")
    return [cast(ast.Name, name).id for name in names]


def _what(node: ast.AST) -> str:
    known = {ast.Lambda: "lambda", ast.NamedExpr: ":=", ast.Await: "await", ast.Starred: "*", ast.Yield: "yield"}
    return known.get(type(node), type(node).__name__)
