"""Quotas of tenants: limits, counters that no request gets past, and the messages of refusals."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, transaction

from tenants import quotas
from tenants.access import Actor
from tenants.errors import PlanError, QuotaExceededError, UpgradeNeededError
from tenants.models import AuditEntry, Tenant, UsageCounter
from tenants.plans import PLANS, Plan, Quota
from tests.support.factories.rows import make_tenant

pytestmark = [pytest.mark.database, pytest.mark.django_db]
RUNS, BYTES = Quota.RUNS_PER_DAY, Quota.STORED_BYTES


def limited(plan: str = "enterprise", **limits: int | None) -> Tenant:
    tenant = make_tenant()
    return quotas.set_plan(tenant=tenant, plan=plan, overrides=limits, by=Actor.system(tenant.pk, "a test"))


def consume(tenant: Tenant, **amounts: int) -> None:
    quotas.consume(tenant_id=tenant.pk, amounts={Quota(name): amount for name, amount in amounts.items()})


def used(tenant: Tenant, quota: Quota) -> int | None:
    return next(usage.used for usage in quotas.usage_of(tenant_id=tenant.pk, measured={}) if usage.quota is quota)


def test_every_plan_says_something_of_every_quota():
    assert all(limits.keys() == set(Quota) for limits in PLANS.values())


@pytest.mark.parametrize("quota", Quota)
def test_a_dearer_plan_never_allows_less(quota: Quota):
    free, pro, enterprise = (PLANS[plan][quota] for plan in (Plan.FREE, Plan.PRO, Plan.ENTERPRISE))
    assert free is not None
    assert pro is not None
    assert enterprise is None or enterprise >= pro
    assert pro < free if quota is Quota.SCHEDULE_SECONDS else pro > free


def test_a_tenants_own_limit_goes_before_its_plans():
    tenant = limited("free", workflows=3, stored_bytes=None)
    assert quotas.limit_of(tenant.pk, Quota.WORKFLOWS) == 3
    assert quotas.limit_of(tenant.pk, BYTES) is None
    assert quotas.limit_of(tenant.pk, RUNS) == PLANS[Plan.FREE][RUNS]


@pytest.mark.parametrize(
    "limits", [{"runs": 1}, {"workflows": -1}, {"workflows": "9"}, {"workflows": True}, {"workflows": 2**63}]
)
def test_a_limit_that_means_nothing_is_refused(limits: dict):
    with pytest.raises(PlanError):
        limited(**limits)
    with pytest.raises(ValidationError):
        Tenant(slug="x", name="x", limits=limits).full_clean()


def test_an_unknown_plan_is_refused():
    with pytest.raises(PlanError, match="'gold'"):
        limited("gold")


def test_a_change_of_plan_is_audited_with_what_was_before():
    tenant = limited("free", workflows=3)
    entry = AuditEntry.objects.for_tenant(tenant).get()
    assert (entry.action, entry.target) == ("tenant.plan_changed", f"tenant:{tenant.slug}")
    assert '"before":{"limits":{},"plan":"enterprise"}' in entry.record
    assert '"after":{"limits":{"workflows":3},"plan":"free"}' in entry.record


def test_limits_are_read_once_in_the_time_of_the_cache(django_assert_num_queries, monkeypatch):
    tenant = make_tenant()
    with django_assert_num_queries(1):
        for _ in range(100):
            quotas.limit_of(tenant.pk, RUNS)
    Tenant.objects.filter(pk=tenant.pk).update(plan="free")
    now = quotas.time.monotonic()
    monkeypatch.setattr(quotas.time, "monotonic", lambda: now + quotas.CACHE_SECONDS)
    assert quotas.limit_of(tenant.pk, RUNS) == PLANS[Plan.FREE][RUNS]


def test_as_much_as_the_limit_may_be_taken_and_no_more():
    tenant = limited(runs_per_day=5)
    consume(tenant, runs_per_day=3)
    consume(tenant, runs_per_day=2)
    with pytest.raises(QuotaExceededError) as refused:
        consume(tenant, runs_per_day=1)
    assert (refused.value.quota, refused.value.limit, refused.value.used) == ("runs_per_day", 5, 5)
    assert used(tenant, RUNS) == 5


def test_a_first_amount_beyond_the_limit_is_refused():
    tenant = limited(runs_per_day=5)
    with pytest.raises(QuotaExceededError):
        consume(tenant, runs_per_day=6)
    assert not UsageCounter.objects.for_tenant(tenant).filter(count__gt=0).exists()


def test_several_quotas_are_taken_from_together_or_not_at_all():
    tenant = limited(runs_per_day=5, stored_bytes=100)
    consume(tenant, runs_per_day=1, stored_bytes=90)
    with pytest.raises(QuotaExceededError) as refused:
        consume(tenant, runs_per_day=1, stored_bytes=11)
    assert refused.value.quota == "stored_bytes"
    assert (used(tenant, RUNS), used(tenant, BYTES)) == (1, 90)


def test_taking_is_one_statement(django_assert_num_queries):
    tenant = limited(runs_per_day=5)
    quotas.limit_of(tenant.pk, RUNS)
    with django_assert_num_queries(1):
        consume(tenant, runs_per_day=1, stored_bytes=10)


def test_what_is_unlimited_is_counted_all_the_same():
    tenant = limited()
    consume(tenant, runs_per_day=7)
    assert used(tenant, RUNS) == 7


def test_what_was_counted_without_a_limit_counts_when_there_is_one(monkeypatch):
    tenant = limited()

    for shard in range(3):
        monkeypatch.setattr(quotas.threading, "get_native_id", lambda shard=shard: shard)
        consume(tenant, runs_per_day=10, stored_bytes=10)
    quotas.add_stored_bytes(tenant_id=tenant.pk, amount=-25)
    assert (used(tenant, RUNS), used(tenant, BYTES)) == (30, 5)
    quotas.set_plan(
        tenant=tenant,
        plan="pro",
        overrides={"runs_per_day": 31, "stored_bytes": 6},
        by=Actor.system(tenant.pk, "a test"),
    )
    consume(tenant, runs_per_day=1, stored_bytes=1)
    with pytest.raises(QuotaExceededError):
        consume(tenant, runs_per_day=1)
    with pytest.raises(QuotaExceededError):
        consume(tenant, stored_bytes=1)
    today = datetime.now(UTC).date()
    assert quotas.history(tenant_id=tenant.pk, first=today, last=today) == {today: 31}


def test_what_is_rolled_back_was_never_taken():
    tenant = limited(runs_per_day=5)

    def start_and_fail() -> None:
        with transaction.atomic():
            consume(tenant, runs_per_day=3)
            raise ValueError("the rest of it failed")

    with pytest.raises(ValueError, match="failed"):
        start_and_fail()
    assert used(tenant, RUNS) == 0


def test_bytes_that_are_deleted_can_be_stored_again():
    tenant = limited(stored_bytes=10)
    quotas.add_stored_bytes(tenant_id=tenant.pk, amount=10)
    quotas.add_stored_bytes(tenant_id=tenant.pk, amount=-4)
    quotas.add_stored_bytes(tenant_id=tenant.pk, amount=4)
    with pytest.raises(QuotaExceededError):
        quotas.add_stored_bytes(tenant_id=tenant.pk, amount=1)
    quotas.add_stored_bytes(tenant_id=tenant.pk, amount=-1000)
    assert used(tenant, BYTES) == 0


def test_the_day_is_that_of_utc(monkeypatch):
    tenant = limited(runs_per_day=1)
    monkeypatch.setattr(quotas.timezone, "now", lambda: datetime(2026, 3, 29, 23, 59, 59, tzinfo=UTC))
    consume(tenant, runs_per_day=1)
    with pytest.raises(QuotaExceededError) as refused:
        consume(tenant, runs_per_day=1)
    assert refused.value.resets_at == datetime(2026, 3, 30, tzinfo=UTC)
    assert refused.value.retry_after == 2, "rounded up: who comes back then finds a new day"
    monkeypatch.setattr(quotas.timezone, "now", lambda: datetime(2026, 3, 30, tzinfo=UTC))
    consume(tenant, runs_per_day=1)
    days = quotas.history(tenant_id=tenant.pk, first=date(2026, 3, 28), last=date(2026, 3, 30))
    assert days == {date(2026, 3, 28): 0, date(2026, 3, 29): 1, date(2026, 3, 30): 1}


def test_a_tenant_that_could_upgrade_gets_that_advice():
    tenant = limited("free")
    with pytest.raises(UpgradeNeededError, match="The plan `pro` allows more than `free`"):
        quotas.check(tenant_id=tenant.pk, quota=Quota.NODES_PER_WORKFLOW, wanted=101)


def test_whose_limit_is_its_own_is_not():
    tenant = limited("free", nodes_per_workflow=5)
    with pytest.raises(QuotaExceededError) as refused:
        quotas.check(tenant_id=tenant.pk, quota=Quota.NODES_PER_WORKFLOW, wanted=6)
    assert not isinstance(refused.value, UpgradeNeededError)


def test_a_schedule_may_be_slower_and_not_faster():
    tenant = limited("free")
    quotas.check(tenant_id=tenant.pk, quota=Quota.SCHEDULE_SECONDS, wanted=300)
    with pytest.raises(UpgradeNeededError, match="minimum 300, requested 299"):
        quotas.check(tenant_id=tenant.pk, quota=Quota.SCHEDULE_SECONDS, wanted=299)


def test_tenants_do_not_use_up_each_others_quotas():
    one, other = limited(runs_per_day=1), limited(runs_per_day=1)
    consume(one, runs_per_day=1)
    consume(other, runs_per_day=1)
    assert used(one, RUNS) == used(other, RUNS) == 1


@pytest.mark.django_db(transaction=True)
def test_takers_at_once_never_take_too_much():
    tenant = limited(runs_per_day=100)
    together = threading.Barrier(20)

    def take(_: int) -> int:
        together.wait(10)
        taken = 0
        try:
            for _ in range(10):
                try:
                    with transaction.atomic():
                        consume(tenant, runs_per_day=1, stored_bytes=1)
                    taken += 1
                except QuotaExceededError:
                    continue
        finally:
            connection.close()
        return taken

    with ThreadPoolExecutor(20) as threads:
        assert sum(threads.map(take, range(20))) == 100
    assert (used(tenant, RUNS), used(tenant, BYTES)) == (100, 100)
