"""What one tenant has locked holds up nobody else's runs: not their leases, their facts, their claims."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.utils import timezone

from runs.models import Run
from runs.queue.leases import claim, held_by, renew
from runs.services.bulk import BATCH
from runs.services.end import TERMINATED, end_run, end_unstarted
from runs.services.start import Start, Started, start_runs
from runs.services.stop_children import STOPPED_AT_ONCE, stop_orphans
from runs.services.terminate import terminate_run
from runs.storage import retention
from runs.storage.writer import GroupWriter, store
from tenants import audit, quotas
from tenants.errors import QuotaExceededError
from tenants.models import Tenant
from tenants.plans import Quota
from tests.support import waiting
from tests.support.api import Api, read
from tests.support.factories import records
from tests.support.factories.nodes import workflow
from tests.support.factories.rows import a_test, make_api_key, make_run, make_tenant, make_workflow
from tests.support.servers.locks import waiters

pytestmark = pytest.mark.fleet


def locked(*runs: Run) -> AbstractContextManager[None]:
    """Have another transaction lock runs, as one that waits for something does."""
    rows = Run.objects.across_tenants().filter(pk__in=[run.pk for run in runs])
    return other_transaction(lambda: list(rows.select_for_update(no_key=True)))


@contextmanager
def other_transaction(work: Callable[[], object]) -> Iterator[None]:
    """Have another transaction do something, which is rolled back afterwards."""

    def begin() -> None:
        transaction.set_autocommit(False)
        work()

    def let_go() -> None:
        transaction.rollback()
        connection.close()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(begin).result()
        try:
            yield
        finally:
            pool.submit(let_go).result()


def free(run_ids: Iterable[UUID]) -> set[UUID]:
    """Those of the runs that nobody has locked."""
    rows = Run.objects.across_tenants().filter(pk__in=list(run_ids))
    with transaction.atomic():
        return set(rows.select_for_update(no_key=True, skip_locked=True).values_list("pk", flat=True))


def test_leases_are_renewed_beside_a_run_that_is_locked(tenant):
    mine, others = make_run(tenant), make_run(make_tenant())
    claim("me", 2)
    leases = [(mine.pk, 1), (others.pk, 1)]
    with locked(others):
        assert renew("me", leases) == {mine.pk}
        assert held_by("me", [(others.pk, 1)]) == {others.pk}
    assert renew("me", leases) == {mine.pk, others.pk}


def test_facts_are_stored_beside_a_run_that_is_locked_and_its_own_in_their_order_afterwards(tenant):
    run, busy = make_run(tenant), make_run(make_tenant())
    claims = {taken.run_id: taken for taken in claim("me", 2)}

    async def write() -> None:
        writer = GroupWriter()
        writer.start()
        first, second = (records.new_write(claims[busy.pk]) for _ in range(2))
        first.changes, second.changes = {"losses": 1}, {"losses": 2}
        with locked(busy):
            waiting_ones = [asyncio.ensure_future(writer.commit(write)) for write in (first, second)]
            for number in (1, 2):
                other = records.new_write(claims[run.pk])
                other.changes = {"losses": number}
                await writer.commit(other)
            assert not any(one.done() for one in waiting_ones)
        await asyncio.gather(*waiting_ones)
        await writer.stop()

    asyncio.run(write())
    assert {row.pk: row.losses for row in Run.objects.across_tenants()} == {run.pk: 2, busy.pk: 2}


def test_a_fenced_writer_gets_its_error_although_the_run_is_locked(tenant):
    run = make_run(tenant)
    [old] = claim("me", 1)
    Run.objects.across_tenants().update(epoch=old.epoch + 1)
    with locked(run):
        write = records.new_write(old)
        assert store([write]) == {run.pk}
        assert not write.busy


def test_the_sweep_passes_over_what_is_locked(tenant):
    late, busy = make_run(tenant), make_run(tenant)
    Run.objects.across_tenants().update(queue_deadline=timezone.now() - timedelta(seconds=1))
    with locked(busy):
        assert end_unstarted() == 1
    assert end_unstarted() == 1
    states = {run.pk: run.state for run in Run.objects.across_tenants()}
    assert states == {late.pk: "timed_out", busy.pk: "timed_out"}


@pytest.mark.parametrize("action", ["pause", "cancel", "terminate"])
def test_bulk_actions_hold_few_runs_while_they_wait_for_the_audit(tenant, action):
    runs, api = many_runs(tenant, 4 * BATCH), Api(make_api_key(tenant)[1])
    parts = [runs[: 2 * BATCH], runs[2 * BATCH :]]

    def ask(run_ids: list[UUID]) -> dict[str, object]:
        try:
            answer: dict[str, object] = read(
                api.post("/api/v1/runs/actions", {"action": action, "runs": [str(run_id) for run_id in run_ids]})
            )
            return answer
        finally:
            connection.close()

    with ThreadPoolExecutor(len(parts)) as pool:
        with transaction.atomic():
            audit.take_turn(tenant.pk)
            asked = []
            for count, part in enumerate(parts, start=1):
                asked.append(pool.submit(ask, part))
                waiting.until(lambda count=count: waiters() == count, what="request that waits")
            held = len(runs) - len(free(runs))
        assert [done.result()["accepted"] for done in asked] == [2 * BATCH, 2 * BATCH]
    assert 0 < held <= BATCH, "one request waits for the audit, the other one for its turn, which locks nothing"


def test_terminating_a_large_family_locks_none_of_it_while_it_waits_for_the_audit(tenant):
    parent, children = family(tenant, "request_cancel", STOPPED_AT_ONCE + 5)

    def terminate() -> None:
        terminate_run(by=a_test(tenant), run_id=parent.pk)
        connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            audit.take_turn(tenant.pk)
            asked = pool.submit(terminate)
            waiting.until(lambda: waiters() == 1, what="request that waits")
            assert free(children) == set(children)
            assert free([parent.pk]) == set()
        asked.result()
    left = Run.objects.for_tenant(tenant).filter(parent=parent, cancel_requested_at=None)
    assert left.count() == 5, "those are left to a sweep"
    with other_transaction(lambda: audit.take_turn(tenant.pk)):
        assert stop_orphans() == 0, "it waits for no audit"
    with locked(Run.objects.for_tenant(tenant).get(pk=left[0].pk)):
        assert stop_orphans() == 4, "nor for a run"
    assert stop_orphans() == 1
    assert not Run.objects.for_tenant(tenant).filter(children_to_stop=True).exists()


def test_prune_holds_no_run_while_it_waits_for_the_audit(tenant):
    runs = many_runs(tenant, 5)
    for run_id in runs:
        end_run(run_id=run_id, ending=TERMINATED)

    def remove() -> None:
        retention.prune(tenant=tenant, older_than=timedelta(0))
        connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            audit.take_turn(tenant.pk)
            asked = pool.submit(remove)
            waiting.until(lambda: waiters() == 1, what="removal that waits")
            assert free(runs) == set(runs)
        asked.result()
    assert not Run.objects.for_tenant(tenant).exists()


def test_large_values_are_recorded_beside_a_counter_that_is_locked(tenant):
    """A start of a limited tenant has its counter, and waits for something."""
    quotas.set_plan(tenant=tenant, plan="enterprise", overrides={"stored_bytes": 10**9}, by=a_test(tenant))
    make_run(tenant)
    [claimed] = claim("me", 1)
    before = quotas.counter(tenant_id=tenant.pk, quota=Quota.STORED_BYTES)
    write = records.new_write(claimed)
    write.value_bytes = 70_000
    with other_transaction(lambda: quotas.add_stored_bytes(tenant_id=tenant.pk, amount=1)):
        assert store([write]) == set()
        assert not write.busy
    assert quotas.counter(tenant_id=tenant.pk, quota=Quota.STORED_BYTES) == before + 70_000
    with pytest.raises(QuotaExceededError):
        quotas.add_stored_bytes(tenant_id=tenant.pk, amount=10**9 - before - 70_000 + 1)
    quotas.set_plan(tenant=tenant, plan="enterprise", overrides={"stored_bytes": 10**8}, by=a_test(tenant))
    assert quotas.counter(tenant_id=tenant.pk, quota=Quota.STORED_BYTES) == before + 70_000


def family(tenant: Tenant, on_parent_cancel: str, count: int) -> tuple[Run, list[UUID]]:
    """A run that waits for its children, which are queued."""
    parent, *children = many_runs(tenant, count + 1)
    rows = Run.objects.for_tenant(tenant).filter(pk__in=children)
    rows.update(parent=parent, on_parent_cancel=on_parent_cancel)
    return Run.objects.for_tenant(tenant).get(pk=parent), children


def many_runs(tenant: Tenant, count: int) -> list[UUID]:
    make_workflow(tenant, workflow("{id: x, type: log, config: {message: hello}}", name="many"))
    started = start_runs(by=a_test(tenant), workflow_name="many", starts=[Start() for _ in range(count)])
    return [one.run.pk for one in started if isinstance(one, Started)]
