"""`GET /api/v1/runs/{id}/events`."""

from uuid import UUID

import pytest

from pyflow.core.ids import new_id
from tests.support.api import YAML, Api, assert_problem, assert_same_answer, read
from tests.support.factories.records import record
from tests.support.factories.rows import make_run

OPERATION = "runs_events"
pytestmark = pytest.mark.api


@pytest.fixture
def path(tenant) -> str:
    run = make_run(tenant)
    record(run)
    return f"/api/v1/runs/{run.pk}/events"


def test_all_events_in_order(api: Api, path: str):
    body = read(api.get(path))
    assert body["state"] == "succeeded"
    assert [(event["seq"], event["type"], event["node_id"]) for event in body["results"]] == [
        (1, "run.queued", None),
        (2, "run.started", None),
        (3, "node.started", "greet"),
        (4, "node.succeeded", "greet"),
        (5, "run.succeeded", None),
    ]


def test_reading_goes_on_after_a_cursor(api: Api, path: str):
    seen = []
    while events := read(api.get(f"{path}?after={seen[-1] if seen else 0}&limit=2"))["results"]:
        assert len(events) <= 2
        seen += [event["seq"] for event in events]
    assert seen == [1, 2, 3, 4, 5]


def test_beyond_the_last_event_there_is_nothing(api: Api, path: str):
    assert read(api.get(f"{path}?after=5")) == {"results": [], "state": "succeeded"}


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("after=-1", "/after"),
        ("after=x", "/after"),
        ("after=99999999999", "/after"),
        ("limit=0", "/limit"),
        ("limit=1001", "/limit"),
        ("limit=%00", "/limit"),
    ],
)
def test_a_wrong_query_is_refused(api: Api, path: str, query: str, pointer: str):
    body = assert_problem(api.get(f"{path}?{query}"), 422, "input_invalid")
    assert [error["pointer"] for error in body["errors"]] == [pointer]


def test_it_answers_in_yaml(api: Api, path: str):
    response = api.get(path, accept=YAML)
    assert response.headers["Content-Type"] == YAML
    assert len(read(response)["results"]) == 5


def test_a_trailing_slash_is_accepted(api: Api, path: str):
    assert api.get(path + "/").content == api.get(path).content


def test_an_unknown_run_is_not_found(api: Api):
    assert_problem(api.get(f"/api/v1/runs/{new_id()}/events"), 404, "run_not_found")


def test_it_answers_in_no_other_format(api: Api, path: str):
    assert_problem(api.get(path, accept="text/html"), 406, "not_acceptable")


def test_it_needs_a_key(nobody: Api, path: str):
    assert_problem(nobody.get(path), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, path: str):
    hidden, unknown = other_api.get(path), other_api.get(f"/api/v1/runs/{UUID(int=7 << 76 | 2 << 62)}/events")
    assert_problem(hidden, 404, "run_not_found")
    assert_same_answer(hidden, unknown)


def test_its_queries_are_counted(api: Api, path: str, django_assert_num_queries):
    api.get(path)
    with django_assert_num_queries(2):  # the run, its events
        assert api.get(path).status_code == 200
