"""Many runs end at about the same time, and streams, an event trigger and a webhook endpoint follow each of them."""

import asyncio
import re
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from django.db.models import Max, Min

from events.models import Delivery
from runs.models import EventRecord, Run
from runs.services.start import Start, Started, start_runs
from tenants.models import Tenant
from tests.support import waiting
from tests.support.factories.hooks import with_triggers
from tests.support.factories.rows import a_test, make_workflow
from tests.support.factories.webhooks import make_endpoint
from tests.support.servers.receiver import Receiver

WORK = "version: 2\nname: work\nnodes: [{id: a, type: transform, config: {input: 1, expression: $}}]\n"
#: Runs of one request.
BATCH = 1_000
_FRAME = re.compile(rb'id: ([^\n]+)\n(?:[^\n]+\n)*?data: [^\n]*?"run_id": ?"([0-9a-f-]{36})"[^\n]*\n\n')


class Streams(threading.Thread):
    """Streams of the ends of the runs of `work`, on an event loop of their own: the runs that each reported, in order.

    A stream that the server ends is resumed from the last id.
    """

    def __init__(self, address: str, credential: str, count: int) -> None:
        super().__init__(daemon=True, name="streams")
        self._host, _, self._port = address.partition(":")
        self._credential = credential
        self.reported: list[list[str]] = [[] for _ in range(count)]
        self._names: dict[bytes, str] = {}  # one text for all streams
        self._opened = 0
        self._loop = asyncio.new_event_loop()
        self._all: asyncio.Future[Any] = self._loop.create_future()
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        self.start()
        waiting.until(lambda: self._opened == len(self.reported) or self._error, 120, "open streams")
        self.check()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._all.cancel)
        self.join()

    def check(self) -> None:
        """Raise what has ended the thread."""
        if self._error is not None:
            raise AssertionError("the streams broke off") from self._error

    def run(self) -> None:
        """Follow until it is left."""
        try:
            self._loop.run_until_complete(self._follow_all())
        except asyncio.CancelledError:
            pass
        except Exception as error:  # shown by the test that waits
            self._error = error
        finally:
            self._loop.close()

    async def _follow_all(self) -> None:
        self._all = asyncio.gather(*map(self._follow, self.reported))
        await self._all

    async def _follow(self, reported: list[str]) -> None:
        after = "now"
        while True:
            reader, writer = await asyncio.open_connection(self._host, int(self._port))
            writer.write(
                f"GET /api/v1/events?type=run.succeeded&workflow=work&after={after} HTTP/1.1\r\nHost: {self._host}\r\n"
                f"Accept: text/event-stream\r\nAuthorization: {self._credential}\r\n\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in head.partition(b"\r\n")[0], head + await reader.read(2000)
            self._opened += after == "now"
            try:
                after = await self._read(reader, reported) or after
            finally:
                writer.close()

    async def _read(self, reader: asyncio.StreamReader, reported: list[str]) -> str:
        """Note what a stream reports until its end; the last id, if there is one."""
        buffer, last = b"", ""
        while size := int(await reader.readline() or b"0", 16):  # a chunk (RFC 9112 7.1), which may end within a frame
            buffer += await reader.readexactly(size)
            await reader.readline()
            end = 0
            for frame in _FRAME.finditer(buffer):
                last, end = frame[1].decode(), frame.end()
                reported.append(self._names.setdefault(frame[2], frame[2].decode()))
            buffer = buffer[end:]
        return last


@dataclass
class Storm:
    """Runs of `work`, all of which have succeeded in the end, and what follows them."""

    tenant: Tenant

    def __post_init__(self) -> None:
        make_workflow(self.tenant, WORK)

    def follow(self, receiver: Receiver) -> None:
        """Have a trigger start a run of `after` for each end, and an endpoint be sent it."""
        config = "{on: run.succeeded, workflow: work, input: {of: '{{ trigger.event.run_id }}'}}"
        trigger = f"{{id: on, type: event, config: {config}}}"
        make_workflow(self.tenant, with_triggers(trigger, name="after", inputs="{type: object}"))
        make_endpoint(self.tenant, receiver.url, types=["run.succeeded"], workflows=["work"])

    def pass_over(self, count: int, seconds: float = 60) -> tuple[set[UUID], float]:
        """Start runs, and wait for their ends; the runs, and how many have ended a second."""
        started: set[UUID] = set()
        while len(started) < count:
            starts = [Start()] * min(BATCH, count - len(started))
            outcomes = start_runs(by=a_test(self.tenant), workflow_name="work", starts=starts)
            started |= {outcome.run.pk for outcome in outcomes if isinstance(outcome, Started)}
        runs = Run.objects.for_tenant(self.tenant).filter(pk__in=started)
        waiting.until(lambda: runs.filter(state="succeeded").count() == count, seconds, f"end of {count} runs")
        times = runs.aggregate(begin=Min("started_at"), end=Max("finished_at"))
        return started, count / (times["end"] - times["begin"]).total_seconds()

    def assert_nothing_is_lost(
        self, runs: set[UUID], streams: Streams, receiver: Receiver, seconds: float = 60
    ) -> None:
        """Wait until each end has reached each stream once, has triggered one run, and was delivered once."""
        ends = EventRecord.objects.for_tenant(self.tenant).filter(type="run.succeeded", run__in=runs)
        expected = {str(event.pk): str(event.run_id) for event in ends.only("pk", "run_id")}
        assert sorted(expected.values()) == sorted(map(str, runs))

        there: dict[str, int] = {}

        def all_are_there() -> bool:
            streams.check()
            after = Run.objects.for_tenant(self.tenant).filter(workflow__name="after", state="succeeded").count()
            there["triggered"] = after
            there["delivered"] = Delivery.objects.for_tenant(self.tenant).filter(state="delivered").count()
            there["reported"] = min(map(len, streams.reported))
            return min(there.values()) >= len(runs)

        try:
            waiting.until(all_are_there, seconds, "reports, triggered runs and deliveries of all ends")
        except AssertionError as error:
            raise AssertionError(f"of {len(runs):,} ends there are {there}") from error
        assert Counter(streams.reported[0]) == Counter(expected.values())
        assert all(reported == streams.reported[0] for reported in streams.reported), "streams differ"
        after = Run.objects.for_tenant(self.tenant).filter(workflow__name="after")
        assert Counter(given["of"] for given in after.values_list("input", flat=True)) == Counter(expected.values())
        delivered = Delivery.objects.for_tenant(self.tenant).values_list("event_id", flat=True)
        assert Counter(map(str, delivered)) == Counter(expected.keys())
        assert len({item.id for item in receiver.received}) == len(receiver.received) == len(runs)
