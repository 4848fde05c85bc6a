"""The values of a run, each at an address of its own: its input, its outputs, a node's output and an item's."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from django.db import models
from django.utils import timezone

from runs.models import NodeItem, NodeRun, Run
from runs.storage import values
from runs.storage.values import Owner
from tenants.models import Tenant
from tests.support.api import YAML, Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import make_run
from tests.support.invariants import written_by_hand

OPERATIONS = ("run_input_read", "run_outputs_read", "run_node_output_read", "run_node_item_output_read")
pytestmark = [
    pytest.mark.api,
    written_by_hand,
    pytest.mark.breaks_invariant(
        "stored_bytes_are_those_of_rows", reason="its rows are put into the tables as they are"
    ),
]
LARGE = {"text": "é" * 300_000}


@dataclass
class Stored:
    """A row with a small value: its field, its address below the run's, and what that costs in queries."""

    row: models.Model
    field: str
    part: str
    value: Any
    queries: int


def input_of(run: Run) -> Stored:
    return Stored(run, "input", "input", {"who": "Ada"}, queries=1)  # the run


def outputs_of(run: Run) -> Stored:
    run.outputs = {"greeting": "Hello"}
    run.save()
    return Stored(run, "outputs", "outputs", run.outputs, queries=1)  # the run


def output_of_a_node(run: Run) -> Stored:
    node = NodeRun.objects.create(tenant=run.tenant, run=run, node_id="greet", state="succeeded", output="Hello Ada")
    return Stored(node, "output", "nodes/greet/output", "Hello Ada", queries=2)  # the run, the node


def output_of_an_item(run: Run) -> Stored:
    of_item = {"index": 3, "key": "c", "state": "succeeded", "output": 7, "at": timezone.now()}
    item = NodeItem.objects.create(tenant=run.tenant, run=run, node_id="greet", **of_item)
    return Stored(item, "output", "nodes/greet/items/3/output", 7, queries=3)  # the run, the node, the item


@pytest.fixture(autouse=True)
def storage(settings, tmp_path) -> None:
    settings.PYFLOW_VALUES_ROOT = tmp_path / "values"


@pytest.fixture
def run(tenant: Tenant) -> Run:
    return make_run(tenant)


@pytest.fixture
def owner(run: Run) -> Owner:
    return Owner(run.tenant_id, run.pk)


@pytest.fixture(params=[input_of, outputs_of, output_of_a_node, output_of_an_item], ids=OPERATIONS)
def stored(run: Run, request: pytest.FixtureRequest) -> Stored:
    make: Callable[[Run], Stored] = request.param
    return make(run)


@pytest.fixture
def path(run: Run, stored: Stored) -> str:
    return f"/api/v1/runs/{run.pk}/{stored.part}"


@pytest.fixture
def large(owner: Owner, stored: Stored) -> Stored:
    """With a large value instead, which is not in the database."""
    setattr(stored.row, stored.field, {} if stored.field == "input" else None)
    setattr(stored.row, f"{stored.field}_ref", values.outsource(owner, LARGE)[1].as_dict())
    stored.row.save()
    return stored


def test_a_small_one(api: Api, stored: Stored, path: str):
    response = api.get(path)
    assert (response.status_code, read(response)) == (200, stored.value)
    assert api.get(path, if_none_match=response.headers["ETag"]).status_code == 304


def test_a_large_one_is_streamed(api: Api, path: str, large: Stored):
    response = api.get(path)
    assert response.streaming
    content = b"".join(response.streaming_content)
    assert content == values.content_of(LARGE)
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Content-Length"] == str(len(content))
    assert api.get(path, if_none_match=response.headers["ETag"]).status_code == 304


def test_one_that_is_gone_is_a_problem_of_its_own(api: Api, owner: Owner, path: str, large: Stored):
    values.store().delete_all(owner)
    assert_problem(api.get(path), 500, "value_missing")


def test_a_large_one_in_yaml(api: Api, path: str, large: Stored):
    assert read(api.get(path, accept=YAML)) == LARGE


def test_a_small_one_in_yaml(api: Api, stored: Stored, path: str):
    assert read(api.get(path, accept=YAML)) == stored.value


def test_it_needs_a_key(nobody: Api, path: str):
    assert_problem(nobody.get(path), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, run: Run, path: str, large: Stored):
    hidden = other_api.get(path)
    unknown = other_api.get(path.replace(str(run.pk), str(UUID(int=7 << 76 | 2 << 62))))
    assert_problem(hidden, 404, "run_not_found")
    assert_same_answer(hidden, unknown)


def test_its_queries_are_counted(api: Api, path: str, large: Stored, django_assert_num_queries):
    b"".join(api.get(path).streaming_content)
    with django_assert_num_queries(large.queries):
        response = api.get(path)
    assert b"".join(response.streaming_content) == values.content_of(LARGE)


@pytest.mark.parametrize("stored", [input_of, outputs_of], indirect=True)
def test_the_run_says_where_it_is(api: Api, run: Run, large: Stored):
    body = read(api.get(f"/api/v1/runs/{run.pk}"))
    assert body[large.field] == ({} if large.field == "input" else None)
    assert body[f"{large.field}_ref"] == getattr(run, f"{large.field}_ref")


@pytest.mark.parametrize("stored", [output_of_a_node], indirect=True)
def test_node_and_list_say_where_it_is(api: Api, run: Run, large: Stored):
    address = f"/api/v1/runs/{run.pk}/nodes"
    [listed], alone = read(api.get(address))["results"], read(api.get(f"{address}/greet"))
    assert listed["output"] is alone["output"] is None
    assert listed["output_ref"] == alone["output_ref"] == large.row.output_ref


@pytest.mark.parametrize("stored", [output_of_an_item], indirect=True)
def test_the_list_of_items_says_where_it_is(api: Api, run: Run, large: Stored):
    [body] = read(api.get(f"/api/v1/runs/{run.pk}/nodes/greet/items"))["results"]
    assert (body["output"], body["output_ref"]) == (None, large.row.output_ref)


@pytest.mark.parametrize("part", ["outputs", "nodes/greet/output"])
def test_what_there_is_not_yet_is_null(api: Api, run: Run, part: str):
    response = api.get(f"/api/v1/runs/{run.pk}/{part}")
    assert (response.status_code, response.content) == (200, b"null")


@pytest.mark.parametrize("part", ["unknown/output", *(f"greet/items/{index}/output" for index in (4, 2**31, 2**70))])
@pytest.mark.parametrize("stored", [output_of_an_item], indirect=True)
def test_an_unknown_node_or_item_is_not_found(api: Api, run: Run, stored: Stored, part: str):
    assert_problem(api.get(f"/api/v1/runs/{run.pk}/nodes/{part}"), 404, "node_not_found")


def test_what_is_sent_to_start_a_run_may_be_large(api: Api, run: Run):
    started = read(api.post("/api/v1/workflows/hello/runs", {"input": {"who": "x" * 300_000}}))
    assert (started["input"], started["input_ref"]["size"]) == ({}, 300_010)
    response = api.get(f"/api/v1/runs/{started['id']}/input")
    assert b"".join(response.streaming_content) == values.content_of({"who": "x" * 300_000})
