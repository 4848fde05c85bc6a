"""The outgoing HTTP client: the only way in which anything here talks to the world.

Every URL, redirect hop and resolved address is checked (``pyflow.net.addresses``); the connection goes to the address
that was checked, with the original Host and SNI. Time is bounded in total and bytes are counted after decompression
while they stream in. No proxy or netrc settings of the process are used. Cookies are kept from a
redirect to what it leads to, and no further.

Importing this module imports httpx2, which takes longer than everything else in ``pyflow run``: import it inside the
function that sends a request.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import email.utils
import json
import re
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import IO, Any, ClassVar, cast
from urllib.parse import urljoin

import httpx2

from pyflow.core.errors import NodeError, NonRetryableError, RetryableError
from pyflow.core.messages import show
from pyflow.net.addresses import NetworkPolicy, SSRFError, Target, check_url, policy_in_force
from pyflow.net.http_body import Body, json_bytes
from pyflow.net.http_cookies import Cookies
from pyflow.net.http_pool import MAX_POLICIES
from pyflow.net.http_pool import pools as _pools

__all__ = [
    "MAX_POLICIES",
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
MAX_RETRY_AFTER = 24 * 3600.0

_METHOD = re.compile(r"[A-Z][A-Z0-9_-]{0,31}", re.ASCII)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
#: They say where a message goes and where it ends; a second opinion on that is request smuggling (RFC 9112 11.2).
_OWN_HEADERS = frozenset(
    ("host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade",
     "proxy-connection", "proxy-authorization")
)  # fmt: skip
#: All that follows a redirect to another origin; any other header may hold a credential.
_HARMLESS_HEADERS = frozenset(("accept", "accept-language", "content-type", "user-agent"))
#: Text encodings of Python's own.
_NO_CHARSETS = frozenset(("idna", "punycode", "raw-unicode-escape", "unicode-escape", "undefined"))
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


#: Bytes of the body of a failed answer that are looked at.
MAX_ERROR_BODY = 64 * 1024


class HttpStatusError(RetryableError, httpx2.HTTPStatusError):
    """The server answered with an error status.

    ``status`` is the code, ``body`` the body as JSON or text, ``response`` the answer (``HttpResponse``),
    ``retry_after`` the seconds a 429 or 503 asked to wait. Also is httpx2's error, and httpx's where that is in use:
    v1 raised it.
    """

    code: ClassVar[str] = "http_status"

    def __init__(self, message: str, response: HttpResponse, retry_after: float | None) -> None:
        Exception.__init__(self, message)
        self.status, self.kind, self.retry_after = response.status, None, retry_after
        # Of a large body only the beginning is recorded, which need not be parsed.
        self.body = response.data() if len(response.content) <= MAX_ERROR_BODY else response.beginning(MAX_ERROR_BODY)
        self.response = response  # type: ignore[assignment] # it has status_code, headers, text and json() as well
        self._request = None


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer, read to its end. ``url`` is the one that answered.

    ``headers`` have lower-case names, those of one name joined by commas; ``header_values`` has each apart.
    """

    status: int
    reason: str
    headers: dict[str, str]
    content: bytes
    url: str
    header_values: dict[str, list[str]] = field(default_factory=dict)
    _encoding: str = field(default="utf-8", repr=False)

    @property
    def status_code(self) -> int:
        """``status``, under the name that httpx gives it."""
        return self.status

    @property
    def is_success(self) -> bool:
        """Return whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def retry_after(self) -> float | None:
        """The seconds that a 429 or 503 asks to wait (RFC 9110 10.2.3)."""
        return _retry_after(self.headers.get("retry-after")) if self.status in (429, 503) else None

    @property
    def text(self) -> str:
        """The body as text, in the encoding that the server named or UTF-8; what does not decode is replaced."""
        return self.content.decode(self._encoding, "replace")

    def beginning(self, most: int) -> str:
        """The first ``most`` bytes of the body as text."""
        return self.content[:most].decode(self._encoding, "replace")

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
        raise _status_error_class()(message, self, self.retry_after)


async def request(
    method: str,
    url: str,
    *,
    headers: Mapping[Any, Any] | None = None,
    json_body: Any = None,
    content: bytes | Body | None = None,
    save_to: IO[bytes] | None = None,
    timeout: float = DEFAULT_TIMEOUT,  # noqa: ASYNC109 - the bound is on the whole exchange, redirects and all
    max_bytes: int = DEFAULT_MAX_BYTES,
    cut: bool = False,
    allow_private_networks: bool = False,
    follow_redirects: bool = True,
    policy: NetworkPolicy | None = None,
) -> HttpResponse:
    """Send a request and read the answer to its end.

    ``json_body`` (unless ``None``) is sent as JSON, ``content`` as it is, a ``Body`` in pieces. ``save_to``: the body
    of an answer with a status of 2xx is written there while it arrives, and ``content`` of the answer is empty.
    ``timeout``: seconds for everything together. ``max_bytes``: of the decompressed body; ``cut``: only so much of a
    larger one is read, instead of an error. ``policy``: default is that of the run.

    Raises ``SSRFError`` (refused), ``InvalidRequestError``, ``HttpTimeoutError``, ``ResponseTooLargeError`` or
    ``httpx2.TransportError`` (no connection, a broken answer). An error status does not raise by itself.
    """
    allowed = (policy or policy_in_force()).for_request(allow_private_networks=allow_private_networks)
    method, sent_headers = _checked_method(method), _checked_headers(headers or {})
    target = check_url(url, allowed)
    body = _body(json_body, content, sent_headers)
    reader = _Reader(max_bytes, save_to, cut=cut)
    try:
        async with asyncio.timeout(timeout):
            return await _exchange(method, target, sent_headers, body, reader, allowed, follow_redirects)
    except TimeoutError as error:
        if isinstance(error, HttpTimeoutError):
            raise
        raise HttpTimeoutError(f"no complete answer from {target.host} within {timeout:g} s") from None


def is_network_failure(error: BaseException) -> bool:
    """Return whether an error means that there was no (complete) response, rather than a refused or wrong one."""
    names = {cls.__name__ for cls in type(error).__mro__}
    # By name as well: a transport mocked for v1 raises the errors of httpx, which need not be installed.
    return isinstance(error, OSError | httpx2.RequestError) or "RequestError" in names


async def _exchange(
    method: str,
    target: Target,
    headers: dict[str, str],
    body: bytes | Body | None,
    reader: _Reader,
    policy: NetworkPolicy,
    follow_redirects: bool,
) -> HttpResponse:
    cookies = Cookies()
    with _pools.borrow(policy) as transport:
        for _ in range(MAX_REDIRECTS + 1):
            async with _wire(method, target, headers, body) as wire:
                cookies.send(wire)
                response = await transport.handle_async_request(wire)
            response.request = wire
            try:
                cookies.keep(response)
                location = response.headers.get("location")
                if not (follow_redirects and location and response.status_code in _REDIRECTS):
                    return await reader.read(response, target)
            finally:
                await response.aclose()
            method, target, headers, body = _redirected(
                response.status_code, location, method, target, headers, body, policy
            )
    raise TooManyRedirectsError(f"Blocked: more than {MAX_REDIRECTS} redirects, the last to {show(target.url, 200)}")


def _redirected(
    status: int,
    location: str,
    method: str,
    target: Target,
    headers: dict[str, str],
    body: bytes | Body | None,
    policy: NetworkPolicy,
) -> tuple[str, Target, dict[str, str], bytes | Body | None]:
    """Return the request after a redirect (RFC 9110 15.4): the hop is checked like a first request."""
    try:
        joined = urljoin(target.url, location)
    except ValueError:
        raise SSRFError(f"Blocked: a redirect to something that is no URL: {show(location, 200)}") from None
    following = check_url(joined, policy)
    if following.origin != target.origin:
        headers = {name: value for name, value in headers.items() if name.lower() in _HARMLESS_HEADERS}
    if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
        method, body = "GET", None
        headers = {name: value for name, value in headers.items() if not name.lower().startswith("content-")}
    return method, following, headers, body


@contextlib.asynccontextmanager
async def _wire(
    method: str, target: Target, headers: dict[str, str], body: bytes | Body | None
) -> AsyncIterator[httpx2.Request]:
    """The request as it goes out; the files of its body are closed in the end, however much of them was sent."""
    async with contextlib.AsyncExitStack() as opened:
        content: bytes | AsyncIterator[bytes] | None = body if not isinstance(body, Body) else None
        if isinstance(body, Body):
            content = await opened.enter_async_context(contextlib.aclosing(body.chunks()))
            # With a length, or it would be sent in chunks, which many servers refuse in requests.
            headers = {**headers, "Content-Length": str(body.size)}
        # As bytes: httpx2 would choose an encoding by the values, and sends nothing but ASCII (RFC 9110 5.5: obs-text).
        raw = [(name.encode("ascii"), value.encode("utf-8")) for name, value in headers.items()]
        wire = httpx2.Request(method, target.url, headers=raw, content=content)
        if (wire.url.scheme, wire.url.host) != (target.scheme, httpx2.URL(target.url).host):
            raise SSRFError(f"Blocked: the URL can be read in two ways: {show(target.url, 200)}")
        yield wire


class _Reader:
    """Reads an answer up to a number of bytes, into memory or a file."""

    def __init__(self, max_bytes: int, save_to: IO[bytes] | None, *, cut: bool) -> None:
        self._max_bytes = max_bytes
        self._save_to = save_to
        self._cut = cut

    async def read(self, response: httpx2.Response, target: Target) -> HttpResponse:
        declared = response.headers.get("content-length", "")
        if not self._cut and declared.isascii() and declared.isdigit() and int(declared[:20]) > self._max_bytes:
            message = f"the response has {int(declared[:20]):,} bytes, more than the {self._max_bytes:,} allowed"
            raise ResponseTooLargeError(message)
        # The body of an error response is its message: only what was asked for goes into the file.
        file = self._save_to if response.is_success else None
        return HttpResponse(
            status=response.status_code,
            reason=response.reason_phrase,
            headers=dict(response.headers),
            header_values=_values(response.headers),
            content=await self._collect(response, file),
            url=target.url,
            _encoding=_charset(response.encoding),
        )

    async def _collect(self, response: httpx2.Response, file: IO[bytes] | None) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async with contextlib.aclosing(response.aiter_bytes()) as received:
            async for chunk in received:
                size += len(chunk)
                if size > self._max_bytes and self._cut:
                    chunks.append(chunk[: len(chunk) - (size - self._max_bytes)])
                    break
                if size > self._max_bytes:
                    raise ResponseTooLargeError(f"the response is larger than the {self._max_bytes:,} bytes allowed")
                if file is None:
                    chunks.append(chunk)
                else:
                    file.write(chunk)
        return b"".join(chunks)


def _charset(named: str | None) -> str:
    """The encoding that a server named, or UTF-8 where it named none, or a codec of Python that is no charset."""
    try:
        known = codecs.lookup(named or "utf-8").name
        b" ".decode(known, "replace")
    except (LookupError, UnicodeError):
        return "utf-8"
    return "utf-8" if known.replace("_", "-") in _NO_CHARSETS else known


def _values(headers: httpx2.Headers) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in headers.multi_items():
        found.setdefault(name.lower(), []).append(value)
    return found


def _checked_method(method: object) -> str:
    name = method.upper() if isinstance(method, str) else ""
    if not _METHOD.fullmatch(name) or name in ("CONNECT", "TRACE"):
        raise InvalidRequestError(f"not a method that can be sent: {show(method)}")
    return name


def _checked_headers(headers: Mapping[Any, Any]) -> dict[str, str]:
    if not isinstance(headers, Mapping):
        raise InvalidRequestError(f"headers are a mapping of names to values, not {type(headers).__name__}")
    checked = {"Accept": "*/*", "Accept-Encoding": "gzip, deflate", "User-Agent": "pyflow/2"}
    defaults = {name.lower(): name for name in checked}
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise InvalidRequestError(f"not a header name: {show(name)}")
        if name.lower() in _OWN_HEADERS:
            raise SSRFError(f"Blocked: the header {name} is set by the client itself")
        text = value if isinstance(value, str) else json.dumps(value)
        if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", text):
            raise InvalidRequestError(f"the value of the header {name} holds a control character")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise InvalidRequestError(f"the value of the header {name} holds half of a surrogate pair") from None
        checked.pop(defaults.get(name.lower(), ""), None)
        checked[name] = text
    return checked


def _body(json_body: Any, content: bytes | Body | None, headers: dict[str, str]) -> bytes | Body | None:
    kind = None
    if json_body is not None:
        if content is not None:
            raise InvalidRequestError("give json_body or content, not both")
        try:
            content = json_bytes(json_body)
        except ValueError as error:
            raise InvalidRequestError(f"the body cannot be sent as JSON: {error}") from None
        kind = "application/json"
    elif isinstance(content, Body):
        kind = content.content_type
    if kind is not None and not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = kind
    return content


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
