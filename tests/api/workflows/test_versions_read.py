"""`GET /api/v1/workflows/{name}/versions/{number}`."""

import pytest

from tests.support.api import YAML, Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import HELLO, make_api_key, make_workflow

OPERATION = "versions_read"
PATH = "/api/v1/workflows/hello/versions/1"
pytestmark = pytest.mark.api


def test_an_earlier_version_is_as_it_was(api: Api, tenant):
    first = make_workflow(tenant)
    make_workflow(tenant, HELLO.replace("Greets", "Greets again"))
    body = read(api.get(PATH))
    assert (body["number"], body["checksum"], body["copied_from"]) == (1, first.checksum, None)
    assert body["definition"]["description"] == "Greets"


def test_the_document_comes_back_byte_for_byte(api: Api, tenant):
    make_workflow(tenant)
    make_workflow(tenant, HELLO.replace("Greets", "Greets again"))
    response = api.get(f"{PATH}?format=yaml")
    assert (response.headers["Content-Type"], response.content) == (YAML, HELLO.encode())
    assert read(api.get(f"{PATH}?format=json"))["description"] == "Greets"


def test_what_one_has_is_not_sent_again(api: Api, tenant):
    make_workflow(tenant)
    assert api.get(PATH, if_none_match=api.get(PATH).headers["ETag"]).status_code == 304


@pytest.mark.parametrize("number", ["0", "2", "99999999999999999999"])
def test_an_unknown_number_is_not_found(api: Api, tenant, number: str):
    make_workflow(tenant)
    assert_problem(api.get(f"/api/v1/workflows/hello/versions/{number}"), 404, "version_not_found")


def test_it_needs_a_key(nobody: Api, tenant):
    make_workflow(tenant)
    assert_problem(nobody.get(PATH), 401, "not_authenticated")


def test_a_viewer_may(tenant):
    make_workflow(tenant)
    viewer = Api(make_api_key(tenant, role="viewer")[1])
    assert viewer.get(PATH).status_code == 200


def test_it_hides_other_tenants(other_api: Api, tenant):
    make_workflow(tenant)
    hidden, unknown = other_api.get(PATH), other_api.get("/api/v1/workflows/unknown/versions/1")
    assert_problem(hidden, 404, "workflow_not_found")
    assert_same_answer(hidden, unknown)


def test_its_queries_are_counted(api: Api, tenant, django_assert_num_queries):
    make_workflow(tenant)
    api.get(PATH)
    with django_assert_num_queries(2):
        assert api.get(PATH).status_code == 200
