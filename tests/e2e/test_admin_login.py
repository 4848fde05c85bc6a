"""The admin's login: throttled by name and by address, together with that of the API. And what browsers may do."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from tenants import failures
from tests.support.api import Api
from tests.support.passwords import HASHED, PASSWORD

pytestmark = [pytest.mark.database, pytest.mark.e2e]


@pytest.fixture
def account(db) -> User:
    return User.objects.create(username="root", is_staff=True, is_superuser=True, password=HASHED)


def log_in(name: str = "root", password: str = "wrong", **extra: str):
    return Client().post(reverse("admin:login"), {"username": name, "password": password}, **extra)


def test_the_right_password_gets_in(account: User):
    assert log_in(password=PASSWORD).status_code == 302


def test_the_right_password_is_not_looked_at_after_too_many_failures(account: User, monkeypatch):
    monkeypatch.setattr(failures, "PER_SUBJECT", 3)
    for _ in range(3):
        assert log_in().status_code == 200
    refused = log_in(password=PASSWORD)
    assert (refused.status_code, 0 < int(refused.headers["Retry-After"]) <= 60) == (429, True)
    assert "Too many attempts" in refused.content.decode()


def test_an_address_is_throttled_whatever_names_it_tries(account: User, monkeypatch):
    monkeypatch.setattr(failures, "PER_ADDRESS", 3)
    for number in range(3):
        log_in(f"nobody-{number}")
    assert log_in(password=PASSWORD).status_code == 429
    assert log_in(password=PASSWORD, REMOTE_ADDR="192.0.2.7").status_code == 302


def test_failures_at_the_api_count(account: User, monkeypatch):
    monkeypatch.setattr(failures, "PER_SUBJECT", 2)
    for _ in range(2):
        Api().post("/api/v1/auth/token", {"username": "root", "password": "wrong", "tenant": "acme"})
    assert log_in(password=PASSWORD).status_code == 429


@pytest.mark.parametrize("path", ["/admin/login/", "/api/docs/", "/api/docs/problems"])
def test_pages_load_nothing_from_elsewhere_and_run_no_script_of_their_own(db, path: str):
    policy = Client().get(path).headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "http" not in policy


def test_a_nonce_is_good_once(db):
    first, second = (Client().get("/api/docs/problems") for _ in range(2))
    assert first.headers["Content-Security-Policy"] != second.headers["Content-Security-Policy"]
    nonce = first.headers["Content-Security-Policy"].partition("'nonce-")[2].partition("'")[0]
    assert f'<style nonce="{nonce}">' in first.content.decode()


def test_answers_of_the_api_may_do_nothing_in_a_browser(db):
    policy = Client().get("/api/v1/workflows").headers["Content-Security-Policy"]
    assert policy == "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
