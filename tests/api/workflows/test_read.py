"""`GET /api/v1/workflows/{name}`."""

import json

import pytest

from tests.support.api import YAML, Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import HELLO, make_workflow

OPERATION = "workflows_read"
PATH = "/api/v1/workflows/hello"
pytestmark = pytest.mark.api


def test_it_shows_the_newest_definition(api: Api, tenant):
    make_workflow(tenant)
    version = make_workflow(tenant, HELLO.replace("Greets", "Greets again"))

    response = api.get(PATH)

    assert response.status_code == 200
    body = read(response)
    assert (body["name"], body["version"], body["checksum"]) == ("hello", 2, version.checksum)
    assert body["definition"]["description"] == "Greets again"
    assert body["definition"]["nodes"][0]["config"] == {"input": "Hello {{ input.who }}", "expression": "$"}
    assert body["definition"]["inputs"]["required"] == ["who"]


def test_its_definition_can_be_stored_again(api: Api, tenant):
    make_workflow(tenant)
    definition = read(api.get(PATH))["definition"]
    response = api.put(PATH, definition)
    assert response.status_code == 200
    assert read(api.get(PATH))["definition"] == definition


def test_the_document_comes_back_byte_for_byte(api: Api, tenant):
    source = HELLO.replace("name: hello", "name:   hello   # a comment").encode()
    api.put(PATH, source, YAML)
    response = api.get(f"{PATH}?format=yaml")
    assert (response.status_code, response.headers["Content-Type"], response.content) == (200, YAML, source)


def test_the_document_comes_in_the_other_format_and_means_the_same(api: Api, tenant):
    make_workflow(tenant)
    response = api.get(f"{PATH}?format=json")
    assert response.headers["Content-Type"] == "application/json"
    other = "/api/v1/workflows/other"
    stored = read(api.put(other, {**json.loads(response.content), "name": "other"}))
    again = api.get(f"{other}?format=yaml")
    assert again.content.startswith(b"version: 2\n")
    same = read(api.put(other, again.content, YAML))
    assert (same["version"], same["checksum"]) == (1, stored["checksum"])


def test_it_is_read_by_its_id_too(api: Api, tenant):
    version = make_workflow(tenant)
    assert read(api.get(f"/api/v1/workflows/{version.workflow_id}"))["name"] == "hello"
    assert read(api.get(f"/api/v1/workflows/{version.workflow_id.hex}"))["name"] == "hello"
    assert_problem(api.get(f"/api/v1/workflows/{version.pk}"), 404, "workflow_not_found")


def test_a_workflow_without_a_published_version_shows_its_draft(api: Api):
    api.post("/api/v1/workflows?draft=true", HELLO, YAML)
    body = read(api.get(PATH))
    assert (body["version"], body["version_state"]) == (1, "draft")


def test_what_one_has_is_not_sent_again(api: Api, tenant):
    make_workflow(tenant)
    tag = api.get(PATH).headers["ETag"]
    response = api.get(PATH, if_none_match=tag)
    assert (response.status_code, response.content, response.headers["ETag"]) == (304, b"", tag)
    make_workflow(tenant, HELLO.replace("Greets", "Greets again"))
    assert api.get(PATH, if_none_match=tag).status_code == 200


def test_it_answers_in_yaml(api: Api, tenant):
    make_workflow(tenant)
    response = api.get(PATH, accept=YAML)
    assert response.headers["Content-Type"] == YAML
    assert read(response)["definition"]["name"] == "hello"


def test_a_trailing_slash_is_accepted(api: Api, tenant):
    make_workflow(tenant)
    assert api.get(PATH + "/").content == api.get(PATH).content


@pytest.mark.parametrize("name", ["nothing", "HELLO", "hell%C3%B6", "%00", "a" * 500, "..%2F..", "%F0%9F%98%80"])
def test_an_unknown_name_is_not_found(api: Api, tenant, name: str):
    make_workflow(tenant)
    response = api.get(f"/api/v1/workflows/{name}")
    # What decodes to more than one step of a path is not even the address of a workflow.
    assert_problem(response, 404, "not_found" if "%2F" in name else "workflow_not_found")


def test_it_answers_in_no_other_format(api: Api, tenant):
    make_workflow(tenant)
    assert_problem(api.get(PATH, accept="text/html"), 406, "not_acceptable")


def test_it_needs_a_key(nobody: Api, tenant):
    make_workflow(tenant)
    assert_problem(nobody.get(PATH), 401, "not_authenticated")


def test_it_hides_other_tenants(api: Api, other_api: Api, tenant):
    make_workflow(tenant)
    hidden, unknown = other_api.get(PATH), other_api.get("/api/v1/workflows/unknown")
    assert_problem(hidden, 404, "workflow_not_found")
    assert_same_answer(hidden, unknown)


def test_its_queries_are_counted(api: Api, tenant, django_assert_num_queries):
    make_workflow(tenant)
    api.get(PATH)
    with django_assert_num_queries(1):
        assert api.get(PATH).status_code == 200
