"""``Prefer: wait=N`` (RFC 7240, 4.3): the client would rather wait for the result than come back for it."""

from __future__ import annotations

import re

from rest_framework.request import Request

MOST_SECONDS = 60
_WAIT = re.compile(r'wait\s*=\s*"?([0-9]{1,9})"?\s*(?:;.*)?', re.IGNORECASE)


def preferred_wait(request: Request) -> int | None:
    """For how many seconds the client wants to wait, 60 at most. A preference that is malformed is none (RFC 7240, 2).

    Of several, the first counts.
    """
    for preference in request.headers.get("Prefer", "").split(","):
        match = _WAIT.fullmatch(preference.strip())
        if match is not None:
            return min(int(match[1]), MOST_SECONDS)
    return None
