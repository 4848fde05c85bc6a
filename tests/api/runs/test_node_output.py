"""`GET /api/v1/runs/{id}/nodes/{node}/output`."""

from uuid import UUID

import pytest

from runs import values
from runs.models import NodeRun
from runs.values import Owner
from tests.support.api import YAML, Api, assert_problem, assert_same_answer, read
from tests.support.factories import make_run

OPERATION = "run_node_output_read"
pytestmark = pytest.mark.database
LARGE = {"text": "é" * 300_000}


@pytest.fixture(autouse=True)
def storage(settings, tmp_path) -> None:
    settings.PYFLOW_VALUES_ROOT = tmp_path / "values"


@pytest.fixture
def node(tenant) -> NodeRun:
    node: NodeRun = NodeRun.objects.create(
        tenant=tenant, run=make_run(tenant), node_id="greet", state="succeeded", output="Hello Ada"
    )
    return node


@pytest.fixture
def path(node) -> str:
    return f"/api/v1/runs/{node.run_id}/nodes/greet/output"


@pytest.fixture
def large(node) -> Owner:
    owner = Owner(node.tenant_id, node.run_id)
    node.output, node.output_ref = None, values.outsource(owner, LARGE)[1].as_dict()
    node.save()
    return owner


def test_a_small_one(api: Api, path: str):
    response = api.get(path)
    assert (response.status_code, read(response)) == (200, "Hello Ada")
    assert api.get(path, if_none_match=response.headers["ETag"]).status_code == 304


def test_a_large_one_is_streamed(api: Api, path: str, large):
    response = api.get(path)
    assert response.streaming
    content = b"".join(response.streaming_content)
    assert content == values.content_of(LARGE)
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Content-Length"] == str(len(content))
    assert api.get(path, if_none_match=response.headers["ETag"]).status_code == 304


def test_one_that_is_gone_is_a_problem_of_its_own(api: Api, path: str, large):
    values.store().delete_all(large)
    assert_problem(api.get(path), 500, "value_missing")


def test_a_large_one_in_yaml(api: Api, path: str, large):
    assert read(api.get(path, accept=YAML)) == LARGE


def test_a_small_one_in_yaml(api: Api, path: str):
    assert read(api.get(path, accept=YAML)) == "Hello Ada"


def test_it_needs_a_key(nobody: Api, path: str):
    assert_problem(nobody.get(path), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, path: str, large):
    hidden = other_api.get(path)
    unknown = other_api.get(path.replace(str(large.run_id), str(UUID(int=7 << 76 | 2 << 62))))
    assert_problem(hidden, 404, "run_not_found")
    assert_same_answer(hidden, unknown)


def test_its_queries_are_counted(api: Api, path: str, large, django_assert_num_queries):
    b"".join(api.get(path).streaming_content)
    with django_assert_num_queries(2):  # the run, the node
        response = api.get(path)
    assert b"".join(response.streaming_content) == values.content_of(LARGE)


def test_a_node_that_nothing_happened_to_yet_has_null(api: Api, tenant):
    assert api.get(f"/api/v1/runs/{make_run(tenant).pk}/nodes/greet/output").content == b"null"


def test_an_unknown_node_is_not_found(api: Api, path: str):
    assert_problem(api.get(path.replace("greet", "unknown")), 404, "node_not_found")


def test_node_and_list_say_where_it_is(api: Api, node, large):
    address = f"/api/v1/runs/{node.run_id}/nodes"
    [listed], alone = read(api.get(address))["results"], read(api.get(f"{address}/greet"))
    assert listed["output"] is alone["output"] is None
    assert listed["output_ref"] == alone["output_ref"] == node.output_ref
