"""JSONPath with bounds: jsonpath-ng's extended syntax without regular expressions, parsed once, in a budget of steps.

Importing this module imports jsonpath-ng and its parser tables: import it inside the function that needs it.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, ClassVar

from jsonpath_ng.ext.arithmetic import Operation
from jsonpath_ng.ext.filter import Expression
from jsonpath_ng.ext.iterable import Len, SortedThis
from jsonpath_ng.ext.parser import parse
from jsonpath_ng.ext.string import Split, Str, Sub
from jsonpath_ng.jsonpath import Child, DatumInContext, Descendants, Fields, Index, JSONPath, Parent, Root, This

from pyflow.core.errors import NonRetryableError
from pyflow.core.messages import show
from pyflow.expressions.costs import WRITE, sorting
from pyflow.expressions.weight import HeavyError, NestingError, Scale

MAX_SOURCE = 4096
#: About a second of CPU. Steps and not seconds, so that a busy machine refuses nothing that an idle one takes.
MAX_STEPS = 300_000
#: What it costs to look at a value on the way of ``..``, and how much that is read or made as a whole is a step.
_VISIT, _ITEMS, _CHARACTERS = 3, 8, 64
#: How much work (see ``pyflow.expressions.costs``) is a step.
_WORK = 2000
#: Of text or a list that arithmetic makes: characters or items.
MAX_SIZE = 1024 * 1024
MAX_INT_BITS = 4096


#: What is in quotes, and names.
_WORDS = re.compile(
    r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`[^`]*`|(?P<name>[A-Za-z_\x80-\U0010ffff][\w\-\x80-\U0010ffff]*)"""
)


class JsonPathError(NonRetryableError, ValueError):
    """The expression is not JSONPath, uses what is not allowed, or costs more than it may."""

    code: ClassVar[str] = "jsonpath_error"


class _Budget:
    __slots__ = ("steps",)

    def __init__(self) -> None:
        self.steps = MAX_STEPS

    def spend(self, steps: int) -> None:
        self.require(steps)
        self.steps -= steps

    def require(self, steps: int) -> None:
        """Raise before so many steps are taken that there are not enough of."""
        if self.steps < steps:
            raise JsonPathError(f"the JSONPath takes more than {MAX_STEPS:,} steps on this data")


_budget: ContextVar[_Budget] = ContextVar("pyflow_jsonpath_budget")


def find(expression: str, data: Any) -> Any:
    """The value of a single match, else the list of the values of all matches (v1's rule). Raises ``JsonPathError``."""
    values = find_all(expression, data)
    return values[0] if len(values) == 1 else values


def find_all(expression: str, data: Any) -> list[Any]:
    """The values of all matches, in document order. Raises ``JsonPathError``."""
    path = compile_path(expression)
    token = _budget.set(_Budget())
    try:
        return [match.value for match in path.find(data)]
    except JsonPathError:
        raise
    except RecursionError:
        raise JsonPathError("the data is nested too deeply for this JSONPath") from None
    except Exception as error:
        # jsonpath-ng lets whatever an operator meets escape: TypeError, AttributeError, its own exceptions.
        raise JsonPathError(f"the JSONPath {show(expression)} failed on this data: {error}") from error
    finally:
        _budget.reset(token)


def is_singular(expression: str) -> bool:
    """Return whether the path can match one value at most: names and indices only (RFC 9535 2.3.5.1), or functions.

    Raises ``JsonPathError``.
    """
    todo: list[Any] = [compile_path(expression)]
    while todo:
        part = todo.pop()
        if isinstance(part, Child):
            todo += [part.left, part.right]
        elif isinstance(part, Operation):
            todo += [side for side in (part.left, part.right) if isinstance(side, JSONPath)]
        elif isinstance(part, Fields):
            if len(part.fields) != 1 or part.fields[0] == "*":
                return False
        elif isinstance(part, Index):
            if len(part.indices) != 1:
                return False
        elif not isinstance(part, _OF_ONE):
            return False
    return True


def compile_path(expression: str) -> JSONPath:
    """Parse an expression, or take it from the cache. Raises ``JsonPathError``."""
    if not isinstance(expression, str):
        raise JsonPathError(f"a JSONPath is text, not {type(expression).__name__}")
    if not expression.strip() or len(expression) > MAX_SOURCE:
        raise JsonPathError(f"a JSONPath has 1 to {MAX_SOURCE:,} characters")
    return _compile(expression)


@functools.lru_cache(maxsize=1024)
def _compile(expression: str) -> JSONPath:
    try:
        with warnings.catch_warnings():
            # Spellings that jsonpath-ng 2 will drop: the version is pinned, and v1 files use them.
            warnings.simplefilter("ignore", DeprecationWarning)
            path = parse(_WORDS.sub(_quoted, expression))
    except RecursionError:
        raise JsonPathError("the JSONPath is nested too deeply") from None
    except Exception as error:
        raise JsonPathError(f"not a JSONPath: {show(expression)}: {error}") from error
    if not isinstance(path, JSONPath):
        raise JsonPathError(f"not a JSONPath: {show(expression)}")
    for part in _parts(path):
        _refuse_patterns(part)
        if isinstance(part, Operation):
            part.op = _bounded(part.op)
    _count(path)
    return path


def _quoted(found: re.Match[str]) -> str:
    """A name with characters that jsonpath-ng's lexer does not know, in quotes (RFC 9535 2.5.1.1 has them bare)."""
    name = found["name"]
    return found[0] if name is None or name.isascii() else f"'{name}'"


def _parts(path: Any) -> Iterator[JSONPath]:
    """A path and every path within it, filters and sort keys included, each once."""
    todo, seen = [path], set[int]()
    while todo:
        value = todo.pop()
        if isinstance(value, list | tuple):
            todo.extend(value)
        elif isinstance(value, JSONPath) and id(value) not in seen:
            seen.add(id(value))
            todo.extend(vars(value).values())
            yield value


def _refuse_patterns(part: JSONPath) -> None:
    # Python's regular expressions backtrack without bound; `sub(/…/)` is one, too. `split()` has its own fixed one.
    if isinstance(part, Expression) and part.op == "=~":
        raise JsonPathError("the JSONPath filter =~ is not available; compare with ==, or filter in an expression")
    if isinstance(part, Sub):
        raise JsonPathError("the JSONPath function sub() is not available")


def _count(path: JSONPath) -> None:
    """Charge every evaluation of a part, on every piece of data, to the budget of the call.

    A step is about 2 µs. What ``..`` looks at is charged where it is looked at: by the part on its right.
    """
    parts = list(_parts(path))
    visited = {id(part.right) for part in parts if isinstance(part, Descendants)}
    for part in parts:
        _charge(part, _VISIT if id(part) in visited else 1, 0 if isinstance(part, Child | Descendants) else 1)


#: Parts that give one value for each that they are given.
_OF_ONE = (Len, Root, SortedThis, Split, Str, This)
#: Parts that look at one thing, or have other parts look; every other one may loop over what it is given.
_ONE = (Child, Descendants, Fields, Index, Operation, Parent, Root, This)


def _charge(part: JSONPath, call: int, match: int) -> None:
    original, is_whole = part.find, isinstance(part, Operation | SortedThis | Split | Str)
    # What `..` visits is looked into by it right after the part on its right was asked.
    is_loop = call == _VISIT or not isinstance(part, _ONE) or (isinstance(part, Fields) and "*" in part.fields)

    def counted(data: Any) -> list[DatumInContext]:
        value = DatumInContext.wrap(data).value
        if is_loop and isinstance(value, list | dict):
            _budget.get().require(call * len(value))
        elif isinstance(part, SortedThis | Str):
            _budget.get().spend(_work(part, value) // _WORK)
        found = original(data)
        size = sum(_size(DatumInContext.wrap(datum).value) for datum in (data, *found)) if is_whole else 0
        _budget.get().spend(call + match * len(found) + size)
        return found

    part.find = counted  # type: ignore[method-assign]


def _work(part: JSONPath, value: Any) -> int:
    """The work of sorting all of a value, or of writing it."""
    if not isinstance(value, list | dict | int):
        return 0
    try:
        weight = Scale().weigh(value)
    except (HeavyError, NestingError) as error:
        raise JsonPathError(f"a value {error}") from None
    return WRITE * weight if isinstance(part, Str) or isinstance(value, int) else sorting(weight, len(value))


def _size(value: object) -> int:
    if isinstance(value, str):
        return len(value) // _CHARACTERS
    return len(value) // _ITEMS if isinstance(value, list | dict) else 0


def _times(count: object) -> int:
    return abs(count) if isinstance(count, int) else 1


def _bounded(operator: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Arithmetic whose result has a bounded size; on text and lists ``*`` and ``+`` make ever larger ones."""

    def calculate(left: Any, right: Any) -> Any:
        for value, count in ((left, right), (right, left)):
            if isinstance(value, str | list):
                size = len(count) if isinstance(count, str | list) else len(value) * _times(count)
                if len(value) + size > MAX_SIZE:
                    raise JsonPathError(f"the JSONPath makes a value of more than {MAX_SIZE:,} characters or items")
            elif isinstance(value, int) and value.bit_length() > MAX_INT_BITS:
                raise JsonPathError(f"the JSONPath makes an integer of more than {MAX_INT_BITS} bits")
        return operator(left, right)

    return calculate
