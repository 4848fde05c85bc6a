"""`GET /api/v1/me`."""

import pytest

from tenants.access import Role, permissions_of
from tests.support.api import Api, assert_problem, read
from tests.support.factories import members
from tests.support.factories.rows import make_api_key, make_member

OPERATION = "me_read"
PATH = "/api/v1/me"
pytestmark = pytest.mark.api


def test_it_says_who_a_key_is(tenant):
    key, text = make_api_key(tenant, "deploy", role="editor", scopes=["runs:write", "members:write"])
    assert read(Api(text).get(PATH)) == {
        "kind": "key",
        "id": str(key.pk),
        "name": "deploy",
        "role": "editor",
        "scopes": ["members:write", "runs:write"],
        "permissions": ["runs:write"],
        "user": None,
        "tenant": {"id": str(tenant.pk), "slug": tenant.slug, "name": tenant.name},
    }


def test_it_names_the_member_behind_a_key(tenant):
    member = make_member(tenant, name="ada")
    _, text = make_api_key(tenant, created_by=member.user)
    body = read(Api(text).get(PATH))
    assert (body["user"]["username"], body["role"]) == ("ada@example.org", "viewer")


@pytest.mark.parametrize("role", Role)
def test_it_lists_what_a_role_may(tenant, role: Role):
    body = read(Api(make_api_key(tenant, role=role.value)[1]).get(PATH))
    assert (body["scopes"], set(body["permissions"])) == (None, set(permissions_of(role)))


def test_it_says_who_a_user_is(tenant):
    member = make_member(tenant, Role.EDITOR)
    body = read(members.api_of(member).get(PATH))
    assert (body["kind"], body["role"], body["scopes"]) == ("user", "editor", None)
    assert body["user"]["id"] == member.user_id


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(PATH), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, other_tenant, tenant):
    response = other_api.get(PATH)
    assert read(response)["tenant"]["slug"] == other_tenant.slug
    assert tenant.slug.encode() not in response.content.replace(other_tenant.slug.encode(), b"")


def test_its_queries_are_counted(tenant, django_assert_num_queries):
    api = Api(make_api_key(tenant, created_by=make_member(tenant).user)[1])
    api.get(PATH)
    with django_assert_num_queries(2):  # the user, the tenant
        api.get(PATH)
