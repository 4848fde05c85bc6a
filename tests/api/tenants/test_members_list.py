"""`GET /api/v1/members`."""

import pytest

from tenants.access import Role
from tests.support.api import Api, assert_problem, read
from tests.support.factories.rows import make_api_key, make_member

OPERATION = "members_list"
PATH = "/api/v1/members"
pytestmark = pytest.mark.api


def test_it_lists_members_in_the_order_of_their_joining(api: Api, tenant):
    ada = make_member(tenant, Role.OWNER, "ada")
    make_member(tenant, Role.VIEWER, "bob")
    first, second = read(api.get(PATH))["results"]
    assert first["user"] == {"id": ada.user_id, "username": "ada@example.org", "email": "ada@example.org"}
    assert (first["id"], first["role"]) == (str(ada.pk), "owner")
    assert second["role"] == "viewer"
    assert first.keys() == {"id", "user", "role", "created_at", "updated_at"}


@pytest.mark.vendor("each vendor searches text in its own way")
def test_a_role_or_part_of_a_name_narrows_it(api: Api, tenant):
    make_member(tenant, Role.OWNER, "ada")
    make_member(tenant, Role.VIEWER, "bob")
    assert [item["role"] for item in read(api.get(f"{PATH}?role=viewer"))["results"]] == ["viewer"]
    assert [item["role"] for item in read(api.get(f"{PATH}?search=ADA"))["results"]] == ["owner"]
    assert read(api.get(f"{PATH}?search=nobody"))["results"] == []


@pytest.mark.parametrize("query", ["rolle=viewer", "role=king", "limit=0", "limit=201", "limit=x"])
def test_a_query_that_means_nothing_is_refused(api: Api, query: str):
    assert_problem(api.get(f"{PATH}?{query}"), 422, "input_invalid")


def test_its_pages_hold_everyone_once_while_others_join(api: Api, tenant):
    made = [str(make_member(tenant).pk) for _ in range(5)]
    seen, path = [], f"{PATH}?limit=2"
    while path is not None:
        page = api.get(path)
        seen += [item["id"] for item in read(page)["results"]]
        path = read(page)["next"]
        if path is not None:
            assert f'<{path}>; rel="next"' in page.headers["Link"]
            make_member(tenant) if len(seen) == 2 else None
    assert seen[:5] == made
    assert len(seen) == len(set(seen)) == 6


def test_every_role_may_read_it_and_a_key_needs_the_scope(tenant):
    for role in Role:
        assert Api(make_api_key(tenant, role=role.value)[1]).get(PATH).status_code == 200
    narrowed = Api(make_api_key(tenant, scopes=["runs:read"])[1])
    assert "members:read" in assert_problem(narrowed.get(PATH), 403, "forbidden")["detail"]


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(PATH), 401, "not_authenticated")


def test_it_hides_other_tenants(api: Api, other_api: Api, tenant):
    make_member(tenant)
    make_member(tenant)
    assert read(other_api.get(PATH))["results"] == []
    cursor = read(api.get(f"{PATH}?limit=1"))["next"]
    assert_problem(other_api.get(cursor), 400, "cursor_invalid")  # auth-038


def test_its_queries_do_not_grow_with_what_there_is(api: Api, tenant, django_assert_num_queries):
    for _ in range(5):
        make_member(tenant)
    api.get(PATH)
    with django_assert_num_queries(1):
        assert len(read(api.get(PATH))["results"]) == 5
