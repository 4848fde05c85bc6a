"""Connections other than HTTP: the same rules for where they may go, and an end to those that take too long."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TypeVar

from pyflow.core.errors import NodeError, NodeTimeoutError
from pyflow.core.messages import show
from pyflow.net.addresses import SSRFError, check_address, check_url, parse_address, policy_in_force

T = TypeVar("T")

#: How long a thread may take to notice that it was stopped, seconds.
GRACE = 2.0
#: One address that does not answer must not use up the time of the others. Seconds.
CONNECT_TIMEOUT = 10.0


class UnreachableError(NodeError, ConnectionError):
    """The name does not resolve, or no address of it can be connected to. Worth another attempt."""

    code = "unreachable"


def checked_addresses(host: str, port: int, *, allow_private_networks: bool) -> list[str]:
    """The addresses of a host, each checked against the policy of the run, to connect to instead of the name.

    Blocking: call it from a thread. Raises ``SSRFError`` if the host or any of its addresses is refused, and
    ``UnreachableError``.
    """
    policy = policy_in_force().for_request(allow_private_networks=allow_private_networks)
    if not 1 <= port <= 65535:
        raise SSRFError(f"Blocked: not a port: {port}")
    shown = f"[{host}]" if ":" in host else host
    if not host or set(host) & set("/?#@\\"):
        raise SSRFError(f"Blocked: not a host name: {show(host, 200)}")
    # The rules for the host of a URL: one spelling of an address only, no local names, look-alikes encoded.
    target = check_url(f"http://{shown}/", policy)
    if target.address is not None:
        return [str(target.address)]
    try:
        found = socket.getaddrinfo(target.host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UnreachableError(f"{target.host} cannot be resolved: {error}", kind="network") from None
    addresses = list(dict.fromkeys(parse_address(str(entry[4][0])) for entry in found))
    for address in addresses:
        check_address(address, target.host, policy)
    return [str(address) for address in addresses]


def connect(addresses: list[str], port: int, timeout: float) -> socket.socket:
    """A connection to the first of the (checked) addresses that answers. ``timeout``: seconds for each."""
    for position, address in enumerate(addresses, start=1):
        try:
            connection = socket.create_connection((address, port), min(timeout, CONNECT_TIMEOUT))
        except OSError as error:
            if position == len(addresses):
                message = f"cannot connect to {address}, port {port}: {error}"
                raise UnreachableError(message, kind="network") from None
        else:
            connection.settimeout(timeout)
            return connection
    raise UnreachableError("the host has no address", kind="network")


async def in_thread(work: Callable[[], T], stop: Callable[[], object], *, seconds: float, what: str) -> T:
    """Call ``work`` in a thread. After ``seconds``, or when the node is cancelled, ``stop`` is called, which has to
    make it end soon. Raises ``NodeTimeoutError``.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work))
    timer = asyncio.timeout(seconds)
    try:
        async with timer:
            return await asyncio.shield(task)
    except TimeoutError:
        if not timer.expired():
            raise
        raise NodeTimeoutError(f"{what} took longer than {seconds:g} s", kind="timeout") from None
    finally:
        if not task.done():
            stopping = asyncio.ensure_future(asyncio.to_thread(stop))  # a database is asked over the network
            await asyncio.wait({task, stopping}, timeout=GRACE)
        if task.done() and not task.cancelled():
            task.exception()  # looked at: whatever it is, it came of being stopped
        else:
            task.add_done_callback(lambda late: late.cancelled() or late.exception())
