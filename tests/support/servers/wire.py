"""The other end of outgoing requests: local servers, and a stand-in for name servers and the internet."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpcore2
import idna
import pytest

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Answer = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """A local server that hands every request head to ``answer`` and remembers it."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = next(
                    (int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0
                )
                self.bodies.append(await reader.readexactly(length))
                await self.answer(head, reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def header(self, name: str, index: int = -1) -> str | None:
        """A header of a request that arrived."""
        for line in self.heads[index].decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(": ")
            if key.lower() == name:
                return value
        return None


@asynccontextmanager
async def serving(answer: Answer | bytes) -> AsyncIterator[Server]:
    async def fixed(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(answer, bytes)
        writer.write(answer)

    server = Server(fixed if isinstance(answer, bytes) else answer)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    try:
        yield server
    finally:
        listener.close()


def response(status: str = "200 OK", body: bytes = b"ok", **headers: str) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body


class Wire:
    """Stands in for name servers and the internet: records which addresses are dialled, answers each with bytes.

    `dns`: the addresses of each name; a list of lists is one answer after the other, the last for good. Names that
    every machine knows, and what `inet_aton` takes for an address, resolve as they do in life.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, dns: Mapping[str, list[Any]], answers: list[bytes]) -> None:
        self.dns = {_canonical(name): _answers(addresses) for name, addresses in dns.items()}
        self.answers = answers
        self.dialled: list[tuple[str, int]] = []
        self.looked_up: list[str] = []
        #: What went out on each connection.
        self.sent: list[bytes] = []
        monkeypatch.setattr(socket, "getaddrinfo", self.getaddrinfo)
        wire = self

        class Stream(httpcore2.AsyncMockStream):
            async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore2's
                wire.sent[-1] += buffer

        async def connect_tcp(_: object, host: str, port: int, *args: Any) -> httpcore2.AsyncNetworkStream:
            wire.dialled.append((host, port))
            wire.sent.append(b"")
            return Stream([wire.answers.pop(0) if wire.answers else OK])

        monkeypatch.setattr(httpcore2.AnyIOBackend, "connect_tcp", connect_tcp)

    def getaddrinfo(self, host: str, port: int, *args: Any, **kwargs: Any) -> list[tuple[Any, ...]]:
        self.looked_up.append(host)
        addresses = self._resolve(_canonical(host))
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "unknown name")
        return [
            (socket.AF_INET6 if ":" in a else socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses
        ]

    def _resolve(self, name: str) -> list[str]:
        if name in self.dns:
            found = self.dns[name]
            return found.pop(0) if len(found) > 1 else found[0]
        if name == "localhost" or name.endswith(".localhost"):
            return ["127.0.0.1"]
        try:
            return [socket.inet_ntoa(socket.inet_aton(name))]
        except OSError:
            return []


def _canonical(name: str) -> str:
    ascii_name = name if name.isascii() else idna.encode(name.lower()).decode()
    return ascii_name.lower().rstrip(".")


def _answers(addresses: list[Any]) -> list[list[str]]:
    return [list(answer) for answer in addresses] if addresses and isinstance(addresses[0], list) else [addresses]
