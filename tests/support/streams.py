"""Clients of streams, for tests: each frame as it was sent, and who makes the events."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
from django.utils import timezone

from runs.models import EventRecord
from runs.storage import log
from tenants.models import Tenant

SSE = {"Accept": "text/event-stream"}
SECONDS = 20.0


@dataclass(frozen=True)
class Frame:
    """One server-sent event; ``id`` is ``None`` where there is no such line."""

    event: str | None
    id: str | None
    data: Any
    retry: str | None
    comment: str | None


class EventFrames:
    """An open stream of server-sent events."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self._frames = self._read()

    def _read(self) -> Iterator[Frame]:
        lines: list[str] = []
        for line in self.response.iter_lines():
            if line:
                lines.append(line)
                continue
            fields = dict(item.partition(": ")[::2] for item in lines if not item.startswith(":"))
            comments = [item[1:].strip() for item in lines if item.startswith(":")]
            lines = []
            data = fields.get("data")
            yield Frame(
                fields.get("event"),
                fields.get("id"),
                None if data is None else json.loads(data),
                fields.get("retry"),
                comments[0] if comments else None,
            )

    def next(self) -> Frame:
        """The next frame, whatever it is."""
        return next(self._frames)

    def events(self, count: int) -> list[Frame]:
        """So many frames with data."""
        found: list[Frame] = []
        while len(found) < count:
            frame = self.next()
            if frame.data is not None:
                found.append(frame)
        return found

    def rest(self) -> list[Frame]:
        """All that follow with data, until the server ends the stream."""
        return [frame for frame in self._frames if frame.data is not None]


@contextmanager
def following(address: str, path: str, credential: str, **headers: str) -> Iterator[EventFrames]:
    """An open stream. A refusal fails the test."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with (
        httpx2.Client(base_url=f"http://{address}", timeout=SECONDS) as client,
        client.stream("GET", path, headers=SSE | {"Authorization": credential} | named) as response,
    ):
        if response.status_code != 200:
            raise AssertionError(f"{response.status_code}: {response.read().decode()}")
        yield EventFrames(response)


def happen(tenant: Tenant, type: str = "custom.made", count: int = 1, **data: Any) -> list[EventRecord]:
    """Write events that belong to no run, each in a transaction of its own."""
    return [
        log.append_outside(tenant_id=tenant.pk, type=type, at=timezone.now(), data={"number": number, **data})
        for number in range(count)
    ]
