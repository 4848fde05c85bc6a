"""`DELETE /api/v1/me`."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from tenants.access import Actor, Role
from tenants.errors import LastOwnerError, MemberNotFoundError
from tenants.members import leave_tenant
from tenants.models import AuditEntry, Membership
from tests.support.api import Api, assert_problem
from tests.support.factories import members
from tests.support.factories.rows import make_api_key, make_member, make_tenant

OPERATION = "me_leave"
PATH = "/api/v1/me"
pytestmark = pytest.mark.api


def leave(member: Membership) -> None:
    by = Actor(member.tenant_id, "user", str(member.user_id), member.user.username)
    leave_tenant(by=by, user_id=member.user_id)


def test_a_member_leaves_whatever_the_role(tenant):
    make_member(tenant, Role.OWNER)
    for role in Role:
        leave(make_member(tenant, role))
    assert Membership.objects.for_tenant(tenant).count() == 1
    assert set(AuditEntry.objects.for_tenant(tenant).values_list("action", flat=True)) == {"member.left"}


def test_the_last_owner_does_not_leave(tenant):
    """auth-028."""
    owner = make_member(tenant, Role.OWNER)
    make_member(tenant, Role.ADMIN)
    with pytest.raises(LastOwnerError):
        leave(owner)


@pytest.mark.django_db(transaction=True)
def test_of_two_owners_that_leave_at_once_one_stays():
    tenant = make_tenant()
    owners = [make_member(tenant, Role.OWNER) for _ in range(2)]
    together = threading.Barrier(2)

    def attempt(owner: Membership) -> str:
        together.wait(10)
        try:
            leave(owner)
        except LastOwnerError:
            return "stays"
        finally:
            connection.close()
        return "left"

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(attempt, owners)) == ["left", "stays"]


def test_who_left_is_gone(tenant):
    member = make_member(tenant)
    leave(member)
    with pytest.raises(MemberNotFoundError):
        leave(member)


def test_a_user_leaves_with_a_token_that_is_good_for_nothing_afterwards(tenant):
    make_member(tenant, Role.OWNER)
    user = members.api_of(make_member(tenant))
    assert user.send("DELETE", PATH).status_code == 204
    assert_problem(user.get(PATH), 401, "authentication_failed")
    last = members.api_of(make_member(other := make_tenant(), Role.OWNER))
    assert_problem(last.send("DELETE", PATH), 409, "last_owner")
    assert Membership.objects.for_tenant(other).exists()


def test_a_key_cannot_leave(tenant):
    member = make_member(tenant)
    _, text = make_api_key(tenant, created_by=member.user)
    assert_problem(Api(text).send("DELETE", PATH), 403, "forbidden")
    assert Membership.objects.for_tenant(tenant).exists()


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.send("DELETE", PATH), 401, "not_authenticated")


def test_it_hides_other_tenants(tenant, other_tenant):
    member = make_member(tenant)
    Membership.objects.create(tenant=other_tenant, user=member.user, role="viewer")
    leave(member)
    assert Membership.objects.for_tenant(other_tenant).exists()


def test_its_queries_are_counted(tenant, django_assert_num_queries):
    leave(make_member(tenant))
    member = make_member(tenant)
    with django_assert_num_queries(11):  # whose it is; then as the removal of a member
        leave(member)
