"""Authorization of outgoing requests: Basic (RFC 7617), Bearer (RFC 6750), OAuth 2 client credentials (RFC 6749 4.4).

Importing this module imports httpx2; see ``pyflow.net.http_client``.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol
from urllib.parse import quote_plus
from weakref import WeakKeyDictionary

from pyflow.core.errors import NonRetryableError, RetryableError
from pyflow.core.messages import said, show
from pyflow.net import http_client
from pyflow.net.addresses import NetworkPolicy, policy_in_force
from pyflow.net.http_body import form_body

#: A token is taken for expired this long before it is, for the way to the server. Seconds.
LEEWAY = 30.0
#: How long a token is kept whose server does not say (RFC 6749 5.1 only recommends that it does). Seconds.
UNSAID_LIFETIME = 300.0
MAX_TOKENS = 1000
MAX_ANSWER = 64 * 1024


class TokenRefusedError(NonRetryableError):
    """The authorisation server gave no token; the message has its ``error`` code."""

    code: ClassVar[str] = "oauth2_token_refused"


class TokenUnavailableError(RetryableError):
    """The authorisation server failed or is busy (429, 5xx)."""

    code: ClassVar[str] = "oauth2_token_unavailable"


class Authorizer(Protocol):
    """Makes the ``Authorization`` header."""

    async def header(self, *, refused: str | None = None) -> str:
        """The value. ``refused``: one that the server has answered with 401, so that another one is needed."""

    @property
    def renewable(self) -> bool:
        """Return whether another token can be fetched after a 401."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """A header that does not change."""

    value: str
    renewable: ClassVar[bool] = False

    async def header(self, *, refused: str | None = None) -> str:  # noqa: ARG002
        """The value."""
        return self.value


def basic(username: str, password: str) -> Fixed:
    """RFC 7617, in UTF-8. ``ValueError`` for a username with a colon, which would be cut there."""
    if ":" in username:
        raise ValueError("a username cannot hold a colon")
    return Fixed("Basic " + base64.b64encode(f"{username}:{password}".encode()).decode("ascii"))


def bearer(token: str) -> Fixed:
    """RFC 6750."""
    return Fixed(f"Bearer {token}")


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """A token that is fetched when it is needed, kept in this process until it expires, and renewed after a 401.

    ``client_auth``: how the client says who it is, in a ``basic`` header or in the ``body`` (RFC 6749 2.3.1).
    ``timeout``: seconds for fetching a token.
    """

    token_url: str
    client_id: str
    client_secret: str
    scope: str | None = None
    client_auth: Literal["basic", "body"] = "basic"
    allow_private_networks: bool = False
    timeout: float = 30.0
    renewable: ClassVar[bool] = True

    async def header(self, *, refused: str | None = None) -> str:
        """``Bearer`` and a token. Raises ``TokenRefusedError``, ``TokenUnavailableError``, and what requests raise."""
        key = self._key(policy_in_force())
        async with _tokens.lock(key):
            value = _tokens.get(key)
            if value is None or value == refused:
                token, lifetime = await self._fetch()
                value = f"Bearer {token}"
                _tokens.put(key, value, lifetime)
            return value

    def _key(self, policy: NetworkPolicy) -> tuple[Any, ...]:
        # With the secret, or who knows only the id would be handed somebody else's token; hashed, so that it is not
        # kept. With the policy, or a token server that a run may not reach would serve it all the same.
        digest = hashlib.sha256(self.client_secret.encode("utf-8", "surrogateescape")).digest()
        allowed = policy.for_request(allow_private_networks=self.allow_private_networks)
        return (self.token_url, self.client_id, digest, self.scope, self.client_auth, allowed)

    async def _fetch(self) -> tuple[str, float]:
        fields = {"grant_type": "client_credentials", "scope": self.scope}
        headers = {"Accept": "application/json"}
        if self.client_auth == "body":
            fields |= {"client_id": self.client_id, "client_secret": self.client_secret}
        else:
            pair = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret)}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode("ascii")
        response = await http_client.request(
            "POST",
            self.token_url,
            headers=headers,
            content=form_body(fields),
            timeout=self.timeout,
            max_bytes=MAX_ANSWER,
            allow_private_networks=self.allow_private_networks,
            follow_redirects=False,  # a secret is in it
        )
        return _token_of(response)


def _token_of(response: http_client.HttpResponse) -> tuple[str, float]:
    """The token and its lifetime in seconds (RFC 6749 5.1), or the error (5.2)."""
    data = response.data()
    fields = data if isinstance(data, dict) else {}
    if response.status == 429 or response.status >= 500:
        raise TokenUnavailableError(
            f"the token server answered {response.status}", retry_after=response.retry_after, status=response.status
        )
    token = fields.get("access_token")
    if not response.is_success or not isinstance(token, str) or not token.isascii() or not token.isprintable():
        why = fields.get("error") if isinstance(fields.get("error"), str) else "no access_token in the answer"
        raise TokenRefusedError(f"no token: status {response.status}, {said(why, 200)}", status=response.status)
    if str(fields.get("token_type", "bearer")).lower() != "bearer":
        raise TokenRefusedError(f"no bearer token but {show(fields['token_type'])}", status=response.status)
    lifetime = fields.get("expires_in")
    if isinstance(lifetime, str) and lifetime.isascii() and lifetime.isdigit():
        lifetime = int(lifetime[:12])
    known = isinstance(lifetime, int | float) and not isinstance(lifetime, bool)
    return token, float(lifetime) - LEEWAY if known else UNSAID_LIFETIME  # type: ignore[arg-type] # it is a number


class _Tokens:
    """Headers with tokens of this process until they expire; the least recently used go first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Any, ...], tuple[str, float]] = OrderedDict()
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[Any, ...], asyncio.Lock]] = (
            WeakKeyDictionary()
        )

    def lock(self, key: tuple[Any, ...]) -> asyncio.Lock:
        """Return the lock with which a fan-out of a thousand fetches one token. A lock belongs to an event loop."""
        locks = self._locks.setdefault(asyncio.get_running_loop(), {})
        if len(locks) > MAX_TOKENS:
            for idle in [known for known, lock in locks.items() if not lock.locked()]:
                del locks[idle]
        return locks.setdefault(key, asyncio.Lock())

    def get(self, key: tuple[Any, ...]) -> str | None:
        value, expires = self._kept.get(key, (None, 0.0))
        if value is None or expires <= time.monotonic():
            return None
        self._kept.move_to_end(key)
        return value

    def put(self, key: tuple[Any, ...], value: str, lifetime: float) -> None:
        self._kept[key] = (value, time.monotonic() + lifetime)
        if len(self._kept) > MAX_TOKENS:
            self._kept.popitem(last=False)


_tokens = _Tokens()
