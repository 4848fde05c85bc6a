"""The way to an error through a node's code, as text that is kept with the node."""

from __future__ import annotations

import linecache
import re
import sys
import sysconfig
import traceback
from functools import lru_cache
from pathlib import Path
from types import TracebackType

from pydantic import ValidationError

from pyflow.core.errors import PyFlowError
from pyflow.core.misfits import in_words

#: Of each error, the last frames, which are nearest to it.
MAX_FRAMES = 20
#: Errors that led to one another.
MAX_ERRORS = 5
#: Whose frames lead to a node and are none of its code.
_CALLERS = (
    str(Path(__file__).parent),
    *(f"{sysconfig.get_path('stdlib')}/{name}/" for name in ("asyncio", "concurrent")),
)
#: Where an object lies in memory: Python's own way to show one that has no other.
_ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")
_BECAUSE = "\n\nThe above error was the cause of this one:\n\n"
_MEANWHILE = "\n\nWhile the above error was handled, there was this one:\n\n"


def traceback_of(error: BaseException) -> str | None:
    """The frames from the node's code on, the oldest first, and the errors that led to it; no values of variables.

    ``None`` for an error that the node raised on purpose, which says what it has to, and one without frames. Secrets
    are not masked in it.
    """
    if isinstance(error, PyFlowError):
        return getattr(error, "told_traceback", None)
    parts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(seen) < MAX_ERRORS:
        seen.add(id(current))
        parts.insert(0, _frames(current.__traceback__) + described(current))
        joint, current = _led_to(current)
        if current is not None:
            parts.insert(0, joint)
    text = "".join(parts[1:] if parts[0] in (_BECAUSE, _MEANWHILE) else parts)
    return text if "\n  File " in f"\n{text}" else None


def described(error: BaseException) -> str:
    """``KeyError: 'missing'``: an error as the last line of Python's own tracebacks shows it."""
    text = text_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def text_of(error: BaseException) -> str:
    """What an error says, in our own words where pydantic would show the value; without memory addresses."""
    # str(KeyError("no such thing")) is "'no such thing'": its argument reads better, unless it is but a key.
    if type(error) is KeyError and len(error.args) == 1 and isinstance(error.args[0], str) and " " in error.args[0]:
        return error.args[0]
    try:
        return in_words(error) if isinstance(error, ValidationError) else _ADDRESS.sub("", str(error))
    except BaseException:  # noqa: BLE001 - an error of a node may be broken itself
        return ""


def _led_to(error: BaseException) -> tuple[str, BaseException | None]:
    if error.__cause__ is not None:
        return _BECAUSE, error.__cause__
    return _MEANWHILE, None if error.__suppress_context__ else error.__context__


def _frames(found: TracebackType | None) -> str:
    every = [(frame.f_code.co_filename, line, frame.f_code.co_qualname) for frame, line in traceback.walk_tb(found)]
    first = next((at for at, (file, *_) in enumerate(every) if not file.startswith(_CALLERS)), 0)
    places = every[first:]
    lines = [f"  … {len(places) - MAX_FRAMES} more\n"] if len(places) > MAX_FRAMES else []
    for file, line, name in places[-MAX_FRAMES:]:
        lines.append(f'  File "{_short_name(file)}", line {line}, in {name}\n')
        if code := linecache.getline(file, line).strip():
            lines.append(f"    {code}\n")
    return "".join(lines)


@lru_cache(maxsize=1024)
def _short_name(file: str) -> str:
    """A file by its place below a folder that Python imports from: where this machine has it is nobody's business."""
    path = Path(file)
    folders = [Path(folder or ".").absolute() for folder in sys.path]
    inside = [path.relative_to(folder) for folder in folders if path.is_absolute() and path.is_relative_to(folder)]
    return str(min(inside, key=lambda name: len(str(name)))) if inside else path.name
