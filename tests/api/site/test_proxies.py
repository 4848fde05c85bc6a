"""Whose address a request has: `X-Forwarded-For` is believed as far as proxies of ours have written it."""

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import RequestFactory

from plumbing.rest.client_address import address_of
from pyflow_site.environment import read_environment
from tenants.keys import make_key
from tests.support.api import Api, assert_problem

PATH = "/api/v1/workflows"
pytestmark = pytest.mark.api


@pytest.mark.parametrize(
    ("proxies", "header", "address"),
    [
        (0, None, "10.0.0.9"),
        (0, "203.0.113.5", "10.0.0.9"),
        (1, None, "10.0.0.9"),
        (1, "", "10.0.0.9"),
        (1, " , ,", "10.0.0.9"),
        (1, "203.0.113.5", "203.0.113.5"),
        (1, "1.1.1.1, 203.0.113.5", "203.0.113.5"),
        (2, "1.1.1.1, 203.0.113.5,198.51.100.7", "203.0.113.5"),
        (2, "203.0.113.5", "10.0.0.9"),
        (1, "2001:db8::1", "2001:db8::1"),
        (1, "x" * 500, "x" * 64),
    ],
)
def test_only_what_our_proxies_have_added_counts(settings, proxies: int, header: str | None, address: str):
    settings.PYFLOW_PROXIES = proxies
    headers = {} if header is None else {"X-Forwarded-For": header}
    assert address_of(RequestFactory().get(PATH, headers=headers, REMOTE_ADDR="10.0.0.9")) == address


def wrong_keys(count: int, forwarded: str) -> list[int]:
    return [
        Api().get(PATH, authorization=f"Bearer {make_key().text}", x_forwarded_for=forwarded.format(number)).status_code
        for number in range(count)
    ]


def test_nobody_escapes_the_throttle_by_writing_addresses(db, settings):
    settings.PYFLOW_PROXIES = 1
    assert set(wrong_keys(30, "192.0.2.{}, 203.0.113.5")) == {401}
    assert wrong_keys(1, "192.0.2.200, 203.0.113.5") == [429]
    assert wrong_keys(1, "203.0.113.5, 203.0.113.6") == [401], "somebody else behind the same proxy"


def test_without_a_proxy_the_header_says_nothing(db, settings):
    settings.PYFLOW_PROXIES = 0
    assert set(wrong_keys(30, "192.0.2.{}")) == {401}
    response = Api().get(PATH, authorization=f"Bearer {make_key().text}", x_forwarded_for="192.0.2.200")
    assert_problem(response, 429, "too_many_failures")


def test_the_variable_is_a_number(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYFLOW_PROXIES", "2")
    assert read_environment().proxies == 2
    for wrong in ("-1", "nginx", "1.5"):
        monkeypatch.setenv("PYFLOW_PROXIES", wrong)
        with pytest.raises(ImproperlyConfigured, match="PYFLOW_PROXIES"):
            read_environment()
