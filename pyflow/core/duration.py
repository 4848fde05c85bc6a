"""Durations as people write them: ``500ms``, ``30s``, ``5m``, ``2h``, ``1d``, ISO 8601 (``PT1H30M``) or seconds."""

from __future__ import annotations

import math
import re
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from pyflow.core.messages import show

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SHORT = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)", re.ASCII)
# ISO 8601-1:2019 5.5.2; years and months have no fixed length and are refused.
_ISO = re.compile(
    r"P(?:(?P<w>\d+(?:\.\d+)?)W)?(?:(?P<d>\d+(?:\.\d+)?)D)?"
    r"(?:T(?:(?P<h>\d+(?:\.\d+)?)H)?(?:(?P<m>\d+(?:\.\d+)?)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?",
    re.ASCII,
)
_ISO_UNITS = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
MAX_SECONDS = 10 * 366 * 86400.0


def parse_duration(value: object) -> float:
    """Return seconds; raises ``ValueError`` for anything that is not a duration between 0 and ten years."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("a duration is a number of seconds or text such as '30s', '5m', '2h' or 'PT1H'")
    try:
        seconds = _parse_text(value.strip()) if isinstance(value, str) else float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds) or not 0 <= seconds <= MAX_SECONDS:
        raise ValueError(f"a duration lies between 0 and ten years, not {seconds:g} seconds")
    return seconds


def _parse_text(text: str) -> float:
    if len(text) <= 40:
        if match := _SHORT.fullmatch(text):
            return float(match[1]) * _UNITS[match[2]]
        if (match := _ISO.fullmatch(text)) and any(match.groups()) and not text.endswith("T"):
            return sum(float(n) * _ISO_UNITS[unit] for unit, n in match.groupdict().items() if n)
        if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
            return float(text)
    raise ValueError(f"{show(text)} is not a duration; write '500ms', '30s', '5m', '2h', '1d' or 'PT1H'")


_SIZES = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}
_SIZE = re.compile(r"(\d+)\s*([a-z]*)", re.ASCII)


def parse_size(value: object) -> int:
    """Return bytes of ``10MiB``, ``64kB`` or a number; ``ValueError`` for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value.strip().lower()) if isinstance(value, str) and len(value) <= 40 else None
    if match is None or match[2] not in _SIZES:
        raise ValueError("a size is a number of bytes or text such as '64kB', '10MiB' or '1GiB'")
    return int(match[1]) * _SIZES[match[2]]


Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "examples": ["64kB", "10MiB"]}],
            "description": "A size: '64kB', '10MiB', or a number of bytes.",
        }
    ),
]
Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "examples": ["500ms", "30s", "5m", "PT1H"]}],
            "description": "A duration: '500ms', '30s', '5m', '2h', '1d', ISO 8601, or a number of seconds.",
        }
    ),
]
