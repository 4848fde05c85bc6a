"""`GET /api/v1/members/{id}`."""

import pytest

from pyflow.core.ids import new_uuid
from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import make_member

OPERATION = "members_read"
PATH = "/api/v1/members"
pytestmark = pytest.mark.api


def test_it_shows_a_member_with_its_tag(api: Api, tenant):
    member = make_member(tenant)
    response = api.get(f"{PATH}/{member.pk}")
    assert read(response)["id"] == str(member.pk)
    assert response.headers["ETag"].startswith('"')


def test_it_needs_a_key(nobody: Api, tenant):
    assert_problem(nobody.get(f"{PATH}/{make_member(tenant).pk}"), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, tenant):
    """auth-032."""
    theirs = other_api.get(f"{PATH}/{make_member(tenant).pk}")
    assert_problem(theirs, 404, "member_not_found")
    assert_same_answer(theirs, other_api.get(f"{PATH}/{new_uuid()}"))


def test_what_is_no_id_is_nothing(api: Api):
    for name in ("1", "self", "..%2f", "%00"):
        assert_problem(api.get(f"{PATH}/{name}"), 404, "not_found")


def test_its_queries_are_counted(api: Api, tenant, django_assert_num_queries):
    member = make_member(tenant)
    api.get(PATH)
    with django_assert_num_queries(1):
        assert api.get(f"{PATH}/{member.pk}").status_code == 200
