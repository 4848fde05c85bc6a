"""`GET /api/v1/usage`."""

from datetime import UTC, datetime, timedelta

import pytest

from tenants.access import Actor, Permission
from tenants.models import UsageCounter
from tenants.plans import Quota
from tenants.quotas import set_plan
from tests.support.api import Api, assert_problem, read
from tests.support.factories.rows import HELLO, make_api_key, make_run

PATH = "/api/v1/usage"
OPERATION = "usage_read"
pytestmark = pytest.mark.api


def by_quota(body: dict) -> dict[str, dict]:
    return {item["quota"]: item for item in body["quotas"]}


def test_it_reports_what_is_used_of_each_quota(api: Api, tenant):
    set_plan(tenant=tenant, plan="free", overrides={}, by=Actor.system(tenant.pk, "x"))
    make_run(tenant)
    make_run(tenant)
    body = read(api.get(PATH))
    quotas = by_quota(body)
    assert quotas.keys() == set(Quota)
    assert (body["plan"], quotas["workflows"]["used"], quotas["workflows"]["limit"]) == ("free", 1, 25)
    assert quotas["concurrent_runs"]["used"] == 0, "both wait in the queue"
    assert quotas["runs_per_day"]["used"] == 2
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    assert quotas["runs_per_day"]["resets_at"] == f"{tomorrow}T00:00:00+00:00"
    assert quotas["stored_bytes"]["used"] == len(HELLO) + 2 * len('{"who":"Ada"}')
    assert (quotas["nodes_per_workflow"]["used"], quotas["nodes_per_workflow"]["limit"]) == (None, 100)


def test_requests_are_counted_with_this_one(api: Api, tenant):
    for number in range(1, 4):
        quotas = by_quota(read(api.get(PATH)))
        assert quotas["api_requests_per_minute"]["used"] == quotas["key_requests_per_minute"]["used"] == number
    other_key = Api(make_api_key(tenant)[1])
    quotas = by_quota(read(other_key.get(PATH)))
    assert (quotas["api_requests_per_minute"]["used"], quotas["key_requests_per_minute"]["used"]) == (4, 1)


@pytest.mark.vendor("each vendor has dates of its own")
def test_the_history_has_every_day_that_is_asked_for(api: Api, tenant):
    for period, count in (("2026-02-27", 3), ("2026-03-01/05", 4), ("2026-03-01/06", 1), ("2026-03-02", 9)):
        UsageCounter.objects.create(tenant=tenant, name="runs_per_day", period=period, count=count)
    body = read(api.get(f"{PATH}?from=2026-02-27&to=2026-03-01"))
    assert body["history"] == [
        {"date": "2026-02-27", "runs": 3},
        {"date": "2026-02-28", "runs": 0},
        {"date": "2026-03-01", "runs": 5},
    ]


def test_the_history_is_that_of_thirty_days_unless_it_is_said(api: Api):
    days = [item["date"] for item in read(api.get(PATH))["history"]]
    assert len(days) == 30
    assert days[-1] == datetime.now(UTC).date().isoformat()
    assert len(read(api.get(f"{PATH}?to=2026-03-01"))["history"]) == 30


@pytest.mark.parametrize(
    "query",
    [
        "from=2026-03-02&to=2026-03-01",
        "from=2020-01-01&to=2026-03-01",
        "from=yesterday",
        "form=2026-03-01",
        "to=0001-01-05&from=0001-02-01",
    ],
)
def test_a_range_that_makes_no_sense_is_refused(api: Api, query: str):
    assert_problem(api.get(f"{PATH}?{query}"), 422, "input_invalid")


@pytest.mark.vendor("each vendor has dates of its own")
@pytest.mark.parametrize("query", ["to=0001-01-05", "to=9999-12-31"])
def test_the_ends_of_the_calendar_are_days_too(api: Api, query: str):
    assert api.get(f"{PATH}?{query}").status_code == 200


def test_it_hides_other_tenants(api: Api, other_api: Api, tenant):
    make_run(tenant)
    quotas = by_quota(read(other_api.get(PATH)))
    assert quotas["runs_per_day"]["used"] == quotas["workflows"]["used"] == quotas["stored_bytes"]["used"] == 0
    assert all(day["runs"] == 0 for day in read(other_api.get(PATH))["history"])


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(PATH), 401, "not_authenticated")


def test_it_needs_the_scope(tenant):
    _, text = make_api_key(tenant, scopes=[Permission.RUNS_READ.value])
    assert_problem(Api(text).get(PATH), 403, "forbidden")


def test_its_queries_are_counted(api: Api, django_assert_num_queries):
    api.get(PATH)
    with django_assert_num_queries(7):
        # the history, two counters, the workflows, the webhooks, the running runs, places that they share
        api.get(PATH)
