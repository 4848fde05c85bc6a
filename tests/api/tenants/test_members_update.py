"""`PATCH /api/v1/members/{id}`."""

import json

import pytest

from pyflow.core.ids import new_uuid
from tenants.access import Role
from tenants.models import AuditEntry
from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import make_api_key, make_member

OPERATION = "members_update"
PATH = "/api/v1/members"
pytestmark = pytest.mark.api


def patch(api: Api, member, body, if_match: str = "*"):
    return api.send("PATCH", f"{PATH}/{member.pk}", body, if_match=if_match)


def acting(tenant, role: Role, **values) -> Api:
    return Api(make_api_key(tenant, role=role.value, **values)[1])


def test_it_changes_a_role_and_is_audited(api: Api, tenant):
    member = make_member(tenant, Role.VIEWER)
    before = api.get(f"{PATH}/{member.pk}").headers["ETag"]
    response = patch(api, member, {"role": "editor"}, before)
    assert read(response)["role"] == "editor"
    assert response.headers["ETag"] not in {"", before}
    member.refresh_from_db()
    assert member.role == "editor"
    entry = AuditEntry.objects.for_tenant(tenant).get()
    record = json.loads(entry.record)
    assert (entry.action, entry.target) == ("member.role_changed", f"member:{member.pk}")
    assert (record["before"]["role"], record["after"]["role"]) == ("viewer", "editor")
    assert record["request_id"] == response.headers["X-Request-ID"]


def test_the_same_role_changes_nothing(api: Api, tenant):
    assert patch(api, make_member(tenant, Role.VIEWER), {"role": "viewer"}).status_code == 200
    assert not AuditEntry.objects.for_tenant(tenant).exists()


def test_nobody_overwrites_what_they_have_not_seen(api: Api, tenant):
    member = make_member(tenant, Role.VIEWER)
    seen = api.get(f"{PATH}/{member.pk}").headers["ETag"]
    patch(api, member, {"role": "editor"}, seen)
    assert_problem(patch(api, member, {"role": "admin"}, seen), 412, "precondition_failed")
    plain = api.send("PATCH", f"{PATH}/{member.pk}", {"role": "admin"})
    assert_problem(plain, 428, "precondition_required")
    member.refresh_from_db()
    assert member.role == "editor"


def test_the_last_owner_is_not_demoted(api: Api, tenant):
    ada = make_member(tenant, Role.OWNER)
    assert_problem(patch(api, ada, {"role": "admin"}), 409, "last_owner")
    make_member(tenant, Role.OWNER)
    assert patch(api, ada, {"role": "admin"}).status_code == 200


@pytest.mark.parametrize(
    ("role", "of", "to", "status"),
    [
        (Role.VIEWER, Role.VIEWER, "editor", 403),
        (Role.EDITOR, Role.EDITOR, "owner", 403),  # auth-026
        (Role.ADMIN, Role.VIEWER, "admin", 200),
        (Role.ADMIN, Role.VIEWER, "owner", 403),
        (Role.ADMIN, Role.OWNER, "viewer", 403),
        (Role.OWNER, Role.ADMIN, "owner", 200),
    ],
)
def test_nobody_gives_more_than_they_have(tenant, role: Role, of: Role, to: str, status: int):
    make_member(tenant, Role.OWNER)
    member = make_member(tenant, of)
    assert patch(acting(tenant, role), member, {"role": to}).status_code == status


def test_the_scopes_of_a_key_bound_what_it_gives(tenant):
    """Or a key for members could make somebody who may do what the key may not."""
    member = make_member(tenant, Role.EDITOR)
    narrowed = acting(tenant, Role.OWNER, scopes=["members:read", "members:write"])
    assert_problem(patch(narrowed, member, {"role": "viewer"}), 403, "beyond_own_rights")


@pytest.mark.parametrize(
    "body", [{}, {"role": "king"}, {"role": None}, {"role": "viewer", "id": 1}, [], "viewer", {"role": ["viewer"]}]
)
def test_what_is_no_role_is_refused(api: Api, tenant, body):
    assert_problem(patch(api, make_member(tenant), json.dumps(body)), 422, "input_invalid")


def test_it_needs_a_key(nobody: Api, tenant):
    assert_problem(patch(nobody, make_member(tenant), {"role": "admin"}), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, tenant):
    member = make_member(tenant, Role.VIEWER)
    theirs = patch(other_api, member, {"role": "admin"})
    assert_problem(theirs, 404, "member_not_found")
    assert_same_answer(theirs, other_api.send("PATCH", f"{PATH}/{new_uuid()}", {"role": "admin"}, if_match="*"))
    member.refresh_from_db()
    assert member.role == "viewer"


def test_its_queries_are_counted(api: Api, tenant, django_assert_num_queries):
    member = make_member(tenant, Role.VIEWER)
    patch(api, make_member(tenant), {"role": "editor"})  # the key is checked, the audit has begun
    api.get("/api/v1/me")  # the caller's own access was looked at again
    with django_assert_num_queries(
        7
    ):  # the owners, the member; its role, the tenant's version; the audit's head, entry and head
        patch(api, member, {"role": "editor"})
