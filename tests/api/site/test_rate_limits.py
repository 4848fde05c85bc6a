"""`RateLimit-Policy`, `RateLimit` and `Retry-After`: every answer says how much more may be asked for."""

import re

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient

from tenants.access import Actor
from tenants.models import Tenant
from tenants.quotas import set_plan
from tests.support.api import YAML, Api, assert_problem
from tests.support.factories.rows import HELLO, make_api_key, make_run, make_workflow

ME = "/api/v1/me"
pytestmark = pytest.mark.api


def limit(tenant: Tenant, **limits: int | None) -> None:
    overrides = {f"{whose}_requests_per_minute": limit for whose, limit in limits.items()}
    set_plan(tenant=tenant, plan="enterprise", overrides=overrides, by=Actor.system(tenant.pk, "a test"))


def left(response) -> dict[str, int]:
    """What is left, by the name of the policy."""
    items = [re.fullmatch(r'"(\w+)";r=(\d+);t=(\d+)', item) for item in response.headers["RateLimit"].split(", ")]
    assert all(items), response.headers["RateLimit"]
    assert all(0 <= int(item[3]) <= 60 for item in items if item)
    return {item[1]: int(item[2]) for item in items if item}


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/workflows", {}, 200),
        ("POST", "/workflows", {}, 201),
        ("GET", "/workflows/unknown", {}, 404),
        ("DELETE", "/workflows", {}, 405),
        ("GET", "/workflows", {"accept": "text/html"}, 406),
        ("POST", "/workflows", {"content_type": "text/plain"}, 415),
        ("GET", "/workflows?unknown=1", {}, 422),
    ],
)
def test_an_authenticated_caller_gets_the_limits_of_tenant_and_key(tenant, api: Api, method, path, headers, status):
    limit(tenant, api=100, key=50)
    headers = {"content_type": YAML, **headers}
    for number in (1, 2):
        body = HELLO.replace("hello", f"hello-{number}") if method == "POST" else None
        response = api.send(method, f"/api/v1{path}", body, **headers)
        assert response.status_code == status
        assert response.headers["RateLimit-Policy"] == '"tenant";q=100;w=60, "key";q=50;w=60'
        assert left(response) == {"tenant": 100 - number, "key": 50 - number}, "whatever becomes of it, it counts once"


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("/api/v1/me", "", 401),
        ("/api/v1/nothing", "", 404),
        ("/api/v1", "", 404),
        ("/api/v1/me", "text/html", 406),
        ("/api/v1/health/live", "", 200),
        ("/api/v1/schema", "", 200),
    ],
)
def test_an_unauthenticated_caller_gets_the_limit_of_failures(nobody: Api, path: str, accept: str, status: int):
    for _ in range(2):
        response = nobody.get(path, accept=accept or "*/*")
        assert response.status_code == status
        assert response.headers["RateLimit-Policy"] == '"failures";q=30;w=60'
        assert left(response) == {"failures": 30}, "nobody tried to prove anything"


def test_a_wrong_key_leaves_one_failure_less(tenant):
    key, text = make_api_key(tenant)
    key.revoke()
    for number in range(1, 4):
        response = Api(text).get(ME)
        assert_problem(response, 401, "authentication_failed")
        assert left(response) == {"failures": 30 - number}


def test_pages_and_static_files_are_no_part_of_it(nobody: Api):
    for path in ("/api/docs/problems", "/", "/api/v1x"):
        assert "RateLimit" not in nobody.get(path).headers


def test_an_asynchronous_server_says_it_too(db):
    response = async_to_sync(AsyncClient().get)("/api/v1/health/live")
    assert left(response) == {"failures": 30}


def test_a_caller_beyond_the_limit_gets_retry_after(tenant, api: Api):
    limit(tenant, key=2)
    api.get(ME)
    api.get(ME)
    for _ in range(3):
        response = api.get(ME)
        body = assert_problem(response, 429, "rate_limited")
        assert "this key may make 2 a minute" in body["detail"]
        assert 1 <= int(response.headers["Retry-After"]) <= 60
        assert left(response)["key"] == 0
    assert Api(make_api_key(tenant)[1]).get(ME).status_code == 200, "another key has its own"


def test_the_keys_of_a_tenant_share_what_is_the_tenants(tenant, api: Api, other_api: Api):
    limit(tenant, api=3)
    assert [api.get(ME).status_code for _ in range(2)] == [200, 200]
    another = Api(make_api_key(tenant)[1])
    assert left(another.get(ME))["tenant"] == 0
    body = assert_problem(another.get(ME), 429, "rate_limited")
    assert "the tenant may make 3 a minute" in body["detail"]
    assert other_api.get(ME).status_code == 200, "other tenants are not held up"


def test_what_is_refused_does_nothing(tenant, api: Api):
    limit(tenant, key=1)
    make_workflow(tenant)
    api.get(ME)
    assert_problem(api.post("/api/v1/workflows", HELLO.replace("hello", "other"), YAML), 429, "rate_limited")
    limit(tenant)
    assert api.get("/api/v1/workflows/other").status_code == 404


def test_asking_in_a_format_that_there_is_not_is_no_way_around(tenant, api: Api):
    limit(tenant, key=1)
    assert_problem(api.get(ME, accept="text/html"), 406, "not_acceptable")
    assert_problem(api.get(ME, accept="text/html"), 429, "rate_limited")


def test_without_limits_only_failures_are_reported(tenant, api: Api):
    limit(tenant, api=None, key=None)
    assert left(api.get(ME)) == {"failures": 30}


def test_a_new_limit_holds_for_the_next_request(tenant, api: Api):
    run = make_run(tenant)
    path = f"/api/v1/runs/{run.pk}"
    limit(tenant, key=10)
    assert left(api.get(path))["key"] == 9
    limit(tenant, key=1)
    assert_problem(api.get(path), 429, "rate_limited")
