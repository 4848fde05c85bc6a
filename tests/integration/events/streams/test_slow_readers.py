"""A client that reads slowly costs little, and loses nothing but time."""

import json
import socket
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from django.db import transaction

from events import consumers
from events.streams import stream as streams
from events.streams.rows import Item
from pyflow_site import pacing
from tests.support import waiting
from tests.support.streams import following, happen

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]
LARGE = "x" * 200_000


def test_a_queue_that_is_full_is_read_from_the_table_again(server: str, tenant, credential: str, monkeypatch):
    """The client stops reading while more happens than its queue and all buffers hold."""
    monkeypatch.setattr(streams, "MOST_WAITING", 2000)
    lost = []
    fall_behind = streams.Stream.fall_behind
    monkeypatch.setattr(streams.Stream, "fall_behind", lambda self: lost.append(1) or fall_behind(self))
    with following(server, "/api/v1/events?after=now", credential) as stream:
        stream.next()
        happen(tenant, count=40, text=LARGE)
        waiting.until(lambda: lost, what="a full queue")
        assert [frame.data["data"]["number"] for frame in stream.events(40)] == list(range(40))


def test_a_client_that_reads_nothing_is_cut_off(server: str, tenant, credential: str, monkeypatch):
    monkeypatch.setattr(pacing.PacedSend.__init__, "__defaults__", (0.5,))
    open_streams: set[streams.Stream] = set()
    start, close = streams.Stream.__init__, streams.Stream.close

    def starting(self, *args):
        start(self, *args)
        open_streams.add(self)

    monkeypatch.setattr(streams.Stream, "__init__", starting)
    monkeypatch.setattr(streams.Stream, "close", lambda self: (close(self), open_streams.discard(self)))
    host, _, port = server.partition(":")
    happen(tenant, count=100, text=LARGE)
    with socket.create_connection((host, int(port))) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = f"GET /api/v1/events HTTP/1.1\r\nHost: {server}\r\nAccept: text/event-stream\r\n"
        connection.sendall(f"{request}Authorization: {credential}\r\n\r\n".encode())
        waiting.until(lambda: open_streams, what="the stream")
        waiting.until(lambda: not open_streams, what="its end")
        read = b""
        with suppress(ConnectionResetError):
            while chunk := connection.recv(1_000_000):
                read += chunk
    assert len(read) < 100 * len(LARGE)
    assert json.dumps(LARGE)[:10].encode() in read


MOST_HELD = 20 * 1024 * 1024
MANY = 500  # of 60 KB: more than what may be held


class Held:
    """Counts bytes of one stream: what its server was given to send, what it took out of its queue, what is queued."""

    def __init__(self, monkeypatch) -> None:
        self.given = self.taken = 0
        self.streams: list[streams.Stream] = []
        take, start = streams.Stream.take, streams.Stream.__init__

        async def counting(stream: streams.Stream, seconds: float) -> Sequence[Item]:
            items = await take(stream, seconds)
            self.taken = sum(getattr(item, "size", 0) for item in items)
            return items

        def starting(stream: streams.Stream, *args: Any) -> None:
            start(stream, *args)
            self.streams.append(stream)

        monkeypatch.setattr(streams.Stream, "take", counting)
        monkeypatch.setattr(streams.Stream, "__init__", starting)
        send, send_text = pacing.PacedSend.__call__, consumers.EventsConsumer.send

        async def sending(paced: pacing.PacedSend, message: Mapping[str, Any]) -> None:
            self.given += len(message.get("body", b""))
            await send(paced, message)

        async def sending_text(consumer: consumers.EventsConsumer, text_data: str, **options: Any) -> None:
            self.given += len(text_data)
            await send_text(consumer, text_data=text_data, **options)

        monkeypatch.setattr(pacing.PacedSend, "__call__", sending)
        monkeypatch.setattr(consumers.EventsConsumer, "send", sending_text)

    @property
    def bytes(self) -> int:
        """All of them, with what is in buffers of the server and of the kernel: the client has read nothing."""
        return self.given + self.taken + sum(stream._bytes for stream in self.streams)


@pytest.mark.parametrize("begins", ["with what comes", "with what there was"])
@pytest.mark.parametrize("way", ["sse", "websocket"])
def test_a_client_that_stops_reading_costs_20_mib_at_most(server, tenant, credential, monkeypatch, way, begins):
    held = Held(monkeypatch)
    if begins == "with what there was":
        with transaction.atomic():
            happen(tenant, count=MANY, text=LARGE[:60_000])
    with not_reading(server, way, credential, after="now" if begins == "with what comes" else ""):
        waiting.until(lambda: held.streams and held.streams[0]._feed.started.is_set(), what="the stream")
        if begins == "with what comes":
            with transaction.atomic():
                happen(tenant, count=MANY, text=LARGE[:60_000])
        most = counts = 0
        while counts < 20:  # looks in a row that found no byte more
            counts = counts + 1 if held.bytes <= most else 0
            most = max(most, held.bytes)
            threading.Event().wait(0.05)
    assert 200_000 < most <= MOST_HELD


@contextmanager
def not_reading(server: str, way: str, credential: str, after: str) -> Iterator[None]:
    """Open a stream of the log whose client reads nothing."""
    host, _, port = server.partition(":")
    query = f"?after={after}" if after else ""
    with socket.create_connection((host, int(port))) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        path, headers = f"/api/v1/events{query}", "Accept: text/event-stream\r\n"
        if way == "websocket":
            path = f"/ws/v1/events{query}"
            headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            headers += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        headers += f"Host: {server}\r\nAuthorization: {credential}\r\n"
        connection.sendall(f"GET {path} HTTP/1.1\r\n{headers}\r\n".encode())
        yield
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
