"""`GET /api/v1/runs/{id}`."""

from uuid import UUID

import pytest

from pyflow.core.ids import new_id
from tests.support.api import YAML, Api, assert_problem, assert_same_answer, read
from tests.support.factories.records import record
from tests.support.factories.rows import make_run

OPERATION = "runs_read"
pytestmark = pytest.mark.api


@pytest.fixture
def run(tenant):
    return make_run(tenant)


@pytest.fixture
def path(run) -> str:
    return f"/api/v1/runs/{run.pk}"


def test_a_queued_run(api: Api, run, path: str):
    response = api.get(path)
    assert response.status_code == 200
    body = read(response)
    assert (body["id"], body["state"], body["nodes"]) == (str(run.pk), "queued", [])
    assert [(event["seq"], event["type"], event["node_id"]) for event in body["events"]] == [(1, "run.queued", None)]
    assert (body["started_at"], body["finished_at"]) == (None, None)


def test_a_finished_run_has_its_nodes_outputs_and_events(api: Api, run, path: str):
    record(run, output="Hello Ada", outputs={"greeting": "Hello Ada"})

    body = read(api.get(path))

    assert (body["state"], body["outputs"], body["error"]) == ("succeeded", {"greeting": "Hello Ada"}, None)
    [node] = body["nodes"]
    assert (node["id"], node["state"], node["attempts"], node["output"]) == ("greet", "succeeded", 1, "Hello Ada")
    assert [event["seq"] for event in body["events"]] == [1, 2, 3, 4, 5]
    assert body["events"][3] | {"id": "", "at": "", "tenant": ""} == {
        "id": "",
        "seq": 4,
        "type": "node.succeeded",
        "at": "",
        "tenant": "",
        "workflow": "hello",
        "version": 1,
        "run_id": body["id"],
        "node_id": "greet",
        "data": {"attempt": 1, "output": "Hello Ada"},
    }
    assert body["started_at"] <= body["finished_at"]


def test_it_shows_only_what_is_part_of_the_contract(api: Api, run, path: str):
    record(run)
    body = read(api.get(path))
    assert body.keys() == {
        "id", "workflow", "version", "state", "input", "outputs", "error", "compensation", "wake_at", "parent",
        "created_at", "started_at", "finished_at", "nodes", "events", "trigger", "started_by", "labels",
        "priority", "key", "retries", "pause_requested_at", "source_run", "input_ref", "outputs_ref", "called_by",
        "cancel_requested_at",
    }  # fmt: skip
    assert body["nodes"][0].keys() == {
        "id", "state", "attempts", "round", "output", "output_ref", "error", "reason", "wait", "progress",
        "started_at", "finished_at",
    }  # fmt: skip


def test_it_answers_in_yaml(api: Api, run, path: str):
    record(run)
    response = api.get(path, accept=YAML)
    assert response.headers["Content-Type"] == YAML
    assert read(response)["nodes"][0]["output"] == "Hello Ada"


def test_a_trailing_slash_is_accepted(api: Api, path: str):
    assert api.get(path + "/").content == api.get(path).content


def test_an_unknown_run_is_not_found(api: Api):
    assert_problem(api.get(f"/api/v1/runs/{new_id()}"), 404, "run_not_found")


@pytest.mark.parametrize("run_id", ["1", "hello", "%00", "00000000-0000-7000-8000-00000000000G"])
def test_what_is_no_id_is_not_found(api: Api, run_id: str):
    assert_problem(api.get(f"/api/v1/runs/{run_id}"), 404, "not_found")


def test_it_answers_in_no_other_format(api: Api, path: str):
    assert_problem(api.get(path, accept="image/png"), 406, "not_acceptable")


def test_it_needs_a_key(nobody: Api, path: str):
    assert_problem(nobody.get(path), 401, "not_authenticated")


def test_a_problem_is_yaml_for_clients_that_accept_yaml(api: Api):
    response = api.get(f"/api/v1/runs/{new_id()}", accept=YAML)
    assert response.headers["Content-Type"] == "application/problem+yaml"
    assert_problem(response, 404, "run_not_found")


def test_it_hides_other_tenants(other_api: Api, path: str):
    hidden, unknown = other_api.get(path), other_api.get(f"/api/v1/runs/{UUID(int=7 << 76 | 2 << 62)}")
    assert_problem(hidden, 404, "run_not_found")
    assert_same_answer(hidden, unknown)


def test_what_is_known_is_not_sent_again(api: Api, run, path: str, django_assert_num_queries):
    tag = api.get(path).headers["ETag"]
    with django_assert_num_queries(1):  # the run
        response = api.get(path, if_none_match=tag)
    assert (response.status_code, response.content, response.headers["ETag"]) == (304, b"", tag)
    record(run)
    assert api.get(path, if_none_match=tag).status_code == 200


def test_a_few_fields_are_little_to_poll_for(api: Api, run, path: str, django_assert_num_queries):
    whole = api.get(path)
    with django_assert_num_queries(1):  # the run
        response = api.get(f"{path}?fields=id,state")
    assert read(response) == {"id": str(run.pk), "state": "queued"}
    assert response.headers["ETag"] != whole.headers["ETag"]


@pytest.mark.parametrize("query", ["fields=id,nmae", "fields=,", "field=id"])
def test_a_wrong_query_is_refused(api: Api, path: str, query: str):
    assert_problem(api.get(f"{path}?{query}"), 422, "input_invalid")


def test_its_queries_are_counted(api: Api, run, path: str, django_assert_num_queries):
    record(run)
    api.get(path)
    with django_assert_num_queries(3):  # the run with its version, its nodes, its events
        assert api.get(path).status_code == 200
