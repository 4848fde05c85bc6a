"""Waiting for the end of a run: what wakes, and what is left afterwards."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID

import pytest

from pyflow.core.bus import MemoryBus
from pyflow.core.ids import new_uuid
from runs.notify.current import using
from runs.notify.endings import ENDED, EndWaiters, Pauses
from runs.notify.notifications import Notifications
from runs.notify.redis_bus import RedisBus
from tests.support import waiting
from tests.support.api import Api, read
from tests.support.factories.rows import make_api_key, make_tenant, make_workflow
from tests.support.processes.running import executing
from tests.support.servers import launcher
from tests.support.servers.event_bus import QUICK, Notes

#: Nobody looks without a notification.
PATIENT = Pauses(first=600.0, longest=600.0, idle=0.0)


@pytest.fixture
def patient(bus: MemoryBus) -> Iterator[None]:
    with using(Notifications(bus, waiters=EndWaiters(bus, PATIENT))):
        yield


@pytest.mark.database
@pytest.mark.timeout(50)  # who is not woken looks after the 60 s that were asked for
def test_an_executor_in_this_process_wakes_the_request(transactional_db, patient):
    tenant = make_tenant()
    make_workflow(tenant)
    with executing():
        response = Api(make_api_key(tenant)[1]).post(
            "/api/v1/workflows/hello/runs", {"input": {"who": "Ada"}}, prefer="wait=60"
        )
    assert (response.status_code, response.headers["Preference-Applied"]) == (200, "wait=60")
    assert (read(response)["state"], read(response)["outputs"]) == ("succeeded", {"greeting": "Hello Ada"})


@pytest.fixture
def redis_bus() -> Iterator[RedisBus]:
    with launcher.redis() as url:
        bus = RedisBus(f"{url}/28", replace(QUICK, look=0.1))
        yield bus
        bus.close()


@pytest.mark.fleet
def test_the_end_that_another_process_publishes_wakes_through_redis(redis_bus: RedisBus):
    waiters, run_id, ended = EndWaiters(redis_bus, PATIENT), new_uuid(), threading.Event()
    other = Notifications(RedisBus(redis_bus.url, QUICK))
    thread = threading.Thread(target=lambda: waiters.await_ends([run_id], 600, ended.is_set), daemon=True)
    thread.start()

    def has_returned() -> bool:
        ended.set()
        other.bus.publish(ENDED, str(run_id))
        return not thread.is_alive()

    waiting.until(has_returned, what="end of the wait")
    waiting.until(lambda: not listening(), what="end of the listener when no request waits")


def listening() -> bool:
    return any(thread.name == "pyflow-bus-listener" for thread in threading.enumerate())


def test_requests_share_a_subscription_that_is_closed_when_none_has_waited_for_a_while():
    bus = MemoryBus()
    waiters = EndWaiters(bus, PATIENT)
    for _ in range(3):
        assert waiters.await_ends([new_uuid()], 0.001, lambda: False) is False
    counts: list[int] = []
    bus.publish_counted(ENDED, str(new_uuid()), counts.append)
    bus.publish_counted(ENDED, str(new_uuid()), counts.append)
    assert counts == [1, 0]


def test_a_request_is_woken_by_the_ends_of_its_runs_and_by_missed_notifications_only():
    bus, run_id, looked = MemoryBus(), new_uuid(), threading.Semaphore(0)
    waiters = EndWaiters(bus, PATIENT)
    answers = iter([False, False, True])

    def have_ended() -> bool:
        looked.release()
        return next(answers)

    thread = threading.Thread(target=lambda: waiters.await_ends([run_id], 600, have_ended), daemon=True)
    thread.start()
    assert looked.acquire(timeout=60), "it looks at first"
    bus.publish(ENDED, f"{new_uuid()},{new_uuid()}")
    bus.publish(ENDED, "not an id")
    assert not looked.acquire(timeout=0.05)
    bus.miss()
    assert looked.acquire(timeout=60)
    bus.publish(ENDED, f"{new_uuid()},{run_id}")
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.django_db(transaction=True)
def test_very_many_ends_are_published_in_messages_that_a_bus_carries():
    bus, notes = MemoryBus(), Notes()
    bus.subscribe([ENDED], notes)
    ended = [new_uuid() for _ in range(1000)]
    Notifications(bus).notify_ended(ended)
    assert [UUID(text) for it in notes.taken for text in it.message.split(",")] == ended
