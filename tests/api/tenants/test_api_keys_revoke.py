"""`DELETE /api/v1/api-keys/{id}`."""

import pytest

from pyflow.core.ids import new_uuid
from tenants.models import AuditEntry
from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import make_api_key

OPERATION = "api_keys_revoke"
PATH = "/api/v1/api-keys"
pytestmark = pytest.mark.api


def revoke(api: Api, key):
    return api.send("DELETE", f"{PATH}/{key.pk}")


def test_the_key_ends(api: Api, tenant):
    key, text = make_api_key(tenant)
    assert Api(text).get("/api/v1/me").status_code == 200
    assert revoke(api, key).status_code == 204
    assert_problem(Api(text).get("/api/v1/me"), 401, "authentication_failed")
    shown = read(api.get(f"{PATH}/{key.pk}"))
    assert (shown["usable"], shown["revoked_at"] is None) == (False, False)
    assert AuditEntry.objects.for_tenant(tenant).get().action == "api_key.revoked"


def test_revoking_again_changes_nothing(api: Api, tenant):
    key, _ = make_api_key(tenant)
    revoke(api, key)
    first = read(api.get(f"{PATH}/{key.pk}"))
    assert revoke(api, key).status_code == 204
    assert read(api.get(f"{PATH}/{key.pk}")) == first
    assert AuditEntry.objects.for_tenant(tenant).count() == 1


def test_a_key_may_revoke_itself(tenant):
    key, text = make_api_key(tenant)
    assert revoke(Api(text), key).status_code == 204


def test_an_admin_may_revoke_a_leaked_key_of_an_owner(tenant):
    key, _ = make_api_key(tenant, role="owner")
    assert_problem(revoke(Api(make_api_key(tenant, role="editor")[1]), key), 403, "forbidden")
    assert revoke(Api(make_api_key(tenant, role="admin")[1]), key).status_code == 204


def test_it_needs_a_key(nobody: Api, tenant):
    assert_problem(revoke(nobody, make_api_key(tenant)[0]), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, tenant):
    key, _ = make_api_key(tenant)
    theirs = revoke(other_api, key)
    assert_problem(theirs, 404, "api_key_not_found")
    assert_same_answer(theirs, other_api.send("DELETE", f"{PATH}/{new_uuid()}"))
    key.refresh_from_db()
    assert key.usable


def test_its_queries_are_counted(api: Api, tenant, django_assert_num_queries):
    first, second = make_api_key(tenant)[0], make_api_key(tenant)[0]
    revoke(api, first)
    api.get("/api/v1/me")  # the caller's own access was looked at again
    with django_assert_num_queries(6):  # itself, twice; the tenant's version; the audit's head, entry and head
        revoke(api, second)
