"""`X-Request-ID` on every request."""

import io
import logging

import pytest
from django.test import AsyncClient
from django.urls import path

from tests.support.api import Api, is_uuid7, read

pytestmark = pytest.mark.api
PATHS = ["/api/v1/health/live", "/api/v1/workflows", "/api/v1/nothing", "/api/docs/problems", "/"]


@pytest.mark.parametrize("path", PATHS)
def test_one_that_was_sent_is_answered(nobody: Api, path: str):
    response = nobody.get(path, x_request_id="my-request.1_A")
    assert response.headers["X-Request-ID"] == "my-request.1_A"


@pytest.mark.parametrize("path", PATHS)
def test_without_one_it_is_made(nobody: Api, path: str):
    first, second = nobody.get(path), nobody.get(path)
    assert is_uuid7(first.headers["X-Request-ID"])
    assert first.headers["X-Request-ID"] != second.headers["X-Request-ID"]


@pytest.mark.parametrize("sent", ["", "a b", "a\r\nSet-Cookie: x", "ä", "x" * 129, "<script>", "a;b", "\0"], ids=repr)
def test_one_that_could_spoil_a_log_is_replaced(nobody: Api, sent: str):
    assert is_uuid7(nobody.get("/api/v1/health/live", x_request_id=sent).headers["X-Request-ID"])


def test_a_problem_names_it(nobody: Api):
    response = nobody.get("/api/v1/workflows", x_request_id="find-me")
    assert read(response)["request_id"] == "find-me"


def test_a_bad_host_is_answered_with_it(nobody: Api):
    response = nobody.get("/api/v1/workflows", x_request_id="find-me", host="evil.example")
    assert (response.headers["X-Request-ID"], read(response)["request_id"]) == ("find-me", "find-me")


def fail(request):
    logging.getLogger("tests.view").warning("said by the view")
    raise RuntimeError("broken")


urlpatterns = [path("fail", fail)]


@pytest.fixture
def lines(monkeypatch) -> io.StringIO:
    """Return what the handler of the settings writes."""
    [handler] = [one for one in logging.getLogger().handlers if one.get_name() == "stderr"]
    monkeypatch.setattr(handler, "stream", io.StringIO())
    return handler.stream


def test_what_is_logged_for_a_request_names_it(nobody: Api, lines: io.StringIO, settings):
    settings.ROOT_URLCONF = __name__
    assert nobody.get("/fail", x_request_id="find-me").status_code == 500
    logging.getLogger("tests.view").warning("said outside of requests")
    logged = lines.getvalue()
    assert "tests.view [find-me] said by the view" in logged
    assert "django.request [find-me] Internal Server Error: /fail" in logged
    assert "tests.view [-] said outside of requests" in logged


async def test_it_is_bound_in_an_asynchronous_server_too(lines: io.StringIO, settings):
    settings.ROOT_URLCONF = __name__
    client = AsyncClient(raise_request_exception=False)
    assert (await client.get("/fail", headers={"X-Request-ID": "find-me"})).status_code == 500
    assert "tests.view [find-me] said by the view" in lines.getvalue()
