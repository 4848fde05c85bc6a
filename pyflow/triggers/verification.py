"""Verification of requests to inbound webhooks, by the schemes of the services that send them.

All schemes sign the raw body. Sources: Standard Webhooks (https://www.standardwebhooks.com), GitHub
(``X-Hub-Signature-256``), Stripe (``Stripe-Signature``, ``v1``), Slack (``X-Slack-Signature``, ``v0``).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = ["TOLERANCE", "Request", "Scheme", "Verification", "delivery_id", "is_authentic", "signature_headers"]

#: How far the time of a signature may lie from the clock of the receiver, in either direction: seconds.
TOLERANCE = 300.0
#: Signatures of one request that are compared; senders put one for each valid secret.
MAX_SIGNATURES = 8
#: Characters of a header that are looked at.
MAX_HEADER = 4096
MAX_DELIVERY_ID = 256


class Scheme(StrEnum):
    """Schemes by which the sender of a request is verified."""

    STANDARD_WEBHOOKS = "standard-webhooks"
    GITHUB = "github"
    STRIPE = "stripe"
    SLACK = "slack"
    HMAC = "hmac"
    TOKEN = "token"  # noqa: S105 - the name of a scheme
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """A scheme with its options; ``header`` and those after it are of ``hmac`` and ``token`` alone.

    ``prefix``: text before the signature, such as ``sha256=``. ``timestamp_header``: its value, POSIX seconds, and a
    dot are signed before the body. ``delivery_header``: identifies a delivery, so that one sent twice starts one run.
    """

    scheme: Scheme
    header: str = ""
    algorithm: str = "sha256"
    encoding: str = "hex"
    prefix: str = ""
    timestamp_header: str = ""
    delivery_header: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """The signed parts of a request: headers by their names in lower case, and the body as it came."""

    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str:
        """Return a header, ``""`` if it is missing or too long to be one of a signature."""
        value = self.headers.get(name.lower(), "")
        return value if len(value) <= MAX_HEADER else ""


def is_authentic(verification: Verification, request: Request, secrets: Sequence[str], *, now: float) -> bool:
    """Return whether one of the valid ``secrets`` signed the request, within ``TOLERANCE`` of ``now`` (POSIX seconds).

    Takes as long for a wrong signature as for a right one: every secret and every signature is compared, whatever the
    comparisons before it gave.
    """
    if verification.scheme is Scheme.NONE:
        return True
    signed = _SIGNED[verification.scheme](verification, request)
    is_right = False
    for secret in secrets:
        for expected in signed.expected(secret):
            for given in signed.given:
                is_right |= hmac.compare_digest(expected, given)
    return is_right & (signed.timestamp is None or abs(now - signed.timestamp) <= TOLERANCE)


def signature_headers(verification: Verification) -> frozenset[str]:
    """Return the names, in lower case, of headers that hold a signature or a token of the scheme."""
    own = {verification.header.lower()} - {""}
    return frozenset(_HEADERS.get(verification.scheme, ())) | own


def delivery_id(verification: Verification, request: Request, data: Any) -> str | None:
    """Return what identifies a delivery, the same when the sender repeats it; ``None`` if nothing does.

    ``data`` is the body as it was read. Without an id of the sender's, the body with the time of its signature is one:
    a body alone is not, because two events may have the same.
    """
    scheme = verification.scheme
    given: Any = None
    if scheme is Scheme.STANDARD_WEBHOOKS:
        given = request.header("webhook-id")
    elif scheme is Scheme.GITHUB:
        given = request.header("x-github-delivery")
    elif scheme is Scheme.STRIPE:
        given = data.get("id") if isinstance(data, Mapping) else None
    elif scheme is Scheme.SLACK:
        given = data.get("event_id") if isinstance(data, Mapping) else None
    else:
        given = request.header(verification.delivery_header or "idempotency-key")
    if isinstance(given, str) and 0 < len(given) <= MAX_DELIVERY_ID:
        return given
    timestamp = _timestamp_text(verification, request)
    return None if not timestamp else hashlib.sha256(timestamp.encode() + b"." + request.body).hexdigest()


# --- the schemes -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Signed:
    """The signatures of a request, and how to compute the expected ones. ``timestamp``: ``None`` if there is none."""

    given: list[bytes]
    expected: Callable[[str], list[bytes]]
    timestamp: float | None = None


def _digest(algorithm: str, key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, algorithm).digest()


def _standard(verification: Verification, request: Request) -> _Signed:
    timestamp = _timestamp_text(verification, request)
    message = f"{request.header('webhook-id')}.{timestamp}.".encode("utf-8", "surrogateescape") + request.body
    given = [part.partition(",") for part in request.header("webhook-signature").split(" ")[:MAX_SIGNATURES]]
    return _Signed(
        [signature.encode("utf-8", "replace") for version, _, signature in given if version == "v1"],
        lambda secret: [base64.b64encode(_digest("sha256", key, message)) for key in _standard_keys(secret)],
        _seconds(timestamp),
    )


def _standard_keys(secret: str) -> Iterator[bytes]:
    """``whsec_`` and base64 of the key; without the prefix senders differ: base64, or the text itself."""
    encoded = secret.removeprefix("whsec_")
    try:
        yield base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        yield secret.encode()


def _github(_: Verification, request: Request) -> _Signed:
    given = request.header("x-hub-signature-256")
    return _Signed(
        [given.removeprefix("sha256=").lower().encode("utf-8", "replace")] if given.startswith("sha256=") else [],
        lambda secret: [_digest("sha256", secret.encode(), request.body).hex().encode()],
    )


def _stripe(verification: Verification, request: Request) -> _Signed:
    timestamp = _timestamp_text(verification, request)
    message = timestamp.encode("utf-8", "surrogateescape") + b"." + request.body
    return _Signed(
        [value.encode("utf-8", "replace") for name, value in _stripe_parts(request) if name == "v1"][:MAX_SIGNATURES],
        lambda secret: [_digest("sha256", secret.encode(), message).hex().encode()],
        _seconds(timestamp),
    )


def _stripe_parts(request: Request) -> list[tuple[str, str]]:
    pairs = (part.partition("=") for part in request.header("stripe-signature").split(","))
    return [(name.strip(), value.strip()) for name, _, value in pairs]


def _slack(verification: Verification, request: Request) -> _Signed:
    timestamp = _timestamp_text(verification, request)
    message = f"v0:{timestamp}:".encode("utf-8", "surrogateescape") + request.body
    return _Signed(
        [request.header("x-slack-signature").encode("utf-8", "replace")],
        lambda secret: [b"v0=" + _digest("sha256", secret.encode(), message).hex().encode()],
        _seconds(timestamp),
    )


def _hmac(verification: Verification, request: Request) -> _Signed:
    timestamp, message = None, request.body
    if verification.timestamp_header:
        text = _timestamp_text(verification, request)
        timestamp, message = _seconds(text), text.encode("utf-8", "surrogateescape") + b"." + message
    given = request.header(verification.header).strip()
    is_hex = verification.encoding == "hex"
    signature = given.removeprefix(verification.prefix)
    encode = (lambda raw: raw.hex().encode()) if is_hex else base64.b64encode
    return _Signed(
        [(signature.lower() if is_hex else signature).encode("utf-8", "replace")]
        if given.startswith(verification.prefix)
        else [],
        lambda secret: [encode(_digest(verification.algorithm, secret.encode(), message))],
        timestamp,
    )


def _token(verification: Verification, request: Request) -> _Signed:
    given = request.header(verification.header or "authorization")
    if not verification.header:
        kind, _, given = given.partition(" ")
        given = given.strip() if kind.lower() == "bearer" else ""
    # Digests have one length, so a comparison does not show how long the token is.
    return _Signed(
        [hashlib.sha256(given.encode("utf-8", "replace")).digest()] if given else [],
        lambda secret: [hashlib.sha256(secret.encode()).digest()],
    )


_SIGNED: Mapping[Scheme, Callable[[Verification, Request], _Signed]] = {
    Scheme.STANDARD_WEBHOOKS: _standard,
    Scheme.GITHUB: _github,
    Scheme.STRIPE: _stripe,
    Scheme.SLACK: _slack,
    Scheme.HMAC: _hmac,
    Scheme.TOKEN: _token,
}
_HEADERS: Mapping[Scheme, tuple[str, ...]] = {
    Scheme.STANDARD_WEBHOOKS: ("webhook-signature",),
    Scheme.GITHUB: ("x-hub-signature-256", "x-hub-signature"),
    Scheme.STRIPE: ("stripe-signature",),
    Scheme.SLACK: ("x-slack-signature",),
}


def _timestamp_text(verification: Verification, request: Request) -> str:
    """The time of the signature as it was sent; ``""`` for a scheme without one."""
    match verification.scheme:
        case Scheme.STANDARD_WEBHOOKS:
            return request.header("webhook-timestamp")
        case Scheme.STRIPE:
            return next((value for name, value in _stripe_parts(request) if name == "t"), "")
        case Scheme.SLACK:
            return request.header("x-slack-request-timestamp")
        case _:
            return request.header(verification.timestamp_header) if verification.timestamp_header else ""


def _seconds(text: str) -> float:
    """A time in POSIX seconds; one that lies outside of every window if the text is none."""
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 12 else float("-inf")
