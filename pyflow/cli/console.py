"""Output of all commands: two streams, exit codes, and JSON of the values that nodes return."""

from __future__ import annotations

import datetime
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any, NoReturn, TextIO

import typer
from pydantic import BaseModel

#: Terminals obey these; text from a file or a server must not command them.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
#: Deeper values are shown by their ``repr``; none of a workflow's own are.
MAX_DEPTH = 100


class ExitCode(IntEnum):
    """Exit codes of the command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    INVALID = 3
    REMOTE = 4


def out(text: str) -> None:
    """Print a line, or several, to standard output at once."""
    _write(sys.stdout, text)


def err(text: str) -> None:
    """Print a line, or several, to standard error at once."""
    _write(sys.stderr, text)


def fail(message: str, code: int = ExitCode.USAGE) -> NoReturn:
    """Say what is wrong on standard error and exit with ``code``."""
    err(f"Error: {message}")
    raise typer.Exit(int(code))


def _write(stream: TextIO, text: str) -> None:
    text = _CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", text) + "\n"
    try:
        stream.write(text)
    except UnicodeEncodeError:  # an ASCII terminal, or a lone surrogate
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def out_json(value: Any, *, indent: int | None = 2) -> None:
    """Print ``value`` as JSON (see ``to_json``) to standard output."""
    out(to_json(value, indent=indent))


def to_json(value: Any, *, indent: int | None = None) -> str:
    """``value`` as JSON text, whatever it holds.

    Pydantic models become objects, dates ISO 8601 text, tuples lists, keys text. What JSON has no word for (sets,
    bytes, NaN, objects of any other class, values that contain themselves) becomes the text of its ``repr``.
    """
    plain = _plain(value, 0)
    text = json.dumps(plain, indent=indent, ensure_ascii=False)
    encoding = sys.stdout.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = json.dumps(plain, indent=indent)
    return text


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    # Subclasses (enums among them) are reduced to what they are to JSON.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return _plain_int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else repr(value)
    if depth > MAX_DEPTH:
        return _repr(value)
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(), depth + 1)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return _repr(value)


def _plain_int(value: int) -> int | str:
    # Python refuses to write integers of more than 4,300 digits; nothing could read them.
    return int(value) if value.bit_length() < 4096 else hex(value)


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - somebody else's `__repr__`
        return f"<{type(value).__name__}: its repr failed: {type(error).__name__}>"


def table(rows: Iterable[Iterable[str]], indent: str = "  ") -> list[str]:
    """The rows as lines, all columns but the last padded to their widest cell."""
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append((indent + "  ".join(padded)).rstrip())
    return lines
