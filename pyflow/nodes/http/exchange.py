"""Executes the ``http`` node of version 2: bodies, authorization, pages, forms of the response."""

from __future__ import annotations

import asyncio
import base64
import math
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import IO, Any, ClassVar
from urllib.parse import urlencode, urljoin, urlsplit

from pyflow.core.duration import parse_duration
from pyflow.core.errors import NonRetryableError
from pyflow.core.messages import show
from pyflow.core.redaction import Redactor
from pyflow.expressions.evaluation import safe_eval
from pyflow.net import http_body
from pyflow.net.http_auth import Authorizer, ClientCredentials, basic, bearer
from pyflow.net.http_body import Body
from pyflow.net.http_client import HttpResponse, HttpTimeoutError, InvalidRequestError, request
from pyflow.nodes import stored
from pyflow.nodes.http.config import TIMEOUT, BasicAuth, BearerAuth, HttpConfig, Paginate
from pyflow_sdk.node import NodeContext

#: Methods that may do their work twice when they are sent twice (RFC 9110 9.2.2).
NOT_IDEMPOTENT = frozenset(("POST", "PATCH"))


class UnexpectedAnswerError(NonRetryableError, ValueError):
    """The answer is not what ``response`` or ``paginate`` expects."""

    code: ClassVar[str] = "unexpected_answer"


class Exchange:
    """One execution of an ``http`` node: its requests share a deadline and a number of bytes."""

    def __init__(self, config: HttpConfig, redactor: Redactor, ctx: NodeContext | None) -> None:
        self._config = config
        self._redactor = redactor
        self._ctx = ctx
        self._method = config.method.upper()
        self._auth = _authorizer(config)
        self._seconds = TIMEOUT if config.timeout is None else parse_duration(config.timeout)
        self._deadline = time.monotonic() + self._seconds
        self._bytes = int(config.max_response_size)

    async def run(self) -> dict[str, Any]:
        """The node's output. Raises what ``HttpNode`` says."""
        body = await asyncio.to_thread(_body, self._config) if _has_file(self._config) else _body(self._config)
        url = _with_params(self._config.url, self._config.params)
        if self._config.paginate is not None:
            return await self._pages(self._config.paginate, url, body)
        with ExitStack() as files:
            wants_file = self._config.response == "file"
            # A real file, not a spooled one: it is mapped when it is stored.
            file = files.enter_context(tempfile.TemporaryFile()) if wants_file else None
            response = await self._send(url, body, file=file)
            return {
                "status": response.status,
                "headers": response.headers,
                "header_values": response.header_values,
                "body": await self._received(response, file),
            }

    async def _pages(self, paginate: Paginate, url: str, body: Body | None) -> dict[str, Any]:
        first, pages, found = url, 0, list[Any]()
        while True:
            pages += 1
            response = await self._send(url, body, page=pages)
            content = self._content(response)
            self._bytes -= len(response.content)
            if paginate.items is None:
                found.append(content)
            else:
                found += _items(paginate.items, content)
            following = _next_url(paginate.next, response, content, first, pages)
            if following is None or pages >= int(paginate.max_pages):
                break
            url = following
        return {
            "status": response.status,
            "headers": response.headers,
            "header_values": response.header_values,
            "pages": pages,
            "more": following is not None,
            "bodies" if paginate.items is None else "items": found,
        }

    async def _send(self, url: str, body: Body | None, *, page: int = 1, file: IO[bytes] | None = None) -> HttpResponse:
        """One request; if a token is refused, once more with a new one."""
        headers = self._headers(page)
        authorization = await self._authorize(headers)
        response = await self._request(url, headers, body, file)
        if response.status == 401 and self._auth is not None and self._auth.renewable:
            await self._authorize(headers, refused=authorization)
            response = await self._request(url, headers, body, file)
        if self._config.raise_for_status:
            response.raise_for_status()
        return response

    async def _request(
        self, url: str, headers: dict[str, Any], body: Body | None, file: IO[bytes] | None
    ) -> HttpResponse:
        return await request(
            self._method,
            url,
            headers=headers,
            content=body,
            save_to=file,
            timeout=self._left(),
            max_bytes=self._bytes,
            allow_private_networks=bool(self._config.allow_private_networks),
            follow_redirects=bool(self._config.follow_redirects),
        )

    def _headers(self, page: int) -> dict[str, Any]:
        headers: dict[str, Any] = dict(self._config.headers) if isinstance(self._config.headers, dict) else {}
        if self._ctx is None or self._method not in NOT_IDEMPOTENT:
            return headers
        if not any(name.lower() == "idempotency-key" for name in headers):
            # Each page is a request of its own; with one key for all, the server would repeat the first answer.
            headers["Idempotency-Key"] = self._ctx.idempotency_key + (f":{page}" if page > 1 else "")
        return headers

    async def _authorize(self, headers: dict[str, Any], refused: str | None = None) -> str | None:
        if self._auth is None:
            return None
        try:
            async with asyncio.timeout(self._left()):
                value = await self._auth.header(refused=refused)
        except TimeoutError as error:
            if isinstance(error, HttpTimeoutError):
                raise
            raise self._too_late() from None
        # A token that was fetched is a secret as much as the one that it was fetched with.
        self._redactor.add(value.partition(" ")[2])
        headers["Authorization"] = value
        return value

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self._too_late()
        return left

    def _too_late(self) -> HttpTimeoutError:
        host = urlsplit(self._config.url).hostname
        return HttpTimeoutError(f"no complete answer from {host} within {self._seconds:g} s")

    async def _received(self, response: HttpResponse, file: IO[bytes] | None) -> Any:
        if file is None or not response.is_success:
            return self._content(response)
        path = str(self._config.save_to)
        return {"path": path, "size": await asyncio.to_thread(stored.save, path, file)}

    def _content(self, response: HttpResponse) -> Any:
        form = self._config.response
        if form == "none":
            return None
        if form == "text":
            return response.text
        if form == "bytes":
            return base64.b64encode(response.content).decode("ascii")
        try:
            content = response.json()
        except ValueError as error:
            if form != "json":
                return response.text
            raise UnexpectedAnswerError(f"the answer of {response.url} is not JSON: {error}") from None
        # What is no JSON number fails the node like that of any other: the message names its place.
        return _with_nulls(content) if self._config.non_finite == "null" else content


def _with_nulls(value: Any) -> Any:
    """JSON with ``None`` for the numbers that are none, or larger than a float can be."""
    if isinstance(value, dict):
        return {name: _with_nulls(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_nulls(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _authorizer(config: HttpConfig) -> Authorizer | None:
    auth = config.auth
    if auth is None:
        return None
    if isinstance(auth, BasicAuth):
        return basic(auth.username, auth.password)
    if isinstance(auth, BearerAuth):
        return bearer(auth.token)
    return ClientCredentials(
        auth.token_url,
        auth.client_id,
        auth.client_secret,
        auth.scope,
        auth.client_auth,
        allow_private_networks=bool(config.allow_private_networks),
    )


def _has_file(config: HttpConfig) -> bool:
    return config.file is not None or (config.multipart is not None and bool(config.multipart.files))


def _body(config: HttpConfig) -> Body | None:
    try:
        if config.form is not None:
            return http_body.form_body(_mapping(config.form, "form"))
        if config.text is not None:
            return http_body.text_body(config.text)
        if config.file is not None:
            return http_body.file_body(stored.part(config.file), config.file)
        if config.multipart is not None:
            return _multipart(config)
        value = config.body if config.json_ is None else config.json_
        return None if value is None else http_body.json_body(value)
    except (ValueError, UnicodeEncodeError) as error:
        if isinstance(error, NonRetryableError):
            raise
        raise InvalidRequestError(f"the body cannot be sent: {error}") from None


def _multipart(config: HttpConfig) -> Body:
    assert config.multipart is not None  # noqa: S101 - the caller looked
    uploads = [
        http_body.Upload(
            field=file.name,
            filename=file.filename or file.path.rpartition("/")[2],
            content=stored.part(file.path),
            content_type=file.content_type,
        )
        for file in config.multipart.files
    ]
    return http_body.multipart_body(_mapping(config.multipart.fields, "multipart.fields"), uploads)


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidRequestError(f"`{where}` is a mapping, not {type(value).__name__}")
    return value


def _with_params(url: str, params: Any) -> str:
    if params is None:
        return url
    query = urlencode(http_body.pairs(_mapping(params, "params")))
    if not query:
        return url
    address, hash_mark, fragment = url.partition("#")
    joint = "" if address.endswith(("?", "&")) else "&" if "?" in address else "?"
    return f"{address}{joint}{query}{hash_mark}{fragment}"


def _items(path: str, content: Any) -> list[Any]:
    from pyflow.expressions import jsonpath  # noqa: PLC0415 - jsonpath-ng takes longer to load than a small workflow to run

    found: list[Any] = jsonpath.find_all(path, content)
    # The path says which it is, or a page with one row that is a list would be taken apart.
    return found[0] if jsonpath.is_singular(path) and found and isinstance(found[0], list) else found


def _next_url(rule: str, response: HttpResponse, content: Any, first: str, page: int) -> str | None:
    """The URL of the next page; ``None`` after the last one."""
    value = _next_value(rule, response, content, page)
    if not value:
        return None
    if isinstance(value, Mapping):
        return _with_params(_without_params(first, value), value)
    if not isinstance(value, str):
        raise UnexpectedAnswerError(f"`paginate.next` gave {type(value).__name__}: neither a URL nor params")
    try:
        url = urljoin(response.url, value)
        same = _origin(url) == _origin(response.url)
    except ValueError:
        raise UnexpectedAnswerError(f"`paginate.next` gave something that is no URL: {show(value, 200)}") from None
    if not same:
        # Credentials and body would follow wherever an answer points.
        raise UnexpectedAnswerError(f"the next page is on another server: {show(url, 200)}")
    return url


def _next_value(rule: str, response: HttpResponse, content: Any, page: int) -> Any:
    from pyflow.expressions import jsonpath  # noqa: PLC0415 - jsonpath-ng takes longer to load than a small workflow to run

    if rule.strip() == "link":
        return _next_link(response.headers.get("link", ""))
    if rule.lstrip().startswith("$"):
        found = jsonpath.find_all(rule, content)
        return found[0] if found else None
    shown = {"status": response.status, "headers": response.headers, "body": content}
    return safe_eval(rule, {"response": shown, "page": page}, version=2)


def _next_link(header: str) -> str | None:
    """The target of the link with the relation ``next`` (RFC 8288 3)."""
    rest = header
    while rest:
        _, opened, rest = rest.partition("<")
        target, closed, rest = rest.partition(">")
        if not (opened and closed):
            return None
        # Parameters end where the next link begins; a quoted comma in a title before `rel` is looked over.
        parameters, _, _ = rest.partition("<")
        for parameter in parameters.split(";"):
            name, _, value = parameter.strip(" ,\t").partition("=")
            if name.strip().lower() == "rel" and "next" in value.strip(' "\t').lower().split():
                return target
    return None


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port


def _without_params(url: str, replaced: Mapping[str, Any]) -> str:
    """The URL without the parameters that the next page has its own values for."""
    address, hash_mark, fragment = url.partition("#")
    path, mark, query = address.partition("?")
    names = {urlencode({name: ""}).rstrip("=") for name in replaced}
    kept = [pair for pair in query.split("&") if pair and pair.partition("=")[0] not in names]
    return f"{path}{mark if kept else ''}{'&'.join(kept)}{hash_mark}{fragment}"
