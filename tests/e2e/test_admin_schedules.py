"""The admin of schedules: next slots, last slots, and actions."""

import pytest
from django.test import Client
from django.urls import reverse

from tests.support.factories.rows import make_superuser, make_tenant
from tests.support.factories.schedules import make_schedule, moment
from triggers.models.schedules import Schedule, ScheduleFire
from triggers.services.schedules.ticks import tick

pytestmark = [pytest.mark.api, pytest.mark.e2e]


@pytest.fixture
def schedule(db) -> Schedule:
    config = {"cron": "30 2 * * *", "timezone": "Europe/Berlin"}
    return make_schedule(make_tenant("acme"), config, next_at="2026-03-28 01:30")


@pytest.fixture
def root(db) -> Client:
    client = Client()
    client.force_login(make_superuser())
    return client


def act(root: Client, action: str, schedule: Schedule) -> str:
    """The page that an action on the list leads to."""
    body = {"action": action, "_selected_action": [str(schedule.pk)]}
    return root.post(reverse("admin:triggers_schedule_changelist"), body, follow=True).content.decode()


def test_a_schedule_shows_the_slots_to_come_and_those_that_passed(root: Client, schedule: Schedule):
    tick(moment("2026-03-28 01:30:01"))
    html = root.get(reverse("admin:triggers_schedule_change", args=[schedule.pk])).content.decode()
    assert "2026-03-29T03:00:00+02:00" in html
    assert "does not exist on this day" in html
    assert str(ScheduleFire.objects.across_tenants().get().run_id) in html


def test_schedules_are_paused_resumed_and_fired(root: Client, schedule: Schedule):
    assert "1 schedule was paused" in act(root, "pause", schedule)
    assert "1 schedule was fired" in act(root, "fire", schedule)
    schedule.refresh_from_db()
    assert (schedule.due_at, ScheduleFire.objects.across_tenants().get().cause) == (None, "manual")
    assert "1 schedule was resumed" in act(root, "resume", schedule)
    Schedule.objects.across_tenants().update(declared=False)
    assert "starts no runs" in act(root, "fire", schedule)
