"""`DELETE /api/v1/secrets/{name}`."""

import pytest

from secrets_vault.models import Secret, SecretVersion
from tenants.access import Role
from tenants.models import AuditEntry
from tests.support.api import Api, assert_problem, assert_same_answer
from tests.support.factories.rows import make_api_key
from tests.support.factories.secrets import SECRETS, make_secret

pytestmark = [pytest.mark.django_db, pytest.mark.api]
OPERATION = "secrets_delete"
KEY = f"{SECRETS}/API_KEY"


def test_all_its_versions_go_with_it(api: Api, tenant):
    make_secret(tenant)
    api.put(KEY, {"value": "new value"})
    response = api.send("DELETE", KEY)
    assert (response.status_code, response.content) == (204, b"")
    assert not SecretVersion.objects.for_tenant(tenant).exists()
    assert_problem(api.get(KEY), 404, "secret_not_found")


def test_the_name_can_be_used_again(api: Api, tenant):
    make_secret(tenant)
    api.send("DELETE", KEY)
    assert api.post(SECRETS, {"name": "API_KEY", "value": "again!"}).status_code == 201


def test_it_is_audited(api: Api, tenant):
    make_secret(tenant)
    api.send("DELETE", KEY)
    assert AuditEntry.objects.for_tenant(tenant).order_by("seq").last().action == "secret.deleted"


def test_it_can_depend_on_the_state_that_was_seen(api: Api, tenant):
    make_secret(tenant)
    assert_problem(api.send("DELETE", KEY, if_match='"other"'), 412, "precondition_failed")
    assert api.send("DELETE", KEY, if_match=api.get(KEY).headers["ETag"]).status_code == 204


def test_an_editor_may_not(tenant):
    make_secret(tenant)
    assert_problem(Api(make_api_key(tenant, role=Role.EDITOR.value)[1]).send("DELETE", KEY), 403, "forbidden")


def test_it_hides_other_tenants(api: Api, other_tenant):
    make_secret(other_tenant)
    assert_same_answer(api.send("DELETE", KEY), api.send("DELETE", f"{SECRETS}/NOTHING"))
    assert Secret.objects.for_tenant(other_tenant).exists()


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.send("DELETE", KEY), 401, "not_authenticated")


def test_it_asks_a_fixed_number_of_questions(api: Api, tenant, django_assert_num_queries):
    make_secret(tenant)
    api.get(SECRETS)
    with django_assert_num_queries(6):
        api.send("DELETE", KEY)
