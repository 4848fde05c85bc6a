"""The admin's login: throttled by name and by address, together with that of the API. And what browsers may do."""

import re

import pytest
from django.contrib.auth.models import User
from django.test import AsyncClient, Client
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


def policy_of(path: str) -> dict[str, set[str]]:
    """What browsers may do with an answer: the sources of each directive."""
    header = Client().get(path).headers["Content-Security-Policy"]
    return {name: set(sources) for name, *sources in map(str.split, header.split(";"))}


NOWHERE = {"default-src": {"'none'"}, "base-uri": {"'none'"}, "frame-ancestors": {"'none'"}}
OF_PAGES = NOWHERE | {
    "form-action": {"'self'"},
    "connect-src": {"'self'"},
    "font-src": {"'self'"},
    "img-src": {"'self'", "data:"},
    "script-src": {"'self'"},
    "style-src": {"'self'"},
}


@pytest.mark.parametrize("path", ["/admin/login/", "/api/docs/", "/api/docs/problems"])
def test_pages_load_nothing_from_elsewhere_and_run_no_script_of_their_own(db, path: str):
    policy = policy_of(path)
    nonces = {source for source in policy["style-src"] if source.startswith("'nonce-")}
    assert {name: sources - nonces for name, sources in policy.items()} == OF_PAGES


def test_redoc_may_make_styles_and_a_worker_and_no_script(db):
    policy = policy_of("/api/docs/redoc/")
    assert policy.pop("style-src-elem") == {"'self'", "'unsafe-inline'"}
    assert policy.pop("worker-src") == {"blob:"}
    nonces = {source for source in policy["style-src"] if source.startswith("'nonce-")}
    assert {name: sources - nonces for name, sources in policy.items()} == OF_PAGES


def test_a_nonce_is_good_once(db):
    first, second = (Client().get("/api/docs/problems") for _ in range(2))
    nonces = [
        re.search(r"'nonce-([\w+/=]{22,})'", one.headers["Content-Security-Policy"])[1] for one in (first, second)
    ]
    assert nonces[0] != nonces[1]
    assert f'<style nonce="{nonces[0]}">' in first.content.decode()


@pytest.mark.parametrize("path", ["/api/v1/workflows", "/api/v1/nowhere", "/api/nowhere"])
def test_answers_of_the_api_may_do_nothing_in_a_browser(db, path: str):
    assert policy_of(path) == NOWHERE | {"form-action": {"'none'"}}


async def test_an_asynchronous_server_sends_the_same(db):
    answer = await AsyncClient().get("/api/v1/nowhere")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
