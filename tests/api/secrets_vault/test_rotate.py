"""`POST /api/v1/secrets/{name}/rotate`."""

import pytest

from secrets_vault.models import SecretVersion
from tenants.access import Role
from tenants.models import AuditEntry
from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import make_api_key
from tests.support.factories.secrets import SECRETS, make_secret

pytestmark = [pytest.mark.django_db, pytest.mark.api]
OPERATION = "secrets_rotate"
ROTATE = f"{SECRETS}/API_KEY/rotate"


def test_it_makes_a_version_and_destroys_all_earlier_ones(api: Api, tenant):
    make_secret(tenant, value="first value")
    api.put(f"{SECRETS}/API_KEY", {"value": "second value"})
    response = api.post(ROTATE, {"value": "third value"})
    assert response.status_code == 200
    assert read(response)["version"] == 3
    first, second, third = SecretVersion.objects.for_tenant(tenant).order_by("number")
    assert third.open() == "third value"
    for destroyed in (first, second):
        assert (bytes(destroyed.ciphertext), bytes(destroyed.nonce), destroyed.data_key) == (b"", b"", None)
        assert destroyed.destroyed_at is not None


def test_a_repeated_request_rotates_once(api: Api, tenant):
    make_secret(tenant)
    first = api.post(ROTATE, {"value": "new value"}, idempotency_key="once")
    assert read(api.post(ROTATE, {"value": "new value"}, idempotency_key="once")) == read(first)
    assert SecretVersion.objects.for_tenant(tenant).count() == 2


def test_it_can_depend_on_the_state_that_was_seen(api: Api, tenant):
    make_secret(tenant)
    assert_problem(api.post(ROTATE, {"value": "new value"}, if_match='"other"'), 412, "precondition_failed")


def test_it_is_audited(api: Api, tenant):
    make_secret(tenant)
    api.post(ROTATE, {"value": "new value"})
    entry = AuditEntry.objects.for_tenant(tenant).order_by("seq").last()
    assert entry.action == "secret.rotated"
    assert "new value" not in entry.record


def test_an_editor_may_not(tenant):
    make_secret(tenant)
    editor = Api(make_api_key(tenant, role=Role.EDITOR.value)[1])
    assert_problem(editor.post(ROTATE, {"value": "new value"}), 403, "forbidden")


def test_it_hides_other_tenants(api: Api, other_tenant):
    make_secret(other_tenant)
    change = {"value": "new value"}
    assert_same_answer(api.post(ROTATE, change), api.post(f"{SECRETS}/NOTHING/rotate", change))


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.post(ROTATE, {"value": "new value"}), 401, "not_authenticated")


def test_it_asks_a_fixed_number_of_questions(api: Api, tenant, django_assert_num_queries):
    make_secret(tenant)
    api.get(SECRETS)
    with django_assert_num_queries(8):
        api.post(ROTATE, {"value": "new value"})
