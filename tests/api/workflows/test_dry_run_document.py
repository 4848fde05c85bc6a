"""`POST /api/v1/workflows/dry-run`."""

import pytest

from pyflow.isolation import computations
from runs.models import Run
from tests.support.api import Api, assert_problem, read
from tests.support.factories.rows import HELLO, make_api_key
from workflows.models import Workflow

OPERATION = "workflows_dry_run_document"
PATH = "/api/v1/workflows/dry-run"
NODES = [{"id": "a", "type": "log", "config": {"message": "{{ input.who }}"}}]
pytestmark = pytest.mark.api


def test_a_document_is_planned_and_neither_stored_nor_run(api: Api, tenant):
    body = read(api.post(PATH, {"document": HELLO, "input": {"who": "Ada"}}))
    assert (body["workflow"], body["order"], body["input_problems"]) == ("hello", ["greet"], [])
    assert body["nodes"][0]["config"]["input"] == "Hello Ada"
    assert not Workflow.objects.for_tenant(tenant).exists()
    assert not Run.objects.for_tenant(tenant).exists()


def test_an_object_and_a_text_of_json_are_documents_too(api: Api):
    document = {"version": 2, "name": "x", "nodes": NODES}
    assert read(api.post(PATH, {"document": document}))["order"] == ["a"]
    text = '{"version": 2, "name": "x", "nodes": [{"id": "a", "type": "log", "config": {"message": "\\/"}}]}'
    assert read(api.post(PATH, {"document": text, "format": "json"}))["order"] == ["a"]


def test_what_is_wrong_with_it_is_reported_with_its_place(api: Api):
    wrong = assert_problem(
        api.post(PATH, {"document": HELLO.replace("transform", "tranform")}), 422, "definition_invalid"
    )
    assert (wrong["errors"][0]["line"], wrong["errors"][0]["suggestion"]) == (10, "transform")
    assert_problem(api.post(PATH, {"document": "a: [}"}), 400, "document_invalid")


@pytest.mark.parametrize(
    "body", [{}, {"document": 7}, {"document": []}, {"document": HELLO, "input": []}, {"documnt": ""}]
)
def test_other_bodies_are_refused(api: Api, body):
    assert_problem(api.post(PATH, body), 422, "input_invalid")


def test_a_viewer_may(tenant):
    viewer = Api(make_api_key(tenant, role="viewer")[1])
    assert viewer.post(PATH, {"document": HELLO}).status_code == 200


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.post(PATH, {"document": HELLO}), 401, "not_authenticated")


def test_it_hides_other_tenants(api: Api, other_api: Api):
    """It shows nothing that belongs to a tenant: every tenant gets the same answer."""
    assert api.post(PATH, {"document": HELLO}).content == other_api.post(PATH, {"document": HELLO}).content


def test_it_asks_the_database_nothing(api: Api, django_assert_num_queries):
    assert api.post(PATH, {"document": HELLO})
    with django_assert_num_queries(0):
        assert api.post(PATH, {"document": HELLO}).status_code == 200


def bomb(count: int) -> dict[str, object]:
    """Make a document of legal templates, each of which takes its time."""
    text = "{{% for i in range(9000) %}}{{% if ('ab' * 99)|upper == '{}' %}}{{% endif %}}{{% endfor %}}"
    nodes = [{"id": f"n{i}", "type": "log", "config": {"message": text.format(i)}} for i in range(count)]
    return {"document": {"version": 2, "name": "x", "nodes": nodes}}


def test_all_templates_of_a_request_have_one_budget(api: Api, monkeypatch: pytest.MonkeyPatch):
    pool = computations._Pool()
    monkeypatch.setattr(computations, "_pool", pool)
    monkeypatch.setattr(computations, "CPU_SECONDS", 2)
    try:
        assert_problem(api.post(PATH, bomb(400)), 422, "computation_limit")
        assert api.post(PATH, {"document": HELLO}).status_code == 200
    finally:
        pool.end()


def test_it_says_when_every_process_is_in_use(api: Api, tenant, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(computations, "MAX_WAIT", 0)
    with computations._pool.process(str(tenant.pk)):
        answer = api.post(PATH, {"document": HELLO})
    assert_problem(answer, 503, "computation_busy")
    assert answer.headers["Retry-After"] == "2"


def test_a_value_that_is_no_json_is_a_problem(api: Api):
    node = {"id": "a", "type": "log", "config": {"message": "{{ 'a'.encode() }}"}}
    document = {"version": 2, "name": "x", "nodes": [node]}
    assert_problem(api.post(PATH, {"document": document}), 422, "definition_invalid")
