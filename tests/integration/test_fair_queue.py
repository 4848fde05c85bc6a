"""Whose run comes next: tenants take turns, and none has more executed at a time than it may."""

import threading
from collections import Counter

import pytest
from django.db import connection

from runs.leases import claim
from runs.models import Run
from tenants.models import Tenant
from tenants.plans import Quota
from tenants.quotas import set_plan
from tests.support.factories import a_test, make_run, make_tenant

pytestmark = pytest.mark.database


def queue_up(tenant: Tenant, count: int) -> list[Run]:
    """As many queued runs: one that was started, and copies of its row."""
    run = make_run(tenant)
    Run.objects.bulk_create(
        [
            Run(tenant=tenant, workflow_id=run.workflow_id, version_id=run.version_id, input=run.input)
            for _ in range(count - 1)
        ]
    )
    return list(Run.objects.for_tenant(tenant).order_by("created_at"))


def allow(tenant: Tenant, runs: int) -> None:
    set_plan(tenant=tenant, plan="enterprise", overrides={Quota.CONCURRENT_RUNS.value: runs}, by=a_test(tenant))


def test_a_crowd_of_one_tenant_does_not_delay_the_first_run_of_another(tenant):
    queue_up(tenant, 2_000)
    claim("me", 10)
    late = make_run(make_tenant())
    [taken] = claim("me", 1)
    assert taken.run_id == late.pk


def test_tenants_take_turns(tenant):
    queue_up(tenant, 50)
    queue_up(make_tenant(), 50)
    queue_up(make_tenant(), 3)
    assert sorted(Counter(taken.tenant_id for taken in claim("me", 21)).values()) == [3, 9, 9]


def test_a_place_that_one_tenant_does_not_need_is_anothers(tenant):
    queue_up(tenant, 50)
    queue_up(make_tenant(), 1)
    assert len(claim("me", 20)) == 20


def test_within_a_tenant_the_most_urgent_run_comes_first(tenant):
    runs = queue_up(tenant, 5)
    Run.objects.across_tenants().filter(pk=runs[3].pk).update(priority=9)
    assert [taken.run_id for taken in claim("me", 2)] == [runs[3].pk, runs[0].pk]


def test_runs_beyond_the_quota_stay_queued_and_others_go_on(tenant):
    allow(tenant, 2)
    runs = queue_up(tenant, 5)
    other = make_run(make_tenant())
    taken = {claimed.run_id for claimed in claim("me", 10)}
    assert taken == {runs[0].pk, runs[1].pk, other.pk}
    assert claim("me", 10) == []
    Run.objects.across_tenants().filter(pk=runs[0].pk).update(state="succeeded", lease_until=None)
    assert [claimed.run_id for claimed in claim("me", 10)] == [runs[2].pk]


def test_claims_at_the_same_time_never_exceed_the_quota(tenant):
    allow(tenant, 5)
    queue_up(tenant, 40)
    taken = []

    def take(number: int) -> None:
        for _ in range(5):
            taken.extend(claim(f"worker {number}", 3))
        connection.close()

    threads = [threading.Thread(target=take, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len({claimed.run_id for claimed in taken}) == 5
