"""Expressions from strangers: a subset of Python's syntax, compiled to closures. No ``eval``, no ``getattr``.

What may stand in an expression is listed here; everything else is refused when the expression is compiled. What an
expression may cost is bounded: length, depth, steps, the size of every value it makes, and time as the last resort.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, cast

from pyflow.core.errors import PyFlowError
from pyflow.core.messages import MAX_SHOWN, cut, masked, show
from pyflow.core.wording import expression_reason
from pyflow.expressions.costs import MAX_INT_BITS, MAX_ITEMS, MAX_TEXT, CostError
from pyflow.expressions.costs import cut as cut_cost
from pyflow.expressions.evaluation_errors import (
    EvaluationAttributeError,
    EvaluationDivisionError,
    EvaluationError,
    EvaluationIndexError,
    EvaluationKeyError,
    EvaluationTypeError,
    EvaluationValueError,
    ExpressionLimitError,
    ExpressionSyntaxError,
    UnknownFunctionError,
    UnknownNameError,
    UnsafeExpressionError,
    wrap_error,
)
from pyflow.expressions.functions import (
    COMPUTING,
    METHODS_2,
    NEEDS,
    UNORDERED,
    Evaluation2,
    call_function,
    check_call,
    unknown_function,
)
from pyflow.expressions.values import (
    BINARY,
    COMPARE,
    FUNCTIONS,
    KEYWORDS,
    LITERALS,
    MAX_SECONDS,
    MAX_STEPS,
    METHODS,
    TYPES,
    UNARY,
    Code,
    Evaluation,
    Loop,
    bounded,
    call_method,
    make_dict,
    make_set,
    pay_for_call,
    pay_for_comparison,
    pay_for_search,
    read_field,
    run_loops,
)

__all__ = [
    "MAX_DEPTH",
    "MAX_INT_BITS",
    "MAX_ITEMS",
    "MAX_SECONDS",
    "MAX_SOURCE",
    "MAX_STEPS",
    "MAX_TEXT",
    "EvaluationAttributeError",
    "EvaluationDivisionError",
    "EvaluationError",
    "EvaluationIndexError",
    "EvaluationKeyError",
    "EvaluationTypeError",
    "EvaluationValueError",
    "Expression",
    "ExpressionLimitError",
    "ExpressionSyntaxError",
    "UnknownFunctionError",
    "UnknownNameError",
    "UnsafeExpressionError",
    "compile_expression",
    "read_field",
    "safe_eval",
]

MAX_SOURCE = 4096
MAX_DEPTH = 32


class Expression:
    """A compiled expression of a document of this ``version``. ``names`` are the free names it looks up."""

    __slots__ = ("_code", "_kind", "names", "source")

    def __init__(self, source: str, code: Code, names: frozenset[str], version: int) -> None:
        self.source = source
        self._code = code
        self._kind = Evaluation if version == 1 else Evaluation2
        self.names = names

    def evaluate(self, scope: Mapping[str, Any], evaluation: Evaluation | None = None) -> Any:
        """The value of the expression; raises ``UnsafeExpressionError`` or ``EvaluationError``, nothing else.

        ``evaluation``: one whose budget is for more than this expression.
        """
        try:
            return self._code(self._kind(scope) if evaluation is None else evaluation)
        except PyFlowError:
            raise
        except OverflowError as error:
            raise ExpressionLimitError(f"{self._shown()}: {error}") from None
        except (RecursionError, MemoryError):
            raise ExpressionLimitError(f"{self._shown()}: the values are too large or too deep") from None
        except Exception as error:
            raise wrap_error(error, self._shown()) from error

    def _shown(self) -> str:
        return cut(masked(self.source), MAX_SHOWN)


def safe_eval(expression: str, variables: Mapping[str, Any] | None = None, *, version: int = 1) -> Any:
    """Evaluate ``expression`` over ``variables``, with the functions that documents of this ``version`` have.

    Raises ``UnsafeExpressionError`` for what is not allowed or too large, ``NameError`` for an unknown name, and
    otherwise an ``EvaluationError`` that also is Python's own (``TypeError``, ``KeyError``, …).
    """
    return compile_expression(expression, version=version).evaluate(variables if variables is not None else {})


def compile_expression(source: str, *, version: int = 1) -> Expression:
    """Check and compile ``source``; equal sources share one result. Raises ``UnsafeExpressionError``.

    ``version``: of the document. Version 2 has functions and methods that version 1 has not.
    """
    if not isinstance(source, str):
        raise ExpressionSyntaxError(f"an expression is text, not {type(source).__name__}")
    if len(source) > MAX_SOURCE:
        raise ExpressionLimitError(f"an expression has at most {MAX_SOURCE:,} characters, this one {len(source):,}")
    return _compile(source, version)


@lru_cache(maxsize=4096)
def _compile(source: str, version: int) -> Expression:
    _check_brackets(source)
    try:
        tree = ast.parse(source.strip(), mode="eval")
    except (SyntaxError, ValueError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ExpressionSyntaxError(f"not an expression: {show(source)}: {expression_reason(source, reason)}") from None
    except (RecursionError, MemoryError):
        raise ExpressionLimitError("the expression is nested too deeply") from None
    _check_depth(tree.body)
    compiler = _Compiler(version)
    return Expression(source, compiler.expr(tree.body), frozenset(compiler.free), version)


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
        level = [child for node in level for child in _operands(node)]
        if not level:
            return
    raise ExpressionLimitError(f"the expression is nested deeper than {MAX_DEPTH} levels")


def _operands(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions right inside of a node; `for` clauses and keywords hold some without being one."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield child
        elif isinstance(child, ast.comprehension | ast.keyword):
            yield from _operands(child)


# --- compiler ----------------------------------------------------------------------------------------------------

_FORMAT = re.compile(r"(?:.?[<>=^])?[-+ ]?#?0?[0-9]{0,2}[,_]?(?:\.[0-9]{1,2})?[bdeEfFgGnosxX%]?", re.DOTALL)


class _Compiler:
    """Turns an allowed syntax tree into closures; ``free`` collects the names it looks up in the scope."""

    def __init__(self, version: int) -> None:
        self.free: set[str] = set()
        self._is_first = version == 1
        self._methods = METHODS if version == 1 else METHODS_2
        self._bound: list[frozenset[str]] = []

    def expr(self, node: ast.AST) -> Code:
        method = getattr(self, f"_{type(node).__name__}", None)
        if method is None:
            raise UnsafeExpressionError(f"{_what(node)} is not allowed in an expression")
        return cast(Code, method(node))

    def _Constant(self, node: ast.Constant) -> Code:
        value = node.value
        if value is not None and type(value) not in (bool, int, float, str):
            raise UnsafeExpressionError(f"a {type(value).__name__} constant is not allowed in an expression")
        bounded(value)
        return lambda env: value

    def _Name(self, node: ast.Name) -> Code:
        name = node.id
        if name.startswith("__") and name not in {"__run_id__", "__workflow__", "__now__"}:
            raise UnsafeExpressionError(f"the name {name!r} is not allowed in an expression")
        if any(name in bound for bound in self._bound):
            return lambda env: env.names[name]
        if name in LITERALS and not self._is_first:
            literal = LITERALS[name]
            return lambda env: literal
        self.free.add(name)

        def load(env: Evaluation) -> Any:
            try:
                return env.scope[name]
            except KeyError:
                if name in FUNCTIONS or (name in COMPUTING and env.version != 1):
                    raise UnsafeExpressionError(f"{name} is a function: call it") from None
                raise UnknownNameError(f"name {name!r} is not defined") from None

        return load

    def _Attribute(self, node: ast.Attribute) -> Code:
        name = node.attr
        if name.startswith("_"):
            raise UnsafeExpressionError(f"the attribute {name!r} is not allowed in an expression")
        value = self.expr(node.value)
        return lambda env: read_field(value(env), name)

    def _Subscript(self, node: ast.Subscript) -> Code:
        value = self.expr(node.value)
        if isinstance(node.slice, ast.Slice):
            parts = [
                self.expr(part) if part is not None else (lambda env: None)
                for part in (node.slice.lower, node.slice.upper, node.slice.step)
            ]

            def cut(env: Evaluation) -> Any:
                sequence = value(env)
                if not isinstance(sequence, str | list | tuple):
                    raise TypeError(f"{type(sequence).__name__} cannot be sliced")
                piece = slice(*(part(env) for part in parts))
                try:
                    env.work(cut_cost(sequence, piece))
                except CostError as error:
                    raise ExpressionLimitError(str(error)) from None
                return env.charge(sequence[piece])

            return cut
        key = self.expr(node.slice)

        def item(env: Evaluation) -> Any:
            container = value(env)
            if not isinstance(container, Mapping | str | list | tuple):
                raise TypeError(f"{type(container).__name__} has no items")
            return container[key(env)]

        return item

    def _BinOp(self, node: ast.BinOp) -> Code:
        left, right, apply = self.expr(node.left), self.expr(node.right), BINARY.get(type(node.op))
        if apply is None:
            raise UnsafeExpressionError(f"{_what(node.op)} is not allowed in an expression")

        def calculate(env: Evaluation) -> Any:
            result = apply(left(env), right(env))
            kind = type(result)
            return bounded(result) if kind is int or kind is float else env.charge(result)

        return calculate

    def _UnaryOp(self, node: ast.UnaryOp) -> Code:
        operand, apply = self.expr(node.operand), UNARY[type(node.op)]
        return lambda env: apply(operand(env))

    def _BoolOp(self, node: ast.BoolOp) -> Code:
        parts = [self.expr(value) for value in node.values]
        is_and = isinstance(node.op, ast.And)

        def decide(env: Evaluation) -> Any:
            value: Any = None
            for part in parts:
                value = part(env)
                if bool(value) is not is_and:
                    break
            return value

        return decide

    def _Compare(self, node: ast.Compare) -> Code:
        first = self.expr(node.left)
        rest = [
            (COMPARE[type(op)], pay_for_search if isinstance(op, ast.In | ast.NotIn) else pay_for_comparison, right)
            for op, right in zip(node.ops, map(self.expr, node.comparators), strict=True)
        ]
        if len(rest) == 1:
            compare, pay, right = rest[0]

            def single(env: Evaluation) -> Any:
                left, value = first(env), right(env)
                pay(env, left, value)
                return compare(left, value)

            return single

        def chain(env: Evaluation) -> Any:
            left, result = first(env), True
            for compare, pay, right in rest:
                value = right(env)
                pay(env, left, value)
                result = compare(left, value)
                if not result:
                    break
                left = value
            return result

        return chain

    def _IfExp(self, node: ast.IfExp) -> Code:
        test, yes, no = self.expr(node.test), self.expr(node.body), self.expr(node.orelse)
        return lambda env: yes(env) if test(env) else no(env)

    def _List(self, node: ast.List | ast.Tuple | ast.Set) -> Code:
        kind = {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)]
        if any(isinstance(element, ast.Starred) for element in node.elts):
            return self._unpacked(node, kind)
        parts = [self.expr(element) for element in node.elts]
        return lambda env: env.charge(kind([part(env) for part in parts]))

    _Tuple = _Set = _List

    def _unpacked(self, node: ast.List | ast.Tuple | ast.Set, kind: Callable[[list[Any]], Any]) -> Code:
        """A display with ``*items`` in it: each item that is unpacked is a step."""
        parts = [
            (self.expr(element.value), True) if isinstance(element, ast.Starred) else (self.expr(element), False)
            for element in node.elts
        ]

        def collect(env: Evaluation) -> Any:
            found: list[Any] = []
            for part, is_starred in parts:
                value = part(env)
                if not is_starred:
                    found.append(value)
                    continue
                if not isinstance(value, list | tuple | set | dict | str):
                    raise TypeError(f"cannot unpack {type(value).__name__}")
                for item in env.items(value):
                    env.spend()
                    found.append(item)
            return env.charge(kind(found))

        return collect

    def _Dict(self, node: ast.Dict) -> Code:
        if any(key is None for key in node.keys):
            return self._merged(node)
        pairs = [(self.expr(cast(ast.expr, k)), self.expr(v)) for k, v in zip(node.keys, node.values, strict=True)]
        return lambda env: env.charge({key(env): value(env) for key, value in pairs})

    def _merged(self, node: ast.Dict) -> Code:
        """A mapping with ``**others`` in it, in version 2."""
        if self._is_first:
            raise UnsafeExpressionError("** is not allowed in an expression")
        parts = [
            (self.expr(k) if k is not None else None, self.expr(v)) for k, v in zip(node.keys, node.values, strict=True)
        ]

        def merge(env: Evaluation) -> Any:
            found = [value(env) if key is None else {key(env): value(env)} for key, value in parts]
            return call_function(env, "merge", found, {})

        return merge

    def _JoinedStr(self, node: ast.JoinedStr) -> Code:
        parts = [self._piece(value) for value in node.values]

        def write(env: Evaluation) -> str:
            texts, size = [], 0
            for part in parts:
                texts.append(part(env))
                size += len(texts[-1])
                if size > MAX_TEXT:
                    raise ExpressionLimitError(f"text of more than {MAX_TEXT:,} characters")
            return cast(str, env.charge("".join(texts)))

        return write

    def _piece(self, node: ast.expr) -> Code:
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
        write = repr if node.conversion in (ord("r"), ord("a")) else str

        def render(env: Evaluation) -> str:
            shown = value(env)
            if node.conversion == -1 and spec and isinstance(shown, int | float | str):
                return format(shown, spec)
            text = env.show(shown, write)
            return format(text, spec) if spec else text

        return render

    def _Call(self, node: ast.Call) -> Code:
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
        computing = not self._is_first and name in COMPUTING
        if name not in FUNCTIONS and not computing:
            if name.startswith("__") or name in {"exec", "eval", "open", "compile", "globals", "locals", "vars"}:
                raise UnsafeExpressionError(f"calling {name!r} is not allowed in an expression")
            if not self._is_first:
                raise unknown_function(name)
            raise UnknownFunctionError(f"there is no function {name!r}; there are {', '.join(sorted(FUNCTIONS))}")
        if computing:
            check_call(name, len(args), list(kwargs))
            self.free |= {NEEDS[name]} if name in NEEDS else set()
        elif not kwargs.keys() <= KEYWORDS.get(name, set()):
            raise UnsafeExpressionError(f"{name}() takes no such keyword here")
        if name == "isinstance":
            return self._isinstance(node, args)
        if computing:
            return lambda env: call_function(
                env, name, [arg(env) for arg in args], {key: value(env) for key, value in kwargs.items()}
            )
        if name == "str" and len(args) == 1:
            shown = args[0]
            return lambda env: env.charge(env.show(shown(env)))
        function = FUNCTIONS[name]
        orders = not self._is_first and name not in UNORDERED

        def call(env: Evaluation) -> Any:
            values = [env.items(arg(env)) for arg in args] if orders else [arg(env) for arg in args]
            pay_for_call(env, name, values)
            return env.charge(function(*values, **{key: value(env) for key, value in kwargs.items()}))

        return call

    def _method(self, func: ast.Attribute, args: list[Code], kwargs: dict[str, Code]) -> Code:
        name, owner = func.attr, self.expr(func.value)
        if name.startswith("_") or not any(name in methods for _, methods in self._methods):
            raise UnsafeExpressionError(f"the method {name!r} is not allowed in an expression")
        return lambda env: call_method(
            env, owner(env), name, [arg(env) for arg in args], {key: value(env) for key, value in kwargs.items()}
        )

    def _isinstance(self, node: ast.Call, args: list[Code]) -> Code:
        if len(node.args) != 2:
            raise UnsafeExpressionError("isinstance() takes a value and a type")
        kinds = node.args[1].elts if isinstance(node.args[1], ast.Tuple) else [node.args[1]]
        types = tuple(TYPES[kind.id] for kind in kinds if isinstance(kind, ast.Name) and kind.id in TYPES)
        if len(types) != len(kinds):
            raise UnsafeExpressionError(f"isinstance() knows the types {', '.join(TYPES)}")
        value = args[0]
        # Compiling the arguments noted the type names as free names.
        self.free -= TYPES.keys()
        return lambda env: isinstance(value(env), types)

    @staticmethod
    def _refuse_star() -> Code:
        raise UnsafeExpressionError("* and ** are not allowed in an expression")

    # Comprehensions: one or more `for`, any number of `if`, plain names as targets.

    def _ListComp(self, node: ast.ListComp) -> Code:
        return self._comprehension(node.generators, [node.elt], list)

    def _GeneratorExp(self, node: ast.GeneratorExp) -> Code:
        return self._comprehension(node.generators, [node.elt], list)

    def _SetComp(self, node: ast.SetComp) -> Code:
        return self._comprehension(node.generators, [node.elt], make_set)

    def _DictComp(self, node: ast.DictComp) -> Code:
        return self._comprehension(node.generators, [node.key, node.value], make_dict)

    def _comprehension(
        self, generators: list[ast.comprehension], results: list[ast.expr], kind: Callable[[Iterable[Any]], Any]
    ) -> Code:
        loops: list[Loop] = []
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

        def collect(env: Evaluation) -> Any:
            found: list[Any] = []
            outer = dict(env.names)
            try:
                run_loops(env, loops, 0, lambda: found.append(_make(env, makers)))
            finally:
                env.names = outer
            return env.charge(kind(found))

        return collect


def _make(env: Evaluation, makers: list[Code]) -> Any:
    return makers[0](env) if len(makers) == 1 else tuple(maker(env) for maker in makers)


def _targets(target: ast.expr) -> list[str]:
    names = target.elts if isinstance(target, ast.Tuple) else [target]
    if not all(isinstance(name, ast.Name) and not name.id.startswith("__") for name in names):
        raise UnsafeExpressionError("a comprehension's target must be plain names")
    return [cast(ast.Name, name).id for name in names]


def _what(node: ast.AST) -> str:
    known = {ast.Lambda: "lambda", ast.NamedExpr: ":=", ast.Await: "await", ast.Starred: "*", ast.Yield: "yield"}
    return known.get(type(node), type(node).__name__)
