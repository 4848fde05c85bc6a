"""`POST /api/v1/secrets`."""

import pytest

from secrets_vault.models import Secret, SecretVersion
from tenants.access import Role
from tenants.models import AuditEntry, IdempotentAnswer
from tests.support.api import Api, assert_problem, read
from tests.support.factories.rows import make_api_key
from tests.support.factories.secrets import SECRETS, database_text, forms_of, make_secret

pytestmark = [pytest.mark.django_db, pytest.mark.api]
OPERATION = "secrets_create"
VALUE = 'Zanzibar "quoted" / päss+word=1'


def body(**more: str) -> dict[str, str]:
    return {"name": "SHOP_TOKEN", "value": VALUE, "description": "For orders", **more}


def test_a_secret_is_stored_and_shown_without_its_value(api: Api):
    response = api.post(SECRETS, body())
    assert response.status_code == 201, response.content
    shown = read(response)
    assert shown.keys() == {"name", "description", "version", "created_at", "updated_at"}
    assert (shown["name"], shown["description"], shown["version"]) == ("SHOP_TOKEN", "For orders", 1)
    assert response.headers["Location"].endswith("/api/v1/secrets/SHOP_TOKEN")
    assert response.headers["ETag"] == api.get(f"{SECRETS}/SHOP_TOKEN").headers["ETag"]


def test_the_value_is_nowhere_in_clear(api: Api, tenant, caplog, django_capture_on_commit_callbacks):
    caplog.set_level("DEBUG")
    shown = api.post(SECRETS, body(), idempotency_key="once").content.decode()
    shown += api.post(SECRETS, body(), idempotency_key="other").content.decode()
    for form in forms_of(VALUE):
        assert form not in shown
        assert form not in caplog.text
        assert [table for table, text in database_text() if form in text] == []
    version = SecretVersion.objects.for_tenant(tenant).get()
    assert version.open() == VALUE


def test_the_audit_records_it_with_the_value_masked(api: Api, tenant):
    api.post(SECRETS, body())
    entry = AuditEntry.objects.for_tenant(tenant).get()
    assert (entry.action, entry.target) == ("secret.created", "secret:SHOP_TOKEN")
    assert '"value":"***"' in entry.record


def test_a_repeated_request_is_answered_once_and_its_fingerprint_guesses_nothing(api: Api, tenant):
    first = api.post(SECRETS, body(), idempotency_key="once")
    again = api.post(SECRETS, body(), idempotency_key="once")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert read(again) == read(first)
    assert_problem(api.post(SECRETS, body(value="another value"), idempotency_key="once"), 422, "idempotency_mismatch")
    import hashlib
    import json

    content = json.dumps(body(), sort_keys=True)
    plain = hashlib.sha256(f"POST\n\n{content}".encode()).hexdigest()
    assert IdempotentAnswer.objects.for_tenant(tenant).get().fingerprint != plain


def test_a_taken_name_is_a_conflict(api: Api, tenant):
    make_secret(tenant, "SHOP_TOKEN")
    problem = assert_problem(api.post(SECRETS, body()), 409, "secret_exists")
    assert VALUE not in str(problem)


@pytest.mark.parametrize("name", ["lower", "1ST", "", "A-B", "A" * 129, "A B", "Ä", "A\n"])
def test_names_that_templates_could_not_use_are_refused(api: Api, name: str):
    problem = assert_problem(api.post(SECRETS, body(name=name)), 422, "input_invalid")
    assert problem["errors"][0]["pointer"] == "/name"


@pytest.mark.parametrize("value", ["", "abc", "x" * (64 * 1024 + 1), "ä" * (32 * 1024 + 1), 7, None, ["a"], {"a": "b"}])
def test_values_that_could_not_be_kept_or_masked_are_refused(api: Api, tenant, value: object):
    problem = assert_problem(api.post(SECRETS, {"name": "KEY", "value": value}), 422, "input_invalid")
    assert problem["errors"][0]["pointer"] == "/value"
    assert not Secret.objects.for_tenant(tenant).exists()


@pytest.mark.parametrize("value", ["x" * 64 * 1024, " leading and trailing \n", "\N{SNOWMAN}" * 4])
def test_values_are_kept_to_the_character(api: Api, tenant, value: str):
    assert api.post(SECRETS, {"name": "KEY", "value": value}).status_code == 201
    assert SecretVersion.objects.for_tenant(tenant).get().open() == value


def test_an_unknown_field_is_refused(api: Api):
    assert_problem(api.post(SECRETS, body(valeu="x")), 422, "input_invalid")


def test_without_a_master_key_it_says_what_to_do(api: Api, settings, tenant):
    settings.PYFLOW_MASTER_KEYS = ""
    problem = assert_problem(api.post(SECRETS, body()), 503, "vault_not_configured")
    assert "PYFLOW_MASTER_KEYS" in problem["detail"]
    assert not Secret.objects.for_tenant(tenant).exists()


def test_an_editor_may_not(tenant):
    editor = Api(make_api_key(tenant, role=Role.EDITOR.value)[1])
    assert_problem(editor.post(SECRETS, body()), 403, "forbidden")


def test_a_key_without_the_scope_may_not(tenant):
    narrow = Api(make_api_key(tenant, scopes=["secrets:read"])[1])
    assert_problem(narrow.post(SECRETS, body()), 403, "forbidden")


def test_it_hides_other_tenants(api: Api, other_api: Api, other_tenant):
    make_secret(other_tenant, "SHOP_TOKEN")
    assert api.post(SECRETS, body()).status_code == 201


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.post(SECRETS, body()), 401, "not_authenticated")


def test_it_asks_a_fixed_number_of_questions(api: Api, tenant, django_assert_num_queries):
    make_secret(tenant)
    api.get(SECRETS)
    with django_assert_num_queries(6):
        api.post(SECRETS, body())
