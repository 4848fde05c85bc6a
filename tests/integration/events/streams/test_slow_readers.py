"""A client that reads slowly costs little, and loses nothing but time."""

import json
import socket
from contextlib import suppress

import pytest

from events.streams import stream as streams
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
