"""`POST /api/v1/invitations/accept`."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from tenants import failures
from tenants.models import AuditEntry, Invitation, Membership
from tests.support.api import Api, assert_problem, read
from tests.support.factories import members
from tests.support.factories.rows import make_invitation, make_member, make_tenant, make_user

OPERATION = "invitations_accept"
PATH = "/api/v1/invitations/accept"
PASSWORD = "correct horse battery"
pytestmark = pytest.mark.api


def test_a_new_person_gets_an_account_and_a_place(nobody: Api, tenant):
    invitation, token = make_invitation(tenant, "ada@example.org", role="editor")
    response = nobody.post(PATH, {"token": token, "password": PASSWORD})
    assert response.status_code == 201
    body = read(response)
    assert body["tenant"] == {"id": str(tenant.pk), "slug": tenant.slug, "name": tenant.name}
    assert (body["member"]["role"], body["member"]["user"]["email"]) == ("editor", "ada@example.org")
    assert response.headers["Location"].endswith(f"/api/v1/members/{body['member']['id']}")
    user = User.objects.get(username="ada@example.org")
    assert user.check_password(PASSWORD)
    assert (user.is_staff, user.is_superuser) == (False, False)
    invitation.refresh_from_db()
    assert invitation.state == "accepted"
    entries = AuditEntry.objects.for_tenant(tenant).filter(actor_kind="user")
    assert [entry.action for entry in entries] == ["invitation.accepted", "member.added"]
    assert not any(token in entry.record or PASSWORD in entry.record for entry in entries)
    assert json.loads(entries[0].record)["actor"] == {"kind": "user", "id": str(user.pk), "name": "ada@example.org"}


def test_an_account_that_exists_is_proved_by_its_password(nobody: Api, tenant):
    user = make_user("ada")
    user.set_password(PASSWORD)
    user.save()
    _, token = make_invitation(tenant, "ada@example.org")
    wrong = nobody.post(PATH, {"token": token, "password": "another password"})
    assert_problem(wrong, 403, "invitation_invalid")
    assert_problem(nobody.post(PATH, {"token": token}), 403, "invitation_invalid")
    user.refresh_from_db()
    assert user.check_password(PASSWORD)
    assert nobody.post(PATH, {"token": token, "password": PASSWORD}).status_code == 201
    assert Membership.objects.for_tenant(tenant).get().user == user


def test_the_password_of_an_account_is_not_guessed_with_invitations(nobody: Api, tenant):
    user = make_user("ada")
    user.set_password(PASSWORD)
    user.save()
    _, token = make_invitation(tenant, "ada@example.org")
    for _ in range(failures.PER_SUBJECT):
        nobody.post(PATH, {"token": token, "password": "a guess"})
    refused = nobody.post(PATH, {"token": token, "password": PASSWORD})
    assert_problem(refused, 429, "too_many_failures")
    assert int(refused.headers["Retry-After"]) >= 1


def test_an_account_that_was_closed_is_no_account(nobody: Api, tenant):
    user = make_user("ada")
    user.set_password(PASSWORD)
    user.is_active = False
    user.save()
    _, token = make_invitation(tenant, "ada@example.org")
    assert_problem(nobody.post(PATH, {"token": token, "password": PASSWORD}), 403, "invitation_invalid")


def test_an_account_is_proved_by_its_own_token_too(tenant, other_tenant):
    member = make_member(other_tenant, name="ada@example.org")
    _, token = make_invitation(tenant, "ada@example.org")
    somebody = members.api_of(make_member(other_tenant))
    assert_problem(somebody.post(PATH, {"token": token}), 403, "invitation_invalid")
    assert members.api_of(member).post(PATH, {"token": token}).status_code == 201
    assert Membership.objects.for_tenant(tenant).get().user == member.user
    assert members.log_in(member, tenant=tenant.slug).status_code == 200


def test_a_token_is_taken_once(nobody: Api, tenant):
    _, token = make_invitation(tenant)
    assert nobody.post(PATH, {"token": token, "password": PASSWORD}).status_code == 201
    assert_problem(nobody.post(PATH, {"token": token, "password": PASSWORD}), 409, "invitation_closed")


@pytest.mark.django_db(transaction=True)
def test_of_two_who_take_it_at_once_one_succeeds():
    tenant = make_tenant()
    _, token = make_invitation(tenant)
    together = threading.Barrier(3)

    def attempt(_: int) -> int:
        together.wait(10)
        try:
            return Api().post(PATH, {"token": token, "password": PASSWORD}).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as threads:
        assert sorted(threads.map(attempt, range(3))) == [201, 409, 409]
    assert Membership.objects.for_tenant(tenant).count() == 1


def test_a_repeated_request_is_answered_alike(nobody: Api, tenant):
    _, token = make_invitation(tenant)
    body = {"token": token, "password": PASSWORD}
    first = nobody.post(PATH, body, idempotency_key="k1")
    again = nobody.post(PATH, body, idempotency_key="k1")
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (201, "true")
    assert read(again) == read(first)
    other = nobody.post(PATH, body | {"password": "x"}, idempotency_key="k1")
    assert_problem(other, 422, "idempotency_mismatch")


def test_one_that_expired_is_closed(nobody: Api, tenant):
    _, token = make_invitation(tenant)
    Invitation.objects.for_tenant(tenant).update(expires_at=timezone.now())
    assert_problem(nobody.post(PATH, {"token": token, "password": PASSWORD}), 409, "invitation_closed")
    assert not User.objects.exists()


def test_a_user_who_became_a_member_meanwhile_gets_a_conflict(nobody: Api, tenant):
    _, token = make_invitation(tenant, "ada@example.org")
    member = make_member(tenant, name="ada")
    member.user.set_password(PASSWORD)
    member.user.save()
    assert_problem(nobody.post(PATH, {"token": token, "password": PASSWORD}), 409, "member_exists")


@pytest.mark.parametrize("password", ["short", "password", "ada@example.org"])
def test_a_password_that_is_easily_guessed_is_refused(nobody: Api, tenant, password: str):
    invitation, token = make_invitation(tenant, "ada@example.org")
    assert_problem(nobody.post(PATH, {"token": token, "password": password}), 422, "password_invalid")
    assert not User.objects.exists()
    invitation.refresh_from_db()
    assert invitation.open


@pytest.mark.parametrize("token", ["x", "pyf_invite_" + "A" * 43, "é", "' OR 1=1"])
def test_a_wrong_token_is_refused(nobody: Api, tenant, token: str):
    make_invitation(tenant)
    assert_problem(nobody.post(PATH, {"token": token, "password": PASSWORD}), 403, "invitation_invalid")


@pytest.mark.parametrize(
    "body", [{}, {"token": ""}, {"token": "x" * 201}, {"token": "x", "role": "owner"}, {"token": "x", "email": "e"}]
)
def test_nonsense_is_refused(nobody: Api, db, body):
    assert_problem(nobody.post(PATH, body), 422, "input_invalid")


def test_a_bad_credential_is_refused_though_none_is_needed(nobody: Api, tenant):
    _, token = make_invitation(tenant)
    response = nobody.post(PATH, {"token": token, "password": PASSWORD}, authorization="Bearer pyf_live_x")
    assert_problem(response, 401, "authentication_failed")


def test_a_key_is_nobody(api: Api, tenant):
    """It takes the place for the invited person, not for whoever made the key."""
    _, token = make_invitation(tenant, "ada@example.org")
    assert api.post(PATH, {"token": token, "password": PASSWORD}).status_code == 201
    assert Membership.objects.for_tenant(tenant).get().user.username == "ada@example.org"


def test_its_queries_are_counted(nobody: Api, tenant, django_assert_num_queries):
    make_invitation(tenant)
    _, token = make_invitation(tenant)
    # Whose token; the invitation; the account, a new one; a member of it?; the invitation, 3 for its audit; names of
    # members; the member, 3 for its audit; the tenant.
    with django_assert_num_queries(15):
        assert nobody.post(PATH, {"token": token, "password": PASSWORD}).status_code == 201
