"""Keeps secret values, and pieces of them, out of everything that leaves a run."""

from __future__ import annotations

import base64
import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar, cast
from weakref import WeakSet

from pyflow.core.escapes import unescaped

ValueT = TypeVar("ValueT")

MASK = "***"
#: Shorter values would mask ordinary text everywhere ("a", "12").
MIN_LENGTH = 4
#: Deeper values (a node may return one that contains itself) are not walked.
MAX_NESTING = 100
#: Of a longer value every piece of this length is masked in messages; a shorter value is masked only as a whole.
PIECE = 8
#: Of a longer value, pieces are known as they are and without escapes; base64 and hexadecimal only as a whole.
MAX_ENCODED = 4096
#: Longer texts are looked for one by one: compiling them would take longer than all the looking.
MAX_COMPILED = 512

#: Each run of ``PIECE`` characters has, at one multiple of ``_STEP``, ``_GRAM`` characters of it: the others need not
#: be looked at.
_GRAM = 4
#: A piece so long is masked in data however long the value is: a line of a key in PEM.
_LARGE = 32
_STEP = PIECE - _GRAM + 1
#: What the two alphabets of base64, and the two ways to write a space in a URL, have in the same place is the same.
_FOLDED = str.maketrans({"-": "+", "_": "/", " ": "+"})
#: The password in a URL is a secret of its own.
_CREDENTIALS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#@:\s]*:(?P<password>[^/?#@\s]+)@")
#: Parts that are the same in many values and therefore no secret: a URL's scheme, the frame of a PEM document.
_PUBLIC = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://|-----(?:BEGIN|END) [A-Z0-9 ]+-----")


class Redactor:
    """Masks the values added to it, and their common encodings.

    In a message (``redact_message``), each piece of ``PIECE`` characters of a value is masked, wherever it stands and
    however the rest was cut off. In data (``redact``), each piece is that is half of a value, or 32 characters: other
    nodes work with data, and the host in a secret URL may stand elsewhere, too. A value that is shorter is masked as a
    whole. Values are found as they are, in base64 (both alphabets, padded or not, alone or inside of a longer text), in
    hexadecimal, and under any mixture of percent-encoding, JSON's, Python's and HTML's escapes. Dicts, lists, tuples,
    sets and strings are walked, and new ones returned; other values pass as they are. What is nested deeper than
    ``MAX_NESTING`` is masked as a whole. Looking takes time in proportion to the text, whatever the number of values.
    """

    def __init__(self) -> None:
        self._values: set[str] = set()
        #: All runs of PIECE and of _GRAM characters in the forms of the values, folded.
        #: With how long a run has to be for data: half of the shortest form that the piece is of.
        self._pieces: dict[str, int] = {}
        self._grams: set[str] = set()
        #: What is masked as a whole only.
        self._short: set[str] = set()
        #: The same by their first characters, the longest first.
        self._starts: dict[str, list[str]] = {}
        self._long: set[str] = set()

    def add(self, value: str) -> None:
        """Mask ``value`` from now on."""
        self._learn([value])

    def learn(self, other: Redactor) -> None:
        """Mask what ``other`` masks, too: something that may hold its secrets comes from there."""
        if other is not self:
            self._learn(other._values)

    def __bool__(self) -> bool:
        return bool(self._values)

    def redact(self, value: Any) -> Any:
        """Data without the secrets in it."""
        if not self._values:
            return value
        return self._walk(value, MAX_NESTING)

    def redact_message(self, value: ValueT) -> ValueT:
        """Redact text for people (one, or several in a container): masks every piece of the secrets in it."""
        return cast(ValueT, self._walk(value, MAX_NESTING, any_piece=True)) if self._values else value

    def _learn(self, values: Iterable[str]) -> None:
        values = list(values)
        passwords = [match["password"] for value in values if (match := _CREDENTIALS.match(value))]
        new = {value for value in (*values, *passwords) if len(value) >= MIN_LENGTH} - self._values
        if not new:
            return
        wholes: set[str] = set()
        for value in new:
            for form in _forms_with_pieces(value):
                folded = form.translate(_FOLDED)
                self._grams.update(folded[i : i + _GRAM] for i in range(len(folded) - _GRAM + 1))
                half = max(PIECE, min((len(folded) + 1) // 2, _LARGE))
                for i in range(len(folded) - PIECE + 1):
                    piece = folded[i : i + PIECE]
                    self._pieces[piece] = min(half, self._pieces.get(piece, half))
            wholes.update(_wholes(value))
        # Assigned, not changed: other threads redact meanwhile.
        self._long = self._long | {whole for whole in wholes if len(whole) > MAX_COMPILED}
        if short := {whole for whole in wholes if len(whole) <= MAX_COMPILED} - self._short:
            self._short = self._short | short
            starts: dict[str, list[str]] = {}
            for whole in sorted(self._short, key=len, reverse=True):
                starts.setdefault(whole[:MIN_LENGTH], []).append(whole)
            self._starts = starts
        self._values = self._values | new
        with _lock:
            _in_use.add(self)

    def _walk(self, value: Any, depth: int, *, any_piece: bool = False) -> Any:
        if isinstance(value, str):
            return self._mask(value, any_piece=any_piece)
        if isinstance(value, dict | list | tuple | set | frozenset) and not depth:
            return MASK

        def walk(part: Any) -> Any:
            return self._walk(part, depth - 1, any_piece=any_piece)

        if isinstance(value, dict):
            return {walk(k): walk(v) for k, v in value.items()}
        if isinstance(value, list):
            return [walk(item) for item in value]
        if isinstance(value, tuple):
            return tuple(walk(item) for item in value)
        if isinstance(value, set | frozenset):
            return type(value)(walk(item) for item in value)
        if isinstance(value, bytes):
            text = self._mask(value.decode("utf-8", "surrogateescape"), any_piece=any_piece)
            return text.encode("utf-8", "surrogateescape")
        return value

    def _mask(self, text: str, *, any_piece: bool) -> str:
        if len(text) < (MIN_LENGTH if self._starts else PIECE):
            return text
        found = self._find(text, any_piece=any_piece)
        for plain in unescaped(text):
            found += [plain.span(start, end) for start, end in self._find(plain.text, any_piece=any_piece)]
        if not found:
            return text
        parts: list[str] = []
        done = 0
        for start, end in _merged(found):
            parts += text[done:start], MASK
            done = end
        return "".join((*parts, text[done:]))

    def _find(self, text: str, *, any_piece: bool) -> list[tuple[int, int]]:
        """Return the ranges of a text that have to be masked."""
        found: list[tuple[int, int]] = []
        if starts := self._starts:
            for at in [i for i in range(len(text) - MIN_LENGTH + 1) if text[i : i + MIN_LENGTH] in starts]:
                whole = next((each for each in starts[text[at : at + MIN_LENGTH]] if text.startswith(each, at)), None)
                if whole is not None:
                    found.append((at, at + len(whole)))
        for whole in self._long:
            at = text.find(whole)
            while at >= 0:
                found.append((at, at + len(whole)))
                at = text.find(whole, at + len(whole))
        if len(text) >= PIECE:
            pieces = self._find_pieces(text.translate(_FOLDED))
            found += pieces if any_piece else self._large(pieces, text)
        return found

    def _find_pieces(self, folded: str) -> list[tuple[int, int]]:
        grams, pieces = self._grams, self._pieces
        found: list[tuple[int, int]] = []
        for at in [i for i in range(0, len(folded) - _GRAM + 1, _STEP) if folded[i : i + _GRAM] in grams]:
            starts = range(max(0, at - PIECE + _GRAM), at + 1)
            found += [(start, start + PIECE) for start in starts if folded[start : start + PIECE] in pieces]
        return found

    def _large(self, found: list[tuple[int, int]], text: str) -> Iterator[tuple[int, int]]:
        """Runs of pieces that are half of a value."""
        folded = text.translate(_FOLDED)
        for start, end in _merged(found) if found else ():
            runs = (self._pieces.get(folded[i : i + PIECE], sys.maxsize) for i in range(start, end - PIECE + 1))
            if end - start >= min(runs):
                yield start, end


def _merged(spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The spans in order, those that overlap as one."""
    start, end = 0, 0
    for at, past in sorted(spans):
        if at < end:
            end = max(end, past)
        else:
            if end:
                yield start, end
            start, end = at, past
    yield start, end


def _forms_with_pieces(value: str) -> Iterator[str]:
    """Return the forms of a value of which each piece is masked: of its secret parts those that are long enough."""
    for part in _PUBLIC.split(value):
        if len(part) < PIECE:
            continue
        yield part
        yield _plain(part)
        if len(value) <= MAX_ENCODED:
            yield from _encodings(part)


def _wholes(value: str) -> Iterator[str]:
    """Return the forms masked only as a whole: short values, those with public parts, encoded very long ones."""
    plain = _plain(value)  # escapes in a value, as `\\"`, make a long one short
    if len(plain) < PIECE or len(value) > MAX_ENCODED or _PUBLIC.search(value):
        for form in (value, plain, value.replace(" ", "+"), *_encodings(value)):
            for whole in (form, form.rstrip("="), form.replace("+", "-").replace("/", "_")):
                if len(whole) >= MIN_LENGTH:
                    yield whole


def _plain(value: str) -> str:
    for plain in unescaped(value):
        value = plain.text
    return value


def _encodings(value: str) -> Iterator[str]:
    """A value in hexadecimal and in base64, of which inside a longer text it stands at one of three alignments."""
    raw = value.encode("utf-8", "surrogateescape")
    yield raw.hex()
    yield raw.hex().upper()
    for offset in range(3):
        # The first characters also depend on what stands before, and the last ones on what comes after.
        start, end = (offset * 8 + 5) // 6, (offset + len(raw)) * 8 // 6
        encoded = base64.b64encode(b"\0" * offset + raw).decode()
        yield encoded[start:]
        if len(value) < PIECE <= end - start:
            yield encoded[start:end]


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
            text = redactor.redact_message(text)
        return text


class RedactingLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that masks what its redactor knows, in messages and their arguments.

    ``tap`` is called with the level and the masked text of every line, also of those that the process does not log.
    """

    def __init__(
        self, logger: logging.Logger, redactor: Redactor, tap: Callable[[int, str], None] | None = None
    ) -> None:
        super().__init__(logger)
        self._redactor = redactor
        self._tap = tap

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log as ``logging.Logger.log``. Formats the text first: a secret split by formatting is masked, too."""
        logs = self.isEnabledFor(level)
        if not logs and self._tap is None:
            return
        named = len(args) == 1 and isinstance(args[0], Mapping) and args[0]  # as logging has it
        text = self._redactor.redact_message(str(msg) % (named or args) if args else str(msg))
        if logs:
            super().log(level, "%s", text, **kwargs)
        if self._tap is not None:
            self._tap(level, text + self._redactor.redact_message(_named_error(kwargs.get("exc_info"))))


def _named_error(exc_info: Any) -> str:
    """The error of a line in one more line. Its traceback, which names files of the installation, is the process's."""
    error = exc_info if isinstance(exc_info, BaseException) else sys.exc_info()[1] if exc_info else None
    return "" if error is None else "\n" + "".join(traceback.format_exception_only(error)).rstrip()
