"""Ordinary requests that meet at a busy row never wait for each other in a circle, whichever two of them meet.

PostgreSQL checks a foreign key when a transaction is committed: the inserting transaction then waits for whoever has
locked the row that it refers to, and holds all that it has locked by then. Here one transaction inserts, the other one
has locked what the first refers to, and both wait for a third, which holds the tenant's counters and the head of its
audit.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from plumbing.database.transactions import retried
from pyflow.core.errors import PyFlowError
from runs.models import Run
from runs.services.cancel import cancel_run
from runs.services.end import TERMINATED, end_run
from runs.services.pause import pause_run
from runs.services.reruns import rerun
from runs.services.retry import retry_run
from runs.services.signals import signal_run
from runs.services.start import Start, start_run, start_runs
from runs.services.terminate import terminate_run
from runs.storage.retention import prune
from secrets_vault.services import create_secret
from tenants import quotas
from tenants.models import AuditHead, Tenant, UsageCounter
from tenants.services import rename_tenant
from tests.support import waiting
from tests.support.factories.rows import HELLO, a_test, make_run, make_workflow
from tests.support.servers.locks import waiters
from workflows.models import Workflow
from workflows.services import archive_workflow, delete_workflow, patch_workflow, put_workflow
from workflows.versions import create_draft, publish_version, rollback

pytestmark = pytest.mark.fleet
#: Limits, so that all requests of the tenant take from the same counters.
LIMITS = {"runs_per_day": 10_000, "stored_bytes": 10**9}
WAITING = HELLO.rstrip() + "\n  - {id: go, type: signal, config: {name: go}}\n"
OTHER = HELLO.replace("Greets", "Greets again")


@dataclass
class RunsToLock:
    """A tenant with a workflow, a run that has ended, one that has not, and a repetition of one."""

    tenant: Tenant
    ended: Run
    live: Run
    repeated: Run


@pytest.fixture
def world(tenant) -> RunsToLock:
    quotas.set_plan(tenant=tenant, plan="enterprise", overrides=LIMITS, by=a_test(tenant))
    ended, live = make_run(tenant, WAITING), make_run(tenant, WAITING)
    end_run(run_id=ended.pk, ending=TERMINATED)
    repeated = rerun(by=a_test(tenant), run_id=ended.pk, start_from=None, version="original")
    end_run(run_id=repeated.pk, ending=TERMINATED)
    create_draft(by=a_test(tenant), name="hello", source=OTHER, source_format="yaml")
    Run.objects.for_tenant(tenant).filter(pk=ended.pk).update(
        created_at=timezone.now() - timedelta(days=9), finished_at=timezone.now() - timedelta(days=8)
    )
    return RunsToLock(tenant, ended, live, repeated)


def start_one(world: RunsToLock) -> None:
    start_run(by=a_test(world.tenant), workflow_name="hello", start=Start(input={"who": "Ada"}))


def start_many(world: RunsToLock) -> None:
    starts = [Start(input={"who": "Ada"}, key=f"{number}") for number in range(5)]
    start_runs(by=a_test(world.tenant), workflow_name="hello", starts=starts)


def repeat_the_ended(world: RunsToLock) -> None:
    rerun(by=a_test(world.tenant), run_id=world.ended.pk, start_from=None, version="original")


def repeat_the_live(world: RunsToLock) -> None:
    rerun(by=a_test(world.tenant), run_id=world.live.pk, start_from=None, version="original")


def store_a_secret(world: RunsToLock) -> None:
    create_secret(by=a_test(world.tenant), name="TOKEN", value="a value")


def put(world: RunsToLock) -> None:
    put_workflow(by=a_test(world.tenant), name="hello", source=OTHER, source_format="yaml")


def patch(world: RunsToLock) -> None:
    patch_workflow(by=a_test(world.tenant), name="hello", patch={"description": "Greets others"})


def archive(world: RunsToLock) -> None:
    archive_workflow(by=a_test(world.tenant), name="hello", archived=True)


def publish(world: RunsToLock) -> None:
    publish_version(by=a_test(world.tenant), name="hello", number=2)


def roll_back(world: RunsToLock) -> None:
    rollback(by=a_test(world.tenant), name="hello", number=1)


def rename(world: RunsToLock) -> None:
    with transaction.atomic():
        row = Tenant.objects.select_for_update(no_key=True).get(pk=world.tenant.pk)
        rename_tenant(by=a_test(world.tenant), tenant=row, name="Another")


def change_the_plan(world: RunsToLock) -> None:
    overrides = LIMITS | {"runs_per_day": 20_000}
    quotas.set_plan(tenant=world.tenant, plan="enterprise", overrides=overrides, by=a_test(world.tenant))


def pause(world: RunsToLock) -> None:
    pause_run(by=a_test(world.tenant), run_id=world.live.pk)


def cancel(world: RunsToLock) -> None:
    cancel_run(by=a_test(world.tenant), run_id=world.live.pk)


def terminate(world: RunsToLock) -> None:
    terminate_run(by=a_test(world.tenant), run_id=world.live.pk)


def signal(world: RunsToLock) -> None:
    signal_run(by=a_test(world.tenant), sender=None, run_id=world.live.pk, name="go", payload=None, signal_id=None)


def retry_the_ended(world: RunsToLock) -> None:
    retry_run(by=a_test(world.tenant), run_id=world.ended.pk)


def retry_the_repeated(world: RunsToLock) -> None:
    retry_run(by=a_test(world.tenant), run_id=world.repeated.pk)


def remove_old_runs(world: RunsToLock) -> None:
    prune(tenant=world.tenant, older_than=timedelta(days=7))


#: What inserts rows that refer to others, and what changes those. New verbs that lock a row belong here.
PAIRS: list[tuple[Callable[[RunsToLock], None], Callable[[RunsToLock], None]]] = [
    *((start_many, other) for other in (put, patch, archive, publish, roll_back, rename, change_the_plan)),
    *((start_one, other) for other in (put, patch, rename, change_the_plan)),
    *((put, other) for other in (rename, change_the_plan)),
    *((repeat_the_live, other) for other in (pause, cancel, terminate, signal, put, rename)),
    *((repeat_the_ended, other) for other in (retry_the_ended, put)),
    *((retry_the_repeated, other) for other in (remove_old_runs,)),
    *((store_a_secret, other) for other in (rename, change_the_plan)),
]


def behind_busy_rows(world: RunsToLock, *requests: Callable[[RunsToLock], None]) -> None:
    """Have requests wait for the tenant's counters and audit, one after the other, and let them go on together."""

    def ask(request: Callable[[RunsToLock], None]) -> None:
        try:
            request(world)
        finally:
            connection.close()

    with ThreadPoolExecutor(len(requests)) as pool:
        with transaction.atomic():
            list(UsageCounter.objects.for_tenant(world.tenant).select_for_update(no_key=True).order_by("pk"))
            AuditHead.objects.for_tenant(world.tenant).select_for_update(no_key=True).get()
            asked = []
            for count, request in enumerate(requests, start=1):
                asked.append(pool.submit(ask, request))
                waiting.until(lambda count=count: waiters() >= count or asked[-1].done(), what="request that waits")
        for done in asked:
            done.result()


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=lambda verb: verb.__name__)
def test_two_requests_that_meet_both_succeed(world, first, second):
    behind_busy_rows(world, first, second)


@pytest.mark.parametrize(("second", "first"), PAIRS, ids=lambda verb: verb.__name__)
def test_they_do_in_the_other_order(world, first, second):
    behind_busy_rows(world, first, second)


def test_a_start_of_a_workflow_that_is_deleted_meanwhile_finds_none(world):
    """Its transaction cannot be committed, is begun again, and then answers as if it had come later."""
    make_workflow(world.tenant, HELLO.replace("name: hello", "name: fresh"))
    refused: list[str] = []

    def try_to(request: Callable[[RunsToLock], None]) -> Callable[[RunsToLock], None]:
        def ask(world: RunsToLock) -> None:
            try:
                retried(request)(world)
            except PyFlowError as error:
                refused.append(type(error).__name__)

        return ask

    def start(world: RunsToLock) -> None:
        start_runs(by=a_test(world.tenant), workflow_name="fresh", starts=[Start(input={"who": "Ada"})] * 5)

    def delete(world: RunsToLock) -> None:
        delete_workflow(by=a_test(world.tenant), name="fresh")

    behind_busy_rows(world, try_to(start), try_to(delete))
    gone = not Workflow.objects.for_tenant(world.tenant).filter(name="fresh").exists()
    assert refused == ["WorkflowMissingError" if gone else "WorkflowInUseError"]
    assert Run.objects.for_tenant(world.tenant).filter(workflow__name="fresh").count() == (0 if gone else 5)
