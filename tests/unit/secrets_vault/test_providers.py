"""Where a secret is looked for, in which order, and what is missing."""

import pytest

from secrets_vault.models import SecretVersion
from secrets_vault.providers import EnvironmentProvider, VaultProvider, secrets_of
from secrets_vault.services import destroy_version, find_secret, missing_secrets, replace_secret
from tenants.access import Actor
from tenants.models import Tenant
from tests.support.factories.rows import make_tenant
from tests.support.factories.secrets import make_secret

pytestmark = [pytest.mark.django_db, pytest.mark.database]


@pytest.fixture
def tenant(monkeypatch) -> Tenant:
    monkeypatch.setenv("PYFLOW_SECRET__ACME_INC__BOTH", "from the environment")
    monkeypatch.setenv("PYFLOW_SECRET__ACME_INC__ONLY_THERE", "from the environment")
    tenant = make_tenant("acme-inc")
    make_secret(tenant, "BOTH", "from the vault")
    make_secret(tenant, "ONLY_HERE", "from the vault")
    return tenant


def get(tenant: Tenant, name: str) -> str:
    return secrets_of(tenant.pk, tenant.slug).get(name)


def test_by_default_the_vault_comes_first(tenant):
    assert get(tenant, "BOTH") == "from the vault"
    assert get(tenant, "ONLY_THERE") == "from the environment"


def test_the_order_is_the_operators(tenant, settings):
    settings.PYFLOW_SECRET_PROVIDERS = ["environment", "vault"]
    assert get(tenant, "BOTH") == "from the environment"
    assert get(tenant, "ONLY_HERE") == "from the vault"


def test_a_provider_that_is_not_listed_is_not_asked(tenant, settings):
    settings.PYFLOW_SECRET_PROVIDERS = ["vault"]
    with pytest.raises(KeyError):
        get(tenant, "ONLY_THERE")


@pytest.mark.parametrize("name", ["NOWHERE", "lower", "", "A\0B", "ONLY__THERE", "A" * 500])
def test_what_is_nowhere_is_a_key_error(tenant, name: str):
    with pytest.raises(KeyError):
        get(tenant, name)


def test_no_tenant_gets_anothers(tenant):
    other = make_tenant()
    for name in ("BOTH", "ONLY_HERE", "ONLY_THERE"):
        with pytest.raises(KeyError):
            get(other, name)


def test_a_new_value_is_used_at_once(tenant):
    source = secrets_of(tenant.pk, tenant.slug)
    assert source.get("BOTH") == "from the vault"
    replace(tenant, "BOTH", "and a new one")
    assert source.get("BOTH") == "and a new one"


def replace(tenant: Tenant, name: str, value: str) -> None:
    secret = find_secret(tenant_id=tenant.pk, name=name)
    replace_secret(secret=secret, value=value, by=Actor.system(tenant.pk, "a test"))


def test_a_value_that_a_run_saw_is_recalled_after_it_was_replaced(tenant):
    source = secrets_of(tenant.pk, tenant.slug)
    marks = [source.find(name)[1] for name in ("BOTH", "ONLY_HERE", "ONLY_THERE")]
    replace(tenant, "BOTH", "and a new one")
    assert sorted(source.recall(marks)) == ["from the environment", "from the vault", "from the vault"]
    assert not any("from" in mark for mark in marks)


def test_what_was_destroyed_or_is_damaged_is_not_recalled(tenant):
    source = secrets_of(tenant.pk, tenant.slug)
    marks = [source.find(name)[1] for name in ("BOTH", "ONLY_HERE")]
    replace(tenant, "BOTH", "and a new one")
    secret = find_secret(tenant_id=tenant.pk, name="BOTH")
    destroy_version(secret=secret, number=1, by=Actor.system(tenant.pk, "a test"))
    SecretVersion.objects.for_tenant(tenant).filter(secret__name="ONLY_HERE").update(ciphertext=b"damaged")
    assert source.recall(marks) == []


def test_marks_of_another_tenant_recall_nothing(tenant):
    mark = VaultProvider(tenant.pk).find("BOTH")[1]
    assert VaultProvider(make_tenant().pk).recall([mark]) == []


def test_the_missing_ones_are_named(tenant, settings):
    names = ["BOTH", "ONLY_HERE", "ONLY_THERE", "NOWHERE", "ALSO_NOT", "*"]
    assert missing_secrets(tenant_id=tenant.pk, names=names) == ["ALSO_NOT", "NOWHERE"]
    settings.PYFLOW_SECRET_PROVIDERS = ["vault"]
    assert missing_secrets(tenant_id=tenant.pk, names=names) == ["ALSO_NOT", "NOWHERE", "ONLY_THERE"]
    settings.PYFLOW_SECRET_PROVIDERS = ["environment"]
    assert missing_secrets(tenant_id=tenant.pk, names=names) == ["ALSO_NOT", "NOWHERE", "ONLY_HERE"]
    assert missing_secrets(tenant_id=tenant.pk, names=[]) == []


def test_variables_of_tenants_with_similar_slugs_are_apart(monkeypatch):
    monkeypatch.setenv("PYFLOW_SECRET__A__B__C", "value")
    with pytest.raises(KeyError):
        EnvironmentProvider("a").get("B__C")
