"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

Rows of the log have an ``id``, which the client sends as ``Last-Event-ID`` to resume. Progress, comments and the end
have none: with one, they would move the client's place past events that it has not received.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from django.http import StreamingHttpResponse

from events.streams.access import Access
from events.streams.hub import current_hub
from events.streams.rows import End, Item, LogRow, Place
from events.streams.sources import Source
from events.streams.stream import Stream
from plumbing.rest.formats import to_json

MEDIA_TYPE = "text/event-stream"
#: A comment is sent after so many seconds without anything else, and a stream ends after so many in all.
HEARTBEAT, LONGEST = 15.0, 300.0
#: Until clients connect again, at least and at most; spread, so that they do not come together. Milliseconds.
RECONNECT = (1000, 3000)
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
TIME_LIMIT = End("time_limit", "The stream has lasted for five minutes. Connect again with the last id.")


@dataclass(frozen=True, slots=True)
class Plan:
    """A stream that a caller is allowed: what it follows, from where, and by what access."""

    source: Source
    after: Place
    access: Access

    def open(self) -> Stream:
        """Start the stream on the running event loop."""
        return Stream(current_hub(), self.source, self.after, self.access)


class EventStreamResponse(StreamingHttpResponse):
    """The answer of a stream; ``plan`` serves those who deliver it in another way."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        super().__init__(content_type=MEDIA_TYPE, headers=HEADERS)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the text of the stream. It is closed at once when the client has gone, not by the garbage collector."""
        async with aclosing(frames(self.plan)) as parts:
            async for part in parts:
                yield part


async def frames(plan: Plan, *, heartbeat: float = HEARTBEAT, longest: float = LONGEST) -> AsyncGenerator[bytes]:
    """Give the text of a stream, as it comes, until it ends."""
    stream = plan.open()
    try:
        yield f"retry: {random.randint(*RECONNECT)}\n\n".encode()  # noqa: S311 - no secret
        clock = current_hub().loop.time
        until = clock() + longest
        while (left := until - clock()) > 0:
            items = await stream.take(min(heartbeat, left))
            yield b"".join(frame(plan.source, item) for item in items) if items else b": heartbeat\n\n"
            if items and isinstance(items[-1], End):
                return
        yield frame(plan.source, TIME_LIMIT)
    finally:
        stream.close()


def frame(source: Source, item: Item) -> bytes:
    """Return the text of one item; of a row it is made once for all streams of a kind."""
    if isinstance(item, End):
        return b"event: end\ndata: " + to_json(item.as_dict()) + b"\n\n"
    if not isinstance(item, LogRow):
        return f"event: {item.type}\ndata: {item.body}\n\n".encode()
    text: bytes = item.once(f"sse {type(source).__name__}", lambda row: _frame(row, source.id_of(row)))
    return text


def _frame(row: LogRow, id: str) -> bytes:
    return f"event: {row.type}\nid: {id}\ndata: {row.body}\n\n".encode()
