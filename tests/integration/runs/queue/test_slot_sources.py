"""What every ``SlotSource`` does: that of one process, and that in the database which all workers share."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from pyflow.execution.shared import ConcurrencyLimitError, RunParkedError, SkippedByLimitError, Slots, SlotSource
from runs.queue.leases import claim
from runs.queue.slots import states_of_tickets
from runs.storage.reader import Reader
from runs.worker.concurrency import DatabaseSlots
from tests.support.factories.rows import make_run

pytestmark = pytest.mark.database
#: So many turns of the event loop, and whatever could happen without waiting for anything has happened.
TURNS = 10
REFUSALS = [("skip", "skipped"), ("fail", "refused"), ("cancel_newest", "refused")]


class InMemory:
    """Sources of runs of one process."""

    def __init__(self) -> None:
        shared = Slots()
        self.sources: list[SlotSource] = [shared, shared, shared]

    async def rest(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)


class InDatabase(InMemory):
    """Sources of runs that are claimed, and the part of their executor's that looks after them."""

    def __init__(self, tenant) -> None:
        for _ in range(3):
            make_run(tenant)
        self.reader = Reader()
        self.sources = [DatabaseSlots(taken, self._call, Counter()) for taken in claim("me", 3)]

    async def _call(self, function: Any, *args: Any) -> Any:
        return await asyncio.wrap_future(self.reader.submit(function, *args))

    async def rest(self) -> None:
        for _ in range(3):  # what is asked for, what follows from that, and what follows from being told
            await super().rest()
            tickets = [ticket for source in self.sources for ticket in source.tickets]
            found = await self._call(states_of_tickets, tickets)
            for source in self.sources:
                source.settle(found)
        await super().rest()


@pytest.fixture(params=["in memory", "in the database"])
def slots(request, tenant) -> Iterator[InMemory]:
    if request.param == "in memory":
        yield InMemory()
    else:
        found = InDatabase(tenant)
        yield found
        found.reader.stop()


class Asker:
    """A task that asks for a slot, stays as long as it likes, and says what became of it."""

    def __init__(self, slot: AbstractAsyncContextManager[None], *, tidies_up: bool = False) -> None:
        self.state = "asks"
        self._let_go = asyncio.Event()
        self._tidied = asyncio.Event()
        if not tidies_up:
            self._tidied.set()
        self.task = asyncio.ensure_future(self._hold(slot))

    async def _hold(self, slot: AbstractAsyncContextManager[None]) -> None:
        try:
            async with slot, self._tidying():
                self.state = "inside"
                await self._let_go.wait()
            self.state = "left"
        except SkippedByLimitError:
            self.state = "skipped"
        except ConcurrencyLimitError:
            self.state = "refused"
        except RunParkedError:
            self.state = "parked"
        except asyncio.CancelledError:
            self.state = "cancelled"
            raise
        except ZeroDivisionError:
            self.state = "failed"

    @asynccontextmanager
    async def _tidying(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await self._tidied.wait()

    def leave(self) -> None:
        self._let_go.set()

    def has_tidied_up(self) -> None:
        self._tidied.set()


def ask(source: SlotSource, on_limit: str = "queue", limit: int = 1, key: str = "k", **how: Any) -> Asker:
    return Asker(source.hold(key, limit, on_limit, node_id="a"), **how)


def ask_for_run(source: SlotSource, on_limit: str = "queue") -> Asker:
    return Asker(source.hold_run("k", 1, on_limit, lambda: None))


def states(*askers: Asker) -> list[str]:
    return [asker.state for asker in askers]


async def test_no_more_than_the_limit_are_inside_and_the_others_follow_in_their_order(slots):
    askers = [ask(source, limit=2) for source in slots.sources for _ in range(2)]
    await slots.rest()
    for number in range(4):
        assert states(*askers) == ["left"] * number + ["inside"] * 2 + ["asks"] * (4 - number)
        askers[number].leave()
        await slots.rest()
    assert states(*askers) == ["left"] * 4 + ["inside"] * 2


@pytest.mark.parametrize(
    ("on_limit", "state"), [("skip", "skipped"), ("fail", "refused"), ("cancel_newest", "refused")]
)
async def test_who_is_not_to_wait_is_refused_at_once_and_leaves_nothing_behind(slots, on_limit, state):
    first = ask(slots.sources[0], on_limit)
    await slots.rest()
    second = ask(slots.sources[1], on_limit)
    await slots.rest()
    assert states(first, second) == ["inside", state]
    first.leave()
    await slots.rest()
    third = ask(slots.sources[1], on_limit)
    await slots.rest()
    assert states(first, third) == ["left", "inside"]


async def test_who_is_not_to_wait_is_refused_although_others_do(slots):
    first, second = ask(slots.sources[0]), ask(slots.sources[1])
    await slots.rest()
    third = ask(slots.sources[2], "fail")
    await slots.rest()
    assert states(first, second, third) == ["inside", "asks", "refused"]


async def test_the_oldest_makes_room_for_the_newest(slots):
    oldest, other = (ask(source, "cancel_oldest", 2) for source in slots.sources[:2])
    await slots.rest()
    newest = ask(slots.sources[2], "cancel_oldest", 2)
    await slots.rest()
    assert states(oldest, other, newest) == ["refused", "inside", "inside"]


async def test_one_that_makes_room_keeps_its_slot_until_it_has_left(slots):
    oldest = ask(slots.sources[0], "cancel_oldest", tidies_up=True)
    await slots.rest()
    newest = ask(slots.sources[1], "cancel_oldest")
    await slots.rest()
    assert states(oldest, newest) == ["inside", "asks"]
    oldest.has_tidied_up()
    await slots.rest()
    assert states(oldest, newest) == ["refused", "inside"]


async def test_of_those_that_wait_only_the_newest_stays(slots):
    oldest = ask(slots.sources[0], "cancel_oldest", tidies_up=True)
    await slots.rest()
    middle = ask(slots.sources[1], "cancel_oldest")
    await slots.rest()
    newest = ask(slots.sources[2], "cancel_oldest")
    await slots.rest()
    assert states(oldest, middle, newest) == ["inside", "refused", "asks"]
    oldest.has_tidied_up()
    await slots.rest()
    assert states(oldest, newest) == ["refused", "inside"]


async def test_no_more_go_than_is_needed(slots):
    askers = [ask(source, "cancel_oldest", 2, tidies_up=True) for source in slots.sources[:2]]
    await slots.rest()
    newest = ask(slots.sources[2], "cancel_oldest", 2)
    await slots.rest()
    for asker in askers:
        asker.has_tidied_up()
    await slots.rest()
    assert states(*askers, newest) == ["refused", "inside", "inside"]


async def test_an_error_gives_the_slot_back(slots):
    class Fails(Asker):
        @asynccontextmanager
        async def _tidying(self) -> AsyncIterator[None]:
            yield
            _ = 1 / 0

    first, second = Fails(slots.sources[0].hold("k", 1, "queue")), ask(slots.sources[1])
    await slots.rest()
    first.leave()
    await slots.rest()
    assert states(first, second) == ["failed", "inside"]


async def test_one_that_is_cancelled_gives_its_slot_back(slots):
    first, second = ask(slots.sources[0]), ask(slots.sources[1])
    await slots.rest()
    first.task.cancel()
    await slots.rest()
    assert states(first, second) == ["cancelled", "inside"]


async def test_one_that_is_cancelled_while_it_waits_is_passed_over(slots):
    first, second, third = (ask(source) for source in slots.sources)
    await slots.rest()
    second.task.cancel()
    await slots.rest()
    first.leave()
    await slots.rest()
    assert states(first, second, third) == ["left", "cancelled", "inside"]


async def test_one_that_is_cancelled_while_it_asks_leaves_nothing_behind(slots):
    first = ask(slots.sources[0])
    await asyncio.sleep(0)
    first.task.cancel()
    await slots.rest()
    second = ask(slots.sources[1], "fail")
    await slots.rest()
    assert states(first, second) == ["cancelled", "inside"]


async def test_attempts_of_one_run_are_slots_like_all_others(slots):
    first, second = ask(slots.sources[0]), ask(slots.sources[0])
    await slots.rest()
    assert states(first, second) == ["inside", "asks"]


async def test_each_key_has_slots_of_its_own(slots):
    askers = [ask(slots.sources[0], key=key) for key in ("k", "K", "", "k ", "k\0", "\N{SNOWMAN}", "k" * 10_000)]
    await slots.rest()
    assert {asker.state for asker in askers} == {"inside"}


async def test_a_run_without_a_slot_does_not_begin(slots):
    first = ask_for_run(slots.sources[0])
    await slots.rest()
    second = ask_for_run(slots.sources[1])
    await slots.rest()
    assert first.state == "inside"
    assert second.state in {"asks", "parked"}


@pytest.mark.parametrize(
    ("on_limit", "state"), [("skip", "skipped"), ("fail", "refused"), ("cancel_newest", "refused")]
)
async def test_a_run_that_is_not_to_wait_is_refused_at_once(slots, on_limit, state):
    first = ask_for_run(slots.sources[0], on_limit)
    await slots.rest()
    second = ask_for_run(slots.sources[1], on_limit)
    await slots.rest()
    assert states(first, second) == ["inside", state]


async def test_keys_of_runs_and_of_nodes_have_nothing_to_do_with_each_other(slots):
    askers = [ask_for_run(slots.sources[0]), ask(slots.sources[0]), ask(slots.sources[1])]
    await slots.rest()
    assert states(*askers) == ["inside", "inside", "asks"]
