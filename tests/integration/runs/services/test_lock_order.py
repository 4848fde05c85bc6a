"""Verbs that lock a run with those below it lock them in the order of everybody else: none waits in a circle."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from runs.models import NodeRun, Run
from runs.services.cancel import cancel_run
from runs.services.end import TERMINATED, end_run
from runs.services.locks import lock_any_run, lock_families
from runs.services.retry import retry_run
from runs.services.start import start_version
from runs.services.terminate import terminate_run
from tests.support import waiting
from tests.support.factories.children import executed, start_child
from tests.support.factories.nodes import workflow
from tests.support.factories.rows import make_workflow
from tests.support.processes.running import operator, state_of
from tests.support.servers.locks import waiters

pytestmark = pytest.mark.fleet
#: A run whose children have lesser ids: of those that are made in the usual way, one child in a few hundred has.
GREATEST = UUID(int=2**128 - 1)


@pytest.fixture
def parent(tenant) -> Run:
    make_workflow(tenant, workflow("{id: x, type: log, config: {message: hello}}", name="child"))
    nodes = [f"{{id: {name}, type: workflow, config: {{workflow: child}}}}" for name in "ab"]
    return start_version(version=make_workflow(tenant, workflow(*nodes)), input={}, run_id=GREATEST)


def child_of(parent: Run, node_id: str, on_parent_cancel: str) -> Run:
    """The child run of a node of its parent, which waits for it."""
    NodeRun.objects.create(tenant_id=parent.tenant_id, run=parent, node_id=node_id, state="waiting", attempts=1)
    return start_child(executed(parent), node_id, on_cancel=on_parent_cancel)


def meanwhile(locked: Run, verb: Callable[[], object], other: Callable[[], object]) -> None:
    """Begin ``verb`` after the row ``locked`` was locked and, once it waits, do ``other`` and commit.

    Both would go on for ever, and the database ends one of them, if ``other`` needed anything that ``verb`` has.
    """
    began = threading.Event()

    def locks_first() -> None:
        try:
            with transaction.atomic():
                lock_any_run(locked.tenant_id, locked.pk)
                began.set()
                waiting.until(waiters, what="verb that waits")
                other()
        finally:
            began.set()
            connection.close()

    def comes_second() -> None:
        try:
            assert began.wait(20)
            verb()
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(locks_first), pool.submit(comes_second)]:
            done.result()


@pytest.mark.parametrize("on_parent_cancel", ["terminate", "request_cancel"])
def test_a_run_is_terminated_while_a_child_of_it_ends(parent, on_parent_cancel):
    child = child_of(parent, "a", on_parent_cancel)
    meanwhile(
        child,
        lambda: terminate_run(by=operator(parent), run_id=parent.pk),
        lambda: end_run(run_id=child.pk, ending=TERMINATED),
    )
    assert (state_of(parent), state_of(child)) == ("cancelled", "cancelled")


def test_a_run_is_terminated_while_somebody_cancels_a_child_of_it(parent):
    children = [child_of(parent, node_id, "request_cancel") for node_id in "ab"]
    last = min(children, key=lambda child: child.pk)  # the entry of the other one is in the audit before it is locked
    meanwhile(
        last,
        lambda: terminate_run(by=operator(parent), run_id=parent.pk),
        lambda: cancel_run(by=operator(last), run_id=last.pk),
    )
    assert state_of(parent) == "cancelled"
    for child in children:
        child.refresh_from_db()
        assert child.cancel_requested_at is not None


def test_a_run_is_retried_while_a_child_of_it_is_ended(parent):
    child = child_of(parent, "a", "terminate")
    terminate_run(by=operator(parent), run_id=parent.pk)
    meanwhile(
        child,
        lambda: retry_run(by=operator(parent), run_id=parent.pk),
        lambda: end_run(run_id=child.pk, ending=TERMINATED),
    )
    assert (state_of(parent), state_of(child)) == ("queued", "queued")


def test_a_child_that_is_started_before_its_parent_could_be_locked_is_locked_in_its_place(parent):
    children: list[Run] = []
    locks: list[str] = []

    def lock() -> None:
        with CaptureQueriesContext(connection) as queries, transaction.atomic():
            lock_families(parent.tenant_id, [parent.pk])
        locks.extend(query["sql"] for query in queries if "FOR NO KEY UPDATE" in query["sql"])

    meanwhile(parent, lock, lambda: children.append(child_of(parent, "a", "terminate")))
    named = [[run.pk.hex in sql for run in (*children, parent)] for sql in locks]
    assert named[:2] == [[False, True], [True, True]]
    terminate_run(by=operator(parent), run_id=parent.pk)
    assert [state_of(run) for run in (parent, *children)] == ["cancelled", "cancelled"]
