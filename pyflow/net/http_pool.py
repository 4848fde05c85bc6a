"""Connections of the outgoing HTTP client: opened to addresses that were checked, kept for the next request.

Importing this module imports httpx2; see ``pyflow.net.http_client``.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Iterable, Iterator
from functools import lru_cache
from typing import Any

import httpcore2
import httpx2

from pyflow.net.addresses import Address, NetworkPolicy, check_address, parse_address

#: One address that does not answer must not use up the time of the others. Seconds.
CONNECT_TIMEOUT = 10.0
MAX_POLICIES = 32


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


class CheckedTransport(httpx2.AsyncHTTPTransport):
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
        self._loops: dict[asyncio.AbstractEventLoop, dict[NetworkPolicy, CheckedTransport]] = {}
        self._closers: dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def borrow(self, policy: NetworkPolicy) -> Iterator[CheckedTransport]:
        """The transport of the running loop for a policy, kept open while it is in use."""
        loop = asyncio.get_running_loop()
        transports = self._loops.get(loop)
        if transports is None:
            transports = self._enter(loop)
        transport = transports.pop(policy, None) or CheckedTransport(policy)
        transports[policy] = transport  # the last one used is the last in order
        if len(transports) > MAX_POLICIES:
            self._drop_one(transports)
        transport.in_use += 1
        try:
            yield transport
        finally:
            transport.in_use -= 1

    def _enter(self, loop: asyncio.AbstractEventLoop) -> dict[NetworkPolicy, CheckedTransport]:
        for closed in [known for known in self._loops if known.is_closed()]:
            del self._loops[closed], self._closers[closed]
        transports: dict[NetworkPolicy, CheckedTransport] = {}
        self._loops[loop] = transports
        # A loop that ends closes its asynchronous generators while it still runs, which is the moment to close idle
        # connections; no other task is notified. One that is suspended at its first `yield` is among them.
        closer = self._closers[loop] = self._close_at_end(transports)
        step = closer.__anext__()
        with contextlib.suppress(StopIteration):  # it reaches its `yield` without having to wait
            step.send(None)
        return transports

    @staticmethod
    async def _close_at_end(transports: dict[NetworkPolicy, CheckedTransport]) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            for transport in list(transports.values()):
                await transport.aclose()
            transports.clear()

    def _drop_one(self, transports: dict[NetworkPolicy, CheckedTransport]) -> None:
        for policy, transport in transports.items():
            if not transport.in_use:
                del transports[policy]
                task = asyncio.ensure_future(transport.aclose())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
                return


#: The connections of this process.
pools = _Pools()
