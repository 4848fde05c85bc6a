"""Schedules that are due at the same moment: few statements for all, and each its own outcome."""

from collections import Counter

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from pyflow.core.events import EventType
from runs.models import EventRecord, Run
from tenants.models import Tenant
from tenants.plans import Quota
from tenants.quotas import counter, set_plan
from tests.support.factories.rows import a_test, make_tenant, make_workflow
from tests.support.factories.schedules import end, make_schedule, moment, slots, source
from triggers.models.schedules import FireState, Schedule, ScheduleFire
from triggers.services.schedules import starting
from triggers.services.schedules.ticks import tick

HOURLY = {"cron": "0 * * * *"}
RULES = ("skip", "buffer_one", "terminate_other", "allow_all")


def make_schedules(tenant: Tenant, count: int, name: str = "nightly", **config: object) -> list[Schedule]:
    """Schedules of one workflow that are due at 01:00, their rules about overlap in turn."""
    configs = {f"s{number:03}": HOURLY | {"overlap": RULES[number % len(RULES)]} | config for number in range(count)}
    make_workflow(tenant, source(name, **configs))
    rows = Schedule.objects.for_tenant(tenant).filter(workflow__name=name)
    rows.update(next_at=moment("2026-01-01 01:00"), due_at=moment("2026-01-01 01:00"))
    return list(rows.order_by("trigger_id"))


def _statements(hour: int) -> int:
    with CaptureQueriesContext(connection) as captured:
        tick(moment(f"2026-01-01 {hour:02}:00:01"))
    return len(captured)


@pytest.mark.fleet
def test_the_number_of_statements_does_not_depend_on_how_many_are_due(tenant):
    few, many = make_tenant("few"), make_tenant("many")
    for each, count in ((few, 2), (many, 25)):
        for number in range(4):
            make_schedules(each, count, name=f"nightly-{number}")
    taken = {}
    for each in (few, many):
        Schedule.objects.across_tenants().update(due_at=None)
        mine = Schedule.objects.for_tenant(each)
        mine.update(due_at=moment("2026-01-01 01:00"))
        first = _statements(1)  # versions are loaded
        for run in Run.objects.for_tenant(each):
            end(run)
        taken[each.slug] = _statements(2)
        assert ScheduleFire.objects.for_tenant(each).filter(run__isnull=False).count() == 2 * mine.count()
        assert first < 40
    assert taken["few"] == taken["many"] <= 30


@pytest.mark.database
def test_a_quota_that_binds_refuses_the_last_ones_of_those_that_are_due(tenant):
    set_plan(tenant=tenant, plan="enterprise", overrides={Quota.RUNS_PER_DAY.value: 3}, by=a_test(tenant))
    schedules = make_schedules(tenant, 5)
    tick(moment("2026-01-01 01:00:01"))
    states = Counter(state for schedule in schedules for _, state in slots(schedule))
    assert states == {"started": 3, "quota_exceeded": 2}
    assert counter(tenant_id=tenant.pk, quota=Quota.RUNS_PER_DAY) == Run.objects.for_tenant(tenant).count() == 3
    events = EventRecord.objects.for_tenant(tenant).filter(type=EventType.TRIGGER_FIRED.value)
    assert {event.data["run_id"] for event in events} == {str(run.pk) for run in Run.objects.for_tenant(tenant)}
    assert sorted(Schedule.objects.for_tenant(tenant).values_list("failures", flat=True)) == [0, 0, 0, 1, 1]


@pytest.mark.database
def test_one_ticker_fires_the_schedules_of_two_tenants_each_in_its_own(tenant):
    other, suspended = make_tenant("other"), make_tenant("suspended")
    set_plan(tenant=other, plan="enterprise", overrides={Quota.RUNS_PER_DAY.value: 1}, by=a_test(other))
    for each in (tenant, other, suspended):
        make_schedules(each, 3)
    Tenant.objects.filter(pk=suspended.pk).update(suspended_at=moment("2026-01-01 00:00"))
    assert tick(moment("2026-01-01 01:00:01")).due == 6

    for each, count in ((tenant, 3), (other, 1), (suspended, 0)):
        runs = Run.objects.for_tenant(each)
        fires = ScheduleFire.objects.for_tenant(each).filter(state=FireState.STARTED)
        assert {run.pk for run in runs} == {fire.run_id for fire in fires}
        assert {run.workflow.tenant_id for run in runs} == ({each.pk} if count else set())
        assert {fire.schedule.tenant_id for fire in fires} == ({each.pk} if count else set())
        assert len(runs) == count == counter(tenant_id=each.pk, quota=Quota.RUNS_PER_DAY)
    assert ScheduleFire.objects.for_tenant(other).filter(reason="quota_exceeded").count() == 2


def test_slots_that_are_more_than_one_transaction_fires_fire_in_several(tenant, monkeypatch):
    monkeypatch.setattr("triggers.services.schedules.ticks.MOST_AT_ONCE", 7)
    config = {"overlap": "allow_all", "catch_up": "all"}
    schedules = make_schedules(tenant, 4, **config)
    tick(moment("2026-01-01 05:00:01"))
    hours = [f"2026-01-01 0{hour}:00" for hour in range(1, 6)]
    assert [slots(schedule) for schedule in schedules] == [[(hour, "started") for hour in hours]] * 4
    for run in Run.objects.for_tenant(tenant):
        end(run)
    tick(moment("2026-01-01 05:10"))
    assert set(ScheduleFire.objects.for_tenant(tenant).values_list("state", flat=True)) == {FireState.ENDED}


def test_a_transaction_that_fails_starts_nothing_and_the_next_tick_all(tenant, monkeypatch):
    schedules = [make_schedule(tenant, HOURLY, next_at="2026-01-01 01:00", name=name) for name in "abc"]

    def crash(*_: object) -> None:
        raise KeyboardInterrupt  # as if the process ended before the commit

    with monkeypatch.context() as patch:
        patch.setattr(starting.log, "append_all_outside", crash)
        with pytest.raises(KeyboardInterrupt):
            tick(moment("2026-01-01 01:00:01"))
    assert not Run.objects.for_tenant(tenant).exists()
    tick(moment("2026-01-01 01:00:02"))
    assert [slots(schedule) for schedule in schedules] == [[("2026-01-01 01:00", "started")]] * 3
