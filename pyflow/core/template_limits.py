"""How large the result of an operator, filter or method would be, told before it is made."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, cast

from pyflow.core.expression_values import MAX_INT_BITS, MAX_ITEMS, MAX_TEXT
from pyflow.core.template_errors import TemplateLimitError, TemplateSecurityError
from pyflow.core.weight import ClashError, check_clashes

#: Filters that work in Python, character by character, or more than once over their input: characters.
MAX_SLOW_TEXT = 64 * 1024
#: A text with fields to format.
MAX_FORMAT = 64 * 1024
MAX_WIDTH = 10_000

Weigh = Callable[[Any], int]


def size(count: int, limit: int) -> None:
    """Raise ``TemplateLimitError`` if a value would have more than ``limit`` items or characters."""
    if count > limit:
        raise TemplateLimitError(f"a value of {count:,} items or characters; at most {limit:,} are allowed")


def bits(count: int) -> None:
    """Raise ``TemplateLimitError`` if an integer would have more bits than allowed."""
    if count > 2 * MAX_INT_BITS:
        raise TemplateLimitError(f"an integer of more than {2 * MAX_INT_BITS} bits")


def finite(number: float) -> None:
    """Raise ``TemplateLimitError`` for infinity and NaN, which JSON does not have."""
    if not math.isfinite(number):
        raise TemplateLimitError("a number beyond the range of floats")


# --- operators ---------------------------------------------------------------------------------------------------


def operation(operator: str, left: Any, right: Any, weigh: Weigh) -> None:
    """Raise if ``left operator right`` would be too large."""
    if operator == "*":
        for sequence, count in ((left, right), (right, left)):
            if isinstance(sequence, str | bytes | list | tuple) and isinstance(count, int):
                size(len(sequence) * max(count, 0), _most(sequence))
        bits(_bits(left) + _bits(right))
    elif operator == "**":
        bits(_bits(left) * right if isinstance(left, int) and isinstance(right, int) and right > 1 else 0)
    elif operator == "%" and isinstance(left, str | bytes):
        if isinstance(left, bytes):
            raise TemplateSecurityError("% does not format bytes here")
        printf(weigh, left, right)
    elif operator == "+" and isinstance(left, str | bytes | list | tuple) and isinstance(right, Sized):
        size(len(left) + len(right), _most(left))


def _most(sequence: Any) -> int:
    return MAX_TEXT if isinstance(sequence, str | bytes) else MAX_ITEMS


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0


# --- formats -----------------------------------------------------------------------------------------------------

_PRINTF = re.compile(r"%(?:\([^()]*\))?[#0\- +]*(\*|\d*)(?:\.(\*|\d*))?")


def widths(specification: str) -> None:
    """Raise if a format asks for a width or precision beyond bounds."""
    for number in re.findall(r"\d+", specification):
        size(int(number[:9]), MAX_WIDTH)


def time_format(specification: str) -> None:
    """Raise if a time format is longer than the longest anyone needs, or pads (glibc: ``%999999999d``)."""
    size(len(specification), 1000)
    if re.search(r"%[-_0^#+]*\d", specification):
        raise TemplateLimitError("a time format pads without bound")


def printf(weigh: Weigh, text: Any, *args: Any, **kwargs: Any) -> None:
    """Raise if a printf-style format would give too large a text."""
    form = str(text)
    size(len(form), MAX_FORMAT)
    total, fields = len(form), 0
    for match in _PRINTF.finditer(form):
        fields += 1
        for number in match.groups():
            if number == "*":
                raise TemplateLimitError("a computed width or precision is not allowed")
            if number:
                size(int(number[:9]), MAX_WIDTH)
                total += int(number[:9])
    # Each field may write all there is: `%(a)s%(a)s`.
    weights = [weigh(value) for value in (*args, *kwargs.values())]
    total += fields * max(weights, default=0) if fields > len(args) else sum(weights)
    size(total, 2 * MAX_TEXT)


# --- filters -----------------------------------------------------------------------------------------------------


def _slow(weigh: Weigh, value: Any = "", *_: Any, **__: Any) -> None:
    size(weigh(value) if not isinstance(value, str) else len(value), MAX_SLOW_TEXT)


def _slow_text(weigh: Weigh, value: Any = "", *args: Any, **kwargs: Any) -> None:
    _slow(weigh, value)
    for extra in (*args, *kwargs.values()):
        if isinstance(extra, str):
            size(len(extra), 100)
        elif isinstance(extra, int):
            size(extra, MAX_TEXT)


def _written(weigh: Weigh, value: Any = "", *_: Any, **__: Any) -> None:
    if isinstance(value, Iterator):
        raise TemplateSecurityError(f"a {type(value).__name__} is not text; add `| list`")
    size(weigh(value) // 16 if not isinstance(value, str) else len(value), MAX_TEXT)


def _json(weigh: Weigh, value: Any, indent: Any = None) -> None:
    _written(weigh, value)
    if isinstance(indent, str):
        size(len(indent), 16)
    elif indent is not None:
        size(int(indent), 16)


def _center(weigh: Weigh, value: Any, width: Any = 80) -> None:
    _written(weigh, value)
    size(int(width), MAX_TEXT)


def _indent(_: Weigh, s: Any, width: Any = 4, *_rest: Any, **_options: Any) -> None:
    text = str(s) if isinstance(s, str) else ""
    step = len(width) if isinstance(width, str) else int(width)
    size(len(text) + (len(text.splitlines()) + 2) * max(step, 0), MAX_TEXT)


def _replace(weigh: Weigh, s: Any, old: Any, new: Any, *_rest: Any, **_options: Any) -> None:
    _written(weigh, s)
    replaced(str(s) if isinstance(s, str) else "", str(old), str(new))


def _batch(weigh: Weigh, value: Any, linecount: Any = 1, *_rest: Any, **options: Any) -> None:
    _listed(weigh, value)
    size(int(options.get("slices", linecount)), MAX_ITEMS)


def _round(_: Weigh, __: Any, precision: Any = 0, *_rest: Any, **_options: Any) -> None:
    size(abs(int(precision)), 100)


def _int(_: Weigh, value: Any, *_rest: Any, **_options: Any) -> None:
    if isinstance(value, str):
        size(len(value), 1000)


def _listed(_: Weigh, value: Any = (), *_rest: Any, **_options: Any) -> None:
    # An item for each character takes 80 times the memory of the text.
    if isinstance(value, str):
        size(len(value), MAX_ITEMS)


def _sorted(weigh: Weigh, value: Any, *args: Any, **options: Any) -> None:
    _listed(weigh, value)
    # By default they compare copies in lower case.
    if not args and "attribute" not in options:
        size(weigh(value) // 8, MAX_TEXT)


FILTERS: dict[str, Callable[..., None]] = {
    "batch": _batch,
    "slice": _batch,
    "center": _center,
    "format": printf,
    "indent": _indent,
    "int": _int,
    "replace": _replace,
    "round": _round,
    "tojson": _json,
    "list": _listed,
    "groupby": _listed,
    "dictsort": _sorted,
    "max": _sorted,
    "min": _sorted,
    "sort": _sorted,
    "unique": _sorted,
}
FILTERS |= dict.fromkeys(("pprint", "striptags", "title", "urlencode", "wordcount", "xmlattr"), _slow)
FILTERS |= dict.fromkeys(("urlize", "wordwrap"), _slow_text)
FILTERS |= dict.fromkeys(
    ("capitalize", "e", "escape", "forceescape", "lower", "safe", "string", "trim", "truncate", "upper"), _written
)


# --- methods -----------------------------------------------------------------------------------------------------

_OF_TEXT = """
    capitalize casefold center count encode endswith expandtabs find format format_map index isalnum isalpha isascii
    isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper join ljust lower lstrip
    partition removeprefix removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith
    strip swapcase title upper zfill
"""
_OF_SETS = "copy difference intersection isdisjoint issubset issuperset symmetric_difference union"
_ALLOWED: tuple[tuple[tuple[type, ...], frozenset[str]], ...] = tuple(
    (kinds, frozenset(names.split()))
    for kinds, names in (
        ((str,), _OF_TEXT),
        ((bytes, bytearray), "count decode endswith find hex index rfind startswith"),
        ((int, float), "as_integer_ratio bit_count bit_length conjugate hex is_integer"),
        ((dict,), "copy get items keys values"),
        ((list, tuple, range), "copy count index"),
        ((set, frozenset), _OF_SETS),
    )
)


def method(owner: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise if a built-in method is not one for data, or its result would be too large."""
    if name == "strftime":
        time_format(str(args[0] if args else kwargs.get("format", "")))
    if owner is None or isinstance(owner, type):  # `''.maketrans`; `{}.fromkeys`, `(1).from_bytes`
        raise TemplateSecurityError(f"the method {name!r} is not allowed in a template")
    for kinds, names in _ALLOWED:
        if isinstance(owner, kinds):
            if name not in names:
                raise TemplateSecurityError(f"the method {name!r} is not allowed in a template")
            break
    if isinstance(owner, str):
        _text_method(owner, name, args, kwargs)
    elif isinstance(owner, set | frozenset):
        for arg in args:
            if isinstance(arg, list | tuple):
                keys(arg)


def keys(values: Iterable[Any]) -> None:
    """Raise ``TemplateLimitError`` if a set or mapping with these keys would take quadratic time."""
    try:
        check_clashes(values)
    except ClashError as error:
        raise TemplateLimitError(str(error)) from None


def pairs(items: Iterable[Any]) -> list[Any]:
    """The items of a mapping that is about to be made; see ``keys``."""
    found = [tuple(item) for item in items]
    keys(pair[0] for pair in found if pair)
    return found


def _text_method(text: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if name in {"center", "ljust", "rjust", "zfill"}:
        size(int(args[0]) if args else 0, MAX_TEXT)
    elif name == "expandtabs":
        step = int(args[0] if args else kwargs.get("tabsize", 8))
        size(len(text) + text.count("\t") * max(step, 0), MAX_TEXT)
    elif name == "replace" and len(args) >= 2:
        replaced(text, str(args[0]), str(args[1]))
    elif name == "join" and args and isinstance(args[0], Sized):
        size(len(text) * len(args[0]), MAX_TEXT)
        size(sum(len(item) for item in cast(Iterable[Any], args[0]) if isinstance(item, str)), MAX_TEXT)
    elif name == "join":
        raise TemplateSecurityError("join() takes a list here; use the `join` filter")
    elif name == "splitlines":
        size(len(re.findall(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]", text)), MAX_ITEMS)
    elif name in {"split", "rsplit"}:
        separator = args[0] if args else kwargs.get("sep")
        if isinstance(separator, str) and separator:
            size(text.count(separator), MAX_ITEMS)
        else:
            size(len(text.split(None, MAX_ITEMS)), MAX_ITEMS)


def replaced(text: str, old: str, new: str) -> None:
    """Raise if ``text.replace(old, new)`` would be too long."""
    size(len(text) + text.count(old) * max(len(new) - len(old), 0), MAX_TEXT)
