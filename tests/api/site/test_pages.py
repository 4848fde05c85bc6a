"""Pages for people, and what is answered where there is no page."""

import re

import pytest
from django.contrib.staticfiles import finders

from tests.support.api import YAML, Api, assert_problem, documented

pytestmark = pytest.mark.api


@pytest.mark.parametrize("path", ["/api/docs/", "/api/docs/redoc", "/api/docs/problems"])
def test_a_page_is_html_for_anybody(nobody: Api, path: str):
    response = nobody.get(path, accept="text/html")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/html")


def test_the_start_page_leads_to_the_documentation(nobody: Api):
    response = nobody.get("/")
    assert (response.status_code, response.headers["Location"]) == (302, "/api/docs/")


@pytest.mark.parametrize("path", ["/api/docs/", "/api/docs/redoc"])
def test_the_api_pages_need_no_network(nobody: Api, path: str):
    """Every script, style and image comes from this server, and is there."""
    html = nobody.get(path, accept="text/html").content.decode()
    sources = re.findall(r"<(?:script|link|img)[^>]*?(?:src|href)=\"([^\"]+)\"", html)
    assert any(source.endswith(".js") for source in sources)
    for source in sources:
        assert source.startswith("/"), source
        if source.startswith("/static/"):
            assert finders.find(source.removeprefix("/static/")), source
    assert not re.findall(r"https?://(?!testserver)[^\s\"'<]*\.(?:js|css)", html)


def test_the_page_of_problems_explains_each(nobody: Api):
    html = nobody.get("/api/docs/problems", accept="text/html").content.decode()
    shown = re.findall(r'<h2 id="(\w+)">', html)
    assert sorted(shown) == sorted(set(shown))
    assert set(shown) == documented()


def test_the_type_of_a_problem_leads_to_its_explanation(nobody: Api):
    body = assert_problem(nobody.get("/api/v1/workflows"), 401, "not_authenticated")
    page, _, anchor = body["type"].removeprefix("http://testserver").partition("#")
    assert f'id="{anchor}"' in nobody.get(page, accept="text/html").content.decode()


@pytest.mark.parametrize(
    "path", ["/api/v1/nothing", "/api/v2/workflows", "/nothing", "/api/v1", "/api/v1/workflows/a/b/c"]
)
def test_an_unknown_address_is_a_problem(nobody: Api, api: Api, path: str):
    for client in (nobody, api):
        body = assert_problem(client.get(path), 404, "not_found")
        assert body["instance"] == path


def test_an_unknown_address_is_a_problem_for_every_method(nobody: Api):
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert_problem(nobody.send(method, "/api/v1/nothing", {}), 404, "not_found")


def test_an_unknown_address_answers_in_yaml_to_who_reads_yaml(nobody: Api):
    response = nobody.get("/api/v1/nothing", accept=YAML)
    assert response.headers["Content-Type"] == "application/problem+yaml"
    assert_problem(response, 404, "not_found")


@pytest.mark.parametrize("host", ["evil.example", "testserver.evil.example", "a b", "[", "testserver:port"])
def test_a_host_that_is_not_served_is_a_problem(nobody: Api, host: str):
    for path in ("/api/v1/health/live", "/api/v1/workflows", "/nothing"):
        response = nobody.get(path, host=host)
        body = assert_problem(response, 400, "bad_request")
        assert host not in body["type"]


def test_a_mistake_of_ours_is_a_problem_without_its_details(api: Api, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the password is hunter2")

    monkeypatch.setattr("workflows.api.views.find_current", broken)
    response = api.get("/api/v1/workflows/hello")
    assert_problem(response, 500, "internal_error")
    assert b"hunter2" not in response.content
