"""`DELETE /api/v1/secrets/{name}/versions/{number}`."""

import pytest

from secrets_vault.models import SecretVersion
from tenants.access import Role
from tenants.models import AuditEntry
from tests.support.api import Api, assert_problem, assert_same_answer
from tests.support.factories.rows import make_api_key
from tests.support.factories.secrets import SECRETS, make_secret

pytestmark = [pytest.mark.django_db, pytest.mark.api]
OPERATION = "secret_versions_destroy"
VERSIONS = f"{SECRETS}/API_KEY/versions"


@pytest.fixture
def replaced(api: Api, tenant) -> None:
    make_secret(tenant)
    api.put(f"{SECRETS}/API_KEY", {"value": "second value"})


def test_an_earlier_value_is_gone_for_good(api: Api, tenant, replaced):
    assert api.send("DELETE", f"{VERSIONS}/1").status_code == 204
    version = SecretVersion.objects.for_tenant(tenant).get(number=1)
    assert bytes(version.ciphertext) == b""
    assert AuditEntry.objects.for_tenant(tenant).order_by("seq").last().action == "secret_version.destroyed"


def test_twice_is_once(api: Api, tenant, replaced):
    api.send("DELETE", f"{VERSIONS}/1")
    count = AuditEntry.objects.for_tenant(tenant).count()
    assert api.send("DELETE", f"{VERSIONS}/1").status_code == 204
    assert AuditEntry.objects.for_tenant(tenant).count() == count


def test_the_current_one_is_in_use(api: Api, replaced):
    assert_problem(api.send("DELETE", f"{VERSIONS}/2"), 409, "secret_version_current")


@pytest.mark.parametrize("number", ["3", "0", "99999999999999999999"])
def test_a_number_that_there_is_not_is_not_found(api: Api, replaced, number: str):
    assert_problem(api.send("DELETE", f"{VERSIONS}/{number}"), 404, "secret_version_not_found")


def test_an_editor_may_not(tenant, replaced):
    editor = Api(make_api_key(tenant, role=Role.EDITOR.value)[1])
    assert_problem(editor.send("DELETE", f"{VERSIONS}/1"), 403, "forbidden")


def test_it_hides_other_tenants(other_api: Api, replaced):
    assert_same_answer(
        other_api.send("DELETE", f"{VERSIONS}/1"), other_api.send("DELETE", f"{SECRETS}/NOTHING/versions/1")
    )


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.send("DELETE", f"{VERSIONS}/1"), 401, "not_authenticated")


def test_it_asks_a_fixed_number_of_questions(api: Api, replaced, django_assert_num_queries):
    with django_assert_num_queries(6):
        api.send("DELETE", f"{VERSIONS}/1")
