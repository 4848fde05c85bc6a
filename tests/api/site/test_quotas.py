"""`GET /api/v1/quotas`."""

import pytest

from tenants.access import Actor, Permission
from tenants.plans import Quota
from tenants.quotas import set_plan
from tests.support.api import Api, assert_problem, read
from tests.support.factories.rows import make_api_key

PATH = "/api/v1/quotas"
OPERATION = "quotas_read"
pytestmark = pytest.mark.api


def test_it_reports_the_plan_and_every_limit(api: Api, tenant):
    set_plan(
        tenant=tenant, plan="free", overrides={"workflows": 3, "stored_bytes": None}, by=Actor.system(tenant.pk, "x")
    )
    body = read(api.get(PATH))
    assert body["plan"] == "free"
    limits = {item["quota"]: (item["limit"], item["overridden"]) for item in body["quotas"]}
    assert limits.keys() == set(Quota)
    assert limits["workflows"] == (3, True)
    assert limits["stored_bytes"] == (None, True)
    assert limits["runs_per_day"] == (1000, False)


def test_it_hides_other_tenants(api: Api, other_api: Api, tenant):
    set_plan(tenant=tenant, plan="free", overrides={"workflows": 3}, by=Actor.system(tenant.pk, "x"))
    assert read(api.get(PATH))["plan"] == "free"
    assert read(other_api.get(PATH))["plan"] == "enterprise"


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(PATH), 401, "not_authenticated")


def test_it_needs_the_scope(tenant):
    _, text = make_api_key(tenant, scopes=[Permission.RUNS_READ.value])
    assert_problem(Api(text).get(PATH), 403, "forbidden")


def test_its_queries_are_counted(api: Api, django_assert_num_queries):
    api.get(PATH)
    with django_assert_num_queries(0):
        api.get(PATH)
