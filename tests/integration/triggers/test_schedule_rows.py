"""Rows of schedules follow the published version, in the transaction that changes it."""

import zoneinfo
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import pytest
from django.apps import apps
from django.db import transaction
from django.utils import timezone

from pyflow.triggers import cron
from tenants.errors import QuotaExceededError
from tenants.models import Tenant
from tenants.quotas import set_plan
from tests.support.factories.rows import a_test, make_draft, make_tenant, make_workflow
from tests.support.factories.schedules import make_schedule, moment, slots, source
from triggers.models.schedules import FireCause, FireState, PauseReason, Schedule, ScheduleFire
from triggers.services.schedules import rows, ticks
from triggers.services.schedules.retention import prune_fires
from triggers.services.schedules.verbs import pause_schedule
from workflows.services import archive_workflow, delete_workflow
from workflows.versions import archive_version, publish_version, rollback

DAILY, HOURLY = {"cron": "0 2 * * *"}, {"cron": "0 * * * *"}


@pytest.fixture
def tenant(db) -> Tenant:
    return make_tenant()


def row(tenant: Tenant, id: str = "main") -> Schedule:
    found: Schedule = Schedule.objects.for_tenant(tenant).get(trigger_id=id)
    return found


@pytest.mark.database
def test_rows_follow_publication_rollback_archive_and_deletion(tenant):
    by = a_test(tenant)
    make_workflow(tenant, source(main=DAILY, other=HOURLY))
    assert all(schedule.due_at for schedule in Schedule.objects.for_tenant(tenant))

    make_workflow(tenant, source(main=DAILY))
    assert (row(tenant, "other").declared, row(tenant, "other").due_at) == (False, None)
    rollback(by=by, name="nightly", number=1)
    assert (row(tenant, "other").declared, row(tenant, "other").version_number) == (True, 3)
    archive_version(by=by, name="nightly", number=3)
    assert (row(tenant, "other").declared, row(tenant).version_number) == (False, 2)

    archive_workflow(by=by, name="nightly", archived=True)
    assert (row(tenant).declared, row(tenant).due_at) == (False, None)
    archive_workflow(by=by, name="nightly", archived=False)
    assert row(tenant).due_at > timezone.now()

    delete_workflow(by=by, name="nightly")
    assert not Schedule.objects.for_tenant(tenant).exists()


def test_a_draft_changes_no_row_until_it_is_published(tenant):
    make_workflow(tenant, source(main=DAILY))
    draft = make_draft(tenant, source(main=HOURLY), name="nightly")
    assert row(tenant).config == DAILY
    publish_version(by=a_test(tenant), name="nightly", number=draft.number)
    assert (row(tenant).config, row(tenant).version_number) == (HOURLY, 2)


def test_rows_of_a_publication_that_fails_are_undone_with_it(tenant):
    with transaction.atomic():
        make_workflow(tenant, source(main=DAILY))
        transaction.set_rollback(True)
    assert not Schedule.objects.for_tenant(tenant).exists()


def test_a_new_version_with_the_same_slots_keeps_an_overdue_one(tenant):
    schedule = make_schedule(tenant, DAILY, next_at="2026-01-01 02:00")
    make_workflow(tenant, source(main=DAILY | {"overlap": "allow_all"}))
    assert row(tenant).next_at == schedule.next_at
    assert row(tenant).config["overlap"] == "allow_all"


def test_a_new_version_with_other_slots_waits_for_the_first_one_from_now_on(tenant):
    make_schedule(tenant, DAILY, next_at="2026-01-01 02:00")
    make_workflow(tenant, source(main=HOURLY))
    assert timezone.now() < row(tenant).next_at <= timezone.now() + timedelta(hours=1)


def test_an_interval_keeps_its_anchor_over_versions_that_do_not_change_it(tenant):
    schedule = make_schedule(tenant, {"interval": "2h"}, next_at="2026-01-01 01:00")
    make_workflow(tenant, source(main={"interval": "120m", "jitter": "1s"}))
    assert (row(tenant).anchor, row(tenant).next_at) == (schedule.anchor, schedule.next_at)


def test_what_was_paused_by_request_stays_so_in_a_new_version(tenant):
    schedule = make_schedule(tenant, DAILY)
    pause_schedule(by=a_test(tenant), schedule_id=schedule.pk, paused=True)
    make_workflow(tenant, source(main=HOURLY))
    assert (row(tenant).pause_reason, row(tenant).due_at) == (PauseReason.REQUESTED, None)
    pause_schedule(by=a_test(tenant), schedule_id=schedule.pk, paused=False)
    assert row(tenant).due_at is not None


def test_slots_that_wait_are_withdrawn_with_their_schedule(tenant):
    schedule = make_schedule(tenant, DAILY)
    ScheduleFire.objects.create(
        tenant=tenant, schedule=schedule, scheduled_for=moment("2026-01-01 02:00"), cause=FireCause.SCHEDULE,
        state=FireState.BUFFERED, fired_at=timezone.now(),
    )  # fmt: skip
    make_workflow(tenant, source())
    assert slots(schedule) == [("2026-01-01 02:00", "withdrawn")]


@pytest.mark.parametrize(
    ("config", "reason"),
    [("{cron: '0 2 * * *', anything: else}", ""), ("{cron: 'x 2 * * *'}", "invalid"), ("{interval_seconds: 60}", "")],
)
def test_a_file_of_version_1_has_a_schedule_too(tenant, config, reason):
    make_workflow(tenant, f"name: old\ntrigger: {{type: schedule, config: {config}}}\nnodes: []\n")
    schedule = row(tenant, "schedule")
    assert schedule.pause_reason == reason
    assert (schedule.due_at is None) == bool(reason)
    assert bool(schedule.problem) == bool(reason)


def test_triggers_without_an_id_are_told_apart(tenant):
    document = source().replace("triggers: []", "triggers: [{type: schedule, config: {cron: '0 1 * * *'}}, "
                                "{type: manual}, {type: schedule, config: {cron: '0 2 * * *'}}]")  # fmt: skip
    make_workflow(tenant, document)
    assert {row.trigger_id for row in Schedule.objects.for_tenant(tenant)} == {"schedule", "schedule-2"}


@pytest.fixture
def other_rules(tmp_path: Path, monkeypatch):
    """Another version of the rules of time zones, in which Berlin has those of Moscow; call it to let it come."""
    before = zoneinfo.TZPATH

    def install() -> None:
        moscow = next(Path(folder) / "Europe/Moscow" for folder in before if (Path(folder) / "Europe/Moscow").exists())
        (tmp_path / "Europe").mkdir()
        (tmp_path / "Europe/Berlin").write_bytes(moscow.read_bytes())
        (tmp_path / "+VERSION").write_text("2999z\n")
        zoneinfo.reset_tzpath([str(tmp_path), *before])
        forget()

    def forget() -> None:
        zoneinfo.ZoneInfo.clear_cache()
        cron.cron_in.cache_clear()
        rows.zone_rules.cache_clear()

    yield install
    zoneinfo.reset_tzpath(before)
    forget()


def test_a_slot_that_waits_while_the_rules_of_its_zone_change_moves_with_them(tenant, other_rules):
    schedule = make_schedule(tenant, DAILY | {"timezone": "Europe/Berlin"})
    plain = make_schedule(tenant, DAILY, name="plain")
    before, zone_rules = schedule.next_at, schedule.zone_rules
    assert zone_rules
    assert ticks.refresh_zone_rules() == 0

    other_rules()
    assert ticks.refresh_zone_rules() == 1
    schedule.refresh_from_db()
    assert schedule.next_at.hour == 23  # 02:00 in Moscow
    assert schedule.next_at != before
    assert schedule.zone_rules == "2999z"
    assert ticks.refresh_zone_rules() == 0
    plain.refresh_from_db()
    assert (plain.next_at.hour, plain.zone_rules) == (2, "")


@pytest.mark.database
def test_rows_of_slots_are_kept_as_long_as_runs(tenant):
    set_plan(tenant=tenant, plan="enterprise", overrides={"retention_days": 10}, by=a_test(tenant))
    schedule = make_schedule(tenant, DAILY)
    old, new = timezone.now() - timedelta(days=11), timezone.now() - timedelta(days=9)
    for day, (state, at) in enumerate([("skipped", old), ("buffered", old), ("started", old), ("missed", new)], 1):
        ScheduleFire.objects.create(
            tenant=tenant, schedule=schedule, scheduled_for=moment(f"2026-01-0{day} 02:00"), cause="schedule",
            state=state, fired_at=at,
        )  # fmt: skip
    assert prune_fires() == 1
    assert [state for _, state in slots(schedule)] == ["buffered", "started", "missed"]


@pytest.mark.parametrize("config", [{"cron": "0,4 * * * *"}, {"interval": "4m"}, {"interval_seconds": 240}])
def test_a_plan_says_how_often_a_schedule_may_fire(tenant, config):
    set_plan(tenant=tenant, plan="enterprise", overrides={"schedule_seconds": 300}, by=a_test(tenant))
    make_workflow(tenant, source(main={"cron": "*/5 * * * *"}))
    with pytest.raises(QuotaExceededError) as refusal:
        make_workflow(tenant, source(main=config))
    assert (refusal.value.quota, refusal.value.used) == ("schedule_seconds", 240)


def test_versions_that_were_published_before_get_their_schedules(tenant):
    make_workflow(tenant, source(main=DAILY))
    make_workflow(tenant, source("broken", main=DAILY))
    Schedule.objects.for_tenant(tenant).delete()
    add = import_module("triggers.migrations.0003_schedules_of_published_versions").add_schedules
    add(apps, None)
    assert not ticks.tick().due
    assert ticks.refresh_zone_rules() == 2
    add(apps, None)
    schedules = list(Schedule.objects.for_tenant(tenant))
    assert [schedule.config for schedule in schedules] == [DAILY, DAILY]
    assert all(timezone.now() < schedule.due_at <= timezone.now() + timedelta(days=1) for schedule in schedules)
