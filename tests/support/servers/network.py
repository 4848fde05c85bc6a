"""No test reaches beyond this machine: sockets and names other than loopback are refused, with a message saying so."""

import ipaddress
import socket
from collections.abc import Callable
from typing import Any


class NetworkRefused(socket.gaierror):
    """A test tried to leave this machine.

    An `OSError`, as an unplugged cable would give, so that code under test takes the path that it takes in life.
    """


def refuse() -> Callable[[], None]:
    """Refuse every connection and name beyond loopback until the returned function is called."""
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        _check_address(self, address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        _check_address(self, address)
        return connect_ex(self, address)

    def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if not _resolves_here(host):
            raise NetworkRefused(socket.EAI_NONAME, f"tests may not look up {host!r}: only loopback names resolve")
        return getaddrinfo(host, *args, **kwargs)

    def restore() -> None:
        _install(connect, connect_ex, getaddrinfo)

    _install(guarded_connect, guarded_connect_ex, guarded_getaddrinfo)
    return restore


def _install(connect: Any, connect_ex: Any, getaddrinfo: Any) -> None:
    socket.socket.connect = connect  # type: ignore[method-assign]
    socket.socket.connect_ex = connect_ex  # type: ignore[method-assign]
    socket.getaddrinfo = getaddrinfo


def _check_address(sock: socket.socket, address: Any) -> None:
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or _is_loopback(address[0]):
        return
    raise NetworkRefused(socket.EAI_FAIL, f"tests may not connect to {address[0]}:{address[1]}: only to loopback")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return _is_localhost(host)


def _resolves_here(host: str | bytes | None) -> bool:
    """Whether resolving needs no name server: nothing, a literal in any spelling of `inet_aton`, or localhost."""
    name = host.decode() if isinstance(host, bytes) else host
    if not name or _is_localhost(name):
        return True
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, name.partition("%")[0])
        except (OSError, ValueError):
            continue
        return True
    try:
        socket.inet_aton(name)
    except (OSError, ValueError):
        return False
    return True


def _is_localhost(name: str) -> bool:
    return name.lower().rstrip(".") == "localhost"
