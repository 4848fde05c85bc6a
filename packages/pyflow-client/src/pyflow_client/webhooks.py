"""Verifies webhooks that PyFlow has sent: Standard Webhooks (https://www.standardwebhooks.com), HMAC-SHA256.

Needs nothing but the request: its body as it came, byte for byte, and its headers.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

from pyflow_client.errors import ClientError

#: How old a request may be, or how far ahead the clock of its sender. Seconds.
TOLERANCE = 300
_PREFIX = "whsec_"
_TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)


class WebhookVerificationError(ClientError):
    """The request is not one that PyFlow has sent, or it is too old: answer 400 or 401, and do nothing."""


def verify(
    payload: bytes | str,
    headers: Mapping[str, str],
    secret: str | Iterable[str],
    *,
    tolerance: float = TOLERANCE,
    now: float | None = None,
) -> dict[str, Any]:
    """Return the event of a request whose signature is good.

    ``payload`` is the body before any parsing, ``headers`` are the request's, in any case, ``secret`` is that of the
    endpoint (``whsec_…``), or several of which any may have signed. ``tolerance``: seconds that the time of signing may
    differ from ``now`` (POSIX seconds; by default, the clock's). An event may come more than once: remember the
    ``webhook-id`` of those that were handled.

    Raises ``WebhookVerificationError``, whose message says what is wrong; ``ValueError`` for a secret that is none.
    """
    keys = [_key(text) for text in ([secret] if isinstance(secret, str) else secret)]
    if not keys:
        raise ValueError("There is no secret: pass the one that was shown when the endpoint was created.")
    body = payload.encode() if isinstance(payload, str) else bytes(payload)
    found = {name.lower(): value for name, value in headers.items()}
    missing = [name for name in ("webhook-id", "webhook-timestamp", "webhook-signature") if not found.get(name)]
    if missing:
        raise WebhookVerificationError(f"The request lacks the headers {', '.join(missing)}: no webhook was sent so.")
    timestamp = found["webhook-timestamp"]
    _check_time(timestamp, time.time() if now is None else now, tolerance)
    signed = f"{found['webhook-id']}.{timestamp}.".encode() + body
    expected = [hmac.digest(key, signed, hashlib.sha256) for key in keys]
    given = _signatures(found["webhook-signature"])
    # Each comparison takes constant time: it says nothing about how close a signature is.
    if not any(hmac.compare_digest(one, other) for one in expected for other in given):
        raise WebhookVerificationError(
            "No signature fits: the body was changed on its way or parsed before this, or the secret is another one's."
        )
    try:
        event = json.loads(body)
    except ValueError:
        raise WebhookVerificationError("The body is signed, and is no JSON.") from None
    if not isinstance(event, dict):
        raise WebhookVerificationError("The body is signed, and is no event: a JSON object.")
    return event


def _key(secret: str) -> bytes:
    encoded = secret.removeprefix(_PREFIX)
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError(f"The secret is not `{_PREFIX}` and base64: copy it as it was shown.")
    return key


def _check_time(timestamp: str, now: float, tolerance: float) -> None:
    if not _TIMESTAMP.fullmatch(timestamp):
        raise WebhookVerificationError("The header webhook-timestamp is no number of seconds.")
    age = now - int(timestamp)
    if age > tolerance:
        raise WebhookVerificationError(
            f"The request was signed {age:.0f} s ago, and {tolerance:.0f} s are allowed: it is replayed, or the clock "
            "of this machine is ahead."
        )
    if age < -tolerance:
        raise WebhookVerificationError(
            f"The request was signed {-age:.0f} s in the future, and {tolerance:.0f} s are allowed: the clock of this "
            "machine is behind."
        )


def _signatures(header: str) -> list[bytes]:
    """The signatures of version 1; others are for other verifiers."""
    found = []
    for entry in header.split(" "):
        version, _, encoded = entry.partition(",")
        if version == "v1":
            try:
                found.append(base64.b64decode(encoded, validate=True))
            except (binascii.Error, ValueError):
                continue
    return found
