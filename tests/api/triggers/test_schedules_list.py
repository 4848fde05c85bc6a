"""`GET /api/v1/schedules`."""

import pytest

from tests.support.api import Api, assert_problem, read
from tests.support.factories.rows import a_test, make_workflow
from tests.support.factories.schedules import make_schedule, source
from triggers.models.schedules import Schedule
from triggers.services.schedules.verbs import pause_schedule
from workflows.services import archive_workflow

OPERATION = "schedules_list"
PATH = "/api/v1/schedules"
pytestmark = pytest.mark.api
DAILY = {"cron": "0 2 * * *", "timezone": "Europe/Berlin"}


def listed(api: Api, query: str = "") -> list[str]:
    return [f"{item['workflow']}/{item['trigger']}" for item in read(api.get(PATH + query))["results"]]


def test_schedules_are_listed_with_their_state(api: Api, tenant):
    make_workflow(tenant, source("a", one=DAILY, two={"at": "2020-01-01T00:00:00Z"}))
    paused = make_schedule(tenant, {"interval": "1h"}, name="b")
    pause_schedule(by=a_test(tenant), schedule_id=paused.pk, paused=True)
    make_schedule(tenant, DAILY, name="c")
    archive_workflow(by=a_test(tenant), name="c", archived=True)

    found = {item["workflow"] + item["trigger"]: item for item in read(api.get(PATH))["results"]}
    states = {name: item["state"] for name, item in found.items()}
    assert states == {"aone": "active", "atwo": "finished", "bmain": "paused", "cmain": "inactive"}
    assert found["aone"]["config"] == DAILY
    assert found["aone"]["next_at"] == found["aone"]["fires_at"]
    for state, names in {
        "active": ["a/one"],
        "finished": ["a/two"],
        "paused": ["b/main"],
        "inactive": ["c/main"],
    }.items():
        assert listed(api, f"?state={state}") == names
    assert listed(api, "?state=active&state=paused") == ["a/one", "b/main"]
    assert listed(api, "?workflow=b&workflow=c") == ["b/main", "c/main"]
    assert listed(api, "?search=tw") == ["a/two"]
    assert_problem(api.get(f"{PATH}?state=asleep"), 422, "input_invalid")


def test_pages(api: Api, tenant):
    make_workflow(tenant, source("a", one=DAILY, two=DAILY, three=DAILY))
    first = read(api.get(f"{PATH}?limit=2"))
    assert (len(first["results"]), len(listed(api, "?" + first["next"].partition("?")[2]))) == (2, 1)


def test_it_hides_other_tenants(other_api: Api, tenant):
    make_schedule(tenant, DAILY)
    assert listed(other_api) == []


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(PATH), 401, "not_authenticated")


def test_it_asks_the_database_once(api: Api, tenant, django_assert_num_queries):
    make_workflow(tenant, source("a", one=DAILY, two=DAILY))
    api.get(PATH)
    with django_assert_num_queries(1):
        assert len(listed(api)) == 2
    assert Schedule.objects.for_tenant(tenant).count() == 2
