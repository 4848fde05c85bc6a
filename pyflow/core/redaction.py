"""Keeps secret values out of everything that leaves a run."""

from __future__ import annotations

import base64
import json
import logging
import re
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "***"
#: Shorter values would mask ordinary text everywhere ("a", "12").
MIN_LENGTH = 4
#: Deeper values (a node may return one that contains itself) are not walked.
MAX_NESTING = 100


class Redactor:
    """Masks the values it was told, with their base64, URL-encoded and JSON-escaped forms.

    ``redact`` walks dicts, lists, tuples, sets and strings and returns new ones; other values pass as they are. What is
    nested deeper than ``MAX_NESTING`` is masked as a whole.
    """

    def __init__(self) -> None:
        self._forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, value: str) -> None:
        """Mask ``value`` from now on."""
        if len(value) < MIN_LENGTH or value in self._forms:
            return
        self._forms |= _forms_of(value)
        longest_first = sorted(self._forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def __bool__(self) -> bool:
        return self._pattern is not None

    def redact(self, value: Any) -> Any:
        """``value`` without the secrets in it."""
        if self._pattern is None:
            return value
        return self._walk(value, self._pattern, MAX_NESTING)

    def _walk(self, value: Any, pattern: re.Pattern[str], depth: int) -> Any:
        if isinstance(value, str):
            return pattern.sub(MASK, value)
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
            return pattern.sub(MASK, value.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        return value


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
    }
    # Inside a longer base64 text (`user:password`) the value stands at one of three alignments; the characters that
    # also depend on its neighbours are cut off at both ends.
    for offset in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            encoded = encode(b"\0" * offset + raw).decode().rstrip("=")
            start = (offset * 8 + 5) // 6
            end = (offset + len(raw)) * 8 // 6
            if end - start >= MIN_LENGTH * 2:
                forms.add(encoded[start:end])
    forms.add(base64.b64encode(raw).decode())
    forms.add(base64.urlsafe_b64encode(raw).decode())
    return {form for form in forms if len(form) >= MIN_LENGTH}


class RedactingLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that masks what its redactor knows, in messages and their arguments."""

    def __init__(self, logger: logging.Logger, redactor: Redactor) -> None:
        super().__init__(logger)
        self._redactor = redactor

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """As ``logging.Logger.log``. The text is made first, so that a secret split by formatting is seen, too."""
        if self.isEnabledFor(level):
            text = str(msg) % args if args else str(msg)
            super().log(level, "%s", self._redactor.redact(text), **kwargs)
