"""`POST /api/v1/workflows`."""

import json

import pytest

from tests.support.api import JSON, YAML, Api, assert_problem, is_uuid7, read
from tests.support.factories.rows import HELLO, make_api_key, make_workflow
from workflows.models import Version, Workflow

OPERATION = "workflows_create"
PATH = "/api/v1/workflows"
DOCUMENT = {
    "version": 2,
    "name": "hello",
    "nodes": [{"id": "greet", "type": "transform", "config": {"input": "Hello", "expression": "$"}}],
}
V1 = "name: old\ntrigger: {type: manual}\nnodes:\n  - {id: a, type: transform, config: {input: 1, expression: $}}\n"
pytestmark = pytest.mark.api


def test_it_stores_yaml_as_it_was_sent(api: Api, tenant):
    response = api.post(PATH, HELLO, YAML)

    assert response.status_code == 201
    assert response.headers["Location"] == "http://testserver/api/v1/workflows/hello"
    body = read(response)
    assert (body["name"], body["version"], body["labels"]) == ("hello", 1, {"team": "tests"})
    assert is_uuid7(body["id"])
    version = Version.objects.for_tenant(tenant).get()
    assert (version.source, version.source_format) == (HELLO, "yaml")
    assert version.checksum == body["checksum"]


def test_it_stores_json(api: Api, tenant):
    assert api.post(PATH, DOCUMENT).status_code == 201
    assert Version.objects.for_tenant(tenant).get().source_format == "json"


def test_it_stores_a_workflow_of_version_1(api: Api):
    response = api.post(PATH, V1, YAML)
    assert response.status_code == 201
    assert api.get(response.headers["Location"].removeprefix("http://testserver")).status_code == 200


def test_it_answers_in_yaml(api: Api):
    response = api.post(PATH, HELLO, YAML, accept=YAML)
    assert response.headers["Content-Type"] == YAML
    assert read(response)["name"] == "hello"


def test_a_charset_in_the_content_type_is_accepted(api: Api):
    assert api.post(PATH, DOCUMENT, "application/json; charset=utf-8").status_code == 201


def test_a_trailing_slash_is_accepted(api: Api):
    assert api.post(PATH + "/", HELLO, YAML).status_code == 201


def test_a_taken_name_is_a_conflict_and_changes_nothing(api: Api, tenant):
    make_workflow(tenant)
    body = assert_problem(api.post(PATH, DOCUMENT), 409, "workflow_exists")
    assert "PUT" in body["detail"]
    assert Version.objects.for_tenant(tenant).count() == 1


def test_everything_that_is_wrong_is_reported_at_once_with_its_place(api: Api, tenant):
    source = HELLO.replace("type: transform", "type: tranform").replace("description:", "descripton:")

    body = assert_problem(api.post(PATH, source, YAML), 422, "definition_invalid")

    by_pointer = {error["pointer"]: error for error in body["errors"]}
    assert by_pointer.keys() >= {"/descripton", "/nodes/0/type"}
    assert (by_pointer["/descripton"]["line"], by_pointer["/descripton"]["column"]) == (4, 1)
    assert by_pointer["/descripton"]["suggestion"] == "description"
    assert (by_pointer["/nodes/0/type"]["line"], by_pointer["/nodes/0/type"]["suggestion"]) == (10, "transform")
    assert not Workflow.objects.for_tenant(tenant).exists()


MALFORMED = {
    "broken YAML": ("name: [", YAML),
    "broken JSON": ('{"name": "hello",\n  oops}', JSON),
    "a duplicate key in YAML": ("name: a\nname: b\n", YAML),
    "a duplicate key in JSON": ('{"name": "a", "name": "b"}', JSON),
    "not UTF-8": (b"name: \xff\xfe", YAML),
    "a NUL character": ("name: a\0b", YAML),
    "an escaped NUL character": ('{"name": "a\\u0000b"}', JSON),
    "a lone surrogate": ('{"name": "\\ud800"}', JSON),
    "NaN": ('{"name": NaN}', JSON),
    "a tag": ("name: !!python/object:os.system {}", YAML),
    "two documents": ("name: a\n---\nname: b\n", YAML),
    "deep nesting": ("[" * 40 + "]" * 40, JSON),
    "an alias to itself": ("name: &a [*a]", YAML),
    "nothing": (" ", YAML),
    "trailing data": ("{} {}", JSON),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_no_document_is_refused(api: Api, tenant, case: str):
    text, content_type = MALFORMED[case]
    body = assert_problem(api.post(PATH, text, content_type), 400, "document_invalid")
    assert len(body["errors"]) == 1
    assert not Workflow.objects.for_tenant(tenant).exists()


def test_malformed_json_is_located(api: Api):
    body = assert_problem(api.post(PATH, '{"name": "hello",\n  oops}'), 400, "document_invalid")
    assert (body["errors"][0]["line"], body["errors"][0]["column"]) == (2, 3)


def test_malformed_yaml_is_located(api: Api):
    body = assert_problem(api.post(PATH, "name: a\nnodes: [\n  }", YAML), 400, "document_invalid")
    assert body["errors"][0]["line"] == 3


def test_an_empty_body_is_refused(api: Api):
    assert_problem(api.post(PATH, b"", YAML), 400, "document_invalid")


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 5 * 1024 * 1024])
def test_a_body_above_1_mib_is_refused(api: Api, size: int):
    body = assert_problem(api.post(PATH, b"#" * size, YAML), 413, "document_too_large")
    assert "1 MiB" in body["detail"]


@pytest.mark.parametrize("value", [[], "text", 1, None, True])
def test_what_is_no_mapping_is_no_workflow(api: Api, value):
    assert_problem(api.post(PATH, json.dumps(value)), 422, "definition_invalid")


@pytest.mark.parametrize(
    "change",
    [
        {"name": 7},
        {"name": None},
        {"name": ""},
        {"name": "a/b"},
        {"name": "x" * 129},
        {"nodes": "greet"},
        {"nodes": [1]},
        {"version": 3},
        {"labels": {"team": 1}},
        {"inputs": {"who": "strin"}},
    ],
    ids=str,
)
def test_values_of_the_wrong_type_are_refused(api: Api, change: dict):
    assert_problem(api.post(PATH, DOCUMENT | change), 422, "definition_invalid")


@pytest.mark.parametrize("name", ["", "a/b", "x" * 129, ".", "..", "\n", " "], ids=repr)
def test_a_name_of_version_1_that_no_address_can_hold_is_refused(api: Api, tenant, name: str):
    document = {"name": name, "trigger": {"type": "manual"}, "nodes": []}
    assert_problem(api.post(PATH, document), 422, "definition_invalid")
    assert not Workflow.objects.for_tenant(tenant).exists()


def test_a_node_id_of_version_1_that_cannot_be_stored_is_refused(api: Api):
    document = {
        "name": "old",
        "trigger": {"type": "manual"},
        "nodes": [{"id": "n" * 256, "type": "transform", "config": {}}],
    }
    assert_problem(api.post(PATH, document), 422, "definition_invalid")


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=x", "application/xml"])
def test_other_media_types_are_refused(api: Api, content_type: str):
    assert_problem(api.post(PATH, "name: a", content_type), 415, "unsupported_media_type")


def test_it_answers_in_no_other_format_and_stores_nothing(api: Api, tenant):
    assert_problem(api.post(PATH, HELLO, YAML, accept="text/html"), 406, "not_acceptable")
    assert not Workflow.objects.for_tenant(tenant).exists()


def test_a_repeated_request_is_answered_again_and_does_nothing(api: Api, tenant):
    first = api.post(PATH, HELLO, YAML, idempotency_key="once")
    again = api.post(PATH, HELLO, YAML, idempotency_key="once")
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (201, "true")
    assert (again.content, again.headers["Location"], again.headers["ETag"]) == (
        first.content, first.headers["Location"], first.headers["ETag"],
    )  # fmt: skip
    other = HELLO.replace("hello", "other")
    assert_problem(api.post(PATH, other, YAML, idempotency_key="once"), 422, "idempotency_mismatch")
    assert Workflow.objects.for_tenant(tenant).count() == 1


def test_a_draft_is_not_published(api: Api, tenant):
    response = api.post(f"{PATH}?draft=true", HELLO, YAML)
    assert (response.status_code, read(response)["version_state"]) == (201, "draft")
    start = api.post(f"{PATH}/hello/runs", {"input": {"who": "Ada"}})
    assert_problem(start, 409, "workflow_not_published")


@pytest.mark.parametrize("name", ["validate", "dry-run", "schema", "0192d1a6-0000-7000-8000-000000000000"])
def test_a_name_that_means_something_else_in_an_address_is_refused(api: Api, name: str):
    body = assert_problem(api.post(PATH, DOCUMENT | {"name": name}), 422, "definition_invalid")
    assert body["errors"][0]["code"] == "reserved_name"


def test_a_viewer_may_not(tenant):
    viewer = Api(make_api_key(tenant, role="viewer")[1])
    assert_problem(viewer.post(PATH, HELLO, YAML), 403, "forbidden")
    assert not Workflow.objects.for_tenant(tenant).exists()


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.post(PATH, HELLO, YAML), 401, "not_authenticated")


def test_it_hides_other_tenants(api: Api, other_api: Api, tenant):
    """A name that another tenant has taken is free."""
    make_workflow(tenant)
    assert other_api.post(PATH, HELLO, YAML).status_code == 201
    assert Workflow.objects.for_tenant(tenant).count() == 1


def test_its_queries_are_counted(api: Api, django_assert_num_queries):
    api.get(PATH)
    with django_assert_num_queries(14):  # the workflow twice, the version, its bytes; 3 audit, 4 of the log, 3 triggers
        assert api.post(PATH, HELLO, YAML).status_code == 201
