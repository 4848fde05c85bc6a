"""`/api/v1/schedules/{id}` and what is below it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.http import HttpResponse
from django.utils import timezone

import pyflow_client
from pyflow.core.events import EventType
from pyflow.core.ids import new_id
from runs.models import EventRecord, Run
from tenants.models import AuditEntry
from tenants.plans import Quota
from tenants.quotas import set_plan
from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import a_test, make_api_key
from tests.support.factories.schedules import end, make_schedule, moment, slots, started
from triggers.models.schedules import FireState, Schedule, ScheduleFire
from triggers.services.schedules.ticks import tick
from workflows.services import archive_workflow

OPERATIONS = (
    "schedules_read",
    "schedules_update",
    "schedules_pause",
    "schedules_resume",
    "schedules_fire",
    "schedules_preview",
    "schedules_backfill",
    "schedule_fires_list",
)
pytestmark = pytest.mark.api
HOURLY: dict[str, Any] = {"cron": "0 * * * *"}
RANGE = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T03:00:00Z"}


@pytest.fixture
def schedule(tenant) -> Schedule:
    return make_schedule(tenant, HOURLY)


@dataclass(frozen=True)
class Asked:
    """A valid request of an operation, and how many queries it takes."""

    method: str
    suffix: str
    queries: int
    body: Any = None

    def send(self, api: Api, id: object) -> HttpResponse:
        return api.send(self.method, f"/api/v1/schedules/{id}{self.suffix}", self.body, if_match="*")


REQUESTS = [
    Asked("GET", "", 1),
    Asked("PATCH", "", 9, {"paused": True}),
    Asked("POST", "/pause", 9),
    Asked("POST", "/resume", 3),
    Asked("POST", "/fire", 14),
    Asked("GET", "/preview", 1),
    Asked("POST", "/backfill", 8, RANGE),
    Asked("GET", "/fires", 2),
]


@pytest.fixture(params=REQUESTS, ids=OPERATIONS)
def asked(request: pytest.FixtureRequest) -> Asked:
    chosen: Asked = request.param
    return chosen


def test_it_hides_other_tenants(other_api: Api, schedule: Schedule, asked: Asked):
    answer = asked.send(other_api, schedule.pk)
    assert_problem(answer, 404, "schedule_not_found")
    assert_same_answer(answer, asked.send(other_api, new_id()))


def test_it_needs_a_key(nobody: Api, schedule: Schedule, asked: Asked):
    assert_problem(asked.send(nobody, schedule.pk), 401, "not_authenticated")


def test_it_takes_so_many_queries(api: Api, schedule: Schedule, asked: Asked, django_assert_num_queries):
    api.get("/api/v1/me")
    if asked.suffix == "/fire":  # what a process has met before is not looked up again
        asked.send(api, schedule.pk)
        end(started(schedule)[0])
    with django_assert_num_queries(asked.queries):
        assert asked.send(api, schedule.pk).status_code in {200, 202}


def test_a_schedule_is_read_and_known_by_its_tag(api: Api, tenant, schedule: Schedule):
    path = f"/api/v1/schedules/{schedule.pk}"
    answer = api.get(path)
    body, tag = read(answer), answer.headers["ETag"]
    assert (body["workflow"], body["trigger"], body["version"], body["state"]) == ("nightly", "main", 1, "active")
    assert api.get(path, if_none_match=tag).status_code == 304
    tick(schedule.due_at)
    assert api.get(path, if_none_match=tag).status_code == 200


def test_it_is_paused_and_resumed_with_audit_and_event(api: Api, tenant, schedule: Schedule):
    path = f"/api/v1/schedules/{schedule.pk}"
    tag = api.get(path).headers["ETag"]
    answer = api.send("PATCH", path, {"paused": True}, if_match=tag)
    body = read(answer)
    assert (body["state"], body["pause_reason"], body["next_at"]) == ("paused", "requested", None)
    assert_problem(api.send("PATCH", path, {"paused": False}, if_match=tag), 412, "precondition_failed")
    assert_problem(api.send("PATCH", path, {"paused": False}), 428, "precondition_required")
    assert_problem(api.send("PATCH", path, {"cron": "* * * * *"}, if_match="*"), 422, "input_invalid")
    tick(timezone.now() + timedelta(days=1))
    assert slots(schedule) == []

    body = read(api.post(f"{path}/resume"))
    assert body["state"] == "active"
    assert body["next_at"] > timezone.now().isoformat()
    again = read(api.post(f"{path}/resume"))
    assert again == body
    actions = AuditEntry.objects.for_tenant(tenant).filter(target=f"schedule:{schedule.pk}").order_by("seq")
    assert [entry.action for entry in actions] == ["schedule.paused", "schedule.resumed"]
    types = [EventType.TRIGGER_PAUSED.value, EventType.TRIGGER_RESUMED.value]
    assert [
        event.type for event in EventRecord.objects.for_tenant(tenant).filter(type__in=types).order_by("id")
    ] == types


def test_it_fires_now_even_while_it_is_paused(api: Api, tenant, schedule: Schedule):
    api.post(f"/api/v1/schedules/{schedule.pk}/pause")
    answer = api.post(f"/api/v1/schedules/{schedule.pk}/fire")
    body = read(answer)
    assert (answer.status_code, body["state"], body["cause"]) == (202, "started", "manual")
    run = Run.objects.for_tenant(tenant).get(pk=body["run_id"])
    assert run.started_by["name"] == "a test"
    body = read(api.post(f"/api/v1/schedules/{schedule.pk}/fire"))
    assert (body["state"], body["reason"], body["run_id"]) == ("skipped", "overlap", None)


def test_a_request_with_a_key_that_is_repeated_fires_once(api: Api, tenant, schedule: Schedule):
    path = f"/api/v1/schedules/{schedule.pk}/fire"
    first, again = (api.post(path, idempotency_key="once") for _ in range(2))
    assert read(first) == read(again)
    assert Run.objects.for_tenant(tenant).count() == 1


def test_what_cannot_fire_says_why(api: Api, tenant, schedule: Schedule):
    path = f"/api/v1/schedules/{schedule.pk}"
    set_plan(tenant=tenant, plan="enterprise", overrides={Quota.RUNS_PER_DAY.value: 0}, by=a_test(tenant))
    assert_problem(api.post(f"{path}/fire"), 403, "quota_exceeded")
    assert not ScheduleFire.objects.for_tenant(tenant).exists()
    archive_workflow(by=a_test(tenant), name="nightly", archived=True)
    assert_problem(api.post(f"{path}/fire"), 409, "schedule_inactive")
    assert_problem(api.post(f"{path}/backfill", RANGE), 409, "schedule_inactive")


def test_a_preview_notes_clock_changes_and_rules(api: Api, tenant):
    config = {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "overlap": "buffer_one", "catch_up": "last"}
    schedule = make_schedule(tenant, config, next_at="2026-03-28 01:30")
    body = read(api.get(f"/api/v1/schedules/{schedule.pk}/preview?n=3"))
    found = [(slot["scheduled_for"], [note["code"] for note in slot["notes"]]) for slot in body["results"]]
    assert found == [
        ("2026-03-28T01:30:00+00:00", []),
        ("2026-03-29T01:00:00+00:00", ["dst_gap", "offset_changed"]),
        ("2026-03-30T00:30:00+00:00", []),
    ]
    assert body["results"][1]["local"] == "2026-03-29T03:00:00+02:00"
    assert {"overlap_buffer_one", "catch_up_last"} == {note["code"] for note in body["notes"]}
    schedule.wait_for(moment("2026-10-25 00:30"), "")
    schedule.save()
    body = read(api.get(f"/api/v1/schedules/{schedule.pk}/preview?n=1"))
    assert "dst_overlap" in [note["code"] for note in body["results"][0]["notes"]]
    assert_problem(api.get(f"/api/v1/schedules/{schedule.pk}/preview?n=0"), 422, "input_invalid")


def test_a_backfill_starts_the_slots_that_have_no_run_one_after_the_other(api: Api, tenant, schedule: Schedule):
    path = f"/api/v1/schedules/{schedule.pk}/backfill"
    schedule.wait_for(moment("2026-01-01 01:00"), "")
    schedule.save()
    tick(moment("2026-01-01 01:00:01"))
    dry = read(api.post(path, RANGE | {"dry_run": True}))
    assert (dry["count"], [slot["starts"] for slot in dry["slots"]]) == (2, [True, False, True])
    assert len(slots(schedule)) == 1

    answer = api.post(path, RANGE)
    assert (answer.status_code, read(answer)["count"]) == (202, 2)
    end(started(schedule)[0])
    for count in (2, 3):
        tick(moment("2026-01-01 01:10"))
        tick(moment("2026-01-01 01:10"))
        assert len(started(schedule)) == count
        for run in started(schedule):
            if run.finished_at is None:
                end(run)
    assert [slot for slot, _ in slots(schedule)] == ["2026-01-01 00:00", "2026-01-01 01:00", "2026-01-01 02:00"]
    assert read(api.post(path, RANGE))["count"] == 0


def test_a_backfill_takes_slots_out_of_a_range_of_missed_ones(api: Api, tenant, schedule: Schedule):
    row = ScheduleFire.objects.create(
        tenant=tenant, schedule=schedule, scheduled_for=moment("2026-01-01 00:00"), until=moment("2026-01-01 09:00"),
        count=10, cause="schedule", state=FireState.MISSED, fired_at=timezone.now(),
    )  # fmt: skip
    answer = read(api.post(f"/api/v1/schedules/{schedule.pk}/backfill", RANGE))
    assert [slot["state"] for slot in answer["slots"]] == ["missed"] * 3
    row.refresh_from_db()
    assert (row.scheduled_for, row.count) == (moment("2026-01-01 03:00"), 7)
    whole = {"from": "2026-01-01T03:00:00Z", "to": "2026-01-01T10:00:00Z"}
    assert read(api.post(f"/api/v1/schedules/{schedule.pk}/backfill", whole))["count"] == 7
    assert not ScheduleFire.objects.for_tenant(tenant).filter(state=FireState.MISSED).exists()


@pytest.mark.parametrize(
    "times",
    [
        {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"},
        {"from": "2026-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"},
        {"from": "2025-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"},
    ],
)
def test_a_range_that_is_not_in_the_past_or_too_large_is_refused(api: Api, schedule: Schedule, times: dict[str, str]):
    assert_problem(api.post(f"/api/v1/schedules/{schedule.pk}/backfill", times), 422, "backfill_invalid")


def test_the_slots_that_passed_are_listed_with_the_reason(api: Api, tenant, schedule: Schedule):
    schedule.wait_for(moment("2026-01-01 01:00"), "")
    schedule.save()
    for hour in (1, 2):
        tick(moment(f"2026-01-01 0{hour}:00:01"))
    path = f"/api/v1/schedules/{schedule.pk}/fires"
    rows = read(api.get(path))["results"]
    assert [(row["scheduled_for"], row["state"], row["reason"]) for row in rows] == [
        ("2026-01-01T02:00:00+00:00", "skipped", "overlap"),
        ("2026-01-01T01:00:00+00:00", "started", ""),
    ]
    assert rows[1]["run_id"] == str(started(schedule)[0].pk)
    assert len(read(api.get(f"{path}?state=skipped"))["results"]) == 1
    assert len(read(api.get(f"{path}?scheduled_before=2026-01-01T02:00:00Z"))["results"]) == 1


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [("workflows:read", {"", "/preview"}), ("runs:write", {"/pause", "/resume", "/fire", "/backfill"})],
)
def test_reading_and_operating_are_different_permissions(tenant, schedule: Schedule, scope: str, allowed: set[str]):
    api = Api(make_api_key(tenant, scopes=[scope])[1])
    answers: Callable[[Asked], int] = lambda asked: asked.send(api, schedule.pk).status_code  # noqa: E731
    found = {asked.suffix for asked in REQUESTS if asked.method != "PATCH" and answers(asked) != 403}
    assert found == allowed


def test_the_client_understands_the_answers(api: Api, schedule: Schedule):
    path = f"/api/v1/schedules/{schedule.pk}"
    models = {
        "": (api.get(path), pyflow_client.Schedule),
        "/fire": (api.post(f"{path}/fire"), pyflow_client.ScheduleFire),
        "/preview": (api.get(f"{path}/preview"), pyflow_client.SchedulePreview),
        "/backfill": (api.post(f"{path}/backfill", RANGE), pyflow_client.Backfill),
    }
    for part, (answer, model) in models.items():
        body = read(answer)
        assert model.model_validate(body).model_dump().keys() == body.keys(), part
