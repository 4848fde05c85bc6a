"""`POST /api/v1/api-keys/{id}/rotate`."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from pyflow.core.ids import new_uuid
from tenants.models import ApiKey, AuditEntry
from tenants.principals import cache
from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import make_api_key, make_member, make_tenant

OPERATION = "api_keys_rotate"
PATH = "/api/v1/api-keys"
pytestmark = pytest.mark.api


def rotate(api: Api, key, body=None, **headers):
    return api.post(f"{PATH}/{key.pk}/rotate", {} if body is None else body, **headers)


def works(text: str) -> bool:
    cache.clear()
    return Api(text).get("/api/v1/me").status_code == 200


def test_both_keys_work_until_the_grace_is_over(api: Api, tenant):
    key, text = make_api_key(tenant, "deploy", role="editor", scopes=["runs:read"])
    response = rotate(api, key, {"grace": 3600})
    assert response.status_code == 201
    new = read(response)
    assert (new["name"], new["role"], new["scopes"]) == ("deploy", "editor", ["runs:read"])
    assert works(text)
    assert works(new["key"])
    old = read(api.get(f"{PATH}/{key.pk}"))
    assert old["replaced_by"] == new["id"]
    assert old["expires_at"] < (timezone.now() + timedelta(seconds=3601)).isoformat()
    ApiKey.objects.for_tenant(tenant).filter(pk=key.pk).update(expires_at=timezone.now())
    assert not works(text)
    assert works(new["key"])
    entry = AuditEntry.objects.for_tenant(tenant).get()
    assert (entry.action, entry.target) == ("api_key.rotated", f"api_key:{new['id']}")
    assert new["key"] not in entry.record


def test_without_grace_the_old_one_ends_now(api: Api, tenant):
    key, text = make_api_key(tenant)
    rotate(api, key, {"grace": 0})
    assert not works(text)


def test_it_does_not_lengthen_the_life_of_the_old_one(api: Api, tenant):
    end = timezone.now() + timedelta(minutes=5)
    key, _ = make_api_key(tenant, expires_at=end)
    new = read(rotate(api, key, {"grace": 86400}))
    key.refresh_from_db()
    assert key.expires_at == end
    assert new["expires_at"] is not None  # as long from now as the old one had from its making


def test_a_key_that_is_replaced_or_has_ended_is_not_rotated(api: Api, tenant):
    key, _ = make_api_key(tenant)
    rotate(api, key)
    assert_problem(rotate(api, key), 409, "api_key_not_usable")
    revoked, _ = make_api_key(tenant, revoked_at=timezone.now())
    expired, _ = make_api_key(tenant, expires_at=timezone.now())
    for ended in (revoked, expired):
        assert_problem(rotate(api, ended), 409, "api_key_not_usable")


@pytest.mark.django_db(transaction=True)
def test_of_two_rotations_at_once_one_succeeds():
    tenant = make_tenant()
    key, text = make_api_key(tenant)
    Api(text).get("/api/v1/me")
    together = threading.Barrier(3)

    def attempt(_: int) -> int:
        together.wait(10)
        try:
            return rotate(Api(text), key).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as threads:
        assert sorted(threads.map(attempt, range(3))) == [201, 409, 409]
    assert ApiKey.objects.for_tenant(tenant).count() == 2


def test_a_repeated_request_makes_one_and_shows_no_key(api: Api, tenant):
    key, _ = make_api_key(tenant)
    first = rotate(api, key, idempotency_key="k1")
    again = rotate(api, key, idempotency_key="k1")
    assert read(again) == read(first) | {"key": None}
    assert again.status_code == 201


def test_nobody_rotates_a_key_that_can_do_more_than_they(tenant):
    """The new text would be theirs."""
    admin = Api(make_api_key(tenant, role="admin")[1])
    assert_problem(rotate(admin, make_api_key(tenant, role="owner")[0]), 403, "beyond_own_rights")
    assert rotate(admin, make_api_key(tenant, role="admin")[0]).status_code == 201
    narrowed = Api(make_api_key(tenant, role="admin", scopes=["keys:write"])[1])
    assert_problem(rotate(narrowed, make_api_key(tenant, role="admin")[0]), 403, "beyond_own_rights")


def test_a_key_does_not_prolong_itself(tenant):
    end = timezone.now() + timedelta(days=1)
    key, text = make_api_key(tenant, expires_at=end, created_at=end - timedelta(days=90))
    new = read(rotate(Api(text), key))
    assert new["expires_at"] == end.isoformat()
    again = read(rotate(Api(new["key"]), ApiKey.objects.for_tenant(tenant).get(pk=new["id"])))
    assert again["expires_at"] == end.isoformat()


def test_a_key_rotates_none_that_lives_longer(api: Api, tenant):
    """The new text would be theirs, and of use when their own is not any more."""
    end = timezone.now() + timedelta(days=1)
    ending = Api(make_api_key(tenant, expires_at=end)[1])
    longer, forever = make_api_key(tenant, "longer", expires_at=end + timedelta(days=1))[0], make_api_key(tenant)[0]
    for key in (longer, forever):
        assert_problem(rotate(ending, key), 403, "beyond_own_rights")
        assert rotate(api, key).status_code == 201


def test_the_new_key_stays_bound_to_the_member_of_the_old_one(api: Api, tenant):
    member = make_member(tenant)
    key, _ = make_api_key(tenant, role="viewer", created_by=member.user)
    assert read(rotate(api, key))["created_by"]["id"] == member.user_id


@pytest.mark.parametrize("body", [{"grace": -1}, {"grace": 10**9}, {"grace": "x"}, {"role": "owner"}, []])
def test_nonsense_is_refused(api: Api, tenant, body):
    assert_problem(rotate(api, make_api_key(tenant)[0], body), 422, "input_invalid")


def test_it_needs_a_key(nobody: Api, tenant):
    assert_problem(rotate(nobody, make_api_key(tenant)[0]), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, tenant):
    key, text = make_api_key(tenant)
    theirs = rotate(other_api, key)
    assert_problem(theirs, 404, "api_key_not_found")
    assert_same_answer(theirs, other_api.post(f"{PATH}/{new_uuid()}/rotate", {}))
    assert works(text)


def test_its_queries_are_counted(api: Api, tenant, django_assert_num_queries):
    first, second = make_api_key(tenant, "first")[0], make_api_key(tenant, "second")[0]
    rotate(api, first)
    api.get("/api/v1/me")  # the caller's own access was looked at again
    # The old one, its name, the new one; the audit's head, entry and head; the old one, the tenant's version.
    with django_assert_num_queries(8):
        rotate(api, second)
