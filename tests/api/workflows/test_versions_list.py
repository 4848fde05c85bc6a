"""`GET /api/v1/workflows/{name}/versions`."""

import pytest

from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import HELLO, make_api_key, make_draft, make_workflow

OPERATION = "versions_list"
PATH = "/api/v1/workflows/hello/versions"
pytestmark = pytest.mark.api


def test_the_newest_comes_first(api: Api, tenant):
    make_workflow(tenant)
    make_draft(tenant, HELLO.replace("Greets", "Greets again"))
    second, first = read(api.get(PATH))["results"]
    assert (second["number"], second["state"], second["published_at"]) == (2, "draft", None)
    assert (first["number"], first["state"], first["workflow"]) == (1, "published", "hello")
    assert first["published_at"]


def test_pages_and_states(api: Api, tenant):
    make_workflow(tenant)
    make_draft(tenant)
    assert [item["number"] for item in read(api.get(f"{PATH}?state=draft"))["results"]] == [2]
    page = read(api.get(f"{PATH}?limit=1"))
    assert [item["number"] for item in page["results"]] == [2]
    following = read(api.get(page["next"].removeprefix("http://testserver")))
    assert [item["number"] for item in following["results"]] == [1]
    assert_problem(api.get(f"{PATH}?stat=draft"), 422, "input_invalid")


def test_it_needs_a_key(nobody: Api, tenant):
    make_workflow(tenant)
    assert_problem(nobody.get(PATH), 401, "not_authenticated")


def test_a_viewer_may(tenant):
    make_workflow(tenant)
    viewer = Api(make_api_key(tenant, role="viewer")[1])
    assert viewer.get(PATH).status_code == 200


def test_it_hides_other_tenants(other_api: Api, tenant):
    make_workflow(tenant)
    hidden, unknown = other_api.get(PATH), other_api.get("/api/v1/workflows/unknown/versions")
    assert_problem(hidden, 404, "workflow_not_found")
    assert_same_answer(hidden, unknown)


def test_its_queries_do_not_grow(api: Api, tenant, django_assert_num_queries):
    make_workflow(tenant)
    for _ in range(4):
        make_draft(tenant)
    api.get(PATH)
    with django_assert_num_queries(2):
        assert len(read(api.get(PATH))["results"]) == 5
