"""Points in time as people write them: RFC 3339, with an offset."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from pyflow.core.messages import show

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:)(\d\d)(?:(\.\d{1,6})\d*)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def parse_moment(value: object) -> datetime:
    """Return a moment in UTC. A leap second (``23:59:60``) is the second after it. Raises ``ValueError``."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    match = _RFC3339.fullmatch(value) if isinstance(value, str) and len(value) <= 40 else None
    if match is None:
        raise ValueError(f"{show(value)} is not a moment; write one such as '2026-12-24T18:00:00Z', with its offset")
    is_leap = match[2] == "60"
    text = f"{match[1]}{'59' if is_leap else match[2]}{match[3] or ''}{match[4]}".upper()
    try:
        return datetime.fromisoformat(text).astimezone(UTC) + timedelta(seconds=is_leap)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{show(value)} is not a moment: {error}") from None


#: A field of a model: a ``datetime`` in UTC.
Moment = Annotated[
    datetime,
    BeforeValidator(parse_moment),
    WithJsonSchema({"type": "string", "format": "date-time", "description": "A moment (RFC 3339) with its offset."}),
]
