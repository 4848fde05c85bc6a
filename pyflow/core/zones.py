"""Time zones by their IANA names."""

from __future__ import annotations

import re
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from pyflow.core.messages import show
from pyflow.core.problems import suggest
from pyflow.core.wording import hint

_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*", re.ASCII)
#: Names that the machine's files of zones have besides IANA's: the machine's own zone, and "not set yet".
_NO_ZONES = frozenset({"localtime", "Factory"})


def zone_of(name: object) -> ZoneInfo:
    """Return a time zone by its IANA name (``Europe/Berlin``, ``UTC``).

    POSIX rules, offsets and empty text are refused: raises ``ValueError``.
    """
    if not isinstance(name, str) or not _ZONE.fullmatch(name) or name not in _zones():
        near = suggest(name, _zones()) if isinstance(name, str) else None
        message = f"not an IANA time zone: {show(name)}{hint(near)}; write one such as 'Europe/Berlin' or 'UTC'"
        raise ValueError(message)
    return ZoneInfo(name)  # which keeps those in use; kept here, they would outlive a change of their rules


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones() - _NO_ZONES)
