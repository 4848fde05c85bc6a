"""`GET /api/v1/runs/{id}/nodes/{node}/items/{index}/output`."""

from uuid import UUID

import pytest
from django.utils import timezone

from runs import values
from runs.models import NodeItem
from runs.values import Owner
from tests.support.api import YAML, Api, assert_problem, assert_same_answer, read
from tests.support.factories import make_run

OPERATION = "run_node_item_output_read"
pytestmark = pytest.mark.database
LARGE = {"text": "é" * 300_000}


@pytest.fixture(autouse=True)
def storage(settings, tmp_path) -> None:
    settings.PYFLOW_VALUES_ROOT = tmp_path / "values"


@pytest.fixture
def item(tenant) -> NodeItem:
    of_item = {"index": 3, "key": "c", "state": "succeeded", "output": 7, "at": timezone.now()}
    item: NodeItem = NodeItem.objects.create(tenant=tenant, run=make_run(tenant), node_id="greet", **of_item)
    return item


@pytest.fixture
def path(item) -> str:
    return f"/api/v1/runs/{item.run_id}/nodes/greet/items/3/output"


@pytest.fixture
def large(item) -> Owner:
    owner = Owner(item.tenant_id, item.run_id)
    item.output, item.output_ref = None, values.outsource(owner, LARGE)[1].as_dict()
    item.save()
    return owner


def test_a_small_one(api: Api, path: str):
    response = api.get(path)
    assert (response.status_code, read(response)) == (200, 7)
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
    assert read(api.get(path, accept=YAML)) == 7


def test_it_needs_a_key(nobody: Api, path: str):
    assert_problem(nobody.get(path), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, path: str, large):
    hidden = other_api.get(path)
    unknown = other_api.get(path.replace(str(large.run_id), str(UUID(int=7 << 76 | 2 << 62))))
    assert_problem(hidden, 404, "run_not_found")
    assert_same_answer(hidden, unknown)


def test_its_queries_are_counted(api: Api, path: str, large, django_assert_num_queries):
    b"".join(api.get(path).streaming_content)
    with django_assert_num_queries(3):  # the run, the node, the item
        response = api.get(path)
    assert b"".join(response.streaming_content) == values.content_of(LARGE)


@pytest.mark.parametrize("index", [4, 2**31, 2**70])
def test_an_unknown_item_is_not_found(api: Api, path: str, index: int):
    assert_problem(api.get(path.replace("/3/", f"/{index}/")), 404, "node_not_found")


def test_the_list_says_where_it_is(api: Api, item, large):
    [body] = read(api.get(f"/api/v1/runs/{item.run_id}/nodes/greet/items"))["results"]
    assert (body["output"], body["output_ref"]) == (None, item.output_ref)
