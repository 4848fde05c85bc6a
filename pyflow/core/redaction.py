"""Keeps secret values out of everything that leaves a run."""

from __future__ import annotations

import base64
import html
import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus
from weakref import WeakSet

MASK = "***"
#: Shorter values would mask ordinary text everywhere ("a", "12").
MIN_LENGTH = 4
#: Deeper values (a node may return one that contains itself) are not walked.
MAX_NESTING = 100
#: Text that is a part of a secret is masked from this length on, if it is at least half of the secret.
MIN_PART = 8
#: Longer forms are looked for one by one: compiling them would take longer than all the looking.
MAX_COMPILED = 512

#: Of a value of more lines (a key in PEM has up to 55), only the value as a whole is masked.
MAX_LINES = 100

#: What no encoding here escapes (RFC 3986's unreserved characters).
_PLAIN = re.compile(r"[\w.~-]", re.ASCII)
_LINE_END = re.compile(r"[\r\n]+")
_ESCAPES = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f", '"': '"', "'": "'", "\\": "\\", "/": "/"}


class Redactor:
    """Masks the values it was told, and what commonly becomes of them on their way.

    Those are base64 (both alphabets, padded or not, alone or inside of a longer text), hexadecimal, and any mixture of
    percent-encoding, JSON's, Python's and HTML's escapes; the lines of a value that has several; and text that is a
    large part of a value. ``redact`` walks dicts, lists, tuples, sets and strings and returns new ones; other values
    pass as they are. What is nested deeper than ``MAX_NESTING`` is masked as a whole.
    """

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._short: set[str] = set()
        self._long: list[str] = []
        self._flexible: list[str] = []
        self._longest = 0
        self._pattern: re.Pattern[str] | None = None

    def add(self, value: str) -> None:
        """Mask ``value`` from now on."""
        self._learn([value])

    def learn(self, other: Redactor) -> None:
        """Mask what ``other`` masks, too: something that may hold its secrets comes from there."""
        if other is not self:
            self._learn(other._values)

    def __bool__(self) -> bool:
        return self._pattern is not None

    def redact(self, value: Any) -> Any:
        """``value`` without the secrets in it."""
        if self._pattern is None:
            return value
        return self._walk(value, self._pattern, MAX_NESTING)

    def _learn(self, values: Iterable[str]) -> None:
        new = {value for value in values if len(value) >= MIN_LENGTH} - self._values
        if not new:
            return
        for value in new:
            forms = _forms_of(value) | set(_lines_of(value))
            self._short |= {form for form in forms if len(form) <= MAX_COMPILED}
            self._long += [form for form in forms if len(form) > MAX_COMPILED]
            if len(value) <= MAX_COMPILED and not all(map(_PLAIN.match, value)):
                self._flexible.append(_flexible(value))
        self._long.sort(key=len, reverse=True)
        literal = map(re.escape, sorted(self._short, key=len, reverse=True))
        # Assigned last: other threads redact meanwhile.
        self._values = self._values | new
        self._longest = max(map(len, self._values))
        # A value that is long in every form leaves nothing to compile; then nothing matches.
        self._pattern = re.compile("|".join([*literal, *self._flexible]) or r"(?!)")
        with _lock:
            _in_use.add(self)

    def _walk(self, value: Any, pattern: re.Pattern[str], depth: int) -> Any:
        if isinstance(value, str):
            return self._mask(value, pattern)
        if isinstance(value, dict | list | tuple | set | frozenset) and not depth:
            return MASK
        if isinstance(value, dict):
            return {self._walk(k, pattern, depth - 1): self._walk(v, pattern, depth - 1) for k, v in value.items()}
        if isinstance(value, list):
            return [self._walk(item, pattern, depth - 1) for item in value]
        if isinstance(value, tuple):
            return tuple(self._walk(item, pattern, depth - 1) for item in value)
        if isinstance(value, set | frozenset):
            return type(value)(self._walk(item, pattern, depth - 1) for item in value)
        if isinstance(value, bytes):
            text = self._mask(value.decode("utf-8", "surrogateescape"), pattern)
            return text.encode("utf-8", "surrogateescape")
        return value

    def _mask(self, text: str, pattern: re.Pattern[str]) -> str:
        size = len(text)
        if MIN_PART <= size < self._longest and any(size * 2 >= len(value) and text in value for value in self._values):
            return MASK
        for form in self._long:
            if len(form) <= size:
                text = text.replace(form, MASK)
        return pattern.sub(MASK, text)


def _lines_of(value: str) -> Iterator[str]:
    """The lines of a value that are worth masking alone: not the frame of a PEM document, which is in all of them."""
    lines = _LINE_END.split(value)
    for line in lines if len(lines) <= MAX_LINES else ():
        if len(line) >= MIN_PART and not line.startswith("-----") and line != value:
            yield line


def _forms_of(value: str) -> set[str]:
    raw = value.encode("utf-8", "surrogateescape")
    forms = {
        value,
        quote(value, safe=""),
        quote(value),
        quote_plus(value),
        repr(value)[1:-1],
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        html.escape(value),
        raw.hex(),
        raw.hex().upper(),
    }
    # Inside a longer base64 text (`user:password`) the value stands at one of three alignments; the characters that
    # also depend on its neighbours are cut off at both ends.
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for offset in range(3):
            encoded = encode(b"\0" * offset + raw).decode().rstrip("=")
            start = (offset * 8 + 5) // 6
            end = (offset + len(raw)) * 8 // 6
            if end - start >= MIN_LENGTH * 2:
                forms.add(encoded[start:end])
        forms |= {encode(raw).decode(), encode(raw).decode().rstrip("=")}
    return {form for form in forms if len(form) >= MIN_LENGTH}


def _flexible(value: str) -> str:
    """A pattern for a value of whose characters each may be escaped in any way, or not at all.

    The groups are atomic: they are tried once, however the text looks, so matching takes time in proportion to it.
    """
    return "".join(char if _PLAIN.match(char) else f"(?>{'|'.join(_escapes(char))})" for char in value)


def _escapes(char: str) -> Iterator[str]:
    encoded = "".join(f"%(?:25)?{_hex(f'{byte:02x}')}" for byte in char.encode("utf-8", "surrogateescape"))
    yield encoded
    number = ord(char)
    units = char.encode("utf-16-be", "surrogatepass").hex()
    yield "".join(rf"\\{{1,2}}u{_hex(units[i : i + 4])}" for i in range(0, len(units), 4))
    if number < 256:  # Python's repr
        yield rf"\\{{1,2}}x{_hex(f'{number:02x}')}"
    yield f"&#(?:0*{number}|[xX]0*{_hex(f'{number:x}')});"
    if (named := html.escape(char)) != char:
        yield re.escape(named)
    if char in _ESCAPES:
        yield rf"\\{{1,3}}{re.escape(_ESCAPES[char])}"
    if char == " ":
        yield r"\+"
    yield re.escape(char)


def _hex(digits: str) -> str:
    return "".join(digit if digit.isdigit() else f"[{digit}{digit.upper()}]" for digit in digits)


#: The redactors that know a secret and are still somebody's: of the runs that are executed in this process.
_in_use: WeakSet[Redactor] = WeakSet()
_lock = threading.Lock()


class RedactingFormatter(logging.Formatter):
    """Masks, in whole lines and their tracebacks, the secrets of all runs that are executed in this process.

    For the handlers of a process that runs workflows: what a library logs of a request passes through no node's logger.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line as ``logging.Formatter`` makes it, without secrets."""
        text = super().format(record)
        with _lock:
            redactors = list(_in_use)
        for redactor in redactors:
            text = redactor.redact(text)
        return text


class RedactingLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that masks what its redactor knows, in messages and their arguments.

    ``tap`` is told the level and the masked text of every line, also of those that the process does not log.
    """

    def __init__(
        self, logger: logging.Logger, redactor: Redactor, tap: Callable[[int, str], None] | None = None
    ) -> None:
        super().__init__(logger)
        self._redactor = redactor
        self._tap = tap

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """As ``logging.Logger.log``. The text is made first, so that a secret split by formatting is seen, too."""
        logs = self.isEnabledFor(level)
        if not logs and self._tap is None:
            return
        named = len(args) == 1 and isinstance(args[0], Mapping) and args[0]  # as logging has it
        text = self._redactor.redact(str(msg) % (named or args) if args else str(msg))
        if logs:
            super().log(level, "%s", text, **kwargs)
        if self._tap is not None:
            self._tap(level, text + self._redactor.redact(_named_error(kwargs.get("exc_info"))))


def _named_error(exc_info: Any) -> str:
    """The error of a line in one more line. Its traceback, which names files of the installation, is the process's."""
    error = exc_info if isinstance(exc_info, BaseException) else sys.exc_info()[1] if exc_info else None
    return "" if error is None else "\n" + "".join(traceback.format_exception_only(error)).rstrip()
