"""Secrets of webhooks in the vault: as those of workflows, they outlive their master and data keys, and no move."""

import base64

import pytest

from events.models import WebhookSecret
from events.webhooks.endpoints import rotate_endpoint_secret, try_endpoint
from events.webhooks.sending import take_due
from secrets_vault.errors import SecretUnreadableError
from secrets_vault.models import DataKey
from secrets_vault.rotation import abandon_lost_keys, rotate_master_key
from tenants.models import AuditEntry, Tenant
from tests.support.factories.rows import a_test, make_tenant
from tests.support.factories.secrets import database_text, forms_of
from tests.support.factories.webhooks import make_endpoint

pytestmark = [pytest.mark.django_db, pytest.mark.database]
OLD = f"old:{base64.b64encode(b'o' * 32).decode()}"
NEW = f"new:{base64.b64encode(b'n' * 32).decode()}"


@pytest.fixture(autouse=True)
def old_master_key(settings) -> None:
    settings.PYFLOW_MASTER_KEYS = OLD


def stored(tenant: Tenant) -> WebhookSecret:
    return WebhookSecret.objects.for_tenant(tenant).order_by("-id")[0]


def test_it_is_in_no_table_as_it_is(tenant: Tenant):
    _, secret = make_endpoint(tenant)
    forms = forms_of(secret) | forms_of(secret.removeprefix("whsec_"))
    assert [table for table, text in database_text() if any(form in text for form in forms)] == []


def test_it_is_encrypted_anew_when_data_keys_are_replaced(tenant: Tenant, settings):
    _, secret = make_endpoint(tenant)
    settings.PYFLOW_MASTER_KEYS = f"{NEW},{OLD}"
    done = rotate_master_key(data_keys=True)
    assert (done.replaced, done.secrets, done.failed) == (1, 1, ())
    settings.PYFLOW_MASTER_KEYS = NEW
    assert DataKey.objects.for_tenant(tenant).get().made_under == "new"
    assert stored(tenant).open() == secret


def test_it_is_given_up_with_a_lost_key_and_can_be_rotated(tenant: Tenant, settings):
    endpoint, _ = make_endpoint(tenant)
    settings.PYFLOW_MASTER_KEYS = NEW
    assert abandon_lost_keys() == 1
    entry = AuditEntry.objects.for_tenant(tenant).get(action="data_key.abandoned")
    assert f"webhook:{endpoint.pk}" in entry.record
    with pytest.raises(SecretUnreadableError, match=f"webhook:{endpoint.pk} was destroyed"):
        stored(tenant).open()
    new = rotate_endpoint_secret(by=a_test(tenant), endpoint=endpoint)
    assert new == stored(tenant).open()
    try_endpoint(by=a_test(tenant), endpoint=endpoint)
    assert [taken.keys for taken in take_due(1)] == [(new,)]


def test_it_opens_in_no_other_row(tenant: Tenant):
    one, other = make_endpoint(tenant)[0], make_endpoint(tenant)[0]
    theirs = make_endpoint(make_tenant())[0]
    sealed = WebhookSecret.objects.across_tenants().get(endpoint=one)
    for endpoint in (other, theirs):
        row = WebhookSecret.objects.across_tenants().get(endpoint=endpoint)
        row.nonce, row.ciphertext, row.data_key = sealed.nonce, sealed.ciphertext, sealed.data_key
        with pytest.raises(SecretUnreadableError):
            row.open()
