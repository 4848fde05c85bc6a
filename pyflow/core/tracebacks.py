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

import pyflow_sdk
from pyflow.core.errors import PyFlowError
from pyflow.core.misfits import in_words

#: Of each error, the last frames, which are nearest to it.
MAX_FRAMES = 20
#: Errors that led to one another.
MAX_ERRORS = 5
#: Frames of PyFlow's are none of a node's code, whether they lead to it or are called by it.
_OWN = tuple(f"{folder}/" for folder in (Path(__file__).parents[1], *pyflow_sdk.__path__))
#: Whose frames lead to a node.
_CALLERS = (*_OWN, *(f"{sysconfig.get_path('stdlib')}/{name}/" for name in ("asyncio", "concurrent")))
#: The file, the line and the name of a function.
_Place = tuple[str, int, str]
#: Where an object lies in memory: Python's own way to show one that has no other.
_ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")
_BECAUSE = "\n\nThe above error was the cause of this one:\n\n"
_MEANWHILE = "\n\nWhile the above error was handled, there was this one:\n\n"


def traceback_of(error: BaseException) -> str | None:
    """The frames from the node's code on, the oldest first, and the errors that led to it; no values of variables.

    PyFlow's own frames are left out, unless the way leads through nothing else. ``None`` for an error that the node
    raised on purpose, which says what it has to, and one without frames. Secrets are not masked in it.
    """
    if isinstance(error, PyFlowError):
        return getattr(error, "remote_traceback", None)
    chain: list[tuple[BaseException, str]] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(seen) < MAX_ERRORS:
        seen.add(id(current))
        joint, cause = _led_to(current)
        chain.insert(0, (current, joint))
        current = cause
    ways = [_way(one.__traceback__) for one, _ in chain]
    shown = [_of_node(way) for way in ways]
    if not any(shown):  # a mistake of ours
        shown = ways
    if not any(shown):
        return None
    texts = [_frames(way) + described(one) for way, (one, _) in zip(shown, chain, strict=True)]
    return texts[0] + "".join(joint + text for (_, joint), text in zip(chain[1:], texts[1:], strict=True))


def described(error: BaseException) -> str:
    """``KeyError: 'missing'``: an error as the last line of Python's own tracebacks shows it."""
    text = text_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def text_of(error: BaseException) -> str:
    """Return the text of an error, in our own words where pydantic would show the value; without memory addresses."""
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


def _way(found: TracebackType | None) -> list[_Place]:
    return [(frame.f_code.co_filename, line, frame.f_code.co_qualname) for frame, line in traceback.walk_tb(found)]


def _of_node(way: list[_Place]) -> list[_Place]:
    first = next((at for at, (file, *_) in enumerate(way) if not file.startswith(_CALLERS)), len(way))
    return [place for place in way[first:] if not place[0].startswith(_OWN)]


def _frames(places: list[_Place]) -> str:
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
