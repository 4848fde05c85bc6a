"""Reads PostgreSQL values that no Python type covers completely. Importing this module imports psycopg."""

from __future__ import annotations

import json
import math
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.types import datetime as moments
from psycopg.types.json import set_json_loads
from psycopg.types.string import TextLoader

#: What is given as the server writes it: `P1M` is no number of seconds, and the bounds of a range may be infinite.
_AS_TEXT = (
    "interval",
    *(f"{name}{kind}" for name in ("int4", "int8", "num", "date", "ts", "tstz") for kind in ("range", "multirange")),
)
_MOMENTS: dict[str, Any] = {
    "date": moments.DateLoader,
    "time": moments.TimeLoader,
    "timetz": moments.TimetzLoader,
    "timestamp": moments.TimestampLoader,
    "timestamptz": moments.TimestamptzLoader,
}


def register(connection: psycopg.Connection[Any]) -> None:
    """Let values of a connection be read so that all of them can be."""
    for name in _AS_TEXT:
        connection.adapters.register_loader(name, TextLoader)
    for name, loader in _MOMENTS.items():
        connection.adapters.register_loader(name, _or_text(loader))
    set_json_loads(_json, connection)


def _or_text(loader: Any) -> Any:
    class OrText(loader):  # type: ignore[misc] # its base is a variable
        """Dates and times as ISO 8601; those that Python does not know (BC, infinity, 24:00) as the server writes."""

        def load(self, data: Buffer) -> str:
            try:
                return str(super().load(data).isoformat())
            except psycopg.DataError:
                return bytes(data).decode()

    return OrText


def _json(text: str | bytes) -> Any:
    return json.loads(text, parse_float=_number)


def _number(text: str) -> float | str:
    """A number of jsonb, which may be larger than any float is: then its text."""
    value = float(text)
    return value if math.isfinite(value) else text
