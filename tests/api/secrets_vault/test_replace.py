"""`PUT /api/v1/secrets/{name}`."""

import pytest

from secrets_vault.models import SecretVersion
from tenants.access import Role
from tenants.models import AuditEntry
from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import make_api_key
from tests.support.factories.secrets import SECRETS, make_secret

pytestmark = [pytest.mark.django_db, pytest.mark.api]
OPERATION = "secrets_replace"
KEY = f"{SECRETS}/API_KEY"


def values(tenant) -> list[str]:
    return [version.open() for version in SecretVersion.objects.for_tenant(tenant).order_by("number")]


def test_it_makes_a_version_and_keeps_the_old_one_encrypted(api: Api, tenant):
    make_secret(tenant, value="old value", description="Ours")
    response = api.put(KEY, {"value": "new value"})
    assert response.status_code == 200
    assert read(response)["version"] == 2
    assert read(response)["description"] == "Ours"
    assert b"value" not in response.content
    assert values(tenant) == ["old value", "new value"]


def test_the_description_can_come_with_it(api: Api, tenant):
    make_secret(tenant, description="Ours")
    assert read(api.put(KEY, {"value": "new value", "description": "Theirs"}))["description"] == "Theirs"


def test_only_who_has_seen_the_present_state_may_say_so(api: Api, tenant):
    make_secret(tenant)
    tag = api.get(KEY).headers["ETag"]
    second = api.put(KEY, {"value": "second value"}, if_match=tag)
    assert second.status_code == 200
    assert_problem(api.put(KEY, {"value": "third value"}, if_match=tag), 412, "precondition_failed")
    assert api.put(KEY, {"value": "third value"}, if_match=second.headers["ETag"]).status_code == 200
    assert values(tenant)[1:] == ["second value", "third value"]


def test_the_audit_has_neither_value(api: Api, tenant):
    make_secret(tenant, value="old value")
    api.put(KEY, {"value": "new value"})
    entry = AuditEntry.objects.for_tenant(tenant).order_by("seq").last()
    assert entry.action == "secret.replaced"
    assert "old value" not in entry.record
    assert "new value" not in entry.record


@pytest.mark.parametrize("body", [{}, {"value": "abc"}, {"value": "long enough", "name": "OTHER"}, {"value": 12345}])
def test_what_cannot_be_stored_is_refused(api: Api, tenant, body: dict):
    make_secret(tenant)
    assert_problem(api.put(KEY, body), 422, "input_invalid")


def test_an_editor_may_not(tenant):
    make_secret(tenant)
    editor = Api(make_api_key(tenant, role=Role.EDITOR.value)[1])
    assert_problem(editor.put(KEY, {"value": "new value"}), 403, "forbidden")


def test_it_hides_other_tenants(api: Api, other_tenant):
    make_secret(other_tenant, value="old value")
    change = {"value": "new value"}
    assert_same_answer(api.put(KEY, change), api.put(f"{SECRETS}/NOTHING", change))
    assert values(other_tenant) == ["old value"]


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.put(KEY, {"value": "new value"}), 401, "not_authenticated")


def test_it_asks_a_fixed_number_of_questions(api: Api, tenant, django_assert_num_queries):
    make_secret(tenant)
    api.get(SECRETS)
    with django_assert_num_queries(7):
        api.put(KEY, {"value": "new value"})
