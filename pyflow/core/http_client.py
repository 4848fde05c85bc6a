"""The outgoing HTTP client: the only way in which anything here talks to the world.

Every URL, redirect hop and resolved address is checked (``pyflow.core.addresses``); the connection goes to the address
that was checked, with the original Host and SNI. Time is bounded in total and bytes are counted after decompression
while they stream in. No proxy or netrc settings of the process are used, and no cookies are kept.

Importing this module imports httpx2, which takes longer than everything else in ``pyflow run``: import it inside the
function that sends a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import json
import re
import socket
import sys
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, cast
from urllib.parse import urljoin

import httpcore2
import httpx2

from pyflow.core.addresses import (
    Address,
    NetworkPolicy,
    SSRFError,
    Target,
    check_address,
    check_url,
    current_policy,
    parse_address,
)
from pyflow.core.errors import NodeError, NonRetryableError, RetryableError

__all__ = [
    "HttpResponse",
    "HttpStatusError",
    "HttpTimeoutError",
    "InvalidRequestError",
    "ResponseTooLargeError",
    "SSRFError",
    "TooManyRedirectsError",
    "is_network_failure",
    "request",
]

DEFAULT_TIMEOUT = 30.0
DEFAULT_MAX_BYTES = 10 * 1024 * 1024
MAX_REDIRECTS = 5
#: One address that does not answer must not use up the time of the others.
CONNECT_TIMEOUT = 10.0
MAX_RETRY_AFTER = 24 * 3600.0
MAX_POLICIES = 32

_METHOD = re.compile(r"[A-Z][A-Z0-9_-]{0,31}", re.ASCII)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
#: They say where a message goes and where it ends; a second opinion on that is request smuggling (RFC 9112 11.2).
_OWN_HEADERS = frozenset(
    ("host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade",
     "proxy-connection", "proxy-authorization")
)  # fmt: skip
#: All that follows a redirect to another origin; any other header may hold a credential.
_HARMLESS_HEADERS = frozenset(("accept", "accept-language", "content-type", "user-agent"))
_REDIRECTS = frozenset((301, 302, 303, 307, 308))


class ResponseTooLargeError(NonRetryableError, ValueError):
    """The response has more bytes (decompressed) than were asked for."""

    code: ClassVar[str] = "response_too_large"


class TooManyRedirectsError(SSRFError):
    """The server sent the request around more often than is followed."""

    code: ClassVar[str] = "too_many_redirects"


class InvalidRequestError(NonRetryableError, ValueError):
    """The method, a header or the body cannot be sent."""

    code: ClassVar[str] = "invalid_request"


class HttpTimeoutError(NodeError, httpx2.TimeoutException, TimeoutError):
    """The exchange was not over within its time (seconds in the message), however busy the connection was."""

    code: ClassVar[str] = "http_timeout"

    def __init__(self, message: str) -> None:
        Exception.__init__(self, message)
        self.kind, self.status, self._request = "timeout", None, None


class HttpStatusError(RetryableError, httpx2.HTTPStatusError):
    """The server answered with an error status.

    ``status`` is the code, ``response`` the answer (``HttpResponse``), ``retry_after`` the seconds a 429 or 503 asked
    to wait. Also is httpx2's error, and httpx's where that is in use: v1 raised it.
    """

    code: ClassVar[str] = "http_status"

    def __init__(self, message: str, response: HttpResponse, retry_after: float | None) -> None:
        Exception.__init__(self, message)
        self.status, self.kind, self.retry_after = response.status, None, retry_after
        self.response = response  # type: ignore[assignment] # it has status_code, headers, text and json() as well
        self._request = None


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer, read to its end. ``headers`` have lower-case names; ``url`` is the one that answered."""

    status: int
    reason: str
    headers: dict[str, str]
    content: bytes
    url: str
    _encoding: str = field(default="utf-8", repr=False)

    @property
    def status_code(self) -> int:
        """``status``, under the name that httpx gives it."""
        return self.status

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body as text, in the encoding that the server named or UTF-8; what does not decode is replaced."""
        return self.content.decode(self._encoding, "replace")

    def json(self) -> Any:
        """The body as JSON; ``ValueError`` if it is not."""
        try:
            return json.loads(self.content)
        except RecursionError:
            raise ValueError("the JSON is nested too deeply") from None

    def data(self) -> Any:
        """The body as JSON where it is JSON, else as text."""
        try:
            return self.json()
        except ValueError:
            return self.text

    def raise_for_status(self) -> None:
        """Raise ``HttpStatusError`` unless the status is 2xx."""
        if self.is_success:
            return
        kind = {1: "Informational response", 3: "Redirect response", 4: "Client error"}.get(self.status // 100)
        message = f"{kind or 'Server error'} '{f'{self.status} {self.reason}'.strip()}' for url '{self.url}'"
        after = _retry_after(self.headers.get("retry-after")) if self.status in (429, 503) else None
        raise _status_error_class()(message, self, after)


async def request(
    method: str,
    url: str,
    *,
    headers: Mapping[Any, Any] | None = None,
    json_body: Any = None,
    content: bytes | None = None,
    timeout: float = DEFAULT_TIMEOUT,  # noqa: ASYNC109 - the bound is on the whole exchange, redirects and all
    max_bytes: int = DEFAULT_MAX_BYTES,
    allow_private_networks: bool = False,
    follow_redirects: bool = True,
    policy: NetworkPolicy | None = None,
) -> HttpResponse:
    """Send a request and read the answer to its end.

    ``json_body`` (unless ``None``) is sent as JSON, ``content`` as it is. ``timeout``: seconds for everything together.
    ``max_bytes``: of the decompressed body. ``policy``: default is that of the run.

    Raises ``SSRFError`` (refused), ``InvalidRequestError``, ``HttpTimeoutError``, ``ResponseTooLargeError`` or
    ``httpx2.TransportError`` (no connection, a broken answer). An error status does not raise by itself.
    """
    allowed = (policy or current_policy.get()).for_request(allow_private_networks=allow_private_networks)
    method, sent_headers = _checked_method(method), _checked_headers(headers or {})
    target = check_url(url, allowed)
    body = _body(json_body, content, sent_headers)
    try:
        async with asyncio.timeout(timeout):
            return await _exchange(method, target, sent_headers, body, max_bytes, allowed, follow_redirects)
    except TimeoutError as error:
        if isinstance(error, HttpTimeoutError):
            raise
        raise HttpTimeoutError(f"no complete answer from {target.host} within {timeout:g} s") from None


def is_network_failure(error: BaseException) -> bool:
    """Whether an error means that there was no (complete) answer, as opposed to one that was refused or wrong."""
    names = {cls.__name__ for cls in type(error).__mro__}
    # By name as well: a transport mocked for v1 raises the errors of httpx, which need not be installed.
    return isinstance(error, OSError | httpx2.RequestError) or "RequestError" in names


async def _exchange(
    method: str,
    target: Target,
    headers: dict[str, str],
    body: bytes | None,
    max_bytes: int,
    policy: NetworkPolicy,
    follow_redirects: bool,
) -> HttpResponse:
    with _pools.borrow(policy) as transport:
        for _ in range(MAX_REDIRECTS + 1):
            wire = httpx2.Request(method, target.url, headers=headers, content=body)
            if (wire.url.scheme, wire.url.host) != (target.scheme, httpx2.URL(target.url).host):
                raise SSRFError(f"Blocked: the URL can be read in two ways: {target.url[:200]!r}")
            response = await transport.handle_async_request(wire)
            response.request = wire
            try:
                location = response.headers.get("location")
                if not (follow_redirects and location and response.status_code in _REDIRECTS):
                    return await _read(response, target, max_bytes)
            finally:
                await response.aclose()
            method, target, headers, body = _redirected(
                response.status_code, location, method, target, headers, body, policy
            )
    raise TooManyRedirectsError(f"Blocked: more than {MAX_REDIRECTS} redirects, the last to {target.url[:200]!r}")


def _redirected(
    status: int,
    location: str,
    method: str,
    target: Target,
    headers: dict[str, str],
    body: bytes | None,
    policy: NetworkPolicy,
) -> tuple[str, Target, dict[str, str], bytes | None]:
    """What to send after a redirect (RFC 9110 15.4): the hop is checked like a first request."""
    try:
        joined = urljoin(target.url, location)
    except ValueError:
        raise SSRFError(f"Blocked: a redirect to something that is no URL: {location[:200]!r}") from None
    following = check_url(joined, policy)
    if following.origin != target.origin:
        headers = {name: value for name, value in headers.items() if name.lower() in _HARMLESS_HEADERS}
    if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
        method, body = "GET", None
        headers = {name: value for name, value in headers.items() if not name.lower().startswith("content-")}
    return method, following, headers, body


async def _read(response: httpx2.Response, target: Target, max_bytes: int) -> HttpResponse:
    declared = response.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > max_bytes:
        raise ResponseTooLargeError(f"the response has {declared[:20]} bytes, more than the {max_bytes:,} allowed")
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > max_bytes:
            raise ResponseTooLargeError(f"the response is larger than the {max_bytes:,} bytes allowed")
        chunks.append(chunk)
    return HttpResponse(
        status=response.status_code,
        reason=response.reason_phrase,
        headers=dict(response.headers),
        content=b"".join(chunks),
        url=target.url,
        _encoding=response.encoding or "utf-8",
    )


def _checked_method(method: object) -> str:
    name = method.upper() if isinstance(method, str) else ""
    if not _METHOD.fullmatch(name) or name in ("CONNECT", "TRACE"):
        raise InvalidRequestError(f"not a method that can be sent: {str(method)[:40]!r}")
    return name


def _checked_headers(headers: Mapping[Any, Any]) -> dict[str, str]:
    if not isinstance(headers, Mapping):
        raise InvalidRequestError(f"headers are a mapping of names to values, not {type(headers).__name__}")
    checked = {"Accept": "*/*", "Accept-Encoding": "gzip, deflate", "User-Agent": "pyflow/2"}
    defaults = {name.lower(): name for name in checked}
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise InvalidRequestError(f"not a header name: {str(name)[:80]!r}")
        if name.lower() in _OWN_HEADERS:
            raise SSRFError(f"Blocked: the header {name} is set by the client itself")
        text = value if isinstance(value, str) else json.dumps(value)
        if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", text):
            raise InvalidRequestError(f"the value of the header {name} holds a control character")
        checked.pop(defaults.get(name.lower(), ""), None)
        checked[name] = text
    try:
        # httpx2 would choose an encoding by the values; here it is always the same.
        return {name: value.encode("utf-8").decode("latin-1") if not value.isascii() else value
                for name, value in checked.items()}  # fmt: skip
    except UnicodeEncodeError:
        raise InvalidRequestError("the value of a header cannot be encoded in UTF-8") from None


def _body(json_body: Any, content: bytes | None, headers: dict[str, str]) -> bytes | None:
    if json_body is None:
        return content
    if content is not None:
        raise InvalidRequestError("give json_body or content, not both")
    try:
        encoded = json.dumps(json_body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"the body cannot be sent as JSON: {error}") from None
    if not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = "application/json"
    return encoded


def _retry_after(value: str | None) -> float | None:
    """Seconds, from the seconds or the date of a Retry-After (RFC 9110 10.2.3); ``None`` for anything else."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:12]), MAX_RETRY_AFTER)
    try:
        at = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(max(at - time.time(), 0.0), MAX_RETRY_AFTER)


def _status_error_class() -> type[HttpStatusError]:
    """``HttpStatusError``, which also is httpx's own error where the program has httpx: v1 code catches that."""
    legacy = getattr(sys.modules.get("httpx"), "HTTPStatusError", None)
    return HttpStatusError if legacy is None or legacy is httpx2.HTTPStatusError else _combined(legacy)


@lru_cache(maxsize=1)
def _combined(legacy: type[Exception]) -> type[HttpStatusError]:
    return cast(type[HttpStatusError], type("HttpStatusError", (HttpStatusError, legacy), {"__module__": __name__}))


class CheckedBackend(httpcore2.AsyncNetworkBackend):
    """Resolves a name once, refuses it if any of its addresses is refused, and connects to what it has checked."""

    def __init__(self, policy: NetworkPolicy) -> None:
        self._policy = policy
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore2's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first checked address that answers."""
        addresses = await self._resolve(host, port)
        for address in addresses:
            check_address(address, host, self._policy)
        limit = CONNECT_TIMEOUT if timeout is None else min(timeout, CONNECT_TIMEOUT)
        for position, address in enumerate(addresses, start=1):
            try:
                return await self._network.connect_tcp(str(address), port, limit, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                if position == len(addresses):
                    raise type(error)(f"cannot connect to {host}:{port}: {str(error) or 'no answer'}") from error
        raise httpcore2.ConnectError(f"{host} has no address")

    async def sleep(self, seconds: float) -> None:
        """``asyncio.sleep``."""
        await asyncio.sleep(seconds)

    async def _resolve(self, host: str, port: int) -> list[Address]:
        try:
            return [parse_address(host)]
        except ValueError:
            pass  # a name
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(f"{host} cannot be resolved: {error}") from error
        return list(dict.fromkeys(parse_address(str(entry[4][0])) for entry in found))


class _Transport(httpx2.AsyncHTTPTransport):
    """httpx2's transport over a pool that connects through ``CheckedBackend``.

    The methods are httpx2's and the pool is httpcore2's, so that instrumentation and mocks which patch either see
    every request.
    """

    def __init__(self, policy: NetworkPolicy) -> None:
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=_tls(),
            max_connections=200,
            max_keepalive_connections=50,
            keepalive_expiry=15.0,
            network_backend=CheckedBackend(policy),
        )
        self.in_use = 0


@lru_cache(maxsize=1)
def _tls() -> Any:
    # SSL_CERT_FILE is honoured: a private authority is the operator's choice, unlike a proxy no way around a check.
    return httpx2.create_ssl_context()


class _Pools:
    """Transports by event loop and policy.

    A connection belongs to a loop, and one that a generous policy opened must not serve a strict one.
    """

    def __init__(self) -> None:
        self._loops: dict[asyncio.AbstractEventLoop, dict[NetworkPolicy, _Transport]] = {}
        self._closers: dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def borrow(self, policy: NetworkPolicy) -> Iterator[_Transport]:
        """The transport of the running loop for a policy, kept open while it is in use."""
        loop = asyncio.get_running_loop()
        transports = self._loops.get(loop)
        if transports is None:
            transports = self._enter(loop)
        transport = transports.pop(policy, None) or _Transport(policy)
        transports[policy] = transport  # the last one used is the last in order
        if len(transports) > MAX_POLICIES:
            self._drop_one(transports)
        transport.in_use += 1
        try:
            yield transport
        finally:
            transport.in_use -= 1

    def _enter(self, loop: asyncio.AbstractEventLoop) -> dict[NetworkPolicy, _Transport]:
        for closed in [known for known in self._loops if known.is_closed()]:
            del self._loops[closed], self._closers[closed]
        transports: dict[NetworkPolicy, _Transport] = {}
        self._loops[loop] = transports
        # A loop that ends closes its asynchronous generators while it still runs, which is the moment to close idle
        # connections; nobody else is told. One that is suspended at its first `yield` is among them.
        closer = self._closers[loop] = self._close_at_end(transports)
        step = closer.__anext__()
        with contextlib.suppress(StopIteration):  # it reaches its `yield` without having to wait
            step.send(None)
        return transports

    @staticmethod
    async def _close_at_end(transports: dict[NetworkPolicy, _Transport]) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            for transport in list(transports.values()):
                await transport.aclose()
            transports.clear()

    def _drop_one(self, transports: dict[NetworkPolicy, _Transport]) -> None:
        for policy, transport in transports.items():
            if not transport.in_use:
                del transports[policy]
                task = asyncio.ensure_future(transport.aclose())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
                return


_pools = _Pools()
