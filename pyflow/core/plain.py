"""Results as plain JSON data, so that what a run continues from after a crash is what it had before."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Collection, Mapping
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from pyflow.core.errors import NonRetryableError
from pyflow.core.messages import MAX_SHOWN, said, show

MAX_DEPTH = 100
#: Characters of the place of an error.
MAX_PLACE = 200
#: Python itself refuses to write integers of more than 4,300 digits as text.
MAX_INTEGER_BITS = 4096
#: As JavaScript and PostgreSQL write them.
_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


class NotPlainError(NonRetryableError):
    """A result holds something that JSON does not have, or that PostgreSQL cannot store.

    ``path`` leads to the place, ``reason`` says what is wrong there: "holds NaN, which JSON does not have".
    """

    code = "output_not_json"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str | int] = []

    @property
    def place(self) -> str:
        """The path as it is written in an expression (``body.items[2]``); empty for the whole result."""
        return said("".join(map(_step, reversed(self.path))).lstrip("."), MAX_PLACE)

    def __str__(self) -> str:
        """Say what is wrong, and where."""
        return f"the result {self.reason}" + (f", at {self.place}" if self.path else "")


def to_plain(value: Any, depth: int = 0) -> Any:
    """``value`` made of dict, list, str, int, float, bool and None; times as ISO 8601, decimals as text."""
    kind = type(value)
    if kind is str:
        return _text(value)
    if value is None or kind is bool:
        return value
    if kind is int:
        if value.bit_length() > MAX_INTEGER_BITS:
            raise NotPlainError(f"holds an integer of more than {MAX_INTEGER_BITS:,} bits")
        return value
    if kind is float:
        if not math.isfinite(value):
            raise NotPlainError(f"holds {_NOT_FINITE[str(value)]}, which JSON does not have")
        return value
    if depth > MAX_DEPTH:
        raise NotPlainError(f"is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        return _mapping(value, depth + 1)
    if isinstance(value, list | tuple):
        return _list(value, depth + 1)
    if isinstance(value, set | frozenset):
        return _list(in_order(value), depth + 1)
    return _convert(value, depth)


def in_order(items: Collection[Any]) -> list[Any]:
    """Return the items of a set in an order that is the same in every process, which Python's own is not."""
    return sorted(items, key=_rank)


def _rank(item: Any) -> tuple[str, Any]:
    if isinstance(item, bool | int | float):
        return ("", item)
    return (type(item).__name__, item if isinstance(item, str) else repr(item))


def _mapping(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    name = None
    try:
        for key, item in value.items():
            name = None
            name = _key(key)
            plain[name] = to_plain(item, depth)
    except NotPlainError as error:
        if name is not None:
            error.path.append(name)
        raise
    return plain


def _list(value: Collection[Any], depth: int) -> list[Any]:
    plain: list[Any] = []
    try:
        for item in value:
            plain.append(to_plain(item, depth))  # noqa: PERF401 - its length is the place of an error
    except NotPlainError as error:
        error.path.append(len(plain))
        raise
    return plain


def _step(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    return f".{part}" if part.isidentifier() and len(part) <= MAX_SHOWN else f"[{show(part)}]"


def _convert(value: Any, depth: int) -> Any:
    if isinstance(value, BaseModel):
        return to_plain(value.model_dump(), depth + 1)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_plain(dataclasses.asdict(value), depth + 1)
    if isinstance(value, Enum):
        return to_plain(value.value, depth + 1)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal | UUID):
        return str(value)
    for base in (str, bool, int, float):
        if isinstance(value, base):
            return to_plain(base(value), depth + 1)
    raise NotPlainError(f"holds an object of type {type(value).__name__}, which is not JSON data")


def _text(value: str) -> str:
    if "\0" in value:
        raise NotPlainError("holds text with a NUL character, which cannot be stored")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise NotPlainError("holds text with a lone surrogate, which cannot be stored") from None
    return value


def _key(key: Any) -> str:
    if isinstance(key, str):
        return _text(key)
    if key is None or isinstance(key, bool | int | float):
        return str(key)
    raise NotPlainError(f"holds a key of type {type(key).__name__}; keys are text")
