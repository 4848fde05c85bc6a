"""Whom a key acts for, and for how long that is believed."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from tenants import authentication, keys, principals
from tenants.api_keys import create_api_key
from tenants.authentication import authenticate_key
from tenants.errors import InvalidKeyError
from tenants.keys import check_secret, hash_secret, make_key
from tenants.models import ApiKey
from tenants.principals import CACHE_SECONDS, cache
from tests.support.factories.rows import make_api_key, make_tenant

pytestmark = [pytest.mark.database, pytest.mark.django_db]


@pytest.fixture(autouse=True)
def empty_cache():
    cache.clear()


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock, moved by hand."""

    class Clock:
        now = 1000.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    for module in (authentication, principals):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def checks(monkeypatch) -> list[str]:
    """The secrets that bcrypt was asked about."""
    asked: list[str] = []

    def check(secret: str, hashed: str) -> bool:
        asked.append(secret)
        return check_secret(secret, hashed)

    monkeypatch.setattr(authentication, "check_secret", check)
    return asked


def test_a_new_key_acts_for_its_tenant():
    tenant = make_tenant()
    key, text = create_api_key(tenant=tenant, name="laptop")
    principal = authenticate_key(text=text)
    assert (principal.tenant_id, principal.id, principal.name) == (tenant.pk, str(key.pk), "laptop")
    assert principal.is_authenticated


def test_stored_data_does_not_reveal_the_key(monkeypatch: pytest.MonkeyPatch):
    """auth-021: the last four characters are for recognising it."""
    monkeypatch.setattr(keys, "COST", 5)
    key, text = create_api_key(tenant=make_tenant(), name="laptop")
    kept = [str(value) for value in ApiKey.objects.across_tenants().values_list().get(pk=key.pk)]
    secret = text.split("_")[3][:32]
    assert not any(secret in value for value in kept)
    assert key.last4 == text[-4:]
    assert key.secret_hash.startswith("$2b$05$")


def test_bcrypt_is_asked_once_for_a_key_and_its_row_once_in_the_time_of_the_cache(
    clock, checks, django_assert_num_queries
):
    """auth-018."""
    key, text = make_api_key(make_tenant())
    authenticate_key(text=text)
    with django_assert_num_queries(0):
        for _ in range(1000):
            authenticate_key(text=text)
    assert len(checks) == 1
    clock.now += CACHE_SECONDS
    ApiKey.objects.across_tenants().filter(pk=key.pk).update(name="renamed")
    assert authenticate_key(text=text).name == "renamed"
    assert len(checks) == 1


def test_a_key_whose_hash_has_changed_is_proved_anew(clock, checks):
    key, text = make_api_key(make_tenant())
    authenticate_key(text=text)
    ApiKey.objects.across_tenants().filter(pk=key.pk).update(secret_hash=hash_secret("another secret"))
    clock.now += CACHE_SECONDS
    with pytest.raises(InvalidKeyError):
        authenticate_key(text=text)
    assert len(checks) == 2


@pytest.mark.django_db(transaction=True)
def test_requests_that_come_at_once_ask_bcrypt_once(checks):
    """auth-018, with 16 at a time."""
    tenant = make_tenant()
    _, text = make_api_key(tenant)
    together = threading.Barrier(16)

    def ask(_: int) -> object:
        together.wait(10)
        try:
            return authenticate_key(text=text).tenant_id
        finally:
            connection.close()

    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(ask, range(16))) == {tenant.pk}
    assert len(checks) == 1


def test_a_revocation_takes_effect_within_five_seconds(clock):
    key, text = make_api_key(make_tenant())
    authenticate_key(text=text)
    key.revoke()
    clock.now += 5.0
    with pytest.raises(InvalidKeyError):
        authenticate_key(text=text)


def test_a_key_ends_when_it_expires():
    _, text = make_api_key(make_tenant(), expires_at=timezone.now() + timedelta(hours=1))
    assert authenticate_key(text=text)
    ApiKey.objects.across_tenants().update(expires_at=timezone.now())
    cache.clear()
    with pytest.raises(InvalidKeyError):
        authenticate_key(text=text)


def test_an_unknown_key_costs_as_much_as_a_wrong_one(checks):
    """Response times must not reveal which ids exist."""
    with pytest.raises(InvalidKeyError):
        authenticate_key(text=make_key().text)
    assert len(checks) == 1


def test_a_mistyped_key_costs_nothing(checks, django_assert_num_queries):
    with django_assert_num_queries(0), pytest.raises(InvalidKeyError):
        authenticate_key(text=make_key().text[:-1] + "!")
    assert checks == []


def test_a_refusal_is_not_remembered(checks):
    """A cache of refusals would fill up with whatever an attacker sends."""
    text = make_key().text
    for _ in range(2):
        with pytest.raises(InvalidKeyError):
            authenticate_key(text=text)
    assert len(checks) == 2


def test_the_secret_of_one_key_does_not_open_another():
    tenant = make_tenant()
    mine, _ = make_api_key(tenant)
    made = make_key()
    ApiKey.objects.across_tenants().filter(pk=mine.pk).update(key_id=made.key_id)
    with pytest.raises(InvalidKeyError):
        authenticate_key(text=made.text)


def test_the_cache_holds_no_key():
    _, text = make_api_key(make_tenant())
    authenticate_key(text=text)
    assert cache._entries
    assert text.split("_")[3] not in repr(cache._entries)


def test_the_cache_is_bounded(monkeypatch):
    monkeypatch.setattr(principals, "CACHE_SIZE", 3)
    tenant = make_tenant()
    for _ in range(5):
        authenticate_key(text=make_api_key(tenant)[1])
    assert len(cache._entries) == 3


def test_the_last_use_is_noted_once_a_minute(clock):
    key, text = make_api_key(make_tenant(), last_used_at=None)
    authenticate_key(text=text)
    key.refresh_from_db()
    first = key.last_used_at
    assert first is not None
    cache.clear()
    authenticate_key(text=text)
    key.refresh_from_db()
    assert key.last_used_at == first
    ApiKey.objects.across_tenants().update(last_used_at=first - timedelta(seconds=61))
    cache.clear()
    authenticate_key(text=text)
    key.refresh_from_db()
    assert key.last_used_at >= first


def test_a_key_is_revoked_once():
    key, _ = make_api_key(make_tenant())
    key.revoke()
    first = key.revoked_at
    key.revoke()
    assert key.revoked_at == first


@pytest.mark.parametrize("ended", [{"revoked_at": timezone.now()}, {"expires_at": timezone.now() - timedelta(hours=1)}])
def test_a_key_that_ends_while_it_is_checked_is_refused(monkeypatch, ended):
    """Its row had been read when it ended, the version of its tenant had not."""
    key, text = make_api_key(make_tenant())
    standing_of = authentication.standing_of

    def ends_first(*args):
        ApiKey.objects.for_tenant(key.tenant_id).filter(pk=key.pk).update(**ended)
        return standing_of(*args)

    monkeypatch.setattr(authentication, "standing_of", ends_first)
    with pytest.raises(InvalidKeyError):
        authenticate_key(text=text)
    assert cache.principal(cache.digest(text)) is None
