"""Rows that somebody moved about in the database do not open."""

import pytest

from secrets_vault.errors import SecretInvalidError, SecretUnreadableError
from secrets_vault.models import DataKey, SecretVersion
from secrets_vault.providers import VaultProvider
from secrets_vault.services import replace_secret
from tenants.access import Actor
from tenants.models import Tenant
from tests.support.factories.rows import make_tenant
from tests.support.factories.secrets import make_secret

pytestmark = [pytest.mark.django_db, pytest.mark.database]
STOLEN = ("nonce", "ciphertext", "data_key")


@pytest.fixture
def tenant() -> Tenant:
    return make_tenant()


def current(tenant: Tenant, name: str = "API_KEY") -> SecretVersion:
    rows = SecretVersion.objects.for_tenant(tenant).filter(secret__name=name)
    return rows.select_related("data_key").order_by("-number").first()


def swap(one: SecretVersion, other: SecretVersion, fields: tuple[str, ...] = STOLEN) -> SecretVersion:
    """`one` with the columns of `other`, as whoever can write to the database could make it."""
    values = {field: getattr(other, field) for field in fields}
    SecretVersion.objects.across_tenants().filter(pk=one.pk).update(**values)
    return SecretVersion.objects.across_tenants().select_related("data_key").get(pk=one.pk)


def test_a_value_of_another_secret_does_not_open(tenant):
    make_secret(tenant, "API_KEY", "ours-ours")
    make_secret(tenant, "OTHER", "theirs-theirs")
    with pytest.raises(SecretUnreadableError):
        swap(current(tenant), current(tenant, "OTHER")).open()


def test_a_value_of_another_tenant_does_not_open(tenant):
    make_secret(tenant)
    other = make_tenant()
    make_secret(other)
    with pytest.raises(SecretUnreadableError):
        swap(current(tenant), current(other)).open()


def test_an_earlier_version_does_not_open_as_a_later_one(tenant):
    secret = make_secret(tenant)
    first = current(tenant)
    replace_secret(secret=secret, value="new value", by=Actor.system(tenant.pk, "a test"))
    with pytest.raises(SecretUnreadableError):
        swap(current(tenant), first).open()


def test_a_data_key_of_another_tenant_does_not_unwrap(tenant):
    make_secret(tenant)
    other = make_tenant()
    make_secret(other)
    wrapped = DataKey.objects.for_tenant(other).get().wrapped
    DataKey.objects.for_tenant(tenant).update(wrapped=wrapped)
    with pytest.raises(SecretUnreadableError):
        current(tenant).open()


def test_a_data_key_of_another_version_does_not_unwrap(tenant):
    make_secret(tenant)
    DataKey.objects.for_tenant(tenant).update(version=2)
    with pytest.raises(SecretUnreadableError):
        current(tenant).open()


def test_an_error_names_the_secret_and_not_its_value(tenant):
    make_secret(tenant, "API_KEY", "ours-ours")
    SecretVersion.objects.for_tenant(tenant).update(ciphertext=b"ours-ours" * 4)
    with pytest.raises(SecretUnreadableError, match="API_KEY") as caught:
        VaultProvider(tenant.pk).get("API_KEY")
    assert "ours" not in str(caught.value)


def test_the_same_value_never_looks_the_same(tenant):
    make_secret(tenant, "API_KEY", "the same value")
    make_secret(tenant, "OTHER", "the same value")
    rows = SecretVersion.objects.for_tenant(tenant)
    assert len({bytes(row.ciphertext)[:14] for row in rows}) == 2


def test_tenants_have_data_keys_of_their_own(tenant):
    other = make_tenant()
    for owner in (tenant, other):
        make_secret(owner)
    keys = [DataKey.objects.for_tenant(owner).get().unwrap() for owner in (tenant, other)]
    assert keys[0] != keys[1]


@pytest.mark.parametrize("value", ["abc", "x" * (64 * 1024 + 1), "a\ud800bcd"])
def test_values_that_cannot_be_kept_are_refused_below_the_api_too(tenant, value: str):
    with pytest.raises(SecretInvalidError) as caught:
        make_secret(tenant, "API_KEY", value)
    assert value not in str(caught.value)


def test_names_are_checked_below_the_api_too(tenant):
    with pytest.raises(SecretInvalidError):
        make_secret(tenant, "lower")
