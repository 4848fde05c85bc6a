"""`manage.py check --deploy`: what can be guessed, or lets everybody in, does not pass."""

import base64
import os
import secrets

import pytest
from django.core.checks import Tags, run_checks

from pyflow_site.checks import check_hosts, check_signing_keys
from secrets_vault.checks import check_master_keys_are_random

RANDOM = secrets.token_urlsafe(50)


def ids(**settings) -> list[str]:
    found = run_checks(tags=[Tags.security], include_deployment_checks=True)
    return [message.id for message in found if message.id.startswith(("pyflow", "secrets_vault"))]


def key(content: bytes) -> str:
    return f"k:{base64.b64encode(content).decode()}"


@pytest.fixture(autouse=True)
def good(settings) -> None:
    settings.ALLOWED_HOSTS = ["pyflow.example.com", ".corp.example"]
    settings.SECRET_KEY = settings.PYFLOW_KEY_PEPPER = RANDOM
    settings.PYFLOW_MASTER_KEYS = key(os.urandom(32))


def test_what_is_right_passes():
    assert ids() == []


@pytest.mark.parametrize("hosts", [["*"], ["pyflow.example.com", "*"], [" * "], ["."], ["0.0.0.0"]])
def test_hosts_are_named(settings, hosts: list[str]):
    settings.ALLOWED_HOSTS = hosts
    assert [message.id for message in check_hosts()] == ["pyflow.E001"]


@pytest.mark.parametrize(
    "text",
    ["x" * 60, "0123456789" * 6, "change-me-" + RANDOM, "django-insecure-" + RANDOM, "Your-Secret-Key-Here" + RANDOM],
    ids=["one letter", "digits", "change me", "insecure", "your key"],
)
@pytest.mark.parametrize("name", ["SECRET_KEY", "PYFLOW_KEY_PEPPER"])
def test_a_key_that_signs_is_no_placeholder(settings, name: str, text: str):
    setattr(settings, name, text)
    assert [message.id for message in check_signing_keys()] == ["pyflow.E002"]
    assert text not in str(check_signing_keys())


@pytest.mark.parametrize(
    "content",
    [
        bytes(32),
        b"\xff" * 32,
        bytes(range(32)),
        bytes(range(255, 223, -1)),
        os.urandom(8) * 4,
        os.urandom(16) * 2,
        b"ThisIsMyVerySecretMasterKey12345",
        b"\x00" * 31 + b"\x01",
    ],
    ids=["zeros", "ones", "counted", "counted down", "eight bytes", "sixteen bytes", "words", "nearly zeros"],
)
def test_a_master_key_is_random(settings, content: bytes):
    settings.PYFLOW_MASTER_KEYS = f"{key(os.urandom(32))},weak:{key(content).partition(':')[2]}"
    (message,) = check_master_keys_are_random()
    assert (message.id, "'weak'" in message.msg) == ("secrets_vault.E002", True)


def test_random_keys_are_never_refused(settings):
    settings.PYFLOW_MASTER_KEYS = ",".join(f"k{n}:{key(os.urandom(32)).partition(':')[2]}" for n in range(2000))
    assert check_master_keys_are_random() == []
    for _ in range(500):
        settings.SECRET_KEY = secrets.token_hex(25)
        assert check_signing_keys() == []
