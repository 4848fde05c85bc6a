"""The pytest plugin ``pyflow``: installed with the package, so that suites written for v1 keep working.

v1 sent its requests through httpx, and its users mock them with respx, which patches httpcore, or with pytest-httpx,
which patches httpx. PyFlow sends them through httpx2 now; here respx is given httpcore2, and what pytest-httpx
mocks is asked first. Only tests load this: a program that patches httpx changes nothing about where PyFlow connects to.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest

_TARGETS = (
    "httpcore2._sync.connection.HTTPConnection",
    "httpcore2._sync.connection_pool.ConnectionPool",
    "httpcore2._sync.http_proxy.HTTPProxy",
    "httpcore2._async.connection.AsyncHTTPConnection",
    "httpcore2._async.connection_pool.AsyncConnectionPool",
    "httpcore2._async.http_proxy.AsyncHTTPProxy",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Extend the mocks of respx and of pytest-httpx, if the suite has imported them."""
    mocks = sys.modules.get("respx.mocks")
    if mocks is not None:
        mocks.HTTPCoreMocker.add_targets(*_TARGETS)
    if "pytest_httpx" in sys.modules:
        _ask_pytest_httpx(sys.modules["httpx"])


class _NotMockedError(Exception):
    """The mock lets the request through."""


class _HandedOn:
    """The transport and the pool that a mock of pytest-httpx is given: a request that arrives here is not mocked."""

    def __init__(self) -> None:
        self._pool = self

    async def handle_async_request(self, request: object) -> None:  # noqa: ARG002 - the signature of a pool
        raise _NotMockedError


def _ask_pytest_httpx(httpx: Any) -> None:
    """Let the patch that the fixture ``httpx_mock`` makes in ``httpx`` answer what it mocks, while it is in place."""
    # Imported for the suites that mock httpx, and by no other process that has pytest.
    import httpx2  # noqa: PLC0415

    from pyflow.net.http_pool import CheckedTransport  # noqa: PLC0415

    if CheckedTransport.handle_async_request.__module__ == __name__:
        return  # a session inside of a session

    async def send(transport: CheckedTransport, request: httpx2.Request) -> httpx2.Response:
        # Looked up now: a test may have patched it since.
        return await httpx2.AsyncHTTPTransport.handle_async_request(transport, request)

    async def handle_async_request(self: CheckedTransport, request: httpx2.Request) -> httpx2.Response:
        mocked = httpx.AsyncHTTPTransport.handle_async_request
        # Others patch httpx as well, such as instrumentation, and would send what is checked nowhere.
        if mocked.__module__ != "pytest_httpx":
            return await send(self, request)
        copy = httpx.Request(
            request.method,
            str(request.url),
            headers=request.headers.raw,
            content=await request.aread(),
            extensions=dict(request.extensions),
        )
        try:
            answer = await mocked(_HandedOn(), copy)
        except _NotMockedError:
            return await send(self, request)
        return httpx2.Response(
            answer.status_code,
            headers=answer.headers.raw,
            stream=httpx2.ByteStream(b"".join([part async for part in answer.stream])),
            extensions=dict(answer.extensions),
        )

    CheckedTransport.handle_async_request = handle_async_request  # type: ignore[assignment, method-assign]
