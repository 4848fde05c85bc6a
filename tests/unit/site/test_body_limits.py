"""Bodies of inbound webhooks end one byte beyond the limit, before they are stored."""

import asyncio

import pytest

from pyflow.documents.reading import MAX_BYTES
from pyflow_site.body_limits import limited

PART = b"x" * 65_536


def read(path: str, count: int, headers: list[tuple[bytes, bytes]] = ()) -> tuple[int, int]:
    """The bytes that Django gets of a body of so many parts, and how many parts were received for that."""
    received = 0

    async def receive():
        nonlocal received
        received += 1
        return {"type": "http.request", "body": PART, "more_body": received < count}

    async def body() -> int:
        get, size, more = limited({"type": "http", "path": path, "headers": list(headers)}, receive), 0, True
        while more:
            message = await get()
            size, more = size + len(message["body"]), message["more_body"]
        return size

    return asyncio.run(body()), received


@pytest.mark.parametrize(
    ("count", "headers", "size", "received"),
    [
        (16, [], MAX_BYTES, 16),
        (17, [], MAX_BYTES + 1, 17),
        (10_000, [], MAX_BYTES + 1, 17),
        (10_000, [(b"content-length", b"655360000")], 0, 0),
        (1, [(b"content-length", b"65536")], len(PART), 1),
        (1, [(b"content-length", b"-1")], len(PART), 1),
    ],
)
def test_a_webhook_reads_no_more_than_it_may(count, headers, size, received):
    assert read("/hooks/acme/in", count, headers) == (size, received)


@pytest.mark.parametrize("size", [10, MAX_BYTES, MAX_BYTES + 1, MAX_BYTES + 2])
def test_a_sender_that_leaves_after_the_body_is_noticed(size):
    sent = [{"type": "http.request", "body": b"x" * size, "more_body": False}, {"type": "http.disconnect"}]

    async def receive():
        return sent.pop(0)

    get = limited({"type": "http", "path": "/hooks/acme/in", "headers": []}, receive)
    body, left = asyncio.run(get()), asyncio.run(get())
    assert (len(body["body"]), body["more_body"]) == (min(size, MAX_BYTES + 1), False)
    assert left == {"type": "http.disconnect"}


def test_other_requests_are_left_alone():
    assert read("/api/v1/workflows", 20) == (20 * len(PART), 20)
