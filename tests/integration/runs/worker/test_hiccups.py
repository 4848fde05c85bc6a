"""Executors and a database that does not answer, or whose rows others have locked: no node fails, and nobody waits."""

import threading

import pytest
from django.db import OperationalError, connection, transaction

from runs.models import Run
from runs.queue import node_tasks, slots
from runs.queue.leases import claim, held_by, release
from runs.services.start_child import ChildStarts
from runs.worker import concurrency
from tests.support.factories.nodes import workflow
from tests.support.factories.rows import make_run, make_tenant, make_workflow
from tests.support.invariants import written_by_hand
from tests.support.processes.running import ended, executing

CALLED = "{id: call, type: workflow, concurrency: {key: k}, config: {workflow: child}}"
ANSWERS = {
    "the start of a child run": (ChildStarts, "start", CALLED),
    "a slot": (concurrency, "enter", CALLED),
    "a node task": (node_tasks, "insert_tasks", "{id: call, type: log, config: {message: hello}}"),
}


@pytest.mark.database
@pytest.mark.parametrize("what", ANSWERS)
def test_an_answer_of_the_database_that_is_lost_fails_no_node(tenant, monkeypatch, what: str):
    """It was done, and is asked for once more."""
    place, name, node = ANSWERS[what]
    ask, asked = getattr(place, name), []

    def lose_the_first(*args: object) -> object:
        answer = ask(*args)
        asked.append(answer)
        if len(asked) == 1:
            raise OperationalError("the connection is lost")
        return answer

    monkeypatch.setattr(place, name, lose_the_first)
    make_workflow(tenant, workflow("{id: x, type: log, config: {message: hello}}", name="child"))
    settings = {"settings": "{distribute: true}"} if what == "a node task" else {}
    run = make_run(tenant, workflow(node, name="parent", **settings))
    other = make_run(make_tenant())
    with executing():
        ended(run, "succeeded")
        ended(other, "succeeded")
    assert len(asked) == 2 or what == "a node task"  # which may be done by then
    assert Run.objects.across_tenants().filter(parent=run).count() == (0 if what == "a node task" else 1)


@pytest.mark.fleet
@written_by_hand
def test_what_sweeps_and_hands_back_waits_for_no_other_transaction(tenant):
    run, other = make_run(tenant), make_run(make_tenant())
    assert len(claim("me", 2)) == 2
    mine, others = (run.pk, 2), (other.pk, 1)
    ticket = slots.Ticket(tenant_id=tenant.pk, run_id=run.pk, key="k", limit=1, on_limit="queue", priority=5,
                          node_id="n", run_epoch=1)  # fmt: skip
    assert slots.enter(ticket) is slots.Verdict.HELD
    Run.objects.across_tenants().filter(pk=run.pk).update(epoch=2)
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                slots._locked_lane(tenant.pk, ticket.lane)
                list(Run.objects.for_tenant(tenant).select_for_update(no_key=True).filter(pk=run.pk))
                locked.set()
                assert done.wait(60)
        finally:
            connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert locked.wait(60)
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '1ms'")  # to wait is an error
        assert slots.reconcile() == 0
        assert release("me", {mine, others}) == {other.pk}
        assert held_by("me", {mine}) == {run.pk}
    finally:
        done.set()
        thread.join(60)
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = 0")
    assert slots.reconcile() == 1
    assert release("me", {mine}) == {run.pk}
