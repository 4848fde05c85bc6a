"""`GET /api/v1/api-keys`."""

import pytest

from tests.support.api import Api, assert_problem, read
from tests.support.factories.rows import make_api_key, make_member

OPERATION = "api_keys_list"
PATH = "/api/v1/api-keys"
pytestmark = pytest.mark.api


def test_it_reports_everything_but_the_secret(api: Api, tenant):
    """auth-021."""
    member = make_member(tenant)
    key, text = make_api_key(tenant, "deploy", role="editor", scopes=["runs:write"], created_by=member.user)
    response = api.get(PATH)
    newest, _ = read(response)["results"]
    assert (newest["name"], newest["role"], newest["scopes"]) == ("deploy", "editor", ["runs:write"])
    assert (newest["prefix"], newest["last4"], newest["usable"]) == (key.key_id, text[-4:], True)
    assert newest["created_by"]["id"] == member.user_id
    assert newest.keys() == {
        "id", "name", "prefix", "last4", "role", "scopes", "usable", "created_by", "created_at", "expires_at",
        "revoked_at", "last_used_at", "replaced_by",
    }  # fmt: skip
    secret = text.split("_")[3]
    assert secret[:32].encode() not in response.content
    assert key.secret_hash.encode() not in response.content


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("editor", 403), ("admin", 200), ("owner", 200)])
def test_it_is_for_admins(tenant, role: str, status: int):
    assert Api(make_api_key(tenant, role=role)[1]).get(PATH).status_code == status


def test_a_key_needs_the_scope(tenant):
    assert_problem(Api(make_api_key(tenant, scopes=["keys:write"])[1]).get(PATH), 403, "forbidden")


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(PATH), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, tenant):
    make_api_key(tenant, "theirs")
    assert b"theirs" not in other_api.get(PATH).content


def test_its_queries_do_not_grow_with_what_there_is(api: Api, tenant, django_assert_num_queries):
    for _ in range(4):
        make_api_key(tenant, created_by=make_member(tenant).user)
    api.get(PATH)
    with django_assert_num_queries(1):
        assert len(read(api.get(PATH))["results"]) == 5
