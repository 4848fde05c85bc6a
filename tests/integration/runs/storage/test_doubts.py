"""A connection that is lost at the commit of a batch: whether it is stored is unknown, and nothing is stored twice."""

import time
from functools import partial

import pytest
from django.db import OperationalError

from pyflow.core.events import Event, EventType
from runs.models import EventRecord
from runs.queue.leases import claim
from runs.storage import writer
from runs.storage.writer import GroupWriter, Write
from tests.support.factories.rows import make_run, make_tenant
from tests.support.invariants import written_by_hand

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True), written_by_hand]


@pytest.fixture
def writes() -> list[Write]:
    """Two events, one after the other, of a run of each of two tenants; nothing of them is stored."""
    claims = [claim("an executor", 1, make_run(make_tenant()).pk)[0] for _ in range(2)]
    return [
        Write(
            claimed.run_id,
            claimed.tenant_id,
            claimed.epoch,
            events=[Event(type, str(claimed.run_id), "hello", 0, time.time(), None, {"state": "running"})],
        )
        for type in (EventType.RUN_STARTED, EventType.RUN_PAUSED)
        for claimed in claims
    ]


def losing(monkeypatch: pytest.MonkeyPatch, *, commits: bool) -> None:
    """Lose the connection once while a batch is stored: after its commit, or before."""
    whole, lost = writer.store, iter([True])

    def store(writes: list[Write]) -> set:
        if next(lost, False):
            if commits:
                whole(writes)
            raise OperationalError("the connection is closed")
        return whole(writes)

    monkeypatch.setattr(writer, "store", store)


def types() -> list[tuple[int, str]]:
    events = EventRecord.objects.across_tenants().filter(run__isnull=False).order_by("run", "seq")
    return list(events.values_list("seq", "type"))


@pytest.mark.parametrize("commits", [True, False])
def test_what_is_in_doubt_is_stored_once(monkeypatch: pytest.MonkeyPatch, writes: list[Write], commits: bool):
    losing(monkeypatch, commits=commits)
    outcomes = GroupWriter()._store(writes)
    assert sorted(map(id, writes)) == sorted(id(write) for write, _ in outcomes)
    assert {error for _, error in outcomes} == {None}
    assert types() == [(1, "run.queued"), (2, "run.started"), (3, "run.paused")] * 2


def test_what_nobody_can_ask_for_is_not_stored_again(monkeypatch: pytest.MonkeyPatch, writes: list[Write]):
    losing(monkeypatch, commits=True)
    monkeypatch.setattr(writer, "_look_for", partial(fail, "the database is away"))
    outcomes = GroupWriter()._store(writes)
    assert {str(error) for _, error in outcomes} == {"the database is away"}
    assert len(types()) == 6


def fail(message: str, *_: object) -> None:
    raise OperationalError(message)
