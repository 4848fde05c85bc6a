"""`DELETE /api/v1/members/{id}`."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from pyflow.core.ids import new_uuid
from tenants.access import Role
from tenants.models import ApiKey, AuditEntry, Membership, RefreshToken
from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import make_api_key, make_member, make_tenant

OPERATION = "members_remove"
PATH = "/api/v1/members"
pytestmark = pytest.mark.api


def remove(api: Api, member, **headers):
    return api.send("DELETE", f"{PATH}/{member.pk}", **headers)


def test_it_ends_a_membership_and_is_audited(api: Api, tenant):
    member = make_member(tenant, Role.EDITOR)
    response = remove(api, member)
    assert (response.status_code, response.content) == (204, b"")
    assert not Membership.objects.for_tenant(tenant).exists()
    assert AuditEntry.objects.for_tenant(tenant).get().action == "member.removed"
    assert_problem(remove(api, member), 404, "member_not_found")


def test_the_keys_and_tokens_of_the_member_end_for_good(api: Api, tenant):
    member = make_member(tenant, Role.ADMIN)
    key, text = make_api_key(tenant, created_by=member.user)
    token = RefreshToken.objects.create(
        tenant=tenant, user=member.user, family=new_uuid(), token_hash="h", expires_at=timezone.now() + timedelta(1)
    )
    assert Api(text).get("/api/v1/me").status_code == 200
    remove(api, member)
    assert_problem(Api(text).get("/api/v1/me"), 401, "authentication_failed")
    Membership.objects.create(tenant=tenant, user=member.user, role="admin")  # invited again
    key.refresh_from_db()
    token.refresh_from_db()
    assert key.revoked_at is not None
    assert token.revoked_at is not None
    assert_problem(Api(text).get("/api/v1/me"), 401, "authentication_failed")


def test_the_keys_of_others_go_on(api: Api, tenant):
    make_api_key(tenant, created_by=make_member(tenant).user)
    remove(api, make_member(tenant))
    assert not ApiKey.objects.for_tenant(tenant).exclude(revoked_at=None).exists()


def test_the_last_owner_stays(api: Api, tenant):
    """auth-028."""
    ada = make_member(tenant, Role.OWNER)
    make_member(tenant, Role.ADMIN)
    assert_problem(remove(api, ada), 409, "last_owner")
    bob = make_member(tenant, Role.OWNER)
    assert remove(api, ada).status_code == 204
    assert_problem(remove(api, bob), 409, "last_owner")


@pytest.mark.django_db(transaction=True)
def test_of_two_owners_that_are_removed_at_once_one_stays():
    tenant = make_tenant()
    owners = [make_member(tenant, Role.OWNER) for _ in range(4)]
    _, key = make_api_key(tenant)
    Api(key).get("/api/v1/me")
    together = threading.Barrier(len(owners))

    def attempt(owner) -> int:
        together.wait(10)
        try:
            return remove(Api(key), owner).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(len(owners)) as threads:
        assert sorted(threads.map(attempt, owners)) == [204, 204, 204, 409]
    assert Membership.objects.for_tenant(tenant).filter(role="owner").count() == 1


def test_an_admin_does_not_remove_an_owner(tenant):
    make_member(tenant, Role.OWNER)
    admin = Api(make_api_key(tenant, role="admin")[1])
    assert_problem(remove(admin, make_member(tenant, Role.OWNER)), 403, "beyond_own_rights")
    assert remove(admin, make_member(tenant, Role.ADMIN)).status_code == 204
    assert_problem(remove(Api(make_api_key(tenant, role="editor")[1]), make_member(tenant)), 403, "forbidden")


def test_with_the_tag_of_an_earlier_state_it_is_refused(api: Api, tenant):
    member = make_member(tenant)
    seen = api.get(f"{PATH}/{member.pk}").headers["ETag"]
    api.send("PATCH", f"{PATH}/{member.pk}", {"role": "editor"}, if_match=seen)
    assert_problem(remove(api, member, if_match=seen), 412, "precondition_failed")
    assert read(api.get(f"{PATH}/{member.pk}"))["role"] == "editor"


def test_it_needs_a_key(nobody: Api, tenant):
    assert_problem(remove(nobody, make_member(tenant)), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, tenant):
    member = make_member(tenant)
    theirs = remove(other_api, member)
    assert_problem(theirs, 404, "member_not_found")
    assert_same_answer(theirs, other_api.send("DELETE", f"{PATH}/{new_uuid()}"))
    assert Membership.objects.for_tenant(tenant).exists()


def test_its_queries_are_counted(api: Api, tenant, django_assert_num_queries):
    member = make_member(tenant)
    remove(api, make_member(tenant))
    api.get("/api/v1/me")  # the caller's own access was looked at again
    # The owners, the member; keys, tokens, grants; itself, the tenant's version; the audit's head, entry and head.
    with django_assert_num_queries(10):
        remove(api, member)
