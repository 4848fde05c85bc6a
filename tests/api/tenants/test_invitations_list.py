"""`GET /api/v1/invitations`."""

import pytest

from tests.support.api import Api, assert_problem, read
from tests.support.factories.rows import make_api_key, make_invitation

OPERATION = "invitations_list"
PATH = "/api/v1/invitations"
pytestmark = pytest.mark.api


def test_it_lists_the_newest_first_without_their_tokens(api: Api, tenant):
    _, token = make_invitation(tenant, "ada@example.org")
    make_invitation(tenant, "bob@example.org")
    response = api.get(PATH)
    assert [item["email"] for item in read(response)["results"]] == ["bob@example.org", "ada@example.org"]
    assert {item["state"] for item in read(response)["results"]} == {"open"}
    assert token.encode() not in response.content
    assert b"token" not in response.content


def test_an_address_narrows_it(api: Api, tenant):
    make_invitation(tenant, "ada@example.org")
    make_invitation(tenant, "bob@example.org")
    (item,) = read(api.get(f"{PATH}?email=ADA@example.org"))["results"]
    assert item["email"] == "ada@example.org"
    assert_problem(api.get(f"{PATH}?mail=x"), 422, "input_invalid")


def test_a_viewer_may_read_it_and_a_key_needs_the_scope(tenant):
    assert Api(make_api_key(tenant, role="viewer")[1]).get(PATH).status_code == 200
    assert_problem(Api(make_api_key(tenant, scopes=["runs:read"])[1]).get(PATH), 403, "forbidden")


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(PATH), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, tenant):
    make_invitation(tenant)
    assert read(other_api.get(PATH))["results"] == []


def test_its_queries_do_not_grow_with_what_there_is(api: Api, tenant, django_assert_num_queries):
    for _ in range(4):
        make_invitation(tenant)
    api.get(PATH)
    with django_assert_num_queries(1):
        assert len(read(api.get(PATH))["results"]) == 4
