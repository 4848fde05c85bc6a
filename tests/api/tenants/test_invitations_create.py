"""`POST /api/v1/invitations`."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.utils import timezone

from tenants.invitations import hash_token
from tenants.models import AuditEntry, Invitation
from tests.support.api import Api, assert_problem, read
from tests.support.factories.rows import make_api_key, make_member, make_tenant

OPERATION = "invitations_create"
PATH = "/api/v1/invitations"
ADA = {"email": "Ada@Example.org", "role": "editor"}
pytestmark = pytest.mark.api


def test_it_shows_the_token_once_and_keeps_a_hash(api: Api, tenant):
    response = api.post(PATH, ADA)
    assert response.status_code == 201
    body = read(response)
    assert body["token"].startswith("pyf_invite_")
    assert (body["email"], body["role"], body["state"]) == ("ada@example.org", "editor", "open")
    assert response.headers["Location"] == f"http://testserver{PATH}/{body['id']}"
    kept = Invitation.objects.for_tenant(tenant).get()
    assert kept.token_hash == hash_token(body["token"])
    assert body["token"] not in str(Invitation.objects.for_tenant(tenant).values_list().get())
    assert body["token"] not in AuditEntry.objects.for_tenant(tenant).get().record


def test_a_repeated_request_makes_one_and_shows_no_token(api: Api, tenant):
    first = api.post(PATH, ADA, idempotency_key="k1")
    again = api.post(PATH, ADA, idempotency_key="k1")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert read(again) == read(first) | {"token": None}
    assert Invitation.objects.for_tenant(tenant).count() == 1


def test_an_address_has_one_open_invitation(api: Api, tenant):
    api.post(PATH, ADA)
    assert_problem(api.post(PATH, {"email": "ada@example.org", "role": "viewer"}), 409, "invitation_exists")
    assert api.post(PATH, ADA | {"email": "bob@example.org"}).status_code == 201


def test_one_that_expired_makes_room_for_another(api: Api, tenant):
    first = read(api.post(PATH, ADA))
    Invitation.objects.for_tenant(tenant).update(expires_at=timezone.now())
    assert api.post(PATH, ADA).status_code == 201
    assert read(api.get(f"{PATH}/{first['id']}"))["state"] == "revoked"


@pytest.mark.django_db(transaction=True)
def test_of_two_invitations_at_once_one_is_made():
    _, key = make_api_key(make_tenant())
    Api(key).get("/api/v1/me")
    together = threading.Barrier(4)

    def attempt(_: int) -> int:
        together.wait(10)
        try:
            return Api(key).post(PATH, ADA).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(attempt, range(4))) == [201, 409, 409, 409]


def test_a_member_is_not_invited(api: Api, tenant):
    make_member(tenant, name="ada")
    assert_problem(api.post(PATH, ADA), 409, "member_exists")


@pytest.mark.parametrize(
    ("role", "invited", "status"),
    [("viewer", "viewer", 403), ("editor", "viewer", 403), ("admin", "admin", 201), ("admin", "owner", 403)],
)
def test_nobody_invites_to_more_than_they_have(tenant, role: str, invited: str, status: int):
    api = Api(make_api_key(tenant, role=role)[1])
    assert api.post(PATH, ADA | {"role": invited}).status_code == status


def test_the_scopes_of_a_key_bound_what_it_offers(tenant):
    reader = ["workflows:read", "runs:read", "tenant:read", "members:read"]
    api = Api(make_api_key(tenant, role="admin", scopes=[*reader, "members:write"])[1])
    assert_problem(api.post(PATH, ADA), 403, "beyond_own_rights")
    assert api.post(PATH, ADA | {"role": "viewer"}).status_code == 201


@pytest.mark.parametrize(
    "change",
    [
        {"email": "nobody"},
        {"email": "a" * 150 + "@example.org"},
        {"email": ""},
        {"role": "king"},
        {"expires_in": 1},
        {"expires_in": 10**9},
        {"expires_in": "soon"},
        {"token": "mine"},
    ],
)
def test_nonsense_is_refused(api: Api, change):
    assert_problem(api.post(PATH, ADA | change), 422, "input_invalid")


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.post(PATH, ADA), 401, "not_authenticated")


def test_it_hides_other_tenants(api: Api, other_api: Api, tenant):
    """Who is invited, or a member, elsewhere makes no difference. auth-039: nor does a key that was used there."""
    make_member(tenant, name="bob")
    api.post(PATH, ADA, idempotency_key="k1")
    mine = other_api.post(PATH, ADA, idempotency_key="k1")
    assert (mine.status_code, "Idempotent-Replayed" in mine.headers) == (201, False)
    assert other_api.post(PATH, ADA | {"email": "bob@example.org"}).status_code == 201


def test_its_queries_are_counted(api: Api, django_assert_num_queries):
    api.post(PATH, ADA | {"email": "bob@example.org"})
    # A member of that address; expired ones; itself; the audit's head, entry and head.
    with django_assert_num_queries(6):
        api.post(PATH, ADA)
