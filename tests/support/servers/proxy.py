"""A TCP proxy in front of a server: passes on, delays, stalls, resets, half-closes, hides ends, loses answers."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

#: PostgreSQL's simple query `COMMIT`, as psycopg sends it.
COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
#: Closing with this sends RST instead of FIN.
AT_ONCE = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class _Link:
    """One client's connection and the one to the server that belongs to it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    #: What the server says next is kept from the client.
    loses: bool = False
    #: The client was told that nothing more comes.
    is_over: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def reset(self) -> None:
        for side in (self.client, self.server):
            _abort(side)
        for task in self.tasks:
            task.cancel()


class Proxy:
    """Listens on a loopback `port` for the server at `target`. Its verbs may be called from any thread."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._honest = asyncio.Event()
        self._listener: asyncio.Server | None = None
        self._refuses = False
        self._delay = 0.0
        self._to_lose = 0
        #: How many answers to COMMIT have been lost.
        self.lost = 0
        self.port = 0

    def heal(self) -> None:
        """Pass everything on, at once."""

        async def heal() -> None:
            self._delay, self._to_lose, self._refuses = 0.0, 0, False
            self._flowing.set()
            self._honest.set()
            await self._listen()

        self._do(heal)

    def delay(self, seconds: float) -> None:
        """Hold each piece of data back for so long."""
        self._change(lambda: setattr(self, "_delay", seconds))

    def stall(self) -> None:
        """Keep connections and accept new ones, and pass nothing on until `flow`."""
        self._change(self._flowing.clear)

    def flow(self) -> None:
        """Pass on what was held back by `stall`."""
        self._change(self._flowing.set)

    def hide_ends(self) -> None:
        """Tell neither side when the other is gone, until `heal`: as if its machine had lost its power."""
        self._change(self._honest.clear)

    def refuse(self) -> None:
        """Reset what there is, and whatever comes, until `heal`.

        The listener stays: asyncio forgets sockets that it accepts while it closes one.
        """

        def refuse() -> None:
            self._refuses = True
            self._reset()

        self._change(refuse)

    def reset(self) -> None:
        """Reset every connection; new ones are accepted."""
        self._change(self._reset)

    def half_close(self) -> None:
        """Tell clients that nothing more comes, and go on taking what they send."""

        def close() -> None:
            for link in self._links:
                if not link.client.transport.is_closing():
                    link.is_over = True
                    link.client.write_eof()

        self._change(close)

    def lose_commits(self, count: int) -> None:
        """Let the server commit, and reset the connection instead of passing its answer on: the next `count` times."""
        self._change(lambda: setattr(self, "_to_lose", count))

    def serve(self) -> None:
        """Be the proxy's thread, until `end`."""
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def end(self) -> None:
        """Close everything."""

        async def end() -> None:
            if self._listener is not None:
                self._listener.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self.refuse()
        self._do(end)
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _change(self, change: Callable[[], object]) -> None:
        async def do() -> None:
            change()

        self._do(do)

    def _do(self, work: Callable[[], object]) -> None:
        asyncio.run_coroutine_threadsafe(work(), self._loop).result(10)  # type: ignore[arg-type]

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._listener.sockets[0].getsockname()[1]

    def _reset(self) -> None:
        for link in list(self._links):
            link.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            _abort(writer)
            return
        try:
            answers, server = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:  # the server is away, and so are we
            _abort(writer)
            return
        link = _Link(writer, server)
        self._links.add(link)
        link.tasks = [
            asyncio.ensure_future(self._pump(reader, server, lambda data: self._asked(link, data))),
            asyncio.ensure_future(self._pump(answers, writer, lambda data: self._answered(link, data))),
        ]
        try:
            await asyncio.wait(link.tasks)
        finally:
            self._links.discard(link)
            for side in (writer, server):
                side.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, may_pass: Callable[[bytes], bool]
    ) -> None:
        try:
            while data := await reader.read(65536):
                await self._flowing.wait()
                if self._delay:
                    await asyncio.sleep(self._delay)
                if may_pass(data):
                    writer.write(data)
                    await writer.drain()
            await self._flowing.wait()
            await self._honest.wait()
            if not writer.transport.is_closing():
                writer.write_eof()
        except OSError:  # one side was reset: so is the other
            await self._honest.wait()
            _abort(writer)

    def _asked(self, link: _Link, data: bytes) -> bool:
        if self._to_lose and data.endswith(COMMIT):
            self._to_lose -= 1
            link.loses = True
        return True

    def _answered(self, link: _Link, data: bytes) -> bool:
        if not link.loses:
            return not link.is_over
        assert b"COMMIT\x00" in data or b"ROLLBACK\x00" in data or b"ERROR\x00" in data, data
        self.lost += 1
        link.reset()
        return False


def _abort(side: asyncio.StreamWriter) -> None:
    if not side.transport.is_closing():
        side.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        side.transport.abort()


@contextmanager
def proxying(target: int) -> Iterator[Proxy]:
    """A proxy for the server at the loopback port `target`."""
    proxy = Proxy(target)
    thread = threading.Thread(target=proxy.serve, name="proxy", daemon=True)
    thread.start()
    proxy.heal()
    try:
        yield proxy
    finally:
        proxy.end()
        thread.join(10)
        proxy._loop.close()
