"""What the scheduler does with slots that are due: fires, overlap, catch-up, failures, and what nothing may lose."""

import json
from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from pyflow.core.events import EventType
from pyflow.core.states import RunState
from runs.models import EventRecord, Run, Trigger
from runs.services.cancel import cancel_run
from runs.storage.removal import remove_runs
from tenants.models import AuditEntry, Tenant
from tenants.plans import Quota
from tenants.quotas import set_plan
from tests.support import corpora
from tests.support.factories.rows import a_test, make_tenant, make_workflow
from tests.support.factories.schedules import end, make_schedule, moment, slots, source, started
from triggers.models.schedules import FireState, PauseReason, Schedule, ScheduleFire
from triggers.services.schedules import starting, ticks
from triggers.services.schedules.ticks import tick
from workflows.services import archive_workflow

HOURLY = {"cron": "0 * * * *"}


@pytest.fixture
def tenant(db) -> Tenant:
    return make_tenant()


def fire_row(schedule: Schedule) -> ScheduleFire:
    return ScheduleFire.objects.for_tenant(schedule.tenant_id).get(schedule=schedule)


@pytest.mark.database
def test_a_due_slot_starts_one_run_with_its_input_and_event(tenant):
    config = {"cron": "0 2 * * *", "timezone": "Europe/Berlin", "input": {"day": "{{ trigger.scheduled_for }}"}}
    schedule = make_schedule(tenant, config, next_at="2026-03-28 01:00")

    tick(moment("2026-03-28 00:59:59"))
    assert slots(schedule) == []
    tick(moment("2026-03-28 01:00:01"))
    tick(moment("2026-03-28 01:00:02"))

    [run] = started(schedule)
    assert (run.trigger, run.input) == (Trigger.SCHEDULE, {"day": "2026-03-28T01:00:00.000000Z"})
    assert run.started_by["id"] == f"schedule:{schedule.pk}"
    [event] = EventRecord.objects.for_tenant(tenant).filter(type=EventType.TRIGGER_FIRED.value)
    assert event.data["run_id"] == str(run.pk)
    assert event.data["scheduled_for"] == "2026-03-28T01:00:00.000000Z"
    schedule.refresh_from_db()
    assert schedule.next_at == moment("2026-03-29 01:00")  # 02:00 does not exist: 03:00 CEST


@pytest.mark.parametrize(
    ("policy", "expected", "runs"),
    [
        ("skip", ["started", "overlap", "overlap"], 1),
        ("buffer_one", ["started", "buffered", "buffer_full"], 1),
        ("buffer_all", ["started", "buffered", "buffered"], 1),
        ("cancel_other", ["started", "superseded", "buffered"], 1),
        ("terminate_other", ["ended", "started", "started"], 3),
        ("allow_all", ["started", "started", "started"], 3),
    ],
)
@pytest.mark.database
def test_a_slot_that_overlaps_an_active_run_follows_the_rule(tenant, policy, expected, runs):
    schedule = make_schedule(tenant, HOURLY | {"overlap": policy}, next_at="2026-01-01 01:00")
    for hour in (1, 2, 3):
        tick(moment(f"2026-01-01 0{hour}:00:01"))

    states = [state for _, state in slots(schedule)]
    assert states == expected
    assert len(started(schedule)) == runs
    if policy == "terminate_other":
        assert [run.state for run in started(schedule)] == ["cancelled", "cancelled", "queued"]
    if policy == "cancel_other":
        assert started(schedule)[0].cancel_requested_at is not None


@pytest.mark.database
def test_a_buffered_slot_starts_when_the_run_before_it_has_ended(tenant):
    schedule = make_schedule(tenant, HOURLY | {"overlap": "buffer_all"}, next_at="2026-01-01 01:00")
    for hour in (1, 2, 3):
        tick(moment(f"2026-01-01 0{hour}:00:01"))
    tick(moment("2026-01-01 03:10"))
    assert len(started(schedule)) == 1

    for count in (2, 3):
        end(started(schedule)[-1])
        tick(moment("2026-01-01 03:20"))
        assert len(started(schedule)) == count
    assert [state for _, state in slots(schedule)] == ["ended", "ended", "started"]


def test_the_replacement_of_a_cancelled_run_starts_once_that_has_ended(tenant):
    schedule = make_schedule(tenant, HOURLY | {"overlap": "cancel_other"}, next_at="2026-01-01 01:00")
    tick(moment("2026-01-01 01:00:01"))
    tick(moment("2026-01-01 02:00:01"))
    assert len(started(schedule)) == 1
    end(started(schedule)[0], RunState.CANCELLED)
    tick(moment("2026-01-01 02:00:05"))
    assert len(started(schedule)) == 2


def test_an_active_run_of_another_schedule_is_no_overlap(tenant):
    make_workflow(tenant, source(a=HOURLY, b=HOURLY))
    Schedule.objects.for_tenant(tenant).update(due_at=moment("2026-01-01 01:00"), next_at=moment("2026-01-01 01:00"))
    tick(moment("2026-01-01 01:00:01"))
    assert Run.objects.for_tenant(tenant).count() == 2


def _catch_up(tenant: Tenant, down: timedelta, config: dict[str, object]) -> Schedule:
    """A schedule that no scheduler looked at for a while."""
    back = datetime.fromisoformat("2026-06-30T12:30:10+00:00")
    begin = (back - down).replace(second=0)
    schedule = make_schedule(tenant, config)
    following = schedule.timetable().next_after(begin)
    schedule.wait_for(following, schedule.zone_rules)
    schedule.save()
    tick(back)
    return schedule


@corpora.each("cron_dst", lambda case: "catch_up" in case["input"].get("scenario", ""))
@pytest.mark.database
def test_the_corpus_of_catch_up(case: corpora.Case, tenant):
    text = case["input"]["scenario"]
    if "catch_up=latest" in text:
        schedule = _catch_up(tenant, timedelta(hours=3), HOURLY | {"catch_up": "last"})
        [run] = started(schedule)
        assert run.dedupe_key.endswith("2026-06-30T12:00:00+00:00")
        assert slots(schedule) == [("2026-06-30 10:00", "late"), ("2026-06-30 12:00", "started")]
    elif "max_catch_up=10" in text:
        config = {"cron": "* * * * *", "catch_up": "all", "max_catch_up": 10, "catch_up_window": "30d"}
        schedule = _catch_up(tenant, timedelta(days=30), config | {"overlap": "allow_all"})
        rows = ScheduleFire.objects.for_tenant(tenant).filter(schedule=schedule)
        [missed] = rows.filter(state=FireState.MISSED)
        on_time = rows.filter(cause="schedule", state=FireState.STARTED).count()
        assert rows.filter(cause="catch_up").count() == 10
        assert missed.count + 10 + on_time == 43_200
        [entry] = AuditEntry.objects.for_tenant(tenant).filter(action="schedule.missed")
        assert json.loads(entry.record)["after"]["count"] == missed.count
    else:
        corpora.unread(case, text)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, [("2026-06-30 10:00", "late")]),
        ({"catch_up": "last", "catch_up_window": "20m"}, [("2026-06-30 10:00", "late")]),
        ({"catch_up": "all"}, [(f"2026-06-30 {hour}:00", "started") for hour in (10, 11, 12)]),
        (
            {"catch_up": "all", "catch_up_window": "100m"},
            [("2026-06-30 10:00", "late"), ("2026-06-30 11:00", "started"), ("2026-06-30 12:00", "started")],
        ),
        (
            {"catch_up": "all", "overlap": "skip"},
            [("2026-06-30 10:00", "started"), ("2026-06-30 11:00", "overlap"), ("2026-06-30 12:00", "overlap")],
        ),
    ],
)
def test_missed_slots_are_caught_up_by_the_rule(tenant, config, expected):
    schedule = _catch_up(tenant, timedelta(hours=3), HOURLY | {"overlap": "allow_all"} | config)
    assert slots(schedule) == expected
    schedule.refresh_from_db()
    assert schedule.next_at == moment("2026-06-30 13:00")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, ["late", "started"]),
        ({"overlap": "terminate_other"}, ["late", "started"]),
        ({"overlap": "cancel_other"}, ["late", "started"]),
        ({"overlap": "buffer_one"}, ["late", "started", "buffered"]),
        ({"overlap": "buffer_all"}, ["started", "buffered", "buffered", "buffered"]),
        ({"overlap": "allow_all"}, ["started"] * 4),
        ({"catch_up": "last"}, ["late", "started"]),
        ({"catch_up": "all", "overlap": "skip"}, ["started", "overlap", "overlap", "overlap"]),
        ({"catch_up": "all", "overlap": "buffer_one"}, ["started", "buffered", "buffer_full", "buffer_full"]),
    ],
)
def test_a_slot_whose_successor_is_due_when_a_scheduler_looks_again_is_late(tenant, config, expected):
    """For 40 s no scheduler looks: the run of an earlier slot was not in the way of a later one, and it has no run."""
    schedule = make_schedule(tenant, {"interval": "10s"} | config, next_at="2026-01-01 01:00:10")
    tick(moment("2026-01-01 01:00:41"))
    assert [state for _, state in slots(schedule)] == expected
    late = [row.count for row in ScheduleFire.objects.for_tenant(tenant) if row.state == FireState.MISSED]
    assert sum(late) + len(expected) - len(late) == 4
    schedule.refresh_from_db()
    assert schedule.next_at == moment("2026-01-01 01:00:50")


def test_a_slot_that_finds_the_run_of_an_earlier_look_active_is_skipped(tenant):
    schedule = make_schedule(tenant, {"interval": "10s"}, next_at="2026-01-01 01:00:10")
    tick(moment("2026-01-01 01:00:11"))
    tick(moment("2026-01-01 01:00:41"))
    assert [state for _, state in slots(schedule)] == ["started", "late", "overlap"]


@corpora.each("cron_dst", lambda case: "clock steps back" in case["input"].get("scenario", ""))
def test_a_clock_that_steps_back_fires_no_slot_twice(case: corpora.Case, tenant):
    schedule = make_schedule(tenant, HOURLY | {"overlap": "allow_all"}, next_at="2026-01-01 10:00")
    for now in ("10:00:01", "11:00:01", "09:00:05", "10:00:01", "10:30", "11:00:01", "12:00:01"):
        tick(moment(f"2026-01-01 {now}"))
    assert [slot for slot, _ in slots(schedule)] == ["2026-01-01 10:00", "2026-01-01 11:00", "2026-01-01 12:00"]
    assert len(started(schedule)) == 3


def test_a_slot_that_is_looked_at_again_starts_no_second_run(tenant):
    schedule = make_schedule(tenant, HOURLY | {"overlap": "allow_all"}, next_at="2026-01-01 10:00")
    tick(moment("2026-01-01 10:00:01"))
    schedule.wait_for(moment("2026-01-01 10:00"), "")  # as if its row had been restored
    schedule.save()
    tick(moment("2026-01-01 10:00:02"))
    assert len(started(schedule)) == 1


@pytest.mark.database
def test_a_schedule_that_cannot_start_keeps_no_other_from_it(tenant):
    broken = make_schedule(
        tenant, HOURLY | {"input": {"day": "{{ trigger.scheduled_for.nothing }}"}}, next_at="2026-01-01 01:00", name="a"
    )
    refused = make_schedule(tenant, HOURLY | {"input": {"who": 1}}, next_at="2026-01-01 01:00", name="b")
    good = make_schedule(tenant, HOURLY, next_at="2026-01-01 01:00", name="c")
    tick(moment("2026-01-01 01:00:01"))

    assert [state for _, state in slots(good)] == ["started"]
    row = fire_row(broken)
    assert (row.state, row.run_id) == (FireState.FAILED, None)
    assert "nothing" in row.message
    assert fire_row(refused).reason == "input_invalid"
    broken.refresh_from_db()
    assert (broken.failures, broken.next_at) == (1, moment("2026-01-01 02:00"))


@pytest.mark.database
def test_a_slot_that_a_quota_refuses_is_recorded_and_counts_as_failure(tenant):
    set_plan(tenant=tenant, plan="enterprise", overrides={Quota.RUNS_PER_DAY.value: 1}, by=a_test(tenant))
    config = HOURLY | {"overlap": "allow_all", "pause_after_failures": 2}
    schedule = make_schedule(tenant, config, next_at="2026-01-01 01:00")
    for hour in (1, 2, 3, 4):
        tick(moment(f"2026-01-01 0{hour}:00:01"))

    assert [state for _, state in slots(schedule)] == ["started", "quota_exceeded", "quota_exceeded"]
    schedule.refresh_from_db()
    assert (schedule.pause_reason, schedule.due_at) == (PauseReason.FAILURES, None)
    [event] = EventRecord.objects.for_tenant(tenant).filter(type=EventType.TRIGGER_PAUSED.value)
    assert event.data["reason"] == "failures"
    assert AuditEntry.objects.for_tenant(tenant).filter(action="schedule.paused").count() == 1


@pytest.mark.parametrize(
    ("ends", "failures", "is_paused"),
    [
        ([RunState.FAILED, RunState.TIMED_OUT], 2, True),
        ([RunState.FAILED, RunState.SUCCEEDED], 0, False),
        ([RunState.FAILED, RunState.CANCELLED], 1, False),
    ],
)
def test_failures_of_runs_in_a_row_pause_the_schedule(tenant, ends, failures, is_paused):
    schedule = make_schedule(tenant, HOURLY | {"pause_after_failures": 2}, next_at="2026-01-01 01:00")
    for hour, state in enumerate(ends, 1):
        tick(moment(f"2026-01-01 0{hour}:00:01"))
        end(started(schedule)[-1], state)
    tick(moment("2026-01-01 02:30"))
    schedule.refresh_from_db()
    assert (schedule.failures, schedule.paused_at is not None) == (failures, is_paused)
    rows = ScheduleFire.objects.for_tenant(tenant).filter(schedule=schedule).order_by("scheduled_for")
    assert [row.run_state for row in rows] == [str(state) for state in ends]


@pytest.mark.breaks_invariant(
    "runs_per_day_are_those_of_rows", reason="a run of today is removed, which retention never does"
)
def test_a_run_that_retention_removed_no_longer_counts_as_active(tenant):
    schedule = make_schedule(tenant, HOURLY, next_at="2026-01-01 01:00")
    tick(moment("2026-01-01 01:00:01"))
    end(started(schedule)[0])
    remove_runs(tenant_id=tenant.pk, run_ids=[started(schedule)[0].pk])
    tick(moment("2026-01-01 02:00:01"))
    assert slots(schedule) == [("2026-01-01 01:00", "ended"), ("2026-01-01 02:00", "started")]


def test_a_mistake_of_ours_with_one_schedule_is_recorded_and_stops_no_other(tenant, monkeypatch, caplog):
    bad = make_schedule(tenant, HOURLY, next_at="2026-01-01 01:00", name="a")
    good = make_schedule(tenant, HOURLY, next_at="2026-01-01 01:00", name="b")
    real = starting.start_triggered

    def start_triggered(*, starts, **options):
        if any(workflow_id == bad.workflow_id for _, workflow_id, _ in starts):
            raise RuntimeError("a mistake")
        return real(starts=starts, **options)

    monkeypatch.setattr(starting, "start_triggered", start_triggered)
    tick(moment("2026-01-01 01:00:01"))
    assert [state for _, state in slots(good)] == ["started"]
    assert slots(bad) == [("2026-01-01 01:00", "internal_error")]
    bad.refresh_from_db()
    assert bad.next_at == moment("2026-01-01 02:00")
    assert "failed" in caplog.text


def test_slots_of_an_archived_workflow_do_not_fire(tenant):
    schedule = make_schedule(tenant, HOURLY, next_at="2026-01-01 01:00")
    archive_workflow(by=a_test(tenant), name="nightly", archived=True)
    tick(moment("2026-01-01 05:00"))
    assert slots(schedule) == []


def test_slots_of_a_suspended_tenant_wait_and_follow_the_rule_of_catch_up(tenant):
    schedule = make_schedule(tenant, HOURLY, next_at="2026-01-01 01:00")
    tenant.suspended_at = timezone.now()
    tenant.save()
    tick(moment("2026-01-01 01:00:01"))
    assert slots(schedule) == []
    tenant.suspended_at = None
    tenant.save()
    tick(moment("2026-01-01 02:00:01"))
    assert slots(schedule) == [("2026-01-01 01:00", "late"), ("2026-01-01 02:00", "started")]


def test_jitter_delays_each_slot_by_the_same_time_whoever_asks(tenant):
    schedule = make_schedule(tenant, HOURLY | {"jitter": "10m"}, next_at="2026-01-01 01:00")
    due_at = schedule.due_at
    assert moment("2026-01-01 01:00") < due_at < moment("2026-01-01 01:10")
    tick(due_at - timedelta(seconds=1))
    assert slots(schedule) == []
    tick(due_at)
    assert slots(schedule) == [("2026-01-01 01:00", "started")]
    schedule.wait_for(moment("2026-01-01 01:00"), "")
    assert schedule.due_at == due_at


def test_a_run_once_schedule_fires_once(tenant):
    schedule = make_schedule(tenant, {"at": "2100-01-01T00:00:00Z"})
    tick(moment("2100-01-01 00:00:01"))
    tick(moment("2100-01-02 00:00:01"))
    assert slots(schedule) == [("2100-01-01 00:00", "started")]
    schedule.refresh_from_db()
    assert (schedule.next_at, schedule.due_at) == (None, None)


def test_idle_schedules_cost_one_tick_three_queries(tenant, django_assert_num_queries):
    for number in range(3):
        make_schedule(tenant, {"at": "2100-01-01T00:00:00Z"}, name=f"idle-{number}")
    with django_assert_num_queries(3):
        tick(moment("2026-01-01 00:00"))


def test_a_cancelled_run_is_noted_as_cancelled(tenant):
    schedule = make_schedule(tenant, HOURLY, next_at="2026-01-01 01:00")
    tick(moment("2026-01-01 01:00:01"))
    cancel_run(by=a_test(tenant), run_id=started(schedule)[0].pk)
    end(started(schedule)[0], RunState.CANCELLED)
    assert ticks.tick(moment("2026-01-01 01:10")).settled == 1
